"""What an account has ordered and what is still open: each order read whole, or `UnprovenAnswer`.

An order that is left out would make money look free that is not. The list is read to hold a balance and
positions against it, so it says of each order what it must be holding, where that can be said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Final

from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    kraken_result,
    listing,
    mapping,
    number,
    okx_rows,
    positive,
    short,
    text,
)
from brokerwatch.messages import Product, Side
from brokerwatch.messages import total as summed
from brokerwatch.messages.balance import FRACTION_DIGITS, WHOLE_DIGITS, less

_EXACT: Final = Context(prec=2 * (WHOLE_DIGITS + FRACTION_DIGITS))
"""For an amount times a price. Plain multiplication would round to the precision of the thread."""

Market = Callable[[str], Product | None]
"""The market of an exchange's name for it; None where its list has none of that name."""


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """One order that may still be filled."""

    order_id: str
    market: str
    """The symbol; the exchange's own name where its list of markets has none of it."""
    side: Side
    holds: tuple[str, Decimal] | None
    """A currency, and how much of it this order must be holding; None where that cannot be said: an order by
    a price that is not known yet, on credit, or in a market that is not listed."""
    listed: bool = True
    """Whether the list of markets has its market."""


def kraken_open(answer: object, market: Market) -> tuple[OpenOrder, ...]:
    """The orders of an OpenOrders answer. Raises UnprovenAnswer.

    https://docs.kraken.com/api/docs/rest-api/get-open-orders
    """
    rows = mapping(kraken_result(answer).get("open"), "open")
    return tuple(_kraken_order(order_id, mapping(row, "an order"), market) for order_id, row in rows.items())


def _kraken_order(order_id: str, row: Mapping[str, Any], market: Market) -> OpenOrder:
    told = mapping(row.get("descr"), f"descr of {order_id}")
    limit = text(told.get("ordertype"), f"ordertype of {order_id}") == "limit"
    on_credit = told.get("leverage") not in (None, "none", "0", 0)
    in_quote = "viqc" in str(row.get("oflags") or "")
    return _order(
        order_id,
        text(told.get("pair"), f"pair of {order_id}"),
        told.get("type"),
        market,
        _left(row.get("vol"), row.get("vol_exec"), order_id),
        told.get("price"),
        plain=limit and not on_credit and not in_quote,
    )


def coinbase_open(page: object, market: Market) -> tuple[OpenOrder, ...]:
    """The orders on one page of "List Orders" that asked for open ones. Raises UnprovenAnswer."""
    rows = [mapping(row, "an order") for row in listing(mapping(page, "the answer").get("orders"), "orders")]
    return tuple(_coinbase_order(row, market) for row in rows)


def _coinbase_order(row: Mapping[str, Any], market: Market) -> OpenOrder:
    order_id = text(row.get("order_id"), "order_id")
    told = mapping(row.get("order_configuration"), f"order_configuration of {order_id}")
    kinds = [(kind, size) for kind, size in told.items() if size is not None]
    if len(kinds) != 1:
        raise UnprovenAnswer(f"{order_id} is an order of {len(kinds)} kinds, not of one")
    kind, size = kinds[0][0], mapping(kinds[0][1], f"order_configuration of {order_id}")
    ordered, filled = size.get("base_size"), row.get("filled_size")
    left = None
    if ordered in (None, ""):
        positive(size.get("quote_size"), f"the size of {order_id}")
    else:
        left = _left(ordered, "0" if filled == "" else filled, order_id)
    return _order(
        order_id,
        text(row.get("product_id"), f"product_id of {order_id}"),
        str(row.get("side")).lower(),
        market,
        left,
        size.get("limit_price"),
        plain=kind.startswith("limit_") and row.get("product_type") in (None, "SPOT"),
    )


def okx_open(answer: object, market: Market) -> tuple[OpenOrder, ...]:
    """The orders of one page of "Order List". Raises UnprovenAnswer."""
    return tuple(_okx_order(row, market) for row in okx_rows(answer))


_OKX_RESTING: Final = frozenset({"limit", "post_only"})


def _okx_order(row: Mapping[str, Any], market: Market) -> OpenOrder:
    order_id = text(row.get("ordId"), "ordId")
    resting = text(row.get("ordType"), f"ordType of {order_id}") in _OKX_RESTING
    return _order(
        order_id,
        text(row.get("instId"), f"instId of {order_id}"),
        row.get("side"),
        market,
        _left(row.get("sz"), row.get("accFillSz"), order_id),
        row.get("px"),
        plain=resting and row.get("tdMode") in (None, "cash"),
    )


def unified_open(rows: object, market: Market) -> tuple[OpenOrder, ...]:
    """The orders in what ccxt's `fetch_open_orders` gives, exact. Raises UnprovenAnswer."""
    found: list[OpenOrder] = []
    for entry in listing(rows, "the orders"):
        row = mapping(entry, "an order")
        order_id = text(row.get("id"), "the id of an order")
        remaining, price = row.get("remaining"), row.get("price")
        left = None if remaining is None else number(_exact(remaining), f"remaining of {order_id}")
        if left is not None and left < 0:
            raise UnprovenAnswer(f"of {order_id} {left} remains")
        # An order that waits for a trigger has the type of what it will be then.
        waits = any(row.get(key) not in (None, "", 0, "0") for key in ("triggerPrice", "stopPrice"))
        found.append(
            _order(
                order_id,
                text(row.get("symbol"), f"symbol of {order_id}"),
                row.get("side"),
                market,
                left,
                _exact(price),
                plain=row.get("type") == "limit" and price is not None and not waits,
            )
        )
    return tuple(found)


def _exact(value: object) -> object:
    return repr(value) if isinstance(value, float) else value


def _left(ordered: object, filled: object, order_id: str) -> Decimal:
    """How much is still to be filled."""
    size = number(ordered, f"the size of {order_id}")
    done = number(filled, f"filled of {order_id}")
    left = less(size, done)
    if size <= 0 or done < 0 or left < 0:
        raise UnprovenAnswer(f"{order_id} is of {size}, and {done} of it is filled")
    return left


def _order(
    order_id: str,
    name: str,
    side: object,
    market: Market,
    left: Decimal | None,
    price: object,
    *,
    plain: bool,
) -> OpenOrder:
    """`plain`: it rests in the book at `price`, by the account's own means; only then its hold is known."""
    if side not in ("buy", "sell"):
        raise UnprovenAnswer(f"the side of the order {order_id} is {short(side)}")
    product = market(name)
    holds: tuple[str, Decimal] | None = None
    if product is not None and product.kind == "spot" and left is not None and plain:
        at = positive(price, f"price of {order_id}")
        holds = (product.base, left) if side == "sell" else (product.quote, _EXACT.multiply(left, at))
    return OpenOrder(
        order_id=order_id,
        market=name if product is None else product.symbol,
        side=Side(side),
        holds=holds,
        listed=product is not None,
    )


def held_by(orders: Iterable[OpenOrder]) -> dict[str, Decimal]:
    """What these orders must be holding: currency to amount, as far as it can be said."""
    found: dict[str, Decimal] = {}
    for order in orders:
        if order.holds is not None:
            currency, amount = order.holds
            found[currency] = summed((found.get(currency, Decimal(0)), amount))
    return found
