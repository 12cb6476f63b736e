"""Until when an order may be taken, by an exchange's clock that is known within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.exchanges.kraken import PROFILE as KRAKEN
from brokerwatch.exchanges.okx import PROFILE as OKX
from brokerwatch.exchanges.order_deadline import (
    LISTED_S,
    MEASURED_FOR_S,
    WIDEST_S,
    ClockOffset,
    DeadlineRule,
    measured,
    narrowed,
    order_deadline,
)

WALL_S = 1_800_000_000.0


def rule(**values: float) -> DeadlineRule:
    return DeadlineRule(clock_step_s=1.0, passed=lambda _: False, unusable=lambda _: False, **values)


def known(doubt_s: float, at_s: float = 0.0) -> ClockOffset:
    return ClockOffset(WALL_S - doubt_s, WALL_S + doubt_s, at_s)


@given(
    truth_s=st.floats(-1e6, 1e6),
    step_s=st.sampled_from([0.001, 1.0]),
    out_s=st.floats(0, 2),
    back_s=st.floats(0, 2),
    asked_s=st.floats(0, 1e5),
)
def test_what_was_measured_holds_the_truth(
    truth_s: float, step_s: float, out_s: float, back_s: float, asked_s: float
) -> None:
    """The exchange looks at its clock somewhere between the question and the answer, and rounds it down."""
    theirs_s = WALL_S + truth_s + asked_s + out_s
    stated_ms = int(theirs_s / step_s) * round(step_s * 1_000)
    found = measured(stated_ms, step_s, asked_s, asked_s + out_s + back_s)
    assert found.low_s - 1e-3 <= WALL_S + truth_s <= found.high_s + 1e-3
    assert found.doubt_s <= (step_s + out_s + back_s) / 2 + 1e-3


def test_several_measurements_are_narrower_than_each() -> None:
    first, second = ClockOffset(0.0, 1.0, 10.0), ClockOffset(0.6, 1.6, 11.0)
    both = narrowed(first, second)
    assert (both.low_s, round(both.high_s, 3), both.measured_s) == (0.6, 1.0, 11.0)


def test_a_clock_that_was_set_is_measured_anew() -> None:
    assert narrowed(ClockOffset(0.0, 1.0, 10.0), newer := ClockOffset(30.0, 31.0, 11.0)) == newer


def test_an_order_has_a_deadline_that_the_exchange_takes_whatever_its_clock_is_within_the_bounds() -> None:
    for doubt_s in (0.01, 0.5, WIDEST_S - 0.01):
        found = order_deadline(rule(shortest_s=2.0), known(doubt_s), 0.0, 1.0)
        assert found is not None
        for truth_s in (WALL_S - doubt_s, WALL_S + doubt_s):
            assert 2.0 <= found.at_us / 1e6 - truth_s <= 60.0
            # When it is certain the deadline has passed, whatever the exchange's clock is.
            assert found.certain_s + truth_s >= found.at_us / 1e6 + LISTED_S - 1e-6


def test_an_exit_is_certain_within_five_seconds() -> None:
    for family in (KRAKEN, OKX):
        assert family.order_deadline is not None
        found = order_deadline(family.order_deadline, known(0.6), 0.0, 2.5)
        assert found is not None
        assert found.certain_s < 4.5


def test_a_deadline_is_never_further_away_than_the_exchange_takes() -> None:
    found = order_deadline(rule(), known(0.5), 0.0, 600.0)
    assert found is not None
    assert found.at_us / 1e6 - (WALL_S - 0.5) <= 60.0


@pytest.mark.parametrize(
    "offset", [None, known(WIDEST_S + 0.01), known(0.1, -MEASURED_FOR_S), known(0.1, 5.0)]
)
def test_without_a_clock_that_is_known_well_enough_there_is_no_deadline(offset: ClockOffset | None) -> None:
    assert order_deadline(rule(), offset, 0.0, 3.0) is None


def test_only_the_exchange_s_own_words_about_a_deadline_are_a_refusal_of_it() -> None:
    kraken, okx = KRAKEN.order_deadline, OKX.order_deadline
    assert kraken is not None
    assert okx is not None
    assert kraken.passed({"error": ["EService:Deadline elapsed"]})
    assert not kraken.passed({"error": ["EService:Deadline elapsed"], "result": {"txid": ["O"]}})
    assert not kraken.passed({"error": ["EService:Deadline elapsed", "EService:Busy"]})
    assert not kraken.passed({"error": []})
    assert kraken.unusable({"error": ["EGeneral:Invalid arguments:deadline"]})
    assert not kraken.unusable({"error": ["EGeneral:Invalid arguments:volume"]})
    assert okx.passed({"code": "50036", "data": [], "msg": ""})
    assert okx.passed({"code": "1", "data": [{"ordId": "", "sCode": "50037", "sMsg": "Order expired."}]})
    assert not okx.passed({"code": "1", "data": [{"ordId": "1", "sCode": "50037"}]})
    assert not okx.passed({"code": "50004", "data": []})
    assert okx.unusable({"code": "51000", "data": [], "msg": "Parameter expTime error"})
    assert not okx.unusable({"code": "51000", "data": [], "msg": "Parameter sz error"})
