"""The dispatcher: one thread calls the callbacks, a slow one gets changes joined, silence is a change too."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import msgspec
import pytest

from brokerwatch.bus.change_dispatcher import ChangeDispatcher
from brokerwatch.clock import Clock, Instant, ManualClock, SystemClock
from brokerwatch.errors import ClusterStopped
from brokerwatch.health.changes import Change
from brokerwatch.health.reading import comparison_key
from brokerwatch.messages import Reading, Reason
from tests.support.readings import TTL_S, errors_of, reading

PATIENCE_S: Final = 60.0
"""How long a test waits for what must come; never for what must not."""


class Desk:
    """A dispatcher, a writer of readings, and a subscriber that keeps what it is given."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = ManualClock()
        self.used: Clock = self.clock if clock is None else clock
        self.board: dict[str, Reading] = {}
        self.looks = 0
        self.changes = ChangeDispatcher(self.used, readings=self.look)
        self.heard: queue.Queue[Change] = queue.Queue()

    def look(self) -> list[Reading]:
        self.looks += 1
        return list(self.board.values())

    def write(self, broker: str = "a", errors: int = 0, left_s: float = TTL_S) -> Reading:
        """As the board does: swap, then put."""
        after = reading(broker, errors, clock=self.used, left_s=left_s)
        before = self.board.get(broker, after)
        self.board[broker] = after
        self.changes.put(before, after)
        return after

    def renew(self, broker: str) -> None:
        """A poll that found the same."""
        self.clock.advance(0.001)
        before = self.board[broker]
        self.board[broker] = msgspec.structs.replace(before, as_of=self.clock.now())
        self.changes.put(before, self.board[broker])

    def next(self) -> Change:
        return self.heard.get(timeout=PATIENCE_S)

    def listen(self) -> Callable[[], None]:
        return self.changes.subscribe(self.heard.put)

    def settled(self) -> list[Change]:
        """What was told until now: all that was put or has run out before is told before the second mark."""
        found: list[Change] = []
        for errors in (1, 0):
            self.write("mark", errors)
            while (change := self.next()).broker != "mark":
                found.append(change)
        return found


@contextmanager
def desk_of(clock: Clock | None = None, *brokers: str) -> Generator[Desk]:
    desk = Desk(clock)
    for broker in (*(brokers or ("a", "b")), "mark"):
        desk.write(broker, left_s=1e6 if broker == "mark" else TTL_S)
    try:
        yield desk
    finally:
        assert desk.changes.close(PATIENCE_S)


