"""The health of one broker on random walks, held against an oracle that reads the whole history.

The oracle is no second machine: it keeps no state, and answers each question from the list of all
that ever happened. What it says stands in closed form, after the text of the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations
from typing import Final, Literal

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType] - Hypothesis leaves it bare
)

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.health.state_machine import (
    AVAILABLE,
    BROKER_MAX_CONSECUTIVE_ERRORS,
    NO_VETOES,
    PRECEDENCE,
    TRANSITIONS,
    Happening,
    Health,
    Vetoes,
    verdict,
)
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Holding, Reason, Wallet
from brokerwatch.storage.health_record import read, written
from tests.support import strategies as our

What = Literal["success", "fault", "neutral", "restart"]
U, H, D, X = HealthState.UNKNOWN, HealthState.HEALTHY, HealthState.DEGRADED, HealthState.UNAVAILABLE

THE_TABLE: Final = {
    # What may happen in a state, and where it leads: copied by hand from the contract, not imported.
    (U, "success"): {H},
    (U, "fault"): {U, X},
    (U, "neutral"): {U},
    (U, "restart"): {U},
    (H, "success"): {H},
    (H, "fault"): {D, X},
    (H, "neutral"): {H},
    (H, "restart"): {U},
    (D, "success"): {H},
    (D, "fault"): {D, X},
    (D, "neutral"): {D},
    (D, "restart"): {U},
    (X, "success"): {H},
    (X, "fault"): {X},
    (X, "neutral"): {X},
    (X, "restart"): {X},
}


@dataclass(frozen=True)
class Event:
    """One thing that happened to the broker."""

    what: What
    at: Instant
    balance: Balance | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Oracle:
    """What must be true after `history`, by looking at all of it."""

    history: tuple[Event, ...]
    threshold: int
    began: Instant

    @property
    def since_the_last_success(self) -> tuple[Event, ...]:
        last = max((i for i, e in enumerate(self.history) if e.what == "success"), default=-1)
        return self.history[last + 1 :]

    @property
    def faults_in_a_row(self) -> tuple[Event, ...]:
        return tuple(e for e in self.since_the_last_success if e.what == "fault")

    @property
    def state(self) -> HealthState:
        if len(self.faults_in_a_row) >= self.threshold:
            return X
        if any(e.what == "restart" for e in self.since_the_last_success):
            return U
        return D if self.faults_in_a_row else H

    @property
    def balance(self) -> Balance | None:
        # The last of the newest: sorted() is stable, so of two equally old ones the later stays last.
        seen = [e.balance for e in self.history if e.balance is not None]
        return sorted(seen, key=lambda balance: balance.as_of.up_s)[-1] if seen else None

    @property
    def version(self) -> int:
        restarts = [i for i, e in enumerate(self.history) if e.what == "restart"]
        return len(self.history) - (restarts[-1] + 1 if restarts else 0)

    @property
    def since(self) -> Instant:
        """When the state that holds now began: the oldest prefix from which on it was always this one."""
        since = self.began
        before = H
        for length in range(1, len(self.history) + 1):
            state = replace(self, history=self.history[:length]).state
            if state is not before:
                before, since = state, self.history[length - 1].at
        return since

    @property
    def available_in_the_first_life(self) -> bool:
        """False exactly from the n-th consecutive fault to the next success."""
        words = "".join({"fault": "f", "success": "s"}.get(e.what, "") for e in self.history)
        return not words.endswith("f" * self.threshold)


class HealthWalk(RuleBasedStateMachine):
    """One broker through its lives; a second that nothing happens to; a third whose wall clock jumps."""

    reached: set[tuple[HealthState, What, HealthState]] = set()  # noqa: RUF012 - all walks count together
    threshold = 1
    """Set before each run; every threshold has its walks."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.wall_off_us = 0
        self.history: list[Event] = []
        self.states: list[HealthState] = [H]
        self.ages_s: list[float] = []
        self.health = self.jumped = Health.begin(self.clock.now(), threshold=self.threshold)
        self.other = Health.begin(self.clock.now())
        self.other_before = self.other
        self.began = self.clock.now()

    @initialize(faults=st.integers(0, 4))
    def begin_the_other(self, faults: int) -> None:
        for _ in range(faults):
            self.other = self.other.failed(Fault(FaultKind.NETWORK), self.began)
        self.other_before = replace(self.other)

    # What happens -----------------------------------------------------------------------------------

    @rule(balance=our.balances(), age_s=our.steps_s())
    def a_fetch_succeeds(self, balance: Balance, age_s: float) -> None:
        self.succeed(balance, age_s)

    @rule(ages_s=st.lists(st.sampled_from(our.EDGE_STEPS_S), min_size=2, max_size=4), balance=our.balances())
    def fetches_succeed_out_of_order(self, ages_s: list[float], balance: Balance) -> None:
        for age_s in ages_s:
            self.succeed(balance, age_s)

    @rule(fault=our.faults(), beside=st.integers(-1, 1))
    def fetches_fail_until_about_the_threshold(self, fault: Fault, beside: int) -> None:
        for _ in range(max(1, self.threshold + beside)):
            self.fail(fault)

    @rule(faults=st.lists(our.faults(), min_size=1, max_size=3))
    def fetches_fail(self, faults: list[Fault]) -> None:
        for fault in faults:
            self.fail(fault)

    @rule(times=st.integers(1, 4))
    def what_is_no_outcome_happens(self, times: int) -> None:
        for _ in range(times):
            before = self.health
            self.happen(Event("neutral", self.clock.now()))
            assert replace(self.health, version=before.version) == before, "only the version moves"

    @rule(fault=our.faults(), balance=our.balances(), times=st.integers(1, 3))
    def errors_and_successes_alternate(self, fault: Fault, balance: Balance, times: int) -> None:
        for _ in range(times):
            for _ in range(self.threshold - 1):
                self.fail(fault)
                self.happen(Event("neutral", self.clock.now()))
            self.succeed(balance, 0.0)
            assert verdict(self.health.state).available

    @rule(
        fault=our.faults(),
        faults=st.integers(0, 10),
        lives=st.integers(1, 2),
        then=st.sampled_from(("nothing", "neutral", "success", "faults")),
    )
    def it_fails_crashes_and_is_started_again(self, fault: Fault, faults: int, lives: int, then: str) -> None:
        for _ in range(min(faults, self.threshold)):
            self.fail(fault)
        for _ in range(lives):
            before = self.health
            self.happen(Event("restart", self.clock.now()))
            assert verdict(before.state).available >= verdict(self.health.state).available
            assert not verdict(self.health.state).available, "a restart proves nothing"
            assert self.health.balance is before.balance
            assert (self.health.error_count, self.health.fault) == (before.error_count, before.fault)
        if then == "neutral":
            self.happen(Event("neutral", self.clock.now()))
        elif then == "success":
            self.succeed(Balance(holdings={}, as_of=self.clock.now()), 0.0)
            self.happen(Event("restart", self.clock.now()))
        elif then == "faults":
            for _ in range(self.threshold):
                self.fail(fault)

    @rule(step_s=our.steps_s())
    def time_passes(self, step_s: float) -> None:
        self.clock.advance(step_s)

    @rule(jump_s=our.wall_jumps_s())
    def the_wall_clock_jumps(self, jump_s: float) -> None:
        """Only the third broker sees it."""
        self.wall_off_us += round(jump_s * 1_000_000)

    @precondition(lambda self: self.history)  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType]
    @rule()
    def what_was_written_and_read_goes_on_in_its_place(self) -> None:
        """Nothing is hidden beside the fields, and none is left out or changed by the writing."""
        now = self.clock.now()
        found = read(written(self.health, now), threshold=self.threshold)
        assert (found.health, found.at) == (self.health, now)
        self.health = found.health

    # What must hold ---------------------------------------------------------------------------------

    @invariant()
    def everything_is_as_the_history_says(self) -> None:
        oracle = Oracle(tuple(self.history), self.threshold, self.began)
        newest = oracle.faults_in_a_row[-1].fault if oracle.faults_in_a_row else None
        assert self.health.state is oracle.state
        assert self.health.error_count == len(oracle.faults_in_a_row)
        assert self.health.fault == newest
        assert self.health.version == oracle.version
        assert self.health.since == oracle.since
        assert self.health.threshold == self.threshold
        assert self.health.balance == oracle.balance

    @invariant()
    def the_last_known_is_exact_and_never_invented(self) -> None:
        balance = self.health.balance
        if not any(e.what == "success" for e in self.history):
            assert balance is None, "a broker that never answered has no balance, and not an empty one"
            return
        assert balance is not None
        accepted = Oracle(tuple(self.history), self.threshold, self.began).balance
        assert accepted is not None
        assert {code: _bits(held) for code, held in balance.holdings.items()} == {
            code: _bits(held) for code, held in accepted.holdings.items()
        }
        assert all(balance.as_of.up_s >= e.balance.as_of.up_s for e in self.history if e.balance is not None)

    @invariant()
    def the_first_life_keeps_the_contract(self) -> None:
        if all(e.what != "restart" for e in self.history):
            oracle = Oracle(tuple(self.history), self.threshold, self.began)
            assert verdict(self.health.state).available is oracle.available_in_the_first_life

    @invariant()
    def a_jump_of_the_wall_clock_decides_nothing(self) -> None:
        ours, theirs = self.health, self.jumped
        assert (theirs.state, theirs.error_count, theirs.fault, theirs.version) == (
            ours.state,
            ours.error_count,
            ours.fault,
            ours.version,
        )
        assert theirs.since.up_s == ours.since.up_s
        assert (theirs.balance and theirs.balance.holdings) == (ours.balance and ours.balance.holdings)

    @invariant()
    def the_other_broker_is_as_it_was(self) -> None:
        assert self.other == self.other_before

    def teardown(self) -> None:
        """Liveness: however it went, one success and it is available."""
        if self.history:
            self.succeed(Balance(holdings={}, as_of=self.clock.now()), 0.0)
            self.everything_is_as_the_history_says()
            assert verdict(self.health.state) == verdict(H)
            assert (self.health.error_count, self.health.fault) == (0, None)
        event(f"{len(set(self.states))} different states on one walk")

    # How it is done ---------------------------------------------------------------------------------

    def succeed(self, balance: Balance, age_s: float) -> None:
        now = self.clock.now()
        as_of = Instant(now.wall_us - round(age_s * 1_000_000), now.up_s - age_s)
        self.happen(Event("success", now, balance=Balance(holdings=balance.holdings, as_of=as_of)))

    def fail(self, fault: Fault) -> None:
        self.happen(Event("fault", self.clock.now(), fault=fault))

    def happen(self, happened: Event) -> None:
        before = self.health
        self.history.append(happened)
        self.health = fold(self.health, happened)
        off = Instant(happened.at.wall_us + self.wall_off_us, happened.at.up_s)
        self.jumped = fold(self.jumped, replace(happened, at=off))
        self.states.append(self.health.state)
        step = (before.state, happened.what, self.health.state)
        assert self.health.state in THE_TABLE[before.state, happened.what], f"{step} is not in the table"
        assert (self.health.since == before.since) or self.health.state is not before.state
        self.reached.add(step)
        event(f"{before.state.name} {happened.what} {self.health.state.name}")


