"""An event loop on a thread: what is handed over to it, and a source on a loop that is busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.exchanges.balances import FetchedBalance
from brokerwatch.gateway.async_source import EXCUSES, AsyncSource, Refrained
from brokerwatch.gateway.load import AT_ONCE, SHORT_S
from brokerwatch.gateway.loop import Loop, LoopThread, Run
from brokerwatch.health.outcome import FetchOutcome, NotAsked
from brokerwatch.messages import Balance, Fault, FaultKind, Holding, amount
from brokerwatch.tally import BUCKETS_S, AccountTally
from tests.support.clusters import PATIENCE_S, until
from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop, settled


def test_what_is_handed_over_from_other_threads_begins_in_order_and_wakes_the_loop_once() -> None:
    ended: list[int] = []

    async def work(loop: PushedLoop) -> None:
        ours, wakes = Loop(loop), 0
        wake = loop.call_soon_threadsafe

        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return wake(*arguments, **named)

        async def one(number: int) -> None:
            await asyncio.sleep(0)
            ended.append(number)

        def hand_over() -> None:
            for number in range(100):
                ours.hand_over(one(number))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", counted)
            # Joined here: the loop is asleep meanwhile, as it is when a thousand timers ring.
            thread = threading.Thread(target=hand_over)
            thread.start()
            thread.join()
        assert wakes == 1
        await settled()
        assert ended == list(range(100))
        ours.hand_over(one(100))
        await settled()
        assert ended[-1] == 100
        assert not ours.runs

    on_a_pushed_loop(work)


@pytest.mark.parametrize("begun", [True, False])
def test_what_was_handed_over_can_be_cancelled_before_and_after_it_began(*, begun: bool) -> None:
    seen: list[str] = []

    async def work(loop: PushedLoop) -> None:
        ours = Loop(loop)

        async def one() -> None:
            seen.append("begun")
            try:
                await loop.create_future()
            finally:
                seen.append("ended")

        def hand_over() -> None:
            run = ours.hand_over(one())
            if not begun:
                run.cancel()
            runs.append(run)

        runs: list[Run] = []
        thread = threading.Thread(target=hand_over)
        thread.start()
        thread.join()
        await settled()
        runs[0].cancel()
        await settled()
        runs[0].cancel()
        await settled()
        assert not ours.runs

    on_a_pushed_loop(work)
    assert seen == (["begun", "ended"] if begun else [])


def test_a_loop_that_was_closed_takes_nothing_over_and_says_so_each_time() -> None:
    loop = PushedLoop()
    ours = Loop(loop)

    async def one() -> None:
        """Nothing."""

    ours.hand_over(one())  # it will never begin
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            ours.hand_over(one())


# --- a source on such a loop --------------------------------------------------------------------------


FOUND = FetchedBalance({"USD": Holding(free=amount("1"), used=amount("0"), total=amount("1"))})


DEADLINE_S = 8.0


def source_of(
    loop: PushedLoop,
    read: Callable[[float], Awaitable[FetchedBalance]],
    *,
    queue_s: float = 30.0,
    clock: ManualClock | None = None,
    tally: AccountTally | None = None,
) -> AsyncSource:
    async def explain(error: BaseException) -> Fault:
        return Fault(FaultKind.NETWORK, repr(error))

    return AsyncSource(Loop(loop), read, explain, clock or ManualClock(), queue_s=queue_s, tally=tally)


async def outcomes_of(source: AsyncSource, fetches: int = 1) -> list[FetchOutcome]:
    """How so many fetches that begin together end."""
    found: list[FetchOutcome] = []
    ended = asyncio.Event()

    def done(outcome: FetchOutcome) -> None:
        found.append(outcome)
        if len(found) == fetches:
            ended.set()

    for _ in range(fetches):
        source.fetch(DEADLINE_S, done)
    await ended.wait()
    return found


def test_more_accounts_than_the_loop_can_serve_at_once_are_served_one_after_the_other() -> None:
    """Five thousand at once each met their deadline: the loop had begun them all and ended none."""
    under_way, most = 0, 0
    outcomes: list[FetchOutcome] = []

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            nonlocal under_way, most
            del deadline_s
            under_way += 1
            most = max(most, under_way)
            for _ in range(3):
                loop.now_s += 0.001  # what one costs the loop
                await asyncio.sleep(0)
            under_way -= 1
            return FOUND

        outcomes.extend(await outcomes_of(source_of(loop, read), 5_000))

    on_a_pushed_loop(work)
    assert {type(outcome) for outcome in outcomes} == {Balance}
    assert most <= 2 * AT_ONCE


def test_a_process_that_gets_little_of_a_busy_machine_begins_no_more_than_it_can_end() -> None:
    """It gets each answer late. If it began others meanwhile, all would be over after their deadline."""
    under_way, most = 0, 0
    outcomes: list[FetchOutcome] = []

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            nonlocal under_way, most
            del deadline_s
            under_way += 1
            most = max(most, under_way)
            try:
                for _ in range(4):
                    loop.now_s += 0.01  # what one costs where others have most of the cores
                    await asyncio.sleep(0.05)
            finally:
                under_way -= 1
            return FOUND

        outcomes.extend(await outcomes_of(source_of(loop, read, queue_s=60.0), 1_000))

    on_a_pushed_loop(work)
    assert {type(outcome) for outcome in outcomes} == {Balance}
    assert most <= 2 * AT_ONCE


def test_exchanges_that_hang_hold_up_no_other_while_the_loop_is_on_time() -> None:
    begun: list[float] = []

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            begun.append(loop.time())
            await asyncio.sleep(2 * deadline_s)
            return FOUND

        await outcomes_of(source_of(loop, read), 10 * AT_ONCE)

    on_a_pushed_loop(work)
    assert max(begun) - min(begun) < 10 * 2 * SHORT_S


def test_who_finds_no_place_has_not_asked_and_that_is_no_fault() -> None:
    outcomes: list[FetchOutcome] = []

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            await asyncio.sleep(deadline_s / 2)
            return FOUND

        outcomes.extend(await outcomes_of(source_of(loop, read, queue_s=SHORT_S / 2), AT_ONCE + 1))

    on_a_pushed_loop(work)
    assert [type(outcome) for outcome in outcomes] == [NotAsked, *[Balance] * AT_ONCE]
    assert "in the queue of this process" in str(outcomes[0])


@pytest.mark.parametrize(
    ("held_up_s", "kind"),
    [(0.0, Fault), (0.5, Fault), (2.5, NotAsked), (20.0, NotAsked)],
)
def test_a_time_out_while_our_own_loop_was_held_up_is_no_fault_of_the_exchange(
    held_up_s: float, kind: type[object]
) -> None:
    outcomes: list[FetchOutcome] = []

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            await asyncio.sleep(1.0)
            loop.now_s += held_up_s
            await asyncio.sleep(2 * deadline_s)
            return FOUND

        outcomes.extend(await outcomes_of(source_of(loop, read)))

    on_a_pushed_loop(work)
    assert [type(outcome) for outcome in outcomes] == [kind]
    if kind is NotAsked:
        assert "our own event loop was held up for " in str(outcomes[0])


def test_a_loop_that_is_held_up_for_ever_excuses_nothing_for_ever() -> None:
    outcomes: list[FetchOutcome] = []

    async def work(loop: PushedLoop) -> None:
        answers = iter([False] * EXCUSES + [True] + [False] * (EXCUSES + 1))

        async def read(deadline_s: float) -> FetchedBalance:
            if next(answers):
                return FOUND
            loop.now_s += deadline_s
            await asyncio.sleep(2 * deadline_s)
            return FOUND

        source = source_of(loop, read)
        for _ in range(2 * EXCUSES + 2):
            outcomes.extend(await outcomes_of(source))

    on_a_pushed_loop(work)
    excused = [NotAsked] * EXCUSES
    assert [type(outcome) for outcome in outcomes] == [*excused, Balance, *excused, Fault]
    assert "something blocks it" in str(outcomes[-1])


def test_an_error_that_is_no_time_out_counts_though_the_loop_was_held_up() -> None:
    outcomes: list[FetchOutcome] = []

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            del deadline_s
            await asyncio.sleep(1.0)
            loop.now_s += 5.0
            await asyncio.sleep(0)
            raise ConnectionRefusedError

        outcomes.extend(await outcomes_of(source_of(loop, read)))

    on_a_pushed_loop(work)
    assert [type(outcome) for outcome in outcomes] == [Fault]


def test_a_time_out_of_the_call_itself_is_as_neutral_when_the_loop_was_held_up() -> None:
    outcomes: list[FetchOutcome] = []

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            del deadline_s
            await asyncio.sleep(1.0)
            loop.now_s += 5.0
            await asyncio.sleep(0)
            raise OSError("its own word for it") from TimeoutError()

        outcomes.extend(await outcomes_of(source_of(loop, read)))

    on_a_pushed_loop(work)
    assert [type(outcome) for outcome in outcomes] == [NotAsked]


def test_each_fetch_that_the_exchange_was_asked_for_is_timed_and_the_others_are_counted_apart() -> None:
    tally, clock = AccountTally(), ManualClock()
    ends: list[BaseException | None] = [None, ConnectionError("cut"), Refrained(NotAsked("locked out"))]

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            del deadline_s
            clock.advance(0.3)
            end = ends.pop(0)
            if end is not None:
                raise end
            return FOUND

        for _ in range(3):
            await outcomes_of(source_of(loop, read, clock=clock, tally=tally))

    on_a_pushed_loop(work)
    took = tally.fetches.durations()
    assert dict(zip(BUCKETS_S, took.counts, strict=False))[0.5] == 2
    assert sum(took.counts) == 2
    assert took.sum_s == pytest.approx(0.6)
    assert tally.not_made.total == 1


def test_a_fetch_that_meets_its_deadline_took_the_whole_of_it() -> None:
    tally, clock = AccountTally(), ManualClock()

    async def work(loop: PushedLoop) -> None:
        async def read(deadline_s: float) -> FetchedBalance:
            clock.advance(deadline_s)
            await asyncio.sleep(deadline_s + 1)
            return FOUND

        await outcomes_of(source_of(loop, read, clock=clock, tally=tally))

    on_a_pushed_loop(work)
    assert dict(zip(BUCKETS_S, tally.fetches.durations().counts, strict=False))[10.0] == 1


def test_a_loop_that_is_given_up_answers_who_waits_and_takes_no_more_work() -> None:
    loop, let_go, hangs = LoopThread("hung"), threading.Event(), threading.Event()
    closed: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)

    async def closing() -> None:
        closed.append(threading.current_thread().name)

    def block() -> None:
        hangs.set()
        let_go.wait(PATIENCE_S)

    loop.start()
    try:
        until(loop.turned)
        loop.call(block)
        assert hangs.wait(PATIENCE_S)
        loop.turned()
        waiting = loop.submit(work())
        assert not loop.turned(), "it was asked, and cannot answer"
        loop.leave_behind("it hung", closing)
        with pytest.raises(CancelledError):
            waiting.result(PATIENCE_S)
        assert loop.lease.revoked == "it hung"
        for take in (loop.submit, loop.hand_over):
            with pytest.raises(RuntimeError, match="it hung"):
                take(work())
        with pytest.raises(RuntimeError, match="it hung"):
            loop.submit_shielded(work(), lambda: True)
        assert not closed
    finally:
        let_go.set()
    until(lambda: loop.ended)
    assert closed == ["hung"], "on its own thread, when it woke"


def test_a_loop_that_turns_says_so_each_time_it_is_asked() -> None:
    loop = LoopThread("turning")
    loop.start()
    try:
        for _ in range(3):
            until(loop.turned)
    finally:
        assert loop.stop(PATIENCE_S)
    assert loop.ended
