"""A cluster, its exchanges, its disk and its listeners, put together from the real parts.

`Lives`, the actors, the board, the journal, `restored` and `recall` are those of the product. What stands in
for something else: the exchange (`Exchange`), the timers (`Alarms`), the sockets (`network.py`) and the disk
(`memory.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any, Final, cast

from brokerwatch.actors.account_watches import AccountWatches
from brokerwatch.actors.base import tell
from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.broker_context import BrokerContext
from brokerwatch.actors.protocol import FetchNow, Observed, OperatorCommand
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.listener import Listener
from brokerwatch.bus.station import WAIT_S
from brokerwatch.clock import Instant
from brokerwatch.cluster.lives import Lives
from brokerwatch.cluster.restore import recall, restored
from brokerwatch.cluster.startup import Sockets, blank_board
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.config.policy import GUARDED
from brokerwatch.health.outcome import FetchOutcome, NotAsked
from brokerwatch.health.reading import ttl_s
from brokerwatch.messages import Balance, Fault, FaultKind, Holding, Reading, next_epoch
from tests.simulation.memory import Disk, Memory
from tests.simulation.network import Link, Publisher, Sent, Weather
from tests.simulation.oracle import Oracle
from tests.simulation.scheduler import NEVER_S, Call, Machine, Process, Running, Scheduler
from tests.support.clusters import Till

NAMES: Final = ("a", "b", "c")
NO_BUS: Final[Any] = None
UNENCRYPTED: Final[Any] = None
NOTHING: Final = Decimal(0)


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

    def fetch(self, deadline_s: float, done: Callable[[FetchOutcome], object]) -> Question:
        """As a source does: start one fetch."""
        world, chance = self.world, self.world.scheduler.random
        if self.raises is not None and self.raises_times > 0:
            self.raises_times -= 1
            raise self.raises
        running, process = world.scheduler.running, world.scheduler.process
        assert running is not None, f"{self.name} was asked by no actor"
        assert process is not None, f"{self.name} was asked by no process"
        question = world.oracle.asked(running, process.clock.now(), done)
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


class SimulatedLives(Lives):
    """The lives of a cluster, with epochs from the seed."""

    chance: Any

    def _next_epoch(self, predecessor: str) -> str:
        return next_epoch(self._clock.now().wall_us, predecessor, f"{self.chance.getrandbits(32):08x}")


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
        settings = ClusterSettings(heartbeat_s=heartbeat_s, remember=False)
        self.memory = Memory(world.disk, clock, scheduler.random.uniform)
        self.specs = dict(world.specs)
        self.board = blank_board(self.specs.values(), {}, clock, heartbeat_s, world.oracle.changed)
        journal = self.memory.journal
        self.lives = SimulatedLives(self.specs, self.board, journal, settings, clock, heartbeat_s)
        self.lives.chance = scheduler.random
        self.health_out = Publisher(scheduler, process, "health", lambda sent: world.oracle.sent(self, sent))
        self.broker_out = Publisher(scheduler, process, "brokers", lambda sent: None)
        self.inbox = Inbox(NO_BUS, "inproc://brokers", clock, ttl_s(heartbeat_s))
        self.bus = Link(scheduler, "bus", process, self._to_the_inbox, world.bus_weather)
        self.broker_out.subscribe(self.bus)
        self.alarms = Alarms(scheduler, process)

    def start(self) -> None:
        """Start the actors, as `Members.go_up` does."""
        world, memory = self.world, self.memory
        contexts: dict[str, BrokerContext] = {}
        for name, spec in self.specs.items():
            slot = self.board.slot(name)
            stored = memory.remembered.healths.get(name)
            contexts[name] = BrokerContext(
                source=world.exchanges[name],
                slot=slot,
                alarms=self.alarms,
                clock=self.clock,
                heartbeat_s=self.heartbeat_s,
                journal=memory.journal,
                uniform=world.scheduler.random.uniform,
                watches=AccountWatches(spec, slot, memory.journal, memory.journal.watched(spec, stored)),
            )
        state = cast("Any", memory)
        healths = restored(self.specs, self.board, state, self.clock, self.heartbeat_s)
        world.oracle.started(self)
        epochs = {name: health.epoch for name, health in memory.remembered.healths.items()}
        sockets = Sockets(
            NO_BUS, self.inbox, cast("Any", self.health_out), cast("Any", self.broker_out), UNENCRYPTED
        )
        self.lives.start(sockets, contexts, healths, epochs, self.alarms, tuple)
        memory.record(
            self.alarms,
            lambda remembered: recall(
                self.specs, self.board, remembered, state, self.lives, self.clock.now()
            ),
        )

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
        """An operator commands; None: there is no supervisor just now."""
        reply: Future[str] = Future()
        command = OperatorCommand(verb, name, "an operator", "maintenance", until, reply)
        return reply if self.lives.obey(command) else None

    def observe(self, name: str, age_s: float) -> None:
        """A trader's own call has read the balance, so many seconds ago."""
        now = self.clock.now()
        asked = Instant(now.wall_us - round(age_s * 1e6), now.up_s - age_s)
        found = Balance(holdings=amounts(self.world.next_number()), as_of=asked)
        self.lives.tell(name, Observed(found, dated=True))

    def ask(self, name: str) -> Future[Reading] | None:
        """A trader asks for the balance; None: the account has no actor just now."""
        waiter: Future[Reading] = Future()
        return waiter if self.lives.tell(name, FetchNow(waiter)) else None

    def close(self) -> None:
        """Let go of what the simulation itself holds."""
        cast("Any", self.inbox)._waker.close()


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

    def __post_init__(self) -> None:
        plan = self.plan
        self.scheduler = Scheduler(self.seed)
        self.scheduler.trace.shows = self.shows
        self.oracle = Oracle(self)
        self.scheduler.before, self.scheduler.after = self.oracle.before, self.oracle.after
        self.here, self.there = self.scheduler.machine("here"), self.scheduler.machine("there")
        rules = replace(GUARDED, backoff_s=(1.0, 4.0), auth_probes_s=(1.0, 4.0))
        policy: dict[str, Any] = {"policy": "guarded", "rules": rules} if plan.guarded else {}
        self.specs = {
            name: BrokerSpec(
                name,
                fetch=Till(),
                poll_interval_s=plan.poll_s,
                fetch_deadline_s=plan.deadline_s,
                max_consecutive_errors=plan.threshold,
                **policy,
            )
            for name in NAMES[: plan.brokers]
        }
        self.exchanges = {name: Exchange(self, name) for name in self.specs}
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

    def close(self) -> None:
        """Let go of what the simulation itself holds."""
        for cluster in self.clusters:
            cluster.close()
