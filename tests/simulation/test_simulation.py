"""Histories of the real parts in a simulated world, each from its seed, and what they once broke."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import pytest

from brokerwatch.health.restarts import RESTART_LIMIT
from tests.simulation.network import Sent
from tests.simulation.oracle import Broken
from tests.simulation.script import simulated
from tests.simulation.world import Plan, World

SEEDS: Final = 2_000
CHUNK: Final = 100
BROKEN_ONCE: Final = (
    7_621, 7_734, 8_097, 9_373, 10_017, 10_681, 11_460, 11_878, 12_008, 13_329, 15_637, 15_771, 16_272,
    16_412, 22_771, 24_860, 25_516, 26_509, 27_144, 28_281, 29_155, 32_737, 37_070, 38_940, 45_421,
    87_457, 87_961, 88_128,
)  # fmt: skip
"""Seeds beyond these in which an invariant was broken."""
REACHED: Final = (
    "a hold",
    "a leap",
    "a restart",
    "a silence",
    "an account out after errors",
    "an account that came back",
    "an account that left",
    "an answer that came too late",
    "another configuration",
    "another key",
)
"""What each chunk of histories must come to, or it proves nothing."""


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK), ids=lambda first: f"{first}-{first + CHUNK - 1}")
def test_no_history_breaks_an_invariant(first: int) -> None:
    reached: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        reached.update(simulated(seed).oracle.counts)
    assert [what for what in REACHED if not reached[what]] == []


@pytest.mark.parametrize("seed", BROKEN_ONCE)
def test_a_history_that_was_broken_once_holds(seed: int) -> None:
    simulated(seed)


def test_a_seed_is_one_history() -> None:
    def told(seed: int) -> tuple[int, list[str]]:
        world = simulated(seed)
        return world.scheduler.steps, world.scheduler.trace.lines()[-20:]

    assert told(7)[0] == told(7)[0]
    assert [line for line in told(7)[1] if "0x" not in line] == [
        line for line in told(7)[1] if "0x" not in line
    ]


@contextmanager
def quiet_world(plan: Plan | None = None, seed: int = 1) -> Generator[World]:
    """A world in which nothing goes wrong but what a test does."""
    world = World(seed, Plan() if plan is None else plan)
    with world.scheduler.in_force():
        world.join()
        world.start_cluster()
        world.run(5.0)
        yield world


def shown_reason(world: World) -> str:
    """What the board says of the first account."""
    assert world.cluster is not None
    return world.cluster.board.slot("a").reading.reason


def heard(world: World, name: str = "a") -> str:
    """What the first listener says of an account."""
    return world.hearings[0].listener.readings()[name].reason


def test_in_a_quiet_world_all_is_well() -> None:
    with quiet_world() as world:
        world.run(30.0)
        assert heard(world) == "ok"
        assert not world.oracle.counts.keys() & {"a restart", "a silence", "a leap"}


def test_a_broken_invariant_is_named_with_its_seed_and_the_last_events() -> None:
    with quiet_world(seed=4_711) as world:
        life = world.oracle.accounts["a"].life
        assert life is not None
        life.tripped = True
        with pytest.raises(Broken, match=r"(?s)invariant 4: .*seed 4711, step \d+, at .*board: a healthy ok"):
            world.run(6.0)


# What it found --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["sleeps", "is paused"])
def test_a_listener_hears_a_cluster_again_after_the_machine_of_that_slept(which: str) -> None:
    with quiet_world() as world:
        here = world.here
        world.scheduler.stop_machine(here, 20.0, sleeps=which == "sleeps", pauses=which == "is paused")
        world.run(24.0)
        assert heard(world) == "nothing_heard"
        world.run(28.0 if which == "sleeps" else 210.0)
        assert heard(world) == "ok"


def test_what_came_before_the_machine_slept_and_is_taken_after_it_proves_nothing() -> None:
    with quiet_world() as world:
        cluster = world.cluster
        assert cluster is not None
        [supervisor] = cluster.supervisors()
        supervisor.hangs_until_s = world.scheduler.now_s + 3.0
        world.run(6.5)
        world.scheduler.stop_machine(world.here, 20.0, sleeps=True)
        for actor in cluster.brokers("a"):
            actor.hangs_until_s = 40.0
        world.run(30.0)  # the oracle looks at the messages
        assert heard(world) != "ok"


@pytest.mark.parametrize("set_back_s", [0.0, 4.0, 30.0])
def test_a_pause_proves_nothing_unless_the_wall_clock_was_set_back_in_it(set_back_s: float) -> None:
    with quiet_world() as world:
        world.exchanges["a"].mode = "busy"
        world.scheduler.stop_machine(world.here, 20.0, pauses=True)
        world.run(24.0)
        world.here.clock.jump_wall(-set_back_s)
        world.run(45.0)  # the oracle looks at the board and at the messages
        assert world.oracle.counts.get("a leap", 0) == (0 if set_back_s > 15.0 else 2)
        assert shown_reason(world) == "unproven"


def test_a_caller_behind_the_message_that_ended_the_actor_gets_its_answer() -> None:
    with quiet_world() as world:
        cluster = world.cluster
        assert cluster is not None
        [actor] = cluster.brokers("a")
        world.poison(actor)
        waiter = cluster.ask("a")
        assert waiter is not None
        world.run(6.0)
        assert waiter.result(timeout=0).broker == "a"


def test_a_supervisor_that_starts_again_allows_no_more_restarts() -> None:
    with quiet_world(Plan(brokers=1)) as world:
        cluster = world.cluster
        assert cluster is not None
        while not world.oracle.counts.get("an account given up"):
            for actor in (*cluster.brokers("a"), *cluster.supervisors()[: world.scheduler.now_s > 12.0]):
                world.poison(actor)
            world.run(world.scheduler.now_s + 4.0)
            assert world.scheduler.now_s < 60.0
        assert world.oracle.counts["a restart"] <= RESTART_LIMIT


def test_a_life_that_is_over_may_go_on_until_it_notices_and_writes_nothing() -> None:
    with quiet_world() as world:
        cluster = world.cluster
        assert cluster is not None
        [former] = cluster.brokers("a")
        former.hangs_until_s = world.scheduler.now_s + 9.0
        while cluster.lives.of("a").epoch == former.actor._epoch:
            assert world.scheduler.step(20.0)
        [_, successor] = cluster.brokers("a")
        successor.hangs_until_s = former.hangs_until_s + 0.5  # it has not begun
        world.run(former.hangs_until_s + 0.4)  # the oracle looks at what the former one does
        assert former.ended
        assert heard(world) != "ok"
        world.run(world.scheduler.now_s + 1.0)
        assert heard(world) == "ok"


@pytest.mark.parametrize("what", ["an answer of another call", "another key"])
def test_a_message_is_lost_with_an_actor_that_dies_while_it_asks_after_a_leap(what: str) -> None:
    with quiet_world() as world:
        cluster, exchange = world.cluster, world.exchanges["a"]
        assert cluster is not None
        exchange.raises, exchange.raises_times = RuntimeError("a bug"), 1
        cluster.clock.sleep(8.0)
        if what == "another key":
            world.rekey("a", same_account=False, found_ago_s=0.1)
        else:
            cluster.observe("a", 0.0)
        exchange.mode = "error"
        world.run(8.0)  # the oracle looks at the last known
        assert world.oracle.counts["a message that was lost after a leap"]
        assert world.oracle.counts["a restart"]
        assert (cluster.board.slot("a").known()[1] is None) is (what == "another key")


def test_what_waits_in_the_socket_of_a_machine_that_stopped_comes_in_its_order() -> None:
    with quiet_world() as world:
        came, link = list[float](), world.hearings[0].links[0]
        deliver = link.deliver

        def noted(sent: Sent) -> None:
            came.append(sent.sent_s)
            deliver(sent)

        link.deliver = noted
        world.run(5.7)
        world.scheduler.stop_machine(world.there, 20.1)  # a sum of these seconds differs in its last bit
        world.run(28.0)
        assert len(came) > 10
        assert came == sorted(came)