class Gate:
    """A callback that hangs until it is let go, once."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.told: list[Change] = []

    def __call__(self, change: Change) -> None:
        self.told.append(change)
        self.entered.set()
        assert self.open.wait(PATIENCE_S)


# --- the thread --------------------------------------------------------------------------------------


def dispatchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "brokerwatch-changes"]


def test_there_is_one_thread_for_all_callbacks_and_none_before_the_first() -> None:
    with desk_of() as desk:
        desk.write(errors=1)
        assert dispatchers() == []
        on: queue.Queue[threading.Thread] = queue.Queue()
        for _ in range(3):
            desk.changes.subscribe(lambda _: on.put(threading.current_thread()))
        desk.write(errors=2)
        assert {on.get(timeout=PATIENCE_S) for _ in range(3)} == set(dispatchers())
        [thread] = dispatchers()
        assert thread.daemon
    assert dispatchers() == []


def test_a_change_has_before_and_after_and_says_what_was_lost_and_regained() -> None:
    with desk_of() as desk:
        desk.listen()
        before = desk.board["a"]
        after = desk.write(errors=3)
        change = desk.next()
        assert (change.before, change.after, change.broker) == (before, after, "a")
        assert (change.lost, change.regained) == (True, False)
        desk.write(errors=0)
        change = desk.next()
        assert (change.lost, change.regained) == (False, True)
        desk.write(errors=1)
        change = desk.next()
        assert (change.lost, change.regained) == (False, False)


def test_what_was_before_the_subscription_is_not_told_and_a_mere_renewal_never() -> None:
    with desk_of() as desk:
        desk.write(errors=1)
        desk.listen()
        desk.write(errors=1)
        desk.clock.advance(1.0)
        desk.write(errors=1)
        assert desk.settled() == []


def test_a_slow_callback_delays_nobody_who_writes_and_is_told_the_outcome_once() -> None:
    with desk_of() as desk:
        gate = Gate()
        desk.changes.subscribe(gate)
        desk.listen()
        desk.write("a", errors=1)
        assert gate.entered.wait(PATIENCE_S)
        for errors in (2, 3, 0, 2):
            desk.write("a", errors)
        desk.write("b", errors=1)
        desk.write("b", errors=0)
        gate.open.set()
        assert errors_of(desk.settled()) == [("a", 0, 1), ("a", 1, 2)]
        assert errors_of(gate.told)[:2] == [("a", 0, 1), ("a", 1, 2)]


def test_a_callback_that_raises_stays_subscribed_and_silences_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[Change] = []

    def broken(change: Change) -> None:
        calls.append(change)
        if change.after.error_count == 3:
            raise SystemExit("he wanted to leave")
        if change.after.error_count:
            raise RuntimeError("no such table")

    with desk_of() as desk, caplog.at_level(logging.ERROR):
        desk.changes.subscribe(broken)
        desk.listen()
        for errors in (1, 2, 0, 1, 3):
            desk.write(errors=errors)
            assert desk.next().after.error_count == errors
        assert len(calls) == 5
    raised = [str(one.exc_info[1]) for one in caplog.records if one.exc_info]
    # The same again, right after it, is not said again.
    assert raised == ["no such table", "no such table", "he wanted to leave"]


def test_after_the_unsubscription_nothing_is_told_and_it_may_be_repeated() -> None:
    with desk_of() as desk:
        other: queue.Queue[Change] = queue.Queue()
        leave = desk.changes.subscribe(other.put)
        stay = desk.listen()
        desk.write(errors=1)
        desk.next()
        leave()
        leave()
        desk.write(errors=2)
        assert errors_of(desk.settled()) == [("a", 1, 2)]
        assert other.qsize() == 1
        stay()
        desk.write(errors=3)
        desk.listen()
        assert desk.settled() == [], "while there was no subscriber nothing was gathered"
        assert desk.looks == 2, "who comes after a gap begins with what stands then"


def test_what_waited_for_those_who_have_left_is_not_told_to_who_comes_later() -> None:
    with desk_of() as desk:
        gate = Gate()
        leave = desk.changes.subscribe(gate)
        desk.write("a", errors=1)
        assert gate.entered.wait(PATIENCE_S)
        desk.write("b", errors=1)
        leave()
        desk.listen()
        gate.open.set()
        assert desk.settled() == []


def test_a_callback_may_unsubscribe_itself_and_others_who_are_not_told_any_more() -> None:
    with desk_of() as desk:
        ends: list[Callable[[], None]] = []
        first: list[Change] = []
        second: list[Change] = []

        def leave_all(change: Change) -> None:
            first.append(change)
            for end in ends:
                end()

        ends.append(desk.changes.subscribe(leave_all))
        ends.append(desk.changes.subscribe(second.append))
        desk.listen()
        desk.write(errors=1)
        assert errors_of([desk.next()]) == [("a", 0, 1)]
        desk.write(errors=2)
        desk.settled()
        assert (len(first), second) == (1, []), "not even of the change that was being told"


def test_a_callback_may_subscribe_somebody() -> None:
    with desk_of() as desk:
        ends: queue.Queue[Callable[[], None]] = queue.Queue()
        more = desk.changes.subscribe(lambda _: ends.put(desk.listen()))
        desk.write(errors=1)
        end = ends.get(timeout=PATIENCE_S)
        more()
        desk.write(errors=2)
        assert errors_of([desk.next()]) == [("a", 1, 2)]
        end()


def test_each_subscription_of_one_callback_is_by_itself() -> None:
    with desk_of() as desk:
        heard: queue.Queue[Change] = queue.Queue()
        one = desk.changes.subscribe(heard.put)
        desk.changes.subscribe(heard.put)
        desk.write(errors=1)
        assert heard.get(timeout=PATIENCE_S) is heard.get(timeout=PATIENCE_S)
        one()
        desk.listen()
        desk.write(errors=2)
        desk.settled()
        of_a = [heard.get_nowait() for _ in range(heard.qsize())]
        assert errors_of([change for change in of_a if change.broker == "a"]) == [("a", 1, 2)]


# --- the end -----------------------------------------------------------------------------------------


def test_the_end_tells_what_waits_and_then_nothing_and_nobody_may_subscribe() -> None:
    desk = Desk()
    desk.write("a")
    gate = Gate()
    desk.changes.subscribe(gate)
    desk.listen()
    desk.write(errors=1)
    assert gate.entered.wait(PATIENCE_S)
    desk.write(errors=3)
    ending = threading.Thread(target=desk.changes.close, args=(PATIENCE_S,))
    ending.start()
    gate.open.set()
    ending.join(PATIENCE_S)
    desk.write(errors=0)
    assert desk.changes.close()
    assert errors_of([desk.heard.get_nowait() for _ in range(desk.heard.qsize())]) == [
        ("a", 0, 1),
        ("a", 1, 3),
    ]
    with pytest.raises(ClusterStopped):
        desk.listen()


def test_a_callback_that_hangs_does_not_hold_up_the_end() -> None:
    desk = Desk()
    desk.write()
    gate = Gate()
    desk.changes.subscribe(gate)
    desk.listen()
    desk.write(errors=1)
    assert gate.entered.wait(PATIENCE_S)
    assert not desk.changes.close(0.0)
    gate.open.set()
    assert desk.changes.close(PATIENCE_S)
    assert desk.heard.empty(), "given up means that no subscriber is called any more"


def test_a_callback_may_end_it_all_and_what_comes_after_that_is_not_told() -> None:
    async def watch() -> list[Change]:
        return [change async for change in desk.changes.stream()]

    def end(change: Change) -> None:
        answers.put(desk.changes.close(PATIENCE_S))
        desk.write(errors=2)

    def start() -> None:
        desk.changes.subscribe(end)
        desk.write(errors=1)

    async def both() -> list[Change]:
        watching = asyncio.ensure_future(watch())
        await until(lambda: desk.looks == 1)
        start()
        return await asyncio.wait_for(watching, PATIENCE_S)

    desk = Desk()
    desk.write()
    answers: queue.Queue[bool] = queue.Queue()
    assert errors_of(asyncio.run(both())) == [("a", 0, 1)]
    assert answers.get(timeout=PATIENCE_S) is False
    assert answers.empty()
    assert desk.changes.close(PATIENCE_S)


def test_what_nobody_ever_subscribed_to_ends_at_once() -> None:
    assert ChangeDispatcher().close(0.0)


# --- readings that run out ---------------------------------------------------------------------------


def test_a_reading_that_nobody_renews_is_told_by_the_clock_alone() -> None:
    with desk_of(SystemClock()) as desk:
        desk.write("a", left_s=1e6)
        desk.write("b", left_s=0.05)
        desk.listen()
        change = desk.next()
        assert (change.broker, change.lost) == ("b", True)
        assert (change.after.available, change.after.reason) == (False, Reason.SILENT)
        assert change.before is desk.board["b"]
        desk.write("a", left_s=0.05)
        assert desk.next().broker == "a", "a term that became shorter counts at once"


class Watched(SystemClock):
    """Says when the dispatcher looks at it, which it does before it goes to sleep."""

    def __init__(self) -> None:
        self.looked = threading.Event()

    def now(self) -> Instant:
        if threading.current_thread().name == "brokerwatch-changes":
            self.looked.set()
        return super().now()


def test_who_comes_after_a_gap_is_told_by_the_clock_too() -> None:
    clock = Watched()
    with desk_of(clock) as desk:

        def hear(change: Change) -> None:
            clock.looked.clear()
            desk.heard.put(change)

        for broker in desk.board:
            desk.write(broker, left_s=1e6)
        leave = desk.changes.subscribe(hear)
        desk.write("a", errors=1, left_s=1e6)
        desk.next()
        assert clock.looked.wait(PATIENCE_S)
        leave()  # waits for the lock, which the dispatcher gives back when it sleeps: for 1e6 s
        desk.write("b", left_s=0.05)
        desk.listen()
        assert desk.next().broker == "b"


def test_running_out_is_told_once_and_what_is_out_already_cannot_run_out() -> None:
    with desk_of() as desk:
        desk.write("b", errors=3)
        desk.listen()
        desk.clock.advance(TTL_S)
        assert [(one.broker, one.lost) for one in desk.settled()] == [("a", True)]
        desk.clock.advance(TTL_S)
        assert desk.settled() == []


def test_who_is_renewed_in_time_does_not_run_out() -> None:
    with desk_of() as desk:
        desk.listen()
        for _ in range(4):
            desk.clock.advance(TTL_S - 0.5)
            desk.write("a")
            desk.write("b")
            assert desk.settled() == []


def test_who_ran_out_and_is_renewed_is_told_to_be_back_though_he_says_the_same_as_before() -> None:
    with desk_of() as desk:
        desk.listen()
        desk.clock.advance(TTL_S)
        gone = {change.broker: change for change in desk.settled()}
        before = desk.board["a"]
        after = desk.write("a")
        assert comparison_key(before) == comparison_key(after)
        change = desk.next()
        assert (change.broker, change.regained) == ("a", True)
        assert change.before is gone["a"].after
        assert change.after is after
        desk.write("a")
        assert desk.settled() == []


def test_who_had_run_out_before_anybody_listened_is_told_when_he_is_back_and_not_before() -> None:
    with desk_of() as desk:
        desk.clock.advance(TTL_S)
        desk.listen()
        assert desk.settled() == []
        desk.write("a")
        change = desk.next()
        assert (change.regained, change.before.reason) == (True, Reason.SILENT)


def test_what_a_callback_missed_while_it_slept_is_told_after_the_expiry_too() -> None:
    with desk_of() as desk:
        gate = Gate()
        desk.changes.subscribe(gate)
        desk.listen()
        desk.write("b", errors=1)
        assert gate.entered.wait(PATIENCE_S)
        desk.write("a", errors=2)
        desk.clock.advance(TTL_S)
        gate.open.set()
        told_ = desk.settled()
        assert errors_of(told_) == [("b", 0, 1), ("a", 0, 2), ("b", 1, 1)]
        assert [one.lost for one in told_] == [False, True, True]


def test_renewals_are_told_to_the_subscriber_that_asks_for_them_and_to_no_other() -> None:
    with desk_of() as desk:
        desk.listen()
        renewed: queue.Queue[Change] = queue.Queue()
        leave = desk.changes.subscribe(renewed.put, renewals=True)
        desk.renew("a")
        renewal = renewed.get(timeout=PATIENCE_S)
        assert (renewal.broker, renewal.renewal, renewal.reading) == ("a", True, desk.board["a"])
        assert desk.settled() == []
        desk.write("a", errors=1)
        assert errors_of(desk.settled()) == [("a", 0, 1)]
        while (change := renewed.get(timeout=PATIENCE_S)).broker != "a":
            pass
        assert not change.renewal
        leave()
        desk.renew("a")
        assert desk.settled() == []
    assert all(change.broker == "mark" for change in iter_queue(renewed))


def iter_queue(full: queue.Queue[Change]) -> list[Change]:
    return [full.get_nowait() for _ in range(full.qsize())]


# --- in a loop ---------------------------------------------------------------------------------------


async def until(true: Callable[[], bool]) -> None:
    """Let the loop go round until it is so; the test's own time-out ends what never is."""
    while not true():  # noqa: ASYNC110 - what is waited for happens on another thread
        await asyncio.sleep(0.001)


