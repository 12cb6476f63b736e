"""The source's own rules: what is believed, and that a secret is never shown."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import logging
import resource
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import ClassVar

import ccxt
import pytest

from brokerwatch import BalanceUnknown, BrokerSpec, Listener
from brokerwatch.exchanges import coinbase as coinbase_adapter
from brokerwatch.exchanges import kraken as kraken_adapter
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import Till, cluster_of, simulated_spec, until, wait_for_reading


@pytest.mark.parametrize("make", [SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
def test_an_exchange_that_suddenly_answers_with_an_empty_account_is_not_believed(
    make: type[SimulatedExchange],
) -> None:
    exchange = make()
    exchange.set_balance({"USDC": ("50", "0")})
    with serve(exchange), cluster_of(simulated_spec(exchange)) as cluster:
        broker = cluster.broker(f"{exchange.ccxt_id}-test")
        assert broker.get_account_balance() == 50
        exchange.set_balance({})
        assert broker.get_account_balance() == 50
        assert (broker.get_error_count(), broker.reading().fault) == (1, FaultKind.BAD_RESPONSE)
        assert "no currency at all" in broker.reading().detail


@pytest.mark.parametrize("make", [SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
def test_no_secret_is_logged_or_told_even_at_debug(
    make: type[SimulatedExchange], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    exchange = make()
    said: list[str] = []
    with serve(exchange), cluster_of(simulated_spec(exchange)) as cluster:
        broker = cluster.broker(f"{exchange.ccxt_id}-test")
        for fault in ("bad_key", "bad_signature", "http_500_json", "not_http", "wrong_envelope"):
            exchange.set_fault(fault)
            with pytest.raises(BalanceUnknown) as caught:
                broker.get_account_balance()
            said += [str(caught.value), broker.reading().detail, repr(broker.reading())]
    everything = "\n".join([*said, caplog.text])
    secrets = [value for name, value in exchange.credentials.items() if name != "api_key"]
    for secret in secrets:
        for part in secret.splitlines():
            assert len(part) < 8 or part.startswith("-----") or part not in everything
    assert exchange.credentials["api_key"] not in everything


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers everything with what the test gave it, and keeps what it was sent."""

    answer: ClassVar[tuple[int, dict[str, str], bytes]] = (200, {}, b"")
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        type(self).asked.append(self.path + str(self.headers))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815 - http.server finds it by this name

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def stranger(status: int, body: bytes, **headers: str) -> Generator[tuple[str, type[Stranger]]]:
    """A server that is none of ours: its address, and what it was asked."""
    handler = type("Handler", (Stranger,), {"answer": (status, headers, body), "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kraken_at(url: str, name: str = "kraken-test", exchange: str = "kraken") -> BrokerSpec:
    """An account whose exchange is whatever stands at `url`."""
    credentials = SimulatedKraken().credentials
    return BrokerSpec(
        name,
        exchange=exchange,
        credentials=credentials,
        ccxt={"urls": {"api": {"public": url, "private": url}}},
        poll_interval_s=float("inf"),
        fetch_deadline_s=10.0,
    )


GOOD = b'{"error":[],"result":{"ZUSD":{"balance":"31337.00","hold_trade":"0"}}}'


def fault_of(body: bytes, status: int = 200, **headers: str) -> tuple[FaultKind | None, str]:
    """What a Kraken account makes of this answer."""
    with stranger(status, body, **headers) as (url, _), cluster_of(kraken_at(url)) as cluster:
        broker = cluster.broker("kraken-test")
        with pytest.raises(BalanceUnknown):
            broker.get_account_balance()
        return broker.reading().fault, broker.reading().detail


def test_the_stranger_is_believed_when_he_answers_rightly() -> None:
    """The control: without it the tests below could pass for another reason."""
    for body in (GOOD, b"\xef\xbb\xbf" + GOOD, b"\n \t" + GOOD + b"\r\n"):
        with stranger(200, body) as (url, _), cluster_of(kraken_at(url)) as cluster:
            assert cluster.broker("kraken-test").get_account_balance() == 31337


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_nobody_else_sees_the_key(status: int) -> None:
    with stranger(200, GOOD) as (elsewhere, other):
        kind, detail = fault_of(b"", status, Location=elsewhere)
        assert kind is FaultKind.BAD_RESPONSE
        assert "redirects are not followed" in detail
        assert other.asked == []


def test_a_bomb_is_put_away_before_it_has_unfolded() -> None:
    packed = gzip.compress(b" " * (200 << 20), 9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kind, _ = fault_of(packed, 200, **{"Content-Encoding": "gzip"})
    assert kind in {FaultKind.BAD_RESPONSE, FaultKind.NETWORK}
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1_024
    assert grown_mb < 150


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":["EAPI:Invalid key"],"error":[],"result":{"ZUSD":{"balance":"1","hold_trade":"0"}}}',
        b'{"error":null,"result":{"ZUSD":{"balance":"1","hold_trade":"0"}}}',
        b'{"error":[],"result":{"\\ud800":{"balance":"1","hold_trade":"0"}}}',
        b'{"error":[],"result":{"ZUSD":{"balance":"1_000","hold_trade":"0"}}}',
        b"[" * 100_000,
        b'{"error":[],"result":' + b"[" * 100_000,
    ],
    ids=["a key twice", "error null", "half a character", "1_000", "deep list", "deep result"],
)
def test_an_answer_that_only_looks_like_one_is_a_bad_response(body: bytes) -> None:
    assert fault_of(body)[0] is FaultKind.BAD_RESPONSE


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, b'<div>EAPI:Invalid key "EAPI:Invalid key"</div>', FaultKind.EXCHANGE_DOWN),
        (504, b"<html></html>", FaultKind.EXCHANGE_DOWN),
        (500, b'{"error":["EGeneral:Internal error"]}', FaultKind.EXCHANGE_DOWN),
    ],
)
def test_words_count_only_in_the_exchanges_own_envelope(status: int, body: bytes, kind: FaultKind) -> None:
    assert fault_of(body, status)[0] is kind


