"""What ccxt's unified structures prove about an order: placed, found again, and how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, cast

from brokerwatch.exchanges.envelope import UnprovenAnswer, exact, listing, mapping, number, short, text
from brokerwatch.exchanges.order_answers import FILLED, OPEN, OVER, FoundOrder, Paid, only, order_of
from brokerwatch.exchanges.order_traits import ANY_FORM, IdForm
from brokerwatch.messages import Product

_STATES: Final = {
    "open": OPEN,
    "canceling": OPEN,
    "closed": FILLED,
    "canceled": OVER,
    "expired": OVER,
    "rejected": OVER,
}


def found_order(
    lists: Iterable[tuple[object, int]], client_order_id: str, product: Product, form: IdForm = ANY_FORM
) -> FoundOrder | None:
    """Our order in ccxt's lists of the market's orders, given as they were asked for; None: it is in none.

    Each comes with how many rows its page holds: a page that is full may be followed by another, and
    proves the absence of nothing. `form`: how the exchange writes the id.
    Raises UnprovenAnswer; also when a row of the lists says no id.
    """
    ours: dict[str, FoundOrder] = {}
    doubt = ""
    for answer, page in lists:
        rows = [mapping(row, "an order") for row in listing(answer, "the orders")]
        for row in rows:
            if row.get("symbol") not in (None, product.symbol):
                raise UnprovenAnswer(f"an order in {short(row['symbol'])} among those in {product.symbol}")
            theirs = _own_id(row, form)
            if theirs and form.is_ours(theirs, client_order_id):
                order_id = text(row.get("id"), "the id of an order")
                ours[order_id] = _found_order(order_id, row, product)
            elif not theirs:
                doubt = "an order in the list does not say the id that was given to it"
        if len(rows) >= page:
            doubt = f"the page is full with {len(rows)} orders, and there may be more"
    found = only(ours, client_order_id)
    if found is None and doubt:
        raise UnprovenAnswer(f"{doubt}, so {client_order_id} may exist")
    return found


def _own_id(row: Mapping[str, Any], form: IdForm) -> object:
    """The id that was given to the order of a row; empty when it says none. ccxt leaves some out."""
    stated: object = row.get("clientOrderId")
    info: object = row.get("info")
    if not stated and isinstance(info, Mapping):
        stated = cast("Mapping[str, object]", info).get(form.parameter)
    return stated or ""


def order_at(answer: object, order_id: str, product: Product) -> FoundOrder:
    """The order that ccxt's `fetch_order` gives. Raises UnprovenAnswer."""
    row = mapping(answer, "an order")
    if row.get("id") != order_id:
        raise UnprovenAnswer(f"another order than {order_id}: {short(row.get('id'))}")
    return _found_order(order_id, row, product)


def _paid(row: Mapping[str, Any]) -> Paid:
    fee: object = row.get("fee")
    stated: Mapping[str, object] = cast("Mapping[str, object]", fee) if isinstance(fee, Mapping) else {}
    currency = stated.get("currency")
    return Paid(
        exact(row.get("average")), exact(stated.get("cost")), currency if isinstance(currency, str) else ""
    )


def _found_order(order_id: str, row: Mapping[str, Any], product: Product) -> FoundOrder:
    market = "" if row.get("symbol") is None else product.id
    states = (_STATES, row.get("status"), ())
    filled = exact(row.get("filled"))
    return order_of(order_id, market, row.get("side"), _ordered(row), filled, states, _paid(row))


def _ordered(row: Mapping[str, Any]) -> Mapping[str, object]:
    """What was asked for, as far as the row says it for certain.

    The amount of a market order to buy is in the quote currency at some exchanges (toobit), or is the cost
    over the price with the rest that was less than a step (gate). It is in the base currency for certain
    where all of it was filled.
    """
    amount, filled, cost = (exact(row.get(key)) for key in ("amount", "filled", "cost"))
    if (row.get("type"), row.get("side")) != ("market", "buy") or amount is None:
        return {"ordered_base": amount}
    size, done, paid = (_decimal(value) for value in (amount, filled, cost))
    if size is not None and size == done:
        return {"ordered_base": amount}
    return {"ordered_quote": amount} if size is not None and size == paid else {}


def _decimal(value: object) -> Decimal | None:
    try:
        return None if value is None else number(value, "amount")
    except UnprovenAnswer:
        return None


def placed(answer: object) -> str:
    """The id of the order that ccxt says was placed. Raises UnprovenAnswer."""
    return text(mapping(answer, "the answer to an order").get("id"), "the id of the order")
