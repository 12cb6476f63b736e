"""Encryption of the bus by CURVE: what each end of a connection proves itself with, and who checks it.

`Encryption` belongs to one context and to the cluster in it. Its server ends let in only keys of their own
list; its client ends prove themselves by the cluster's own key pair. inproc endpoints have no encryption,
since nothing outside of the process reaches them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import zmq

from brokerwatch.bus.allow_list import AllowList
from brokerwatch.bus.sockets import Bus
from brokerwatch.bus.zap_handler import ZapHandler
from brokerwatch.config.curve_keys import KeyPair, public_key, read_pair
from brokerwatch.config.curve_settings import CurveSettings
from brokerwatch.errors import ConfigError, Problem

HEALTH_DOMAIN: Final = "health"
BROKERS_DOMAIN: Final = "brokers"
"""The names under which libzmq asks the handler: a key that is listed for one is unknown to the other."""
HANDSHAKE_MS: Final = 2_000
"""What a handshake may take; it is three messages to and fro. For so long a peer that says nothing keeps a
descriptor, and one whose question was not answered waits until it tries again. libzmq's own is 30 s."""

ServerKey = str | os.PathLike[str]
"""A public key, or the file that has it."""


@dataclass(frozen=True, slots=True)
class CurveClient:
    """The end that connects."""

    pair: KeyPair
    server_key: str
    """The only public key that is believed at the other end."""

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Set the options. To be called before the socket connects."""
        socket.curve_serverkey = self.server_key.encode()
        socket.curve_publickey = self.pair.public.encode()
        socket.curve_secretkey = self.pair.secret.encode()


@dataclass(frozen=True, slots=True)
class CurveServer:
    """The end that binds."""

    pair: KeyPair
    domain: str
    allowed: AllowList
    handler: ZapHandler

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Set the options. To be called before the socket binds."""
        socket.curve_server = True
        socket.curve_secretkey = self.pair.secret.encode()
        socket.setsockopt(zmq.ZAP_DOMAIN, self.domain.encode())
        # Without it libzmq lets every key in while no handler is there.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)

    def may_send(self, key: str, topic: str) -> bool:
        """Whether this key may send an event on this topic, at this moment."""
        parts = topic.split("/")
        return len(parts) > 3 and self.allowed.may_send(key, parts[3])

    def ends_connections(self) -> bool:
        """Whether the socket is to be opened anew, because a key of a connection is listed no more.

        To be called at each turn of the thread that has the socket. It also looks after the handler.
        """
        self.handler.tend()
        return self.allowed.revoked()


class Encryption:
    """The keys of one cluster, in its one context; or none, where the configuration has no [curve].

    `start` comes before any socket of the context binds, and `stop` after all of them are closed.

    Raises:
        ConfigError: the key pair cannot be read or used.
    """

    name: Final = "brokerwatch-keys"

    def __init__(self, bus: Bus, settings: CurveSettings | None) -> None:
        self._pair: KeyPair | None = None
        self._handler: ZapHandler | None = None
        if settings is None:
            return
        problems: list[Problem] = []
        pair = _pair(settings.key_file, "curve.key_file", problems)
        if pair is None:
            raise ConfigError(tuple(problems))
        self._pair = pair
        self._lists = {
            HEALTH_DOMAIN: AllowList(str(settings.subscribers), pair.public),
            BROKERS_DOMAIN: AllowList(str(settings.brokers), pair.public),
        }
        self._handler = ZapHandler(bus, self._lists)

    def start(self) -> None:
        """Begin to answer handshakes."""
        if self._handler is not None:
            self._handler.start()

    def fault(self) -> str:
        """Whether the handler hangs, in words; empty where it does not, or where there is none."""
        return "" if self._handler is None else self._handler.fault()

    def stop(self, deadline_s: float) -> bool:
        """End the handler. False when that took too long. May be called twice."""
        return self._handler is None or self._handler.stop(deadline_s)

    def server(self, domain: str, endpoint: str) -> CurveServer | None:
        """The end that binds there; None: without encryption."""
        if self._pair is None or self._handler is None or endpoint.startswith("inproc://"):
            return None
        return CurveServer(self._pair, domain, self._lists[domain], self._handler)

    def client(self, endpoint: str) -> CurveClient | None:
        """The end that connects to this cluster there; None: without encryption."""
        if self._pair is None or endpoint.startswith("inproc://"):
            return None
        return CurveClient(self._pair, self._pair.public)


def clients_of(
    endpoints: Sequence[str],
    server_key: ServerKey | Mapping[str, ServerKey] | None,
    key_file: str | os.PathLike[str] | KeyPair | None,
    problems: list[Problem],
) -> dict[str, CurveClient]:
    """The encrypted ones of these endpoints, each with what connects to it. Mistakes go on the list."""
    if server_key is None and key_file is None:
        return {}
    if server_key is None or key_file is None:
        missing, given = ("server_key", "key_file") if server_key is None else ("key_file", "server_key")
        problems.append(Problem("", missing, f"expected it beside {given}: CURVE needs both"))
        return {}
    pair = key_file if isinstance(key_file, KeyPair) else _pair(key_file, "key_file", problems)
    named = server_key if isinstance(server_key, Mapping) else dict.fromkeys(endpoints, server_key)
    clients: dict[str, CurveClient] = {}
    for endpoint, source in named.items():
        if endpoint not in endpoints:
            problems.append(Problem("", "server_key", f"{endpoint!r} is none of the endpoints"))
            continue
        try:
            key = public_key(source)
        except ValueError as error:
            problems.append(Problem("", "server_key", str(error)))
            key = ""
        # A client without a pair is none that could be used; it only says that encryption is meant.
        clients[endpoint] = CurveClient(pair or KeyPair("", "", ""), key)
    return clients


def made_pair(name: str) -> KeyPair:
    """A new key pair. For `brokerwatch keys` alone, which is a process of its own.

    libzmq may end a process that makes keys while its contexts are opened and closed (its issue 4241).
    """
    public, secret = zmq.curve_keypair()
    return KeyPair(name, public.decode("ascii"), secret.decode("ascii"))


def pair_mistake(pair: KeyPair) -> str:
    """Why a key pair cannot be used, though it can be read; empty when it can."""
    if not zmq.has("curve"):
        return "expected a libzmq with CURVE; this one was built without"
    if zmq.curve_public(pair.secret.encode()).decode("ascii") != pair.public:
        return f"the public key of {pair.name} does not belong to its secret; copy the file whole"
    return ""


def _pair(source: str | os.PathLike[str], key: str, problems: list[Problem]) -> KeyPair | None:
    """The key pair in that file; None with a mistake on the list."""
    try:
        pair = read_pair(source)
    except ValueError as error:
        problems.append(Problem("", key, str(error)))
        return None
    if mistake := pair_mistake(pair):
        problems.append(Problem(os.fspath(source), key, mistake))
        return None
    return pair
