"""One simulated account: its credentials, their permissions, its balances, and its orders.

Amounts never become floats: what a test sets is what the exchange sends, digit for digit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Final, Self

from brokerwatch.simulator.amounts import EXACT
from brokerwatch.simulator.placed_order import PlacedOrder

BalanceSpec = Mapping[str, tuple[str, str]]
"""Currency (as ccxt names it) to free and held amount, both decimal strings."""

PERMISSIONS = frozenset({"query", "trade", "withdraw"})
"""What a key may be allowed. Each exchange has its own words for them."""

HOLDS = ("told", "zero", "missing")
"""How an answer may state the held part of a balance: as it is, as zero, or not at all."""

# What a spoiled amount reads in the answer; None leaves the field out.
SPOILED_AMOUNTS: Mapping[str, str | None] = {
    "nan_amount": "NaN",
    "infinite_amount": "Infinity",
    "text_amount": "n/a",
    "missing_amount": None,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One currency of an answer. An amount is None when its field is to be missing."""

    currency: str
    free: str | None
    held: str | None
    total: str | None


CALLER_HEADER: Final = "X-Caller"
"""By this header a test tells apart the processes that use one key."""


@dataclass(frozen=True, slots=True)
class PrivateCall:
    """One private call as it arrived."""

    at_s: float
    # Monotonic seconds of the machine, when all of the request had arrived.
    key: str
    path: str
    caller: str


@dataclass(slots=True)
class Account:
    """The exchange's view of one API key. Written by test threads under the exchange's lock."""

    credentials: dict[str, str]
    balance: dict[str, tuple[str, str]]
    permissions: frozenset[str] = frozenset({"query", "trade"})
    # Only OKX keeps the money that is not used for trading in an account of its own.
    funding: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    orders: dict[str, PlacedOrder] = field(default_factory=dict[str, PlacedOrder])
    # As the exchange writes them in its answer.
    positions: list[Mapping[str, object]] = field(default_factory=list[Mapping[str, object]])
    # What its ledger has: (second since 1970, currency, amount, kind).
    ledger: list[tuple[float, str, str, str]] = field(default_factory=list[tuple[float, str, str, str]])
    private_calls: int = 0
    # What an answer has stated before: without money in it, it is stated as zero.
    stated: set[str] = field(default_factory=set[str])
    # The first key of the account, where this is another one: what is in it is the same for both.
    first_key: str = ""

    @property
    def number(self) -> str:
        """What the keys of one account have in common."""
        return self.first_key or self.api_key

    @property
    def api_key(self) -> str:
        return self.credentials["api_key"]

    def free(self, currency: str) -> Decimal:
        """How much of a currency can be spent; 0 for one that is not in the account."""
        return Decimal(self.balance.get(currency, ("0", "0"))[0])

    def move(self, currency: str, *, free: Decimal = Decimal(), held: Decimal = Decimal()) -> None:
        """Add to the free and to the held amount, exactly; a negative amount takes away."""
        free_now, held_now = self.balance.get(currency, ("0", "0"))
        self.balance[currency] = (_moved(free_now, free), _moved(held_now, held))

    def rehearsal(self) -> Self:
        """A copy on which a call can be tried without changing the account."""
        return replace(self, balance=dict(self.balance), orders=dict(self.orders))


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


def checked_permissions(permissions: Collection[str]) -> frozenset[str]:
    """The permissions as a set; ValueError for one that does not exist."""
    if unknown := sorted(set(permissions) - PERMISSIONS):
        raise ValueError(f"unknown permissions {unknown}; there are: {', '.join(sorted(PERMISSIONS))}")
    return frozenset(permissions)


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


def as_told(row: Row, holds: str) -> Row:
    """The row of a balance whose held part is stated as `holds` says: `told`, `zero` or `missing`."""
    match holds:
        case "zero":
            return replace(row, held="0", total=row.free)
        case "missing":
            return replace(row, held=None)
        case _:
            return row


def without_missing(fields: Mapping[str, str | None]) -> dict[str, str]:
    """The fields that have a value: how a missing amount looks in JSON."""
    return {name: value for name, value in fields.items() if value is not None}


def _moved(text: str, amount: Decimal) -> str:
    # What does not change keeps its digits, so that a held "0" does not turn into "0.0000".
    return f"{EXACT.add(Decimal(text), amount):f}" if amount else text


def _sum(free: str, held: str) -> str:
    return f"{EXACT.add(Decimal(free), Decimal(held)):f}"