def test_one_answer_that_cannot_be_sent_on_does_not_silence_the_others() -> None:
    """An exchange that states half a character once took the bus, and with it every broker."""
    half = b'{"error":[],"result":{"\\ud800":{"balance":"1","hold_trade":"0"}}}'
    with (
        stranger(200, half) as (bad, _),
        stranger(200, GOOD) as (good, _),
        cluster_of(kraken_at(bad, "bad"), kraken_at(good, "good")) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        for _ in range(3):
            with pytest.raises(BalanceUnknown):
                cluster.broker("bad").get_account_balance()
        assert cluster.broker("good").get_account_balance() == 31337
        wait_for_reading(listener, "good", lambda reading: reading.cash == 31337)
        wait_for_reading(listener, "bad", lambda reading: reading.error_count == 3)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), BaseException("odd")], ids=repr
)
def test_a_callable_that_raises_what_ends_programs_is_a_fault_of_its_own_broker_only(
    error: BaseException,
) -> None:
    bad, good = Till(), Till()
    bad.failure = error
    specs = [
        BrokerSpec(name, fetch=till, poll_interval_s=float("inf")) for name, till in (("b", bad), ("g", good))
    ]
    with cluster_of(*specs) as cluster:
        for count in (1, 2, 3):
            with pytest.raises(BalanceUnknown):
                cluster.broker("b").get_account_balance()
            assert cluster.broker("b").get_error_count() == count
        assert cluster.broker("g").get_account_balance() == 100
        bad.failure = None
        assert cluster.broker("b").get_account_balance() == 100


def test_words_of_half_a_character_reach_the_outside_mended() -> None:
    till = Till()
    till.failure = ValueError("\ud800 " + "x" * 1_000)
    with (
        cluster_of(BrokerSpec("a", fetch=till, poll_interval_s=float("inf"))) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        with pytest.raises(BalanceUnknown):
            cluster.broker("a").get_account_balance()
        heard = wait_for_reading(listener, "a", lambda reading: reading.error_count == 1)
        assert len(heard.detail) == 256


def test_an_unknown_exchange_loses_no_digit_either() -> None:
    simulated = SimulatedKraken()
    simulated.set_balance({"USD": ("123456789012.12345678", "0")})
    with pytest.MonkeyPatch.context() as patch, serve(simulated):
        patch.setattr("brokerwatch.gateway.gateway.FAMILIES", {})
        patch.setattr("brokerwatch.gateway.ccxt_instances.FAMILIES", {})
        with cluster_of(simulated_spec(simulated)) as cluster:
            assert str(cluster.broker("kraken-test").get_account_balance()) == "123456789012.12345678"


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":["' + b"EService:x" * 200_000 + b'"]}',
        b'{"error":[],"result":{"ZUSD":{"balance":"' + b"1" * 2_000_000 + b'x","hold_trade":"0"}}}',
    ],
    ids=["a word again and again", "a number without an end"],
)
def test_no_answer_takes_longer_to_read_than_it_is_long(body: bytes) -> None:
    """Two patterns once tried every beginning with every end: hours, in which no other call was served."""
    kind, _ = fault_of(body)
    assert kind in {FaultKind.BAD_RESPONSE, FaultKind.EXCHANGE_DOWN}


def test_an_error_whose_own_words_raise_is_a_fault_at_once() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    till = Till()
    till.failure = Unspeakable()
    with cluster_of(BrokerSpec("a", fetch=till, poll_interval_s=float("inf"))) as cluster:
        with pytest.raises(BalanceUnknown, match="Unspeakable"):
            cluster.broker("a").get_account_balance()
        assert cluster.broker("a").reading().fault is FaultKind.BAD_RESPONSE


