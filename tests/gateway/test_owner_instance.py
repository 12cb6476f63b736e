"""Exchange objects that a trader has already: asked where they live, never closed, their calls counted."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any

import aiohttp
import ccxt
import ccxt.async_support as ccxt_async
import pytest
import requests

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import (
    BalanceUnknown,
    BlockingCallInLoop,
    ConfigError,
    OrderNotSent,
)
from brokerwatch.exchanges.faults import Failure
from brokerwatch.gateway.call_thread import CallThread, NeverStarted
from brokerwatch.gateway.http_sessions import Sessions
from brokerwatch.gateway.owner_instance import borrow_async, borrow_sync
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import ONLY_WHEN_ASKED, until
from tests.support.own_instances import cluster_on, options, own

KINDS = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)


def attributes(instance: Any) -> dict[str, Any]:
    """What an instance holds, but for where its nonces come from."""
    held: dict[str, Any] = dict(instance.__dict__)
    held.pop("nonce", None)
    return held


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
            BrokerSpec("hangs", exchange=own(hanging), fetch_deadline_s=0.5, poll_interval_s=ONLY_WHEN_ASKED),
            BrokerSpec("sound", exchange=own(sound), poll_interval_s=ONLY_WHEN_ASKED),
        ]
        settings = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=False)
        with Cluster(specs, settings) as cluster:
            hanging.set_fault("hang")
            hangs = cluster.broker("hangs")

            def is_given_up() -> bool:
                with pytest.raises(BalanceUnknown):
                    hangs.get_account_balance()
                return hangs.get_error_count() == 1  # none is counted where the loop itself was held up

            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(until, is_given_up)
                assert cluster.broker("sound").get_account_balance()
                waiting.result()


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
                fetch_deadline_s=1.0,
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
                until(lambda: gate.at_once == 9)  # each of them holds its own thread
                assert cluster.broker("sound").get_account_balance()
            finally:
                gate.opened.set()


def test_a_call_that_was_given_up_is_never_overtaken_by_the_next_one_on_the_same_instance() -> None:
    exchange = SimulatedKraken()
    gate = Gate()
    with serve(exchange), cluster_on(gated(exchange, gate), fetch_deadline_s=2.0) as cluster:
        broker = cluster.broker("mine")
        known = broker.get_account_balance()
        sent = exchange.private_calls
        gate.shut = True
        try:
            assert broker.get_account_balance() == known
            # It waits for its thread, and gives that up too: silence of the exchange goes on counting.
            until(lambda: broker.get_account_balance() == known and broker.get_error_count() == 2)
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
        with cluster_on(mine, fetch_deadline_s=1.0) as cluster:
            broker = cluster.broker("mine")
            known = broker.get_account_balance()
            exchange.set_fault("hang")
            until(lambda: broker.get_account_balance() == known and broker.get_error_count() == 1)
            exchange.mend()
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
        timeout=120,
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
    with serve(exchange), cluster_on(gated(exchange, gate), trading=True, fetch_deadline_s=2.0) as cluster:
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
                loop = cluster._members.wired.accounts["mine"].access.loop  # pyright: ignore[reportPrivateUsage] - where it runs shows nowhere else
                assert loop.asyncio_loop is asyncio.get_running_loop()
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


# Where the owner ends his loop first, what was opened on it cannot be closed any more.


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
