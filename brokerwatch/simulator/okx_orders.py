"""OKX's orders: a code for the whole answer and one for each order in it, both with status 200.

There is no dry run: a field such as `test` or `validate` is not looked at, and the order is placed. A
client's own id (clOrdId) is taken only while an order with it is pending; a market order is done at once,
so to send the same id twice buys twice: who is not sure must look before sending again.
https://www.okx.com/docs-v5/en/#order-book-trading-trade-post-place-order
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar, cast

from brokerwatch.simulator.account import Account
from brokerwatch.simulator.exchange import Call, Json, PrivateHandler, SimulatedExchange
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.markets import MARKETS, Market
from brokerwatch.simulator.okx_rows import fill_rows, instrument, order_row, state_of
from brokerwatch.simulator.order_book import Fees
from brokerwatch.simulator.placed_order import FOK, GTC, IOC, PlacedOrder
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

TRADE = "/api/v5/trade/"
MOST_IN_BATCH = 20
MOST_ROWS = 100

BY_ID: Mapping[str, Market] = {f"{market.base}-{market.quote}": market for market in MARKETS}

_CLIENT_ID = re.compile(r"[0-9A-Za-z]{1,32}")
_KINDS: Mapping[str, str] = {"limit": GTC, "post_only": GTC, "ioc": IOC, "fok": FOK}
"""Kind of limit order to how long it is good."""
MAKER_FEE, TAKER_FEE = "0.0008", "0.001"
UNKNOWN_INSTRUMENT = ("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")


class _Declined(Exception):
    """One order is not taken; the rest of its batch may be."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


_AMEND_FLAWS: Mapping[Flaw, _Declined] = {
    Flaw.FUNDS: _Declined("51502", "Order modification failed for insufficient margin or balance"),
    Flaw.WOULD_TAKE: _Declined(
        "51511", "Modification failed as the order price did not meet the requirement for Post Only."
    ),
}


def error(code: str, message: str, status: int = 200) -> Answer:
    """OKX's answer to what it refuses as a whole."""
    return json_answer({"code": code, "data": [], "msg": message}, status)


def parameter_error(name: str) -> Answer:
    """OKX's answer to a parameter that cannot be."""
    return error("51000", f"Parameter {name} error", 400)


def data(*items: object) -> Json:
    """OKX's answer to what it does."""
    return {"code": "0", "data": list(items), "msg": ""}


