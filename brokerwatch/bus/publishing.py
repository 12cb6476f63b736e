"""What a publisher says, stamped: who speaks, in which life, which message of it, and how long it holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from brokerwatch.bus.publisher import Publisher
from brokerwatch.clock import Clock
from brokerwatch.messages import (
    BalanceSeen,
    BrokerAlive,
    BrokerEvent,
    Envelope,
    FetchFailed,
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
"""The roster names everybody, so one in so many seconds is enough."""


class Publishing:
    """One life of one speaker on a publisher. `say` may be called from any thread."""

    def __init__(self, publisher: Publisher, src: str, epoch: str, clock: Clock, ttl_s: float) -> None:
        self._publisher = publisher
        self._src = src
        self._epoch = epoch
        self._clock = clock
        self._began_s = clock.up_s()
        self._ttl_ms = round(ttl_s * 1_000)
        self._seq: dict[str, int] = {}

    def say(
        self,
        topic: str,
        kind: MessageType,
        data: Callable[[], ReadingData | RosterData],
        *,
        gap_s: float = 0.0,
        ttl_ms: int | None = None,
    ) -> None:
        """Publish soon. `data` is asked when the message is packed, so that its ages are of that moment."""
        holds_ms = self._ttl_ms if ttl_ms is None else ttl_ms

        def pack(topic: str) -> bytes:
            # Only the publisher's thread packs, so the counting needs no lock.
            self._seq[topic] = self._seq.get(topic, 0) + 1
            now = self._clock.now()
            stamp = Stamp(
                src=self._src,
                epoch=self._epoch,
                seq=self._seq[topic],
                ts_us=now.wall_us,
                up_us=max(0, round((now.up_s - self._began_s) * 1_000_000)),
                ttl_ms=holds_ms,
            )
            return encode(Envelope(type=kind, stamp=stamp, data=data()))

        self._publisher.put(topic, pack, gap_s=gap_s)


class BrokerPublishing:
    """A broker's events to the supervisor."""

    def __init__(self, voice: Publishing) -> None:
        self._voice = voice

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
        self._voice.say(topic, kind, reading.data)


def _roster_topic(part: int) -> str:
    """The first part has the topic of the whole; the prefix of that subscribes to the others too."""
    return topics.ROSTER if part == 1 else f"{topics.ROSTER}{part}/"


class HealthPublishing:
    """The supervisor's readings to whoever listens."""

    def __init__(self, voice: Publishing, *, publish_balances: bool) -> None:
        self._voice = voice
        self._publish_balances = publish_balances

    def publish(self, reading: Reading, *, ttl_ms: int | None = None) -> None:
        """One broker's reading, whole."""
        self._voice.say(
            topics.state(reading.exchange, reading.broker),
            MessageType.READING,
            lambda: reading.data(with_cash=self._publish_balances),
            ttl_ms=ttl_ms,
        )

    def publish_part(self, part: int, roster: Callable[[], Roster], *, ttl_ms: int | None = None) -> None:
        """One part of the roster, which is made when it is sent, on the publisher's thread."""
        self._voice.say(
            _roster_topic(part),
            MessageType.ROSTER,
            lambda: roster().data(with_cash=self._publish_balances),
            gap_s=ROSTER_GAP_S,
            ttl_ms=ttl_ms,
        )

    def publish_roster(self, roster: Roster, *, ttl_ms: int | None = None) -> None:
        """All readings as they are, in as many messages as it takes."""
        readings = roster.readings
        chunks = [readings[at : at + ROSTER_PART] for at in range(0, len(readings), ROSTER_PART)] or [()]
        for part, chunk in enumerate(chunks, start=1):
            self.publish_part(part, partial(Roster, chunk, part, len(chunks)), ttl_ms=ttl_ms)
