"""Nodes and supervisors as separate parts, over real sockets: who hears whom, and what is believed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.actors.remote_supervisor import RemoteSupervisor
from brokerwatch.bus.command_listener import CommandListener
from brokerwatch.bus.listener import Listener
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.remote_inbox import RemoteInbox
from brokerwatch.clock import SystemClock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.standalone import StandaloneSupervisor
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.shard import WHOLE, Shard
from brokerwatch.config.supervisor_settings import SupervisorSettings
from brokerwatch.errors import ConfigError, ControlError
from brokerwatch.messages import Reason
from tests.support.clusters import Till, until, wait_for_reading
from tests.support.parts import dies, once

HEARTBEAT_S: Final = 0.5
"""A time to live of 3 s."""


class Desk:
    """A cluster of several processes, all of which are here. `close` ends what still runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def supervisor_settings(self, *accounts: str, place: str = "s", **values: Any) -> Settings:
        cluster = ClusterSettings(
            name="desk",
            heartbeat_s=HEARTBEAT_S,
            health_endpoint=f"ipc://{self._folder}/{place}-h",
            broker_endpoint=f"ipc://{self._folder}/{place}-b",
            remember=False,
            **values,
        )
        return Settings(cluster, tuple(BrokerSpec(name, exchange="custom") for name in accounts))

    def supervisor(
        self, *accounts: str, place: str = "s", shard: Shard = WHOLE, **values: Any
    ) -> StandaloneSupervisor:
        made = StandaloneSupervisor(self.supervisor_settings(*accounts, place=place, **values), shard=shard)
        made.start()
        self._stack.callback(made.stop)
        return made

    def node(self, *specs: BrokerSpec, places: tuple[str, ...] = ("s",), **values: Any) -> Cluster:
        settings = ClusterSettings(
            name="desk-node",
            heartbeat_s=HEARTBEAT_S,
            health_endpoint="inproc://health",
            broker_endpoint="inproc://brokers",
            remember="state" in values,
            supervisors=self.node_supervisors(*places),
            **values,
        )
        made = Cluster(specs, settings)
        made.start()
        self._stack.callback(made.stop)
        return made

    def node_supervisors(self, *places: str) -> tuple[SupervisorSettings, ...]:
        return tuple(
            SupervisorSettings(f"ipc://{self._folder}/{each}-b", f"ipc://{self._folder}/{each}-h")
            for each in places or ("s",)
        )

    def listener(self, *places: str) -> Listener:
        made = Listener(*(f"ipc://{self._folder}/{each}-h" for each in places or ("s",)))
        made.start()
        self._stack.callback(made.stop)
        return made

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def account(name: str, till: Till | None = None, **values: Any) -> BrokerSpec:
    return BrokerSpec(name, fetch=till or Till(), poll_interval_s=0.1, **values)


def test_an_account_of_a_node_is_published_by_the_supervisor_with_its_money(desk: Desk) -> None:
    desk.supervisor("a", "b")
    listener = desk.listener()
    unknown = wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.NEVER_SEEN)
    assert (unknown.available, unknown.cash, unknown.balance) == (False, None, None)
    assert unknown.detail == "no node has reported it yet"
    desk.node(account("a"))
    known = wait_for_reading(listener, "a", lambda reading: reading.available and reading.cash is not None)
    assert known.cash == 100
    assert not listener.is_available("b"), "its node does not run"


def test_a_node_that_was_there_first_is_heard_when_the_supervisor_comes_and_comes_again(desk: Desk) -> None:
    desk.node(account("a"))
    listener = desk.listener()
    for _ in range(2):
        supervisor = desk.supervisor("a")
        wait_for_reading(listener, "a", lambda reading: reading.available)
        supervisor.stop()
        wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.SHUTDOWN)


def test_a_node_that_stops_says_so_and_one_that_comes_again_is_believed(desk: Desk) -> None:
    desk.supervisor("a")
    listener = desk.listener()
    first = desk.node(account("a"))
    before = wait_for_reading(listener, "a", lambda reading: reading.available and reading.cash is not None)
    first.stop()
    gone = wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.SHUTDOWN)
    assert (gone.available, gone.detail) == (False, "its node was stopped")
    assert gone.cash == before.cash, "the last known stays"
    desk.node(account("a"))
    again = wait_for_reading(listener, "a", lambda reading: reading.available)
    assert again.broker_epoch > before.broker_epoch


