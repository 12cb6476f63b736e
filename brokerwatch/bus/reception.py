"""Which messages of the health topic count: the rules of a receiver, in any language.

A message may be lost, late or doubled, and its publisher may have been replaced. The rules:

* A later epoch means that the publisher started again. Its counters begin anew.
* A message with an earlier epoch is dropped while the known epoch is still valid. It comes from a publisher
  that was replaced and still runs.
* A message whose number is not above the last one of its topic is dropped. A gap in the numbers is a loss.
* A message is as fresh as it was when it was sent. ZeroMQ keeps the oldest messages when its queue is full,
  so a receiver that stalled reads old messages first. The time that they waited shortens their validity.

The module is pure but for the clock that `Receiver` is given. It keeps no thread and no socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from brokerwatch.clock import Clock
from brokerwatch.messages import Envelope, HealthState, Reading, ReadingData, Reason, Stamp, Verdict


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that counts."""

    sent_s: float
    """When it was sent, in the receiver's monotonic seconds, as nearly as can be known."""
    valid_until_s: float
    """Until when it is valid, in the receiver's monotonic seconds."""
    lost: int
    """How many messages of its topic are missing before it."""


@dataclass(slots=True)
class Sender:
    """One `src` as a receiver knows it. Used by the receiver's thread alone."""

    epoch: str = ""
    fresh_until_s: float = float("-inf")
    """Until this monotonic second a message of an earlier epoch is dropped."""
    shortest_s: float = float("inf")
    """The smallest difference seen between the receiver's clock and the sender's: the quickest delivery."""
    seq: dict[str, int] = field(default_factory=dict[str, int])
    """Topic to the number of its last message in this epoch."""

    def accept(self, topic: str, stamp: Stamp, now_s: float) -> Accepted | None:
        """Whether a message counts; None when it is to be dropped."""
        if stamp.epoch < self.epoch and now_s < self.fresh_until_s:
            return None
        if stamp.epoch != self.epoch:
            self.epoch, self.shortest_s, self.seq = stamp.epoch, float("inf"), {}
            self.fresh_until_s = float("-inf")
        last = self.seq.get(topic)
        if last is not None and stamp.seq <= last:
            return None
        self.seq[topic] = stamp.seq
        # Two clocks differ by a constant. What exceeds the smallest difference is the time under way.
        difference_s = now_s - stamp.up_us / 1_000_000
        self.shortest_s = min(self.shortest_s, difference_s)
        age_s = difference_s - self.shortest_s
        valid_until_s = now_s + stamp.ttl_ms / 1_000 - age_s
        # A ttl of 0 is a farewell. Any epoch may follow it: the wall clock of the next publisher, from which
        # its epoch is made, may have been set back.
        self.fresh_until_s = max(self.fresh_until_s, valid_until_s) if stamp.ttl_ms else now_s
        return Accepted(now_s - age_s, valid_until_s, 0 if last is None else stamp.seq - last - 1)


@dataclass(frozen=True, slots=True)
class ReceivedReading:
    """One broker's reading, and the stamp of the message that brought it."""

    reading: Reading
    stamp: Stamp


class Receiver:
    """All that one receiver knows: its senders, and the newest reading of each broker.

    It is fed with messages, and reads the time from `clock`. One thread may call it; `newest` may be copied
    from any thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._senders: dict[str, Sender] = {}
        self._newest: dict[tuple[str, str], ReceivedReading] = {}
        self._soonest_s = float("inf")
        """No reading expires before this monotonic second. It may be too early, and is never too late."""
        self.lost = 0
        """Messages that are known to be missing."""
        self.dropped = 0
        """Messages that were old, doubled, or from a publisher that was replaced."""

    @property
    def newest(self) -> dict[tuple[str, str], ReceivedReading]:
        """(src, broker) to the newest reading."""
        return self._newest

    def take(self, topic: str, envelope: Envelope) -> ReceivedReading | None:
        """Take in one message. Returns its reading; None when it has none or does not count."""
        now_s = self._clock.up_s()
        sender = self._senders.setdefault(envelope.stamp.src, Sender())
        accepted = sender.accept(topic, envelope.stamp, now_s)
        if accepted is None:
            self.dropped += 1
            return None
        self.lost += accepted.lost
        if not isinstance(envelope.data, ReadingData):
            return None
        reading = Reading.received(
            envelope.data, clock=self._clock, sent_up_s=accepted.sent_s, valid_until_s=accepted.valid_until_s
        )
        received = ReceivedReading(reading, envelope.stamp)
        self._newest[envelope.stamp.src, reading.broker] = received
        self._soonest_s = min(self._soonest_s, reading.valid_until_s)
        return received

    def expire(self) -> list[ReceivedReading]:
        """Turn each reading that has expired into `unknown`, once. Returns those."""
        now = self._clock.now()
        turned: list[ReceivedReading] = []
        if now.up_s < self._soonest_s:
            return turned  # this runs after each message, and there may be thousands of brokers
        for key, received in self._newest.items():
            reading = received.reading
            if reading.expired and reading.verdict.reason not in (Reason.NOTHING_HEARD, Reason.SHUTDOWN):
                unknown = msgspec.structs.replace(
                    reading,
                    state=HealthState.UNKNOWN,
                    verdict=Verdict(available=False, reason=Reason.NOTHING_HEARD),
                    since_us=now.wall_us,
                    detail="nothing heard from the cluster",
                )
                turned.append(ReceivedReading(unknown, received.stamp))
                self._newest[key] = turned[-1]
        self._soonest_s = min(
            (
                received.reading.valid_until_s
                for received in self._newest.values()
                if received.reading.verdict.reason not in (Reason.NOTHING_HEARD, Reason.SHUTDOWN)
            ),
            default=float("inf"),
        )
        return turned

    def next_expiry_s(self) -> float:
        """A monotonic second before which no reading expires; infinite when none will."""
        return self._soonest_s
