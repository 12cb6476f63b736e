"""Readings and rosters as stamped messages: the sender, its epoch, the message's number, and its validity."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import msgspec

from brokerwatch.bus.publisher import Publisher
from brokerwatch.clock import Clock, leapt, with_sleep_s
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
KEPT_TTLS = 2.0
"""What is not kept for ever is kept for so many times to live: by then no message before it is valid."""


class Publishing:
    """Stamps and publishes the messages of one sender in one epoch. `send` may be called from any thread."""

    def __init__(self, publisher: Publisher, src: str, epoch: str, clock: Clock, ttl_s: float) -> None:
        self._publisher = publisher
        self._src = src
        self._epoch = epoch
        self._clock = clock
        self._began_s = with_sleep_s(clock)
        self._ttl_ms = round(ttl_s * 1_000)
        self._seq: dict[str, int] = {}
        self._highest = 0
        """Of the numbers of topics that were forgotten. A topic that comes back goes on above it: a receiver
        may still have the number that it had."""

    def send(
        self,
        topic: str,
        kind: MessageType,
        data: Callable[[], ReadingData | RosterData],
        *,
        gap_s: float = 0.0,
        ttl_ms: int | None = None,
        ages: bool = False,
    ) -> None:
        """Publish soon.

        Args:
            topic: its topic.
            kind: the type of the message.
            data: called when the message is packed, so that its ages are of that moment.
            gap_s: the topic is published at most once in so many seconds.
            ttl_ms: how long the message is valid after it arrives; 0 is a farewell.
            ages: the topic is forgotten some time after this message, unless another one follows.
        """
        valid_ms = self._ttl_ms if ttl_ms is None else ttl_ms
        leads = self._clock.leads()

        def pack(topic: str) -> bytes:
            # Only the publisher's thread packs, so the counters need no lock.
            self._seq[topic] = self._seq.get(topic, self._highest) + 1
            now = self._clock.now()
            stamp = Stamp(
                src=self._src,
                epoch=self._epoch,
                seq=self._seq[topic],
                ts_us=now.wall_us,
                up_us=max(0, round((with_sleep_s(self._clock) - self._began_s) * 1_000_000)),
                ttl_ms=valid_ms,
            )
            found = data()
            if leapt(leads, self._clock.leads()):
                # It is packed, or sent again to one that joins, before its actor has looked at the time.
                found = _unproven(found)
            return encode(Envelope(type=kind, stamp=stamp, data=found))

        if ages:
            kept_s = KEPT_TTLS * self._ttl_ms / 1_000
            self._publisher.put(topic, pack, gap_s=gap_s, kept_s=kept_s, on_forgotten=self._forget)
        else:
            self._publisher.put(topic, pack, gap_s=gap_s)

    def _forget(self, topic: str) -> None:
        """Keep no number of this topic. On the publisher's thread."""
        self._highest = max(self._highest, self._seq.pop(topic, 0))


def _unproven(data: ReadingData | RosterData) -> ReadingData | RosterData:
    """What was handed over before the machine slept: an account that was available then is not proven now."""
    if isinstance(data, ReadingData):
        return msgspec.structs.replace(data, proof_ms=0)
    return msgspec.structs.replace(
        data, readings=tuple(msgspec.structs.replace(each, proof_ms=0) for each in data.readings)
    )


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
        # An older one than the newest sign of life says nothing: each has the whole state.
        self._publishing.send(topic, kind, reading.data, ages=True)


class Reporting(Protocol):
    """Reports readings to supervisors elsewhere: `bus.uplink.Uplink` does."""

    def publish(
        self, reading: Reading, *, with_cash: bool, ttl_ms: int | None = None, leaves: bool = False
    ) -> None:
        """One broker's reading. `ttl_ms`: how long it is valid; None: as long as usual; 0: the last word.
        `leaves`: the broker leaves its cluster with it."""
        ...


class HealthPublishing:
    """Publishes the supervisor's readings, for every listener. For any thread.

    `uplink`: reports them to the supervisors elsewhere too; None: there are none. `shard`: which of several
    supervisors it is that share the accounts of the cluster, from 1, and how many there are.
    """

    def __init__(
        self,
        publishing: Publishing,
        *,
        publish_balances: bool,
        uplink: Reporting | None = None,
        shard: tuple[int, int] = (1, 1),
    ) -> None:
        self._publishing = publishing
        self._shard = shard
        self._uplink = uplink
        self.publish_balances = publish_balances
        """Whether amounts are published. Any thread may change it."""
        self.spoke_s = time.monotonic()
        """The monotonic second at which a part of the roster was handed over: each heartbeat brings one."""

    def silent_s(self) -> float:
        """For how many seconds no part of the roster was handed over. Any thread."""
        return time.monotonic() - self.spoke_s

    def publish(self, reading: Reading, *, ttl_ms: int | None = None, leaves: bool = False) -> None:
        """One broker's reading, whole. `leaves`: the broker leaves its cluster with it."""
        self._publishing.send(
            topics.state(reading.exchange, reading.broker),
            MessageType.READING,
            lambda: reading.data(with_cash=self.publish_balances),
            ttl_ms=ttl_ms,
            ages=leaves,
        )
        if self._uplink is not None:
            balances = self.publish_balances
            self._uplink.publish(reading, with_cash=balances, ttl_ms=ttl_ms, leaves=leaves)

    def farewell(self, reading: Reading) -> None:
        """The last word about a broker, which is not that of its cluster: others go on."""
        self.publish(msgspec.structs.replace(reading, state=HealthState.UNKNOWN), leaves=True)

    def leave(self, readings: Iterable[Reading]) -> None:
        """The last word on every topic: the publisher ends. Their verdict says why."""
        gone = tuple(msgspec.structs.replace(reading, state=HealthState.UNKNOWN) for reading in readings)
        for reading in gone:
            self.publish(reading, ttl_ms=0)
        self.publish_roster(Roster(gone), ttl_ms=0)

    def publish_part(self, part: int, roster: Callable[[], Roster], *, ttl_ms: int | None = None) -> None:
        """One part of the roster. `roster` is called when it is sent, on the publisher's thread."""
        self.spoke_s = time.monotonic()
        self._publishing.send(
            _roster_topic(part),
            MessageType.ROSTER,
            lambda: roster().data(with_cash=self.publish_balances, shard=self._shard),
            gap_s=ROSTER_GAP_S,
            ttl_ms=ttl_ms,
        )

    def publish_roster(self, roster: Roster, *, ttl_ms: int | None = None) -> None:
        """All readings of `roster`, in as many messages as it takes."""
        readings = roster.readings
        chunks = [readings[at : at + ROSTER_PART] for at in range(0, len(readings), ROSTER_PART)] or [()]
        for part, chunk in enumerate(chunks, start=1):
            self.publish_part(part, partial(Roster, chunk, part, len(chunks)), ttl_ms=ttl_ms)


def _roster_topic(part: int) -> str:
    """The first part has the topic of the whole. Its prefix subscribes to the other parts too."""
    return topics.ROSTER if part == 1 else f"{topics.ROSTER}{part}/"
