"""An exchange that brokerwatch knows only through ccxt is verified with what it supports, and with no more.

A Bitvavo of this test's own stands for all of them: it checks signatures and quotes in euros.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from brokerwatch.config.broker_spec import BrokerSpec, Origin
from brokerwatch.preflight.verify import Verification
from brokerwatch.verification.checklist import BY_NAME
from brokerwatch.verification.report import Report
from tests.support.other_exchange import Reply, Request, answering, spec_of
from tests.support.verification import Indifferent, evidence, fails, not_passed, skips

KEY: Final = "0123456789abcdef0123456789abcdef"
SECRET: Final = "made-up-secret-made-up-secret"
CANNOT_BE_ASKED: Final = skips(
    "symbols.usd_supported", "trade.market_order", "trade.close", "safety.withdraw", "safety.rights"
)
"""What ccxt has no way to ask there, and what this exchange does not have."""
KNOWN: Final = {**CANNOT_BE_ASKED, "connection.account": "warn"}
"""And the exchange does not say which account it is: it is known by what it holds."""


class Bitvavo(ThreadingHTTPServer):
    """The exchange."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}
        """What a path is answered with instead, whatever is asked."""
        self.asked: list[str] = []
        self.held = "0.1"
        self.skew_ms = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str) -> Any:
        now_ms = int(time.time() * 1_000) + self.skew_ms
        markets = ("BTC-EUR", "ETH-EUR", "SOL-EUR")
        match path:
            case "/v2/time":
                return {"time": now_ms}
            case "/v2/assets":
                return [
                    {"symbol": code, "name": code, "decimals": 8, "depositStatus": "OK",
                     "withdrawalStatus": "OK", "networks": []}
                    for code in ("BTC", "ETH", "SOL", "EUR")
                ]  # fmt: skip
            case "/v2/markets":
                return [
                    {"market": name, "status": "trading", "base": name[:3], "quote": "EUR",
                     "tickSize": "1.00",
                     "minOrderInBaseAsset": "0.0001", "minOrderInQuoteAsset": "5.00", "quantityDecimals": "8",
                     "notionalDecimals": "2", "orderTypes": ["market", "limit"]}
                    for name in markets
                ]  # fmt: skip
            case "/v2/ticker/24h":
                return {"market": "BTC-EUR", "last": "55010", "timestamp": now_ms}
            case "/v2/BTC-EUR/candles":
                minute = now_ms // 60_000 * 60_000
                row = ("55000", "55020", "54990", "55010", "1.5")
                return [[minute - 60_000 * n, *row] for n in range(100)]
            case "/v2/balance":
                return [
                    {"symbol": "EUR", "available": "900.00", "inOrder": "0"},
                    {"symbol": "BTC", "available": "0.4", "inOrder": self.held},
                ]
            case "/v2/ordersOpen":
                return [
                    {"orderId": "af76d6ce", "market": "BTC-EUR", "created": now_ms, "updated": now_ms,
                     "status": "new", "side": "sell", "orderType": "limit", "amount": "0.1",
                     "amountRemaining": "0.1", "price": "99000", "filledAmount": "0", "fills": []}
                ]  # fmt: skip
            case _:
                return {"errorCode": 110, "error": "Invalid endpoint. Please check url and HTTP method."}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    @property
    def bitvavo(self) -> Bitvavo:
        assert isinstance(self.server, Bitvavo)
        return self.server

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.bitvavo.asked.append(f"{self.command} {path}")
        signed = self.headers["BITVAVO-ACCESS-TIMESTAMP"]
        private = path in ("/v2/balance", "/v2/ordersOpen", "/v2/order")
        expected = hmac.new(SECRET.encode(), f"{signed}GET{self.path}".encode(), hashlib.sha256).hexdigest()
        if private and self.headers["BITVAVO-ACCESS-SIGNATURE"] != expected:
            self._send({"errorCode": 309, "error": "The signature is invalid."}, 403)
        else:
            self._send(self.bitvavo.answers.get(path, self.bitvavo.answer(path)))

    def do_POST(self) -> None:
        self.bitvavo.asked.append(f"POST {self.path}")
        self._send({"errorCode": 100, "error": "not here"}, 400)

    def _send(self, answer: Any, status: int = 200) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def bitvavo() -> Iterator[Bitvavo]:
    with Bitvavo() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def verified(bitvavo: Bitvavo, secret: str = SECRET) -> Report:
    spec = BrokerSpec(
        "main",
        exchange="bitvavo",
        credentials=MappingProxyType({"api_key": KEY, "secret": secret}),
        origins=MappingProxyType({name: Origin("variable", "TEST") for name in ("api_key", "secret")}),
        cash_currencies=("EUR",),
        trading=True,
        policy="guarded",
        fetch_deadline_s=2.0,
        requests_per_s=1_000.0,
        request_burst=1_000.0,
        ccxt=MappingProxyType({"urls": {"api": {"public": bitvavo.url, "private": bitvavo.url}}}),
    )
    found = Verification(spec, Indifferent()).run()
    assert not [asked for asked in bitvavo.asked if asked.startswith("POST")]
    return found


