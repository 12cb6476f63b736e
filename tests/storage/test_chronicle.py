"""The tables of the chronicle, on a SQLite file and on a PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brokerwatch.errors import StoreError
from brokerwatch.health.timeline import Span
from brokerwatch.messages import Reason
from brokerwatch.storage.chronicle import (
    DAY_US,
    HOUR_US,
    WRONG_CLOCK_US,
    AnswerPeriod,
    CashSample,
    ChronicleStore,
    Pages,
)
from brokerwatch.storage.store import Store
from tests.support.stores import batch, health, spoilt

Keeper = Callable[..., ChronicleStore]


@pytest.fixture
def kept(url: str) -> Iterator[Keeper]:
    made: list[ChronicleStore] = []

    def make(cluster: str = "main") -> ChronicleStore:
        made.append(ChronicleStore(url, cluster))
        return made[-1]

    yield make
    for store in made:
        store.close()


def pages(*spans: Span, cash: tuple[CashSample, ...] = ()) -> Pages:
    return Pages(spans={(span.broker, span.from_us): span for span in spans}, cash=list(cash))


OK = Span("a", 10, 20, available=True, reason=Reason.OK)


def test_a_span_grows_and_never_shrinks_and_is_each_clusters_own(kept: Keeper) -> None:
    store, other = kept(), kept("other")
    longer = Span("a", 10, 90, available=True, reason=Reason.OK)
    out = Span("b", 10, 30, available=False, reason=Reason.MAINTENANCE)
    store.write(pages(OK, out), 1)
    store.write(pages(longer), 1)
    store.write(pages(OK), 1)  # a writer that hung writes what it knew
    assert store.spans(0) == {"a": [longer], "b": [out]}
    assert store.spans(30) == {"a": [longer]}
    assert other.spans(0) == {}


def test_the_last_amount_before_a_window_is_read_with_those_in_it(kept: Keeper) -> None:
    store = kept()
    samples = tuple(CashSample("a", at_us, cash, "USD") for at_us, cash in ((1, "5"), (2, "0.10"), (7, None)))
    store.write(pages(cash=(*samples, CashSample("b", 1, "9", "EUR"))), 1)
    store.write(pages(cash=samples), 1)  # twice, as after an answer that was lost
    assert store.cash(3) == {"a": list(samples[1:]), "b": [CashSample("b", 1, "9", "EUR")]}
    assert store.cash(7)["a"] == [samples[2]]


def test_answers_of_each_life_are_counted_once_and_joined(kept: Keeper) -> None:
    store = kept()
    hour, day = AnswerPeriod("a", HOUR_US, 5 * HOUR_US), AnswerPeriod("a", DAY_US, 0)
    store.write(Pages(answers={hour: {140: 1}, day: {140: 1}}), 1)
    store.write(Pages(answers={hour: {140: 2, 9: 1}}), 1)
    store.write(Pages(answers={hour: {140: 1}}), 2)
    assert store.answers(5 * HOUR_US + 1, HOUR_US)["a"].counts == {140: 3, 9: 1}
    assert store.answers(6 * HOUR_US, HOUR_US) == {}
    assert store.answers(6 * HOUR_US, DAY_US)["a"].counts == {140: 1}


def test_what_is_old_is_forgotten_and_what_lies_in_the_future_too(kept: Keeper) -> None:
    store = kept()
    now_us = 900 * DAY_US
    late = now_us + WRONG_CLOCK_US + 1
    future = Span("a", late, late + 5, available=True, reason=Reason.OK)
    new = Span("a", now_us - 5, now_us, available=True, reason=Reason.OK)
    store.write(
        pages(OK, new, future, cash=(CashSample("a", 1, "1", "USD"), CashSample("a", late, "2", "USD"))), 1
    )
    store.write(Pages(answers={AnswerPeriod("a", HOUR_US, 0): {1: 1}}), 1)
    store.prune(now_us - 400 * DAY_US, now_us)
    assert (store.spans(0), store.cash(0), store.answers(0, HOUR_US)) == ({"a": [new]}, {}, {})


def test_it_shares_a_database_with_the_store_and_neither_minds_the_other(kept: Keeper, url: str) -> None:
    chronicle, store = kept(), Store(url, "main")
    try:
        store.write(batch(health("a")))
        chronicle.write(pages(OK), 1)
        assert set(store.load().healths) == {"a"}
        assert store.peek().version is not None
        assert chronicle.spans(0) == {"a": [OK]}
    finally:
        store.close()


def test_a_row_that_was_spoilt_hides_no_other_and_a_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    path = tmp_path / "chronicle.db"
    store = ChronicleStore(f"sqlite:///{path}", "main")
    out = Span("b", 10, 30, available=False, reason=Reason.ERRORS)
    store.write(pages(OK, out), 1)
    store.write(
        Pages(answers={AnswerPeriod("a", HOUR_US, 0): {1: 1}, AnswerPeriod("b", HOUR_US, 0): {2: 1}}), 1
    )
    store.close()
    spoilt(
        path, "UPDATE brokerwatch_span SET until_us = 'x' WHERE broker = 'a'",
        "UPDATE brokerwatch_span SET reason = 'full_moon!' WHERE broker = 'b'",
        "UPDATE brokerwatch_answer_times SET counts = x'ff' WHERE broker = 'a'",
    )  # fmt: skip
    (span,) = store.spans(0)["b"]
    assert span.reason is Reason.OTHER
    assert "a" not in store.spans(0)
    assert {broker: times.counts for broker, times in store.answers(0, HOUR_US).items() if times.counts} == {
        "b": {2: 1}
    }
    store.close()
    blocked = ChronicleStore(f"sqlite:///{path}/in-a-file.db", "main")
    with pytest.raises(StoreError):
        blocked.write(pages(OK), 1)
