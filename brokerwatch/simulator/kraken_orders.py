"""Kraken's orders: a form in, and `error` beside `result` out, with status 200 whatever happened.

A client's own id (cl_ord_id) is taken only while an order with it is open. A market order is done at
once, so to send the same id twice buys twice: who is not sure must look before sending again.
https://docs.kraken.com/api/docs/guides/spot-clordid
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import ClassVar
from urllib.parse import parse_qsl

from brokerwatch.simulator.account import Account, PlacedOrder
from brokerwatch.simulator.exchange import Call, Json, PrivateHandler, SimulatedExchange
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.kraken_pairs import find_pair, pair_alt_name
from brokerwatch.simulator.markets import market_of
from brokerwatch.simulator.routes import Route
from brokerwatch.simulator.trading import (
    Flaw,
    Unplaceable,
    Wish,
    cancel,
    id_field,
    positive_amount,
    with_client_id,
)

PRIVATE = "/0/private/"
PAGE = 50
SHORTEST_DEADLINE_S = 2.0
LONGEST_DEADLINE_S = 60.0

# A UUID, the same without hyphens, or free text. https://docs.kraken.com/api/docs/guides/spot-clordid
_CLIENT_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}|[ -~]{1,18}")
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_STATUSES = {"open": "open", "filled": "closed", "canceled": "canceled"}


def error(text: str, status: int = 200) -> Answer:
    """Kraken's answer to what it refuses."""
    return json_answer({"error": [text]}, status)


def result(value: object) -> Json:
    """Kraken's answer to what it does."""
    return {"error": [], "result": value}


# https://docs.kraken.com/api/docs/guides/spot-errors
_REFUSALS: Mapping[Flaw, Answer] = {
    Flaw.PRECISION: error("EGeneral:Invalid arguments:volume"),
    Flaw.BASE_MINIMUM: error("EOrder:Order minimum not met"),
    Flaw.QUOTE_MINIMUM: error("EOrder:Cost minimum not met"),
    Flaw.FUNDS: error("EOrder:Insufficient funds"),
    Flaw.CLOSED: error("EService:Market in cancel_only mode"),
}


class KrakenOrders(SimulatedExchange):
    """The part of the simulated Kraken that takes and shows orders and positions."""

    example_position: ClassVar[Json] = {
        "pair": "XETHZUSD",
        "positions": "1",
        "type": "buy",
        "leverage": "2.00000",
        "cost": "60.00000",
        "fee": "0.00000",
        "vol": "0.02000000",
        "vol_closed": "0.00000000",
        "margin": "30.00000",
    }

    def order_routes(self) -> Mapping[Route, PrivateHandler]:
        """What the exchange adds to its private routes."""
        return {
            ("POST", PRIVATE + "AddOrder"): self._add_order,
            ("POST", PRIVATE + "CancelOrder"): self._cancel_order,
            ("POST", PRIVATE + "OpenOrders"): self._open_orders,
            ("POST", PRIVATE + "ClosedOrders"): self._closed_orders,
            ("POST", PRIVATE + "QueryOrders"): self._query_orders,
            ("POST", PRIVATE + "OpenPositions"): self._open_positions,
        }

    @property
    def mode(self) -> str:
        """`cancel_only` or `post_only`, in which no market order is taken; else empty."""
        return ""

    def new_order_id(self) -> str:
        """An id as Kraken makes them: OUF4EM-FRGI2-MQMWZD."""
        letters = "".join(secrets.choice(_ID_LETTERS) for _ in range(16))
        return f"O{letters[:5]}-{letters[5:10]}-{letters[10:]}"

    def _add_order(self, call: Call, account: Account, fault: str) -> Json:
        form = _form(call)
        if self.mode:
            raise Refused(error(f"EService:Market in {self.mode} mode"))
        wish = _wish(form)
        self._check_deadline(form, late=call.late)
        if form.get("cl_ord_id") and with_client_id(account, wish.client_id, "open"):
            raise Refused(error("EGeneral:Invalid arguments:cl_ord_id not unique"))
        only_checked = form.get("validate", "false").lower() not in ("", "0", "false")
        try:
            order = self.place_dry(account, wish) if only_checked else self.place(account, wish)
        except Unplaceable as refused:
            raise Refused(_REFUSALS[refused.flaw]) from refused
        answer: dict[str, object] = {"descr": {"order": _sentence(order)}}
        if not only_checked:
            answer |= {name: [text] for name, text in id_field("txid", order.id, fault).items()}
        return self.with_warning(result(answer), fault)

    def _check_deadline(self, form: Mapping[str, str], *, late: bool) -> None:
        """Refused if the order came too late; https://docs.kraken.com/api/docs/rest-api/add-order."""
        if "deadline" not in form:
            return
        try:
            left_s = datetime.fromisoformat(form["deadline"]).timestamp() - self.now_s()
        except ValueError:
            raise Refused(error("EGeneral:Invalid arguments:deadline")) from None
        if left_s < 0:
            raise Refused(error("EService:Deadline elapsed"))
        if not late and not SHORTEST_DEADLINE_S <= left_s <= LONGEST_DEADLINE_S:
            raise Refused(error("EGeneral:Invalid arguments:deadline"))

    def _cancel_order(self, call: Call, account: Account, _fault: str) -> Json:
        form = _form(call)
        wanted = form.get("txid", "")
        order = account.orders.get(wanted) or with_client_id(account, form.get("cl_ord_id", "-"), "open")
        if order is None or order.state != "open":
            raise Refused(error("EOrder:Unknown order"))
        cancel(account, order)
        return result({"count": 1})

    def _open_orders(self, call: Call, account: Account, fault: str) -> Json:
        rows = [_row(order) for order in _chosen(account, _form(call)) if order.state == "open"]
        return self.with_warning(result({"open": dict(rows)}), fault)

    def _closed_orders(self, call: Call, account: Account, fault: str) -> Json:
        form = _form(call)
        since_s, skipped = form.get("start", "0"), form.get("ofs", "0")
        if not since_s.isdigit() or not skipped.isdigit():
            raise Refused(error("EGeneral:Invalid arguments"))
        done = [
            _row(order)
            for order in _chosen(account, form)
            if order.state != "open" and order.placed_s >= int(since_s)
        ]
        page = done[::-1][int(skipped) : int(skipped) + PAGE]
        return self.with_warning(result({"closed": dict(page), "count": len(done)}), fault)

    def _query_orders(self, call: Call, account: Account, fault: str) -> Json:
        asked = _form(call).get("txid", "")
        if not asked:
            raise Refused(error("EGeneral:Invalid arguments:txid"))
        known = [account.orders[each] for each in asked.split(",") if each in account.orders]
        return self.with_warning(result(dict(map(_row, known))), fault)

    def _open_positions(self, call: Call, account: Account, fault: str) -> Json:
        if _form(call).get("consolidation") == "market":
            return self.with_warning(result(account.positions), fault)
        named = {f"TSIMUL-{number:05}-AAAAAA": row for number, row in enumerate(account.positions)}
        return self.with_warning(result(named), fault)


