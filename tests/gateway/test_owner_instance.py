"""Exchange objects that a trader has already: asked where they live, never closed, their calls counted."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any

import aiohttp
import ccxt
import ccxt.async_support as ccxt_async
import msgspec
import pytest
import requests

from brokerwatch.clock import SystemClock
from brokerwatch.cluster.broker import Broker
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.observation import asked_at
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import (
    BalanceUnknown,
    BlockingCallInLoop,
    ClusterStopped,
    ConfigError,
    CouldNotAsk,
    InsideLane,
    OrderNotSent,
)
from brokerwatch.exchanges.faults import Failure
from brokerwatch.gateway.call_thread import CallThread, NeverStarted
from brokerwatch.gateway.http_sessions import Sessions
from brokerwatch.gateway.owner_instance import borrow_async, borrow_sync
from brokerwatch.messages import CapabilityState
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import ONLY_WHEN_ASKED, until

KINDS = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)


def options(exchange: SimulatedExchange) -> dict[str, Any]:
    given = exchange.credentials
    return {
        "apiKey": given["api_key"],
        "secret": given["secret"],
        "password": given.get("password"),
        "enableRateLimit": False,
        "timeout": 2_000,
        # The default of Coinbase is the older API, which states no holds.
        **(
            {"options": {"fetchBalance": "v3PrivateGetBrokerageAccounts"}}
            if exchange.ccxt_id == "coinbase"
            else {}
        ),
        **exchange.ccxt_options(),
    }


def own(exchange: SimulatedExchange, library: Any = ccxt) -> Any:
    return getattr(library, exchange.ccxt_id)(options(exchange))


def attributes(instance: Any) -> dict[str, Any]:
    """What an instance holds, but for where its nonces come from."""
    held: dict[str, Any] = dict(instance.__dict__)
    held.pop("nonce", None)
    return held


def cluster_on(instance: Any, **values: Any) -> Cluster:
    chosen: dict[str, Any] = {"poll_interval_s": ONLY_WHEN_ASKED, "fetch_deadline_s": 1.0, **values}
    settings = ClusterSettings(
        heartbeat_s=0.1,
        health_endpoint="tcp://127.0.0.1:*",
        remember=False,
        status_interval_s=float("inf"),
    )
    return Cluster([BrokerSpec("mine", exchange=instance, simulated=True, **chosen)], settings)


# --- synchronous ones --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_synchronous_instance_is_read_exactly_and_left_as_it_was(kind: type[SimulatedExchange]) -> None:
    exchange = kind()
    with serve(exchange):
        mine = own(exchange)
        before = attributes(mine)
        with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            free = broker.get_account_balance_detailed().holdings["BTC"].free
            assert free == Decimal(exchange.default_balance["BTC"][0])
            assert broker.exchange == exchange.ccxt_id
        assert attributes(mine) == before
        assert mine.fetch_balance()["BTC"], "it goes on working"


@pytest.mark.parametrize(
    "fault", ["empty_body", "html_200", "cut_json", "null_body", "unmapped_status_529", "redirect"]
)
def test_a_synchronous_instance_gives_no_false_zero(fault: str) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        known = broker.get_account_balance()
        exchange.set_fault(fault)
        assert broker.get_account_balance() == known
        assert broker.get_error_count() == 1


def test_a_synchronous_call_that_hangs_stops_neither_the_loop_nor_others() -> None:
    hanging, sound = SimulatedKraken(), SimulatedOkx()
    with serve(hanging, sound):
        specs = [
            BrokerSpec("hangs", exchange=own(hanging), fetch_deadline_s=0.3, poll_interval_s=ONLY_WHEN_ASKED),
            BrokerSpec("sound", exchange=own(sound), fetch_deadline_s=1.0, poll_interval_s=ONLY_WHEN_ASKED),
        ]
        settings = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=False)
        with Cluster(specs, settings) as cluster:
            hanging.set_fault("hang")
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(cluster.broker("hangs").get_account_balance)
                assert cluster.broker("sound").get_account_balance()
                assert isinstance(waiting.exception(), BalanceUnknown)
            assert cluster.broker("hangs").get_error_count() == 1


class Gate:
    """Holds the calls of one instance inside their thread until it is opened; counts those at once."""

    def __init__(self) -> None:
        self.shut = False
        self.inside = threading.Event()
        self.opened = threading.Event()
        self.at_once = 0
        self.most_at_once = 0

    def pass_through(self) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.shut:
            self.inside.set()
            self.opened.wait(20)
        self.at_once -= 1


def gated(exchange: SimulatedExchange, gate: Gate, **values: Any) -> Any:
    """A trader's own instance whose private calls wait at the gate, before anything is sent."""
    of = getattr(ccxt, exchange.ccxt_id)

    def fetch(self: Any, url: str, *rest: Any, **named: Any) -> Any:
        if "/private/" in url:
            gate.pass_through()
        return of.fetch(self, url, *rest, **named)

    return type(of.__name__, (of,), {"fetch": fetch})({**options(exchange), **values})


