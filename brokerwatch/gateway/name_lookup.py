"""Addresses of hosts, looked up so that a name server that hangs holds up one host and no other.

asyncio looks names up in one small pool for all hosts: with as many hanging lookups as that pool has threads,
no host is found any more, and the process waits for them when it ends. Here each host has threads of its own.
They are daemons, so neither a stop nor the end of the process waits for them.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

MOST_PER_HOST: Final = 3
"""Lookups of one host at a time. A lookup cannot be ended, so a new one begins beside one that hangs …"""
GIVEN_UP_AFTER_S: Final = 5.0
"""… which is waited for no longer than this: what resolv.conf(5) gives a name server."""

Address = tuple[Any, ...]
"""One row of `getaddrinfo`: family, type, protocol, canonical name, and where."""


class NameLookup:
    """Looks up the hosts of one event loop. Used on that loop's thread."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        """How many lookups of a host have not ended."""

    async def addresses(self, host: str, port: int, family: int) -> list[Address]:
        """The addresses of a host. Raises OSError, also where the name server does not answer in time."""
        running = self._running.get(host, 0)
        if running >= MOST_PER_HOST:
            raise socket.gaierror(
                socket.EAI_AGAIN, f"{running} lookups of {host} hang: the name server does not answer"
            )
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Address]] = loop.create_future()
        self._running[host] = running + 1

        def end(deliver: Callable[[], None]) -> None:
            left = self._running[host] - 1
            if left:
                self._running[host] = left
            else:
                del self._running[host]
            if not found.done():  # the one who asked may have given up
                deliver()

        def look_up() -> None:
            try:
                rows: list[Address] = list(
                    socket.getaddrinfo(
                        host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
                    )
                )
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the one who asked
                deliver, value = found.set_exception, error
                tell(lambda: deliver(value))
            else:
                tell(lambda: found.set_result(rows))

        def tell(deliver: Callable[[], None]) -> None:
            try:
                loop.call_soon_threadsafe(end, deliver)
            except RuntimeError:
                return  # the loop has ended meanwhile

        # Named after the host, so that a list of threads says which name server to ask about.
        threading.Thread(target=look_up, name=f"brokerwatch-dns {host}", daemon=True).start()
        try:
            async with asyncio.timeout(GIVEN_UP_AFTER_S):
                return await found
        except TimeoutError as error:
            raise socket.gaierror(
                socket.EAI_AGAIN, f"no name server has answered for {host} within {GIVEN_UP_AFTER_S:g} s"
            ) from error
