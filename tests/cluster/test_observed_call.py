"""The kind of call that an exception of the trader's own came from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ccxt
import ccxt.async_support
import pytest

from brokerwatch.cluster.observed_call import capability_of, is_from_ccxt
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.own_instances import own

CALLS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("balance", lambda mine: mine.fetch_balance(), "read"),
    ("own orders", lambda mine: mine.fetch_open_orders(), "read"),
    ("one order", lambda mine: mine.fetch_order("OABC", "BTC/USD"), "read"),
    ("an order", lambda mine: mine.create_order("BTC/USD", "market", "buy", 0.1), "trade"),
    ("by another name", lambda mine: mine.createMarketBuyOrder("BTC/USD", 0.1), "trade"),
    ("a cancel", lambda mine: mine.cancel_order("OABC"), "trade"),
    ("a price", lambda mine: mine.fetch_ticker("BTC/USD"), "data"),
    ("candles", lambda mine: mine.fetch_ohlcv("BTC/USD"), "data"),
    ("implicit order", lambda mine: mine.privatePostAddOrder({"pair": "XXBTZUSD"}), "trade"),
    ("implicit question", lambda mine: mine.privatePostOpenOrders(), "read"),
    ("implicit price", lambda mine: mine.publicGetTicker({"pair": "XXBTZUSD"}), "data"),
]


@pytest.mark.parametrize(("call", "kind"), [each[1:] for each in CALLS], ids=[each[0] for each in CALLS])
def test_the_method_that_failed_says_what_was_asked(call: Callable[[Any], Any], kind: str) -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        mine.load_markets()
        exchange.set_fault("exchange_down", public=True)
        with pytest.raises(ccxt.BaseError) as raised:
            call(mine)
        assert capability_of(raised.value) == kind


def test_an_order_that_met_the_trouble_of_the_markets_is_no_trouble_of_orders() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        exchange.set_fault("exchange_down", public=True)
        with pytest.raises(ccxt.BaseError) as raised:
            mine.create_order("BTC/USD", "market", "buy", 0.1)
        assert capability_of(raised.value) == "data"


def test_an_awaited_call_says_it_too_and_so_does_what_the_trader_made_of_it() -> None:
    exchange = SimulatedKraken()

    async def asked() -> BaseException:
        mine: Any = own(exchange, ccxt.async_support)
        try:
            await mine.load_markets()
            exchange.set_fault("exchange_down", public=True)
            try:
                await mine.create_order("BTC/USD", "market", "buy", 0.1)
            except ccxt.BaseError as error:
                return _wrapped(error)
            raise AssertionError("it was to fail")
        finally:
            await mine.close()

    with serve(exchange):
        assert capability_of(asyncio.run(asked())) == "trade"


def _wrapped(error: BaseException) -> BaseException:
    wrapped = RuntimeError("mine")
    wrapped.__cause__ = error
    return wrapped


def test_a_traceback_that_says_nothing_gives_no_kind() -> None:
    assert capability_of(ccxt.NetworkError("kraken")) is None

    def fetch_prices_and_trade() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as raised:
        fetch_prices_and_trade()
    assert capability_of(raised.value) is None
    assert not is_from_ccxt(raised.value)


def test_exceptions_in_a_circle_are_no_endless_loop() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert capability_of(first) is None
