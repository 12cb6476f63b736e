"""Accounts come, go and change while the cluster runs, and nothing else notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.cluster.broker import requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.config.money_watch_settings import MoneyRules
from brokerwatch.config.policy import GUARDED
from brokerwatch.config.reload_plan import BROKER_KEYS, Takes
from brokerwatch.errors import (
    BalanceUnknown,
    ClusterStopped,
    ConfigError,
    TradingDisabled,
    UnknownBroker,
    VerificationRequired,
)
from brokerwatch.messages import HealthState, OrderState, Reading, Reason
from brokerwatch.routing.need import Need
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import ONLY_WHEN_ASKED, Till, cluster_of, simulated_spec, until
from tests.support.desks import FIFTY, rich

QUICK_S: Final = 0.05


def own(name: str, till: Till | None = None, **values: Any) -> BrokerSpec:
    chosen: dict[str, Any] = {"poll_interval_s": ONLY_WHEN_ASKED, **values}
    return BrokerSpec(name, fetch=till or Till(), **chosen)


def settings_of(cluster: Cluster, *specs: BrokerSpec, **values: Any) -> Settings:
    return Settings(replace(cluster._settings, **values), specs)  # pyright: ignore[reportPrivateUsage] - what it was made with


def names(readings: tuple[Reading, ...]) -> list[str]:
    return [reading.broker for reading in readings]


@pytest.fixture
def kraken() -> Iterator[SimulatedKraken]:
    exchange = SimulatedKraken()
    rich(exchange)
    with serve(exchange):
        yield exchange


# --- coming and going ---------------------------------------------------------------------------------


def test_an_account_that_is_added_has_everything_to_prove_and_works_like_any_other() -> None:
    with cluster_of(own("a")) as cluster, Listener(cluster.health_endpoint) as listener:
        said = cluster.add(own("b"))
        assert str(said) == "b: added; it is available after its first success"
        b = cluster.broker("b")
        assert b.reading().state is HealthState.UNKNOWN, "no configuration makes an account available"
        assert not b.is_available()
        assert b.get_account_balance() == 100
        assert b.is_available()
        assert names(cluster.readings()) == ["a", "b"]
        until(lambda: "b" in listener.readings() and listener.readings()["b"].available)
        with pytest.raises(ConfigError, match=r"brokers\.b: expected a name of its own"):
            cluster.add(own("b"))


def test_an_account_that_was_removed_is_nowhere_and_its_handle_says_so() -> None:
    with cluster_of(own("a"), own("b")) as cluster, Listener(cluster.health_endpoint) as listener:
        b = cluster.broker("b")
        b.get_account_balance()
        until(lambda: "b" in listener.readings())
        assert str(cluster.remove("b")) == "b: removed"
        assert not b.is_available()
        assert (b.reading().available, b.reading().reason) == (False, Reason.SHUTDOWN)
        assert "removed" in b.reading().detail
        assert (b.name, b.exchange, "not available" in repr(b)) == ("b", "custom", True)
        for ask in (b.get_account_balance, b.get_positions, lambda: b.free("USD")):
            with pytest.raises(UnknownBroker, match="b was removed from this cluster"):
                ask()
        for look in (lambda: cluster.broker("b"), lambda: cluster.reading("b"), lambda: cluster.remove("b")):
            with pytest.raises(UnknownBroker, match="there are: a"):
                look()
        assert names(cluster.readings()) == ["a"]
        assert "b" not in cluster.board
        until(lambda: "b" not in listener.readings())
        assert list(cluster.total_cash()["USD"].unknown) == ["a"]
        assert cluster.broker("a").get_account_balance() == 100


def test_a_handle_works_again_when_its_account_comes_back(tmp_path: Path) -> None:
    with cluster_of(own("a"), own("b"), state=str(tmp_path)) as cluster:
        b = cluster.broker("b")
        b.get_account_balance()
        cluster.remove("b")
        cluster.add(own("b", Till({"USD": "7"})))
        assert b.reading().cash == 100
        assert not b.is_available(), "the last known comes back, and no proof"
        assert b.get_account_balance() == 7
        assert b.is_available()
        assert cluster.broker("b").reading() is b.reading()


def test_a_call_that_waits_while_its_account_is_removed_ends_with_a_clear_error() -> None:
    till = Till()
    till.hangs = True
    with cluster_of(own("a"), own("b", till, fetch_deadline_s=30.0)) as cluster:
        b, raised = cluster.broker("b"), list[BaseException]()

        def ask() -> None:
            try:
                b.get_account_balance()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at
                raised.append(error)

        caller = threading.Thread(target=ask)
        caller.start()
        assert till.stuck.wait(30)
        cluster.remove("b")
        caller.join(30)
        assert [type(error) for error in raised] == [UnknownBroker]


def test_a_hold_stays_by_the_name_of_its_account(tmp_path: Path) -> None:
    with cluster_of(own("a"), own("b"), state=str(tmp_path)) as cluster:
        cluster.hold("b", "moving funds")
        cluster.replace(own("b", labels={"x": "y"}))
        assert cluster.reading("b").reason is Reason.HELD_OUT
        cluster.remove("b")
        cluster.add(own("b"))
        assert cluster.reading("b").reason is Reason.HELD_OUT
        cluster.release("b")
        assert cluster.reading("b").reason is Reason.NEVER_SEEN


def test_the_first_account_at_an_exchange_may_come_later_and_the_last_one_may_go(
    kraken: SimulatedKraken,
) -> None:
    with cluster_of(own("a")) as cluster:
        for _ in range(2):
            cluster.add(simulated_spec(kraken, trading=True))
            broker = cluster.broker("kraken-test")
            assert broker.get_account_balance() > 0
            until(lambda: cluster.router.pick(Need(symbol="BTC/USD", side="sell")).broker == "kraken-test")
            cluster.remove("kraken-test")
            assert cluster.router.pick(Need(symbol="BTC/USD", side="sell")).broker is None


def test_a_cluster_that_does_not_run_changes_nothing() -> None:
    cluster = cluster_of(own("a"))
    with pytest.raises(ClusterStopped):
        cluster.add(own("b"))
    with cluster:
        pass
    with pytest.raises(ClusterStopped):
        cluster.remove("a")


def test_a_cluster_of_python_needs_the_settings_and_goes_on_by_them() -> None:
    with cluster_of(own("a"), own("b")) as cluster:
        with pytest.raises(ConfigError, match="this cluster was made in Python"):
            cluster.reload()
        a = own("a", labels={"desk": "x"})
        said = cluster.reload(settings_of(cluster, own("c"), a, status_interval_s=60.0))
        assert (said.added, said.removed, dict(said.changed)) == (("c",), ("b",), {"a": ("fetch", "labels")})
        assert said.cluster == ("status_interval_s",)
        assert names(cluster.readings()) == ["c", "a"]


def _is_above(till: Till, fetches: int) -> bool:
    return till.fetches > fetches


# --- all or nothing -----------------------------------------------------------------------------------


def test_a_mistake_changes_nothing_and_each_one_is_named() -> None:
    with cluster_of(own("a"), own("b")) as cluster:
        wanted = (own("a", labels={"x": "y"}), replace(own("b"), simulated=True), own("c"))
        with pytest.raises(ConfigError) as raised:
            cluster.reload(settings_of(cluster, *wanted, name="other"))
        keys = [problem.key for problem in raised.value.problems]
        assert keys == ["cluster.name", "brokers.b.simulated"]
        assert names(cluster.readings()) == ["a", "b"]
        assert not cluster.reading("a").labels
        unusable = BrokerSpec("d", exchange="kraken", poll_interval_s=ONLY_WHEN_ASKED)
        with pytest.raises(ConfigError, match=r"brokers\.d\.credentials"):
            cluster.reload(settings_of(cluster, own("a", labels={"x": "y"}), unusable))
        assert names(cluster.readings()) == ["a", "b"]
        assert not cluster.reading("a").labels


# --- changes in place ---------------------------------------------------------------------------------


def test_what_has_not_changed_does_not_miss_a_poll_and_nobody_is_flipped(kraken: SimulatedKraken) -> None:
    steady, other = Till(), Till()
    a, b = own("a", steady, poll_interval_s=QUICK_S), own("b", other, poll_interval_s=QUICK_S)
    with cluster_of(a, b, simulated_spec(kraken, poll_interval_s=QUICK_S)) as cluster:
        handles = [cluster.broker(name) for name in ("a", "b", "kraken-test")]
        until(lambda: all(each.is_available() and each.reading().as_of for each in handles))
        lost: list[str] = []
        unsubscribe = cluster.router.on_change(
            lambda change: lost.append(change.broker) if change.lost else None
        )
        epochs = [each.reading().broker_epoch for each in handles]
        for number in range(10):
            before = steady.fetches
            labels = {"round": str(number)}
            kraken_too = simulated_spec(kraken, poll_interval_s=QUICK_S, fetch_deadline_s=5.0 + number)
            cluster.reload(settings_of(cluster, a, replace(b, labels=labels), kraken_too))
            assert cluster.reading("b").labels == labels
            until(partial(_is_above, steady, before))
        unsubscribe()
        assert lost == []
        assert [each.reading().broker_epoch for each in handles] == epochs, "no actor was started anew"
        assert all(each.is_available() for each in handles)


def test_a_change_of_the_rules_makes_no_account_available(kraken: SimulatedKraken) -> None:
    till = Till()
    till.failure = RuntimeError("down")
    spec = own("a", till, max_consecutive_errors=2, labels={})
    with cluster_of(spec) as cluster:
        a = cluster.broker("a")
        for _ in range(2):
            with pytest.raises(BalanceUnknown):
                a.get_account_balance()
        assert a.reading().state is HealthState.UNAVAILABLE
        for changes in (
            {"max_consecutive_errors": 9},
            {"policy": "guarded", "rules": GUARDED},
            {"labels": {"x": "y"}},
        ):
            cluster.replace(replace(spec, **changes))
            assert not a.is_available()
            assert a.reading().state is HealthState.UNAVAILABLE
        till.failure = None
        cluster.replace(spec)
        a.get_account_balance()
        assert a.is_available()
        till.failure = RuntimeError("down again")
        a.get_account_balance()
        assert a.is_available()
        cluster.replace(replace(spec, max_consecutive_errors=1))
        until(lambda: not a.is_available())
        assert a.reading().error_count == 1


def test_an_account_that_is_unproven_is_not_proven_by_a_longer_bound() -> None:
    till = Till()
    spec = own("a", till, max_proof_age_s=0.3, fetch_deadline_s=0.2)
    with cluster_of(spec) as cluster:
        a = cluster.broker("a")
        a.get_account_balance()
        until(lambda: not a.is_available())
        till.hangs = True
        cluster.replace(replace(spec, max_proof_age_s=3_600.0))
        assert till.stuck.wait(30), "it is asked at once"
        assert a.reading().reason is Reason.UNPROVEN
        till.hangs = False
        until(lambda: a.get_account_balance() and a.is_available())


def test_another_poll_interval_holds_at_once() -> None:
    till = Till()
    with cluster_of(own("a", till)) as cluster:
        fetches = till.fetches
        cluster.replace(own("a", till, poll_interval_s=QUICK_S))
        until(lambda: till.fetches > fetches + 3)
        cluster.replace(own("a", till))
        a = cluster.broker("a")
        a.get_account_balance()  # whatever was under way has ended
        fetches = till.fetches
        a.get_account_balance()
        assert till.fetches == fetches + 1


def test_orders_are_switched_on_and_off_and_the_key_keeps_its_lane(kraken: SimulatedKraken) -> None:
    with cluster_of(simulated_spec(kraken)) as cluster:
        broker = cluster.broker("kraken-test")
        broker.get_account_balance()
        lane = requests_of(broker).account().access.lane
        with pytest.raises(TradingDisabled):
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY)
        cluster.replace(simulated_spec(kraken, trading=True, policy="simple"))
        assert broker.is_available()
        assert requests_of(broker).account().access.lane is lane
        order = broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
        assert (order.state, kraken.placed_orders) == ("accepted", 1)
        cluster.replace(simulated_spec(kraken))
        with pytest.raises(TradingDisabled):
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
        assert kraken.placed_orders == 1


def test_an_exchange_goes_on_being_asked_how_it_is_when_another_account_there_goes() -> None:
    okx = SimulatedOkx()
    rich(okx)
    path = "/api/v5/system/status"
    with serve(okx):
        first = simulated_spec(okx, "first")
        second = replace(first, name="second", credentials=MappingProxyType(dict(okx.add_account())))
        with cluster_of(first, status_interval_s=QUICK_S) as cluster:
            until(lambda: okx.calls_to(path) > 1)
            cluster.add(second)
            cluster.remove("first")
            calls = okx.calls_to(path)
            until(lambda: okx.calls_to(path) > calls + 1)
            cluster.remove("second")
            calls = okx.calls_to(path)
            cluster.add(second)
            until(lambda: okx.calls_to(path) > calls + 1)


IN_PLACE: Final[dict[str, Any]] = {
    "poll_interval_s": 7.0,
    "quiet_poll_interval_s": 600.0,
    "fetch_deadline_s": 4.0,
    "max_consecutive_errors": 5,
    "policy": "guarded",
    "rules": GUARDED,
    "requests_per_s": 200.0,
    "request_burst": 300.0,
    "read_funding": False,
    "cash_currencies": ("USD",),
    "labels": {"desk": "b"},
    "trading": True,
    "entry_max_age_s": 77.0,
    "repeat_exits": False,
    "max_proof_age_s": 5_000.0,
    "allow_empty": True,
    "ccxt": {"timeout": 9_000},
    "key_watch_interval_s": 600.0,
    "egress_address": "127.0.0.1",
    "money_watch": MoneyRules(),
    "push": True,
    "reserved_requests": 2.0,
}
"""Another value for each key that changes in place; `fetch` is in the tests above."""


def test_every_key_that_changes_in_place_is_tried() -> None:
    in_place = {key for key, takes in BROKER_KEYS.items() if takes in (Takes.ACTOR, Takes.ACCOUNT)}
    assert in_place == IN_PLACE.keys() | {"fetch"}


def test_each_key_changes_in_place_and_the_account_does_not_notice(kraken: SimulatedKraken) -> None:
    spec = simulated_spec(kraken, poll_interval_s=QUICK_S)
    with cluster_of(spec) as cluster:
        broker = cluster.broker(spec.name)
        until(lambda: broker.get_account_balance() > 0 and broker.is_available())
        epoch, lost = broker.reading().broker_epoch, list[str]()
        cluster.router.on_change(lambda change: lost.append(change.after.detail) if change.lost else None)
        for key, value in IN_PLACE.items():
            changes: dict[str, Any] = {key: value}
            if key == "ccxt":
                changes = {key: MappingProxyType({**spec.ccxt, **value})}
            changed = replace(spec, **changes)
            said = cluster.replace(changed)
            assert key in said.changed[spec.name]
            assert requests_of(broker).spec == changed
            assert broker.get_account_balance() > 0
            cluster.replace(spec)
        assert (lost, broker.reading().broker_epoch) == ([], epoch)
        assert broker.is_available()


def test_a_reload_in_an_outage_keeps_the_last_known_and_frees_nobody() -> None:
    till = Till()
    spec = own("a", till, poll_interval_s=QUICK_S)
    with cluster_of(spec, own("b")) as cluster:
        a = cluster.broker("a")
        until(lambda: a.get_account_balance() and a.is_available())
        till.failure = ConnectionError("down")
        until(lambda: not a.is_available())
        errors = a.get_error_count()
        for number in range(10):
            labels = {"round": str(number)}
            again = replace(spec, labels=labels, max_consecutive_errors=3 + number)
            cluster.reload(settings_of(cluster, again, own("b")))
            assert not a.is_available()
            assert a.reading().cash == 100
            assert a.reading().labels == labels
        assert a.get_error_count() >= errors
        till.failure = None
        until(a.is_available)


def test_the_settings_of_the_cluster_that_change_in_place_hold_at_once(kraken: SimulatedKraken) -> None:
    spec = simulated_spec(kraken, trading=True, policy="simple")
    with cluster_of(spec) as cluster, Listener(cluster.health_endpoint) as listener:
        broker = cluster.broker(spec.name)
        broker.get_account_balance()
        until(lambda: spec.name in listener.readings() and listener.readings()[spec.name].cash is not None)
        cluster.reload(
            settings_of(cluster, spec, publish_balances=False, require_verification_max_age_s=60.0)
        )
        until(lambda: listener.readings()[spec.name].cash is None)
        with pytest.raises(VerificationRequired):
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
        cluster.reload(settings_of(cluster, spec))
        order = broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
        assert order.state is OrderState.ACCEPTED
        until(lambda: listener.readings()[spec.name].cash is not None)


def test_hundreds_of_accounts_are_changed_without_a_missed_beat() -> None:
    tills = [Till() for _ in range(300)]
    specs = [own(f"a{number}", till) for number, till in enumerate(tills)]
    with cluster_of(*specs, heartbeat_s=1.0) as cluster:
        labelled = [replace(spec, labels={"x": "y"}) for spec in specs]
        said = cluster.reload(settings_of(cluster, *reversed(labelled[:200]), own("new")))
        assert (len(said.removed), len(said.changed), said.added, said.reordered) == (
            100,
            200,
            ("new",),
            True,
        )
        assert names(cluster.readings())[:2] == ["a199", "a198"]
        assert cluster.broker("a7").reading().labels == {"x": "y"}
        assert cluster.broker("new").get_account_balance() == 100