def test_a_hold_of_the_node_travels_with_the_account(desk: Desk) -> None:
    desk.supervisor("a")
    listener = desk.listener()
    node = desk.node(account("a"))
    wait_for_reading(listener, "a", lambda reading: reading.available)
    node.hold("a", "a test")
    held = wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.HELD_OUT)
    assert held.detail == "by this program: a test"
    version = held.version
    until(lambda: listener.reading("a").version > version + 3)  # polls go on, and the hold stays
    assert listener.reading("a").reason is Reason.HELD_OUT
    node.release("a")
    wait_for_reading(listener, "a", lambda reading: reading.available)


def test_a_command_at_the_supervisor_is_carried_out_by_the_node_that_has_the_account(desk: Desk) -> None:
    supervisor = desk.supervisor("a", "b")
    listener = desk.listener()
    first = desk.node(account("a"))
    desk.node(account("b"))
    for name in ("a", "b"):
        wait_for_reading(listener, name, lambda reading: reading.available)
    assert supervisor.hold("a", "a test") == "a is held out by this program: a test"
    assert first.reading("a").reason is Reason.HELD_OUT, "where it is decided, it holds at once"
    wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.HELD_OUT)
    assert listener.is_available("b")
    assert supervisor.release("a") == "a is released and is available"
    with pytest.raises(ControlError, match="a is not held out"):
        supervisor.release("a")
    assert supervisor.reset("b") == "nothing was final for b; it asks its exchange now"
    ends = datetime.now(UTC) + timedelta(hours=2)
    assert f"until {ends:%Y-%m-%d %H:%M}" in supervisor.hold("b", "a test", until=ends)


def test_a_command_for_an_account_that_is_not_reported_says_so(desk: Desk) -> None:
    supervisor = desk.supervisor("a")
    with pytest.raises(ControlError, match="no node reports a now"):
        supervisor.hold("a", "a test")
    with pytest.raises(ControlError, match="no broker named 'z' is in the configuration"):
        supervisor.hold("z", "a test")
    listener = desk.listener()
    node = desk.node(account("a"))
    wait_for_reading(listener, "a", lambda reading: reading.available)
    node.stop()
    wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.SHUTDOWN)
    with pytest.raises(ControlError, match="no node reports a now"):
        supervisor.hold("a", "a test")


def test_two_supervisors_agree_and_one_that_ends_takes_nothing_away(desk: Desk) -> None:
    first, second = desk.supervisor("a", place="s"), desk.supervisor("a", place="t")
    both, at_first, at_second = desk.listener("s", "t"), desk.listener("s"), desk.listener("t")
    till = Till()
    node = desk.node(account("a", till), places=("s", "t"))
    for each in (both, at_first, at_second):
        wait_for_reading(each, "a", lambda reading: reading.available and reading.cash is not None)
    till.failure = RuntimeError("no")
    for each in (both, at_first, at_second):
        wait_for_reading(each, "a", lambda reading: reading.reason is Reason.ERRORS)
    readings = [each.reading("a") for each in (at_first, at_second)]
    assert len({(one.broker_epoch, one.state, one.reason) for one in readings}) == 1
    till.failure = None
    wait_for_reading(both, "a", lambda reading: reading.available)
    first.stop()
    wait_for_reading(at_first, "a", lambda reading: reading.reason is Reason.SHUTDOWN)
    until(lambda: at_first.reading("a").expired)
    wait_for_reading(both, "a", lambda reading: reading.available)  # the other one goes on
    node.hold("a", "a test")
    wait_for_reading(both, "a", lambda reading: reading.reason is Reason.HELD_OUT)
    second.stop()
    until(lambda: not both.is_available("a"))


def test_a_mistake_in_the_configuration_of_a_node_is_shown(desk: Desk) -> None:
    desk.supervisor("a")
    listener = desk.listener()
    made = Cluster(
        (),
        ClusterSettings(
            name="desk-node",
            heartbeat_s=HEARTBEAT_S,
            health_endpoint="inproc://health",
            broker_endpoint="inproc://brokers",
            remember=False,
            supervisors=desk.node_supervisors(),
        ),
        broken={"a": ("custom", "expected something else")},
    )
    with made:
        found = wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.CONFIG)
    assert found.detail == "expected something else"


