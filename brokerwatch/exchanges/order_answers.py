"""What the answers to orders prove: placed, checked, or found again; and which of them prove nothing.

Two failures are kept apart. `NotTaken`: the exchange says no, so nothing was placed. `UnprovenAnswer`: the
answer cannot be read, so nobody knows; an order that it was about must be looked up before anything
else is sent. Nothing is "placed" without the exchange's id of it, and nothing is "not there" unless the
exchange was asked for exactly this and answered whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Final, cast

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
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.refusals import NotTaken, refusal
from brokerwatch.messages import Product, Side

_OPEN: Final = ""
_FILLED: Final = "filled"
_OVER: Final = "over"
"""What an exchange's word for the state of an order means: may still be filled; filled whole; neither."""


@dataclass(frozen=True, slots=True)
class FoundOrder:
    """An order of ours as the exchange has it."""

    order_id: str
    """The exchange's id of it."""
    market: str
    """The exchange's own id of the market, as in `Product.id`; empty when the row does not say."""
    side: Side | None
    ordered_base: Decimal | None
    """What was asked for, in the base currency; None when it was asked for in the quote currency, or the row
    does not say."""
    ordered_quote: Decimal | None
    """What was asked for, in the quote currency; None when it was asked for in the base currency, or the row
    does not say."""
    filled_base: Decimal | None
    """So much of the base currency was bought or sold so far; None: the row does not say."""
    ended: str
    """Why it is over and was not filled whole, in the exchange's own words; empty while it is open, or when
    it was filled."""


def kraken_placed(answer: object) -> str:
    """The id of the order that AddOrder placed. Raises NotTaken, UnprovenAnswer."""
    placed = listing(_kraken_result(answer).get("txid"), "txid")
    if len(placed) != 1:
        raise UnprovenAnswer(f"the answer to one order names {len(placed)}")
    return text(placed[0], "txid")


class PlacedAfterAll(UnprovenAnswer):
    """A dry run was answered with an order: what was only to be checked may have been placed."""


def kraken_validated(answer: object) -> None:
    """AddOrder would take the order. Raises NotTaken, UnprovenAnswer; PlacedAfterAll."""
    result = _kraken_result(answer)
    if result.get("txid"):
        raise PlacedAfterAll(f"a dry run was answered with an order: {short(result['txid'])}")
    text(mapping(result.get("descr"), "descr").get("order"), "descr.order")


_KRAKEN_STATES: Final = {
    "pending": _OPEN,
    "open": _OPEN,
    "closed": _FILLED,
    "canceled": _OVER,
    "expired": _OVER,
}


def kraken_found(
    open_answer: object,
    closed_answer: object,
    client_order_id: str,
    product: Product,
    code: Callable[[str], str] = str,
) -> FoundOrder | None:
    """Our order among those that OpenOrders and then ClosedOrders gave for our id; None: there is none.

    `code` gives the common code of a Kraken currency. Raises UnprovenAnswer, also when only others came:
    then they were not chosen by the id, and more of them may stand on further pages.
    """
    ours: dict[str, FoundOrder] = {}
    others = 0
    for answer, name in ((open_answer, "open"), (closed_answer, "closed")):
        result = _kraken_result(answer)
        rows = mapping(result.get(name), name)
        for order_id, value in rows.items():
            row = mapping(value, f"the order {order_id}")
            if _same(row.get("cl_ord_id"), client_order_id):
                # What was open and is closed since stands in both; the later word holds.
                ours[order_id] = _kraken_order(text(order_id, "the id of an order"), row, product, code)
            else:
                others += 1
        if not rows and result.get("count") is not None and number(result["count"], "count"):
            raise UnprovenAnswer(f"{short(result['count'])} {name} orders are counted, and none is there")
    found = _only(ours, client_order_id)
    if found is None and others:
        raise UnprovenAnswer(f"{others} orders that were not asked for, and not {client_order_id}")
    return found


def _kraken_order(
    order_id: str, row: Mapping[str, Any], product: Product, code: Callable[[str], str]
) -> FoundOrder:
    """https://docs.kraken.com/api/docs/rest-api/get-closed-orders"""
    told = mapping(row.get("descr") or {}, "descr")
    by_cost = "viqc" in str(row.get("oflags") or "").split(",")
    return _order(
        order_id,
        "" if told.get("pair") is None else _kraken_market(text(told["pair"], "pair"), product, code),
        told.get("type"),
        # An order by cost does not say in which currency its `vol` is.
        {} if by_cost else {"ordered_base": row.get("vol")},
        _kraken_bought(row) if by_cost else row.get("vol_exec"),
        (_KRAKEN_STATES, row.get("status"), (row.get("reason"),)),
    )