def _form(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True))


def _wish(form: Mapping[str, str]) -> Wish:
    """The order in a form; Refused, with the name of the argument, for what cannot be one."""
    market = find_pair(form.get("pair", ""))
    if market is None:
        raise Refused(error("EQuery:Unknown asset pair"))
    side, client_id = form.get("type", ""), form.get("cl_ord_id", "")
    if side not in ("buy", "sell"):
        raise Refused(error("EGeneral:Invalid arguments:type"))
    # The simulated exchange has no book in which another order could rest.
    if form.get("ordertype") != "market":
        raise Refused(error("EGeneral:Invalid arguments:ordertype"))
    in_quote = "viqc" in form.get("oflags", "").split(",")
    if in_quote and side == "sell":
        # In these words: https://github.com/ccxt/ccxt/issues/22521
        raise Refused(error("EGeneral:Invalid arguments:viqc"))
    size = positive_amount(form.get("volume"))
    if size is None:
        raise Refused(error("EGeneral:Invalid arguments:volume"))
    if not re.fullmatch(r"-?[0-9]{1,10}", form.get("userref", "0")):
        raise Refused(error("EGeneral:Invalid arguments:userref"))
    # The two kinds of a client's own id exclude each other.
    if client_id and ("userref" in form or not _CLIENT_ID.fullmatch(client_id)):
        raise Refused(error("EGeneral:Invalid arguments:cl_ord_id"))
    return Wish(market, side, size, in_quote, client_id, form.get("userref", ""))


def _chosen(account: Account, form: Mapping[str, str]) -> Iterable[PlacedOrder]:
    """The account's orders, oldest first, of which the form asks for some by the client's own ids."""
    for order in account.orders.values():
        same_id = form.get("cl_ord_id") in (None, order.client_id)
        if same_id and form.get("userref") in (None, order.reference):
            yield order


def _sentence(order: PlacedOrder) -> str:
    """How Kraken describes an order; one by cost reads the same as one by amount."""
    market = market_of(order.symbol)
    terms = "market" if order.kind == "market" else f"limit {market.price_text(order.price)}"
    return f"{order.side} {order.size:.8f} {pair_alt_name(market)} @ {terms}"


def _row(order: PlacedOrder) -> tuple[str, Json]:
    market = market_of(order.symbol)
    done = order.state == "filled"
    row: dict[str, object] = {
        "refid": None,
        "userref": int(order.reference) if order.reference else None,
        "status": _STATUSES[order.state],
        "opentm": order.placed_s,
        "starttm": 0,
        "expiretm": 0,
        "descr": {
            "pair": pair_alt_name(market),
            "type": order.side,
            "ordertype": order.kind,
            "price": "0" if order.kind == "market" else market.price_text(order.price),
            "price2": "0",
            "leverage": "none",
            "order": _sentence(order),
            "close": "",
        },
        "vol": f"{order.base_amount:.8f}",
        "vol_exec": f"{order.base_amount if done else 0:.8f}",
        "cost": f"{order.quote_amount if done else 0:.5f}",
        "fee": "0.00000",
        "price": f"{order.price if done else 0:.5f}",
        "stopprice": "0.00000",
        "limitprice": "0.00000",
        "misc": "",
        "oflags": "fciq,viqc" if order.in_quote else "fciq",
    }
    if order.client_id:
        row["cl_ord_id"] = order.client_id
    if order.state != "open":
        reason = "User requested" if order.state == "canceled" else None
        row |= {"closetm": order.placed_s, "reason": reason}
    return order.id, row
