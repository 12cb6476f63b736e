"""One watched state of a guarded instance: its stream, the reads that follow it, and the calls that wait.

The stream says when to read; only what was read is returned. Reads are made while a call waits, by one task
of the feed, so a call that is cancelled cancels no other. What came while no call waited is read when the
next one comes. A feed for which no call has come for `IDLE_S` ends, and begins anew with the next.

All of a feed is used on one event loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from brokerwatch.clock import Instant
from brokerwatch.dropin.errors import CCXT, StreamLost, Unproven, unproven
from brokerwatch.dropin.last_known import Watch
from brokerwatch.dropin.owner_stream import MakeStream, OwnerStream, budget_of
from brokerwatch.dropin.read_plan import AGAIN_S, ReadPlan
from brokerwatch.dropin.readers import ALL, Reader, Readers, Wanted
from brokerwatch.errors import CouldNotAsk
from brokerwatch.exchanges.rate_limit import RateLimiter
from brokerwatch.health.push import Connecting, Lost, PushWatch, Refused, StreamEvent
from brokerwatch.log import logger
from brokerwatch.messages import Fault, FaultKind

T = TypeVar("T")
_log: Final = logger(__name__)

IDLE_S: Final = 600.0
"""A feed ends so long after its newest call."""
WITHOUT_S: Final = 20.0
"""A call waits so long without a stream. Longer than any connection and its acknowledgement take."""
STEADY_S: Final = 5.0
"""A connection that lasted for so long was there, although no change came by it."""
ASK_AGAIN_S: Final = 60.0
"""A call for a stream that was refused so long ago has it tried again."""

Outcome = Callable[[], Any]
"""Gives what a call returns, or raises what it raises. Each call has one of its own."""


class Feed(ABC):
    """One kind of state for all callers. A subclass defines how it is read, and what is new to a caller."""

    ours: type[CouldNotAsk] = Unproven
    """What is raised."""

    def __init__(self, watch: Watch, make_stream: MakeStream, *, acknowledges: bool) -> None:
        """`acknowledges`: whether the stream says that its subscription was accepted before a change."""
        self.watch = watch
        self.readers = Readers()
        self.push = PushWatch()
        self.plan = ReadPlan(RateLimiter(budget_of(watch)))
        self.loop = asyncio.get_running_loop()
        self._make_stream = make_stream
        self._acknowledges = acknowledges
        self._stream: OwnerStream | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._waiting: dict[object, float] = {}
        """The calls that wait, and when each began, in monotonic seconds."""
        self._idle_since_s = watch.clock.up_s()
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        """Set and replaced with each outcome."""
        self._failure: tuple[float, Outcome] | None = None
        """The newest failure, and when it was, in monotonic seconds."""
        self._refusal: tuple[Instant, CouldNotAsk] | None = None
        """When the stream was refused, and how; None: it is not."""
        self._connecting_s = float("-inf")
        """When the newest connection was begun, in monotonic seconds."""
        self._without_s = float("-inf")
        """Since when there is no stream, in monotonic seconds."""
        self._losses = 0
        """So many attempts to have it failed one after the other."""
        self._lost_why = ""
        self._closed = False

    # --- for a subclass --------------------------------------------------------------------------------

    @abstractmethod
    async def read(self) -> Outcome | None:
        """Read the state once. Returns the failure that the calls which wait are given; None: it was read."""

    @abstractmethod
    def news_for(self, reader: Reader, began: Instant) -> Outcome | None:
        """What a call that began then returns of what is read; None: nothing that the reader has not had."""

    @abstractmethod
    def heard(self, event: StreamEvent) -> None:
        """Take what the stream said, before it is acted upon."""

    def lost(self, fault: Fault) -> Outcome:
        """What calls are given that wait while the stream cannot be had."""
        return self._raises(fault, StreamLost(fault.detail))

    @property
    @abstractmethod
    def every_s(self) -> float:
        """How often the state is read while a call waits, whatever the stream says, in seconds."""

    @property
    @abstractmethod
    def version(self) -> int:
        """The version of the newest state."""

    @property
    def vouched_s(self) -> float:
        """For so many seconds after a read the stream vouches for what was read; 0: it does not."""
        if self.push.acknowledged is None or self.push.wanted is not None:
            return 0.0
        age_s, longest_s = self.watch.clock.up_s() - self.plan.asked_s, self.watch.max_age_s
        if longest_s is not None and age_s > longest_s:
            return 0.0
        return 0.0 if self.push.sets and not self.push.live else self.every_s

    def refrain(self, fault: Fault | None) -> None:
        """A read failed: ask no sooner than the exchange says."""
        if fault is not None and (fault.kind is FaultKind.RATE_LIMITED or fault.retry_after_s > 0):
            self.plan = self.plan.refused(self.watch.clock.up_s(), fault.retry_after_s)

    def is_current(self, asked: Instant, began: Instant) -> bool:
        """Whether what was asked for then answers a call that began then."""
        return asked.up_s >= began.up_s or self.watch.clock.up_s() - asked.up_s < self.vouched_s

    @property
    def is_idle(self) -> bool:
        """Whether no call waits."""
        return not self._waiting

    # --- calls -----------------------------------------------------------------------------------------

    async def next(self, task: asyncio.Task[Any] | None, wanted: Wanted = ALL) -> Any:
        """Wait for what the caller has not had yet."""
        if self._closed:
            raise closed_by_user(self.watch.owner.id)
        began, token = self.watch.clock.now(), object()
        reader = self.readers.of(task, wanted, self.version)
        call = replace(reader)  # calls of one task that wait at once are given the same
        self._begin()
        self._waiting[token] = began.up_s
        self._wake.set()
        try:
            await self._told_before(reader)
            while True:
                if self._closed:
                    raise closed_by_user(self.watch.owner.id)
                found = self._found(call, began)
                if found is not None:
                    reader.had(call)
                    return found()
                await self._news.wait()
        finally:
            del self._waiting[token]
            self._idle_since_s = self.watch.clock.up_s()
            self._wake.set()

    async def _told_before(self, reader: Reader) -> None:
        """A caller that has been told of a refusal is not told again at once: it may call in a loop."""
        if self._refusal is None or reader.refusal is not self._refusal:
            return
        if self.watch.clock.up_s() - self._refusal[0].up_s >= ASK_AGAIN_S and self._stream is not None:
            self._refusal = None
            self._stream.reconnect()
            return
        await asyncio.sleep(AGAIN_S)

    def _found(self, reader: Reader, began: Instant) -> Outcome | None:
        if self._refusal is not None:
            reader.refusal, reader.failed = self._refusal, True
            return self._raises(self._refusal[1].fault, self._refusal[1])
        found = self.news_for(reader, began)
        if found is not None:
            return found
        if self._failure is not None and self._failure[0] >= began.up_s:
            reader.failed = True
            return self._failure[1]
        return None

    def _raises(self, fault: Fault, error: Exception) -> Outcome:
        def outcome() -> Any:
            raise unproven(self.watch.owner.id, error, fault, self.ours)

        return outcome

    # --- its tasks -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._tasks:
            return
        self.push, self.plan = PushWatch(), ReadPlan(self.plan.limiter)
        self._refusal = self._failure = None
        stream = self._stream = self._make_stream(self._say)
        self._tasks = (self.loop.create_task(self._stream_on(stream)), self.loop.create_task(self._follow()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _cancel(self) -> tuple[asyncio.Task[None], ...]:
        """End its tasks, and return them. The next call begins anew."""
        ended, self._tasks = self._tasks, ()
        for task in ended:
            task.cancel()
        return ended

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task ended by itself: calls that wait must not wait for ever."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        _log.error("%s: what follows its stream has ended", self.watch.owner.id, exc_info=error)
        self._cancel()
        fault = Fault(FaultKind.CLIENT_BUG, type(error).__name__)
        self._fail(self._raises(fault, CCXT.ExchangeError(fault.detail)))

    async def close(self) -> None:
        """End it. Calls that wait raise."""
        self._closed = True
        self._tell()
        await asyncio.gather(*self._cancel(), return_exceptions=True)

    async def _stream_on(self, stream: OwnerStream) -> None:
        await stream.run()
        # It is off, since it was wrong too often: what is read counts alone.
        await asyncio.Event().wait()

    async def _follow(self) -> None:
        while True:
            now = self.watch.clock.now()
            if self.push.due(now):
                self.push = self.push.trusted_again(now)
                if self._stream is not None:
                    self._stream.reconnect()
            if not self._waiting:
                left_s = self._idle_since_s + IDLE_S - now.up_s
                if left_s <= 0:
                    self._cancel()
                    return
                await self._sleep(left_s)
                continue
            without_s = self._without_until_s() - now.up_s
            if without_s <= 0:
                why = self._lost_why or "nothing is answered"
                self._fail(self.lost(Fault(FaultKind.NETWORK, f"the stream cannot be had: {why}")))
                continue
            wait_s = self._due_s() - now.up_s
            if wait_s > 0:
                await self._sleep(min(wait_s, without_s))
                continue
            self.plan = self.plan.began(now.up_s)
            try:
                failure = await self.read()
            except Exception as error:  # noqa: BLE001 - a call that waits must not wait for ever
                _log.exception("%s: a read after a push went wrong", self.watch.owner.id)
                failure = self._raises(Fault(FaultKind.CLIENT_BUG, type(error).__name__), error)
            if failure is not None:
                self.plan = self.plan.ended(None, self.watch.clock.up_s())
                self._fail(failure)
            self.plan = self.plan.wanted(self.push, self.watch.clock.up_s())
            self._tell()

    def _without_until_s(self) -> float:
        """Until when a call waits without a stream, in monotonic seconds."""
        if not self._acknowledges or self.push.acknowledged is not None or self.push.off:
            return float("inf")
        failed_s = float("-inf") if self._failure is None else self._failure[0]
        return max(failed_s, self._without_s, min(self._waiting.values())) + WITHOUT_S

    def _due_s(self) -> float:
        if self._refusal is not None:
            return float("inf")
        if self._acknowledges and self.push.acknowledged is None and self.plan.ended_s == float("-inf"):
            return float("inf")  # the first answer follows the acknowledgement, or the loss of the connection
        needed_s = float("-inf") if self.vouched_s else max(self._waiting.values(), default=float("-inf"))
        return self.plan.due_s(needed_s, self.every_s)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(None if seconds == float("inf") else max(0.001, seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _say(self, event: StreamEvent) -> None:
        """What the stream says."""
        now, before = self.watch.clock.now(), self.push
        self.heard(event)
        self.push = before.heard(event, now)
        self.plan = self.plan.wanted(self.push, now.up_s)
        if before.acknowledged is not None and self.push.acknowledged is None:
            self._without_s = now.up_s
        match event:
            case Refused(why=why):
                kind = FaultKind.PERMISSION if "ermission" in why else FaultKind.AUTH
                fault = Fault(kind, f"the stream is refused: {why}")
                self._refusal = now, unproven(self.watch.owner.id, _refused(kind, why), fault, self.ours)
                self._tell()
            case Lost(why=why):
                lasted_s = now.up_s - self._connecting_s
                was_up = before.acknowledged is not None or (not self._acknowledges and lasted_s > STEADY_S)
                self._lost_why = why
                self._losses = 0 if was_up else self._losses + 1
                # It was there, so one failed attempt to have it again says nothing yet.
                if self._losses >= (1 if self._without_s == float("-inf") else 2):
                    self._fail(self.lost(Fault(FaultKind.NETWORK, f"the stream cannot be had: {why}")))
            case Connecting():
                self._connecting_s = now.up_s
            case _:
                self._refusal = None
        self._wake.set()

    def _fail(self, outcome: Outcome) -> None:
        self._failure = self.watch.clock.up_s(), outcome
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def closed_by_user(exchange: str) -> Exception:
    """What a call raises that waits while its instance is closed."""
    found: Exception = CCXT.ExchangeClosedByUser(f"{exchange}: closed by the user")
    return found


def _refused(kind: FaultKind, why: str) -> Exception:
    found: Exception = getattr(
        CCXT, "PermissionDenied" if kind is FaultKind.PERMISSION else "AuthenticationError"
    )(why)
    return found
