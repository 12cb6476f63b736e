"""The pace of one key: never more calls in any window than the published budget allows."""

from __future__ import annotations

import ast
import inspect
import math
from fractions import Fraction
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.exchanges import rate_limit
from brokerwatch.exchanges.pauses import LONGEST_PAUSE_S
from brokerwatch.exchanges.rate_limit import STAND_IN, Budget, RateLimiter
from brokerwatch.exchanges.registry import BUDGETS
from tests.support import strategies as our

BUDGETS_DRAWN: Final = st.sampled_from(
    (*BUDGETS.values(), STAND_IN, Budget(1.0, 1.0), Budget(0.5, 0.25), Budget(2.0, 8.0))
)
# Sums of such steps are exact, so that an edge is an edge.
STEPS_S: Final = st.sampled_from((0.0, 1 / 1_024, 0.25, 0.5, 1.0, 3.0, 60.0)) | st.integers(0, 4_096).map(
    lambda number: number / 1_024
)


def allowed(budget: Budget, window_s: Fraction) -> Fraction:
    """How many calls the exchange takes within a window of this length: the burst and what ran down."""
    return max(Fraction(1), Fraction(budget.burst)) + Fraction(budget.per_s) * window_s


@settings(max_examples=our.examples(200))
@given(
    budget=BUDGETS_DRAWN,
    steps=st.lists(st.tuples(STEPS_S, st.integers(1, 8)), min_size=1, max_size=12),
    began_s=st.sampled_from((0.0, 1_000.0, 1e6)),
)
def test_no_window_of_any_length_ever_sees_more_calls_than_the_budget(
    budget: Budget, steps: list[tuple[float, int]], began_s: float
) -> None:
    at_s, kept = began_s, RateLimiter(budget)
    calls: list[Fraction] = []
    waits = 0
    for step_s, calls_wanted in steps:
        at_s += step_s
        for _ in range(calls_wanted):
            wait_s = kept.wait_s(at_s)
            waits += wait_s > 0
            at_s += wait_s
            kept = kept.taken(at_s)
            calls.append(Fraction(at_s))
    # The oracle knows no counter: of each two calls it counts those between them, both included.
    for first, begin in enumerate(calls):
        for last in range(first, len(calls)):
            found = last - first + 1
            assert found <= allowed(budget, calls[last] - begin) + Fraction(1, 1_000), (first, last)
    event("a call had to wait" if waits else "no call had to wait")


@pytest.mark.parametrize("budget", [*BUDGETS.values(), Budget(1.0, 1.0)])
def test_the_budget_is_used_to_its_end_and_no_call_waits_needlessly(budget: Budget) -> None:
    kept, at_s = RateLimiter(budget), 50.0
    for _ in range(int(budget.burst)):
        assert kept.wait_s(at_s) == 0.0
        kept = kept.taken(at_s)
    for _ in range(5):
        wait_s = kept.wait_s(at_s)
        assert wait_s == pytest.approx(1.0 / budget.per_s)
        assert kept.wait_s(at_s + wait_s / 2) == pytest.approx(wait_s / 2), "it is the moment that counts"
        at_s += wait_s
        kept = kept.taken(at_s)


def test_a_key_that_rested_has_its_whole_burst_again_and_no_more() -> None:
    kept = RateLimiter(Budget(3.0, 1.0))
    for _ in range(3):
        kept = kept.taken(10.0)
    for _ in range(3):
        assert kept.wait_s(1_000.0) == 0.0
        kept = kept.taken(1_000.0)
    assert kept.wait_s(1_000.0) == 1.0


def test_a_budget_below_one_call_still_lets_one_call_through() -> None:
    kept = RateLimiter(Budget(0.5, 0.25))
    assert kept.wait_s(0.0) == 0.0
    assert kept.taken(0.0).wait_s(0.0) == 4.0
    assert kept.refused(0.0).wait_s(0.0) == 4.0


@settings(max_examples=our.examples(200))
@given(
    budget=BUDGETS_DRAWN,
    steps=st.lists(
        st.tuples(
            STEPS_S,
            st.sampled_from(("taken", "refused", "asked")),
            st.sampled_from((0.0, -5.0, 1.0, 30.0, 3_600.0, 1e9)),
        ),
        min_size=1,
        max_size=15,
    ),
)
def test_the_exchanges_not_before_is_never_undercut_and_no_counter_is_negative(
    budget: Budget, steps: list[tuple[float, str, float]]
) -> None:
    at_s, kept = 100.0, RateLimiter(budget)
    told: list[float] = []
    for step_s, what, retry_after_s in steps:
        at_s += step_s
        before = kept
        if what == "refused":
            kept = kept.refused(at_s, retry_after_s)
            told.append(at_s + min(max(0.0, retry_after_s), LONGEST_PAUSE_S))
            assert kept.wait_s(at_s) >= before.wait_s(at_s), "a refusal never makes it ask sooner"
            assert kept.wait_s(at_s) > 0.0
        elif what == "taken":
            kept = kept.taken(at_s)
        assert kept.used >= 0.0
        assert 0.0 <= kept.wait_s(at_s) < math.inf
        assert at_s + kept.wait_s(at_s) >= max(told, default=0.0) - 1e-9
        assert kept.wait_s(at_s + 1e7) == 0.0, "every wait ends"


