"""One node, two supervisors and a listener on both; messages are lost, doubled, late and out of order.

The parts are the product's own, driven without threads and sockets: what a node says (`Uplink`), what a
supervisor takes (`RemoteInbox`), makes of it (`RemoteSupervisor`) and publishes (`HealthPublishing`), what a
listener believes (`Receiver`) and how it merges both. Only the network, the clocks and the node's account are
made up here, all of them from a seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

import msgspec

from brokerwatch.actors.board import Board
from brokerwatch.actors.protocol import Drain, LookRound
from brokerwatch.actors.remote_supervisor import RemoteSupervisor, RemoteSupervisorContext
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.publishing import HealthPublishing, Publishing
from brokerwatch.bus.reception import Receiver
from brokerwatch.bus.remote_inbox import RemoteInbox
from brokerwatch.bus.uplink import Uplink
from brokerwatch.clock import Instant, Leads, Limits, ManualClock
from brokerwatch.cluster.lives import unheard
from brokerwatch.cluster.startup import unreported_slot
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.merging import Published, merged
from brokerwatch.health.reading import ttl_s
from brokerwatch.messages import HealthState, Reading, Reason, Verdict, next_epoch
from brokerwatch.messages.codec import decode
from brokerwatch.storage.journal import Journal
from tests.support.readings import reading

STEP_S: Final = 0.1
HEARTBEAT_S: Final = 0.5
TTL_S: Final = ttl_s(HEARTBEAT_S)
LONGEST_DELAY_S: Final = 0.5
LASTS_S: Final = 60.0
NAME: Final = "a"
SENT: Final = ("supervisor/desk", NAME)
"""Who speaks of it at the health topic, and of whom."""


class Broken(AssertionError):
    """An invariant does not hold; the text says the seed and when."""


class Skewed:
    """The clocks of one process: each began at a moment of its own."""

    def __init__(self, base: ManualClock, up_s: float, wall_s: float) -> None:
        self._base, self._up_s, self._wall_us = base, up_s, round(wall_s * 1_000_000)

    def now(self) -> Instant:
        return Instant(self._base.now().wall_us + self._wall_us, self.up_s())

    def up_s(self) -> float:
        return self._base.up_s() + self._up_s

    def leads(self) -> Leads:
        return (0.0, 0.0)

    def is_before(self, limits: Limits) -> bool:
        return self.up_s() < limits[0]


class Wire:
    """A publisher's way to some receivers: `put` packs at once, and each receiver gets it by chance."""

    def __init__(self, world: World, receivers: Callable[[], list[Callable[[str, bytes], None]]]) -> None:
        self._world, self._receivers = world, receivers

    def put(self, topic: str, pack: Callable[[str], bytes], **_: Any) -> None:
        body = pack(topic)
        for receive in self._receivers():
            self._world.send(partial(receive, topic, body))


