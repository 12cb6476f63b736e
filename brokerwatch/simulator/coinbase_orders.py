"""Coinbase's orders: JSON in, status 200 for what it refuses, and one order for one client_order_id.

A client that sends an id a second time gets the first order back and places nothing, so here a client that is
not sure may send again. (A test can have it otherwise: `places_repeated_ids`.) https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, cast
from urllib.parse import parse_qs, urlsplit

from brokerwatch.simulator.account import Account
from brokerwatch.simulator.coinbase_rows import (
    CONFIGURATIONS,
    STATUSES,
    configuration,
    fill_rows,
    order_row,
    product_id,
    status_of,
)
from brokerwatch.simulator.exchange import Call, Json, PrivateHandler, SimulatedExchange
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.markets import MARKETS, Market, market_of
from brokerwatch.simulator.order_book import Fees
from brokerwatch.simulator.placed_order import GTC, GTD
from brokerwatch.simulator.routes import Route
from brokerwatch.simulator.trading import (
    Flaw,
    Limits,
    Unplaceable,
    Wish,
    id_field,
    json_body,
    positive_amount,
    with_client_id,
)

BROKERAGE = "/api/v3/brokerage/"
QUOTE_MINIMUM = "1"
MOST_ORDERS = 100
MAKER_FEE, TAKER_FEE = "0.006", "0.012"

_FIRST, _LAST = "1970-01-01T00:00:00Z", "9999-01-01T00:00:00Z"

_BY_ID = {f"{market.base}-{market.quote}": market for market in MARKETS}
_TIMES = {name: time for time, name in CONFIGURATIONS.items()}


def error(code: str, message: str, status: int, **headers: str) -> Answer:
    """Coinbase's answer to a call that it does not take."""
    return json_answer({"error": code, "error_details": message, "message": message}, status, **headers)


UNKNOWN_PRODUCT = error("NOT_FOUND", "valid product_id is required", 404)


def product_in_path(call: Call) -> Market:
    """The market that a call's path names; Refused with 404 for one that is not listed."""
    market = _BY_ID.get(call.parts["product_id"])
    if market is None:
        raise Refused(UNKNOWN_PRODUCT)
    return market


