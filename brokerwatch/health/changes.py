"""Changes of readings that a trader has to be called back for, merged so that a slow callback delays nothing.

The writer of a reading puts the reading before and the reading after here, and goes on. The number of
pending changes is bounded by the number of brokers: of each broker the oldest `before` and the newest
`after` are kept. A slow callback gets only the newest reading of each broker. Readings in between are
dropped; the last one never is. A change whose newest reading equals the one last delivered (by
`reading.comparison_key`) is dropped too.

A reading that is not renewed is a change as well, and no message announces it. So the dispatcher's thread
(`bus/change_dispatcher.py`) wakes when the first of the newest readings expires, and reports that this
broker is not available any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.reading import comparison_key, composed
from brokerwatch.health.state_machine import NO_VETOES
from brokerwatch.messages import Reading, Reason

NEVER_S: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Change:
    """One broker's reading before and after.

    Both readings expire, and a renewal is no change: the `after` of a change that is kept expires, however
    healthy the broker is. So `lost` and `regained` say what the change was about; the state of the broker
    later on is in its own newest reading.
    """

    before: Reading
    """The reading that was delivered last, or the newest when the subscription began."""
    after: Reading

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


class PendingChanges:
    """The changes that wait for delivery: at most one for each broker. Knows no thread and no clock."""

    def __init__(self) -> None:
        self._waiting: dict[str, Change] = {}
        self._newest: dict[str, Reading] = {}
        """Readings that say available and have not expired yet, by broker."""
        self._lapsed: dict[str, Reading] = {}
        """The reading that was delivered when a broker's reading expired, until that broker has a new one."""
        self.next_expiry_s = NEVER_S
        """No reading expires before this monotonic second. A renewed reading may leave it too early."""

    def __len__(self) -> int:
        return len(self._waiting)

    def learn(self, reading: Reading, now: Instant) -> None:
        """A reading at the start of the subscription: no change by itself, but it may expire or come back."""
        if reading.verdict.available and reading.valid_until_s <= now.up_s:
            self._lapsed[reading.broker] = lapsed(reading, now)
        else:
            self._keep(reading)

    def put(self, before: Reading, after: Reading) -> bool:
        """A reading was written. Returns whether the dispatcher must wake: a change or a sooner expiry."""
        began_s = self.next_expiry_s
        self._keep(after)
        before = self._lapsed.pop(after.broker, before)
        return self.change(before, after) or self.next_expiry_s < began_s

    def change(self, before: Reading, after: Reading) -> bool:
        """Keep a change, joined to the pending one of its broker. Returns whether one is pending now."""
        waiting = self._waiting.get(after.broker)
        first = before if waiting is None else waiting.before
        if comparison_key(first) == comparison_key(after):
            self._waiting.pop(after.broker, None)
            return False
        self._waiting[after.broker] = Change(first, after)
        return True

    def expire(self, now: Instant) -> None:
        """Turn expired readings into changes."""
        if now.up_s < self.next_expiry_s:
            return
        gone = [reading for reading in self._newest.values() if reading.valid_until_s <= now.up_s]
        for reading in gone:
            del self._newest[reading.broker]
            self._lapsed[reading.broker] = lapsed(reading, now)
            self.change(reading, self._lapsed[reading.broker])
        self.next_expiry_s = min((one.valid_until_s for one in self._newest.values()), default=NEVER_S)

    def take(self) -> Change | None:
        """The change of the broker that waits longest; None when no change is pending."""
        for broker in self._waiting:
            return self._waiting.pop(broker)
        return None

    def _keep(self, reading: Reading) -> None:
        if reading.verdict.available:
            self._newest[reading.broker] = reading
            self.next_expiry_s = min(self.next_expiry_s, reading.valid_until_s)
        else:
            self._newest.pop(reading.broker, None)  # what is not available cannot become so by expiring


def lapsed(reading: Reading, now: Instant) -> Reading:
    """The reading that is delivered when `reading` expired: what it answers from then on, fixed."""
    late_s = max(0.0, now.up_s - reading.valid_until_s)
    since = Instant(now.wall_us - round(late_s * 1_000_000), now.up_s - late_s)
    return composed(reading, NO_VETOES.lay(Reason.SILENT, "nobody has renewed this reading", since))
