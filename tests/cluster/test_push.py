"""Amounts that an exchange pushes: shown at once with their mark, and confirmed by a read. Over HTTP and
websockets, against simulated exchanges."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Final

import pytest

from brokerwatch.actors.push_desk import GATHER_S
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.config.policy import default_rules
from brokerwatch.errors import EntryRefused
from brokerwatch.gateway import stream
from brokerwatch.gateway.stream import SILENCE_S
from brokerwatch.health.push import ONLY_ASKS
from brokerwatch.messages import Holding, Order, Reading
from brokerwatch.messages.stream import StreamState
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.tally import AccountTally
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.desks import BALANCE_PATHS
from tests.support.pro_bots import streams_of
from tests.support.served import asked

PUSHING: Final[list[type[SimulatedExchange]]] = [SimulatedKraken, SimulatedOkx]


def pushing(exchange: SimulatedExchange, **values: Any) -> BrokerSpec:
    """An account that is polled so seldom that only what is pushed can have changed it."""
    chosen = {"poll_interval_s": 60.0, "requests_per_s": 1_000.0, "request_burst": 1_000.0, **values}
    return simulated_spec(exchange, "a", push=True, **chosen)


def live(cluster: Cluster) -> Reading:
    until(lambda: state(cluster) is StreamState.LIVE)
    return cluster.reading("a")


def state(cluster: Cluster) -> StreamState | None:
    stream = cluster.reading("a").stream
    return None if stream is None else stream.state


def is_subscribed(cluster: Cluster) -> bool:
    """Whether its pushes come, before the read that confirms them or after it."""
    return state(cluster) in (StreamState.SUSPECT, StreamState.LIVE)


def detail(cluster: Cluster) -> str:
    stream = cluster.reading("a").stream
    return "" if stream is None else stream.detail


def tally(cluster: Cluster) -> AccountTally:
    return cluster._outlets.tally.account("a")  # pyright: ignore[reportPrivateUsage] - the metrics read the same


def held(cluster: Cluster, currency: str) -> Holding:
    balance = cluster.reading("a").balance
    assert balance is not None
    return balance[currency]


def total(cluster: Cluster, currency: str) -> Decimal | None:
    balance = cluster.reading("a").balance or {}
    return balance[currency].total if currency in balance else None


def has(cluster: Cluster, amount: int) -> bool:
    return total(cluster, "USDT") == amount


def scraped(cluster: Cluster) -> str:
    return asked(cluster.http_url, "/metrics").body.decode()


def buy(cluster: Cluster) -> Order:
    broker = cluster.broker("a")
    return broker.place_market_order("BTC/USDT", "buy", quote_amount=Decimal(100), validate_only=False)


def marked(reading: Reading) -> set[str]:
    """The currencies whose amounts no read has confirmed."""
    return {code for code, each in (reading.balance or {}).items() if each.pushed_us is not None}


@pytest.mark.parametrize("make", PUSHING)
def test_a_pushed_amount_is_shown_with_its_mark_and_confirmed_by_a_read(
    make: type[SimulatedExchange],
) -> None:
    exchange = make()
    exchange.set_balance({"USDT": ("100", "30"), "BTC": ("1", "0")})
    with serve(exchange), cluster_of(pushing(exchange)) as cluster, cluster.listener() as listener:
        assert live(cluster).available
        exchange.set_fault("http_503_json")  # no read confirms anything for now
        exchange.set_balance({"USDT": ("60", "30"), "BTC": ("2", "0")})
        until(lambda: total(cluster, "USDT") == 90 and total(cluster, "BTC") == 2)
        shown = held(cluster, "USDT")
        assert (shown.free, shown.used) == (Decimal(60), Decimal(30)), (
            "what is held is that of the newest read"
        )
        assert shown.pushed_us is not None
        detail_now = cluster.reading("a").detail
        assert "pushed, and not confirmed by a read yet" in detail_now or "503" in detail_now
        assert cluster.reading("a").stale
        assert cluster.broker("a").get_account_balance_detailed().holdings["USDT"].pushed_us is not None
        until(lambda: marked(listener.reading("a")) == {"USDT", "BTC"})
        exchange.mend()

        def confirmed() -> bool:
            cluster.broker("a").get_account_balance()
            return not marked(cluster.reading("a"))

        until(confirmed)
        assert held(cluster, "USDT").total == 90
        until(lambda: not cluster.reading("a").stale)


@pytest.mark.parametrize("make", PUSHING)
def test_a_read_follows_a_push_by_itself(make: type[SimulatedExchange]) -> None:
    exchange = make()
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        exchange.set_balance({"USDT": ("7", "0")})
        until(lambda: total(cluster, "USDT") == 7 and not marked(cluster.reading("a")))
        assert cluster.reading("a").available


@pytest.mark.parametrize("make", PUSHING)
@pytest.mark.parametrize("abort", [False, True])
def test_a_connection_that_ends_is_asked_about_at_once_and_made_again(
    make: type[SimulatedExchange], abort: bool
) -> None:
    exchange = make()
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        streams = streams_of(exchange)
        streams.set_fault("no_handshake", 1)
        exchange.set_fault("http_503_json", 1)
        streams.cut(abort=abort)
        until(lambda: cluster.reading("a").fault is not None)  # the read that was due in a minute
        cluster.broker("a").get_account_balance()
        live(cluster)
        assert streams.made >= 3
        assert cluster.reading("a").available


@pytest.mark.parametrize("make", PUSHING)
def test_a_connection_on_which_nothing_comes_any_more_is_noticed(make: type[SimulatedExchange]) -> None:
    exchange = make()
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        streams = streams_of(exchange)
        streams.set_fault("black_hole")
        until(lambda: f"no frame for {SILENCE_S:g} s" in detail(cluster))
        assert state(cluster) is not StreamState.LIVE
        streams.mend()
        live(cluster)


@pytest.mark.parametrize("make", PUSHING)
@pytest.mark.parametrize("fault", ["drop", "duplicate", "swap", "garbage"])
def test_what_happens_to_frames_on_their_way_changes_no_amount(
    make: type[SimulatedExchange], fault: str
) -> None:
    exchange = make()
    exchange.set_balance({"USDT": ("100", "0"), "BTC": ("1", "0")})
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        streams_of(exchange).set_fault(fault, 1)
        exchange.set_balance({"USDT": ("60", "0"), "BTC": ("2", "0")})
        until(lambda: total(cluster, "USDT") == 60 and total(cluster, "BTC") == 2)
        until(lambda: not marked(cluster.reading("a")))
        if (fault, make) != ("drop", SimulatedOkx):  # it has no numbers in which a gap could be seen
            live(cluster)
            assert tally(cluster).pushes.counts()["struck"] == 0


@pytest.mark.parametrize("make", PUSHING)
def test_a_change_that_is_never_pushed_is_found_by_a_read_and_the_stream_is_trusted_no_more(
    make: type[SimulatedExchange],
) -> None:
    # P1: in ccxt's own cache the amount before it stays for ever.
    exchange = make()
    exchange.set_balance({"USDT": ("100", "0")})
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        streams_of(exchange).set_fault("unnoticed", 1)
        exchange.set_balance({"USDT": ("60", "0")})
        cluster.broker("a").get_account_balance()  # as the next sweep would
        assert total(cluster, "USDT") == 60, "the read counts at once"
        assert state(cluster) is StreamState.SUSPECT
        until(lambda: tally(cluster).pushes.counts()["struck"] == 1)
        assert "100 USDT pushed, 60 read" in detail(cluster)
        assert has(cluster, 60)
        until(lambda: not marked(cluster.reading("a")))
        assert cluster.reading("a").available


@pytest.mark.parametrize("make", PUSHING)
def test_what_was_sold_while_the_stream_was_lost_does_not_come_back_with_it(
    make: type[SimulatedExchange],
) -> None:
    # P2 and P3: ccxt's own cache keeps it, and lays it over what is newer.
    exchange = make()
    exchange.set_balance({"USDT": ("100", "0"), "BTC": ("1", "0")})
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        streams = streams_of(exchange)
        streams.set_fault("no_handshake")
        streams.cut()
        until(lambda: state(cluster) is StreamState.CONNECTING)
        exchange.set_balance({"USDT": ("300", "0")})
        streams.mend()
        until(lambda: total(cluster, "USDT") == 300 and not total(cluster, "BTC"))
        live(cluster)
        assert not total(cluster, "BTC")


@pytest.mark.parametrize("make", PUSHING)
def test_an_old_snapshot_after_a_reconnect_never_stays_without_a_mark(make: type[SimulatedExchange]) -> None:
    exchange = make()
    exchange.set_balance({"USDT": ("100", "0")})
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        exchange.set_balance({"USDT": ("60", "0")})
        until(lambda: total(cluster, "USDT") == 60 and not marked(cluster.reading("a")))
        streams = streams_of(exchange)
        streams.set_fault("old_snapshot", 1)
        streams.cut()
        until(lambda: tally(cluster).pushes.counts()["struck"] == 1)
        assert has(cluster, 60)
        until(lambda: not marked(cluster.reading("a")))  # the strike is counted before the read is shown


@pytest.mark.parametrize("make", PUSHING)
def test_a_refused_stream_is_told_in_the_words_of_the_exchange_and_polls_go_on(
    make: type[SimulatedExchange],
) -> None:
    # P6: ccxt's own `watch_balance` waits for ever.
    exchange = make()
    streams_of(exchange).set_fault("refused")
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        until(lambda: state(cluster) is StreamState.REFUSED)
        assert "ermission" in detail(cluster) or "60005" in detail(cluster)
        until(lambda: cluster.reading("a").balance is not None)
        assert cluster.reading("a").available


@pytest.mark.parametrize("make", PUSHING)
def test_a_subscription_that_is_never_answered_is_tried_again(
    make: type[SimulatedExchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ACCEPT_S", 1.0)
    exchange = make()
    streams_of(exchange).set_fault("deaf", 1)
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        until(lambda: tally(cluster).pushes.counts()["lost"] >= 1)
        live(cluster)


def test_a_snapshot_in_pages_counts_once_it_is_whole() -> None:
    # P5: ccxt's own `watch_balance` gives the first page as the balance.
    exchange = SimulatedOkx()
    streams_of(exchange).page_rows = 1
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        assert tally(cluster).pushes.counts()["struck"] == 0


@pytest.mark.parametrize("make", PUSHING)
def test_the_reserve_of_a_budget_is_not_spent_on_reads_after_a_push(make: type[SimulatedExchange]) -> None:
    exchange = make()
    exchange.set_balance({"USDT": ("100", "0")})
    few = {"requests_per_s": 0.01, "request_burst": 7.0, "read_funding": False}
    with serve(exchange), cluster_of(pushing(exchange, **few)) as cluster:
        until(lambda: is_subscribed(cluster) and cluster.reading("a").balance)
        amounts = itertools.count(101)

        def spent() -> bool:
            exchange.set_balance({"USDT": (str(next(amounts)), "0")})
            return exchange.private_calls == 3

        until(spent)
        exchange.set_balance({"USDT": ("5", "0")})
        until(partial(has, cluster, 5))
        until_s = time.monotonic() + 2 * GATHER_S  # by then it would be read
        until(lambda: time.monotonic() > until_s)
        assert exchange.private_calls == 3, "four of the seven are left"
        assert marked(cluster.reading("a")) == {"USDT"}
        cluster.broker("a").get_account_balance()  # what is asked for waits for no reserve
        assert not marked(cluster.reading("a"))


@pytest.mark.parametrize("make", PUSHING)
def test_an_entry_after_a_push_reads_first(make: type[SimulatedExchange]) -> None:
    exchange = make()
    exchange.set_balance({"USDT": ("1000", "0")})
    few = {"requests_per_s": 0.01, "request_burst": 100.0, "reserved_requests": 100.0}
    with serve(exchange), cluster_of(pushing(exchange, trading=True, **few)) as cluster:
        until(lambda: state(cluster) is StreamState.SUSPECT and cluster.reading("a").balance)
        exchange.set_balance({"USDT": ("900", "0")})
        until(lambda: marked(cluster.reading("a")) == {"USDT"})
        exchange.set_fault("http_503_json", path=BALANCE_PATHS[exchange.ccxt_id])
        with pytest.raises(EntryRefused, match="was sent after its balance was read"):
            buy(cluster)
        exchange.mend()
        assert buy(cluster).order_id


@pytest.mark.parametrize("make", PUSHING)
def test_a_key_that_is_replaced_has_its_own_stream(make: type[SimulatedExchange]) -> None:
    exchange = make()
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        live(cluster)
        other = exchange.add_account(balance={"USDT": ("5", "0")})
        configured = cluster._members.configured  # pyright: ignore[reportPrivateUsage] - what holds
        spec = replace(pushing(exchange), credentials=other)
        cluster.reload(replace(configured, brokers=(spec,)), force_key=True)
        until(lambda: total(cluster, "USDT") == 5)
        live(cluster)
        exchange.set_balance({"USDT": ("6", "0")}, account=other["api_key"])
        until(lambda: total(cluster, "USDT") == 6 and not marked(cluster.reading("a")))


@pytest.mark.parametrize("make", PUSHING)
def test_while_the_stream_is_live_a_balance_is_as_young_as_its_newest_frame(
    make: type[SimulatedExchange],
) -> None:
    exchange = make()
    rules = replace(default_rules("guarded", 60.0), max_age_s=2.5)
    with serve(exchange), cluster_of(pushing(exchange, policy="guarded", rules=rules)) as cluster:
        live(cluster)

        def is_older_and_good() -> bool:
            reading = cluster.reading("a")
            return (reading.age_ms or 0) > 3_000 and not reading.stale

        until(is_older_and_good)  # without a frame it would stay stale until the poll in a minute
        streams = streams_of(exchange)
        exchange.set_fault("hang")
        streams.set_fault("no_handshake")
        streams.cut()
        until(lambda: cluster.reading("a").stale)


def test_an_order_at_coinbase_asks_for_a_read_and_sets_nothing() -> None:
    exchange = SimulatedCoinbase()
    exchange.set_balance({"USD": ("1000", "0")})
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        until(lambda: state(cluster) is StreamState.SUSPECT)
        assert detail(cluster) == ONLY_ASKS
        until(lambda: tally(cluster).pushes.counts()["reads"] == 1)
        exchange.rest("BTC/USD", "buy", "0.001", "100000")
        until(lambda: held(cluster, "USD").used == 100)
        exchange.fill_open_orders()
        until(lambda: total(cluster, "USD") == 900)
        assert tally(cluster).pushes.counts()["amounts"] == 0
        assert not marked(cluster.reading("a"))
        streams_of(exchange).set_fault("black_hole")
        until(lambda: state(cluster) is StreamState.CONNECTING)


def test_a_token_that_is_not_the_accounts_own_is_refused_by_coinbase() -> None:
    exchange = SimulatedCoinbase()
    streams_of(exchange).set_fault("refused")
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        until(lambda: state(cluster) is StreamState.REFUSED)
        assert "authentication failure" in detail(cluster)
        assert cluster.reading("a").available


def test_the_metrics_state_what_the_stream_is_and_does() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_of(pushing(exchange), http=HttpSettings(listen="127.0.0.1:0")) as cluster:
        live(cluster)
        until(lambda: 'stream_state{broker="a",exchange="kraken",state="live"} 1.0' in scraped(cluster))
        assert 'stream_events_total{broker="a",event="connected",exchange="kraken"} 1.0' in scraped(cluster)
