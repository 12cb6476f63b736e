"""Coinbase's websocket with its channels `user` and `heartbeats`: orders, and no balances."""

from __future__ import annotations

import json
from collections.abc import Mapping

from brokerwatch.simulator import tokens
from brokerwatch.simulator.account import Account
from brokerwatch.simulator.coinbase_rows import iso, product_id, status_of
from brokerwatch.simulator.markets import market_of
from brokerwatch.simulator.placed_order import PlacedOrder
from brokerwatch.simulator.streams import Connection, as_json


class CoinbaseConnection(Connection):
    """One connection. https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket"""

    sequence = -1
    beats = 0
    beating = False

    def receive(self, text: str) -> None:
        """`subscribe`, to the orders with a token."""
        message = json.loads(text)
        if message.get("channel") == "heartbeats":
            self.beating = True
            self._frame("subscriptions", {"subscriptions": {"heartbeats": ["heartbeats"]}})
            return
        if self.streams.take("deaf"):
            return
        token = str(message.get("jwt", ""))
        account = self.find(tokens.key_name(token))
        if account is None or not _is_signed(token, account) or self.streams.take("refused"):
            self.outbox.append(as_json({"type": "error", "message": "authentication failure"}))
            return
        self.streams.subscriptions += 1
        self._frame("subscriptions", {"subscriptions": {"user": ["11111111-1111-1111-1111-111111111111"]}})
        self.subscribed(account)

    def subscribed(self, account: Account) -> None:
        self.subscribed_to_orders(account)
        rows = [_row(order) for order in account.orders.values() if order.state == "open"]
        self._frame("user", {"type": "snapshot", "orders": rows, "positions": {}})

    def order_frames(self, order: PlacedOrder) -> list[str]:
        self._frame("user", {"type": "update", "orders": [_row(order)]})
        return [self.outbox.pop()]

    def beat(self) -> list[str]:
        if self.beating:
            self.beats += 1
            self._frame("heartbeats", {"current_time": "", "heartbeat_counter": self.beats})
        return []

    def snapshot(self) -> list[str]:
        return []

    def update(self, changed: Mapping[str, tuple[str, str]]) -> list[str]:  # noqa: ARG002 - orders alone
        return []

    def skip(self) -> None:
        self.sequence += 1

    def _frame(self, channel: str, event: Mapping[str, object]) -> None:
        self.sequence += 1
        frame = {"channel": channel, "client_id": "", "timestamp": "2026-11-30T00:00:00Z"}
        self.outbox.append(as_json({**frame, "sequence_num": self.sequence, "events": [event]}))


def _row(order: PlacedOrder) -> dict[str, object]:
    """https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels#user-channel"""
    return {
        "order_id": order.id,
        "client_order_id": order.client_id,
        "cumulative_quantity": f"{order.filled_base:f}",
        "leaves_quantity": f"{order.left_base:f}",
        "avg_price": f"{order.average:f}",
        "total_fees": f"{order.fee:f}",
        "status": status_of(order),
        "product_id": product_id(market_of(order.symbol)),
        "creation_time": iso(order.placed_s),
        "order_side": order.side.upper(),
        "order_type": order.kind.title(),
        "limit_price": f"{order.price:f}",
    }


def _is_signed(token: str, account: Account) -> bool:
    try:
        tokens.verify_owner(token, account.credentials)
    except ValueError:
        return False
    return True
