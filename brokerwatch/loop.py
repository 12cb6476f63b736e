"""An asyncio loop on a thread of its own, and timers on it.

Everything on a loop belongs to its thread. Other threads hand work over and never touch what is
inside. The timers have a loop apart from the fetches, so that a trader's own callable which
blocks its loop cannot stop the heartbeats of everybody else.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")


class Loop:
    """A loop that runs somewhere: on a thread of ours, or in the trader's program as long as he lets it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.asyncio_loop = loop
        self.runs: set[Run] = set()
        """What was started and has not ended; for `Run` alone."""
        self._handed: deque[Run] = deque()
        self._woken = False
        self.places = Places(loop)
        """For what everybody does at once."""
        self.pulse = Pulse(loop)
        """Whether the loop itself is late."""

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop, from any thread. Raises RuntimeError once the loop is closed."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self.asyncio_loop)
        except RuntimeError:
            work.close()
            raise

    def hand_over(self, work: Coroutine[Any, Any, None]) -> Run:
        """The same for work that says by itself how it ended. Raises RuntimeError once the loop is closed."""
        run = Run(self, work)
        if _running_loop() is self.asyncio_loop:
            run.begin()  # no need to wake ourselves through a socket
            return run
        self._handed.append(run)
        # Once for all that comes until it is awake; but a loop that is closed wakes no more.
        if not self._woken or self.asyncio_loop.is_closed():
            self._woken = True
            try:
                self.asyncio_loop.call_soon_threadsafe(self._begin)
            except RuntimeError:
                with contextlib.suppress(IndexError):  # another thread may have taken the last one
                    while self._handed:
                        self._handed.popleft().drop()
                raise
        return run

    def _begin(self) -> None:
        self._woken = False  # first: what comes from now on wakes us again
        while self._handed:
            self._handed.popleft().begin()

    def call(self, function: Callable[[], object]) -> None:
        """Run a function on the loop soon, from any thread; forgotten once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.asyncio_loop.call_soon_threadsafe(function)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Run:
    """A coroutine that was handed to a loop. A future for its result would cost a third of a short fetch."""

    __slots__ = ("_cancelled", "_loop", "_task", "_work")

    def __init__(self, loop: Loop, work: Coroutine[Any, Any, None]) -> None:
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False

    def begin(self) -> None:
        """Begin, on the loop's thread, unless it was cancelled meanwhile."""
        if self._cancelled:
            self._work.close()
        else:
            self._task = self._loop.asyncio_loop.create_task(self._kept())

    def drop(self) -> None:
        """It will never begin."""
        self._work.close()

    async def _kept(self) -> None:
        # The loop itself holds its tasks weakly.
        self._loop.runs.add(self)
        try:
            await self._work
        finally:
            self._loop.runs.discard(self)

    def cancel(self) -> None:
        """Give it up, from any thread; nothing when it has ended."""
        self._cancelled = True
        self._loop.call(self._end)

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()


AT_ONCE: Final = 32
"""Fetches of one loop that are under way at once. Five thousand that start together take some seconds of CPU;
if all began at once, all would get their answer at the end, after their deadline."""
SHORT_S: Final = 0.05
"""Who has a place for longer waits for the exchange and costs the loop nothing: it gives its place back …"""
LONG_S: Final = 0.5
"""… or, if the loop is busy, after this long, whatever it waits for: exchanges that hang hold up nobody."""
BUSY_S: Final = 0.02
"""A loop that is so late has enough to do."""
TRIFLE_S: Final = 0.001


class Places:
    """A limit on what is under way on one loop at once: in the order of coming, on the loop's thread alone.

    It is there for the loop's own sake. What only waits for an answer does not need it, so a place is for
    a short time; but as long as the loop is busy nobody knows who waits and who is not served.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._taken: dict[int, float] = {}
        """Ticket to the time since when; the oldest first."""
        self._newest = 0
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        """Armed as long as somebody waits."""

    async def take(self, wait_s: float) -> int:
        """Take a place: a ticket, to be given back. Raises TimeoutError when none is free for `wait_s`."""
        if not self._waiting and len(self._taken) < AT_ONCE:
            return self._ticket()
        mine: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append(mine)
        self._watch(self._loop.time())
        try:
            async with asyncio.timeout(wait_s):
                return await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self.give_back(mine.result())  # it came just when nobody wanted it any more
            elif mine in self._waiting:
                self._waiting.remove(mine)
            raise

    def give_back(self, ticket: int) -> None:
        """Give a place back. One that was taken away by its age is nobody's already."""
        self._taken.pop(ticket, None)
        self._admit()

    def _ticket(self) -> int:
        self._newest += 1
        self._taken[self._newest] = self._loop.time()
        return self._newest

    def _admit(self) -> None:
        while self._waiting and len(self._taken) < AT_ONCE:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(self._ticket())

    def _watch(self, not_before_s: float) -> None:
        if self._alarm is None and self._waiting:
            oldest_s = next(iter(self._taken.values()))
            at_s = max(oldest_s + SHORT_S, not_before_s)
            self._alarm = self._loop.call_at(at_s, self._look, at_s)

    def _look(self, due_s: float) -> None:
        """Let in who waits, in the places of those that have had theirs for long enough."""
        self._alarm = None
        now_s = self._loop.time()
        busy = now_s - due_s > BUSY_S
        # A timer may come a trifle too early.
        before_s = now_s + TRIFLE_S - (LONG_S if busy else SHORT_S)
        ends = [ticket for ticket, since_s in self._taken.items() if since_s <= before_s]
        for ticket in ends:
            del self._taken[ticket]
        self._admit()
        self._watch(now_s + SHORT_S if busy else now_s)


