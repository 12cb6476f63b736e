"""Time as a value: what the wall says, and how much has passed.

Decisions and durations use the monotonic reading, which no clock adjustment can move. The wall
reading is only shown to people and carried between processes. Nothing below the actors asks for
the time by itself; it is handed an `Instant`.

There is one exception. A machine that sleeps, or a virtual machine that is paused, does not count that time
in its monotonic clock, and what was true before is told as if it were new. `Leads` are how far other clocks
are ahead of the monotonic one. When a lead grows by more than `LEAP_S`, time has passed that the monotonic
clock did not count (`leapt`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment: `wall_us`, microseconds since 1970 UTC; `up_s`, monotonic seconds of this process."""

    wall_us: int
    up_s: float


NO_DATE: Final = "an impossible time"
"""Stands for a moment before the year 1 or after the year 9999."""


def moment(wall_us: int | None, now: Instant) -> Instant | None:
    """A moment that the wall clock named, in this process's seconds; None stays None."""
    return None if wall_us is None else Instant(wall_us, now.up_s + (wall_us - now.wall_us) / 1_000_000)


def utc_time(wall_us: int) -> datetime:
    """The moment so many µs after 1970, in UTC. Raises OverflowError for one that no calendar has."""
    return _EPOCH + timedelta(microseconds=wall_us)


def utc_text(wall_us: int) -> str:
    """A moment for people, in UTC: `2026-11-22 18:00:00 UTC`; in words for one that no calendar has.

    The moment may have come over the wire, and a program that shows it must not end for that.
    """
    try:
        return f"{utc_time(wall_us):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return NO_DATE


def utc_iso(wall_us: int, digits: str) -> str:
    """A moment for programs: `2026-11-22T18:00:00.000Z`. `digits`: milliseconds or microseconds."""
    return f"{utc_time(wall_us).replace(tzinfo=None).isoformat(timespec=digits)}Z"


def local_text(wall_us: int, *, shows_zone: bool = False) -> str:
    """A moment for people, by the clock of this machine: `2026-11-22 19:00:00`, and `+01:00` with its zone.

    It is in words for one that no calendar has.
    """
    try:
        local = utc_time(wall_us // 1_000_000 * 1_000_000).astimezone()
    except (ValueError, OverflowError, OSError):
        return NO_DATE
    return (local if shows_zone else local.replace(tzinfo=None)).isoformat(sep=" ")


Leads = tuple[float, float]
"""Seconds that the wall clock, and the clock that counts sleep, are ahead of the monotonic clock."""
Limits = tuple[float, float, float]
"""A monotonic second, and the largest lead of the wall clock and of the clock that counts sleep."""
LEAP_S: Final = 5.0
"""A lead that grows by more than this is a leap. Adjustments of a wall clock that is kept by the network
are smaller between two looks."""


def leapt(before: Leads, after: Leads) -> float:
    """Seconds that passed uncounted by the monotonic clock between two looks; 0 when it is no leap."""
    gone_s = max(after[0] - before[0], after[1] - before[1])
    return gone_s if gone_s > LEAP_S else 0.0


class Clock(Protocol):
    """Where an actor or a thread gets its `now` from."""

    def now(self) -> Instant:
        """The present moment, both readings."""
        ...

    def up_s(self) -> float:
        """Monotonic seconds only: the cheap question, asked on the trading thread."""
        ...

    def leads(self) -> Leads:
        """How far the other clocks are ahead of the monotonic one."""
        ...

    def is_before(self, limits: Limits) -> bool:
        """Whether it is before a monotonic second, and neither lead is above its limit. Asked on the trading
        thread."""
        ...


_CLOCK_WITH_SLEEP: Final[int | None] = getattr(
    time, "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME", None
)
"""The clock that counts sleep, where there is one. On macOS `time.monotonic()` is another clock than
`CLOCK_MONOTONIC`, which goes on while the system is asleep (its manual page of clock_gettime)."""
_with_sleep_s: Final[Callable[[], float]] = (
    time.monotonic if _CLOCK_WITH_SLEEP is None else partial(time.clock_gettime, _CLOCK_WITH_SLEEP)
)


class SystemClock:
    """The clock of the machine."""

    def now(self) -> Instant:
        """The present moment, both readings."""
        return Instant(wall_us=time.time_ns() // 1_000, up_s=time.monotonic())

    # Bound and not wrapped: a trading loop asks it in every `is_available()`.
    up_s = staticmethod(time.monotonic)
    """Monotonic seconds of this process."""

    @staticmethod
    def leads(
        up_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
        with_sleep_s: Callable[[], float] = _with_sleep_s,
    ) -> Leads:
        """How far the other clocks are ahead of the monotonic one.

        The arguments are never given. A trading loop asks in every `is_available()`, and names that are bound
        once are quicker.
        """
        now_s = up_s()
        return wall_s() - now_s, with_sleep_s() - now_s

    @staticmethod
    def is_before(
        limits: Limits,
        up_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
        with_sleep_s: Callable[[], float] = _with_sleep_s,
    ) -> bool:
        """Whether it is before a monotonic second, and neither lead is above its limit.

        Only the limits are given. A trading loop asks in every `is_available()`.
        """
        until_s, wall_lead_s, sleep_lead_s = limits
        now_s = up_s()
        return now_s < until_s and wall_s() - now_s <= wall_lead_s and with_sleep_s() - now_s <= sleep_lead_s


class ManualClock:
    """A clock that a test pushes.

    `jump_wall` moves the wall alone, as an NTP step would; `sleep` is a machine that sleeps.
    """

    def __init__(self, *, wall_us: int = 1_800_000_000_000_000, up_s: float = 1_000.0) -> None:
        self._wall_us = wall_us
        self._up_s = up_s
        self._asleep_s = 0.0

    def now(self) -> Instant:
        """The moment this clock was last pushed to."""
        return Instant(wall_us=self._wall_us, up_s=self._up_s)

    def up_s(self) -> float:
        """Monotonic seconds, as pushed."""
        return self._up_s

    def is_before(self, limits: Limits) -> bool:
        """Whether it is before a monotonic second and no lead is above its limit, as pushed."""
        leads = self.leads()
        return self._up_s < limits[0] and leads[0] <= limits[1] and leads[1] <= limits[2]

    def leads(self) -> Leads:
        """How far the other clocks are ahead, as pushed."""
        return self._wall_us / 1_000_000 - self._up_s, self._asleep_s

    def sleep(self, seconds: float) -> None:
        """Let time pass that the monotonic reading does not count."""
        self._wall_us += round(seconds * 1_000_000)
        self._asleep_s += seconds

    def advance(self, seconds: float) -> None:
        """Let time pass on both readings. `seconds` must not be negative."""
        if seconds < 0:
            raise ValueError("time does not run backwards; use jump_wall to move the wall clock")
        self._up_s += seconds
        self._wall_us += round(seconds * 1_000_000)

    def jump_wall(self, seconds: float) -> None:
        """Move the wall reading alone, in either direction."""
        self._wall_us += round(seconds * 1_000_000)


def with_sleep_s(clock: Clock) -> float:
    """Monotonic seconds that go on while the machine sleeps. Else a receiver elsewhere would take every
    message after the sleep for as old as the sleep was long."""
    return clock.up_s() + clock.leads()[1]
