"""Exchange objects that a trader has already: asked where they live, never closed, their calls counted."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import ccxt
import ccxt.async_support as ccxt_async
import pytest

from brokerwatch.cluster import Cluster
from brokerwatch.config import BrokerSpec, ClusterSettings
from brokerwatch.errors import BalanceUnknown, BlockingCallInLoop, ConfigError, CouldNotAsk
from brokerwatch.messages import CapabilityState
from brokerwatch.simulator import (
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from tests.clusters import ONLY_WHEN_ASKED, until

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
                assert cluster._calls["mine"].access.loop.asyncio_loop is asyncio.get_running_loop()  # pyright: ignore[reportPrivateUsage] - where it runs shows nowhere else
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
