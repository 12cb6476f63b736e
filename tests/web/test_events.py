"""Server-sent events: all accounts, each change, a tick each second, and slow readers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

import pytest

from brokerwatch.web import connections, routes
from tests.support.clusters import PATIENCE_S, Till, until
from tests.support.served import asked, served
from tests.web.test_routes import out, spec_of


def events(url: str) -> Generator[tuple[str, Any]]:
    """Each event of the stream, from one connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        name = ""
        for line in connection.makefile("rb"):
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield name, json.loads(line[6:])


def test_a_reader_gets_all_accounts_then_each_change_and_ticks() -> None:
    till = Till()
    with served(spec_of(till), spec_of(name="b")) as cluster:
        cluster.broker("a").get_account_balance()
        stream = events(cluster.http_url)
        name, data = next(stream)
        assert (name, {each["broker"] for each in data["brokers"]}) == ("accounts", {"a", "b"})
        out(cluster, till)
        assert any(
            name == "account" and data["broker"] == "a" and data["reason"] == "errors"
            for name, data in stream
        )
        ticked = next(data for name, data in stream if name == "tick")
        assert ticked["heard_ms"] < 60_000
        stream.close()


def test_a_reader_that_takes_nothing_is_let_go_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "READER_S", 3.0)
    till = Till({f"C{number}": "1" for number in range(4_000)})
    with served(spec_of(till)) as cluster:
        cluster.broker("a").get_account_balance()
        until(lambda: len(asked(cluster.http_url, "/v1/brokers").body) > 400_000)
        monkeypatch.setattr(connections, "MOST", 1)
        parts = urlsplit(cluster.http_url)
        with socket.socket() as deaf:
            deaf.settimeout(PATIENCE_S)
            until(lambda: asked(cluster.http_url, "/healthz").status == 200)
            deaf.connect((parts.hostname, parts.port))
            deaf.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert deaf.recv(15).startswith(b"HTTP/1.1 200"), "it has the only place"
            assert send_buffer_bytes(deaf) <= 2 * connections.SEND_BUFFER_BYTES
            until(lambda: asked(cluster.http_url, "/healthz").status == 200)


def send_buffer_bytes(reader: socket.socket) -> int:
    """What the system holds for a reader at the other end of its connection, which is in this process too."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(number))) as other:
            if other.getpeername() == reader.getsockname():
                return other.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    raise AssertionError("there is no such connection")


def test_the_stream_ends_with_the_cluster() -> None:
    with served(spec_of()) as cluster:
        stream = events(cluster.http_url)
        next(stream)
        cluster.stop()
        for _ in stream:
            pass
        until(lambda: not cluster.http_url)