def test_what_is_not_in_the_configuration_is_not_published(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.supervisor("a")
    listener = desk.listener()
    desk.node(account("a"), account("stranger"))
    wait_for_reading(listener, "a", lambda reading: reading.available)
    until(lambda: "stranger at custom is reported by a node" in caplog.text)
    assert "stranger" not in listener.readings()


def test_a_supervisor_that_is_reloaded_expects_other_accounts(desk: Desk) -> None:
    supervisor = desk.supervisor("a", "b")
    listener = desk.listener()
    desk.node(account("a"), account("b"), account("c"))
    wait_for_reading(listener, "a", lambda reading: reading.available)
    assert supervisor.reload(desk.supervisor_settings("a", "c")) == "c: added\nb: removed"
    wait_for_reading(listener, "c", lambda reading: reading.available)
    until(lambda: "b" not in listener.readings())
    assert listener.is_available("a")
    assert supervisor.reload(desk.supervisor_settings("a", "c")) == "nothing has changed"


def test_an_account_that_was_removed_is_announced_as_gone_although_the_supervisor_hangs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = desk.supervisor("a", "b")
    listener = desk.listener()
    desk.node(account("a"), account("b"))
    wait_for_reading(listener, "b", lambda reading: reading.available)
    handle, hung, goes_on = RemoteSupervisor.handle, threading.Event(), threading.Event()

    def hangs(actor: RemoteSupervisor, message: Any) -> None:
        hung.set()
        goes_on.wait(150.0)
        handle(actor, message)

    monkeypatch.setattr(RemoteSupervisor, "handle", hangs)
    try:
        until(hung.is_set)  # else it may still be at a message, and publish the account after its last word
        assert supervisor.reload(desk.supervisor_settings("a")) == "b: removed"
        wait_for_reading(listener, "b", lambda reading: reading.reason is Reason.SHUTDOWN)
    finally:
        goes_on.set()
    until(lambda: "b" not in listener.readings())


def test_a_supervisor_needs_an_endpoint_that_nodes_can_reach(tmp_path: Path) -> None:
    settings = Settings(ClusterSettings(remember=False), (BrokerSpec("a", exchange="custom"),))
    with pytest.raises(ConfigError, match="expected where nodes connect to"):
        StandaloneSupervisor(settings)


def test_what_ends_by_an_error_between_a_node_and_its_supervisor_begins_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor, listener = desk.supervisor("a"), desk.listener()
    node = desk.node(account("a"))
    wait_for_reading(listener, "a", lambda reading: reading.available)
    (way,) = node._sockets.outward  # pyright: ignore[reportPrivateUsage] - its thread is met by its name
    timers = next(iter(supervisor._loops))  # pyright: ignore[reportPrivateUsage] - nothing else names it
    broken: dict[str, Callable[[], object]] = {
        f"{way.name} failed": lambda: once(Publisher, "_send", dies, monkeypatch, of=way.name),
        "brokerwatch-inbox failed": lambda: once(RemoteInbox, "_keep", dies, monkeypatch),
        "failed and begins again": lambda: once(CommandListener, "_take", dies, monkeypatch),
        "the timers: ": lambda: timers.call(timers.asyncio_loop.stop),
    }
    with caplog.at_level(logging.WARNING):
        for said, breaks in broken.items():
            caplog.clear()
            breaks()
            until(lambda: any(said in line for line in caplog.messages))  # noqa: B023 - it is called here alone
            broke_s = SystemClock().up_s()
            wait_for_reading(
                listener,
                "a",
                lambda reading: bool(reading.available and reading.as_of and reading.as_of.up_s > broke_s),  # noqa: B023
            )
    assert (node.hung, supervisor.hung) == ("", "")


def test_supervisors_share_the_accounts_and_a_listener_waits_for_each_of_them(desk: Desk) -> None:
    names = [f"a{number}" for number in range(8)]
    shards = [Shard(number, 2) for number in (1, 2)]
    mine = [[name for name in names if shard.has(name)] for shard in shards]
    assert sorted(mine[0] + mine[1]) == names
    assert all(mine), "each has some"
    lone, both = desk.listener("s1"), desk.listener("s1", "s2")
    for number, (shard, share) in enumerate(zip(shards, mine, strict=True), start=1):
        desk.supervisor(*share, place=f"s{number}", shard=shard)
    desk.node(*map(account, names), places=("s1", "s2"))
    for name in names:
        wait_for_reading(both, name, lambda reading: reading.available)
    until(both.complete.is_set)
    until(lambda: sorted(lone.readings()) == mine[0])
    assert not lone.complete.is_set(), "its roster says that there is another supervisor"