def test_instances_that_hang_take_no_thread_from_one_that_is_sound() -> None:
    sound = SimulatedKraken()
    gate = Gate()
    with serve(sound):
        # A key of its own for each, or all would share one lane.
        specs = [
            BrokerSpec(
                f"hangs-{number}",
                exchange=gated(sound, gate, apiKey=f"key-{number}"),
                fetch_deadline_s=0.2,
                poll_interval_s=ONLY_WHEN_ASKED,
            )
            for number in range(9)
        ]
        specs.append(BrokerSpec("sound", exchange=own(sound), poll_interval_s=ONLY_WHEN_ASKED))
        settings = ClusterSettings(
            health_endpoint="tcp://127.0.0.1:*", remember=False, status_interval_s=float("inf")
        )
        gate.shut = True
        with Cluster(specs, settings) as cluster:
            try:
                with ThreadPoolExecutor(9) as pool:
                    asked = [pool.submit(cluster.broker(spec.name).get_account_balance) for spec in specs[:9]]
                    assert all(isinstance(one.exception(), BalanceUnknown) for one in asked)
                assert gate.at_once == 9, "each of them holds its own thread"
                assert cluster.broker("sound").get_account_balance()
            finally:
                gate.opened.set()


def test_a_call_that_was_given_up_is_never_overtaken_by_the_next_one_on_the_same_instance() -> None:
    exchange = SimulatedKraken()
    gate = Gate()
    with serve(exchange), cluster_on(gated(exchange, gate), fetch_deadline_s=0.2) as cluster:
        broker = cluster.broker("mine")
        known = broker.get_account_balance()
        sent = exchange.private_calls
        gate.shut = True
        try:
            assert broker.get_account_balance() == known
            assert broker.get_account_balance() == known, "it waits for its thread, and gives that up too"
            assert broker.get_error_count() == 2, "an exchange that does not answer goes on counting"
            assert (gate.most_at_once, exchange.private_calls) == (1, sent)
        finally:
            gate.shut = False
            gate.opened.set()
        until(lambda: gate.at_once == 0)
        assert broker.get_account_balance() == known
        assert broker.get_error_count() == 0
        assert gate.most_at_once == 1
        assert exchange.private_calls == sent + 2, "what was given up before it began was never sent"


def test_a_call_that_was_given_up_holds_its_thread_no_longer_than_our_deadline() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        mine.timeout = 60_000
        with cluster_on(mine, fetch_deadline_s=0.3) as cluster:
            broker = cluster.broker("mine")
            known = broker.get_account_balance()
            exchange.set_fault("hang", times=1)
            assert broker.get_account_balance() == known
            assert broker.get_error_count() == 1
            until(lambda: broker.get_account_balance() == known and broker.get_error_count() == 0)
            assert mine.timeout == 60_000


def test_the_thread_of_an_instance_is_made_when_first_used_and_ends_with_the_cluster() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        with cluster_on(own(exchange)) as cluster:
            before = {thread.name for thread in threading.enumerate()}
            assert not [name for name in before if name.startswith("brokerwatch-sync")]
            cluster.broker("mine").get_account_balance()
            mine = [one for one in threading.enumerate() if one.name.startswith("brokerwatch-sync")]
            assert len(mine) == 1
        assert not mine[0].is_alive()


PROGRAM_THAT_HANGS = """
import logging
import threading
import ccxt
from brokerwatch import BrokerSpec, Cluster, ClusterSettings

class Hangs(ccxt.kraken):
    def fetch(self, *request, **named):
        threading.Event().wait()

mine = Hangs({"apiKey": "key", "secret": "c2VjcmV0"})
settings = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=False)
logging.basicConfig()
with Cluster([BrokerSpec("mine", exchange=mine, fetch_deadline_s=0.2)], settings) as cluster:
    try:
        cluster.broker("mine").get_account_balance()
    except Exception as error:
        print(type(error).__name__)
"""


