"""A market named without the list of markets: as the simulated exchanges, by their own tables, list it."""

from __future__ import annotations

import pytest

from brokerwatch.exchanges.registry import profile_of
from brokerwatch.exchanges.symbols import Products
from brokerwatch.exchanges.unlisted_market import unlisted
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import cluster_of, simulated_spec


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
def test_every_spot_market_is_named_as_the_exchange_takes_it(kind: type[SimulatedExchange]) -> None:
    exchange = kind()
    with serve(exchange), cluster_of(simulated_spec(exchange)) as cluster:
        listed = Products(cluster.broker(f"{exchange.ccxt_id}-test").get_all_products())
    spot = [product for product in listed if product.kind == "spot"]
    assert spot
    for product in spot:
        found = unlisted(profile_of(exchange.ccxt_id).market_id, product.symbol.replace("/", "-").lower())
        assert found is not None
        assert (found.symbol, found.base, found.quote) == (product.symbol, product.base, product.quote)
        assert listed.named(found.id) == product.symbol or listed.symbol(found.id) == product.symbol


@pytest.mark.parametrize(
    "text",
    ["BTCUSD", "BTC", "", "BTC/USD:USD", "BTC/BTC", "LUNA/USD", "USD/UST", "BTC/ÜSD", None, "BTC//USD"],
)
def test_what_cannot_be_named_for_certain_is_not_named(text: object) -> None:
    assert unlisted(profile_of("kraken").market_id, text) is None


def test_an_exchange_whose_names_nobody_knows_has_none() -> None:
    assert unlisted(profile_of("").market_id, "BTC/USD") is None
