"""Periods of time as values, in seconds of the machine's monotonic clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

EVER: Final = float("inf")


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """From `begin_s` up to, and not including, `end_s`; and what was the matter."""

    begin_s: float
    end_s: float = EVER
    why: str = ""

    def holds(self, at_s: float) -> bool:
        """Whether a moment lies in it."""
        return self.begin_s <= at_s < self.end_s


def joined(*groups: Iterable[Period]) -> tuple[Period, ...]:
    """The periods in which any of them holds, in their order; what touches becomes one."""
    found: list[Period] = []
    for period in sorted(period for group in groups for period in group if period.end_s > period.begin_s):
        if not found or period.begin_s > found[-1].end_s:
            found.append(period)
            continue
        last = found[-1]
        words = last.why.split(", ")
        why = last.why if period.why in words else f"{last.why}, {period.why}"
        found[-1] = Period(last.begin_s, max(last.end_s, period.end_s), why)
    return tuple(found)


def common(first: Sequence[Period], second: Sequence[Period]) -> tuple[Period, ...]:
    """The periods in which both hold."""
    return joined(
        Period(max(a.begin_s, b.begin_s), min(a.end_s, b.end_s), f"{a.why} and {b.why}")
        for a in first
        for b in second
        if max(a.begin_s, b.begin_s) < min(a.end_s, b.end_s)
    )


def between(periods: Sequence[Period], why: str) -> tuple[Period, ...]:
    """The time after the first of these periods in which none of them holds."""
    found: list[Period] = []
    whole = joined(periods)
    for number, period in enumerate(whole):
        until_s = whole[number + 1].begin_s if number + 1 < len(whole) else EVER
        found.append(Period(period.end_s, until_s, why))
    return tuple(each for each in found if each.end_s > each.begin_s)


def that_holds(periods: Iterable[Period], at_s: float) -> Period | None:
    """The period in which a moment lies; None where there is none."""
    return next((period for period in periods if period.holds(at_s)), None)
