"""How often an actor may be restarted, and how long to wait before: OTP's restart intensity.

An actor that dies again and again must not be restarted for ever: that takes CPU and hides the reason. So
there are at most `limit` restarts within any `window_s`. Then it has failed, until an operator resets it.
Before each restart comes a random wait whose range doubles, so that many actors that died together do not
come back in one burst. (Erlang/OTP design principles, "Maximum Restart Intensity".)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

RESTART_LIMIT: Final = 5
"""Restarts within the window; one more death and the actor has failed."""
RESTART_WINDOW_S: Final = 60.0
"""The window, and also how long an actor must stay up for its waits to start again from the shortest."""
SHORTEST_RANGE_S: Final = 0.5
LONGEST_RANGE_S: Final = 30.0
"""The first and the longest range of the random wait before a restart."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """The recent restarts of one actor. Immutable."""

    limit: int = RESTART_LIMIT
    window_s: float = RESTART_WINDOW_S
    at_s: tuple[float, ...] = ()
    """Monotonic seconds of the restarts that still count, oldest first."""
    attempt: int = 0
    """Restarts since the actor last stayed up for a window."""
    failed: bool = False
    """Whether it used up its restarts. It is not restarted any more."""

    def died(self, now_s: float, uniform: Callable[[float, float], float]) -> tuple[Restarts, float | None]:
        """The actor died. Returns the new record, and the seconds to wait before the restart; None: give up.

        `uniform(low, high)` draws the wait, as `random.uniform` does. The restart counts from the end of the
        wait.
        """
        if self.failed:
            return self, None
        recent = tuple(at for at in self.at_s if now_s - at < self.window_s)
        if len(recent) >= self.limit:
            return replace(self, at_s=recent, failed=True), None
        stayed_up = bool(self.at_s) and now_s - self.at_s[-1] >= self.window_s
        attempt = 0 if stayed_up else self.attempt
        wait_s = uniform(0.0, min(LONGEST_RANGE_S, SHORTEST_RANGE_S * 2.0 ** min(attempt, 16)))
        return replace(self, at_s=(*recent, now_s + wait_s), attempt=attempt + 1), wait_s
