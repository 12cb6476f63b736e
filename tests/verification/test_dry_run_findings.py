"""What an order leaves behind in an account, and what is not an order of the account."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from brokerwatch.exchanges.open_orders import OpenOrder
from brokerwatch.messages import Holding, Product, Side
from brokerwatch.verification.dry_run_findings import Snapshot, traces

BTC = Product(symbol="BTC/USD", base="BTC", quote="USD", id="XXBTZUSD")


def snapshot(amounts: Mapping[str, tuple[str, str]], *orders: tuple[str, str]) -> Snapshot:
    """Currency to free and held; orders by id and market."""
    return Snapshot(
        {
            code: Holding(free=Decimal(free), used=Decimal(used), total=Decimal(free) + Decimal(used))
            for code, (free, used) in amounts.items()
        },
        tuple(OpenOrder(order_id=name, market=market, side=Side.BUY, holds=None) for name, market in orders),
    )


BEFORE = snapshot({"USD": ("100", "10"), "BTC": ("1", "0"), "ETH": ("2", "0")}, ("old", "BTC/USD"))


def test_an_account_that_is_as_it_was_has_no_traces() -> None:
    left = traces(BEFORE, BEFORE, BTC, Side.BUY)
    assert (left.placed, left.moved) == ("", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"USD": ("100", "0"), "BTC": ("1", "0")}, {"USD": ("40", "0"), "BTC": ("1.001", "0")}),
        ({"USD": ("100", "0")}, {"USD": ("40", "0"), "BTC": ("0.001", "0")}),
        ({"USD": ("100", "0"), "BTC": ("1", "0")}, {"USD": ("60100", "0")}),
        ({"BTC": ("1", "0")}, {"USD": ("60000", "0")}),
    ],
    ids=["bought", "bought what was not there", "sold all", "sold all for what was not there"],
)
def test_an_executed_order_moves_both_currencies(
    before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]
) -> None:
    for side in Side:
        left = traces(snapshot(before), snapshot(after), BTC, side)
        assert left.placed.startswith("the balance moved by ")


@pytest.mark.parametrize(("side", "currency"), [(Side.BUY, "USD"), (Side.SELL, "BTC")])
def test_what_an_order_pays_with_does_not_just_go(side: Side, currency: str) -> None:
    less = snapshot({"USD": ("100", "10"), "BTC": ("1", "0"), currency: ("0.5", "0")}, ("old", "BTC/USD"))
    assert traces(BEFORE, less, BTC, side).placed
    other = Side.SELL if side is Side.BUY else Side.BUY
    assert not traces(BEFORE, less, BTC, other).placed


def test_an_order_that_rests_is_found_in_the_list() -> None:
    after = Snapshot(
        BEFORE.holdings, (*(BEFORE.orders or ()), *(snapshot({}, ("new", "BTC/USD")).orders or ()))
    )
    assert traces(BEFORE, after, BTC, Side.BUY).placed == "open orders that were not there before: new"


def test_an_order_of_somebody_else_in_another_market_is_none_of_ours() -> None:
    after = Snapshot(
        BEFORE.holdings, (*(BEFORE.orders or ()), *(snapshot({}, ("new", "ETH/USD")).orders or ()))
    )
    assert traces(BEFORE, after, BTC, Side.BUY).placed == ""


def test_where_orders_cannot_be_listed_the_balance_speaks() -> None:
    silent = Snapshot(BEFORE.holdings, None)
    assert traces(silent, BEFORE, BTC, Side.BUY).placed == traces(BEFORE, silent, BTC, Side.BUY).placed == ""


def test_money_that_comes_in_or_is_held_is_said_and_is_no_order() -> None:
    paid_in = snapshot({"USD": ("150", "10"), "BTC": ("1", "0")}, ("old", "BTC/USD"))
    assert (traces(BEFORE, paid_in, BTC, Side.BUY).placed, traces(BEFORE, paid_in, BTC, Side.BUY).moved) == (
        "",
        "50 USD",
    )
    held = snapshot({"USD": ("60", "50"), "BTC": ("1", "0")}, ("old", "BTC/USD"))
    assert (traces(BEFORE, held, BTC, Side.BUY).placed, traces(BEFORE, held, BTC, Side.BUY).moved) == (
        "",
        "held: 40 USD",
    )


def test_another_currency_moves_without_a_word() -> None:
    after = snapshot({"USD": ("100", "10"), "BTC": ("1", "0"), "ETH": ("1", "0")}, ("old", "BTC/USD"))
    assert traces(BEFORE, after, BTC, Side.BUY).moved == ""
