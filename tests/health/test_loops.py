"""Which event loops hang: found within the time to live, replaced a few times, and then given up."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.health.loops import FEWEST_LOOKS, Finding, LoopView, is_settled, look_interval_s, patience_s
from brokerwatch.health.reading import ttl_s
from brokerwatch.health.restarts import RESTART_LIMIT
from brokerwatch.health.state_machine import NO_VETOES
from brokerwatch.health.supervision import View
from brokerwatch.messages import HealthState, Reason
from tests.support.readings import reading

HEARTBEATS = st.floats(min_value=0.02, max_value=300.0)


def at(up_s: float) -> Instant:
    return Instant(round(up_s * 1_000_000), up_s)


def after_looks(
    view: LoopView, looks_s: list[float], *, turned: bool, heartbeat_s: float, replaced_after_s: float | None
) -> tuple[LoopView, list[Finding]]:
    found: list[Finding] = []
    for up_s in looks_s:
        view, finding = view.looked(
            at(up_s), turned=turned, heartbeat_s=heartbeat_s, replaced_after_s=replaced_after_s
        )
        found.append(finding)
    return view, found


@given(heartbeat_s=HEARTBEATS, phase=st.floats(min_value=0.0, max_value=1.0))
def test_a_loop_that_hangs_is_found_within_the_time_to_live(heartbeat_s: float, phase: float) -> None:
    interval_s = look_interval_s(heartbeat_s)
    hangs_from_s = 1_000.0
    look_s = hangs_from_s + phase * interval_s
    # The question of the look before was answered just before it began to hang.
    view = LoopView.begin(at(look_s - interval_s), heartbeat_s)
    view, finding = view.looked(at(look_s), turned=True, heartbeat_s=heartbeat_s, replaced_after_s=None)
    assert finding is Finding.TURNS
    while not view.hangs:
        look_s += interval_s
        view, finding = view.looked(at(look_s), turned=False, heartbeat_s=heartbeat_s, replaced_after_s=None)
        assert look_s - hangs_from_s < 2 * ttl_s(heartbeat_s), "it is never found"
    assert finding is Finding.HANGS
    assert look_s - hangs_from_s <= ttl_s(heartbeat_s)


@given(heartbeat_s=HEARTBEATS, share=st.floats(min_value=0.0, max_value=0.95))
def test_a_loop_that_is_late_for_less_than_its_patience_does_not_hang(
    heartbeat_s: float, share: float
) -> None:
    view = LoopView.begin(at(1_000.0), heartbeat_s)
    late_s = 1_000.0 + share * patience_s(heartbeat_s)
    view, found = after_looks(
        view, [late_s] * 10, turned=False, heartbeat_s=heartbeat_s, replaced_after_s=ttl_s(heartbeat_s)
    )
    assert set(found) == {Finding.LATE}
    assert not view.hangs


def test_a_process_that_was_suspended_finds_no_loop_hanging() -> None:
    view = LoopView.begin(at(1_000.0), 1.0)
    asleep_s = [4_600.0] * (FEWEST_LOOKS - 1)
    view, found = after_looks(view, asleep_s, turned=False, heartbeat_s=1.0, replaced_after_s=5.0)
    assert set(found) == {Finding.LATE}, "each thread of the process woke at that moment"
    view, finding = view.looked(at(4_600.5), turned=True, heartbeat_s=1.0, replaced_after_s=5.0)
    assert finding is Finding.TURNS
    assert view.missed == 0


def test_one_that_turns_again_hangs_no_more() -> None:
    view = LoopView.begin(at(0.0), 1.0)
    view, found = after_looks(view, [1.0, 2.0, 3.0, 4.0], turned=False, heartbeat_s=1.0, replaced_after_s=5.0)
    assert found == [Finding.LATE, Finding.LATE, Finding.LATE, Finding.HANGS]
    view, finding = view.looked(at(4.5), turned=True, heartbeat_s=1.0, replaced_after_s=5.0)
    assert finding is Finding.TURNS
    assert not view.hangs
    assert not view.replacements.at_s


@pytest.mark.parametrize("heartbeat_s", [0.02, 1.0, 30.0, 300.0])
def test_one_that_hangs_again_and_again_is_replaced_a_few_times_and_then_given_up(heartbeat_s: float) -> None:
    ttl = ttl_s(heartbeat_s)
    view, now_s, replaced, found = LoopView.begin(at(0.0), heartbeat_s), 0.0, 0, Finding.TURNS
    while found is not Finding.GIVE_UP:
        now_s += look_interval_s(heartbeat_s)
        assert replaced <= RESTART_LIMIT, "it is replaced for ever"
        view, found = view.looked(at(now_s), turned=False, heartbeat_s=heartbeat_s, replaced_after_s=ttl)
        replaced += found is Finding.REPLACE
    assert replaced == RESTART_LIMIT
    assert view.given_up
    for turned in (True, False):  # it may wake one day, and is not trusted then
        view, finding = view.looked(
            at(now_s + 1e6), turned=turned, heartbeat_s=heartbeat_s, replaced_after_s=ttl
        )
        assert finding is Finding.GIVEN_UP
    revived = view.revived(at(now_s), heartbeat_s)
    assert revived.hangs, "the next one has to turn first"
    assert not revived.given_up


def test_one_that_the_looks_find_too_late_is_said_to_hang_before_it_is_replaced() -> None:
    """Else its accounts would stay available over the replacement."""
    view = LoopView.begin(at(0.0), 0.5)
    looks_s = [0.25, 0.5, 90.0, 90.25]  # a busy machine
    view, found = after_looks(view, looks_s, turned=False, heartbeat_s=0.5, replaced_after_s=3.0)
    assert found == [Finding.LATE, Finding.LATE, Finding.HANGS, Finding.REPLACE]


def test_the_one_in_its_place_counts_as_hanging_until_it_turns() -> None:
    view, found = after_looks(
        LoopView.begin(at(0.0), 1.0),
        [1.0, 2.0, 3.0, 4.0, 5.0],
        turned=False,
        heartbeat_s=1.0,
        replaced_after_s=5.0,
    )
    assert found[-1] is Finding.REPLACE
    assert view.hangs
    view, finding = view.looked(at(5.5), turned=True, heartbeat_s=1.0, replaced_after_s=5.0)
    assert (finding, view.hangs) == (Finding.TURNS, False)


def test_where_none_can_be_started_it_is_tried_again_soon_and_not_for_ever() -> None:
    view, now_s, tries, found = LoopView.begin(at(0.0), 1.0), 0.0, 0, Finding.TURNS
    while found is not Finding.GIVE_UP:
        now_s += 0.5
        before = view
        view, found = view.looked(at(now_s), turned=False, heartbeat_s=1.0, replaced_after_s=5.0)
        if found is Finding.REPLACE:
            view = view.not_replaced(before)
            tries += 1
        assert now_s < 60.0
    assert tries == RESTART_LIMIT


def test_a_loop_of_the_traders_own_is_never_replaced() -> None:
    looks_s = [float(second) for second in range(1, 1_000)]
    view, found = after_looks(
        LoopView.begin(at(0.0), 1.0), looks_s, turned=False, heartbeat_s=1.0, replaced_after_s=None
    )
    assert set(found) == {Finding.LATE, Finding.HANGS}
    assert not view.given_up


@pytest.mark.parametrize(
    ("state", "as_of_s", "settled"),
    [
        (HealthState.HEALTHY, 9.0, False),
        (HealthState.HEALTHY, None, False),
        (HealthState.DEGRADED, 9.0, False),
        (HealthState.HEALTHY, 11.0, True),
        (HealthState.UNAVAILABLE, 9.0, True),
        (HealthState.UNKNOWN, None, True),
    ],
)
def test_the_veto_of_a_loop_ends_with_an_answer_from_after_it(
    state: HealthState, as_of_s: float | None, settled: bool
) -> None:
    as_of = None if as_of_s is None else at(as_of_s)
    newest = msgspec.structs.replace(reading("a", clock=ManualClock()), state=state, as_of=as_of)
    view = View(newest, 10.0, NO_VETOES.lay(Reason.LOOP, "it hangs", at(10.0)))
    assert is_settled(view) is settled
    assert is_settled(replace(view, vetoes=NO_VETOES))
    lifted = view.released(at(12.0), Reason.LOOP).reading
    assert not settled or lifted.verdict.available is (as_of_s == 11.0), "only an answer makes it available"
