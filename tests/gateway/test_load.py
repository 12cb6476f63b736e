"""How many calls run at once on one loop, and whether the loop is late."""

from __future__ import annotations

import asyncio

import pytest

from brokerwatch.gateway.load import AT_ONCE, LONG_S, LONGEST_S, SHORT_S, TURNS, CallLimiter, LagMonitor
from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop, settled


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
            # Each round takes the loop longer than it has: each look at the places is late by SHORT_S.
            loop.now_s += 2 * SHORT_S
            await settled()
        assert number_of(first) == AT_ONCE
        assert LONG_S < TURNS * SHORT_S < LONGEST_S
        assert TURNS * SHORT_S <= loop.time() - began_s < TURNS * SHORT_S + 4 * SHORT_S

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
        assert pulse.held_up_s(pulse.listen()) == 0.0, "what was before does not count for a new listener"
        assert pulse.held_up_s(since) == pytest.approx(5.0, abs=0.6)
        pulse.leave()
        pulse.leave()

    on_a_pushed_loop(work)


def test_nobody_wakes_the_machine_when_nobody_listens() -> None:
    loop = PushedLoop()
    pulse = LagMonitor(loop)
    pulse.listen()
    pulse.leave()
    with pytest.raises(AssertionError, match="no timer"):
        loop.run_forever()
    assert loop.time() == PushedLoop.BEGIN_S
    loop.close()
