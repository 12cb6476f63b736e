"""Nodes and supervisors with separate key pairs, over tcp: who is let in, and what each key may say."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.standalone import StandaloneSupervisor
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.curve_settings import CurveSettings
from brokerwatch.config.supervisor_settings import SupervisorSettings
from brokerwatch.errors import ControlError
from brokerwatch.messages import Reason
from tests.support.clusters import Till, until, wait_for_reading
from tests.support.keys import Keys
from tests.support.ports import free_endpoint

HEARTBEAT_S: Final = 0.5
"""A time to live of 3 s."""


class EncryptedDesk:
    """Supervisors and nodes, each with a key pair of its own. `close` ends what still runs."""

    def __init__(self, folder: Path) -> None:
        self.keys = Keys(folder)
        for name in ("node-a", "node-b", "bot"):
            self.keys.make(name)
        self.keys.let_in(self.keys.subscribers, "node-a", "node-b", "bot")
        self.places: dict[str, tuple[str, str]] = {}
        """By the key of a supervisor and its number, its health_endpoint and its broker_endpoint."""
        self._stack = ExitStack()

    def supervisor(self, *accounts: str, key: str = "own", number: int = 1) -> StandaloneSupervisor:
        health, brokers = self.places.setdefault(f"{key}-{number}", (free_endpoint(), free_endpoint()))
        cluster = ClusterSettings(
            name="desk",
            heartbeat_s=HEARTBEAT_S,
            health_endpoint=health,
            broker_endpoint=brokers,
            remember=False,
            curve=CurveSettings(self.keys.file(key), self.keys.subscribers, self.keys.brokers),
        )
        specs = tuple(BrokerSpec(name, exchange="custom") for name in accounts)
        made = StandaloneSupervisor(Settings(cluster, specs))
        made.start()
        self._stack.callback(made.stop)
        return made

    def node(self, key: str, *accounts: str, at: tuple[str, ...] = ("own-1",), expects: str = "") -> Cluster:
        """A node with that key. `expects`: the key that it believes the supervisors to have."""
        places = {place: self.places.setdefault(place, (free_endpoint(), free_endpoint())) for place in at}
        settings = ClusterSettings(
            name=key,
            heartbeat_s=HEARTBEAT_S,
            health_endpoint="inproc://health",
            broker_endpoint="inproc://brokers",
            remember=False,
            curve=CurveSettings(self.keys.file(key)),
            supervisors=tuple(
                SupervisorSettings(
                    brokers, health, self.keys.pairs[expects or place.rpartition("-")[0]].public
                )
                for place, (health, brokers) in places.items()
            ),
        )
        made = Cluster([BrokerSpec(name, fetch=Till(), poll_interval_s=0.1) for name in accounts], settings)
        made.start()
        self._stack.callback(made.stop)
        return made

    def listener(self, *at: str) -> Listener:
        ends = {self.places[place][0]: self.keys.pairs[place.rpartition("-")[0]].public for place in at}
        made = Listener(*ends, server_key=ends, key_file=self.keys.file("bot"))
        made.start()
        self._stack.callback(made.stop)
        return made

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def desk(tmp_path: Path) -> Generator[EncryptedDesk]:
    made = EncryptedDesk(tmp_path / "keys")
    yield made
    made.close()


def test_a_node_that_is_listed_only_later_comes_in_without_a_restart(
    desk: EncryptedDesk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "brokerwatch")
    keys = desk.keys
    keys.let_in(keys.subscribers, "bot")
    supervisor = desk.supervisor("a")
    listener = desk.listener("own-1")
    desk.node("node-a", "a")
    wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.NEVER_SEEN)
    # One list after the other, as an operator edits them: the node hears commands before it may report.
    keys.let_in(keys.subscribers, "bot", "node-a")
    until(lambda: "takes no report of this node" in caplog.text)
    keys.let_in(keys.brokers, "node-a", brokers=["a"])
    wait_for_reading(listener, "a", lambda reading: reading.available, 30.0)
    assert supervisor.hold("a", "a test") == "a is held out by this program: a test"


def test_a_key_speaks_for_the_accounts_beside_its_name_and_the_log_names_one_that_says_more(
    desk: EncryptedDesk, caplog: pytest.LogCaptureFixture
) -> None:
    keys = desk.keys
    keys.let_in(keys.brokers, "node-a", brokers=["a"])
    supervisor = desk.supervisor("a", "b")
    listener = desk.listener("own-1")
    desk.node("node-a", "a", "b")
    wait_for_reading(listener, "a", lambda reading: reading.available)
    until(lambda: "what a key says of b is refused: node-a stands there without it" in caplog.text)
    b = wait_for_reading(listener, "b", lambda _: True)
    assert (b.available, b.cash, b.broker_epoch) == (False, None, "")
    with pytest.raises(ControlError, match="no node reports b"):
        supervisor.hold("b", "a test")


def test_a_key_that_is_revoked_reports_no_more_and_one_that_comes_back_goes_on(desk: EncryptedDesk) -> None:
    keys = desk.keys
    keys.let_in(keys.brokers, "node-a", "node-b", brokers=["a", "b"])
    supervisor = desk.supervisor("a", "b")
    listener = desk.listener("own-1")
    desk.node("node-a", "a")
    desk.node("node-b", "b")
    for name in ("a", "b"):
        wait_for_reading(listener, name, lambda reading: reading.available)
    keys.let_in(keys.brokers, "node-b", brokers=["b"])
    wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.SILENT)
    with pytest.raises(ControlError, match="no node reports a now"):
        supervisor.hold("a", "a test")
    assert listener.is_available("b")
    keys.let_in(keys.brokers, "node-a", "node-b", brokers=["a", "b"])
    wait_for_reading(listener, "a", lambda reading: reading.available)


def test_a_supervisor_with_another_key_is_given_no_report_and_commands_nothing(
    desk: EncryptedDesk, caplog: pytest.LogCaptureFixture
) -> None:
    keys = desk.keys
    keys.make("impostor")
    keys.let_in(keys.brokers, "node-a", brokers=["a"])
    impostor = desk.supervisor("a", key="impostor")
    node = desk.node("node-a", "a", at=("impostor-1",), expects="own")
    until(lambda: "is not heard: it does not run, cannot be reached" in caplog.text)
    with pytest.raises(ControlError, match="no node reports a now"):
        impostor.hold("a", "a test")
    assert node.reading("a").available, "it is watched all the same"


def test_two_supervisors_with_one_key_pair_are_one_cluster_and_with_two_are_two(desk: EncryptedDesk) -> None:
    keys = desk.keys
    keys.make("second")
    keys.let_in(keys.brokers, "node-a", brokers=["a"])
    for key, number in (("own", 1), ("own", 2), ("second", 1)):
        desk.supervisor("a", key=key, number=number)
    one, two = desk.listener("own-1", "own-2"), desk.listener("own-1", "second-1")
    desk.node("node-a", "a")  # the first supervisor alone hears it
    # The listeners' own merged readings: a change is of one sender.
    for listener in (one, two):
        wait_for_reading(listener, "a", lambda _: True)
    until(lambda: one.is_available("a"))
    until(lambda: "2 clusters disagree" in two.reading("a").detail)
    assert not two.is_available("a")
    assert one.is_available("a")