def test_a_stream_tells_in_the_loop_and_the_loop_goes_on_meanwhile() -> None:
    async def watch(desk: Desk) -> None:
        seen: list[Change] = []

        async def reader() -> None:
            async for change in desk.changes.stream():
                seen.append(change)

        task = asyncio.create_task(reader())
        await until(lambda: desk.looks == 1)
        await asyncio.to_thread(desk.write, "a", 1)
        await until(lambda: len(seen) == 1)
        desk.write("b", 3)
        await until(lambda: len(seen) == 2)
        assert errors_of(seen) == [("a", 0, 1), ("b", 0, 3)]
        assert await asyncio.to_thread(desk.changes.close, PATIENCE_S)
        await asyncio.wait_for(task, PATIENCE_S)

    with desk_of() as desk:
        asyncio.run(watch(desk))


def test_what_a_slow_reader_of_a_stream_misses_is_joined_and_what_waited_at_the_end_is_told() -> None:
    async def watch(desk: Desk) -> None:
        stream = desk.changes.stream()
        first = asyncio.ensure_future(anext(stream))
        await until(lambda: desk.looks == 1)
        desk.listen()
        desk.write("a", 1)
        assert errors_of([await first]) == [("a", 0, 1)]
        for errors in (2, 3, 0, 2):
            desk.write("a", errors)
            await asyncio.to_thread(desk.settled)  # each by itself reached the stream
        desk.write("b", 1)
        assert await asyncio.to_thread(desk.changes.close, PATIENCE_S)
        rest = [change async for change in stream]
        assert errors_of([one for one in rest if one.broker != "mark"]) == [("a", 1, 2), ("b", 0, 1)]

    with desk_of() as desk:
        asyncio.run(watch(desk))


