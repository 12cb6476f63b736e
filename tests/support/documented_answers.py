"""Answers to `fetch_balance` in the forms that exchanges document, with amounts that are made up."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import ccxt

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.balances import FetchedBalance
from brokerwatch.exchanges.unified_balance import stated

Path = tuple[str | int, ...]
Amounts = tuple[str, str, str]
"""What is free, what is used, and the total."""


def _names(*free_and_used: object, **more: object) -> dict[str, object]:
    """One row, from keys and values in turn."""
    keys, values = free_and_used[::2], free_and_used[1::2]
    return {**{str(key): value for key, value in zip(keys, values, strict=True)}, **more}


_BYBIT_COIN: Final = _names("locked", "1", "totalPositionIM", "2", "totalOrderIM", "0.5")

ANSWERS: Final[Mapping[str, tuple[Any, Mapping[str, Amounts]]]] = {
    "aster": (
        {"balances": [_names("asset", "USDT", "free", "7", "locked", "2")]},
        {"USDT": ("7", "2", "9")},
    ),
    "backpack": (
        {"USDC": _names("available", "7", "locked", "2", "staked", "1")},
        {"USDC": ("7", "3", "10")},
    ),
    "bigone": (
        {"code": 0, "data": [_names("asset_symbol", "BTC", "balance", "9", "locked_balance", "2")]},
        {"BTC": ("7", "2", "9")},
    ),
    "binance": (
        {
            "balances": [
                _names("asset", "USDT", "free", "7", "locked", "2"),
                _names("asset", "DOGE", "free", "5", "locked", "0"),
            ]
        },
        {"USDT": ("7", "2", "9"), "DOGE": ("5", "0", "5")},
    ),
    "bitfinex": (
        [["exchange", "USD", "9", "0", "7", None, None], ["exchange", "JPY", "5", "0", "5", None, None]],
        {"USD": ("7", "2", "9"), "JPY": ("5", "0", "5")},
    ),
    "bitget": (
        {
            "code": "00000",
            "data": [_names("coin", "USDT", "available", "7", "frozen", "1", "locked", "1")],
        },
        {"USDT": ("7", "2", "9")},
    ),
    "bitso": (
        {
            "success": True,
            "payload": {
                "balances": [_names("currency", "usd", "available", "7", "locked", "2", "total", "9")]
            },
        },
        {"USD": ("7", "2", "9")},
    ),
    "blofin": (
        {
            "code": "0",
            "data": {
                "totalEquity": "9",
                "details": [
                    _names(
                        *("currency", "USDT", "equity", "9", "available", "7"),
                        *("availableEquity", "8", "frozen", "3"),
                    )
                ],
            },
        },
        {"USDT": ("7", "2", "9")},
    ),
    "btcbox": (
        {"uid": 1, "nameauth": 0, "jpy_balance": "7", "jpy_lock": "2", "btc_balance": "5", "btc_lock": "1"},
        {"JPY": ("7", "2", "9"), "BTC": ("5", "1", "6")},
    ),
    "bybit": (
        {
            "retCode": 0,
            "result": {
                "list": [
                    {
                        "accountType": "UNIFIED",
                        "totalEquity": "14",
                        "coin": [
                            _names("coin", "USDT", "walletBalance", "9", **_BYBIT_COIN),
                            _names("coin", "BTC", "walletBalance", "5", **_BYBIT_COIN),
                        ],
                    }
                ]
            },
        },
        {"USDT": ("5.5", "3.5", "9"), "BTC": ("1.5", "3.5", "5")},
    ),
    "coinbaseexchange": (
        [_names("id", "x", "currency", "USD", "balance", "9", "hold", "2", "available", "7")],
        {"USD": ("7", "2", "9")},
    ),
    "coincheck": (
        {"success": True, "jpy": "7", "jpy_reserved": "2", "btc": "5", "btc_reserved": "1"},
        {"JPY": ("7", "2", "9"), "BTC": ("5", "1", "6")},
    ),
    "coinone": (
        {
            "result": "success",
            "errorCode": "0",
            "normalWallets": [],
            "krw": _names("avail", "7", "balance", "9"),
        },
        {"KRW": ("7", "2", "9")},
    ),
    "deribit": (
        {
            "result": {
                "summaries": [
                    _names(
                        *("currency", "BTC", "available_funds", "7"),
                        *("maintenance_margin", "2", "equity", "9"),
                    )
                ]
            }
        },
        {"BTC": ("7", "2", "9")},
    ),
    "derive": (
        {
            "result": [
                {
                    "positions_initial_margin": "-1.5",
                    "open_orders_margin": "-0.5",
                    "collaterals": [_names("currency", "USDC", "amount", "9")],
                }
            ]
        },
        {"USDC": ("7", "2.0", "9")},
    ),
    "gate": (
        [_names("currency", "USDT", "available", "7", "locked", "2")],
        {"USDT": ("7", "2", "9")},
    ),
    "hollaex": (
        {"user_id": 1, "usdt_balance": "9", "usdt_available": "7", "btc_balance": "6", "btc_available": "5"},
        {"USDT": ("7", "2", "9"), "BTC": ("5", "1", "6")},
    ),
    "htx": (
        {
            "status": "ok",
            "data": {
                "type": "spot",
                "list": [
                    _names("currency", "usdt", "type", "trade", "balance", "7"),
                    _names("currency", "usdt", "type", "frozen", "balance", "2"),
                ],
            },
        },
        {"USDT": ("7", "2", "9")},
    ),
    "indodax": (
        {
            "success": 1,
            "return": {"balance": {"idr": "7", "btc": "5"}, "balance_hold": {"idr": "2", "btc": "1"}},
        },
        {"IDR": ("7", "2", "9"), "BTC": ("5", "1", "6")},
    ),
    "kucoin": (
        {
            "code": "200000",
            "data": [
                _names(
                    *("id", "x", "currency", "USDT", "type", "trade"),
                    *("balance", "9", "available", "7", "holds", "2"),
                )
            ],
        },
        {"USDT": ("7", "2", "9")},
    ),
    "latoken": (
        [
            _names(
                *("id", "x", "type", "ACCOUNT_TYPE_SPOT", "timestamp", 1),
                *("currency", "USDT", "available", "7", "blocked", "2"),
            )
        ],
        {"USDT": ("7", "2", "9")},
    ),
    "lighter": (
        {
            "code": 200,
            "total": 1,
            "accounts": [_names("index", 1, "collateral", "9", "available_balance", "7")],
        },
        {"USDC": ("7", "2", "9")},
    ),
    "luno": (
        {"balance": [_names("asset", "USDC", "balance", "9", "reserved", "1", "unconfirmed", "1")]},
        {"USDC": ("8", "2", "10")},
    ),
    "mexc": (
        {"balances": [_names("asset", "USDT", "free", "7", "locked", "2")]},
        {"USDT": ("7", "2", "9")},
    ),
    "phemex": (
        {
            "code": 0,
            "data": [
                _names(
                    *("currency", "USDT", "balanceEv", "900000000"),
                    *("lockedTradingBalanceEv", "100000000", "lockedWithdrawEv", "100000000"),
                )
            ],
        },
        {"USDT": ("7", "2", "9")},
    ),
    "revolutx": (
        [_names("currency", "USD", "available", "7", "reserved", "1", "staked", "1", "total", "9")],
        {"USD": ("7", "2", "9")},
    ),
    "upbit": (
        [_names("currency", "KRW", "balance", "7", "locked", "2")],
        {"KRW": ("7", "2", "9")},
    ),
    "whitebit": (
        {"USDT": _names("available", "7", "freeze", "2"), "BTC": _names("available", "5", "freeze", "1")},
        {"USDT": ("7", "2", "9"), "BTC": ("5", "1", "6")},
    ),
    "zaif": (
        {"success": 1, "return": {"funds": {"jpy": "7", "btc": "5"}, "deposit": {"jpy": "9", "btc": "6"}}},
        {"JPY": ("7", "2", "9"), "BTC": ("5", "1", "6")},
    ),
}
"""By ccxt id: an answer, and what the account holds by it."""


def instance_of(exchange: str) -> Any:
    """A ccxt instance whose questions are answered by what stands in its `answer`."""
    of: Any = getattr(ccxt, exchange)

    class Answered(of):  # type: ignore[misc] # ccxt has no annotations
        answer: Any = None
        answers: Mapping[str, Any] = {}

        def fetch2(self, path: str, *request: object) -> Any:
            del request
            given = next((self.answers[part] for part in self.answers if part in path), self.answer)
            return json_text.parsed(json.dumps(given))

        def load_markets(self, *request: object) -> Any:
            del request
            return self.markets

    Answered.__name__ = exchange
    words = ("apiKey", "secret", "password", "uid", "privateKey", "walletAddress", "accountId")
    made: Any = Answered(dict.fromkeys(words, "0x" + "1" * 64))
    made.number, made.markets = str, {}
    made.currencies_by_id = {
        code: {"id": code, "code": code.upper(), "precision": None} for code in ("jpy", "btc", "usdt")
    }
    made.currencies = {one["code"]: one for one in made.currencies_by_id.values()}
    made.accounts = [{"id": "1", "type": "spot", "info": {}}]
    made.options.update(
        {
            "enableUnifiedMargin": False,
            "enableUnifiedAccount": True,
            "unifiedAccount": False,
            "uta": False,
            "accountIndex": 1,
            "deriveWalletAddress": "0x1",
        }
    )
    return made


def read(instance: Any, answer: Any, answers: Mapping[str, Any] | None = None) -> FetchedBalance:
    """What this answer of an exchange proves. Raises UnprovenAnswer, or what ccxt raises."""
    instance.answer, instance.answers = answer, answers or {}
    structure = instance.fetch_balance()
    return stated(
        instance, structure, lambda name: str(instance.safe_currency_code(name)), json.dumps(answer)
    )


DAMAGES: Final[list[Any]] = [*json.loads('[null, "", "NaN", "Infinity", true, {}, [], [{}]]')]


def damaged(answer: Any) -> Iterator[tuple[str, Any]]:
    """Every way to damage one value of an answer, with words for it. No whole row is taken away."""
    for path, value in _values(answer):
        for new in DAMAGES:
            if new != value:
                yield f"{path} is {new!r}", _changed(answer, path, new)
        if isinstance(value, str) and _is_number(value):
            yield f"{path} is a number", _changed(answer, path, float(value))
            yield f"{path} is negative", _changed(answer, path, f"-{value.lstrip('-')}")
        if isinstance(path[-1], str) and not isinstance(value, dict | list):
            without = _parent(copied := copy.deepcopy(answer), path)
            without[f"{path[-1]}Renamed"] = without.pop(path[-1])
            yield f"{path} is renamed", copied


def _values(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    inner: object = value
    keys: list[Any] = []
    if isinstance(inner, dict):
        keys = list(cast("dict[str, object]", inner))
    elif isinstance(inner, list):
        keys = list(range(len(cast("list[object]", inner))))
    for key in keys:
        yield (*path, key), value[key]
        yield from _values(value[key], (*path, key))


def _parent(answer: Any, path: Path) -> Any:
    for key in path[:-1]:
        answer = answer[key]
    return answer


def _changed(answer: Any, path: Path, new: object) -> Any:
    copied = copy.deepcopy(answer)
    _parent(copied, path)[path[-1]] = copy.deepcopy(new)
    return copied


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()
