"""What may be ordered, and how each exchange is told: exact, rounded down, never in the wrong currency."""

from __future__ import annotations

import decimal
import uuid
from decimal import Decimal
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.errors import InvalidOrder
from brokerwatch.exchanges import coinbase, kraken, okx
from brokerwatch.exchanges.order_request import (
    FINEST,
    OrderRequest,
    is_plenty,
    refuse_below_minimum,
    requested,
    smallest_by_price,
)
from brokerwatch.exchanges.registry import profile_of
from brokerwatch.messages import Product, Side
from brokerwatch.money import floor_to_step

MARKET: Final = Product(
    symbol="BTC/USD",
    base="BTC",
    quote="USD",
    id="XXBTZUSD",
    base_step=Decimal("0.00000001"),
    quote_step=Decimal("0.01"),
    base_minimum=Decimal("0.00005"),
    quote_minimum=Decimal("0.5"),
)
OURS: Final = "0123456789abcdef0123456789ABCDEF"
FAMILIES: Final = ("kraken", "coinbase", "okx", "")


def order(
    side: Side | str = "buy",
    base: object = None,
    quote: object = None,
    *,
    product: Product = MARKET,
    family: str = "okx",
    client_order_id: str = OURS,
) -> OrderRequest:
    return requested(
        product,
        side,
        cast("Any", base),
        cast("Any", quote),
        client_order_id,
        rules=profile_of(family).order_rules,
    )


def refused(argument: str, words: str, **arguments: Any) -> None:
    with pytest.raises(InvalidOrder) as caught:
        order(**arguments)
    assert caught.value.argument == argument
    assert words in str(caught.value), str(caught.value)
    assert str(caught.value).startswith(f"{argument}: ")


def market(**values: object) -> Product:
    return msgspec.structs.replace(MARKET, **values)


def test_an_order_has_the_one_amount_that_was_asked_for() -> None:
    by_base = order(base=Decimal("0.5"))
    assert (by_base.base_amount, by_base.quote_amount) == (Decimal("0.5"), None)
    by_quote = order(quote=Decimal(100))
    assert (by_quote.base_amount, by_quote.quote_amount) == (None, Decimal(100))
    assert by_base.side is Side.BUY
    assert order(Side.SELL, base=1).side is Side.SELL
    assert by_base.client_order_id == OURS
    assert by_base.product is MARKET


def test_both_amounts_or_none_are_refused() -> None:
    refused("base_amount", "none of them")
    refused("base_amount", "both of them", base=Decimal(1), quote=Decimal(1))
    refused("base_amount", "both of them", base=Decimal(0), quote=Decimal(0))


@pytest.mark.parametrize("argument", ["base", "quote"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.1, "float is not exact; expected a Decimal, made from text: Decimal('0.1')"),
        (float("nan"), "float"),
        ("0.1", "expected a Decimal, not str"),
        (True, "expected a Decimal, not bool"),
        (b"1", "expected a Decimal, not bytes"),
        (Decimal(0), "more than zero"),
        (0, "more than zero"),
        (Decimal("-0.0"), "more than zero"),
        (Decimal("-0.1"), "more than zero, not '-0.1'"),
        (Decimal("NaN"), "finite amount, not NaN"),
        (Decimal("sNaN"), "finite amount"),
        (Decimal("Infinity"), "finite amount, not Infinity"),
        (Decimal("-Infinity"), "finite amount"),
        (Decimal("1e27"), "at most 27 digits"),
        (Decimal("1e999999"), "at most 27 digits"),
        (10**40, "at most 27 digits"),
        (Decimal("1e-999999"), "rounds to nothing"),
    ],
)
def test_an_amount_that_cannot_be_is_refused_by_its_name(argument: str, value: object, words: str) -> None:
    refused(f"{argument}_amount", words, **{argument: value})


def test_amounts_are_rounded_down_to_the_step_and_never_up() -> None:
    assert order(base=Decimal("0.123456789")).base_amount == Decimal("0.12345678")
    assert order(quote=Decimal("99.999")).quote_amount == Decimal("99.99")
    assert order(base=Decimal("0.9999"), product=market(base_step=Decimal("0.05"))).base_amount == Decimal(
        "0.95"
    )
    assert order(base=Decimal("14.99"), product=market(base_step=Decimal(5))).base_amount == 10
    assert order(base=15, product=market(base_step=Decimal(5))).base_amount == 15
    assert order(base=1234, product=market(base_step=Decimal("1E+2"))).size == "1200"