def test_a_call_that_never_ends_does_not_keep_the_program_from_ending() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM_THAT_HANGS],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "BalanceUnknown\n"), ended.stderr
    assert "does not end, and is left behind" in ended.stderr


async def _held(thread: CallThread, gate: Gate) -> asyncio.Task[Any]:
    """A call that holds the thread until the gate is opened."""
    gate.shut = True
    holding = asyncio.create_task(thread.run(gate.pass_through))
    assert await asyncio.to_thread(gate.inside.wait, 10)
    return holding


def _never(*, started: list[str]) -> None:
    started.append("it was")


def test_a_call_that_waited_for_its_thread_until_its_deadline_was_never_started_and_says_so() -> None:
    async def story() -> None:
        thread, gate, started = CallThread("brokerwatch-sync test"), Gate(), list[str]()
        holding = await _held(thread, gate)
        with pytest.raises(TimeoutError) as late:
            async with asyncio.timeout(0.05):
                await thread.run(partial(_never, started=started))
        assert "NeverStarted" in Failure.of(late.value).causes
        with pytest.raises(TimeoutError) as begun:
            async with asyncio.timeout(0.05):
                await holding
        assert "NeverStarted" not in Failure.of(begun.value).causes, "it is still under way"
        gate.opened.set()
        assert await thread.run(lambda: "next") == "next"
        assert started == []
        thread.close()
        assert thread.ended(10)

    asyncio.run(story())


def test_what_waits_for_a_thread_that_is_closed_was_never_started() -> None:
    async def story() -> None:
        thread, gate, started = CallThread("brokerwatch-sync test"), Gate(), list[str]()
        holding = await _held(thread, gate)
        waiting = asyncio.create_task(thread.run(partial(_never, started=started)))
        await asyncio.sleep(0)
        thread.close()
        with pytest.raises(NeverStarted):
            await waiting
        with pytest.raises(NeverStarted):
            await thread.run(partial(_never, started=started))
        assert not thread.ended(0)
        gate.opened.set()
        await holding
        assert thread.ended(10)
        assert started == []

    asyncio.run(story())


def test_an_order_that_never_got_its_thread_was_not_sent() -> None:
    exchange = SimulatedKraken()
    gate = Gate()
    with serve(exchange), cluster_on(gated(exchange, gate), trading=True, fetch_deadline_s=0.3) as cluster:
        broker = cluster.broker("mine")
        known = broker.get_account_balance()
        broker.get_all_products()
        gate.shut = True
        try:
            assert broker.get_account_balance() == known, "given up, and it holds the thread"
            with pytest.raises(OrderNotSent, match="nothing was sent"):
                broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        finally:
            gate.shut = False
            gate.opened.set()
        until(lambda: gate.at_once == 0)
        placed = broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert placed.order_id
        assert exchange.placed_orders == 1


# --- asynchronous ones -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_asynchronous_instance_is_asked_on_its_owner_s_loop_and_never_closed(
    kind: type[SimulatedExchange],
) -> None:
    exchange = kind()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        try:
            async with cluster_on(mine) as cluster:
                broker = cluster.broker("mine")
                await broker.fetch_balance()
                assert broker.reading().stale is False
                assert cluster._wired.accounts["mine"].access.loop.asyncio_loop is asyncio.get_running_loop()  # pyright: ignore[reportPrivateUsage] - where it runs shows nowhere else
                with pytest.raises(BlockingCallInLoop):
                    broker.get_account_balance()
            assert (await mine.fetch_balance())["BTC"], "it was not closed"
        finally:
            await mine.close()

    with serve(exchange):
        asyncio.run(story())


def test_an_instance_that_belongs_to_no_loop_is_a_clear_error() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), pytest.raises(ConfigError, match="async with Cluster"):
        cluster_on(own(exchange, ccxt_async)).start()


def test_what_is_no_instance_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="expected a ccxt id or a ccxt instance, not object"):
        BrokerSpec("mine", exchange=object())


