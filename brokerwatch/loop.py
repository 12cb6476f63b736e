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

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop, from any thread. Raises RuntimeError once the loop is closed."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self.asyncio_loop)
        except RuntimeError:
            work.close()
            raise

    def call(self, function: Callable[[], object]) -> None:
        """Run a function on the loop soon, from any thread; forgotten once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.asyncio_loop.call_soon_threadsafe(function)


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
