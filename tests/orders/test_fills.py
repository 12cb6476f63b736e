"""What an order took is what is known of it: never more."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final

import pytest

from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_request import FINEST, OrderRequest
from brokerwatch.health.stated import Fill
from brokerwatch.messages import Product, Side
from brokerwatch.orders.fills import fill_of
from brokerwatch.orders.records import Placed

MARKET: Final = Product(
    symbol="BTC/USD", base="BTC", quote="USD", id="X", base_step=Decimal("0.001"), quote_step=Decimal("0.01")
)
SALE: Final = OrderRequest(MARKET, Side.SELL, Decimal(2), None, "one")
FOUND: Final = FoundOrder(
    order_id="1",
    market="X",
    side=Side.SELL,
    ordered_base=Decimal(2),
    ordered_quote=None,
    filled_base=Decimal("1.5"),
    ended="",
)


def test_a_sale_that_was_taken_at_once_took_what_was_ordered() -> None:
    sold = Fill(spent="BTC", received="USD", amount=Decimal(2), step=Decimal("0.001"))
    assert fill_of(SALE, Placed(SALE, "1", None)) == sold
    unknown = replace(SALE, product=Product(symbol="A/B", base="BTC", quote="USD", id="X"))
    assert fill_of(unknown, Placed(unknown, "1", None)) == replace(sold, step=FINEST)


@pytest.mark.parametrize("filled", [Decimal("1.5"), Decimal(0), None])
def test_a_sale_that_was_looked_up_took_what_the_exchange_says(filled: Decimal | None) -> None:
    assert fill_of(SALE, Placed(SALE, "1", replace(FOUND, filled_base=filled))).amount == filled


def test_an_order_of_which_it_is_not_known_that_it_was_placed_took_nothing_that_is_known() -> None:
    assert fill_of(SALE, None).amount is None


def test_a_purchase_took_its_cost_where_that_was_ordered() -> None:
    bought = OrderRequest(MARKET, Side.BUY, None, Decimal(50), "two")
    fill = Fill(spent="USD", received="BTC", amount=Decimal(50), step=Decimal("0.01"))
    assert fill_of(bought, Placed(bought, "2", None)) == fill
    assert fill_of(bought, Placed(bought, "2", FOUND)).amount is None, "it may be half filled"
    by_coins = OrderRequest(MARKET, Side.BUY, Decimal(1), None, "three")
    assert fill_of(by_coins, Placed(by_coins, "3", None)).amount is None
