"""The orders of an account on its private stream: which of them have changed, and nothing else.

A frame names orders, and asks for a read of them: Kraken's are deltas, and ccxt's own reading of them loses
fills. What a frame states of an order is used for one thing: a read that is behind it does not count.

The connections are opened, acknowledged and refused as those of the balances are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar, Final

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.coinbase_stream import CoinbaseStream
from brokerwatch.exchanges.envelope import UnprovenAnswer, listing, mapping, named, number, short
from brokerwatch.exchanges.kraken_stream import KrakenStream
from brokerwatch.exchanges.okx_stream import OkxStream
from brokerwatch.exchanges.stream import Opening, Step, StreamFold, Ticket, unreadable
from brokerwatch.messages.stream import NamedOrder

CHANGED: Final = "an order has changed"
ENDED: Final = frozenset({"filled", "canceled", "cancelled", "expired", "failed", "rejected", "mmp_canceled"})
"""The states of all three exchanges, in small letters, that an order does not leave."""


@dataclass(frozen=True, slots=True)
class KrakenOrderStream:
    """The channel `executions`. https://docs.kraken.com/api/docs/websocket-v2/executions"""

    family: ClassVar[str] = KrakenStream.family
    hosts: ClassVar[Mapping[str, str]] = KrakenStream.hosts
    url_path: ClassVar[tuple[str, ...]] = KrakenStream.url_path
    url_end: ClassVar[str] = KrakenStream.url_end
    ticket: ClassVar[Ticket | None] = KrakenStream.ticket
    ping: ClassVar[str] = KrakenStream.ping
    sets: ClassVar[bool] = False

    base: KrakenStream
    sequence: int | None = None
    """The number of the newest frame of the channel; None: none came yet."""

    @staticmethod
    def token(instance: Any, credentials: Mapping[str, str], now_s: int) -> str:
        """None is needed."""
        return KrakenStream.token(instance, credentials, now_s)

    @classmethod
    def opened(cls, opening: Opening) -> Step:
        """Subscribe, with the token that the REST API gave."""
        wanted = {"channel": "executions", "token": opening.ticket, "snap_orders": True, "snap_trades": False}
        subscribe = json.dumps({"method": "subscribe", "params": wanted, "req_id": 1})
        return Step(cls(KrakenStream(opening.code)), (subscribe,))

    def heard(self, frame: str) -> Step:
        """Take one frame."""
        try:
            message = mapping(json_text.parsed(frame), "a frame")
            if message.get("channel") == "executions":
                return self._numbered(message)
        except ValueError as error:  # which is an UnprovenAnswer too
            return unreadable(self, error)
        return replace(self.base.heard(frame), fold=self)

    def _numbered(self, message: Mapping[str, Any]) -> Step:
        told = number(message.get("sequence"), "sequence")
        sequence, before = int(told), self.sequence
        if sequence != told or sequence < 0:
            raise UnprovenAnswer(f"sequence is {short(message.get('sequence'))}")
        if before is not None and sequence < before:
            # The numbers have begun anew, and what came in between may be missing: all orders are listed.
            older = f"the frame {sequence} came after {before}"
            return Step(self, asks=older, ended=older)
        # One of the same number names its orders again: it may be the first of numbers that began anew.
        after = replace(self, sequence=sequence)
        found = tuple(
            _order(mapping(row, "a row"), "order_id", "symbol", "order_status", "cum_qty")
            for row in listing(message.get("data"), "data")
        )
        missed = 0 if before is None else sequence - before - 1
        if missed > 0:
            gap = f"{missed} frames are missing"
            return Step(after, orders=found, asks=gap, ended=gap)
        return Step(after, orders=found, asks=CHANGED if found else "")


