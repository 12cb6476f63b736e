"""How long a success proves an account: counted faults come first, and what is not asked proves nothing."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.clock import LEAP_S, Instant, leapt
from brokerwatch.health.proof import Proof, longest_age_s
from tests.support import strategies as our
from tests.support.strategies import moved

NOW = our.THE_START


def test_without_a_success_nothing_is_proven() -> None:
    assert Proof().until_s(60.0) == -math.inf
    assert Proof().doubt("the machine slept", NOW).until_s(math.inf) == -math.inf


def test_a_success_counts_from_the_moment_of_asking() -> None:
    proof = Proof().succeeded(NOW)
    assert proof.until_s(60.0) == NOW.up_s + 60.0
    assert proof.succeeded(moved(NOW, -5.0)).until_s(60.0) == NOW.up_s + 60.0, (
        "an older one takes nothing away"
    )
    assert proof.succeeded(moved(NOW, 5.0)).until_s(60.0) == NOW.up_s + 65.0
    assert proof.until_s(math.inf) == math.inf


def test_a_doubt_is_ended_only_by_a_success_that_was_asked_for_after_it_began() -> None:
    doubted = Proof().succeeded(NOW).doubt("the machine slept", moved(NOW, 1.0))
    assert doubted.until_s(math.inf) == -math.inf
    late = doubted.succeeded(moved(NOW, 0.999))
    assert (late.doubted, late.why) == (moved(NOW, 1.0), "the machine slept")
    undated = doubted.succeeded(moved(NOW, 9.0), dated=False)
    assert undated.until_s(math.inf) == -math.inf, "it may have been asked for before the doubt"
    assert doubted.succeeded(moved(NOW, 1.0)).until_s(60.0) == NOW.up_s + 61.0
    assert doubted.succeeded(moved(NOW, 1.0)).doubted is None


def test_a_lead_that_grows_by_more_than_the_limit_is_a_leap_on_either_clock() -> None:
    before = (1_000.0, 3.0)
    assert LEAP_S == 5.0
    assert leapt(before, (1_005.0, 8.0)) == 0.0
    assert leapt(before, (1_045.0, 3.0)) == 45.0 - 0.0
    assert leapt(before, (1_000.0, 43.0)) == 40.0
    assert leapt(before, (-1e9, 3.0)) == 0.0, "a clock that was set back proves nothing about the past"
    assert leapt(before, (-1e9, 9.0)) == 6.0


# Counted faults come first --------------------------------------------------------------------------


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, float, list[float], list[tuple[float, float]]]:
    """A threshold, an interval, the deadlines of the accounts of one key, and for each fetch of the first of
    them the shares of its longest wait and of its deadline that it takes."""
    threshold = draw(st.integers(1, 10))
    interval_s = draw(st.sampled_from((0.1, 1.0, 10.0, 60.0, 900.0)) | st.floats(0.1, 900.0))
    deadlines_s = draw(st.lists(st.floats(0.1, 30.0), min_size=1, max_size=5))
    share = st.sampled_from((0.0, 1.0)) | st.floats(0.0, 1.0)
    return (
        threshold,
        interval_s,
        deadlines_s,
        draw(st.lists(st.tuples(share, share), min_size=threshold + 1, max_size=threshold + 1)),
    )


@settings(max_examples=our.examples(500))
@given(drawn=schedules(), heartbeat_s=st.floats(0.05, 10.0))
def test_the_fault_that_reaches_the_threshold_comes_before_the_proof_is_too_old(
    drawn: tuple[int, float, list[float], list[tuple[float, float]]], heartbeat_s: float
) -> None:
    threshold, interval_s, deadlines_s, shares = drawn
    deadline_s, wait_s = deadlines_s[0], sum(deadlines_s[1:])
    bound_s = longest_age_s(
        threshold=threshold,
        interval_s=interval_s,
        deadline_s=deadline_s,
        wait_s=wait_s,
        heartbeat_s=heartbeat_s,
    )
    began_s, ends_s, asked_s = 0.0, list[float](), list[float]()
    for waited, took in shares:
        asked_s.append(began_s + waited * wait_s)
        ends_s.append(asked_s[-1] + took * deadline_s)
        began_s = max(began_s + interval_s, ends_s[-1])
    # The first of them is the success, and all that follow are faults.
    assert all(begins <= ends for begins, ends in pairwise(ends_s))
    convicted_s = ends_s[threshold]
    assert convicted_s - asked_s[0] <= bound_s - heartbeat_s + 1e-9
    event("close" if convicted_s - asked_s[0] > 0.8 * bound_s else "far")


@given(threshold=st.integers(1, 10), deadline_s=st.floats(0.1, 30.0), wait_s=st.floats(0.0, 30.0))
def test_an_account_that_is_not_polled_has_no_bound(threshold: int, deadline_s: float, wait_s: float) -> None:
    bound_s = longest_age_s(
        threshold=threshold, interval_s=math.inf, deadline_s=deadline_s, wait_s=wait_s, heartbeat_s=1.0
    )
    assert bound_s == math.inf


@settings(max_examples=our.examples(300))
@given(
    happenings=st.lists(
        st.tuples(st.sampled_from(("success", "undated", "doubt", "nothing")), our.steps_s(), our.steps_s())
    ),
    bound_s=st.floats(0.1, 100.0),
)
def test_the_proof_is_as_the_whole_history_says(
    happenings: list[tuple[str, float, float]], bound_s: float
) -> None:
    proof, now, history = Proof(), NOW, list[tuple[str, Instant]]()
    for what, after_s, age_s in happenings:
        now = moved(now, after_s)
        asked = moved(now, -age_s)
        if what == "doubt":
            proof = proof.doubt("", now)
            history.append((what, now))
        elif what != "nothing":
            proof = proof.succeeded(asked, dated=what == "success")
            history.append((what, asked))
        holds = proof.until_s(bound_s) > now.up_s
        doubts = [place for place, (kind, _) in enumerate(history) if kind == "doubt"]
        begin = doubts[-1] if doubts else -1
        since_s = history[begin][1].up_s if doubts else -math.inf
        later = [(kind, at.up_s) for kind, at in history[begin + 1 :]]
        ended = not doubts or any(kind == "success" and at_s >= since_s for kind, at_s in later)
        newest_s = max((at.up_s for kind, at in history if kind != "doubt"), default=-math.inf)
        assert holds is (ended and newest_s + bound_s > now.up_s)
        event("proven" if holds else "not proven")
