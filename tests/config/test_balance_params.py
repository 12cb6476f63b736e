"""Parameters of `fetch_balance` in the configuration: what may stand there, and which account they name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.config.balance_params import account_choice, parameter_mistakes, shown, thawed
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.loader import load
from brokerwatch.errors import ConfigError
from brokerwatch.gateway.catalogue import Catalogue, key_of, report_key
from brokerwatch.storage.journal import identity

KEYS = {"api_key": "k" * 20, "secret": "s3cr3t-made-up"}


def spec(params: Any = None, **values: Any) -> BrokerSpec:
    return BrokerSpec("a", exchange="binance", credentials=KEYS, balance_params=params or {}, **values)


@pytest.mark.parametrize(
    "params",
    [
        {"type": "swap"},
        {"type": "swap", "subType": "linear", "portfolioMargin": True, "recvWindow": 5000, "share": 0.5},
        {"marginMode": "isolated", "symbols": ["BTC/USDT", "ETH/USDT"]},
        {"subaccountNumber": 3, "address": "dydx1" + "a" * 38, "accountId": "12", "nested": {"a": [1]}},
    ],
)
def test_what_json_has_words_for_may_stand_there(params: Mapping[str, Any]) -> None:
    assert spec(params).balance_params == params


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"since": datetime(2026, 1, 1, tzinfo=UTC)}, "since: expected text, a number, true, false"),
        ({"a": None}, "not NoneType"),
        ({"a": {"b": {"c": {"d": {}}}}}, "a.b.c.d: expected text"),
        ({"a": float("nan")}, "a: expected a finite number"),
        ({"a": "x\ny"}, "a: expected printable text"),
        ({"": 1}, "expected printable names"),
        ({1: 1}, "expected printable names"),
        ({f"k{n}": n for n in range(40)}, "expected up to 32 parameters, not 40"),
        ({"apiKey": "x"}, "apiKey: secrets do not belong here"),
        ({"options": {"private-key": "x"}}, "options.private-key: secrets do not belong here"),
        ({"tag": f"x{KEYS['secret']}"}, "tag: has a credential in it"),
        ({"tags": ["a", KEYS["api_key"]]}, "tags: has a credential in it"),
        ("type=swap", "expected a mapping, not str"),
    ],
)
def test_what_cannot_be_is_named_and_no_value_is_repeated(params: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=r"brokers\.a\.balance_params") as raised:
        spec(params)
    assert expected in str(raised.value)
    assert not any(secret in str(raised.value) for secret in KEYS.values())


@pytest.mark.parametrize(
    "params", [{"type": "funding"}, {"account": "main"}, {"type": "swap"}, {"marginMode": "cross"}]
)
def test_an_account_from_which_no_spot_order_is_paid_cannot_trade(params: Mapping[str, Any]) -> None:
    assert spec(params).balance_params
    with pytest.raises(ConfigError, match="orders are spot orders"):
        spec(params, trading=True)
    assert spec({"type": "spot"}, trading=True).trading


def test_a_callable_of_the_traders_gets_none() -> None:
    async def fetch() -> Mapping[str, Any]:
        return {}

    with pytest.raises(ConfigError, match="beside a callable of your own"):
        BrokerSpec("a", fetch=fetch, balance_params={"type": "swap"})


def test_a_file_says_them_in_a_table_and_names_a_mistake_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    words = 'version = 1\n[brokers.a]\nexchange = "binance"\n[brokers.a.balance_params]\n'
    environment = {"A_API_KEY": "k" * 20, "A_API_SECRET": "s" * 20}
    path.write_text(f'{words}type = "swap"\nsymbols = ["BTC/USDT"]\n')
    [found] = load(path, Catalogue(), environment=environment).brokers
    assert found.balance_params == {"type": "swap", "symbols": ["BTC/USDT"]}
    path.write_text(f"{words}since = 2026-01-01\n")
    with pytest.raises(ConfigError, match=r"brokers\.a\.balance_params.*since: expected text"):
        load(path, Catalogue(), environment=environment)
    path.write_text('version = 1\n[brokers.a]\nexchange = "kraken"\nbalance_params = { type = "swap" }\n')
    with pytest.raises(ConfigError, match=r"brokers\.a\.balance_params.*expected none for kraken"):
        load(path, Catalogue(), environment=environment)


def test_other_parameters_are_another_account_and_the_same_in_another_order_are_not() -> None:
    plain, swap = spec(), spec({"type": "swap", "subType": "linear"})
    assert identity(plain) != identity(swap)
    assert identity(swap) == identity(spec({"subType": "linear", "type": "swap"}))
    assert report_key(plain) == key_of(plain) == key_of(swap), "they share a lane"
    assert report_key(swap) not in ("", report_key(plain)), "and no verification"
    option = spec(ccxt={"options": {"defaultType": "swap"}})
    assert identity(option) not in (identity(plain), identity(swap))
    assert identity(spec(ccxt={"options": {"adjustForTimeDifference": True}})) == identity(plain)
    assert account_choice({}, None) == ""


def test_ccxt_is_given_a_copy_and_people_are_shown_one_line() -> None:
    given = {"symbols": ["BTC/USDT"], "type": "swap"}
    copied = thawed(given)
    copied["symbols"].append("x")
    assert given["symbols"] == ["BTC/USDT"]
    assert shown(given) == 'symbols = ["BTC/USDT"], type = "swap"'
    assert not list(parameter_mistakes(given, (), trading=False))