def test_after_a_refusal_the_counter_is_full_whatever_was_counted() -> None:
    fresh = RateLimiter(Budget(10.0, 2.0))
    assert fresh.refused(0.0).wait_s(0.0) == 0.5
    assert fresh.refused(0.0, 30.0).wait_s(10.0) == 20.0
    assert fresh.refused(0.0, 30.0).refused(1.0, 2.0).wait_s(1.0) == 29.0, "the later one counts"
    assert fresh.refused(0.0, 1e9).wait_s(0.0) == LONGEST_PAUSE_S == 86_400.0
    assert fresh.refused(0.0, -7.0).wait_s(0.0) == 0.5
    impatient = fresh
    for _ in range(20):
        impatient = impatient.taken(0.0)
    assert impatient.wait_s(0.0) == impatient.refused(0.0).wait_s(0.0) == 5.5, "and no less"


@settings(max_examples=our.examples(100))
@given(budget=BUDGETS_DRAWN, calls=st.integers(0, 20), moments_s=st.lists(STEPS_S, min_size=2, max_size=6))
def test_waiting_makes_no_wait_longer_and_asking_changes_nothing(
    budget: Budget, calls: int, moments_s: list[float]
) -> None:
    kept = RateLimiter(budget)
    for _ in range(calls):
        kept = kept.taken(0.0)
    for sooner_s, later_s in pairwise(sorted(moments_s)):
        sooner, later = kept.wait_s(sooner_s), kept.wait_s(later_s)
        assert later <= sooner
        assert sooner == 0.0 or sooner_s + sooner == pytest.approx(later_s + later) or later == 0.0


@given(back_s=st.floats(0.0, 1e6), calls=st.integers(0, 20))
def test_a_moment_before_the_last_call_gives_nothing_back(back_s: float, calls: int) -> None:
    kept = RateLimiter(Budget(5.0, 1.0))
    for _ in range(calls):
        kept = kept.taken(1e6)
    assert kept.wait_s(1e6 - back_s) == kept.wait_s(1e6)
    assert kept.taken(1e6 - back_s).used == calls + 1.0


def test_the_published_budgets_are_these() -> None:
    # Kraken's Starter tier, one below its counter of 15; Advanced Trade; Get Balance of OKX.
    assert {"kraken": Budget(14.0, 0.33), "coinbase": Budget(30.0, 30.0), "okx": Budget(10.0, 5.0)} == BUDGETS
    assert Budget(1_000.0, 1_000.0) == STAND_IN


def test_a_pace_knows_no_clock() -> None:
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse(inspect.getsource(rate_limit)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
    }
    assert "dataclasses" in imported
    assert imported.isdisjoint({"time", "datetime", "random", "threading"})
    assert all("wall" not in name for name in RateLimiter.__dataclass_fields__)


def test_what_can_wait_leaves_the_reserve_to_exits() -> None:
    pace = RateLimiter(Budget(14.0, 0.33))
    for _ in range(9):
        assert pace.spare_wait_s(0.0, 4.0) == 0.0
        pace = pace.taken(0.0)
    assert pace.spare_wait_s(0.0, 4.0) == 0.0, "the tenth leaves four"
    pace = pace.taken(0.0)
    assert pace.spare_wait_s(0.0, 4.0) == pytest.approx(1.0 / 0.33)
    assert pace.wait_s(0.0) == 0.0, "an exit needs no wait"
    assert RateLimiter(Budget(1.0, 1.0)).spare_wait_s(0.0, 4.0) == 0.0, "of a burst of one nothing is left"
    assert pace.refused(0.0, 7.0).spare_wait_s(0.0, 0.0) >= 7.0


def test_several_calls_leave_the_reserve_together() -> None:
    pace = RateLimiter(Budget(6.0, 0.5))
    assert pace.spare_wait_s(0.0, 4.0, 2) == 0.0
    assert pace.taken(0.0).spare_wait_s(0.0, 4.0, 2) == pytest.approx(2.0)
    assert pace.spare_wait_s(0.0, 5.0, 2) == 0.0, "of a small burst the reserve is what is left beside them"
    assert pace.spare_wait_s(0.0, 4.0, 9) == 0.0, "and more calls than the burst wait for all of it"
    assert pace.taken(0.0).spare_wait_s(0.0, 4.0, 9) == pytest.approx(2.0)