def fold(health: Health, happened: Event) -> Health:
    """One event into the product."""
    if happened.balance is not None:
        return health.seen(happened.balance, happened.at)
    if happened.fault is not None:
        return health.failed(happened.fault, happened.at)
    return health.ignored(happened.at) if happened.what == "neutral" else health.restarted(happened.at)


def _bits(held: Holding) -> tuple[object, ...]:
    """An amount digit by digit: 1.0 and 1.00 are equal numbers and not the same answer."""
    parts = (held.free, held.used, held.total)
    return tuple(None if part is None else part.as_tuple() for part in parts)


WALKS = (30, 90, 270)
"""The same walks on every run of the same tests; but they hang on which modules are loaded, and now and then
the first ones leave a rare step out."""


def test_the_fold_agrees_with_the_whole_history_on_walks_that_reach_every_transition() -> None:
    HealthWalk.reached.clear()
    wanted = {(state, what, target) for (state, what), row in THE_TABLE.items() for target in row}
    for walks in WALKS:
        for HealthWalk.threshold in range(1, 11):
            run_state_machine_as_test(
                HealthWalk, settings=settings(max_examples=our.examples(walks), stateful_step_count=15)
            )
        if HealthWalk.reached == wanted:
            break
    assert HealthWalk.reached == wanted, "a walk that never gets somewhere proves nothing about it"


