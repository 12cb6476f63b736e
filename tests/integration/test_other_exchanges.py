"""Exchanges that only ccxt knows, asked over HTTP: what an answer does not state is unknown, and not zero."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import ccxt
import pytest

import brokerwatch
from brokerwatch import Broker, BrokerSpec
from brokerwatch.errors import BalanceUnknown, CouldNotAsk
from tests.support.clusters import ONLY_WHEN_ASKED, cluster_of
from tests.support.documented_answers import instance_of
from tests.support.guarded_bots import Stranger, stranger

MARKETS: Final[dict[str, Any]] = {
    "BTC/USDT": {
        "id": "BTCUSDT",
        "symbol": "BTC/USDT",
        "base": "BTC",
        "quote": "USDT",
        "baseId": "BTC",
        "quoteId": "USDT",
        "type": "spot",
        "spot": True,
        "active": True,
        "precision": {"amount": 1e-8, "price": 1e-2},
        "limits": {"amount": {}, "cost": {}, "price": {}},
        "info": {},
    }
}
COIN: Final = {"locked": "1", "totalPositionIM": "2", "totalOrderIM": "0"}


@contextmanager
def asked(exchange: str, pages: dict[str, Any], **options: Any) -> Generator[Broker]:
    with stranger() as url:
        say(pages)
        spec = BrokerSpec(
            "mine",
            exchange=exchange,
            credentials={
                "api_key": "k" * 10,
                "secret": "s" * 10,
                **({"password": "p"} if exchange == "kucoin" else {}),
            },
            simulated=True,
            poll_interval_s=ONLY_WHEN_ASKED,
            requests_per_s=100,
            request_burst=100,
            ccxt={
                "urls": {"api": at(url, getattr(ccxt, exchange)().urls["api"])},
                "markets": dict(MARKETS),
                "options": options,
            },
        )
        with cluster_of(spec) as cluster:
            yield cluster.broker("mine")


def at(url: str, addresses: Any) -> Any:
    """ccxt's addresses of an exchange, each at another host, with its path."""
    if isinstance(addresses, str):
        return url + urlsplit(addresses.replace("{hostname}", "host")).path
    return {name: at(url, each) for name, each in addresses.items()}


def say(pages: dict[str, Any]) -> None:
    Stranger.pages = {path: (200, {}, json.dumps(answer)) for path, answer in pages.items()}


def bybit(*coins: dict[str, Any]) -> dict[str, Any]:
    rows = [{"accountType": "UNIFIED", "coin": list(coins)}]
    return {"/v5/account/wallet-balance": {"retCode": 0, "result": {"list": rows}, "time": 1}}


def test_a_dust_of_one_coin_takes_no_cash_away() -> None:
    wallets = [
        ["exchange", "USD", 13.97, 0, 13.97, None, None],
        ["exchange", "JPY", -1e-08, 0, None, None, None],
    ]
    with asked("bitfinex", {"/v2/auth/r/wallets": wallets}) as broker:
        assert broker.get_account_balance() == Decimal("13.97")
        assert broker.is_available()
        assert broker.get_account_balance_detailed().holdings["JPY"].free is None


def test_cash_of_which_a_part_is_missing_is_unknown_and_comes_back() -> None:
    whole = {"coin": "USDT", "walletBalance": "9", **COIN}
    coin = {"coin": "BTC", "walletBalance": "5", **COIN}
    known = {"enableUnifiedMargin": False, "enableUnifiedAccount": True}
    with asked("bybit", bybit(whole, coin), **known) as broker:
        assert broker.get_account_balance() == Decimal(6)
        say(bybit({**whole, "locked": None}, coin))
        with pytest.raises(BalanceUnknown, match="unknown, not zero"):
            broker.get_account_balance()
        say(bybit(whole, {**coin, "walletBalance": None}))
        assert broker.get_account_balance() == Decimal(6), "the other coin is the one that is not known"
        with pytest.raises(CouldNotAsk):
            broker.get_positions()
        say(bybit(whole, {**coin, "coin": None}))
        broker.get_account_balance()
        assert broker.reading().fault == "bad_response", "a row without a name may be any currency"
        say(bybit(whole, coin))
        assert broker.get_account_balance() == Decimal(6)


