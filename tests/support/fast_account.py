"""An account with a stream in fast motion: a day passes in a minute, and no socket and no thread is in it.

The stream, its fold, the inbox, the actor and its desk, the source and the lane of the key are the real ones.
Time is that of a `PushedLoop`. The frames are those of a simulated exchange, over a websocket in memory; a
read answers with what is in the account at that moment.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final

from aiohttp import WSMessage, WSMsgType

from brokerwatch.actors.protocol import Streamed
from brokerwatch.actors.push_inbox import PushInbox
from brokerwatch.clock import Instant, Leads, Limits, ManualClock
from brokerwatch.exchanges.balances import FetchedBalance
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.exchanges.registry import profile_of
from brokerwatch.exchanges.streams import STREAMS
from brokerwatch.gateway.address import Address
from brokerwatch.gateway.async_source import AsyncSource
from brokerwatch.gateway.lane import Lane
from brokerwatch.gateway.loop import Loop
from brokerwatch.gateway.stream import AccountStream
from brokerwatch.health.outcome import Fetching, FetchOutcome
from brokerwatch.messages import Fault, FaultKind, Holding
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx
from brokerwatch.simulator.account import Account
from brokerwatch.simulator.kraken_streams import KrakenConnection
from brokerwatch.simulator.okx_streams import OkxConnection
from brokerwatch.simulator.streams import Connection, Streams
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import KeyState
from tests.support.driven_broker import Driven
from tests.support.pushed_loop import PushedLoop

CONNECT_S: Final = 0.02
ANSWER_S: Final = 0.05
"""How long the exchange takes over a read."""
DEADLINE_S: Final = 8.0
LINES: Final[dict[str, Callable[[Streams, Callable[[str], Account | None]], Connection]]] = {
    "kraken": KrakenConnection,
    "okx": OkxConnection,
}


class FastClock(ManualClock):
    """The time of a pushed loop."""

    def __init__(self, loop: PushedLoop) -> None:
        super().__init__(up_s=loop.time())
        self._loop = loop

    def _follow(self) -> None:
        self.advance(max(0.0, self._loop.time() - super().up_s()))

    def now(self) -> Instant:
        """Where the loop is."""
        self._follow()
        return super().now()

    def up_s(self) -> float:
        """Where the loop is, in monotonic seconds."""
        self._follow()
        return super().up_s()

    def leads(self) -> Leads:
        """The other clocks go as the loop's does."""
        self._follow()
        return super().leads()

    def is_before(self, limits: Limits) -> bool:
        """As `Clock` has it."""
        self._follow()
        return super().is_before(limits)


class Pipe:
    """A websocket in memory, as aiohttp gives one; behind it a line of a simulated exchange."""

    def __init__(self, line: Connection) -> None:
        self.line = line
        self.close_code: int | None = None
        self.is_open = True
        self.wakes = self.sent = 0
        """How often the client looked for a frame, and how many it sent."""
        self._frames: deque[WSMessage] = deque()
        self._came = asyncio.Event()

    def flush(self) -> None:
        """What the exchange has to say is on its way."""
        for frame in self.line.outbox:
            self.put(frame)
        self.line.outbox = []

    def put(self, frame: str, kind: WSMsgType = WSMsgType.TEXT) -> None:
        """A frame comes."""
        self._frames.append(WSMessage(kind, frame, None))
        self._came.set()

    def cut(self) -> None:
        """The exchange ends it."""
        self.close_code = 1001
        self.put("", WSMsgType.CLOSED)

    async def receive(self, timeout: float) -> WSMessage:  # noqa: ASYNC109 - aiohttp has it so
        """The next frame. Raises TimeoutError."""
        self.wakes += 1
        async with asyncio.timeout(timeout):
            while not self._frames:
                self._came.clear()
                await self._came.wait()
        return self._frames.popleft()

    async def send_str(self, text: str) -> None:
        """A frame of the client's."""
        self.sent += 1
        self.line.receive(text)
        self.flush()

    async def close(self) -> None:
        """The client ends it."""
        self.is_open = False


