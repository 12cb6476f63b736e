"""Callbacks and iterators over the changes of readings, each on a thread or loop of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Final

from brokerwatch.clock import Clock, SystemClock
from brokerwatch.errors import ClusterStopped
from brokerwatch.health.changes import NEVER_S, Change, PendingChanges
from brokerwatch.messages import Reading

_log: Final = logging.getLogger(__name__)


class _Subscription:
    """One callback, by itself: the same function may be subscribed twice."""

    __slots__ = ("active", "callback", "ended", "failure")

    def __init__(self, callback: Callable[[Change], object], ended: Callable[[], object]) -> None:
        self.callback = callback
        self.ended = ended
        self.active = True
        self.failure = ""

    def tell(self, change: Change) -> None:
        try:
            self.callback(change)
        except BaseException as error:  # noqa: BLE001 - one trader's callback must not silence all the others
            failure = f"{type(error).__name__}: {error}"
            if failure != self.failure:  # the same again would fill his log, and says nothing new
                _log.exception("a callback for changes raised, and stays subscribed (%s)", change.broker)
            self.failure = failure
        else:
            self.failure = ""


class ChangeDispatcher:
    """The dispatcher: `put` from any thread, and one daemon thread that calls whoever subscribed.

    `readings` gives what stands when the first one subscribes, so that a reading which nobody ever renews is
    told too. It must take no lock under which somebody calls `put`.
    """

    def __init__(
        self, clock: Clock | None = None, *, readings: Callable[[], Iterable[Reading]] = tuple
    ) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._readings = readings
        self._changed = threading.Condition(threading.Lock())
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._listening = False
        self._closed = False
        self._untold = PendingChanges()
        self._thread: threading.Thread | None = None

    def put(self, before: Reading, after: Reading) -> None:
        """A reading took the place of another. Never waits and never raises; nearly free when nobody listens.

        To be called for renewals too, and in the order of the writing: so under the lock of whoever writes.
        """
        if not self._listening:
            return
        with self._changed:
            if self._listening and self._untold.put(before, after):
                self._changed.notify()

    def subscribe(self, callback: Callable[[Change], object]) -> Callable[[], None]:
        """Call `callback` with every change from now on; the thread is started by the first who asks.

        Changes are told one after the other, and a callback that takes long delays all the others. One that
        raises is logged and stays subscribed. Returns what ends the subscription: it may be called from
        any thread, within the callback, and twice. It never waits, so a call that was under way at that
        moment still ends; no later change is told. Raises ClusterStopped after `close`.
        """
        return self._subscribe(callback, _nothing)

    async def stream(self) -> AsyncGenerator[Change, None]:
        """Every change from the first `async for` on, in the running loop, which never waits for anybody.

        While the reader is slow, each broker's changes are joined as for a callback. Ends after `close`.
        Leaving the loop, a cancellation or `aclose()` end the subscription.
        """
        loop = asyncio.get_running_loop()
        stirred = asyncio.Event()
        lock = threading.Lock()
        untold = PendingChanges()
        over = False

        def stir() -> None:
            try:
                loop.call_soon_threadsafe(stirred.set)
            except RuntimeError:  # the loop was closed under its reader: nobody is left to be told
                unsubscribe()

        def tell(change: Change) -> None:
            with lock:
                alone = not len(untold)
                waits = untold.change(change.before, change.after)
            if waits and alone:
                stir()

        def end() -> None:
            nonlocal over
            over = True
            stir()

        unsubscribe = self._subscribe(tell, end)
        try:
            while True:
                stirred.clear()
                ended = over  # asked before what waits, or the last change might be left
                with lock:
                    change = untold.take()
                if change is not None:
                    yield change
                elif ended:
                    return
                else:
                    await stirred.wait()
        finally:
            unsubscribe()

    def close(self, deadline_s: float = 1.0) -> bool:
        """Tell what still waits, and end. False when a callback hangs: its thread is left behind.

        May be called twice, and within a callback, where it waits for nobody and returns False.
        """
        with self._changed:
            self._closed = True
            self._listening = False
            self._changed.notify()
            thread = self._thread
        if thread is threading.current_thread():
            return False
        if thread is not None:
            thread.join(deadline_s)
        self._end()
        return thread is None or not thread.is_alive()

    def _subscribe(
        self, callback: Callable[[Change], object], ended: Callable[[], object]
    ) -> Callable[[], None]:
        subscription = _Subscription(callback, ended)
        with self._changed:
            if self._closed:
                raise ClusterStopped("no change is told any more: whoever watched has stopped")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="brokerwatch-changes", daemon=True)
                thread.start()
                self._thread = thread
            if not self._listening:
                # First listen, then look: what is written meanwhile waits at the lock and comes after.
                self._listening = True
                now = self._clock.now()
                for reading in self._readings():
                    self._untold.learn(reading, now)
            self._subscriptions = (*self._subscriptions, subscription)
            self._changed.notify()
        return lambda: self._unsubscribe(subscription)

    def _unsubscribe(self, subscription: _Subscription) -> None:
        with self._changed:
            subscription.active = False
            self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)
            if not self._subscriptions:
                self._listening = False
                self._untold = PendingChanges()

    def _run(self) -> None:
        try:
            while (following := self._next()) is not None:
                change, subscriptions = following
                for subscription in subscriptions:
                    if subscription.active:
                        subscription.tell(change)
        finally:
            self._end()

    def _next(self) -> tuple[Change, tuple[_Subscription, ...]] | None:
        """Wait for the next change, and who is to be told; None at the end."""
        with self._changed:
            while True:
                now = self._clock.now()
                self._untold.expire(now)
                change = self._untold.take()
                if change is not None:
                    return change, self._subscriptions
                if self._closed:
                    return None
                wait_s = self._untold.next_expiry_s - now.up_s
                self._changed.wait(None if wait_s == NEVER_S else min(wait_s, threading.TIMEOUT_MAX))

    def _end(self) -> None:
        with self._changed:
            ended, self._subscriptions = self._subscriptions, ()
            self._listening = False
        for subscription in ended:
            subscription.active = False
            subscription.ended()


def _nothing() -> None:
    """Nobody wants to know of the end."""
