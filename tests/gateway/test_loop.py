"""The limit of a loop and its pulse, on a loop whose time is pushed: nothing here waits."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.gateway.async_source import EXCUSES, AsyncSource, FetchedBalance
from brokerwatch.gateway.load import AT_ONCE, LONG_S, SHORT_S, CallLimiter, LagMonitor
from brokerwatch.gateway.loop import Loop, Run
from brokerwatch.health.outcome import FetchOutcome, NotAsked
from brokerwatch.messages import Balance, Fault, FaultKind, Holding, amount


class PushedLoop(asyncio.SelectorEventLoop):
    """A loop that never waits: when it has nothing to do, its time moves on to the next timer."""

    BEGIN_S = 1_000.0

    def __init__(self) -> None:
        self.now_s = self.BEGIN_S
        super().__init__(_Jumps(self))

    def time(self) -> float:
        return self.now_s


class _Jumps(selectors.SelectSelector):
    def __init__(self, loop: PushedLoop) -> None:
        super().__init__()
        self._pushed = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and nobody will ever come"
            self._pushed.now_s += timeout
        return ready


def on_a_pushed_loop(work: Callable[[PushedLoop], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=PushedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, PushedLoop)
        runner.run(work(loop))


async def settled() -> None:
    """Let everything run that can run now."""
    for _ in range(10):
        await asyncio.sleep(0)


def begin(places: CallLimiter, count: int, wait_s: float = 30.0) -> list[asyncio.Task[int]]:
    return [asyncio.ensure_future(places.take(wait_s)) for _ in range(count)]


def number_of(tasks: list[asyncio.Task[int]]) -> int:
    return sum(task.done() for task in tasks)


def test_no_more_than_the_limit_are_under_way_and_each_end_lets_in_the_next_who_came() -> None:
    async def work(loop: PushedLoop) -> None:
        places = CallLimiter(loop)
        first, second = begin(places, AT_ONCE), begin(places, 3)
        await settled()
        assert (number_of(first), number_of(second)) == (AT_ONCE, 0)
        places.give_back(first[5].result())
        await settled()
        assert [task.done() for task in second] == [True, False, False]
        for task in first:
            places.give_back(task.result())
        await asyncio.gather(*second)

    on_a_pushed_loop(work)


def test_exchanges_that_hang_hold_up_the_others_for_a_short_time_only() -> None:
    async def work(loop: PushedLoop) -> None:
        places, began_s = CallLimiter(loop), loop.time()
        hanging, others = begin(places, 3 * AT_ONCE), begin(places, 1)
        await asyncio.gather(*others)
        assert number_of(hanging) == 3 * AT_ONCE
        assert loop.time() - began_s == pytest.approx(3 * SHORT_S)

    on_a_pushed_loop(work)


def test_a_busy_loop_lets_nobody_in_for_age_until_they_have_had_their_places_for_long() -> None:
    async def work(loop: PushedLoop) -> None:
        places, began_s = CallLimiter(loop), loop.time()
        first, others = begin(places, AT_ONCE), begin(places, 1)
        await settled()
        while not number_of(others):
            # Each round takes the loop longer than it has.
            loop.now_s += 2 * SHORT_S
            await settled()
        assert number_of(first) == AT_ONCE
        assert LONG_S <= loop.time() - began_s < LONG_S + 4 * SHORT_S

    on_a_pushed_loop(work)


def test_who_finds_no_place_in_time_is_told_so_and_stands_in_nobodys_way() -> None:
    async def work(loop: PushedLoop) -> None:
        places = CallLimiter(loop)
        first, given_up, others = begin(places, AT_ONCE), begin(places, 1, SHORT_S / 2), begin(places, 1)
        with pytest.raises(TimeoutError):
            await given_up[0]
        assert number_of(others) == 0
        places.give_back(first[0].result())
        await settled()
        assert number_of(others) == 1

    on_a_pushed_loop(work)


def test_a_place_that_comes_to_somebody_who_has_just_gone_is_passed_on() -> None:
    async def work(loop: PushedLoop) -> None:
        places = CallLimiter(loop)
        first, gone, others = begin(places, AT_ONCE), begin(places, 1), begin(places, 1)
        await settled()
        places.give_back(first[0].result())
        gone[0].cancel()
        await settled()
        assert number_of(others) == 1

    on_a_pushed_loop(work)


def test_a_place_that_was_taken_away_cannot_be_given_back_a_second_time() -> None:
    async def work(loop: PushedLoop) -> None:
        places = CallLimiter(loop)
        first = begin(places, AT_ONCE)
        later = begin(places, AT_ONCE)
        await asyncio.gather(*later)
        for task in first:
            places.give_back(task.result())
        more = begin(places, 1)
        await settled()
        assert number_of(more) == 0, "those who came later have all places"
        places.give_back(later[0].result())
        await asyncio.gather(*more)

    on_a_pushed_loop(work)


def test_the_pulse_counts_what_blocks_the_loop_and_nothing_else() -> None:
    async def work(loop: PushedLoop) -> None:
        pulse = LagMonitor(loop)
        since = pulse.listen()
        await asyncio.sleep(5.0)
        assert pulse.held_up_s(since) == 0.0
        loop.now_s += 3.0
        assert pulse.held_up_s(since) == pytest.approx(3.0, abs=0.3)
        await asyncio.sleep(5.0)
        assert pulse.held_up_s(since) == pytest.approx(3.0, abs=0.3)
        loop.now_s += 2.0
        assert pulse.held_up_s(pulse.listen()) == 0.0, "what was before is nothing to somebody who comes now"
        assert pulse.held_up_s(since) == pytest.approx(5.0, abs=0.6)
        pulse.leave()
        pulse.leave()

    on_a_pushed_loop(work)


def test_nobody_wakes_the_machine_when_nobody_listens() -> None:
    loop = PushedLoop()
    pulse = LagMonitor(loop)
    pulse.listen()
    pulse.leave()
    with pytest.raises(AssertionError, match="everybody waits"):
        loop.run_forever()
    assert loop.time() == PushedLoop.BEGIN_S
    loop.close()


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

    ours.hand_over(one())  # nobody will ever begin it
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            ours.hand_over(one())


# --- a source on such a loop --------------------------------------------------------------------------

FOUND = FetchedBalance({"USD": Holding(free=amount("1"), used=amount("0"), total=amount("1"))})
DEADLINE_S = 8.0


def source_of(
    loop: PushedLoop, read: Callable[[float], Awaitable[FetchedBalance]], *, queue_s: float = 30.0
) -> AsyncSource:
    async def explain(error: BaseException) -> Fault:
        return Fault(FaultKind.NETWORK, repr(error))

    return AsyncSource(Loop(loop), read, explain, ManualClock(), queue_s=queue_s)


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
