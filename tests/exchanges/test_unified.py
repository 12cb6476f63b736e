"""What ccxt's own structures prove, and what they do not."""

from __future__ import annotations

import importlib
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final

import pytest

from brokerwatch.exchanges import unified_balance, unified_orders
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.order_traits import ANY_FORM, FORMS
from brokerwatch.exchanges.unified_balance import stated
from brokerwatch.messages import Product, Side
from tests.support.answers import (
    UNIFIED,
    held,
)


def test_an_empty_structure_of_ccxt_proves_nothing() -> None:
    with pytest.raises(UnprovenAnswer, match="cannot be told from a broken answer"):
        unified_balance.holdings({"free": {}, "used": {}, "total": {}})


def without(*parts: str) -> dict[str, Any]:
    """ccxt's structure, in which these parts of BTC are not given."""
    return {**UNIFIED, **{part: {**UNIFIED[part], "BTC": None} for part in parts}}


def test_a_currency_of_which_no_part_is_given_is_unread_and_takes_no_other_away() -> None:
    found = stated(SimpleNamespace(id="unknown", options={}), without("free", "used", "total"), str)
    assert found.unread == {"BTC"}
    assert set(found.holdings) == {"USD"}
    nothing: dict[str, Any] = {part: {"USD": None} for part in ("free", "used", "total")}
    with pytest.raises(UnprovenAnswer, match="no amount of USD can be read"):
        unified_balance.holdings(nothing)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (("used", "total"), ("1", None, None)),
        (("free", "total"), (None, "0", None)),
        (("free", "used"), (None, None, "1")),
        (("total",), ("1", "0", "1")),
        (("used",), ("1", "0", "1")),
        (("free",), (None, "0", "1")),
    ],
)
def test_a_part_that_is_not_given_is_unknown_unless_the_two_others_leave_it(
    missing: tuple[str, ...], expected: tuple[str | None, ...]
) -> None:
    found = unified_balance.holdings(without(*missing))["BTC"]
    amounts = tuple(None if each is None else Decimal(each) for each in expected)
    assert (found.free, found.used, found.total) == amounts


def test_a_zero_in_an_answer_of_a_form_that_is_not_known_may_be_ccxts_own_and_is_not_stated() -> None:
    bybit = SimpleNamespace(id="bybit", options={})
    none = {"USD": "0", "BTC": "1"}
    found = stated(bybit, {**UNIFIED, "total": none, "free": none}, str)
    assert set(found.holdings) == {"BTC"}
    nothing = {"USD": "0", "BTC": "0"}
    with pytest.raises(UnprovenAnswer, match="no currency in the answer"):
        stated(bybit, {**UNIFIED, "total": nothing, "free": nothing}, str)


def test_what_ccxt_says_is_in_orders_is_used_and_what_it_leaves_out_is_nothing() -> None:
    structure: dict[str, Any] = {**UNIFIED, "total": {"USD": "9.5", "BTC": "1"}}
    for used in ({"USD": "2", "BTC": None}, {"USD": "2"}):
        assert unified_balance.holdings({**structure, "used": used}) == {
            "USD": held("7.5", "2", "9.5"),
            "BTC": held("1", "0", "1"),
        }


@pytest.mark.parametrize("part", ["free", "used", "total"])
def test_a_part_that_ccxt_could_not_read_is_named_with_its_currency(part: str) -> None:
    structure: dict[str, Any] = {**UNIFIED, part: {**UNIFIED[part], "BTC": "x"}}
    with pytest.raises(UnprovenAnswer, match=f"^{part} of BTC: not an amount: 'x'$"):
        unified_balance.holdings(structure)


BTC: Final = Product(symbol="BTC/USDT", base="BTC", quote="USDT", id="BTC_USDT")
GATE_ORDER: Final = {
    "id": "12332324", "text": "t-mine0001", "status": "closed", "currency_pair": "BTC_USDT", "type": "market",
    "account": "spot", "side": "buy", "amount": "50", "price": "0", "left": "0.0034",
    "filled_total": "49.9966", "avg_deal_price": "60123.4", "fill_price": "49.9966",
    "create_time_ms": 1700000000000, "fee": "0", "fee_currency": "BTC",
}  # fmt: skip
"""A market order of 50 USDT. ("Create an order", developers.gate.com)"""
TOOBIT_ORDER: Final = {
    "orderId": "12332324", "clientOrderId": "mine0001", "symbol": "BTCUSDT", "status": "FILLED", "price": "0",
    "type": "MARKET", "side": "BUY", "origQty": "50", "executedQty": "0.00083", "avgPrice": "60123.4",
    "cumulativeQuoteQty": "49.9", "time": "1700000000000",
}  # fmt: skip


def ccxt_order(exchange: str, row: dict[str, Any]) -> Any:
    """An order in ccxt's own structure, with exact numbers."""
    instance = getattr(importlib.import_module("ccxt"), exchange)({"number": str})
    ids = {"id": row.get("currency_pair", row.get("symbol")), "baseId": "BTC", "quoteId": "USDT"}
    market = {"symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "type": "spot", "spot": True, **ids}
    instance.set_markets([{**market, "precision": {}, "limits": {}, "contract": False, "swap": False}])
    return instance.parse_order(row, instance.market("BTC/USDT"))


@pytest.mark.parametrize(
    ("exchange", "row", "filled"), [("gate", GATE_ORDER, "0.0008"), ("toobit", TOOBIT_ORDER, "0.00083")]
)
def test_a_filled_market_order_to_buy_by_cost_is_recognised(
    exchange: str, row: dict[str, Any], filled: str
) -> None:
    order = ccxt_order(exchange, row)
    found = unified_orders.found_order([([order], 100)], "mine0001", BTC, FORMS.get(exchange, ANY_FORM))
    assert found is not None
    assert (found.order_id, found.side, found.ended) == ("12332324", Side.BUY, "")
    assert str(found.filled_base).startswith(filled)
    assert found.ordered_base is None


@pytest.mark.parametrize("status", ["FILLED", "PARTIALLY_FILLED", "NEW", "CANCELED"])
@pytest.mark.parametrize(("amount", "done"), [("50", "0.00083"), ("0.5", "125"), ("50", "50")])
def test_the_amount_of_a_purchase_by_cost_is_never_taken_for_coins(
    status: str, amount: str, done: str
) -> None:
    row = {**TOOBIT_ORDER, "status": status, "origQty": amount, "executedQty": done}
    found = unified_orders.found_order([([ccxt_order("toobit", row)], 100)], "mine0001", BTC)
    assert found is not None
    assert found.ordered_base in (None, found.filled_base)


def test_a_sale_that_is_said_to_be_filled_and_is_not_stays_unproven() -> None:
    sale = {**TOOBIT_ORDER, "side": "SELL", "origQty": "0.5"}
    with pytest.raises(UnprovenAnswer, match=r"of 0\.5 filled"):
        unified_orders.found_order([([ccxt_order("toobit", sale)], 100)], "mine0001", BTC)


@pytest.mark.parametrize(
    ("exchange", "info"), [("deribit", {"label": "mine0001"}), ("luno", {"client_order_id": "mine0001"})]
)
def test_an_id_that_ccxt_leaves_out_is_read_from_the_row_itself(exchange: str, info: dict[str, str]) -> None:
    row = {"id": "7", "clientOrderId": None, "status": "open", "side": "sell", "amount": "1", "info": info}
    found = unified_orders.found_order([([row], 100)], "mine0001", BTC, FORMS[exchange])
    assert found is not None
    assert found.order_id == "7"
    assert unified_orders.found_order([([row], 100)], "mine0002", BTC, FORMS[exchange]) is None
