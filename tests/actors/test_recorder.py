"""The recorder on a real SQLite file: nothing is lost in an outage, and no caller waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pykka
import pytest

from brokerwatch.actors import recorder as recorder_module
from brokerwatch.actors.base import wait_for_end
from brokerwatch.actors.recorder import GATHER_S, LOOK_S, Recorder, Retry
from brokerwatch.messages import Reason
from brokerwatch.storage import store as store_module
from brokerwatch.storage.backlog import MAX_TRANSITIONS, Backlog, Batch
from brokerwatch.storage.hold_file import HoldFile
from brokerwatch.storage.records import Hold, KeyState, Remembered, SentOrder, Stored, Transition
from brokerwatch.storage.store import Store
from tests.support.clusters import until

PATIENCE_S = 60.0


class HandAlarms:
    """Alarms that a test fires by hand."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []
        self._due: list[Callable[[], object]] = []
        self._set = threading.Condition()

    def after(self, delay_s: float, function: Callable[[], object]) -> None:
        """Remember it."""
        with self._set:
            self.waits_s.append(delay_s)
            self._due.append(function)
            self._set.notify_all()

    def fire(self) -> None:
        """Let the time of the one alarm come, once it is set."""
        with self._set:
            assert self._set.wait_for(lambda: self._due, PATIENCE_S), "no alarm was set"
            (function,) = self._due
            self._due.clear()
        function()

    def fire_all(self) -> None:
        """Let the time of every alarm come, once one is set."""
        with self._set:
            assert self._set.wait_for(lambda: self._due, PATIENCE_S), "no alarm was set"
            due = self._due.copy()
            self._due.clear()
        for function in due:
            function()

    def fire_next(self) -> None:
        """Fire once one is set."""
        with self._set:
            assert self._set.wait_for(lambda: self._due, PATIENCE_S)
        self.fire()

    def wait_for(self, number: int) -> None:
        """Until so many were set in all."""
        with self._set:
            assert self._set.wait_for(lambda: len(self.waits_s) >= number, PATIENCE_S), self.waits_s


class Desk:
    """A recorder with everything around it. `blocked` is a folder in the place of the database's file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"
        self.backlog = Backlog()
        self.alarms = HandAlarms()
        self.opened: list[Remembered] = []
        self.deaths: list[str] = []
        self.died = threading.Event()
        self.when_opened: Callable[[], object] = lambda: None
        self.look: Callable[[], bool] | None = None
        self.in_pool = False
        self.holds: HoldFile | None = None
        self.forget_before: Callable[[], int | None] = lambda: None
        self._refs: list[pykka.ActorRef[Any]] = []

    def start(self, *, loaded: bool = True, store: Store | None = None) -> pykka.ActorRef[Any]:
        """Start a recorder on the same backlog."""

        def opened(remembered: Remembered) -> None:
            self.opened.append(remembered)
            self.when_opened()

        def died(why: str) -> None:
            self.deaths.append(why)
            self.died.set()

        self._refs.append(
            Recorder.start(
                store or Store(f"sqlite:///{self.path}", "main"),
                self.backlog,
                alarms=self.alarms,
                loaded=loaded,
                on_opened=opened,
                on_death=died,
                holds=self.holds,
                look=self.look,
                in_pool=self.in_pool,
                forget_before=self.forget_before,
            )
        )
        return self._refs[-1]

    def block(self) -> None:
        """From here on the store cannot be opened."""
        self.path.mkdir()

    def mend(self) -> None:
        """The cause of the outage is gone."""
        self.path.rmdir()

    def key(self, ceiling: int) -> Future[bool]:
        """Something that a caller waits for."""
        return self.backlog.key(KeyState("k", ceiling))

    def stored(self) -> tuple[Remembered, list[Transition]]:
        """What is in the database, read by a stranger."""
        store = Store(f"sqlite:///{self.path}", "main")
        try:
            return store.load(), list(store.history())
        finally:
            store.close()

    def stop(self) -> None:
        for ref in self._refs:
            if ref.is_alive():
                ref.stop(timeout=PATIENCE_S)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose recorders are stopped afterwards."""
    made = Desk(tmp_path)
    yield made
    made.stop()


