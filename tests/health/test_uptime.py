"""Availability, recovery and the bar of an account."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.health.timeline import Span, in_order
from brokerwatch.health.uptime import AnswerTimes, Kind, cells, kind, uptime
from brokerwatch.messages import Reason
from tests.support.strategies import examples

OK, ERRORS, HELD, BLIND = Reason.OK, Reason.ERRORS, Reason.HELD_OUT, Reason.BLIND


def spans(*parts: tuple[int, int, Reason]) -> list[Span]:
    return [Span("a", begin, end, reason is OK, reason) for begin, end, reason in parts]


def test_the_time_that_was_not_heard_and_the_time_held_out_count_neither_way() -> None:
    found = uptime(spans((0, 60, OK), (60, 80, ERRORS), (500, 900, HELD), (900, 920, OK)), 0, 1_000)
    assert found.availability == 0.8
    assert found.by_kind == {Kind.OK: 80, Kind.ERRORS: 20, Kind.HELD: 400, Kind.UNHEARD: 500}


def test_nothing_heard_is_no_availability_and_not_a_whole_one() -> None:
    for known in ([], spans((0, 500, HELD)), spans((0, 500, Reason.NEVER_SEEN))):
        found = uptime(known, 0, 1_000)
        assert found.availability is None
        assert (found.outages, found.recovery_us, found.worst_us) == (0, None, None)


def test_an_outage_lasts_through_reasons_gaps_and_holds_until_the_account_is_available() -> None:
    known = spans(
        (0, 100, OK),
        (100, 130, ERRORS),
        (130, 150, BLIND),
        (300, 310, HELD),
        (310, 330, ERRORS),
        (330, 400, OK),
    )
    found = uptime(known, 0, 1_000)
    assert (found.outages, found.recovery_us, found.worst_us) == (1, 70, 70)


def test_an_outage_that_ended_unheard_counts_with_what_was_heard_of_it() -> None:
    found = uptime(spans((0, 100, OK), (100, 140, ERRORS), (900, 950, OK)), 0, 1_000)
    assert (found.outages, found.recovery_us, found.worst_us) == (1, 40, 40)


def test_recovery_is_the_mean_of_whole_outages_that_ended_in_the_window() -> None:
    known = spans((0, 90, ERRORS), (90, 200, OK), (200, 210, ERRORS), (210, 300, OK), (300, 500, ERRORS))
    found = uptime(known, 50, 500)
    assert (found.outages, found.recovery_us, found.worst_us) == (3, 50, 200)
    assert uptime(known[:3], 95, 210).recovery_us is None


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_a_kind_and_only_what_is_available_is_green(reason: Reason) -> None:
    assert kind(True, reason) is Kind.OK
    assert kind(False, reason) is not Kind.OK
    assert kind(False, Reason.MAINTENANCE) is Kind.MAINTENANCE
    assert kind(False, Reason.LOCKED_OUT) is Kind.LOCKED_OUT
    assert kind(False, Reason.NOTHING_HEARD) is Kind.UNHEARD
    assert kind(False, Reason.AUTH) is Kind.ERRORS


@settings(max_examples=examples(60))
@given(
    borders=st.lists(st.integers(-1_000, 5_000), max_size=30),
    count=st.integers(1, 97),
    window=st.tuples(st.integers(0, 2_000), st.integers(1, 3_000)),
    seed=st.integers(0, 1_000),
)
def test_each_cell_is_as_long_as_its_place_and_says_what_each_moment_was(
    borders: list[int], count: int, window: tuple[int, int], seed: int
) -> None:
    chance = random.Random(seed)
    known = in_order(
        [
            Span("a", begin, end, reason is OK, reason)
            for begin, end in zip(sorted(borders), sorted(borders)[1:], strict=False)
            if (reason := chance.choice([OK, ERRORS, HELD, BLIND])) is not BLIND or chance.random() < 0.5
        ],
        4_000,
    )
    from_us, until_us = window[0], window[0] + max(window[1], count)
    found = cells(known, from_us, until_us, count)
    edges = [from_us + (until_us - from_us) * place // count for place in range(count + 1)]
    for place, cell in enumerate(found):
        moments = range(edges[place], edges[place + 1])
        shown = {what: length for what, length in cell.items() if length}
        slow: dict[Kind, int] = {}
        for moment in moments:
            at = next((one for one in known if one.from_us <= moment < one.until_us), None)
            what = Kind.UNHEARD if at is None else kind(at.available, at.reason)
            slow[what] = slow.get(what, 0) + 1
        assert shown == slow


def test_answers_are_counted_to_two_digits_and_joined_over_lives() -> None:
    times, before = AnswerTimes(), AnswerTimes()
    assert times.percentile(95) is None
    for answer_ms in [3, 41, 143, 144, 1_449]:
        times.add(answer_ms)
    assert times.counts == {3: 1, 41: 1, 140: 2, 1_400: 1}
    assert times.percentile(50) == 140
    assert times.percentile(95) == 1_400
    for _ in range(95):
        before.add(7)
    before.join(times.counts)
    assert before.percentile(95) == 7
    assert before.percentile(100) == 1_400
    zero = AnswerTimes()
    zero.add(0)
    assert zero.percentile(95) == 0
