"""Place and close: whether this order may go out now."""

from __future__ import annotations

from typing import Final

ENTRY_ATTEMPTS: Final = 3
"""How often an entry waits for a balance that another order has just overtaken."""
