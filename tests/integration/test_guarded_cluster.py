"""The guarded policy through real actors, sockets and HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from brokerwatch import BrokerSpec, Listener
from brokerwatch.config.policy import GUARDED, Rules
from brokerwatch.messages import FaultKind, HealthState, Reason
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import Till, cluster_of, simulated_spec, until, wait_for_reading
from tests.support.desks import BALANCE_PATHS

SELDOM_S = 3_600.0
"""A poll interval that no test lives to see: whatever is asked sooner, the policy asked."""


@pytest.fixture(params=[SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
def exchange(request: pytest.FixtureRequest) -> Iterator[SimulatedExchange]:
    made: SimulatedExchange = request.param()
    with serve(made):
        yield made


def guarded(
    exchange: SimulatedExchange, poll_interval_s: float = SELDOM_S, rules: Rules = GUARDED
) -> BrokerSpec:
    return simulated_spec(exchange, policy="guarded", poll_interval_s=poll_interval_s, rules=rules)


def test_a_guarded_account_is_not_available_before_its_first_answer() -> None:
    till = Till()
    till.hangs = True
    with cluster_of(BrokerSpec("a", fetch=till, policy="guarded", poll_interval_s=SELDOM_S)) as cluster:
        broker = cluster.broker("a")
        assert till.stuck.wait(10)
        assert (broker.is_available(), broker.reading().state) == (False, HealthState.UNKNOWN)


def test_one_fault_is_confirmed_at_once_and_recovery_takes_two_successes(exchange: SimulatedExchange) -> None:
    spec = guarded(exchange)
    with cluster_of(spec) as cluster, Listener(cluster.health_endpoint) as listener:
        broker = cluster.broker(spec.name)
        until(broker.is_available)
        exchange.set_fault("http_502_html")
        calls = exchange.private_calls
        cash = broker.get_account_balance()
        # The poll is an hour away: the second and the third error come from asking again quickly.
        until(lambda: not broker.is_available())
        assert broker.reading().state is HealthState.UNAVAILABLE
        assert exchange.private_calls >= calls + 3
        assert broker.reading().cash == cash
        exchange.mend()
        recovering = wait_for_reading(
            listener, spec.name, lambda reading: reading.state is HealthState.RECOVERING
        )
        assert (recovering.available, recovering.reason) == (False, Reason.RECOVERING)
        until(broker.is_available)


def test_maintenance_is_a_state_and_no_error(exchange: SimulatedExchange) -> None:
    spec = guarded(exchange)
    with cluster_of(spec) as cluster:
        broker = cluster.broker(spec.name)
        cash = broker.get_account_balance()
        exchange.set_fault("maintenance")
        for _ in range(4):
            assert broker.get_account_balance() == cash
        reading = broker.reading()
        assert (reading.state, reading.reason) == (HealthState.MAINTENANCE, Reason.MAINTENANCE)
        assert (reading.available, reading.error_count) == (False, 0)
        assert reading.fault is FaultKind.MAINTENANCE
        exchange.mend()
        broker.get_account_balance()
        assert broker.is_available()


@pytest.mark.parametrize("fault", ["bad_key", "bad_signature"])
def test_a_key_that_is_refused_for_good_is_not_used_again_until_a_reset(
    exchange: SimulatedExchange, fault: str
) -> None:
    spec = guarded(exchange, poll_interval_s=0.05, rules=replace(GUARDED, auth_probes_s=(0.1, 0.1)))
    with cluster_of(spec) as cluster:
        broker = cluster.broker(spec.name)
        cash = broker.get_account_balance()
        exchange.set_fault(fault)
        broker.get_account_balance()
        until(lambda: broker.reading().reason is Reason.AUTH)
        before = exchange.private_calls
        until(lambda: "brokerwatch reset" in broker.reading().detail)
        calls = exchange.private_calls
        assert calls - before <= 2, "asked again as often as the rules say"
        exchange.mend()
        for _ in range(10):
            assert broker.get_account_balance() == cash
        assert exchange.private_calls == calls
        assert "brokerwatch reset" in broker.reading().detail
        assert not broker.is_available()
        cluster.reset(spec.name)
        until(broker.is_available)
        assert exchange.private_calls > calls


@pytest.mark.parametrize("fault", ["bad_key", "bad_signature"])
def test_a_key_that_is_refused_once_comes_back_by_itself(exchange: SimulatedExchange, fault: str) -> None:
    spec = guarded(exchange, poll_interval_s=0.05, rules=replace(GUARDED, auth_probes_s=(2.0, 60.0)))
    with cluster_of(spec) as cluster:
        broker = cluster.broker(spec.name)
        until(broker.is_available)
        # It is asked again after 2 s: a machine that stands still for a moment must not miss the refusal.
        exchange.set_fault(fault, 1, path=BALANCE_PATHS[exchange.ccxt_id])
        until(lambda: broker.reading().reason is Reason.AUTH)
        assert not broker.is_available(), "from the first refusal on"
        until(broker.is_available)


def test_a_refusal_outlives_a_restart_and_ends_with_new_credentials(tmp_path: Path) -> None:
    okx = SimulatedOkx()
    with serve(okx):
        # It is not asked again by itself while two lives begin and end.
        spec = guarded(okx, rules=replace(GUARDED, auth_probes_s=(3_600.0,)))
        wrong = replace(spec, credentials={**spec.credentials, "secret": "0" * 32})
        for _ in range(2):
            with cluster_of(wrong, state=str(tmp_path)) as cluster:
                until(lambda: cluster.broker(spec.name).reading().reason is Reason.AUTH)
        assert okx.private_calls == 1, "the second life did not ask again"
        with cluster_of(spec, state=str(tmp_path)) as cluster:
            until(cluster.broker(spec.name).is_available)


def test_a_proxy_s_page_refuses_nobody_for_good(exchange: SimulatedExchange) -> None:
    spec = guarded(exchange, poll_interval_s=0.05)
    with cluster_of(spec) as cluster:
        broker = cluster.broker(spec.name)
        broker.get_account_balance()
        exchange.set_fault("http_401_html")
        until(lambda: broker.reading().state is HealthState.UNAVAILABLE)
        assert broker.reading().fault is FaultKind.EXCHANGE_DOWN
        exchange.mend()
        until(broker.is_available)


def test_error_error_success_for_ever_does_not_stay_healthy() -> None:
    till = Till()
    outcomes: list[bool] = []
    spec = BrokerSpec("a", fetch=till, policy="guarded", poll_interval_s=float("inf"))
    with cluster_of(spec) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        for n in range(12):
            till.failure = None if n % 3 == 2 else ConnectionError("down")
            broker.get_account_balance()
            outcomes.append(broker.is_available())
        assert not all(outcomes)
        assert outcomes[-6:] == [False] * 6


def test_each_rule_can_be_switched_off() -> None:
    till = Till()
    spec = BrokerSpec("a", fetch=till, policy="guarded", poll_interval_s=float("inf"))
    lax = replace(
        spec, rules=replace(spec.rules, start_unknown=False, window_fetches=0, successes_to_recover=1)
    )
    with cluster_of(lax) as cluster:
        broker = cluster.broker("a")
        assert broker.is_available(), "the very first life starts healthy where the rule is off"
        for _ in range(3):
            till.failure = ConnectionError("down")
            broker_balance_or_nothing(broker)
        assert not broker.is_available()
        till.failure = None
        assert broker.get_account_balance() == Decimal(100)
        assert broker.is_available(), "one success is enough where one is asked"


def broker_balance_or_nothing(broker: object) -> None:
    from brokerwatch import BalanceUnknown, Broker

    assert isinstance(broker, Broker)
    try:
        broker.get_account_balance()
    except BalanceUnknown:
        return


def test_a_balance_older_than_its_limit_is_stale_everywhere() -> None:
    spec = BrokerSpec("a", fetch=Till(), policy="guarded", poll_interval_s=float("inf"))
    young = replace(spec, rules=replace(spec.rules, max_age_s=0.2))
    with cluster_of(young) as cluster, Listener(cluster.health_endpoint) as listener:
        broker = cluster.broker("a")
        broker.get_account_balance()
        until(lambda: broker.reading().stale)
        assert broker.is_available(), "old is not broken"
        # Growing old is no change, so it is looked at and not waited for as one.
        until(lambda: (heard := listener.readings().get("a")) and heard.stale and heard.cash is not None)
        until(lambda: not broker.get_account_balance_detailed().stale)  # it is read again
