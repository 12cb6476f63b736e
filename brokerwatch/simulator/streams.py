"""The private websockets of a simulated exchange: who is connected, what is pushed, and what goes wrong.

What is in an account is compared with what was pushed, a hundred times a second, and what has changed is
pushed. The faults are those of real streams: frames that are lost, come twice or in another order, a
connection that ends or on which nothing comes any more, a subscription that is refused or never answered.
Every public method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from aiohttp import WSMsgType, web

from brokerwatch.simulator.account import Account
from brokerwatch.simulator.placed_order import PlacedOrder

LOOK_S: Final = 0.01
"""So often the accounts of those who are connected are looked at."""
STREAM_FAULTS: Final[Mapping[str, str]] = {
    "refused": "the subscription is refused",
    "deaf": "nothing is answered to the subscription",
    "black_hole": "nothing is read or sent any more, and the connection stays open",
    "drop": "an update is lost on its way, and its number with it",
    "duplicate": "an update comes twice",
    "swap": "an update comes after the next one",
    "unnoticed": "a change is not pushed, and leaves no gap",
    "old_snapshot": "the snapshot after a reconnect is that of before",
    "no_handshake": "the handshake is answered with 503",
    "garbage": "an update comes as a cut frame",
}


class Connection(ABC):
    """One websocket, as its exchange speaks. Used on the server's thread, under the exchange's lock."""

    def __init__(self, streams: Streams, find: Callable[[str], Account | None]) -> None:
        self.streams = streams
        self.find = find
        self.account: Account | None = None
        """Whose it is, once it has subscribed."""
        self.known: dict[str, tuple[str, str]] = {}
        """Currency to (free, held), as it was pushed."""
        self.orders: dict[str, PlacedOrder] | None = None
        """The orders as they were pushed; None: balances are watched."""
        self.outbox: list[str] = []

    @abstractmethod
    def receive(self, text: str) -> None:
        """Take a frame of the client's; answers go to the outbox."""

    @abstractmethod
    def snapshot(self) -> list[str]:
        """The frames that state all that is in the account."""

    @abstractmethod
    def update(self, changed: Mapping[str, tuple[str, str]]) -> list[str]:
        """The frames that state what has changed."""

    @abstractmethod
    def skip(self) -> None:
        """A frame is lost: its number is used up."""

    @abstractmethod
    def order_frames(self, order: PlacedOrder) -> list[str]:
        """The frames that state an order."""

    def beat(self) -> list[str]:
        """What is sent each second."""
        return []

    def subscribed(self, account: Account) -> None:
        """The client is let in: the snapshot follows."""
        self.account = account
        before = self.streams.snapshots.get(account.api_key)
        old = before is not None and self.streams.take("old_snapshot")
        self.known = dict(before if old and before is not None else account.balance)
        self.streams.snapshots[account.api_key] = dict(self.known)
        self.outbox += self.snapshot()
        self.known = dict(account.balance) if old else self.known

    def subscribed_to_orders(self, account: Account) -> None:
        """The client is let in: what changes follows."""
        self.account, self.orders = account, dict(account.orders)

    def look(self) -> None:
        """Push what has changed, as the faults say."""
        if self.account is None:
            return
        if self.orders is not None:
            before, self.orders = self.orders, dict(self.account.orders)
            for order in self.orders.values():
                if before.get(order.id) != order:
                    self._push(partial(self.order_frames, order))
            return
        now = self.account.balance
        changed = {code: each for code, each in now.items() if self.known.get(code) != each}
        changed |= {code: ("0", "0") for code in self.known if code not in now}
        self.known = dict(now)
        for code, each in changed.items():
            self._push(partial(self.update, {code: each}))

    def _push(self, write: Callable[[], list[str]]) -> None:
        streams = self.streams
        if streams.take("unnoticed"):
            return
        if streams.take("drop"):
            self.skip()
            return
        frames = write()
        if streams.take("garbage"):
            frames = [frame[: len(frame) // 2] for frame in frames]
        if streams.take("duplicate"):
            frames = frames * 2
        if streams.take("swap"):
            streams.held += frames
            return
        self.outbox += [*frames, *streams.held]
        streams.held = []


class Streams:
    """The websockets of one exchange."""

    def __init__(
        self,
        lock: threading.RLock,
        find: Callable[[str], Account | None],
        connection: Callable[[Streams, Callable[[str], Account | None]], Connection],
    ) -> None:
        self._lock = lock
        self._find = find
        self._connection = connection
        self._faults: dict[str, int | None] = {}
        self._cut = 0
        """How many times all connections were cut."""
        self._abort = False
        self._extra: list[str] = []
        self.held: list[str] = []
        """Frames that wait for the next one."""
        self.snapshots: dict[str, dict[str, tuple[str, str]]] = {}
        self.connections = 0
        """How many are open now."""
        self.made = 0
        """How many were made so far."""
        self.subscriptions = 0
        self.sent = 0
        """How many frames were sent."""
        self.page_rows: int | None = None
        """OKX: so many currencies stand on one page of a snapshot; None: all."""

    def set_fault(self, name: str, times: int | None = None) -> None:
        """From now on this goes wrong; with `times`, only so often. ValueError for an unknown name."""
        if name not in STREAM_FAULTS:
            raise ValueError(f"unknown fault {name!r}; there are: {', '.join(STREAM_FAULTS)}")
        with self._lock:
            self._faults[name] = times

    def mend(self) -> None:
        """End every fault."""
        with self._lock:
            self._faults.clear()

    def cut(self, *, abort: bool = False) -> None:
        """End every connection, with a close frame or without one."""
        with self._lock:
            self._cut += 1
            self._abort = abort

    def send(self, text: str) -> None:
        """Send this frame on every connection."""
        with self._lock:
            self._extra.append(text)

    def take(self, name: str) -> bool:
        """Whether this goes wrong now. Under the lock."""
        left = self._faults.get(name, 0)
        if left is not None and left > 0:
            self._faults[name] = left - 1
        return left is None or left > 0

    def has(self, name: str) -> bool:
        """Whether this goes wrong, without counting it."""
        with self._lock:
            left = self._faults.get(name, 0)
            return left is None or left > 0

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Speak with one client until it leaves."""
        with self._lock:
            self.made += 1
            if self.take("no_handshake"):
                refusal = web.Response(status=503)
                refusal.force_close()  # aiohttp reads no frames after it on the same connection
                return refusal
        socket = web.WebSocketResponse(autoping=True, timeout=0.1)
        await socket.prepare(request)
        with self._lock:
            connection, cut = self._connection(self, self._find), self._cut
            self.connections += 1
        pushing = asyncio.ensure_future(self._push(socket, request, connection, cut))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and not self.has("black_hole"):
                    with self._lock:
                        connection.receive(str(message.data))
        finally:
            pushing.cancel()
            with self._lock:
                self.connections -= 1
        return socket

    async def _push(
        self, socket: web.WebSocketResponse, request: web.BaseRequest, connection: Connection, cut: int
    ) -> None:
        loop = asyncio.get_running_loop()
        beaten_s, said = loop.time(), len(self._extra)
        while True:
            with self._lock:
                if self._cut != cut:
                    break
                silent = self.has("black_hole")
                if not silent:
                    connection.look()
                    connection.outbox += self._extra[said:]
                    said = len(self._extra)
                    if loop.time() - beaten_s >= 1.0:
                        beaten_s = loop.time()
                        connection.outbox += connection.beat()
                frames, connection.outbox = connection.outbox, []
            for frame in frames if not silent else ():
                await socket.send_str(frame)
                self.sent += 1
            await asyncio.sleep(LOOK_S)
        if self._abort and request.transport is not None:
            request.transport.abort()
        else:
            await socket.close(code=1001)


def as_json(value: Mapping[str, Any]) -> str:
    """A frame as the exchanges write it."""
    return json.dumps(value, separators=(",", ":"))
