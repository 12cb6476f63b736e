"""An HTTP server on loopback that answers as a test says, for exchanges that only ccxt knows."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast
from urllib.parse import urlsplit

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from tests.support.clusters import ONLY_WHEN_ASKED, cluster_of

Answer = tuple[int, Any]
"""A status, and what stands in the body as JSON; a text stands there as it is."""
Route = Answer | Callable[[str], Answer]
"""An answer, or what makes one of the body of the request."""


NOTHING: Final[Route] = (200, "[]")


class PlainExchange(ThreadingHTTPServer):
    """Answers a request by the first of its routes that it fits; with an empty list where there is none.

    A route is a part of a path, which may stand behind a method: `POST /orders`.
    """

    daemon_threads = True

    def __init__(self, routes: Mapping[str, Route]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes: Final = dict(routes)
        self.requests: Final[list[tuple[str, str]]] = []
        """The method with the path, and the body, of each request."""
        self.headers: Final[list[dict[str, str]]] = []
        """The headers of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def sent(self, part: str) -> list[str]:
        """The bodies of the requests with this text in their method and path."""
        return [body for request, body in self.requests if fits(part, request)]


def fits(route: str, request: str) -> bool:
    """Whether a request, a method and a path, is one of this route."""
    method, _, part = route.rpartition(" ")
    return part in request.partition(" ")[2] and method in ("", request.partition(" ")[0])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, PlainExchange)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        request = f"{self.command} {self.path}"
        server.requests.append((request, body))
        server.headers.append(dict(self.headers.items()))
        route = next((found for part, found in server.routes.items() if fits(part, request)), NOTHING)
        status, answer = route(body) if callable(route) else route
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


ACCOUNT_KEYS: Final = {"gemini": "account-" + "k" * 20}
"""Exchanges whose keys have a form that says of what they are."""


@contextmanager
def plain_exchange(
    exchange: str, routes: Mapping[str, Route], options: Mapping[str, Any] | None = None, **values: Any
) -> Generator[tuple[PlainExchange, Cluster]]:
    """An exchange that answers by `routes`, and a running cluster with one account `b` there."""
    with PlainExchange(routes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        chosen: dict[str, Any] = {"trading": True, "fetch_deadline_s": 2.0, **values}
        key = ACCOUNT_KEYS.get(exchange, "k" * 32)
        spec = BrokerSpec(
            "b",
            exchange=exchange,
            credentials={
                "api_key": key,
                "secret": "s" * 32,
                "password": "p" * 8,
            },
            simulated=True,
            poll_interval_s=ONLY_WHEN_ASKED,
            requests_per_s=1_000.0,
            request_burst=1_000.0,
            ccxt={"urls": {"api": _local(exchange, server.url)}, "options": dict(options or {})},
            **chosen,
        )
        try:
            with cluster_of(spec, status_interval_s=float("inf")) as cluster:
                yield server, cluster
        finally:
            server.shutdown()
            thread.join()


def _local(exchange: str, url: str) -> Any:
    """ccxt's own table of addresses, each of them on the server."""

    def local(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: local(each) for key, each in cast("dict[str, Any]", value).items()}
        return url + urlsplit(str(value).replace("{hostname}", "x")).path

    return local(getattr(importlib.import_module("ccxt"), exchange)().urls["api"])
