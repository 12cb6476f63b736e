"""Timelines and history as the API states them."""

from __future__ import annotations

import msgspec
import pytest

from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.clock import ManualClock
from brokerwatch.health.timeline import Span
from brokerwatch.health.uptime import AnswerTimes, Kind
from brokerwatch.messages import FaultKind, Reason, Stamp
from brokerwatch.storage.chronicle import CashSample
from brokerwatch.storage.records import Transition
from brokerwatch.web.past import (
    MOST_SPANS,
    TimelineAnswer,
    Window,
    heard_transitions,
    history,
    moment_us,
    timeline,
)
from tests.support.readings import reading

NOW_US = 10_000_000
TEN = Window(1_000_000, 10, 100_000, 5.0)


def span(begin: int, end: int, reason: Reason = Reason.OK) -> Span:
    return Span("a", NOW_US - begin, NOW_US - end, reason is Reason.OK, reason)


def of(
    *spans: Span, cash: tuple[CashSample, ...] = (), unit: str = "USD", with_spans: bool = False
) -> TimelineAnswer:
    told = msgspec.structs.replace(reading("a", clock=ManualClock()), cash_unit=unit)
    stamp = Stamp(src="supervisor/main", epoch="0" * 16 + "-0123abcd", seq=1, ts_us=1, up_us=1, ttl_ms=5_000)
    return timeline(
        "a",
        TEN,
        NOW_US,
        spans,
        cash,
        AnswerTimes({140: 95, 900: 5}),
        ReceivedReading(told, stamp),
        with_spans=with_spans,
    )


def test_a_bar_says_of_each_cell_what_it_was_and_joins_those_that_are_the_same() -> None:
    found = of(span(800_000, 350_000), span(350_000, 250_000, Reason.ERRORS), span(250_000, 0))
    assert [(run.cells, run.parts) for run in found.bar] == [
        (2, {Kind.UNHEARD: 1.0}),
        (4, {Kind.OK: 1.0}),
        (2, {Kind.OK: 0.5, Kind.ERRORS: 0.5}),
        (2, {Kind.OK: 1.0}),
    ]
    assert sum(run.cells for run in found.bar) == TEN.cells
    assert found.availability == 0.875
    assert (found.outages, found.recovery_ms, found.worst_ms, found.answer_p95_ms) == (1, 100, 100, 140)
    assert sum(found.kinds_ms.values()) == 1_000


def test_the_shortest_outage_is_not_rounded_away() -> None:
    found = of(span(1_000_000, 500_001), span(500_001, 500_000, Reason.ERRORS), span(500_000, 0))
    assert [run.parts.get(Kind.ERRORS) for run in found.bar if Kind.ERRORS in run.parts] == [0.001]
    assert found.availability is not None
    assert found.availability < 1


def test_cash_is_what_was_known_at_the_end_of_each_cell_and_nothing_where_nothing_was_heard() -> None:
    samples = (
        CashSample("a", 1, "5", "USD"),
        CashSample("a", NOW_US - 750_000, "0.10", "USD"),
        CashSample("a", NOW_US - 250_000, None, "USD"),
        CashSample("a", NOW_US - 150_000, "7", "USD"),
    )
    found = of(span(1_000_000, 500_000), span(400_000, 0, Reason.ERRORS), cash=samples)
    assert found.cash_unit == "USD"
    assert [(run.cells, run.cash) for run in found.cash] == [
        (2, "5"), (3, "0.10"), (1, None), (1, "0.10"), (1, None), (2, "7"),
    ]  # fmt: skip


def test_earlier_amounts_are_not_shown_once_amounts_are_not_published_any_more() -> None:
    found = of(span(1_000_000, 0), cash=(CashSample("a", 1, "31415", "USD"),), unit="")
    assert (found.cash_unit, found.cash) == ("", ())


def test_spans_are_told_where_one_account_is_named_and_the_newest_only() -> None:
    assert of(span(1_000_000, 0)).spans is None
    many = [span(1_000_000 - each, 1_000_000 - each - 1) for each in range(MOST_SPANS + 5)]
    found = of(*many, with_spans=True).spans
    assert found is not None
    assert len(found) == MOST_SPANS
    assert found[-1].until_us == many[-1].until_us


def test_what_is_not_heard_any_more_is_told_from_what_was_written_down() -> None:
    cash = (CashSample("a", 1, "31415", "USD"),)
    found = timeline("a", TEN, NOW_US, (), cash, None, None, with_spans=True)
    assert (found.availability, found.answer_p95_ms, found.spans) == (None, None, ())
    assert (found.cash_unit, found.cash) == ("", ()), "amounts may not be published any more"
    assert [(run.cells, run.parts) for run in found.bar] == [(10, {Kind.UNHEARD: 1.0})]


def test_history_is_the_newest_lines_and_says_whether_there_are_more() -> None:
    lines = [
        Transition(
            at, "a", "kraken", "state", "healthy", "degraded", True, Reason.ERRORS, 1, FaultKind.NETWORK, "x"
        )
        for at in (1, 2, 3)
    ]
    found = history(lines, 2)
    assert ([line.at_us for line in found.lines], found.more) == ([2, 3], True)
    assert found.lines[0].meaning == "its last calls failed"
    assert not history(lines, 3).more


def test_the_spans_are_a_history_where_no_store_can_be_read() -> None:
    known = {"a": [span(900, 500), span(500, 100, Reason.AUTH)], "b": [span(700, 100)]}
    found = heard_transitions(known, None, None, 10)
    assert [(line.broker, line.before, line.after) for line in found] == [
        ("a", "", "ok"),
        ("b", "", "ok"),
        ("a", "ok", "auth"),
    ]
    assert heard_transitions(known, "a", NOW_US - 600, 10) == [found[2]]
    assert heard_transitions(known, None, None, 1) == [found[2]]


def test_a_moment_is_microseconds_or_how_long_ago() -> None:
    assert moment_us("1800000000000000", 0) == 1_800_000_000_000_000
    assert moment_us("90m", 5_400_000_000) == 0
    assert moment_us("7d", 0) == -7 * 86_400_000_000
    assert moment_us("2026-11-29T12:00:00Z", 0) == moment_us("2026-11-29T12:00Z", 0) == 1_795_953_600_000_000
    for wrong in (
        "2026-13-29T12:00:00Z",
        "2026-11-29T12:00:00",
        "",
        "7w",
        "-1",
        "1.5h",
        "9" * 19,
        "7 d",
        "\u0661h",
    ):
        with pytest.raises(ValueError, match="since: expected"):
            moment_us(wrong, 0)
