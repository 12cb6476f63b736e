"""The two handles of a broker: both wait for the same answers, and never longer than they are told to."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from brokerwatch.errors import (
    ClusterStopped,
    OrderNotSent,
    OrderStateUnknown,
)
from brokerwatch.messages import OrderState
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.desks import FIFTY, KINDS, LOOKUP_PATHS, Desk, Opened, lose, rich


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.ccxt_id))
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    with Opened(rich(request.param())) as found:
        yield found


def test_whoever_stops_waiting_for_an_order_is_told_that_it_may_have_been_placed() -> None:
    with Opened(rich(SimulatedKraken()), fetch_deadline_s=6.0) as desk:
        desk.broker.get_all_products()
        desk.exchange.set_fault("hang", path=desk.order_path, executed=True)
        with pytest.raises(OrderStateUnknown) as unknown:
            desk.buy(timeout_s=4.0)
        until(lambda: not desk.broker.reading().overtaken)
        assert desk.broker.find_order(desk.symbol, unknown.value.client_order_id) is not None
        assert desk.placed == 1


def test_a_task_that_is_cancelled_does_not_leave_the_order_uncounted(desk: Desk) -> None:
    desk.exchange.set_fault("hang", path=desk.order_path, executed=True)

    async def story() -> None:
        task = asyncio.create_task(
            desk.broker.aio.place_market_order(
                desk.symbol, "buy", quote_amount=FIFTY, validate_only=False, client_order_id="cancelled1"
            )
        )
        await asyncio.to_thread(until, lambda: desk.exchange.calls_to(desk.order_path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    until(lambda: not desk.broker.reading().overtaken)
    assert desk.broker.find_order(desk.symbol, "cancelled1") is not None


def test_everything_can_be_awaited_too(desk: Desk) -> None:
    async def story() -> None:
        aio = desk.broker.aio
        assert await aio.get_account_balance() == desk.broker.reading().cash
        assert (await aio.get_account_balance_detailed()).broker == desk.broker.name
        assert await aio.normalize_symbol(desk.symbol.replace("/", "-")) == desk.symbol
        assert await aio.normalize_symbol_for_broker(desk.symbol, desk.exchange.ccxt_id) == desk.symbol
        assert await aio.supports_symbol(desk.symbol)
        assert len(await aio.get_candles(desk.symbol, "1m", 3)) == 3
        assert await aio.get_positions()
        assert await aio.get_all_products()
        order = await aio.place_market_order(desk.symbol, "buy", quote_amount=FIFTY, validate_only=False)
        found = await aio.find_order(desk.symbol, order.client_order_id)
        assert found is not None
        assert found.order_id == order.order_id
        assert (await aio.close_position(desk.symbol, validate_only=False)).order_id

    asyncio.run(story())
    assert desk.placed == 2


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), "5", True])
def test_a_wait_that_cannot_be_is_an_error_before_anything_is_sent(desk: Desk, timeout_s: Any) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        desk.buy(timeout_s=timeout_s)
    assert desk.placed == 0
    assert desk.buy(timeout_s=float("inf")).state is OrderState.ACCEPTED


def test_a_handle_that_was_taken_before_the_start_works_after_it_and_says_so_before() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        cluster = cluster_of(simulated_spec(exchange, trading=True), status_interval_s=float("inf"))
        broker = cluster.broker("kraken-test")
        with pytest.raises(ClusterStopped, match="not been started"):
            broker.get_all_products()
        with cluster:
            broker.get_account_balance()
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
        with pytest.raises(ClusterStopped):
            broker.get_all_products()
    assert exchange.placed_orders == 1


def test_an_order_whose_turn_does_not_come_in_time_is_withdrawn(desk: Desk) -> None:
    desk.broker.get_all_products()
    with desk.broker.lane(), ThreadPoolExecutor(1) as elsewhere:
        waiting = elsewhere.submit(desk.buy, timeout_s=0.2)
        assert isinstance(waiting.exception(), OrderNotSent)
    desk.broker.get_positions()  # its turn comes after that of the order
    assert desk.exchange.calls_to(desk.order_path) == 0


def test_orders_that_were_withdrawn_hold_up_no_exit() -> None:
    with Opened(rich(SimulatedKraken()), fetch_deadline_s=10.0) as desk:
        desk.broker.get_all_products()
        lose(desk, executed=False)
        desk.exchange.set_fault("reset", path=desk.order_path, times=1)
        with pytest.raises(OrderStateUnknown):
            desk.buy()
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("hang", path=path)
        for _ in range(5):
            with pytest.raises(OrderNotSent, match="withdrawn"):
                desk.buy(timeout_s=0.1)
        sold = desk.broker.close_position(
            desk.symbol, base_amount=Decimal("0.1"), validate_only=False, timeout_s=9.0
        )
        assert sold.state is OrderState.ACCEPTED


def test_a_task_that_is_cancelled_before_its_turn_orders_nothing(desk: Desk) -> None:
    async def story() -> None:
        await desk.broker.aio.get_all_products()
        async with desk.broker.lane():
            task = asyncio.create_task(
                desk.broker.aio.place_market_order(
                    desk.symbol, "buy", quote_amount=FIFTY, validate_only=False
                ),
                context=contextvars.Context(),
            )
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await desk.broker.aio.get_positions()

    asyncio.run(story())
    assert desk.exchange.calls_to(desk.order_path) == 0
