"""One account of which several readings arrive: over two endpoints, and from two clusters."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.health.merging import Published, merged, remembering
from brokerwatch.health.state_machine import OWN_VETOES, PRECEDENCE
from brokerwatch.messages import HealthState, Reading, Reason, Verdict
from tests.support import strategies as our
from tests.support.strategies import moved
from tests.support.wire_examples import reading as example

CLOCK = ManualClock()
NOW = CLOCK.now()
OK = Verdict(available=True, reason=Reason.OK)
GOOD = example(
    state=HealthState.HEALTHY, verdict=OK, fault=None, error_count=0, detail="", as_of=NOW, clock=CLOCK
)
OLD, NEW = "1800000000000000-0000abcd", "1800000000000001-0000abcd"
UNHEARD = (Reason.SILENT, Reason.NEVER_SEEN, Reason.BLIND)
VETOES = tuple(reason for reason in PRECEDENCE if reason not in OWN_VETOES)


def like(reason: Reason = Reason.OK, **values: object) -> Reading:
    verdict = Verdict(available=reason is Reason.OK, reason=reason)
    return msgspec.structs.replace(GOOD, verdict=verdict, detail=str(reason), **values)


def clusters(**heard: list[Reading]) -> list[Published]:
    """Readings of clusters that have nothing to do with each other, by the name of each."""
    return [
        Published(name, name, name, one, None if one.as_of is None else one)
        for name, readings in heard.items()
        for one in readings
    ]


def one_owner(*readings: Reading, now: Instant = NOW) -> Reading:
    first, *others = [merged(clusters(a=list(order)), now) for order in permutations(readings)]
    assert all(other == first for other in others), "the order in which they stand changes nothing"
    return first


def test_the_newest_evidence_of_one_cluster_counts() -> None:
    older, newer = like(version=7, cash=Decimal(1)), like(Reason.ERRORS, version=8, cash=Decimal(2))
    assert one_owner(older, newer) == newer
    reborn = like(version=1, broker_epoch=NEW, cash=Decimal(3))
    assert one_owner(newer, reborn) == reborn


@pytest.mark.parametrize("reason", [each for each in VETOES if each not in UNHEARD])
def test_a_fresh_veto_of_one_cluster_is_never_lost(reason: Reason) -> None:
    held = like(reason, version=7, cash=Decimal(1), since_us=5)
    newer = like(version=9, cash=Decimal(2))
    found = one_owner(held, newer)
    assert (found.available, found.reason, found.detail, found.since_us) == (False, reason, str(reason), 5)
    assert found.cash == Decimal(2), "the evidence is the newest"
    expired = msgspec.structs.replace(held, valid_until_s=NOW.up_s)
    assert one_owner(expired, newer) == newer


@pytest.mark.parametrize("reason", UNHEARD)
def test_a_supervisor_that_hears_nothing_is_refuted_by_one_that_heard_something_newer(reason: Reason) -> None:
    deaf, hears = like(reason, version=7), like(version=8, cash=Decimal(2))
    assert one_owner(deaf, hears) == hears
    assert one_owner(deaf, like(version=7)).reason is reason, "nothing newer was heard"
    assert one_owner(like(reason, version=8, cash=Decimal(2)), hears).reason is reason


def published(
    reading: Reading, life: str, cluster: str = "supervisor/main", known: Reading | None = None
) -> Published:
    known = reading if known is None and reading.as_of is not None else known
    return Published(cluster, life, f"{cluster} {life}", reading, known)


def told(*all_published: Published) -> Reading:
    found = [merged(order, NOW) for order in permutations(all_published)]
    assert len({(one.verdict, one.cash) for one in found}) == 1, (
        "the order in which they stand changes nothing"
    )
    return found[0]


def test_two_supervisors_that_hear_one_life_of_a_broker_are_one_owner() -> None:
    behind = like(Reason.ERRORS, version=7, cash=Decimal(1))
    found = told(published(behind, "a"), published(like(version=8, cash=Decimal(2)), "b"))
    assert (found.available, found.cash) == (True, Decimal(2))
    held = like(Reason.HELD_OUT, version=7)
    found = told(published(held, "a"), published(like(version=8), "b"))
    assert found.reason is Reason.HELD_OUT, "a hold is not lost by a newer version elsewhere"


@pytest.mark.parametrize("reason", UNHEARD)
def test_one_that_missed_a_restart_of_the_node_does_not_speak_against_it(reason: Reason) -> None:
    deaf = like(reason, broker_epoch=OLD, version=70)
    hears = like(broker_epoch=NEW, version=1)
    assert told(published(deaf, "a"), published(hears, "b")).available
    over = msgspec.structs.replace(hears, valid_until_s=NOW.up_s)
    assert not told(published(deaf, "a"), published(over, "b")).available
    refuses = like(Reason.ERRORS, broker_epoch=OLD, version=70)
    assert not told(published(refuses, "a"), published(hears, "b")).available


def test_another_cluster_never_speaks_for_the_first() -> None:
    bad, good = like(Reason.ERRORS, version=7), like(version=2**60)
    found = told(published(bad, "a"), published(good, "a", cluster="key-of-another supervisor/main"))
    assert not found.available
    deaf = like(Reason.SILENT, broker_epoch=OLD)
    reborn = like(broker_epoch=NEW)
    assert not told(published(deaf, "a"), published(reborn, "b", cluster="supervisor/other")).available


def test_the_strongest_of_several_fresh_vetoes_is_the_reason() -> None:
    found = one_owner(like(Reason.SILENT), like(Reason.HELD_OUT), like(version=99))
    assert found.reason is Reason.HELD_OUT


@pytest.mark.parametrize("reason", [Reason.ERRORS, Reason.LOCKED_OUT, Reason.AUTH, Reason.UNPROVEN])
def test_evidence_that_is_overtaken_is_no_veto(reason: Reason) -> None:
    assert one_owner(like(reason, version=7), like(version=8)).available


def test_between_clusters_no_epoch_is_compared_and_all_must_agree() -> None:
    here = like(broker_epoch=OLD, version=1, cash=Decimal(1), as_of=moved(NOW, -1.0))
    there = like(Reason.ERRORS, broker_epoch=NEW, version=99, cash=Decimal(2), as_of=moved(NOW, -3.0))
    for owners in (clusters(a=[here], b=[there]), clusters(b=[there], a=[here])):
        found = merged(owners, NOW)
        assert (found.available, found.reason, found.cash) == (False, Reason.ERRORS, Decimal(1))
        assert found.age_ms == 1_000
        assert found.detail == (
            "2 clusters disagree: a: available, cash 1 1 s ago; b: not available (errors), cash 2 3 s ago"
        )


def test_clusters_that_agree_are_not_said_to_disagree() -> None:
    found = merged(clusters(a=[like()], b=[like(as_of=moved(NOW, -1.0))]), NOW)
    assert (found.available, found.detail) == (True, "ok")


def test_two_available_clusters_with_different_cash_are_shown_to_disagree() -> None:
    newest = like(cash=Decimal(7), as_of=NOW)
    found = merged(clusters(a=[newest], b=[like(cash=Decimal(5), as_of=moved(NOW, -9.0))]), NOW)
    assert (found.available, found.cash) == (True, Decimal(7))
    assert "b: available, cash 5 9 s ago" in found.detail


def test_a_cluster_that_is_heard_no_longer_has_no_say() -> None:
    gone = like(Reason.ERRORS, valid_until_s=NOW.up_s, cash=Decimal(9))
    assert merged(clusters(a=[gone], b=[GOOD]), NOW) == GOOD
    later = like(valid_until_s=NOW.up_s - 1.0)
    assert merged(clusters(a=[gone], b=[later]), NOW) == gone, "of those that were, the one heard of last"


def test_an_endpoint_that_is_behind_takes_no_last_known_balance_away() -> None:
    # The node was killed after one supervisor had its newest balance, which then was heard no longer.
    newer = like(version=40, cash=Decimal(40), as_of=NOW, valid_until_s=NOW.up_s)
    behind = like(Reason.SILENT, version=35, cash=Decimal(35), as_of=moved(NOW, -1.0))
    found = one_owner(newer, behind)
    assert (found.available, found.reason, found.cash) == (False, Reason.SILENT, Decimal(40))
    # What came late over a slow way looks as if it had been asked for later.
    late = msgspec.structs.replace(behind, as_of=moved(NOW, 2.0))
    assert one_owner(newer, late).cash == Decimal(40)
    assert one_owner(newer, like(version=35, cash=Decimal(35))).available, "one that is over has no say"


@pytest.mark.parametrize("reason", UNHEARD)
def test_a_supervisor_that_has_heard_of_no_balance_takes_none_away(reason: Reason) -> None:
    knows = like(version=40, cash=Decimal(40), as_of=moved(NOW, -5.0), valid_until_s=NOW.up_s)
    begins = like(reason, broker_epoch="", version=0, cash=None, as_of=None, balance=None)
    found = told(published(knows, "a"), published(begins, "b"))
    assert (found.available, found.reason, found.cash, found.age_ms) == (False, reason, Decimal(40), 5_000)
    # The one that knew it has begun anew, and the other one has heard a later life than the new one has.
    behind = like(Reason.SILENT, version=35, cash=Decimal(35))
    found = told(published(begins, "c", known=knows), published(behind, "b"))
    assert (found.reason, found.cash) == (Reason.SILENT, Decimal(40))
    assert remembering(begins, knows).cash == Decimal(40)
    assert remembering(knows, like(cash=Decimal(9))) == knows


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    """What may be heard of the account."""
    cash = draw(st.none() | st.integers(0, 3))
    return like(
        draw(st.just(Reason.OK) | st.sampled_from(Reason)),
        version=draw(st.integers(1, 3)),
        broker_epoch=draw(st.sampled_from((OLD, NEW))),
        valid_until_s=NOW.up_s + draw(st.sampled_from((-1.0, 0.0, 1.0, 5.0))),
        cash=None if cash is None else Decimal(cash),
        as_of=None if cash is None else moved(NOW, -draw(st.sampled_from((0.0, 1.0, 2.0)))),
    )


@settings(max_examples=our.examples(300))
@given(
    owners=st.dictionaries(st.sampled_from("abc"), st.lists(readings(), min_size=1, max_size=3), min_size=1)
)
def test_whatever_is_heard_an_available_account_is_one_that_every_fresh_owner_calls_so(
    owners: dict[str, list[Reading]],
) -> None:
    found = merged(clusters(**owners), NOW)
    fresh = {name: [one for one in heard if one.valid_until_s > NOW.up_s] for name, heard in owners.items()}
    fresh = {name: heard for name, heard in fresh.items() if heard}
    if found.available:
        assert fresh
        for heard in fresh.values():
            newest = max(heard, key=lambda one: (one.broker_epoch, one.version))
            alike = [
                one
                for one in heard
                if (one.broker_epoch, one.version) == (newest.broker_epoch, newest.version)
            ]
            assert any(one.verdict.available for one in alike)
            assert not any(
                one.verdict.reason in VETOES
                for one in heard
                if one.verdict.reason not in UNHEARD
                or (one.broker_epoch, one.version) >= (newest.broker_epoch, newest.version)
            )
    event("available" if found.available else "not available")
    assert found.cash in {one.cash for heard in owners.values() for one in heard}, "never made up"
    assert (found.as_of is None) == all(one.as_of is None for heard in owners.values() for one in heard), (
        "a last known balance is never lost"
    )
