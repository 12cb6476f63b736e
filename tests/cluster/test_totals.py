"""Sums of cash: a stale part makes the sum stale, and what is unknown is named, never counted as zero."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch import BrokerSpec
from brokerwatch.cluster.totals import total_cash
from brokerwatch.messages import Reading
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import ONLY_WHEN_ASKED, Till, cluster_of, simulated_spec
from tests.support.strategies import readings


@given(st.lists(readings(), max_size=6))
def test_no_stale_amount_is_added_without_the_sum_being_marked_stale(parts: list[Reading]) -> None:
    found = total_cash(parts)
    assert found.stale or not any(part.stale for part in parts)
    assert found.stale or all(part.cash is not None for part in parts)
    assert len(found.counted) + len(found.unknown) == len(parts)
    assert not found.parts or sum(found.parts.values()) == found.cash


def test_a_sum_over_currencies_says_what_can_be_spent_of_each() -> None:
    one, two = Till({"USD": "100", "USDT": "5000", "BTC": "1"}), Till({"USD": "0.01", "USDC": "7"})
    specs = [
        BrokerSpec(name, fetch=fetch, poll_interval_s=ONLY_WHEN_ASKED)
        for name, fetch in (("one", one), ("two", two))
    ]
    with cluster_of(*specs) as cluster:
        assert cluster.total_cash()["USD"].parts == {}, "nothing is known yet"
        for name in ("one", "two"):
            cluster.broker(name).get_account_balance()
        found = cluster.total_cash()["USD"]
        assert found.cash == Decimal("5107.01")
        assert {code: part for code, part in found.parts.items() if part} == {
            "USD": Decimal("100.01"),
            "USDT": Decimal(5000),
            "USDC": Decimal(7),
        }


def test_an_account_that_could_not_be_asked_is_named_and_makes_the_sum_stale() -> None:
    up, down, euros = Till({"USD": "10.5"}), Till(), Till({"EUR": "7"})
    down.failure = ConnectionError("down")
    specs = (
        BrokerSpec("up", fetch=up, poll_interval_s=ONLY_WHEN_ASKED),
        BrokerSpec("down", fetch=down, poll_interval_s=ONLY_WHEN_ASKED),
        BrokerSpec("euros", fetch=euros, poll_interval_s=ONLY_WHEN_ASKED, cash_currencies=("EUR",)),
    )
    with cluster_of(*specs) as cluster:
        cluster.broker("up").get_account_balance()
        cluster.broker("euros").get_account_balance()
        sums = cluster.total_cash()
        assert set(sums) == {"USD", "EUR"}
        assert (sums["USD"].cash, sums["USD"].stale, sums["USD"].unknown) == (
            Decimal("10.5"),
            True,
            ("down",),
        )
        assert (sums["EUR"].cash, sums["EUR"].stale) == (Decimal(7), False)
        down.failure, down.balance = None, {"USD": "4"}
        cluster.broker("down").get_account_balance()
        assert (cluster.total_cash()["USD"].cash, cluster.total_cash()["USD"].stale) == (
            Decimal("14.5"),
            False,
        )
        down.failure = ConnectionError("down again")
        cluster.broker("down").get_account_balance()
        assert (cluster.total_cash()["USD"].cash, cluster.total_cash()["USD"].stale) == (
            Decimal("14.5"),
            True,
        )


def test_where_nothing_is_known_there_is_no_sum_and_no_zero() -> None:
    down = Till()
    down.failure = ConnectionError("down")
    with cluster_of(BrokerSpec("down", fetch=down, poll_interval_s=ONLY_WHEN_ASKED)) as cluster:
        found = cluster.total_cash()["USD"]
        assert (found.cash, found.stale, found.unknown) == (None, True, ("down",))


def test_two_brokers_on_one_key_are_one_account_and_count_once(caplog: pytest.LogCaptureFixture) -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("100", "0")})
    with serve(kraken):
        other = replace(
            simulated_spec(kraken, "c"), credentials=kraken.add_account(balance={"USD": ("7", "0")})
        )
        with cluster_of(simulated_spec(kraken, "a"), simulated_spec(kraken, "b"), other) as cluster:
            for name in ("a", "b", "c"):
                cluster.broker(name).get_account_balance()
            found = cluster.total_cash()["USD"]
            assert (found.cash, found.counted, found.same_account) == (Decimal(107), ("a", "c"), ("b",))
    assert "b has the API key of another broker here" in caplog.text