# The table, row by row ------------------------------------------------------------------------------

NOW: Final = Instant(wall_us=1_800_000_000_000_000, up_s=1_000.0)
LATER: Final = Instant(wall_us=NOW.wall_us + 1_000_000, up_s=NOW.up_s + 1.0)
NETWORK: Final = Fault(FaultKind.NETWORK, "no route")


def money(free: str, as_of: Instant = NOW) -> Balance:
    number = Decimal(free)
    return Balance(holdings={"USD": Holding(free=number, used=Decimal(0), total=number)}, as_of=as_of)


def after(*steps: str, threshold: int = 3, now: Instant = NOW) -> Health:
    health = Health.begin(now, threshold=threshold)
    for step in steps:
        known: dict[str, Callable[[Health], Health]] = {
            "success": lambda one: one.seen(money("1", now), now),
            "fault": lambda one: one.failed(NETWORK, now),
            "neutral": lambda one: one.ignored(now),
            "restart": lambda one: one.restarted(now),
        }
        health = known[step](health)
    return health


ROWS: Final = {
    (U, Happening.SUCCESS): (("restart",), "success", H),
    (U, Happening.FAULT): (("restart",), "fault", U),
    (U, Happening.TRIP): (("restart", "fault", "fault"), "fault", X),
    (U, Happening.NEUTRAL): (("restart",), "neutral", U),
    (U, Happening.RESTART): (("restart",), "restart", U),
    (H, Happening.SUCCESS): ((), "success", H),
    (H, Happening.FAULT): ((), "fault", D),
    (H, Happening.NEUTRAL): ((), "neutral", H),
    (H, Happening.RESTART): ((), "restart", U),
    (D, Happening.SUCCESS): (("fault",), "success", H),
    (D, Happening.FAULT): (("fault",), "fault", D),
    (D, Happening.TRIP): (("fault", "fault"), "fault", X),
    (D, Happening.NEUTRAL): (("fault",), "neutral", D),
    (D, Happening.RESTART): (("fault",), "restart", U),
    (X, Happening.SUCCESS): (("fault", "fault", "fault"), "success", H),
    (X, Happening.TRIP): (("fault", "fault", "fault"), "fault", X),
    (X, Happening.NEUTRAL): (("fault", "fault", "fault"), "neutral", X),
    (X, Happening.RESTART): (("fault", "fault", "fault"), "restart", X),
}