class Process:
    """What can be stopped for a while, and then finds all that has come meanwhile."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = Skewed(world.base, world.chance.uniform(0, 1_000), world.chance.uniform(-30, 30))
        self.stopped_until_s = 0.0
        self._waiting: list[Callable[[], None]] = []

    @property
    def runs(self) -> bool:
        return self.world.base.up_s() >= self.stopped_until_s

    def woken(self) -> None:
        """It runs now, and takes what has come."""

    def later(self, work: Callable[[], None]) -> None:
        self._waiting.append(work)

    def turn(self) -> None:
        if self.runs:
            self.woken()
            waiting, self._waiting = self._waiting, []
            for work in waiting:
                work()


class Node(Process):
    def __init__(self, world: World, before: str) -> None:
        super().__init__(world)
        self.epoch = next_epoch(self.clock.now().wall_us, before, f"{world.chance.getrandbits(32):08x}")
        out = [cast("Publisher", Wire(world, partial(world.into, at))) for at in range(len(world.inboxes))]
        self._uplink = Uplink(out, self.clock, TTL_S, self.epoch)
        self.good = False
        self.held = world.held
        self._version = 0

    def say(self) -> None:
        self._version += 1
        state = HealthState.HEALTHY if self.good else HealthState.UNKNOWN
        reason = Reason.HELD_OUT if self.held else Reason.OK if self.good else Reason.NEVER_SEEN
        base = reading(NAME, clock=self.clock, left_s=TTL_S)
        verdict = Verdict(available=reason is Reason.OK, reason=reason)
        said = msgspec.structs.replace(
            base, broker_epoch=self.epoch, version=self._version, state=state, verdict=verdict
        )
        if verdict.available:
            self.world.true_s = self.world.base.up_s()
        self._uplink.publish(said, with_cash=True)


class Supervisor(Process):
    def __init__(self, world: World, place: int, before: str) -> None:
        super().__init__(world)
        self.place = place
        self.epoch = next_epoch(self.clock.now().wall_us, before, f"{world.chance.getrandbits(32):08x}")
        self.inbox = RemoteInbox(cast("Any", None), "", self.clock, None, {NAME: "kraken"}.get)
        spec = BrokerSpec(NAME, exchange="kraken")
        board = Board([unreported_slot(spec, self.clock, HEARTBEAT_S)])
        wire = cast("Publisher", Wire(world, lambda: [lambda topic, body: world.heard(place, topic, body)]))
        publishing = Publishing(wire, "supervisor/desk", self.epoch, self.clock, TTL_S)
        views = {name: unheard(*parts, self.clock.now()) for name, parts in board.parts().items()}
        self.actor = RemoteSupervisor(
            views,
            RemoteSupervisorContext(
                take_newest=self.inbox.take,
                topic=HealthPublishing(publishing, publish_balances=True),
                journal=Journal(None),
                board=board,
                alarms=_NoAlarms(),
                clock=self.clock,
                heartbeat_s=HEARTBEAT_S,
            ),
            lambda _why: None,
        )
        self.actor.begin()

    def woken(self) -> None:
        self.inbox.turn()

    def receive(self, topic: str, body: bytes) -> None:
        def take() -> None:
            self.inbox._keep(topic, body)  # pyright: ignore[reportPrivateUsage] - in place of its thread
            self.actor.handle(Drain())

        self.later(take)

    def beat(self) -> None:
        self.later(lambda: self.actor.handle(LookRound()))


class _NoAlarms:
    """The world beats by itself."""

    def after(self, delay_s: float, function: Callable[[], object]) -> None:
        del delay_s, function


class World:
    """All of it, from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.base = ManualClock()
        self.calm = False
        self.true_s = float("-inf")
        """When the node last said that its account is available."""
        self.held = False
        self.counts: Counter[str] = Counter()
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.inboxes = (0, 1)
        self._listener = Skewed(self.base, self.chance.uniform(0, 1_000), self.chance.uniform(-30, 30))
        self._receivers = [Receiver(self._listener), Receiver(self._listener)]
        self._known: list[Reading | None] = [None, None]
        self.supervisors = [Supervisor(self, place, "") for place in self.inboxes]
        self.node: Node | None = None
        self._last_epoch = ""

    # --- the network -----------------------------------------------------------------------------------

    def send(self, deliver: Callable[[], None]) -> None:
        chance, now_s = self.chance, self.base.up_s()
        if self.calm:
            self._due.append((now_s, deliver))
            return
        if chance.random() < 0.15:
            self.counts["a lost message"] += 1
            return
        for _ in range(2 if chance.random() < 0.1 else 1):
            late_s = chance.uniform(0, LONGEST_DELAY_S) if chance.random() < 0.3 else 0.0
            self._due.append((now_s + late_s, deliver))

    def into(self, place: int) -> list[Callable[[str, bytes], None]]:
        return [lambda topic, body: self.supervisors[place].receive(topic, body)]

    def heard(self, place: int, topic: str, body: bytes) -> None:
        receiver = self._receivers[place]
        receiver.take(topic, decode(body))
        newest = receiver.newest.get(SENT)
        if newest is not None and newest.reading.as_of is not None:
            self._known[place] = newest.reading

    # --- what happens ----------------------------------------------------------------------------------

    def run(self, lasts_s: float) -> None:
        until_s = self.base.up_s() + lasts_s
        step = 0
        while self.base.up_s() < until_s:
            self.base.advance(STEP_S)
            step += 1
            if not self.calm:
                self._mischief()
            if step % round(HEARTBEAT_S / STEP_S) == 0:
                if self.node is not None and self.node.runs:
                    self.node.say()
                for supervisor in self.supervisors:
                    supervisor.beat()
            now_s = self.base.up_s()
            due = [deliver for at_s, deliver in self._due if at_s <= now_s]
            self._due = [(at_s, deliver) for at_s, deliver in self._due if at_s > now_s]
            if not self.calm:
                self.chance.shuffle(due)
            for deliver in due:
                deliver()
            for supervisor in self.supervisors:
                supervisor.turn()
            for receiver in self._receivers:
                receiver.expire()
            self.check()

    def _mischief(self) -> None:
        chance, now_s = self.chance, self.base.up_s()
        node = self.node
        if node is None:
            if chance.random() < 0.1:
                self.start_node()
            return
        drawn = chance.random()
        if drawn < 0.03:
            node.good = not node.good
            self.counts["an account out" if not node.good else "an account back"] += 1
            self._say(node)
        elif drawn < 0.05:
            self.held = node.held = not node.held
            self.counts["a hold" if node.held else "a release"] += 1
            self._say(node)
        elif drawn < 0.06:
            self.node = None
            self.counts["a dead node"] += 1
            if chance.random() < 0.5:  # what its message is worth must not begin anew with their own
                self.counts["a host that takes supervisors with it"] += 1
                at_s = now_s + chance.uniform(0, TTL_S)
                self._due.append((at_s, self._stop_supervisors))
        elif drawn < 0.07:
            node.stopped_until_s = now_s + chance.uniform(0, 2 * TTL_S)
            self.counts["a stopped node"] += 1
        elif drawn < 0.08:
            chance.choice(self.supervisors).stopped_until_s = now_s + chance.uniform(0, 2 * TTL_S)
            self.counts["a stopped supervisor"] += 1
        elif drawn < 0.09:
            place = chance.randrange(2)
            self.supervisors[place] = Supervisor(self, place, self.supervisors[place].epoch)
            self.counts["a restarted supervisor"] += 1

    def _stop_supervisors(self) -> None:
        for supervisor in () if self.calm else self.supervisors:
            supervisor.stopped_until_s = self.base.up_s() + 2 * TTL_S

    @staticmethod
    def _say(node: Node) -> None:
        if node.runs:
            node.say()

    def start_node(self) -> None:
        self.node = Node(self, self._last_epoch)
        self._last_epoch = self.node.epoch
        self.node.say()

    def settle(self) -> None:
        """No fault any more: after two times to live all say the same as the node."""
        self.calm = True
        if self.node is None:
            self.start_node()
        for process in (self.node, *self.supervisors):
            if process is not None:
                process.stopped_until_s = 0.0
        self.run(2 * TTL_S + LONGEST_DELAY_S)
        assert self.node is not None
        wanted = self.node.good and not self.node.held
        for name, found in self.shown().items():
            if found is None or found.available != wanted or found.broker_epoch != self.node.epoch:
                raise Broken(
                    f"seed {self.seed}: at rest {name} shows {_words(found)}; the node says {wanted}"
                )

    # --- what must hold --------------------------------------------------------------------------------

    def shown(self) -> Mapping[str, Reading | None]:
        """What a listener on the first supervisor, on the second, and on both shows."""
        found = [receiver.newest.get(SENT) for receiver in self._receivers]
        published = [
            Published(SENT[0], each.stamp.epoch, f"supervisor {place}", each.reading, known)
            for place, (each, known) in enumerate(zip(found, self._known, strict=True))
            if each is not None
        ]
        now = self._listener.now()
        both = merged(published, now) if published else None
        first, second = (None if each is None else each.reading for each in found)
        return {"the first": first, "the second": second, "both": both}

    def check(self) -> None:
        # Each way takes its delay, and is looked at in steps.
        bound_s = TTL_S + 2 * (LONGEST_DELAY_S + 2 * STEP_S) + 2 * STEP_S
        ago_s = self.base.up_s() - self.true_s
        shown = self.shown()
        for name, found in shown.items():
            if found is not None and found.available and ago_s > bound_s:
                raise Broken(
                    f"seed {self.seed}: {name} shows available {ago_s:.1f} s after the node last said so"
                )
        both = shown["both"]
        alone = [each for name, each in shown.items() if name != "both" and each is not None]
        if both is not None and both.available and not any(each.available for each in alone):
            raise Broken(f"seed {self.seed}: together they show available, and neither does alone")
        fresh = [each for each in alone if not each.expired]
        newest = max(((each.broker_epoch, each.version) for each in fresh), default=("", 0))
        of_newest = [each for each in fresh if (each.broker_epoch, each.version) == newest]
        if both is not None and both.available and not all(each.verdict.available for each in of_newest):
            raise Broken(f"seed {self.seed}: the newest that is known is not available, and both say it is")
        self.counts["shown available"] += both is not None and both.available


def _words(found: Reading | None) -> str:
    return "nothing" if found is None else f"{found.available} ({found.reason}) of {found.broker_epoch}"


def simulated(seed: int) -> Counter[str]:
    """One history. Returns what it came to; raises Broken."""
    world = World(seed)
    world.run(LASTS_S)
    world.settle()
    return world.counts
