"""Kraken's orders: a form in, and `error` beside `result` out, with status 200 whatever happened.

A client's own id (cl_ord_id) is taken only while an order with it is open. A market order is done at
once, so to send the same id twice buys twice: who is not sure must look before sending again.
https://docs.kraken.com/api/docs/guides/spot-clordid

Limit orders are good till cancelled, for a time, or for what fills at once (IOC, FOK). A post-only one that
would fill at once is refused. https://docs.kraken.com/api/docs/rest-api/add-order
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, cast
from urllib.parse import parse_qsl

from brokerwatch.simulator.account import Account
from brokerwatch.simulator.exchange import Call, Json, PrivateHandler, SimulatedExchange
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.kraken_pairs import (
    COST_DECIMALS,
    MAKER_FEE,
    PAIR_IDS,
    TAKER_FEE,
    find_pair,
    pair_alt_name,
)
from brokerwatch.simulator.kraken_rows import order_row, sentence, trade_id, trade_rows
from brokerwatch.simulator.order_book import Fees
from brokerwatch.simulator.placed_order import FOK, GTC, GTD, IOC, PlacedOrder
from brokerwatch.simulator.routes import Route
from brokerwatch.simulator.trading import (
    Flaw,
    Unplaceable,
    Wish,
    id_field,
    json_body,
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
_TIMES = (GTC, GTD, IOC, FOK)


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
    Flaw.WOULD_TAKE: error("EOrder:Post only order"),
}


class KrakenOrders(SimulatedExchange):
    """The part of the simulated Kraken that takes and shows orders and positions."""

    # In the quote currency and on top, unless a client prefers otherwise (fcib), which is not looked at.
    fees = Fees(Decimal(MAKER_FEE) / 100, Decimal(TAKER_FEE) / 100, step=Decimal(1).scaleb(-COST_DECIMALS))

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
            ("POST", PRIVATE + "AmendOrder"): self._amend_order,
            ("POST", PRIVATE + "CancelOrder"): self._cancel_order,
            ("POST", PRIVATE + "CancelOrderBatch"): self._cancel_batch,
            ("POST", PRIVATE + "CancelAll"): self._cancel_all,
            ("POST", PRIVATE + "OpenOrders"): self._open_orders,
            ("POST", PRIVATE + "ClosedOrders"): self._closed_orders,
            ("POST", PRIVATE + "QueryOrders"): self._query_orders,
            ("POST", PRIVATE + "TradesHistory"): self._trades_history,
            ("POST", PRIVATE + "QueryTrades"): self._query_trades,
            ("POST", PRIVATE + "TradeVolume"): self._trade_volume,
            ("POST", PRIVATE + "OpenPositions"): self._open_positions,
        }

    @property
    def mode(self) -> str:
        """`cancel_only`, in which no order is taken, or `post_only`, in which only those are; else empty."""
        return ""

    def new_order_id(self) -> str:
        """An id as Kraken makes them: OUF4EM-FRGI2-MQMWZD."""
        letters = "".join(secrets.choice(_ID_LETTERS) for _ in range(16))
        return f"O{letters[:5]}-{letters[5:10]}-{letters[10:]}"

    def _add_order(self, call: Call, account: Account, fault: str) -> Json:
        form = _form(call)
        wish = _wish(form, self.now_s())
        if self.mode and not (self.mode == "post_only" and wish.post_only):
            raise Refused(error(f"EService:Market in {self.mode} mode"))
        self._check_deadline(form, late=call.late)
        if form.get("cl_ord_id") and with_client_id(account, wish.client_id, "open"):
            raise Refused(error("EGeneral:Invalid arguments:cl_ord_id not unique"))
        only_checked = _is_true(form, "validate")
        try:
            order = self.place_dry(account, wish) if only_checked else self.place(account, wish)
        except Unplaceable as refused:
            raise Refused(_refusal(refused)) from refused
        answer: dict[str, object] = {"descr": {"order": sentence(order)}}
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
        client_id = form.get("cl_ord_id", "")
        # In place of the exchange's id Kraken takes the client's number, which several orders may have.
        found = [
            order
            for order in account.orders.values()
            if order.state == "open" and wanted and wanted in (order.id, order.reference)
        ]
        if client_id and (named := with_client_id(account, client_id, "open")):
            found = [named]
        if not found:
            raise Refused(error("EOrder:Unknown order"))
        return self._canceled(account, found)

    def _amend_order(self, call: Call, account: Account, fault: str) -> Json:
        """https://docs.kraken.com/api/docs/rest-api/amend-order"""
        form = _form(call)
        order = account.orders.get(form.get("txid", ""))
        if form.get("cl_ord_id"):
            order = with_client_id(account, form["cl_ord_id"], "open")
        if order is None or order.state != "open" or order.kind != "limit":
            raise Refused(error("EOrder:Unknown order"))
        size, limit = positive_amount(form.get("order_qty")), positive_amount(form.get("limit_price"))
        for name, amount in (("order_qty", size), ("limit_price", limit)):
            if name in form and amount is None:
                raise Refused(error(f"EGeneral:Invalid arguments:{name}"))
        if _is_true(form, "post_only"):
            order = replace(order, post_only=True)
        try:
            changed = self.amend(account, order, size, limit)
        except Unplaceable as refused:
            raise Refused(_refusal(refused)) from refused
        return self.with_warning(result({"amend_id": trade_id(changed, len(account.orders))}), fault)

    def _cancel_batch(self, call: Call, account: Account, _fault: str) -> Json:
        fields = cast("dict[str, object]", json_body(call.body) or {})
        named = [fields.get("orders"), fields.get("cl_ord_ids")]
        asked = [str(each) for some in named if isinstance(some, list) for each in cast("list[object]", some)]
        if not 1 <= len(asked) <= PAGE:
            raise Refused(error("EGeneral:Invalid arguments:orders"))
        return self._canceled(
            account,
            [
                order
                for order in account.orders.values()
                if order.state == "open" and {order.id, order.reference, order.client_id} & {*asked} - {""}
            ],
        )

    def _cancel_all(self, _call: Call, account: Account, _fault: str) -> Json:
        return self._canceled(account, [order for order in account.orders.values() if order.state == "open"])

    def _canceled(self, account: Account, orders: Sequence[PlacedOrder]) -> Json:
        for order in orders:
            self.cancel(account, order)
        return result({"count": len(orders)})

    def _open_orders(self, call: Call, account: Account, fault: str) -> Json:
        form = _form(call)
        rows = [
            order_row(order, with_trades=_is_true(form, "trades"))
            for order in _chosen(account, form)
            if order.state == "open"
        ]
        return self.with_warning(result({"open": dict(rows)}), fault)

    def _closed_orders(self, call: Call, account: Account, fault: str) -> Json:
        form = _form(call)
        since_s, skipped = form.get("start", "0"), form.get("ofs", "0")
        if not since_s.isdigit() or not skipped.isdigit():
            raise Refused(error("EGeneral:Invalid arguments"))
        done = [
            order_row(order, with_trades=_is_true(form, "trades"))
            for order in _chosen(account, form)
            if order.state != "open" and order.placed_s >= int(since_s)
        ]
        page = done[::-1][int(skipped) : int(skipped) + PAGE]
        return self.with_warning(result({"closed": dict(page), "count": len(done)}), fault)

    def _query_orders(self, call: Call, account: Account, fault: str) -> Json:
        form = _form(call)
        asked = form.get("txid", "")
        if not asked:
            raise Refused(error("EGeneral:Invalid arguments:txid"))
        known = [account.orders[each] for each in asked.split(",") if each in account.orders]
        rows = [order_row(order, with_trades=_is_true(form, "trades")) for order in known]
        return self.with_warning(result(dict(rows)), fault)

    def _trades_history(self, call: Call, account: Account, fault: str) -> Json:
        form = _form(call)
        start, end, skipped = form.get("start", "0"), form.get("end", "inf"), form.get("ofs", "0")
        rows = trade_rows(account.orders.values())
        moments = {trade: float(str(row["time"])) for trade, row in rows}
        try:
            # Each end of the span is a moment or the id of a trade; the start does not belong to it.
            after_s, until_s = (
                moments.get(text, -1.0) if text in moments else float(text) for text in (start, end)
            )
            offset = int(skipped)
        except ValueError:
            raise Refused(error("EGeneral:Invalid arguments")) from None
        found = [(trade, row) for trade, row in rows if after_s < moments[trade] <= until_s]
        page = found[offset : offset + PAGE]
        return self.with_warning(result({"trades": dict(page), "count": len(found)}), fault)

    def _query_trades(self, call: Call, account: Account, fault: str) -> Json:
        asked = _form(call).get("txid", "").split(",")
        rows = [(trade, row) for trade, row in trade_rows(account.orders.values()) if trade in asked]
        return self.with_warning(result(dict(rows)), fault)

    def _trade_volume(self, call: Call, _account: Account, fault: str) -> Json:
        """https://docs.kraken.com/api/docs/rest-api/get-trade-volume"""
        pairs = [find_pair(name) for name in _form(call).get("pair", "").split(",") if name]
        if None in pairs:
            raise Refused(error("EQuery:Unknown asset pair"))
        names = [PAIR_IDS[market.symbol] for market in pairs if market is not None]

        def fees(part: str) -> dict[str, object]:
            none = {"nextfee": None, "nextvolume": None, "tiervolume": "0.0000"}
            return {name: {"fee": part, "minfee": part, "maxfee": part, **none} for name in names}

        answer = {
            "currency": "ZUSD",
            "volume": "0.0000",
            "fees": fees(TAKER_FEE),
            "fees_maker": fees(MAKER_FEE),
        }
        return self.with_warning(result(answer), fault)

    def _open_positions(self, call: Call, account: Account, fault: str) -> Json:
        if _form(call).get("consolidation") == "market":
            return self.with_warning(result(account.positions), fault)
        named = {f"TSIMUL-{number:05}-AAAAAA": row for number, row in enumerate(account.positions)}
        return self.with_warning(result(named), fault)


