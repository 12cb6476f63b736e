"""One simulated account: its credentials, and what is in it, as exact decimal strings.

Amounts never become floats: what a test sets is what the exchange sends, digit for digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation

BalanceSpec = Mapping[str, tuple[str, str]]
"""Currency (as ccxt names it) to free and held amount, both decimal strings."""

# The default context would round a sum to 28 digits; token amounts with 18 decimals exceed that.
_EXACT = Context(prec=100)

# What a spoiled amount reads in the answer; None leaves the field out.
SPOILED_AMOUNTS: Mapping[str, str | None] = {
    "nan_amount": "NaN",
    "infinite_amount": "Infinity",
    "text_amount": "n/a",
    "missing_amount": None,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One currency of an answer. `free` and `total` are None where the field shall be missing."""

    currency: str
    free: str | None
    held: str
    total: str | None


@dataclass(slots=True)
class Account:
    """The exchange's view of one API key. Written by test threads under the exchange's lock."""

    credentials: dict[str, str]
    balance: dict[str, tuple[str, str]]
    # Only OKX keeps the money that is not used for trading in an account of its own.
    funding: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    private_calls: int = 0

    @property
    def api_key(self) -> str:
        return self.credentials["api_key"]


def checked_balance(balance: BalanceSpec) -> dict[str, tuple[str, str]]:
    """A copy of `balance`, after a check that every amount is a finite decimal string.

    ValueError otherwise: a wrong amount is asked for with a fault such as `nan_amount`.
    """
    for currency, amounts in balance.items():
        for amount in amounts:
            try:
                finite = Decimal(amount).is_finite()
            except (InvalidOperation, TypeError, ValueError):
                finite = False
            if not finite:
                raise ValueError(f"{currency}: {amount!r} is not a finite decimal string")
    return dict(balance)


def rows(balance: BalanceSpec, fault: str) -> list[Row]:
    """The rows of a balance, in the order they were set; `fault` spoils the first one.

    An empty account gets a row of zero dollars to spoil, so that the fault shows there too.
    """
    shown = {"USD": ("0", "0")} if fault in SPOILED_AMOUNTS and not balance else balance
    result = [Row(currency, free, held, _sum(free, held)) for currency, (free, held) in shown.items()]
    if fault in SPOILED_AMOUNTS:
        spoiled = SPOILED_AMOUNTS[fault]
        result[0] = Row(result[0].currency, spoiled, result[0].held, spoiled)
    return result


def without_missing(fields: Mapping[str, str | None]) -> dict[str, str]:
    """The fields that have a value: how a missing amount looks in JSON."""
    return {name: value for name, value in fields.items() if value is not None}


def _sum(free: str, held: str) -> str:
    return f"{_EXACT.add(Decimal(free), Decimal(held)):f}"