def test_each_currency_has_its_own_step_and_minimum() -> None:
    product = market(base_step=Decimal(1), quote_step=Decimal(10), base_minimum=None, quote_minimum=None)
    assert order(base=Decimal("12.5"), product=product).base_amount == 12
    assert order(quote=Decimal("12.5"), product=product).quote_amount == 10


def test_without_a_step_an_amount_stays_as_it_is() -> None:
    free = market(base_step=None, quote_step=None, base_minimum=None, quote_minimum=None)
    assert order(base=Decimal("0.123456789012345678"), product=free).size == "0.123456789012345678"
    assert order(base=Decimal("1.5"), product=free).size == "1.5"
    assert order(base=FINEST, product=free).base_amount == FINEST
    refused("base_amount", "rounds to nothing", base=FINEST / 2, product=free)


def test_what_rounds_to_nothing_is_refused_with_the_step() -> None:
    refused("base_amount", "multiples of 0.00000001 BTC", base=Decimal("0.000000009"))
    refused("quote_amount", "multiples of 0.01 USD", quote=Decimal("0.009"))


def test_less_than_the_minimum_is_refused_with_the_minimum() -> None:
    refused(
        "base_amount",
        "0.00004999 BTC is less than the smallest order, 0.00005 BTC",
        base=Decimal("0.00004999"),
    )
    refused("quote_amount", "0.49 USD, to which it is rounded, is less", quote=Decimal("0.499"))
    assert order(base=Decimal("0.00005")).size == "0.00005"
    assert order(quote=Decimal("0.5")).size == "0.5"
    # The minimum holds for what is sent, not for what was asked for.
    stepped = market(base_step=Decimal("0.1"), base_minimum=Decimal("0.25"))
    refused("base_amount", "smallest order, 0.25", base=Decimal("0.29"), product=stepped)


steps = st.decimals("0.00000001", 10_000, allow_nan=False, allow_infinity=False)
wanted = st.decimals("0.000000000001", "1e26", allow_nan=False, allow_infinity=False)


@given(wanted, steps)
def test_rounding_is_exact_whatever_precision_the_thread_computes_with(
    amount: Decimal, step: Decimal
) -> None:
    with decimal.localcontext(decimal.Context(prec=3)):
        found = floor_to_step(amount, step)
    with decimal.localcontext(decimal.Context(prec=200)):
        assert found <= amount < found + step
        assert found % step == 0
    assert int(found.as_tuple().exponent) <= 0, "it can be written without an exponent"


@pytest.mark.parametrize("side", ["BUY", "Sell", "", "long", None, 1, True, " buy"])
def test_another_side_than_buy_and_sell_is_refused(side: Any) -> None:
    refused("side", "expected buy or sell", side=side, base=Decimal(1))


def test_a_market_that_is_closed_or_no_spot_market_is_refused() -> None:
    refused("symbol", "not open", base=Decimal(1), product=market(active=False))
    refused("symbol", "no spot market but swap", base=Decimal(1), product=market(kind="swap"))


@pytest.mark.parametrize("family", ["kraken", "coinbase"])
def test_who_sells_by_base_amount_alone_is_told_so(family: str) -> None:
    with pytest.raises(
        InvalidOrder, match=f"{family} sells by base amount; give base_amount, in BTC"
    ) as caught:
        order("sell", quote=Decimal(100), family=family)
    assert caught.value.argument == "quote_amount"
    assert order("buy", quote=Decimal(100), family=family).quote_amount == 100
    assert order("sell", base=Decimal(1), family=family).base_amount == 1


def test_okx_sells_by_quote_amount_too() -> None:
    assert order("sell", quote=Decimal(100), family="okx").quote_amount == 100


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ids_that_we_make_are_taken_everywhere(family: str) -> None:
    for text in (uuid.uuid4().hex, "a", "A1", "0" * 18):
        assert profile_of(family).order_rules.client_id_mistake(text) == ""
        assert order(base=Decimal(1), family=family, client_order_id=text).client_order_id == text


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "a\n", "x" * 65, "ä", "²", "a,b", "a&b=c", None, 7, "0" * 32 + "\n"],
)
def test_an_id_that_no_exchange_takes_is_refused(family: str, text: Any) -> None:
    assert profile_of(family).order_rules.client_id_mistake(text).startswith("expected ")
    refused("client_order_id", "expected ", base=Decimal(1), family=family, client_order_id=text)


