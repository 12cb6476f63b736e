"""Alarms for many actors on one thread: none comes early, each comes once, and long ones come together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from brokerwatch.cluster.timers import GATHERED_S, SLOT_S, Timers
from brokerwatch.gateway.loop import Loop, LoopThread
from tests.support.clusters import PATIENCE_S, until
from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop

THREADS = 4
EACH = 50


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    found = LoopThread("alarms")
    found.start()
    yield found
    assert found.stop(PATIENCE_S)


@pytest.mark.parametrize("delay_s", [0.0, 0.05, GATHERED_S, GATHERED_S + SLOT_S / 2])
def test_no_alarm_comes_before_its_time(loop: LoopThread, delay_s: float) -> None:
    clock, came_s = loop.asyncio_loop.time, list[float]()
    due_s = clock() + delay_s
    Timers(loop).after(delay_s, lambda: came_s.append(clock()))
    until(lambda: came_s)
    # The clock of a loop counts to its resolution, and a timer may come that much early.
    assert came_s[0] >= due_s - 0.001


def test_an_infinite_wait_never_ends(loop: LoopThread) -> None:
    timers, came, done = Timers(loop), list[str](), threading.Event()
    timers.after(float("inf"), lambda: came.append("never"))
    timers.after(0.0, done.set)
    assert done.wait(PATIENCE_S)
    assert came == []


def test_long_waits_end_together_at_the_end_of_a_slot() -> None:
    async def walk(pushed: PushedLoop) -> None:
        timers, came_s, begun_s = Timers(Loop(pushed)), list[float](), pushed.time()
        delays_s = [GATHERED_S + part * SLOT_S / 8 for part in range(8)]
        for delay_s in delays_s:
            timers.after(delay_s, lambda: came_s.append(pushed.time()))
        await asyncio.sleep(GATHERED_S + 3 * SLOT_S)
        assert len(came_s) == len(delays_s)
        assert len(set(came_s)) <= 2, "all of them end at one border or at the next"
        for delay_s, at_s in zip(delays_s, came_s, strict=True):
            assert begun_s + delay_s <= at_s <= begun_s + delay_s + SLOT_S + 0.001

    on_a_pushed_loop(walk)


def test_alarms_that_are_armed_by_many_threads_at_once_come_once_each(loop: LoopThread) -> None:
    timers, came = Timers(loop), list[int]()

    def arm(first: int) -> None:
        for number in range(first, first + EACH):
            timers.after(GATHERED_S, partial(came.append, number))

    threads = [threading.Thread(target=arm, args=(which * EACH,)) for which in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(came) >= THREADS * EACH)
    done = threading.Event()
    timers.after(2 * SLOT_S, done.set)
    assert done.wait(PATIENCE_S)
    assert sorted(came) == list(range(THREADS * EACH))
