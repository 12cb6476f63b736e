"""How Kraken writes an order and a trade.

https://docs.kraken.com/api/docs/rest-api/get-open-orders and https://docs.kraken.com/api/docs/rest-api/get-trade-history
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping

from brokerwatch.simulator.exchange import Json
from brokerwatch.simulator.kraken_pairs import PAIR_IDS, pair_alt_name
from brokerwatch.simulator.markets import market_of
from brokerwatch.simulator.placed_order import EXPIRED, USER, Fill, PlacedOrder

_STATUSES = {"open": "open", "filled": "closed", "canceled": "canceled"}


def sentence(order: PlacedOrder) -> str:
    """How Kraken describes an order; one by cost reads the same as one by amount."""
    market = market_of(order.symbol)
    terms = "market" if order.kind == "market" else f"limit {market.price_text(order.price)}"
    return f"{order.side} {order.size:.8f} {pair_alt_name(market)} @ {terms}"


def order_row(order: PlacedOrder, *, with_trades: bool = False) -> tuple[str, Json]:
    """An order's id and the order."""
    market = market_of(order.symbol)
    row: dict[str, object] = {
        "refid": None,
        "userref": int(order.reference) if order.reference else None,
        "status": "expired" if order.ended_by == EXPIRED else _STATUSES[order.state],
        "opentm": order.placed_s,
        "starttm": 0,
        "expiretm": order.expires_s or 0,
        "descr": {
            "pair": pair_alt_name(market),
            "type": order.side,
            "ordertype": order.kind,
            "price": "0" if order.kind == "market" else market.price_text(order.price),
            "price2": "0",
            "leverage": "none",
            "order": sentence(order),
            "close": "",
        },
        "vol": f"{order.base_amount:.8f}",
        "vol_exec": f"{order.filled_base:.8f}",
        "cost": f"{order.filled_quote:.5f}",
        "fee": f"{order.fee:.5f}",
        "price": f"{order.average:.5f}",
        "stopprice": "0.00000",
        "limitprice": "0.00000",
        "misc": "partial" if order.state == "canceled" and order.fills else "",
        "oflags": ",".join(["fciq", *["viqc"] * order.in_quote, *["post"] * order.post_only]),
    }
    if order.client_id:
        row["cl_ord_id"] = order.client_id
    if with_trades and order.fills:
        row["trades"] = [trade_id(order, number) for number in range(len(order.fills))]
    if order.state != "open":
        row |= {"closetm": order.updated_s, "reason": "User requested" if order.ended_by == USER else None}
    return order.id, row


def trade_id(order: PlacedOrder, number: int) -> str:
    """The id of an order's fill, counted from 0, as Kraken makes them: TCCCTY-WE2O6-P3NB37."""
    letters = base64.b32encode(hashlib.sha256(f"{order.id}/{number}".encode()).digest()).decode()
    return f"T{letters[:5]}-{letters[5:10]}-{letters[10:16]}"


def trade_rows(orders: Iterable[PlacedOrder]) -> list[tuple[str, Json]]:
    """The fills of the orders with their ids, newest first."""
    fills = [(order, number) for order in orders for number in range(len(order.fills))]
    fills.sort(key=lambda each: each[0].fills[each[1]].at_s, reverse=True)
    return [(trade_id(order, number), _trade(order, order.fills[number])) for order, number in fills]


def _trade(order: PlacedOrder, fill: Fill) -> Mapping[str, object]:
    number = int.from_bytes(hashlib.sha256(f"{order.id}/{fill.at_s}/{fill.base}".encode()).digest()[:4])
    return {
        "ordertxid": order.id,
        "postxid": "TKH2SE-M7IF5-CFI7LT",
        "pair": PAIR_IDS[order.symbol],
        "time": fill.at_s,
        "type": order.side,
        "ordertype": order.kind,
        "price": f"{fill.price:.5f}",
        "cost": f"{fill.quote:.5f}",
        "fee": f"{fill.fee:.5f}",
        "vol": f"{fill.base:.8f}",
        "margin": "0.00000",
        "leverage": "0",
        "misc": "",
        "trade_id": number,
        "maker": fill.maker,
    }
