"""What Coinbase's answers prove, and what they do not: what is its alone."""

from __future__ import annotations

from typing import Any

import pytest

from brokerwatch.exchanges import coinbase as coinbase_adapter
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages import Holding
from tests.support.answers import (
    COINBASE,
    as_it_is,
    coinbase,
    coinbase_account,
    held,
)


def test_a_coinbase_vault_is_no_money_to_trade_with() -> None:
    vault = coinbase_account("BTC", "5", "0", type="ACCOUNT_TYPE_VAULT")
    assert coinbase({**COINBASE, "accounts": [vault, coinbase_account("BTC", "1", "0")]}) == {
        "BTC": held("1", "0", "1")
    }


def test_a_coinbase_account_without_a_type_counts() -> None:
    account = coinbase_account("BTC", "1", "0")
    del account["type"]
    assert coinbase({**COINBASE, "accounts": [account]}) == {"BTC": held("1", "0", "1")}


def test_two_coinbase_accounts_in_one_currency_are_added_up() -> None:
    accounts = [coinbase_account("USDC", "1.5", "0.5"), coinbase_account("USDC", "2", "1")]
    assert coinbase({**COINBASE, "accounts": accounts}) == {"USDC": held("3.5", "1.5", "5.0")}


def test_the_pages_of_coinbase_are_one_balance() -> None:
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    first = {"accounts": [coinbase_account("USD", "1", "0")], "has_next": True, "cursor": "next"}
    assert coinbase_adapter.accounts_page(first, as_it_is, found, seen) == "next"
    last = {"accounts": [coinbase_account("USD", "2", "3")], "has_next": False, "cursor": ""}
    assert coinbase_adapter.accounts_page(last, as_it_is, found, seen) is None
    assert found == {"USD": held("3", "3", "6")}


@pytest.mark.parametrize("cursor", [None, "", 7, []], ids=repr)
def test_a_coinbase_page_that_promises_another_and_does_not_say_where_proves_nothing(cursor: object) -> None:
    with pytest.raises(UnprovenAnswer, match="cursor of the next page"):
        coinbase_adapter.accounts_page({**COINBASE, "has_next": True, "cursor": cursor}, as_it_is, {}, set())


@pytest.mark.parametrize("has_next", [None, "false", 0, 1, []], ids=repr)
def test_a_coinbase_page_that_does_not_say_whether_it_is_the_last_proves_nothing(has_next: object) -> None:
    with pytest.raises(UnprovenAnswer, match="has_next"):
        coinbase_adapter.accounts_page({**COINBASE, "has_next": has_next}, as_it_is, {}, set())


def test_an_empty_coinbase_account_is_a_balance() -> None:
    assert coinbase({**COINBASE, "accounts": []}) == {}


def test_a_coinbase_account_that_speaks_of_two_currencies_proves_neither() -> None:
    for wrong in ({"currency": "EUR"}, {"hold": {"value": "1", "currency": "EUR"}}):
        account = {**coinbase_account("USD", "1", "1"), **wrong}
        with pytest.raises(UnprovenAnswer, match="an account is in 'EUR' and in USD"):
            coinbase({**COINBASE, "accounts": [account]})


@pytest.mark.parametrize(
    "kind", [None, "", "ACCOUNT_TYPE_UNSPECIFIED", "ACCOUNT_TYPE_NEW", 5, {}, []], ids=repr
)
def test_a_coinbase_account_of_a_type_nobody_knows_proves_nothing(kind: object) -> None:
    with pytest.raises(UnprovenAnswer, match="type"):
        coinbase({"accounts": [coinbase_account("USD", "1", "0", type=kind)], "has_next": False})


def test_a_coinbase_account_that_comes_twice_is_not_counted_twice() -> None:
    account = coinbase_account("USD", "666", "0")
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    first = {"accounts": [account], "has_next": True, "cursor": "next"}
    assert coinbase_adapter.accounts_page(first, as_it_is, found, seen) == "next"
    with pytest.raises(UnprovenAnswer, match="comes twice"):
        coinbase_adapter.accounts_page({"accounts": [account], "has_next": False}, as_it_is, found, seen)


def test_a_coinbase_hold_that_names_no_currency_is_in_that_of_its_account() -> None:
    account = coinbase_account("USD", "1", "2", hold={"value": "2"})
    assert coinbase({"accounts": [account], "has_next": False}) == {"USD": held("1", "2", "3")}


def test_coinbase_accounts_without_an_id_are_all_counted() -> None:
    for uuid in ("", None, 7):
        twice = [coinbase_account("USD", "1", "0", uuid=uuid), coinbase_account("USD", "2", "0", uuid=uuid)]
        assert coinbase({"accounts": twice, "has_next": False}) == {"USD": held("3", "0", "3")}


