"""Which event loops hang: a pure failure detector for the loops on which accounts are asked.

A loop that is blocked says nothing, and neither do the accounts on it: their fetches neither end nor fail,
and their heartbeats come from elsewhere. So the supervisor asks each loop whether it turns, twice in a
heartbeat. A loop hangs when the question has waited for `patience_s`: then its accounts are not available.
One of ours that goes on hanging is replaced, within the limits that hold for actors
(`brokerwatch.health.restarts`). After that it is given up. A loop of the trader's own is not ours to replace.

Looks are counted beside the time, because a process that was suspended finds all of its loops late at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.reading import ttl_s
from brokerwatch.health.restarts import RESTART_LIMIT, RESTART_WINDOW_S, Restarts
from brokerwatch.health.state_machine import AVAILABLE
from brokerwatch.health.supervision import View
from brokerwatch.messages import Reason

LOOKS_A_HEARTBEAT: Final = 2
FEWEST_LOOKS: Final = 3
"""So many looks in a row must find the same question unanswered, however much time has passed."""
LONGEST_SLACK_S: Final = 0.5
"""What the looks themselves may be late, within the time to live: a heartbeat, and at most this."""
HANGS_A_WINDOW: Final = 2 * RESTART_LIMIT
"""The window of the replacements is at least so many times to live: as often can a loop hang within it."""


class Finding(Enum):
    """What one look at a loop found."""

    TURNS = "turns"
    LATE = "late"
    """It has not answered yet, which proves nothing."""
    HANGS = "hangs"
    REPLACE = "replace"
    """It has hung for so long that another one takes its place now."""
    GIVE_UP = "give up"
    """It would have to be replaced once more, and has used up its replacements."""
    GIVEN_UP = "given up"


def look_interval_s(heartbeat_s: float) -> float:
    """How many seconds lie between two looks."""
    return heartbeat_s / LOOKS_A_HEARTBEAT


def patience_s(heartbeat_s: float) -> float:
    """How long a loop may leave a question unanswered.

    It is shorter than the time to live by all that passes before the question and after this patience: so a
    loop that hangs is found within the time to live.
    """
    return ttl_s(heartbeat_s) - 2 * look_interval_s(heartbeat_s) - min(LONGEST_SLACK_S, heartbeat_s)


@dataclass(frozen=True, slots=True)
class LoopView:
    """One event loop as the supervisor knows it. Immutable."""

    asked_s: float
    """Monotonic seconds: when the question was put that is not answered, or when the newest answer came."""
    missed: int = 0
    """So many looks in a row found that question unanswered."""
    hangs: bool = False
    """Whether it was found to hang, and has not turned since."""
    replacements: Restarts = field(default_factory=Restarts)
    """How often another loop has taken its place."""

    @classmethod
    def begin(cls, now: Instant, heartbeat_s: float) -> LoopView:
        """A loop that has just been started."""
        window_s = max(RESTART_WINDOW_S, HANGS_A_WINDOW * ttl_s(heartbeat_s))
        return cls(now.up_s, replacements=Restarts(window_s=window_s))

    @property
    def given_up(self) -> bool:
        """Whether it hangs and is not replaced any more."""
        return self.replacements.failed

    def looked(
        self, now: Instant, *, turned: bool, heartbeat_s: float, replaced_after_s: float | None
    ) -> tuple[LoopView, Finding]:
        """The view after one look, and what the look found.

        Args:
            now: When the look was.
            turned: Whether the loop has answered since the look before.
            heartbeat_s: The heartbeat of the cluster.
            replaced_after_s: How long it may hang before another one takes its place; None: it is not ours.
        """
        if self.given_up:
            return self, Finding.GIVEN_UP
        if turned:
            return replace(self, asked_s=now.up_s, missed=0, hangs=False), Finding.TURNS
        waited_s = now.up_s - self.asked_s
        late = replace(self, missed=self.missed + 1)
        if late.missed < FEWEST_LOOKS or waited_s < patience_s(heartbeat_s):
            return late, Finding.LATE
        hanging = replace(late, hangs=True)
        # Where the looks themselves are late, its accounts go out first all the same.
        if not self.hangs or replaced_after_s is None or waited_s < replaced_after_s:
            return hanging, Finding.HANGS
        # No wait before it: to find that a loop hangs takes long enough.
        replacements, wait_s = self.replacements.died(now.up_s, lambda shortest_s, _longest_s: shortest_s)
        if wait_s is None:
            return replace(hanging, replacements=replacements), Finding.GIVE_UP
        # It still counts as hanging: the one that takes its place has to answer first.
        return replace(hanging, asked_s=now.up_s, missed=0, replacements=replacements), Finding.REPLACE

    def not_replaced(self, before: LoopView) -> LoopView:
        """No other loop could be started, so the next looks try it again.

        `before`: the view before this look.
        """
        return replace(self, asked_s=before.asked_s)

    def revived(self, now: Instant, heartbeat_s: float) -> LoopView:
        """An operator had it replaced after it was given up."""
        return replace(LoopView.begin(now, heartbeat_s), hangs=True)


def is_settled(view: View) -> bool:
    """Whether an account whose loop turns again may lose the veto.

    It may once it has answered a question that was asked since, or when it is out by its own evidence: the
    end of the veto makes no account available.
    """
    veto = view.vetoes.laid.get(Reason.LOOP)
    if veto is None or view.newest.state not in AVAILABLE:
        return True
    as_of = view.newest.as_of
    return as_of is not None and as_of.up_s > veto.since.up_s
