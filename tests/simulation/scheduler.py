"""Time and chance of a simulated world: which thing happens next, on which machine, in which actor.

The actors run their own unmodified loop. Their inbox gives one message and then interrupts the loop, so that
the scheduler decides after each message who goes on. Nothing here starts a thread or reads a real clock, so
one seed gives the same history each time.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pykka
import pytest

from brokerwatch.actors.base import Actor, SharingActor
from brokerwatch.clock import ManualClock
from brokerwatch.cluster import lives

NEVER_S: Final = float("inf")
SWITCH_S: Final = 0.001
"""The usual time until an actor comes to its next message."""

Call = Callable[[], object]


class Pause(BaseException):
    """The actor has handled its message. Its loop is interrupted where it waits for the next one."""


class Inbox:
    """An inbox that gives a message only when the scheduler says so."""

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque()
        self.granted = False
        self.emptied = False
        """Whether its actor has ended and takes out what is left."""
        self.woken: Call = lambda: None

    def put(self, envelope: Any) -> None:
        """Any part of the world."""
        self.waiting.append(envelope)
        self.woken()

    def get(self) -> Any:
        """The actor's loop. Raises Pause where it would wait, or run on without a decision."""
        if not self.waiting or not (self.granted or self.emptied):
            raise Pause
        self.granted = False
        return self.waiting.popleft()

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self.waiting


class Machine:
    """A machine: its clocks, and what is due on it by its monotonic clock."""

    def __init__(self, name: str, up_s: float) -> None:
        self.name = name
        self.clock = ManualClock(up_s=up_s)
        self.due: list[tuple[float, int, Process, Call]] = []
        self.stopped_until_s = 0.0
        """Nothing runs on it before this moment of the world."""
        self.sleeps = False
        """Whether its monotonic clock stands still while it is stopped."""
        self.paused = False
        """Whether the clock that counts sleep stands still too: the machine is a virtual one."""
        self.dozed_s = 0.0
        """Seconds that its monotonic clock did not count, in pieces too short for a leap."""

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if self.paused:
            self.clock.jump_wall(seconds)
        elif self.sleeps:
            self.clock.sleep(seconds)
        else:
            self.clock.advance(seconds)


@dataclass(eq=False)
class Process:
    """A process on a machine. What was due for one that was killed never happens."""

    machine: Machine
    name: str
    alive: bool = True

    @property
    def clock(self) -> ManualClock:
        """The clock of its machine."""
        return self.machine.clock


@dataclass(eq=False)
class Running:
    """An actor in the scheduler's hands."""

    actor: Any
    process: Process
    inbox: Inbox
    hangs_until_s: float = 0.0
    scheduled: bool = False
    begun: bool = False

    @property
    def ended(self) -> bool:
        """Whether its loop is over."""
        return bool(self.actor.actor_stopped.is_set())


@dataclass
class Trace:
    """The last events, as they are shown when an invariant is broken."""

    kept: deque[tuple[float, str, tuple[object, ...]]] = field(default_factory=lambda: deque(maxlen=60))
    shows: bool = False
    """Whether each event is printed at once."""

    def add(self, now_s: float, words: str, *values: object) -> None:
        """Note an event. Its text is made only when it is shown."""
        self.kept.append((now_s, words, values))
        if self.shows:
            print(f"{now_s:9.3f}  {words.format(*values)}")  # noqa: T201 - for the person who replays a seed

    def lines(self) -> list[str]:
        """The last events, oldest first."""
        return [f"{now_s:9.3f}  {words.format(*values)}" for now_s, words, values in self.kept]


