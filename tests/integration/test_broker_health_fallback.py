"""The contract, on each of the three exchanges: through ccxt, HTTP and signatures, as a trader calls it.

A failed fetch answers with the last known balance; the third consecutive error makes the broker
unavailable; one success brings it back. All of it within one thread and without a delay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from brokerwatch import BROKER_MAX_CONSECUTIVE_ERRORS, BalanceUnknown, Broker
from brokerwatch.messages import FaultKind, HealthState, Reason
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import cluster_of, simulated_spec

CASH = Decimal("1234.56")


@pytest.fixture(params=[SimulatedKraken, SimulatedCoinbase, SimulatedOkx], ids=["kraken", "coinbase", "okx"])
def exchange(request: pytest.FixtureRequest) -> Iterator[SimulatedExchange]:
    make: Callable[[], SimulatedExchange] = request.param
    simulated = make()
    simulated.set_balance({"USDC": ("1234.56", "10.00"), "BTC": ("0.5", "0")})
    with serve(simulated):
        yield simulated


@pytest.fixture
def broker(exchange: SimulatedExchange) -> Iterator[Broker]:
    spec = simulated_spec(exchange)
    with cluster_of(spec) as cluster:
        yield cluster.broker(spec.name)


def test_a_new_broker_is_available_has_no_errors_and_does_not_know_its_balance(broker: Broker) -> None:
    assert BROKER_MAX_CONSECUTIVE_ERRORS == 3
    assert broker.is_available()
    assert broker.get_error_count() == 0
    reading = broker.reading()
    assert (reading.state, reading.reason) == (HealthState.HEALTHY, Reason.OK)
    assert reading.cash is None, "an unknown balance is not zero"
    assert reading.simulated


def test_a_glitch_answers_with_the_last_known_and_the_next_success_clears_it(
    exchange: SimulatedExchange, broker: Broker
) -> None:
    assert broker.get_account_balance() == CASH
    exchange.set_fault("http_502_html", times=1)
    assert broker.get_account_balance() == CASH
    assert (broker.get_error_count(), broker.is_available()) == (1, True)
    assert broker.reading().state is HealthState.DEGRADED
    assert broker.reading().stale

    exchange.set_balance({"USDC": ("900", "0")})
    assert broker.get_account_balance() == Decimal(900)
    assert (broker.get_error_count(), broker.is_available()) == (0, True)
    assert not broker.reading().stale


def test_a_persistent_failure_trips_at_the_third_error_and_one_success_recovers(
    exchange: SimulatedExchange, broker: Broker
) -> None:
    assert broker.get_account_balance() == CASH
    exchange.set_fault("exchange_down")
    seen = [(broker.get_account_balance(), broker.is_available(), broker.get_error_count()) for _ in range(5)]
    assert seen == [(CASH, True, 1), (CASH, True, 2), (CASH, False, 3), (CASH, False, 4), (CASH, False, 5)]
    down = broker.reading()
    assert (down.state, down.reason, down.available) == (HealthState.UNAVAILABLE, Reason.ERRORS, False)
    assert down.fault is FaultKind.EXCHANGE_DOWN

    exchange.mend()
    assert broker.get_account_balance() == CASH
    assert (broker.is_available(), broker.get_error_count()) == (True, 0)
    assert broker.reading().since_us > down.since_us


def test_a_real_zero_is_a_balance_and_no_error(exchange: SimulatedExchange, broker: Broker) -> None:
    assert broker.get_account_balance() == CASH
    exchange.set_balance({"USDC": ("0", "0")})
    assert broker.get_account_balance() == 0
    assert (broker.is_available(), broker.get_error_count()) == (True, 0)
    assert not broker.reading().stale


def test_a_broker_that_never_answered_has_no_balance_and_says_which_fault(
    exchange: SimulatedExchange, broker: Broker
) -> None:
    exchange.set_fault("empty_body")
    with pytest.raises(BalanceUnknown, match=r"unknown, not zero \(bad_response"):
        broker.get_account_balance()
    assert broker.reading().cash is None
    assert broker.get_error_count() == 1


CALLED_EMPTY = (  # noqa: SIM905 - a list of twelve quoted words is harder to read
    "empty_body null_body html_200 cut_json empty_result wrong_envelope unmapped_status_529 "
    "nan_amount text_amount missing_amount partial_page redirect"
).split()


@pytest.mark.parametrize("fault", CALLED_EMPTY)
def test_what_ccxt_would_call_an_empty_account_is_an_error_here(
    exchange: SimulatedExchange, broker: Broker, fault: str
) -> None:
    assert broker.get_account_balance() == CASH
    before = broker.reading().balance
    exchange.set_fault(fault)
    assert broker.get_account_balance() == CASH
    assert broker.get_error_count() == 1
    assert broker.reading().balance == before
    exchange.mend()
    assert broker.get_account_balance() == CASH
    assert broker.get_error_count() == 0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("bad_key", FaultKind.AUTH),
        ("bad_signature", FaultKind.AUTH),
        ("bad_nonce", FaultKind.NONCE_CLOCK),
        ("permission", FaultKind.PERMISSION),
        ("rate_limited", FaultKind.RATE_LIMITED),
        ("maintenance", FaultKind.MAINTENANCE),
        ("http_403_html", FaultKind.EXCHANGE_DOWN),
        ("reset", FaultKind.NETWORK),
        ("cut_body", FaultKind.NETWORK),
        ("not_http", FaultKind.BAD_RESPONSE),
    ],
)
def test_each_kind_of_fault_is_told_apart(
    exchange: SimulatedExchange, broker: Broker, fault: str, kind: FaultKind
) -> None:
    exchange.set_fault(fault)
    with pytest.raises(BalanceUnknown):
        broker.get_account_balance()
    assert broker.reading().fault is kind
    secrets = [value for name, value in exchange.credentials.items() if name != "api_key"]
    assert not any(secret in broker.reading().detail for secret in secrets)
