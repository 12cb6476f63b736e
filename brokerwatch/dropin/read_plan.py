"""When a watched state is read again: a pure plan, which is given the time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from brokerwatch.exchanges.rate_limit import RateLimiter
from brokerwatch.health.push import PushWatch

GATHER_S: Final = 0.25
"""A read follows a frame after so long: the other side of a trade comes a moment later."""
AGAIN_S: Final = 1.0
"""And after a read that differs from what was pushed: the exchange's own books may be behind."""
POLL_S: Final = 10.0
"""While the stream does not vouch for the state, a call that waits has it read so often."""

RESERVED: Final = 4.0
"""So many calls of the key's budget are left to the bot's own calls, such as orders."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What is known of the reads of one feed. Immutable: each method gives the next one."""

    limiter: RateLimiter
    asked_s: float = float("-inf")
    """When the newest read that was answered began, in monotonic seconds."""
    ended_s: float = float("-inf")
    """When the newest read ended, however it did."""
    failures: int = 0
    """So many reads in a row failed."""
    is_behind: bool = False
    """Whether the newest one was older than what was pushed before it."""
    wanted_s: float | None = None
    """When a read was first wanted since the newest one began; None: none is."""

    def wanted(self, push: PushWatch, now_s: float) -> ReadPlan:
        """The stream said something."""
        if push.wanted is None or self.wanted_s is not None:
            return self
        return replace(self, wanted_s=now_s)

    def began(self, now_s: float) -> ReadPlan:
        """A read goes out."""
        return replace(self, limiter=self.limiter.taken(now_s), wanted_s=None)

    def took(self, calls: int, now_s: float) -> ReadPlan:
        """The read took so many calls, one of which was counted when it began."""
        limiter = self.limiter
        for _ in range(calls - 1):
            limiter = limiter.taken(now_s)
        return replace(self, limiter=limiter)

    def ended(self, asked_s: float | None, now_s: float) -> ReadPlan:
        """A read ended. `asked_s`: when it began; None: it failed."""
        if asked_s is None:
            return replace(self, failures=self.failures + 1, ended_s=now_s)
        return replace(self, failures=0, asked_s=asked_s, ended_s=now_s, is_behind=False)

    def again(self, now_s: float) -> ReadPlan:
        """The read was older than what was pushed before it: another one is wanted."""
        return replace(self, is_behind=True, wanted_s=now_s)

    def refused(self, now_s: float, retry_after_s: float) -> ReadPlan:
        """The exchange said that it is asked too often, or when it may be asked again."""
        return replace(self, limiter=self.limiter.refused(now_s, retry_after_s))

    def due_s(self, needed_s: float, every_s: float) -> float:
        """When the next read begins, in monotonic seconds.

        Args:
            needed_s: when the newest call began that nothing read before can answer; minus infinity: none
                does.
            every_s: how often it is read in any case, in seconds.
        """
        if self.failures:
            return self._spare_s(self.ended_s + min(POLL_S, 2.0 ** min(self.failures - 1, 10)))
        regular_s = self.asked_s + every_s
        if self.wanted_s is not None:
            pause_s = AGAIN_S if self.is_behind else GATHER_S
            regular_s = min(regular_s, max(self.wanted_s + GATHER_S, self.ended_s + pause_s))
        elif self.asked_s < needed_s:
            regular_s = min(regular_s, max(needed_s, self.ended_s + GATHER_S))
        return self._spare_s(regular_s)

    def _spare_s(self, at_s: float) -> float:
        """Not before the key has so much of its budget left that exits do not wait."""
        if self.limiter.used == 0.0:
            return at_s
        used_at_s = self.limiter.at_s
        return max(at_s, used_at_s + self.limiter.spare_wait_s(used_at_s, RESERVED))