def _kraken_market(pair: str, product: Product, code: Callable[[str], str]) -> str:
    """The id of the market that orders call by its short name: XBTUSD for XXBTZUSD."""
    named = pair.replace("/", "")
    halves = ((code(named[:at]), code(named[at:])) for at in range(1, len(named)))
    return product.id if (product.base, product.quote) in halves else pair


def _kraken_bought(row: Mapping[str, Any]) -> Decimal | None:
    """What an order by cost has bought, in the base currency; None where its row leaves that open.

    Kraken's older documentation says that `vol_exec` is in the quote currency then, its newer one that it is
    in the base currency. So the price must say the same, and must not be so near to 1 that it says nothing.
    """
    volume, cost, price = (
        None if row.get(key) is None else number(row[key], key) for key in ("vol_exec", "cost", "price")
    )
    if volume is None or not volume:
        return volume
    if not cost or not price or abs(price - 1) < _NEAR:
        return None
    with localcontext(prec=60):
        return volume if abs(volume * price - cost) <= cost * _NEAR else None


_NEAR: Final = Decimal("0.01")
"""Kraken cuts the digits of a cost and of a price, never by as much as this share."""


def _kraken_result(answer: object) -> Mapping[str, Any]:
    _admit("kraken", answer)
    return kraken_result(answer)


def _same(told: object, ours: str) -> bool:
    """Whether an id that Kraken tells is ours, which it may write with hyphens or without."""
    return isinstance(told, str) and canonical_id(told) == canonical_id(ours)


def canonical_id(client_order_id: str) -> str:
    """An id of ours, or of a UUID the one spelling of it: Kraken knows all of them as one."""
    bare = client_order_id.replace("-", "")
    is_uuid = len(bare) == 32 and all(letter in "0123456789abcdefABCDEF" for letter in bare)
    return bare.lower() if is_uuid else client_order_id


