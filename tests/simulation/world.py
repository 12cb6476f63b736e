"""A cluster, its exchanges, its disk and its listeners, put together from the real parts.

`Lives`, the actors, the board, the journal, `restored` and `recall` are those of the product. What stands in
for something else: the exchange (`Exchange`), the timers (`Alarms`), the sockets (`network.py`) and the disk
(`memory.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from types import FunctionType
from typing import Any, Final, cast

from brokerwatch.actors.base import tell
from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.protocol import FetchNow, Observed, OperatorCommand
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.listener import Listener
from brokerwatch.bus.station import WAIT_S
from brokerwatch.clock import Instant
from brokerwatch.cluster.restore import restored
from brokerwatch.cluster.startup import Sockets
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.outcome import FetchOutcome, NotAsked
from brokerwatch.health.reading import ttl_s
from brokerwatch.messages import Balance, Fault, FaultKind, Holding, Reading
from tests.simulation.members import Configured, SimulatedMembers
from tests.simulation.memory import Disk, Memory
from tests.simulation.network import Link, Publisher, Sent, Weather
from tests.simulation.oracle import Oracle
from tests.simulation.scheduler import NEVER_S, Call, Machine, Process, Running, Scheduler

NAMES: Final[tuple[str, ...]] = ("a", "b", "c", "d")
NO_BUS: Final[Any] = None
UNENCRYPTED: Final[Any] = None
NOTHING: Final = Decimal(0)
LOOKS_FOR_A_LEAP: Final[FunctionType] = cast("Any", BrokerActor)._look_for_a_leap
"""What an actor runs before it looks at a message."""


def amounts(number: int) -> Mapping[str, Holding]:
    """The holdings of the answer with this number, which they state."""
    found = Decimal(number)
    return {"USD": Holding(free=found, used=NOTHING, total=found)}


@dataclass(eq=False)
class Question:
    """A fetch that is under way."""

    number: int
    """Which one it is of its actor, from 1."""
    asked: Instant
    asked_s: float
    """True time."""
    done: Callable[[FetchOutcome], object]
    deadline_s: float
    cancelled: bool = False

    def cancel(self) -> None:
        """The actor gives it up."""
        self.cancelled = True


@dataclass(eq=False)
class Exchange:
    """One account at its exchange, and the source through which it is asked."""

    world: World
    name: str
    mode: str = "ok"
    """`ok`, `slow`, `error`, `hangs`, `lost`, `locked`, `refused`, `busy` or `raises`."""
    kind: FaultKind = FaultKind.NETWORK
    lockout_s: float = 3.0
    queue_s: float = 0.5
    longest_wait_s: float = 0.5
    held_since_s: float | None = None
    raises: BaseException | None = None
    """The next calls raise it, in the actor."""
    raises_times: int = 0

    def spare_wait_s(self) -> float:
        """The budget always has room."""
        return 0.0

    def fetch(
        self, deadline_s: float, done: Callable[[FetchOutcome], object], *, spare: bool = False
    ) -> Question:
        """As a source does: start one fetch."""
        del spare
        world, chance = self.world, self.world.scheduler.random
        if self.raises is not None and self.raises_times > 0:
            self.raises_times -= 1
            if _asks_after_a_leap():
                world.oracle.died_of_the_leap()
            raise self.raises
        running, process = world.scheduler.running, world.scheduler.process
        assert running is not None, f"{self.name} was asked by no actor"
        assert process is not None, f"{self.name} was asked by no process"
        question = world.oracle.asked(running, process.clock.now(), deadline_s, done)
        mode = self.mode
        outcome: FetchOutcome
        match mode:
            case "ok" | "slow":
                outcome = Balance(holdings=amounts(world.next_number()), as_of=question.asked)
                wait_s = chance.uniform(0.6, 0.99) * deadline_s if mode == "slow" else 0.2 * chance.random()
            case "hangs":
                outcome, wait_s = Fault(FaultKind.NETWORK, "no answer"), deadline_s
            case "lost":
                return question
            case "busy":
                outcome, wait_s = NotAsked("its turn did not come"), self.queue_s
            case "locked":
                until = Instant(
                    question.asked.wall_us + round(self.lockout_s * 1e6), question.asked.up_s + self.lockout_s
                )
                outcome, wait_s = NotAsked("locked out", until), 0.01
            case "refused":
                outcome, wait_s = Fault(FaultKind.AUTH, "invalid key"), 0.1
            case _:
                outcome, wait_s = Fault(self.kind, "an error"), 0.2 * chance.random()
        world.scheduler.on(process, wait_s, lambda: done(outcome))
        if chance.random() < world.plan.answers_twice:
            world.scheduler.on(process, wait_s + 0.5 * chance.random(), lambda: done(outcome))
        return question


def _asks_after_a_leap() -> bool:
    """Whether the actor that asks an exchange now has not come to its message."""
    frame = inspect.currentframe()
    for _ in ("Exchange.fetch", "BrokerActor._fetch", "what has the actor ask"):
        frame = None if frame is None else frame.f_back
    return frame is not None and frame.f_code is LOOKS_FOR_A_LEAP.__code__


class Alarms:
    """The timers of one process: late by up to a slot, as the real ones."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process

    def after(self, delay_s: float, function: Call) -> None:
        """As `cluster.timers.Timers`."""
        if delay_s < NEVER_S:
            late_s = 0.25 if delay_s >= 0.9 else 0.001
            self._scheduler.on(self._process, delay_s + late_s * self._scheduler.random.random(), function)


