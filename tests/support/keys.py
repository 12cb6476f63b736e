"""Keys of CURVE for tests: pairs in files, lists of them, and strangers with plain ZeroMQ sockets."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from brokerwatch.bus.curve import made_pair
from brokerwatch.config.curve_keys import KeyPair, ListedKey, line_text, pair_text
from brokerwatch.config.curve_settings import CurveSettings
from tests.support.clusters import PATIENCE_S

PATIENCE_MS: Final = round(PATIENCE_S * 1_000)
IN: Final = "in"
OUT: Final = "out"


class Keys:
    """A folder with key pairs, and the two lists of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.pairs: dict[str, KeyPair] = {}
        self.own = self.make("own")
        self.subscribers = folder / "subscribers.keys"
        self.brokers = folder / "brokers.keys"
        self.let_in(self.subscribers)
        self.let_in(self.brokers)

    def make(self, name: str) -> KeyPair:
        """A key pair, in its file."""
        pair = self.pairs[name] = made_pair(name)
        self.file(name).write_text(pair_text(pair))
        self.file(name).chmod(0o600)
        return pair

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def let_in(self, path: Path, *names: str, brokers: Iterable[str] = ()) -> None:
        """Replace a list whole, as `brokerwatch keys` does."""
        keys = (ListedKey(name, self.pairs[name].public, frozenset(brokers)) for name in names)
        new = path.with_suffix(".new")
        new.write_text("".join(map(line_text, keys)))
        new.chmod(0o644)
        os.replace(new, path)

    @property
    def settings(self) -> CurveSettings:
        return CurveSettings(self.file("own"), self.subscribers, self.brokers)


Secure = Callable[["zmq.Socket[bytes]"], object]


def null(socket: zmq.Socket[bytes]) -> None:
    """A peer without any security."""
    del socket


def plain(socket: zmq.Socket[bytes]) -> None:
    """A peer with a name and a password."""
    socket.plain_username = b"admin"
    socket.plain_password = b"admin"


def curve(pair: KeyPair, server_key: str) -> Secure:
    """A peer with a key pair, which believes that server key."""

    def secure(socket: zmq.Socket[bytes]) -> None:
        socket.curve_serverkey = server_key.encode()
        socket.curve_publickey = pair.public.encode()
        socket.curve_secretkey = pair.secret.encode()

    return secure


@contextmanager
def stranger(kind: int, endpoint: str, secure: Secure) -> Generator[Stranger]:
    """A peer of plain ZeroMQ that connects there."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(kind)
    events = socket.get_monitor_socket()
    try:
        secure(socket)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(endpoint)
        yield Stranger(socket, events)
    finally:
        socket.disable_monitor()
        context.destroy(linger=0)


class Stranger:
    """A socket, and what ZeroMQ says about its connection."""

    def __init__(self, socket: zmq.Socket[bytes], events: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self._events = events

    def outcome(self) -> str:
        """Whether the next handshake lets it in."""
        while True:
            event = self._event()
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                return IN
            if event in (
                zmq.Event.HANDSHAKE_FAILED_AUTH,
                zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
                zmq.Event.HANDSHAKE_FAILED_PROTOCOL,
                zmq.Event.DISCONNECTED,
            ):
                return OUT

    def is_thrown_out(self) -> None:
        """Wait until its connection has ended."""
        while self._event() != zmq.Event.DISCONNECTED:
            pass

    def has_events(self) -> bool:
        """Whether anything happened to the connection that no wait has taken."""
        return bool(self._events.poll(0))

    def _event(self) -> zmq.Event:
        # A socket has to be polled, or it sends no subscription to a peer that it has connected to again.
        for _ in range(round(PATIENCE_S / 0.05)):
            self.socket.poll(0)
            if self._events.poll(50):
                return zmq.Event(recv_monitor_message(self._events)["event"])
        raise AssertionError("nothing happens to the connection")
