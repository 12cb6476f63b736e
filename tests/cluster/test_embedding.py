"""In the trader's process: the router, changes, asyncio, and what exchanges say of themselves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace
from decimal import Decimal

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.changes import Change
from brokerwatch.messages import CapabilityState, HealthState
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import RefusalCode
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import Till, cluster_of, simulated_spec, until, wait_for_reading

NEED = Need(symbol="BTC/USD", side="buy", quote_amount=Decimal("500"), prefer=["kraken-test"])


def both(kraken: SimulatedKraken, coinbase: SimulatedCoinbase, *more: object) -> Cluster:
    for exchange in (kraken, coinbase):
        exchange.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0")})
    del more
    return cluster_of(simulated_spec(kraken), simulated_spec(coinbase))


def load(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.broker(name).get_account_balance()
        cluster.broker(name).get_all_products()


def test_the_next_best_broker_is_picked_when_one_is_out_and_the_reason_is_told() -> None:
    kraken, coinbase = SimulatedKraken(), SimulatedCoinbase()
    with serve(kraken, coinbase), both(kraken, coinbase) as cluster:
        load(cluster, "kraken-test", "coinbase-test")
        assert cluster.router.pick(NEED).broker == "kraken-test"
        kraken.set_fault("exchange_down")
        for _ in range(3):
            cluster.broker("kraken-test").get_account_balance()
        choice = cluster.router.pick(NEED)
        assert choice.broker == "coinbase-test"
        [refusal] = choice.refused
        assert (refusal.broker, refusal.code) == ("kraken-test", RefusalCode.NOT_AVAILABLE)
        kraken.mend()
        cluster.broker("kraken-test").get_account_balance()
        assert [one.broker for one in cluster.router.rank(NEED)] == ["kraken-test", "coinbase-test"]


def test_a_broker_whose_markets_are_not_known_is_no_choice_and_neither_is_one_without_the_market() -> None:
    kraken, coinbase = SimulatedKraken(), SimulatedCoinbase()
    with serve(kraken, coinbase), both(kraken, coinbase) as cluster:
        load(cluster, "kraken-test")
        cluster.broker("coinbase-test").get_account_balance()
        coinbase.set_fault("http_502_html", public=True)
        codes = {one.broker: one.code for one in cluster.router.pick(NEED).refused}
        assert codes == {"coinbase-test": RefusalCode.PRODUCTS_UNKNOWN}
        busd = cluster.router.pick(Need(symbol="BTC/BUSD", side="buy", quote_amount=Decimal(1)))
        assert not busd
        assert busd.refused[0].code is RefusalCode.NO_SUCH_MARKET


def test_who_is_asked_for_is_looked_up_meanwhile_and_can_be_picked_soon_after() -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("1000", "0")})
    with serve(kraken), cluster_of(simulated_spec(kraken)) as cluster:
        cluster.broker("kraken-test").get_account_balance()
        assert cluster.router.pick(NEED).broker is None
        until(lambda: cluster.router.pick(NEED).broker == "kraken-test")


def test_with_leave_to_trade_the_markets_are_there_without_being_asked_for() -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("1000", "0")})
    with serve(kraken), cluster_of(simulated_spec(kraken, trading=True)) as cluster:
        cluster.broker("kraken-test").get_account_balance()
        until(lambda: cluster.router.pick(NEED).broker == "kraken-test")


def test_a_callable_of_the_traders_own_can_be_picked_with_a_caution_and_any_spelling_will_do() -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("1000", "0")})
    mine = BrokerSpec("mine", fetch=Till({"USD": "1000"}))
    with serve(kraken), cluster_of(mine, simulated_spec(kraken)) as cluster:
        cluster.broker("mine").get_account_balance()
        choice = cluster.router.pick(NEED)
        assert choice.broker == "mine"
        assert choice.ranked[0].cautions == ("its markets cannot be known: make sure that it has BTC/USD",)
        load(cluster, "kraken-test")
        for text in ("BTC-USD", "xbtusd", "XXBTZUSD", "btc/usd"):
            found = cluster.router.pick(replace(NEED, symbol=text))
            assert (found.need.symbol, found.broker) == ("BTC/USD", "kraken-test")


def test_changes_are_told_on_one_thread_of_their_own_until_nobody_wants_them() -> None:
    kraken, coinbase = SimulatedKraken(), SimulatedCoinbase()
    heard: list[Change] = []
    threads: set[str] = set()

    def take(change: Change) -> None:
        threads.add(threading.current_thread().name)
        heard.append(change)

    with serve(kraken, coinbase), both(kraken, coinbase) as cluster:
        load(cluster, "kraken-test")
        unsubscribe = cluster.router.on_change(take)
        kraken.set_fault("exchange_down")
        for _ in range(3):
            cluster.broker("kraken-test").get_account_balance()
        until(lambda: any(change.lost for change in heard))
        kraken.mend()
        cluster.broker("kraken-test").get_account_balance()
        until(lambda: any(change.regained for change in heard))
        unsubscribe()
        told = len(heard)
        cluster.broker("coinbase-test").get_account_balance()
        assert len(heard) == told
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
@pytest.mark.parametrize("policy", ["simple", "guarded"])
def test_polls_that_find_nothing_new_are_no_changes_here_and_in_a_listener(
    kind: type[SimulatedExchange], policy: str
) -> None:
    """Neither while all is well nor during an outage: it was told once."""
    exchange = kind()
    exchange.set_balance({"USD": ("1000", "0"), "USDT": ("1", "0"), "BTC": ("1", "0")})
    with (
        serve(exchange),
        cluster_of(simulated_spec(exchange, "a", poll_interval_s=0.05, policy=policy)) as cluster,
        cluster.listener() as listener,
    ):
        wait_for_reading(listener, "a", lambda reading: reading.available and reading.cash is not None)
        here, there, polls = list[Change](), list[Change](), list[Change]()
        cluster.router.on_change(here.append)
        listener.router.on_change(there.append)
        cluster.router.on_change(polls.append, renewals=True)
        heard = listener.changes(wait_s=0.01)
        until(lambda: len(polls) >= 6)
        assert here == there == []
        assert next(heard) is None
        assert all(change.renewal for change in polls)

        exchange.set_fault("exchange_down")
        until(lambda: any(change.lost for change in here) and any(change.lost for change in there))
        told, known = len(here), len(there)
        del polls[:]
        for _ in range(6):
            cluster.broker("a").get_account_balance()
        until(lambda: len(polls) >= 2)
        assert (len(here), len(there)) == (told, known)
        given = list(iter(lambda: next(heard), None))
        assert {type(change) for change in given} == {Change}
        assert sum(change is not None and change.lost for change in given) == 1


def test_in_asyncio_the_loop_goes_on_while_a_cluster_starts_asks_and_stops() -> None:
    kraken, coinbase = SimulatedKraken(), SimulatedCoinbase()

    async def story() -> tuple[int, list[Change]]:
        beats, heard, known = 0, list[Change](), asyncio.Event()

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.001)

        async def listen(cluster: Cluster, listening: asyncio.Event) -> None:
            listening.set()
            async for change in cluster.changes():
                heard.append(change)
                if change.after.cash:
                    known.set()

        beating = asyncio.create_task(beat())
        async with both(kraken, coinbase) as cluster:
            listening = asyncio.Event()
            task = asyncio.create_task(listen(cluster, listening))
            await listening.wait()
            broker = cluster.broker("kraken-test")
            assert await broker.fetch_balance() == 1000
            kraken.set_fault("hang")
            await broker.fetch_balance(timeout_s=0.2)
            await known.wait()
        await asyncio.wait_for(task, 5)
        beating.cancel()
        return beats, heard

    with serve(kraken, coinbase):
        beats, heard = asyncio.run(asyncio.wait_for(story(), 20))
    assert beats > 50, "the loop was stopped"
    assert heard


def test_a_listener_answers_as_the_cluster_does() -> None:
    kraken, coinbase = SimulatedKraken(), SimulatedCoinbase()
    with serve(kraken, coinbase), both(kraken, coinbase) as cluster:
        load(cluster, "kraken-test", "coinbase-test")
        with cluster.listener() as listener:
            for name in ("kraken-test", "coinbase-test"):
                wait_for_reading(listener, name, lambda reading: reading.cash is not None)
            ours, theirs = cluster.router.pick(NEED), listener.router.pick(NEED)
            assert (theirs.broker, len(theirs.ranked)) == (ours.broker, 2)
            assert listener.reading("kraken-test").cash == cluster.reading("kraken-test").cash
            assert listener.board.is_available("kraken-test")
            assert {one.broker for one in listener.board.readings()} == {"kraken-test", "coinbase-test"}
            lost: list[str] = []
            listener.router.on_change(lambda change: lost.append(change.broker) if change.lost else None)
            kraken.set_fault("exchange_down")
            for _ in range(3):
                cluster.broker("kraken-test").get_account_balance()
            until(lambda: lost == ["kraken-test"])
            assert listener.router.pick(NEED).broker == "coinbase-test"


def test_who_only_listens_carries_no_ccxt_and_no_actors() -> None:
    source = (
        "import sys\n"
        "from brokerwatch import Listener, Need\n"
        "with Listener('tcp://127.0.0.1:1') as listener:\n"
        "    assert not listener.router.pick(Need(symbol='BTC/USD', side='buy'))\n"
        "    assert listener.board.readings() == ()\n"
        "heavy = {'ccxt', 'pykka', 'aiohttp', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=120)


@pytest.mark.parametrize(
    ("word", "trade", "read"),
    [
        ("cancel_only", CapabilityState.LIMITED, CapabilityState.OK),
        ("post_only", CapabilityState.LIMITED, CapabilityState.OK),
        ("maintenance", CapabilityState.DOWN, CapabilityState.DOWN),
    ],
)
def test_what_kraken_says_of_itself_is_told_and_ends_with_its_word(
    word: str, trade: CapabilityState, read: CapabilityState
) -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("1000", "0")})
    with serve(kraken), cluster_of(simulated_spec(kraken), status_interval_s=0.05) as cluster:
        load(cluster, "kraken-test")
        kraken.set_status(word)
        until(lambda: cluster.reading("kraken-test").capabilities["trade"].reason == word)
        capabilities = cluster.reading("kraken-test").capabilities
        assert (capabilities["trade"].state, capabilities["read"].state) == (trade, read)
        assert not cluster.router.pick(NEED)
        kraken.set_status("online")
        until(lambda: cluster.reading("kraken-test").capabilities["trade"].reason != word)
        assert cluster.router.pick(NEED).broker == "kraken-test"


def test_maintenance_that_okx_announces_is_told_and_stops_nothing_until_it_goes_on() -> None:
    okx = SimulatedOkx()
    okx.set_balance({"USDT": ("1000", "0")})
    need = Need(symbol="BTC/USDT", side="buy", quote_amount=Decimal(500))
    with serve(okx), cluster_of(simulated_spec(okx), status_interval_s=0.05) as cluster:
        load(cluster, "okx-test")
        okx.set_maintenance("Upgrade", "scheduled", 3_600, 7_200)
        until(lambda: "Upgrade" in cluster.reading("okx-test").capabilities["trade"].detail)
        assert cluster.router.pick(need).broker == "okx-test"
        okx.set_maintenance("Upgrade", "ongoing", -60, 7_200)
        until(lambda: cluster.reading("okx-test").capabilities["trade"].state is CapabilityState.DOWN)
        assert not cluster.router.pick(need)


def test_the_end_of_maintenance_is_met_by_a_question_and_not_only_by_the_next_poll() -> None:
    kraken = SimulatedKraken()
    with (
        serve(kraken),
        cluster_of(simulated_spec(kraken, policy="guarded"), status_interval_s=0.05) as cluster,
    ):
        broker = cluster.broker("kraken-test")
        broker.get_account_balance()
        kraken.set_status("maintenance")
        kraken.set_fault("maintenance")
        broker.get_account_balance()
        assert broker.reading().state is HealthState.MAINTENANCE
        kraken.mend()
        kraken.set_status("online")
        until(broker.is_available)


def test_a_status_that_cannot_be_asked_for_any_more_is_not_believed_for_ever() -> None:
    kraken = SimulatedKraken()
    with serve(kraken), cluster_of(simulated_spec(kraken), status_interval_s=0.05) as cluster:
        load(cluster, "kraken-test")
        kraken.set_status("cancel_only")
        until(lambda: cluster.reading("kraken-test").capabilities["trade"].reason == "cancel_only")
        kraken.set_fault("empty_body", path="/0/public/SystemStatus", public=True)
        until(lambda: cluster.reading("kraken-test").capabilities["trade"].reason != "cancel_only")


def test_an_account_in_which_nothing_moves_is_polled_ever_more_seldom_until_something_does() -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("1000", "0")})
    with serve(kraken):
        spec = simulated_spec(kraken, poll_interval_s=0.02, quiet_poll_interval_s=3_600.0)
        with cluster_of(spec, status_interval_s=float("inf")) as cluster:
            # 0.02 s doubled every six reads: the hundredth is years away.
            until(lambda: kraken.private_calls >= 30)
            asked = kraken.private_calls
            assert cluster.broker("kraken-test").get_account_balance() == 1000
            kraken.set_balance({"USD": ("900", "0")})
            assert cluster.broker("kraken-test").get_account_balance() == 900
            until(lambda: kraken.private_calls >= asked + 10)
