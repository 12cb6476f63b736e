"""Event loops that hang: said, replaced, and given up, with the accounts and the orders on them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import ccxt.async_support as ccxt_async
import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.cluster.broker import Broker
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import (
    CouldNotAsk,
    EarlierOrderUnknown,
    InsideLane,
    OrderNotSent,
    OrderStateUnknown,
)
from brokerwatch.gateway.loop import LoopThread
from brokerwatch.messages import Reason
from brokerwatch.orders import following
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import (
    PATIENCE_S,
    Till,
    cluster_of,
    simulated_spec,
    until,
    wait_for_reading,
)
from tests.support.desks import LOOKUP_PATHS, ORDER_PATHS, SYMBOLS, rich
from tests.support.hung_loops import Block, loop_of
from tests.support.own_instances import cluster_on, own

HEARTBEAT_S = 0.1
"""A loop that hangs is found in 1.4 s."""
LONGER_HEARTBEAT_S = 0.5
"""With it `loop` is the reason for a second before the loop is replaced, and not for 0.2 s."""
MARKETS_PATH = "GET /0/public/AssetPairs"
KINDS = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)


@contextmanager
def trading(
    exchange: SimulatedExchange, *, heartbeat_s: float = HEARTBEAT_S, **values: Any
) -> Generator[tuple[Cluster, Broker]]:
    """A cluster with one account there that may trade, and has answered."""
    chosen: dict[str, Any] = {"fetch_deadline_s": 2.0, "poll_interval_s": 0.2, **values}
    with (
        serve(rich(exchange)),
        cluster_of(
            simulated_spec(exchange, "mine", trading=True, **chosen),
            heartbeat_s=heartbeat_s,
            status_interval_s=float("inf"),
        ) as cluster,
    ):
        broker = cluster.broker("mine")
        until(partial(knows_its_balance, broker))
        broker.get_all_products()
        yield cluster, broker


def buys(broker: Broker) -> Any:
    symbol = SYMBOLS[broker.exchange]
    return broker.place_market_order(symbol, "buy", quote_amount=Decimal(50), validate_only=False)


def knows_its_balance(broker: Broker) -> bool:
    return broker.is_available() and broker.reading().age_ms is not None


def has_ended(loop: LoopThread) -> Callable[[], bool]:
    return lambda: loop.ended


def test_its_accounts_are_out_with_the_reason_and_come_back_by_themselves_on_another_loop() -> None:
    exchange = SimulatedKraken()
    with (
        # The deadline: no fetch that hangs with the loop counts before it is found.
        trading(exchange, heartbeat_s=LONGER_HEARTBEAT_S, fetch_deadline_s=10.0) as (cluster, broker),
        Listener(cluster.health_endpoint) as listener,
        ThreadPoolExecutor(1) as caller,
    ):
        wait_for_reading(listener, "mine", lambda reading: reading.available)
        old = loop_of(cluster)
        with Block(old.asyncio_loop) as block:
            block.hang()
            before = broker.reading().as_of
            waiting = caller.submit(buys, broker)
            outside = wait_for_reading(listener, "mine", lambda reading: not reading.available)
            assert outside.reason is Reason.LOOP
            assert "brokerwatch-exchanges" in outside.detail
            assert outside.error_count == 0, "the exchange did nothing wrong"
            back = wait_for_reading(listener, "mine", lambda reading: reading.available)
            until(broker.is_available)
            new = loop_of(cluster)
            assert new is not old
            assert back.as_of is not None
            assert before is not None
            assert back.as_of.wall_us > before.wall_us, "it has answered since"
            assert broker.get_account_balance() > 0
            assert broker.get_all_products()
            lent = own(exchange, ccxt_async)
            venue = cluster._members.wired.accounts["mine"].access.venue  # pyright: ignore[reportPrivateUsage] - only exchanges without an adapter need the list in their instance
            new.submit(venue.lend_markets(lent)).result(PATIENCE_S)
            assert "BTC/USD" in lent.markets
            assert exchange.calls_to(MARKETS_PATH) == 1, "the markets are known, and not asked for again"
            with pytest.raises(OrderNotSent):  # its turn had not come
                waiting.result(PATIENCE_S)
            assert block.is_blocked
        until(has_ended(old))
        assert broker.get_error_count() == 0
        assert broker.is_available()
        assert exchange.calls_to(ORDER_PATHS["kraken"]) == 0, "what waited there is not sent when it wakes"
        assert buys(broker).order_id


def test_a_loop_that_comes_back_in_time_is_not_replaced_and_its_accounts_are_asked_anew() -> None:
    till = Till()
    # The loop of a callable is replaced only once the callable's own deadline is over.
    spec = BrokerSpec("mine", fetch=till, poll_interval_s=0.1, fetch_deadline_s=PATIENCE_S)
    with cluster_of(spec, heartbeat_s=HEARTBEAT_S) as cluster:
        broker, loop = cluster.broker("mine"), loop_of(cluster, "sources")
        until(lambda: till.fetches > 1)
        with Block(loop.asyncio_loop) as block:
            block.hang()
            until(lambda: broker.reading().reason is Reason.LOOP)
            hung_us = broker.reading().since_us
        until(broker.is_available)
        as_of = broker.reading().as_of
        assert as_of is not None
        assert as_of.wall_us > hung_us
        assert loop_of(cluster, "sources") is loop


def test_a_callable_that_blocks_takes_only_the_accounts_of_its_own_loop_with_it() -> None:
    exchange, let_go, blocks = SimulatedKraken(), threading.Event(), threading.Event()

    async def fetch() -> Mapping[str, str]:
        if blocks.is_set() and not let_go.is_set():
            blocks.clear()  # once
            let_go.wait(PATIENCE_S)
        return {"USD": "7"}

    own_specs = [
        BrokerSpec(name, fetch=one, poll_interval_s=0.1, fetch_deadline_s=1.0)
        for name, one in (("a", fetch), ("b", Till()))
    ]
    with serve(exchange):
        other = simulated_spec(exchange, "c", poll_interval_s=0.2)
        try:
            with cluster_of(*own_specs, other, heartbeat_s=LONGER_HEARTBEAT_S) as cluster:
                brokers = [cluster.broker(name) for name in "abc"]
                until(lambda: all(each.reading().age_ms is not None for each in brokers))
                seen: list[Reason] = []
                old = loop_of(cluster, "sources")
                blocks.set()
                until(lambda: all(each.reading().reason is Reason.LOOP for each in brokers[:2]))
                seen.append(brokers[2].reading().reason)
                until(lambda: all(each.is_available() for each in brokers))
                assert loop_of(cluster, "sources") is not old
                assert seen == [Reason.OK]
                let_go.set()
                until(has_ended(old))
        finally:
            let_go.set()


def test_an_order_under_way_is_settled_before_another_one_goes_out_and_is_never_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "FIRST_LOOK_S", PATIENCE_S)  # what looks an order up is the next order
    exchanges = {kind().ccxt_id: kind() for kind in KINDS}
    with serve(*map(rich, exchanges.values())), ThreadPoolExecutor(3) as callers:
        specs = [
            # The deadline: the loop is replaced before the orders are given up.
            simulated_spec(exchange, name, trading=True, fetch_deadline_s=20.0, poll_interval_s=0.2)
            for name, exchange in exchanges.items()
        ]
        with cluster_of(*specs, heartbeat_s=HEARTBEAT_S, status_interval_s=float("inf")) as cluster:
            brokers = {name: cluster.broker(name) for name in exchanges}
            for broker in brokers.values():
                until(partial(knows_its_balance, broker))
                broker.get_all_products()
            old = loop_of(cluster)
            with Block(old.asyncio_loop) as block:
                under_way: dict[str, Future[Any]] = {}
                for name, exchange in exchanges.items():
                    exchange.set_fault("hang", path=ORDER_PATHS[name], executed=True, times=1)
                    under_way[name] = callers.submit(buys, brokers[name])
                until(lambda: all(exchange.placed_orders == 1 for exchange in exchanges.values()))
                block.hang()
                for name, exchange in exchanges.items():
                    with pytest.raises(OrderStateUnknown, match="hung and was replaced"):
                        under_way[name].result(PATIENCE_S)
                    until(brokers[name].is_available)
                    looked_up = sum(map(exchange.calls_to, LOOKUP_PATHS[name]))
                    assert buys(brokers[name]).order_id
                    assert sum(map(exchange.calls_to, LOOKUP_PATHS[name])) > looked_up
                    assert exchange.placed_orders == 2
            until(has_ended(old))
            for name, exchange in exchanges.items():
                assert exchange.calls_to(ORDER_PATHS[name]) == 2, "the old loop sends nothing when it wakes"
                assert buys(brokers[name]).order_id
                assert brokers[name].get_error_count() == 0, "no number was too low for the exchange"


def test_an_order_that_was_about_to_be_written_is_not_written_when_the_loop_wakes() -> None:
    exchange = SimulatedKraken()
    order_path = ORDER_PATHS["kraken"]
    with trading(exchange) as (cluster, broker), ThreadPoolExecutor(1) as caller:
        old = loop_of(cluster)
        instance = cluster._members.wired.accounts["mine"].access.connection.instance  # pyright: ignore[reportPrivateUsage] - there is no other way to hang it just there
        sign = instance.sign
        with Block(old.asyncio_loop) as block:

            def hangs_after_it_was_signed(path: str, *rest: Any) -> Any:
                signed = sign(path, *rest)
                if path == "AddOrder":
                    # Before the task in which aiohttp writes the body has its turn.
                    block.hang_soon()
                return signed

            instance.sign = hangs_after_it_was_signed
            lost = caller.submit(buys, broker)
            with pytest.raises(OrderStateUnknown):
                lost.result(PATIENCE_S)
            until(broker.is_available)
            with pytest.raises(EarlierOrderUnknown):
                buys(broker)  # for a minute it may still arrive
            assert exchange.calls_to(order_path) == 0
        until(has_ended(old))
        assert exchange.calls_to(order_path) == 0
        assert broker.forget_order(
            cluster._members.wired.accounts["mine"].executor.lost()[0].request.client_order_id  # pyright: ignore[reportPrivateUsage] - the caller was given no id
        )
        assert buys(broker).order_id
        assert exchange.placed_orders == 1


def test_an_exit_after_the_change_looks_first_and_waits_for_nothing() -> None:
    exchange = SimulatedKraken()
    with trading(exchange) as (cluster, broker), ThreadPoolExecutor(1) as caller:
        old = loop_of(cluster)
        with Block(old.asyncio_loop) as block:
            exchange.set_fault("hang", path=ORDER_PATHS["kraken"], times=1)  # it never arrives
            first = caller.submit(buys, broker)
            until(lambda: exchange.calls_to(ORDER_PATHS["kraken"]) == 1)
            block.hang()
            with pytest.raises(OrderStateUnknown):
                first.result(PATIENCE_S)
            looked_up = sum(map(exchange.calls_to, LOOKUP_PATHS["kraken"]))
            sold = broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
            assert sold.order_id
            assert sum(map(exchange.calls_to, LOOKUP_PATHS["kraken"])) > looked_up


def test_the_traders_own_turn_in_the_lane_goes_on_over_the_change() -> None:
    exchange = SimulatedKraken()
    with trading(exchange) as (cluster, broker), ThreadPoolExecutor(1) as caller:
        old = loop_of(cluster)
        with Block(old.asyncio_loop) as block:
            with broker.lane() as turn:
                low = turn.nonce()
                block.hang()
                until(lambda: loop_of(cluster) is not old)
                with pytest.raises(InsideLane):
                    broker.find_order("BTC/USD", "none-of-ours")
                asked = exchange.private_calls
                waiting = caller.submit(broker.find_order, "BTC/USD", "none-of-ours", timeout_s=0.5)
                with pytest.raises(CouldNotAsk, match=r"0\.5 s"):
                    waiting.result(PATIENCE_S)
                assert exchange.private_calls == asked, "no other call uses the key meanwhile"
            until(broker.is_available)
            with broker.lane() as turn:
                assert turn.nonce() > low


class FullPipe(logging.Handler):
    """A log that blocks the thread of one loop, and with it every other thread that logs."""

    def __init__(self, block: Block, name: str) -> None:
        super().__init__()
        self.block, self.blocked = block, name

    def emit(self, record: logging.LogRecord) -> None:
        if threading.current_thread().name == self.blocked:
            self.block.here()


def test_a_loop_that_is_blocked_by_the_log_is_said_to_hang_before_that_is_logged() -> None:
    log = logging.getLogger("brokerwatch.test")
    with trading(SimulatedKraken(), heartbeat_s=LONGER_HEARTBEAT_S) as (cluster, broker):
        old = loop_of(cluster)
        with Block(old.asyncio_loop) as block:
            pipe = FullPipe(block, old.name)
            logging.getLogger().addHandler(pipe)
            try:
                old.call(partial(log.warning, "the pipe is full"))
                until(lambda: broker.reading().reason is Reason.LOOP)
                assert block.is_blocked
            finally:
                block.let_go.set()
                logging.getLogger().removeHandler(pipe)
        until(broker.is_available)


def test_a_loop_of_the_traders_own_is_watched_and_never_replaced() -> None:
    exchange = SimulatedKraken()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with serve(exchange):
            mine = own(exchange, ccxt_async)
            mine.asyncio_loop = loop
            with cluster_on(mine, poll_interval_s=0.2) as cluster:
                broker = cluster.broker("mine")
                until(lambda: broker.reading().age_ms is not None)
                with Block(loop) as block:
                    block.hang()
                    until(lambda: broker.reading().reason is Reason.LOOP)
                    hung_us = broker.reading().since_us
                    asked = exchange.private_calls
                    free = dict.fromkeys(("USD", "USDT", "BTC", "ETH"), 7.0)
                    used = dict.fromkeys(free, 0.0)
                    seen = {"free": free, "used": used, "total": free}
                    broker.observe(seen, asked_s=time.monotonic())
                    until(lambda: (broker.reading().as_of_us or 0) > hung_us)
                    version = broker.reading().version
                    until(lambda: broker.reading().version > version + 1)  # heartbeats
                    assert broker.reading().reason is Reason.LOOP, "our own calls would hang all the same"
                until(broker.is_available)
                as_of = broker.reading().as_of
                assert as_of is not None
                assert as_of.wall_us > hung_us
                assert exchange.private_calls > asked
                assert not cluster.hung
            asyncio.run_coroutine_threadsafe(mine.close(), loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_blocking_instance_of_the_traders_own_is_asked_on_another_loop_too() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange), poll_interval_s=0.2) as cluster:
        broker = cluster.broker("mine")
        until(lambda: broker.reading().age_ms is not None)
        old = loop_of(cluster)
        with Block(old.asyncio_loop) as block:
            block.hang()
            until(lambda: broker.reading().reason is Reason.LOOP)
            until(broker.is_available)
            assert loop_of(cluster) is not old
            assert broker.get_account_balance() > 0


@pytest.mark.parametrize("missing", ["thread", "descriptor"])
def test_where_it_cannot_be_replaced_the_accounts_have_failed_and_their_calls_raise_at_once(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = SimulatedKraken()
    begin, made = threading.Thread.start, asyncio.new_event_loop
    with trading(exchange) as (cluster, broker), ThreadPoolExecutor(1) as caller:
        known, old = broker.get_account_balance(), loop_of(cluster)

        def no_thread(thread: threading.Thread) -> None:
            if thread.name == old.name:
                raise RuntimeError("can't start new thread")
            begin(thread)

        def no_loop() -> asyncio.AbstractEventLoop:
            if threading.current_thread() is not threading.main_thread():
                raise OSError(errno.EMFILE, "Too many open files")
            return made()

        with Block(old.asyncio_loop) as block, monkeypatch.context() as patch:
            if missing == "thread":
                patch.setattr(threading.Thread, "start", no_thread)
            else:
                patch.setattr(asyncio, "new_event_loop", no_loop)
            block.hang()
            waiting = caller.submit(broker.get_candles, "BTC/USD")
            until(lambda: broker.reading().reason is Reason.FAILED)
            assert "gave" in broker.reading().detail or "given up" in broker.reading().detail
            with pytest.raises(CouldNotAsk, match="given up"):
                waiting.result(PATIENCE_S)
            assert "given up" in cluster.hung
            for call in (
                lambda: broker.get_candles("BTC/USD"),
                broker.get_positions,
                lambda: broker.find_order("BTC/USD", "none-of-ours"),
                lambda: broker.lane().__enter__(),
                lambda: asyncio.run(broker.aio.get_candles("BTC/USD")),
            ):
                with pytest.raises(CouldNotAsk, match="given up"):
                    call()
            with pytest.raises(OrderNotSent, match="given up"):
                buys(broker)
            assert broker.get_account_balance() == known, "the last known is known all the same"
            patch.undo()
            assert "another event loop" in cluster.reset("mine")
            until(broker.is_available)
            assert not cluster.hung
            assert buys(broker).order_id
        until(has_ended(old))


def test_a_cluster_with_a_loop_that_hangs_stops_all_the_same() -> None:
    exchange = SimulatedKraken()
    with trading(exchange) as (cluster, _):
        old = loop_of(cluster)
        with Block(old.asyncio_loop) as block:
            block.hang()
            until(lambda: loop_of(cluster) is not old)
            begun_s = time.monotonic()
            cluster.stop()
            assert time.monotonic() - begun_s < PATIENCE_S
            with contextlib.suppress(CouldNotAsk):
                assert cluster.broker("mine").reading().reason is Reason.SHUTDOWN