def line(at_us: int) -> Transition:
    """A line of history."""
    return Transition(at_us, "a", "kraken", "state", "", "", True, Reason.OK, 0, None, "")


def health(version: int) -> Stored:
    """A health."""
    return Stored("a", "kraken", "print", "0000000000000001-0000000a", version, 0, f"document {version}")


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    """The log's lines that hold these words."""
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


def test_what_is_given_is_written_and_who_waits_is_told_when_it_is_durable(desk: Desk) -> None:
    desk.start()
    desk.backlog.health(health(1))
    desk.backlog.transitions([line(1)])
    assert desk.key(7).result(PATIENCE_S) is True
    remembered, lines = desk.stored()
    assert (remembered.healths, lines) == ({"a": health(1)}, [line(1)])
    assert remembered.keys == {"k": KeyState("k", 7)}
    assert desk.opened == []


def test_what_is_no_news_is_gathered_for_a_second_and_written_at_once_with_what_is(
    desk: Desk,
) -> None:
    desk.start()
    desk.backlog.health(health(1))
    desk.alarms.wait_for(1)
    desk.backlog.health(health(2))
    assert desk.alarms.waits_s == [GATHER_S], "one wait for all of it"
    assert not desk.path.exists()
    desk.alarms.fire()
    assert_recorded_soon(desk)
    assert desk.stored()[0].healths == {"a": health(2)}
    desk.backlog.health(health(3))
    desk.alarms.wait_for(2)
    assert desk.key(7).result(PATIENCE_S) is True
    assert desk.stored()[0].healths == {"a": health(3)}
    desk.alarms.fire()  # nothing waits any more, and nothing is amiss


def test_one_wait_at_a_time_however_often_something_urgent_comes_between(desk: Desk) -> None:
    desk.start()
    for number in (1, 2, 3):
        desk.backlog.health(health(number))
        assert desk.key(number).result(PATIENCE_S) is True
    desk.backlog.health(health(4))
    desk.alarms.fire()
    assert_recorded_soon(desk)
    assert desk.stored()[0].healths == {"a": health(4)}
    assert desk.alarms.waits_s == [GATHER_S]


def test_what_waited_before_the_recorder_came_is_written_too(desk: Desk) -> None:
    waiter = desk.key(7)
    desk.start()
    assert waiter.result(PATIENCE_S) is True


def test_an_outage_keeps_everything_answers_who_waits_and_is_said_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    desk.block()
    desk.start()
    assert desk.key(1).result(PATIENCE_S) is False, "no caller waits for a disk"
    for version in range(1, 6):
        desk.backlog.health(health(version))
        desk.backlog.transitions([line(version)])
        assert desk.key(version).result(PATIENCE_S) is False, "also while other things wait"
        desk.alarms.fire()
        desk.alarms.wait_for(version + 1)
    assert len(said(caplog, "nothing can be recorded")) == 1
    desk.mend()
    desk.alarms.fire()
    assert_recorded_soon(desk)
    remembered, lines = desk.stored()
    assert remembered.healths == {"a": health(5)}
    assert remembered.keys["k"].nonce_ceiling >= 5
    assert lines == [line(number) for number in range(1, 6)]
    until(lambda: said(caplog, "is written to again"))
    (again,) = said(caplog, "is written to again")
    assert f"{desk.path} is written to again: 7 entries had waited" in again
    assert said(caplog, "were dropped") == []


def assert_recorded_soon(desk: Desk, ceiling: int = 99) -> None:
    """The recorder has come through what lay before, and writes."""
    # While it is still in its outage the answer comes at once, and is False.
    over = threading.Event()
    timer = threading.Timer(PATIENCE_S, over.set)
    timer.start()
    try:
        while not desk.key(ceiling).result(PATIENCE_S):
            assert not over.is_set(), "it never wrote again"
    finally:
        timer.cancel()
        timer.join()


