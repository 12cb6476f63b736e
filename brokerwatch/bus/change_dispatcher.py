"""Hands each change of a reading to callbacks, on one thread, and to async iterators in their own loops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Final

from brokerwatch.bus.revival import Revival
from brokerwatch.bus.turning import HUNG_S
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.errors import ClusterStopped
from brokerwatch.health.changes import NEVER_S, Change, PendingChanges
from brokerwatch.log import logger
from brokerwatch.messages import Reading

_log: Final = logger(__name__)

NAME: Final = "brokerwatch-changes"


class _Subscription:
    """One subscription. It is compared by identity, since the same function may be subscribed twice."""

    __slots__ = ("active", "callback", "ended", "failure", "late", "renewals")

    def __init__(
        self, callback: Callable[[Change], object], ended: Callable[[], object], *, renewals: bool
    ) -> None:
        self.callback = callback
        self.ended = ended
        self.renewals = renewals
        self.active = True
        self.failure = ""
        self.late: PendingChanges | None = None
        """The changes that came while its callback hung; None: it does not."""

    def tell(self, change: Change) -> None:
        try:
            self.callback(change)
        except BaseException as error:  # noqa: BLE001 - one callback of the trader must not silence all the others
            failure = f"{type(error).__name__}: {error}"
            if failure != self.failure:  # the same error again would fill the log
                _log.exception("a callback for changes raised, and stays subscribed (%s)", change.broker)
            self.failure = failure
        else:
            self.failure = ""


class ChangeDispatcher:
    """Hands changes to subscribers. `put` is for any thread; one daemon thread calls the callbacks.

    `readings` gives the readings at the moment of the first subscription, so that the expiry of a reading
    that is never renewed is a change too. It must take no lock under which `put` is called.
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
        self._pending = PendingChanges()
        self._calls: deque[tuple[_Subscription, Change]] = deque()
        """Which subscriptions have yet to get the newest change."""
        self._called: tuple[_Subscription, float] | None = None
        """Whose callback runs, and since which monotonic second; None: none does."""
        self._left: list[threading.Thread] = []
        """Threads whose callback hung, and whose place another one has taken."""
        self._revival = Revival(NAME)
        self._thread: threading.Thread | None = None

    def put(self, before: Reading, after: Reading) -> None:
        """Note that `after` replaced `before`. Never waits, never raises; nearly free without a subscriber.

        It is to be called for renewals too, and in the order of the writing: under the lock of the writer.
        """
        if not self._listening:
            return
        with self._changed:
            if self._listening and self._pending.put(before, after):
                self._changed.notify()

    def subscribe(
        self, callback: Callable[[Change], object], *, renewals: bool = False
    ) -> Callable[[], None]:
        """Call `callback` with every change from now on. The first subscription starts the thread.

        The callbacks are called one after the other: a slow one delays the others. One that raises is
        logged and stays subscribed.

        Args:
            callback: called with each change.
            renewals: call it for each poll too that found nothing new.

        Returns:
            A function that ends the subscription. It may be called from any thread, within the callback,
            and twice. It never waits: a call that is under way at that moment runs to its end, and no
            other follows.

        Raises:
            ClusterStopped: `close` was called before.
        """
        return self._subscribe(callback, _nothing, renewals=renewals)

    async def stream(self, *, renewals: bool = False) -> AsyncGenerator[Change, None]:
        """Iterate over every change from the first `async for` on, in the running event loop.

        The dispatcher never waits for the reader. While the reader is slow, the changes of each broker are
        joined, as for a callback. The iterator ends after `close`. Leaving the `async for`, a cancellation
        or `aclose()` end the subscription.

        Args:
            renewals: give each poll too that found nothing new.
        """
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        lock = threading.Lock()
        pending = PendingChanges(renewals=renewals)
        over = False

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(ready.set)
            except RuntimeError:  # the loop was closed under its reader, so there is no reader any more
                unsubscribe()

        def tell(change: Change) -> None:
            with lock:
                alone = not len(pending)
                waits = pending.change(change.before, change.after)
            if waits and alone:
                wake()

        def end() -> None:
            nonlocal over
            over = True
            wake()

        unsubscribe = self._subscribe(tell, end, renewals=renewals)
        try:
            while True:
                ready.clear()
                ended = over  # read before `pending`, or the last change might be left in it
                with lock:
                    change = pending.take()
                if change is not None:
                    yield change
                elif ended:
                    return
                else:
                    await ready.wait()
        finally:
            unsubscribe()

    def close(self, deadline_s: float = 1.0) -> bool:
        """Hand out what still waits, and end the thread.

        It may be called twice, and within a callback, where it does not wait.

        Returns:
            False when a callback did not end within `deadline_s`, or when it was called within a callback.
            The thread is left behind.
        """
        with self._changed:
            self._closed = True
            self._listening = False
            self._changed.notify()
            self._revival.end()
            thread = self._thread
        if thread is threading.current_thread():
            return False
        if thread is not None:
            thread.join(deadline_s)
        self._end()
        return thread is None or not any(each.is_alive() for each in (thread, *self._left))

    def fault(self) -> str:
        """What is wrong with its thread; empty where nothing is. Any thread."""
        thread, called = self._thread, self._called
        if thread is None or self._closed:
            return ""
        if not thread.is_alive():
            return f"{NAME} has ended by an error"
        if called is None or time.monotonic() - called[1] <= HUNG_S:
            return ""
        name = getattr(called[0].callback, "__qualname__", repr(called[0].callback))
        return f"a callback has not returned for {HUNG_S:g} s: {name}"

    def replace(self) -> None:
        """Have another thread call the other callbacks. The one that hangs catches up when it returns."""
        with self._changed:
            if self._closed or self._thread is None or self._called is None:
                return
            subscription = self._called[0]
            subscription.late = PendingChanges(renewals=subscription.renewals)
            self._left = [*(each for each in self._left if each.is_alive()), self._thread]
            self._called = None
            self._begin()

    def _subscribe(
        self, callback: Callable[[Change], object], ended: Callable[[], object], *, renewals: bool
    ) -> Callable[[], None]:
        subscription = _Subscription(callback, ended, renewals=renewals)
        with self._changed:
            if self._closed:
                raise ClusterStopped("there are no more changes: the cluster or the listener has stopped")
            if self._thread is None:
                self._begin()
            if not self._listening:
                # First listen, then read: a `put` that comes meanwhile waits at the lock and comes after.
                self._listening = True
                now = self._clock.now()
                for reading in self._readings():
                    self._pending.learn(reading, now)
            self._subscriptions = (*self._subscriptions, subscription)
            self._pending.renewals = self._pending.renewals or renewals
            self._changed.notify()
        return lambda: self._unsubscribe(subscription)

    def _unsubscribe(self, subscription: _Subscription) -> None:
        with self._changed:
            subscription.active = False
            self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)
            if not self._subscriptions:
                self._listening = False
                self._pending = PendingChanges()
            else:
                self._pending.renewals = any(one.renewals for one in self._subscriptions)

    def _begin(self) -> None:
        """Start the thread. Under the lock, at which it waits first."""
        thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._thread = thread
        thread.start()

    def _run(self) -> None:
        try:
            self._revival.run(self._work)
        finally:
            if self._has_place():
                self._end()

    def _has_place(self) -> bool:
        """Whether no other thread has taken the place of this one."""
        return self._thread is threading.current_thread()

    def _work(self) -> None:
        while (call := self._next_call()) is not None:
            subscription, change = call
            subscription.tell(change)
            with self._changed:
                if self._has_place():
                    self._called = None
                    continue
            self._catch_up(subscription)

    def _catch_up(self, subscription: _Subscription) -> None:
        """Hand out what came while the callback hung, on the thread that was left behind with it."""
        while True:
            with self._changed:
                change = None if subscription.late is None else subscription.late.take()
                if change is None or not subscription.active:
                    subscription.late = None
                    return
            subscription.tell(change)

    def _next_call(self) -> tuple[_Subscription, Change] | None:
        """Wait for the next call of a callback; None at the end, or where another thread has the place."""
        while True:
            with self._changed:
                if not self._has_place():
                    return None
                while self._calls:
                    subscription, change = self._calls.popleft()
                    # It may have waited for a subscription that asked for renewals.
                    if not subscription.active or (change.renewal and not subscription.renewals):
                        continue
                    if subscription.late is not None:
                        subscription.late.change(change.before, change.after)
                        continue
                    self._called = subscription, time.monotonic()
                    return subscription, change
            following = self._next()
            if following is None:
                return None
            change, subscriptions = following
            self._calls.extend((each, change) for each in subscriptions)

    def _next(self) -> tuple[Change, tuple[_Subscription, ...]] | None:
        """Wait for the next change, and the subscriptions at that moment; None at the end."""
        with self._changed:
            while self._has_place():
                now = self._clock.now()
                self._pending.expire(now)
                change = self._pending.take()
                if change is not None:
                    return change, self._subscriptions
                if self._closed:
                    return None
                wait_s = self._pending.next_expiry_s - now.up_s
                self._changed.wait(None if wait_s == NEVER_S else min(wait_s, threading.TIMEOUT_MAX))
            return None

    def _end(self) -> None:
        with self._changed:
            ended, self._subscriptions = self._subscriptions, ()
            self._listening = False
        for subscription in ended:
            subscription.active = False
            subscription.ended()


def _nothing() -> None:
    """A callback needs no notice of the end."""
