"""An exchange refuses orders in one market: that market is closed for the account, and the others go on."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.errors import OrderError
from brokerwatch.messages import CapabilityState
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import RefusalCode
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.other_exchange import OtherExchange, Reply, Request, answering, spec_of

ORDERS = {
    "kraken": "/0/private/AddOrder",
    "coinbase": "/api/v3/brokerage/orders",
    "okx": "/api/v5/trade/order",
}
MAKE: dict[str, type[SimulatedExchange]] = {
    "kraken": SimulatedKraken,
    "coinbase": SimulatedCoinbase,
    "okx": SimulatedOkx,
}
MARKET: dict[str, tuple[Any, int]] = {
    "kraken": ({"error": ["EAccount:Invalid permissions:ETH trading restricted for NL."]}, 200),
    "coinbase": (
        {
            "success": False,
            "error_response": {
                "error": "UNKNOWN_FAILURE_REASON",
                "message": "",
                "error_details": "",
                "new_order_failure_reason": "GEOFENCING_RESTRICTION",
            },
        },
        200,
    ),
    "okx": ({"code": "1", "data": [{"ordId": "", "sCode": "51155", "sMsg": "local laws"}], "msg": ""}, 200),
}
ACCOUNT: dict[str, tuple[Any, int]] = {
    "kraken": ({"error": ["EGeneral:Permission denied"]}, 200),
    "coinbase": ({"error": "PERMISSION_DENIED", "message": "Missing required scopes"}, 403),
    "okx": ({"code": "50120", "data": [], "msg": "no permission to use this function"}, 401),
}


def picked(cluster: Cluster, symbol: str) -> str | None:
    return cluster.router.pick(Need(symbol=symbol, side="buy", quote_amount=Decimal(50))).broker


def ordered(cluster: Cluster, name: str, symbol: str) -> Any:
    return cluster.broker(name).place_market_order(
        symbol, "buy", quote_amount=Decimal(50), validate_only=False
    )


@pytest.mark.parametrize("name", MAKE)
def test_one_market_is_closed_for_the_account_that_was_refused_there(name: str) -> None:
    exchange = MAKE[name]()
    quote = "USDT" if name == "okx" else "USD"
    ether, bitcoin = f"ETH/{quote}", f"BTC/{quote}"
    keys = [exchange.credentials, exchange.add_account()]
    for given in keys:
        exchange.set_balance({quote: ("10000", "0")}, account=given["api_key"])
    with serve(exchange):
        specs = [
            replace(simulated_spec(exchange, broker, trading=True), credentials=MappingProxyType(given))
            for broker, given in zip(("a", "b"), keys, strict=True)
        ]
        with cluster_of(*specs) as cluster:
            for broker in ("a", "b"):
                cluster.broker(broker).get_account_balance()
                cluster.broker(broker).get_all_products()
            answer, status = MARKET[name]
            exchange.set_answer(json.dumps(answer), status, path=ORDERS[name], times=1)
            with pytest.raises(OrderError):
                ordered(cluster, "a", ether)
            a, b = cluster.broker("a"), cluster.broker("b")
            until(lambda: a.reading().closed(ether) is not None)
            a.get_account_balance()
            assert picked(cluster, ether) == "b", "it is closed for this account alone"
            assert picked(cluster, bitcoin) == "a", "others stay"
            assert a.is_available()
            assert a.reading().capabilities["trade"].state is not CapabilityState.DOWN
            b.get_account_balance()
            refused = cluster.router.pick(Need(symbol=ether, side="buy", quote_amount=Decimal(50))).refused
            assert [each.code for each in refused] == [RefusalCode.MARKET_CLOSED]
            assert "is closed for this account until" in refused[0].text
            ordered(cluster, "a", ether)  # an order that is taken opens it
            until(lambda: a.reading().closed(ether) is None)


@pytest.mark.parametrize("name", MAKE)
def test_a_key_that_may_not_trade_at_all_closes_the_account(name: str) -> None:
    exchange = MAKE[name]()
    quote = "USDT" if name == "okx" else "USD"
    exchange.set_balance({quote: ("10000", "0")})
    with serve(exchange), cluster_of(simulated_spec(exchange, "a", trading=True)) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        broker.get_all_products()
        answer, status = ACCOUNT[name]
        exchange.set_answer(json.dumps(answer), status, path=ORDERS[name], times=1)
        with pytest.raises(OrderError):
            ordered(cluster, "a", f"ETH/{quote}")
        until(lambda: broker.reading().capabilities["trade"].state is CapabilityState.DOWN)
        broker.get_account_balance()
        assert picked(cluster, f"BTC/{quote}") is None


def test_an_exchange_that_ccxt_alone_knows_closes_one_market_too() -> None:
    def answer(request: Request) -> Reply:
        if "/account" in request.path:
            return Reply({"balances": [{"asset": "USDT", "free": "1000", "locked": "0"}]})
        if request.method == "POST" and "symbol=ETHUSDT" in request.path + request.body:
            return Reply({"code": -2010, "msg": "This symbol is not permitted for this account."}, 400)
        if "exchangeInfo" in request.path:
            return Reply({"symbols": [_listed("BTC"), _listed("ETH")]})
        return Reply([])

    with answering(answer) as server, cluster_of(_binance(server)) as cluster:
        broker = cluster.broker("other")
        broker.get_account_balance()
        broker.get_all_products()
        with pytest.raises(OrderError):
            ordered(cluster, "other", "ETH/USDT")
        until(lambda: broker.reading().closed("ETH/USDT") is not None)
        assert broker.reading().closed("BTC/USDT") is None
        assert broker.reading().capabilities["trade"].state is not CapabilityState.DOWN


def _binance(server: OtherExchange) -> Any:
    options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
    return spec_of("binance", server, trading=True, conf={"options": options})


def _listed(base: str) -> dict[str, Any]:
    return {
        "symbol": f"{base}USDT",
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "orderTypes": ["MARKET"],
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "filters": [
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
        ],
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
    }
