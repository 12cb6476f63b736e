"""A turn in the lane of a key for the trader's own calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any

import ccxt.async_support as ccxt_async
import pytest

from brokerwatch.cluster.broker import Broker
from brokerwatch.errors import (
    BalanceUnknown,
    CouldNotAsk,
    InsideLane,
    OrderNotSent,
)
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import until
from tests.support.own_instances import cluster_on, own

# --- the trader's own calls --------------------------------------------------------------------------


def test_calls_of_the_trader_s_own_share_nonces_and_the_lane() -> None:
    """Kraken refuses a nonce that does not rise: two clients on one key lose many calls in ten."""
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        try:
            async with cluster_on(mine, poll_interval_s=0.02) as cluster:
                broker = cluster.broker("mine")
                ours = 0
                while ours < 20 or (exchange.private_calls < ours + 5 and ours < 2_000):
                    async with broker.lane() as turn:
                        assert turn.exchange is mine
                        await mine.fetch_balance()
                    ours += 1
                assert broker.get_error_count() == 0
                assert exchange.private_calls >= ours + 5, "polls went on between them"
        finally:
            await mine.close()

    with serve(exchange):
        asyncio.run(story())


def test_the_lane_is_held_by_one_at_a_time_also_from_threads() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine, poll_interval_s=0.02) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            with broker.lane():
                before = exchange.private_calls
                mine.fetch_balance()
                assert exchange.private_calls == before + 1, "no other call was made meanwhile"
            until(lambda: exchange.private_calls > before + 1)


def test_a_lane_that_is_left_by_an_error_is_free_again() -> None:
    exchange = SimulatedOkx()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        with pytest.raises(ZeroDivisionError), broker.lane():
            raise ZeroDivisionError
        assert broker.get_account_balance()


def test_without_a_turn_the_reason_is_told() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        exchange.set_fault("locked_out")
        broker = cluster.broker("mine")
        with pytest.raises(BalanceUnknown):
            broker.get_account_balance()
        with pytest.raises(CouldNotAsk, match="lockout"):
            broker.lane().__enter__()


def test_a_turn_inside_a_turn_is_refused_at_once_and_free_afterwards() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster, ThreadPoolExecutor(1) as pool:
        broker = cluster.broker("mine")
        with broker.lane():
            with pytest.raises(InsideLane, match="outside the block"):
                broker.lane().__enter__()
            other = pool.submit(broker.lane().__enter__)
            assert not other.done(), "another thread waits for the end of the turn"
        turn = other.result(10)
        turn.__exit__(None, None, None)
        with broker.lane():
            pass


def cash_in_a_turn(broker: Broker) -> Coroutine[Any, Any, Decimal | None]:
    """The turn is made here, and entered where the result is awaited."""
    turn = broker.lane()

    async def enter() -> Decimal | None:
        async with turn:
            return broker.reading().cash

    return enter()


@pytest.mark.parametrize("begin", [cash_in_a_turn, Broker.fetch_balance], ids=["a turn", "a balance"])
def test_a_task_that_was_begun_inside_a_turn_waits_for_its_end(
    begin: Callable[[Broker], Coroutine[Any, Any, Decimal | None]],
) -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        async with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            known = await broker.fetch_balance()
            async with broker.lane():
                begun = asyncio.create_task(begin(broker))
                for question in (broker.fetch_balance, broker.aio.get_positions, broker.lane().__aenter__):
                    with pytest.raises(InsideLane):
                        await question()
                for _ in range(3):  # longer than the task would take if it did not wait
                    await mine.fetch_balance()
                assert not begun.done()
            assert await begun == known
        await mine.close()

    with serve(exchange):
        asyncio.run(story())


def test_what_would_wait_for_the_end_of_its_own_turn_is_refused_at_once() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine, trading=True) as cluster, ThreadPoolExecutor(1) as pool:
            broker = cluster.broker("mine")
            known = broker.get_account_balance()
            broker.get_all_products()
            sent = exchange.private_calls
            amount = Decimal("0.1")
            questions: list[Callable[[], object]] = [
                broker.get_account_balance,
                broker.get_account_balance_detailed,
                broker.get_positions,
                partial(broker.find_order, "BTC/USD", "a" * 32),
                broker.lane().__enter__,
            ]
            orders: list[Callable[[], object]] = [
                partial(broker.place_market_order, "BTC/USD", "buy", base_amount=amount, validate_only=False),
                partial(broker.close_position, "BTC/USD", base_amount=amount, validate_only=False),
            ]
            with broker.lane():
                for question in (*questions, *orders):
                    with pytest.raises(CouldNotAsk, match=r"outside the block") as refused:
                        question()
                    assert isinstance(refused.value, InsideLane)
                for order in orders:
                    with pytest.raises(OrderNotSent):
                        order()
                assert broker.normalize_symbol("BTC-USD") == "BTC/USD", "it needs no turn"
                assert (broker.is_available(), broker.reading().cash) == (True, known)
                assert exchange.private_calls == sent
                other = pool.submit(broker.get_account_balance)
                assert mine.fetch_balance()
                assert not other.done(), "another thread waits for the end of the turn"
            assert other.result(10) == known
            assert broker.get_account_balance() == known, "after the block it is as before"
