"""What an order needs: its arguments, and every spelling of its market."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.errors import InvalidOrder, InvalidSymbol
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import (
    Product,
    Side,
)
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import RefusalCode
from brokerwatch.routing.selection import choose
from tests.support.candidates import BUY, MARKETS, SELL, candidate, free, need_of, refusal

# --- spellings ---------------------------------------------------------------------------------------


def markets(*symbols: str, **ids: str) -> Mapping[str, Product]:
    rows = [
        Product(symbol=symbol, base=base, quote=quote, id=ids.get(f"{base}{quote}", symbol.replace("/", "")))
        for symbol in symbols
        for base, quote in [symbol.split("/")]
    ]
    return Products(rows).by_symbol


SPELLINGS: Final = ("BTC-USD", "BTCUSD", "XBTUSD", "btc_usd", "XBT/USD", "XXBTZUSD", "btc/usd", "BTC/ZUSD")


@pytest.mark.parametrize("known", [markets("BTC/USD", BTCUSD="XXBTZUSD"), MARKETS])
@pytest.mark.parametrize("text", SPELLINGS)
def test_a_need_takes_every_spelling_and_the_choice_says_what_was_meant(
    text: str, known: Mapping[str, Product]
) -> None:
    choice = choose(need_of(symbol=text, quote_amount=Decimal(500)), [candidate(products=known)])
    assert choice.broker == "a", choice.why()
    assert choice.need == BUY
    assert choice.why().startswith("buy for 500 USD on BTC/USD: a")
    short = choose(need_of(symbol=text, quote_amount=Decimal(1001)), [candidate(products=known)])
    assert refusal(short) == (RefusalCode.NOT_ENOUGH, "has 1000 USD free, needs 1001")


@pytest.mark.parametrize("text", [text for text in SPELLINGS if text not in ("XBT/USD", "BTC/ZUSD")])
def test_where_nobody_knows_the_markets_the_letters_must_do(text: str) -> None:
    unknown = [candidate(products=None)]
    assert choose(need_of(symbol=text), unknown, strict_products=False).need.symbol == "BTC/USD"
    assert choose(need_of(symbol=text), []).need.symbol == "BTC/USD"


@pytest.mark.parametrize("text", ["XTZUSD", "ABLUSD"])
def test_letters_that_could_be_two_markets_are_refused_and_both_are_named(text: str) -> None:
    with pytest.raises(InvalidSymbol, match=r"could mean \S+ or \S+; write which one"):
        choose(need_of(symbol=text), [candidate(products=None)], strict_products=False)


@pytest.mark.parametrize("text", ["XYZQQQ", "BTC.USD"])
def test_letters_that_nobody_can_read_are_refused_when_the_market_is_looked_for(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be told apart"):
        choose(need_of(symbol=text), [candidate()])


def test_the_markets_that_are_listed_decide_and_never_the_letters() -> None:
    tezos = [candidate(products=markets("XTZ/USD"), balance=free(USD="1000"))]
    assert choose(need_of(symbol="XTZUSD"), tezos).need.symbol == "XTZ/USD"
    two = [candidate("a", products=markets("BTC/BUSD")), candidate("b", products=markets("BTCB/USD"))]
    with pytest.raises(InvalidSymbol, match="could mean BTC/BUSD or BTCB/USD"):
        choose(need_of(symbol="BTCBUSD"), two)
    # Who does not come into question has no word in it.
    assert choose(need_of(symbol="BTCBUSD", only=["b"]), two).need.symbol == "BTCB/USD"
    assert choose(need_of(symbol="BTCBUSD", avoid=["b"]), two).need.symbol == "BTC/BUSD"
    alike = [candidate(products=markets("aB/USD", "AB/USD"))]
    assert choose(need_of(symbol="aB/USD"), alike).need.symbol == "aB/USD"
    assert choose(need_of(symbol="AB-USD"), alike).need.symbol == "AB/USD"


def test_a_derivative_of_that_name_is_no_market_for_a_need() -> None:
    perpetual = Product(symbol="BTC/USD:BTC", base="BTC", quote="USD", id="XBTUSD", kind="swap")
    choice = choose(need_of(symbol="XBTUSD"), [candidate(products=Products([perpetual]).by_symbol)])
    assert choice.need.symbol == "BTC/USD"
    assert refusal(choice)[0] is RefusalCode.NO_SUCH_MARKET


def test_a_need_says_its_currencies_only_where_they_are_sure() -> None:
    need = need_of(symbol="XTZUSD", quote_amount=Decimal(5))
    assert str(need) == "buy for 5 of the quote currency on XTZUSD"
    with pytest.raises(InvalidSymbol):
        _ = need.quote
    assert str(need_of(symbol="BTC-USD", base_amount=Decimal(5))) == "buy 5 BTC on BTC-USD"


# --- needs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "argument", "words"),
    [
        ({"symbol": "BTC"}, "symbol", "BTC/USD"),
        ({"symbol": "usd"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC-USD-PERP"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC-btc"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/USD/EUR"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/"}, "symbol", "BTC/USD"),
        ({"symbol": "/USD"}, "symbol", "BTC/USD"),
        ({"symbol": ""}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/BTC"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC /USD"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/USD\n"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/USDT:USDT"}, "symbol", "spot"),
        ({"symbol": None}, "symbol", "NoneType"),
        ({"side": "long"}, "side", "'long'"),
        ({"side": "BUY"}, "side", "'buy' or 'sell'"),
        ({"side": None}, "side", "None"),
        ({"quote_amount": 500.0}, "quote_amount", 'Decimal("500")'),
        ({"base_amount": 0.5}, "base_amount", "a float is not exact"),
        ({"quote_amount": 500}, "quote_amount", "expected a Decimal"),
        ({"quote_amount": "500"}, "quote_amount", "expected a Decimal"),
        ({"quote_amount": True}, "quote_amount", "expected a Decimal"),
        ({"quote_amount": Decimal(0)}, "quote_amount", "above 0"),
        ({"quote_amount": Decimal("-0")}, "quote_amount", "above 0"),
        ({"base_amount": Decimal(-1)}, "base_amount", "above 0"),
        ({"base_amount": Decimal("NaN")}, "base_amount", "finite"),
        ({"base_amount": Decimal("sNaN")}, "base_amount", "finite"),
        ({"base_amount": Decimal("Infinity")}, "base_amount", "finite"),
        ({"quote_amount": Decimal("1e30")}, "quote_amount", "can hold"),
        ({"quote_amount": Decimal("1e999999")}, "quote_amount", "can hold"),
        ({"quote_amount": Decimal("9e-19")}, "quote_amount", "can hold"),
        ({"quote_amount": Decimal(1), "base_amount": Decimal(1)}, "base_amount", "not both"),
        ({"prefer": "kraken"}, "prefer", "list of names"),
        ({"prefer": {"kraken"}}, "prefer", "list of names"),
        ({"prefer": ["kraken", 3]}, "prefer", "names of brokers"),
        ({"only": "kraken"}, "only", "list of names"),
        ({"avoid": "kraken"}, "avoid", "list of names"),
        ({"avoid": None}, "avoid", "list of names"),
        ({"avoid": ["kraken", 3]}, "avoid", "names of brokers"),
        ({"max_age_s": 0}, "max_age_s", "above 0"),
        ({"max_age_s": -1.0}, "max_age_s", "above 0"),
        ({"max_age_s": float("nan")}, "max_age_s", "above 0"),
        ({"max_age_s": "30"}, "max_age_s", "above 0"),
        ({"max_age_s": True}, "max_age_s", "above 0"),
    ],
)
def test_a_need_that_cannot_be_names_the_argument(wrong: dict[str, Any], argument: str, words: str) -> None:
    with pytest.raises(InvalidOrder) as caught:
        need_of(**wrong)
    assert caught.value.argument == argument
    assert str(caught.value).startswith(f"{argument}: ")
    assert words in str(caught.value)


def test_a_need_takes_what_can_be_and_keeps_it_as_values() -> None:
    thirds = Decimal(500) / Decimal(3)
    names = ["b", "a"]
    need = Need(symbol="BTC/USD", side="sell", quote_amount=thirds, prefer=names, only=names, max_age_s=5)
    names.clear()
    assert (need.side, need.prefer, need.only) == (Side.SELL, ("b", "a"), ("b", "a"))
    assert (need.base, need.quote, need.spends, need.spent) == ("BTC", "USD", "BTC", None)
    assert {need: 1}[need] == 1
    assert str(need) == f"sell for {thirds} USD on BTC/USD"
    assert str(dataclasses.replace(SELL, exit=True)) == "exit, sell 0.5 BTC on BTC/USD"
    assert str(Need(symbol="BTC/USD", side=Side.BUY)) == "buy on BTC/USD"
    assert str(Need(symbol="BTC/USD", side="buy", quote_amount=Decimal("5.00E+2"))).startswith(
        "buy for 500 USD"
    )


def test_an_amount_at_the_edges_can_be() -> None:
    for text in ("0.000000000000000001", "999999999999999999999999999999.9", "1e29"):
        assert Need(symbol="BTC/USD", side="buy", base_amount=Decimal(text)).spent is None
