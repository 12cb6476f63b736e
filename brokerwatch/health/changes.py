"""Changes of readings, and the bounded queue of those that a subscriber has not taken yet.

The writer of a reading puts the previous one and the new one here, and goes on. The queue is bounded by the
number of brokers: of each broker it keeps the oldest `before` and the newest `after`. So a slow subscriber
misses the readings in between, and never the last one. When the last one equals the one that the subscriber
has, there is no change. Two keys say what is equal. By `change_key` a poll that found the same is no change.
By `comparison_key`, which is for a subscriber to renewals, it is one.

An expiry is a change too, and no message announces it. The queue knows when the first reading expires, and
turns it into a change then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.reading import change_key, comparison_key, composed
from brokerwatch.health.state_machine import NO_VETOES
from brokerwatch.messages import Reading, Reason, Stamp

NEVER_S: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one broker's reading.

    `lost` and `regained` say what changed, and stay as they are. The readings expire by themselves, since a
    renewal is no change: ask the cluster or the listener for the broker's newest reading later.
    """

    before: Reading
    """The reading that `after` differs from; `after` itself where it is the first one of its broker."""
    after: Reading
    """The newest reading."""
    stamp: Stamp | None = None
    """The stamp of the message that brought `after`, from `Listener.changes`; else None."""

    @property
    def reading(self) -> Reading:
        """The newest reading: `after`."""
        return self.after

    @property
    def broker(self) -> str:
        """The broker's configured name."""
        return self.after.broker

    @property
    def lost(self) -> bool:
        """Whether the broker was available before, and is not after."""
        return self.before.verdict.available and not self.after.verdict.available

    @property
    def regained(self) -> bool:
        """Whether the broker was not available before, and is after."""
        return self.after.verdict.available and not self.before.verdict.available

    @property
    def renewal(self) -> bool:
        """Whether the broker was only read again: its state, its reason and its balance are the same."""
        return change_key(self.before) == change_key(self.after)


class PendingChanges:
    """The changes that wait for one subscriber, at most one per broker. Pure; the caller holds the lock.

    Args:
        renewals: whether a poll that found the same is a change too.
    """

    def __init__(self, *, renewals: bool = False) -> None:
        self.renewals = renewals
        """Whether a poll that found the same is a change too. It may be set at any time."""
        self._waiting: dict[str, Change] = {}
        self._newest: dict[str, Reading] = {}
        """Broker to its newest reading, if that is available and has not expired."""
        self._lapsed: dict[str, Reading] = {}
        """Broker to the reading that its expiry was reported with, until the next reading comes."""
        self.next_expiry_s = NEVER_S
        """No reading expires before this monotonic second. It may be too early, and is never too late."""

    def __len__(self) -> int:
        return len(self._waiting)

    def learn(self, reading: Reading, now: Instant) -> None:
        """Take a reading from before the subscription: no change, but it may expire or come back."""
        if reading.verdict.available and reading.available_until_s <= now.up_s:
            self._lapsed[reading.broker] = lapsed(reading, now)
        else:
            self._keep(reading)

    def put(self, before: Reading, after: Reading) -> bool:
        """Take a reading that was written. True when the subscriber must wake, for a change or an expiry."""
        began_s = self.next_expiry_s
        self._keep(after)
        before = self._lapsed.pop(after.broker, before)
        return self.change(before, after) or self.next_expiry_s < began_s

    def change(self, before: Reading, after: Reading) -> bool:
        """Add a change, joined to the one that waits already. Returns whether one waits now."""
        waiting = self._waiting.get(after.broker)
        first = before if waiting is None else waiting.before
        key = comparison_key if self.renewals else change_key
        if key(first) == key(after):
            self._waiting.pop(after.broker, None)
            return False
        self._waiting[after.broker] = Change(first, after)
        return True

    def expire(self, now: Instant) -> None:
        """Turn each reading that has expired into a change."""
        if now.up_s < self.next_expiry_s:
            return
        gone = [reading for reading in self._newest.values() if reading.available_until_s <= now.up_s]
        for reading in gone:
            del self._newest[reading.broker]
            self._lapsed[reading.broker] = lapsed(reading, now)
            self.change(reading, self._lapsed[reading.broker])
        self.next_expiry_s = min((one.available_until_s for one in self._newest.values()), default=NEVER_S)

    def take(self) -> Change | None:
        """The change that waits longest; None when there is none."""
        for broker in self._waiting:
            return self._waiting.pop(broker)
        return None

    def _keep(self, reading: Reading) -> None:
        if reading.verdict.available:
            self._newest[reading.broker] = reading
            self.next_expiry_s = min(self.next_expiry_s, reading.available_until_s)
        else:
            self._newest.pop(reading.broker, None)  # an expiry changes nothing of what is not available


def lapsed(reading: Reading, now: Instant) -> Reading:
    """An expired reading as a value that stays: `silent` or `unproven`, since the moment it expired."""
    late_s = max(0.0, now.up_s - reading.available_until_s)
    since = Instant(now.wall_us - round(late_s * 1_000_000), now.up_s - late_s)
    if reading.valid_until_s <= reading.proven_until_s:
        return composed(reading, NO_VETOES.lay(Reason.SILENT, "this reading was not renewed", since))
    return composed(reading, NO_VETOES.lay(Reason.UNPROVEN, "its newest success is too old", since))
