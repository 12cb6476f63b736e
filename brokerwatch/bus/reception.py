"""Which messages of the health topic count: the rules of a receiver, in any language.

A message may be lost, late or doubled, and its publisher may have been replaced. The rules:

* A later epoch means that the publisher started again. Its counters begin anew.
* A message with an earlier epoch is dropped while the known epoch is still valid. It comes from a publisher
  that was replaced and still runs.
* A message whose number is not above the last one of its topic is dropped. A gap in the numbers is a loss.
* A message counts on the topic of what it is about, and on no other.
* Every field has a bound, so that no message makes a later one unbelievable for longer than the longest time
  to live: the time to live itself, the epoch against the receiver's own wall clock, and how many senders and
  brokers are remembered. A number that is too high is believed only while its message is valid.
* A broker that its sender's whole roster does not name any more, and that was said to be gone or was heard of
  no more, has left the cluster and is dropped.
* A message is as fresh as it was when it was sent. ZeroMQ keeps the oldest messages when its queue is full,
  so a receiver that stalled reads old messages first. The time that they waited shortens their validity.
* Two monotonic clocks drift apart, and that of a virtual machine stands still while it is paused. So what
  counts as the quickest delivery is found anew while all messages of a minute come equally late. A backlog
  never does: it comes ever less late.
* A receiver that was held up itself finds a backlog. What is in it of an epoch that it does not know yet may
  have waited for as long as the receiver did, and counts as so old.

The module is pure but for the clock that `Receiver` is given. It keeps no thread and no socket.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

import msgspec

from brokerwatch.clock import Clock, with_sleep_s
from brokerwatch.config.cluster_settings import HEARTBEAT_RANGE_S
from brokerwatch.health.reading import ttl_s
from brokerwatch.messages import (
    Envelope,
    HealthState,
    Reading,
    ReadingData,
    Reason,
    RosterData,
    Stamp,
    Verdict,
    topics,
)

LONGEST_TTL_MS: Final = round(ttl_s(HEARTBEAT_RANGE_S[1]) * 1_000)
"""What the longest heartbeat announces. A message that claims to be valid for longer is valid for so long."""
AHEAD_US: Final = 400 * 86_400_000_000
"""An epoch that begins later than this after now, by the receiver's wall clock, is not believed. A wall clock
may be wrong by hours, and by a year where a battery is empty. What an epoch can do ends with its time to
live."""
TRIFLE_S: Final = 0.001
"""Two messages that were sent within this time count as sent at once."""
STEADY_S: Final = 60.0
STEADY_OVER_S: Final = 120.0
STEADY_MESSAGES: Final = 10
EQUALLY_S: Final = 0.5
"""When at least ten messages over a minute or more came equally late, to half a second, that is how the two
clocks differ by now. After two minutes a run begins anew."""
HELD_UP_S: Final = 2.0
"""A receiver that has not read for longer was held up. On time it reads at least once a second."""
BACKLOG_S: Final = 1.0
"""For so long after that, what it reads may be of the backlog, which comes in parts."""
_LAST_WORDS: Final = frozenset({Reason.SHUTDOWN, Reason.NOTHING_HEARD})
"""After these nothing is expected any more, unless the broker or its cluster starts again."""
TIDY_S: Final = 1.0
"""Between two attempts to forget senders that are over, when there is no room for another one."""
MOST_SENDERS: Final = 1_000
MOST_BROKERS: Final = 100_000
"""So many senders, and brokers of all senders, are remembered. What is beyond them is dropped, until one of
these is heard no more and its messages are over."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that counts."""

    sent_s: float
    """When it was sent, in the receiver's monotonic seconds, as nearly as can be known."""
    valid_until_s: float
    """Until when it is valid, in the receiver's monotonic seconds."""
    lost: int
    """How many messages of its topic are missing before it."""


@dataclass(frozen=True, slots=True)
class Steady:
    """A run of messages of one sender that came equally late. Immutable."""

    since_s: float
    """When the first of them came, in the receiver's monotonic seconds."""
    least_s: float
    most_s: float
    """The least and the most difference between the two clocks in it."""
    messages: int = 1

    @classmethod
    def after(cls, before: Steady | None, difference_s: float, now_s: float) -> Steady:
        """With one more message, which is the first of another run where it came otherwise."""
        if before is not None and now_s - before.since_s <= STEADY_OVER_S:
            least_s, most_s = min(before.least_s, difference_s), max(before.most_s, difference_s)
            if most_s - least_s <= EQUALLY_S:
                return cls(before.since_s, least_s, most_s, before.messages + 1)
        return cls(now_s, difference_s, difference_s)

    def settled_s(self, now_s: float) -> float:
        """The quickest delivery of the run; minus infinity while it proves nothing yet."""
        proves = self.messages >= STEADY_MESSAGES and now_s - self.since_s >= STEADY_S
        return self.least_s if proves else float("-inf")


