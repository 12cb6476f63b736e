"""A relay of TCP connections that can be cut: the network between a cluster and one of its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final

HOST: Final = "127.0.0.1"
CHUNK: Final = 65_536


class Relay:
    """Relays connections to a port of this machine, on a thread of its own. For any thread."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._is_up = True
        threading.Thread(target=self._loop.run_forever, name="relay", daemon=True).start()
        self.port: Final = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        """Where it listens."""

    def cut(self, lasts_s: float) -> None:
        """End all connections, and let none come up for so many seconds. Does not wait."""
        self._loop.call_soon_threadsafe(self._down, lasts_s)

    def _down(self, lasts_s: float) -> None:
        self._is_up = False
        for writer in self._open:
            writer.transport.abort()
        self._loop.call_later(lasts_s, self._up)

    def _up(self) -> None:
        self._is_up = True

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._relay, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _relay(self, inward: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if self._is_up:
                outward, on = await asyncio.open_connection(HOST, self._target)
                self._open |= {back, on}
                await asyncio.gather(self._pump(inward, on), self._pump(outward, back))
                self._open -= {back, on}
        back.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK):
                sink.write(chunk)
                await sink.drain()
        sink.transport.abort()