def test_a_callable_that_is_no_coroutine_is_told_what_it_lacks() -> None:
    def fetch() -> dict[str, str]:
        return {"USD": "1"}

    spec = BrokerSpec("a", fetch=fetch, poll_interval_s=float("inf"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the mistake
    with cluster_of(spec) as cluster, pytest.raises(BalanceUnknown, match="declare it `async def`"):
        cluster.broker("a").get_account_balance()


def test_a_currency_that_differs_by_its_letters_alone_is_not_another_one() -> None:
    till = Till({"USD": "100"})
    with cluster_of(BrokerSpec("a", fetch=till, poll_interval_s=float("inf"))) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        till.balance = {"usd": "7"}
        assert broker.get_account_balance() == 100
        assert "usd: expected USD" in broker.reading().detail


def test_a_secret_that_cannot_sign_is_our_own_mistake_and_says_so() -> None:
    kraken = SimulatedKraken()
    with serve(kraken):
        spec = simulated_spec(kraken)
        half = replace(spec, credentials={**spec.credentials, "secret": "def"})
        with cluster_of(half) as cluster:
            with pytest.raises(BalanceUnknown):
                cluster.broker(spec.name).get_account_balance()
            reading = cluster.broker(spec.name).reading()
            assert reading.fault is FaultKind.CLIENT_BUG
            assert "the secret cannot sign, is it whole?" in reading.detail
            assert kraken.private_calls == 0


def test_no_amount_leaves_the_process_in_the_words_of_an_exchange_where_amounts_stay_inside() -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("987654321.5", "0"), "EUR": ("876598765.5", "0")})
    with (
        serve(kraken),
        cluster_of(simulated_spec(kraken), publish_balances=False) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        broker = cluster.broker("kraken-test")
        broker.get_account_balance()
        assert "876,598,765.5 EUR not counted" in broker.reading().detail
        well = wait_for_reading(listener, "kraken-test", lambda reading: reading.as_of is not None)
        # No time of a reading has these digits: its microseconds have no point, its seconds are fewer.
        assert "876598765.5" not in repr(well).replace(",", "")
        kraken.set_fault("cut_json")
        broker.get_account_balance()
        assert "987654321.5" in broker.reading().detail
        broken = wait_for_reading(listener, "kraken-test", lambda reading: reading.error_count == 1)
        assert broken.detail == "bad_response"
        assert "987654321.5" not in repr(broken).replace(",", "")


@pytest.mark.parametrize(
    ("make", "proves"),
    # OKX states a time with each balance, so no two of its answers are alike.
    [
        (SimulatedKraken, (kraken_adapter, "holdings")),
        (SimulatedCoinbase, (coinbase_adapter, "accounts_page")),
    ],
)
def test_an_answer_that_reads_as_the_last_proof_is_not_taken_apart_again_and_every_other_is(
    make: type[SimulatedExchange], proves: tuple[ModuleType, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, read = make(), 0
    prove: Callable[..., object] = getattr(*proves)

    def counted(*arguments: object) -> object:
        nonlocal read
        read += 1
        return prove(*arguments)

    monkeypatch.setattr(*proves, counted)
    exchange.set_balance({"USDC": ("50", "0")})
    with serve(exchange), cluster_of(simulated_spec(exchange, read_funding=False)) as cluster:
        broker = cluster.broker(f"{exchange.ccxt_id}-test")
        assert broker.get_account_balance() == 50
        first = read
        assert broker.get_account_balance() == 50
        assert read == first
        for _ in range(2):
            exchange.set_fault("wrong_envelope", 1)
            assert broker.get_account_balance() == 50
            assert broker.get_error_count() == 1, "what is no proof is none the second time either"
            assert broker.get_account_balance() == 50
            assert broker.get_error_count() == 0
        for amount_now in ("49", "50"):
            exchange.set_balance({"USDC": (amount_now, "0")})
            assert broker.get_account_balance() == int(amount_now)


def test_a_callable_that_was_told_when_to_ask_again_is_not_called_before() -> None:
    called: list[float] = []

    async def fetch() -> dict[str, str]:
        called.append(time.time())
        until_ms = round((time.time() + 600) * 1_000)
        raise ccxt.DDoSProtection(f'binance {{"code":-1003,"msg":"IP banned until {until_ms}."}}')

    spec = BrokerSpec("mine", fetch=fetch, poll_interval_s=0.1)
    with cluster_of(spec) as cluster:
        broker = cluster.broker("mine")
        until(lambda: broker.reading().reason is Reason.LOCKED_OUT)
        for _ in range(3):
            with pytest.raises(BalanceUnknown):
                broker.get_account_balance()
        assert len(called) == 1
