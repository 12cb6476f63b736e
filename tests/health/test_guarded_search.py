"""No rule makes a broker laxer: every state that any history leads to is searched."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import product
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.config.policy import GUARDED, SIMPLE, WEIGHTS, Rules
from brokerwatch.health.state_machine import (
    BARS,
    Health,
    verdict,
)
from brokerwatch.messages import HealthState, Reason, Verdict
from brokerwatch.storage.health_record import read, written
from tests.support import strategies as our
from tests.support.guarded import (
    ENDED,
    EVENTS,
    MONEY,
    NOW,
    RESET,
    THE_TABLE,
    WOKEN,
    D,
    H,
    R,
    column,
)
from tests.support.strategies import Step, fold

# To the last state ----------------------------------------------------------------------------------

Pair = tuple[int, int]
"""The numbers of the states of `simple` and of the stricter rules, after one history."""
Trail = tuple["Trail", str] | None
SWITCHES: Final = [
    Rules(
        start_unknown=unknown,
        final_auth=final,
        maintenance_state=closed,
        window_fetches=window,
        window_minimum=2,
        successes_to_recover=proofs,
    )
    for unknown, final, closed in product((False, True), repeat=3)
    for window, proofs in product((0, 3), (1, 2))
]
"""Every combination of the rules that the machine reads."""


def picture(health: Health) -> tuple[object, ...]:
    """What decides about everything that can follow. A count beyond the threshold is like one at it."""
    return (
        health.state,
        min(health.error_count, health.threshold),
        tuple(0.0 if kind is None else WEIGHTS[kind] for kind in health.recent),
        health.successes,
        frozenset(health.vetoes.laid),
        health.refusals,
        health.probe_at is None,
        health.balance is None,
    )


class Machine:
    """All states of one broker under one set of rules: each step from each state is taken and judged once.

    States with one picture are one state, and have a number. The machine is pure, so that is enough.
    """

    def __init__(self, rules: Rules, threshold: int) -> None:
        self.states: list[Health] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._steps: dict[tuple[int, str], int] = {}
        self._number(Health.begin(NOW, threshold=threshold, rules=rules), None)

    def after(self, before: int, word: str, trail: Trail) -> int:
        """The state after this event. `trail` is how it was reached, for an assertion that fails."""
        known = self._steps.get((before, word))
        if known is not None:
            return known
        # A lockout ends when time has passed, and the moment has no part in what is decided.
        now = ENDED if word == "woken" else NOW
        step, health = EVENTS[word], self.states[before]
        after = fold(health, step, now)
        hold(health, step, after, trail)
        number = self._steps[before, word] = self._number(after, trail)
        return number

    def available(self, number: int) -> bool:
        """Whether a broker in this state may be used."""
        health = self.states[number]
        return verdict(health.state, health.vetoes).available

    def _number(self, health: Health, trail: Trail) -> int:
        number = self._numbers.setdefault(picture(health), len(self.states))
        if number == len(self.states):
            self.states.append(health)
            hold_in(health, trail)
        return number


def all_states(rules: Rules, threshold: int) -> tuple[set[Pair], Machine]:
    """Every pair of states, of `simple` and of these rules, that any history leads to; and the latter's."""
    simple, strict = Machine(SIMPLE, threshold), Machine(rules, threshold)
    found: set[Pair] = {(0, 0)}
    waiting: deque[tuple[Pair, Trail]] = deque([((0, 0), None)])
    while waiting:
        (looser, stricter), trail = waiting.popleft()
        for word in EVENTS:
            so_far = (trail, word)
            after = (simple.after(looser, word, so_far), strict.after(stricter, word, so_far))
            if after not in found:
                assert simple.available(after[0]) or not strict.available(after[1]), (
                    "never laxer than simple",
                    so_far,
                )
                found.add(after)
                waiting.append((after, so_far))
    return found, strict


