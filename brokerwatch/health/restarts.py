"""How often an actor may be restarted, and how long to wait before: OTP's restart intensity.

An actor that dies at once again and again must not be restarted for ever: it burns the machine and
hides the reason. So no more than `limit` restarts within any `window_s`; then it has failed, which
is said once and lasts until an operator resets it. Between two restarts stands a random wait that
doubles its range, so that many actors that died together do not come back in one burst.
(Erlang/OTP design principles, "Maximum Restart Intensity".)
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


@dataclass(frozen=True, slots=True)
class Restarts:
    """The recent restarts of one actor."""

    limit: int = RESTART_LIMIT
    window_s: float = RESTART_WINDOW_S
    at_s: tuple[float, ...] = ()
    """Monotonic seconds of the restarts that still count, oldest first."""
    attempt: int = 0
    """Restarts since the actor last stayed up for a window."""
    failed: bool = False
    """Given up. Nothing restarts it any more."""

    def died(self, now_s: float, uniform: Callable[[float, float], float]) -> tuple[Restarts, float | None]:
        """The actor died: (the new record, seconds to wait before the restart, or None: give up).

        `uniform(low, high)` draws the wait; `random.uniform` will do. A death that is answered
        with a wait counts as a restart at the end of that wait.
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