BEAT_S: Final = 0.25
NOISE_S: Final = 0.05
"""A beat that is no later than this is on time."""


class Pulse:
    """How long a loop was held up: something blocked it, or it had more to do than it can.

    It beats only while somebody listens, and is used on the loop's thread alone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._listeners = 0
        self._beat: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._late_s = 0.0

    def listen(self) -> float:
        """Begin to listen; `held_up_s` counts from what this gives. Each time is ended by `leave`."""
        self._listeners += 1
        if self._beat is None:
            self._next()
        return self._now_late_s()

    def leave(self) -> None:
        """Listen no more."""
        self._listeners -= 1
        if not self._listeners and self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def held_up_s(self, since: float) -> float:
        """Seconds for which the loop did not run since the call of `listen` that gave `since`."""
        return self._now_late_s() - since

    def _now_late_s(self) -> float:
        late_s = self._loop.time() - self._due_s
        return self._late_s + (late_s if late_s > NOISE_S else 0.0)

    def _next(self) -> None:
        self._due_s = self._loop.time() + BEAT_S
        self._beat = self._loop.call_at(self._due_s, self._beaten)

    def _beaten(self) -> None:
        self._late_s = self._now_late_s()
        self._next()


class LoopThread(Loop):
    """A daemon thread that runs an asyncio loop from `start` to `stop`."""

    def __init__(self, name: str) -> None:
        super().__init__(asyncio.new_event_loop())
        self.name = name
        self._loop = self.asyncio_loop
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to run. Once only."""
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                # A task that ignores its cancellation must not keep the process from ending.
                self._loop.run_until_complete(asyncio.wait(left, timeout=1.0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def stop(self, deadline_s: float) -> bool:
        """Cancel what runs and end the thread. False when it has not ended within `deadline_s`."""
        if self._thread.ident is None:
            self._loop.close()
            return True
        self.call(self._loop.stop)
        self._thread.join(deadline_s)
        return not self._thread.is_alive()


SLOT_S: Final = 0.25
"""Long waits end in slots of this length, so that a thousand of them wake the machine four times a second."""
GATHERED_S: Final = 0.9
"""Waits from this length on are gathered: polls and heartbeats. What is quicker answers to a fault."""


class Timers:
    """Calls functions later, on the loop's thread. The functions must be quick: a `tell`.

    Long waits are gathered: they end together, up to a slot later than they were asked for.
    """

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._slots: dict[int, deque[Callable[[], object]]] = {}
        self._done = -1
        """The newest slot that has come."""

    def after(self, delay_s: float, function: Callable[[], object]) -> None:
        """Call `function` after `delay_s` seconds. An infinite delay never comes.

        There is no lock: a thousand actors arm their timers in one moment, and would queue for it. Each
        function is taken out of its slot once, by whoever comes first.
        """
        if delay_s >= float("inf"):
            return
        clock = self._loop.asyncio_loop.time
        if delay_s < GATHERED_S:
            at_s = clock() + max(0.0, delay_s)
            self._loop.call(lambda: self._loop.asyncio_loop.call_at(at_s, function))
            return
        slot = math.ceil((clock() + delay_s) / SLOT_S)
        waiting = self._slots.get(slot)
        if waiting is None:
            # Two that come at once are given one slot; the second of its two alarms finds it empty.
            waiting = found = self._slots.setdefault(slot, deque())
            self._loop.call(lambda: self._loop.asyncio_loop.call_at(slot * SLOT_S, self._due, slot, found))
        waiting.append(function)
        if slot <= self._done:
            # This thread was held up for so long that its slot has passed.
            left = waiting
            self._loop.call(lambda: _drain(left))

    def _due(self, slot: int, waiting: deque[Callable[[], object]]) -> None:
        self._done = max(self._done, slot)
        self._slots.pop(slot, None)
        _drain(waiting)


def _drain(waiting: deque[Callable[[], object]]) -> None:
    while waiting:
        try:
            function = waiting.popleft()
        except IndexError:
            return  # somebody else took the last one
        function()
