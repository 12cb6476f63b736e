"""Other rules, and another API key: neither makes a broker available."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.policy import GUARDED, SIMPLE, Rules
from brokerwatch.health.reconfigured import ruled, with_another_key
from brokerwatch.health.state_machine import AVAILABLE, TRANSITIONS, Happening, Health
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Holding, Reason

NOW: Final = Instant(1_000_000_000, 1_000.0)
LATER: Final = Instant(1_005_000_000, 1_005.0)
BALANCE: Final = Balance(
    holdings={"USD": Holding(free=Decimal(1), used=Decimal(0), total=Decimal(1))}, as_of=NOW
)


def spec(threshold: int = 3, rules: Rules = SIMPLE) -> BrokerSpec:
    policy = "simple" if rules is SIMPLE else "guarded"
    return BrokerSpec("a", exchange="kraken", max_consecutive_errors=threshold, policy=policy, rules=rules)


def fault(kind: FaultKind = FaultKind.NETWORK, **values: Any) -> Fault:
    return Fault(kind, "so it is", **values)


def after(*outcomes: Fault | Balance, threshold: int = 3, rules: Rules = SIMPLE) -> Health:
    health = Health.begin(NOW, threshold=threshold, rules=rules)
    for outcome in outcomes:
        health = health.failed(outcome, NOW) if isinstance(outcome, Fault) else health.seen(outcome, NOW)
    return health


def test_a_lower_threshold_that_is_reached_already_makes_it_unavailable_at_once() -> None:
    degraded = after(BALANCE, fault(), fault(), threshold=5)
    found = ruled(degraded, spec(2), LATER)
    assert (found.state, found.since, found.error_count) == (HealthState.UNAVAILABLE, LATER, 2)
    assert found.balance is degraded.balance


def test_a_higher_threshold_waits_for_a_success() -> None:
    out = after(BALANCE, fault(), fault(), threshold=2)
    found = ruled(out, spec(10), LATER)
    assert (found.state, found.since) == (HealthState.UNAVAILABLE, out.since)
    assert found.seen(BALANCE, LATER).state is HealthState.HEALTHY


def test_a_refused_key_that_only_counted_is_out_at_once_under_stricter_rules() -> None:
    counted = after(BALANCE, fault(FaultKind.AUTH))
    assert counted.state is HealthState.DEGRADED
    assert ruled(counted, spec(rules=GUARDED), LATER).state is HealthState.UNAVAILABLE


def test_what_was_final_is_asked_again_under_laxer_rules_and_is_not_available_by_that() -> None:
    final = after(fault(FaultKind.AUTH), fault(FaultKind.AUTH), rules=GUARDED)
    assert final.barred(LATER)
    found = ruled(final, spec(), LATER)
    assert not found.barred(LATER)
    assert found.state is HealthState.UNAVAILABLE


def test_a_lockout_outlives_a_change_of_the_rules() -> None:
    locked = after(BALANCE, fault(FaultKind.RATE_LIMITED, lockout_s=60.0), rules=GUARDED)
    assert Reason.LOCKED_OUT in ruled(locked, spec(), LATER).vetoes.laid


def test_a_first_life_that_nothing_proved_is_not_available_under_rules_that_want_a_proof() -> None:
    first = after()
    assert first.state is HealthState.HEALTHY
    assert ruled(first, spec(rules=GUARDED), LATER).state is HealthState.UNKNOWN
    assert ruled(after(BALANCE), spec(rules=GUARDED), LATER).state is HealthState.HEALTHY


def test_a_first_life_that_met_an_error_only_is_not_available_under_rules_that_want_a_proof() -> None:
    found = ruled(after(fault()), spec(rules=GUARDED), LATER)
    assert (found.state, found.error_count) == (HealthState.UNKNOWN, 1)
    assert ruled(after(fault(), BALANCE, fault()), spec(rules=GUARDED), LATER).state is HealthState.DEGRADED


def test_a_smaller_window_keeps_the_newest_outcomes() -> None:
    health = after(BALANCE, fault(), BALANCE, rules=GUARDED)
    smaller = ruled(health, spec(rules=replace(GUARDED, window_fetches=2, window_minimum=2)), LATER)
    assert smaller.recent == health.recent[-2:]
    assert ruled(health, spec(), LATER).recent == ()


KINDS: Final = (FaultKind.NETWORK, FaultKind.AUTH, FaultKind.PERMISSION, FaultKind.MAINTENANCE)
OUTCOMES: Final = st.lists(st.one_of(st.just(BALANCE), st.sampled_from(KINDS).map(fault)), max_size=8)
RULES: Final = st.sampled_from((SIMPLE, GUARDED, replace(GUARDED, final_auth=False, successes_to_recover=1)))


@given(OUTCOMES, RULES, RULES, st.integers(1, 5), st.integers(1, 5))
def test_no_change_of_a_rule_makes_a_broker_available(
    outcomes: list[Fault | Balance], before: Rules, rules: Rules, threshold: int, other: int
) -> None:
    health = after(*outcomes, threshold=threshold, rules=before)
    found = ruled(health, spec(other, rules), LATER)
    assert found.state not in AVAILABLE or health.state in AVAILABLE
    assert found.state is health.state or found.state in {
        TRANSITIONS.get((health.state, happening)) for happening in (Happening.TRIP, Happening.RESTART)
    }
    assert (found.rules, found.threshold, found.version) == (rules, other, health.version + 1)
    assert (found.balance, found.error_count) == (health.balance, health.error_count)
    assert found.since == (health.since if found.state is health.state else LATER)


@pytest.mark.parametrize("rules", [SIMPLE, GUARDED])
def test_a_key_of_the_same_account_keeps_all_but_the_refusal(rules: Rules) -> None:
    health = after(BALANCE, fault(FaultKind.AUTH), rules=rules)
    found = with_another_key(health, LATER, same_account=True)
    assert (found.state, found.balance, found.error_count) == (health.state, health.balance, 1)
    assert Reason.AUTH not in found.vetoes.laid


@given(OUTCOMES, RULES)
def test_a_key_of_another_account_starts_with_nothing_known(
    outcomes: list[Fault | Balance], rules: Rules
) -> None:
    health = after(*outcomes, rules=rules)
    found = with_another_key(health, LATER, same_account=False)
    assert (found.state, found.balance, found.fault, found.error_count) == (
        HealthState.UNKNOWN,
        None,
        None,
        0,
    )
    assert not found.vetoes.laid
    assert (found.rules, found.threshold, found.funded) == (rules, 3, False)
    assert found.version > health.version