def hold(before: Health, step: Step, now: Health, trail: Trail) -> None:
    """What must hold of every step from every state."""
    where = column(step, before.rules)
    assert (now.since != before.since) <= (now.state is not before.state), trail
    if where == "neutral":
        assert (now.state, now.error_count, now.recent) == (
            before.state,
            before.error_count,
            before.recent,
        )
    else:
        assert now.state in THE_TABLE[before.state, where], trail
    was, has = verdict(before.state, before.vetoes), verdict(now.state, now.vetoes)
    if has.available and not was.available:
        assert where == "success" or set(before.vetoes.laid) - set(now.vetoes.laid), trail
    if step.what == "restart":
        assert not has.available, ("a restart proves nothing", trail)
        assert (now.balance, now.vetoes, now.recent) == (before.balance, before.vetoes, before.recent), trail
    if Reason.AUTH in before.vetoes.laid and step is not RESET:
        comes_back = where == "success" and before.probe_at is not None
        assert (Reason.AUTH in now.vetoes.laid) is not comes_back, ("a refused key stays refused", trail)
    if Reason.LOCKED_OUT in before.vetoes.laid and step is not WOKEN:
        assert Reason.LOCKED_OUT in now.vetoes.laid, ("only time ends a lockout", trail)
    assert now.barred(NOW) is bool(now.vetoes.laid), trail
    assert not (now.barred(NOW) and has.available), trail
    assert set(now.vetoes.laid) <= BARS, trail
    assert (now.successes > 0) is (now.state is R), trail


def hold_in(health: Health, trail: Trail) -> None:
    """What must hold in every state."""
    # What is written and read again is the same to the last field, so all that follows is (10).
    assert read(written(health, NOW), threshold=health.threshold, rules=health.rules).health == health, trail
    # Liveness (27): no more faults, what was final reset, the lockout over, and as many successes
    # as are asked for.
    back = health.reset(NOW).woken(ENDED)
    for _ in range(health.rules.successes_to_recover):
        back = back.seen(MONEY, ENDED)
    assert verdict(back.state, back.vetoes) == Verdict(available=True, reason=Reason.OK), trail
    assert (back.state, back.error_count, back.fault, back.successes) == (H, 0, None, 0), trail
    # Held out is out, over anything of its own, and the end of the hold leaves no trace (20).
    held = replace(health.vetoes, laid={**health.vetoes.laid}).lay(Reason.HELD_OUT, "by hand", NOW)
    assert verdict(health.state, held) == Verdict(available=False, reason=Reason.HELD_OUT), trail
    released = held.lift(NOW, Reason.HELD_OUT)
    assert verdict(health.state, released) == verdict(health.state, health.vetoes), trail


@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_guarded_is_never_laxer_than_simple_in_any_state_that_any_history_leads_to(threshold: int) -> None:
    rules = replace(GUARDED, window_fetches=4, window_minimum=2)
    found, strict = all_states(rules, threshold)
    assert len(found) >= {1: 90, 2: 400, 3: 900}[threshold], (
        "the search looked at too little to prove anything"
    )
    # At a threshold of one nothing is ever DEGRADED: its first fault is the last.
    states = set(HealthState) - ({D} if threshold == 1 else set())
    assert {health.state for health in strict.states} == states


@pytest.mark.parametrize("rules", SWITCHES, ids=lambda rules: "".join("01"[bool(x)] for x in flags(rules)))
def test_no_rule_that_is_switched_by_itself_makes_a_broker_laxer(rules: Rules) -> None:
    found, _ = all_states(rules, 2)
    assert len(found) >= (50 if rules.window_fetches else 10)


def flags(rules: Rules) -> tuple[bool, ...]:
    """The switches that are on."""
    return (
        rules.start_unknown,
        rules.final_auth,
        rules.maintenance_state,
        rules.window_fetches > 0,
        rules.successes_to_recover > 1,
    )


@settings(max_examples=our.examples(150))
@given(history=our.histories(), threshold=st.integers(1, 5), rules=our.rules())
def test_no_rules_call_available_what_simple_calls_unavailable(
    history: list[Step], threshold: int, rules: Rules
) -> None:
    simple = Health.begin(NOW, threshold=threshold)
    strict = Health.begin(NOW, threshold=threshold, rules=rules)
    for step, now in our.moments(history):
        simple, strict = fold(simple, step, now), fold(strict, step, now)
        if verdict(strict.state, strict.vetoes).available:
            assert verdict(simple.state, simple.vetoes).available
