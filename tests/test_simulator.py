"""The simulated exchanges, seen through the real asynchronous ccxt over real HTTP on the loopback."""

from __future__ import annotations

import asyncio
import http.client
import importlib
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest

from brokerwatch.simulator import (
    FAULTS,
    BalanceSpec,
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.simulator.exchange import Call

# Through importlib, because ccxt's annotations do not pass a strict check.
ccxt: Any = importlib.import_module("ccxt.async_support")

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


@asynccontextmanager
async def open_client(simulated: SimulatedExchange, credentials: Mapping[str, str]) -> AsyncGenerator[Any]:
    client = getattr(ccxt, simulated.ccxt_id)(
        {
            "apiKey": credentials["api_key"],
            "secret": credentials["secret"],
            "password": credentials.get("password"),
            "enableRateLimit": False,
            "number": str,
            "timeout": 5_000,
            **simulated.ccxt_options(),
        }
    )
    client.timeout_on_exit = 0
    # Coinbase's default is an older endpoint without holds; the others do not know this option.
    client.options["fetchBalance"] = "v3PrivateGetBrokerageAccounts"
    client.markets = {}  # so that a balance is one call; who wants the markets reloads them
    try:
        yield client
    finally:
        await client.close()


def with_client(
    simulated: SimulatedExchange, use: Callable[[Any], Awaitable[Any]], **credentials: str
) -> Any:
    """What `use` returns for a ccxt instance, which has the first account's credentials unless told."""

    async def main() -> Any:
        async with open_client(simulated, {**simulated.credentials, **credentials}) as client:
            return await use(client)

    return asyncio.run(main())


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
        (SimulatedKraken, "privatePostLedgers", "EGeneral:Unknown method"),
        (SimulatedCoinbase, "v3PrivateGetBrokeragePortfolios", "NOT_FOUND"),
        (SimulatedCoinbase, "v2PrivateGetAccounts", "not_found"),
        (SimulatedOkx, "privateGetAccountBills", "Not Found"),
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
    "not_http": ("ExchangeError", "ExchangeError", "ExchangeError"),
    "reset": ("ExchangeNotAvailable", "ExchangeNotAvailable", "ExchangeNotAvailable"),
    "hang": ("RequestTimeout", "RequestTimeout", "RequestTimeout"),
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
    "not_http": "ClientResponseError",
    "reset": "ClientOSError",
    "hang": "TimeoutError",
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
        client.timeout = 250 if fault in ("hang", "drip") else 5_000
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
        SimulatedOkx().set_balance({}, account="nobody")


# --- serving --------------------------------------------------------------------------------------------


class ObservedKraken(SimulatedKraken):
    """Tells when a call has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()

    def receive(self, call: Call) -> str:
        fault = super().receive(call)
        self.arrived.set()
        return fault


@pytest.mark.parametrize("fault", ["hang", "drip"])
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
    assert time.monotonic() - left_at < 2
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
