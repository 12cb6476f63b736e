"""When an exchange is asked again: quickly after a first fault, ever more seldom when it is down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.config.policy import GUARDED, POLICIES, SIMPLE, Rules
from brokerwatch.health.backoff import (
    AFTER_LOCKOUT_S,
    AUTH_LONGEST_S,
    CONFIRM_EVERY_S,
    LIMITED_LONGEST_S,
    LONGEST_WAIT_S,
    SLOW_S,
    confirming_s,
    eased_s,
    wait_s,
)
from brokerwatch.health.state_machine import Health
from brokerwatch.health.stated import AGREEING_OVER_S, AGREEING_READS, NO_DOUBTS, Absence, Doubts
from brokerwatch.messages import Fault, FaultKind, HealthState, Reason
from tests.support import strategies as our
from tests.support.strategies import fold, moved

NOW: Final = our.THE_START
POLL_S: Final = 15.0
MONEY: Final = our.SMALL_BALANCES[1]
DOWN: Final = Fault(FaultKind.NETWORK)
every_policy = pytest.mark.parametrize("rules", POLICIES.values(), ids=list(POLICIES))


@dataclass
class Dice:
    """Draws at a share of the range, and remembers what it was asked."""

    share: float = 0.0
    ranges: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def __call__(self, low: float, high: float) -> float:
        self.ranges.append((low, high))
        return low + (high - low) * self.share


def healthy(rules: Rules = GUARDED, threshold: int = 3) -> Health:
    return Health.begin(NOW, threshold=threshold, rules=rules).seen(MONEY, NOW)


def after(*faults: Fault, rules: Rules = GUARDED, threshold: int = 3) -> Health:
    health = healthy(rules, threshold)
    for fault in faults:
        health = health.failed(fault, NOW)
    return health


def waits(health: Health, poll_s: float = POLL_S, now: Instant = NOW) -> tuple[float, float]:
    """The shortest and the longest wait that chance can give."""
    low, high = wait_s(health, poll_s, now, Dice(0.0)), wait_s(health, poll_s, now, Dice(1.0))
    return low, high


LESS_AND_LESS: Final = (FaultKind.RATE_LIMITED, FaultKind.BLOCKED)


@every_policy
@pytest.mark.parametrize("poll_s", [0.1, 1.0, POLL_S, 900.0])
def test_a_healthy_broker_is_asked_at_its_poll_interval(rules: Rules, poll_s: float) -> None:
    assert waits(healthy(rules), poll_s) == (poll_s, poll_s)
    assert waits(Health.begin(NOW, rules=rules), poll_s) == (poll_s, poll_s)


@pytest.mark.parametrize("faults", [1, 2, 3, 10])
def test_simple_asks_at_the_poll_whatever_fails(faults: int) -> None:
    for kind in set(FaultKind) - {FaultKind.AUTH, *LESS_AND_LESS}:
        assert waits(after(*[Fault(kind)] * faults, rules=SIMPLE)) == (POLL_S, POLL_S)


# Quick confirmation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(FaultKind) - {*LESS_AND_LESS, FaultKind.CLIENT_BUG}))
def test_a_first_fault_is_confirmed_after_a_quarter_and_then_half_a_second(kind: FaultKind) -> None:
    rules = replace(GUARDED, final_auth=False, maintenance_state=False)
    fault = Fault(kind)
    found = [waits(after(*[fault] * faults, rules=rules, threshold=5)) for faults in (1, 2, 3, 4)]
    assert found == [(0.25, 0.25), (0.5, 0.5), (0.5, 0.5), (0.5, 0.5)]


def test_an_outage_is_established_within_a_second_of_its_first_fault() -> None:
    now, health = NOW, healthy()
    moments_s: list[float] = []
    while health.state is not HealthState.UNAVAILABLE:
        health = health.failed(DOWN, now)
        moments_s.append(now.up_s - NOW.up_s)
        now = moved(now, wait_s(health, POLL_S, now, Dice()))
    assert moments_s == [0.0, 0.25, 0.75]


def test_what_asking_again_does_not_mend_is_never_asked_sooner() -> None:
    mistake = Fault(FaultKind.CLIENT_BUG)
    assert waits(after(mistake)) == waits(after(mistake, mistake)) == (POLL_S, POLL_S)
    assert waits(after(*[mistake] * 5)) == (POLL_S, POLL_S)


@every_policy
@pytest.mark.parametrize("kind", LESS_AND_LESS)
def test_what_asking_makes_worse_is_asked_less_and_less_often(rules: Rules, kind: FaultKind) -> None:
    limited = Fault(kind)
    found = [waits(after(*[limited] * faults, rules=rules), 0.1) for faults in range(1, 9)]
    assert found == [(1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (30, 60), (30, 60), (30, 60)]
    assert LIMITED_LONGEST_S == 60.0
    assert waits(after(limited, rules=rules)) == (POLL_S, POLL_S), "never sooner than its own poll"
    told = Fault(kind, retry_after_s=7.0)
    assert waits(after(*[told] * 6, rules=rules), 0.1) == (7.0, 7.0), "the exchange named the moment"


def test_a_key_that_is_locked_out_is_never_asked_sooner() -> None:
    told = after(DOWN).locked(moved(NOW, 60.0), "on the same key", NOW)
    assert waits(told) == (60.0, 61.0)


def test_a_quick_confirmation_is_never_later_than_the_poll() -> None:
    assert waits(after(DOWN), 0.1) == (0.1, 0.1)
    assert waits(after(DOWN, DOWN), 0.3) == (0.3, 0.3)
    assert waits(after(DOWN, rules=replace(GUARDED, confirm_after_s=()))) == (POLL_S, POLL_S)
    assert waits(after(DOWN, rules=replace(GUARDED, confirm_after_s=(2.0,)), threshold=9)) == (2.0, 2.0)


def test_after_a_threshold_of_one_there_is_nothing_to_confirm() -> None:
    assert waits(after(DOWN, threshold=1)) == (1.0, 2.0)
    plain = replace(GUARDED, backoff_s=None)
    assert waits(after(DOWN, threshold=1, rules=plain)) == (POLL_S, POLL_S)
    assert waits(after(DOWN, DOWN, DOWN, rules=plain)) == (POLL_S, POLL_S)


# Probes of an unavailable broker --------------------------------------------------------------------


def test_the_range_of_the_probes_doubles_from_the_shortest_to_the_longest() -> None:
    found = [waits(after(*[DOWN] * faults)) for faults in range(3, 12)]
    assert [low for low, _ in found] == [1.0] * 9
    assert [high for _, high in found] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]
    assert waits(replace(after(*[DOWN] * 3), error_count=10_000)) == (1.0, 60.0)


@settings(max_examples=our.examples(150))
@given(
    faults=st.integers(3, 40),
    limits=st.sampled_from(((1.0, 60.0), (0.5, 0.5), (5.0, 7.0), (60.0, 86_400.0))),
    poll_s=st.sampled_from((0.1, 1.0, POLL_S, 900.0)),
    share=st.floats(0.0, 1.0),
)
def test_every_probe_lies_between_the_shortest_and_the_longest_and_all_of_it_is_used(
    faults: int, limits: tuple[float, float], poll_s: float, share: float
) -> None:
    dice = Dice(share)
    health = after(*[DOWN] * faults, rules=replace(GUARDED, backoff_s=limits))
    found = wait_s(health, poll_s, NOW, dice)
    shortest, longest = limits
    assert shortest <= found <= longest + 1e-9
    assert dice.ranges == [(shortest, min(longest, shortest * 2 ** min(faults - 2, 60)))]


def test_a_broker_that_the_window_convicted_is_probed_from_the_shortest_on() -> None:
    health = healthy()
    for _ in range(3):
        health = health.failed(DOWN, NOW).seen(MONEY, NOW)
    health = health.failed(DOWN, NOW)
    assert (health.state, health.error_count) == (HealthState.UNAVAILABLE, 1)
    assert waits(health) == (1.0, 2.0)


def test_a_broker_that_recovers_is_asked_soon_and_never_later_than_its_poll() -> None:
    recovering = after(*[DOWN] * 3).seen(MONEY, NOW)
    assert recovering.state is HealthState.RECOVERING
    assert waits(recovering) == (1.0, 1.0)
    assert waits(recovering, 0.2) == (0.2, 0.2)
    assert waits(replace(recovering, rules=replace(GUARDED, backoff_s=None))) == (POLL_S, POLL_S)
    assert waits(recovering.seen(MONEY, NOW)) == (POLL_S, POLL_S)


@pytest.mark.parametrize("poll_s", [0.1, POLL_S, 900.0])
def test_maintenance_and_permissions_are_looked_at_slowly(poll_s: float) -> None:
    slowly = max(poll_s, SLOW_S)
    assert SLOW_S == 60.0
    assert waits(after(Fault(FaultKind.MAINTENANCE)), poll_s) == (slowly, slowly)
    forbidden = Fault(FaultKind.PERMISSION)
    twice = after(forbidden, forbidden)
    assert waits(twice, poll_s) == waits(after(*[forbidden] * 9), poll_s) == (slowly, slowly)
    assert waits(after(forbidden), poll_s) == (1.0, 1.0), "one that was sporadic is over soon"
    never_read = Health.begin(NOW, rules=GUARDED).failed(forbidden, NOW)
    assert waits(never_read, poll_s) == (slowly, slowly)
    assert waits(after(forbidden, DOWN), poll_s)[1] <= max(poll_s, 4.0)
    assert waits(after(forbidden, rules=SIMPLE), poll_s) == (poll_s, poll_s)


# Refused keys ---------------------------------------------------------------------------------------


def test_a_refused_key_is_asked_again_when_its_time_has_come_and_not_sooner() -> None:
    refused = after(Fault(FaultKind.AUTH))
    assert waits(refused) == (1.0, 1.0)
    assert waits(refused.restarted(NOW)) == (1.0, 1.0)
    assert waits(after(Fault(FaultKind.AUTH), rules=replace(GUARDED, auth_probes_s=(90.0,)))) == (90.0, 90.0)


def test_a_key_that_is_refused_for_good_is_never_asked_by_itself() -> None:
    barred = after(*[Fault(FaultKind.AUTH)] * 6)
    assert waits(barred) == (math.inf, math.inf)
    assert waits(barred.restarted(NOW).ignored(NOW)) == (math.inf, math.inf)
    assert waits(barred.reset(NOW)) != (math.inf, math.inf), "from then on as after any other outage"
    assert waits(after(Fault(FaultKind.AUTH)).reset(NOW)) == (1.0, 2.0)


def test_what_goes_wrong_after_a_refusal_is_not_asked_every_second() -> None:
    refused = Fault(FaultKind.AUTH)
    limited = [after(refused, *[Fault(FaultKind.RATE_LIMITED)] * many) for many in (1, 3, 6)]
    assert [waits(health) for health in limited] == [(15.0, 15.0), (15.0, 16.0), (30.0, 60.0)]
    assert [waits(health, 0.1) for health in limited] == [(2.0, 4.0), (8.0, 16.0), (30.0, 60.0)]
    assert waits(after(refused, *[DOWN] * 6)) == (1.0, 32.0)
    assert waits(after(refused, Fault(FaultKind.MAINTENANCE))) == (SLOW_S, SLOW_S)


def test_under_simple_a_refused_key_is_asked_ever_more_seldom_from_the_threshold_on() -> None:
    refused = Fault(FaultKind.AUTH)
    found = [waits(after(*[refused] * faults, rules=SIMPLE)) for faults in range(1, 10)]
    assert [low for low, _ in found] == [15.0, 15.0, 30.0, 60.0, 120.0, 240.0, 300.0, 300.0, 300.0]
    assert all(low == high for low, high in found)
    assert AUTH_LONGEST_S == 300.0
    much_later = replace(after(*[refused] * 3, rules=SIMPLE), error_count=10_000)
    assert waits(much_later) == (300.0, 300.0)
    assert waits(much_later, 900.0) == (900.0, 900.0), "never sooner than its own poll"
    assert waits(after(*[refused] * 3, DOWN, rules=SIMPLE)) == (POLL_S, POLL_S)


# The exchange's own words ---------------------------------------------------------------------------


@every_policy
def test_a_retry_after_is_never_undercut_by_anything(rules: Rules) -> None:
    for kind in FaultKind:
        for faults in range(1, 6):
            health = after(*[Fault(kind, retry_after_s=LONGEST_WAIT_S)] * faults, rules=rules)
            assert wait_s(health, POLL_S, NOW, Dice()) >= LONGEST_WAIT_S
    assert waits(after(Fault(FaultKind.NETWORK, retry_after_s=7.0), rules=SIMPLE)) == (POLL_S, POLL_S)


@every_policy
def test_nobody_asks_before_the_end_of_a_lockout_nor_all_in_one_moment(rules: Rules) -> None:
    health = healthy(rules).failed(Fault(FaultKind.RATE_LIMITED, lockout_s=900.0), NOW)
    assert waits(health) == (900.0, 900.0 + AFTER_LOCKOUT_S)
    assert waits(health, now=moved(NOW, 600.0)) == (300.0, 301.0)
    assert waits(health, now=moved(NOW, 2_000.0)) == (POLL_S, POLL_S), "it is over and no answer has said so"
    assert waits(health.woken(moved(NOW, 900.0)), now=moved(NOW, 900.0)) == (POLL_S, POLL_S)
    assert AFTER_LOCKOUT_S == 1.0


def test_a_lockout_that_somebody_lifts_by_hand_has_no_end_to_wait_for() -> None:
    vetoes = healthy().vetoes.lay(Reason.LOCKED_OUT, "told by hand", NOW)
    assert waits(replace(healthy(), vetoes=vetoes)) == (POLL_S, POLL_S)


@settings(max_examples=our.examples(200))
@given(
    history=our.histories(8),
    rules=our.rules(),
    threshold=st.integers(1, 4),
    poll_s=st.sampled_from((0.1, 1.0, POLL_S, 900.0, math.inf)),
    share=st.floats(0.0, 1.0),
)
def test_whatever_happened_the_exchanges_words_are_honoured_and_every_wait_is_bounded(
    history: list[our.Step], rules: Rules, threshold: int, poll_s: float, share: float
) -> None:
    health, now = Health.begin(NOW, threshold=threshold, rules=rules), NOW
    for step, moment in our.moments(history):
        health, now = fold(health, step, moment), moment
        found = wait_s(health, poll_s, now, Dice(share))
        if math.isinf(poll_s):
            assert math.isinf(found), "what is asked only by hand is not polled"
            continue
        if Reason.AUTH in health.vetoes.laid and health.probe_at is None:
            assert math.isinf(found)
            event("refused for good")
            continue
        if health.probe_at is not None and health.probe_at.up_s > now.up_s:
            lockout = health.vetoes.laid.get(Reason.LOCKED_OUT)
            assert found >= health.probe_at.up_s - now.up_s
            assert lockout is not None or found <= 3_600.0
            event("refused")
            continue
        assert 0.0 < found < math.inf
        lockout = health.vetoes.laid.get(Reason.LOCKED_OUT)
        until_s = now.up_s if lockout is None or lockout.until is None else lockout.until.up_s
        told_s = 0.0 if health.fault is None else health.fault.retry_after_s
        # A longer pause is the lane's: it refuses, and says until when.
        told_s = told_s if told_s <= LONGEST_WAIT_S else 0.0
        assert found >= until_s - now.up_s
        assert found >= told_s
        slowest_s = max(AUTH_LONGEST_S, poll_s, told_s, until_s - now.up_s + AFTER_LOCKOUT_S)
        assert found <= slowest_s
        kinds = (FaultKind.RATE_LIMITED, FaultKind.CLIENT_BUG)
        if health.fault is not None and health.fault.kind in kinds:
            assert found >= poll_s
            event("asked too often")
        if found < poll_s:
            event("sooner than the poll")
            allowed_s = min(
                *(rules.confirm_after_s or (math.inf, math.inf)), (rules.backoff_s or (math.inf,))[0]
            )
            assert found >= allowed_s


def test_a_quiet_account_is_asked_ever_more_seldom_and_never_more_seldom_than_allowed() -> None:
    assert [eased_s(10.0, None, unchanged) for unchanged in (0, 6, 600)] == [10.0] * 3
    eased = [eased_s(10.0, 60.0, unchanged) for unchanged in range(0, 40)]
    assert eased[0] == eased[5] == 10.0
    assert (eased[6], eased[12], eased[18]) == (20.0, 40.0, 60.0)
    assert max(eased) == 60.0
    assert eased == sorted(eased)
    assert eased_s(10.0, 60.0, 10**9) == 60.0


def test_what_is_in_doubt_is_confirmed_soon_whatever_the_interval() -> None:
    absence = Absence(NOW, NOW, NOW, 1)
    missing, empty = Doubts(missing={"BTC": absence}), Doubts(empty=absence)
    for doubts in (missing, empty):
        health = replace(Health.begin(NOW), doubts=doubts)
        assert confirming_s(3_600.0, health) == CONFIRM_EVERY_S
        assert confirming_s(2.0, health) == 2.0
        assert confirming_s(float("inf"), health) == float("inf"), "it is asked by its trader alone"
    assert AGREEING_OVER_S < (AGREEING_READS - 1) * CONFIRM_EVERY_S < AGREEING_OVER_S + 5.0
    for doubts in (NO_DOUBTS, missing.interrupted()):
        assert confirming_s(3_600.0, replace(Health.begin(NOW), doubts=doubts)) == 3_600.0