@pytest.mark.parametrize(("row", "path"), ROWS.items(), ids=[f"{s.name.lower()}-{h.value}" for s, h in ROWS])
def test_a_row_of_the_table_is_reached_and_leads_where_it_says(
    row: tuple[HealthState, Happening], path: tuple[tuple[str, ...], str, HealthState]
) -> None:
    steps, last, target = path
    assert after(*steps).state is row[0]
    assert after(*steps, last).state is target
    assert TRANSITIONS[row] is target


def test_a_threshold_of_one_trips_a_healthy_broker_at_once() -> None:
    assert after("fault", threshold=1).state is X
    assert after("restart", "fault", threshold=1).state is X
    assert TRANSITIONS[H, Happening.TRIP] is X


def test_the_table_holds_the_listed_rows_and_nothing_else() -> None:
    # The rows of the stricter rules, which `simple` never meets, are in test_guarded_policy.py.
    fault_of_the_unavailable = (X, Happening.FAULT)
    simple = {
        (state, happening)
        for state, happening in TRANSITIONS
        if state in (U, H, D, X) and happening not in (Happening.PARTIAL, Happening.CLOSED)
    }
    assert simple == {*ROWS, (H, Happening.TRIP), fault_of_the_unavailable}
    # It is always at the threshold already, so this row cannot be reached; it must be harmless.
    assert TRANSITIONS[fault_of_the_unavailable] is X


def test_no_row_leads_to_available_but_by_a_success() -> None:
    led = {
        happening
        for (state, happening), target in TRANSITIONS.items()
        if state not in AVAILABLE and target in AVAILABLE
    }
    assert led == {Happening.SUCCESS}


# Single promises ------------------------------------------------------------------------------------


