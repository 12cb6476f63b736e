"""An exchange that only ccxt knows states an empty account by an empty list of its own, and nothing else."""

from __future__ import annotations

from typing import Any, Final

import ccxt
import pytest

from brokerwatch.exchanges.envelope import UnprovenAnswer
from tests.support.documented_answers import instance_of, read


def bybit(**account: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {"accountType": "UNIFIED", "totalEquity": "0", "coin": [], **account}
    return {"retCode": 0, "retMsg": "OK", "result": {"list": [parts]}, "time": 1672125441042}


EMPTY: Final[dict[str, tuple[str, Any]]] = {
    "bybit": ("bybit", bybit()),
    "bybit without a sum": ("bybit", bybit(totalEquity="")),
    "kucoin": ("kucoin", {"code": "200000", "data": []}),
    "gate": ("gate", []),
    "binance": ("binance", {"makerCommission": 10, "balances": [], "updateTime": 123456789}),
    "bitget": ("bitget", {"code": "00000", "msg": "success", "data": []}),
    "bitfinex": ("bitfinex", []),
    "bitfinex, money in the other wallets": (
        "bitfinex",
        [["funding", "USD", 50, 0, 50, None, None], ["margin", "USD", 1, 0, 1, None, None]],
    ),
    "latoken, money in the wallet": (
        "latoken",
        [
            {
                "status": "ACCOUNT_STATUS_ACTIVE",
                "type": "ACCOUNT_TYPE_WALLET",
                "currency": "0c3a106d",
                "available": "5",
                "blocked": "0",
            }
        ],
    ),
    "xt": ("xt", {"rc": 0, "mc": "SUCCESS", "ma": [], "result": {"totalUsdtAmount": "0", "assets": []}}),
}
UNSTATED: Final[dict[str, tuple[str, Any]]] = {
    "bybit, a sum that denies it": ("bybit", bybit(totalEquity="18070.3")),
    "bybit, another sum that denies it": ("bybit", bybit(totalWalletBalance="1")),
    "bybit without a list of coins": ("bybit", {"retCode": 0, "result": {"list": [{"totalEquity": "0"}]}}),
    "bybit, coins null": ("bybit", bybit(coin=None)),
    "bybit without a result": ("bybit", {"retCode": 0, "retMsg": "OK"}),
    "bybit, result empty": ("bybit", {"retCode": 0, "retMsg": "OK", "result": {}}),
    "kucoin, data null": ("kucoin", {"code": "200000", "data": None}),
    "kucoin, data a map": ("kucoin", {"code": "200000", "data": {}}),
    "kucoin, a count that denies it": ("kucoin", {"code": "200000", "data": [], "totalNum": 3}),
    "binance without balances": ("binance", {"makerCommission": 10}),
    "bitget, data null": ("bitget", {"code": "00000", "msg": "success", "data": None}),
    "bitfinex, a wallet that is not known": ("bitfinex", [["renamed", "USD", 50, 0, 50, None, None]]),
    "bitfinex, a wallet without a name": (
        "bitfinex",
        [["funding", "USD", 50, 0, 50, None, None], [None, "USD", 1, 0, 1, None, None]],
    ),
    "lighter, accounts without anything": ("lighter", {"code": 200, "accounts": [{}, {}]}),
    "coincheck without a currency": ("coincheck", {"success": True}),
    "btcbox without a currency": ("btcbox", {"uid": 8, "nameauth": 0, "moflag": 0}),
    "p2b, nothing at all": ("p2b", {}),
    "xt, another list that is empty": (
        "xt",
        {"rc": 0, "mc": "SUCCESS", "ma": [], "result": {"totalUsdtAmount": "0", "assets": {}}},
    ),
    "xt, a sum that denies it": ("xt", {"rc": 0, "ma": [], "result": {"totalUsdtAmount": "7", "assets": []}}),
}


@pytest.mark.parametrize(("exchange", "answer"), EMPTY.values(), ids=EMPTY)
def test_an_empty_list_where_the_rows_would_stand_states_an_empty_account(exchange: str, answer: Any) -> None:
    found = read(instance_of(exchange), answer)
    assert (dict(found.holdings), found.unread, found.stated) == ({}, frozenset(), True)


@pytest.mark.parametrize(("exchange", "answer"), UNSTATED.values(), ids=UNSTATED)
def test_nothing_else_states_an_empty_account(exchange: str, answer: Any) -> None:
    with pytest.raises((UnprovenAnswer, ccxt.BaseError)):
        read(instance_of(exchange), answer)
