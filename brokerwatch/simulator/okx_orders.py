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
from typing import ClassVar, cast

from brokerwatch.simulator.account import Account, PlacedOrder
from brokerwatch.simulator.exchange import Call, Json, PrivateHandler, SimulatedExchange
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.markets import MARKETS, Market, market_of
from brokerwatch.simulator.routes import Route
from brokerwatch.simulator.trading import (
    Flaw,
    Unplaceable,
    Wish,
    cancel,
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
_STATES = {"open": "live", "filled": "filled", "canceled": "canceled"}
UNKNOWN_INSTRUMENT = ("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")


class _Declined(Exception):
    """One order is not taken; the rest of its batch may be."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


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

    needs: ClassVar[Mapping[Route, str]] = {
        ("POST", TRADE + "order"): "trade",
        ("POST", TRADE + "batch-orders"): "trade",
        ("POST", TRADE + "cancel-order"): "trade",
    }

    def order_routes(self) -> Mapping[Route, PrivateHandler]:
        """What the exchange adds to its private routes."""
        return {
            ("POST", TRADE + "order"): self._place_one,
            ("POST", TRADE + "batch-orders"): self._place_batch,
            ("POST", TRADE + "cancel-order"): self._cancel_order,
            ("GET", TRADE + "order"): self._get_order,
            ("GET", TRADE + "orders-pending"): self._pending,
            ("GET", TRADE + "orders-history"): self._history,
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
        return self._placed([cast("dict[str, object]", asked)], account, fault)

    def _place_batch(self, call: Call, account: Account, fault: str) -> Json:
        asked = json_body(call.body)
        items = cast("list[object]", asked) if isinstance(asked, list) else []
        orders = [cast("dict[str, object]", item) for item in items if isinstance(item, dict)]
        if not orders or len(orders) != len(items):
            raise Refused(error("50002", "JSON syntax error", 400))
        if len(orders) > MOST_IN_BATCH:
            raise Refused(error("51111", f"Maximum {MOST_IN_BATCH} orders can be placed in bulk"))
        self._check_deadline(call)
        return self._placed(orders, account, fault)

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

    def _placed(self, orders: list[dict[str, object]], account: Account, fault: str) -> Json:
        rows = [self._placed_row(asked, account, fault) for asked in orders]
        failed = sum(row["sCode"] != "0" for row in rows)
        code, message = "0", ""
        if failed:
            all_failed = failed == len(rows)
            code = "1" if all_failed else "2"
            message = "All operations failed" if all_failed else "Bulk operation partially succeeded."
        return self.with_warning({"code": code, "data": rows, "msg": message}, fault)

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
        order = _named_order(account, str(named.get("ordId", "")), str(named.get("clOrdId", "")), "open")
        row = {"clOrdId": str(named.get("clOrdId", "")), "ordId": "", "ts": self.now_ms()}
        if order is None or order.state != "open":
            message = "Cancellation failed as the order has been filled, canceled or does not exist."
            failed = {**row, "sCode": "51400", "sMsg": message}
            return {"code": "1", "data": [failed], "msg": "All operations failed"}
        cancel(account, order)
        return data({**row, "ordId": order.id, "sCode": "0", "sMsg": ""})

    def _get_order(self, call: Call, account: Account, fault: str) -> Json:
        order_id, client_id = call.query.get("ordId", ""), call.query.get("clOrdId", "")
        if not order_id and not client_id:
            raise Refused(error("51003", "Either client order ID or order ID is required."))
        if call.query.get("instId") not in BY_ID:
            raise Refused(error(*UNKNOWN_INSTRUMENT))
        order = _named_order(account, order_id, client_id)
        if order is None or _instrument(order) != call.query["instId"]:
            raise Refused(error("51603", "Order does not exist"))
        return self.with_warning(data(_row(order)), fault)

    def _pending(self, call: Call, account: Account, fault: str) -> Json:
        return self.with_warning(data(*_listed(call, account, is_open=True)), fault)

    def _history(self, call: Call, account: Account, fault: str) -> Json:
        if not call.query.get("instType"):
            raise Refused(parameter_error("instType"))
        return self.with_warning(data(*_listed(call, account, is_open=False)), fault)


def _wish(asked: Mapping[str, object], client_id: str) -> Wish:
    """The spot market order in an object; _Declined, with the name of the parameter, for what is none."""
    market = BY_ID.get(str(asked.get("instId")))
    if market is None:
        raise _Declined(*UNKNOWN_INSTRUMENT)
    side = str(asked.get("side"))
    # Without tgtCcy a spot market order buys for the quote currency, and sells the base currency.
    unit = str(asked.get("tgtCcy") or ("quote_ccy" if side == "buy" else "base_ccy"))
    size = positive_amount(asked.get("sz"))
    wrong = {
        "tdMode": asked.get("tdMode") != "cash",
        "side": side not in ("buy", "sell"),
        # The simulated exchange has no book in which another order could rest.
        "ordType": asked.get("ordType") != "market",
        "tgtCcy": unit not in ("quote_ccy", "base_ccy"),
        "sz": size is None,
        "clOrdId": bool(client_id) and not _CLIENT_ID.fullmatch(client_id),
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise _Declined("51000", f"Parameter {name} error")
    assert size is not None  # it would have been declined above
    return Wish(market, side, size, unit == "quote_ccy", client_id)


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


def _named_order(account: Account, order_id: str, client_id: str, *states: str) -> PlacedOrder | None:
    """By OKX's id where it is given, else the latest one with the client's own."""
    if order_id:
        return account.orders.get(order_id)
    return with_client_id(account, client_id, *states) if client_id else None


def _listed(call: Call, account: Account, *, is_open: bool) -> list[Json]:
    return [
        _row(order)
        for order in reversed(account.orders.values())
        if (order.state == "open") is is_open
        and call.query.get("instType") in (None, "", "SPOT")
        and call.query.get("instId") in (None, "", _instrument(order))
    ][:MOST_ROWS]


def _instrument(order: PlacedOrder) -> str:
    return order.symbol.replace("/", "-")


def _row(order: PlacedOrder) -> Json:
    done = order.state == "filled"
    base, _, quote = order.symbol.partition("/")
    at_ms = str(int(order.placed_s * 1000))
    # A unit of the size is a market order's matter, and a price of its own a limit order's.
    unit, limit = ("quote_ccy" if order.in_quote else "base_ccy"), ""
    if order.kind == "limit":
        unit, limit = "", market_of(order.symbol).price_text(order.price)
    filled, price = (f"{order.base_amount:f}", f"{order.price:f}") if done else ("0", "")
    return {
        "accFillSz": filled,
        "avgPx": price,
        "cTime": at_ms,
        "cancelSource": "1" if order.state == "canceled" else "",
        "category": "normal",
        "ccy": "",
        "clOrdId": order.client_id,
        "fee": "0",
        # A fee is taken from what is received.
        "feeCcy": base if order.side == "buy" else quote,
        "fillPx": price,
        "fillSz": filled,
        "fillTime": at_ms if done else "",
        "instId": _instrument(order),
        "instType": "SPOT",
        "lever": "",
        "ordId": order.id,
        "ordType": order.kind,
        "pnl": "0",
        "posSide": "net",
        "px": limit,
        "rebate": "0",
        "rebateCcy": quote if order.side == "buy" else base,
        "reduceOnly": "false",
        "side": order.side,
        "state": _STATES[order.state],
        "sz": f"{order.size:f}",
        "tag": "",
        "tdMode": "cash",
        "tgtCcy": unit,
        "tradeId": "1" if done else "",
        "uTime": at_ms,
    }