def test_the_first_life_begins_healthy_without_a_balance() -> None:
    health = Health.begin(NOW)
    assert (health.state, health.since, health.error_count, health.version) == (H, NOW, 0, 0)
    assert health.balance is None
    assert health.fault is None
    assert health.threshold == BROKER_MAX_CONSECUTIVE_ERRORS == 3


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_below_one_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, not {threshold}"):
        Health.begin(NOW, threshold=threshold)


def test_the_third_consecutive_error_makes_it_unavailable_and_later_ones_only_count() -> None:
    health = after("success")
    seen: list[tuple[HealthState, int, Instant]] = []
    for second in range(1, 6):
        health = health.failed(NETWORK, Instant(NOW.wall_us + second, NOW.up_s + second))
        seen.append((health.state, health.error_count, health.since))
    third = Instant(NOW.wall_us + 3, NOW.up_s + 3)
    assert [(state, count) for state, count, _ in seen] == [(D, 1), (D, 2), (X, 3), (X, 4), (X, 5)]
    assert [since for _, _, since in seen[2:]] == [third] * 3
    assert health.balance == money("1")


def test_a_real_zero_is_a_success() -> None:
    health = after("fault", "fault", "fault").seen(money("0"), LATER)
    assert (health.state, health.error_count, health.fault) == (H, 0, None)
    assert health.balance == money("0")
    empty = after("fault", "fault", "fault").seen(Balance(holdings={}, as_of=LATER), LATER)
    assert empty.state is H
    assert empty.balance is not None
    assert dict(empty.balance.holdings) == {}


def test_an_older_observation_proves_health_and_never_replaces_a_newer_one() -> None:
    newest = after("fault", "fault", "fault").seen(money("2", LATER), LATER).failed(NETWORK, LATER)
    health = newest.seen(money("1", NOW), LATER)
    assert health.balance == money("2", LATER)
    assert (health.state, health.error_count, health.fault) == (H, 0, None)


def test_of_two_observations_of_one_moment_the_later_answer_counts() -> None:
    assert after().seen(money("1"), NOW).seen(money("2"), NOW).balance == money("2")


def test_a_wallet_that_could_not_be_read_this_time_is_still_known() -> None:
    funding = Wallet(holdings=money("5").holdings, as_of=NOW)
    unread = Wallet(holdings=None, as_of=None, trouble="timed out")
    health = after().seen(msgspec.structs.replace(money("1"), wallets={"funding": funding}), NOW)
    health = health.seen(msgspec.structs.replace(money("2", LATER), wallets={"funding": unread}), LATER)
    assert health.balance is not None
    assert health.balance.holdings == money("2").holdings
    assert health.balance.wallets == {"funding": msgspec.structs.replace(funding, trouble="timed out")}


def test_as_of_is_compared_by_the_monotonic_clock() -> None:
    set_back = Instant(wall_us=NOW.wall_us - 10**12, up_s=LATER.up_s)
    assert after().seen(money("1", NOW), NOW).seen(money("2", set_back), LATER).balance == money(
        "2", set_back
    )


def test_the_newest_fault_of_the_run_is_kept() -> None:
    other = Fault(FaultKind.EXCHANGE_DOWN, "502")
    assert after("fault").failed(other, NOW).fault == other
    assert after("fault", "neutral", "restart").fault == NETWORK


def test_errors_before_a_restart_count_on_after_it() -> None:
    health = after("fault", "fault", "restart")
    assert (health.state, health.error_count, health.version) == (U, 2, 0)
    assert health.failed(NETWORK, NOW).state is X


# The verdict ----------------------------------------------------------------------------------------


def laid(reasons: Iterable[Reason], vetoes: Vetoes = NO_VETOES) -> Vetoes:
    for reason in reasons:
        vetoes = vetoes.lay(reason, reason.value, NOW)
    return vetoes


SPECIFIED_ORDER: Final = (
    # The contract's order; ours adds a broken configuration, a shutdown and blindness.
    Reason.HELD_OUT,
    Reason.FAILED,
    Reason.NEVER_SEEN,
    Reason.SILENT,
    Reason.RESTARTING,
    Reason.LOCKED_OUT,
    Reason.AUTH,
)


