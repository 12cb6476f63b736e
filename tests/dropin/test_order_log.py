"""What is known of orders: in the order in which they changed, never backwards, and bounded."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from brokerwatch.dropin import order_log
from brokerwatch.dropin.order_log import OrderLog, Trouble
from brokerwatch.dropin.readers import Reader, Wanted
from brokerwatch.health.push import GRACE_S
from brokerwatch.messages.stream import NamedOrder


def order(order_id: str, status: str = "open", filled: float = 0.0, **values: Any) -> dict[str, Any]:
    return {
        "id": order_id,
        "symbol": "BTC/USDT",
        "status": status,
        "filled": filled,
        "amount": 1.0,
        "timestamp": 1_000,
        **values,
    }


def given(log: OrderLog, reader: Reader) -> list[tuple[str, str]] | str:
    reader.version, found = log.after(reader)
    return found.detail if isinstance(found, Trouble) else [(each["id"], each["status"]) for each in found]


def test_a_new_reader_is_given_what_is_open_and_then_each_change() -> None:
    log, reader = OrderLog(), Reader()
    log.read(order("a"), 0.0)
    log.read(order("b", "closed", 1.0), 0.0)
    late = Reader(joined=log.version)
    assert given(log, reader) == [("a", "open"), ("b", "closed")], "it called before both"
    assert given(log, late) == [("a", "open")]
    log.read(order("a", "closed", 1.0), 1.0)
    assert given(log, reader) == given(log, late) == [("a", "closed")]
    assert given(log, reader) == []


def test_what_is_read_again_and_is_the_same_is_no_news() -> None:
    log, reader = OrderLog(), Reader()
    log.read(order("a", fee={"cost": 1}), 0.0)
    given(log, reader)
    assert log.read(order("a", fee=None), 1.0)
    assert given(log, reader) == []


def test_an_order_neither_opens_again_nor_loses_what_is_filled() -> None:
    log, reader = OrderLog(), Reader()
    log.read(order("a", filled=0.5), 0.0)
    log.read(order("a", filled=0.4), 1.0)
    log.read(order("a", "canceled", 0.5), 2.0)
    log.read(order("a", "open", 0.5), 100.0)
    assert given(log, reader) == [("a", "canceled")]


@pytest.mark.parametrize(
    "named", [NamedOrder(id="a", has_ended=True), NamedOrder(id="a", filled=Decimal("0.5"))]
)
def test_a_read_that_is_behind_a_frame_does_not_count_until_the_grace_is_over(named: NamedOrder) -> None:
    log, reader = OrderLog(), Reader()
    log.read(order("a"), 0.0)
    given(log, reader)
    log.named(named, 10.0)
    assert not log.read(order("a", price=5.0), 10.1)
    assert [each.id for each in log.due] == ["a"]
    assert given(log, reader) == []
    assert log.read(order("a", price=5.0), 10.0 + GRACE_S)
    assert log.due == []
    assert given(log, reader) == [("a", "open")], "the read counts"


def test_frames_of_one_order_add_up() -> None:
    log = OrderLog()
    log.named(NamedOrder(id="a", has_ended=True, filled=Decimal(1)), 0.0)
    log.named(NamedOrder(id="a", market="M", filled=Decimal("0.5")), 1.0)
    assert log.due == [NamedOrder(id="a", market="M", has_ended=True, filled=Decimal(1))]


def test_an_order_that_is_listed_no_more_must_be_read() -> None:
    log = OrderLog()
    log.read(order("a"), 0.0)
    log.read(order("b"), 0.0)
    log.read(order("c", symbol="ETH/USDT"), 0.0)
    log.listed([order("b")], 1.0, "BTC/USDT")
    assert [each.id for each in log.due] == ["a"]
    log.listed([order("b")], 1.0, None)
    assert [each.id for each in log.due] == ["a", "c"]


def test_what_had_ended_before_is_no_news_unless_a_frame_names_it() -> None:
    log, reader = OrderLog(), Reader()
    log.ended([order("old", "closed", 1.0, timestamp=10), order("new", "closed", 1.0)], 0.0, 500)
    assert given(log, reader) == [("new", "closed")]
    log.named(NamedOrder(id="old", has_ended=True), 1.0)
    log.read(order("old", "closed", 1.0, timestamp=10), 1.0)
    assert given(log, reader) == [("old", "closed")]


def test_an_order_that_is_not_found_is_told_once_to_each_reader() -> None:
    log, reader, other = OrderLog(), Reader(), Reader()
    log.read(order("a"), 0.0)
    given(log, reader)
    log.named(NamedOrder(id="a"), 1.0)
    log.lost("a", "a is gone", 1.5)
    assert given(log, reader) == [], "it may come later"
    log.lost("a", "a is gone", 1.0 + GRACE_S)
    log.read(order("b"), 5.0)
    for each in (reader, other):
        assert given(log, each) == "a is gone"
        assert given(log, each) == [("b", "open")]


def test_a_reader_that_is_too_slow_is_told_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_log, "MOST_ENDED", 3)
    log, reader = OrderLog(), Reader()
    log.read(order("open"), 0.0)
    given(log, reader)
    for number in range(5):
        log.read(order(str(number), "closed", 1.0), 1.0)
    assert "only 3 are kept" in str(given(log, reader))
    assert given(log, reader) == [("2", "closed"), ("3", "closed"), ("4", "closed")]


def test_a_limit_is_given_the_oldest_changes_first() -> None:
    log, reader = OrderLog(), Reader(wanted=Wanted(limit=2))
    for number in range(5):
        log.read(order(str(number)), 0.0)
    pages = [given(log, reader) for _ in range(4)]
    assert pages == [[("0", "open"), ("1", "open")], [("2", "open"), ("3", "open")], [("4", "open")], []]


def test_whatever_comes_in_whatever_order_each_reader_sees_each_order_rise_to_its_end() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - repeats a failure
    chance = random.Random(seed)
    for _ in range(300):
        log, readers = (
            OrderLog(),
            [Reader(wanted=Wanted(limit=chance.choice([None, 1, 2]))) for _ in range(3)],
        )
        seen: list[dict[str, list[tuple[bool, float]]]] = [{} for _ in readers]
        truth: dict[str, dict[str, Any]] = {}
        past: list[dict[str, Any]] = []
        for step in range(60):
            order_id = str(chance.randrange(4))
            before = truth.get(order_id, order(order_id))
            if before["status"] == "open":
                filled = min(1.0, before["filled"] + chance.choice([0.0, 0.25, 0.5]))
                ends = filled == 1.0 or chance.random() < 0.2
                truth[order_id] = order(order_id, "closed" if ends else "open", filled)
                past.append(truth[order_id])
            log.read(chance.choice([truth[order_id], chance.choice(past)]), float(step))
            take(log, readers, seen, chance.randrange(3))
        for each in truth.values():
            log.read(each, 100.0)
        for number in range(len(readers)):
            while take(log, readers, seen, number):
                pass
            for order_id, each in truth.items():
                states = seen[number][order_id]
                assert states == sorted(states), (seed, states)
                assert states[-1] == (each["status"] == "closed", each["filled"]), seed


def take(
    log: OrderLog, readers: list[Reader], seen: list[dict[str, list[tuple[bool, float]]]], number: int
) -> int:
    readers[number].version, found = log.after(readers[number])
    assert not isinstance(found, Trouble)
    for each in found:
        seen[number].setdefault(each["id"], []).append((each["status"] == "closed", each["filled"]))
    return len(found)
