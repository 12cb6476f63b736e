"""The money watch in a running cluster, against simulated exchanges over HTTP."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.loader import load
from brokerwatch.config.money_watch_settings import MoneyRules
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.errors import ConfigError
from brokerwatch.gateway.catalogue import Catalogue
from brokerwatch.messages import Reading, Reason
from brokerwatch.simulator import (
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.storage.store import Store
from tests.support.clusters import Till, cluster_of, simulated_spec, until
from tests.support.receivers import web_receiver

RULES: Final = MoneyRules()
LEDGERS: Final[dict[type[SimulatedExchange], str]] = {
    SimulatedKraken: "/0/private/Ledgers",
    SimulatedOkx: "/api/v5/account/bills",
}
START: Final = {"USDT": ("1000", "0"), "BTC": ("1", "0")}


def watched(exchange: SimulatedExchange, rules: MoneyRules = RULES, **values: Any) -> BrokerSpec:
    chosen = {"poll_interval_s": 0.05, "requests_per_s": 1_000.0, "request_burst": 1_000.0, **values}
    return simulated_spec(exchange, "a", money_watch=rules, **chosen)


def told(reading: Reading) -> list[tuple[str, str]]:
    return [(str(each.word), each.currency) for each in reading.money]


def settles(cluster: Cluster, exchange: SimulatedExchange) -> None:
    """Wait for some more reads of the balance."""
    before = exchange.private_calls
    until(lambda: exchange.private_calls > before + 6)
    assert cluster.reading("a").available


@pytest.mark.parametrize("make", [SimulatedKraken, SimulatedOkx, SimulatedCoinbase])
def test_money_that_goes_without_a_word_is_told_and_changes_no_health(
    make: type[SimulatedExchange], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    exchange = make()
    exchange.set_balance(START)
    with serve(exchange), cluster_of(watched(exchange), state=tmp_path) as cluster, cluster.listener() as ear:
        until(lambda: cluster.reading("a").available)
        settles(cluster, exchange)
        exchange.move_money("USDT", "-600", listed=False)
        until(lambda: told(cluster.reading("a")) == [("unexplained", "USDT")])
        [alarm] = cluster.reading("a").money
        assert (alarm.before, alarm.after) == ("1000", "400")
        ledger = "could not be read" if make is SimulatedCoinbase else "no entry in its ledger"
        assert ledger in alarm.detail
        until(lambda: told(ear.reading("a")) == [("unexplained", "USDT")])
        settles(cluster, exchange)
        reading = cluster.reading("a")
        assert (reading.available, reading.error_count, len(reading.money)) == (True, 0, 1)
        cluster.reset("a")
        until(lambda: not cluster.reading("a").money)
    lines = [each.getMessage() for each in caplog.records if "its money" in each.getMessage()]
    assert len(lines) == 1
    history = Store(f"sqlite:///{tmp_path / 'brokerwatch.db'}", "main")
    events = [(line.after, line.available) for line in history.history("a") if line.event == "money"]
    assert ("unexplained USDT", True) in events
    history.close()


@pytest.mark.parametrize("make", LEDGERS)
@pytest.mark.parametrize("kind", ["withdrawal", "funding"])
def test_what_the_exchanges_ledger_has_is_no_alarm(make: type[SimulatedExchange], kind: str) -> None:
    exchange = make()
    exchange.set_balance(START)
    with serve(exchange), cluster_of(watched(exchange)) as cluster:
        until(lambda: cluster.reading("a").available)
        settles(cluster, exchange)
        exchange.move_money("USDT", "-600", kind)
        until(lambda: exchange.calls_to(LEDGERS[make]) > 0)
        settles(cluster, exchange)
        assert not cluster.reading("a").money


@pytest.mark.parametrize("fault", ["permission", "locked_out", "http_500_json"])
def test_a_ledger_that_is_refused_counts_nowhere_and_is_said(fault: str) -> None:
    exchange = SimulatedKraken()
    exchange.set_balance(START)
    exchange.set_fault(fault, path=LEDGERS[SimulatedKraken])
    with serve(exchange), cluster_of(watched(exchange)) as cluster:
        until(lambda: cluster.reading("a").available)
        settles(cluster, exchange)
        exchange.move_money("USDT", "-600")
        until(lambda: told(cluster.reading("a")) == [("unexplained", "USDT")])
        settles(cluster, exchange)
        reading = cluster.reading("a")
        assert (reading.error_count, reading.fault) == (0, None)
        assert "its ledger could not be read" in reading.money[0].detail


def test_a_trade_by_hand_an_order_of_ours_and_a_deposit_are_no_alarm() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0")})
    trades: dict[str, Any] = {"trading": True, "policy": "simple"}
    with serve(exchange), cluster_of(watched(exchange, **trades)) as cluster:
        broker = cluster.broker("a")
        broker.get_all_products()
        settles(cluster, exchange)
        exchange.set_balance({"USD": ("400", "0"), "BTC": ("1.01", "0")})
        settles(cluster, exchange)
        broker.place_market_order("BTC/USD", "sell", base_amount=Decimal("0.5"), validate_only=False)
        settles(cluster, exchange)
        exchange.move_money("USD", "5000")
        settles(cluster, exchange)
        assert not cluster.reading("a").money
        assert not exchange.calls_to(LEDGERS[SimulatedKraken]), "the ledger is asked only where it is needed"


def test_an_account_below_its_floor_is_held_once_and_a_person_releases_it(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    exchange.set_balance(START)
    rules = MoneyRules(floor={"USDT": Decimal(500)}, hold=True)
    with serve(exchange):
        with cluster_of(watched(exchange, rules), state=tmp_path) as cluster:
            until(lambda: cluster.reading("a").available)
            settles(cluster, exchange)
            exchange.move_money("USDT", "-600")
            until(lambda: cluster.reading("a").reason is Reason.HELD_OUT)
            assert cluster.reading("a").detail.startswith(
                "by money watch: 400 USDT, less than the floor of 500"
            )
            cluster.release("a")
            settles(cluster, exchange)
            assert told(cluster.reading("a")) == [("below_floor", "USDT")]
        with cluster_of(watched(exchange, rules), state=tmp_path) as cluster:
            until(lambda: cluster.reading("a").available)
            settles(cluster, exchange)
            assert told(cluster.reading("a")) == [("below_floor", "USDT")], "it is known, and held no more"
            exchange.move_money("USDT", "600")
            until(lambda: not cluster.reading("a").money)


def test_without_hold_an_account_below_its_floor_stays_available() -> None:
    till = Till({"USD": "1000"})
    spec = BrokerSpec("a", fetch=till, money_watch=MoneyRules(floor={"USD": Decimal(500)}))
    with cluster_of(spec) as cluster:
        cluster.broker("a").get_account_balance()
        till.balance = {"USD": "400"}
        for _ in range(3):
            cluster.broker("a").get_account_balance()
        until(lambda: ("below_floor", "USD") in told(cluster.reading("a")))
        assert cluster.reading("a").available


def test_money_that_went_while_the_cluster_was_down_is_told_and_sent_once(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    exchange.set_balance(START)
    with serve(exchange), web_receiver() as received:
        more: dict[str, Any] = {"state": tmp_path, "notify": NotifySettings(urls=(received.url(),))}
        with cluster_of(watched(exchange), **more) as cluster:
            until(lambda: cluster.reading("a").available)
            settles(cluster, exchange)
        exchange.move_money("USDT", "-600", listed=False)
        for _ in range(2):
            with cluster_of(watched(exchange), **more) as cluster:
                until(lambda: told(cluster.reading("a")) == [("unexplained", "USDT")])
                received.has(1)
                settles(cluster, exchange)
    assert ["USDT went, and nothing accounts for it" in title for title in received.titles] == [True]


# --- the configuration --------------------------------------------------------------------------------------

HEAD: Final = '[brokers.a]\nexchange = "kraken"\napi_key_env = "K"\nsecret_env = "S"\n'
SECRETS: Final = {"K": "k" * 32, "S": "c2VjcmV0" * 8}


def loaded(path: Path, table: str) -> BrokerSpec:
    file = path / "brokerwatch.toml"
    file.write_text(f"version = 1\n{HEAD}{table}", encoding="utf-8")
    file.chmod(0o600)
    return load(file, Catalogue(), environment=SECRETS).brokers[0]


def test_the_table_of_a_broker_is_read_and_without_it_nothing_is_watched(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").money_watch is None
    assert loaded(tmp_path, "[brokers.a.money_watch]\n").money_watch == MoneyRules()
    table = (
        '[brokers.a.money_watch]\nfloor = { USD = "1000.50", BTC = 0.1 }\nloss = { USD = 250 }\nhold = true\n'
    )
    rules = loaded(tmp_path, table).money_watch
    assert rules is not None
    assert rules.floor == {"USD": Decimal("1000.50"), "BTC": Decimal("0.1")}
    assert (rules.loss, rules.hold) == ({"USD": Decimal(250)}, True)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("hold = true", "money_watch.hold"),
        ('floor = { USD = "much" }', "money_watch.floor"),
        ('floor = { USD = "-1" }', "money_watch.floor"),
        ("floor = 7", "money_watch.floor"),
        ("loss = { usd_and_more_than_a_code_can_be = 1, USD = true }", "money_watch.loss"),
        ("loss_period_s = 0", "money_watch.loss_period_s"),
        ("tolerance = 1.0", "money_watch.tolerance"),
        ("flor = {}", "money_watch.flor"),
    ],
)
def test_what_cannot_be_is_named_by_its_key(tmp_path: Path, table: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        loaded(tmp_path, f"[brokers.a.money_watch]\n{table}\n")
