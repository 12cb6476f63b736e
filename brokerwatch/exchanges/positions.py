"""What an account has that is no cash: the coins it holds, and what exchanges say is open beside them.

A position that cannot be read makes the whole answer worthless: one that is left out would be taken for
closed. An empty list in a whole envelope is what it says: nothing is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    listing,
    mapping,
    short,
)
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import Holding, Position, total
from brokerwatch.money import is_money

Named = Callable[[str], str]
"""Our symbol of a market that an exchange calls by its own id; see `Products.named`."""

_SIDES: Final = {"buy": "long", "sell": "short", "LONG": "long", "SHORT": "short"}


def held_positions(
    holdings: Mapping[str, Holding], products: Products, cash: Iterable[str]
) -> tuple[Position, ...]:
    """The coins that are held, each on the first market that it has in one of our cash currencies.

    Money of any kind is no position. A coin without such a market is named by its code.
    """
    quotes = tuple(cash)
    found: list[Position] = []
    for code, holding in holdings.items():
        if holding.total is None or holding.total <= 0 or is_money(code):
            continue
        markets = (products.pair(code, quote) for quote in quotes)
        symbol = next((market.symbol for market in markets if market is not None), code)
        free = None if holding.free is None else max(holding.free, Decimal(0))
        found.append(Position(symbol=symbol, kind="spot", side="long", base_amount=holding.total, free=free))
    return tuple(found)


def less_closed(amount: Decimal, taken: Decimal) -> Decimal:
    """What of an amount is still open, exactly."""
    # Plain subtraction would round to the precision of the thread.
    return total((amount, taken.copy_negate()))


def position_rows(value: object) -> list[Mapping[str, Any]]:
    """The rows of a list of positions. Raises UnprovenAnswer."""
    return [mapping(row, "a position") for row in listing(value, "the positions")]


def side_of(word: object, about: str) -> str:
    """The side that an exchange's word means. Raises UnprovenAnswer."""
    if word not in _SIDES:
        raise UnprovenAnswer(f"the side of {about} is {short(word)}")
    return _SIDES[str(word)]


def position(
    symbol: str, kind: str, side: str, size: Decimal, free: Decimal | None = None
) -> tuple[Position, ...]:
    """One position, or none if nothing of it is open any more."""
    if size < 0:
        raise UnprovenAnswer(f"less than nothing of {symbol} is open: {size}")
    closable = size if free is None else free
    held = Position(symbol=symbol, kind=kind, side=side, base_amount=size, free=closable)
    return (held,) if size else ()