class FastAccount(Driven):
    """One account whose exchange pushes, inside a pushed loop."""

    def __init__(
        self, loop: PushedLoop, exchange_id: str, *, budget: Budget | None = None, **values: Any
    ) -> None:
        self.loop = loop
        self.exchange = SimulatedKraken() if exchange_id == "kraken" else SimulatedOkx()
        self.reads = self.tickets = self.frames = 0
        self.raised: list[BaseException | str] = []
        """What went wrong in the actor, or in whatever else the loop ran; `stop` raises the first of it."""
        loop.set_exception_handler(self._note)
        self.pipe: Pipe | None = None
        self.connects = True
        """Whether a connection can be made."""
        [self.account] = self.exchange._accounts.values()  # pyright: ignore[reportPrivateUsage] - not served
        self.streams = Streams(threading.RLock(), lambda _: self.account, LINES[exchange_id])
        clock = FastClock(loop)
        published = profile_of(exchange_id).budget
        known = budget or published or Budget(1.0, 1.0)
        self.lane = Lane("k", known, clock, Journal(None), KeyState("k"))
        self.lane.join("a", DEADLINE_S, known, Address(clock), 4.0)
        self.source = AsyncSource(
            Loop(loop),
            self.read,
            _explained,
            clock,
            turn=self.lane.turn,
            queue_s=60.0,
            spare_wait_s=self.lane.spare_wait_s,
        )
        super().__init__(clock=clock, **{"poll_interval_s": 10.0, **values})
        inbox: Any = self.actor.actor_inbox
        inbox.give_all()  # this thread takes its messages, and no worker
        self._inbox = PushInbox(self._wake)
        self._stream: asyncio.Task[None] | None = None
        self._exchange_id = exchange_id

    def start(self) -> None:
        """Have the stream."""
        connection: Any = SimpleNamespace(
            instance=SimpleNamespace(session=SimpleNamespace(ws_connect=self._connect)),
            code=str,
            call=self._ticket,
            redacted=str,
        )
        stream = AccountStream(
            STREAMS[self._exchange_id],
            "wss://in.memory",
            self.exchange.credentials,
            connection,
            self.lane,
            self.clock,
            self._inbox.put,
            DEADLINE_S,
            lambda _low, high: high,
        )
        self._stream = asyncio.create_task(stream.run())

    async def stop(self) -> None:
        """Have it no more."""
        if self._stream is not None:
            self._stream.cancel()
            await asyncio.gather(self._stream, return_exceptions=True)
        self.actor.close()
        for error in self.raised:
            raise error if isinstance(error, BaseException) else RuntimeError(error)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.raised.append(context.get("exception") or str(context["message"]))

    # --- the exchange ----------------------------------------------------------------------------------

    def has(self, amounts: dict[str, tuple[str, str]]) -> None:
        """From now on this is in the account: currency to what is free and what is held."""
        self.exchange.set_balance(amounts)

    def push(self, *, beats: bool = False) -> None:
        """The exchange pushes what has changed, and a heartbeat."""
        pipe = self.pipe
        if pipe is not None and pipe.is_open:
            pipe.line.look()
            if beats:
                pipe.line.outbox += pipe.line.beat()
            self.frames += len(pipe.line.outbox)
            pipe.flush()

    async def read(self, deadline_s: float) -> FetchedBalance:
        """What is in the account when the exchange looks."""
        del deadline_s
        self.reads += 1
        await asyncio.sleep(ANSWER_S)
        found = {code: _holding(*held) for code, held in self.account.balance.items()}
        await asyncio.sleep(ANSWER_S)
        return FetchedBalance(found)

    async def _connect(self, url: str, **values: object) -> Pipe:
        del url, values
        await asyncio.sleep(CONNECT_S)
        if not self.connects:
            raise ConnectionRefusedError("503")
        self.pipe = Pipe(LINES[self._exchange_id](self.streams, lambda _: self.account))
        return self.pipe

    async def _ticket(self, method: str) -> dict[str, Any]:
        del method
        self.tickets += 1
        await asyncio.sleep(ANSWER_S)
        return {"error": [], "result": {"token": "made up"}}

    # --- the actor's thread ----------------------------------------------------------------------------

    def fetch(
        self, deadline_s: float, done: Callable[[FetchOutcome], object], *, spare: bool = False
    ) -> Fetching:
        """Ask the source."""

        def told(outcome: FetchOutcome) -> None:
            done(outcome)
            self._pump()

        return self.source.fetch(deadline_s, told, spare=spare)

    def spare_wait_s(self) -> float:
        """As the source has it."""
        return self.source.spare_wait_s()

    def after(self, delay_s: float, function: Any) -> None:
        """A timer."""
        if delay_s < float("inf"):

            def ring() -> None:
                function()
                self._pump()

            self.loop.call_later(delay_s, ring)

    def _wake(self, inbox: PushInbox) -> bool:
        self.loop.call_soon(self.hear, Streamed(inbox))
        return True

    def _pump(self) -> None:
        """What the actor was sent."""
        inbox = self.actor.actor_inbox
        while not inbox.empty():
            self.hear(inbox.get().message)


async def _explained(error: BaseException) -> Fault:
    return Fault(FaultKind.NETWORK, repr(error))


def _holding(free: str, held: str) -> Holding:
    return Holding(free=Decimal(free), used=Decimal(held), total=Decimal(free) + Decimal(held))


def any_amount(chance: random.Random) -> tuple[str, str]:
    """Some amount, with eight digits after the point."""
    return f"{chance.randint(1, 10**6)}.{chance.randint(0, 10**8 - 1):08}", "0"