def test_a_row_that_is_gone_leaves_its_currency_in_doubt_and_no_row_at_all_is_an_error() -> None:
    whole = {"coin": "USDT", "walletBalance": "9", **COIN}
    coin = {"coin": "BTC", "walletBalance": "5", **COIN}
    known = {"enableUnifiedMargin": False, "enableUnifiedAccount": True}
    with asked("bybit", bybit(whole, coin), **known) as broker:
        assert broker.get_account_balance() == Decimal(6)
        say(bybit(coin))
        with pytest.raises(BalanceUnknown, match="not stated any more, as last known: 9 USDT"):
            broker.get_account_balance()
        assert (broker.is_available(), broker.get_error_count()) == (True, 0)
        say(bybit())
        with pytest.raises(BalanceUnknown):
            broker.get_account_balance()
        assert (broker.get_error_count(), broker.reading().fault) == (1, "bad_response")
        say(bybit(whole, coin))
        assert broker.get_account_balance() == Decimal(6)


def test_a_new_account_that_is_empty_is_no_error_and_no_success_while_it_is_confirmed() -> None:
    with asked("bybit", bybit(), enableUnifiedMargin=False, enableUnifiedAccount=True) as broker:
        for _ in range(4):
            with pytest.raises(BalanceUnknown, match="empty, confirming"):
                broker.get_account_balance()
        assert (broker.get_error_count(), broker.reading().cash) == (0, None)


def test_what_a_trader_observes_is_held_against_the_rows_too() -> None:
    whole = {"coin": "USDT", "walletBalance": "9", **COIN}
    known = {"enableUnifiedMargin": False, "enableUnifiedAccount": True}
    mine = instance_of("bybit")
    with asked("bybit", bybit(whole), **known) as broker:
        assert broker.get_account_balance() == Decimal(6)
        mine.answer = bybit({**whole, "totalPositionIM": ""})["/v5/account/wallet-balance"]
        broker.observe(mine.fetch_balance())
        mine.answer = bybit(whole)["/v5/account/wallet-balance"]
        assert broker.get_account_balance() == Decimal(6)


def test_a_guarded_instance_gives_no_amount_that_its_exchange_has_not_stated() -> None:
    mine = instance_of("bybit")
    mine.answer = bybit({"coin": "USDT", "walletBalance": "9", **COIN, "locked": None})[
        "/v5/account/wallet-balance"
    ]
    mine.markets = MARKETS
    found: Any = brokerwatch.guard(mine).fetch_balance()
    assert (found["free"]["USDT"], found["USDT"]["free"], found["USDT"]["total"]) == (None, None, "9")


KEY = {"/v5/user/query-api": {"retCode": 0, "result": {"unified": 0, "uta": 1}, "time": 1}}
INFO = {"/v5/account/info": {"retCode": 0, "result": {"unifiedMarginStatus": 4}, "time": 1}}
DETAIL = {"/api/v4/account/detail": {"user_id": 1, "key": {"mode": 1}}}
SPOT = {"/api/v4/spot/accounts": [{"currency": "USDT", "available": "6", "locked": "0"}]}
MODE = {"/api/ua/v1/account/mode": {"code": "200000", "data": {"selfAccountMode": "CLASSIC"}}}
TRADE = {
    "/api/v1/accounts": {
        "code": "200000",
        "data": [
            {"currency": "USDT", "type": "trade", "balance": "6", "available": "6", "holds": "0", "id": "x"}
        ],
    }
}


@pytest.mark.parametrize(
    ("exchange", "before", "balance", "broken"),
    [
        (
            "bybit",
            {**KEY, **INFO},
            bybit({"coin": "USDT", "walletBalance": "9", **COIN}),
            {"retCode": 0, "result": {}},
        ),
        ("gate", DETAIL, SPOT, {}),
        ("gate", DETAIL, SPOT, {"user_id": 1, "key": {"mode": None}}),
        ("gate", DETAIL, SPOT, None),
        ("kucoin", MODE, TRADE, {"code": "200000", "data": {}}),
    ],
)
def test_each_question_before_the_balance_must_be_answered(
    exchange: str, before: dict[str, Any], balance: dict[str, Any], broken: object
) -> None:
    question = next(iter(before))
    with asked(exchange, {**before, **balance}) as broker:
        Stranger.pages[question] = (500, {}, "{}") if broken is None else (200, {}, json.dumps(broken))
        with pytest.raises(BalanceUnknown):
            broker.get_account_balance()
        say({**before, **balance})
        assert broker.get_account_balance() == Decimal(6), "it is asked again"
        del Stranger.pages[question]
        assert broker.get_account_balance() == Decimal(6), "and not once more"