@dataclass
class Plan:
    """What a world is like; drawn from its seed by `script.py`."""

    brokers: int = 2
    heartbeat_s: float = 1.0
    poll_s: float = 2.0
    deadline_s: float = 1.5
    threshold: int = 3
    guarded: bool = False
    listeners: int = 1
    endpoints: int = 1
    answers_twice: float = 0.0
    longest_wait_s: float = 4.0
    """The longest that an account that is available waits for its next poll."""


class ClusterProcess:
    """One process that runs a cluster."""

    def __init__(self, world: World, machine: Machine) -> None:
        scheduler = world.scheduler
        self.world = world
        self.process = process = Process(machine, f"cluster {world.next_process()}")
        self.clock = clock = process.clock
        self.heartbeat_s = heartbeat_s = world.plan.heartbeat_s
        self.began_s = scheduler.now_s
        self.memory = Memory(world.disk, clock, scheduler.random.uniform)
        self.alarms = Alarms(scheduler, process)
        self.members = SimulatedMembers(self, world.specs, self.memory)
        self.board, self.lives = self.members.board, self.members.lives
        self.health_out = Publisher(scheduler, process, "health", lambda sent: world.oracle.sent(self, sent))
        self.broker_out = Publisher(scheduler, process, "brokers", None)
        self.inbox = Inbox(NO_BUS, "inproc://brokers", clock, ttl_s(heartbeat_s))
        self.bus = Link(scheduler, "bus", process, self._to_the_inbox, world.bus_weather)
        self.broker_out.subscribe(self.bus)

    @property
    def specs(self) -> Mapping[str, BrokerSpec]:
        """The configuration of each account that belongs to it now."""
        return self.members.specs

    def start(self) -> None:
        """Start the actors, as `Members.go_up` does."""
        memory, members = self.memory, self.members
        healths = restored(self.specs, self.board, cast("Any", memory), self.clock, self.heartbeat_s)
        members.wire()
        self.world.oracle.started(self)
        epochs = {name: health.epoch for name, health in memory.remembered.healths.items()}
        sockets = Sockets(
            NO_BUS, self.inbox, cast("Any", self.health_out), cast("Any", self.broker_out), UNENCRYPTED
        )
        self.lives.start(sockets, members.wired.contexts, healths, epochs, self.alarms, tuple)
        memory.record(self.alarms, members.recall)

    def _to_the_inbox(self, message: Sent) -> None:
        inbox = cast("Any", self.inbox)
        inbox._keep(message.topic, message.body)
        inbox._tell()

    def brokers(self, name: str) -> list[Running]:
        """The actors of an account that run."""
        found = self.world.scheduler.of(self.process, BrokerActor)
        return [each for each in found if each.actor._spec.name == name]

    @property
    def gave_up(self) -> bool:
        """Whether the supervisor died too often: the process is to be started again."""
        return bool(cast("Any", self.lives)._supervisor_restarts.failed)

    def supervisors(self) -> list[Running]:
        """The supervisors that run."""
        return list(self.world.scheduler.of(self.process, HealthSupervisor))

    def command(self, verb: str, name: str, until: Instant | None = None) -> Future[str] | None:
        """An operator commands; None: the command was not taken, which the operator is answered at once."""
        reply: Future[str] = Future()
        command = OperatorCommand(verb, name, "an operator", "maintenance", until, reply)
        return reply if self.lives.obey(command) else None

    def observe(self, name: str, age_s: float) -> None:
        """A trader's own call has read the balance, so many seconds ago."""
        found = self.world.answer(self, age_s)
        self.lives.tell(name, Observed(found, dated=True))

    def ask(self, name: str) -> Future[Reading] | None:
        """A trader asks for the balance; None: the account has no actor just now."""
        waiter: Future[Reading] = Future()
        return waiter if self.lives.tell(name, FetchNow(waiter)) else None


