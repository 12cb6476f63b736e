"""Coinbase's orders: JSON in, status 200 for what it refuses, and one order for one client_order_id.

A client that sends an id a second time gets the first order back and places nothing, so here a client that is
not sure may send again. (A test can have it otherwise: `places_repeated_ids`.) https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar, cast
from urllib.parse import parse_qs, urlsplit

from brokerwatch.simulator.account import Account, PlacedOrder
from brokerwatch.simulator.exchange import Call, Json, PrivateHandler, SimulatedExchange
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.markets import MARKETS, Market, market_of
from brokerwatch.simulator.routes import Route
from brokerwatch.simulator.trading import (
    Flaw,
    Limits,
    Unplaceable,
    Wish,
    cancel,
    id_field,
    json_body,
    positive_amount,
    with_client_id,
)

BROKERAGE = "/api/v3/brokerage/"
QUOTE_MINIMUM = "1"
MOST_ORDERS = 100

_BY_ID = {f"{market.base}-{market.quote}": market for market in MARKETS}
_STATUSES = {"open": "OPEN", "filled": "FILLED", "canceled": "CANCELLED"}


def error(code: str, message: str, status: int, **headers: str) -> Answer:
    """Coinbase's answer to a call that it does not take."""
    return json_answer({"error": code, "error_details": message, "message": message}, status, **headers)


UNKNOWN_PRODUCT = error("NOT_FOUND", "valid product_id is required", 404)


