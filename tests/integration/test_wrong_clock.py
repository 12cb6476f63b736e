"""A clock that is an hour off: no key is taken for a wrong one, and the account comes back by itself."""

from __future__ import annotations

import time
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest

from brokerwatch.errors import BalanceUnknown, OrderError
from brokerwatch.gateway import connection
from brokerwatch.messages import CapabilityState, FaultKind, Reason
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedOkx, serve
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.other_exchange import Reply, Request, answering, market, spec_of
from tests.support.own_instances import cluster_on, own

HOUR_S = 3_600.0
MAKE: dict[str, type[SimulatedExchange]] = {"coinbase": SimulatedCoinbase, "okx": SimulatedOkx}


@pytest.mark.parametrize("policy", ["simple", "guarded"])
@pytest.mark.parametrize("off_s", [-HOUR_S, HOUR_S])
@pytest.mark.parametrize("name", MAKE)
def test_an_account_recovers_when_the_clock_is_right_again(name: str, off_s: float, policy: str) -> None:
    exchange = MAKE[name]()
    with serve(exchange), cluster_of(simulated_spec(exchange, policy=policy)) as cluster:
        broker = cluster.broker(f"{name}-test")
        broker.get_account_balance()
        known = broker.get_account_balance()
        exchange.clock_skew_s = off_s
        for _ in range(4):
            assert broker.get_account_balance() == known
        reading = broker.reading()
        assert (reading.fault, reading.available) == (FaultKind.NONCE_CLOCK, False)
        assert reading.reason is not Reason.AUTH
        assert "this machine's clock is 3" in reading.detail
        exchange.clock_skew_s = 0.0
        broker.get_account_balance()
        broker.get_account_balance()
        until(broker.is_available)


def test_a_wrong_key_is_a_wrong_key_while_the_clock_is_right() -> None:
    exchange = SimulatedCoinbase()
    with serve(exchange), cluster_of(simulated_spec(exchange, policy="guarded")) as cluster:
        broker = cluster.broker("coinbase-test")
        broker.get_account_balance()
        exchange.set_fault("bad_key")
        broker.get_account_balance()
        assert broker.reading().fault is FaultKind.AUTH


@pytest.mark.parametrize("name", MAKE)
def test_an_order_that_a_wrong_clock_refuses_does_not_close_trading(name: str) -> None:
    exchange = MAKE[name]()
    quote = "USDT" if name == "okx" else "USD"
    exchange.set_balance({quote: ("1000", "0")})
    with serve(exchange), cluster_of(simulated_spec(exchange, trading=True)) as cluster:
        broker = cluster.broker(f"{name}-test")
        broker.get_account_balance()
        broker.get_all_products()
        exchange.clock_skew_s = HOUR_S
        with pytest.raises(OrderError):
            broker.place_market_order(f"BTC/{quote}", "buy", quote_amount=Decimal(50), validate_only=False)
        assert broker.reading().capabilities["trade"].state is not CapabilityState.DOWN


def test_a_call_of_the_trader_s_own_that_a_wrong_clock_refuses_is_no_refused_key() -> None:
    exchange = SimulatedCoinbase()
    with serve(exchange):
        mine: Any = own(exchange)
        mine.load_markets()
        with cluster_on(mine, policy="guarded") as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            exchange.clock_skew_s = HOUR_S
            try:
                mine.fetch_balance()
            except Exception as error:  # noqa: BLE001 - whatever ccxt makes of it
                broker.observe(error)
            until(lambda: broker.get_error_count() == 1)
            assert broker.reading().fault is FaultKind.NONCE_CLOCK
            assert broker.reading().reason is not Reason.AUTH


@pytest.mark.parametrize(
    ("dated_s", "measured_s", "kind"),
    [(0.0, HOUR_S, FaultKind.NONCE_CLOCK), (HOUR_S, 0.0, FaultKind.AUTH), (0.0, 0.0, FaultKind.AUTH)],
    ids=["only the question shows it", "the date is of another clock", "the clock is right"],
)
def test_what_the_exchange_answers_about_its_time_decides(
    dated_s: float, measured_s: float, kind: FaultKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SKEW_S", 30.0)  # a busy machine takes longer to answer

    def answer(request: Request) -> Reply:
        if request.path.endswith("/time"):
            return Reply({"serverTime": round((time.time() + measured_s) * 1_000)})
        date = formatdate(time.time() + dated_s, usegmt=True)
        return Reply({"code": -1022, "msg": "Signature for this request is not valid."}, 400, {"Date": date})

    markets = {"BTC/USDT": market("BTC/USDT", "BTCUSDT")}
    with (
        answering(answer) as server,
        cluster_of(spec_of("binance", server, conf={"markets": markets})) as cluster,
    ):
        broker = cluster.broker("other")
        with pytest.raises(BalanceUnknown):
            broker.get_account_balance()
        assert broker.reading().fault is kind
