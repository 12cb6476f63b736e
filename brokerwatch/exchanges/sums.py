"""A sum over all currencies that an exchange states beside their list, held against the list.

Where what each currency of the list is worth adds up to the sum, the list is whole: what it leaves out is not
in the account. That holds of a currency which the sum would have in it, and not of one without a price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final, cast

from brokerwatch.exchanges.balances import Code
from brokerwatch.exchanges.envelope import UnprovenAnswer, exact, number
from brokerwatch.exchanges.raw_rows import rows_at
from brokerwatch.exchanges.row_forms import EACH, Key
from brokerwatch.messages import total

ROUNDING: Final = Decimal("0.01")
"""A sum in dollars may differ by so much from its parts …"""
ROUNDING_SHARE: Final = Decimal("0.000001")
"""… and by this share of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Where an answer states the sum, and what each currency is worth in it."""

    at: tuple[Key, ...]
    """The path to the account."""
    total: str
    """The key of the sum in it."""
    rows: str
    """The key of the list of currencies in it."""
    code: str
    """The key of a currency's name in its row …"""
    worth: str
    """… and of what it is worth."""


STATED_SUMS: Final[Mapping[str, Sum]] = MappingProxyType(
    {
        "okx": Sum(at=("data", EACH), total="totalEq", rows="details", code="ccy", worth="eqUsd"),
        "bybit": Sum(
            at=("result", "list", EACH), total="totalEquity", rows="coin", code="coin", worth="usdValue"
        ),
        "blofin": Sum(at=("data",), total="totalEquity", rows="details", code="currency", worth="equityUsd"),
    }
)
"""The sums of these exchanges, by family or ccxt id, after their own documentation of the balance."""


def summed(known: Sum | None, answer: object, code: Code) -> frozenset[str] | None:
    """The currencies that a sum in the answer has in it; None where none is stated, or it does not agree.

    Args:
        known: where the exchange states one; None: it states none.
        answer: its answer, as it came.
        code: the common code of the exchange's own.
    """
    accounts = None
    if known is not None:
        try:
            accounts = rows_at(known.at, answer)
        except UnprovenAnswer:
            return None
    if known is None or accounts is None or len(accounts) != 1:
        return None
    account: object = accounts[0][1]
    whole = _amount(account, known.total)
    rows: object = _value(account, known.rows)
    if whole is None or not isinstance(rows, list):
        return None
    worths: dict[str, Decimal] = {}
    for row in cast("list[object]", rows):
        name = _value(row, known.code)
        if isinstance(name, str):
            worths[code(name)] = _amount(row, known.worth) or Decimal(0)
    allowed = ROUNDING + ROUNDING_SHARE * total(map(abs, worths.values()))
    if abs(total((whole, *(each.copy_negate() for each in worths.values())))) > allowed:
        return None
    return frozenset(name for name, worth in worths.items() if abs(worth) > 2 * allowed)


def _value(row: object, key: str) -> object:
    return cast("Mapping[str, object]", row).get(key) if isinstance(row, Mapping) else None


def _amount(row: object, key: str) -> Decimal | None:
    value = _value(row, key)
    try:
        return None if value is None or value == "" else number(exact(value), key)
    except UnprovenAnswer:
        return None
