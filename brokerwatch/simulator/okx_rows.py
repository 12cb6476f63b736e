"""How OKX writes an order and a fill.

https://www.okx.com/docs-v5/en/#order-book-trading-trade-get-order-details and
https://www.okx.com/docs-v5/en/#order-book-trading-trade-get-transaction-details-last-3-months
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from brokerwatch.simulator.exchange import Json
from brokerwatch.simulator.markets import market_of
from brokerwatch.simulator.placed_order import FOK, IOC, UNFILLED, USER, WOULD_TAKE, Fill, PlacedOrder

_STATES = {"open": "live", "filled": "filled", "canceled": "canceled"}
_KINDS: Mapping[str, str] = {IOC: "ioc", FOK: "fok"}


def instrument(order: PlacedOrder) -> str:
    """OKX's id of an order's market: BTC-USDT."""
    return order.symbol.replace("/", "-")


def state_of(order: PlacedOrder) -> str:
    """An order's state: `live`, `partially_filled`, `filled` or `canceled`."""
    return "partially_filled" if order.state == "open" and order.fills else _STATES[order.state]


def order_row(order: PlacedOrder) -> Json:
    """An order."""
    # A unit of the size is a market order's matter, and a price of its own a limit order's.
    unit, limit = ("quote_ccy" if order.in_quote else "base_ccy"), ""
    if order.kind == "limit":
        unit, limit = "", market_of(order.symbol).price_text(order.price)
    last = order.fills[-1] if order.fills else None
    return {
        "accFillSz": f"{order.filled_base:f}",
        "avgPx": f"{order.average:f}" if order.fills else "",
        "cTime": _ms(order.placed_s),
        "cancelSource": _cancel_source(order),
        "category": "normal",
        "ccy": "",
        "clOrdId": order.client_id,
        "fee": f"{-order.fee if order.fee else 0:f}",
        "feeCcy": _fee_currency(order),
        "fillPx": f"{last.price:f}" if last else "",
        "fillSz": f"{last.base:f}" if last else "0",
        "fillTime": _ms(last.at_s) if last else "",
        "instId": instrument(order),
        "instType": "SPOT",
        "lever": "",
        "ordId": order.id,
        "ordType": _kind(order),
        "pnl": "0",
        "posSide": "net",
        "px": limit,
        "rebate": "0",
        "rebateCcy": order.paid_in,
        "reduceOnly": "false",
        "side": order.side,
        "state": state_of(order),
        "sz": f"{order.size:f}",
        "tag": "",
        "tdMode": "cash",
        "tgtCcy": unit,
        "tradeId": _trade_id(order, len(order.fills) - 1) if last else "",
        "uTime": _ms(order.updated_s),
    }


def fill_rows(order: PlacedOrder) -> list[Json]:
    """The fills of an order, newest first."""
    return [_fill_row(order, number, fill) for number, fill in reversed(list(enumerate(order.fills)))]


def _fill_row(order: PlacedOrder, number: int, fill: Fill) -> Json:
    return {
        "instType": "SPOT",
        "instId": instrument(order),
        "tradeId": _trade_id(order, number),
        "ordId": order.id,
        "clOrdId": order.client_id,
        "billId": str(int(order.id) + number + 1),
        "tag": "",
        "fillPx": f"{fill.price:f}",
        "fillSz": f"{fill.base:f}",
        "side": order.side,
        "posSide": "net",
        "execType": "M" if fill.maker else "T",
        "feeCcy": fill.fee_currency,
        "fee": f"{-fill.fee if fill.fee else 0:f}",
        "ts": _ms(fill.at_s),
        "fillTime": _ms(fill.at_s),
    }


def _kind(order: PlacedOrder) -> str:
    return "post_only" if order.post_only else _KINDS.get(order.time_in_force, order.kind)


def _cancel_source(order: PlacedOrder) -> str:
    # 1: by the user; 13 and 14: not filled as FOK or IOC; 31: post-only, and it would have taken.
    unfilled = "13" if order.time_in_force == FOK else "14"
    return {USER: "1", UNFILLED: unfilled, WOULD_TAKE: "31"}.get(order.ended_by, "")


def _fee_currency(order: PlacedOrder) -> str:
    # A fee is taken from what is received.
    return order.base if order.side == "buy" else order.quote


def _trade_id(order: PlacedOrder, number: int) -> str:
    return str(int.from_bytes(hashlib.sha256(f"{order.id}/{number}".encode()).digest()[:5]))


def _ms(moment_s: float) -> str:
    return str(int(moment_s * 1000))
