"""Does a series grow? A slope with its 95 % interval, by ranks, so that single leaps count little.

The memory of a process rises in steps, falls back, and is filled up to some level while the process warms up.
So the warm-up is left out, and each block of seconds counts by its least value: what is in use in every
moment of it. The slope is the median of the slopes between all pairs of blocks (Theil and Sen), its interval
the one of Kendall's test. Neighbouring blocks resemble each other, so they say less than as many independent
ones: the interval is widened by the correlation of neighbours (after Hamed and Rao).

The module is pure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

Point = tuple[float, float]
"""A second, and the value then."""

LEAST_BLOCKS: Final = 8
"""Of fewer blocks nothing is said."""
NORMAL_95: Final = 1.959964
"""Of a normal distribution, 95 % is within so many standard deviations."""
MOST_ALIKE: Final = 0.95
"""A correlation of neighbours above this counts as this."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How fast a series grows, in its unit a second, and between which bounds that is with 95 % certainty."""

    per_s: float
    low_per_s: float
    high_per_s: float

    @property
    def contains_zero(self) -> bool:
        """Whether the series may as well not grow, or fall."""
        return self.low_per_s <= 0.0

    def is_below(self, bound_per_s: float) -> bool:
        """Whether it certainly grows more slowly than this."""
        return self.high_per_s < bound_per_s


def block_minima(points: Sequence[Point], *, block_s: float, warm_up_s: float) -> list[Point]:
    """The least value of each whole block after the warm-up, at the middle of the block.

    Args:
        points: the series, by rising seconds.
        block_s: seconds of a block.
        warm_up_s: seconds from the first point that are left out.
    """
    if not points:
        return []
    begins_s, last_s = points[0][0] + warm_up_s, points[-1][0]
    found: dict[int, float] = {}
    for at_s, value in points:
        if at_s >= begins_s:
            number = int((at_s - begins_s) / block_s)
            found[number] = min(value, found.get(number, math.inf))
    whole = int((last_s - begins_s) / block_s)  # the block of the last point may have begun just now
    return [
        (begins_s + (number + 0.5) * block_s, found[number]) for number in sorted(found) if number < whole
    ]


def slope_of(points: Sequence[Point]) -> Slope | None:
    """The slope of a series; None where it has fewer than `LEAST_BLOCKS` points."""
    count = len(points)
    if count < LEAST_BLOCKS:
        return None
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))
    middle = statistics.median(slopes)
    variance = count * (count - 1) * (2 * count + 5) / 18 * _widening(points, middle)
    # So many pairs may speak for the other side before the test says no.
    margin = NORMAL_95 * math.sqrt(variance)
    low = max(0, math.floor((len(slopes) - margin) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + margin) / 2))
    return Slope(middle, slopes[low], slopes[high])


def _widening(points: Sequence[Point], per_s: float) -> float:
    """By how much neighbours that are alike raise the variance; 1 where they are not."""
    rests = [value - per_s * at_s for at_s, value in points]
    mean = statistics.fmean(rests)
    spread = sum((rest - mean) ** 2 for rest in rests)
    if spread == 0.0:
        return 1.0
    alike = sum((a - mean) * (b - mean) for a, b in pairwise(rests)) / spread
    alike = min(max(alike, 0.0), MOST_ALIKE)
    return (1 + alike) / (1 - alike)
