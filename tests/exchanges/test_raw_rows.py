"""What ccxt computes is held against the rows of the exchange's own answer."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from brokerwatch.exchanges.balance_forms import FORMS
from brokerwatch.exchanges.balances import FetchedBalance
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages import Holding
from tests.support.documented_answers import ANSWERS, Amounts, damaged, instance_of, read

every_answer = pytest.mark.parametrize("exchange", ANSWERS)


def amounts(held: Holding) -> tuple[Decimal | None, ...]:
    return held.free, held.used, held.total


def numbers(stated: Amounts) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, stated))


@every_answer
def test_a_whole_answer_is_read_whole(exchange: str) -> None:
    answer, expected = ANSWERS[exchange]
    found = read(instance_of(exchange), answer)
    assert not found.unread
    assert {code: amounts(held) for code, held in found.holdings.items()} == {
        code: numbers(each) for code, each in expected.items()
    }


@every_answer
def test_no_damage_makes_an_amount_that_is_wrong(exchange: str) -> None:
    answer, expected = ANSWERS[exchange]
    instance = instance_of(exchange)
    refused = 0
    for words, changed in damaged(answer):
        try:
            found = read(instance, changed)
        except Exception:  # noqa: BLE001 - whatever ccxt raises is a fault
            refused += 1
            continue
        gone = set(expected) - set(found.holdings) - found.unread
        renamed = "renamed" in words and exchange in ("indodax", "zaif", "whitebit", "hollaex")
        assert not gone or renamed or "[]" in words, f"{words}: {gone} is taken for nothing"
        for code, held in found.holdings.items():
            if code not in expected:
                assert "renamed" in words, f"{words}: {code}"
                continue
            for ours, theirs in zip(amounts(held), numbers(expected[code]), strict=True):
                owed = "negative" in words and ours is not None and ours <= theirs
                assert ours in (None, theirs) or owed, f"{words}: {code} was read as {held}"
    assert refused


def without(exchange: str, *path: Any, by: object = None) -> FetchedBalance:
    """What is read where one value of the documented answer is replaced."""
    answer = next(changed for words, changed in damaged(ANSWERS[exchange][0]) if words == f"{path} is {by!r}")
    return read(instance_of(exchange), answer)


COIN: Any = ("result", "list", 0, "coin", 0)
PARTS: list[tuple[str, Any, str]] = [
    *(("bybit", (*COIN, part), "USDT") for part in ("locked", "totalPositionIM", "totalOrderIM")),
    ("blofin", ("data", "details", 0, "available"), "USDT"),
    ("derive", ("result", 0, "positions_initial_margin"), "USDC"),
    ("derive", ("result", 0, "open_orders_margin"), "USDC"),
    ("lighter", ("accounts", 0, "available_balance"), "USDC"),
    ("revolutx", (0, "available"), "USD"),
    ("bitfinex", (1, 4), "JPY"),
    ("deribit", ("result", "summaries", 0, "available_funds"), "BTC"),
    ("kucoin", ("data", 0, "available"), "USDT"),
    ("bigone", ("data", 0, "locked_balance"), "BTC"),
    ("zaif", ("return", "funds", "jpy"), "JPY"),
]


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize(("exchange", "path", "code"), PARTS)
def test_what_is_free_is_unknown_where_a_part_of_it_is_missing(
    exchange: str, path: Any, code: str, nothing: object
) -> None:
    held = without(exchange, *path, by=nothing).holdings[code]
    assert held.free is None
    assert held.total == Decimal(ANSWERS[exchange][1][code][2])


def test_one_coin_that_is_not_stated_takes_no_other_away() -> None:
    found = without("binance", "balances", 1, "locked")
    assert not found.unread
    assert amounts(found.holdings["DOGE"]) == (Decimal(5), None, None), "what is stated is known"
    assert amounts(found.holdings["USDT"]) == numbers(("7", "2", "9"))
    dust = ["exchange", "JPY", -1e-08, 0, None, None, None]
    found = read(instance_of("bitfinex"), [["exchange", "USD", 13.97, 0, 13.97, None, None], dust])
    assert found.holdings["USD"].free == Decimal("13.97")
    assert found.holdings["JPY"].free is None


NAMES: list[tuple[str, Any]] = [
    ("binance", ("balances", 1, "asset")),
    ("bitfinex", (1, 1)),
    ("bitget", ("data", 0, "coin")),
    ("bybit", (*COIN, "coin")),
    ("derive", ("result", 0, "collaterals", 0, "currency")),
    ("htx", ("data", "list", 1, "currency")),
    ("htx", ("data", "list", 1, "type")),
    ("kucoin", ("data", 0, "currency")),
    ("kucoin", ("data", 0, "type")),
    ("latoken", (0, "type")),
    ("luno", ("balance", 0, "asset")),
    ("upbit", (0, "currency")),
]


@pytest.mark.parametrize("name", [None, "", "NaN", {}])
@pytest.mark.parametrize(("exchange", "path"), NAMES)
def test_a_row_that_cannot_be_named_proves_nothing(exchange: str, path: Any, name: object) -> None:
    with pytest.raises((UnprovenAnswer, TypeError, AttributeError)):
        without(exchange, *path, by=name)


def test_each_of_several_answers_of_one_balance_proves_itself() -> None:
    account = {"currency": "USD", "cash": "5", "equity": "7", "position_market_value": "2"}
    coins = [{"symbol": "BTCUSD", "qty": "2", "qty_available": "1"}, {"symbol": "AAPL", "qty": "9"}]
    alpaca = instance_of("alpaca")
    found = read(alpaca, None, {"account": account, "positions": coins})
    assert {code: amounts(held) for code, held in found.holdings.items()} == {
        "USD": numbers(("5", "0", "5")),
        "BTC": numbers(("1", "1", "2")),
    }, "shares are no currency"
    for wrong in ("{}", "null", '""', '{"positions": []}', "[{}]", "[null]"):
        with pytest.raises((UnprovenAnswer, TypeError, AttributeError)):
            read(alpaca, None, {"account": account, "positions": json.loads(wrong)})
    with pytest.raises(UnprovenAnswer, match="no name"):
        read(alpaca, None, {"account": {}, "positions": coins})
    assert set(read(alpaca, None, {"account": account, "positions": []}).holdings) == {"USD"}


def test_what_is_free_of_a_whole_account_is_that_of_no_currency_but_the_only_one() -> None:
    rows = [{"currency": "USDT", "balance": "9"}, {"currency": "BTC", "balance": "1"}]
    grvt = instance_of("grvt")
    grvt.load_markets_and_sign_in = lambda: None
    grvt.get_sub_account_id = str
    for spot, free in ((rows[:1], Decimal(7)), (rows, None)):
        found = read(grvt, {"result": {"available_balance": "7", "spot_balances": spot}})
        assert [held.free for held in found.holdings.values()] == [free] * len(spot)


COIN_ROW: Any = {"currency": "USD", "balance": "9", "hold": "2", "available": "7"}
APART: list[tuple[str, Any, Any]] = [
    ("coinbaseexchange", [{**COIN_ROW, "trading_enabled": False}], [{**COIN_ROW, "trading_enabled": True}]),
    (
        "bitopro",
        {"data": [{"currency": "twd", "amount": "9", "available": "7", "tradable": False}]},
        {"data": [{"currency": "twd", "amount": "9", "available": "7", "tradable": True}]},
    ),
    (
        "independentreserve",
        [{"CurrencyCode": "Usd", "AvailableBalance": 7, "TotalBalance": 9, "AccountStatus": "Suspended"}],
        [{"CurrencyCode": "Usd", "AvailableBalance": 7, "TotalBalance": 9, "AccountStatus": "Active"}],
    ),
    (
        "htx",
        {**ANSWERS["htx"][0], "data": {**ANSWERS["htx"][0]["data"], "state": "lock"}},
        {**ANSWERS["htx"][0], "data": {**ANSWERS["htx"][0]["data"], "state": "working"}},
    ),
]


@pytest.mark.parametrize(("exchange", "locked", "free"), APART)
def test_a_row_that_says_that_it_cannot_be_traded_lies_apart(exchange: str, locked: Any, free: Any) -> None:
    found = read(instance_of(exchange), locked)
    assert found.holdings == {}
    [(wallet, held)] = found.apart.items()
    assert wallet == "not tradable"
    assert read(instance_of(exchange), free).holdings == held


def test_a_row_that_does_not_say_what_others_say_of_trading_proves_nothing() -> None:
    rows = [{**COIN_ROW, "trading_enabled": True}, {**COIN_ROW, "currency": "EUR"}]
    words: list[Any] = [None, [], "NaN"]
    cases: list[dict[str, Any]] = [{}, *({"trading_enabled": word} for word in words)]
    for said in cases:
        with pytest.raises(UnprovenAnswer, match="trading_enabled"):
            read(instance_of("coinbaseexchange"), [rows[0], {**rows[1], **said}])


@pytest.mark.parametrize(
    ("exchange", "answer"),
    [
        ("upbit", [{"currency": "KRW", "balance": "1", "locked": "0"}] * 2),
        ("coinbaseexchange", [{"currency": "USD", "balance": "1", "hold": "0", "available": "1"}] * 2),
        ("binance", {"balances": [{"asset": "USDT", "free": "1", "locked": "0"}] * 2}),
    ],
)
def test_a_currency_that_comes_twice_proves_nothing_where_ccxt_keeps_one_of_them(
    exchange: str, answer: Any
) -> None:
    with pytest.raises(UnprovenAnswer, match="comes twice"):
        read(instance_of(exchange), answer)


def test_a_form_that_is_not_known_proves_what_there_is_and_not_what_is_free() -> None:
    bybit = instance_of("bybit")
    found = read(bybit, {"retCode": 0, "result": {"walletBalance": "9", "availableBalance": "7"}})
    assert amounts(found.holdings["USDC"]) == (None, None, Decimal(9))


def test_every_exchange_of_the_table_is_one_of_ccxt() -> None:
    assert {name.partition(":")[0] for name in FORMS} <= set(ccxt.exchanges)