# Where the owner ends his loop first, nobody can close on it any more what was opened on it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_ends_before_the_cluster_is_a_fault_and_no_crash() -> None:
    exchange = SimulatedKraken()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    with serve(exchange):
        mine = own(exchange, ccxt_async)
        mine.asyncio_loop = loop  # as once it was used there
        thread.start()
        cluster = cluster_on(mine)
        try:
            cluster.start()
            broker = cluster.broker("mine")
            known = broker.get_account_balance()
            asyncio.run_coroutine_threadsafe(mine.close(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            assert broker.get_account_balance() == known
            assert broker.reading().fault == "client_bug"
            assert "closed" in broker.reading().detail
        finally:
            cluster.stop()
    del cluster, broker, mine
    gc.collect()


def aiohttp_session() -> Any:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


def test_the_owner_may_close_his_session_and_put_another_in_its_place() -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        mine.session, mine.own_session = aiohttp_session(), False
        async with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            known = await broker.fetch_balance()
            await mine.session.close()
            sent = exchange.private_calls
            assert await broker.fetch_balance() == known
            assert broker.get_error_count() == 1
            assert "closed its session" in broker.reading().detail
            assert exchange.private_calls == sent
            mine.session = aiohttp_session()
            exchange.set_balance({"USD": ("5", "0")})
            assert await broker.fetch_balance() == 5
            assert not mine.session.closed
        assert not mine.session.closed, "it is his"
        await mine.session.close()
        await mine.close()

    with serve(exchange):
        asyncio.run(story())


def test_a_call_through_a_session_that_its_owner_closed_was_never_started() -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        mine.session, mine.own_session = aiohttp_session(), False
        await mine.session.close()
        with pytest.raises(NeverStarted, match="closed its session"):
            await borrow_async(mine, Sessions()).privatePostBalanceEx()
        await mine.close()

    with serve(exchange):
        asyncio.run(story())


def test_an_order_through_a_session_that_its_owner_closed_was_not_sent() -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        mine.session, mine.own_session = aiohttp_session(), False
        async with cluster_on(mine, trading=True) as cluster:
            broker = cluster.broker("mine")
            await broker.fetch_balance()
            await broker.aio.get_all_products()
            await mine.session.close()
            with pytest.raises(OrderNotSent, match="closed its session"):
                await broker.aio.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
            mine.session = aiohttp_session()
            await broker.aio.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
            assert exchange.placed_orders == 1
        await mine.session.close()
        await mine.close()

    with serve(exchange):
        asyncio.run(story())


def test_an_instance_that_its_owner_closed_is_not_opened_again() -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        mine.verify = False  # so the session that ccxt made for him is used, and none of ours
        async with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            known = await broker.fetch_balance()
            first = mine.session
            assert first is not None
            await mine.close()
            assert await broker.fetch_balance() == known
            assert "closed" in broker.reading().detail
            assert mine.session is None
        assert first.closed

    with serve(exchange):
        asyncio.run(story())


def test_no_redirect_is_followed_through_the_session_of_a_trader() -> None:
    async def story() -> None:
        mine = ccxt_async.kraken()
        mine.session, mine.own_session = aiohttp_session(), False
        lent = borrow_async(mine, Sessions()).session
        assert lent.post.keywords == lent.get.keywords == {"allow_redirects": False}
        assert lent.closed is False
        await mine.session.close()
        await mine.close()

    asyncio.run(story())


def test_the_session_of_a_synchronous_instance_is_the_one_that_it_has_now() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            mine.session.close()
            mine.session = requests.Session()
            said: list[str] = []

            def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
                said.append(str(request.url))
                return request

            mine.session.auth = signed
            broker.get_account_balance()
            assert [url.rpartition("/")[2] for url in said] == ["BalanceEx"]
            mine.session.auth = None
            broker.get_account_balance()
            assert len(said) == 1
            assert broker.get_error_count() == 0


def test_a_synchronous_instance_keeps_its_connections_between_calls() -> None:
    mine: Any = ccxt.kraken()
    lent = borrow_sync(mine)
    first = lent.session
    assert lent.session is first
    assert first is not mine.session
    assert (first.max_redirects, {one.max_retries.total for one in first.adapters.values()}) == (0, {0})
    mine.session.mount("https://", type(mine.session.adapters["https://"])(max_retries=3))
    assert lent.session is not first
    assert {one.max_retries.total for one in lent.session.adapters.values()} == {0}


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
                assert exchange.private_calls == before + 1, "nobody else asked meanwhile"
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


def test_a_task_that_was_begun_inside_a_turn_waits_for_its_end() -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        async with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            async with broker.lane():
                following = broker.lane()
                begun = asyncio.create_task(following.__aenter__())
                with pytest.raises(InsideLane):
                    await broker.lane().__aenter__()
                await asyncio.sleep(0)
                assert not begun.done()
            await begun
            await following.__aexit__(None, None, None)
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


def test_tasks_that_were_begun_inside_a_turn_wait_for_its_end() -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = own(exchange, ccxt_async)
        async with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            known = await broker.fetch_balance()
            async with broker.lane():
                begun = asyncio.create_task(broker.fetch_balance())
                for question in (broker.fetch_balance, broker.aio.get_positions, broker.lane().__aenter__):
                    with pytest.raises(InsideLane):
                        await question()
                assert not begun.done()
            assert await begun == known
        await mine.close()

    with serve(exchange):
        asyncio.run(story())


def test_what_the_trader_read_himself_counts_and_nobody_asks_again() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine, poll_interval_s=0.4) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            asked = exchange.private_calls
            until_s = time.monotonic() + 1.5
            observed = 0
            while time.monotonic() < until_s:
                with broker.lane():
                    began_s = time.monotonic()
                    broker.observe(mine.fetch_balance(), asked_s=began_s)
                observed += 1
            assert exchange.private_calls == asked + observed, "not one poll of ours"
            exchange.set_balance({"USD": ("77.5", "0")})
            broker.observe(mine.fetch_balance())
            until(lambda: broker.reading().cash == Decimal("77.5"))


def test_a_failure_that_the_trader_met_counts_as_an_error_and_an_empty_balance_too() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            known = broker.get_account_balance()
            exchange.set_fault("bad_key")
            with pytest.raises(ccxt.AuthenticationError) as error:
                mine.fetch_balance()
            broker.observe(error.value)
            until(lambda: broker.get_error_count() == 1)
            assert broker.reading().fault == "auth"
            exchange.mend()
            exchange.set_fault("empty_body")
            nothing = mine.fetch_balance()
            assert nothing["total"] == {}, "this is what plain ccxt makes of an empty body"
            broker.observe(nothing)
            until(lambda: broker.get_error_count() == 2)
            assert broker.reading().cash == known


def test_an_older_balance_never_replaces_a_newer_one() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            old, asked_s = mine.fetch_balance(), time.monotonic()
            exchange.set_balance({"USD": ("1", "0")})
            assert broker.get_account_balance() == 1
            version = broker.reading().version
            broker.observe(old, asked_s=asked_s)
            until(lambda: broker.reading().version > version)
            assert broker.reading().cash == 1


def test_outcomes_of_other_calls_show_as_capabilities() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        broker.get_account_balance()
        broker.observe(None, capability="trade")
        until(lambda: broker.reading().capabilities["trade"].state is CapabilityState.OK)
        for _ in range(3):
            broker.observe(ccxt.ExchangeNotAvailable("kraken GET ..."), capability="data")
        until(lambda: broker.reading().capabilities["data"].state is CapabilityState.DOWN)
        assert broker.is_available()
        with pytest.raises(ValueError, match="capability"):
            broker.observe(None, capability="walk")


def test_a_balance_of_nobody_knows_when_is_never_fresh_after_an_order() -> None:
    exchange = SimulatedOkx()
    exchange.set_balance({"USDT": ("10000", "0")})
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine, trading=True) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            old = mine.fetch_balance()
            exchange.set_fault("http_502_html", path="/api/v5/account/balance")
            broker.place_market_order("BTC/USDT", "buy", quote_amount=Decimal(9_000), validate_only=False)
            until(lambda: broker.get_error_count() == 1)
            assert broker.reading().overtaken
            broker.observe(old)
            until(lambda: broker.get_error_count() == 0)
            assert broker.reading().overtaken, "it may have been asked for before the order"
            exchange.mend()
            began_s = time.monotonic()
            broker.observe(mine.fetch_balance(), asked_s=began_s)
            until(lambda: not broker.reading().overtaken)
            assert broker.reading().cash == 1_000


