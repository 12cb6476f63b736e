"""What the trader's own code asked, counted as evidence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import ccxt
import msgspec
import pytest

from brokerwatch.clock import SystemClock
from brokerwatch.cluster.broker import Broker
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.observation import asked_at
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import (
    ClusterStopped,
)
from brokerwatch.messages import CapabilityState
from brokerwatch.simulator import SimulatedCoinbase, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import ONLY_WHEN_ASKED, until
from tests.support.own_instances import cluster_on, own


def test_what_the_trader_read_himself_counts_and_nobody_asks_again() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine, poll_interval_s=3.0) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            asked = exchange.private_calls
            until_s = time.monotonic() + 7.0  # more than two polls
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
            until(lambda: broker.get_error_count() == 1 and broker.reading().overtaken)
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
        assert asked_at(now.up_s, now, never, overtaken) == now, "the moment was given"


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


def _observed(broker: Broker, call: Callable[[], Any], capability: str | None = None) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each case raises another one
        call()
    broker.observe(raised.value, capability=capability)


MISTAKES: dict[str, Callable[[Any], Any]] = {
    "refused": lambda mine: mine.create_order("BTC/USD", "limit", "buy", 0.001, 900_000, {"postOnly": True}),
    "too much": lambda mine: mine.create_order("BTC/USD", "market", "buy", 1_000),
    "no such market": lambda mine: mine.create_order("BTC/NOWHERE", "market", "buy", 1),
    "no amount": lambda mine: mine.create_order("BTC/USD", "market", "buy", "a lot"),
    "no such order": lambda mine: mine.fetch_order("OABCDE-AAAAA-AAAAAA", "BTC/NOWHERE"),
}


@pytest.mark.parametrize("policy", ["simple", "guarded"])
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_of_the_trader_s_own_count_nowhere(mistake: Callable[[Any], Any], policy: str) -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        mine.load_markets()
        with cluster_on(mine, policy=policy) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            broker.get_account_balance()
            for _ in range(4):
                _observed(broker, lambda: mistake(mine))
            broker.observe(None, capability="data")  # comes after them
            until(lambda: broker.reading().capabilities["data"].state is CapabilityState.OK)
            assert broker.get_error_count() == 0
            assert broker.is_available()
            assert broker.reading().capabilities["trade"].state is not CapabilityState.DOWN


@pytest.mark.parametrize(
    "error",
    [
        ccxt.InsufficientFunds("binance"),
        ccxt.InvalidOrder("binance"),
        ccxt.OrderNotFound("binance"),
        ccxt.BadSymbol("binance"),
        ccxt.ArgumentsRequired("binance"),
        ccxt.OperationRejected("binance"),
        ccxt.NotSupported("binance"),
        ccxt.ExchangeError('kraken {"error":["EOrder:Orders limit exceeded"]}'),
        ccxt.ExchangeError('okx {"code":"51999","msg":"another word"}'),
        ValueError("mine"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}",
)
def test_an_exception_of_which_it_is_not_known_what_was_asked_is_no_failed_read(error: Exception) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_on(own(exchange)) as cluster:
        broker = cluster.broker("mine")
        broker.get_account_balance()
        for _ in range(3):
            broker.observe(error)
        broker.observe(None, capability="data")
        until(lambda: broker.reading().capabilities["data"].state is CapabilityState.OK)
        assert broker.get_error_count() == 0


def test_orders_that_fail_show_at_the_orders_and_not_at_the_balance() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        mine.load_markets()
        with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            exchange.set_fault("exchange_down")
            for _ in range(3):
                _observed(broker, lambda: mine.create_order("BTC/USD", "market", "buy", 0.001))
            until(lambda: broker.reading().capabilities["trade"].state is CapabilityState.DOWN)
            assert broker.get_error_count() == 0
            _observed(broker, mine.fetch_balance)
            until(lambda: broker.get_error_count() == 1)


def test_an_answer_that_ccxt_stumbles_over_is_a_failed_read() -> None:
    exchange = SimulatedCoinbase()
    with serve(exchange):
        mine = own(exchange)
        mine.load_markets()
        with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            exchange.set_answer("[[]]", path="/api/v3/brokerage/accounts")
            _observed(broker, mine.fetch_balance)
            until(lambda: broker.reading().fault == "bad_response")


def test_an_order_of_the_trader_s_own_that_one_market_refuses_closes_that_market() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        mine.load_markets()
        with cluster_on(mine) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            said = '{"error":["EAccount:Invalid permissions:ETH trading restricted for NL."]}'
            exchange.set_answer(said, path="/0/private/AddOrder")
            for _ in range(3):
                _observed(broker, lambda: mine.create_order("ETH/USD", "market", "buy", 0.1))
            until(lambda: broker.reading().closed("ETH/USD") is not None)
            assert broker.is_available()
            assert broker.reading().capabilities["trade"].state is not CapabilityState.DOWN
            broker.observe(ccxt.PermissionDenied(f"kraken {said}"))
            assert broker.get_error_count() == 0
