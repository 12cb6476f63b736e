"""OKX's private websocket with its channels `account` and `orders`, in the exchange's own form."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from brokerwatch.simulator.okx_rows import order_row
from brokerwatch.simulator.placed_order import PlacedOrder
from brokerwatch.simulator.streams import Connection, as_json

PATH: Final = "/ws/v5"


class OkxConnection(Connection):
    """One connection. https://www.okx.com/docs-v5/en/#trading-account-websocket-account-channel"""

    api_key = ""
    clock_ms = 0

    def receive(self, text: str) -> None:
        """`login`, `subscribe`, or the text `ping`."""
        if text == "ping":
            self.outbox.append("pong")
            return
        message = json.loads(text)
        if message.get("op") == "login":
            self._log_in(message["args"][0])
        elif message.get("op") == "subscribe":
            self._subscribe(message["args"][0])

    def _log_in(self, keys: Mapping[str, str]) -> None:
        account = self.find(keys["apiKey"])
        if account is None or self.streams.take("refused"):
            self._error("60005", "Invalid apiKey")
            return
        signed = f"{keys['timestamp']}GET/users/self/verify".encode()
        expected = base64.b64encode(hmac.digest(account.credentials["secret"].encode(), signed, "sha256"))
        if not hmac.compare_digest(expected, keys["sign"].encode()):
            self._error("60007", "Invalid sign")
        elif keys["passphrase"] != account.credentials["password"]:
            self._error("60024", "Wrong passphrase")
        else:
            self.api_key = keys["apiKey"]
            self.outbox.append(as_json({"event": "login", "msg": "", "code": "0", "connId": "a4d3ae55"}))

    def _subscribe(self, about: Mapping[str, str]) -> None:
        account = self.find(self.api_key)
        if account is None:
            self._error("60011", "Please log in")
        elif not self.streams.take("deaf"):
            named = {name: about[name] for name in ("channel", "instType") if name in about}
            self.outbox.append(as_json({"event": "subscribe", "arg": named, "connId": "a4d3ae55"}))
            self.streams.subscriptions += 1
            if about["channel"] == "orders":
                self.subscribed_to_orders(account)  # of which there is no snapshot
            else:
                self.subscribed(account)

    def _error(self, code: str, message: str) -> None:
        self.outbox.append(as_json({"event": "error", "code": code, "msg": message, "connId": "a4d3ae55"}))

    def skip(self) -> None:
        self._now_ms()

    def snapshot(self) -> list[str]:
        """In pages; what is zero is not in it."""
        held = {code: each for code, each in self.known.items() if any(map(Decimal, each))}
        codes = list(held)
        rows = self.streams.page_rows or max(1, len(codes))
        pages = [codes[at : at + rows] for at in range(0, len(codes), rows)] or [[]]
        now_ms = self._now_ms()
        return [
            self._frame(
                {code: held[code] for code in page},
                now_ms,
                eventType="snapshot",
                curPage=number,
                lastPage=number == len(pages),
            )
            for number, page in enumerate(pages, 1)
        ]

    def update(self, changed: Mapping[str, tuple[str, str]]) -> list[str]:
        """One frame for the event, with the currencies that it is about."""
        return [self._frame(changed, self._now_ms(), eventType="event_update", curPage=1, lastPage=True)]

    def order_frames(self, order: PlacedOrder) -> list[str]:
        """An order, whole. https://www.okx.com/docs-v5/en/#order-book-trading-trade-ws-order-channel"""
        about = {"channel": "orders", "instType": "ANY", "uid": "1"}
        return [as_json({"arg": about, "data": [order_row(order)]})]

    def _frame(self, amounts: Mapping[str, tuple[str, str]], now_ms: int, **more: Any) -> str:
        details = [
            {
                "ccy": code,
                "eq": f"{Decimal(free) + Decimal(held):f}",
                "cashBal": f"{Decimal(free) + Decimal(held):f}",
                "availBal": free,
                "availEq": "",
                "frozenBal": held,
                "ordFrozen": held,
                "uTime": str(now_ms),
            }
            for code, (free, held) in amounts.items()
        ]
        row = {"adjEq": "", "totalEq": "", "details": details, "uTime": str(now_ms)}
        return as_json({"arg": {"channel": "account", "uid": "1"}, **more, "data": [row]})

    def _now_ms(self) -> int:
        """The exchange's time, later than each before."""
        self.clock_ms = max(self.clock_ms + 1, round(time.time() * 1_000))
        return self.clock_ms
