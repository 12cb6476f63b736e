"""What ccxt makes of an exchange's list of markets is read exactly, or it is no answer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.markets import (
    DECIMAL_PLACES,
    MOST_PLACES,
    SIGNIFICANT_DIGITS,
    TICK_SIZE,
    products_from,
)
from brokerwatch.messages import Product

GONE: Final = object()
"""A part that the market does not have."""


def market(**parts: object) -> dict[str, Any]:
    row: dict[str, Any] = {
        "symbol": "BTC/USD",
        "base": "BTC",
        "quote": "USD",
        "id": "XXBTZUSD",
        "type": "spot",
        "active": True,
        "precision": {"amount": "0.00000001", "cost": "0.00001", "price": "0.1"},
        "limits": {"amount": {"min": "0.0001", "max": None}, "cost": {"min": "0.5"}},
        "info": {},
    } | parts
    return {name: value for name, value in row.items() if value is not GONE}


def listed(*markets: dict[str, Any]) -> dict[str, Any]:
    return {f"{number}": each for number, each in enumerate(markets)}


def only(precision_mode: int = TICK_SIZE, **parts: Any) -> Product:
    (found,) = products_from(listed(market(**parts)), precision_mode)
    return found


def refused(why: str, precision_mode: int = TICK_SIZE, **parts: Any) -> None:
    with pytest.raises(UnprovenAnswer, match=why):
        products_from(listed(market(**parts)), precision_mode)


def test_everything_that_a_market_says_is_read() -> None:
    assert only() == Product(
        symbol="BTC/USD",
        base="BTC",
        quote="USD",
        id="XXBTZUSD",
        kind="spot",
        active=True,
        base_step=Decimal("0.00000001"),
        quote_step=Decimal("0.00001"),
        price_step=Decimal("0.1"),
        base_minimum=Decimal("0.0001"),
        quote_minimum=Decimal("0.5"),
    )


def test_markets_stay_in_the_order_of_the_exchange() -> None:
    found = products_from(
        listed(market(symbol="ETH/USD", base="ETH"), market(), market(symbol="ADA/USD", base="ADA"))
    )
    assert [each.symbol for each in found] == ["ETH/USD", "BTC/USD", "ADA/USD"]


@pytest.mark.parametrize("kind", ["spot", "swap", "future", "option", "margin"])
def test_the_kind_of_a_market_is_what_ccxt_calls_it(kind: str) -> None:
    assert only(type=kind).kind == kind


@pytest.mark.parametrize("part", ["base", "quote"])
@pytest.mark.parametrize("value", [GONE, None, ""])
def test_a_market_whose_currencies_ccxt_does_not_know_is_left_out(part: str, value: object) -> None:
    odd = market(symbol="ODD/ONE", **{part: value})
    assert [each.symbol for each in products_from(listed(odd, market()))] == ["BTC/USD"]
    with pytest.raises(UnprovenAnswer, match="no markets in the answer"):
        products_from(listed(odd))


@pytest.mark.parametrize("answer", [None, [], "markets", 7, {1: market()}, {"a": None}, {"a": [1]}])
def test_what_is_no_map_of_markets_is_no_answer(answer: Any) -> None:
    with pytest.raises(UnprovenAnswer, match=r"the list of markets|a market"):
        products_from(answer)


def test_no_exchange_has_no_markets() -> None:
    with pytest.raises(UnprovenAnswer, match="no markets in the answer"):
        products_from({})


def test_a_symbol_that_comes_twice_is_no_answer() -> None:
    with pytest.raises(UnprovenAnswer, match="a symbol comes twice"):
        products_from(listed(market(), market(id="XBTUSD")))


@pytest.mark.parametrize("part", ["symbol", "id", "type"])
@pytest.mark.parametrize("value", [GONE, None, "", 7, ["x"]])
def test_a_market_that_does_not_say_its_names_is_no_answer(part: str, value: Any) -> None:
    refused(f"{part} of ", **{part: value})


@pytest.mark.parametrize("part", ["base", "quote"])
def test_a_currency_that_is_no_text_is_no_answer(part: str) -> None:
    refused(f"{part} of BTC/USD is 7, not text", **{part: 7})


@pytest.mark.parametrize(("value", "active"), [(True, True), (False, False), (None, True), (GONE, True)])
def test_a_market_is_open_unless_the_exchange_has_closed_it(value: object, *, active: bool) -> None:
    assert only(active=value).active is active


@pytest.mark.parametrize("value", [0, 1, "true", "", "false", []])
def test_a_market_that_is_neither_open_nor_closed_is_no_answer(value: object) -> None:
    refused("active of BTC/USD is neither true nor false", active=value)


COINBASE_FLAGS: Final = (
    "is_disabled",
    "trading_disabled",
    "cancel_only",
    "limit_only",
    "post_only",
    "auction_mode",
)


@pytest.mark.parametrize("flag", COINBASE_FLAGS)
def test_a_market_of_coinbase_that_takes_no_market_order_is_not_open(flag: str) -> None:
    assert not only(info={"product_id": "BTC-USD", flag: True}).active
    assert only(info={"product_id": "BTC-USD", flag: False}).active
    assert only(info={"product_id": "BTC-USD", flag: "true"}).active, "only what is true closes it"
    assert only(info={flag: True}).active, "without a product_id it is no market of Coinbase"


@pytest.mark.parametrize(("status", "active"), [("delisted", False), ("online", True), (None, True)])
def test_a_market_that_coinbase_has_delisted_is_not_open(status: object, *, active: bool) -> None:
    assert only(info={"product_id": "BTC-USD", "status": status}).active is active
    assert only(info={"status": status}).active, "without a product_id it is no market of Coinbase"


@pytest.mark.parametrize("info", [GONE, None, [], ["product_id"], "product_id", 7])
def test_what_the_exchange_wrote_may_be_of_any_form(info: object) -> None:
    found = only(info=info, precision={"amount": "0.1", "cost": None})
    assert found.active
    assert found.quote_step is None


@pytest.mark.parametrize("parts", [GONE, None, {}])
def test_what_the_exchange_does_not_say_is_none_and_never_zero(parts: object) -> None:
    found = only(precision=parts, limits=parts)
    assert (found.base_step, found.quote_step, found.price_step) == (None, None, None)
    assert (found.base_minimum, found.quote_minimum) == (None, None)


@pytest.mark.parametrize("part", ["precision", "limits"])
@pytest.mark.parametrize("value", [[], "none", 7, {1: "x"}])
def test_a_part_that_is_no_map_is_no_answer(part: str, value: Any) -> None:
    refused(f"{part} of BTC/USD", **{part: value})


@pytest.mark.parametrize("name", ["amount", "cost"])
@pytest.mark.parametrize("value", [[], "none", 7])
def test_a_limit_that_is_no_map_is_no_answer(name: str, value: object) -> None:
    refused(f"{name} of BTC/USD", limits={name: value})


@pytest.mark.parametrize("value", [None, "", 0, "0", "0.0", 0.0])
def test_a_step_of_nothing_is_no_step(value: object) -> None:
    found = only(precision={"amount": value, "cost": value, "price": value})
    assert (found.base_step, found.quote_step, found.price_step) == (None, None, None)


@pytest.mark.parametrize("value", [None, "", 0, "0", 0.0])
def test_a_minimum_of_nothing_is_no_minimum(value: object) -> None:
    found = only(limits={"amount": {"min": value}, "cost": {"min": value}})
    assert (found.base_minimum, found.quote_minimum) == (None, None)


@pytest.mark.parametrize(
    ("value", "step"),
    [
        ("0.00000001", "0.00000001"),
        (1e-8, "0.00000001"),
        (0.1, "0.1"),
        (5, "5"),
        (Decimal("0.25"), "0.25"),
        ("1e-18", "1E-18"),
    ],
)
def test_a_step_is_read_exactly_a_float_by_its_shortest_text(value: object, step: str) -> None:
    found = only(precision={"amount": value, "cost": value, "price": value})
    assert (found.base_step, found.quote_step, found.price_step) == (Decimal(step),) * 3
    least = only(limits={"amount": {"min": value}, "cost": {"min": value}})
    assert (least.base_minimum, least.quote_minimum) == (Decimal(step),) * 2


@pytest.mark.parametrize("value", [True, False, [], {}, "much", "0x1", b"1"])
def test_a_step_that_is_no_number_is_no_answer(value: object) -> None:
    for name in ("amount", "cost", "price"):
        refused(f"precision.{name} of BTC/USD is no number: ", precision={name: value})
    for name in ("amount", "cost"):
        refused(f"limits.{name}.min of BTC/USD is no number: ", limits={name: {"min": value}})


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", float("nan"), float("inf"), "1e-65", "1e65", "-1e65", "0.1e-64"]
)
def test_a_step_that_no_market_can_have_is_no_answer(value: object) -> None:
    refused("precision.amount of BTC/USD is no number that can be", precision={"amount": value})
    refused("limits.cost.min of BTC/USD is no number that can be", limits={"cost": {"min": value}})


@pytest.mark.parametrize("value", ["1e-64", "1e64"])
def test_the_finest_and_the_coarsest_step_are_read(value: str) -> None:
    assert only(precision={"amount": value}).base_step == Decimal(value)


@pytest.mark.parametrize("value", ["-0.1", -1, -1e-8])
def test_a_step_and_a_minimum_below_nothing_are_no_answer(value: object) -> None:
    refused("precision.price of BTC/USD is negative", precision={"price": value})
    refused("limits.amount.min of BTC/USD is negative", limits={"amount": {"min": value}})


@pytest.mark.parametrize(
    ("digits", "step"), [(8, "0.00000001"), ("2", "0.01"), (0, "1"), (-2, "100"), (3.0, "0.001")]
)
def test_digits_after_the_point_are_a_step(digits: object, step: str) -> None:
    found = only(DECIMAL_PLACES, precision={"amount": digits, "cost": digits, "price": digits})
    assert (found.base_step, found.quote_step, found.price_step) == (Decimal(step),) * 3


@pytest.mark.parametrize("digits", ["2.5", 0.1, MOST_PLACES + 1, -MOST_PLACES - 1])
def test_what_is_no_number_of_digits_is_no_answer(digits: object) -> None:
    refused(
        "precision.amount of BTC/USD is no number of digits", DECIMAL_PLACES, precision={"amount": digits}
    )


@pytest.mark.parametrize("digits", [MOST_PLACES, -MOST_PLACES])
def test_as_many_digits_as_a_step_can_have_are_read(digits: int) -> None:
    assert only(DECIMAL_PLACES, precision={"amount": digits}).base_step == Decimal(1).scaleb(-digits)


def test_significant_digits_are_no_step_and_must_be_a_number_all_the_same() -> None:
    found = only(SIGNIFICANT_DIGITS, precision={"amount": 8, "cost": 5, "price": 5})
    assert (found.base_step, found.quote_step, found.price_step) == (None, None, None)
    assert found.base_minimum == Decimal("0.0001"), "a minimum is an amount in each mode"
    refused(
        "precision.amount of BTC/USD is no number", SIGNIFICANT_DIGITS, precision={"amount": "eight digits"}
    )


@pytest.mark.parametrize("mode", [TICK_SIZE, DECIMAL_PLACES])
@pytest.mark.parametrize(
    ("info", "step"),
    [
        ({"cost_decimals": 5}, "0.00001"),  # Kraken
        ({"cost_decimals": "2"}, "0.01"),
        ({"quote_increment": "0.01"}, "0.01"),  # Coinbase
        ({"quote_increment": "10"}, "10"),
        ({"cost_decimals": "3", "quote_increment": "0.5"}, "0.001"),
    ],
)
def test_the_step_of_the_quote_that_ccxt_does_not_pass_on_is_read_from_the_exchange(
    mode: int, info: object, step: str
) -> None:
    # In each of ccxt's modes: digits are digits, and an increment is an amount.
    assert only(mode, precision={"cost": None}, info=info).quote_step == Decimal(step)
    assert only(mode, precision={}, info=info).quote_step == Decimal(step)


def test_what_ccxt_says_of_the_step_of_the_quote_comes_before_what_the_exchange_wrote() -> None:
    assert only(precision={"cost": "0.25"}, info={"cost_decimals": 5}).quote_step == Decimal("0.25")


@pytest.mark.parametrize("info", [{"cost_decimals": "many"}, {"cost_decimals": 2.5}, {"quote_increment": -1}])
def test_a_step_of_the_exchanges_own_that_cannot_be_read_is_no_answer(info: object) -> None:
    refused("(cost_decimals|quote_increment) of BTC/USD", precision={}, info=info)


def test_one_broken_market_spoils_the_whole_list() -> None:
    with pytest.raises(UnprovenAnswer, match=r"precision\.amount of ETH/USD is negative"):
        products_from(listed(market(), market(symbol="ETH/USD", base="ETH", precision={"amount": -1})))
