"""OKX's private stream: the channel `account` of its websocket, version 5. The trading account alone.

It is logged in to inside the connection. The first frame is a snapshot in pages, of all currencies of which
there is any. Then an update comes on each event, with the currencies that it is about, whole: what is free,
what is held, and the total. (https://www.okx.com/docs-v5/en/#trading-account-websocket-account-channel)

The equity of a currency with derivatives moves with each price. It is not set: only a read says it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.balances import Code
from brokerwatch.exchanges.envelope import UnprovenAnswer, listing, mapping, named, number, short
from brokerwatch.exchanges.okx import FAMILY, holdings
from brokerwatch.exchanges.stream import Opening, Step, Ticket, bounded, unreadable
from brokerwatch.messages import Holding
from brokerwatch.messages.stream import PushedAmounts

CHANNEL: Final = "account"
PONG: Final = "pong"
MOST_PAGES: Final = 100
"""A snapshot with more pages than this is none."""

_REFUSED: Final = frozenset({"60005", "60007", "60009", "60024", "60032"})
"""What is said of a key that may not log in: unknown, wrong signature or passphrase."""
_SERVER_ENDS: Final = "64008"
"""The notice that the connection ends soon, because the server is renewed."""

# Without the regular pushes every 5 s: events alone.
_SUBSCRIPTION: Final = json.dumps(
    {"op": "subscribe", "args": [{"channel": CHANNEL, "extraParams": '{"updateInterval":"0"}'}]}
)


@dataclass(frozen=True, slots=True)
class OkxStream:
    """See `StreamFold`."""

    family: ClassVar[str] = FAMILY
    hosts: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "okx": "wss://ws.okx.com:8443/ws/v5/private",
            "myokx": "wss://wseea.okx.com:443/ws/v5/private",
            "okxus": "wss://wsus.okx.com:443/ws/v5/private",
        }
    )
    url_path: ClassVar[tuple[str, ...]] = ("ws",)
    url_end: ClassVar[str] = "/private"
    ticket: ClassVar[Ticket | None] = None
    ping: ClassVar[str] = "ping"
    sets: ClassVar[bool] = True

    code: Code
    pages: tuple[Mapping[str, Any], ...] = ()
    """The rows of a snapshot whose last page has not come yet."""
    times: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Currency of OKX to the newest time, by its clock in ms, at which it stated the currency."""
    snapshot_ms: int = -1
    """OKX's time of the newest whole snapshot."""

    @staticmethod
    def token(instance: Any, credentials: Mapping[str, str], now_s: int) -> str:
        """None is needed."""
        del instance, credentials, now_s
        return ""

    @classmethod
    def opened(cls, opening: Opening) -> Step:
        """Log in. https://www.okx.com/docs-v5/en/#overview-websocket-login"""
        keys, now = opening.credentials, str(opening.now.wall_us // 1_000_000)
        digest = hmac.digest(keys["secret"].encode(), f"{now}GET/users/self/verify".encode(), hashlib.sha256)
        login = {
            "apiKey": keys["api_key"],
            "passphrase": keys["password"],
            "timestamp": now,
            "sign": base64.b64encode(digest).decode(),
        }
        return Step(cls(opening.code), (json.dumps({"op": "login", "args": [login]}),))

    def heard(self, frame: str) -> Step:
        """Take one frame."""
        if frame == PONG:
            return Step(self)
        try:
            message = mapping(json_text.parsed(frame), "a frame")
            if "event" in message:
                return self._answered(message)
            about = mapping(message.get("arg") or {}, "arg")
            return self._account(message) if about.get("channel") == CHANNEL else Step(self)
        except ValueError as error:  # which is an UnprovenAnswer too
            return unreadable(self, error)

    def _answered(self, message: Mapping[str, Any]) -> Step:
        event, code = message.get("event"), str(message.get("code", ""))
        words = f"{code} {message.get('msg', '')}".strip()
        match event:
            case "login" if code in ("", "0"):
                return Step(self, (_SUBSCRIPTION,))
            case "subscribe":
                return Step(self, acknowledged=True)
            case "notice" if code != _SERVER_ENDS:
                return Step(self)
            case "channel-conn-count":
                return Step(self)
            case _:
                return Step(self, refused=words) if code in _REFUSED else Step(self, ended=words)

    def _account(self, message: Mapping[str, Any]) -> Step:
        rows = [mapping(row, "a row of data") for row in listing(message.get("data"), "data")]
        if message.get("eventType") == "snapshot":
            return self._page(message, rows)
        return self._update(rows)

    def _page(self, message: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> Step:
        """One page of a snapshot, which counts once the last of them has come."""
        page = number(message.get("curPage", "1"), "curPage")
        before = () if page == 1 else self.pages
        # The page of each row is counted, and not the rows: a page may have none.
        if page != len(before) + 1 or page > MOST_PAGES:
            return Step(replace(self, pages=()), asks=f"page {short(message.get('curPage'))} of a snapshot")
        pages = (*before, {"rows": rows})
        bounded(sum(len(_details(row)) for each in pages for row in each["rows"]))
        if message.get("lastPage", True) is not True:
            return Step(replace(self, pages=pages))
        return self._snapshot([row for each in pages for row in each["rows"]])

    def _snapshot(self, rows: list[Mapping[str, Any]]) -> Step:
        after = replace(self, pages=())
        at_ms = max((_time_ms(row) for row in rows), default=-1)
        if at_ms < self.snapshot_ms or any(at_ms < known_ms for known_ms in self.times.values()):
            return Step(after, asks="a snapshot is older than what came before it")
        details = [detail for row in rows for detail in _details(row)]
        stated, unset = after._stated(rows, details)
        times = {named(each.get("ccy"), "ccy"): _time_ms(each, at_ms) for each in details}
        return Step(
            replace(after, times=MappingProxyType(times), snapshot_ms=at_ms),
            amounts=PushedAmounts(holdings=stated, unset=unset, whole=True),
        )

    def _update(self, rows: list[Mapping[str, Any]]) -> Step:
        newer: list[Mapping[str, Any]] = []
        times, at_once, older = dict(self.times), set[str](), ""
        for row in rows:
            row_ms = _time_ms(row, self.snapshot_ms)
            kept: list[Mapping[str, Any]] = []
            for detail in _details(row):
                name = named(detail.get("ccy"), "ccy")
                at_ms = _time_ms(detail, row_ms)
                known_ms = times.get(name, self.snapshot_ms)
                if at_ms >= known_ms:
                    times[name] = at_ms
                    kept.append(detail)
                else:  # if the exchange's clock was put back, nothing else would show what has changed
                    older = f"what it says of {name} is older than what came before"
                if at_ms == known_ms:
                    at_once.add(self.code(name))  # which of two of one moment is the newer, is not stated
            newer.append({**row, "details": kept})
        bounded(len(times))
        details = [detail for row in newer for detail in _details(row)]
        if not details:
            return Step(self, asks=older)
        stated, moving = self._stated(newer, details)
        unset = moving | at_once
        return Step(
            replace(self, times=MappingProxyType(times)),
            amounts=PushedAmounts(
                holdings={code: held for code, held in stated.items() if code not in unset}, unset=unset
            ),
            asks=f"only a read says how much there is of {', '.join(sorted(unset))}" if unset else older,
        )

    def _stated(
        self, rows: list[Mapping[str, Any]], details: list[Mapping[str, Any]]
    ) -> tuple[dict[str, Holding], frozenset[str]]:
        """The holdings in rows, and the currencies of which none is taken. Raises UnprovenAnswer."""
        found: dict[str, Holding] = {}
        if details:
            found = holdings({"code": "0", "msg": "", "data": rows}, self.code)
        moving = {
            self.code(named(each.get("ccy"), "ccy"))
            for each in details
            if number(each.get("eq"), "eq") != number(each.get("cashBal"), "cashBal")
        }
        return {code: held for code, held in found.items() if code not in moving}, frozenset(moving)


def _details(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [mapping(each, "a row of details") for each in listing(row.get("details"), "details")]


def _time_ms(row: Mapping[str, Any], default_ms: int | None = None) -> int:
    """OKX's time in ms; `default_ms` where none is stated. Raises UnprovenAnswer."""
    told = row.get("uTime")
    if told in (None, "") and default_ms is not None:
        return default_ms
    found = number(told, "uTime")
    if found != int(found):
        raise UnprovenAnswer(f"uTime is {short(told)}")
    return int(found)
