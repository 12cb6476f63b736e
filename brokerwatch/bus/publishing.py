"""Readings and rosters as stamped messages: the sender, its epoch, the message's number, and its validity."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import msgspec

from brokerwatch.bus.publisher import Publisher
from brokerwatch.clock import Clock
from brokerwatch.messages import (
    BalanceSeen,
    BrokerAlive,
    BrokerEvent,
    Envelope,
    FetchFailed,
    HealthState,
    MessageType,
    Reading,
    ReadingData,
    Roster,
    RosterData,
    Stamp,
    topics,
)
from brokerwatch.messages.codec import encode
from brokerwatch.messages.reading import ROSTER_PART

ROSTER_GAP_S = 0.1
"""A roster names all brokers, so one message in so many seconds is enough."""


class Publishing:
    """Stamps and publishes the messages of one sender in one epoch. `send` may be called from any thread."""

    def __init__(self, publisher: Publisher, src: str, epoch: str, clock: Clock, ttl_s: float) -> None:
        self._publisher = publisher
        self._src = src
        self._epoch = epoch
        self._clock = clock
        self._began_s = _with_sleep_s(clock)
        self._ttl_ms = round(ttl_s * 1_000)
        self._seq: dict[str, int] = {}

    def send(
        self,
        topic: str,
        kind: MessageType,
        data: Callable[[], ReadingData | RosterData],
        *,
        gap_s: float = 0.0,
        ttl_ms: int | None = None,
    ) -> None:
        """Publish soon. `data` is called when the message is packed, so that its ages are of that moment.

        With `gap_s` the topic is published at most once in so many seconds. `ttl_ms` is how long the message
        is valid after it arrives; 0 is a farewell.
        """
        valid_ms = self._ttl_ms if ttl_ms is None else ttl_ms

        def pack(topic: str) -> bytes:
            # Only the publisher's thread packs, so the counters need no lock.
            self._seq[topic] = self._seq.get(topic, 0) + 1
            now = self._clock.now()
            stamp = Stamp(
                src=self._src,
                epoch=self._epoch,
                seq=self._seq[topic],
                ts_us=now.wall_us,
                up_us=max(0, round((_with_sleep_s(self._clock) - self._began_s) * 1_000_000)),
                ttl_ms=valid_ms,
            )
            return encode(Envelope(type=kind, stamp=stamp, data=data()))

        self._publisher.put(topic, pack, gap_s=gap_s)


class BrokerPublishing:
    """Publishes a broker's events, for the supervisor. For any thread."""

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing

    def publish(self, event: BrokerEvent) -> None:
        """One event, with the broker's whole state."""
        reading = event.reading
        match event:
            case BalanceSeen():
                topic, kind = topics.balance(reading.exchange, reading.broker), MessageType.BALANCE_SEEN
            case FetchFailed():
                topic, kind = topics.error(reading.exchange, reading.broker), MessageType.FETCH_FAILED
            case BrokerAlive():
                topic, kind = topics.alive(reading.exchange, reading.broker), MessageType.BROKER_ALIVE
        self._publishing.send(topic, kind, reading.data)


class HealthPublishing:
    """Publishes the supervisor's readings, for every listener. For any thread."""

    def __init__(self, publishing: Publishing, *, publish_balances: bool) -> None:
        self._publishing = publishing
        self.publish_balances = publish_balances
        """Whether amounts are published. Any thread may change it."""
        self.spoke_s = time.monotonic()
        """The monotonic second at which a part of the roster was handed over: each heartbeat brings one."""

    def publish(self, reading: Reading, *, ttl_ms: int | None = None) -> None:
        """One broker's reading, whole."""
        self._publishing.send(
            topics.state(reading.exchange, reading.broker),
            MessageType.READING,
            lambda: reading.data(with_cash=self.publish_balances),
            ttl_ms=ttl_ms,
        )

    def farewell(self, reading: Reading) -> None:
        """The last word about a broker, which is not that of its cluster: others go on."""
        self.publish(msgspec.structs.replace(reading, state=HealthState.UNKNOWN))

    def publish_part(self, part: int, roster: Callable[[], Roster], *, ttl_ms: int | None = None) -> None:
        """One part of the roster. `roster` is called when it is sent, on the publisher's thread."""
        self.spoke_s = time.monotonic()
        self._publishing.send(
            _roster_topic(part),
            MessageType.ROSTER,
            lambda: roster().data(with_cash=self.publish_balances),
            gap_s=ROSTER_GAP_S,
            ttl_ms=ttl_ms,
        )

    def publish_roster(self, roster: Roster, *, ttl_ms: int | None = None) -> None:
        """All readings of `roster`, in as many messages as it takes."""
        readings = roster.readings
        chunks = [readings[at : at + ROSTER_PART] for at in range(0, len(readings), ROSTER_PART)] or [()]
        for part, chunk in enumerate(chunks, start=1):
            self.publish_part(part, partial(Roster, chunk, part, len(chunks)), ttl_ms=ttl_ms)


def _with_sleep_s(clock: Clock) -> float:
    """Monotonic seconds that go on while the machine sleeps. Else a receiver elsewhere would take every
    message after the sleep for as old as the sleep was long."""
    return clock.up_s() + clock.leads()[1]


def _roster_topic(part: int) -> str:
    """The first part has the topic of the whole. Its prefix subscribes to the other parts too."""
    return topics.ROSTER if part == 1 else f"{topics.ROSTER}{part}/"
