"""The strict class's own way of signing and of asking: it gives, and refuses, what ccxt's way does."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import Any

import ccxt as blocking
import ccxt.async_support as ccxt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from brokerwatch.gateway.http_sessions import Sessions
from brokerwatch.gateway.lease import Lease, Revoked
from brokerwatch.gateway.strict_ccxt import Strict, clone, mixed, strict_class
from tests.gateway.test_async_source import GOOD, stranger

REQUEST = {"iss": "coinbase-cloud", "uri": "GET host/path", "exp": 120}
PLAIN: Any = ccxt.coinbase
HEADER = {"kid": "organizations/a/apiKeys/b", "nonce": "c0ffee", "alg": "ES256"}


def pem(curve: ec.EllipticCurve | None = None) -> tuple[bytes, ec.EllipticCurvePublicKey]:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    form = serialization.PrivateFormat.TraditionalOpenSSL
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return text, key.public_key()


def coinbase() -> Any:
    return clone(strict_class(ccxt.coinbase)())


def parts(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]


def is_signed_by(token: str, public: ec.EllipticCurvePublicKey) -> bool:
    signature = parts(token)[2]
    assert len(signature) == 64
    numbers = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        public.verify(
            encode_dss_signature(*numbers), token.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature:
        return False
    return True


def test_a_token_says_what_ccxts_own_says_and_is_signed_with_the_key() -> None:
    secret, public = pem()
    ours = coinbase().jwt(REQUEST, secret, "sha256", False, HEADER)
    theirs = PLAIN.jwt(REQUEST, secret, "sha256", False, HEADER)
    assert is_signed_by(theirs, public), "the control"
    assert is_signed_by(ours, public)
    assert ours == theirs
    assert [json.loads(part) for part in parts(ours)[:2]] == [{**HEADER, "typ": "JWT"}, REQUEST]


def test_many_tokens_are_all_valid_also_those_whose_numbers_are_short() -> None:
    secret, public = pem()
    instance = coinbase()
    for number in range(600):  # one number in 256 begins with a zero byte
        assert is_signed_by(instance.jwt({**REQUEST, "n": number}, secret, "sha256", False, HEADER), public)


def test_another_secret_is_another_key_at_once() -> None:
    instance = coinbase()
    for secret, public in (pem(), pem()):
        assert is_signed_by(instance.jwt(REQUEST, secret, "sha256", False, HEADER), public)
    assert clone(strict_class(ccxt.coinbase)())._signs is None, "and no other instance's"


def test_what_is_no_such_key_is_left_to_ccxt() -> None:
    instance = coinbase()
    seed = bytes(range(32))
    edwards = {**HEADER, "alg": "EdDSA"}
    assert instance.jwt(REQUEST, seed, "sha256", False, edwards) == PLAIN.jwt(
        REQUEST, seed, "sha256", False, edwards
    )
    shared = {"alg": "HS256"}
    assert instance.jwt(REQUEST, b"s", "sha256", False, shared) == PLAIN.jwt(
        REQUEST, b"s", "sha256", False, shared
    )
    hexadecimal = b"1f" * 32
    assert parts(instance.jwt(REQUEST, hexadecimal, "sha256", False, HEADER))[2]
    with pytest.raises(ValueError, match=r"PEM|deserialize"):
        instance.jwt(REQUEST, b"-----BEGIN EC PRIVATE KEY-----\nhalf of it", "sha256", False, HEADER)


LATIN = '{"error":[],"result":{"ZUSD":{"balance":"1","hold_trade":"0"}},"é":1}'.encode("latin-1")


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, GOOD, {}),
        (200, b"\xef\xbb\xbf \n" + GOOD, {}),
        (200, GOOD, {"Content-Type": "application/json; charset=UTF-8"}),
        (200, LATIN, {"Content-Type": "application/json; charset=latin-1"}),
        (200, LATIN, {"Content-Type": "application/json"}),
        (200, LATIN, {"Content-Type": "application/json; charset=nonsense"}),
        (200, gzip.compress(GOOD, mtime=0), {"Content-Encoding": "gzip"}),
        (200, b"no gzip", {"Content-Encoding": "gzip"}),
        (200, b"", {}),
        (200, b"null", {}),
        (200, b"[]", {}),
        (200, b"<html></html>", {}),
        (200, GOOD[:-9], {}),
        (200, GOOD, {"Content-Length": "1000"}),
        (200, b'{"error":["EAPI:Invalid nonce"]}', {}),
        (200, b'{"error":["EAPI:Rate limit exceeded"]}', {"Retry-After": "7"}),
        (302, b"", {"Location": "http://127.0.0.1:1/"}),
        (302, GOOD, {}),
        (402, GOOD, {}),
        (429, b"{}", {"retry-after": "9"}),
        (503, b"<html></html>", {}),
        (520, GOOD, {}),
    ],
)
def test_our_own_way_of_asking_sees_and_says_what_ccxts_does(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    seen: list[object] = []

    async def ask(url: str) -> None:
        sessions = Sessions()
        instance = strict_class(ccxt.kraken)(
            {"urls": {"api": {"private": url}}, "apiKey": "k", "secret": "c2VjcmV0", "enableRateLimit": False}
        )
        sessions.lend(instance, large=False)
        assert instance.ask is not None
        for way in (instance.ask, None):
            instance.ask = way
            try:
                said: object = await instance.privatePostBalanceEx()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same both ways
                cause = error.__cause__
                said = type(error), str(error), type(cause), str(cause)
            seen.append((said, instance.last_status, instance.last_body, instance.last_retry_after))
            assert set(instance.last_request_headers) >= {"API-Key", "API-Sign", "User-Agent", "Content-Type"}
        await sessions.close()

    with stranger(status, body, **headers) as (url, asked):
        asyncio.run(ask(url))
    assert len(asked.asked) == 2
    assert seen[0] == seen[1]


def test_a_connection_that_nobody_takes_is_the_same_error_as_ccxts() -> None:
    seen: list[object] = []

    async def ask() -> None:
        sessions = Sessions()
        instance = strict_class(ccxt.okx)(
            {"urls": {"api": {"rest": "http://127.0.0.1:9"}}, "apiKey": "k", "secret": "s", "password": "p"}
        )
        sessions.lend(instance, large=False)
        for way in (instance.ask, None):
            instance.ask = way
            with pytest.raises(ccxt.ExchangeNotAvailable) as caught:
                await instance.privateGetAccountBalance()
            seen.append((str(caught.value), type(caught.value.__cause__)))
        await sessions.close()

    asyncio.run(ask())
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", ["httpProxy", "https_proxy", "aiohttp_proxy", "socksProxy", "proxyUrl"])
def test_what_goes_through_a_proxy_is_left_to_ccxt(name: str) -> None:
    async def lend() -> None:
        sessions = Sessions()
        instance = strict_class(ccxt.kraken)({name: "http://127.0.0.1:9"})
        sessions.lend(instance, large=False)
        assert instance.ask is None
        await sessions.close()

    asyncio.run(lend())


def test_no_redirect_is_followed_through_a_socks_proxy() -> None:
    proxy = "socks5://127.0.0.1:9"

    async def story() -> None:
        sessions = Sessions()
        instance = strict_class(ccxt.kraken)({"socksProxy": proxy})
        sessions.lend(instance, large=False)
        instance.socks_proxy_sessions = {proxy: instance.session}  # what ccxt makes with aiohttp_socks
        lent = instance.get_socks_proxy_session(proxy)
        assert lent.post.keywords == lent.get.keywords == {"allow_redirects": False}
        await sessions.close()

    asyncio.run(story())


def test_a_mixed_class_is_made_once_and_goes_by_the_name_of_ccxts() -> None:
    made = mixed(Strict, ccxt.okx)
    assert made is mixed(Strict, ccxt.okx)
    assert made is not mixed(Strict, ccxt.kraken)
    assert made.__name__ == "okx"
    assert issubclass(made, ccxt.okx)


def test_a_request_of_a_loop_that_was_replaced_is_not_signed() -> None:
    numbers: list[int] = []

    class Counted:
        def next(self) -> int:
            numbers.append(len(numbers) + 1)
            return numbers[-1]

    async def ask(url: str) -> None:
        lease = Lease()
        sessions = Sessions(lease)
        instance = private(url, lease)
        sessions.lend(instance, large=False)
        instance.nonces = Counted()
        for way in (instance.ask, None):
            instance.ask, lease.revoked = way, ""
            await clone(instance).privatePostBalanceEx()
            lease.revoked = "its event loop hung"
            with pytest.raises(Revoked, match="its event loop hung"):
                await clone(instance).privatePostBalanceEx()
        await sessions.close()

    with stranger(200, GOOD) as (url, asked):
        asyncio.run(ask(url))
    assert len(asked.asked) == 2
    assert numbers == [1, 2], "and no number was used up for it"


def private(url: str, lease: Lease, library: Any = ccxt, **more: Any) -> Any:
    found = strict_class(library.kraken)(
        {
            "urls": {"api": {"private": url, "public": url}},
            "apiKey": "k",
            "secret": "c2VjcmV0",
            "enableRateLimit": False,
            **more,
        }
    )
    found.lease = lease
    return found


def test_a_call_that_blocks_is_not_sent_when_its_loop_was_replaced_while_it_was_signed() -> None:
    lease = Lease()
    with stranger(200, GOOD) as (url, asked):
        instance = private(url, lease, blocking)

        def nonce() -> int:
            lease.revoked = "its event loop hung"
            return 1

        instance.nonce = nonce
        with pytest.raises(Revoked, match="its event loop hung"):
            instance.privatePostBalanceEx()
    assert asked.asked == []


@pytest.mark.parametrize(
    ("method", "moment"),
    [
        ("publicGetAssets", "while it was connected"),
        ("privatePostBalanceEx", "while it was connected"),
        # Without a body nothing lies between the connection and the request.
        ("privatePostBalanceEx", "before it was written"),
    ],
)
def test_a_request_is_not_written_when_its_loop_hung_and_was_replaced(method: str, moment: str) -> None:
    async def ask(url: str) -> None:
        lease = Lease()
        sessions = Sessions(lease)
        instance = private(url, lease)
        sessions.lend(instance, large=False)
        connector = instance.session.connector
        connect, create = connector.connect, connector._create_connection

        async def created(*given: Any, **named: Any) -> Any:
            found = await create(*given, **named)
            lease.revoked = "its event loop hung"
            return found

        async def connected(*given: Any, **named: Any) -> Any:
            found = await connect(*given, **named)
            lease.revoked = "its event loop hung"
            return found

        if moment == "while it was connected":
            connector._create_connection = created
        else:
            connector.connect = connected
        with pytest.raises((Revoked, ccxt.NetworkError)):
            await getattr(instance, method)()
        await sessions.close()

    with stranger(200, GOOD) as (url, asked):
        asyncio.run(ask(url))
    assert asked.asked == []


def test_an_answer_that_is_one_word_passes_where_it_is_a_word_of_the_exchange() -> None:
    def ask(exchange: str, word: str) -> None:
        of: Any = getattr(ccxt, exchange)
        made: Any = strict_class(of)()
        made.handle_errors(200, "OK", "https://host/info", "POST", {}, word, None, {}, "{}")

    ask("hyperliquid", '"unifiedAccount"')
    for exchange, word in (("hyperliquid", '"busy"'), ("hyperliquid", ""), ("bybit", '"unifiedAccount"')):
        with pytest.raises(ccxt.BadResponse):
            ask(exchange, word)
