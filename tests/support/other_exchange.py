"""An exchange that only ccxt knows: a local HTTP server that answers as its documentation has it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import urlsplit

import ccxt

from brokerwatch.config.broker_spec import BrokerSpec
from tests.support.clusters import ONLY_WHEN_ASKED


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class Reply:
    """One answer. A map is sent as JSON, a text as a page."""

    body: dict[str, Any] | list[Any] | str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Answer = Callable[[Request], Reply]


class OtherExchange(ThreadingHTTPServer):
    """Answers each request by `answer`, and keeps what it was asked. It serves as an HTTP proxy too."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.seen: list[Request] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def asked(self, part: str) -> int:
        """How many requests came to paths that have this part."""
        return sum(part in request.path for request in self.seen)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        exchange: Any = self.server
        exchange.seen.append(request)
        reply: Reply = exchange.answer(request)
        page = isinstance(reply.body, str)
        data = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Date" not in reply.headers:
            self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815 - as above
    do_DELETE = do_GET  # noqa: N815 - as above

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the output of the tests stays clean."""


@contextmanager
def answering(answer: Answer) -> Generator[OtherExchange]:
    """Serve an exchange for as long as the block lasts."""
    server = OtherExchange(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def urls(exchange: str, url: str) -> dict[str, Any]:
    """ccxt's own table of addresses, with the host of each replaced."""

    def at(given: object) -> object:
        if isinstance(given, dict):
            return {name: at(each) for name, each in cast("dict[str, object]", given).items()}
        return url + urlsplit(str(given).replace("{hostname}", "x")).path

    return {"api": at(getattr(ccxt, exchange)().urls["api"])}


def market(symbol: str, name: str) -> dict[str, Any]:
    """A spot market in ccxt's own form."""
    base, quote = symbol.split("/")
    return {
        "id": name,
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "baseId": base,
        "quoteId": quote,
        "type": "spot",
        "spot": True,
        "active": True,
        "precision": {"amount": 1e-8, "price": 1e-2},
        "limits": {"amount": {"min": None}, "cost": {"min": None}, "price": {"min": None}},
        "info": {},
    }


def spec_of(
    exchange: str, server: OtherExchange, name: str = "other", *, conf: Any = None, **values: Any
) -> BrokerSpec:
    """An account at an exchange that is served here."""
    chosen: dict[str, Any] = {
        "credentials": {"api_key": name, "secret": "s" * 64},
        "poll_interval_s": ONLY_WHEN_ASKED,
        "fetch_deadline_s": 4.0,
        "requests_per_s": 100,
        "request_burst": 100,
        **values,
    }
    return BrokerSpec(
        name,
        exchange=exchange,
        simulated=True,
        ccxt={"urls": urls(exchange, server.url), **(conf or {})},
        **chosen,
    )