class Hearing:
    """A process that listens, over one endpoint or several of one cluster."""

    def __init__(self, world: World, machine: Machine, endpoints: int) -> None:
        self.world = world
        self.process = Process(machine, f"listener {world.next_process()}")
        self.listener = Listener(
            *(f"tcp://127.0.0.1:{1_000 + number}" for number in range(endpoints)),
            clock=self.process.clock,
            bus=cast("Any", object()),
        )
        self.stations: list[Any] = list(cast("Any", self.listener)._stations)
        self.links: list[Link] = []
        self._look()

    def _look(self) -> None:
        """As a station's thread does when no message comes."""
        for station in self.stations:
            for expired in station.receiver.expire():
                station._on_reading(station._endpoint, expired, changed=True)
        self.world.scheduler.on(self.process, WAIT_S, self._look)

    def connect(self, cluster: ClusterProcess) -> None:
        """Connect to a cluster that has just started, or whose listener has."""
        self.links = []
        for number, station in enumerate(self.stations):
            link = Link(
                self.world.scheduler,
                f"{self.process.name}.{number}",
                self.process,
                partial(self._receive, station),
                self.world.health_weather[number],
            )
            self.links.append(link)
            cluster.health_out.subscribe(link)

    def _receive(self, station: Any, sent: Sent) -> None:
        newest = station.receiver.newest
        known = dict(newest)
        station._take(sent.topic, sent.body)
        changed = {key: found for key, found in newest.items() if known.get(key) is not found}
        for expired in station.receiver.expire():
            station._on_reading(station._endpoint, expired, changed=True)
        self.world.oracle.delivered(self, station, sent, known, changed)


@dataclass(frozen=True)
class Order:
    """Something that an operator has ordered and waits for."""

    process: Process
    since_s: float
    what: str
    done: Future[Any]
    actors: tuple[Running, ...] = ()
    """The actors that have to take it up."""

    @property
    def is_forgotten(self) -> bool:
        """Whether it waits although all that could answer it runs."""
        hangs = any(actor.hangs_until_s == NEVER_S for actor in self.actors)
        return not self.done.done() and self.process.alive and not hangs


