"""The simulated exchanges, seen through the real asynchronous ccxt over real HTTP on the loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from brokerwatch.simulator import (
    FAULTS,
    BalanceSpec,
    Broken,
    Ending,
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.simulator.exchange import Call
from brokerwatch.simulator.server import STOP_TIMEOUT_S
from brokerwatch.simulator.trouble import Trouble
from tests.support import simulated as clients
from tests.support.simulated import ccxt

EXCHANGES: tuple[type[SimulatedExchange], ...] = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)
Amounts = dict[str, tuple[Decimal, Decimal]]


@pytest.fixture(params=EXCHANGES, ids=["kraken", "coinbase", "okx"])
def exchange(request: pytest.FixtureRequest) -> Generator[SimulatedExchange]:
    simulated: SimulatedExchange = request.param()
    with serve(simulated):
        yield simulated


@pytest.fixture
def kraken() -> Generator[SimulatedKraken]:
    simulated = SimulatedKraken()
    with serve(simulated):
        yield simulated


@pytest.fixture
def coinbase() -> Generator[SimulatedCoinbase]:
    simulated = SimulatedCoinbase()
    with serve(simulated):
        yield simulated


@pytest.fixture
def okx() -> Generator[SimulatedOkx]:
    simulated = SimulatedOkx()
    with serve(simulated):
        yield simulated


def with_client(
    simulated: SimulatedExchange, use: Callable[[Any], Awaitable[Any]], **credentials: str
) -> Any:
    """What `use` returns for a client that takes no list of markets, so that a balance is one call."""

    async def without_markets(client: Any) -> Any:
        client.markets = {}  # a test that needs the markets reloads them
        return await use(client)

    return clients.with_client(simulated, without_markets, **credentials)


def fetch_balance(simulated: SimulatedExchange, **credentials: str) -> Any:
    async def use(client: Any) -> Any:
        return await client.fetch_balance()

    return with_client(simulated, use, **credentials)


def as_amounts(balance: Any) -> Amounts:
    return {
        code: (Decimal(balance["free"][code]), Decimal(balance["used"][code])) for code in balance["total"]
    }


def exact(balance: BalanceSpec) -> Amounts:
    return {code: (Decimal(free), Decimal(held)) for code, (free, held) in balance.items()}


# --- healthy --------------------------------------------------------------------------------------------


def test_a_healthy_balance_is_exactly_what_was_set(exchange: SimulatedExchange) -> None:
    balance = {
        "USD": ("100.10", "0.05"),
        "BTC": ("0.500000000000000001", "0.1"),
        "DOGE": ("123456789012345678901.00000000000001", "0"),
        "XTZ": ("7", "0"),
        "ZRX": ("0", "3.25"),
    }
    exchange.set_balance(balance)
    assert as_amounts(fetch_balance(exchange)) == exact(balance)


def test_the_balance_of_a_new_exchange_is_its_plausible_default(exchange: SimulatedExchange) -> None:
    assert as_amounts(fetch_balance(exchange)) == exact(exchange.default_balance)


def test_an_empty_account_answers_with_an_empty_balance(exchange: SimulatedExchange) -> None:
    exchange.set_balance({})
    assert fetch_balance(exchange)["total"] == {}


def test_markets_load(exchange: SimulatedExchange) -> None:
    markets = with_client(exchange, lambda client: client.load_markets(True))
    assert {"BTC/USD", "ETH/EUR", "SOL/USDT", "XRP/USD", "ADA/USD", "DOGE/USD"} <= set(markets)
    assert all(market["spot"] and market["active"] for market in markets.values())
    assert Decimal(markets["XRP/USD"]["precision"]["price"]) == Decimal("0.00001")


def test_kraken_answers_in_its_own_codes(kraken: SimulatedKraken) -> None:
    kraken.set_balance(dict.fromkeys(("USD", "BTC", "BTC.F", "SOL", "XTZ"), ("1", "0")))
    balance = fetch_balance(kraken)
    assert list(balance["info"]["result"]) == ["ZUSD", "XXBT", "XBT.F", "SOL", "XTZ"]
    assert list(balance["total"]) == ["USD", "BTC", "BTC.F", "SOL", "XTZ"]


@pytest.mark.parametrize("margin_mode", [False, True])
def test_okx_fills_avail_eq_in_margin_mode_only(okx: SimulatedOkx, *, margin_mode: bool) -> None:
    okx.margin_mode = margin_mode
    okx.set_balance({"USDT": ("3", "2")})
    balance = fetch_balance(okx)
    assert balance["info"]["data"][0]["details"][0]["availEq"] == ("3" if margin_mode else "")
    assert as_amounts(balance) == exact({"USDT": ("3", "2")})


def test_okx_keeps_the_funding_account_apart(okx: SimulatedOkx) -> None:
    okx.set_funding({"EUR": ("12.5", "0.5")})
    funding = with_client(okx, lambda client: client.fetch_balance({"type": "funding"}))
    assert as_amounts(funding) == exact({"EUR": ("12.5", "0.5")})
    assert "EUR" not in fetch_balance(okx)["total"]


def test_the_time_endpoint_follows_the_exchanges_own_clock(exchange: SimulatedExchange) -> None:
    exchange.clock_skew_s = 3_600.0
    exchange_ms = with_client(exchange, lambda client: client.fetch_time())
    assert exchange_ms / 1_000 - time.time() == pytest.approx(3_600.0, abs=5.0)


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedOkx])
def test_the_status_endpoint_reports_maintenance(kind: type[SimulatedExchange]) -> None:
    simulated = kind()
    with serve(simulated):
        assert with_client(simulated, lambda client: client.fetch_status())["status"] == "ok"
        simulated.set_fault("maintenance")
        assert with_client(simulated, lambda client: client.fetch_status())["status"] == "maintenance"


@pytest.mark.parametrize(
    ("kind", "method", "words"),
    [
        (SimulatedKraken, "privatePostDepositMethods", "EGeneral:Unknown method"),
        (SimulatedCoinbase, "v3PrivateGetBrokeragePortfolios", "NOT_FOUND"),
        (SimulatedCoinbase, "v2PrivateGetAccounts", "not_found"),
        (SimulatedOkx, "privateGetAccountInterestRate", "Not Found"),
    ],
)
def test_a_method_it_does_not_have_is_refused_in_the_exchanges_words(
    kind: type[SimulatedExchange], method: str, words: str
) -> None:
    simulated = kind()
    with serve(simulated), pytest.raises(ccxt.ExchangeError, match=words):
        with_client(simulated, lambda client: getattr(client, method)())


# --- signatures, nonces, clocks -------------------------------------------------------------------------


def test_a_wrong_key_is_refused(exchange: SimulatedExchange) -> None:
    with pytest.raises(ccxt.AuthenticationError, match=r"Invalid key|Unauthorized|50111"):
        fetch_balance(exchange, api_key=exchange.new_credentials()["api_key"])


# ccxt has no class for Kraken's "EAPI:Invalid signature", so there it is the plain ExchangeError.
@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (SimulatedKraken, "ExchangeError", "EAPI:Invalid signature"),
        (SimulatedCoinbase, "AuthenticationError", "Unauthorized"),
        (SimulatedOkx, "AuthenticationError", "50113"),
    ],
)
def test_a_signature_made_with_another_secret_is_refused(
    kind: type[SimulatedExchange], error: str, words: str
) -> None:
    simulated = kind()
    with serve(simulated), pytest.raises(ccxt.ExchangeError, match=words) as refusal:
        fetch_balance(simulated, secret=simulated.new_credentials()["secret"])
    assert type(refusal.value).__name__ == error


def test_a_wrong_passphrase_is_refused(okx: SimulatedOkx) -> None:
    with pytest.raises(ccxt.AuthenticationError, match="50105"):
        fetch_balance(okx, password="another")


def test_a_nonce_that_does_not_rise_is_refused(kraken: SimulatedKraken) -> None:
    async def use(client: Any) -> None:
        client.incrementing_nonce = lambda: 1_800_000_000_000
        await client.fetch_balance()
        await client.fetch_balance()

    with pytest.raises(ccxt.InvalidNonce, match="EAPI:Invalid nonce"):
        with_client(kraken, use)
    assert kraken.private_calls == 2


def test_a_second_client_on_the_same_key_whose_clock_is_behind_is_refused(kraken: SimulatedKraken) -> None:
    async def use_a_slow_clock(client: Any) -> Any:
        client.options["timeDifference"] = 60_000
        return await client.fetch_balance()

    fetch_balance(kraken)
    with pytest.raises(ccxt.InvalidNonce):
        with_client(kraken, use_a_slow_clock)


def test_a_call_with_a_wrong_signature_does_not_use_up_its_nonce(kraken: SimulatedKraken) -> None:
    async def use(client: Any) -> Any:
        client.incrementing_nonce = lambda: 1_800_000_000_000
        return await client.fetch_balance()

    with pytest.raises(ccxt.ExchangeError, match="Invalid signature"):
        with_client(kraken, use, secret=kraken.new_credentials()["secret"])
    assert with_client(kraken, use)["total"]


@pytest.mark.parametrize("skew_s", [-31.0, 31.0])
def test_a_timestamp_more_than_thirty_seconds_off_is_refused(okx: SimulatedOkx, skew_s: float) -> None:
    okx.clock_skew_s = skew_s
    with pytest.raises(ccxt.InvalidNonce, match="50102"):
        fetch_balance(okx)
    okx.clock_skew_s = skew_s * 0.9
    assert fetch_balance(okx)["total"]


@pytest.mark.parametrize("skew_s", [-35.0, 125.0])
def test_a_token_that_is_expired_or_not_yet_valid_is_refused(
    coinbase: SimulatedCoinbase, skew_s: float
) -> None:
    coinbase.clock_skew_s = skew_s
    with pytest.raises(ccxt.AuthenticationError, match="401 Unauthorized"):
        fetch_balance(coinbase)
    coinbase.clock_skew_s = skew_s * 0.8
    assert fetch_balance(coinbase)["total"]


@pytest.mark.parametrize(
    ("method", "path", "accepted"),
    [
        ("GET", "/api/v3/brokerage/accounts", True),
        ("POST", "/api/v3/brokerage/accounts", False),
        ("GET", "/api/v3/brokerage/orders", False),
    ],
)
def test_a_token_is_good_for_one_method_and_path_only(
    coinbase: SimulatedCoinbase, method: str, path: str, *, accepted: bool
) -> None:
    async def use(client: Any) -> Any:
        token = client.create_auth_token(client.seconds(), method, coinbase.url + path)
        client.headers = {"Authorization": f"Bearer {token}"}
        return await client.fetch_balance()

    if accepted:
        assert with_client(coinbase, use)["total"]
    else:
        with pytest.raises(ccxt.AuthenticationError, match="401 Unauthorized"):
            with_client(coinbase, use)


def test_a_token_signed_for_another_host_is_refused(coinbase: SimulatedCoinbase) -> None:
    async def use(client: Any) -> Any:
        url = "https://api.coinbase.com/api/v3/brokerage/accounts"
        client.headers = {"Authorization": "Bearer " + client.create_auth_token(client.seconds(), "GET", url)}
        return await client.fetch_balance()

    with pytest.raises(ccxt.AuthenticationError):
        with_client(coinbase, use)


def test_an_ed25519_key_signs_too_and_only_for_itself(coinbase: SimulatedCoinbase) -> None:
    newer = coinbase.add_account(coinbase.new_ed25519_credentials(), {"USD": ("5", "0")})
    assert as_amounts(fetch_balance(coinbase, **newer)) == exact({"USD": ("5", "0")})
    for secret in (coinbase.new_ed25519_credentials()["secret"], coinbase.credentials["secret"]):
        with pytest.raises(ccxt.AuthenticationError):
            fetch_balance(coinbase, api_key=newer["api_key"], secret=secret)


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({}, True),
        ({"sub": "organizations/another/apiKeys/another"}, False),
        ({"iss": "another"}, False),
        ({"life_s": 3_600}, False),
    ],
)
def test_a_well_signed_token_is_refused_for_what_it_claims(
    coinbase: SimulatedCoinbase, claims: dict[str, Any], *, accepted: bool
) -> None:
    async def use(client: Any) -> Any:
        now_s = client.seconds()
        request = {
            "sub": claims.get("sub", client.apiKey),
            "iss": claims.get("iss", "cdp"),
            "nbf": now_s,
            "exp": now_s + claims.get("life_s", 120),
            "uri": f"GET {coinbase.url}/api/v3/brokerage/accounts",
        }
        options = {"kid": client.apiKey, "alg": "ES256"}
        token = client.jwt(request, client.secret.encode(), "sha256", False, options)
        client.headers = {"Authorization": f"Bearer {token}"}
        return await client.fetch_balance()

    if accepted:
        assert with_client(coinbase, use)["total"]
    else:
        with pytest.raises(ccxt.AuthenticationError, match="401 Unauthorized"):
            with_client(coinbase, use)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "e30.e30.e30", "bnVsbA.bnVsbA.bnVsbA"])
def test_garbage_instead_of_a_token_is_refused(coinbase: SimulatedCoinbase, token: str) -> None:
    async def use(client: Any) -> Any:
        client.headers = {"Authorization": f"Bearer {token}"}
        return await client.fetch_balance()

    with pytest.raises(ccxt.AuthenticationError, match="401 Unauthorized"):
        with_client(coinbase, use)


# --- accounts and pages ---------------------------------------------------------------------------------


def test_two_accounts_do_not_mix(exchange: SimulatedExchange) -> None:
    other = exchange.add_account(balance={"USD": ("1", "0")})
    key = other["api_key"]
    exchange.set_fault("exchange_down", account=key)
    assert as_amounts(fetch_balance(exchange)) == exact(exchange.default_balance)
    with pytest.raises(ccxt.BaseError, match=r"(?i)unavailable|busy"):
        fetch_balance(exchange, **other)
    exchange.mend(account=key)
    exchange.set_balance({"BTC": ("2", "0")}, account=key)
    assert as_amounts(fetch_balance(exchange, **other)) == exact({"BTC": ("2", "0")})
    assert as_amounts(fetch_balance(exchange)) == exact(exchange.default_balance)
    assert (exchange.private_calls_of(key), exchange.private_calls) == (2, 4)


@pytest.mark.parametrize(("page_size", "calls"), [(1, 5), (2, 3), (3, 2), (5, 1), (250, 1)])
def test_accounts_come_in_pages_and_all_of_them_arrive(
    coinbase: SimulatedCoinbase, page_size: int, calls: int
) -> None:
    coinbase.page_size = page_size
    assert as_amounts(fetch_balance(coinbase)) == exact(coinbase.default_balance)
    assert coinbase.private_calls == calls


@pytest.mark.parametrize("params", [{"cursor": "zzz"}, {"cursor": "OTk"}, {"limit": 251}])
def test_a_page_that_cannot_be_is_refused(coinbase: SimulatedCoinbase, params: dict[str, object]) -> None:
    with pytest.raises(ccxt.BadRequest, match="INVALID_ARGUMENT"):
        with_client(coinbase, lambda client: client.fetch_balance(params))


# --- faults ---------------------------------------------------------------------------------------------

# What ccxt 4.5.90 makes of each fault on Kraken, Coinbase and OKX: the class it raises, or what it
# returns without a word: EMPTY, a balance of nothing; SPOILED, an amount that is none; or HEALTHY.
SEEN: dict[str, tuple[str, str, str]] = {
    "http_500_html": ("ExchangeNotAvailable", "ExchangeNotAvailable", "ExchangeNotAvailable"),
    "http_500_json": ("ExchangeNotAvailable", "ExchangeError", "ExchangeNotAvailable"),
    "http_502_html": ("ExchangeNotAvailable", "ExchangeNotAvailable", "ExchangeNotAvailable"),
    "http_503_json": ("ExchangeNotAvailable", "ExchangeNotAvailable", "ExchangeError"),
    "http_429": ("RateLimitExceeded", "RateLimitExceeded", "ExchangeNotAvailable"),
    "http_403_html": ("ExchangeNotAvailable", "ExchangeNotAvailable", "ExchangeNotAvailable"),
    "http_401_html": ("AuthenticationError", "AuthenticationError", "AuthenticationError"),
    "unmapped_status_529": ("EMPTY", "TypeError", "EMPTY"),
    "http_404": ("ExchangeNotAvailable", "ExchangeNotAvailable", "ExchangeNotAvailable"),
    "empty_body": ("EMPTY", "TypeError", "EMPTY"),
    "null_body": ("EMPTY", "TypeError", "EMPTY"),
    "html_200": ("EMPTY", "TypeError", "EMPTY"),
    "redirect": ("EMPTY", "TypeError", "EMPTY"),
    "redirect_loop": ("ExchangeError", "ExchangeError", "ExchangeError"),
    "wrong_envelope": ("EMPTY", "EMPTY", "ExchangeError"),
    "cut_json": ("EMPTY", "TypeError", "EMPTY"),
    "cut_body": ("ExchangeError", "ExchangeError", "ExchangeError"),
    "cut_chunks": ("ExchangeError", "ExchangeError", "ExchangeError"),
    "bad_chunks": ("ExchangeError", "ExchangeError", "ExchangeError"),
    "not_http": ("ExchangeError", "ExchangeError", "ExchangeError"),
    "closed": ("ExchangeNotAvailable", "ExchangeNotAvailable", "ExchangeNotAvailable"),
    "reset": ("ExchangeNotAvailable", "ExchangeNotAvailable", "ExchangeNotAvailable"),
    "reset_in_body": ("ExchangeError", "ExchangeError", "ExchangeError"),
    "hang": ("RequestTimeout", "RequestTimeout", "RequestTimeout"),
    "stalled": ("RequestTimeout", "RequestTimeout", "RequestTimeout"),
    "stalled_body": ("RequestTimeout", "RequestTimeout", "RequestTimeout"),
    "drip": ("RequestTimeout", "RequestTimeout", "RequestTimeout"),
    "exchange_down": ("ExchangeNotAvailable", "ExchangeError", "ExchangeNotAvailable"),
    "maintenance": ("OnMaintenance", "ExchangeError", "OnMaintenance"),
    "rate_limited": ("DDoSProtection", "ExchangeError", "RateLimitExceeded"),
    "locked_out": ("DDoSProtection", "RateLimitExceeded", "ExchangeError"),
    "bad_key": ("AuthenticationError", "AuthenticationError", "AuthenticationError"),
    "bad_signature": ("ExchangeError", "AuthenticationError", "AuthenticationError"),
    "bad_nonce": ("InvalidNonce", "AuthenticationError", "InvalidNonce"),
    "permission": ("PermissionDenied", "PermissionDenied", "ExchangeError"),
    "empty_result": ("EMPTY", "EMPTY", "EMPTY"),
    "nan_amount": ("ValueError", "ValueError", "SPOILED"),
    "infinite_amount": ("ValueError", "ValueError", "SPOILED"),
    "text_amount": ("ValueError", "ValueError", "SPOILED"),
    "missing_amount": ("SPOILED", "SPOILED", "SPOILED"),
    "partial_page": ("EMPTY", "ExchangeNotAvailable", "EMPTY"),
    "warning_beside_result": ("ExchangeError", "HEALTHY", "HEALTHY"),
}

# Where the class alone does not tell the connection faults apart, the error underneath does.
CAUSES = {
    "redirect_loop": "TooManyRedirects",
    "cut_body": "ClientPayloadError",
    "cut_chunks": "ClientPayloadError",
    "not_http": "ClientResponseError",
    "closed": "ServerDisconnectedError",
    "reset": "ClientOSError",
    "reset_in_body": "ClientPayloadError",
    "hang": "TimeoutError",
    "stalled": "TimeoutError",
    "stalled_body": "TimeoutError",
    "drip": "TimeoutError",
}


async def seen(client: Any, healthy: Amounts) -> tuple[str, BaseException | None]:
    """One word of SEEN for the next balance, and the error underneath if there is one."""
    try:
        balance = await client.fetch_balance()
    except Exception as error:  # noqa: BLE001 - what ccxt raises is what the table pins
        return type(error).__name__, error.__cause__
    if balance["total"] == {}:
        return "EMPTY", None
    if any(str(amount) in ("NaN", "Infinity", "n/a", "None") for amount in balance["total"].values()):
        return "SPOILED", None
    assert as_amounts(balance) == healthy
    return "HEALTHY", None


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_shows_through_ccxt_and_mends(exchange: SimulatedExchange, fault: str) -> None:
    healthy = exact(exchange.default_balance)

    async def use(client: Any) -> None:
        client.timeout = 250 if CAUSES.get(fault) == "TimeoutError" else 5_000
        exchange.set_fault(fault)
        word, cause = await seen(client, healthy)
        assert word == SEEN[fault][[kind.ccxt_id for kind in EXCHANGES].index(exchange.ccxt_id)]
        if fault in CAUSES:
            assert type(cause).__name__ == CAUSES[fault]
        client.timeout = 5_000
        exchange.mend()
        assert await seen(client, healthy) == ("HEALTHY", None)

    with_client(exchange, use)


def test_the_table_names_every_fault() -> None:
    assert set(SEEN) == set(FAULTS)


def test_a_fault_spoils_an_empty_account_too(exchange: SimulatedExchange) -> None:
    exchange.set_balance({})
    exchange.set_fault("missing_amount")
    assert fetch_balance(exchange)["total"] == {"USD": None}


def test_a_fault_that_spoils_an_answer_does_not_excuse_a_wrong_key(exchange: SimulatedExchange) -> None:
    exchange.set_fault("missing_amount")
    with pytest.raises(ccxt.AuthenticationError):
        fetch_balance(exchange, api_key=exchange.new_credentials()["api_key"])


def test_a_fault_with_times_ends_by_itself(exchange: SimulatedExchange) -> None:
    healthy = exact(exchange.default_balance)

    async def use(client: Any) -> list[str]:
        return [(await seen(client, healthy))[0] for _ in range(3)]

    exchange.set_fault("http_502_html", times=2)
    assert with_client(exchange, use) == ["ExchangeNotAvailable", "ExchangeNotAvailable", "HEALTHY"]
    assert exchange.private_calls == 3


def test_a_fault_spares_public_calls_unless_told_otherwise(exchange: SimulatedExchange) -> None:
    exchange.set_fault("http_502_html")
    assert with_client(exchange, lambda client: client.fetch_time())
    exchange.set_fault("http_502_html", public=True)
    with pytest.raises(ccxt.ExchangeNotAvailable):
        with_client(exchange, lambda client: client.fetch_time())


def test_public_calls_are_not_counted(exchange: SimulatedExchange) -> None:
    with_client(exchange, lambda client: client.fetch_time())
    assert exchange.private_calls == 0


def test_an_unknown_fault_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match=r"unknown fault 'flood'.*hang.*drip"):
        SimulatedKraken().set_fault("flood")


def test_times_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="times is 0"):
        SimulatedKraken().set_fault("hang", times=0)


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "n/a", ""])
def test_an_amount_that_is_not_a_finite_decimal_cannot_be_set(amount: str) -> None:
    with pytest.raises(ValueError, match="USD"):
        SimulatedKraken().set_balance({"USD": (amount, "0")})


def test_an_account_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no account"):
        SimulatedOkx().set_balance({}, account="missing")


# --- exact answers, and faults of some calls only --------------------------------------------------------


class Got(NamedTuple):
    """One answer as a plain HTTP client reads it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def get(simulated: SimulatedExchange, method: str = "POST", path: str = "/0/private/BalanceEx") -> Got:
    address = urlsplit(simulated.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return Got(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def test_a_set_answer_arrives_exactly_as_it_was_set(kraken: SimulatedKraken) -> None:
    kraken.set_answer(b"\xff\x00", 418, "text/x-tea", {"Retry-After": "7"}, times=1)
    answer = get(kraken)
    assert (answer.status, answer.body) == (418, b"\xff\x00")
    assert (answer.headers["Content-Type"], answer.headers["Retry-After"]) == ("text/x-tea", "7")
    assert fetch_balance(kraken)["total"]
    assert kraken.private_calls == 2


def test_a_set_answer_goes_through_ccxt_and_mends(exchange: SimulatedExchange) -> None:
    exchange.set_answer("<html>busy</html>", 503, "text/html")
    with pytest.raises(ccxt.ExchangeNotAvailable, match="busy"):
        fetch_balance(exchange)
    exchange.mend()
    assert as_amounts(fetch_balance(exchange)) == exact(exchange.default_balance)


def test_a_broken_answer_is_sent_byte_by_byte_and_ends_as_told(kraken: SimulatedKraken) -> None:
    kraken.set_answer(Broken(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", Ending.CLOSE))
    with pytest.raises(http.client.IncompleteRead):
        get(kraken)
    kraken.set_answer(Broken(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", Ending.SILENCE))
    assert get(kraken).body == b"abcd"
    kraken.set_answer(Broken(b"", Ending.RESET))
    with pytest.raises(ConnectionResetError):
        get(kraken)
    twice = Broken(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", Ending.REPEAT)
    kraken.set_answer(twice)
    address = urlsplit(kraken.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as connection:
        connection.sendall(b"POST /0/private/BalanceEx HTTP/1.1\r\nHost: x\r\n\r\n")
        assert twice.finished.wait(5)
        assert connection.recv(2 * len(twice.sent), socket.MSG_WAITALL) == 2 * twice.sent


def test_a_fault_of_one_path_spares_the_others(okx: SimulatedOkx) -> None:
    async def use_funding(client: Any) -> Any:
        return await client.fetch_balance({"type": "funding"})

    okx.set_funding({"EUR": ("1", "0")})
    okx.set_fault("exchange_down", path="/api/v5/asset/balances")
    assert as_amounts(fetch_balance(okx)) == exact(okx.default_balance)
    with pytest.raises(ccxt.ExchangeNotAvailable, match="50013"):
        with_client(okx, use_funding)
    okx.mend()
    okx.set_fault("exchange_down", path="/api/v5/account/balance")
    assert with_client(okx, use_funding)["total"]
    with pytest.raises(ccxt.ExchangeNotAvailable, match="50013"):
        fetch_balance(okx)


def test_a_fault_of_one_page_spares_the_others(coinbase: SimulatedCoinbase) -> None:
    coinbase.page_size = 2
    coinbase.set_fault("http_502_html", page=2)
    with pytest.raises(ccxt.ExchangeNotAvailable, match="502"):
        fetch_balance(coinbase)
    assert coinbase.private_calls == 2
    coinbase.mend()
    coinbase.set_fault("http_502_html", page=4)
    assert as_amounts(fetch_balance(coinbase)) == exact(coinbase.default_balance)


def test_a_narrower_fault_goes_before_a_wider_one(okx: SimulatedOkx) -> None:
    okx.set_fault("maintenance")
    okx.set_fault("bad_key", path="/api/v5/account/balance")
    with pytest.raises(ccxt.AuthenticationError, match="50111"):
        fetch_balance(okx)
    okx.set_fault("rate_limited", account=okx.credentials["api_key"], times=1)
    with pytest.raises(ccxt.RateLimitExceeded, match="50011"):
        fetch_balance(okx)
    with pytest.raises(ccxt.AuthenticationError, match="50111"):
        fetch_balance(okx)


@pytest.mark.parametrize("skew_s", [0.0, 3_600.0])
def test_a_fault_can_say_when_to_come_back_in_both_forms(kraken: SimulatedKraken, skew_s: float) -> None:
    kraken.clock_skew_s = skew_s
    kraken.set_fault("rate_limited", retry_after_s=2.5)
    assert get(kraken).headers["Retry-After"] == "2.5"
    kraken.set_fault("http_429", retry_after_s=60, retry_after_as_date=True)
    answer = get(kraken)
    assert answer.status == 429
    wait_s = parsedate_to_datetime(answer.headers["Retry-After"]).timestamp() - time.time()
    assert wait_s == pytest.approx(60 + skew_s, abs=5.0)
    kraken.set_fault("rate_limited")
    assert get(kraken).headers["Retry-After"] is None


# --- what Kraken remembers of a key ----------------------------------------------------------------------


def test_a_lockout_lasts_until_it_is_over_by_the_exchanges_clock(kraken: SimulatedKraken) -> None:
    other = kraken.add_account()
    kraken.lock_out(900)
    for _ in range(2):
        with pytest.raises(ccxt.DDoSProtection, match="EGeneral:Temporary lockout"):
            fetch_balance(kraken)
    assert kraken.private_calls == 2, "who asks during the lockout is seen"
    assert fetch_balance(kraken, **other)["total"], "the lockout is of one key"
    kraken.clock_skew_s = 890
    with pytest.raises(ccxt.DDoSProtection):
        fetch_balance(kraken)
    kraken.clock_skew_s = 901
    assert fetch_balance(kraken)["total"]
    kraken.lock_out(60, account=other["api_key"])
    with pytest.raises(ccxt.DDoSProtection):
        fetch_balance(kraken, **other)


def test_the_call_counter_rises_with_each_call_and_sinks_with_time(kraken: SimulatedKraken) -> None:
    other = kraken.add_account()
    kraken.call_limit = 3

    async def use(client: Any) -> None:
        for _ in range(3):
            await client.fetch_balance()
        with pytest.raises(ccxt.DDoSProtection, match="EAPI:Rate limit exceeded"):
            await client.fetch_balance()
        # The counter stands at 4, since the refused call counts too: one less is not enough yet.
        kraken.clock_skew_s += 1 / kraken.call_decay_per_s
        with pytest.raises(ccxt.DDoSProtection):
            await client.fetch_balance()
        kraken.clock_skew_s += 2 / kraken.call_decay_per_s
        await client.fetch_balance()

    kraken.call_decay_per_s = 0.001  # so that the time this test takes does not count
    with_client(kraken, use)
    assert fetch_balance(kraken, **other)["total"], "each key has a counter of its own"


def test_without_a_call_limit_nothing_is_counted(kraken: SimulatedKraken) -> None:
    async def use(client: Any) -> None:
        for _ in range(20):
            await client.fetch_balance()

    with_client(kraken, use)


def test_assets_with_a_suffix_have_krakens_own_names(kraken: SimulatedKraken) -> None:
    shown = {
        "USD.F": "USD.F",
        "USD.M": "USD.M",
        "BTC.F": "XBT.F",
        "DOGE.F": "XDG.F",
        "ETH.B": "ETH.B",
        "DOT.S": "DOT.S",
        "DOT28.S": "DOT28.S",
        "USD.HOLD": "USD.HOLD",
        "DOT": "DOT",
    }
    kraken.set_balance(dict.fromkeys(shown, ("1", "0")))
    assert list(fetch_balance(kraken)["info"]["result"]) == list(shown.values())
    listed = json.loads(get(kraken, "GET", "/0/public/Assets").body)["result"]
    assert {"USD.F", "USD.M", "XBT.F", "ETH.B", "DOT.S", "DOT28.S", "USD.HOLD", "DOT"} <= set(listed)
    assert listed["XBT.F"]["altname"] == "XBT.F"


# --- serving --------------------------------------------------------------------------------------------


class ObservedKraken(SimulatedKraken):
    """Tells when a call has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()

    def receive(self, call: Call) -> Trouble:
        trouble = super().receive(call)
        self.arrived.set()
        return trouble


@pytest.mark.parametrize("fault", ["hang", "drip", "stalled", "stalled_body"])
def test_leaving_cancels_what_hangs_and_leaves_no_thread(fault: str) -> None:
    before = set(threading.enumerate())
    kraken = ObservedKraken()
    kraken.set_fault(fault)
    with serve(kraken):
        address = urlsplit(kraken.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
        connection.request("POST", "/0/private/BalanceEx")
        assert kraken.arrived.wait(5)
        left_at = time.monotonic()
    assert time.monotonic() - left_at < STOP_TIMEOUT_S
    assert set(threading.enumerate()) == before
    # The connection is closed, not merely forgotten: reading ends at once instead of timing out.
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse().read()
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(address.hostname or "", address.port, timeout=5).connect()


def test_an_exchange_outside_serve_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="no address"):
        SimulatedKraken().ccxt_options()


def test_an_exchange_can_be_served_again_with_its_balance() -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("7", "0")})
    for _ in range(2):
        with serve(kraken):
            assert as_amounts(fetch_balance(kraken)) == exact({"USD": ("7", "0")})


def test_an_exchange_cannot_be_served_twice_at_once(kraken: SimulatedKraken) -> None:
    with pytest.raises(RuntimeError, match="served already"), serve(kraken):
        pass
    assert fetch_balance(kraken)["total"]


def test_credentials_are_made_up_anew_each_time(exchange: SimulatedExchange) -> None:
    assert exchange.credentials != type(exchange)().credentials