class OkxOrders(SimulatedExchange):
    """The part of the simulated OKX that takes and shows orders."""

    # Of regular users, and from what the account gets: https://www.okx.com/fees
    fees = Fees(Decimal(MAKER_FEE), Decimal(TAKER_FEE), of_received=True)
    # A post-only order that would fill at once is taken, and then cancelled, with cancelSource 31.
    refuses_takers = False

    needs: ClassVar[Mapping[Route, str]] = {
        ("POST", TRADE + "order"): "trade",
        ("POST", TRADE + "batch-orders"): "trade",
        ("POST", TRADE + "amend-order"): "trade",
        ("POST", TRADE + "cancel-order"): "trade",
        ("POST", TRADE + "cancel-batch-orders"): "trade",
    }

    def order_routes(self) -> Mapping[Route, PrivateHandler]:
        """What the exchange adds to its private routes."""
        return {
            ("POST", TRADE + "order"): self._place_one,
            ("POST", TRADE + "batch-orders"): self._place_batch,
            ("POST", TRADE + "amend-order"): self._amend_order,
            ("POST", TRADE + "cancel-order"): self._cancel_order,
            ("POST", TRADE + "cancel-batch-orders"): self._cancel_batch,
            ("GET", TRADE + "order"): self._get_order,
            ("GET", TRADE + "orders-pending"): self._pending,
            ("GET", TRADE + "orders-history"): self._history,
            ("GET", TRADE + "orders-history-archive"): self._history,
            ("GET", "/api/v5/account/trade-fee"): self._trade_fee,
            ("GET", TRADE + "fills"): self._fills,
            ("GET", TRADE + "fills-history"): self._fills,
        }

    def new_order_id(self) -> str:
        """An id as OKX makes them: 19 digits."""
        return str(10**18 + secrets.randbelow(9 * 10**18))

    def now_ms(self) -> str:
        """Milliseconds since 1970 by the exchange's own clock, as OKX writes them."""
        return str(int(self.now_s() * 1000))

    def _place_one(self, call: Call, account: Account, fault: str) -> Json:
        asked = json_body(call.body)
        if not isinstance(asked, dict):
            raise Refused(error("50002", "JSON syntax error", 400))
        self._check_deadline(call)
        return self._all_placed([cast("dict[str, object]", asked)], account, fault)

    def _place_batch(self, call: Call, account: Account, fault: str) -> Json:
        orders = _batch(call, "placed")
        self._check_deadline(call)
        return self._all_placed(orders, account, fault)

    def _check_deadline(self, call: Call) -> None:
        """Refused if the request came too late; https://www.okx.com/docs-v5/en/#overview-transaction-timeouts."""
        deadline_ms = call.headers.get("expTime", "")
        if not deadline_ms:
            return
        if not deadline_ms.isdigit():
            raise Refused(parameter_error("expTime"))
        if int(deadline_ms) < int(self.now_ms()):
            if call.late:
                raise Refused(error("50037", "Order expired."))
            raise Refused(error("50036", "The expTime can't be earlier than the current system time."))

    def _all_placed(self, orders: list[dict[str, object]], account: Account, fault: str) -> Json:
        rows = [self._placed_row(asked, account, fault) for asked in orders]
        return self.with_warning(_together(rows), fault)

    def _placed_row(self, asked: Mapping[str, object], account: Account, fault: str) -> Json:
        client_id = str(asked.get("clOrdId", ""))
        row = {"clOrdId": client_id, "tag": str(asked.get("tag", "")), "ts": self.now_ms()}
        try:
            wish = _wish(asked, client_id)
            if client_id and with_client_id(account, client_id, "open"):
                raise _Declined("51016", "Client order ID already exists.")
            order = self.place(account, wish)
        except Unplaceable as unplaceable:
            declined = _declined(unplaceable)
        except _Declined as refused:
            declined = refused
        else:
            return {**row, **id_field("ordId", order.id, fault), "sCode": "0", "sMsg": "Order placed"}
        return {**row, "ordId": "", "sCode": declined.code, "sMsg": declined.message}

    def _cancel_order(self, call: Call, account: Account, _fault: str) -> Json:
        asked = json_body(call.body)
        named = cast("dict[str, object]", asked) if isinstance(asked, dict) else {}
        return _together([self._canceled_row(named, account)])

    def _amend_order(self, call: Call, account: Account, fault: str) -> Json:
        asked = json_body(call.body)
        named = cast("dict[str, object]", asked) if isinstance(asked, dict) else {}
        return self.with_warning(_together([self._amended_row(named, account)]), fault)

    def _amended_row(self, named: Mapping[str, object], account: Account) -> Json:
        """https://www.okx.com/docs-v5/en/#order-book-trading-trade-post-amend-order"""
        order_id, client_id = str(named.get("ordId", "")), str(named.get("clOrdId", ""))
        order = _named_order(account, order_id, client_id, "open")
        row = {"clOrdId": client_id, "ordId": order_id, "reqId": "", "ts": self.now_ms()}
        size, limit = positive_amount(named.get("newSz")), positive_amount(named.get("newPx"))
        try:
            if order is None or order.kind != "limit":
                raise _Declined("51503", "Order modification failed as the order does not exist.")
            if order.state == "canceled":
                raise _Declined("51509", "Modification failed as the order has been canceled.")
            if order.state == "filled":
                raise _Declined("51510", "Modification failed as the order has been completed.")
            if size is None and limit is None:
                raise _Declined("51500", "You must enter a price, quantity, or TP/SL")
            changed = self.amend(account, order, size, limit)
        except Unplaceable as unplaceable:
            declined = _AMEND_FLAWS.get(unplaceable.flaw) or _declined(unplaceable)
        except _Declined as refused:
            declined = refused
        else:
            return {**row, "ordId": changed.id, "clOrdId": changed.client_id, "sCode": "0", "sMsg": ""}
        return {**row, "sCode": declined.code, "sMsg": declined.message}

    def _trade_fee(self, _call: Call, _account: Account, fault: str) -> Json:
        # OKX writes a fee as what is added to the account.
        row = {"instType": "SPOT", "level": "Lv1", "maker": f"-{MAKER_FEE}", "taker": f"-{TAKER_FEE}"}
        return self.with_warning(data({**row, "ts": self.now_ms()}), fault)

    def _cancel_batch(self, call: Call, account: Account, _fault: str) -> Json:
        orders = _batch(call, "canceled")
        return _together([self._canceled_row(named, account) for named in orders])

    def _canceled_row(self, named: Mapping[str, object], account: Account) -> Json:
        order = _named_order(account, str(named.get("ordId", "")), str(named.get("clOrdId", "")), "open")
        row = {"clOrdId": str(named.get("clOrdId", "")), "ordId": "", "ts": self.now_ms()}
        if order is None or order.state != "open":
            message = "Cancellation failed as the order has been filled, canceled or does not exist."
            return {**row, "ordId": str(named.get("ordId", "")), "sCode": "51400", "sMsg": message}
        self.cancel(account, order)
        return {**row, "ordId": order.id, "sCode": "0", "sMsg": ""}

    def _get_order(self, call: Call, account: Account, fault: str) -> Json:
        order_id, client_id = call.query.get("ordId", ""), call.query.get("clOrdId", "")
        if not order_id and not client_id:
            raise Refused(error("51003", "Either client order ID or order ID is required."))
        if call.query.get("instId") not in BY_ID:
            raise Refused(error(*UNKNOWN_INSTRUMENT))
        order = _named_order(account, order_id, client_id)
        if order is None or instrument(order) != call.query["instId"]:
            raise Refused(error("51603", "Order does not exist"))
        return self.with_warning(data(order_row(order)), fault)

    def _pending(self, call: Call, account: Account, fault: str) -> Json:
        return self.with_warning(data(*_listed(call, account, is_open=True)), fault)

    def _fills(self, call: Call, account: Account, fault: str) -> Json:
        rows = [row for order in reversed(account.orders.values()) for row in fill_rows(order)]
        rows.sort(key=lambda row: int(str(row["ts"])), reverse=True)
        return self.with_warning(data(*_page(call, rows, id_name="billId", time_name="ts")), fault)

    def _history(self, call: Call, account: Account, fault: str) -> Json:
        if not call.query.get("instType"):
            raise Refused(parameter_error("instType"))
        return self.with_warning(data(*_listed(call, account, is_open=False)), fault)