def test_a_stream_gives_renewals_where_they_are_asked_for() -> None:
    async def watch(desk: Desk) -> None:
        plain, all_of_them = desk.changes.stream(), desk.changes.stream(renewals=True)
        firsts = [asyncio.ensure_future(anext(one)) for one in (plain, all_of_them)]
        await until(lambda: desk.looks == 1)
        await asyncio.sleep(0)
        desk.renew("a")
        assert (await firsts[1]).renewal
        assert not firsts[0].done()
        desk.write("a", 1)
        assert errors_of([await firsts[0]]) == [("a", 0, 1)]
        assert errors_of([await anext(all_of_them)]) == [("a", 0, 1)]
        await plain.aclose()
        await all_of_them.aclose()

    with desk_of() as desk:
        asyncio.run(watch(desk))


@pytest.mark.parametrize("how", ["aclose", "cancel", "break"])
def test_who_leaves_a_stream_is_not_subscribed_any_more(how: str) -> None:
    async def read_one(desk: Desk) -> None:
        stream = desk.changes.stream()
        async for _ in stream:
            break
        if how == "aclose":
            await stream.aclose()

    async def watch(desk: Desk) -> None:
        task = asyncio.create_task(read_one(desk))
        await until(lambda: desk.looks == 1)
        if how == "cancel":
            task.cancel()
        else:
            desk.write("a", 1)
        await asyncio.wait({task}, timeout=PATIENCE_S)
        assert task.cancelled() == (how == "cancel")
        # A loop that only breaks off leaves the rest to the event loop, which comes to it in its next round.
        await until(lambda: listens_anew(desk))

    with desk_of() as desk:
        asyncio.run(watch(desk))


