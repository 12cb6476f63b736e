"""Balances in full: free, used, total, what is staked or earns, and what lies in other wallets."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from brokerwatch import BalanceUnknown, BlockingCallInLoop
from brokerwatch.messages import Holding
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import cluster_of, simulated_spec, until


def held(free: str, used: str, total: str, staked: str = "0", earning: str = "0") -> Holding:
    return Holding(
        free=Decimal(free),
        used=Decimal(used),
        total=Decimal(total),
        staked=Decimal(staked),
        earning=Decimal(earning),
    )


@pytest.mark.parametrize("make", [SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
def test_each_currency_with_what_orders_hold(make: type[SimulatedExchange]) -> None:
    exchange = make()
    exchange.set_balance({"USD": ("100.50", "20.25"), "USDC": ("7", "0"), "BTC": ("0.5", "0.125")})
    with serve(exchange), cluster_of(simulated_spec(exchange)) as cluster:
        found = cluster.broker(f"{exchange.ccxt_id}-test").get_account_balance_detailed()
        assert found.holdings["USD"] == held("100.50", "20.25", "120.75")
        assert found.holdings["BTC"] == held("0.5", "0.125", "0.625")
        assert (found.cash, found.held) == (Decimal("107.50"), Decimal("20.25"))
        assert (found.stale, found.available, found.fault) == (False, True, None)
        exchange.set_fault("http_502_html")
        again = cluster.broker(f"{exchange.ccxt_id}-test").get_account_balance_detailed()
        assert (again.holdings, again.cash, again.as_of) == (found.holdings, found.cash, found.as_of)
        assert again.age_ms >= found.age_ms
        assert (again.stale, again.fault) == (True, "exchange_down")


def test_an_account_that_never_answered_has_no_detail_and_no_zeros() -> None:
    exchange = SimulatedKraken()
    exchange.set_fault("reset")
    with (
        serve(exchange),
        cluster_of(simulated_spec(exchange)) as cluster,
        pytest.raises(BalanceUnknown, match="unknown, not zero"),
    ):
        cluster.broker("kraken-test").get_account_balance_detailed()


def test_kraken_s_staked_and_earning_parts_are_told_apart_and_belong_to_their_asset() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance(
        {
            "USD": ("10", "4"),
            "USD.F": ("90", "0"),
            "DOT": ("1", "0"),
            "DOT.S": ("5", "0"),
            "USD.M": ("3", "0"),
        }
    )
    with serve(exchange), cluster_of(simulated_spec(exchange)) as cluster:
        found = cluster.broker("kraken-test").get_account_balance_detailed()
        assert found.holdings["USD"] == held("100", "7", "107", staked="3", earning="90")
        assert found.holdings["DOT"] == held("1", "5", "6", staked="5")
        assert (found.cash, found.held) == (Decimal(100), Decimal(4)), "what is staked is held by no order"


def test_okx_s_funding_account_lies_apart_and_is_no_cash() -> None:
    okx = SimulatedOkx()
    okx.set_balance({"USDT": ("50", "0")})
    okx.set_funding({"USDT": ("1000", "0"), "BTC": ("2", "0.5")})
    with serve(okx), cluster_of(simulated_spec(okx)) as cluster:
        broker = cluster.broker("okx-test")
        found = broker.get_account_balance_detailed()
        assert found.cash == Decimal(50)
        funding = found.wallets["funding"]
        assert funding.holdings == {"USDT": held("1000", "0", "1000"), "BTC": held("2", "0.5", "2.5")}
        assert funding.trouble == ""


@pytest.mark.parametrize(
    "fault", ["http_502_html", "permission", "nan_amount", "empty_body", "reset", "hang"]
)
def test_a_funding_account_that_fails_does_not_void_the_balance(fault: str) -> None:
    okx = SimulatedOkx()
    okx.set_balance({"USDT": ("50", "0")})
    okx.set_funding({"USDT": ("1000", "0")})
    with serve(okx), cluster_of(simulated_spec(okx, fetch_deadline_s=8.0)) as cluster:
        broker = cluster.broker("okx-test")
        before = broker.get_account_balance_detailed().wallets["funding"]
        okx.set_balance({"USDT": ("51", "0")})
        okx.set_fault(fault, path="/api/v5/asset/balances")
        found = broker.get_account_balance_detailed()
        assert (found.cash, found.stale, found.fault) == (Decimal(51), False, None)
        assert broker.get_error_count() == 0
        funding = found.wallets["funding"]
        assert (funding.holdings, funding.as_of) == (before.holdings, before.as_of), "its last known stays"
        assert funding.trouble
        assert "funding account not read" in found.detail
        okx.mend()
        if fault != "permission":  # a key that may not read it is asked again later
            until(lambda: not broker.get_account_balance_detailed().wallets["funding"].trouble)


def test_in_asyncio_it_is_awaited() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_of(simulated_spec(exchange)) as cluster:
        broker = cluster.broker("kraken-test")

        async def ask() -> Decimal | None:
            with pytest.raises(BlockingCallInLoop, match=r"await broker\.fetch_balance_detailed"):
                broker.get_account_balance_detailed()
            return (await broker.fetch_balance_detailed()).held

        assert asyncio.run(ask()) == Decimal("1749.87")
