"""What a verification makes of public answers: the list of markets, candles, and how markets are named."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.errors import SymbolError
from brokerwatch.exchanges.registry import profile_of
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import Candle, Product
from brokerwatch.verification.checklist import CheckOutcome, Judgement
from brokerwatch.verification.market_findings import (
    candles_fresh,
    candles_ordered,
    candles_plausible,
    misnamed,
    normalised,
    products,
    refused,
    spellings,
)
from tests.support import strategies as our

PASS, WARN, FAIL = CheckOutcome.PASS, CheckOutcome.WARN, CheckOutcome.FAIL


def spot(base: str, quote: str, product_id: str = "", *, active: bool = True) -> Product:
    symbol = f"{base}/{quote}"
    return Product(symbol=symbol, base=base, quote=quote, id=product_id or base + quote, active=active)


BTC: Final = spot("BTC", "USD", "XXBTZUSD")
SWAP: Final = Product(symbol="BTC/USD:USD", base="BTC", quote="USD", id="PF_XBTUSD", kind="swap")
MANY: Final = (BTC, spot("ETH", "USD"), *(spot(f"C{number}", "USD") for number in range(38)))
"""Forty spot markets."""
IDS: Final = tuple(each.id for each in MANY)
WELL_KNOWN: Final = {family: profile_of(family).well_known for family in ("kraken", "coinbase", "okx")}


# --- the list of markets --------------------------------------------------------------------------------


def listed(found: Sequence[Product] = MANY, family: str = "kraken", **more: Any) -> Judgement:
    wanted: dict[str, Any] = {"holdings": (), "second": None, "counted": None, "unlisted": (), **more}
    return products("kraken", profile_of(family).well_known, Products(found), **wanted)


@pytest.mark.parametrize(
    ("more", "outcome", "words"),
    [
        ({}, PASS, "40 markets, 40 of them spot; nothing else"),
        ({"second": IDS}, PASS, "40 of 40"),
        ({"second": IDS[:20]}, PASS, "20 of 20"),
        ({"second": (*IDS, "GONE1", "GONE2")}, PASS, "40 of 42"),
        ({"second": (*IDS[:38], "GONE1", "GONE2")}, PASS, "38 of 40"),
        ({"second": (*IDS, "GONE1", "GONE2", "GONE3")}, FAIL, "3 others, such as GONE1, GONE2, GONE3"),
        ({"second": ()}, PASS, "nothing else"),
        ({"counted": 40}, PASS, "counts 40"),
        ({"counted": 41}, FAIL, "counts 41"),
        ({"counted": 39}, FAIL, "counts 39"),
        ({"counted": 0}, FAIL, "counts 0"),
        ({"counted": 40, "second": (*IDS, "A", "B", "C")}, FAIL, "3 others"),
        ({"counted": 39, "second": IDS}, FAIL, "counts 39"),
        ({"unlisted": {"FOOUSD", "BARUSD"}}, FAIL, "BARUSD, FOOUSD"),
        ({"unlisted": {"FOOUSD"}, "second": IDS}, FAIL, "FOOUSD"),
        ({"holdings": ("BTC", "USD", "C1")}, PASS, ""),
        ({"holdings": ("BTC", "SHIB")}, WARN, "SHIB"),
        ({"holdings": ("SHIB",), "second": (*IDS, "A", "B", "C")}, FAIL, ""),
        # Money need not be traded, and what earns under a name of its own is the same coin.
        ({"holdings": ("EUR", "USDT", "BTC.F")}, PASS, ""),
        ({"doubled": ("BTC/USD",)}, FAIL, "BTC/USD is there twice"),
    ],
)
def test_the_list_of_markets_is_whole_by_each_witness(more: Any, outcome: CheckOutcome, words: str) -> None:
    found = listed(**more)
    assert found.outcome is outcome
    assert words in found.evidence


@settings(max_examples=our.examples(50))
@given(st.integers(0, 60), st.integers(1, 60))
def test_only_one_in_twenty_of_the_second_list_may_be_absent(absent: int, there: int) -> None:
    second = [f"GONE{number}" for number in range(absent)] + list(IDS[:there])
    fails = 20 * absent > len(second)
    assert listed(second=second).outcome is (FAIL if fails else PASS)


def test_half_of_the_products_gone_is_seen_by_the_second_list_and_by_the_count() -> None:
    half = MANY[:20]
    assert listed(half, second=IDS).outcome is FAIL
    assert listed(half, "coinbase", counted=40).outcome is FAIL


@pytest.mark.parametrize("family", [*WELL_KNOWN, ""])
def test_a_list_of_nothing_is_not_whole(family: str) -> None:
    assert listed((), family).outcome is FAIL
    assert listed((), family, second=(), counted=0).outcome is FAIL


@pytest.mark.parametrize("family", WELL_KNOWN)
def test_a_list_without_what_everybody_knows_is_not_whole(family: str) -> None:
    for base, quotes in WELL_KNOWN[family]:
        others = [spot(each, rest[0]) for each, rest in WELL_KNOWN[family] if each != base]
        found = listed([*others, SWAP], family, second=None)
        assert found.outcome is FAIL
        assert f"{base}/{quotes[0]}" in found.evidence
        for quote in quotes:
            assert listed([*others, spot(base, quote)], family).outcome is PASS


def test_derivatives_and_closed_markets_are_counted_apart() -> None:
    found = listed((*MANY, SWAP, spot("OLD", "USD", active=False)), second=(*IDS, "OLDUSD"), counted=41)
    assert found.outcome is PASS
    assert "42 markets, 41 of them spot, 1 closed" in found.evidence


# --- candles ---------------------------------------------------------------------------------------------

START_S: Final = 1_800_000_000
MINUTE_US: Final = 60_000_000


def candle(minute: float, price: str = "100", **values: str) -> Candle:
    known = {
        **dict.fromkeys(("open", "high", "low", "close"), Decimal(price)),
        "volume": Decimal(1),
        **{name: Decimal(value) for name, value in values.items()},
    }
    return Candle(start_us=round(START_S * 1_000_000 + minute * MINUTE_US), **known)


def at(*minutes: float) -> list[Candle]:
    return [candle(minute) for minute in minutes]


@pytest.mark.parametrize(
    ("age_s", "outcome"),
    [
        (0, PASS),
        (59, PASS),
        (300, PASS),
        (300.5, FAIL),
        (3_600, FAIL),
        (-60, PASS),
        (-60.5, FAIL),
        (-1e6, FAIL),
    ],
)
def test_the_newest_candle_began_at_most_five_minutes_ago(age_s: float, outcome: CheckOutcome) -> None:
    candles = at(-9, -3, 0)
    assert candles_fresh(candles, START_S + age_s, "BTC/USD").outcome is outcome
    assert candles_fresh(candles[-1:], START_S + age_s, "BTC/USD").outcome is outcome


def test_no_candle_is_neither_fresh_nor_in_order_nor_plausible() -> None:
    assert candles_fresh([], START_S, "BTC/USD").outcome is FAIL
    assert candles_ordered([], 100).outcome is FAIL
    assert candles_plausible([], "BTC/USD", ("its ticker", Decimal(100))).outcome is FAIL


HUNDRED: Final = tuple(range(100))


@pytest.mark.parametrize(
    ("minutes", "outcome", "words"),
    [
        (HUNDRED, PASS, "100 candles of a minute, none missing"),
        # How new they are is another check's to say, and stale ones may be fewer.
        (HUNDRED[:2], PASS, "2 candles"),
        (HUNDRED[:1], FAIL, "1 candles, of 100"),
        ((*HUNDRED[:50], *HUNDRED[51:]), WARN, "1 of 100"),
        ((*HUNDRED[:40], *HUNDRED[50:]), WARN, "10 of 100"),
        ((*HUNDRED, 111), WARN, "11 of 112"),
        ((*HUNDRED, 112), FAIL, "12 of 113"),
        ((*HUNDRED, 100_000), FAIL, ""),
        ((*HUNDRED[:50], 49, *HUNDRED[50:]), FAIL, "in no order"),
        ((*HUNDRED[:50], 48, *HUNDRED[50:]), FAIL, "in no order"),
        (HUNDRED[::-1], FAIL, "in no order"),
        ((*HUNDRED[1:], 0), FAIL, "in no order"),
        ((*HUNDRED[:-1], 99.5), FAIL, "does not begin with one"),
        ((*HUNDRED[:-1], 99 + 1 / 120_000), FAIL, "does not begin with one"),
    ],
)
def test_candles_follow_one_another(minutes: Sequence[float], outcome: CheckOutcome, words: str) -> None:
    found = candles_ordered(at(*minutes), 100)
    assert found.outcome is outcome
    assert words in found.evidence


@settings(max_examples=our.examples(100))
@given(st.sets(st.integers(1, 98), max_size=30))
def test_a_tenth_of_the_minutes_may_lack_a_candle(gone: set[int]) -> None:
    found = candles_ordered(at(*(minute for minute in HUNDRED if minute not in gone)), 50)
    assert found.outcome is (PASS if not gone else WARN if len(gone) <= 10 else FAIL)


TICKER: Final = ("its ticker", Decimal(100))


@pytest.mark.parametrize(
    ("candles", "other", "outcome", "words"),
    [
        (at(0, 1), TICKER, PASS, "its ticker says 100"),
        (at(0), TICKER, PASS, ""),
        (at(0, 1), None, WARN, "not confirmed"),
        (at(0), ("x", Decimal(105)), PASS, ""),
        (at(0), ("x", Decimal("105.01")), FAIL, "105.01 by x"),
        (at(0), ("x", Decimal(95)), PASS, ""),
        (at(0), ("x", Decimal("94.99")), FAIL, "94.99 by x"),
        (at(0), ("x", Decimal(3_000)), FAIL, ""),
        ([candle(0, high="120")], TICKER, PASS, ""),
        ([candle(0, high="120.01")], TICKER, FAIL, "120.01"),
        ([candle(0), candle(1, "120"), candle(2)], TICKER, PASS, ""),
        ([candle(0), candle(1, "120.01"), candle(2)], TICKER, FAIL, "120.01"),
        ([candle(0), candle(1, "79.99"), candle(2)], TICKER, FAIL, "79.99"),
        ([candle(0), candle(1, high="110", open="110"), candle(2)], TICKER, PASS, ""),
        ([candle(0, volume="0"), candle(1, volume="0")], TICKER, WARN, "nothing was traded"),
        ([candle(0, volume="0"), candle(1)], TICKER, PASS, ""),
        ([candle(0, volume="0")], None, WARN, ""),
        ([candle(0, "0.5", volume="0.5")], ("x", Decimal("0.5")), PASS, ""),
        # What no candle can be.
        ([candle(0, "0")], ("x", Decimal(0)), FAIL, ""),
        ([candle(0, "-5")], ("x", Decimal(-5)), FAIL, ""),
        ([candle(0, low="0")], TICKER, FAIL, ""),
        ([candle(0, high="110", open="111")], TICKER, FAIL, ""),
        ([candle(0, low="101")], TICKER, FAIL, ""),
        ([candle(0, volume="-1")], TICKER, FAIL, ""),
        ([candle(0)], ("x", Decimal(0)), FAIL, ""),
    ],
)
def test_prices_move_as_prices_do_and_agree_with_another_answer(
    candles: Sequence[Candle], other: tuple[str, Decimal] | None, outcome: CheckOutcome, words: str
) -> None:
    found = candles_plausible(candles, "BTC/USD", other)
    assert found.outcome is outcome
    assert words in found.evidence


# --- names -----------------------------------------------------------------------------------------------


def read_by(listed: Products, texts: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        try:
            found[text] = listed.symbol(text)
        except SymbolError as error:
            found[text] = f"nothing ({error})"
    return found


@pytest.mark.parametrize(
    "product",
    [BTC, spot("BTC", "USD", "BTC-USD"), spot("DOGE", "USD", "XDGUSD"), spot("BTC", "USDT", "BTC-USDT")],
    ids=lambda product: str(product.id),
)
def test_every_spelling_is_the_market_by_our_own_reading(product: Product) -> None:
    texts = spellings(product)
    old = {"BTC": "XBT", "DOGE": "XDG"}[product.base]
    joined = f"{product.base}{product.quote}"
    assert {product.symbol, product.id, joined, f"{old}/{product.quote}", f"{old}{product.quote}"} <= set(
        texts
    )
    assert len(set(texts)) == len(texts) >= 6
    assert normalised(product, read_by(Products([product]), texts), ()).outcome is PASS


@pytest.mark.parametrize("wrong", ["ETH/USD", "BTC/USDT", "nothing (unknown)", ""])
def test_one_spelling_that_is_read_otherwise_is_enough_to_fail(wrong: str) -> None:
    texts = spellings(BTC)
    for text in texts:
        found = normalised(BTC, {**dict.fromkeys(texts, "BTC/USD"), text: wrong}, ())
        assert found.outcome is FAIL
        assert f"{text} as {wrong}" in found.evidence


def test_nothing_read_is_nothing_proved() -> None:
    assert normalised(BTC, {}, ()).outcome is FAIL


def test_a_market_under_the_name_of_another_one_fails() -> None:
    found = normalised(BTC, {"BTC/USD": "BTC/USD"}, ("BTC/USD is ETHUSD", "b", "c", "d"))
    assert found.outcome is FAIL
    assert found.evidence == "BTC/USD is ETHUSD; b; c"


COMMON: Final = {"XXBT": "BTC", "XBT": "BTC", "ZUSD": "USD", "LUNA": "LUNC"}


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ((spot("ETH", "USD", "ETH-USD"),), 0),
        ((spot("ETH", "USD", "XBTUSD"),), 1),
        ((spot("ETH", "USD", "XBT-USD"),), 1),
        ((spot("ETH", "USD", "12345"),), 0),
        ((spot("ETH", "USD", "FOOBAR"),), 0),
        ((spot("LUNC", "USD", "LUNAUSD"), spot("LUNA", "USD", "LUNA2USD")), 0),
        ((msgspec.structs.replace(SWAP, id="XBTUSD"),), 0),
    ],
)
def test_only_the_name_of_another_listed_market_is_a_wrong_name(
    others: tuple[Product, ...], named: int
) -> None:
    found = misnamed(Products((BTC, *others)), lambda code: COMMON.get(code, code))
    assert len(found) == named
    assert all("name of BTC/USD" in words for words in found)


@pytest.mark.parametrize(
    ("product", "meant", "outcome"),
    [
        (None, "", PASS),
        (None, "BTC/USD", FAIL),
        (BTC, "BTC/USD", FAIL),
        (spot("BTC", "BUSD"), "BTC/BUSD", FAIL),
        (spot("BTC", "BUSD", active=False), "BTC/BUSD", WARN),
        # Closed or not, it is another market.
        (spot("BTC", "USD", active=False), "BTC/USD", FAIL),
        (spot("BTCB", "USD", active=False), "BTCB/USD", FAIL),
    ],
)
def test_busd_is_refused_and_nothing_is_put_in_its_place(
    product: Product | None, meant: str, outcome: CheckOutcome
) -> None:
    found = refused(product, meant, "it is not listed")
    assert found.outcome is outcome
    assert (meant or "it is not listed") in found.evidence
