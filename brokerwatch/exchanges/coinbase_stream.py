"""Coinbase's private stream: the channel `user` of its Advanced Trade websocket. It states orders, and no
balance: each event of an order asks for a read, and sets nothing.

Channels without updates are closed within 90 s, so `heartbeats` is subscribed on the same connection; it
comes each second. Frames are numbered over all channels of a connection.
(https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.coinbase import FAMILY
from brokerwatch.exchanges.envelope import listing, mapping, number
from brokerwatch.exchanges.stream import Opening, Step, Ticket, unreadable

CHANNEL: Final = "user"
HEARTBEATS: Final = "heartbeats"
_REFUSED: Final = "authentication failure"
_HOST: Final = "wss://advanced-trade-ws-user.coinbase.com"


@dataclass(frozen=True, slots=True)
class CoinbaseStream:
    """See `StreamFold`."""

    family: ClassVar[str] = FAMILY
    hosts: ClassVar[Mapping[str, str]] = MappingProxyType({"coinbase": _HOST, "coinbaseadvanced": _HOST})
    url_path: ClassVar[tuple[str, ...]] = ("ws",)
    url_end: ClassVar[str] = ""
    ticket: ClassVar[Ticket | None] = None
    ping: ClassVar[str] = ""
    sets: ClassVar[bool] = False

    sequence: int = -1
    """The number of the newest frame."""

    @staticmethod
    def token(instance: Any, credentials: Mapping[str, str], now_s: int) -> str:
        """A token of 120 s, which names no call."""
        is_ed25519 = not credentials["secret"].startswith("-----BEGIN")
        return str(instance.create_auth_token(now_s, None, None, is_ed25519))

    @classmethod
    def opened(cls, opening: Opening) -> Step:
        """Subscribe to both channels; a token of its own signs the private one."""
        orders = {"type": "subscribe", "channel": CHANNEL, "jwt": opening.ticket}
        return Step(cls(), (json.dumps({"type": "subscribe", "channel": HEARTBEATS}), json.dumps(orders)))

    def heard(self, frame: str) -> Step:
        """Take one frame."""
        try:
            message = mapping(json_text.parsed(frame), "a frame")
            if message.get("type") == "error":
                words = str(message.get("message", ""))
                return Step(self, refused=words) if _REFUSED in words else Step(self, ended=words)
            return self._numbered(message)
        except ValueError as error:  # which is an UnprovenAnswer too
            return unreadable(self, error)

    def _numbered(self, message: Mapping[str, Any]) -> Step:
        sequence = int(number(message.get("sequence_num"), "sequence_num"))
        if sequence < self.sequence:
            # The numbers have begun anew, and would say nothing until they are as high as before.
            anew = f"the frame {sequence} came after {self.sequence}"
            return Step(self, asks=anew, ended=anew)
        if sequence == self.sequence:
            return Step(self)
        missed, after = sequence - self.sequence - 1, replace(self, sequence=sequence)
        gap = f"{missed} frames are missing" if missed and self.sequence >= 0 else ""
        events = [mapping(event, "an event") for event in listing(message.get("events"), "events")]
        match message.get("channel"):
            case "subscriptions":
                named = [mapping(each.get("subscriptions"), "subscriptions") for each in events]
                return Step(after, acknowledged=any(CHANNEL in each for each in named), asks=gap)
            case "user":
                # The snapshot states open orders; the read after the acknowledgement has them in it.
                changed = any(event.get("type") != "snapshot" for event in events)
                return Step(after, asks=gap or ("an order has changed" if changed else ""))
            case _:
                return Step(after, asks=gap)
