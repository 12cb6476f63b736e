"""Markets, candles and positions of an account: whole, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from brokerwatch.errors import (
    CouldNotAsk,
    InvalidSymbol,
    NotAllowed,
    UnknownSymbol,
)
from tests.support.desks import KINDS, Desk, Opened, rich


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.ccxt_id))
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    with Opened(rich(request.param())) as found:
        yield found


# --- the other questions -----------------------------------------------------------------------------


def test_positions_are_the_coins_that_are_held(desk: Desk) -> None:
    found = {position.symbol: position for position in desk.broker.get_positions()}
    held = found["BTC/USD"]  # the first of the cash currencies
    assert (held.kind, held.side, held.base_amount, held.free) == (
        "spot",
        "long",
        Decimal("0.6"),
        Decimal("0.5"),
    )
    desk.exchange.set_balance({"USD": ("5", "0")})
    assert desk.broker.get_positions() == []


def test_positions_that_cannot_be_asked_for_are_no_empty_list(desk: Desk) -> None:
    desk.broker.get_all_products()
    desk.exchange.set_fault("empty_body")
    with pytest.raises(CouldNotAsk):
        desk.broker.get_positions()
    desk.exchange.mend()
    desk.exchange.set_fault("permission")
    with pytest.raises(CouldNotAsk) as refused:
        desk.broker.get_positions()
    assert isinstance(refused.value, NotAllowed) or refused.value.kind == "permission"


def test_products_and_candles_are_whole_or_an_error(desk: Desk) -> None:
    products = desk.broker.get_all_products()
    assert desk.symbol in {product.symbol for product in products}
    candles = desk.broker.get_candles(desk.symbol, "1m", 10)
    assert len(candles) == 10
    starts = [candle.start_us for candle in candles]
    assert starts == sorted(set(starts))
    desk.exchange.set_fault("empty_body", public=True)
    with pytest.raises(CouldNotAsk):
        desk.broker.get_candles(desk.symbol, "1m", 10)


@pytest.mark.parametrize("spelling", ["BTC-{}", "BTC/{}", "BTC{}", "XBT{}", "btc_{}"])
def test_every_spelling_is_one_symbol(desk: Desk, spelling: str) -> None:
    text = spelling.format(desk.symbol.partition("/")[2])
    assert desk.broker.normalize_symbol(text) == desk.symbol
    assert desk.broker.normalize_symbol_for_broker(text, desk.exchange.ccxt_id) == desk.symbol
    assert desk.cluster.normalize_symbol_for_broker(text, desk.exchange.ccxt_id) == desk.symbol
    assert desk.broker.supports_symbol(text)


def test_busd_is_refused_and_never_another_quote(desk: Desk) -> None:
    for text in ("BTC-BUSD", "BTCBUSD", "BTC/BUSD"):
        assert not desk.broker.supports_symbol(text)
        with pytest.raises(UnknownSymbol):
            desk.broker.normalize_symbol(text)
    with pytest.raises(InvalidSymbol):
        desk.broker.supports_symbol("")
