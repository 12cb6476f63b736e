"""The source's own rules: what is believed, and that a secret is never shown."""

from __future__ import annotations

import logging

import pytest

from brokerwatch import BalanceUnknown
from brokerwatch.answers import EMPTY_OVER_S, EMPTY_READS, EmptyAnswers
from brokerwatch.messages import FaultKind, Holding, amount
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.clusters import cluster_of, simulated_spec

SOMETHING = {"USD": Holding(free=amount("1"), used=amount("0"), total=amount("1"))}


def test_an_account_that_was_always_empty_is_believed_to_be_empty() -> None:
    answers = EmptyAnswers()
    assert [answers.doubt({}, now_s) for now_s in (0.0, 1.0, 2.0)] == ["", "", ""]


def test_nothing_after_something_is_believed_after_three_answers_over_thirty_seconds() -> None:
    answers = EmptyAnswers()
    assert answers.doubt(SOMETHING, 0.0) == ""
    quick = [answers.doubt({}, 1.0 + n) for n in range(EMPTY_READS + 5)]
    assert all(quick), "any number of quick ones prove nothing"
    assert answers.doubt({}, 1.0 + EMPTY_OVER_S) == ""
    assert answers.doubt({}, 2.0 + EMPTY_OVER_S) == "", "once believed, it stays believed"


def test_two_answers_are_not_enough_however_far_apart() -> None:
    answers = EmptyAnswers()
    answers.doubt(SOMETHING, 0.0)
    assert answers.doubt({}, 1.0)
    assert answers.doubt({}, 1.0 + 10 * EMPTY_OVER_S)
    assert answers.doubt({}, 2.0 + 10 * EMPTY_OVER_S) == ""


@pytest.mark.parametrize("between", ["a fault", "something"])
def test_what_comes_between_begins_the_count_again(between: str) -> None:
    answers = EmptyAnswers()
    answers.doubt(SOMETHING, 0.0)
    for n in range(EMPTY_READS - 1):
        assert answers.doubt({}, n * EMPTY_OVER_S)
    if between == "a fault":
        answers.interrupted()
    else:
        answers.doubt(SOMETHING, 5 * EMPTY_OVER_S)
    assert answers.doubt({}, 6 * EMPTY_OVER_S)


@pytest.mark.parametrize("make", [SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
def test_an_exchange_that_suddenly_answers_with_an_empty_account_is_not_believed(
    make: type[SimulatedExchange],
) -> None:
    exchange = make()
    exchange.set_balance({"USDC": ("50", "0")})
    with serve(exchange), cluster_of(simulated_spec(exchange)) as cluster:
        broker = cluster.broker(f"{exchange.ccxt_id}-test")
        assert broker.get_account_balance() == 50
        exchange.set_balance({})
        assert broker.get_account_balance() == 50
        assert (broker.get_error_count(), broker.reading().fault) == (1, FaultKind.BAD_RESPONSE)
        assert "no currency at all" in broker.reading().detail


@pytest.mark.parametrize("make", [SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
def test_no_secret_is_logged_or_told_even_at_debug(
    make: type[SimulatedExchange], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    exchange = make()
    said: list[str] = []
    with serve(exchange), cluster_of(simulated_spec(exchange)) as cluster:
        broker = cluster.broker(f"{exchange.ccxt_id}-test")
        for fault in ("bad_key", "bad_signature", "http_500_json", "not_http", "wrong_envelope"):
            exchange.set_fault(fault)
            with pytest.raises(BalanceUnknown) as caught:
                broker.get_account_balance()
            said += [str(caught.value), broker.reading().detail, repr(broker.reading())]
    everything = "\n".join([*said, caplog.text])
    secrets = [value for name, value in exchange.credentials.items() if name != "api_key"]
    for secret in secrets:
        for part in secret.splitlines():
            assert len(part) < 8 or part.startswith("-----") or part not in everything
    assert exchange.credentials["api_key"] not in everything
