"""What ends the proof of an account, and what brings it back: a driven actor, and a real cluster."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from brokerwatch import Cluster, ClusterSettings, Listener
from brokerwatch.actors.protocol import Fetched, Observed, Poll, Rekeyed, ReportNow, Tick
from brokerwatch.clock import ManualClock
from brokerwatch.health.outcome import NotAsked
from brokerwatch.messages import Balance, BrokerAlive, Fault, FaultKind, HealthState, Reading, Reason
from brokerwatch.testing import broker_spec, simulated
from tests.support.clusters import PATIENCE_S, wait_for_reading
from tests.support.driven_broker import Driven

POLICIES = pytest.mark.parametrize("policy", ["simple", "guarded"])
DOWN = Fault(FaultKind.NETWORK, "down")


def polled(policy: str = "simple", **values: Any) -> Driven:
    """An account that is polled, and has just been read."""
    chosen: dict[str, Any] = {"poll_interval_s": 2.0, "fetch_deadline_s": 3.0, **values}
    driven = Driven(policy=policy, **chosen)
    driven.actor.handle(driven.seen())
    driven.actor.handle(driven.seen())
    assert driven.reading.available
    driven.said.clear()
    return driven


def beat(driven: Driven, seconds: int) -> None:
    """Let so many heartbeats pass in which nothing else happens."""
    for _ in range(seconds):
        driven.hear(Tick(), 1.0)


# When an outcome is due -----------------------------------------------------------------------------

DUE_S = 3.0 + 3.0 + 1.0
"""The longer of interval and deadline, a deadline and a heartbeat."""


@POLICIES
@pytest.mark.parametrize("kind", ["balance", "network", "maintenance"])
def test_a_success_and_a_fault_are_outcomes(policy: str, kind: str) -> None:
    driven = polled(policy)
    driven.clock.advance(2.0)
    outcome = driven.balance() if kind == "balance" else Fault(FaultKind(kind), "down")
    driven.hear(Observed(outcome, dated=True))
    assert driven.reading.outcome_until_s >= driven.clock.up_s() + DUE_S
    assert driven.reading.outcome_until_s < driven.clock.up_s() + DUE_S + 120.0, "a backoff later at most"


@POLICIES
def test_neither_heartbeats_nor_what_was_not_asked_are_outcomes(policy: str) -> None:
    driven = polled(policy)
    due_s = driven.reading.outcome_until_s
    beat(driven, 3)
    driven.actor._fold(NotAsked("not asked: the lane is held"))  # pyright: ignore[reportPrivateUsage] - what a fetch ends with
    driven.hear(ReportNow())
    assert driven.reading.outcome_until_s == due_s


def test_the_same_fault_again_is_another_outcome() -> None:
    driven = polled()
    for _ in range(5):
        driven.hear(Observed(Fault(FaultKind.NETWORK, "down"), dated=True), after_s=2.0)
        assert driven.reading.outcome_until_s >= driven.clock.up_s() + DUE_S


def test_no_outcome_is_due_of_an_account_that_is_not_polled() -> None:
    driven = Driven(poll_interval_s=float("inf"))
    driven.actor.handle(driven.seen())
    assert driven.reading.outcome_until_s == float("inf")
    assert driven.reading.data().outcome_ms is None


# The bound ------------------------------------------------------------------------------------------

BOUND_S = 3 * 3.0 + 3.0 + 1.0
"""Three times the longer of interval and deadline, a deadline and a heartbeat."""


@POLICIES
def test_heartbeats_and_what_was_not_asked_prove_nothing(policy: str) -> None:
    driven = polled(policy)
    for _ in range(int(BOUND_S) - 1):
        driven.hear(Tick(), 1.0)
        driven.hear(ReportNow())
        driven.actor.handle(Poll(0))
        driven.actor._fold(NotAsked("not asked: the lane is held"))  # pyright: ignore[reportPrivateUsage] - what a fetch ends with
        assert driven.reading.available
    driven.clock.advance(1.0)
    assert (driven.reading.available, driven.reading.reason) == (False, Reason.UNPROVEN), "at once"
    driven.said.clear()
    assert driven.hear(Tick()) == [BrokerAlive]
    reading = driven.reading
    assert (reading.verdict.available, reading.verdict.reason) == (False, Reason.UNPROVEN)
    assert (reading.error_count, reading.fault, reading.state) == (0, None, HealthState.HEALTHY)
    assert "the newest success was asked for 13 s ago" in reading.detail
    assert reading.stale
    driven.actor.handle(driven.seen())
    assert driven.reading.available, "a success brings it back"


def test_the_start_of_a_first_life_under_simple_counts_as_its_first_success() -> None:
    driven = Driven(poll_interval_s=2.0, fetch_deadline_s=3.0)
    assert driven.reading.available
    driven.clock.advance(BOUND_S - 0.001)
    driven.actor.handle(Tick())
    assert driven.reading.available
    driven.clock.advance(0.001)
    assert driven.reading.reason is Reason.UNPROVEN


@pytest.mark.parametrize("threshold", [1, 3])
def test_a_new_account_that_is_empty_has_no_outage_however_short_the_bound_is(threshold: int) -> None:
    driven = Driven(
        policy="simple", poll_interval_s=1.0, fetch_deadline_s=1.0, max_consecutive_errors=threshold
    )
    empty = Balance(holdings={}, as_of=driven.clock.now())
    for _ in range(30):
        driven.actor._fold(replace(empty, as_of=driven.clock.now()))  # pyright: ignore[reportPrivateUsage] - as above
        driven.hear(Tick(), 1.0)
        assert (driven.reading.available, driven.reading.cash) == (True, None)
    beat(driven, 40)
    assert driven.reading.reason is Reason.UNPROVEN, "answers that say nothing do not prove it for ever"
    driven.actor._fold(replace(empty, as_of=driven.clock.now()))  # pyright: ignore[reportPrivateUsage] - as above
    assert (driven.reading.available, driven.reading.cash) == (True, Decimal(0))
    driven.actor._fold(driven.balance())  # pyright: ignore[reportPrivateUsage] - as above
    beat(driven, threshold + 3)
    assert driven.reading.reason is Reason.UNPROVEN, "the longer bound is that of the doubt alone"


def test_the_bound_grows_with_the_threshold_the_lane_and_the_pauses_that_an_exchange_asks_for() -> None:
    driven = polled(max_consecutive_errors=5)
    assert driven.reading.proven_until_s == driven.clock.up_s() + 5 * 3.0 + 4.0
    driven.longest_wait_s = 7.0
    driven.actor.handle(driven.seen())
    assert driven.reading.proven_until_s == driven.clock.up_s() + 5 * 10.0 + 4.0
    since_s = driven.clock.up_s()
    paused = Fault(FaultKind.RATE_LIMITED, "too many requests", retry_after_s=20.0)
    driven.hear(Observed(paused), 1.0)
    driven.hear(Tick(), 1.0)
    driven.hear(ReportNow())
    assert driven.reading.proven_until_s == since_s + 5 * 27.0 + 4.0
    driven.hear(driven.seen())
    assert driven.reading.proven_until_s == driven.clock.up_s() + 5 * 10.0 + 4.0, "and is short again"


def test_a_bound_that_grew_after_a_fault_is_published_before_the_old_one_ends() -> None:
    driven = polled()
    driven.hear(Observed(Fault(FaultKind.RATE_LIMITED, "too many requests", retry_after_s=20.0)))
    for _ in range(20):
        driven.clock.advance(1.0)
        assert driven.reading.available, "no gap between two looks"
        driven.actor.handle(Tick())


@POLICIES
def test_quiet_polls_are_known_to_the_bound(policy: str) -> None:
    driven = polled(policy, quiet_poll_interval_s=100.0)
    for _ in range(200):
        driven.actor.handle(driven.seen())
    assert driven.reading.proven_until_s == driven.clock.up_s() + 3 * 100.0 + 4.0


def test_the_configured_bound_holds_in_place_of_the_computed_one() -> None:
    driven = polled(max_proof_age_s=6.0)
    beat(driven, 5)
    assert driven.reading.available
    beat(driven, 1)
    assert driven.reading.reason is Reason.UNPROVEN
    driven = Driven(max_proof_age_s=20.0)
    beat(driven, 20)
    assert driven.reading.reason is Reason.UNPROVEN, "also where nothing is polled"


def test_counted_faults_alone_decide_within_the_bound() -> None:
    driven = polled()
    for count in range(1, 3):
        driven.hear(Observed(DOWN), 3.0)
        assert (driven.reading.available, driven.reading.error_count) == (True, count)
    driven.hear(Observed(DOWN), 3.0)
    assert driven.reading.reason is Reason.ERRORS


def test_what_is_unavailable_for_another_reason_keeps_that_reason() -> None:
    driven = polled()
    for _ in range(3):
        driven.actor.handle(Observed(DOWN))
    beat(driven, 60)
    assert driven.reading.reason is Reason.ERRORS


# Accounts that are not polled ------------------------------------------------------------------------


def test_an_account_that_is_not_polled_has_no_bound_and_a_held_lane_ends_its_proof() -> None:
    driven = Driven(fetch_deadline_s=3.0)
    driven.hear(driven.seen())
    beat(driven, 1_000)
    assert driven.reading.available
    driven.held_since_s = driven.clock.up_s()
    beat(driven, 4)
    assert driven.reading.available, "not past its deadline"
    beat(driven, 1)
    assert driven.reading.reason is Reason.UNPROVEN
    assert "`broker.lane()` has been held for 5.0 s" in driven.reading.detail
    driven.held_since_s = None
    driven.hear(driven.seen(dated=False))
    assert driven.reading.reason is Reason.UNPROVEN, "it may have been asked for before"
    driven.hear(driven.seen())
    assert driven.reading.available


def test_a_fetch_past_its_deadline_ends_the_proof_of_an_account_that_is_not_polled() -> None:
    driven = Driven(fetch_deadline_s=3.0)
    driven.queue_s = 30.0
    driven.hear(driven.seen())
    driven.actor._fetch()  # pyright: ignore[reportPrivateUsage] - as a trader's call does
    beat(driven, 5)
    assert driven.reading.reason is Reason.UNPROVEN
    assert "a fetch has not ended for 5.0 s" in driven.reading.detail
    assert driven.reading.error_count == 0


# Leaps ------------------------------------------------------------------------------------------------


@POLICIES
@pytest.mark.parametrize("wakes", ["the machine slept", "the virtual machine was paused"])
def test_after_a_leap_nothing_is_proven_until_the_exchange_has_answered(policy: str, wakes: str) -> None:
    driven = polled(policy)
    driven.hear(Tick(), 1.0)
    asked = len(driven.questions)
    if wakes == "the machine slept":
        driven.clock.sleep(40.0)
    else:
        driven.clock.jump_wall(40.0)
    reading = driven.reading
    assert (reading.available, reading.reason, reading.stale) == (False, Reason.UNPROVEN, True), (
        "no message came"
    )
    assert driven.hear(Tick())[0] is BrokerAlive
    assert len(driven.questions) == asked + 1, "asked at once"
    assert driven.reading.reason is Reason.UNPROVEN
    assert "40 s passed that the monotonic clock did not count" in driven.reading.detail
    assert (driven.reading.error_count, driven.reading.state) == (0, HealthState.HEALTHY)
    beat(driven, 2)
    assert driven.reading.reason is Reason.UNPROVEN, "heartbeats prove nothing"
    answer = driven.balance()
    driven.hear(Fetched(driven.actor._ticket, answer))  # pyright: ignore[reportPrivateUsage] - the fetch under way
    assert driven.reading.available


def test_a_fetch_from_before_a_leap_is_no_proof_and_no_fault() -> None:
    driven = polled()
    driven.actor._fetch()  # pyright: ignore[reportPrivateUsage] - as a poll does
    before, ticket = driven.questions[-1], driven.actor._ticket  # pyright: ignore[reportPrivateUsage]
    answer = driven.balance()
    driven.clock.advance(0.5)
    driven.clock.sleep(40.0)
    driven.hear(Tick())
    assert before.cancelled
    assert driven.questions[-1] is not before
    driven.hear(Fetched(ticket, answer))
    driven.hear(Fetched(ticket, DOWN))
    assert (driven.reading.reason, driven.reading.error_count) == (Reason.UNPROVEN, 0)


@pytest.mark.parametrize("seconds", [-86_400.0, -6.0, 4.9])
def test_no_other_jump_of_the_wall_clock_changes_anything(seconds: float) -> None:
    driven = polled()
    driven.clock.jump_wall(seconds)
    assert driven.reading.available
    asked = len(driven.questions)
    driven.hear(Tick(), 1.0)
    assert len(driven.questions) == asked
    assert driven.reading.available


@pytest.mark.parametrize("same_account", [True, False])
def test_what_another_key_answered_before_a_leap_proves_nothing(same_account: bool) -> None:
    driven = polled("simple")
    driven.hear(driven.seen())
    verified = driven.balance()
    driven.clock.sleep(60.0)
    driven.clock.advance(0.1)
    asked = len(driven.questions)
    spec = driven.actor._spec  # pyright: ignore[reportPrivateUsage] - but for its key it stays
    driven.hear(Rekeyed(spec, verified, same_account, Future()))
    assert (driven.reading.available, driven.reading.reason) == (False, Reason.UNPROVEN)
    assert len(driven.questions) > asked, "it is asked again at once"


def test_an_account_that_was_not_available_is_asked_at_once_too() -> None:
    driven = polled("guarded")
    for _ in range(3):
        driven.actor.handle(Observed(DOWN))
    asked = len(driven.questions)
    driven.clock.sleep(40.0)
    driven.hear(Tick())
    assert len(driven.questions) == asked + 1
    assert driven.reading.reason is Reason.ERRORS


# The whole way ----------------------------------------------------------------------------------------

QUICK = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=False, heartbeat_s=0.5)


@POLICIES
def test_an_account_whose_lane_is_held_is_available_no_longer_inside_and_outside(policy: str) -> None:
    values: dict[str, Any] = {"policy": policy, "poll_interval_s": 0.2, "fetch_deadline_s": 1.0}
    let_go = threading.Event()
    with (
        simulated("kraken", balance={"USD": ("100", "0")}) as exchange,
        Cluster([broker_spec(exchange, "a", **values)], QUICK) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        broker = cluster.broker("a")
        wait_for_reading(listener, "a", lambda reading: reading.available and reading.cash == Decimal(100))

        def hold() -> None:
            with broker.lane():
                let_go.wait(PATIENCE_S)

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            outside = wait_for_reading(listener, "a", lambda reading: not reading.available)
            assert (outside.reason, outside.error_count) == (Reason.UNPROVEN, 0)
            assert not broker.is_available()
            assert broker.reading().cash == Decimal(100), "the last known stays"
        finally:
            let_go.set()
            holder.join()
        wait_for_reading(listener, "a", lambda reading: reading.available)


def test_a_proof_that_ends_is_the_same_for_a_receiver() -> None:
    driven = polled()
    there = ManualClock(up_s=50.0)
    received = Reading.received(driven.reading.data(), clock=there, sent_up_s=50.0, valid_until_s=1e9)
    there.advance(BOUND_S - 0.001)
    assert received.available
    there.advance(0.001)
    assert (received.available, received.reason, received.stale) == (False, Reason.UNPROVEN, True)