def test_a_balance_of_nobody_knows_when_replaces_none_that_was_read_after_an_order() -> None:
    exchange = SimulatedOkx()
    exchange.set_balance({"USDT": ("10000", "0")})
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine, trading=True) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            old = mine.fetch_balance()
            broker.place_market_order("BTC/USDT", "buy", quote_amount=Decimal(9_000), validate_only=False)
            until(lambda: broker.reading().cash == 1_000)
            version = broker.reading().version
            broker.observe(old)
            until(lambda: broker.reading().version > version)
            assert broker.reading().cash == 1_000
            assert not broker.reading().overtaken


def test_a_balance_that_was_overtaken_before_a_restart_stays_so_without_a_moment() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        broker.get_account_balance()
        reading, now = broker.reading(), SystemClock().now()
        never = float("-inf")
        assert asked_at(None, now, never, reading) == now
        assert reading.as_of is not None
        overtaken = msgspec.structs.replace(reading, overtaken=True)
        assert asked_at(None, now, never, overtaken).up_s < reading.as_of.up_s
        assert asked_at(now.up_s, now, never, overtaken) == now, "he says when"


@pytest.mark.parametrize(
    ("asked_s", "error"),
    [
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (float("-inf"), ValueError),
        (-1.0, ValueError),
        (1e300, ValueError),
        ("1", TypeError),
        (True, TypeError),
    ],
)
def test_a_moment_that_cannot_be_is_a_clear_error(asked_s: Any, error: type[Exception]) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        with pytest.raises(error, match=r"asked_s: expected .* time.monotonic\(\)"):
            broker.observe({"free": {"USD": 1}, "used": {}, "total": {"USD": 1}}, asked_s=asked_s)
        assert broker.get_error_count() == 0


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Crooked(dict[str, Any]):
    def get(self, key: str, default: object = None) -> Any:
        raise Speechless


