"""How often an actor may come back: never more than the limit in any window, and never after giving up."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.health.restarts import (
    LONGEST_RANGE_S,
    RESTART_LIMIT,
    RESTART_WINDOW_S,
    SHORTEST_RANGE_S,
    Restarts,
)
from tests.support import strategies as our


@dataclass
class Dice:
    """Draws the lowest, the highest or something between, and remembers what it was asked."""

    share: Callable[[], float]
    ranges: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def __call__(self, low: float, high: float) -> float:
        self.ranges.append((low, high))
        return low + (high - low) * self.share()


def shortest() -> Dice:
    return Dice(lambda: 0.0)


def longest() -> Dice:
    return Dice(lambda: 1.0)


TINY_S: Final = 1 / 1_024
"""All times are whole numbers of this, so that sums and differences are exact and edges are edges."""
# Up times that lie on the edges of the window, and the small ones of an actor that dies at once.
UP_TIMES_S: Final = st.sampled_from(
    (0.0, TINY_S, 1.0, 10.0, 12.0, 15.0, 60.0 - TINY_S, 60.0, 60.0 + TINY_S)
) | (st.integers(0, 100_000).map(lambda number: number * TINY_S))


@settings(max_examples=our.examples(150))
@given(
    up_times_s=st.lists(UP_TIMES_S, min_size=1, max_size=25),
    shares=st.lists(st.sampled_from((0.0, 1.0, 0.5, TINY_S)), min_size=25, max_size=25),
    limit=st.integers(1, 6),
    window_s=st.sampled_from((10.0, 60.0)),
)
def test_there_are_never_more_restarts_than_the_limit_within_any_window(
    up_times_s: list[float], shares: list[float], limit: int, window_s: float
) -> None:
    drawn = iter(shares)
    dice = Dice(lambda: next(drawn))
    restarts = Restarts(limit=limit, window_s=window_s)
    now_s, restarted_at_s = 0.0, list[float]()
    for up_s in up_times_s:
        now_s += up_s
        restarts, wait_s = restarts.died(now_s, dice)
        if wait_s is None:
            break
        now_s += wait_s
        restarted_at_s.append(now_s)
    # A window is half open: a restart that is exactly one window old does not count any more.
    for at_s in restarted_at_s:
        assert sum(at_s <= other_s < at_s + window_s for other_s in restarted_at_s) <= limit
    assert restarts.failed is (len(restarted_at_s) < len(up_times_s))
    event("gave up" if restarts.failed else "went on")


@settings(max_examples=our.examples(60))
@given(later_s=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=5))
def test_after_giving_up_nothing_restarts(later_s: list[float]) -> None:
    restarts = Restarts()
    for _ in range(RESTART_LIMIT + 1):
        restarts, _ = restarts.died(0.0, shortest())
    assert restarts.failed
    for at_s in later_s:
        again, wait_s = restarts.died(at_s, shortest())
        assert again is restarts
        assert wait_s is None


def test_the_fifth_death_is_answered_and_the_sixth_is_not() -> None:
    restarts = Restarts()
    waits: list[float | None] = []
    for second in range(6):
        restarts, wait_s = restarts.died(float(second), shortest())
        waits.append(wait_s)
    assert waits == [0.0] * 5 + [None]
    assert (RESTART_LIMIT, RESTART_WINDOW_S) == (5, 60.0)
    assert restarts.at_s == (0.0, 1.0, 2.0, 3.0, 4.0)


def test_giving_up_draws_no_wait() -> None:
    restarts, dice = Restarts(limit=0), shortest()
    restarts, wait_s = restarts.died(0.0, dice)
    assert (restarts.failed, wait_s, dice.ranges) == (True, None, [])


def test_who_dies_rarely_is_restarted_for_ever() -> None:
    restarts, now_s = Restarts(), 0.0
    for _ in range(200):
        now_s += RESTART_WINDOW_S / RESTART_LIMIT + 0.001
        restarts, wait_s = restarts.died(now_s, shortest())
        assert wait_s == 0.0
    assert len(restarts.at_s) <= RESTART_LIMIT, "what is older than the window is forgotten"


@pytest.mark.parametrize(("up_s", "failed"), [(59.999, True), (60.0, False)])
def test_a_restart_counts_until_it_is_a_window_old(up_s: float, failed: bool) -> None:
    restarts, _ = Restarts(limit=1).died(0.0, shortest())
    restarts, wait_s = restarts.died(up_s, shortest())
    assert restarts.failed is failed
    assert (wait_s is None) is failed


def test_a_restart_counts_from_the_end_of_its_wait() -> None:
    restarts, wait_s = Restarts(limit=1).died(0.0, longest())
    assert wait_s == SHORTEST_RANGE_S
    assert restarts.at_s == (SHORTEST_RANGE_S,)
    assert restarts.died(60.4, longest())[0].failed
    assert not restarts.died(60.5, longest())[0].failed


def test_the_range_of_the_wait_doubles_up_to_the_longest() -> None:
    restarts, dice = Restarts(limit=100), longest()
    for _ in range(12):
        restarts, wait_s = restarts.died(0.0, dice)
        assert wait_s == dice.ranges[-1][1]
    assert dice.ranges == [
        (0.0, high) for high in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0)
    ]
    assert (SHORTEST_RANGE_S, LONGEST_RANGE_S) == (0.5, 30.0)


def test_a_thousand_deaths_keep_the_longest_range() -> None:
    restarts, dice = Restarts(limit=10_000), longest()
    for _ in range(1_100):  # 2.0 ** 1100 is an OverflowError
        restarts, _ = restarts.died(0.0, dice)
    assert dice.ranges[-1] == (0.0, LONGEST_RANGE_S)


@settings(max_examples=our.examples(60))
@given(seed=st.integers(0, 2**32), deaths=st.integers(1, 40))
def test_a_wait_lies_within_its_range_with_real_randomness(seed: int, deaths: int) -> None:
    restarts = Restarts(limit=deaths)
    for number in range(deaths):
        restarts, wait_s = restarts.died(0.0, random.Random(seed).uniform)
        assert wait_s is not None
        assert 0.0 <= wait_s <= min(30.0, 0.5 * 2**number)


@pytest.mark.parametrize(("up_s", "range_s"), [(59.999, 4.0), (60.0, 0.5), (1e6, 0.5)])
def test_the_waits_start_again_once_it_stayed_up_for_a_window(up_s: float, range_s: float) -> None:
    restarts, dice = Restarts(limit=100), shortest()
    for _ in range(3):
        restarts, _ = restarts.died(0.0, dice)
    restarts.died(up_s, dice)
    assert dice.ranges[-1] == (0.0, range_s)


def test_the_time_of_the_wait_is_not_time_that_it_stayed_up() -> None:
    restarts, dice = Restarts(limit=100), longest()
    restarts, wait_s = restarts.died(0.0, dice)
    assert wait_s == 0.5
    restarts.died(60.2, dice)
    assert dice.ranges[-1] == (0.0, 1.0)


def test_a_record_is_never_changed_in_place() -> None:
    first = Restarts()
    first.died(0.0, shortest())
    assert first == Restarts()
