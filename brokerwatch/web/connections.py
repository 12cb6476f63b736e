"""The limits of a connection: how many there are, and how long one may take over what it sends."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MOST: Final = 200
"""Connections at once. Each further one is answered 503 and closed."""
HEAD_S: Final = 10.0
"""What a request's head may take to arrive; also how long an idle connection stays open."""
HANDSHAKE_S: Final = 10.0
"""What the handshake of TLS may take."""
REQUEST_S: Final = 30.0
"""What a whole request may take, with the reading of its answer …"""
LONGEST_WAIT_S: Final = 60.0
"""… and what it may ask to wait beyond that."""
SEND_BUFFER_BYTES: Final = 65_536
"""What the system holds for one reader. Left to itself it holds megabytes, and a reader that takes nothing is
noticed after hours."""
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
)


class Connections:
    """All connections of one server, on its loop."""

    def __init__(self) -> None:
        self._open: set[_Guarded] = set()
        self._by_transport: dict[asyncio.BaseTransport, _Guarded] = {}

    def __len__(self) -> int:
        return len(self._open)

    def guarded(
        self, made: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None
    ) -> Callable[[], asyncio.Protocol]:
        """A factory of protocols that keeps what `made` gives within the limits.

        Args:
            made: makes the protocol of one connection.
            tls: the certificate. The handshake is made here, so that a connection counts from its beginning:
                asyncio's own server knows of none before its handshake is done.
        """
        return lambda: _Guarded(made(), self, tls)

    def give(self, transport: asyncio.BaseTransport | None, seconds: float | None) -> None:
        """Give a connection so long from now on, and close it then. None: without an end."""
        guarded = None if transport is None else self._by_transport.get(transport)
        if guarded is not None:
            guarded.give(seconds)

    def enter(self, guarded: _Guarded) -> bool:
        """Count a connection; False where there are too many."""
        if len(self._open) >= MOST:
            return False
        self._open.add(guarded)
        return True

    def name(self, transport: asyncio.BaseTransport, guarded: _Guarded) -> None:
        """Let requests find their connection by its transport."""
        self._by_transport[transport] = guarded

    def leave(self, transport: asyncio.BaseTransport, guarded: _Guarded) -> None:
        """Count a connection no more."""
        self._open.discard(guarded)
        self._by_transport.pop(transport, None)


class _Guarded(asyncio.Protocol):
    """Hands everything to the protocol behind it, and closes the connection at its limit.

    aiohttp has no limit of its own for the time that a request takes to arrive.
    """

    def __init__(
        self, behind: asyncio.Protocol, connections: Connections, tls: ssl.SSLContext | None
    ) -> None:
        self._behind = behind
        self._connections = connections
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        """The connection that is counted; with TLS, the encrypted one once there is one."""
        self._serves = False
        """Whether the protocol behind has the connection."""
        self._early = b""
        """What came together with the end of the handshake."""
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None

    def give(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        transport = self._transport
        if seconds is not None and transport is not None:
            # abort: a reader that takes nothing would hold up an orderly close.
            self._timer = asyncio.get_running_loop().call_later(seconds, transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("expected a connection")
        if not self._connections.enter(self):
            if self._tls is None:
                transport.write(FULL)
            transport.close()
            return
        self._transport = transport
        with suppress(OSError, AttributeError):  # the peer may be gone
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES
            )
        if self._tls is None:
            self._serve(transport)
        else:
            self._handshake = asyncio.get_running_loop().create_task(self._encrypt(transport, self._tls))

    async def _encrypt(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            encrypted = await loop.start_tls(
                transport, self, tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, asyncio.CancelledError):  # no TLS, too slow, gone, or the end of the server
            encrypted = None
        if encrypted is None:
            transport.abort()
            self._leave()
        elif self._transport is not None:
            self._transport = encrypted
            self._serve(encrypted)

    def _serve(self, transport: asyncio.Transport) -> None:
        self._serves = True
        self._connections.name(transport, self)
        self._behind.connection_made(transport)
        self.give(HEAD_S)
        if self._early:
            self._behind.data_received(self._early)
            self._early = b""

    def _leave(self) -> None:
        self.give(None)
        if self._transport is not None:
            self._connections.leave(self._transport, self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._serves:
            self._behind.data_received(data)
        elif self._transport is not None:
            self._early += data

    def eof_received(self) -> bool | None:
        return self._behind.eof_received() if self._serves else None

    def pause_writing(self) -> None:
        if self._serves:
            self._behind.pause_writing()

    def resume_writing(self) -> None:
        if self._serves:
            self._behind.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self._serves:
            self._serves = False
            self._behind.connection_lost(exc)