@pytest.mark.parametrize(
    ("family", "text", "is_taken"),
    [
        ("kraken", "d15708c1-dbb6-465d-b77d-47258319cc90", True),
        ("kraken", "d15708c1dbb6465db77d47258319cc90", True),
        ("kraken", "my-order_no.18-abc", True),
        ("kraken", "my-order_no.19-abcd", False),
        ("kraken", "g" * 32, False),
        ("kraken", "d15708c1-dbb6-465d-b77d-47258319cc9", False),
        ("okx", "x" * 32, True),
        ("okx", "x" * 33, False),
        ("okx", "d15708c1-dbb6", False),
        ("", "x" * 32, True),
        ("", "a-b", False),
        ("coinbase", "d15708c1-dbb6-465d-b77d-47258319cc90", True),
        ("coinbase", "x" * 64, True),
    ],
)
def test_each_exchange_has_its_own_limits_for_ids(family: str, text: str, *, is_taken: bool) -> None:
    assert (profile_of(family).order_rules.client_id_mistake(text) == "") is is_taken


def test_kraken_is_told_the_volume_in_the_base_currency_or_that_it_is_in_the_quote_currency() -> None:
    common = {"pair": "XXBTZUSD", "ordertype": "market", "cl_ord_id": OURS}
    assert kraken.order_parameters(
        order("sell", base=Decimal("0.1"), family="kraken"), validate_only=False
    ) == {
        **common,
        "type": "sell",
        "volume": "0.1",
    }
    assert kraken.order_parameters(order("buy", quote=Decimal(100), family="kraken"), validate_only=True) == {
        **common,
        "type": "buy",
        "volume": "100",
        "oflags": "viqc",
        "validate": "true",
    }
    # One bitcoin, and not one dollar's worth of it.
    assert kraken.order_parameters(order("buy", base=1, family="kraken"), validate_only=False) == {
        **common,
        "type": "buy",
        "volume": "1",
    }


def test_coinbase_is_told_the_size_by_the_name_of_its_currency() -> None:
    assert coinbase.order_parameters(order("buy", quote=Decimal(100), family="coinbase")) == {
        "client_order_id": OURS,
        "product_id": "XXBTZUSD",
        "side": "BUY",
        "order_configuration": {"market_market_ioc": {"quote_size": "100"}},
    }
    assert coinbase.preview_parameters(order("sell", base=Decimal("0.1"), family="coinbase")) == {
        "product_id": "XXBTZUSD",
        "side": "SELL",
        "order_configuration": {"market_market_ioc": {"base_size": "0.1"}},
    }


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_okx_is_told_the_currency_of_the_size_for_either_side(side: str) -> None:
    common = {"instId": "XXBTZUSD", "tdMode": "cash", "side": side, "ordType": "market", "clOrdId": OURS}
    assert okx.order_parameters(order(side, base=Decimal("0.1"))) == {
        **common,
        "sz": "0.1",
        "tgtCcy": "base_ccy",
    }
    assert okx.order_parameters(order(side, quote=Decimal(100))) == {
        **common,
        "sz": "100",
        "tgtCcy": "quote_ccy",
    }


def test_a_small_amount_is_written_without_an_exponent() -> None:
    tiny = market(base_step=Decimal("1E-10"), base_minimum=None)
    assert order(base=Decimal("1E-9"), product=tiny).size == "0.000000001"


def test_an_amount_is_held_to_the_smallest_order_of_the_other_currency_by_a_price() -> None:
    price = Decimal(60_000)  # the smallest order, 0.00005 BTC, costs 3 USD
    refuse_below_minimum(order(quote=Decimal(3)), price)
    with pytest.raises(
        InvalidOrder, match=r"2\.99 USD is less than the smallest order, 0\.00005 BTC, at the last"
    ):
        refuse_below_minimum(order(quote=Decimal("2.99")), price)
    dear = msgspec.structs.replace(MARKET, base_minimum=None, quote_minimum=Decimal(5))
    with pytest.raises(
        InvalidOrder, match=r"0\.00008 BTC is less than the smallest order, 5 USD, at the last"
    ) as e:
        refuse_below_minimum(order(base=Decimal("0.00008"), product=dear), price)
    assert e.value.argument == "base_amount"
    refuse_below_minimum(order(base=Decimal("0.00009"), product=dear), price)
    refuse_below_minimum(order(base=Decimal("0.00008"), product=dear), None)
    assert smallest_by_price(order(quote=Decimal(5), product=dear), price) is None
    assert is_plenty(order(quote=Decimal(9)), price)
    assert not is_plenty(order(quote=Decimal("8.99")), price)
