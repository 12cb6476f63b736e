"""Real receivers of messages on loopback: a web server and a mail server, which answer as a test says."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.support.clusters import until

OK: Final = 200


@dataclass
class Received:
    """What a receiver has, and how it answers."""

    port: int = 0
    bodies: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """Of each message that was taken, its parts."""
    refused: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """Of each message that was not taken."""
    got: list[str] = field(default_factory=list[str])
    """The paths of requests without a message."""
    answers: list[int] = field(default_factory=list[int])
    """The statuses of the next answers; then 200."""
    is_endless: bool = False
    """Whether the body of an answer has no end."""
    hold: threading.Event | None = None
    """An answer waits until this is set."""

    def url(self, scheme: str = "json", path: str = "hook", **options: str) -> str:
        ending = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{scheme}://127.0.0.1:{self.port}/{path}{'?' if ending else ''}{ending}"

    @property
    def titles(self) -> list[str]:
        return [str(body["title"]) for body in self.bodies]

    def has(self, count: int) -> list[Mapping[str, Any]]:
        """Wait for so many messages."""
        until(lambda: len(self.bodies) >= count)
        return self.bodies


@contextmanager
def web_receiver() -> Generator[Received]:
    """A web server that keeps each body of JSON that it is sent."""
    found = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            status = found.answers.pop(0) if found.answers else OK
            (found.bodies if status == OK else found.refused).append(body)
            if found.hold is not None:
                found.hold.wait()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            if not found.is_endless:
                self.send_header("Content-Length", "0")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while found.is_endless:
                    self.wfile.write(bytes(100_000))

        def do_GET(self) -> None:
            found.got.append(self.path)
            self.send_response(OK)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        found.port = port
        try:
            yield found
        finally:
            if found.hold is not None:
                found.hold.set()


@contextmanager
def mail_receiver() -> Generator[Received]:
    """A mail server that keeps each mail: its recipients and its text."""
    found = Received()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say(220, "ready")
            recipients: list[str] = []
            while line := self.rfile.readline().decode().strip():
                verb = line.upper()[:4]
                if verb in ("EHLO", "HELO", "MAIL", "RSET", "NOOP"):
                    self.say(250, "well")
                elif verb == "RCPT":
                    recipients.append(line.partition(":")[2])
                    self.say(250, "well")
                elif verb == "DATA":
                    self.say(354, "go on")
                    self._take(recipients)
                elif verb == "QUIT":
                    self.say(221, "bye")
                    return
                else:
                    self.say(502, "no such thing")

        def _take(self, recipients: list[str]) -> None:
            lines: list[str] = []
            while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                lines.append(line)
            status = found.answers.pop(0) if found.answers else 250
            mail = {"to": tuple(recipients), "text": "\n".join(lines)}
            (found.bodies if status == 250 else found.refused).append(mail)
            if found.hold is not None:
                found.hold.wait()
            self.say(status, "so it is")

        def say(self, status: int, words: str) -> None:
            self.wfile.write(f"{status} {words}\r\n".encode())

    class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with _serving(Server(("127.0.0.1", 0), Handler)) as port:
        found.port = port
        try:
            yield found
        finally:
            if found.hold is not None:
                found.hold.set()


@contextmanager
def _serving(server: socketserver.TCPServer) -> Generator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
