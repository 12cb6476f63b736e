"""How a cluster ends: step by step, each with a share of the time, so a part that hangs costs its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

SHORTEST_SHARE_S: Final = 0.05
"""What a part gets even when the others have used up the time."""

Stop = Callable[[float], bool]
"""Ends a part within so many seconds. False when it has not ended in time."""


def ended(steps: Iterable[tuple[str, Stop]], within_s: float) -> list[str]:
    """Take the steps one after the other. Returns the names of the parts that were left behind."""
    until_s = time.monotonic() + within_s

    def share_s() -> float:
        return max(SHORTEST_SHARE_S, min(within_s / 4, until_s - time.monotonic()))

    return [name for name, stop in steps if not stop(share_s())]


def at_once(stop: Callable[[], object]) -> Stop:
    """A step that needs no time."""
    return unreported(lambda _: stop())


def unreported(stop: Callable[[float], object]) -> Stop:
    """A step whose part is not named when it is left behind."""

    def stopped(deadline_s: float) -> bool:
        stop(deadline_s)
        return True

    return stopped
