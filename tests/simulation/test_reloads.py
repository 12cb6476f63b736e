"""Reloads and commands in a simulated world: what the histories once broke, each in a small history."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest

from brokerwatch.actors.base import tell
from brokerwatch.actors.protocol import FetchNow, LookRound, OperatorCommand, Ordered, RestartDue
from brokerwatch.clock import Instant
from brokerwatch.config.money_watch_settings import MoneyRules
from brokerwatch.errors import ControlError
from brokerwatch.storage.health_record import read
from tests.simulation.memory import emptied
from tests.simulation.record import number_in
from tests.simulation.scheduler import NEVER_S
from tests.simulation.test_simulation import heard, quiet_world
from tests.simulation.world import ClusterProcess, Plan, World


def running(world: World) -> ClusterProcess:
    """The process that runs."""
    assert world.cluster is not None
    return world.cluster


def without(world: World, name: str) -> None:
    """Remove an account."""
    world.reload({each: found for each, found in world.configured.items() if each != name})


# Commands ------------------------------------------------------------------------------------------


def test_a_command_behind_the_message_that_ended_the_supervisor_is_carried_out_by_the_next_one() -> None:
    with quiet_world() as world:
        cluster = running(world)
        world.poison(cluster.supervisors()[0])
        reply = cluster.command("hold", "a")
        assert reply is not None
        world.run(8.0)
        assert reply.result(timeout=0) == "a is held out by an operator: maintenance"
        assert heard(world) == "held_out"


def test_a_command_that_is_given_while_there_is_no_supervisor_is_carried_out_by_the_next_one() -> None:
    with quiet_world() as world:
        cluster = running(world)
        world.poison(cluster.supervisors()[0])
        while cluster.supervisors():
            world.scheduler.step(8.0)
        reply = cluster.command("hold", "a")
        assert reply is not None
        world.run(8.0)
        assert "is held out" in reply.result(timeout=0)
        assert heard(world) == "held_out"


def test_a_supervisor_that_dies_of_a_command_answers_it_and_the_next_one_does_not_die_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from brokerwatch.actors.supervisor import HealthSupervisor

    with quiet_world() as world:
        cluster, tried = running(world), list[str]()

        def dies(_supervisor: HealthSupervisor, command: OperatorCommand, _now: object) -> None:
            tried.append(command.broker)
            raise RuntimeError("a bug")

        monkeypatch.setattr(HealthSupervisor, "_hold", dies)
        reply = cluster.command("hold", "a")
        assert reply is not None
        world.run(8.0)
        with pytest.raises(
            ControlError, match="the supervisor failed over this command: RuntimeError: a bug"
        ):
            reply.result(timeout=0)
        assert tried == ["a"]
        assert heard(world) == "ok"


def test_a_command_that_no_supervisor_will_come_to_is_refused() -> None:
    with quiet_world(Plan(brokers=1)) as world:
        cluster, reply = running(world), Future[str]()
        while not cluster.gave_up:
            for supervisor in cluster.supervisors():
                world.poison(supervisor)
            reply = cluster.command("hold", "a") or reply
            world.run(world.scheduler.now_s + 1.0)
            assert world.scheduler.now_s < 120.0
        with pytest.raises(ControlError, match="failed for good"):
            reply.result(timeout=0)
        assert cluster.command("hold", "a") is None


def test_a_reload_behind_the_message_that_ended_the_supervisor_is_answered() -> None:
    with quiet_world() as world:
        world.poison(running(world).supervisors()[0])
        without(world, "b")
        world.run(8.0)
        assert world.orders
        assert all(each.done.done() for each in world.orders)


# Accounts that leave -------------------------------------------------------------------------------


def test_an_account_that_left_is_shown_by_no_listener_although_the_supervisor_hangs() -> None:
    with quiet_world() as world:
        [supervisor] = running(world).supervisors()
        supervisor.hangs_until_s = 12.0
        without(world, "b")
        world.run(5.5)
        assert heard(world, "b") == "shutdown"


def test_an_account_that_left_is_shown_by_no_listener_although_there_is_no_supervisor() -> None:
    with quiet_world() as world:
        world.poison(running(world).supervisors()[0])
        while running(world).supervisors():
            world.scheduler.step(8.0)
        without(world, "b")
        world.run(world.scheduler.now_s + 0.1)
        assert heard(world, "b") == "shutdown"
        world.run(12.0)
        assert "b" not in world.hearings[0].listener.readings()


def test_a_round_before_the_reload_publishes_no_account_that_left_and_came_back() -> None:
    with quiet_world() as world:
        [supervisor] = running(world).supervisors()
        known = dict(world.configured)
        supervisor.hangs_until_s = 7.0
        world.run(6.9)
        [actor] = running(world).brokers("b")
        actor.hangs_until_s = 8.0  # else the round finds that it has ended
        without(world, "b")
        world.exchanges["b"].mode = "busy"
        world.reload(known)
        while any(isinstance(each.message, LookRound) for each in supervisor.inbox.waiting):
            world.scheduler.step(8.0)
        supervisor.hangs_until_s = world.scheduler.now_s + 0.5
        world.run(9.0)  # the oracle looks at the messages
        assert heard(world, "b") == "never_seen"


def test_a_restart_that_is_due_gives_an_account_that_came_back_no_second_actor() -> None:
    with quiet_world() as world:
        cluster = running(world)
        known = dict(world.configured)
        world.poison(cluster.brokers("b")[0])
        while cluster.board.slot("b").reading.reason != "restarting":
            world.scheduler.step(9.0)
        [supervisor] = cluster.supervisors()
        supervisor.hangs_until_s = world.scheduler.now_s + 1.0
        world.run(world.scheduler.now_s + 0.8)  # `RestartDue` waits by now
        without(world, "b")
        world.reload(known)
        world.run(9.0)
        assert len({each.epoch for each in world.oracle.lives.values() if each.name == "b"}) == 2
        assert heard(world, "b") == "ok"


def test_an_account_that_joined_while_the_supervisor_hung_is_not_taken_for_silent() -> None:
    with quiet_world() as world:
        [supervisor] = running(world).supervisors()
        supervisor.hangs_until_s = 13.0
        world.run(6.9)  # a round waits by now, before the reload
        world.reload({**world.configured, "c": world.configured["a"]})
        [actor] = running(world).brokers("c")
        actor.hangs_until_s = 16.0
        world.run(18.0)
        assert heard(world, "c") == "ok"
        assert running(world).brokers("c") == [actor]


# Holds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", [False, True], ids=["and goes on", "and dies"])
def test_a_hold_that_waits_behind_a_supervisor_that_hangs_outlives_that_its_account_comes_back(
    *, dies: bool
) -> None:
    with quiet_world() as world:
        cluster = running(world)
        [supervisor] = cluster.supervisors()
        supervisor.hangs_until_s = 7.0
        world.command("hold", "b")
        if dies:
            world.poison(supervisor)
        known = dict(world.configured)
        without(world, "b")
        world.reload(known)
        world.run(14.0)
        assert world.orders[0].done.result(timeout=0) == "b is held out by an operator: maintenance"
        assert heard(world, "b") == "held_out"


@pytest.mark.parametrize("dies", [False, True], ids=["and goes on", "and dies"])
def test_a_release_that_waits_behind_a_supervisor_that_hangs_counts_when_its_account_comes_back(
    *, dies: bool
) -> None:
    with quiet_world() as world:
        cluster = running(world)
        world.command("hold", "b")
        world.run(6.0)
        [supervisor] = cluster.supervisors()
        supervisor.hangs_until_s = 8.0
        world.command("release", "b")
        if dies:
            world.poison(supervisor)
        known = dict(world.configured)
        without(world, "b")
        world.reload(known)
        world.run(18.0)
        assert "b is released" in world.orders[1].done.result(timeout=0)
        assert heard(world, "b") == "ok"


def test_a_hold_that_only_its_own_file_has_is_stored_by_the_next_process() -> None:
    with quiet_world() as world:
        world.command("hold", "b")
        world.run(6.0)
        world.kill_cluster()
        [hold] = world.disk.holds.values()
        world.disk.holds.clear()
        world.start_cluster()
        world.run(8.0)
        assert world.disk.holds == {"b": hold}


def test_a_hold_that_was_not_stored_may_be_lost_although_one_before_it_was_and_has_ended() -> None:
    with quiet_world() as world:
        now = running(world).clock.now()
        world.command("hold", "b", Instant(now.wall_us + 1_000_000, now.up_s + 1.0))
        world.run(8.0)
        world.disk.fails = True
        world.command("hold", "b")
        world.run(9.0)
        assert "could not be stored" in world.orders[1].done.result(timeout=0)
        world.kill_cluster()
        world.disk.fails = False
        world.start_cluster()  # the oracle looks at the holds
        world.run(12.0)
        assert heard(world, "b") == "ok"


@pytest.mark.parametrize("again", [False, True], ids=["released", "released and held anew"])
def test_a_hold_that_was_released_before_the_store_could_be_read_is_not_back(*, again: bool) -> None:
    with quiet_world() as world:
        world.command("hold", "b")
        world.run(6.0)
        world.kill_cluster()
        world.disk.fails = True
        world.start_cluster()
        world.run(8.0)
        assert heard(world, "b") == "held_out"
        world.command("release", "b")
        if again:
            world.command("hold", "b")
        world.run(9.0)
        world.disk.fails = False
        while not running(world).memory.journal.loaded:
            world.run(world.scheduler.now_s + 1.0)
            assert world.scheduler.now_s < 60.0
        world.run(world.scheduler.now_s + 2.0)
        assert heard(world, "b") == ("held_out" if again else "ok")
        assert ("b" in world.disk.holds, "b" in (world.disk.hold_file or {})) == (again, again)


def test_a_command_for_an_account_that_left_is_refused() -> None:
    with quiet_world() as world:
        [supervisor] = running(world).supervisors()
        supervisor.hangs_until_s = 7.0
        world.command("hold", "b")
        without(world, "b")
        world.run(9.0)
        with pytest.raises(ControlError, match="no broker named 'b' in this cluster; there are: a"):
            world.orders[0].done.result(timeout=0)


# Configurations and keys ---------------------------------------------------------------------------


def test_the_next_life_of_an_actor_that_died_goes_by_the_new_configuration() -> None:
    with quiet_world() as world:
        cluster = running(world)
        [actor] = cluster.brokers("a")
        world.poison(actor)
        world.reload({**world.configured, "a": replace(world.configured["a"], threshold=1, guarded=True)})
        world.run(8.0)
        assert heard(world) == "ok"
        health = cast("Any", cluster.board.slot("a"))._health
        assert (health.threshold, health.rules) == (1, world.specs["a"].rules)


def test_the_next_life_of_an_actor_that_died_watches_the_money_by_the_new_rules() -> None:
    with quiet_world() as world:
        cluster = running(world)
        world.poison(cluster.brokers("a")[0])
        rules = MoneyRules(floor={"USD": Decimal(5)})
        spec = replace(cluster.specs["a"], money_watch=rules)
        cluster.members.specs = {**cluster.members.specs, "a": spec}
        cluster.lives.reconfigure(spec)
        world.run(8.0)
        assert heard(world) == "ok"
        watches = cluster.members.wired.contexts["a"].watches
        assert watches is not None
        assert watches.rules == rules


@pytest.mark.parametrize("ends", ["dies", "hangs"])
def test_the_next_life_after_another_account_behind_the_key_knows_nothing_of_the_former_one(
    ends: str,
) -> None:
    with quiet_world() as world:
        cluster = running(world)
        [actor] = cluster.brokers("a")
        if ends == "dies":
            world.poison(actor)
        else:
            actor.hangs_until_s = NEVER_S
        world.rekey("a", same_account=False, found_ago_s=0.1)
        world.exchanges["a"].mode = "error"
        world.run(20.0)
        assert world.oracle.counts["a restart"]
        assert cluster.board.slot("a").known()[1] is None


@pytest.mark.parametrize("what", ["another configuration", "another key"])
def test_a_change_right_after_the_start_is_taken_up_by_an_actor_that_was_made_before_it(what: str) -> None:
    with quiet_world() as world:
        world.kill_cluster()
        world.start_cluster()
        if what == "another key":
            world.rekey("a", same_account=False, found_ago_s=0.1)
        else:
            world.reload({**world.configured, "a": replace(world.configured["a"], threshold=1)})
        world.run(8.0)
        assert all(each.done.done() for each in world.orders)
        [actor] = running(world).brokers("a")
        assert actor.actor._spec is running(world).specs["a"]
        assert heard(world) == "ok"


def test_an_account_that_leaves_the_stricter_rules_while_it_recovers_waits_for_an_answer() -> None:
    with quiet_world(Plan(guarded=True)) as world:
        board = running(world).board
        world.exchanges["a"].mode = "error"
        while board.slot("a").reading.reason != "errors":
            world.run(world.scheduler.now_s + 0.1)
        world.exchanges["a"].mode = "ok"
        while board.slot("a").reading.reason != "recovering":
            world.run(world.scheduler.now_s + 0.1)
        world.reload({**world.configured, "a": replace(world.configured["a"], guarded=False)})
        world.run(world.scheduler.now_s + 0.1)
        assert board.slot("a").reading.reason == "recovering"
        world.run(world.scheduler.now_s + 4.0)
        assert heard(world) == "ok"


@pytest.mark.parametrize("asked", ["after its proof had ended", "just before its proof ended"])
def test_an_account_that_is_asked_while_a_reload_finds_it_unproven_is_proven_by_the_next_answer(
    asked: str,
) -> None:
    with quiet_world(Plan(brokers=1, poll_s=3.0, threshold=1)) as world:
        cluster, exchange = running(world), world.exchanges["a"]
        reading = cluster.board.slot("a").reading
        [actor] = cluster.brokers("a")
        actor.hangs_until_s = NEVER_S
        if asked != "after its proof had ended":
            exchange.mode = "slow"
            world.run(world.scheduler.now_s + reading.proven_until_s - cluster.clock.up_s() - 0.1)
            tell(actor.actor.actor_ref, FetchNow(Future()))
            actor.hangs_until_s = 0.0
            cast("Any", world.scheduler)._goes_on(actor)
            world.run(world.scheduler.now_s + 0.3)
        else:
            world.run(world.scheduler.now_s + reading.proven_until_s - cluster.clock.up_s() + 0.1)
            actor.hangs_until_s = 0.0
            cast("Any", world.scheduler)._goes_on(actor)
        world.reload({"a": replace(world.configured["a"], threshold=4)})
        assert not cluster.board.slot("a").reading.available
        world.run(world.scheduler.now_s + 2.0)
        assert cluster.board.slot("a").reading.available


def test_a_key_that_is_given_when_a_lockout_has_ended_finds_its_end() -> None:
    with quiet_world() as world:
        exchange, board = world.exchanges["a"], running(world).board
        exchange.mode = "locked"
        while board.slot("a").reading.reason != "locked_out":
            world.scheduler.step(9.0)
        exchange.mode = "busy"
        until_s = running(world).clock.up_s() + exchange.lockout_s
        [actor] = running(world).brokers("a")
        actor.hangs_until_s = world.scheduler.now_s + exchange.lockout_s + 0.1
        world.run(actor.hangs_until_s - 0.2)
        actor.inbox.waiting.clear()
        world.rekey("a", same_account=True, found_ago_s=None)
        world.run(actor.hangs_until_s + 0.5)
        assert running(world).clock.up_s() > until_s
        assert board.slot("a").reading.available


def test_an_account_keeps_its_last_known_balance_when_it_comes_back_although_the_store_was_lost() -> None:
    with quiet_world() as world:
        world.kill_cluster()
        emptied(world.disk, holds_too=False)
        world.start_cluster()
        world.run(8.0)
        known = dict(world.configured)
        without(world, "b")
        world.exchanges["b"].mode = "error"
        world.reload(known)
        world.run(10.0)
        balance = running(world).board.slot("b").known()[1]
        assert balance is not None


@pytest.mark.parametrize("ends", ["dies", "hangs"])
def test_a_balance_that_was_read_late_reaches_the_next_life_of_an_actor_that_missed_it(ends: str) -> None:
    with quiet_world() as world:
        world.kill_cluster()
        world.disk.fails, world.exchanges["a"].mode = True, "error"
        world.start_cluster()
        world.run(8.0)
        cluster = running(world)
        [actor] = cluster.brokers("a")
        actor.hangs_until_s = NEVER_S
        world.disk.fails = False
        while not cluster.memory.journal.loaded:
            assert world.scheduler.step(40.0)
        if ends == "dies":
            actor.actor.actor_ref.stop(block=False)
            actor.inbox.waiting.rotate(1)
            actor.hangs_until_s = 0.0
            cast("Any", world.scheduler)._goes_on(actor)
        world.run(world.scheduler.now_s + 12.0)
        assert cluster.brokers("a") != [actor]
        assert cluster.board.slot("a").known()[1] is not None
        assert read(world.disk.healths["a"].document, threshold=3).health.balance is not None


@pytest.mark.parametrize("dies", [False, True], ids=["one life", "two lives"])
def test_what_is_known_is_stored_although_the_clock_was_set_back_before_a_start_without_the_store(
    *, dies: bool
) -> None:
    with quiet_world() as world:
        world.kill_cluster()
        world.here.clock.jump_wall(-3_600.0)
        world.disk.fails = True
        world.start_cluster()
        world.run(8.0)
        if dies:
            world.poison(running(world).brokers("a")[0])
        world.disk.fails = False
        world.run(24.0)
        stored, balance = world.disk.healths["a"], running(world).board.slot("a").known()[1]
        found = read(stored.document, threshold=3).health.balance
        assert balance is not None
        assert found is not None
        assert number_in(found.holdings) > number_in(balance.holdings) - 8, "an answer of the last seconds"
        world.kill_cluster()
        world.start_cluster()
        world.run(28.0)
        assert world.disk.healths["a"].order > stored.order
        assert heard(world) == "ok"


def test_a_caller_whose_message_the_actor_dies_of_before_it_comes_to_it_gets_its_answer() -> None:
    with quiet_world(Plan(poll_s=30.0, longest_wait_s=30.0)) as world:
        exchange = world.exchanges["a"]
        exchange.raises, exchange.raises_times = SystemExit(1), 1
        waiter = running(world).ask("a")
        running(world).clock.sleep(8.0)  # so that the actor asks anew before it looks at the message
        assert waiter is not None
        world.run(9.0)
        assert waiter.result(timeout=0).broker == "a"
        assert world.oracle.counts["a restart"]


def test_an_order_behind_the_message_that_ended_the_actor_does_not_wait_for_its_reading() -> None:
    with quiet_world() as world:
        cluster, shown = running(world), Future[None]()
        world.poison(cluster.brokers("a")[0])
        assert cluster.lives.tell("a", Ordered(None, shown))
        world.run(6.0)
        assert shown.done()


def asked(*_: object) -> bool:
    """In place of a method: the account has to be asked now."""
    return True


@pytest.mark.parametrize("what", ["another configuration", "another key"])
def test_a_reload_is_answered_although_the_actor_dies_while_it_takes_it_up(what: str) -> None:
    with quiet_world() as world:
        exchange = world.exchanges["a"]
        exchange.raises, exchange.raises_times = RuntimeError("a bug"), 1
        if what == "another key":
            world.rekey("a", same_account=False, found_ago_s=None)
        else:
            world.exchanges["a"].mode = "error"
            actor = running(world).brokers("a")[0].actor
            actor._watch.reconfigured = asked
            world.reload({**world.configured, "a": replace(world.configured["a"], threshold=1)})
        world.run(8.0)
        assert world.oracle.counts["a restart"]
        assert all(each.done.done() for each in world.orders)


def test_a_farewell_of_an_account_that_came_back_is_not_sent_again() -> None:
    with quiet_world() as world:
        [supervisor] = running(world).supervisors()
        supervisor.hangs_until_s = 9.0
        known = dict(world.configured)
        for _ in range(2):
            without(world, "b")
            world.run(world.scheduler.now_s + 0.5)
            world.reload(known)
            world.run(world.scheduler.now_s + 0.5)
        world.run(12.0)  # the oracle looks at the messages
        assert heard(world, "b") == "ok"


def test_a_restart_that_was_due_before_a_reset_starts_no_actor_that_was_given_up_since() -> None:
    with quiet_world() as world:
        cluster = running(world)
        [supervisor] = cluster.supervisors()
        world.exchanges["b"].raises, world.exchanges["b"].raises_times = RuntimeError("a bug"), 99
        world.poison(cluster.brokers("b")[0])
        while cluster.board.slot("b").reading.reason != "failed":
            world.run(world.scheduler.now_s + 1.0)
            assert world.scheduler.now_s < 90.0
        lives = len([each for each in world.oracle.lives.values() if each.name == "b"])
        tell(supervisor.actor.actor_ref, RestartDue("b"))
        world.run(world.scheduler.now_s + 2.0)
        assert len([each for each in world.oracle.lives.values() if each.name == "b"]) == lives
        assert heard(world, "b") == "failed"


def test_a_restart_that_is_due_no_more_is_no_word_of_an_account() -> None:
    with quiet_world() as world:
        cluster = running(world)
        [supervisor] = cluster.supervisors()
        [actor] = cluster.brokers("a")
        actor.hangs_until_s = NEVER_S
        world.run(8.0)
        tell(supervisor.actor.actor_ref, RestartDue("a"))
        world.run(14.0)  # the oracle looks at when it is called silent
        assert world.oracle.counts["a silence"]
        assert heard(world) == "ok"
