"""The markets of an exchange, from ccxt's list of them: exact steps and minimums, or `UnprovenAnswer`.

A step that is wrong by one digit makes orders that are refused, or other ones than were asked for. What
the exchange does not say is None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

from brokerwatch.exchanges.envelope import UnprovenAnswer, exact, mapping, short, text
from brokerwatch.messages import Product

DECIMAL_PLACES: Final = 2
SIGNIFICANT_DIGITS: Final = 3
TICK_SIZE: Final = 4
"""ccxt's ways of stating a precision: digits after the point, digits that count, or a step."""

MOST_PLACES: Final = 64
"""No step and no minimum has more places than this, on either side of the point."""


def products_from(markets: Mapping[str, Any], precision_mode: int = TICK_SIZE) -> tuple[Product, ...]:
    """The markets in what ccxt's `load_markets` gives, with exact steps and minimums.

    `precision_mode` is the instance's `precisionMode`. Raises UnprovenAnswer for an empty or broken map:
    no exchange has no markets. A market whose currencies ccxt does not know is left out.
    """
    rows = [mapping(market, "a market") for market in mapping(markets, "the list of markets").values()]
    found = tuple(_product(row, precision_mode) for row in rows if row.get("base") and row.get("quote"))
    if not found:
        raise UnprovenAnswer("no markets in the answer")
    if len({each.symbol for each in found}) < len(found):
        raise UnprovenAnswer("a symbol comes twice in the list of markets")
    return found


def _product(row: Mapping[str, Any], mode: int) -> Product:
    symbol = text(row.get("symbol"), "symbol of a market")
    about = f"of {symbol}"
    precision = _part(row, "precision", about)
    limits = _part(row, "limits", about)
    # What the exchange itself wrote; in ccxt's hands a map, or a list.
    info = cast("object", row.get("info"))
    active = row.get("active")
    if not isinstance(active, bool | None):
        raise UnprovenAnswer(f"active {about} is neither true nor false")
    return Product(
        symbol=symbol,
        base=text(row.get("base"), f"base {about}"),
        quote=text(row.get("quote"), f"quote {about}"),
        id=text(row.get("id"), f"id {about}"),
        kind=text(row.get("type"), f"type {about}"),
        # An exchange that does not say so has not closed it.
        active=active is not False and not _takes_no_market_order(info),
        base_step=_step(precision.get("amount"), mode, f"precision.amount {about}"),
        quote_step=_step(precision.get("cost"), mode, f"precision.cost {about}")
        or _quote_step(cast("Mapping[str, Any]", info) if isinstance(info, Mapping) else {}, about),
        price_step=_step(precision.get("price"), mode, f"precision.price {about}"),
        base_minimum=_least(limits, "amount", about),
        quote_minimum=_least(limits, "cost", about),
    )


_COINBASE_FLAGS: Final = (
    "is_disabled",
    "trading_disabled",
    "cancel_only",
    "limit_only",
    "post_only",
    "auction_mode",
)


def _takes_no_market_order(info: object) -> bool:
    """Whether Coinbase says so of a market; ccxt passes on only one of its flags. ("List Products")"""
    if not isinstance(info, Mapping) or "product_id" not in info:
        return False
    row = cast("Mapping[str, object]", info)
    return any(row.get(flag) is True for flag in _COINBASE_FLAGS) or row.get("status") == "delisted"


def _quote_step(info: Mapping[str, Any], about: str) -> Decimal | None:
    """What the exchange itself says of amounts in the quote currency, which ccxt does not pass on.

    Kraken states digits, Coinbase a step. (REST "Get Tradable Asset Pairs", "List Products".)
    """
    digits = _step(info.get("cost_decimals"), DECIMAL_PLACES, f"cost_decimals {about}")
    return digits or _step(info.get("quote_increment"), TICK_SIZE, f"quote_increment {about}")


def _step(value: object, mode: int, what: str) -> Decimal | None:
    """The step of an amount; None when it is not said, or said of significant digits, which are no step."""
    number = _number(value, what)
    if number is None or mode == SIGNIFICANT_DIGITS:
        return None
    if mode == DECIMAL_PLACES:
        if number != number.to_integral_value() or abs(number) > MOST_PLACES:
            raise UnprovenAnswer(f"{what} is no number of digits: {number}")
        return Decimal(1).scaleb(-int(number))
    if number < 0:
        raise UnprovenAnswer(f"{what} is negative: {number}")
    return number or None  # a step of zero is no step


def _least(limits: Mapping[str, Any], name: str, about: str) -> Decimal | None:
    """The smallest order; None when there is no limit."""
    number = _number(_part(limits, name, about).get("min"), f"limits.{name}.min {about}")
    if number is not None and number < 0:
        raise UnprovenAnswer(f"limits.{name}.min {about} is negative: {number}")
    return number or None


def _part(row: Mapping[str, Any], key: str, about: str) -> Mapping[str, Any]:
    """A map within a market; an empty one when nothing is said."""
    return {} if row.get(key) is None else mapping(row[key], f"{key} {about}")


def _number(value: object, what: str) -> Decimal | None:
    """The number that ccxt states, a float by its shortest text; None when it states none."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise UnprovenAnswer(f"{what} is no number: {short(value)}")
    try:
        number = Decimal(exact(value))
    except InvalidOperation:
        raise UnprovenAnswer(f"{what} is no number: {short(value)}") from None
    if not number.is_finite() or abs(number.adjusted()) > MOST_PLACES:
        raise UnprovenAnswer(f"{what} is no number that can be: {short(value)}")
    return number
