"""An amount as people read it."""

from __future__ import annotations

from decimal import Decimal


def plain(number: Decimal) -> str:
    """All its digits, without zeros that say nothing and without an exponent."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
