"""The event loops of a cluster: started, replaced where one hangs, and ended.

`AccountLoop` stands for the loop of some accounts, whichever thread that runs on now. The supervisor asks it
whether it turns, and has it replaced. A loop that hangs cannot be ended: its thread is left behind, its
sockets are touched by no other thread, and it sends nothing when it wakes. A loop of the trader's own is
watched and never replaced, because the trader's own code runs on it.

The loop of the timers runs the supervisor's own rounds. If it ever hangs, each reading expires by itself, and
`brokerwatch.cluster.part_watch` has another one take its place (`brokerwatch.cluster.timer_loop`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, Final

from brokerwatch.actors.protocol import LATE_S
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.gateway.loop import Loop, LoopThread
from brokerwatch.health.reading import ttl_s
from brokerwatch.log import logger

_log: Final = logger(__name__)

Move = Callable[[Loop, LoopThread], "LetGo | None"]
"""Moves the accounts of a loop to another one; None: the cluster is being stopped, and they stay."""

LetGo = Callable[[], Coroutine[Any, Any, None]]
"""Lets go of what belongs to a loop. It runs on that loop."""


class AccountLoop:
    """The event loop of some accounts. Any thread may use it, and one at a time replaces it.

    `take_over` moves its accounts to another loop, before the old one is given up, and gives what lets go of
    what the old one leaves; None: the loop is not ours.
    """

    def __init__(
        self,
        loop: Loop,
        name: str,
        brokers: tuple[str, ...],
        replaced_after_s: float | None,
        take_over: Callable[[AccountLoop, str], bool],
    ) -> None:
        self.loop: Loop = loop
        """The loop that it is now."""
        self.name: Final = name
        self.brokers = brokers
        self.replaced_after_s = replaced_after_s
        self.revoked = ""
        """Why nothing is sent from it any more, whichever loop it is; empty: it may."""
        self._take_over = take_over

    def turned(self) -> bool:
        """Whether it has turned since the last call, which asked it to. Never waits.

        One that was given up never does: it takes no work, although it may wake.
        """
        return self.loop.turned() and not self.loop.lost

    def replace(self, why: str) -> bool:
        """Have another one take its place. False, and nothing has changed, when none can be started."""
        return self._take_over(self, why)

    def revoke(self, why: str) -> None:
        """Send nothing from it any more, nor from one that takes its place. Any thread."""
        self.revoked = self.loop.lease.revoked = why

    def give_up(self, why: str) -> None:
        """Ask nothing on it any more: calls raise at once."""
        self.loop.give_up(why)


class AccountLoops:
    """All event loops of ours in one cluster. Iterating gives those that run, and not the ones left behind.

    `started` and `ending` are for the thread that starts or stops the cluster. The supervisor's thread
    replaces loops. Under `lock` it is decided which accounts are on which loop, by one thread at a time.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self.watched: tuple[AccountLoop, ...] = ()
        """The loops on which accounts are asked, a trader's own among them. Another tuple when that changes,
        or whose accounts they are."""
        self._lock = lock
        self._running: list[LoopThread] = []
        self._left: list[LoopThread] = []
        """Those that hung and were replaced."""

    @property
    def hung(self) -> str:
        """Why accounts are asked no more: their loop hangs and is given up. Empty: none is. Any thread."""
        return next((watched.loop.lost for watched in self.watched if watched.loop.lost), "")

    def __iter__(self) -> Iterator[LoopThread]:
        return iter(tuple(self._running))

    def started(self, name: str) -> LoopThread:
        """Start a loop on a thread of this name. Raises RuntimeError when the system gives no thread, and
        OSError when it gives no descriptor."""
        loop = _started(name)
        self._running.append(loop)
        return loop

    def named(self, name: str) -> LoopThread:
        """The loop that runs on a thread of this name; started where none does. Raises as `started`."""
        return next((loop for loop in self._running if loop.name == name), None) or self.started(name)

    def again(self, old: LoopThread) -> LoopThread:
        """Have another loop of ours take the place of one on which no account is asked. Raises as `started`.

        The caller leaves the old one behind.
        """
        new = _started(old.name)
        self._running[self._running.index(old)] = new
        self._left.append(old)
        return new

    def watch(
        self,
        loops: Mapping[str, Loop],
        specs: Mapping[str, BrokerSpec],
        heartbeat_s: float,
        move: Move,
    ) -> None:
        """Say which loop asks which accounts, from now on.

        Args:
            loops: The loop of each broker, by the broker's name.
            specs: The brokers, by their names.
            heartbeat_s: The heartbeat of the cluster.
            move: Moves the accounts of a loop to another one, and gives what lets go of what they leave.
        """
        known = {place.loop: place for place in self.watched}
        # One of ours that has no accounts now may have some again.
        brokers: dict[Loop, list[str]] = {loop: [] for loop in known if isinstance(loop, LoopThread)}
        for broker, loop in loops.items():
            brokers.setdefault(loop, []).append(broker)

        def take_over(place: AccountLoop, why: str) -> bool:
            return self._replace(place, why, move)

        def watched(loop: Loop, names: list[str]) -> AccountLoop:
            ours = isinstance(loop, LoopThread)
            # What a callable of the trader's does within its deadline is not held against it.
            own_s = [specs[name].fetch_deadline_s + LATE_S for name in names if specs[name].fetch]
            replaced_after_s = max([ttl_s(heartbeat_s), *own_s]) if ours else None
            place = known.get(loop)
            if place is None:
                name = loop.name if isinstance(loop, LoopThread) else "your own"
                return AccountLoop(loop, name, tuple(names), replaced_after_s, take_over)
            place.brokers, place.replaced_after_s = tuple(names), replaced_after_s
            return place

        self.watched = tuple(watched(loop, names) for loop, names in brokers.items())

    def _replace(self, place: AccountLoop, why: str, move: Move) -> bool:
        with self._lock:
            old = place.loop
            if not isinstance(old, LoopThread):
                return False
            try:
                new = _started(place.name)
            except (RuntimeError, OSError) as error:  # no thread, or no descriptor
                _log.error("no event loop could be started in place of the one that hangs: %s", error)
                return False
            # First, so that nothing goes out of both.
            old.lease.revoked = why
            new.lease.revoked = place.revoked
            let_go = move(old, new)
            if let_go is None:
                new.stop(0.0)
                return False
            place.loop = new
            self._running[self._running.index(old)] = new
            self._left.append(old)
        # Last, because its callers may ask again at once.
        old.leave_behind(why, let_go)
        return True

    def ending(self) -> Iterator[tuple[str, Callable[[float], bool]]]:
        """The steps in which they end, with their names: in the reverse of the order in which they began."""
        for loop in reversed(self._running):
            yield loop.name, loop.stop
        for loop in self._left:
            # If it ever woke, it has ended by itself; else there is nothing to wait for.
            yield f"{loop.name}, which hung", partial(_ended_by_itself, loop)


def _ended_by_itself(loop: LoopThread, _: float) -> bool:
    return loop.ended


def _started(name: str) -> LoopThread:
    loop = LoopThread(name)
    try:
        loop.start()
    except BaseException:
        loop.stop(0.0)
        raise
    return loop
