"""Kraken's websocket, version 2, with its channels `balances` and `executions`.

Tokens come from GetWebSocketsToken. Amounts are JSON numbers, digit for digit as they were set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from brokerwatch.simulator.account import Account
from brokerwatch.simulator.placed_order import EXPIRED, PlacedOrder
from brokerwatch.simulator.streams import Connection, as_json

TOKEN_LIFE_S: Final = 900
PATH: Final = "/v2"


class KrakenConnection(Connection):
    """One connection. https://docs.kraken.com/api/docs/websocket-v2/balances"""

    sequence = 0
    entries = 0

    def receive(self, text: str) -> None:
        """`subscribe` or `ping`."""
        message = json.loads(text)
        if message.get("method") == "ping":
            self.outbox.append(as_json({"method": "pong", "req_id": message.get("req_id")}))
            return
        if self.streams.take("deaf"):
            return
        params = message.get("params", {})
        account = self.find(str(params.get("token", "")))
        answer = {"method": "subscribe", "req_id": message.get("req_id"), "time_in": "2026-11-30T00:00:00Z"}
        if account is None:
            self.outbox.append(as_json({**answer, "success": False, "error": "ESession:Invalid session"}))
        elif self.streams.take("refused"):
            self.outbox.append(as_json({**answer, "success": False, "error": "EAccount:Invalid permissions"}))
        else:
            taken = {"channel": params.get("channel"), "snapshot": True}
            self.outbox.append(as_json({**answer, "success": True, "result": taken}))
            self.streams.subscriptions += 1
            if params.get("channel") == "executions":
                self.subscribed_to_orders(account)
            else:
                self.subscribed(account)

    def subscribed_to_orders(self, account: Account) -> None:
        """The snapshot states what is open."""
        super().subscribed_to_orders(account)
        rows = [_execution(order) for order in account.orders.values() if order.state == "open"]
        self.outbox.append(self._frame("snapshot", rows, {}, channel="executions"))

    def order_frames(self, order: PlacedOrder) -> list[str]:
        """An execution, or another change of the order."""
        return [self._frame("update", [_execution(order)], {}, channel="executions")]

    def beat(self) -> list[str]:
        """Kraken sends one a second to those who have subscribed."""
        return ['{"channel":"heartbeat"}'] if self.account is not None else []

    def skip(self) -> None:
        self.sequence += 1
        self.entries += 1

    def snapshot(self) -> list[str]:
        rows = [
            {
                "asset": code,
                "asset_class": "currency",
                "balance": _number(code),
                "wallets": [{"type": "spot", "id": "main", "balance": _number(code)}],
            }
            for code in self.known
        ]
        return [self._frame("snapshot", rows, self.known)]

    def update(self, changed: Mapping[str, tuple[str, str]]) -> list[str]:
        frames: list[str] = []
        for code in changed:
            self.entries += 1
            row = {
                "asset": code,
                "asset_class": "currency",
                "amount": 0,
                "balance": _number(code),
                "fee": 0,
                "ledger_id": f"L{self.sequence:06}-{self.entries:06}",
                "ref_id": f"R{self.entries:06}",
                "timestamp": "2026-11-30T00:00:00.000000Z",
                "type": "trade",
                "subtype": "",
                "category": "spot",
                "wallet_type": "spot",
                "wallet_id": "main",
            }
            frames.append(self._frame("update", [row], changed))
        return frames

    def _frame(
        self,
        kind: str,
        rows: Sequence[Mapping[str, object]],
        amounts: Mapping[str, tuple[str, str]],
        *,
        channel: str = "balances",
    ) -> str:
        self.sequence += 1
        text = as_json({"channel": channel, "type": kind, "data": rows, "sequence": self.sequence})
        for code, (free, held) in amounts.items():
            # As a JSON number: `json` would write a float, and a float has lost digits.
            text = text.replace(json.dumps(_number(code)), f"{Decimal(free) + Decimal(held):f}")
        return text


def _number(code: str) -> str:
    """What stands for the total of a currency until the frame is written."""
    return f"total of {code}"


_STATUSES: Final[Mapping[str, str]] = {"filled": "filled", "canceled": "canceled"}


def _execution(order: PlacedOrder) -> dict[str, object]:
    """What an execution report states. https://docs.kraken.com/api/docs/websocket-v2/executions"""
    filled, open_status = order.filled_base, "partially_filled" if order.fills else "new"
    status = "expired" if order.ended_by == EXPIRED else _STATUSES.get(order.state, open_status)
    kind = "trade" if order.fills and order.state != "canceled" else status
    return {
        "order_id": order.id,
        "symbol": order.symbol,
        "side": order.side,
        "order_type": order.kind,
        "order_qty": float(order.base_amount),
        "cum_qty": float(filled),
        "cum_cost": float(order.filled_quote),
        "limit_price": float(order.price),
        "exec_type": kind,
        "order_status": status,
        "timestamp": "2026-11-30T00:00:00.000000Z",
    }
