"""How markets are named: every spelling of a listed market is read to it, and nothing is made up."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from brokerwatch.errors import InvalidSymbol, SymbolError, UnknownSymbol
from brokerwatch.exchanges.symbols import LONGEST, Products, currency
from brokerwatch.messages import Product
from brokerwatch.money import ALIASES
from brokerwatch.routing.need import Need
from brokerwatch.simulator.kraken_pairs import ALT_NAMES, ASSET_IDS, PAIR_IDS
from brokerwatch.simulator.markets import MARKETS, Market


def product(symbol: str, product_id: str = "", *, kind: str = "spot", active: bool = True) -> Product:
    pair, _, _ = symbol.partition(":")
    base, _, quote = pair.partition("/")
    return Product(
        symbol=symbol, base=base, quote=quote, id=product_id or f"{base}-{quote}", kind=kind, active=active
    )


def listing(*symbols: str) -> Products:
    return Products(product(symbol) for symbol in symbols)


KRAKEN: Final = Products(
    (product(market.symbol, PAIR_IDS[market.symbol]) for market in MARKETS), exchange="kraken"
)
COINBASE: Final = Products((product(market.symbol) for market in MARKETS), exchange="coinbase")

pairs = st.sampled_from(MARKETS)
listings = st.sampled_from((KRAKEN, COINBASE))


def spellings(market: Market) -> list[str]:
    """How people and exchanges write this market."""
    bases = {market.base, ALT_NAMES.get(market.base, ""), ASSET_IDS.get(market.base, "")} - {""}
    quotes = {market.quote, ASSET_IDS.get(market.quote, "")} - {""}
    found = [
        f"{base}{between}{quote}" for base in bases for quote in quotes for between in ("", "-", "/", "_")
    ]
    return [each for text in found for each in (text, text.lower(), text.capitalize())]


@given(listings, pairs, st.data())
def test_every_spelling_of_a_listed_market_is_that_market(
    products: Products, market: Market, data: st.DataObject
) -> None:
    text = data.draw(st.sampled_from([*spellings(market), PAIR_IDS[market.symbol]]))
    assert products.symbol(text) == market.symbol
    assert products.product(text).symbol == market.symbol
    assert text in products


@given(listings, st.text(max_size=12) | pairs.flatmap(lambda market: st.sampled_from(spellings(market))))
def test_a_symbol_that_was_read_is_read_to_itself(products: Products, text: str) -> None:
    try:
        symbol = products.symbol(text)
    except SymbolError:
        return
    assert products.symbol(symbol) == symbol


FRAGMENTS: Final = (
    *"XZ-/_:.bB ſıßK",
    "BTC",
    "XBT",
    "USD",
    "usd",
    "ZUSD",
    "BUSD",
    "USDT",
    "EUR",
    "ETH",
    "DOGE",
    "XDG",
)


@given(listings, st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join) | st.text(max_size=12))
@example(COINBASE, "BTC-Uſd")
def test_no_text_is_read_to_a_market_whose_currencies_it_does_not_name(products: Products, text: str) -> None:
    try:
        found = products.product(text)
    except SymbolError:
        return
    for code in (found.base, found.quote):
        names = {code, *(alias for alias, meant in ALIASES.items() if meant == code)}
        assert any(name.lower() in text.lower() for name in names)
    letters = "".join(each for each in text if each not in "-/_")
    spelt = {
        spelling.replace("-", "").replace("/", "").replace("_", "").lower()
        for spelling in spellings(next(market for market in MARKETS if market.symbol == found.symbol))
    } | {PAIR_IDS[found.symbol].lower()}
    assert letters.lower() in spelt, "nothing stands in it beside the two"


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("BTC-USD", "BTC/USD"),
        ("BTC/USD", "BTC/USD"),
        ("BTCUSD", "BTC/USD"),
        ("XBTUSD", "BTC/USD"),
        ("btc_usd", "BTC/USD"),
        ("XXBTZUSD", "BTC/USD"),
        ("XBT/USD", "BTC/USD"),
        ("xbt-zusd", "BTC/USD"),
        ("XDGUSD", "DOGE/USD"),
        ("XTZUSD", "XTZ/USD"),
        ("ZRXUSD", "ZRX/USD"),
        ("XRPUSD", "XRP/USD"),
        ("XXRPZUSD", "XRP/USD"),
        ("USDTUSD", "USDT/USD"),
        ("USDTZUSD", "USDT/USD"),
        ("BTCUSDT", "BTC/USDT"),
        ("ZECUSD", "ZEC/USD"),
    ],
)
@pytest.mark.parametrize("own_ids", [True, False], ids=["with Kraken's ids", "with plain ids"])
def test_the_awkward_ones_are_right(text: str, symbol: str, *, own_ids: bool) -> None:
    ids = {"BTC/USD": "XXBTZUSD", "DOGE/USD": "XDGUSD", "XRP/USD": "XXRPZUSD", "USDT/USD": "USDTZUSD"}
    symbols = [*ids, "BTC/USDT", "XTZ/USD", "ZRX/USD", "ZEC/USD", "TZ/USD", "RX/USD", "RP/USD", "EC/USD"]
    products = Products(product(each, ids.get(each, "") if own_ids else "") for each in symbols)
    assert products.symbol(text) == symbol


def test_an_alias_makes_no_other_market_of_what_the_exchange_lists_by_that_name() -> None:
    assert listing("XTZ/USD", "XT/USD").symbol("XTZUSD") == "XTZ/USD"
    both = listing("XBT/EUR", "BTC/EUR", "BTC/USD")
    assert both.symbol("XBTEUR") == "XBT/EUR"
    assert both.symbol("xbt-eur") == "XBT/EUR"
    with pytest.raises(UnknownSymbol):
        both.symbol("XBT/USD")


@pytest.mark.parametrize("text", ["BTCBUSD", "BTC-BUSD", "BTC/BUSD", "btc_busd", "XBTBUSD"])
def test_busd_is_refused_where_there_is_none_and_never_becomes_another_quote(text: str) -> None:
    with pytest.raises(
        UnknownSymbol, match=r"kraken has no BUSD .*nothing else is put in its place"
    ) as refused:
        KRAKEN.symbol(text)
    assert "BTC/USD, BTC/USDC" in str(refused.value), "what is there is named"
    assert text not in KRAKEN


def test_busd_is_read_where_it_is_listed() -> None:
    assert listing("BTC/USD", "BTC/BUSD").symbol("BTCBUSD") == "BTC/BUSD"
    assert listing("BTC/USD", "BTCB/USD").symbol("BTCBUSD") == "BTCB/USD"
    with pytest.raises(InvalidSymbol, match="BTC/BUSD or BTCB/USD"):
        listing("BTC/BUSD", "BTCB/USD").symbol("BTCBUSD")


def test_what_a_joined_text_was_meant_to_be_is_judged_by_the_currencies_that_are_listed() -> None:
    with pytest.raises(UnknownSymbol, match="lists no BTCB/USD"):
        listing("BTCB/EUR", "ETH/USD").symbol("BTCBUSD")
    with pytest.raises(UnknownSymbol, match="has no BUSD"):
        listing("BTC/EUR", "BTCB/EUR", "ETH/USD").symbol("BTCBUSD")


def test_a_joined_text_with_two_readings_names_both() -> None:
    products = listing("AB/CUSD", "ABC/USD")
    with pytest.raises(InvalidSymbol, match=r"AB/CUSD or ABC/USD"):
        products.symbol("ABCUSD")
    assert products.symbol("ABC-USD") == "ABC/USD"
    assert "ABCUSD" not in products


def test_two_currencies_that_differ_in_case_are_told_apart() -> None:
    products = listing("kPEPE/USD", "KPEPE/USD")
    assert products.symbol("kPEPE/USD") == "kPEPE/USD"
    assert products.symbol("kPEPEUSD") == "kPEPE/USD"
    with pytest.raises(InvalidSymbol, match="kPEPE/USD or KPEPE/USD"):
        products.symbol("kpepe-usd")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("BTC", "one currency"),
        ("usd", "one currency"),
        ("XBT", "one currency"),
        ("BTC USD", "space"),
        ("BTC/USD ", "space"),
        ("BTC/USD\n", "cannot be seen"),
        ("BTC\x00USD", "cannot be seen"),
        ("BTC\u200bUSD", "cannot be seen"),
        ("B" * (LONGEST + 1), f"more than {LONGEST}"),
        ("/USD", "cannot be read"),
        ("BTC/", "cannot be read"),
        ("-", "cannot be read"),
        ("BTC//USD", "cannot be read"),
        ("?!", "cannot be told apart"),
        ("FOO", "cannot be told apart"),
        (None, "not NoneType"),
        (7, "not int"),
        (b"BTC/USD", "not bytes"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(text: Any, complaint: str) -> None:
    with pytest.raises(InvalidSymbol, match="expected a pair such as BTC/USD") as refused:
        COINBASE.symbol(text)
    assert complaint in str(refused.value)
    assert text not in COINBASE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DOGE/EUR", ["lists no DOGE/EUR", "DOGE/USD"]),
        ("DOGEEUR", ["lists no DOGE/EUR", "DOGE/USD"]),
        ("FOO/USD", ["has no FOO"]),
        ("FOOUSD", ["has no FOO"]),
        ("ETG/USD", ["has no ETG", "ETH/USD"]),
        ("USD/BTC", ["lists no USD/BTC"]),
        ("BTC/GBP", ["has no GBP", "BTC/USD"]),
        ("FOO/GBP", ["has no GBP"]),
        ("BTC/USDT:USDT", ["no market"]),
        ("BTC-USDT-SWAP", ["no market"]),
    ],
)
def test_what_can_be_read_and_is_not_listed_names_what_is_near(text: str, words: list[str]) -> None:
    with pytest.raises(UnknownSymbol) as refused:
        COINBASE.symbol(text)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_a_spot_market_goes_before_a_derivative_of_the_same_id() -> None:
    spot, swap = product("BTC/USDT", "BTCUSDT"), product("BTC/USDT:USDT", "BTCUSDT", kind="swap")
    for order in ((spot, swap), (swap, spot)):
        products = Products(order)
        assert products.symbol("BTCUSDT") == "BTC/USDT"
        assert products.symbol("btcusdt") == "BTC/USDT"
        assert products.symbol("BTC/USDT:USDT") == "BTC/USDT:USDT"
        assert products.symbol("xbt-usdt:usdt") == "BTC/USDT:USDT"
    with pytest.raises(InvalidSymbol, match="BTC/USD:USD or BTC/USD:BTC"):
        Products(product(symbol, "BTCUSD", kind="swap") for symbol in ("BTC/USD:USD", "BTC/USD:BTC")).symbol(
            "BTCUSD"
        )


@pytest.mark.parametrize(
    ("spot", "swap"),
    [
        ("btcusdt", "BTC-USDT"),
        ("BTCUSDT", "BTC_USDT"),
        ("BTC-USDT", "BTCUSDT"),
        ("sBTCUSDT", "BTCUSDT"),
        ("btc_usdt", "BTCUSDT"),
        ("btc-usdt", "BTC_USDT"),
        ("BTC/USDT", "btcusdt"),
        ("7", "XBTUSDT"),
    ],
)
def test_a_spot_pair_goes_before_a_derivative_whose_id_reads_like_it(spot: str, swap: str) -> None:
    derivatives = [
        product("BTC/USDT:USDT", swap, kind="swap"),
        product("BTC/USDT:USDT-261225", swap, kind="future"),
    ]
    products = Products([*derivatives, product("BTC/USDT", spot)])
    for text in ("BTCUSDT", "BTC-USDT", "BTC_USDT", "BTC/USDT", "XBT-USDT", "XBTUSDT", swap, spot):
        assert products.symbol(text) == "BTC/USDT", text
        assert products.symbol(text.lower()) == "BTC/USDT", text
    assert products.symbol("btc/usdt:usdt") == "BTC/USDT:USDT"
    assert Need(symbol=swap, side="buy").read([products]).symbol == "BTC/USDT"


def test_an_id_of_a_derivative_that_reads_like_another_pair_could_mean_both() -> None:
    swap = product("XT/USDT:USDT", "XTUSDT", kind="swap")
    with pytest.raises(InvalidSymbol, match="could mean X/TUSDT or XT/USDT:USDT"):
        Products([swap, product("X/TUSDT")]).symbol("XTUSDT")
    assert Products([swap, product("X/TUSDT"), product("XT/USDT")]).symbol("XT-USDT") == "XT/USDT"
    assert Products([swap, product("X/USDT")]).symbol("XTUSDT") == "XT/USDT:USDT"


def test_a_derivative_is_never_taken_for_the_spot_market_that_is_not_there() -> None:
    products = Products((product("ETH/USDT"), product("BTC/USDT:USDT", "BTC-USDT-SWAP", kind="swap")))
    assert products.symbol("BTC-USDT-SWAP") == "BTC/USDT:USDT"
    for text in ("BTC/USDT", "BTCUSDT", "BTC-USDT"):
        with pytest.raises(UnknownSymbol):
            products.symbol(text)
    assert products.pair("BTC", "USDT") is None
    assert Products((product("BTC/USDT", kind="margin"),)).pair("BTC", "USDT") is None
    assert products.pair("ETH", "USDT") == product("ETH/USDT")


def test_a_market_that_is_not_named_after_its_pair_is_not_taken_for_it() -> None:
    odd = Product(symbol="BTCUSD.synthetic", base="BTC", quote="USD", id="BTCUSD.synthetic")
    with pytest.raises(UnknownSymbol):
        Products((odd, product("ETH/USD"))).symbol("BTC/USD")


def test_products_are_listed_in_the_exchanges_order() -> None:
    products = listing("ETH/USD", "BTC/USD")
    assert products.symbols == ("ETH/USD", "BTC/USD")
    assert [each.symbol for each in products] == ["ETH/USD", "BTC/USD"]
    assert len(products) == 2
    assert products.by_symbol["BTC/USD"].base == "BTC"
    with pytest.raises(ValueError, match="twice"):
        listing("BTC/USD", "BTC/USD")


def test_an_exchanges_own_id_is_named_and_an_unknown_or_doubtful_one_stays_as_it_is() -> None:
    twice = (product("ETH/USDT", "ETHUSDT"), product("ETH/USDT:USDT", "ETHUSDT", kind="swap"))
    products = Products((product("BTC/USDT:USDT", "BTC-USDT-SWAP", kind="swap"), *twice))
    assert products.named("BTC-USDT-SWAP") == "BTC/USDT:USDT"
    assert products.named("ETHUSDT") == "ETHUSDT"
    assert products.named("SOL-USDT-SWAP") == "SOL-USDT-SWAP"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("USD", "USD"), ("usd", "USD"), ("zusd", "USD"), ("XBT", "XBT"), ("btc", "BTC"), ("XXBT", "BTC")),
        *(("dgx", "dGX"), ("DOGE", "DOGE"), ("xdg", "DOGE"), ("Eth2.s", "ETH2.S")),
    ],
)
def test_one_currency_is_read_as_what_the_account_states(text: str, expected: str) -> None:
    assert currency(text, {"USD", "BTC", "XBT", "dGX", "ETH2.S"}) == expected


@pytest.mark.parametrize("text", ["", " ", "BTC/USD", "U SD", "\x00", None, 7, b"USD"])
def test_what_is_no_currency_is_refused(text: object) -> None:
    with pytest.raises(InvalidSymbol, match="expected one currency, such as USD"):
        currency(text, {"USD"})


def test_what_could_be_two_currencies_of_an_account_is_refused() -> None:
    with pytest.raises(InvalidSymbol, match="could mean"):
        currency("abc", {"aBC", "ABc"})
    assert currency("aBC", {"aBC", "ABc"}) == "aBC"