@dataclass(frozen=True, slots=True)
class OkxOrderStream:
    """The channel `orders`, of every kind of market.

    https://www.okx.com/docs-v5/en/#order-book-trading-trade-ws-order-channel
    """

    family: ClassVar[str] = OkxStream.family
    hosts: ClassVar[Mapping[str, str]] = OkxStream.hosts
    url_path: ClassVar[tuple[str, ...]] = OkxStream.url_path
    url_end: ClassVar[str] = OkxStream.url_end
    ticket: ClassVar[Ticket | None] = OkxStream.ticket
    ping: ClassVar[str] = OkxStream.ping
    sets: ClassVar[bool] = False

    base: OkxStream

    @staticmethod
    def token(instance: Any, credentials: Mapping[str, str], now_s: int) -> str:
        """None is needed."""
        return OkxStream.token(instance, credentials, now_s)

    @classmethod
    def opened(cls, opening: Opening) -> Step:
        """Log in."""
        step = OkxStream.opened(opening)
        return replace(step, fold=cls(OkxStream(opening.code)))

    def heard(self, frame: str) -> Step:
        """Take one frame."""
        step = self.base.heard(frame)
        if step.send:  # logged in: the subscription follows
            wanted = {"op": "subscribe", "args": [{"channel": "orders", "instType": "ANY"}]}
            return replace(step, fold=self, send=(json.dumps(wanted),))
        if step.asks or step.ended or step.refused or step.acknowledged:
            return replace(step, fold=self)
        try:
            return self._orders(frame)
        except ValueError as error:  # which is an UnprovenAnswer too
            return unreadable(self, error)

    def _orders(self, frame: str) -> Step:
        message: Any = {} if frame == "pong" else json_text.parsed(frame)
        about = mapping(mapping(message, "a frame").get("arg") or {}, "arg")
        if about.get("channel") != "orders" or "data" not in message:
            return Step(self)
        found = tuple(
            _order(mapping(row, "a row"), "ordId", "instId", "state", "accFillSz")
            for row in listing(message.get("data"), "data")
        )
        return Step(self, orders=found, asks=CHANGED if found else "")


@dataclass(frozen=True, slots=True)
class CoinbaseOrderStream:
    """The channel `user`, as for balances, with the orders that it names."""

    family: ClassVar[str] = CoinbaseStream.family
    hosts: ClassVar[Mapping[str, str]] = CoinbaseStream.hosts
    url_path: ClassVar[tuple[str, ...]] = CoinbaseStream.url_path
    url_end: ClassVar[str] = CoinbaseStream.url_end
    ticket: ClassVar[Ticket | None] = CoinbaseStream.ticket
    ping: ClassVar[str] = CoinbaseStream.ping
    sets: ClassVar[bool] = False

    base: CoinbaseStream

    @staticmethod
    def token(instance: Any, credentials: Mapping[str, str], now_s: int) -> str:
        """That of the balances."""
        return CoinbaseStream.token(instance, credentials, now_s)

    @classmethod
    def opened(cls, opening: Opening) -> Step:
        """Subscribe to both channels."""
        step = CoinbaseStream.opened(opening)
        return replace(step, fold=cls(CoinbaseStream()))

    def heard(self, frame: str) -> Step:
        """Take one frame."""
        step = self.base.heard(frame)
        if not isinstance(step.fold, CoinbaseStream):
            return step
        after = CoinbaseOrderStream(step.fold)
        is_newer = step.fold.sequence > self.base.sequence
        missed = step.fold.sequence - self.base.sequence - 1 if self.base.sequence >= 0 and is_newer else 0
        if missed:
            # A list of all that is open follows a new connection.
            gap = f"{missed} frames are missing"
            return replace(step, fold=after, asks=gap, ended=gap)
        if not step.asks or step.ended:
            return replace(step, fold=after)
        try:
            return replace(step, fold=after, orders=_of_user(frame))
        except ValueError as error:  # which is an UnprovenAnswer too
            return unreadable(after, error)


def _of_user(frame: str) -> tuple[NamedOrder, ...]:
    message = mapping(json_text.parsed(frame), "a frame")
    events = [mapping(event, "an event") for event in listing(message.get("events"), "events")]
    rows = [row for event in events for row in listing(event.get("orders") or [], "orders")]
    return tuple(
        _order(mapping(row, "an order"), "order_id", "product_id", "status", "cumulative_quantity")
        for row in rows
    )


def _order(row: Mapping[str, Any], id_key: str, market: str, state: str, filled: str) -> NamedOrder:
    """The order of a row. Raises UnprovenAnswer where it has no id."""
    amount: Decimal | None = None
    if row.get(filled) not in (None, ""):
        amount = number(row.get(filled), filled)
    return NamedOrder(
        id=named(row.get(id_key), id_key),
        market=str(row.get(market) or ""),
        has_ended=str(row.get(state) or "").lower() in ENDED,
        filled=amount,
    )


ORDER_STREAMS: Final[Mapping[str, type[StreamFold]]] = MappingProxyType(
    {fold.family: fold for fold in (KrakenOrderStream, OkxOrderStream, CoinbaseOrderStream)}
)
"""By the name of the exchange's adapter."""
NUMBERED: Final = frozenset({KrakenOrderStream.family, CoinbaseOrderStream.family})
"""Those whose frames are numbered: where none is missing, no order is."""
