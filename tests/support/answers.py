"""Good answers of each exchange to the question for the balance, and how they are read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from brokerwatch.exchanges import coinbase as coinbase_adapter
from brokerwatch.exchanges import kraken as kraken_adapter
from brokerwatch.exchanges import okx as okx_adapter
from brokerwatch.messages import Holding

_IDS: Final = itertools.count()
"""Every account has an id of its own."""


def held(free: str, used: str, total: str, *, staked: str = "0", earning: str = "0") -> Holding:
    return Holding(
        free=Decimal(free),
        used=Decimal(used),
        total=Decimal(total),
        staked=Decimal(staked),
        earning=Decimal(earning),
    )


def as_it_is(code: str) -> str:
    return code


def kraken(answer: object) -> Mapping[str, Holding]:
    return kraken_adapter.holdings(answer, as_it_is)


def okx(answer: object) -> Mapping[str, Holding]:
    return okx_adapter.holdings(answer, as_it_is)


def coinbase(answer: object) -> Mapping[str, Holding]:
    found: dict[str, Holding] = {}
    assert coinbase_adapter.accounts_page(answer, as_it_is, found, set()) is None
    return found


def coinbase_account(currency: str, free: str, used: str, **values: object) -> dict[str, object]:
    return {
        "uuid": f"8bfc20d7-{next(_IDS)}",
        "name": f"{currency} wallet",
        "type": "ACCOUNT_TYPE_CRYPTO",
        "available_balance": {"value": free, "currency": currency},
        "hold": {"value": used, "currency": currency},
        **values,
    }


def okx_detail(currency: str, **values: object) -> dict[str, object]:
    return {
        "ccy": currency,
        "eq": "5",
        "availEq": "3",
        "availBal": "3",
        "frozenBal": "2",
        "uTime": "1",
        **values,
    }


KRAKEN: Final[dict[str, Any]] = {
    "error": [],
    "result": {
        "ZUSD": {"balance": "1250.5000", "hold_trade": "250.2500"},
        "XXBT": {"balance": "0.7500000001", "hold_trade": "0"},
        "USDT": {"balance": "0", "hold_trade": "0.0"},
    },
}


COINBASE: Final[dict[str, Any]] = {
    "accounts": [
        coinbase_account("USD", "3100.55", "12", type="ACCOUNT_TYPE_FIAT"),
        coinbase_account("BTC", "0.00000001", "0"),
    ],
    "has_next": False,
    "cursor": "",
}


OKX: Final[dict[str, Any]] = {
    "code": "0",
    "msg": "",
    "data": [{"uTime": "1", "totalEq": "9", "details": [okx_detail("USDT"), okx_detail("BTC", eq="5.0")]}],
}


UNIFIED: Final[dict[str, Any]] = {
    "info": {"whatever": 1},
    "free": {"USD": "7.5", "BTC": "1"},
    "used": {"USD": "0", "BTC": "0"},
    "total": {"USD": "7.5", "BTC": "1"},
}


NO_ANSWERS: Final = [None, "", "ok", 0, 1.5, True, [], [1], {}, {"status": "ok"}, {"error": "x"}, {1: 2}]
