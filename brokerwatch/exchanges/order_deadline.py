"""Until when an exchange may take an order, and from when on it is certain that it will not.

Some exchanges take a moment with an order and refuse it later than that. Then an order whose answer was
lost is certain soon: once that moment has passed and the exchange does not list it, it never will. The moment
is by the exchange's own clock, so that clock is measured: what it states lies between the question and the
answer, and several measurements together are narrower than each. Durations are by our monotonic clock alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

DRIFT: Final = 0.0005
"""How far two clocks move apart in a second at the most, in seconds. (A clock that is slewed: 500 ppm.)"""
WIDEST_S: Final = 1.0
"""An exchange's clock that is known less exactly than this is no base for a deadline."""
MEASURED_FOR_S: Final = 300.0
"""A measurement that is older counts as none."""
TRAVEL_S: Final = 0.5
"""What an order may need to arrive, beyond the shortest time that the exchange takes."""
LISTED_S: Final = 0.5
"""How long after the deadline an order that was taken just before may still be missing in a list."""
EXIT_S: Final = 2.5
"""The shortest time an exit has to be taken. A longer one would hold up the next attempt."""
ENTRY_S: Final = 10.0
"""The shortest time an entry has to be taken: it waits for nothing but the next entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineRule:
    """How one exchange takes the deadline of an order."""

    shortest_s: float = 0.0
    """It takes none that is nearer than this."""
    longest_s: float = 60.0
    """It takes none that is further away."""
    clock_step_s: float
    """Its clock is told in steps of so much, rounded down."""
    passed: Callable[[Mapping[str, Any]], bool]
    """Whether an answer says that the deadline has passed, and that nothing was placed."""
    unusable: Callable[[Mapping[str, Any]], bool]
    """Whether an answer says that it does not take this deadline, and that nothing was placed."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How far an exchange's clock, in seconds since 1970, is ahead of our monotonic one, between bounds."""

    low_s: float
    high_s: float
    measured_s: float
    """Monotonic seconds: when the newest measurement was made."""

    def at(self, now_s: float) -> ClockOffset:
        """The same as far as it is still known: the clocks move apart."""
        apart_s = DRIFT * max(0.0, now_s - self.measured_s)
        return ClockOffset(self.low_s - apart_s, self.high_s + apart_s, self.measured_s)

    @property
    def doubt_s(self) -> float:
        """How far the middle of both bounds may be wrong."""
        return (self.high_s - self.low_s) / 2


def measured(stated_ms: int, step_s: float, asked_s: float, answered_s: float) -> ClockOffset:
    """What one answer about the time proves. `asked_s` and `answered_s` are monotonic seconds."""
    stated_s = stated_ms / 1_000
    return ClockOffset(stated_s - answered_s, stated_s + step_s - asked_s, answered_s)


def narrowed(known: ClockOffset | None, newer: ClockOffset) -> ClockOffset:
    """What two measurements prove together; the newer one alone where they contradict each other."""
    if known is None:
        return newer
    then = known.at(newer.measured_s)
    both = ClockOffset(max(then.low_s, newer.low_s), min(then.high_s, newer.high_s), newer.measured_s)
    return both if both.low_s <= both.high_s else newer


@dataclass(frozen=True, slots=True)
class OrderDeadline:
    """Until when one order may be taken."""

    at_us: int
    """By the exchange's clock, µs since 1970."""
    certain_s: float
    """Monotonic seconds: from then on an order that is not listed was not taken."""


def order_deadline(
    rule: DeadlineRule, offset: ClockOffset | None, now_s: float, wanted_s: float
) -> OrderDeadline | None:
    """The deadline of an order that is sent now; None where the exchange's clock is not known well enough.

    `wanted_s`: how long it shall have at the least.
    """
    if offset is None or not 0 <= now_s - offset.measured_s < MEASURED_FOR_S:
        return None
    offset = offset.at(now_s)
    if offset.doubt_s > WIDEST_S:
        return None
    longest_s = rule.longest_s - TRAVEL_S - 2 * offset.doubt_s
    lasts_s = min(max(wanted_s, rule.shortest_s + TRAVEL_S), longest_s)
    at_us = round((now_s + offset.high_s + lasts_s) * 1_000_000)
    return OrderDeadline(at_us, now_s + lasts_s + 2 * offset.doubt_s + DRIFT * lasts_s + LISTED_S)