def test_the_precedence_is_the_contracts() -> None:
    assert tuple(reason for reason in PRECEDENCE if reason in SPECIFIED_ORDER) == SPECIFIED_ORDER
    assert set(PRECEDENCE) - set(SPECIFIED_ORDER) == {
        *(Reason.CONFIG, Reason.SHUTDOWN, Reason.BLIND, Reason.LOOP, Reason.CLAIM, Reason.UNPROVEN)
    }
    assert PRECEDENCE[-1] is Reason.UNPROVEN, "it says only that good evidence is too old"


@pytest.mark.parametrize("state", HealthState)
def test_no_evidence_is_available_under_any_veto_and_the_strongest_one_is_the_reason(
    state: HealthState,
) -> None:
    for size in (1, 2, 3):
        for reasons in combinations(PRECEDENCE, size):
            for order in (reasons, reversed(reasons)):
                found = verdict(state, laid(order))
                assert not found.available
                assert found.reason is reasons[0]


def test_without_a_veto_the_evidence_decides() -> None:
    found = {state: verdict(state) for state in HealthState}
    assert {state for state, one in found.items() if one.available} == {H, D}
    assert {state.name: one.reason.value for state, one in found.items()} == {
        "UNKNOWN": "never_seen",
        "HEALTHY": "ok",
        "DEGRADED": "ok",
        "UNAVAILABLE": "errors",
        "RECOVERING": "recovering",
        "MAINTENANCE": "maintenance",
    }


@pytest.mark.parametrize("reason", sorted(set(Reason) - set(PRECEDENCE)))
def test_what_is_no_veto_cannot_be_laid(reason: Reason) -> None:
    with pytest.raises(ValueError, match="is no veto"):
        NO_VETOES.lay(reason, "", NOW)


def test_a_veto_that_is_laid_again_began_when_it_began() -> None:
    once = NO_VETOES.lay(Reason.SILENT, "first", NOW)
    assert once.lay(Reason.SILENT, "second", LATER) is once
    assert (once.laid[Reason.SILENT].since, once.laid[Reason.SILENT].detail) == (NOW, "first")


def test_lifting_what_was_not_laid_changes_nothing() -> None:
    once = laid([Reason.SILENT])
    assert once.lift(LATER, Reason.BLIND, Reason.FAILED) is once
    assert NO_VETOES.lift(LATER, Reason.SILENT) is NO_VETOES
    lifted = once.lift(LATER, Reason.SILENT, Reason.BLIND)
    assert dict(lifted.laid) == {}
    assert lifted.lifted_us == LATER.wall_us
    assert dict(NO_VETOES.laid) == {}


def test_vetoes_cannot_be_changed_from_outside() -> None:
    vetoes = laid([Reason.SILENT])
    with pytest.raises(TypeError):
        vetoes.laid[Reason.FAILED] = vetoes.laid[Reason.SILENT]  # type: ignore[index] # pyright: ignore[reportIndexIssue]


@settings(max_examples=our.examples(60))
@given(
    before=st.lists(our.outcomes(), max_size=6),
    meanwhile=st.lists(our.outcomes(), max_size=6),
    also=st.lists(st.sampled_from(PRECEDENCE), max_size=3),
)
def test_held_out_is_out_whatever_happens_and_the_end_of_the_hold_leaves_no_trace(
    before: list[Balance | Fault | None],
    meanwhile: list[Balance | Fault | None],
    also: list[Reason],
) -> None:
    others = [reason for reason in also if reason is not Reason.HELD_OUT]
    stronger = [
        r for r in PRECEDENCE if r in others and PRECEDENCE.index(r) < PRECEDENCE.index(Reason.HELD_OUT)
    ]
    health = Health.begin(NOW)
    vetoes = laid(others)
    for outcome in before:
        health = with_outcome(health, outcome)
    held = vetoes.lay(Reason.HELD_OUT, "by hand", NOW)
    for outcome in meanwhile:
        health = with_outcome(health, outcome)
        found = verdict(health.state, held)
        assert not found.available
        assert found.reason is (stronger[0] if stronger else Reason.HELD_OUT)
    released = held.lift(LATER, Reason.HELD_OUT)
    assert dict(released.laid) == dict(vetoes.laid)
    assert verdict(health.state, released) == verdict(health.state, vetoes)


def with_outcome(health: Health, outcome: Balance | Fault | None) -> Health:
    if isinstance(outcome, Balance):
        return health.seen(outcome, NOW)
    return health.ignored(NOW) if outcome is None else health.failed(outcome, NOW)
