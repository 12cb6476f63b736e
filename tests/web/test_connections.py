"""The limits of connections: how many, how slow, how large."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from urllib.parse import urlsplit

import pytest

from brokerwatch.web import connections
from tests.support.clusters import PATIENCE_S, Till, until
from tests.support.served import asked, served
from tests.web.test_routes import spec_of


@contextlib.contextmanager
def connected(url: str) -> Generator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S) as connection:
        yield connection


def ended(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            said += part
    return said


def test_a_sender_that_does_not_come_to_an_end_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    with served(spec_of(Till())) as cluster:
        for begun in (b"", b"GET /v1/brokers HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"):
            with connected(cluster.http_url) as connection:
                connection.sendall(begun)
                assert b"200 OK" not in ended(connection)
        assert asked(cluster.http_url, "/healthz").status == 200


def test_one_connection_too_many_is_told_so_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    with served(spec_of(Till())) as cluster, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connected(cluster.http_url)) for _ in range(3)]
        for connection in kept:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        with connected(cluster.http_url) as refused:
            assert ended(refused).startswith(b"HTTP/1.1 503")
        kept[0].close()
        until(lambda: asked(cluster.http_url, "/healthz").status == 200)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"\r\n\r\n\r\nhello\r\n\r\n",
    ],
    ids=["header", "path", "headers", "TLS", "two hosts", "length", "no HTTP"],
)
def test_what_is_no_request_is_refused_and_the_server_goes_on(sent: bytes) -> None:
    with served(spec_of(Till())) as cluster:
        with connected(cluster.http_url) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
            assert not ended(connection).startswith(b"HTTP/1.1 200")
        assert asked(cluster.http_url, "/healthz").status == 200