@dataclass(eq=False)
class World:
    """One simulated world."""

    seed: int
    plan: Plan
    shows: bool = False
    disk: Disk = field(default_factory=Disk)
    hearings: list[Hearing] = field(default_factory=list["Hearing"])
    cluster: ClusterProcess | None = None
    waiters: list[tuple[Running, float, Future[Reading]]] = field(
        default_factory=list["tuple[Running, float, Future[Reading]]"]
    )
    orders: list[Order] = field(default_factory=list["Order"])
    """What operators wait for."""

    def __post_init__(self) -> None:
        plan = self.plan
        self.scheduler = Scheduler(self.seed)
        self.scheduler.trace.shows = self.shows
        self.oracle = Oracle(self)
        self.scheduler.before, self.scheduler.after = self.oracle.before, self.oracle.after
        self.here, self.there = self.scheduler.machine("here"), self.scheduler.machine("there")
        same = Configured(plan.poll_s, plan.deadline_s, plan.threshold, plan.guarded)
        self.configured: dict[str, Configured] = dict.fromkeys(NAMES[: plan.brokers], same)
        self.specs = {name: each.spec(name) for name, each in self.configured.items()}
        """What the configuration says, which a process that starts reads."""
        self.exchanges = {name: Exchange(self, name) for name in NAMES}
        self.was_guarded = plan.guarded
        self.bus_weather = Weather()
        self.health_weather = [Weather() for _ in range(plan.endpoints)]
        self.clusters: list[ClusterProcess] = []
        self._number = self._processes = 0

    def next_number(self) -> int:
        """The number of the next answer of any exchange."""
        self._number += 1
        return self._number

    def next_process(self) -> int:
        """The number of the next process."""
        self._processes += 1
        return self._processes

    def note(self, words: str, *values: object) -> None:
        """Write an event into the trace."""
        self.scheduler.trace.add(self.scheduler.now_s, words, *values)

    def start_cluster(self) -> None:
        """Start the cluster's process."""
        cluster = self.cluster = ClusterProcess(self, self.here)
        self.clusters.append(cluster)
        self.note("{} starts", cluster.process.name)
        self.scheduler.within(cluster.process, cluster.start)
        for hearing in self.hearings:
            hearing.connect(cluster)

    def kill_cluster(self) -> None:
        """The process is killed: nothing of it happens any more."""
        if self.cluster is not None:
            self.note("{} is killed", self.cluster.process.name)
            self.oracle.killed(self.cluster)
            self.cluster.process.alive = False
            self.cluster = None

    def reload(self, wanted: Mapping[str, Configured]) -> None:
        """The configuration is changed, and a process that runs goes on by it."""
        self.configured = dict(wanted)
        self.specs = {name: each.spec(name) for name, each in wanted.items()}
        self.was_guarded = self.was_guarded or any(each.guarded for each in wanted.values())
        cluster = self.cluster
        if cluster is not None:
            self.scheduler.within(cluster.process, lambda: self._carry_out(cluster))

    def _carry_out(self, cluster: ClusterProcess) -> None:
        before = self.oracle.membership.before(cluster)
        changes, done = cluster.members.carry_out(self.specs)
        self.oracle.membership.reloaded(cluster, before, changes)
        actors = tuple(actor for one in changes.changed for actor in cluster.brokers(one.after.name))
        now_s = self.scheduler.now_s
        self.orders += [Order(cluster.process, now_s, "a reload", each, actors) for each in done]

    def rekey(self, name: str, *, same_account: bool, found_ago_s: float | None) -> None:
        """An account gets another API key; `found_ago_s`: when it was verified, if it was."""
        key = self.next_number()
        self.configured[name] = replace(self.configured[name], key=key, same_account=same_account)
        spec = self.specs[name] = self.configured[name].spec(name)
        cluster = self.cluster
        if cluster is None:
            return
        found = None if found_ago_s is None else self.answer(cluster, found_ago_s)
        self.oracle.accounts[name].keys_given.append(same_account)
        actors, taken = tuple(cluster.brokers(name)), cluster.members.rekey(spec, found)
        self.orders.append(Order(cluster.process, self.scheduler.now_s, "another key", taken, actors))

    def command(self, verb: str, name: str, until: Instant | None = None) -> None:
        """An operator gives a command, and waits for the answer."""
        if self.cluster is not None:
            reply = self.cluster.command(verb, name, until)
            if reply is None:
                self.oracle.count("a command that was not taken")
            else:
                self.orders.append(Order(self.cluster.process, self.scheduler.now_s, verb, reply))

    def answer(self, cluster: ClusterProcess, age_s: float) -> Balance:
        """A balance that was read by other ways, so many seconds ago."""
        now = cluster.clock.now()
        asked = Instant(now.wall_us - round(age_s * 1e6), now.up_s - age_s)
        return Balance(holdings=amounts(self.next_number()), as_of=asked)

    def join(self) -> Hearing:
        """Another listener, elsewhere."""
        hearing = Hearing(self, self.there, self.plan.endpoints)
        self.hearings.append(hearing)
        if self.cluster is not None:
            hearing.connect(self.cluster)
        return hearing

    def ask(self, name: str) -> None:
        """A trader asks for a balance, and waits."""
        cluster = self.cluster
        if cluster is None:
            return
        actors = cluster.brokers(name)
        waiter = cluster.ask(name)
        if waiter is not None and actors:
            self.waiters.append((actors[-1], self.scheduler.now_s, waiter))

    def poison(self, actor: Running) -> None:
        """An actor gets a message of which it knows nothing, and dies of it."""
        tell(actor.actor.actor_ref, object())

    def run(self, until_s: float) -> None:
        """Let everything happen up to a moment, and look at the whole after each step."""
        step, look = self.scheduler.step, self.oracle.look
        while step(until_s):
            look()