_COINBASE_STATES: Final = {
    **dict.fromkeys(("PENDING", "OPEN", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED"), _OPEN),
    "FILLED": _FILLED,
    **dict.fromkeys(("CANCELLED", "EXPIRED", "FAILED"), _OVER),
}
_COINBASE_SIDES: Final = {"BUY": "buy", "SELL": "sell"}


def coinbase_placed(answer: object, request: OrderRequest) -> str:
    """The id of the order that was created for this request. Raises NotTaken, UnprovenAnswer.

    Whoever sends an id a second time gets the order of that id, whatever he asks for now. ("Create Order")
    """
    envelope = _coinbase_envelope(answer)
    if envelope.get("success") is not True:
        raise UnprovenAnswer(f"success is {short(envelope.get('success'))}")
    row = mapping(envelope.get("success_response"), "success_response")
    expected = {
        "product_id": request.product.id,
        "side": str(request.side).upper(),
        "client_order_id": request.client_order_id,
    }
    for key, value in expected.items():
        if row.get(key) != value:
            raise UnprovenAnswer(f"{key} of the order is {short(row.get(key))}, not {value}")
    sizes = _coinbase_sizes(envelope).items()
    wanted = {"ordered_base": request.base_amount, "ordered_quote": request.quote_amount}
    if any(number(size, "the size of the order") != wanted[unit] for unit, size in sizes):
        raise UnprovenAnswer(
            f"the order of this id has another size: {short(envelope['order_configuration'])}"
        )
    return text(row.get("order_id"), "order_id")


def coinbase_previewed(answer: object) -> None:
    """Coinbase would take the order. Raises NotTaken, UnprovenAnswer; PlacedAfterAll."""
    envelope = _coinbase_envelope(answer)
    for key in ("order_id", "success_response"):
        if envelope.get(key):
            raise PlacedAfterAll(f"a preview was answered with an order: {key} {short(envelope[key])}")
    errors = listing(envelope.get("errs"), "errs")
    if errors:
        raise NotTaken(", ".join(map(str, errors)))
    sizes = [number(envelope.get(key), key) for key in ("base_size", "quote_size")]
    if not any(sizes):
        raise UnprovenAnswer("a preview of nothing: both sizes are zero")


def coinbase_found(page: object, client_order_id: str) -> FoundOrder | None:
    """Our order, on one page of "List Orders"; None if it is not on this page.

    Coinbase does not choose by our id: `coinbase_cursor` says whether there are more. Raises UnprovenAnswer.
    """
    ours: dict[str, FoundOrder] = {}
    for entry in listing(_coinbase_envelope(page).get("orders"), "orders"):
        row = mapping(entry, "an order")
        told = row.get("client_order_id")
        if not isinstance(told, str):
            raise UnprovenAnswer(f"the client_order_id of an order is {short(told)}")
        if told == client_order_id:
            order_id = text(row.get("order_id"), "order_id")
            ours[order_id] = _order(
                order_id,
                "" if row.get("product_id") is None else text(row["product_id"], "product_id"),
                _COINBASE_SIDES.get(row["side"], row["side"]) if isinstance(row.get("side"), str) else None,
                _coinbase_sizes(row),
                row.get("filled_size"),
                (_COINBASE_STATES, row.get("status"), _coinbase_reasons(row)),
            )
    return _only(ours, client_order_id)


def _coinbase_sizes(row: Mapping[str, Any]) -> dict[str, object]:
    """The size that was asked for, by its currency; empty when it is not said."""
    configuration = mapping(row.get("order_configuration") or {}, "order_configuration")
    if len(configuration) != 1:
        return {}
    (kind,) = configuration.values()
    sizes = mapping(kind, "order_configuration")
    units = {"base_size": "ordered_base", "quote_size": "ordered_quote"}
    found = {unit: sizes[key] for key, unit in units.items() if sizes.get(key)}
    in_quote = row.get("size_in_quote")
    if len(found) > 1 or (
        isinstance(in_quote, bool) and found and in_quote is not ("ordered_quote" in found)
    ):
        raise UnprovenAnswer(f"the size of an order contradicts itself: {short(sizes)}")
    return found


def _coinbase_reasons(row: Mapping[str, Any]) -> tuple[object, ...]:
    told = (row.get("reject_reason"), row.get("reject_message"), row.get("cancel_message"))
    return tuple(reason for reason in told if reason != "REJECT_REASON_UNSPECIFIED")


def coinbase_cursor(page: object) -> str | None:
    """The cursor of the next page of "List Orders"; None when this is the last. Raises UnprovenAnswer."""
    envelope = _coinbase_envelope(page)
    more = envelope.get("has_next")
    if not isinstance(more, bool):
        raise UnprovenAnswer("has_next is missing, so nobody knows whether this is the last page")
    return text(envelope.get("cursor"), "cursor of the next page") if more else None


def _coinbase_envelope(answer: object) -> Mapping[str, Any]:
    _admit("coinbase", answer)
    return mapping(answer, "the answer")


def okx_placed(answer: object) -> str:
    """The id of the order that was placed. Raises NotTaken, UnprovenAnswer."""
    row = _okx_row(answer)
    if str(row.get("sCode")) != "0":
        raise UnprovenAnswer(f"sCode is {short(row.get('sCode'))}")
    return text(row.get("ordId"), "ordId")


_OKX_STATES: Final = {
    "live": _OPEN,
    "partially_filled": _OPEN,
    "filled": _FILLED,
    "canceled": _OVER,
    "mmp_canceled": _OVER,
}
_OKX_UNITS: Final = {"base_ccy": "ordered_base", "quote_ccy": "ordered_quote"}


def okx_found(answer: object, client_order_id: str) -> FoundOrder:
    """The order that was asked for by our id. Raises UnprovenAnswer.

    That there is none OKX says by an error; see `brokerwatch.exchanges.refusals.no_such_order`.
    https://www.okx.com/docs-v5/en/#order-book-trading-trade-get-order-details
    """
    row = _okx_row(answer)
    if row.get("clOrdId") != client_order_id:
        raise UnprovenAnswer(f"another order than {client_order_id}")
    unit = _OKX_UNITS.get(str(row.get("tgtCcy")))
    return _order(
        text(row.get("ordId"), "ordId"),
        "" if row.get("instId") is None else text(row["instId"], "instId"),
        row.get("side"),
        {} if unit is None else {unit: row.get("sz")},
        row.get("accFillSz") or None,
        (_OKX_STATES, row.get("state"), (row.get("cancelSourceReason"),)),
    )


def _okx_row(answer: object) -> Mapping[str, Any]:
    """The one row of an answer about one order."""
    _admit("okx", answer)
    rows = okx_rows(answer)
    if len(rows) != 1:
        raise UnprovenAnswer(f"the answer to one order has {len(rows)} rows")
    return rows[0]


_UNIFIED_STATES: Final = {
    "open": _OPEN,
    "canceling": _OPEN,
    "closed": _FILLED,
    "canceled": _OVER,
    "expired": _OVER,
    "rejected": _OVER,
}


def unified_found(
    lists: Iterable[tuple[object, int]], client_order_id: str, product: Product
) -> FoundOrder | None:
    """Our order in ccxt's lists of the market's orders, given as they were asked for; None: it is in none.

    Each comes with how many rows its page holds: a page that is full may be followed by another, and
    proves the absence of nothing. Raises UnprovenAnswer; also when a row of the lists says no id.
    """
    ours: dict[str, FoundOrder] = {}
    doubt = ""
    for answer, page in lists:
        rows = [mapping(row, "an order") for row in listing(answer, "the orders")]
        for row in rows:
            if row.get("symbol") not in (None, product.symbol):
                raise UnprovenAnswer(f"an order in {short(row['symbol'])} among those in {product.symbol}")
            if row.get("clientOrderId") == client_order_id:
                order_id = text(row.get("id"), "the id of an order")
                ours[order_id] = _unified_order(order_id, row, product)
            elif not row.get("clientOrderId"):
                doubt = "an order in the list does not say the id that was given to it"
        if len(rows) >= page:
            doubt = f"the page is full with {len(rows)} orders, and there may be more"
    found = _only(ours, client_order_id)
    if found is None and doubt:
        raise UnprovenAnswer(f"{doubt}, so {client_order_id} may exist")
    return found


def _unified_order(order_id: str, row: Mapping[str, Any], product: Product) -> FoundOrder:
    amounts = [row.get(key) for key in ("amount", "filled")]
    # ccxt's floats are what it read from text; the shortest text that means the same is that text.
    ordered, filled = (repr(amount) if isinstance(amount, float) else amount for amount in amounts)
    market = "" if row.get("symbol") is None else product.id
    states = (_UNIFIED_STATES, row.get("status"), ())
    return _order(order_id, market, row.get("side"), {"ordered_base": ordered}, filled, states)


def unified_placed(answer: object) -> str:
    """The id of the order that ccxt says was placed. Raises UnprovenAnswer."""
    return text(mapping(answer, "the answer to an order").get("id"), "the id of the order")


def _order(
    order_id: str,
    market: str,
    side: object,
    ordered: Mapping[str, object],
    filled: object,
    state: tuple[Mapping[str, str], object, tuple[object, ...]],
) -> FoundOrder:
    """The order that a row tells of; `state`: what the exchange's words mean, its word, and its reasons.

    What is None the row does not say. Raises UnprovenAnswer for what cannot be read or contradicts itself.
    """
    meanings, word, reasons = state
    meaning = meanings.get(word) if isinstance(word, str) else None
    if meaning is None:
        raise UnprovenAnswer(f"the state of the order {order_id} is {short(word)}")
    if side not in ("buy", "sell", None):
        raise UnprovenAnswer(f"the side of the order {order_id} is {short(side)}")
    size = {
        unit: positive(value, f"the size of {order_id}")
        for unit, value in ordered.items()
        if value is not None
    }
    base, done = size.get("ordered_base"), None if filled is None else number(filled, f"filled of {order_id}")
    too_little = meaning == _FILLED and done is not None and (done == 0 or (base is not None and done < base))
    if done is not None and (done < 0 or too_little or (base is not None and done > base)):
        raise UnprovenAnswer(f"{order_id} is {word}, {done} of {'its size' if base is None else base} filled")
    words = dict.fromkeys((str(word), *(str(reason) for reason in reasons if reason)))
    return FoundOrder(
        order_id=order_id,
        market=market,
        side=None if side is None else Side(cast("str", side)),
        ordered_base=base,
        ordered_quote=size.get("ordered_quote"),
        filled_base=done,
        ended=": ".join(words) if meaning == _OVER else "",
    )


def _only(ours: Mapping[str, FoundOrder], client_order_id: str) -> FoundOrder | None:
    """The one order that has our id. Raises UnprovenAnswer for a second one: nobody knows which is meant."""
    if len(ours) > 1:
        raise UnprovenAnswer(f"{len(ours)} orders have the id {client_order_id}: {', '.join(sorted(ours))}")
    return next(iter(ours.values()), None)


def _admit(family: str, answer: object) -> None:
    """Raise NotTaken if the exchange says no for certain."""
    words = refusal(family, answer)
    if words:
        raise NotTaken(words)