def _batch(call: Call, done: str) -> list[dict[str, object]]:
    """The objects in a list of them; Refused for anything else."""
    asked = json_body(call.body)
    items = cast("list[object]", asked) if isinstance(asked, list) else []
    orders = [cast("dict[str, object]", item) for item in items if isinstance(item, dict)]
    if not orders or len(orders) != len(items):
        raise Refused(error("50002", "JSON syntax error", 400))
    if len(orders) > MOST_IN_BATCH:
        raise Refused(error("51111", f"Maximum {MOST_IN_BATCH} orders can be {done} in bulk"))
    return orders


def _together(rows: list[Json]) -> Json:
    """The answer about several orders: its code says whether all, some or none went well."""
    failed = sum(row["sCode"] != "0" for row in rows)
    if not failed:
        return {"code": "0", "data": rows, "msg": ""}
    if failed == len(rows):
        return {"code": "1", "data": rows, "msg": "All operations failed"}
    return {"code": "2", "data": rows, "msg": "Bulk operation partially succeeded."}


def _wish(asked: Mapping[str, object], client_id: str) -> Wish:
    """The spot order in an object; _Declined, with the name of the parameter, for what is none."""
    market = BY_ID.get(str(asked.get("instId")))
    if market is None:
        raise _Declined(*UNKNOWN_INSTRUMENT)
    side, kind = str(asked.get("side")), str(asked.get("ordType"))
    # Without tgtCcy a spot market order buys for the quote currency, and sells the base currency.
    unit = str(asked.get("tgtCcy") or ("quote_ccy" if side == "buy" else "base_ccy"))
    size, limit = positive_amount(asked.get("sz")), positive_amount(asked.get("px"))
    wrong = {
        "tdMode": asked.get("tdMode") != "cash",
        "side": side not in ("buy", "sell"),
        # The simulated exchange has no orders with a trigger.
        "ordType": kind != "market" and kind not in _KINDS,
        "tgtCcy": unit not in ("quote_ccy", "base_ccy"),
        "sz": size is None,
        "px": kind in _KINDS and limit is None,
        "clOrdId": bool(client_id) and not _CLIENT_ID.fullmatch(client_id),
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise _Declined("51000", f"Parameter {name} error")
    assert size is not None  # it would have been declined above
    if kind == "market":
        return Wish(market, side, size, unit == "quote_ccy", client_id)
    # The unit is a market order's matter: a limit order is in the base currency, whatever it says.
    return Wish(market, side, size, False, client_id, "", limit, _KINDS[kind], kind == "post_only")


def _declined(unplaceable: Unplaceable) -> _Declined:
    # https://www.okx.com/docs-v5/en/#error-code-rest-api-trade-class
    match unplaceable.flaw:
        case Flaw.FUNDS:
            currency = unplaceable.wish.paid_in
            return _Declined("51008", f"Order failed. Insufficient {currency} balance in account.")
        case Flaw.PRECISION:
            return _Declined("51121", "Order quantity must be a multiple of the lot size.")
        case Flaw.BASE_MINIMUM | Flaw.QUOTE_MINIMUM:
            return _Declined("51020", "Your order should meet or exceed the minimum order amount.")
        case Flaw.CLOSED:
            return _Declined("51022", "Contract suspended.")
        case Flaw.PRICE_PRECISION | Flaw.WOULD_TAKE:
            return _Declined("51000", "Parameter px error")


def _named_order(account: Account, order_id: str, client_id: str, *states: str) -> PlacedOrder | None:
    """By OKX's id where it is given, else the latest one with the client's own."""
    if order_id:
        return account.orders.get(order_id)
    return with_client_id(account, client_id, *states) if client_id else None


def _listed(call: Call, account: Account, *, is_open: bool) -> list[Json]:
    return _page(
        call,
        [
            order_row(order)
            for order in reversed(account.orders.values())
            if (order.state == "open") is is_open
            and call.query.get("state") in (None, "", state_of(order))
            and call.query.get("ordType") in (None, "", order_row(order)["ordType"])
        ],
        id_name="ordId",
        time_name="cTime",
    )


def _page(call: Call, rows: list[Json], *, id_name: str, time_name: str) -> list[Json]:
    """Those of the rows, newest first, that a question with OKX's usual parameters asks for."""
    query = call.query
    texts = {name: query.get(name) or "" for name in ("begin", "end", "limit")}
    for name, text in texts.items():
        if text and not text.isdigit():
            raise Refused(parameter_error(name))
    found = [
        row
        for row in rows
        if query.get("instType") in (None, "", "SPOT")
        and query.get("instId") in (None, "", row["instId"])
        and query.get("ordId") in (None, "", row["ordId"])
        and int(texts["begin"] or 0) <= int(str(row[time_name])) <= int(texts["end"] or 10**18)
    ]
    ids = [row[id_name] for row in found]
    # `after` is the last one of the page before, and `before` the newest one that is known.
    if (after := query.get("after")) in ids:
        found = found[ids.index(after) + 1 :]
    elif (before := query.get("before")) in ids:
        found = found[: ids.index(before)]
    return found[: min(int(texts["limit"] or MOST_ROWS), MOST_ROWS)]
