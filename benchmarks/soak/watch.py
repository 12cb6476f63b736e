"""What one listener shows, look by look: which accounts as available, how old its news are, and what it lost.

The module is pure; `subscribers.py` looks twenty times a second. Seconds are monotonic, and the same in all
processes of a machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.health.reading import ttl_s
from brokerwatch.messages import Reason

LONGEST_GAP_S: Final = 0.5
"""Two looks that are further apart say nothing of the time between them."""
NEXT_S: Final = 0.1
"""Two spans that are no further apart are of two looks that followed each other."""
LAST_WORDS: Final = frozenset({Reason.SHUTDOWN, Reason.NOTHING_HEARD})
"""After these nothing more is expected of an account."""
HEARTBEAT_S: Final = 1.0
LATE_S: Final = HEARTBEAT_S + 1.0
"""The newest message of an account is late when it is older: a heartbeat, and a second for a busy machine."""
TTL_S: Final = ttl_s(HEARTBEAT_S)
"""How long an account may be shown as available after its last proof: its `max_proof_age_s`."""

Span = list[float]
"""A first and a last second."""


@dataclass
class Watch:
    """The looks at one listener."""

    shown: dict[str, list[Span]] = field(default_factory=dict[str, list[Span]])
    """By the account, when it was seen as available."""
    behind: list[Span] = field(default_factory=list[Span])
    """When the newest message of some account was late; the third number is its age at the most."""
    losses: list[Span] = field(default_factory=list[Span])
    """When a loss was noticed, when every account had been heard of anew, and how many messages were lost."""
    lost: int = 0
    _healing: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])
    """(monotonic second, wall clock in µs, messages) of each loss that is not made up for yet."""
    _last_s: float = float("-inf")
    _is_late: bool = False

    def look(
        self,
        now_s: float,
        wall_us: int,
        heard: Iterable[ReceivedReading],
        available: Iterable[str],
        lost: int,
    ) -> None:
        """Take in what a listener shows now.

        Args:
            now_s: the monotonic second.
            wall_us: the wall clock, µs since 1970.
            heard: the newest reading of each account, with the stamp of its message.
            available: the accounts that it says are available.
            lost: its count of lost messages.
        """
        goes_on = now_s - self._last_s <= LONGEST_GAP_S
        for name in available:
            spans = self.shown.setdefault(name, [])
            if goes_on and spans and spans[-1][1] == self._last_s:
                spans[-1][1] = now_s
            else:
                spans.append([now_s, now_s])
        newest = [each.stamp.ts_us for each in heard if each.reading.verdict.reason not in LAST_WORDS]
        oldest_us = min(newest, default=wall_us)
        self._note_age(now_s, (wall_us - oldest_us) / 1e6, goes_on=goes_on)
        if lost > self.lost:
            self._healing.append((now_s, wall_us, lost - self.lost))
            self.lost = lost
        while self._healing and (oldest_us >= self._healing[0][1] or not newest):
            noticed_s, _, count = self._healing.pop(0)
            self.losses.append([noticed_s, now_s, count])
        self._last_s = now_s

    def _note_age(self, now_s: float, age_s: float, *, goes_on: bool) -> None:
        if age_s <= LATE_S:
            self._is_late = False
        elif self._is_late and goes_on:
            self.behind[-1][1:] = [now_s, max(self.behind[-1][2], age_s)]
        else:
            self.behind.append([now_s, now_s, age_s])
            self._is_late = True

    def taken(self, *, is_last: bool = False) -> dict[str, Any]:
        """What was seen since the last call, for JSON. The watch itself keeps nothing that grows.

        Args:
            is_last: add the losses that are not made up for; they have no end.
        """
        losses: list[list[float | None]] = [[*each] for each in self.losses]
        if is_last:
            losses += [[noticed_s, None, count] for noticed_s, _, count in self._healing]
        seen = {"shown": self.shown, "behind": self.behind, "losses": losses}
        self.shown, self.behind, self.losses, self._is_late = {}, [], [], False
        return seen


def add_seen(record: dict[str, Any], seen: dict[str, Any]) -> None:
    """Add what was seen to the record of a listener; see `Watch.taken`."""
    for name, spans in seen["shown"].items():
        known = record.setdefault("shown", {}).setdefault(name, [])
        for from_s, to_s in spans:
            if known and from_s - known[-1][1] <= NEXT_S:
                known[-1][1] = to_s
            else:
                known.append([from_s, to_s])
    for kind in ("behind", "losses"):
        record.setdefault(kind, []).extend(seen[kind])
