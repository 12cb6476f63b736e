"""A thread on which the calls of one synchronous ccxt instance block, one after the other.

Such a call cannot be ended from outside. So each API key has a thread of its own: an instance that hangs
holds up no other, and no call of a key overtakes one that was given up and still goes on. What waited for
the thread until its deadline was never started, and says so: nothing was sent.
The threads are daemons, or one that hangs would keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final

BUSY: Final = "not started: an earlier call on this instance has not ended yet"
STOPPED: Final = "not started: the cluster was stopped"


class NeverStarted(Exception):
    """A call that was not made, so nothing was sent.

    It is what a call raises, or what a cancellation or a `TimeoutError` was raised from.
    """


class CallThread:
    """Runs functions that block, one after another, on a thread of its own.

    The thread begins with the first call. Any thread may close it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._lock = threading.Lock()

    async def run(self, function: Callable[[], Any]) -> Any:
        """What a function that blocks returns or raises. A caller that gives it up while it waits for the
        thread has the cancellation from NeverStarted."""
        call: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise NeverStarted(STOPPED)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
                self._thread.start()
            self._calls.put((call, function))
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            if call.cancel():
                raise asyncio.CancelledError from NeverStarted(BUSY)
            raise

    def close(self) -> None:
        """Begin nothing more. What waits ends with NeverStarted."""
        with self._lock:
            self._closed = True
            while not self._calls.empty():
                waiting = self._calls.get()
                if waiting is not None and waiting[0].set_running_or_notify_cancel():
                    waiting[0].set_exception(NeverStarted(STOPPED))
            self._calls.put(None)

    def ended(self, deadline_s: float) -> bool:
        """Wait for the thread's end. False when it still is in a call."""
        if self._thread is None:
            return True
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (following := self._calls.get()) is not None:
            _do(*following)
            del following  # or it would be held until the next one


def _do(call: Future[Any], function: Callable[[], Any]) -> None:
    if not call.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
        call.set_exception(error)
    else:
        call.set_result(result)
