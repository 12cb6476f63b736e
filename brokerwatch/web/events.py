"""Changes for readers that stay: server-sent events, and requests that wait for the next change.

A slow reader costs no memory: of each account only the newest reading waits for it. A reader that takes
nothing at all is let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

import msgspec

from brokerwatch.errors import ClusterStopped
from brokerwatch.log import logger
from brokerwatch.messages import Reading
from brokerwatch.web.answers import BrokersAnswer, answer
from brokerwatch.web.view import View

_log: Final = logger(__name__)

TICK_S: Final = 1.0
"""How often a reader hears that the server lives, and when the cluster was heard last."""


SHARED_S: Final = 0.2
"""For how long an event is the same for all readers. The ages in it grow older by so much at most."""


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life of the server."""

    now_us: int
    """Wall clock of the server, µs."""
    heard_ms: int | None
    """How long ago the cluster was heard; null: never."""


class Events:
    """Follows the listener on the server's loop, and wakes those who wait."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._readers: set[_Reader] = set()
        self._made: dict[str, tuple[Reading, float, bytes]] = {}
        """Of each account the reading that an event was made of, when, and the event."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._readers)

    def start(self) -> None:
        """Begin to follow. To be called on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """End everything that waits."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for reader in tuple(self._readers):
            reader.end()
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait for the next change of any account, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def stream(self) -> AsyncGenerator[bytes]:
        """What one reader is sent: all accounts first, then each change, and a tick each second."""
        reader = _Reader(frozenset(self._view.listener.readings()))
        self._forget(reader.shown)
        self._readers.add(reader)
        try:
            yield _event("accounts", all_accounts(self._view))
            yield _event("tick", self._tick())
            while not reader.ended:
                changed = await reader.take(TICK_S)
                for name in changed:
                    if event := self._account(name):
                        yield event
                if not changed:
                    if reader.shown != (shown := frozenset(self._view.listener.readings())):
                        reader.shown = shown  # an account was added or removed while the cluster ran
                        self._forget(shown)
                        yield _event("accounts", all_accounts(self._view))
                    yield _event("tick", self._tick())
        finally:
            self._readers.discard(reader)

    def _forget(self, shown: frozenset[str]) -> None:
        """Keep no event of an account that left."""
        self._made = {name: made for name, made in self._made.items() if name in shown}

    def _account(self, name: str) -> bytes:
        """The newest reading of an account as an event, made once for all readers; empty where it is gone."""
        heard, now_s = self._view.of(name), self._view.clock.up_s()
        if heard is None:
            return b""
        made = self._made.get(name)
        if made is None or made[0] is not heard.reading or now_s - made[1] > SHARED_S:
            event = _event("account", answer(heard.reading, heard.stamp, now_s))
            made = self._made[name] = (heard.reading, now_s, event)
        return made[2]

    def _tick(self) -> Tick:
        return Tick(now_us=self._view.clock.now().wall_us, heard_ms=self._view.heard_ms())

    async def _follow(self) -> None:
        with suppress(ClusterStopped):
            async for change in self._view.listener.stream(renewals=True):
                for reader in self._readers:
                    reader.put(change.broker)
                self._changed.set()
                self._changed.clear()


class _Reader:
    """One reader: the accounts of which a newer reading waits for it."""

    def __init__(self, shown: frozenset[str]) -> None:
        self.shown = shown
        """The accounts that it was told of."""
        self._names: dict[str, None] = {}
        self._ready = asyncio.Event()
        self._tick_s = 0.0
        self.ended = False

    def put(self, name: str) -> None:
        self._names[name] = None
        self._ready.set()

    def end(self) -> None:
        self.ended = True
        self._ready.set()

    async def take(self, within_s: float) -> tuple[str, ...]:
        """The accounts that changed; none when a tick is due first."""
        loop = asyncio.get_running_loop()
        if not self._tick_s:
            self._tick_s = loop.time() + within_s
        left_s = self._tick_s - loop.time()
        if left_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._ready.wait()
        # Also a reader whose accounts change all the time gets its tick.
        if loop.time() >= self._tick_s:
            self._tick_s = loop.time() + within_s
            return ()
        self._ready.clear()
        names, self._names = tuple(self._names), {}
        return names


def all_accounts(view: View) -> BrokersAnswer:
    """Every account, as the API states it now."""
    now_s = view.clock.up_s()
    return BrokersAnswer(
        now_us=view.clock.now().wall_us,
        heard_ms=view.heard_ms(),
        operable=view.operable,
        complete=view.listener.complete.is_set(),
        brokers=tuple(answer(each.reading, each.stamp, now_s) for each in view.heard()),
    )


def _event(name: str, data: msgspec.Struct) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
