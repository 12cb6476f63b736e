"""The claim of a pool in the evidence: its end is a veto of the broker's own, and no reading outlasts it."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.actors.protocol import FetchNow, Tick
from brokerwatch.clock import ManualClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.gateway.lease import KeyLease, Lease, Term
from brokerwatch.health.claim import Claim
from brokerwatch.health.proof import Proof
from brokerwatch.health.reading import composed, evidence
from brokerwatch.health.state_machine import NO_VETOES, Health, locked_out
from brokerwatch.messages import BrokerAlive, HealthState, Reading, Reason
from tests.support.clusters import Till
from tests.support.driven_broker import Driven

SPEC = BrokerSpec("a", fetch=Till())
OVER = "claim: node b has it"


def shown(clock: ManualClock, claim: Claim, health: Health | None = None, *, proven: bool = True) -> Reading:
    now = clock.now()
    known = Health.begin(now) if health is None else health
    proof = Proof(now) if proven else None
    return evidence(SPEC, "", known, now, clock, 10.0, proof=proof, longest_age_s=60.0, claim=claim)


@given(
    st.floats(0.0, 100.0),
    st.sampled_from(HealthState),
    st.booleans(),
    st.booleans(),
)
def test_no_account_is_available_once_its_claim_is_over_nor_after_its_term(
    left_s: float, state: HealthState, over: bool, proven: bool
) -> None:
    clock = ManualClock()
    now = clock.now()
    health = Health(state=state, since=now)
    claim = Claim(now.up_s + left_s, OVER if over else "", now if over else None)
    found = shown(clock, claim, health, proven=proven)
    assert not (over and found.available)
    clock.advance(left_s)
    assert not found.available, "also when the actor says nothing more"


def test_the_end_of_a_claim_is_told_with_its_words_and_its_beginning() -> None:
    clock = ManualClock()
    since = clock.now()
    clock.advance(1.0)
    found = shown(clock, Claim(float("-inf"), OVER, since))
    assert (found.available, found.reason, found.detail) == (False, Reason.CLAIM, "node b has it")
    assert found.since_us == since.wall_us


def test_a_claim_stands_before_a_lockout_and_behind_what_a_supervisor_lays() -> None:
    clock = ManualClock()
    now = clock.now()
    locked = Health.begin(now).locked(clock.now(), "told", now)
    assert locked.vetoes == locked_out(NO_VETOES, "told", now, now)
    found = shown(clock, Claim(over=OVER), locked)
    assert found.reason is Reason.CLAIM
    held = composed(found, NO_VETOES.lay(Reason.HELD_OUT, "by hand", now))
    assert held.reason is Reason.HELD_OUT
    assert composed(found, NO_VETOES.lay(Reason.LOCKED_OUT, "told by another", now)).reason is Reason.CLAIM


def test_without_a_pool_nothing_is_cut_short() -> None:
    clock = ManualClock()
    assert shown(clock, Lease().claimed(clock.up_s())).proven_until_s == clock.up_s() + 60.0


# --- the actor ---------------------------------------------------------------------------------------


class Pooled:
    """An actor whose key has a term."""

    def __init__(self) -> None:
        self.driven = Driven(poll_interval_s=600.0)
        clock = self.driven.clock
        self.term = Term(clock.up_s() + 100.0, 1.0, 1)
        self.driven.claim = KeyLease(Lease(), self.term, clock).claimed
        self.driven.hear(self.driven.seen())

    @property
    def answer(self) -> tuple[bool, Reason]:
        reading = self.driven.reading
        return reading.available, reading.reason


def test_the_actor_says_at_its_next_tick_that_the_claim_is_over_and_asks_when_it_is_back() -> None:
    pooled = Pooled()
    driven, term = pooled.driven, pooled.term
    driven.hear(Tick(), 1.0)
    assert pooled.answer == (True, Reason.OK)
    asked = len(driven.questions)
    term.end("node b has it")
    assert BrokerAlive in driven.hear(Tick(), 1.0)
    assert pooled.answer == (False, Reason.CLAIM)
    since_us = driven.reading.since_us
    driven.hear(FetchNow(waiting()), 1.0)
    driven.hear(Tick(), 1.0)
    assert len(driven.questions) == asked, "nothing is asked meanwhile"
    assert driven.reading.since_us == since_us, "and its beginning stays"
    term.extend(driven.clock.up_s() + 100.0, 2)
    driven.hear(Tick(), 1.0)
    assert len(driven.questions) == asked + 1
    assert pooled.answer == (False, Reason.UNPROVEN), "another node may have traded: it is asked first"
    driven.hear(driven.seen(), 0.1)
    assert pooled.answer == (True, Reason.OK)


def test_the_readings_of_an_actor_that_hangs_end_with_the_term() -> None:
    pooled = Pooled()
    pooled.driven.hear(Tick(), 1.0)
    assert pooled.answer == (True, Reason.OK)
    assert pooled.driven.reading.proven_until_s == pooled.term.until_s
    before = pooled.driven.reading
    pooled.term.extend(pooled.term.until_s + 50.0)
    pooled.driven.hear(Tick(), 1.0)
    assert pooled.driven.reading.proven_until_s == pooled.term.until_s > before.proven_until_s


def test_the_sleep_of_a_machine_ends_a_claim_for_the_actor_as_for_the_lane() -> None:
    pooled = Pooled()
    driven = pooled.driven
    clock = driven.clock
    pooled.term.extend(clock.up_s() + 100.0, 2, clock.leads())
    driven.hear(Tick(), 1.0)
    driven.hear(driven.seen())
    before = driven.reading.proven_until_s
    clock.sleep(3.0)  # too short for a leap
    driven.hear(Tick(), 1.0)
    assert driven.reading.proven_until_s == pytest.approx(before - 3.0)
    clock.sleep(200.0)
    driven.hear(Tick(), 1.0)
    assert pooled.answer == (False, Reason.CLAIM)


def test_a_fetch_that_was_under_way_when_the_claim_came_back_proves_nothing() -> None:
    pooled = Pooled()
    driven, term = pooled.driven, pooled.term
    driven.hear(FetchNow(waiting()))
    [question] = driven.questions[-1:]
    term.end("node b has it")
    driven.hear(Tick(), 1.0)
    term.extend(driven.clock.up_s() + 100.0, 2)
    driven.hear(Tick(), 1.0)
    assert question.cancelled
    assert pooled.answer == (False, Reason.UNPROVEN)


def waiting() -> Future[Reading]:
    return Future()


@pytest.mark.parametrize("over", [True, False])
def test_a_health_that_is_stored_knows_nothing_of_the_claim(over: bool) -> None:
    clock = ManualClock()
    health = Health.begin(clock.now())
    shown(clock, Claim(over=OVER if over else ""), health)
    assert not health.vetoes.laid
