"""The arithmetic of amounts: exact for sums and products, whatever the number of decimal places."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Final

EXACT: Final = Context(prec=100)
"""The default context would round a sum to 28 digits; token amounts with 18 decimals exceed that."""


def total_of(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum; 0 for none."""
    total = Decimal()
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
