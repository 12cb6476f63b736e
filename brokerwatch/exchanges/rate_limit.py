"""How fast one API key may ask: the exchange's published budget, counted on the monotonic clock.

A counter goes up by one for each call and runs down steadily; a call waits until the counter has room
for it. That is how Kraken counts, and it covers a rate with a burst for the others. When the exchange
itself says "too fast", the counter is taken as full, whatever we had counted: another program may use
the same key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from brokerwatch.exchanges.pauses import LONGEST_PAUSE_S


@dataclass(frozen=True, slots=True)
class Budget:
    """What a key may do: `burst` calls at once, and `per_s` calls a second for ever."""

    burst: float
    per_s: float


STAND_IN: Final = Budget(1_000.0, 1_000.0)
"""The budget of an address that is not the exchange's own: its published budget is not meant for that."""


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """One key's counter. Immutable: every call gives the next one."""

    budget: Budget
    used: float = 0.0
    """The counter at `at_s`."""
    at_s: float = 0.0
    """Monotonic seconds."""
    not_before_s: float = float("-inf")
    """Monotonic seconds: the exchange asked not to be asked before."""

    def wait_s(self, now_s: float) -> float:
        """Seconds until a call is within the budget; 0 when it is now."""
        over = self.used_at(now_s) + 1.0 - max(1.0, self.budget.burst)
        return max(0.0, over / self.budget.per_s, self.not_before_s - now_s)

    def has_half_left(self, now_s: float) -> bool:
        """Whether a call that can wait leaves enough for those that cannot."""
        return self.used_at(now_s) <= max(0.0, self.budget.burst - 1.0) / 2

    def spare_wait_s(self, now_s: float, reserve: float, calls: int = 1) -> float:
        """Seconds until so many calls leave the reserve to others; of a small burst what is left."""
        burst = max(1.0, self.budget.burst)
        needed = min(burst, float(calls))
        left = min(reserve, burst - needed)
        over = self.used_at(now_s) + needed + left - burst
        return max(0.0, over / self.budget.per_s, self.not_before_s - now_s)

    def taken(self, now_s: float) -> RateLimiter:
        """One call goes out."""
        return RateLimiter(self.budget, self.used_at(now_s) + 1.0, now_s, self.not_before_s)

    def refused(self, now_s: float, retry_after_s: float = 0.0) -> RateLimiter:
        """The exchange said that it is asked too often."""
        pause_s = min(max(0.0, retry_after_s), LONGEST_PAUSE_S)
        return replace(
            self,
            used=max(self.used_at(now_s), 1.0, self.budget.burst),
            at_s=now_s,
            not_before_s=max(self.not_before_s, now_s + pause_s),
        )

    def used_at(self, now_s: float) -> float:
        """The counter at this monotonic second: calls that have not run down yet."""
        return max(0.0, self.used - max(0.0, now_s - self.at_s) * self.budget.per_s)
