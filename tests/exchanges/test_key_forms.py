"""What exchanges without an adapter state of a key: by their documented answers, and never more than that."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import pytest

from brokerwatch.errors import NotSupported
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.key_forms import KEY_FORMS
from brokerwatch.exchanges.key_info import KeyFacts, statement
from brokerwatch.exchanges.registry import ADAPTERS, fault_of
from brokerwatch.exchanges.unified import Unified

# https://developers.binance.com/docs/wallet/account/api-key-permission
BINANCE: Final[dict[str, Any]] = {
    "ipRestrict": False,
    "createTime": 1698645219000,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "enableMargin": False,
    "enableFutures": False,
    "permitsUniversalTransfer": False,
    "enableVanillaOptions": False,
    "enableFixApiTrade": False,
    "enableFixReadOnly": True,
    "enableSpotAndMarginTrading": False,
    "enablePortfolioMarginTrading": True,
}
# https://bybit-exchange.github.io/docs/v5/user/apikey-info
BYBIT: Final[dict[str, Any]] = {
    "id": "13770661",
    "note": "watcher",
    "apiKey": "OURS",
    "readOnly": 0,
    "secret": "",
    "permissions": {"Spot": ["SpotTrade"], "Wallet": ["AccountTransfer"], "Options": []},
    "ips": ["*"],
    "deadlineDay": 83,
    "expiredAt": "2023-05-15T03:21:05Z",
    "userID": 24617703,
}


def read(exchange: str, answer: object, api_key: str = "OURS") -> KeyFacts:
    return KEY_FORMS[exchange].read(answer, api_key=api_key)


def bybit(**values: object) -> KeyFacts:
    return read("bybit", {"retCode": 0, "result": {**BYBIT, **values}})


def test_each_row_names_an_exchange_and_a_question_that_ccxt_has() -> None:
    ccxt: Any = importlib.import_module("ccxt.async_support")
    for exchange, form in KEY_FORMS.items():
        assert hasattr(getattr(ccxt, exchange)(), form.method), exchange
    assert not KEY_FORMS.keys() & ADAPTERS.keys()


def test_binance_states_rights_and_whether_the_key_is_bound() -> None:
    found = read("binance", BINANCE)
    assert (found.query, found.trade, found.withdraw, found.addresses) == (True, False, False, ())
    assert found.ends_s is None
    assert not found.never_ends, "it does not state that the key has no end"
    more = {"enableWithdrawals": True, "enableSpotAndMarginTrading": True, "ipRestrict": True}
    found = read("binance", {**BINANCE, **more, "tradingAuthorityExpirationTime": 1628985600000})
    assert (found.trade, found.withdraw, found.addresses, found.bound) == (True, True, None, True)
    assert found.ends_s == 1_628_985_600
    assert "enableWithdrawals" not in (found.named or ())
    said = statement(found, "k")
    assert (said.expires_us, said.address_bound) == (1_628_985_600_000_000, True)


def test_bybit_states_rights_addresses_and_the_end() -> None:
    found = bybit()
    assert (found.query, found.trade, found.withdraw, found.addresses) == (True, True, False, ())
    assert found.ends_s == 1_684_120_865
    assert found.named == ("read", "Spot.SpotTrade", "Wallet.AccountTransfer")
    assert bybit(permissions={"Wallet": ["Withdraw"]}).withdraw is True
    assert bybit(readOnly=1, permissions={"Wallet": ["Withdraw"]}).withdraw is False
    assert bybit(readOnly=1).trade is False
    assert bybit(readOnly="1").trade is False, "numbers of an answer come as text"
    assert bybit(readOnly="0").trade is True
    bound = bybit(ips=["203.0.113.7"], expiredAt="")
    assert (bound.addresses, bound.ends_s, bound.never_ends) == (("203.0.113.7",), None, True)


def test_bitfinex_states_what_each_scope_may() -> None:
    rows = [["account", 1, 0], ["orders", 1, 1], ["wallets", 1, 0], ["withdraw", 1, 0]]
    found = read("bitfinex", rows)
    assert (found.query, found.trade, found.withdraw) == (True, True, False)
    assert read("bitfinex", [*rows[:3], ["withdraw", 0, 1]]).withdraw is True
    assert read("bitfinex", rows[:2]).withdraw is None
    as_text = [[scope, str(reads), str(writes)] for scope, reads, writes in rows]
    assert read("bitfinex", as_text) == found


def test_gate_states_addresses_and_upbit_the_end_and_neither_says_more() -> None:
    found = read("gate", {"user_id": 7, "ip_whitelist": ["203.0.113.7"], "currency_pairs": []})
    assert (found.addresses, found.query, found.trade, found.withdraw) == (("203.0.113.7",), None, None, None)
    keys = [
        {"access_key": "other", "expire_at": "2020-01-01T00:00:00+09:00"},
        {"access_key": "OURS", "expire_at": "2027-01-01T00:00:00+09:00"},
    ]
    for exchange in ("upbit", "bithumb"):
        found = read(exchange, keys)
        assert (found.ends_s, found.withdraw, found.addresses) == (1_798_729_200, None, None)


@pytest.mark.parametrize(
    ("exchange", "answer"),
    [
        ("binance", {}),
        ("binance", {**BINANCE, "enableReading": "yes"}),
        ("binance", []),
        ("bybit", {"result": {**BYBIT, "apiKey": "another"}}),
        ("bybit", {"result": {**BYBIT, "readOnly": None}}),
        ("bybit", {"result": {**BYBIT, "expiredAt": "soon"}}),
        ("bybit", {"result": {**BYBIT, "expiredAt": "2023-05-15T03:21:05"}}),
        ("bybit", {"retCode": 10003}),
        ("bitfinex", []),
        ("bitfinex", [["orders", 2, 1]]),
        ("bitfinex", [["orders"]]),
        ("gate", {"user_id": 7}),
        ("upbit", [{"access_key": "other", "expire_at": "2020-01-01T00:00:00+09:00"}]),
        ("upbit", {"error": {}}),
    ],
)
def test_what_cannot_be_read_states_nothing(exchange: str, answer: object) -> None:
    with pytest.raises(UnprovenAnswer):
        read(exchange, answer)


def test_an_exchange_without_a_row_cannot_be_asked() -> None:
    caller: Any = SimpleNamespace(call=None, instance=SimpleNamespace(id="mexc", apiKey="k"))

    async def never(read: Callable[[object], Any], method: str, *arguments: object) -> Any:
        raise AssertionError(method)

    with pytest.raises(NotSupported, match="mexc"):
        asyncio.run(Unified(caller).stated_key(never))


# --- the exchange's own refusal of an address ---------------------------------------------------------------


def failed(body: str, *, name: str, family: str = "", status: int = 200) -> Failure:
    ccxt: Any = importlib.import_module("ccxt")
    return Failure.of(getattr(ccxt, name)(body), status=status, body=body, family=family)


@pytest.mark.parametrize(
    ("body", "name", "family"),
    [
        ('{"code":"50110","msg":"Your IP 1.2.3.4 is not included in your API key\'s IP whitelist."}',
         "AuthenticationError", "okx"),
        ('{"retCode":10010,"retMsg":"Unmatched IP, please check your API key\'s bound IP addresses."}',
         "PermissionDenied", ""),
        ('{"code":"40018","msg":"Invalid IP"}', "PermissionDenied", ""),
        ('{"code":"400006","msg":"The requested ip address is not in the api whitelist"}',
         "AuthenticationError", ""),
        ('{"code":700006,"msg":"IP [1.2.3.4] not in the ip white list"}', "AuthenticationError", ""),
        ('{"error":{"name":"no_authorization_ip","message":"x"}}', "AuthenticationError", ""),
    ],
)  # fmt: skip
def test_the_words_for_an_address_that_is_not_listed_are_known(body: str, name: str, family: str) -> None:
    assert fault_of(failed(body, name=name, family=family)).refuses_address


@pytest.mark.parametrize(
    ("body", "name", "family", "status"),
    [
        ('{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}',
         "AuthenticationError", "", 200),
        ('{"code":"50111","msg":"Invalid OK-ACCESS-KEY"}', "AuthenticationError", "okx", 401),
        ('{"error":["EAPI:Invalid key"]}', "AuthenticationError", "kraken", 200),
        ("<html>Your IP is not in the whitelist</html>", "PermissionDenied", "", 403),
        ('{"code":"50011","msg":"Your IP 1.2.3.4 is not in the allowlist"}', "RateLimitExceeded", "okx", 429),
    ],
)  # fmt: skip
def test_other_refusals_say_nothing_of_an_address(body: str, name: str, family: str, status: int) -> None:
    assert not fault_of(failed(body, name=name, family=family, status=status)).refuses_address
