"""What the settings of the key watch must be: how often it asks, and where our calls leave from."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

KEY_WATCH_INTERVAL_S: Final = 3_600.0
"""Seconds between two questions about a key, where the configuration says nothing."""
SHORTEST_KEY_WATCH_S: Final = 0.05
"""Between two questions about a key; a real exchange shuts out a key that asks so often."""


def key_watch_mistakes(interval_s: float) -> Iterator[str]:
    """What is wrong with an interval."""
    if not interval_s >= SHORTEST_KEY_WATCH_S:
        yield f"expected {SHORTEST_KEY_WATCH_S:g} seconds or more, or inf for never, not {interval_s:g}"


def egress_mistakes(address: str) -> Iterator[str]:
    """What is wrong with the address that our calls leave from."""
    try:
        ip_address(address)
    except ValueError:
        yield f"expected an IP address such as 203.0.113.7, not {address!r}"