def _form(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True))


def _is_true(form: Mapping[str, str], name: str) -> bool:
    return form.get(name, "false").lower() not in ("", "0", "false")


def _refusal(refused: Unplaceable) -> Answer:
    if refused.flaw is Flaw.PRICE_PRECISION:
        market = refused.wish.market
        places = f"price can only be specified up to {market.price_decimals} decimals."
        return error(f"EOrder:Invalid price:{pair_alt_name(market)} {places}")
    return _REFUSALS[refused.flaw]


def _wish(form: Mapping[str, str], now_s: float) -> Wish:
    """The order in a form; Refused, with the name of the argument, for what cannot be one."""
    market = find_pair(form.get("pair", ""))
    if market is None:
        raise Refused(error("EQuery:Unknown asset pair"))
    side, client_id = form.get("type", ""), form.get("cl_ord_id", "")
    if side not in ("buy", "sell"):
        raise Refused(error("EGeneral:Invalid arguments:type"))
    kind, flags = form.get("ordertype", ""), form.get("oflags", "").split(",")
    # The simulated exchange has no orders with a trigger.
    if kind not in ("market", "limit"):
        raise Refused(error("EGeneral:Invalid arguments:ordertype"))
    in_quote, post_only = "viqc" in flags, "post" in flags
    if in_quote and (side == "sell" or kind == "limit"):
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
    limit = positive_amount(form.get("price")) if kind == "limit" else None
    if kind == "limit" and limit is None:
        raise Refused(error("EGeneral:Invalid arguments:price"))
    # ccxt writes PO here for a post-only order, beside the flag.
    time_in_force = {"PO": GTC}.get(form.get("timeinforce", ""), form.get("timeinforce") or GTC)
    if time_in_force not in _TIMES:
        raise Refused(error("EGeneral:Invalid arguments:timeinforce"))
    if post_only and (kind == "market" or time_in_force in (IOC, FOK)):
        raise Refused(error("EGeneral:Invalid arguments:oflags"))
    return Wish(
        market,
        side,
        size,
        in_quote,
        client_id,
        form.get("userref", ""),
        limit,
        time_in_force,
        post_only,
        _expiry_s(form, now_s) if time_in_force == GTD else None,
    )


def _expiry_s(form: Mapping[str, str], now_s: float) -> float:
    """The moment in `expiretm`, which may be counted from now: +60."""
    text = form.get("expiretm", "")
    try:
        moment_s = now_s + float(text[1:]) if text.startswith("+") else float(text)
    except ValueError:
        moment_s = 0.0
    if not now_s < moment_s < float("inf"):
        raise Refused(error("EGeneral:Invalid arguments:expiretm"))
    return moment_s


def _chosen(account: Account, form: Mapping[str, str]) -> Iterable[PlacedOrder]:
    """The account's orders, oldest first, of which the form asks for some by the client's own ids."""
    for order in account.orders.values():
        same_id = form.get("cl_ord_id") in (None, order.client_id)
        if same_id and form.get("userref") in (None, order.reference):
            yield order
