"""One account of which several readings arrive: over two endpoints, and from two clusters."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.health.merging import merged
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
VETOES = tuple(reason for reason in PRECEDENCE if reason not in OWN_VETOES)


def like(reason: Reason = Reason.OK, **values: object) -> Reading:
    verdict = Verdict(available=reason is Reason.OK, reason=reason)
    return msgspec.structs.replace(GOOD, verdict=verdict, detail=str(reason), **values)


def one_owner(*readings: Reading, now: Instant = NOW) -> Reading:
    first, *others = [merged({"a": order}, now) for order in permutations(readings)]
    assert all(other == first for other in others), "the order in which they stand changes nothing"
    return first


def test_the_newest_evidence_of_one_cluster_counts() -> None:
    older, newer = like(version=7, cash=Decimal(1)), like(Reason.ERRORS, version=8, cash=Decimal(2))
    assert one_owner(older, newer) == newer
    reborn = like(version=1, broker_epoch=NEW, cash=Decimal(3))
    assert one_owner(newer, reborn) == reborn


@pytest.mark.parametrize("reason", VETOES)
def test_a_fresh_veto_of_one_cluster_is_never_lost(reason: Reason) -> None:
    held = like(reason, version=7, cash=Decimal(1), since_us=5)
    newer = like(version=9, cash=Decimal(2))
    found = one_owner(held, newer)
    assert (found.available, found.reason, found.detail, found.since_us) == (False, reason, str(reason), 5)
    assert found.cash == Decimal(2), "the evidence is the newest"
    expired = msgspec.structs.replace(held, valid_until_s=NOW.up_s)
    assert one_owner(expired, newer) == newer


def test_the_strongest_of_several_fresh_vetoes_is_the_reason() -> None:
    found = one_owner(like(Reason.SILENT), like(Reason.HELD_OUT), like(version=99))
    assert found.reason is Reason.HELD_OUT


@pytest.mark.parametrize("reason", [Reason.ERRORS, Reason.LOCKED_OUT, Reason.AUTH, Reason.UNPROVEN])
def test_evidence_that_is_overtaken_is_no_veto(reason: Reason) -> None:
    assert one_owner(like(reason, version=7), like(version=8)).available


def test_between_clusters_no_epoch_is_compared_and_all_must_agree() -> None:
    here = like(broker_epoch=OLD, version=1, cash=Decimal(1), as_of=moved(NOW, -1.0))
    there = like(Reason.ERRORS, broker_epoch=NEW, version=99, cash=Decimal(2), as_of=moved(NOW, -3.0))
    for owners in ({"a": [here], "b": [there]}, {"b": [there], "a": [here]}):
        found = merged(owners, NOW)
        assert (found.available, found.reason, found.cash) == (False, Reason.ERRORS, Decimal(1))
        assert found.age_ms == 1_000
        assert found.detail == (
            "2 clusters disagree: a: available, cash 1 1 s ago; b: not available (errors), cash 2 3 s ago"
        )


def test_clusters_that_agree_are_not_said_to_disagree() -> None:
    found = merged({"a": [like()], "b": [like(as_of=moved(NOW, -1.0))]}, NOW)
    assert (found.available, found.detail) == (True, "ok")


def test_two_available_clusters_with_different_cash_are_shown_to_disagree() -> None:
    newest = like(cash=Decimal(7), as_of=NOW)
    found = merged({"a": [newest], "b": [like(cash=Decimal(5), as_of=moved(NOW, -9.0))]}, NOW)
    assert (found.available, found.cash) == (True, Decimal(7))
    assert "b: available, cash 5 9 s ago" in found.detail


def test_a_cluster_that_is_heard_no_longer_has_no_say() -> None:
    gone = like(Reason.ERRORS, valid_until_s=NOW.up_s, cash=Decimal(9))
    assert merged({"a": [gone], "b": [GOOD]}, NOW) == GOOD
    later = like(valid_until_s=NOW.up_s - 1.0)
    assert merged({"a": [gone], "b": [later]}, NOW) == gone, "of those that were, the one heard of last"


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
    found = merged(owners, NOW)
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
            assert not any(one.verdict.reason in VETOES for one in heard)
    event("available" if found.available else "not available")
    assert found.cash in {one.cash for heard in owners.values() for one in heard}, "never made up"
