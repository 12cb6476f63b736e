"""Sums, counts and pages that stand beside the rows of a balance deny rows that disagree with them."""

from __future__ import annotations

from typing import Any, Final

import pytest

from brokerwatch.exchanges.envelope import UnprovenAnswer
from tests.support.documented_answers import instance_of, read

ZERO: Final = {"locked": "0", "totalPositionIM": "0", "totalOrderIM": "0", "walletBalance": "0"}


def bybit(*coins: Any, **beside: Any) -> dict[str, Any]:
    return {"retCode": 0, "result": {"list": [{"accountType": "UNIFIED", "coin": [*coins], **beside}]}}


def blofin(*rows: Any, **beside: Any) -> dict[str, Any]:
    return {"code": "0", "data": {"details": [*rows], **beside}}


def xt(*rows: Any, **beside: Any) -> dict[str, Any]:
    return {"rc": 0, "mc": "SUCCESS", "result": {"assets": [*rows], **beside}}


DENIED: Final[list[tuple[str, Any]]] = [
    ("bybit", bybit(totalEquity="18070.3")),
    ("bybit", bybit({"coin": "USDT", **ZERO}, totalWalletBalance="18070.4")),
    ("bybit", bybit({"coin": "USDT", **ZERO}, totalEquity=5)),
    ("blofin", blofin(totalEquity="10011254.07")),
    ("blofin", blofin({"currency": "USDT", "equity": "0", "available": "0"}, isolatedEquity="7")),
    ("xt", xt(totalUsdtAmount="31.75")),
    (
        "xt",
        xt(
            {"currency": "usdt", "frozenAmount": "0", "availableAmount": "0", "totalAmount": "0"},
            totalBtcAmount="0.001",
        ),
    ),
    (
        "cryptocom",
        {
            "code": 0,
            "result": {
                "data": [
                    {
                        "total_cash_balance": "6.4",
                        "position_balances": [
                            {"instrument_name": "USD", "quantity": "0", "reserved_qty": "0"}
                        ],
                    }
                ]
            },
        },
    ),
    (
        "foxbit",
        {
            "count": 3,
            "data": [
                {
                    "currency_symbol": "btc",
                    "balance": "1",
                    "balance_available": "1",
                    "balance_locked": "0",
                }
            ],
        },
    ),
    ("mexc", {"balances": [{"asset": "USDT", "free": "1", "locked": "0"}], "totalCount": "2"}),
    ("mexc", {"balances": [{"asset": "USDT", "free": "1", "locked": "0"}], "hasNext": True}),
    ("bigone", {"data": [{"asset_symbol": "BTC", "balance": "1", "locked_balance": "0"}], "page_token": "x"}),
    ("bybit", {**bybit(), "result": {**bybit()["result"], "nextPageCursor": "abc"}}),
]


@pytest.mark.parametrize(("exchange", "answer"), DENIED)
def test_what_stands_beside_the_rows_denies_them(exchange: str, answer: Any) -> None:
    with pytest.raises(UnprovenAnswer):
        read(instance_of(exchange), answer)


HOLDS: Final = {"coin": "USDT", **ZERO, "walletBalance": "5"}
AGREES: Final[list[tuple[str, Any]]] = [
    ("bybit", bybit({"coin": "USDT", **ZERO}, totalEquity="0", totalWalletBalance="", accountLTV="0.1")),
    ("bybit", bybit(HOLDS, totalEquity="4")),
    (
        "mexc",
        {"balances": [{"asset": "USDT", "free": "0", "locked": "0"}], "totalCount": "1", "hasNext": False},
    ),
    ("xt", xt({"currency": "usdt", "frozenAmount": "0", "availableAmount": "0", "totalAmount": "0"})),
    ("bigone", {"data": [{"asset_symbol": "BTC", "balance": "1", "locked_balance": "0"}], "page_token": ""}),
]


@pytest.mark.parametrize(("exchange", "answer"), AGREES)
def test_what_agrees_or_says_nothing_denies_nothing(exchange: str, answer: Any) -> None:
    assert len(read(instance_of(exchange), answer).holdings) == 1