def iso(moment_s: float) -> str:
    """A moment as Coinbase writes it."""
    return f"{datetime.fromtimestamp(moment_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def product_id(market: Market) -> str:
    """Coinbase's id of a market: BTC-USD."""
    return f"{market.base}-{market.quote}"


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

    needs: ClassVar[Mapping[Route, str]] = {
        ("POST", BROKERAGE + "orders"): "trade",
        ("POST", BROKERAGE + "orders/preview"): "trade",
        ("POST", BROKERAGE + "orders/batch_cancel"): "trade",
    }

    def order_routes(self) -> Mapping[Route, PrivateHandler]:
        """What the exchange adds to its private routes."""
        return {
            ("POST", BROKERAGE + "orders"): self._create_order,
            ("POST", BROKERAGE + "orders/preview"): self._preview_order,
            ("POST", BROKERAGE + "orders/batch_cancel"): self._cancel_orders,
            ("GET", BROKERAGE + "orders/historical/batch"): self._list_orders,
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
        wish = _wish(asked, client_id)
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
            "order_configuration": _configuration(order),
        }
        return self.with_warning(answer, fault)

    def _preview_order(self, call: Call, account: Account, fault: str) -> Json:
        wish = _wish(_body(call), "")
        price = self._prices[wish.market.symbol]
        flaws: list[str] = []
        base = wish.size / price if wish.in_quote else wish.size
        try:
            base = self.place_dry(account, wish).base_amount
        except Unplaceable as refused:
            flaws = [_preview_reason(refused)]
        bid, ask = self.best(wish.market)
        answer = {
            "order_total": f"{base * price:f}",
            "commission_total": "0",
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

    def _cancel_orders(self, call: Call, account: Account, fault: str) -> Json:
        wanted = _body(call).get("order_ids")
        results: list[Json] = []
        for each in cast("list[object]", wanted) if isinstance(wanted, list) else []:
            order = account.orders.get(str(each))
            known = order is not None and order.state == "open"
            if order is not None and known:
                cancel(account, order)
            reason = "UNKNOWN_CANCEL_FAILURE_REASON" if known else "UNKNOWN_CANCEL_ORDER"
            results.append({"success": known, "failure_reason": reason, "order_id": str(each)})
        return self.with_warning({"results": results}, fault)

    def _list_orders(self, call: Call, account: Account, fault: str) -> Json:
        query = parse_qs(urlsplit(call.target).query)
        statuses = query.get("order_status", list(_STATUSES.values()))
        products = [*query.get("product_ids", []), *query.get("product_id", [])]
        since_s = _moment_s(query.get("start_date", ["1970-01-01T00:00:00Z"])[0])
        limit, cursor = query.get("limit", [str(MOST_ORDERS)])[0], query.get("cursor", [""])[0]
        found = [
            order
            for order in reversed(account.orders.values())
            if _STATUSES[order.state] in statuses
            and (not products or product_id(market_of(order.symbol)) in products)
            and int(order.placed_s) >= since_s  # as it writes them, in seconds
        ]
        ids = ["", *(order.id for order in found)]
        if not limit.isdigit() or int(limit) == 0 or cursor not in ids:
            raise Refused(error("INVALID_ARGUMENT", "limit or cursor is not valid", 400))
        start = ids.index(cursor)
        shown, rest = found[start : start + int(limit)], found[start + int(limit) :]
        page: Json = {
            "orders": [_row(order) for order in shown],
            "sequence": "0",
            "has_next": bool(rest),
            "cursor": shown[-1].id if rest else "",
        }
        return self.with_warning(page, fault)

    def _get_order(self, call: Call, account: Account, fault: str) -> Json:
        order = account.orders.get(call.parts["order_id"])
        if order is None:
            raise Refused(error("NOT_FOUND", "order with this orderID was not found", 404))
        return self.with_warning({"order": _row(order)}, fault)


def _moment_s(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise Refused(error("INVALID_ARGUMENT", "start_date is not valid", 400)) from None


def _body(call: Call) -> Mapping[str, object]:
    value = json_body(call.body)
    if not isinstance(value, dict):
        raise Refused(error("INVALID_ARGUMENT", "the body is no JSON object", 400))
    return cast("dict[str, object]", value)


def _wish(asked: Mapping[str, object], client_id: str) -> Wish:
    """The market order in a body; Refused with 400 for what cannot be one."""
    market = _BY_ID.get(str(asked.get("product_id")))
    side = {"BUY": "buy", "SELL": "sell"}.get(str(asked.get("side")))
    if market is None or side is None:
        named = "product_id" if market is None else "side"
        raise Refused(error("INVALID_ARGUMENT", f"valid {named} is required", 400))
    configuration = asked.get("order_configuration")
    kinds = cast("dict[str, object]", configuration) if isinstance(configuration, dict) else {}
    sizes = kinds.get("market_market_ioc")
    # The simulated exchange has no book in which another order could rest.
    if not isinstance(sizes, dict) or len(kinds) != 1:
        raise Refused(error("INVALID_ARGUMENT", "order_configuration is not supported", 400))
    given = {
        name: value
        for name, value in cast("dict[str, object]", sizes).items()
        if name in ("quote_size", "base_size")
    }
    size = positive_amount(next(iter(given.values()), None))
    in_quote = "quote_size" in given
    if size is None or len(given) != 1 or (in_quote and side == "sell"):
        raise Refused(error("INVALID_ARGUMENT", "one valid size is required, a base_size to sell", 400))
    return Wish(market, side, size, in_quote, client_id)


def _preview_reason(refused: Unplaceable) -> str:
    in_quote = refused.wish.in_quote
    match refused.flaw:
        case Flaw.FUNDS:
            return "PREVIEW_INSUFFICIENT_FUND"
        case Flaw.PRECISION:
            return f"PREVIEW_INVALID_{'QUOTE_' if in_quote else ''}SIZE_PRECISION"
        case Flaw.BASE_MINIMUM | Flaw.QUOTE_MINIMUM:
            return f"PREVIEW_INVALID_{'QUOTE' if in_quote else 'BASE'}_SIZE_TOO_SMALL"
        case Flaw.CLOSED:
            # The documentation has a word of its own for this only where an order is placed.
            return "UNKNOWN_PREVIEW_FAILURE_REASON"


def _failure(refused: Unplaceable, configuration: object) -> Json:
    poor = refused.flaw is Flaw.FUNDS
    words = {Flaw.FUNDS: "INSUFFICIENT_FUND", Flaw.CLOSED: "ORDER_ENTRY_DISABLED"}
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


def _configuration(order: PlacedOrder) -> Json:
    if order.kind == "limit":
        limit = market_of(order.symbol).price_text(order.price)
        sizes = {"base_size": f"{order.size:f}", "limit_price": limit, "post_only": False}
        return {"limit_limit_gtc": sizes}
    return {"market_market_ioc": {"quote_size" if order.in_quote else "base_size": f"{order.size:f}"}}


def _row(order: PlacedOrder) -> Json:
    market = market_of(order.symbol)
    done = order.state == "filled"
    value = f"{order.quote_amount if done else 0:f}"
    return {
        "order_id": order.id,
        "product_id": product_id(market),
        "user_id": "11111111-1111-1111-1111-111111111111",
        "order_configuration": _configuration(order),
        "side": order.side.upper(),
        "client_order_id": order.client_id,
        "status": _STATUSES[order.state],
        "time_in_force": "IMMEDIATE_OR_CANCEL" if order.kind == "market" else "GOOD_UNTIL_CANCELLED",
        "created_time": iso(order.placed_s),
        "completion_percentage": "100" if done else "0",
        "filled_size": f"{order.base_amount if done else 0:f}",
        "average_filled_price": f"{order.price if done else 0:f}",
        "fee": "",
        "number_of_fills": "1" if done else "0",
        "filled_value": value,
        "pending_cancel": False,
        "size_in_quote": order.in_quote,
        "total_fees": "0",
        "size_inclusive_of_fees": order.in_quote,
        "total_value_after_fees": value,
        "trigger_status": "INVALID_ORDER_TYPE",
        "order_type": order.kind.upper(),
        "reject_reason": "REJECT_REASON_UNSPECIFIED",
        "settled": done,
        "product_type": "SPOT",
        "reject_message": "",
        "cancel_message": "",
    }
