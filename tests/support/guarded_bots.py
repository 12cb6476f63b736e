"""Bots on simulated exchanges, each with a plain and a guarded ccxt instance."""

from __future__ import annotations

import asyncio
import http.server
import importlib
import json
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final, cast

import pytest

from brokerwatch.simulator import (
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.simulator.ccxt_config import ccxt_config

# Without its types, which do not pass a strict check.
ccxt: Any = importlib.import_module("ccxt")
ccxt_async: Any = importlib.import_module("ccxt.async_support")
KINDS: Final[tuple[type[SimulatedExchange], ...]] = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)
PATIENT_MS: Final = 20_000


class OlderCoinbase(SimulatedCoinbase):
    """With the list that ccxt reads unless it is told otherwise."""

    next_uri: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.private_routes = {**self.private_routes, ("GET", "/v2/accounts"): self._older}

    def _older(self, call: object, account: Any, fault: str) -> dict[str, Any]:
        del call
        if fault == "empty_result":
            return {"data": []}
        rows = [
            {
                "id": row.currency,
                "type": "wallet",
                "currency": {"code": row.currency},
                "balance": {"amount": row.free, "currency": row.currency},
            }
            for row in self.rows_of(account, fault)
        ]
        return {"pagination": {"limit": 250, "next_uri": self.next_uri}, "data": rows}


def config(exchange: SimulatedExchange, **values: Any) -> dict[str, Any]:
    return {**ccxt_config(exchange), "timeout": PATIENT_MS, **values}


def alike(balance: Mapping[str, Any]) -> str:
    """A balance without the moments that are in it, exact to the types."""

    moments = ("uTime", "timestamp", "datetime", "brokerwatch")

    def without(value: Any) -> Any:
        match value:
            case dict():
                inside = cast("dict[str, Any]", value)
                return {key: without(inner) for key, inner in inside.items() if key not in moments}
            case list():
                return [without(inner) for inner in cast("Iterable[Any]", value)]
            case _:
                return value

    return repr(without(balance))


class Bot:
    """A trader's instance, asynchronous or not, and how a test calls it."""

    def __init__(self, exchange: SimulatedExchange, mode: str, **values: Any) -> None:
        self._runner = asyncio.Runner() if mode == "async" else None
        library: Any = ccxt if self._runner is None else ccxt_async
        self.mine = getattr(library, exchange.ccxt_id)(config(exchange, **values))
        self.mine.timeout_on_exit = 0

    def run(self, ask: Callable[[], Any]) -> Any:
        if self._runner is None:
            return ask()

        async def asked() -> Any:
            return await ask()

        return self._runner.run(asked())

    def balance_of(self, which: Any, *params: Any) -> Any:
        return self.run(lambda: which.fetch_balance(*params))

    def close(self) -> None:
        if self._runner is not None:
            self.run(self.mine.close)
            self._runner.close()


@contextmanager
def bot_on(exchange: SimulatedExchange, mode: str, **values: Any) -> Generator[Bot]:
    with serve(exchange):
        bot = Bot(exchange, mode, **values)
        try:
            yield bot
        finally:
            bot.close()


both_modes = pytest.mark.parametrize("mode", ["sync", "async"])
every_kind = pytest.mark.parametrize("kind", KINDS)


# --- other servers ---------------------------------------------------------------------------------------


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers each path with what the test gave it, and keeps what was asked."""

    pages: ClassVar[dict[str, tuple[int, dict[str, str], str]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        type(self).asked.append(path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, text = self.pages.get(path, (404, {}, "{}"))
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(text.encode())),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET  # noqa: N815 - http.server finds it by this name

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def stranger() -> Generator[str]:
    Stranger.pages, Stranger.asked = {}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


BITSO_BOOK: Final[Mapping[str, Any]] = {
    "book": "btc_mxn",
    "minimum_price": "500",
    "maximum_price": "10000000",
    "minimum_amount": "0.00005",
    "maximum_amount": "500",
    "minimum_value": "5",
    "maximum_value": "10000000",
    "tick_size": "0.01",
    "fees": {"flat_rate": {"maker": "0.500", "taker": "0.650"}, "structure": []},
}


def bitso_says(balances: list[dict[str, str]]) -> None:
    def page(payload: object) -> tuple[int, dict[str, str], str]:
        return 200, {}, json.dumps({"success": True, "payload": payload})

    Stranger.pages = {
        "/v3/available_books": page([dict(BITSO_BOOK)]),
        "/v3/catalogues": page({"currencies": []}),
        "/v3/balance": page({"balances": balances}),
    }


def bitso(url: str, mode: str) -> Any:
    library: Any = ccxt if mode == "sync" else ccxt_async
    return library.bitso(
        {"apiKey": "k" * 10, "secret": "s" * 10, "urls": {"api": {"rest": url}}, "enableRateLimit": False}
    )
