"""The limits of a connection: how many there are, and how long one may take over what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

MOST: Final = 200
"""Connections at once. Each further one is answered 503 and closed."""
HEAD_S: Final = 10.0
"""What a request's head may take to arrive; also how long an idle connection stays open."""
REQUEST_S: Final = 30.0
"""What a whole request may take, with the reading of its answer …"""
LONGEST_WAIT_S: Final = 60.0
"""… and what it may ask to wait beyond that."""
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
)


class Connections:
    """All connections of one server, on its loop."""

    def __init__(self) -> None:
        self._open: dict[asyncio.BaseTransport, _Guarded] = {}

    def __len__(self) -> int:
        return len(self._open)

    def guarded(self, made: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """A factory of protocols that keeps what `made` gives within the limits."""
        return lambda: _Guarded(made(), self._open)

    def give(self, transport: asyncio.BaseTransport | None, seconds: float | None) -> None:
        """Give a connection so long from now on, and close it then. None: without an end."""
        guarded = None if transport is None else self._open.get(transport)
        if guarded is not None:
            guarded.give(seconds)


class _Guarded(asyncio.Protocol):
    """Hands everything to the protocol behind it, and closes the connection at its limit.

    aiohttp has no limit of its own for the time that a request takes to arrive.
    """

    def __init__(self, behind: asyncio.Protocol, opened: dict[asyncio.BaseTransport, _Guarded]) -> None:
        self._behind = behind
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

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
        if len(self._opened) >= MOST:
            transport.write(FULL)
            transport.close()
            return
        self._transport = transport
        self._opened[transport] = self
        self._behind.connection_made(transport)
        self.give(HEAD_S)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._behind.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._transport is None else self._behind.eof_received()

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self.give(None)
        self._opened.pop(self._transport, None)
        self._transport = None
        self._behind.connection_lost(exc)
