"""Connections of the round's own: a TCP proxy between a listener and what it listens to.

A link can be cut (each connection is reset, and none is made), held (bytes wait, in one direction or both, as
when packets are lost and sent again), and slow (each byte comes so much later). What waits is not dropped,
because TCP drops nothing. All links run on one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self

MOST_WAITING: Final = 1_000_000
"""So many bytes wait in one direction; then its sender is not read from, as a full socket does it."""
WAIT_S: Final = 10.0

UP, DOWN = "up", "down"
"""From the listener to what it listens to, and back."""


class Link:
    """One port in front of another. Its methods but `endpoint` run on the loop of its `Links`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = False
        self.held: frozenset[str] = frozenset()
        self.late_s = 0.0
        self._changed = asyncio.Event()
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Where the listener connects to."""
        return f"tcp://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Begin to accept connections."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End all connections, and accept no more."""
        assert self._server is not None
        self._server.close()
        await self._end_all()

    async def set(
        self, *, cut: bool = False, held: frozenset[str] = frozenset(), late_s: float = 0.0
    ) -> None:
        """What is wrong with the link from now on; nothing, unless given."""
        self.cut, self.held, self.late_s = cut, held, late_s
        self._changed.set()
        self._changed = asyncio.Event()
        if cut:
            await self._end_all()

    async def _end_all(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.cut:
                await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the link was cut
        finally:
            self._tasks.discard(task)
            _reset(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            ways = (self._pump(UP, reader, far_writer), self._pump(DOWN, far_reader, writer))
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            _reset(far_writer)

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction until its sender ends; what waits then is lost with the connection."""
        waiting: deque[tuple[float, bytes]] = deque()
        size, came = 0, asyncio.Event()
        loop = asyncio.get_running_loop()

        async def write() -> None:
            nonlocal size
            while True:
                while not waiting:
                    came.clear()
                    await came.wait()
                at_s, chunk = waiting[0]
                if way in self.held:
                    await self._changed.wait()
                    continue
                if (left_s := at_s + self.late_s - loop.time()) > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), left_s)
                    continue
                waiting.popleft()
                size -= len(chunk)
                writer.write(chunk)
                await writer.drain()

        writing = asyncio.ensure_future(write())
        try:
            while not writing.done() and (chunk := await reader.read(65_536)):
                waiting.append((loop.time(), chunk))
                size += len(chunk)
                came.set()
                while size > MOST_WAITING and not writing.done():
                    await asyncio.wait([writing], timeout=0.05)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once; the other side notices."""
    peer: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Links:
    """All links of a round, and the thread on which they run. Used by the round's own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._links: list[Link] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link in self._links:
            self.do(link.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    def do(self, what: Callable[..., Coroutine[Any, Any, None]], **values: object) -> None:
        """Run a method of a link on its thread, and wait for it."""
        asyncio.run_coroutine_threadsafe(what(**values), self._loop).result(WAIT_S)

    def add(self, port: int) -> Link:
        """A new link to a port of this machine."""
        link = Link(port)
        self.do(link.open)
        self._links.append(link)
        return link
