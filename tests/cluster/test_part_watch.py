"""Each part of a running cluster dies and hangs: it is said once, and no account stays available."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from typing import Any, Final

import pytest

from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.bus import turning
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.listener import Listener
from brokerwatch.bus.publisher import Publisher
from brokerwatch.cluster import lives, part_watch
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.part_watch import Part, PartWatch
from brokerwatch.config.broker_spec import BrokerSpec
from tests.support.clusters import Till, cluster_of, until

HUNG_S: Final = 1.0
POLL_S: Final = 0.2
Patch = pytest.MonkeyPatch


class Planted(Exception):
    """What makes a part end."""


def is_wanted(_: object) -> None:
    """A thread ends by what was planted."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: Patch) -> None:
    for module in (turning, lives, part_watch):
        monkeypatch.setattr(module, "HUNG_S", HUNG_S)
    monkeypatch.setattr(part_watch, "LOOK_S", 0.1)
    monkeypatch.setattr(threading, "excepthook", is_wanted)


@pytest.fixture
def held() -> Generator[threading.Event]:
    """What hangs waits for this, so that the test can end it."""
    event = threading.Event()
    yield event
    event.set()


def dies(*_: Any, **__: Any) -> Any:
    raise Planted


def publisher_of(name: str, what: Callable[..., Any], monkeypatch: Patch) -> None:
    """One publisher does this in place of sending."""
    send = Publisher._send  # pyright: ignore[reportPrivateUsage] - where its thread is met

    def instead(self: Publisher, *arguments: Any, **named: Any) -> float:
        return what() if self.name == name else send(self, *arguments, **named)

    monkeypatch.setattr(Publisher, "_send", instead)


def break_health_topic(_: Cluster, what: Callable[..., Any], monkeypatch: Patch) -> None:
    publisher_of("brokerwatch-health", what, monkeypatch)


def break_brokers_bus(_: Cluster, what: Callable[..., Any], monkeypatch: Patch) -> None:
    publisher_of("brokerwatch-brokers", what, monkeypatch)


def break_inbox(_: Cluster, what: Callable[..., Any], monkeypatch: Patch) -> None:
    monkeypatch.setattr(Inbox, "_keep", what)


def break_supervisor(_: Cluster, what: Callable[..., Any], monkeypatch: Patch) -> None:
    monkeypatch.setattr(HealthSupervisor, "handle", what)


def break_timers(cluster: Cluster, what: Callable[..., Any], _: Patch) -> None:
    (loop,) = [loop for loop in cluster._loops if loop.name == "brokerwatch-timers"]  # pyright: ignore[reportPrivateUsage] - nothing else names it
    loop.call(what if what is not dies else loop.asyncio_loop.stop)


PARTS: Final = {
    "the health topic": break_health_topic,
    "the bus of the brokers": break_brokers_bus,
    "the inbox of the supervisor": break_inbox,
    "the supervisor": break_supervisor,
    "the timers": break_timers,
}


STILL_FETCHED: Final = {"the health topic", "the supervisor"}
"""Without these the program's own board is renewed by each fetch all the same, and may be believed."""


@pytest.mark.parametrize("way", ["dies", "hangs"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_ends_or_hangs_is_said_once_and_no_account_stays_available(
    part: str, way: str, held: threading.Event, monkeypatch: Patch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=POLL_S)
    with cluster_of(spec, heartbeat_s=0.1) as cluster, Listener(cluster.health_endpoint) as listener:
        until(lambda: listener.is_available("a"))
        with caplog.at_level(logging.WARNING):
            PARTS[part](cluster, dies if way == "dies" else lambda *_, **__: held.wait(), monkeypatch)
            until(lambda: part in cluster.hung)
            until(lambda: not listener.is_available("a"))
        said = [each for each in caplog.messages if each.startswith(f"{part}: ")]
        assert len(said) == 1
        if part not in STILL_FETCHED:
            until(lambda: not cluster.reading("a").available)
        held.set()


def test_a_part_that_only_stores_is_told_about_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    wrong = [""]
    watch = PartWatch(look_s=0.01)
    watch.start(Part("the recorder", lambda: wrong[0], is_vital=False))
    with caplog.at_level(logging.WARNING):
        wrong[0] = "the disk hangs"
        until(lambda: caplog.messages == ["the recorder: the disk hangs"])
        assert watch.broken == ""
        wrong[0] = ""
        until(lambda: caplog.messages[1:] == ["the recorder works again"])
    assert watch.stop(10.0)


def test_a_look_that_fails_ends_no_looking(caplog: pytest.LogCaptureFixture) -> None:
    watch = PartWatch(look_s=0.01)
    looks: list[int] = []

    def fault() -> str:
        looks.append(1)
        raise Planted

    watch.start(Part("a part", fault))
    with caplog.at_level(logging.ERROR):
        until(lambda: len(looks) > 3)
    assert watch.broken.startswith("a part: it cannot be looked at")
    assert watch.stop(10.0)