@dataclass(slots=True)
class Delay:
    """For how long what is read now may have waited for its reader. Used by the receiver's thread alone."""

    turned_s: float | None = None
    """When it read last; None: it has not begun."""
    since_s: float = 0.0
    """Since when it was held up last."""
    until_s: float = float("-inf")
    """Until when what it reads may have waited since then."""

    def turn(self, now_s: float) -> None:
        """It reads now, what has come until now."""
        if self.turned_s is not None and now_s - self.turned_s > HELD_UP_S:
            self.since_s, self.until_s = self.turned_s, now_s + BACKLOG_S
        self.turned_s = now_s

    def longest_s(self, now_s: float) -> float:
        """How many seconds a message of now may have waited at the longest; 0: it is read on time."""
        return now_s - self.since_s if now_s < self.until_s else 0.0


@dataclass(slots=True)
class Sender:
    """One `src` as a receiver knows it. Used by the receiver's thread alone."""

    epoch: str = ""
    fresh_until_s: float = float("-inf")
    """Until this monotonic second a message of an earlier epoch is dropped."""
    shortest_s: float = float("inf")
    """The smallest difference seen between the receiver's clock and the sender's: the quickest delivery."""
    steady: Steady | None = None
    """The newest run of messages that came equally late."""
    seq: dict[str, tuple[int, float]] = field(default_factory=dict[str, tuple[int, float]])
    """Topic to the number of its last message in this epoch, and until when its number counts."""

    def accept(
        self, topic: str, stamp: Stamp, now_s: float, slept_s: float = 0.0, waited_s: float = 0.0
    ) -> Accepted | None:
        """Whether a message counts; None when it is to be dropped.

        Args:
            topic: its topic.
            stamp: its stamp.
            now_s: the receiver's monotonic second.
            slept_s: seconds that the receiver's machine slept, which `now_s` does not count.
            waited_s: for how long it may have waited for its receiver; 0: it is read on time.
        """
        if stamp.epoch < self.epoch and now_s < self.fresh_until_s:
            return None
        if stamp.epoch != self.epoch:
            self.epoch, self.shortest_s, self.seq = stamp.epoch, float("inf"), {}
            self.fresh_until_s, self.steady = float("-inf"), None
        # Two clocks differ by a constant. What exceeds the smallest difference is the time under way.
        difference_s = now_s + slept_s - stamp.up_us / 1_000_000
        if waited_s > 0 and self.shortest_s == float("inf"):
            age_s = waited_s  # it shows nothing of how the clocks differ
        else:
            shortest_s = min(self.shortest_s, difference_s)
            age_s = difference_s - shortest_s
            # A message that is dropped shows too how the clocks differ. Or one made-up message, of a high
            # number and much later, would make each later one both too low and too old for ever.
            self.steady = Steady.after(self.steady, difference_s, now_s)
            self.shortest_s = max(shortest_s, self.steady.settled_s(now_s))
        valid_until_s = now_s + min(stamp.ttl_ms, LONGEST_TTL_MS) / 1_000 - age_s
        last, last_until_s = self.seq.get(topic, (None, now_s))
        if last is not None and stamp.seq <= last:
            if valid_until_s <= last_until_s + TRIFLE_S:
                return None
            last = None  # it was sent later, so the number before it was made up: the counting begins anew
        # After a farewell an older message is no news, although it is valid for longer.
        over_s = valid_until_s if stamp.ttl_ms else now_s + LONGEST_TTL_MS / 1_000
        self.seq[topic] = (stamp.seq, over_s)
        # A ttl of 0 is a farewell. Any epoch may follow it: the wall clock of the next publisher, from which
        # its epoch is made, may have been set back.
        self.fresh_until_s = max(self.fresh_until_s, valid_until_s) if stamp.ttl_ms else now_s
        return Accepted(now_s - age_s, valid_until_s, 0 if last is None else stamp.seq - last - 1)

    def forget(self, named: Set[str], now_s: float) -> None:
        """Keep no number of topics of brokers that left: of no broker of `named`, and not valid any more."""
        over = [
            topic
            for topic, (_, until_s) in self.seq.items()
            if until_s <= now_s and topic.rstrip("/").rpartition("/")[2] not in named
        ]
        for topic in over:
            del self.seq[topic]


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

    def __init__(self, clock: Clock, most_senders: int = MOST_SENDERS) -> None:
        self._clock = clock
        self._delay = Delay()
        self._most_senders = most_senders
        self._senders: dict[str, Sender] = {}
        self._newest: dict[tuple[str, str], ReceivedReading] = {}
        self._rosters: dict[str, dict[int, frozenset[str]]] = {}
        """By the sender, the brokers that each part of its roster names."""
        self._gone: list[tuple[str, str]] = []
        self._tidied_s = float("-inf")
        self._soonest_s = float("inf")
        """No reading expires before this monotonic second. It may be too early, and is never too late."""
        self.lost = 0
        """Messages that are known to be missing."""
        self.healed = 0
        """Of these, those that a later message has made up for."""
        self.dropped = 0
        """Messages that were old, doubled, or from a publisher that was replaced."""

    @property
    def newest(self) -> dict[tuple[str, str], ReceivedReading]:
        """(src, broker) to the newest reading."""
        return self._newest

    def turn(self) -> None:
        """To be called before what has come is taken, each time: a receiver that was held up notices it."""
        self._delay.turn(with_sleep_s(self._clock))

    def take(self, topic: str, envelope: Envelope) -> ReceivedReading | None:
        """Take in one message. Returns its reading; None when it has none or does not count."""
        now, stamp = self._clock.now(), envelope.stamp
        sender = self._sender(stamp.src, now.up_s) if _is_on_its_topic(topic, envelope) else None
        ahead_us = int(stamp.epoch[:16]) - now.wall_us
        accepted = None
        if sender is not None and ahead_us <= AHEAD_US:
            slept_s = self._clock.leads()[1]
            waited_s = self._delay.longest_s(now.up_s + slept_s)
            accepted = sender.accept(topic, stamp, now.up_s, slept_s, waited_s)
        if accepted is None or not self._has_room(envelope, now.up_s):
            self.dropped += 1
            return None
        self.lost += accepted.lost
        self.healed += accepted.lost
        if isinstance(envelope.data, RosterData):
            self._learn(stamp.src, envelope.data)
        if not isinstance(envelope.data, ReadingData):
            return None
        reading = Reading.received(
            envelope.data, clock=self._clock, sent_up_s=accepted.sent_s, valid_until_s=accepted.valid_until_s
        )
        received = ReceivedReading(reading, stamp)
        self._newest[stamp.src, reading.broker] = received
        self._soonest_s = min(self._soonest_s, reading.valid_until_s)
        return received

    def _learn(self, src: str, roster: RosterData) -> None:
        """Drop the brokers that a sender names no more, and of which it has said its last word.

        One that it goes on to report is kept: a roster may be older than the newest reading.
        """
        parts = dict(self._rosters.get(src, {}))
        parts[roster.part] = frozenset(reading.broker for reading in roster.readings)
        parts = {number: names for number, names in parts.items() if number <= roster.parts}
        self._rosters[src] = parts
        if len(parts) < roster.parts:
            return
        named = frozenset[str]().union(*parts.values())
        for key, received in tuple(self._newest.items()):
            if key[0] == src and key[1] not in named and received.reading.verdict.reason in _LAST_WORDS:
                del self._newest[key]
                self._gone.append(key)
        sender = self._senders[src]
        if len(sender.seq) > len(named) + roster.parts:  # or each heartbeat would walk through thousands
            sender.forget(named, self._clock.up_s())

    def take_gone(self) -> list[tuple[str, str]]:
        """(src, broker) of the brokers that were dropped since the last call: they left their cluster."""
        gone, self._gone = self._gone, []
        return gone

    def _sender(self, src: str, now_s: float) -> Sender | None:
        """What is known of a sender; None: it is another one, and there is no room for it."""
        sender = self._senders.get(src)
        if sender is None:
            if len(self._senders) >= self._most_senders:
                self._make_room(now_s)
            if len(self._senders) < self._most_senders:
                sender = self._senders[src] = Sender()
        return sender

    def _has_room(self, envelope: Envelope, now_s: float) -> bool:
        """Whether its broker is known, or may be remembered."""
        if not isinstance(envelope.data, ReadingData) or len(self._newest) < MOST_BROKERS:
            return True
        if (envelope.stamp.src, envelope.data.broker) in self._newest:
            return True
        self._make_room(now_s)
        return len(self._newest) < MOST_BROKERS

    def _make_room(self, now_s: float) -> None:
        """Forget the senders whose messages are over, with all that they said. Once a second at most."""
        if now_s < self._tidied_s + TIDY_S:
            return
        self._tidied_s = now_s
        over = {src for src, sender in self._senders.items() if sender.fresh_until_s <= now_s}
        for src in over:
            del self._senders[src]
            self._rosters.pop(src, None)
        for key in [key for key in self._newest if key[0] in over]:
            del self._newest[key]
            self._gone.append(key)

    def expire(self) -> list[ReceivedReading]:
        """Turn each reading that has expired into `unknown`, once. Returns those."""
        now = self._clock.now()
        turned: list[ReceivedReading] = []
        if now.up_s < self._soonest_s:
            return turned  # this runs after each message, and there may be thousands of brokers
        for key, received in self._newest.items():
            reading = received.reading
            if reading.expired and reading.verdict.reason not in _LAST_WORDS:
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
                if received.reading.verdict.reason not in _LAST_WORDS
            ),
            default=float("inf"),
        )
        return turned

    def next_expiry_s(self) -> float:
        """A monotonic second before which no reading expires; infinite when none will."""
        return self._soonest_s


def _is_on_its_topic(topic: str, envelope: Envelope) -> bool:
    """Whether a message came on the topic of what it is about. What is counted by topic has a bound then."""
    data = envelope.data
    if isinstance(data, RosterData):
        return topic == topics.ROSTER or topic == f"{topics.ROSTER}{data.part}/"
    if isinstance(data, ReadingData):
        return topic == topics.state(data.exchange, data.broker) or topic in (
            topics.balance(data.exchange, data.broker),
            topics.error(data.exchange, data.broker),
            topics.alive(data.exchange, data.broker),
        )
    return True
