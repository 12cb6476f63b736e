"""What a receiver believes: the rules for whoever listens to the health topic, in any language.

Messages may be lost, late, doubled, or come from a publisher that was replaced. A later epoch is a
publisher that started again; an earlier one, while the known one is still valid, is a zombie. A
message is only as fresh as it was when it was sent: at its high-water mark ZeroMQ keeps the
oldest messages, so a receiver that stalled wakes up to old news, and old news is not fresh news.
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
    """Until when it holds."""
    lost: int
    """How many messages of its topic are missing before it."""


@dataclass(slots=True)
class Sender:
    """One `src` as a receiver knows it."""

    epoch: str = ""
    fresh_until_s: float = float("-inf")
    shortest_s: float = float("inf")
    """The smallest difference seen between the receiver's clock and the speaker's: the quickest delivery."""
    seq: dict[str, int] = field(default_factory=dict[str, int])

    def hear(self, topic: str, stamp: Stamp, now_s: float) -> Accepted | None:
        """Whether a message counts; None drops it."""
        if stamp.epoch < self.epoch and now_s < self.fresh_until_s:
            return None
        if stamp.epoch != self.epoch:
            self.epoch, self.shortest_s, self.seq = stamp.epoch, float("inf"), {}
            self.fresh_until_s = float("-inf")
        last = self.seq.get(topic)
        if last is not None and stamp.seq <= last:
            return None
        self.seq[topic] = stamp.seq
        difference_s = now_s - stamp.up_us / 1_000_000
        self.shortest_s = min(self.shortest_s, difference_s)
        age_s = difference_s - self.shortest_s
        valid_until_s = now_s + stamp.ttl_ms / 1_000 - age_s
        # Who says that he leaves is no zombie's rival: his successor may have a clock that was set back.
        self.fresh_until_s = max(self.fresh_until_s, valid_until_s) if stamp.ttl_ms else now_s
        return Accepted(now_s - age_s, valid_until_s, 0 if last is None else stamp.seq - last - 1)


@dataclass(frozen=True, slots=True)
class ReceivedReading:
    """One broker's reading, and the message that brought it."""

    reading: Reading
    stamp: Stamp


class Receiver:
    """Everything that one receiver knows. Fed with messages and with the time; keeps no thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._speakers: dict[str, Sender] = {}
        self._heard: dict[tuple[str, str], ReceivedReading] = {}
        self._soonest_s = float("inf")
        """Nothing runs out before this monotonic second. What was renewed may leave it too early."""
        self.lost = 0
        """Messages that are known to be missing."""
        self.dropped = 0
        """Messages that were old, doubled, or from a zombie."""

    @property
    def heard(self) -> dict[tuple[str, str], ReceivedReading]:
        """(src, broker) to the newest reading."""
        return self._heard

    def hear(self, topic: str, envelope: Envelope) -> ReceivedReading | None:
        """A message came in: the reading, if it counts and is one."""
        now_s = self._clock.up_s()
        speaker = self._speakers.setdefault(envelope.stamp.src, Sender())
        accepted = speaker.hear(topic, envelope.stamp, now_s)
        if accepted is None:
            self.dropped += 1
            return None
        self.lost += accepted.lost
        if not isinstance(envelope.data, ReadingData):
            return None
        reading = Reading.received(
            envelope.data, clock=self._clock, sent_up_s=accepted.sent_s, valid_until_s=accepted.valid_until_s
        )
        heard = ReceivedReading(reading, envelope.stamp)
        self._heard[envelope.stamp.src, reading.broker] = heard
        self._soonest_s = min(self._soonest_s, reading.valid_until_s)
        return heard

    def expire(self) -> list[ReceivedReading]:
        """Turn what has run out into `unknown`, once: nobody vouches for it any more."""
        now = self._clock.now()
        turned: list[ReceivedReading] = []
        if now.up_s < self._soonest_s:
            return turned  # not each message of thousands of brokers shall look at all of them
        for key, heard in self._heard.items():
            reading = heard.reading
            if reading.expired and reading.verdict.reason not in (Reason.NOTHING_HEARD, Reason.SHUTDOWN):
                unknown = msgspec.structs.replace(
                    reading,
                    state=HealthState.UNKNOWN,
                    verdict=Verdict(available=False, reason=Reason.NOTHING_HEARD),
                    since_us=now.wall_us,
                    detail="nothing heard from the cluster",
                )
                turned.append(ReceivedReading(unknown, heard.stamp))
                self._heard[key] = turned[-1]
        self._soonest_s = min(
            (
                heard.reading.valid_until_s
                for heard in self._heard.values()
                if heard.reading.verdict.reason not in (Reason.NOTHING_HEARD, Reason.SHUTDOWN)
            ),
            default=float("inf"),
        )
        return turned

    def next_expiry_s(self) -> float:
        """A monotonic second before which nothing runs out; infinite when nothing will."""
        return self._soonest_s