def test_the_waits_between_attempts_grow_to_thirty_seconds_and_begin_anew(desk: Desk) -> None:
    desk.block()
    desk.start()
    desk.backlog.health(health(1))
    for number in range(1, 9):
        desk.alarms.wait_for(number)
        desk.alarms.fire()
    desk.alarms.wait_for(9)
    assert desk.alarms.waits_s == [GATHER_S, 1, 2, 4, 8, 16, 30, 30, 30]
    desk.mend()
    desk.alarms.fire()
    assert_recorded_soon(desk)
    assert len(desk.alarms.waits_s) == 9, "no timer runs while all is well"


def test_an_error_that_changes_is_said_again(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.block()
    desk.start()
    desk.backlog.health(health(1))
    desk.alarms.wait_for(1)
    desk.alarms.fire()
    desk.alarms.wait_for(2)
    assert len(said(caplog, "nothing can be recorded")) == 1, "the same again"
    desk.mend()
    folder = desk.path.parent
    folder.rmdir()
    folder.touch()
    desk.alarms.fire()
    desk.alarms.wait_for(3)
    folder.unlink()
    assert "is a folder" in said(caplog, "nothing can be recorded")[0]
    assert "Not a directory" in said(caplog, "nothing can be recorded")[1]
    assert len(said(caplog, "nothing can be recorded")) == 2


def test_what_was_dropped_in_an_outage_is_counted_when_it_ends(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    desk.block()
    desk.start()
    desk.backlog.transitions(line(number) for number in range(MAX_TRANSITIONS))
    desk.alarms.wait_for(1)
    desk.backlog.transitions([line(MAX_TRANSITIONS), line(MAX_TRANSITIONS + 1)])
    desk.mend()
    desk.alarms.fire()
    assert_recorded_soon(desk)
    until(lambda: said(caplog, "transitions were dropped"))  # it is said after the last write
    (lost,) = said(caplog, "transitions were dropped")
    assert lost.startswith("2 transitions")
    _, lines = desk.stored()
    assert (lines[0].at_us, lines[-1].at_us, len(lines)) == (2, MAX_TRANSITIONS + 1, MAX_TRANSITIONS)


def test_after_a_failed_start_what_is_remembered_is_told_before_anything_is_written(desk: Desk) -> None:
    earlier = Store(f"sqlite:///{desk.path}", "main")
    earlier.write(Batch(healths={"a": health(3)}))
    earlier.close()
    aside = desk.path.with_name("aside")
    desk.path.rename(aside)
    desk.block()
    seen: list[Stored] = []
    desk.when_opened = lambda: seen.append(desk.stored()[0].healths["a"])
    desk.start(loaded=False)
    desk.backlog.health(health(9))
    waiter = desk.key(1)
    assert waiter.result(PATIENCE_S) is False
    assert desk.opened == []
    desk.mend()
    aside.rename(desk.path)
    desk.alarms.fire()
    assert_recorded_soon(desk)
    assert [one.healths for one in desk.opened] == [{"a": health(3)}]
    assert seen == [health(3)]
    assert desk.stored()[0].healths == {"a": health(9)}


def test_who_waits_is_answered_also_when_nothing_could_be_read(desk: Desk) -> None:
    waiter = desk.key(1)
    desk.block()
    desk.start(loaded=False)
    assert waiter.result(PATIENCE_S) is False
    desk.mend()


def test_a_start_that_failed_is_asked_again_although_nothing_waits(desk: Desk) -> None:
    told = threading.Event()
    desk.when_opened = told.set
    desk.block()
    desk.start(loaded=False)
    desk.alarms.wait_for(1)
    desk.mend()
    desk.alarms.fire()
    assert told.wait(PATIENCE_S)
    assert_recorded_soon(desk)
    assert len(desk.opened) == 1


class Mistaken(Store):
    """A store with a mistake of ours in it."""

    def write(self, batch: Batch) -> None:
        """Fail as no store should."""
        raise TypeError("a mistake")


def test_a_recorder_that_dies_answers_who_waits_and_the_next_one_goes_on(desk: Desk) -> None:
    desk.start(store=Mistaken(f"sqlite:///{desk.path}", "main"))
    waiter = desk.backlog.key(KeyState("k", 7))
    assert waiter.result(PATIENCE_S) is False
    assert desk.died.wait(PATIENCE_S)
    assert desk.deaths == ["TypeError: a mistake"]
    desk.backlog.health(health(1))
    desk.backlog.transitions([line(1)])
    assert desk.key(8).result(PATIENCE_S) is False, "between two recorders no caller waits either"
    desk.start()
    assert_recorded_soon(desk, 9)
    remembered, lines = desk.stored()
    assert (remembered.healths, lines) == ({"a": health(1)}, [line(1)])


def test_stopping_writes_what_waits_although_the_last_attempt_failed(desk: Desk) -> None:
    desk.block()
    ref = desk.start()
    desk.backlog.health(health(1), urgent=True)
    desk.alarms.wait_for(1)
    desk.backlog.transitions([line(1)])
    desk.mend()
    ref.stop(timeout=PATIENCE_S)
    remembered, lines = desk.stored()
    assert (remembered.healths, lines) == ({"a": health(1)}, [line(1)])
    assert sorted(path.name for path in desk.path.parent.iterdir()) == ["state.db"], "it is closed"
    desk.alarms.fire()  # an alarm that comes too late does nothing


def test_stopping_in_an_outage_ends_answers_everybody_and_says_what_is_lost(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.block()
    ref = desk.start()
    desk.backlog.health(health(1))
    desk.alarms.wait_for(1)
    ref.stop(timeout=PATIENCE_S)
    assert desk.key(1).result(0) is False
    assert len(said(caplog, "1 entries are lost")) == 1
    desk.mend()


def test_a_retry_without_anything_to_write_does_nothing(desk: Desk) -> None:
    ref = desk.start()
    ref.tell(Retry())
    assert wait_for_end(ref, PATIENCE_S)
    assert not desk.path.exists()
    assert desk.deaths == []


def test_the_stored_state_of_a_key_is_what_another_process_wrote_too(desk: Desk) -> None:
    desk.start()
    assert desk.backlog.stored_key("k").result(PATIENCE_S) is None
    assert desk.key(5).result(PATIENCE_S)
    other = Store(f"sqlite:///{desk.path}", "main")
    other.write(Batch(keys={"k": KeyState("k", 9)}))
    other.close()
    assert desk.backlog.stored_key("k").result(PATIENCE_S) == KeyState("k", 9)


def test_who_asks_for_a_key_in_an_outage_or_without_a_recorder_is_answered_at_once(desk: Desk) -> None:
    desk.block()
    ref = desk.start()
    desk.backlog.health(health(1), urgent=True)
    desk.alarms.wait_for(1)
    assert desk.backlog.stored_key("k").result(PATIENCE_S) is None
    ref.stop(timeout=PATIENCE_S)
    assert desk.backlog.stored_key("k").result(0) is None
    desk.mend()


HOLD = Hold("a", "ops", "moving funds", 1)
SENT = SentOrder("k", "client-1", 1, "{}")


def test_a_release_that_comes_while_the_store_is_opened_is_in_the_file_of_holds_too(desk: Desk) -> None:
    desk.holds = HoldFile(desk.path.with_name("holds.json"))
    desk.holds.update({"a": HOLD})
    released: list[Future[bool]] = []
    desk.when_opened = lambda: released.append(desk.backlog.hold("a", None))
    desk.start(loaded=False)
    assert desk.key(1).result(PATIENCE_S)
    assert released[0].result(PATIENCE_S)
    assert desk.holds.read() == {}, "or the hold would be back after the next start"


def removed(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def emptied(path: Path) -> None:
    removed(path)
    path.touch()


def replaced_by_another(path: Path) -> None:
    """Another cluster's database is at its place."""
    other = path.with_name("other.db")
    store = Store(f"sqlite:///{other}", "other")
    store.open()
    store.close()
    removed(path)
    other.rename(path)


@pytest.mark.parametrize("lost", [removed, emptied, replaced_by_another])
def test_what_is_known_is_written_again_when_the_database_is_lost_while_it_is_used(
    desk: Desk, lost: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = Store(f"sqlite:///{desk.path}", "main")
    batch = Batch()
    batch.healths["b"] = Stored("b", "kraken", "print", "", 1, 0, "{}")
    before.write(batch)
    desk.backlog.know(before.load())
    desk.look = lambda: False
    desk.start(store=before)
    desk.alarms.wait_for(1)
    desk.backlog.health(health(3), urgent=True)
    assert desk.backlog.order(SENT).result(PATIENCE_S)
    ended = SentOrder("k", "client-2", 1, "{}")
    assert desk.backlog.order(ended).result(PATIENCE_S)
    desk.backlog.order_ended("k", "client-2")
    assert desk.backlog.hold("a", HOLD).result(PATIENCE_S)
    assert desk.key(7).result(PATIENCE_S)
    lost(desk.path)
    desk.alarms.fire_all()
    until(lambda: said(caplog, "all that is known is written again"))
    until(lambda: len(desk.stored()[0].healths) == 2)
    remembered, _ = desk.stored()
    assert remembered.holds == {"a": HOLD}
    assert remembered.orders == {"k": (SENT,)}
    assert remembered.keys["k"].nonce_ceiling >= 7
    assert remembered.healths["a"].version == 3
    assert desk.alarms.waits_s[0] == LOOK_S


def test_what_was_written_is_in_the_file_also_when_its_log_was_removed(desk: Desk) -> None:
    desk.look = lambda: False
    desk.start()
    assert desk.key(7).result(PATIENCE_S)
    log = desk.path.with_name(f"{desk.path.name}-wal")
    log.unlink()
    desk.alarms.wait_for(1)
    desk.alarms.fire_all()
    until(log.exists)
    assert desk.key(8).result(PATIENCE_S)
    assert desk.stored()[0].keys["k"].nonce_ceiling == 8, "a stranger reads it while the recorder runs"


def test_old_lines_of_the_history_are_deleted_and_nothing_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "FORGOTTEN_AT_ONCE", 2)
    store = Store(f"sqlite:///{desk.path}", "main")
    old = Batch(healths={"a": health(1)}, keys={"k": KeyState("k", 7)})
    old.transitions.extend(line(at_us) for at_us in (1, 2, 3, 4, 5, 9))
    store.write(old)
    other = Store(f"sqlite:///{desk.path}", "other")
    others = Batch()
    others.transitions.append(line(1))
    other.write(others)
    looked = threading.Semaphore(0)

    def look() -> bool:
        looked.release()
        return False

    desk.look, desk.forget_before = look, lambda: 6
    desk.start()
    for _ in range(4):  # a few lines with each look, so that what waits is written meanwhile
        assert looked.acquire(timeout=PATIENCE_S)
        desk.alarms.fire_next()
    assert looked.acquire(timeout=PATIENCE_S)
    remembered, lines = desk.stored()
    assert [one.at_us for one in lines] == [9]
    assert (set(remembered.healths), set(remembered.keys)) == ({"a"}, {"k"})
    assert len(list(other.history())) == 1, "another cluster's history is its own"
    store.close()
    other.close()


@pytest.mark.parametrize("in_pool", [False, True])
def test_another_cluster_of_the_name_is_said_and_a_node_of_the_pool_that_has_the_account_now_is_not(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, in_pool: bool
) -> None:
    monkeypatch.setattr(recorder_module, "LOOKS_FOR_ANOTHER", 1)
    looked = threading.Semaphore(0)

    def look() -> bool:
        looked.release()
        return False

    desk.backlog.health(health(1))
    other = Store(f"sqlite:///{desk.path}", "main")
    other.write(Batch(healths={"a": replace(health(1), epoch="0000000000000002-0000000a")}))
    other.close()
    desk.look, desk.in_pool = look, in_pool
    desk.start()
    for _ in range(3):
        assert looked.acquire(timeout=PATIENCE_S)
        desk.alarms.fire_next()
    assert looked.acquire(timeout=PATIENCE_S)
    assert len(said(caplog, "another cluster of the same name")) == (not in_pool)
