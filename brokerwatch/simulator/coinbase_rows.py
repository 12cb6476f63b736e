"""How Coinbase writes an order and a fill.

https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/get-order and
https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/list-fills
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from brokerwatch.simulator.exchange import Json
from brokerwatch.simulator.markets import Market, market_of
from brokerwatch.simulator.placed_order import EXPIRED, FOK, GTC, GTD, IOC, PlacedOrder

_STATUSES = {"open": "OPEN", "filled": "FILLED", "canceled": "CANCELLED"}
STATUSES = (*_STATUSES.values(), "EXPIRED")
CONFIGURATIONS: Mapping[str, str] = {
    GTC: "limit_limit_gtc",
    GTD: "limit_limit_gtd",
    IOC: "sor_limit_ioc",
    FOK: "limit_limit_fok",
}
"""Time in force to the name of a limit order's configuration."""
_TIMES: Mapping[str, str] = {
    GTC: "GOOD_UNTIL_CANCELLED",
    GTD: "GOOD_UNTIL_DATE_TIME",
    IOC: "IMMEDIATE_OR_CANCEL",
    FOK: "FILL_OR_KILL",
}
_USER = "11111111-1111-1111-1111-111111111111"


def iso(moment_s: float) -> str:
    """A moment as Coinbase writes it."""
    return f"{datetime.fromtimestamp(moment_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def product_id(market: Market) -> str:
    """Coinbase's id of a market: BTC-USD."""
    return f"{market.base}-{market.quote}"


def status_of(order: PlacedOrder) -> str:
    """An order's status."""
    return "EXPIRED" if order.ended_by == EXPIRED else _STATUSES[order.state]


def configuration(order: PlacedOrder) -> Json:
    """What was asked for."""
    if order.kind == "market":
        return {"market_market_ioc": {"quote_size" if order.in_quote else "base_size": f"{order.size:f}"}}
    limit = market_of(order.symbol).price_text(order.price)
    sizes: dict[str, object] = {"base_size": f"{order.size:f}", "limit_price": limit}
    if order.expires_s is not None:
        sizes["end_time"] = iso(order.expires_s)
    if order.time_in_force in (GTC, GTD):
        sizes["post_only"] = order.post_only
    return {CONFIGURATIONS[order.time_in_force]: sizes}


def order_row(order: PlacedOrder) -> Json:
    """An order."""
    market, value, fee = market_of(order.symbol), order.filled_quote, order.fee
    part = order.filled_base / order.base_amount * 100
    after_fees = value + fee if order.side == "buy" else value - fee
    return {
        "order_id": order.id,
        "product_id": product_id(market),
        "user_id": _USER,
        "order_configuration": configuration(order),
        "side": order.side.upper(),
        "client_order_id": order.client_id,
        "status": status_of(order),
        "time_in_force": _TIMES[IOC if order.kind == "market" else order.time_in_force],
        "created_time": iso(order.placed_s),
        "completion_percentage": f"{part:.6g}",
        "filled_size": f"{order.filled_base:f}",
        "average_filled_price": f"{order.average:f}",
        "fee": "",
        "number_of_fills": str(len(order.fills)),
        "filled_value": f"{value:f}",
        "pending_cancel": False,
        "size_in_quote": order.in_quote,
        "total_fees": f"{fee:f}",
        "size_inclusive_of_fees": order.in_quote,
        "total_value_after_fees": f"{after_fees if order.fills else 0:f}",
        "trigger_status": "INVALID_ORDER_TYPE",
        "order_type": order.kind.upper(),
        "reject_reason": "REJECT_REASON_UNSPECIFIED",
        "settled": order.state == "filled",
        "product_type": "SPOT",
        "reject_message": "",
        "cancel_message": "User requested cancel" if order.ended_by == "user" else "",
        "outstanding_hold_amount": f"{order.held:f}",
        "last_fill_time": iso(order.fills[-1].at_s) if order.fills else None,
    }


def fill_rows(order: PlacedOrder) -> list[Json]:
    """The fills of an order, newest first."""
    return [
        {
            "entry_id": uuid.uuid5(uuid.NAMESPACE_URL, f"{order.id}/{number}/entry").hex,
            "trade_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{order.id}/{number}")),
            "order_id": order.id,
            "trade_time": iso(fill.at_s),
            "trade_type": "FILL",
            "price": f"{fill.price:f}",
            "size": f"{fill.quote if order.in_quote else fill.base:f}",
            "commission": f"{fill.fee:f}",
            "product_id": product_id(market_of(order.symbol)),
            "sequence_timestamp": iso(fill.at_s),
            "liquidity_indicator": "MAKER" if fill.maker else "TAKER",
            "size_in_quote": order.in_quote,
            "user_id": _USER,
            "side": order.side.upper(),
        }
        for number, fill in reversed(list(enumerate(order.fills)))
    ]
