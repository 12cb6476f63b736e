"""What an account has that is no cash: the coins it holds, and what exchanges say is open beside them.

A position that cannot be read makes the whole answer worthless: one that is left out would be taken for
closed. An empty list in a whole envelope is what it says: nothing is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, cast

from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    kraken_envelope,
    listing,
    mapping,
    number,
    okx_rows,
    short,
    text,
)
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import Holding, Position, total
from brokerwatch.money import is_money

Named = Callable[[str], str]
"""Our symbol of a market that an exchange calls by its own id; see `Products.named`."""

_OKX_KINDS: Final = {"MARGIN": "margin", "SWAP": "swap", "FUTURES": "future", "OPTION": "option"}
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
        if holding.total <= 0 or is_money(code):
            continue
        markets = (products.pair(code, quote) for quote in quotes)
        symbol = next((market.symbol for market in markets if market is not None), code)
        free = max(holding.free, Decimal(0))
        found.append(Position(symbol=symbol, kind="spot", side="long", base_amount=holding.total, free=free))
    return tuple(found)


def kraken_positions(answer: object, named: Named = str) -> tuple[Position, ...]:
    """The margin positions of an OpenPositions answer, one for each opening trade. Raises UnprovenAnswer."""
    result = kraken_envelope(answer).get("result")
    # With consolidation=market it is a list.
    rows = cast("object", result) if isinstance(result, list) else [*mapping(result, "result").values()]
    found: list[Position] = []
    for row in _rows(rows):
        pair = text(row.get("pair"), "the pair of a position")
        volume, closed = (number(row.get(key), f"{key} of {pair}") for key in ("vol", "vol_closed"))
        found += _position(named(pair), "margin", _side(row.get("type"), pair), _less(volume, closed))
    return tuple(found)


def coinbase_positions(answer: object, named: Named = str) -> tuple[Position, ...]:
    """The futures positions of Coinbase, counted in contracts. Raises UnprovenAnswer."""
    found: list[Position] = []
    for row in _rows(mapping(answer, "the answer").get("positions")):
        product = text(row.get("product_id"), "the product of a position")
        contracts = number(row.get("number_of_contracts"), f"number_of_contracts of {product}")
        found += _position(named(product), "future", _side(row.get("side"), product), contracts)
    return tuple(found)


def okx_positions(answer: object, named: Named = str) -> tuple[Position, ...]:
    """The margin and derivative positions of OKX, in what OKX counts them in. Raises UnprovenAnswer."""
    found: list[Position] = []
    for row in okx_rows(answer):
        instrument = text(row.get("instId"), "the instrument of a position")
        kind = _OKX_KINDS.get(str(row.get("instType")))
        if kind is None:
            raise UnprovenAnswer(
                f"{instrument} is of a type that we do not know: {short(row.get('instType'))}"
            )
        size = number(row.get("pos"), f"pos of {instrument}")
        side = row.get("posSide")
        if side == "net" and kind == "margin":
            # It is counted in what it consists of. In the quote currency, the base currency is owed.
            base, _, quote = instrument.partition("-")
            side = {base: "long", quote: "short"}.get(str(row.get("posCcy")), "net")
        elif side == "net":
            side = "long" if size > 0 else "short"
        if side not in ("long", "short"):
            raise UnprovenAnswer(f"the side of {instrument} is {short(side)}")
        free = row.get("availPos")
        closable = size if free in (None, "") else number(free, f"availPos of {instrument}")
        found += _position(named(instrument), kind, side, size.copy_abs(), closable.copy_abs())
    return tuple(found)


def unified_positions(rows: object) -> tuple[Position, ...]:
    """The positions in what ccxt's `fetch_positions` gives. Raises UnprovenAnswer."""
    found: list[Position] = []
    for row in _rows(rows):
        symbol = text(row.get("symbol"), "the symbol of a position")
        contracts: object = row.get("contracts")
        exact = repr(contracts) if isinstance(contracts, float) else contracts
        size = number(exact, f"contracts of {symbol}").copy_abs()
        side = row.get("side")
        if side not in ("long", "short") and size:
            raise UnprovenAnswer(f"the side of {symbol} is {short(side)}")
        found += _position(symbol, _kind(symbol), str(side), size)
    return tuple(found)


def _less(amount: Decimal, taken: Decimal) -> Decimal:
    # Plain subtraction would round to the precision of the thread.
    return total((amount, taken.copy_negate()))


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [mapping(row, "a position") for row in listing(value, "the positions")]


def _kind(symbol: str) -> str:
    """What a symbol of ccxt is a symbol of: BTC/USDT:USDT-260327-100000-C is an option."""
    _, _, settled = symbol.partition(":")
    return ("swap", "future", "future", "option")[min(settled.count("-"), 3)] if settled else "margin"


def _side(told: object, about: str) -> str:
    if told not in _SIDES:
        raise UnprovenAnswer(f"the side of {about} is {short(told)}")
    return _SIDES[str(told)]


def _position(
    symbol: str, kind: str, side: str, size: Decimal, free: Decimal | None = None
) -> tuple[Position, ...]:
    """One position, or none if nothing of it is open any more."""
    if size < 0:
        raise UnprovenAnswer(f"less than nothing of {symbol} is open: {size}")
    closable = size if free is None else free
    held = Position(symbol=symbol, kind=kind, side=side, base_amount=size, free=closable)
    return (held,) if size else ()