class CoinbaseOrders(SimulatedExchange):
    """The part of the simulated Coinbase that takes and shows orders.

    With `places_repeated_ids` it does not keep to its documentation: an id that comes twice places two.
    """

    places_repeated_ids = False
    # Of the lowest volume, as the answer of transaction_summary says it; in the quote currency.
    fees = Fees(Decimal(MAKER_FEE), Decimal(TAKER_FEE), in_size=True)

    needs: ClassVar[Mapping[Route, str]] = {
        ("POST", BROKERAGE + "orders"): "trade",
        ("POST", BROKERAGE + "orders/preview"): "trade",
        ("POST", BROKERAGE + "orders/edit"): "trade",
        ("POST", BROKERAGE + "orders/batch_cancel"): "trade",
    }

    def order_routes(self) -> Mapping[Route, PrivateHandler]:
        """What the exchange adds to its private routes."""
        return {
            ("POST", BROKERAGE + "orders"): self._create_order,
            ("POST", BROKERAGE + "orders/preview"): self._preview_order,
            ("POST", BROKERAGE + "orders/edit"): self._edit_order,
            ("POST", BROKERAGE + "orders/batch_cancel"): self._cancel_orders,
            ("GET", BROKERAGE + "orders/historical/batch"): self._list_orders,
            ("GET", BROKERAGE + "orders/historical/fills"): self._list_fills,
            ("GET", BROKERAGE + "orders/historical/{order_id}"): self._get_order,
        }

    def new_order_id(self) -> str:
        return str(uuid.uuid4())

    def limits(self, market: Market) -> Limits:
        return Limits(Decimal(market.price_step), Decimal(QUOTE_MINIMUM))

    def best(self, market: Market) -> tuple[str, str]:
        """The best bid and ask: one step below and above the price."""
        price, step = self._prices[market.symbol], Decimal(market.price_step)
        return market.price_text(max(price - step, step)), market.price_text(price + step)

    def _create_order(self, call: Call, account: Account, fault: str) -> Json:
        asked = _body(call)
        client_id = asked.get("client_order_id")
        if not isinstance(client_id, str) or not client_id:
            raise Refused(error("INVALID_ARGUMENT", "client_order_id is required", 400))
        wish = self._wish(asked, client_id)
        order = None if self.places_repeated_ids else with_client_id(account, client_id)
        if order is None:
            try:
                order = self.place(account, wish)
            except Unplaceable as refused:
                return _failure(refused, asked["order_configuration"])
        taken = {
            **id_field("order_id", order.id, fault),
            "product_id": product_id(market_of(order.symbol)),
            "side": order.side.upper(),
            "client_order_id": client_id,
        }
        answer = {
            "success": True,
            "success_response": taken,
            "order_configuration": configuration(order),
        }
        return self.with_warning(answer, fault)

    def _preview_order(self, call: Call, account: Account, fault: str) -> Json:
        wish = self._wish(_body(call), "")
        price = self._prices[wish.market.symbol] if wish.limit is None else wish.limit
        flaws: list[str] = []
        base, fee = wish.size / price if wish.in_quote else wish.size, Decimal()
        try:
            order = self.place_dry(account, wish)
            base, fee = order.base_amount, order.fee
        except Unplaceable as refused:
            flaws = [_preview_reason(refused)]
        bid, ask = self.best(wish.market)
        answer = {
            "order_total": f"{base * price:f}",
            "commission_total": f"{fee:f}",
            "errs": flaws,
            "warning": [],
            "quote_size": f"{base * price:f}",
            "base_size": f"{base:.8f}",
            "best_bid": bid,
            "best_ask": ask,
            "is_max": False,
            "order_margin_total": "0",
            "leverage": "0",
            "long_leverage": "0",
            "short_leverage": "0",
            "slippage": "0",
            "preview_id": "" if flaws else str(uuid.uuid4()),
        }
        return self.with_warning(answer, fault)

    def _wish(self, asked: Mapping[str, object], client_id: str) -> Wish:
        """The order in a body; Refused with 400 for what cannot be one."""
        market = _BY_ID.get(str(asked.get("product_id")))
        side = {"BUY": "buy", "SELL": "sell"}.get(str(asked.get("side")))
        if market is None or side is None:
            named = "product_id" if market is None else "side"
            raise Refused(error("INVALID_ARGUMENT", f"valid {named} is required", 400))
        given = asked.get("order_configuration")
        kinds = cast("dict[str, object]", given) if isinstance(given, dict) else {}
        kind, values = next(iter(kinds.items()), ("", None))
        # The simulated exchange has no orders with a trigger.
        if not isinstance(values, dict) or len(kinds) != 1 or kind not in ("market_market_ioc", *_TIMES):
            raise Refused(error("INVALID_ARGUMENT", "order_configuration is not supported", 400))
        sizes = cast("dict[str, object]", values)
        if kind == "market_market_ioc":
            return Wish(market, side, *_market_size(sizes, side), client_id)
        size, limit = positive_amount(sizes.get("base_size")), positive_amount(sizes.get("limit_price"))
        post_only = sizes.get("post_only", False)
        if size is None or limit is None or not isinstance(post_only, bool):
            raise Refused(error("INVALID_ARGUMENT", "a valid base_size and limit_price are required", 400))
        expires_s = None
        if kind == CONFIGURATIONS[GTD]:
            expires_s = _moment_s(str(sizes.get("end_time")), "end_time")
            if expires_s <= self.now_s():
                raise Refused(error("INVALID_ARGUMENT", "end_time is not in the future", 400))
        post_only = post_only and kind in (CONFIGURATIONS[GTC], CONFIGURATIONS[GTD])
        return Wish(market, side, size, False, client_id, "", limit, _TIMES[kind], post_only, expires_s)

    def _edit_order(self, call: Call, account: Account, fault: str) -> Json:
        """Only a limit order that is good till cancelled can be edited, as Coinbase documents."""
        asked = _body(call)
        order = account.orders.get(str(asked.get("order_id")))
        size, limit = positive_amount(asked.get("size")), positive_amount(asked.get("price"))
        reason, preview = "", "UNKNOWN_PREVIEW_FAILURE_REASON"
        if order is None or order.state != "open":
            reason = "ORDER_NOT_FOUND"
        elif order.kind != "limit" or order.time_in_force != GTC:
            reason = "ONLY_LIMIT_ORDER_EDITS_SUPPORTED"
        elif ("size" in asked and size is None) or ("price" in asked and limit is None):
            reason = "INVALID_EDITED_SIZE" if "size" in asked and size is None else "INVALID_EDITED_PRICE"
        else:
            try:
                self.amend(account, order, size, limit)
            except Unplaceable as refused:
                reason, preview = "UNKNOWN_EDIT_ORDER_FAILURE_REASON", _preview_reason(refused)
        errors = [{"edit_failure_reason": reason, "preview_failure_reason": preview}] if reason else []
        return self.with_warning({"success": not reason, "errors": errors}, fault)

    def _cancel_orders(self, call: Call, account: Account, fault: str) -> Json:
        wanted = _body(call).get("order_ids")
        results: list[Json] = []
        for each in cast("list[object]", wanted) if isinstance(wanted, list) else []:
            order = account.orders.get(str(each))
            known = order is not None and order.state == "open"
            if order is not None and known:
                self.cancel(account, order)
            reason = "UNKNOWN_CANCEL_FAILURE_REASON" if known else "UNKNOWN_CANCEL_ORDER"
            results.append({"success": known, "failure_reason": reason, "order_id": str(each)})
        return self.with_warning({"results": results}, fault)

    def _list_orders(self, call: Call, account: Account, fault: str) -> Json:
        query = parse_qs(urlsplit(call.target).query)
        statuses = query.get("order_status", list(STATUSES))
        products = [*query.get("product_ids", []), *query.get("product_id", [])]
        since_s = _moment_s(query.get("start_date", [_FIRST])[0], "start_date")
        until_s = _moment_s(query.get("end_date", [_LAST])[0], "end_date")
        limit, cursor = query.get("limit", [str(MOST_ORDERS)])[0], query.get("cursor", [""])[0]
        found = [
            order
            for order in reversed(account.orders.values())
            if status_of(order) in statuses
            and (not products or product_id(market_of(order.symbol)) in products)
            and since_s <= int(order.placed_s) <= until_s  # as it writes them, in seconds
        ]
        ids = ["", *(order.id for order in found)]
        if not limit.isdigit() or int(limit) == 0 or cursor not in ids:
            raise Refused(error("INVALID_ARGUMENT", "limit or cursor is not valid", 400))
        start = ids.index(cursor)
        shown, rest = found[start : start + int(limit)], found[start + int(limit) :]
        page: Json = {
            "orders": [order_row(order) for order in shown],
            "sequence": "0",
            "has_next": bool(rest),
            "cursor": shown[-1].id if rest else "",
        }
        return self.with_warning(page, fault)

    def _list_fills(self, call: Call, account: Account, fault: str) -> Json:
        query = parse_qs(urlsplit(call.target).query)
        products = [*query.get("product_ids", []), *query.get("product_id", [])]
        order_ids = [*query.get("order_ids", []), *query.get("order_id", [])]
        since_s = _moment_s(query.get("start_sequence_timestamp", [_FIRST])[0], "start_sequence_timestamp")
        until_s = _moment_s(query.get("end_sequence_timestamp", [_LAST])[0], "end_sequence_timestamp")
        found = [
            row
            for order in reversed(account.orders.values())
            for row in fill_rows(order)
            if (not products or row["product_id"] in products)
            and (not order_ids or order.id in order_ids)
            and since_s <= _moment_s(str(row["trade_time"]), "") <= until_s
        ]
        found.sort(key=lambda row: str(row["trade_time"]), reverse=True)
        limit, cursor = query.get("limit", [str(MOST_ORDERS)])[0], query.get("cursor", ["0"])[0] or "0"
        if not limit.isdigit() or int(limit) == 0 or not cursor.isdigit():
            raise Refused(error("INVALID_ARGUMENT", "limit or cursor is not valid", 400))
        end = int(cursor) + int(limit)
        more = str(end) if end < len(found) else ""
        return self.with_warning({"fills": found[int(cursor) : end], "cursor": more}, fault)

    def _get_order(self, call: Call, account: Account, fault: str) -> Json:
        order = account.orders.get(call.parts["order_id"])
        if order is None:
            raise Refused(error("NOT_FOUND", "order with this orderID was not found", 404))
        return self.with_warning({"order": order_row(order)}, fault)