def read_apart(*accounts: dict[str, object], **page: object) -> tuple[dict[str, Holding], Any]:
    found: dict[str, Holding] = {}
    apart: dict[str, dict[str, Holding]] = {}
    answer = {**COINBASE, "accounts": list(accounts), **page}
    assert coinbase_adapter.accounts_page(answer, as_it_is, found, set(), apart) is None
    return found, apart


@pytest.mark.parametrize(
    ("said", "wallet"),
    [
        ({"platform": "ACCOUNT_PLATFORM_CFM_CONSUMER"}, "futures"),
        ({"platform": "ACCOUNT_PLATFORM_INTX"}, "perpetuals"),
        ({"platform": "ACCOUNT_PLATFORM_OF_TOMORROW"}, "of_tomorrow"),
        ({"type": "ACCOUNT_TYPE_VAULT"}, "vault"),
        ({"type": "ACCOUNT_TYPE_PERP_FUTURES"}, "perpetuals"),
        ({"active": False}, "inactive"),
        ({"ready": False}, "not ready"),
        ({"deleted_at": "2024-01-01T00:00:00Z"}, "deleted"),
    ],
    ids=repr,
)
def test_money_of_coinbase_that_no_spot_order_can_spend_lies_apart(
    said: dict[str, object], wallet: str
) -> None:
    usual = {"platform": "ACCOUNT_PLATFORM_CONSUMER", "active": True, "ready": True, "deleted_at": None}
    spot = coinbase_account("USD", "100.50", "0", **usual)
    other = coinbase_account("USD", "500", "7", **{**usual, **said})
    assert read_apart(spot, other) == (
        {"USD": held("100.50", "0", "100.50")},
        {wallet: {"USD": held("500", "7", "507")}},
    )
    assert coinbase({**COINBASE, "accounts": [spot, other]}) == {"USD": held("100.50", "0", "100.50")}


@pytest.mark.parametrize("ready", [{"ready": False}, {"active": False}], ids=repr)
def test_an_account_of_coinbase_that_is_not_ready_and_has_nothing_states_that_there_is_nothing(
    ready: dict[str, object],
) -> None:
    assert read_apart(coinbase_account("USD", "0", "0", **ready)) == ({"USD": held("0", "0", "0")}, {})


@pytest.mark.parametrize(
    "broken",
    [
        {"platform": 7},
        {"platform": "NaN"},
        {"deleted_at": True},
        {"deleted_at": "NaN"},
        {"available_balance": {"value": "1", "currency": "NaN"}},
        {"platform": ""},
        {"platform": None},
        {"type": None},
        {"active": "yes"},
        {"ready": 0},
        {"available_balance": {"value": "-1", "currency": "USD"}},
    ],
    ids=repr,
)
def test_an_account_of_coinbase_that_does_not_say_what_others_say_proves_nothing(
    broken: dict[str, object],
) -> None:
    usual = {"platform": "ACCOUNT_PLATFORM_CONSUMER", "active": True, "ready": True}
    accounts = [
        coinbase_account("USD", "1", "0", **usual),
        coinbase_account("USD", "2", "0", **{**usual, **broken}),
    ]
    with pytest.raises(UnprovenAnswer):
        read_apart(*accounts)


@pytest.mark.parametrize("size", [9, "9", 2])
def test_the_number_of_accounts_that_coinbase_states_denies_a_list_with_fewer(size: object) -> None:
    one = coinbase_account("USD", "1", "0")
    for accounts in ([], [one]):
        with pytest.raises(UnprovenAnswer, match="size is"):
            coinbase({**COINBASE, "accounts": accounts, "size": size})
    following: dict[str, Any] = {"accounts": [], "size": size, "has_next": True, "cursor": "next"}
    with pytest.raises(UnprovenAnswer, match="size is"):
        coinbase_adapter.accounts_page(following, as_it_is, {}, set())


def test_a_cursor_of_coinbase_denies_that_there_is_no_account_at_all() -> None:
    nothing: dict[str, Any] = {**COINBASE, "accounts": [], "cursor": "789100"}
    with pytest.raises(UnprovenAnswer, match="a cursor of a next page"):
        coinbase(nothing)
    assert coinbase({**nothing, "cursor": ""}) == {}
    one = coinbase_account("USD", "1", "0")
    assert coinbase({**nothing, "accounts": [one]}) == {"USD": held("1", "0", "1")}


@pytest.mark.parametrize("size", [0, 1, None, "integer", "1"])
def test_a_size_that_agrees_or_is_no_number_denies_nothing(size: object) -> None:
    one = coinbase_account("USD", "1", "0")
    assert coinbase({**COINBASE, "accounts": [one], "size": size}) == {"USD": held("1", "0", "1")}
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    first = {"accounts": [one], "size": 2, "has_next": True, "cursor": "next"}
    last = {"accounts": [coinbase_account("USD", "2", "0")], "size": 2, "has_next": False, "cursor": ""}
    assert coinbase_adapter.accounts_page(first, as_it_is, found, seen) == "next"
    assert coinbase_adapter.accounts_page(last, as_it_is, found, seen) is None, "it may count all pages"
