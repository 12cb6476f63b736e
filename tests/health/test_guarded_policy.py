"""The stricter rules: held against an oracle over the whole history, and searched to the last state.

Two proofs that do not share a line. On random histories, under any rules, everything that can be
seen must be what the history says in closed form. And a breadth-first search folds `simple` and the
stricter rules side by side until no new state turns up: what it shows holds for histories of any
length."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.config.policy import GUARDED, POLICIES, SIMPLE, WEIGHTS, Rules, rule_mistakes
from brokerwatch.health.state_machine import (
    BARS,
    NO_VETOES,
    PRECEDENCE,
    TRANSITIONS,
    Happening,
    Health,
    Vetoes,
    locked_out,
    utc_time,
    verdict,
)
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Reason, Verdict
from tests.support import strategies as our
from tests.support.guarded import (
    CLOSED,
    ENDED,
    FORBIDDEN,
    LOCKED,
    MONEY,
    NEUTRAL,
    NOW,
    ODD,
    REFUSED,
    RESET,
    RESTART,
    THE_TABLE,
    WOKEN,
    D,
    H,
    M,
    R,
    U,
    X,
    column,
    fault,
    success,
)
from tests.support.strategies import Step, fold, moved

SLOWER: Final = Fault(FaultKind.RATE_LIMITED)


def at_once(*steps: Step, rules: Rules = GUARDED, threshold: int = 3) -> Health:
    """After steps that all happen in one moment."""
    health = Health.begin(NOW, threshold=threshold, rules=rules)
    for step in steps:
        health = fold(health, step, NOW)
    return health


# The oracle -----------------------------------------------------------------------------------------


class Oracle:
    """What must be true after each prefix of a history, by looking back at all of it.

    It keeps nothing between questions but its own answers for shorter prefixes.
    """

    def __init__(self, steps: list[tuple[Step, Instant]], threshold: int, rules: Rules) -> None:
        self.steps, self.threshold, self.rules = steps, threshold, rules
        self.columns = [column(step, rules) for step, _ in steps]
        self.states = [U if rules.start_unknown else H]
        for length in range(1, len(steps) + 1):
            self.states.append(self.state(length))

    def last(self, length: int, *columns: str) -> int:
        """Where the last step of these columns stands, -1 when there was none."""
        return max((i for i in range(length) if self.columns[i] in columns), default=-1)

    def run(self, length: int) -> list[Fault]:
        """The faults since the last success, those of the maintenance left out."""
        begin = self.last(length, "success") + 1
        found = [self.steps[i][0].fault for i in range(begin, length) if self.columns[i] == "fault"]
        return [one for one in found if one is not None]

    def window(self, length: int) -> list[float]:
        """What the outcomes weigh that the rolling window sees after so many steps."""
        convicted = max((i for i in range(length) if self.states[i] is X), default=-1)
        counted = [
            i
            for i in range(convicted + 1, length)
            if self.columns[i] in ("success", "fault") and self.states[i] in (U, H, D)
        ]
        newest = counted[-self.rules.window_fetches :] if self.rules.window_fetches else []
        faults = [self.steps[i][0].fault for i in newest]
        return [0.0 if one is None else WEIGHTS[one.kind] for one in faults]

    def convicts(self, at: int) -> bool:
        """Whether the step there is a fault that makes a broker unavailable."""
        step = self.steps[at][0]
        if self.columns[at] != "fault" or self.states[at] is M or step.fault is None:
            return False
        final = self.rules.final_auth and step.fault.kind in (FaultKind.AUTH, FaultKind.PERMISSION)
        seen = self.window(at + 1)
        share = self.rules.window_share * len(seen)
        many = self.rules.window_fetches and len(seen) >= self.rules.window_minimum and sum(seen) >= share
        return final or bool(many) or len(self.run(at + 1)) >= self.threshold

    def state(self, length: int) -> HealthState:
        """The state after so many steps."""
        if length and self.last(length, "closed") > self.last(length, "success", "restart"):
            return M
        convicted = max((i for i in range(length) if self.convicts(i)), default=-1)
        if convicted > self.last(length, "closed"):
            proven = 0
            for at in range(convicted + 1, length):
                if self.columns[at] != "neutral":
                    proven = proven + 1 if self.columns[at] == "success" else 0
                if proven == self.rules.successes_to_recover:
                    break
            else:
                return R if proven else X
        success = self.last(length, "success")
        if self.last(length, "restart") > success or (self.rules.start_unknown and success < 0):
            return U
        return D if self.run(length) else H

    def newest_fault(self, length: int) -> Fault | None:
        at = self.last(length, "fault", "closed")
        return self.steps[at][0].fault if at > self.last(length, "success") else None

    def since(self, length: int) -> Instant:
        changed = [i for i in range(length) if self.states[i + 1] is not self.states[i]]
        return self.steps[changed[-1]][1] if changed else NOW

    def refusal(self, length: int) -> tuple[bool, float | None]:
        """Whether the exchange has refused the key, and from when on it may be asked again; None: never."""
        refused, probe_s, times, waits = False, None, 0, self.rules.auth_probes_s[:1]
        for (step, now), where in zip(self.steps[:length], self.columns, strict=False):
            if step.what == "reset" or (step.balance is not None and probe_s is not None):
                refused, probe_s, times = False, None, 0
            if step.balance is not None:
                waits = self.rules.auth_probes_s
            if step.fault is None or where != "fault":
                continue
            if self.rules.final_auth and step.fault.kind is FaultKind.AUTH:
                times = times if refused and probe_s is None else times + 1
                refused = True
                probe_s = now.up_s + waits[times - 1] if times <= len(waits) else None
            elif probe_s is not None and probe_s <= now.up_s:
                probe_s = now.up_s + waits[times - 1]
        return refused, probe_s

    def locked_until(self, length: int) -> float | None:
        """When the lockout ends that holds now; None when none does."""
        ends = [
            now.up_s + (step.for_s if step.fault is None else step.fault.lockout_s)
            for step, now in self.steps[:length]
            if step.for_s > 0 or (step.fault is not None and step.fault.lockout_s > 0)
        ]
        latest = max(ends, default=float("-inf"))
        woken = [now.up_s for step, now in self.steps[:length] if step.what == "woken"]
        return latest if ends and max(woken, default=float("-inf")) < latest else None

    def balance(self, length: int) -> Balance | None:
        seen = [
            our.seen_at(step.balance, now, step.age_s)
            for step, now in self.steps[:length]
            if step.balance is not None
        ]
        return sorted(seen, key=lambda one: one.as_of.up_s)[-1] if seen else None


def digits(balance: Balance | None) -> object:
    """A balance digit by digit: 1.1 and 1.10 are equal and not the same answer."""
    if balance is None:
        return None
    held = {code: (str(one.free), str(one.total)) for code, one in balance.holdings.items()}
    return (held, balance.as_of, balance.stated)


def test_under_any_rules_everything_is_as_the_whole_history_says() -> None:
    reached: Counter[tuple[HealthState, str, HealthState]] = Counter()
    tripped: Counter[str] = Counter()

    @settings(max_examples=our.examples(1_000))
    @given(history=our.histories(), threshold=st.integers(1, 5), rules=our.rules())
    def check(history: list[Step], threshold: int, rules: Rules) -> None:
        steps = list(our.moments(history))
        oracle = Oracle(steps, threshold, rules)
        health = Health.begin(NOW, threshold=threshold, rules=rules)
        for length, (step, now) in enumerate(steps, 1):
            before, health = health, fold(health, step, now)
            place = (length, before.state.name, step.what)
            assert health.state is oracle.states[length], place
            assert health.error_count == len(oracle.run(length)), place
            assert health.fault == oracle.newest_fault(length), place
            assert health.since == oracle.since(length), place
            assert digits(health.balance) == digits(oracle.balance(length)), place
            assert health.funded is any(
                s.balance is not None and s.balance.holdings for s, _ in steps[:length]
            )
            refused, probe_s = oracle.refusal(length)
            laid = {Reason.AUTH} if refused else set[Reason]()
            until_s = oracle.locked_until(length)
            laid |= {Reason.LOCKED_OUT} if until_s is not None else set()
            assert set(health.vetoes.laid) == laid, place
            may_be_asked = refused and probe_s is not None and probe_s <= now.up_s
            assert (None if health.probe_at is None else health.probe_at.up_s) == probe_s, place
            assert health.barred(now) is (until_s is not None or (refused and not may_be_asked)), place
            if until_s is not None:
                until = health.vetoes.laid[Reason.LOCKED_OUT].until
                assert until is not None
                assert until.up_s == until_s, place
            assert verdict(health.state, health.vetoes).available is (not laid and health.state in (H, D))
            # The last known: its moment of asking never falls, whatever comes in late.
            known_s = float("-inf") if before.balance is None else before.balance.as_of.up_s
            assert health.balance is None or health.balance.as_of.up_s >= known_s, place
            assert before.balance is None or health.balance is not None, place
            where = column(step, rules)
            if where == "neutral":
                changed = replace(health, version=before.version, vetoes=before.vetoes)
                if step.what == "reset":
                    changed = replace(changed, refusals=before.refusals, probe_at=before.probe_at)
                assert changed == before, place
                assert health.version == before.version + (0 if health is before else 1), place
                assert health.vetoes is before.vetoes or step.what != "neutral", place
            else:
                assert health.state in THE_TABLE[before.state, where], place
                assert health.version == (0 if where == "restart" else before.version + 1), place
                reached[before.state, where, health.state] += 1
            if health.state is X and before.state is not X and where == "fault":
                few = health.error_count < threshold and before.state is not R
                final = health.fault is not None and health.fault.kind in (
                    FaultKind.AUTH,
                    FaultKind.PERMISSION,
                )
                tripped["window" if few and not (final and rules.final_auth) else "other"] += 1

    check()
    wanted = {(state, where, target) for (state, where), row in THE_TABLE.items() for target in row}
    assert set(reached) == wanted, "a walk that never gets somewhere proves nothing about it"
    assert tripped["window"] >= 20, "nor does a window that never trips"


# The rows of the stricter rules, one by one ---------------------------------------------------------

SOON: Final = moved(NOW, 60.0)
TRIPPED: Final = (fault(), fault(), fault())
GUARDED_ROWS: Final = {
    (U, Happening.CLOSED): ((), fault(CLOSED), M),
    (H, Happening.CLOSED): ((success(),), fault(CLOSED), M),
    (D, Happening.CLOSED): ((success(), fault()), fault(CLOSED), M),
    (X, Happening.PARTIAL): (TRIPPED, success(), R),
    (X, Happening.CLOSED): (TRIPPED, fault(CLOSED), M),
    (R, Happening.SUCCESS): ((*TRIPPED, success()), success(), H),
    (R, Happening.FAULT): ((*TRIPPED, success()), fault(), X),
    (R, Happening.TRIP): ((*TRIPPED, success()), fault(REFUSED), X),
    (R, Happening.CLOSED): ((*TRIPPED, success()), fault(CLOSED), M),
    (R, Happening.NEUTRAL): ((*TRIPPED, success()), NEUTRAL, R),
    (R, Happening.RESTART): ((*TRIPPED, success()), RESTART, X),
    (M, Happening.SUCCESS): ((fault(CLOSED),), success(), H),
    (M, Happening.FAULT): ((fault(CLOSED),), fault(), M),
    (M, Happening.TRIP): ((fault(CLOSED),), fault(REFUSED), M),
    (M, Happening.CLOSED): ((fault(CLOSED),), fault(CLOSED), M),
    (M, Happening.NEUTRAL): ((fault(CLOSED),), NEUTRAL, M),
    (M, Happening.RESTART): ((fault(CLOSED),), RESTART, U),
}


@pytest.mark.parametrize(
    ("row", "path"), GUARDED_ROWS.items(), ids=[f"{s.name.lower()}-{h.value}" for s, h in GUARDED_ROWS]
)
def test_a_row_of_the_stricter_rules_is_reached_and_leads_where_it_says(
    row: tuple[HealthState, Happening], path: tuple[tuple[Step, ...], Step, HealthState]
) -> None:
    before, last, target = path
    assert at_once(*before).state is row[0]
    assert at_once(*before, last).state is target
    assert TRANSITIONS[row] is target


def test_recovering_by_three_takes_three() -> None:
    rules = replace(GUARDED, successes_to_recover=3)
    states = [at_once(*TRIPPED, *[success()] * n, rules=rules).state for n in range(5)]
    assert states == [X, R, R, H, H]
    assert [at_once(*TRIPPED, *[success()] * n, rules=rules).successes for n in range(5)] == [0, 1, 2, 0, 0]
    # (R, PARTIAL) is the row that two successes never meet.
    assert TRANSITIONS[R, Happening.PARTIAL] is R


def test_the_table_has_no_more_rows_than_the_contract() -> None:
    stricter = {row for row in TRANSITIONS if row[0] in (R, M) or row[1].value in ("partial", "closed")}
    assert stricter == {*GUARDED_ROWS, (R, Happening.PARTIAL)}
    assert len(TRANSITIONS) == 38
    assert {(state, happening) for state in HealthState for happening in Happening} - set(TRANSITIONS) == {
        (state, Happening.PARTIAL) for state in (U, H, D, M)
    }


# Single promises ------------------------------------------------------------------------------------


def test_under_guarded_a_life_starts_unknown_and_its_first_success_makes_it_healthy() -> None:
    assert verdict(at_once().state) == Verdict(available=False, reason=Reason.NEVER_SEEN)
    assert at_once(success()).state is H
    assert at_once(success(), RESTART, success()).state is H
    assert at_once(rules=SIMPLE).state is H


def test_two_successes_in_a_row_bring_it_back_and_a_fault_between_them_does_not() -> None:
    assert at_once(*TRIPPED, success(), fault(), success()).state is R
    assert at_once(*TRIPPED, success(), RESTART, success()).state is R
    assert at_once(*TRIPPED, success(), NEUTRAL, success()).state is H
    waiting = verdict(at_once(*TRIPPED, success()).state)
    assert waiting == Verdict(available=False, reason=Reason.RECOVERING)
    assert at_once(*TRIPPED, success()).balance is not None, "what it answered is known all the same"


def test_error_error_success_for_ever_trips_under_guarded_and_never_under_simple() -> None:
    history = [fault(), fault(), success()] * 10
    simple = [at_once(*history[:n], rules=SIMPLE).state for n in range(len(history) + 1)]
    assert X not in simple
    strict = [at_once(success(), *history[:n]).state for n in range(len(history) + 1)]
    # success, then e e s e e: six are in the window at the fifth of these, and four of six are faults.
    assert strict.index(X) == 5
    assert set(strict[5:]) == {X, R}, "two in a row never come, so it stays out"


def test_the_window_decides_from_its_minimum_on_and_not_before() -> None:
    alternating = [success(), fault()] * 3
    assert [at_once(*alternating[:n]).state for n in (2, 4, 6)] == [D, D, X]
    rules = replace(GUARDED, window_minimum=7)
    assert [at_once(*alternating[:n], rules=rules).state for n in (2, 4, 6)] == [D, D, D]


def test_the_window_trips_at_its_share_and_not_below() -> None:
    # Three whole faults of seven are less than half, four of eight are not.
    assert at_once(*[success()] * 4, fault(), success(), fault(), success(), fault()).state is D
    seven = [success(), success(), fault(), success(), fault(), success(), fault()]
    assert at_once(*seven).state is D
    assert at_once(*seven, fault(ODD)).state is D, "three and a half of eight"
    assert at_once(*seven, fault()).state is X, "four of eight"


def test_the_window_forgets_what_lies_further_back_than_it_looks() -> None:
    rules = replace(GUARDED, window_fetches=6)
    old = [fault(), fault(), success()] + [success()] * 4
    assert at_once(*old, fault(), rules=replace(rules, window_share=0.5)).state is D
    assert len(at_once(*old, rules=rules).recent) == 6
    assert at_once(*old, rules=SIMPLE).recent == ()


def test_a_recovery_is_not_undone_by_what_was_before_the_outage() -> None:
    back = at_once(*TRIPPED, success(), success())
    assert (back.state, back.recent) == (H, ())
    assert fold(back, fault(), NOW).state is D


@pytest.mark.parametrize("kind", [FaultKind.RATE_LIMITED, FaultKind.NONCE_CLOCK, FaultKind.CLIENT_BUG])
def test_what_says_little_about_the_exchange_never_fills_the_window(kind: FaultKind) -> None:
    assert at_once(*[success(), fault(Fault(kind)), fault(Fault(kind))] * 20).state is D


def test_every_kind_of_fault_has_a_weight_from_nothing_to_one() -> None:
    assert set(WEIGHTS) == set(FaultKind)
    assert {kind.value: weight for kind, weight in WEIGHTS.items()} == {
        "network": 1.0,
        "exchange_down": 1.0,
        "maintenance": 1.0,
        "rate_limited": 0.2,
        "auth": 1.0,
        "permission": 1.0,
        "nonce_clock": 0.2,
        "bad_response": 0.5,
        "client_bug": 0.0,
        "blocked": 1.0,
        "other": 1.0,
    }


@settings(max_examples=our.examples(150))
@given(
    before=st.lists(st.sampled_from((None, *FaultKind)), max_size=25),
    period=st.lists(st.sampled_from((None, *FaultKind)), min_size=1, max_size=8),
    size=st.sampled_from((4, 6, 20)),
    share=st.sampled_from((0.3, 0.5, 0.75)),
)
def test_a_broker_whose_faults_outweigh_the_windows_share_for_ever_cannot_stay_healthy(
    before: list[FaultKind | None], period: list[FaultKind | None], size: int, share: float
) -> None:
    rules = Rules(window_fetches=size, window_minimum=min(6, size), window_share=share)
    # So high a threshold that the run of faults never decides: this is about the window alone.
    health = Health.begin(NOW, threshold=10_000, rules=rules)
    for kind in before:
        health = fold(health, outcome(kind), NOW)
    weight = sum(WEIGHTS[kind] for kind in period if kind is not None)
    met = {health.state} - {X}
    for _ in range((rules.window_fetches + len(before)) // len(period) + 2):
        for kind in period:
            health = fold(health, outcome(kind), NOW)
            met.add(health.state)
    if weight > rules.window_share * len(period) + 1e-9:
        assert X in met
    elif (
        not before
        and None in period
        and all(
            # No part of the pattern, however it is cut, reaches the share: then nothing trips.
            sum(WEIGHTS[k] for k in cut if k is not None) < rules.window_share * len(cut) - 1e-9
            for cut in cuts(period, rules)
        )
    ):
        assert X not in met


def outcome(kind: FaultKind | None) -> Step:
    """A success, or a fault of this kind."""
    return success() if kind is None else fault(Fault(kind))


def cuts(period: list[FaultKind | None], rules: Rules) -> list[list[FaultKind | None]]:
    """Everything that the window may show of a pattern that goes on for ever."""
    endless = period * (rules.window_fetches // len(period) + 2)
    sizes = range(rules.window_minimum, rules.window_fetches + 1)
    return [endless[begin : begin + size] for size in sizes for begin in range(len(period))]


# Maintenance ----------------------------------------------------------------------------------------


def test_maintenance_is_a_state_and_no_error() -> None:
    health = at_once(success(), fault(), fault(CLOSED))
    assert (health.state, health.error_count, health.fault) == (M, 1, CLOSED)
    assert verdict(health.state) == Verdict(available=False, reason=Reason.MAINTENANCE)
    assert health.balance is not None
    assert at_once(*[fault(CLOSED)] * 20).error_count == 0
    assert at_once(*[fault(CLOSED)] * 20).recent == ()
    assert at_once(*[fault(CLOSED)] * 3, rules=SIMPLE).state is X, "simple has no such state: it is a fault"


def test_what_was_proven_before_a_maintenance_is_not_counted_after_it() -> None:
    assert at_once(*TRIPPED, success()).successes == 1
    assert at_once(*TRIPPED, success(), fault(CLOSED)).successes == 0


def test_faults_during_maintenance_are_counted_and_convict_only_after_it() -> None:
    health = at_once(fault(CLOSED), *[fault()] * 5)
    assert (health.state, health.error_count, health.recent) == (M, 5, ())
    assert fold(health, RESTART, NOW).state is U
    assert fold(fold(health, RESTART, NOW), fault(), NOW).state is X
    assert fold(health, success(), NOW).state is H


# Refused keys ---------------------------------------------------------------------------------------


PROBES_S: Final = (1.0, 60.0, 300.0, 900.0, 3_600.0)
"""A second, then 1, 5 and 15 minutes, then an hour: six requests with the one that was refused first."""


def refused_until_final(health: Health) -> tuple[list[float], Health]:
    """When a key is asked again that is refused each time, in seconds from now; and the health at the end."""
    now, asked_s = NOW, list[float]()
    health = fold(health, fault(REFUSED), now)
    while health.probe_at is not None:
        assert len(asked_s) < 20
        assert health.barred(moved(health.probe_at, -0.001))
        assert not health.barred(health.probe_at)
        assert verdict(health.state, health.vetoes) == Verdict(available=False, reason=Reason.AUTH)
        asked_s.append(health.probe_at.up_s - now.up_s)
        now = health.probe_at
        health = fold(health, fault(REFUSED), now)
    return asked_s, health


def test_a_key_that_worked_is_asked_again_six_requests_at_most_and_is_then_refused_for_good() -> None:
    asked_s, health = refused_until_final(at_once(success()))
    assert asked_s == list(PROBES_S)
    assert (health.state, health.refusals, health.barred(moved(NOW, 1e9))) == (X, 6, True)
    veto = health.vetoes.laid[Reason.AUTH]
    assert (veto.since, veto.until) == (NOW, None)
    assert veto.detail == "refused until `brokerwatch reset` or new credentials: invalid key"
    assert fold(health, fault(REFUSED), moved(NOW, 1e9)).refusals == 6


def test_a_key_that_never_worked_is_confirmed_once() -> None:
    asked_s, health = refused_until_final(at_once())
    assert asked_s == [1.0]
    assert health.barred(moved(NOW, 1e9))
    assert refused_until_final(at_once(rules=replace(GUARDED, auth_probes_s=())))[0] == []


def test_a_first_refusal_makes_it_unavailable_and_says_when_the_key_is_asked_again() -> None:
    health = at_once(success(), fault(REFUSED))
    assert (health.state, health.error_count, health.barred(NOW)) == (X, 1, True)
    asked_at = utc_time(NOW.wall_us + 1_000_000)
    assert health.vetoes.laid[Reason.AUTH].detail == f"refused, and asked again at {asked_at}: invalid key"
    assert not at_once(fault(REFUSED), rules=SIMPLE).barred(NOW)


@pytest.mark.parametrize("refusals", range(1, 6))
def test_a_success_brings_a_key_back_that_is_not_refused_for_good(refusals: int) -> None:
    health, now = at_once(success()), NOW
    for _ in range(refusals):
        health = fold(health, fault(REFUSED), now)
        assert health.probe_at is not None
        now = health.probe_at
    health = fold(fold(health, success(), now), success(), now)
    assert verdict(health.state, health.vetoes) == Verdict(available=True, reason=Reason.OK)
    assert (health.refusals, health.probe_at) == (0, None)
    assert refused_until_final(health)[0] == list(PROBES_S), "from the beginning again"


def test_an_error_at_a_probe_is_no_refusal_and_puts_the_next_one_off() -> None:
    health = at_once(success(), fault(REFUSED))
    assert fold(health, fault(), NOW).probe_at == health.probe_at, "it was not the probe"
    later = moved(NOW, 1.0)
    health = fold(health, fault(), later)
    assert (health.refusals, health.probe_at) == (1, moved(later, 1.0))


def test_a_restart_forgets_no_refusal() -> None:
    before = at_once(success(), fault(REFUSED), fault(REFUSED))
    after = fold(before, RESTART, NOW)
    assert (after.refusals, after.probe_at, after.vetoes) == (2, before.probe_at, before.vetoes)


def test_no_success_and_no_restart_brings_a_key_back_that_is_refused_for_good() -> None:
    health = at_once(fault(REFUSED), fault(REFUSED), success(), success(), RESTART, success(), WOKEN)
    assert health.state is H
    assert verdict(health.state, health.vetoes) == Verdict(available=False, reason=Reason.AUTH)
    back = fold(health, RESET, moved(NOW, 5.0))
    assert verdict(back.state, back.vetoes).available
    assert back.vetoes.lifted_us == NOW.wall_us + 5_000_000
    assert back.version == health.version + 1


def test_a_reset_forgives_no_outage() -> None:
    assert at_once(fault(REFUSED), RESET).state is X
    assert at_once(fault(REFUSED), RESET, success()).state is R
    assert at_once(fault(LOCKED), RESET).barred(NOW), "a lockout is the exchange's"


def test_its_word_against_the_permissions_makes_it_unavailable_and_may_be_asked_again() -> None:
    health = at_once(success(), fault(FORBIDDEN))
    assert (health.state, health.error_count, health.barred(NOW)) == (X, 1, False)
    assert at_once(success(), fault(FORBIDDEN), rules=SIMPLE).state is D


# Lockouts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", POLICIES.values(), ids=list(POLICIES))
def test_a_lockout_bars_every_private_call_exactly_until_its_end(rules: Rules) -> None:
    health = at_once(success(), fault(LOCKED), rules=rules)
    assert health.barred(NOW)
    veto = health.vetoes.laid[Reason.LOCKED_OUT]
    assert veto.until == moved(NOW, 900.0)
    assert veto.detail == f"until {utc_time(NOW.wall_us + 900_000_000)}: locked"
    assert health.woken(moved(NOW, 899.999)) is health
    over = health.woken(moved(NOW, 900.0))
    assert not over.barred(moved(NOW, 900.0))
    assert over.version == health.version + 1
    assert over.vetoes.lifted_us == NOW.wall_us + 900_000_000
    assert over == replace(health, version=over.version, vetoes=over.vetoes)
    for step in (success(), success(), fault(), fault(REFUSED), NEUTRAL, RESTART, RESET):
        health = fold(health, step, moved(NOW, 899.0))
        assert Reason.LOCKED_OUT in health.vetoes.laid
        assert health.vetoes.laid[Reason.LOCKED_OUT] == veto


@pytest.mark.parametrize(("first_s", "second_s"), [(60.0, 900.0), (900.0, 60.0), (60.0, 60.0)])
def test_a_lockout_that_is_told_twice_ends_with_the_later_and_began_with_the_first(
    first_s: float, second_s: float
) -> None:
    later = moved(NOW, 1.0)
    health = at_once(success()).locked(moved(NOW, first_s), "first", NOW)
    again = health.locked(moved(NOW, second_s), "second", later)
    veto = again.vetoes.laid[Reason.LOCKED_OUT]
    assert veto.until == moved(NOW, max(first_s, second_s))
    assert veto.since == NOW
    assert veto.detail.endswith("second" if second_s > first_s else "first")
    assert again.vetoes is health.vetoes or second_s > first_s
    assert (again.state, again.error_count) == (H, 0), "another account was refused: no fault of this one"


def test_a_lockout_of_a_moment_bars_for_that_moment() -> None:
    health = at_once(success(), fault(Fault(FaultKind.RATE_LIMITED, lockout_s=0.5)))
    assert health.barred(NOW)
    assert health.woken(moved(NOW, 0.499)) is health
    assert not health.woken(moved(NOW, 0.5)).barred(moved(NOW, 0.5))


def test_a_lockout_that_is_told_again_with_the_same_end_keeps_its_first_words() -> None:
    until = moved(NOW, 60.0)
    first = locked_out(NO_VETOES, "first", until, NOW)
    set_forward = Instant(until.wall_us + 3_600_000_000, until.up_s)
    assert locked_out(first, "second", set_forward, SOON) is first, "only the wall clock was moved"


def test_a_moment_is_told_in_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as away:
        away.setenv("TZ", "JST-9")
        time.tzset()
        told = utc_time(1_795_360_093_000_000)
    time.tzset()
    assert told == "2026-11-22 15:08:13 UTC"


def test_a_lockout_outlasts_a_restart_and_the_maintenance() -> None:
    health = at_once(fault(replace_lockout(CLOSED)), RESTART)
    assert (health.state, health.barred(NOW)) == (U, True)
    assert at_once(fault(replace_lockout(REFUSED))).vetoes.laid.keys() == BARS


def replace_lockout(what: Fault) -> Fault:
    return Fault(what.kind, what.detail, lockout_s=900.0)


def test_laying_without_an_end_what_has_one_makes_it_last() -> None:
    laid = locked_out(NO_VETOES, "told", moved(NOW, 5.0), NOW)
    held = laid.lay(Reason.HELD_OUT, "for a while", NOW, until=moved(NOW, 5.0))
    assert held.lay(Reason.HELD_OUT, "again", SOON, until=moved(NOW, 5.0)) is held
    for_good = held.lay(Reason.HELD_OUT, "for good", SOON)
    assert for_good.laid[Reason.HELD_OUT].since == NOW
    assert for_good.laid[Reason.HELD_OUT].detail == "for good"
    assert set(for_good.lift_ended(ENDED).laid) == {Reason.HELD_OUT}
    assert set(held.lift_ended(moved(NOW, 5.0)).laid) == set()
    assert held.lift_ended(moved(NOW, 4.999)) is held


# The last known, the wall clock, and what others see -------------------------------------------------


def test_a_balance_from_before_a_restart_is_known_and_proves_nothing() -> None:
    health = at_once()
    known = health.remembered(MONEY, NOW)
    assert (known.state, known.balance, known.funded, known.version) == (U, MONEY, True, 1)
    newer = known.seen(our.seen_at(MONEY, SOON), SOON)
    assert newer.remembered(MONEY, SOON).balance == our.seen_at(MONEY, SOON)
    equally_old = our.seen_at(our.SMALL_BALANCES[0], NOW)
    assert known.remembered(equally_old, NOW).balance == MONEY
    assert not health.remembered(our.SMALL_BALANCES[3], NOW).funded
    assert newer.remembered(our.SMALL_BALANCES[3], NOW).funded


@settings(max_examples=our.examples(150))
@given(
    history=our.histories(8),
    jumps_s=st.lists(our.wall_jumps_s(), min_size=1, max_size=6),
    rules=our.rules(),
)
def test_a_jump_of_the_wall_clock_decides_nothing(
    history: list[Step], jumps_s: list[float], rules: Rules
) -> None:
    ours = theirs = Health.begin(NOW, threshold=2, rules=rules)
    off_us = 0
    for number, (step, now) in enumerate(our.moments(history)):
        off_us += round(jumps_s[number % len(jumps_s)] * 1_000_000)
        off_us = max(off_us, -NOW.wall_us)
        ours = fold(ours, step, now)
        theirs = fold(theirs, step, Instant(now.wall_us + off_us, now.up_s))
        assert timeless(theirs) == timeless(ours)
        assert verdict(theirs.state, theirs.vetoes) == verdict(ours.state, ours.vetoes)


def timeless(health: Health) -> tuple[object, ...]:
    """Everything but what the wall clock showed."""
    vetoes = {
        reason: (veto.since.up_s, None if veto.until is None else veto.until.up_s)
        for reason, veto in health.vetoes.laid.items()
    }
    balance = health.balance
    known = None if balance is None else (balance.as_of.up_s, dict(balance.holdings), balance.stated)
    return (
        *(health.state, health.since.up_s, health.error_count, health.fault, health.version),
        *(health.successes, health.recent, health.funded, vetoes, known),
    )


@settings(max_examples=our.examples(100))
@given(
    history=our.histories(8),
    rules=our.rules(),
    others=st.lists(st.sampled_from([reason for reason in PRECEDENCE if reason not in BARS])),
)
def test_held_out_is_out_over_all_that_a_broker_meets_and_lays_itself(
    history: list[Step], rules: Rules, others: list[Reason]
) -> None:
    health = Health.begin(NOW, threshold=2, rules=rules)
    for step, now in our.moments(history):
        health = fold(health, step, now)
        vetoes: Vetoes = health.vetoes
        for reason in others:
            vetoes = vetoes.lay(reason, "", now)
        free = vetoes.lift(now, Reason.HELD_OUT)
        held = free.lay(Reason.HELD_OUT, "by hand", now)
        found = verdict(health.state, held)
        assert not found.available
        assert found.reason in (Reason.HELD_OUT, Reason.CONFIG, Reason.SHUTDOWN)
        assert verdict(health.state, held.lift(now, Reason.HELD_OUT)) == verdict(health.state, free)


# The rules' own numbers -----------------------------------------------------------------------------


def test_the_numbers_of_the_policies_are_the_documented_ones() -> None:
    assert POLICIES == {"simple": SIMPLE, "guarded": GUARDED}
    assert (
        Rules(
            start_unknown=False,
            final_auth=False,
            auth_probes_s=(),
            maintenance_state=False,
            window_fetches=0,
            window_minimum=6,
            window_share=0.5,
            successes_to_recover=1,
            confirm_after_s=(),
            backoff_s=None,
            max_age_s=None,
        )
        == SIMPLE
    )
    assert (
        Rules(
            start_unknown=True,
            final_auth=True,
            auth_probes_s=PROBES_S,
            maintenance_state=True,
            window_fetches=20,
            window_minimum=6,
            window_share=0.5,
            successes_to_recover=2,
            confirm_after_s=(0.25, 0.5),
            backoff_s=(1.0, 60.0),
            max_age_s=60.0,
        )
        == GUARDED
    )
    assert rule_mistakes(SIMPLE) == rule_mistakes(GUARDED) == []


DAY_S: Final = 86_400.0
BEYOND: Final = float("inf")


@pytest.mark.parametrize(
    "right",
    [
        {"window_fetches": 0, "window_minimum": 1_000},
        {"window_fetches": 1, "window_minimum": 1},
        {"window_fetches": 1_000, "window_minimum": 1_000},
        {"window_share": 1.0},
        {"window_share": 0.001},
        {"successes_to_recover": 100},
        {"confirm_after_s": (0.001,) * 10},
        {"confirm_after_s": (DAY_S,)},
        {"backoff_s": (0.001, DAY_S)},
        {"backoff_s": (DAY_S, DAY_S)},
        {"max_age_s": 0.001},
        {"max_age_s": BEYOND},
    ],
    ids=str,
)
def test_rules_that_can_be_are_no_mistake(right: dict[str, object]) -> None:
    assert rule_mistakes(replace(SIMPLE, **right)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "key", "words"),
    [
        ({"window_fetches": -1}, "window_fetches", "expected from 0 (no window) to 1,000, not -1"),
        ({"window_fetches": 1_001}, "window_fetches", "expected from 0 (no window) to 1,000, not 1001"),
        ({"window_minimum": 0}, "window_minimum", "expected from 1 to 1,000, not 0"),
        ({"window_minimum": 1_001}, "window_minimum", "expected from 1 to 1,000, not 1001"),
        ({"window_fetches": 1}, "window_minimum", "expected at most window_fetches, 1"),
        ({"window_fetches": 5}, "window_minimum", "expected at most window_fetches, 5"),
        ({"window_share": 0.0}, "window_share", "expected above 0 and up to 1, not 0"),
        ({"window_share": 1.01}, "window_share", "expected above 0 and up to 1, not 1.01"),
        ({"window_share": float("nan")}, "window_share", "expected above 0 and up to 1, not nan"),
        ({"successes_to_recover": 0}, "successes_to_recover", "expected from 1 to 100, not 0"),
        ({"successes_to_recover": 101}, "successes_to_recover", "expected from 1 to 100, not 101"),
        *(
            (
                {"confirm_after_s": waits},
                "confirm_after_s",
                "expected up to 10 numbers of seconds above 0; [] switches it off",
            )
            for waits in ((0.0,), (DAY_S + 1,), (1.0,) * 11, (float("nan"),), (1.0, -1.0))
        ),
        *(
            (
                {"backoff_s": waits},
                "backoff_s",
                "expected [shortest, longest] in seconds above 0; [] switches it off",
            )
            for waits in ((0.0, 1.0), (2.0, 1.0), (1.0, DAY_S + 1), (float("nan"), 1.0))
        ),
        ({"max_age_s": 0.0}, "max_age_s", "expected seconds above 0, or inf for no limit, not 0"),
        ({"max_age_s": float("nan")}, "max_age_s", "expected seconds above 0, or inf for no limit, not nan"),
    ],
    ids=str,
)
def test_rules_that_cannot_be_are_named(wrong: dict[str, object], key: str, words: str) -> None:
    assert rule_mistakes(replace(SIMPLE, **wrong)) == [(key, words)]  # type: ignore[arg-type]
