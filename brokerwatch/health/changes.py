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

    Both know their term, and renewals are no changes: whoever keeps a change sees its `after` run out,
    however well the broker does. So `lost` and `regained` say what the change was about, and how the broker
    is later its own newest reading says.
    """

    before: Reading
    """What was told last, or the newest when the subscription began."""
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
    """What waits to be told: for each broker at most one change. Knows no thread and no clock."""

    def __init__(self) -> None:
        self._waiting: dict[str, Change] = {}
        self._newest: dict[str, Reading] = {}
        """Readings that say available and have not run out yet, by broker."""
        self._lapsed: dict[str, Reading] = {}
        """What was told of brokers whose reading ran out, until they are heard of again."""
        self.next_expiry_s = NEVER_S
        """No reading runs out before this monotonic second. One that was renewed may leave it too early."""

    def __len__(self) -> int:
        return len(self._waiting)

    def learn(self, reading: Reading, now: Instant) -> None:
        """What stands when watching begins: no change by itself, but it may run out or come back."""
        if reading.verdict.available and reading.valid_until_s <= now.up_s:
            self._lapsed[reading.broker] = lapsed(reading, now)
        else:
            self._keep(reading)

    def put(self, before: Reading, after: Reading) -> bool:
        """A reading was written. Whether somebody must wake: there is a change, or a sooner expiry."""
        began_s = self.next_expiry_s
        self._keep(after)
        before = self._lapsed.pop(after.broker, before)
        return self.change(before, after) or self.next_expiry_s < began_s

    def change(self, before: Reading, after: Reading) -> bool:
        """Let a change wait, joined to the one that waits already. Whether one waits now."""
        waiting = self._waiting.get(after.broker)
        first = before if waiting is None else waiting.before
        if comparison_key(first) == comparison_key(after):
            self._waiting.pop(after.broker, None)
            return False
        self._waiting[after.broker] = Change(first, after)
        return True

    def expire(self, now: Instant) -> None:
        """Turn what has run out into changes."""
        if now.up_s < self.next_expiry_s:
            return
        gone = [reading for reading in self._newest.values() if reading.valid_until_s <= now.up_s]
        for reading in gone:
            del self._newest[reading.broker]
            self._lapsed[reading.broker] = lapsed(reading, now)
            self.change(reading, self._lapsed[reading.broker])
        self.next_expiry_s = min((one.valid_until_s for one in self._newest.values()), default=NEVER_S)

    def take(self) -> Change | None:
        """The change of the broker that waits longest; None when nothing waits."""
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
    """What is told of a reading that ran out: what the reading itself says from then on, said for good."""
    late_s = max(0.0, now.up_s - reading.valid_until_s)
    since = Instant(now.wall_us - round(late_s * 1_000_000), now.up_s - late_s)
    return composed(reading, NO_VETOES.lay(Reason.SILENT, "nobody has renewed this reading", since))
