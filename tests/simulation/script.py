"""What goes wrong in a world, and when: drawn from its seed.

Each seed allows only some kinds of trouble, and a lot of those: a history in which everything happens a
little rarely reaches what two kinds do to each other.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from brokerwatch.actors.recorder import LONGEST_WAIT_S
from brokerwatch.bus.reception import STEADY_OVER_S, STEADY_S
from brokerwatch.clock import Instant
from brokerwatch.health.backoff import LIMITED_LONGEST_S, SLOW_S
from brokerwatch.health.reading import ttl_s
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.storage.health_record import read
from tests.simulation.memory import emptied
from tests.simulation.network import Weather
from tests.simulation.record import number_in
from tests.simulation.reloads import LONGEST_DEADLINE_S, LONGEST_POLL_S, Reloads
from tests.simulation.scheduler import NEVER_S
from tests.simulation.world import Plan, World

CHAOS_S: Final = 14.0
FEWEST, MOST = 5, 12
"""Events in a history."""
MODES: Final = ("error", "error", "hangs", "lost", "slow", "locked", "busy", "refused")
KINDS: Final = (
    FaultKind.NETWORK,
    FaultKind.EXCHANGE_DOWN,
    FaultKind.MAINTENANCE,
    FaultKind.RATE_LIMITED,
    FaultKind.BAD_RESPONSE,
    FaultKind.NONCE_CLOCK,
)


def planned(seed: int) -> Plan:
    """What the world of a seed is like."""
    chance = random.Random(f"plan {seed}")
    return Plan(
        brokers=chance.choice((1, 2, 2, 3)),
        poll_s=chance.choice((1.0, 2.0, 3.0)),
        deadline_s=chance.choice((0.5, 1.5)),
        threshold=chance.choice((1, 2, 3, 3)),
        guarded=chance.random() < 0.3,
        endpoints=chance.choice((1, 1, 2)),
        answers_twice=chance.choice((0.0, 0.2)),
    )


def simulated(seed: int, *, shows: bool = False) -> World:
    """Let the whole history of a seed happen. Raises Broken where an invariant does not hold."""
    world = World(seed, planned(seed), shows)
    with world.scheduler.in_force():
        world.join()
        world.start_cluster()
        Script(world).play()
    return world


class Script:
    """The events of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.scheduler = world.scheduler
        self.chance = world.scheduler.random
        self.reloads = Reloads(world)
        self._was_limited = False
        """Whether an exchange has said that it is asked too often."""

    def play(self) -> None:
        """Trouble, then none; then everything must heal."""
        events = self._events()
        allowed = self.chance.sample(events, self.chance.randint(2, min(6, len(events))))
        times = sorted(0.5 + self.chance.random() * CHAOS_S for _ in range(self.chance.randint(FEWEST, MOST)))
        for at_s in times:
            self.world.run(at_s)
            self.chance.choice(allowed)()
        self.world.run(CHAOS_S + 1.0)
        self._heal()

    def _events(self) -> list[Callable[[], object]]:
        return [
            self.exchange_fails,
            self.exchange_fails,
            self.exchange_answers,
            self.bus_weather,
            self.health_weather,
            self.line_cut,
            self.actor_crashes,
            self.actor_raises,
            self.actor_hangs,
            self.actor_hangs_and_dies,
            self.actor_stopped,
            self.supervisor_crashes,
            self.supervisor_hangs,
            self.recorder_crashes,
            self.process_killed,
            self.disk_fails,
            self.disk_lost,
            self.wall_steps,
            self.machine_sleeps,
            self.machine_stops,
            self.hold,
            self.release,
            self.reset,
            self.ask,
            self.observe,
            self.reloads.account_comes,
            self.reloads.account_leaves,
            self.reloads.account_comes_back,
            self.reloads.another_configuration,
            self.reloads.another_key,
            self.reloads.another_order,
        ]

    def _name(self) -> str:
        return self.chance.choice(list(self.world.specs))

    # Exchanges ------------------------------------------------------------------------------------------

    def exchange_fails(self) -> None:
        exchange = self.world.exchanges[self._name()]
        exchange.mode = self.chance.choice(MODES)
        exchange.kind = self.chance.choice(KINDS)
        self._was_limited |= exchange.mode == "error" and exchange.kind is FaultKind.RATE_LIMITED
        self.world.note("exchange {}: {} {}", exchange.name, exchange.mode, exchange.kind)

    def exchange_answers(self) -> None:
        exchange = self.world.exchanges[self._name()]
        exchange.mode = "ok"
        self.world.note("exchange {}: ok", exchange.name)

    def ask(self) -> None:
        self.world.ask(self._name())

    def observe(self) -> None:
        if self.world.cluster is not None:
            self.world.cluster.observe(self._name(), self.chance.choice((0.0, 0.5, 3.0)))

    # The network ----------------------------------------------------------------------------------------

    def _draw(self, weather: Weather) -> None:
        weather.drops = self.chance.choice((0.0, 0.1, 0.4))
        weather.doubles = self.chance.choice((0.0, 0.3))
        weather.delays = self.chance.choice((0.0, 0.3))
        weather.longest_s = self.chance.choice((0.2, 2.0))
        weather.spoils = self.chance.choice((0.0, 0.0, 0.1))

    def bus_weather(self) -> None:
        self._draw(self.world.bus_weather)
        self.world.note("bus: {}", self.world.bus_weather)

    def health_weather(self) -> None:
        self._draw(self.chance.choice(self.world.health_weather))
        self.world.note("health: {}", self.world.health_weather)

    def line_cut(self) -> None:
        weather = self.chance.choice([self.world.bus_weather, *self.world.health_weather])
        weather.cut = True
        seconds = self.chance.choice((1.0, 4.0, 8.0))
        self.world.note("a line is cut for {} s", seconds)

        def mend() -> None:
            weather.cut = False

        self.scheduler.at(seconds, mend)

    # Actors ---------------------------------------------------------------------------------------------

    def actor_crashes(self) -> None:
        if self.world.cluster is not None:
            for actor in self.world.cluster.brokers(self._name())[-1:]:
                self.world.poison(actor)

    def actor_raises(self) -> None:
        error = self.chance.choice((RuntimeError("a bug"), SystemExit(1)))
        exchange = self.world.exchanges[self._name()]
        exchange.raises, exchange.raises_times = error, self.chance.choice((1, 1, 2, 9))
        self.world.note("the actor of {} raises {} times", exchange.name, exchange.raises_times)

    def actor_hangs(self) -> None:
        if self.world.cluster is not None:
            seconds = self.chance.choice((1.0, 4.0, 7.0, 12.0, NEVER_S))
            name = self._name()
            if any(actor.hangs_until_s == NEVER_S for actor in self.scheduler.actors):
                seconds = min(seconds, 12.0)  # when all hang, the supervisor takes itself for deaf
            for actor in self.world.cluster.brokers(name)[-1:]:
                if actor.hangs_until_s == NEVER_S:
                    continue
                actor.hangs_until_s = self.scheduler.now_s + seconds
                self.world.note("the actor of {} hangs for {} s", name, seconds)

    def actor_hangs_and_dies(self) -> None:
        """It dies of the first message that it finds when it wakes."""
        if self.world.cluster is not None:
            for actor in self.world.cluster.brokers(self._name())[-1:]:
                seconds = self.chance.choice((4.0, 7.0, 12.0))
                if actor.hangs_until_s < NEVER_S:
                    actor.hangs_until_s = self.scheduler.now_s + seconds
                self.world.poison(actor)

    def actor_stopped(self) -> None:
        if self.world.cluster is not None:
            name = self._name()
            for actor in self.world.cluster.brokers(name)[-1:]:
                actor.actor.actor_ref.stop(block=False)
                self.world.note("the actor of {} is stopped by a stranger", name)

    def supervisor_crashes(self) -> None:
        if self.world.cluster is not None:
            for actor in self.world.cluster.supervisors():
                self.world.poison(actor)

    def supervisor_hangs(self) -> None:
        if self.world.cluster is not None:
            for actor in self.world.cluster.supervisors():
                actor.hangs_until_s = self.scheduler.now_s + self.chance.choice((1.0, 4.0, 8.0))
                self.world.note("the supervisor hangs until {}", actor.hangs_until_s)

    def recorder_crashes(self) -> None:
        from brokerwatch.actors.recorder import Recorder

        if self.world.cluster is not None:
            for actor in list(self.scheduler.of(self.world.cluster.process, Recorder)):
                self.world.poison(actor)

    # Processes, machines, the disk ----------------------------------------------------------------------

    def process_killed(self) -> None:
        if self.world.cluster is not None:
            self.world.kill_cluster()
            self.scheduler.at(self.chance.choice((0.1, 2.0, 7.0)), self._start_again)

    def _start_again(self) -> None:
        here = self.world.here
        if here.stopped_until_s > self.scheduler.now_s:
            self.scheduler.at(here.stopped_until_s - self.scheduler.now_s + 0.1, self._start_again)
        elif self.world.cluster is None:
            self.world.start_cluster()

    def disk_fails(self) -> None:
        self.world.disk.fails = not self.world.disk.fails
        self.world.note("the disk fails: {}", self.world.disk.fails)

    def disk_lost(self) -> None:
        everything = self.chance.random() < 0.3
        emptied(self.world.disk, holds_too=everything)
        if everything or self.world.cluster is None:
            # Without a process that runs there is none that could write it again.
            self.world.oracle.holds_kept.clear()
        self.world.note("the database is lost{}", ", and the folder" if everything else "")

    def wall_steps(self) -> None:
        machine = self.chance.choice(self.scheduler.machines)
        seconds = self.chance.choice((-3_600.0, -30.0, -3.0, 3.0, 30.0, 3_600.0, 86_400.0))
        machine.clock.jump_wall(seconds)
        if 0.0 < seconds < 5.0:
            machine.dozed_s += seconds
        self.world.note("the wall clock {} steps by {} s", machine.name, seconds)

    def machine_sleeps(self) -> None:
        machine = self.chance.choice(self.scheduler.machines)
        if machine.stopped_until_s <= self.scheduler.now_s:
            seconds = self.chance.choice((1.0, 8.0, 8.0))
            if seconds < 5.0:
                machine.dozed_s += seconds
            # A listener cannot tell its own pause from a wall clock that was set.
            paused = machine is self.world.here and self.chance.random() < 0.2
            self.scheduler.stop_machine(machine, seconds, sleeps=not paused, pauses=paused)
            if paused:
                self.world.oracle.count("a pause")
            self.world.note(
                "the machine {} {} for {} s", machine.name, "is paused" if paused else "sleeps", seconds
            )

    def machine_stops(self) -> None:
        machine = self.chance.choice(self.scheduler.machines)
        if machine.stopped_until_s <= self.scheduler.now_s:
            seconds = self.chance.choice((1.0, 4.0, 9.0))
            self.scheduler.stop_machine(machine, seconds)
            self.world.note("the machine {} stops for {} s", machine.name, seconds)

    # Operators ------------------------------------------------------------------------------------------

    def hold(self) -> None:
        if self.world.cluster is not None:
            until = None
            if self.chance.random() < 0.3:
                now, seconds = self.world.cluster.clock.now(), self.chance.choice((0.5, 4.0, 60.0))
                until = Instant(now.wall_us + round(seconds * 1e6), now.up_s + seconds)
            self.world.command("hold", self._name(), until)

    def release(self) -> None:
        self.world.command("release", self._name())

    def reset(self) -> None:
        self.world.command("reset", self._name())

    # The end --------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        """All trouble is over: everything heals within the stated time, and every listener knows it."""
        world, plan = self.world, self.world.plan
        world.note("all trouble is over")
        for exchange in world.exchanges.values():
            exchange.mode, exchange.raises, exchange.raises_times = "ok", None, 0
        for weather in (world.bus_weather, *world.health_weather):
            weather.drops = weather.doubles = weather.delays = weather.spoils = 0.0
            weather.cut = False
        world.disk.fails = False
        world.run(max(self.scheduler.now_s, world.here.stopped_until_s + 0.2, self.reloads.all_back_s + 0.2))
        if world.cluster is None:
            world.start_cluster()
        late = world.join()
        beat_s = plan.heartbeat_s
        until_s = self.scheduler.now_s + self.heals_within_s()
        while self.scheduler.now_s < until_s:
            world.run(self.scheduler.now_s + beat_s)
            if self._unhealed() is None:
                break
            self._operate()
        found = self._unhealed()
        if found is not None:
            world.oracle.fail(27, "{} s after all trouble: {}", self.heals_within_s(), found)
        self._look_at_the_disk()
        del late

    def _look_at_the_disk(self) -> None:
        """With no more answers, what is stored is soon what is known."""
        for exchange in self.world.exchanges.values():
            exchange.mode = "busy"
        until_s = self.scheduler.now_s + LONGEST_WAIT_S + 4.0
        missing: str | None = ""
        while missing is not None and self.scheduler.now_s < until_s:
            self.world.run(self.scheduler.now_s + 2.0)
            missing = self._not_stored()
        if missing is not None:
            self.world.oracle.fail("2 and 20", "{}", missing)

    def _not_stored(self) -> str | None:
        """What is known and not stored; None: everything is."""
        disk, cluster = self.world.disk, self.world.cluster
        if cluster is None or cluster.memory.gave_up:
            return None
        for name in self.world.specs:
            account = self.world.oracle.accounts[name]
            stored = disk.healths.get(name)
            balance = None if stored is None else read(stored.document, threshold=3).health.balance
            number = None if balance is None else number_in(balance.holdings)
            if number != account.number:
                return f"answer {number} of {name} is stored, and not {account.number}"
            if name in disk.holds or name in (disk.hold_file or {}):
                return f"{name} was released, and the disk has a hold on it"
        return None

    def heals_within_s(self) -> float:
        """The time within which everything heals, in seconds.

        It is a machine that sleeps, the detection of an actor that hangs, the longest wait before its
        restart, and the fetches that its policy asks for. During maintenance, and after it was asked too
        often, an account is asked seldom. After a pause that only a listener's own clock shows, it finds
        within a run of messages how the clocks differ now.
        """
        plan, world = self.world.plan, self.world
        paused_s = STEADY_S + STEADY_OVER_S if self.world.oracle.counts.get("a pause") else 0.0
        slow_s = SLOW_S if world.was_guarded else 0.0  # in maintenance
        if self._was_limited:
            slow_s = max(slow_s, LIMITED_LONGEST_S)
        return (
            slow_s
            + paused_s
            + 9.0
            + 2 * ttl_s(plan.heartbeat_s)
            + 16.0
            + 2 * (LONGEST_POLL_S + LONGEST_DEADLINE_S + 4.0)
        )

    def _operate(self) -> None:
        """What an operator does in the end: reset what was given up, and what was refused for good."""
        cluster = self.world.cluster
        assert cluster is not None
        if cluster.gave_up:
            self.world.oracle.count("a supervisor given up")
            self.world.kill_cluster()
            self.world.start_cluster()
            return
        for name in self.world.specs:
            reading = cluster.board.slot(name).reading
            reason, refused = reading.reason, reading.fault is FaultKind.AUTH and not reading.available
            if reason in (Reason.FAILED, Reason.AUTH) or refused:  # it is asked ever more seldom
                self.world.command("reset", name)
            elif reason is Reason.HELD_OUT and not self._lacks_the_hold(name):
                self.world.oracle.count("a hold until the end")
                self.world.command("release", name)

    def _lacks_the_hold(self, name: str) -> bool:
        """Whether the hold on an account is still to be stored."""
        cluster = self.world.cluster
        return cluster is not None and not cluster.memory.gave_up and name not in self.world.disk.holds

    def _unhealed(self) -> str | None:
        """What has not healed; None: everything has."""
        world, cluster = self.world, self.world.cluster
        assert cluster is not None
        for name in world.specs:
            reading = cluster.board.slot(name).reading
            if reading.reason is Reason.HELD_OUT and self._lacks_the_hold(name):
                return f"the hold on {name} is not stored"
            if not reading.available:
                return f"the board says {reading.reason} of {name}"
            for number, hearing in enumerate(world.hearings):
                heard = hearing.listener.readings().get(name)
                if heard is None or not heard.available:
                    return f"listener {number} says {None if heard is None else heard.reason} of {name}"
                if (heard.state, heard.broker_epoch) != (reading.state, reading.broker_epoch):
                    return f"listener {number} shows another life of {name}"
                if heard.cash is None or reading.cash is None or heard.cash > reading.cash:
                    return f"listener {number} shows cash {heard.cash} and not {reading.cash}"
        for number, hearing in enumerate(world.hearings):
            gone = hearing.listener.readings().keys() - world.specs.keys()
            if gone:
                return f"listener {number} still shows {gone}, which left"
        for order in world.orders:
            if order.is_forgotten:
                return f"{order.what} has waited since {order.since_s:.3f}"
        for actor, since_s, waiter in world.waiters:
            if not waiter.done() and actor.process.alive and actor.hangs_until_s < NEVER_S:
                return f"a caller has waited since {since_s:.3f}"
        return None
