"""Open orders as the exchanges document them: each read with what it must be holding, or `UnprovenAnswer`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import ROUND_DOWN, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.exchanges import coinbase, kraken, okx, unified
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.open_orders import OpenOrder, held_by
from brokerwatch.messages import Product, Side
from tests.support import strategies as our

BTC: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="XXBTZUSD")
SWAP: Final = Product(symbol="BTC/USD:USD", base="BTC", quote="USD", id="BTC-USD-SWAP", kind="swap")


def market(name: str) -> Product | None:
    if name in ("XBTUSD", "BTC-USD", "BTC/USD"):
        return BTC
    return SWAP if name in ("BTC-USD-SWAP", "BTC/USD:USD") else None


# Each sells 0.5 BTC at 99000.5 USD, of which 0.1 is filled. https://docs.kraken.com/api/docs/rest-api/get-open-orders
KRAKEN: Final[dict[str, Any]] = {
    "refid": None,
    "userref": 0,
    "status": "open",
    "opentm": 1800000000.1234,
    "starttm": 0,
    "expiretm": 0,
    "descr": {
        "pair": "XBTUSD",
        "type": "sell",
        "ordertype": "limit",
        "price": "99000.5",
        "price2": "0",
        "leverage": "none",
        "order": "sell 0.50000000 XBTUSD @ limit 99000.5",
        "close": "",
    },
    "vol": "0.50000000",
    "vol_exec": "0.10000000",
    "cost": "9900.05000",
    "fee": "15.8",
    "price": "99000.5",
    "stopprice": "0.00000",
    "limitprice": "0.00000",
    "misc": "",
    "oflags": "fciq",
}
# https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/list-orders
COINBASE: Final[dict[str, Any]] = {
    "order_id": "O1",
    "product_id": "BTC-USD",
    "product_type": "SPOT",
    "side": "SELL",
    "status": "OPEN",
    "order_type": "LIMIT",
    "order_configuration": {
        "limit_limit_gtc": {"base_size": "0.5", "limit_price": "99000.5", "post_only": False}
    },
    "filled_size": "0.1",
    "average_filled_price": "99000.5",
    "outstanding_hold_amount": "0.4",
}
# https://www.okx.com/docs-v5/en/#order-book-trading-trade-get-order-list
OKX: Final[dict[str, Any]] = {
    "ordId": "O1",
    "clOrdId": "",
    "instId": "BTC-USD",
    "instType": "SPOT",
    "tdMode": "cash",
    "ordType": "limit",
    "side": "sell",
    "sz": "0.5",
    "accFillSz": "0.1",
    "px": "99000.5",
    "avgPx": "99000.5",
    "state": "partially_filled",
}
# https://docs.ccxt.com/#/?id=order-structure
UNIFIED: Final[dict[str, Any]] = {
    "id": "O1",
    "clientOrderId": None,
    "symbol": "BTC/USD",
    "type": "limit",
    "side": "sell",
    "status": "open",
    "price": 99000.5,
    "amount": 0.5,
    "filled": 0.1,
    "remaining": 0.4,
    "stopPrice": None,
    "triggerPrice": None,
    "info": {},
}

READ: Final[dict[str, Callable[[Any], tuple[OpenOrder, ...]]]] = {
    "kraken": lambda row: kraken.open_orders({"error": [], "result": {"open": {"O1": row}}}, market),
    "coinbase": lambda row: coinbase.open_orders({"orders": [row], "has_next": False, "cursor": ""}, market),
    "okx": lambda row: okx.open_orders({"code": "0", "msg": "", "data": [row]}, market),
    "unified": lambda row: unified.open_orders([row], market),
}
ROWS: Final = {"kraken": KRAKEN, "coinbase": COINBASE, "okx": OKX, "unified": UNIFIED}
LIMIT: Final = ("order_configuration", "limit_limit_gtc")
WAYS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "kraken": {
        "market": ("descr", "pair"),
        "side": ("descr", "type"),
        "size": ("vol",),
        "filled": ("vol_exec",),
        "price": ("descr", "price"),
        "kind": ("descr", "ordertype"),
    },
    "coinbase": {
        "id": ("order_id",),
        "market": ("product_id",),
        "side": ("side",),
        "size": (*LIMIT, "base_size"),
        "filled": ("filled_size",),
        "price": (*LIMIT, "limit_price"),
    },
    "okx": {
        "id": ("ordId",),
        "market": ("instId",),
        "side": ("side",),
        "size": ("sz",),
        "filled": ("accFillSz",),
        "price": ("px",),
        "kind": ("ordType",),
    },
    "unified": {
        "id": ("id",),
        "market": ("symbol",),
        "side": ("side",),
        "left": ("remaining",),
        "price": ("price",),
    },
}
"""Where in a row what stands."""
GONE: Final = object()


def changed(family: str, *changes: tuple[tuple[str, ...], object]) -> dict[str, Any]:
    """The documented row with these values changed or gone."""
    row = copy.deepcopy(ROWS[family])
    for (*way, last), value in changes:
        inner = row
        for step in way:
            inner = inner[step]
        if value is GONE:
            del inner[last]
        else:
            inner[last] = value
    return row


def one(family: str, *changes: tuple[tuple[str, ...], object]) -> OpenOrder:
    """That row, read."""
    (found,) = READ[family](changed(family, *changes))
    return found


SELLING: Final = OpenOrder("O1", "BTC/USD", Side.SELL, ("BTC", Decimal("0.4")))
BUYING: Final = replace(SELLING, side=Side.BUY, holds=("USD", Decimal("39600.2")))


@pytest.mark.parametrize("family", ROWS)
def test_a_documented_order_holds_what_is_left_of_it(family: str) -> None:
    side = WAYS[family]["side"]
    assert one(family) == SELLING
    assert one(family, (side, "BUY" if family == "coinbase" else "buy")) == BUYING


@pytest.mark.parametrize("family", ROWS)
def test_what_an_order_in_a_market_that_is_not_listed_holds_cannot_be_told(family: str) -> None:
    found = one(family, (WAYS[family]["market"], "FOO-BAR"))
    assert found == replace(SELLING, market="FOO-BAR", holds=None, listed=False)


@pytest.mark.parametrize("family", ["coinbase", "okx", "unified"])
def test_a_derivative_holds_nothing_that_can_be_told(family: str) -> None:
    name = "BTC/USD:USD" if family == "unified" else "BTC-USD-SWAP"
    assert one(family, (WAYS[family]["market"], name)) == replace(SELLING, market="BTC/USD:USD", holds=None)


UNCLEAR: Final[tuple[tuple[str, tuple[tuple[str, ...], object]], ...]] = (
    ("kraken", (("descr", "ordertype"), "stop-loss")),
    ("kraken", (("descr", "ordertype"), "market")),
    ("kraken", (("descr", "leverage"), "3:1")),
    ("kraken", (("descr", "leverage"), 3)),
    ("kraken", (("oflags",), "fciq,viqc")),
    ("coinbase", (("order_configuration",), {"market_market_ioc": {"quote_size": "10"}})),
    ("coinbase", (("order_configuration",), {"limit_limit_gtc": {"quote_size": "10", "limit_price": "5"}})),
    (
        "coinbase",
        (
            ("order_configuration",),
            {"stop_limit_stop_limit_gtc": {"base_size": "0.5", "limit_price": "5", "stop_price": "6"}},
        ),
    ),
    ("coinbase", (("product_type",), "FUTURE")),
    ("okx", (("ordType",), "optimal_limit_ioc")),
    ("okx", (("ordType",), "market")),
    ("okx", (("tdMode",), "cross")),
    ("unified", (("type",), "stop_loss")),
    ("unified", (("type",), None)),
    ("unified", (("price",), None)),
    ("unified", (("remaining",), None)),
    ("unified", (("triggerPrice",), 98_000.0)),
    ("unified", (("stopPrice",), "98000")),
)


@pytest.mark.parametrize(("family", "change"), UNCLEAR)
def test_what_stop_orders_and_orders_on_credit_hold_is_not_guessed(family: str, change: Any) -> None:
    assert one(family, change) == replace(SELLING, holds=None)


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("kraken", (("descr", "leverage"), GONE)),
        ("kraken", (("oflags",), GONE)),
        ("coinbase", (("product_type",), GONE)),
        ("coinbase", (("order_configuration", "market_market_ioc"), None)),
        ("okx", (("tdMode",), GONE)),
        ("okx", (("ordType",), "post_only")),
        ("unified", (("price",), "99000.5")),
        ("unified", (("stopPrice",), GONE)),
        ("unified", (("stopPrice",), 0.0)),
    ],
)
def test_what_need_not_be_said_changes_nothing(family: str, change: Any) -> None:
    assert one(family, change) == SELLING


def test_nothing_filled_yet_may_be_an_empty_text_at_coinbase() -> None:
    assert one("coinbase", (("filled_size",), "")).holds == ("BTC", Decimal("0.5"))


@pytest.mark.parametrize("family", ROWS)
def test_an_order_that_was_filled_just_now_holds_nothing(family: str) -> None:
    ways = WAYS[family]
    change = (ways["left"], 0.0) if "left" in ways else (ways["filled"], "0.5")
    assert one(family, change).holds == ("BTC", Decimal(0))


NO_TEXT: Final = (GONE, None, "", 5, ["x"], {"x": 1}, True)
NO_NUMBER: Final = (GONE, None, "", "x", "NaN", "Infinity", "1_0", "-1", True, ["1"], {"1": "1"}, "9" * 60)
SPOILED: Final = {
    "id": NO_TEXT,
    "market": NO_TEXT,
    "kind": NO_TEXT,
    "side": (*NO_TEXT, "long", "buysell", " sell"),
    "size": (*NO_NUMBER, "0", 1.5),
    "filled": (*NO_NUMBER, "0.50000001", 0.1),
    "left": ("x", "NaN", "-1", -0.4, float("nan"), float("inf"), True, ["1"], {"1": "1"}),
    "price": (*NO_NUMBER, "0", "-99000.5"),
}


def malformed() -> list[Any]:
    found: list[Any] = []
    for family, ways in WAYS.items():
        for part, way in ways.items():
            for number, value in enumerate(SPOILED[part]):
                lenient = (family, part) in (("unified", "price"), ("coinbase", "size"))
                if value in (GONE, None, "") and (lenient and (value != "" or family == "coinbase")):
                    continue  # said to be not known, below
                if (family, part, value) == ("coinbase", "filled", ""):
                    continue
                found.append(pytest.param(family, way, value, id=f"{family}-{part}-{number}"))
    return found


@pytest.mark.parametrize(("family", "way", "value"), malformed())
def test_an_order_with_a_part_that_cannot_be_read_is_no_proof(
    family: str, way: tuple[str, ...], value: object
) -> None:
    with pytest.raises(UnprovenAnswer):
        one(family, (way, value))


@pytest.mark.parametrize("family", ROWS)
@pytest.mark.parametrize("row", [None, [], "order", 5, {}, {1: "x"}])
def test_a_row_that_is_no_order_is_no_proof(family: str, row: Any) -> None:
    with pytest.raises(UnprovenAnswer):
        READ[family](row)


@pytest.mark.parametrize(
    "configuration",
    [
        GONE, None, [], {}, "limit", {"limit_limit_gtc": None}, {"limit_limit_gtc": []},
        {"limit_limit_gtc": ""}, {"limit_limit_gtc": {}}, {"limit_limit_gtc": {"limit_price": "5"}},
        {"limit_limit_gtc": {"base_size": "1", "limit_price": "5"}, "market_market_ioc": {"base_size": "1"}},
    ],
)  # fmt: skip
def test_a_coinbase_order_of_no_kind_or_of_two_is_no_proof(configuration: object) -> None:
    with pytest.raises(UnprovenAnswer):
        one("coinbase", (("order_configuration",), configuration))


NO_ENVELOPES: Final[tuple[tuple[Any, tuple[Any, ...]], ...]] = (
    (
        kraken.open_orders,
        (
            {"error": []},
            {"error": ["EGeneral"], "result": {"open": {}}},
            {"error": [], "result": {}},
            {"error": [], "result": {"open": []}},
            {"error": [], "result": {"open": None}},
        ),
    ),
    (coinbase.open_orders, ({}, {"orders": None}, {"orders": {}}, {"error": "x"})),
    (okx.open_orders, ({"code": "0"}, {"code": "1", "data": []}, {"code": "0", "data": {}}, {"data": []})),
    (unified.open_orders, ({"orders": []}, (KRAKEN,))),
)


@pytest.mark.parametrize(("read", "answers"), NO_ENVELOPES)
def test_an_envelope_without_its_list_is_no_proof(read: Any, answers: tuple[object, ...]) -> None:
    for answer in (*answers, None, "", 5, "[]"):
        with pytest.raises(UnprovenAnswer):
            read(answer, market)


def test_an_empty_list_in_a_whole_envelope_is_what_it_says() -> None:
    assert kraken.open_orders({"error": [], "result": {"open": {}}}, market) == ()
    assert coinbase.open_orders({"orders": []}, market) == ()
    assert okx.open_orders({"code": "0", "msg": "", "data": []}, market) == ()
    assert unified.open_orders([], market) == ()


# --- what orders hold -----------------------------------------------------------------------------------

SIZES: Final = st.integers(1, 10**30).map(lambda units: Decimal(units).scaleb(-18, Context(prec=40)))
SHARES: Final = st.sampled_from(("0", "0.5", "0.999999999999999999"))


@settings(max_examples=our.examples(100))
@given(size=SIZES, share=SHARES, price=SIZES, side=st.sampled_from(Side))
@pytest.mark.parametrize("family", ["kraken", "coinbase", "okx"])
def test_what_an_order_holds_is_exact_whatever_the_thread_reckons_with(
    family: str, size: Decimal, share: str, price: Decimal, side: Side
) -> None:
    ways = WAYS[family]
    with localcontext() as context:
        context.prec = 60
        filled = (size * Decimal(share)).quantize(Decimal("1e-18"), ROUND_DOWN)
        context.prec = 3
        found = one(
            family,
            (ways["size"], f"{size:f}"),
            (ways["filled"], f"{filled:f}"),
            (ways["price"], f"{price:f}"),
            (ways["side"], side.upper() if family == "coinbase" else str(side)),
        )
    assert found.holds is not None
    currency, amount = found.holds
    left = Fraction(size) - Fraction(filled)
    assert (currency, Fraction(amount)) == (
        ("BTC", left) if side is Side.SELL else ("USD", left * Fraction(price))
    )


HOLDS: Final = st.none() | st.tuples(st.sampled_from(("BTC", "USD", "ETH")), SIZES)


@given(st.lists(HOLDS, max_size=12))
def test_what_all_orders_hold_adds_up_exactly(holds: list[tuple[str, Decimal] | None]) -> None:
    with localcontext() as context:
        context.prec = 3
        found = held_by(replace(SELLING, holds=each) for each in holds)
    wanted: dict[str, Fraction] = {}
    for each in holds:
        if each is not None:
            wanted[each[0]] = wanted.get(each[0], Fraction(0)) + Fraction(each[1])
    assert {currency: Fraction(amount) for currency, amount in found.items()} == wanted
    assert all(isinstance(amount, Decimal) for amount in found.values())
