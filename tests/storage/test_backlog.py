"""The bounded memory of what waits to be written: what it keeps, what it drops, and whom it wakes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import pytest

from brokerwatch.messages import Reason
from brokerwatch.storage.backlog import MAX_TRANSITIONS, Backlog, answer
from brokerwatch.storage.records import MAX_NONCE, Hold, KeyState, Remembered, SentOrder, Stored, Transition


def stored(broker: str = "a", epoch: str = "1", version: int = 1, document: str = "{}") -> Stored:
    """A health as the backlog sees it."""
    return Stored(broker, "kraken", "print", epoch, version, 0, document)


def line(number: int, broker: str = "a") -> Transition:
    """A line of history that its moment tells from all others."""
    return Transition(number, broker, "kraken", "state", "healthy", "degraded", True, Reason.OK, 1, None, "")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_a_health_only_the_newest_waits_in_whatever_order_they_come(order: tuple[int, ...]) -> None:
    news = (stored(epoch="1", version=9), stored(epoch="2", version=1), stored(epoch="2", version=2))
    backlog = Backlog()
    for number in order:
        backlog.health(news[number])
    assert backlog.take().healths == {"a": news[2]}


def test_the_oldest_transitions_are_dropped_and_counted() -> None:
    backlog = Backlog()
    backlog.transitions(line(number) for number in range(MAX_TRANSITIONS + 3))
    kept = backlog.take().transitions
    assert (kept[0].at_us, kept[-1].at_us, len(kept)) == (3, MAX_TRANSITIONS + 2, MAX_TRANSITIONS)
    assert backlog.dropped == 3


def test_what_is_put_back_stands_before_what_came_meanwhile_and_overflows_at_its_old_end() -> None:
    backlog = Backlog()
    backlog.transitions(line(number) for number in range(MAX_TRANSITIONS))
    taken = backlog.take()
    backlog.transitions([line(MAX_TRANSITIONS), line(MAX_TRANSITIONS + 1)])
    backlog.put_back(taken)
    assert backlog.dropped == 2
    assert [one.at_us for one in backlog.take().transitions] == list(range(2, MAX_TRANSITIONS + 2))


def test_what_is_put_back_gives_way_to_what_is_newer() -> None:
    backlog = Backlog()
    backlog.health(stored(version=5))
    backlog.health(stored("b", version=5))
    backlog.hold("a", Hold("a", "ann", "old", 1))
    backlog.key(KeyState("k", 10, 900))
    taken = backlog.take()
    backlog.health(stored(version=6))
    backlog.health(stored("b", version=4))
    backlog.hold("a", None)
    backlog.key(KeyState("k", 20, 100))
    backlog.put_back(taken)
    batch = backlog.take()
    assert {name: one.version for name, one in batch.healths.items()} == {"a": 6, "b": 5}
    assert batch.holds == {"a": None}
    assert batch.keys == {"k": KeyState("k", 20, 900)}
    assert len(batch.waiters) == 4, "the callers that wait for a hold or for a key are still to be answered"


def test_a_key_that_waits_only_grows() -> None:
    backlog = Backlog()
    backlog.key(KeyState("k", 10, 5))
    backlog.key(KeyState("k", 7, 8))
    assert backlog.take().keys == {"k": KeyState("k", 10, 8)}


def test_a_nonce_that_no_database_can_hold_is_refused_before_it_waits() -> None:
    assert KeyState("k", MAX_NONCE).nonce_ceiling == MAX_NONCE
    with pytest.raises(ValueError, match="cannot be remembered"):
        KeyState("k", MAX_NONCE + 1)


def test_it_wakes_once_when_it_stops_being_empty_and_again_after_it_was_taken() -> None:
    backlog, woken = Backlog(), Count()
    backlog.call(woken)
    assert woken.times == 0
    backlog.health(stored())
    backlog.health(stored("b"))
    assert (woken.times, woken.urgent) == (1, 0)
    backlog.hold("a", None)
    assert (woken.times, woken.urgent) == (2, 1), "a caller waits for that"
    backlog.transitions([line(1)])
    backlog.health(stored("b", version=2), urgent=True)
    assert (woken.times, woken.urgent) == (4, 3), "that is news"
    backlog.take()
    backlog.health(stored())
    assert (woken.times, woken.urgent) == (5, 3)


def test_who_comes_late_is_woken_at_once_for_what_waits_already() -> None:
    backlog, woken = Backlog(), Count()
    backlog.health(stored())
    backlog.call(woken)
    assert woken.times == 1


def test_whoever_waits_for_an_answer_wakes_also_while_other_things_wait() -> None:
    backlog, woken = Backlog(), Count()
    backlog.call(woken)
    backlog.health(stored())
    backlog.put_back(backlog.take())
    backlog.key(KeyState("k", 1))
    assert woken.times == 2


def test_a_wake_may_take_at_once() -> None:
    backlog = Backlog()
    taken: list[int] = []
    backlog.call(lambda _: taken.append(len(backlog.take())))
    backlog.health(stored())
    assert taken == [1]


def test_while_nobody_records_whoever_waits_is_told_false_and_what_he_gave_is_kept() -> None:
    backlog = Backlog()
    before = backlog.key(KeyState("k", 1))
    backlog.desert()
    after = backlog.key(KeyState("k", 2))
    assert (before.result(0), after.result(0)) == (False, False)
    woken = Count()
    backlog.call(woken)
    assert woken.times == 1
    batch = backlog.take()
    assert (batch.keys, batch.waiters) == ({"k": KeyState("k", 2)}, [])
    assert not backlog.key(KeyState("k", 3)).done(), "a recorder runs again and will answer"


def test_a_waiter_who_gave_up_is_no_trouble() -> None:
    backlog = Backlog()
    waiter = backlog.key(KeyState("k", 1))
    assert waiter.cancel()
    backlog.desert()
    assert waiter.cancelled()


def test_nothing_is_lost_between_many_who_add_and_one_who_takes_and_puts_back() -> None:
    backlog = Backlog()
    adders, lines = 4, 500
    waiters: list[Future[bool]] = []

    def add(number: int) -> Callable[[], None]:
        def run() -> None:
            for version in range(1, lines + 1):
                backlog.transitions([line(version, f"b{number}")])
                backlog.health(stored(f"b{number}", version=version))
            waiters.append(backlog.key(KeyState(f"k{number}", lines)))

        return run

    threads = [threading.Thread(target=add(number)) for number in range(adders)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        backlog.put_back(backlog.take())
    batch = backlog.take()
    for number in range(adders):
        mine = [one.at_us for one in batch.transitions if one.broker == f"b{number}"]
        assert mine == list(range(1, lines + 1))
        assert batch.healths[f"b{number}"].version == lines
    assert len(batch.waiters) == adders
    assert set(map(id, batch.waiters)) == set(map(id, waiters))
    assert backlog.dropped == 0


class Count:
    """A wake that counts."""

    def __init__(self) -> None:
        self.times = 0
        self.urgent = 0

    def __call__(self, urgent: object) -> None:
        self.times += 1
        self.urgent += bool(urgent)


def test_the_last_word_about_an_order_is_written_whoever_said_it_and_also_after_a_failure() -> None:
    backlog = Backlog()
    one, two = SentOrder("k", "one", 1, "{}"), SentOrder("k", "two", 2, "{}")
    backlog.order(one)
    backlog.order(two)
    backlog.order_ended("k", "one")
    failed = backlog.take()
    assert failed.orders == {("k", "one"): None, ("k", "two"): two}
    again = replace(one, sent_us=3)
    backlog.order(again)
    backlog.order_ended("k", "two")
    backlog.put_back(failed)
    assert backlog.take().orders == {("k", "one"): again, ("k", "two"): None}


def test_whoever_sends_an_order_waits_until_it_is_durable_and_nobody_waits_for_its_end() -> None:
    backlog = Backlog()
    woken = Count()
    backlog.call(woken)
    durable = backlog.order(SentOrder("k", "one", 1, "{}"))
    assert (woken.times, woken.urgent) == (1, 1)
    taken = backlog.take()
    assert taken.waiters == [durable]
    answer(taken.waiters, durable=True)
    assert durable.result(0)
    backlog.order_ended("k", "one")
    assert (woken.times, woken.urgent) == (2, 1)
    assert (bool(backlog.take()), backlog.waiting()) == (True, 0)


def test_a_hold_that_the_store_lacks_waits_and_a_newer_word_about_it_is_kept() -> None:
    older, newer = Hold("a", "ops", "x", 1), Hold("a", "ops", "y", 2)
    for known, have, waits in ((newer, None, True), (newer, older, True), (older, newer, False)):
        backlog = Backlog()
        backlog.know(Remembered(holds={"a": known}))
        backlog.write_missing_holds({} if have is None else {"a": have})
        assert backlog.waiting_holds() == ({"a": known} if waits else {})
    backlog = Backlog()
    backlog.know(Remembered(holds={"a": newer}))
    backlog.hold("a", None)
    backlog.write_missing_holds({})
    assert backlog.waiting_holds() == {"a": None}


def epoch_of(us: int, entropy: str = "00000000") -> str:
    return f"{us:016d}-{entropy}"


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_healths_of_before_the_store_could_be_read_succeed_what_it_has(*, again: bool) -> None:
    backlog, before = Backlog(), Remembered(healths={"a": stored(epoch=epoch_of(1_000, "ffffffff"))})
    backlog.health(stored(epoch=epoch_of(10), version=3))
    for _ in range(2 if again else 1):
        backlog.know_late(before)
    written = [backlog.take().healths["a"]]
    for epoch, version in ((epoch_of(10), 4), (epoch_of(11), 4), (epoch_of(2_000), 4)):
        backlog.health(stored(epoch=epoch, version=version))
        written.append(backlog.take().healths["a"])
    orders = [before.healths["a"].order, *(each.order for each in written)]
    assert orders == sorted(set(orders))
    assert written[-1].epoch == epoch_of(2_000), "from here on its own is the later one"
    backlog.health(stored(epoch=epoch_of(11), version=9))
    assert backlog.take().healths["a"].order < written[-1].order, "a life that is over"
    assert backlog.known_health("a") == written[-1]


def test_healths_under_a_later_epoch_than_the_store_has_keep_theirs() -> None:
    backlog = Backlog()
    backlog.health(stored(epoch=epoch_of(1_001)))
    backlog.know_late(Remembered(healths={"a": stored(epoch=epoch_of(1_000))}))
    assert backlog.take().healths["a"].epoch == epoch_of(1_001)