def test_it_is_verified_with_what_it_supports(bitvavo: Bitvavo) -> None:
    found = verified(bitvavo)
    assert not_passed(found) == KNOWN
    assert found.exit_status == 3
    assert found.maximum - found.points == sum(BY_NAME[name].points for name in CANNOT_BE_ASKED)
    assert "which holds EUR, BTC" in evidence(found, "connection.account")
    assert "BTC/EUR at 55010" in evidence(found, "market_data.candles_plausible")
    assert "0.1 BTC" in evidence(found, "balance.held")
    assert "GET" in evidence(found, "credentials.signs")
    assert "takes ccxt's option operatorId" in evidence(found, "trade.market_order")


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"held": "0"}, ("balance.held", "positions.open_orders")),
        ({"skew_ms": 30_000}, ("safety.clock",)),
        (
            {"answers": {"/v2/ticker/24h": {"market": "BTC-EUR", "last": "2500"}}},
            ("market_data.candles_plausible",),
        ),
    ],
    ids=["holds that are zero although an order is open", "a skewed clock", "prices of another market"],
)
def test_what_is_wrong_there_is_found(
    bitvavo: Bitvavo, wrong: dict[str, object], found: tuple[str, ...]
) -> None:
    for name, value in wrong.items():
        setattr(bitvavo, name, value)
    assert not_passed(verified(bitvavo)) == {**KNOWN, **fails(*found)}


def test_a_wrong_secret_is_found(bitvavo: Bitvavo) -> None:
    found = verified(bitvavo, "another-secret-another-secret")
    assert found.failures() == ("connection.authentication",)


@pytest.mark.parametrize("answer", [b"", b"<html>", {}, []], ids=["nothing", "a page", "a map", "a list"])
def test_an_answer_that_proves_no_balance_is_no_pass(bitvavo: Bitvavo, answer: object) -> None:
    bitvavo.answers["/v2/balance"] = answer
    assert verified(bitvavo).failures() == ("connection.authentication",)


def test_an_account_of_which_only_a_total_is_stated_is_verified_as_far_as_that_goes() -> None:
    def answer(request: Request) -> Reply:
        pair = {"base": "BTC", "quote": "USDT", "baseMin": "0.0001", "baseMax": "99", "baseLotSize": "0.0001"}
        answers: dict[str, Any] = {
            "get_my_wallet_balance": {"USDT": {"balance": "9.5"}, "BTC": {"balance": "1"}},
            "get_pairs_info": [
                {**pair, "quoteMin": "1", "quoteMax": "9", "quoteLotSize": "0.01", "pricePrecision": "2"}
            ],
            "get_currencies_info": [{"currency": code, "precision": 8} for code in ("BTC", "USDT")],
            "get_processing_info": {},
            "get_my_orders": [],
        }
        name = request.path.rpartition("/")[2]
        return Reply({"ok": "ok", "data": answers[name]}) if name in answers else Reply({}, status=404)

    with answering(answer) as server:
        found = Verification(spec_of("cex", server), Indifferent()).run()
    shown = evidence(found, "balance.simple")
    assert "how much is free of USDT (9.5 in all), BTC (1 in all) is unknown" in shown
    assert "no order can be sized by it" in shown
    outcomes = not_passed(found)
    assert (outcomes["balance.simple"], outcomes["balance.detailed"]) == ("warn", "warn")
    assert "how much is free of BTC, USDT is unknown" in evidence(found, "balance.detailed")
    assert "1 BTC, 9.5 USDT" in evidence(found, "health.fallback")
    assert not [name for name, each in outcomes.items() if each == "fail" and name.startswith("health.")]
