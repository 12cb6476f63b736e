"""What has to hold after a soak, each with its figure. The module is pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.soak.measured import Measured, Window
from benchmarks.soak.slope import Point, Slope, block_minima, slope_of
from benchmarks.soak.watch import HEARTBEAT_S, LATE_S, TTL_S

BLOCK_S: Final = 20.0
"""A block has a collection in it (`EVERY_S` in `run.py`), before which more is in use."""
WARM_UP_S: Final = 90.0
BOUND_MB_PER_H: Final = 6.0
"""What ten minutes cannot tell from the end of a warm-up. 0.2 kB for each poll would be above it."""
BEHIND_S: Final = HEARTBEAT_S + 1.0
"""A message that is older than this was followed by none. A reading expires after `TTL_S`."""
DELIVERY_S: Final = 0.5
"""A listener counts the quickest delivery that it has seen as none. On a busy machine that takes a moment."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One thing that has to hold."""

    name: str
    holds: bool | None
    """None: there was too little to tell."""
    says: str


def verdicts(measured: Measured) -> tuple[Judgement, ...]:
    """All of them."""
    return tuple(_all(measured))


def _all(measured: Measured) -> Iterator[Judgement]:
    if measured.failure:
        yield Judgement("the soak ran to its end", False, measured.failure)
    for life in measured.judged:
        yield _grows(f"memory of the {life.program}", life.memory())
    yield _grows("memory of a process with listeners", measured.memory_of_listeners())
    yield _returns(measured, "threads")
    yield _returns(measured, "descriptors")
    yield _healed(measured)
    yield _fresh(measured)
    yield _shown(measured)
    late_s = measured.recovered_s
    yield Judgement(
        "every account came back",
        None if measured.failure else late_s is not None,
        "not at every listener"
        if late_s is None
        else f"at every listener, {late_s:.0f} s after the last fault",
    )
    ends = [life.status for life in measured.lives if life.ended == "orderly"]
    fine = not any(ends) and not measured.tracebacks and not measured.undecodable
    yield Judgement(
        "nothing broke in the cluster",
        fine,
        f"orderly ends with status {', '.join(map(str, ends)) or '-'}; {measured.tracebacks} tracebacks in "
        f"its log; {measured.undecodable} messages that cannot be read",
    )


def growth(points: Sequence[Point]) -> Slope | None:
    """The slope of a memory, in MB a second; None where it was looked at for too short a time."""
    return slope_of(block_minima(points, block_s=BLOCK_S, warm_up_s=WARM_UP_S))


def slope_words(slope: Slope) -> str:
    """A slope in MB an hour, with its interval."""
    per_h, low, high = (value * 3_600 for value in (slope.per_s, slope.low_per_s, slope.high_per_s))
    return f"{per_h:+.1f} MB/h, 95 %: {low:+.1f} to {high:+.1f}"


def _grows(name: str, points: Sequence[Point]) -> Judgement:
    slope = growth(points)
    if slope is None:
        return Judgement(name, None, "too short a life to tell")
    steady = slope.contains_zero or slope.is_below(BOUND_MB_PER_H / 3_600)
    return Judgement(
        f"{name} grows by less than {BOUND_MB_PER_H:g} MB an hour, or by nothing", steady, slope_words(slope)
    )


def _returns(measured: Measured, what: str) -> Judgement:
    if measured.baseline is None or measured.rest is None:
        return Judgement(f"{what} return", None, "it did not come to rest")
    before, after = (int(getattr(each, what)) for each in (measured.baseline, measured.rest))
    most: dict[str, int] = {}
    for life in measured.lives:
        counts = [int(getattr(each, what)) for each in life.samples]
        most[life.program] = max([most.get(life.program, 0), *counts])
    return Judgement(
        f"{what} return",
        after <= before,
        f"{before} in the beginning, {sum(most.values())} at the most, {after} at rest",
    )


def _healed(measured: Measured) -> Judgement:
    late: list[float] = []
    open_losses = 0
    for name, seat in measured.seats.items():
        windows = measured.troubles.of(name)
        for noticed_s, healed_s, _ in seat["losses"]:
            if healed_s is None:
                open_losses += 1
            else:
                late.append(healed_s - _excused_until((noticed_s, healed_s), windows, noticed_s))
    worst = max(late, default=0.0)
    holds = not open_losses and worst <= LATE_S and measured.lost == measured.healed
    return Judgement(
        "every loss is made up for within a heartbeat",
        holds,
        f"{measured.lost} messages lost in {len(late) + open_losses} gaps, {measured.healed} healed; "
        f"the longest took {worst:.2f} s",
    )


def _fresh(measured: Measured) -> Judgement:
    """A loss that no number shows is seen here: the newest message of some account grows old."""
    overdue: list[float] = []
    for name, seat in measured.seats.items():
        windows = measured.troubles.of(name)
        for from_s, to_s, age_s in seat["behind"]:
            until_s = _excused_until((from_s - LATE_S, to_s), windows, math.nan)
            overdue.append(age_s if math.isnan(until_s) else to_s - until_s)
    worst = max(overdue, default=0.0)
    return Judgement(
        "no listener is behind",
        worst <= BEHIND_S,
        f"at most {max(0.0, worst):.1f} s after what had held a message up; {BEHIND_S:g} s are allowed",
    )


def _excused_until(span: Window, windows: Sequence[Window], otherwise: float) -> float:
    """The end of the last trouble that overlaps a span; `otherwise` where none does."""
    return max(
        (end_s for begin_s, end_s in windows if begin_s <= span[1] and end_s >= span[0]), default=otherwise
    )


def _shown(measured: Measured) -> Judgement:
    worst = [longest_unproven_s(seat["shown"], measured.proofs) for seat in measured.seats.values()]
    most = max(worst, default=0.0)
    return Judgement(
        "no account is shown as available without proof",
        most <= TTL_S + DELIVERY_S,
        f"at most {most:.2f} s after its exchange proved it; {TTL_S:g} s are allowed",
    )


def longest_unproven_s(
    shown: Mapping[str, Sequence[Sequence[float]]], proofs: Mapping[str, Sequence[float]]
) -> float:
    """How long after its last proof any account was still shown as available, in seconds.

    Args:
        shown: by the account, the spans in which it was seen as available.
        proofs: by the account, when its exchange answered with a balance, by rising seconds.
    """
    return max(
        (
            _unproven_s(span[0], span[1], proofs.get(name, ()))
            for name, spans in shown.items()
            for span in spans
        ),
        default=0.0,
    )


def _unproven_s(from_s: float, to_s: float, proofs: Sequence[float]) -> float:
    at = bisect_right(proofs, from_s)
    worst, last_s = 0.0, proofs[at - 1] if at else -math.inf
    for proven_s in proofs[at : bisect_right(proofs, to_s)]:
        worst, last_s = max(worst, proven_s - last_s), proven_s
    return max(worst, to_s - last_s)
