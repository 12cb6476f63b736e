"""Threads that the actors of all accounts share, and the inbox of an actor without a thread of its own.

An actor that has messages waits for a turn. A worker gives it one: the actor handles a few messages, and is
behind all others again if it has more. It never has two turns at once, and its messages keep their order.

Not a thread for each account: threads that wake at one moment queue for the interpreter, and each of them
wakes every 5 ms to ask for it. 5,000 threads with 0.35 ms of work each took 14 s and 24 s of CPU, and 2.6 s
where 20 of them woke at a time (CPython 3.11.7, 2 cores). So thousands of accounts that came, beat or went
together held up the renewals of their claims.

A turn that hangs keeps its worker. Where no worker is free and one has been in its turn for `STUCK_S`,
another one takes its place. So there is a free worker for all accounts that do not hang.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Final

NAME: Final = "brokerwatch-accounts"
SIZE: Final = 4
"""Workers that are not stuck. One runs Python at a time; the others may wait for a lock."""
TURN: Final = 8
"""Messages of one turn: an actor with many does not hold up the others."""
STUCK_S: Final = 1.0
"""A handler waits for nothing, so a turn of this length hangs, or the machine is overloaded, where a worker
too many costs little."""


class TurnOver(BaseException):
    """Interrupts the loop of an actor where it would wait for a message, or has handled enough of them."""


class Workers:
    """The threads. Any thread may use it. They end when the last actor has ended."""

    def __init__(self, size: int = SIZE, stuck_s: float = STUCK_S) -> None:
        self._size = size
        self._stuck_s = stuck_s
        self._lock = threading.Lock()
        self._actors = 0
        self._number = 0
        self._ready: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._turns: dict[int, float | None] = {}
        """By worker, since when it is in its turn, in monotonic seconds; None: it is free."""

    def enter(self) -> None:
        """An actor begins. Raises RuntimeError when there is no worker and the system gives no thread."""
        with self._lock:
            if not self._turns:
                self._add()
            self._actors += 1

    def leave(self) -> None:
        """An actor has ended."""
        with self._lock:
            self._actors -= 1
            if self._actors:
                return
            for _ in self._turns:
                self._ready.put(None)
            # One that is stuck takes its end from the old queue, and no turn of an actor to come.
            self._turns, self._ready = {}, queue.SimpleQueue()

    @property
    def is_used(self) -> bool:
        """Whether an actor lives that has its turns here."""
        return self._actors > 0

    def run(self, turn: Callable[[], None]) -> None:
        """Have a worker run this soon. Never waits."""
        self._ready.put(turn)
        self.relieve()

    def relieve(self) -> None:
        """Start another worker where a turn waits and too few workers go on. Never waits."""
        if not self._ready.empty() and not self._suffices():
            with self._lock:
                if self._actors and not self._suffices():
                    self._add_if_possible()

    def _suffices(self) -> bool:
        """Whether a worker is free, or enough of them are in turns that are not too long."""
        since = tuple(self._turns.values())
        return None in since or self._going(since) >= self._size

    def _going(self, since: Collection[float | None]) -> int:
        """How many of these are not stuck."""
        stuck_s = time.monotonic() - self._stuck_s
        return sum(at is None or at > stuck_s for at in since)

    def _add_if_possible(self) -> None:
        try:
            self._add()
        except RuntimeError:  # the system gives no thread; the workers that there are come to it later
            if not self._turns:
                raise

    def _add(self) -> None:
        self._number += 1
        number, turns = self._number, self._turns
        thread = threading.Thread(
            target=self._work, args=(number, turns, self._ready), name=f"{NAME}-{number}", daemon=True
        )
        turns[number] = None
        try:
            thread.start()
        except RuntimeError:
            del turns[number]
            raise

    def _work(
        self,
        number: int,
        turns: dict[int, float | None],
        ready: queue.SimpleQueue[Callable[[], None] | None],
    ) -> None:
        try:
            while (turn := ready.get()) is not None:
                turns[number] = time.monotonic()
                self.relieve()  # this turn may hang
                turn()
                del turn  # it holds an actor, which may have ended
                turns[number] = None
                if len(turns) > self._size and self._is_surplus(number, turns):
                    return
        finally:
            turns.pop(number, None)  # another one takes its place also where a turn raised

    def _is_surplus(self, number: int, turns: dict[int, float | None]) -> bool:
        """Whether others have taken the place of this worker, which was stuck: then it ends."""
        with self._lock:
            if self._going(tuple(turns.values())) <= self._size:
                return False
            del turns[number]
            return True


class Inbox:
    """The messages of one actor, which has its turns on shared workers. Any thread may put."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._waiting: deque[Any] = deque()
        self._turn: Callable[[], bool] | None = None
        self._scheduled = False
        """Whether a turn is under way or waits for a worker. It stays so once the actor has ended."""
        self._left: float = 0

    def begin(self, turn: Callable[[], bool]) -> None:
        """Let the actor have its first turn. `turn` is run by a worker, and says whether another may follow.

        Raises RuntimeError when the system gives no thread.
        """
        self._workers.enter()
        self._turn = turn
        self._scheduled = True
        self._workers.run(self._run)

    def put(self, envelope: Any) -> None:
        """Add a message."""
        with self._lock:
            self._waiting.append(envelope)
            has_turn, self._scheduled = self._scheduled, self._turn is not None
        if has_turn:
            self._workers.relieve()
        elif self._turn is not None:
            self._workers.run(self._run)

    def get(self) -> Any:
        """Take the next message. For the actor in its turn. Raises TurnOver."""
        if not self._waiting or self._left <= 0:
            raise TurnOver
        self._left -= 1
        return self._waiting.popleft()

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self._waiting

    def give_all(self) -> None:
        """The actor has ended: `get` gives whatever is left."""
        self._left = float("inf")

    def _run(self) -> None:
        goes_on = False
        try:
            self._left = TURN
            goes_on = self._turn is not None and self._turn()
        finally:
            if not goes_on:
                self._workers.leave()
        if not goes_on:
            return
        with self._lock:
            if not self._waiting:
                self._scheduled = False
                return
        self._workers.run(self._run)


WORKERS: Final = Workers()
"""Those of this process."""