def _moment_s(text: str, name: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise Refused(error("INVALID_ARGUMENT", f"{name} is not valid", 400)) from None


def _body(call: Call) -> Mapping[str, object]:
    value = json_body(call.body)
    if not isinstance(value, dict):
        raise Refused(error("INVALID_ARGUMENT", "the body is no JSON object", 400))
    return cast("dict[str, object]", value)


def _market_size(sizes: Mapping[str, object], side: str) -> tuple[Decimal, bool]:
    """The size of a market order, and whether it is in the quote currency."""
    given = {name: value for name, value in sizes.items() if name in ("quote_size", "base_size")}
    size = positive_amount(next(iter(given.values()), None))
    in_quote = "quote_size" in given
    if size is None or len(given) != 1 or (in_quote and side == "sell"):
        raise Refused(error("INVALID_ARGUMENT", "one valid size is required, a base_size to sell", 400))
    return size, in_quote


def _preview_reason(refused: Unplaceable) -> str:
    in_quote = refused.wish.in_quote
    match refused.flaw:
        case Flaw.FUNDS:
            return "PREVIEW_INSUFFICIENT_FUND"
        case Flaw.PRECISION:
            return f"PREVIEW_INVALID_{'QUOTE_' if in_quote else ''}SIZE_PRECISION"
        case Flaw.BASE_MINIMUM | Flaw.QUOTE_MINIMUM:
            return f"PREVIEW_INVALID_{'QUOTE' if in_quote else 'BASE'}_SIZE_TOO_SMALL"
        case Flaw.PRICE_PRECISION:
            return "PREVIEW_INVALID_PRICE_PRECISION"
        case Flaw.WOULD_TAKE:
            return "PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY"
        case Flaw.CLOSED:
            # The documentation has a word of its own for this only where an order is placed.
            return "UNKNOWN_PREVIEW_FAILURE_REASON"


def _failure(refused: Unplaceable, configuration: object) -> Json:
    poor = refused.flaw is Flaw.FUNDS
    words = {
        Flaw.FUNDS: "INSUFFICIENT_FUND",
        Flaw.CLOSED: "ORDER_ENTRY_DISABLED",
        Flaw.WOULD_TAKE: "INVALID_LIMIT_PRICE_POST_ONLY",
    }
    return {
        "success": False,
        "error_response": {
            "error": words.get(refused.flaw, "UNKNOWN_FAILURE_REASON"),
            "message": "Insufficient balance in source account" if poor else "",
            "error_details": "",
            "preview_failure_reason": _preview_reason(refused),
        },
        "order_configuration": configuration,
    }