def listens_anew(desk: Desk) -> bool:
    """Whether there was no subscriber: then a new one is the first, and the board is looked at."""
    looks = desk.looks
    desk.changes.subscribe(lambda _: None)()
    return desk.looks == looks + 1


def test_a_loop_that_was_closed_under_its_reader_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with desk_of() as desk, caplog.at_level(logging.WARNING):
        loop = asyncio.new_event_loop()
        stream = desk.changes.stream()
        waiting = loop.create_task(anext(stream))
        while not desk.looks:
            loop.run_until_complete(asyncio.sleep(0))
        waiting.cancel()
        loop.close()
        desk.listen()
        desk.write("a", 1)
        desk.write("a", 2)
        assert errors_of(desk.settled())[-1][2] == 2
    assert [one.getMessage() for one in caplog.records if one.name.startswith("brokerwatch")] == []


def test_a_stream_of_what_has_ended_says_so() -> None:
    async def watch(desk: Desk) -> None:
        with pytest.raises(ClusterStopped):
            await anext(desk.changes.stream())

    desk = Desk()
    assert desk.changes.close()
    asyncio.run(watch(desk))


def test_a_stream_ends_even_when_a_callback_hangs_at_the_end() -> None:
    async def watch(desk: Desk) -> None:
        stream = desk.changes.stream()
        first = asyncio.ensure_future(anext(stream, None))
        await until(lambda: desk.looks == 1)
        assert not await asyncio.to_thread(desk.changes.close, 0.0)
        assert await asyncio.wait_for(first, PATIENCE_S) is None

    desk = Desk()
    desk.write()
    gate = Gate()
    end = desk.changes.subscribe(gate)
    desk.write(errors=1)
    assert gate.entered.wait(PATIENCE_S)
    end()
    desk.looks = 0
    asyncio.run(watch(desk))
    gate.open.set()
    assert desk.changes.close(PATIENCE_S)
