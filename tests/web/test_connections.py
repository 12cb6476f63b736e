"""The limits of connections: how many, how slow, how large."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import ipaddress
import socket
import ssl
import struct
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.web import connections
from tests.support.clusters import PATIENCE_S, Till, cluster_of, until
from tests.support.served import asked, served
from tests.web.test_routes import spec_of

LOGIN = b"POST /v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


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
    with served(spec_of(Till())) as cluster:
        with monkeypatch.context() as soon:
            soon.setattr(connections, "HEAD_S", 0.3)
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


NO_REQUESTS = {
    "header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "path": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "length": b"POST /v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "no HTTP": b"\r\n\r\n\r\nhello\r\n\r\n",
    "URL": b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": LOGIN + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "chunk": LOGIN + b"Transfer-Encoding: chunked\r\n\r\nnone\r\n",
    "gzip": LOGIN + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    "deflate": LOGIN + b"Content-Encoding: deflate\r\nContent-Length: 4\r\n\r\nabcd",
    "expectation": LOGIN + b"Expect: the best\r\nContent-Length: 2\r\n\r\n{}",
}


def test_what_is_no_request_is_refused_and_not_logged_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with served(spec_of(Till())) as cluster:
        for name, sent in NO_REQUESTS.items():
            with connected(cluster.http_url) as connection:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                assert not ended(connection).startswith((b"HTTP/1.1 2", b"HTTP/1.1 5")), name
            assert asked(cluster.http_url, "/healthz").status == 200, name
    assert [each.name for each in caplog.records if "http" in each.name or "web" in each.name] == []


def test_a_reader_that_has_gone_before_its_answer_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with served(spec_of(Till())) as cluster:
        for _ in range(40):
            with connected(cluster.http_url) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert asked(cluster.http_url, "/healthz").status == 200
    assert [each.name for each in caplog.records if "http" in each.name or "web" in each.name] == []


def test_with_tls_a_connection_counts_and_has_its_limit_before_its_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    pem = certificate(tmp_path)
    http = HttpSettings("127.0.0.1:0", tls_certificate=pem, tls_key=pem)
    context = ssl.create_default_context(cafile=pem)
    with cluster_of(spec_of(Till()), http=http) as cluster, contextlib.ExitStack() as stack:
        until(lambda: cluster.http_url)
        until(lambda: healthy(cluster.http_url, context))
        for _ in range(3):
            stack.enter_context(connected(cluster.http_url))
        until(lambda: not healthy(cluster.http_url, context))
        monkeypatch.setattr(connections, "HANDSHAKE_S", 0.3)
        stack.close()
        until(lambda: healthy(cluster.http_url, context))
        for begun in (b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"):
            with connected(cluster.http_url) as connection:
                connection.sendall(begun)
                assert b"HTTP" not in ended(connection)
        monkeypatch.undo()
        until(lambda: healthy(cluster.http_url, context))


def healthy(url: str, context: ssl.SSLContext) -> bool:
    """Whether a server with TLS answers."""
    connection = http.client.HTTPSConnection(urlsplit(url).netloc, timeout=PATIENCE_S, context=context)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("password", "words"), [("secret", "a key without a password"), ("", "not that of the certificate")]
)
def test_a_key_that_cannot_be_used_is_said_and_asks_for_nothing_at_a_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, password: str, words: str
) -> None:
    (tmp_path / "other").mkdir()
    http = HttpSettings(
        "127.0.0.1:0",
        tls_certificate=certificate(tmp_path),
        tls_key=certificate(tmp_path / "other", password),
    )
    with cluster_of(spec_of(Till()), http=http) as cluster:
        until(lambda: words in caplog.text)
        assert cluster.http_url == ""


def certificate(folder: Path, password: str = "") -> str:
    """A file with a key and a certificate of its own for 127.0.0.1."""
    sealed = serialization.BestAvailableEncryption(password.encode()) if password else None
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]),
    )
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    path = folder / "tls.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            sealed or serialization.NoEncryption(),
        )
        + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return str(path)
