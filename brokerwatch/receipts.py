"""What the answers to orders prove: placed, checked, or found again; and which of them prove nothing.

Two ways to fail are kept apart. `NotTaken`: the exchange says no, so nothing was placed. `NotProof`: the
answer cannot be read, so nobody knows; an order that it was about must be looked up before anything
else is sent. Nothing is "placed" without the exchange's id of it, and nothing is "not there" unless the
exchange was asked for exactly this and answered whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brokerwatch.envelopes import NotProof, kraken_result, listing, mapping, number, okx_rows, short, text
from brokerwatch.refusals import NotTaken, refusal


def kraken_placed(answer: object) -> str:
    """The id of the order that AddOrder placed. Raises NotTaken, NotProof."""
    placed = listing(_kraken_result(answer).get("txid"), "txid")
    if len(placed) != 1:
        raise NotProof(f"the answer to one order names {len(placed)}")
    return text(placed[0], "txid")


def kraken_validated(answer: object) -> None:
    """AddOrder would take the order. Raises NotTaken, NotProof: also when it placed one after all."""
    result = _kraken_result(answer)
    if result.get("txid"):
        raise NotProof(f"a dry run was answered with an order: {short(result['txid'])}")
    text(mapping(result.get("descr"), "descr").get("order"), "descr.order")


def kraken_found(open_answer: object, closed_answer: object, client_order_id: str) -> str | None:
    """The id of an order among those that OpenOrders and ClosedOrders gave for our id; None: there is none.

    Raises NotProof; also when other orders came: then they were not chosen by the id, and more of them may
    stand on further pages.
    """
    others = 0
    for answer, name in ((open_answer, "open"), (closed_answer, "closed")):
        for order_id, row in mapping(_kraken_result(answer).get(name), name).items():
            if _same(mapping(row, f"the order {order_id}").get("cl_ord_id"), client_order_id):
                return text(order_id, "the id of an order")
            others += 1
    if others:
        raise NotProof(f"{others} orders that were not asked for, and not {client_order_id}")
    return None


def _kraken_result(answer: object) -> Mapping[str, Any]:
    _admit("kraken", answer)
    return kraken_result(answer)


def _same(told: object, ours: str) -> bool:
    """Whether an id that Kraken tells is ours, which it may write with hyphens or without."""
    return isinstance(told, str) and _bare(told) == _bare(ours)


def _bare(client_order_id: str) -> str:
    bare = client_order_id.replace("-", "")
    is_uuid = len(bare) == 32 and all(letter in "0123456789abcdefABCDEF" for letter in bare)
    return bare.lower() if is_uuid else client_order_id


def coinbase_placed(answer: object) -> str:
    """The id of the order that was created. Raises NotTaken, NotProof."""
    envelope = _coinbase_envelope(answer)
    if envelope.get("success") is not True:
        raise NotProof(f"success is {short(envelope.get('success'))}")
    return text(mapping(envelope.get("success_response"), "success_response").get("order_id"), "order_id")


def coinbase_previewed(answer: object) -> None:
    """Coinbase would take the order. Raises NotTaken, NotProof."""
    envelope = _coinbase_envelope(answer)
    errors = listing(envelope.get("errs"), "errs")
    if errors:
        raise NotTaken(", ".join(map(str, errors)))
    for key in ("base_size", "quote_size"):
        number(envelope.get(key), key)


def coinbase_found(page: object, client_order_id: str) -> str | None:
    """The id of an order, on one page of "List Orders"; None if it is not on this page.

    Coinbase does not choose by our id: see `coinbase_cursor` for whether there are more. Raises NotProof.
    """
    for entry in listing(_coinbase_envelope(page).get("orders"), "orders"):
        row = mapping(entry, "an order")
        if row.get("client_order_id") == client_order_id:
            return text(row.get("order_id"), "order_id")
    return None


def coinbase_cursor(page: object) -> str | None:
    """The cursor of the next page of "List Orders"; None when this is the last. Raises NotProof."""
    envelope = _coinbase_envelope(page)
    more = envelope.get("has_next")
    if not isinstance(more, bool):
        raise NotProof("has_next is missing, so nobody knows whether this is the last page")
    return text(envelope.get("cursor"), "cursor of the next page") if more else None


def _coinbase_envelope(answer: object) -> Mapping[str, Any]:
    _admit("coinbase", answer)
    return mapping(answer, "the answer")


def okx_placed(answer: object) -> str:
    """The id of the order that was placed. Raises NotTaken, NotProof."""
    row = _okx_row(answer)
    if str(row.get("sCode")) != "0":
        raise NotProof(f"sCode is {short(row.get('sCode'))}")
    return text(row.get("ordId"), "ordId")


def okx_found(answer: object, client_order_id: str) -> str:
    """The id of the order that was asked for by our id. Raises NotProof.

    That there is none OKX says by an error; see `brokerwatch.refusals.no_such_order`.
    """
    row = _okx_row(answer)
    if row.get("clOrdId") != client_order_id:
        raise NotProof(f"another order than {client_order_id}")
    return text(row.get("ordId"), "ordId")


def _okx_row(answer: object) -> Mapping[str, Any]:
    """The one row of an answer about one order."""
    _admit("okx", answer)
    rows = okx_rows(answer)
    if len(rows) != 1:
        raise NotProof(f"the answer to one order has {len(rows)} rows")
    return rows[0]


def _admit(family: str, answer: object) -> None:
    """Raise NotTaken if the exchange says no for certain."""
    words = refusal(family, answer)
    if words:
        raise NotTaken(words)