@pytest.mark.parametrize("capability", ["read", "trade"])
def test_an_exception_that_cannot_say_what_it_is_counts_as_one(capability: str) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        broker.get_account_balance()
        for _ in range(3):
            broker.observe(Speechless(), capability=capability)
        until(lambda: broker.reading().capabilities[capability].state is CapabilityState.DOWN)


def _has_errors(broker: Broker, count: int) -> bool:
    return broker.get_error_count() == count


def test_a_balance_that_cannot_be_read_counts_as_an_error() -> None:
    exchange = SimulatedKraken()
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(5_000):
        inner["a"] = {}
        inner = inner["a"]
    signalling = {"free": {"USD": Decimal("sNaN")}, "used": {}, "total": {"USD": Decimal(1)}}
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        known = broker.get_account_balance()
        for number, garbage in enumerate((deep, signalling, Crooked(free=1), {None: 1}), start=1):
            broker.observe(garbage)  # type: ignore[arg-type]  # what is no text is to be tried too  # pyright: ignore[reportArgumentType]
            until(partial(_has_errors, broker, number))
        assert broker.reading().cash == known


@pytest.mark.parametrize("outcome", ["x", 5, [1], b"{}", object()])
def test_what_is_no_outcome_is_a_clear_error(outcome: Any) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        for capability in ("read", "trade"):
            with pytest.raises(TypeError, match="outcome: expected what fetch_balance gave"):
                cluster.broker("mine").observe(outcome, capability=capability)


@pytest.mark.parametrize("end", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_call_that_the_trader_himself_ended_says_nothing_of_the_exchange(end: type[BaseException]) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        broker.get_account_balance()
        broker.observe(end())
        broker.observe(ccxt.NetworkError("kraken"))
        until(lambda: broker.get_error_count() == 1)


def test_calls_of_his_own_count_too_where_a_trader_reads_by_a_callable() -> None:
    async def fetch() -> dict[str, Any]:
        return {"USD": "7"}

    spec = BrokerSpec("mine", fetch=fetch, poll_interval_s=ONLY_WHEN_ASKED)
    settings = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=False)
    with Cluster([spec], settings) as cluster:
        broker = cluster.broker("mine")
        broker.observe({"USD": Decimal("12.5"), "EUR": "1"}, asked_s=time.monotonic())
        until(lambda: broker.reading().cash == Decimal("12.5"))
        broker.observe(TimeoutError("mine"))
        until(lambda: broker.get_error_count() == 1)
        assert broker.reading().fault == "network"
        broker.observe({})
        broker.observe({"USD": None})
        until(lambda: broker.get_error_count() == 3)
        broker.observe(None, capability="trade")
        until(lambda: broker.reading().capabilities["trade"].state is CapabilityState.OK)
        with pytest.raises(TypeError, match="outcome"):
            broker.observe("x")  # type: ignore[arg-type]  # what is wrong on purpose  # pyright: ignore[reportArgumentType]
    with pytest.raises(ClusterStopped):
        broker.observe({"USD": 1})