class Scheduler:
    """Decides what happens next. `before` and `after` are called around each message of an actor."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        """The true time of this world."""
        self.steps = 0
        self.trace = Trace()
        self.machines: list[Machine] = []
        self.actors: list[Running] = []
        self.running: Running | None = None
        self.process: Process | None = None
        """The process whose code runs now."""
        self.ran: Machine | None = None
        """The machine on which something ran in this step; None: the world itself has changed."""
        self.acted = False
        """Whether an actor came to a message in this step."""
        self.before: Callable[[Running, object], object] = lambda _actor, _message: None
        self.after: Callable[[Running, object], object] = lambda _actor, _message: None
        self._world: list[tuple[float, int, Call]] = []
        self._number = 0

    def machine(self, name: str) -> Machine:
        """Another machine."""
        made = Machine(name, 1_000.0 + 500.0 * len(self.machines))
        self.machines.append(made)
        return made

    def at(self, seconds: float, call: Call) -> None:
        """Call it so many seconds from now, by the true time."""
        self.at_moment(self.now_s + seconds, call)

    def at_moment(self, moment_s: float, call: Call) -> None:
        """Call it at this true time. What was asked for one moment comes in the order of asking."""
        self._number += 1
        heapq.heappush(self._world, (moment_s, self._number, call))

    def on(self, process: Process, seconds: float, call: Call) -> None:
        """Call it in a process so many seconds from now, by the monotonic clock of its machine."""
        self._number += 1
        due_s = process.clock.up_s() + max(0.0, seconds)
        heapq.heappush(process.machine.due, (due_s, self._number, process, call))

    def within(self, process: Process, call: Call) -> None:
        """Call it at once, as code of this process."""
        before, self.process = self.process, process
        self.ran = process.machine
        try:
            call()
        finally:
            self.process = before

    def adopt(self, actor: Any) -> None:
        """An actor was started: its loop runs from now on in the scheduler's hands."""
        if self.process is None:
            raise AssertionError("an actor was started by no process")
        inbox: Inbox = actor.actor_inbox
        found = Running(actor, self.process, inbox)
        inbox.woken = lambda: self._wake(found)
        self.actors.append(found)
        self._wake(found)

    def _wake(self, actor: Running) -> None:
        if not actor.scheduled and not actor.ended:
            actor.scheduled = True
            slow = self.random.random() < 0.02
            wait_s = SWITCH_S * self.random.random() * (200.0 if slow else 1.0)
            self.on(actor.process, wait_s, lambda: self._turn(actor))

    def _turn(self, actor: Running) -> None:
        actor.scheduled = False
        if actor.ended:
            return
        if actor.hangs_until_s > self.now_s:
            if actor.hangs_until_s < NEVER_S:
                actor.scheduled = True
                self.at(actor.hangs_until_s - self.now_s, lambda: self._goes_on(actor))
            return
        self.running, self.acted = actor, True
        try:
            if not actor.begun:
                actor.begun = True
                self.before(actor, None)
                actor.actor._actor_loop_setup()
                self.after(actor, None)
            elif actor.inbox.waiting:
                message = actor.inbox.waiting[0].message
                actor.inbox.granted = True
                self.before(actor, message)
                self._run_loop(actor)
                self.after(actor, message)
        finally:
            self.running = None
        self._afterwards(actor)

    def _afterwards(self, actor: Running) -> None:
        """What follows a turn: the next one, or the end."""
        if actor.ended:
            actor.inbox.emptied = True
            actor.actor._actor_loop_teardown()
        elif actor.inbox.waiting:
            self._wake(actor)

    @staticmethod
    def _run_loop(actor: Running) -> None:
        with suppress(Pause):
            actor.actor._actor_loop_running()

    def _goes_on(self, actor: Running) -> None:
        actor.scheduled = False
        self._wake(actor)

    def _true_s(self, machine: Machine) -> float:
        due_s = machine.due[0][0] - machine.clock.up_s()
        if machine.stopped_until_s <= self.now_s:
            return self.now_s + max(0.0, due_s)
        if machine.sleeps or machine.paused:
            return machine.stopped_until_s + max(0.0, due_s)
        return max(self.now_s + due_s, machine.stopped_until_s)

    def pass_time(self, until_s: float) -> None:
        """Let time pass in which nothing happens."""
        gone_s = until_s - self.now_s
        if gone_s > 0:
            for machine in self.machines:
                machine.advance(gone_s)
            self.now_s = until_s

    def step(self, until_s: float) -> bool:
        """Let the next thing happen. False, and the time is `until_s`, when there is none before."""
        soonest_s, where = self._world[0][0] if self._world else NEVER_S, None
        for machine in self.machines:
            if machine.due and (due_s := self._true_s(machine)) < soonest_s:
                soonest_s, where = due_s, machine
        if soonest_s > until_s:
            self.pass_time(until_s)
            return False
        self.pass_time(soonest_s)
        self.steps += 1
        self.ran, self.acted = None, False
        if where is None:
            heapq.heappop(self._world)[2]()
            return True
        _, _, process, call = heapq.heappop(where.due)
        if process.alive:
            self.within(process, call)
        return True

    def stop_machine(
        self, machine: Machine, seconds: float, *, sleeps: bool = False, pauses: bool = False
    ) -> None:
        """Nothing runs on a machine for so long.

        `sleeps`: its monotonic clock does not count it. `pauses`: the wall clock alone counts it, as in a
        virtual machine.
        """
        machine.stopped_until_s = self.now_s + seconds
        machine.sleeps, machine.paused = sleeps, pauses

        def wakes() -> None:
            machine.sleeps = machine.paused = False

        self.at(seconds, wakes)

    def of(self, process: Process, kind: type) -> Iterator[Running]:
        """The actors of a kind in a process that have not ended."""
        for actor in self.actors:
            if actor.process is process and isinstance(actor.actor, kind) and not actor.ended:
                yield actor

    @contextmanager
    def in_force(self) -> Generator[None]:
        """From here on actors start in this scheduler, chance comes from its seed, and no log is written."""
        level = logging.root.manager.disable
        with pytest.MonkeyPatch.context() as patch:
            for kind in (Actor, SharingActor):
                patch.setattr(kind, "_create_actor_inbox", staticmethod(Inbox))
                patch.setattr(kind, "_start_actor_loop", self.adopt_self())
            patch.setattr(lives, "random", self.random)
            logging.disable(logging.CRITICAL)
            try:
                yield
            finally:
                logging.disable(level)
                for each in self.actors:
                    pykka.ActorRegistry.unregister(each.actor.actor_ref)

    def adopt_self(self) -> Callable[[Any], None]:
        """In place of the method that starts an actor's thread."""
        return lambda actor: self.adopt(actor)
