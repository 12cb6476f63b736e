"""Where a list of markets comes from: a public answer, ccxt itself, or an answer that takes the key."""

from __future__ import annotations

from typing import Any, Final

import pytest

from brokerwatch.errors import CouldNotAsk, NotAllowed
from tests.support.plain_exchange import plain_exchange

BUILT_IN: Final = {
    "bit2c": ("BTC/NIS", "BtcNis"),
    "coincheck": ("BTC/JPY", "btc_jpy"),
    "coinspot": ("BTC/AUD", "btc"),
    "paymium": ("BTC/EUR", "eur"),
}
ALPACA: Final[list[dict[str, Any]]] = [
    {
        "id": "c150e086", "class": "crypto", "exchange": "CRYPTO", "symbol": "BTC/USDT", "name": "Bitcoin",
        "status": "active", "tradable": True, "marginable": False, "fractionable": True, "attributes": [],
        "min_order_size": "0.000026873", "min_trade_increment": "0.000000001", "price_increment": "1",
    }
]  # fmt: skip
"""One row of "Get assets". (docs.alpaca.markets)"""


@pytest.mark.parametrize("exchange", BUILT_IN)
def test_markets_that_ccxt_has_built_in_are_known_without_a_request(exchange: str) -> None:
    symbol, market_id = BUILT_IN[exchange]
    with plain_exchange(exchange, {}, trading=False, cash_currencies=(symbol[4:],)) as (server, cluster):
        broker = cluster.broker("b")
        listed = {product.symbol: product for product in broker.get_all_products()}
        assert listed[symbol].id == market_id
        assert broker.normalize_symbol(symbol.replace("/", "-")) == symbol
        assert not broker.supports_symbol("BTC/BUSD")
        assert server.requests == []


def test_a_list_that_takes_the_key_is_asked_for_with_it_and_once() -> None:
    with plain_exchange("alpaca", {"/v2/assets": (200, ALPACA)}, trading=False) as (alpaca, cluster):
        broker = cluster.broker("b")
        [product] = broker.get_all_products()
        assert (product.symbol, product.active) == ("BTC/USDT", True)
        assert broker.get_all_products() == [product]
        assert len(alpaca.sent("/v2/assets")) == 1
        assert alpaca.headers[-1]["APCA-API-KEY-ID"] == "k" * 32


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, {"message": "access key verification failed"}), CouldNotAsk),
        ((403, {"code": 40310000, "message": "forbidden."}), NotAllowed),
        ((500, "down"), CouldNotAsk),
        ((200, "[]"), CouldNotAsk),
    ],
)
def test_a_list_that_the_key_is_not_given_is_an_error_and_never_an_empty_list(
    answer: Any, error: type[Exception]
) -> None:
    alpaca = plain_exchange("alpaca", {"/v2/assets": answer}, trading=False)
    with alpaca as (_, cluster), pytest.raises(error):
        cluster.broker("b").get_all_products()


def test_mudrex_lists_its_markets_to_the_key_too() -> None:
    row = {
        "id": "1",
        "symbol": "BTCUSDT",
        "min_contract": "0.001",
        "price_step": "0.1",
        "quantity_step": "0.001",
    }
    with plain_exchange("mudrex", {"/futures": (200, {"data": [row]})}, trading=False) as (mudrex, cluster):
        [product] = cluster.broker("b").get_all_products()
        assert (product.base, product.kind) == ("BTC", "swap")
        assert mudrex.headers[-1].get("X-Authentication")
