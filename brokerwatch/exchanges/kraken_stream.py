"""Kraken's private stream: the channel `balances` of its websocket, version 2.

The first frame is a snapshot: for each asset the total over its wallets, and each wallet. Then each entry of
the ledger comes as an update, with the balance after it. Frames are numbered. What is held for orders is not
stated. (https://docs.kraken.com/api/docs/websocket-v2/balances)

An asset that lies in more than the spot wallet is not set: whether the balance of an update is that of the
wallet or of the asset, the documentation leaves open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.balances import Code, stated_amount
from brokerwatch.exchanges.envelope import UnprovenAnswer, listing, mapping, named, number, short, text
from brokerwatch.exchanges.kraken import FAMILY, FEE_CREDITS, code_of, result_of
from brokerwatch.exchanges.stream import Opening, Step, Ticket, bounded, unreadable
from brokerwatch.messages import Holding
from brokerwatch.messages.stream import PushedAmounts

CHANNEL: Final = "balances"
SPOT: Final = ("spot", "main")
"""The wallet that orders spend from."""
KEPT_ENTRIES: Final = 1_000
"""So many entries of the ledger are known by their ids, so that one that comes twice counts once."""

_REFUSED: Final = re.compile(
    r"EAccount:Invalid permissions|EGeneral:Permission denied|EAPI:Invalid key|EAuth:"
)
"""What is said of a key that may not have the stream. https://docs.kraken.com/api/docs/guides/spot-errors"""


def _token(answer: object) -> str:
    return text(result_of(answer).get("token"), "token")


@dataclass(frozen=True, slots=True)
class KrakenStream:
    """See `StreamFold`."""

    family: ClassVar[str] = FAMILY
    hosts: ClassVar[Mapping[str, str]] = MappingProxyType({"kraken": "wss://ws-auth.kraken.com/v2"})
    url_path: ClassVar[tuple[str, ...]] = ("ws", "privateV2")
    url_end: ClassVar[str] = ""
    # https://docs.kraken.com/api/docs/rest-api/get-websockets-token
    ticket: ClassVar[Ticket | None] = Ticket("privatePostGetWebSocketsToken", _token, "WebSocket interface")
    ping: ClassVar[str] = '{"method":"ping"}'
    sets: ClassVar[bool] = True

    code: Code
    sequence: int | None = None
    """The number of the newest frame of the channel; None: none came yet."""
    entries: tuple[str, ...] = ()
    """The newest entries of the ledger, by their ids."""
    apart: frozenset[str] = frozenset()
    """Currencies of which a part lies in another wallet than the one for orders."""

    @staticmethod
    def token(instance: Any, credentials: Mapping[str, str], now_s: int) -> str:
        """None is needed."""
        del instance, credentials, now_s
        return ""

    @classmethod
    def opened(cls, opening: Opening) -> Step:
        """Subscribe, with the token that the REST API gave."""
        wanted = {"channel": CHANNEL, "token": opening.ticket, "snapshot": True}
        return Step(cls(opening.code), (json.dumps({"method": "subscribe", "params": wanted, "req_id": 1}),))

    def heard(self, frame: str) -> Step:
        """Take one frame."""
        try:
            message = mapping(json_text.parsed(frame), "a frame")
            if message.get("channel") == CHANNEL:
                return self._numbered(message)
        except ValueError as error:  # which is an UnprovenAnswer too
            return unreadable(self, error)
        if message.get("method") == "subscribe" or message.get("error"):
            return self._answered(message)
        return Step(self)

    def _answered(self, message: Mapping[str, Any]) -> Step:
        if message.get("success") is True and message.get("method") == "subscribe":
            return Step(self, acknowledged=True)
        words = str(message.get("error") or f"the subscription was answered with {short(message)}")
        if _REFUSED.search(words):
            return Step(self, refused=words)
        return Step(self, ended=words)

    def _numbered(self, message: Mapping[str, Any]) -> Step:
        """A frame of the channel, unless it is older than the newest."""
        told = number(message.get("sequence"), "sequence")
        sequence, before = int(told), self.sequence
        if sequence != told or sequence < 0:
            raise UnprovenAnswer(f"sequence is {short(message.get('sequence'))}")
        if before is not None and sequence <= before:
            # Frames come in order: it came twice, or the numbers have begun anew and say nothing any more.
            older = f"the frame {sequence} came after {before}"
            return Step(self, asks=older, ended=older if sequence < before else "")
        after = replace(self, sequence=sequence)
        rows = [mapping(row, "a row") for row in listing(message.get("data"), "data")]
        match message.get("type"):
            case "snapshot":
                return after._snapshot(rows)
            case "update" if before is None:
                return Step(after, asks="an update came before the snapshot")
            case "update":
                missed = 0 if before is None else sequence - before - 1
                step = after._update(rows)
                if not missed:
                    return step
                # What was known of other assets may be out of date: a new connection gives all of it.
                gap = f"{missed} frames are missing"
                return replace(step, asks=gap, ended=gap)
            case other:
                return Step(after, asks=f"a frame of the type {short(other)}")

    def _snapshot(self, rows: list[Mapping[str, Any]]) -> Step:
        stated: dict[str, Holding] = {}
        apart = set[str]()
        for row in rows:
            code, is_bare = self._named(row)
            if not code:
                continue
            wallets = listing(row.get("wallets"), "wallets")
            ids = {_wallet(mapping(wallet, "a wallet"), "type", "id") for wallet in wallets}
            total = stated_amount(row, "balance", code)
            if not is_bare or ids != {SPOT} or code in stated or total < 0:
                apart.add(code)
            stated[code] = Holding(free=None, used=None, total=total)
        for code in apart:
            stated.pop(code, None)
        unset = frozenset(apart)
        return Step(
            replace(self, apart=unset), amounts=PushedAmounts(holdings=stated, unset=unset, whole=True)
        )

    def _update(self, rows: list[Mapping[str, Any]]) -> Step:
        entries, apart, why = list(self.entries), set(self.apart), ""
        stated: dict[str, Holding] = {}
        unset = set[str]()
        for row in rows:
            entry = text(row.get("ledger_id"), "ledger_id")
            if entry in entries:
                why = why or f"the entry {short(entry)} came twice"
                continue
            entries.append(entry)
            code, is_bare = self._named(row)
            if not code:
                continue
            if not is_bare or _wallet(row, "wallet_type", "wallet_id") != SPOT:
                apart.add(code)
            try:
                total = stated_amount(row, "balance", code)
            except UnprovenAnswer as error:
                unset.add(code)
                stated.pop(code, None)
                why = why or str(error)
                continue
            if code in apart or total < 0:
                unset.add(code)
                stated.pop(code, None)
                why = why or f"{code} lies in several wallets"
                continue
            unset.discard(code)
            stated[code] = Holding(free=None, used=None, total=total)
        bounded(len(apart))
        after = replace(self, entries=tuple(entries[-KEPT_ENTRIES:]), apart=frozenset(apart))
        if not stated and not unset:
            return Step(after, asks=why)
        return Step(after, amounts=PushedAmounts(holdings=stated, unset=frozenset(unset)), asks=why)

    def _named(self, row: Mapping[str, Any]) -> tuple[str, bool]:
        """The code of an asset, empty for one that is no money; and whether its name is that alone."""
        asset = named(row.get("asset"), "asset")
        return ("" if asset == FEE_CREDITS else code_of(asset, self.code)), "." not in asset


def _wallet(row: Mapping[str, Any], kind: str, name: str) -> tuple[str, str]:
    return text(row.get(kind), kind), text(row.get(name), name)
