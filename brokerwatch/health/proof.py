"""For how long a success proves an account: nothing stays available by itself.

A heartbeat says that the actor lives. "Not asked" says that no request went out. Neither says that the
exchange still answers. So availability has a longest age of proof: an account is available only while its
newest success, counted from the moment of asking, is younger than a bound.

The default bound leaves the decision to counted faults wherever they come. Between a success and the fault
that reaches the threshold lie at most as many fetches as the threshold. Each begins an interval after the
one before it, or when that one has ended, and waits for its turn in the lane of its key. The last of them
ends by its deadline. An account that is not asked at all reaches the bound, and no fault is counted for it.

A doubt ends the proof at once. The machine slept, or a call of ours hangs past its deadline: what was true
before says nothing about now. Only a success that was asked for after the doubt began ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from brokerwatch.clock import Instant


@dataclass(frozen=True, slots=True)
class Proof:
    """The newest success of an account, and what has cast doubt on it since. Immutable."""

    asked: Instant | None = None
    """When the newest success was asked for; None: there is none in this life."""
    doubted: Instant | None = None
    """Since when no earlier success counts; None: there is no doubt."""
    why: str = ""
    """What cast the doubt, for people."""

    def succeeded(self, asked: Instant, *, dated: bool = True) -> Proof:
        """A success that was asked for at `asked`.

        With `dated=False` the moment of asking is not known and `asked` is the latest that it can be. Such a
        success ends no doubt: it may have been asked for before.
        """
        older = self.asked is not None and asked.up_s < self.asked.up_s
        newest = self.asked if older else asked
        ends = self.doubted is not None and dated and asked.up_s >= self.doubted.up_s
        return Proof(newest) if ends else replace(self, asked=newest)

    def doubt(self, why: str, now: Instant) -> Proof:
        """From now on only a success that is asked for later counts."""
        return replace(self, doubted=now, why=why)

    def until_s(self, longest_age_s: float) -> float:
        """The monotonic second at which the proof ends; minus infinity without one."""
        if self.asked is None or self.doubted is not None:
            return float("-inf")
        return self.asked.up_s + longest_age_s


def longest_age_s(
    *, threshold: int, interval_s: float, deadline_s: float, wait_s: float, heartbeat_s: float
) -> float:
    """The default bound on the age of a proof, in seconds; infinite for an account that is not polled.

    Args:
        threshold: how many consecutive faults make the account unavailable.
        interval_s: seconds between two polls, as they are in force now.
        deadline_s: seconds until a fetch is given up.
        wait_s: the longest wait of a fetch for its turn in the lane of its key.
        heartbeat_s: seconds between two looks of the actor.
    """
    return threshold * (max(interval_s, deadline_s) + wait_s) + deadline_s + heartbeat_s
