"""A running cluster whose parts a test kills and lets hang, and what is heard and logged of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from brokerwatch.bus import change_dispatcher, turning
from brokerwatch.bus.listener import Listener
from brokerwatch.cluster import lives, part_watch, persistence, timer_loop
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health import restarts
from brokerwatch.health.reading import ttl_s
from brokerwatch.messages import Reading
from tests.support.clusters import Till, cluster_of, until

HUNG_S: Final = 2.0
HEARTBEAT_S: Final = 0.1
TTL_S: Final = ttl_s(HEARTBEAT_S)
POLL_S: Final = 0.1


class Planted(Exception):
    """What makes a part end."""


@dataclass
class Scene:
    """A running cluster, what listens to it, and what the test breaks it with."""

    cluster: Cluster
    listener: Listener
    till: Till
    patch: pytest.MonkeyPatch
    lines: list[str]
    held: threading.Event
    """What hangs waits for this."""

    def readings(self) -> list[Reading]:
        return [*self.cluster.readings(), *self.listener.readings().values()]

    def hang(self, *_: Any, **__: Any) -> Any:
        self.held.wait()

    def is_well(self) -> bool:
        return not self.cluster.hung and all(each.available for each in self.readings())


Way = Callable[[Scene], object]
"""Breaks something."""


def dies(*_: Any, **__: Any) -> Any:
    raise Planted


def once(
    owner: type, name: str, what: Callable[..., Any], patch: pytest.MonkeyPatch, *, of: str = ""
) -> None:
    """The next call of this method does that in its place, and all that follow are as before."""
    before, done = getattr(owner, name), threading.Lock()

    def instead(self: Any, *arguments: Any, **named: Any) -> Any:
        if (of and self.name != of) or not done.acquire(blocking=False):
            return before(self, *arguments, **named)
        return what(self, *arguments, **named)

    patch.setattr(owner, name, instead)


def always(
    owner: type, name: str, what: Callable[..., Any], patch: pytest.MonkeyPatch, *, of: str = ""
) -> None:
    before = getattr(owner, name)

    def instead(self: Any, *arguments: Any, **named: Any) -> Any:
        return what() if not of or self.name == of else before(self, *arguments, **named)

    patch.setattr(owner, name, instead)


def quick(patch: pytest.MonkeyPatch) -> None:
    for module in (turning, lives, part_watch, timer_loop, change_dispatcher):
        patch.setattr(module, "HUNG_S", HUNG_S)
    patch.setattr(persistence, "DISK_S", HUNG_S)
    patch.setattr(part_watch, "LOOK_S", 0.1)
    patch.setattr(restarts, "SHORTEST_RANGE_S", 0.02)


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def running(patch: pytest.MonkeyPatch, **values: Any) -> Generator[Scene]:
    quick(patch)
    till, seen, held = Till(), Lines(), threading.Event()
    spec = BrokerSpec("a", fetch=till, poll_interval_s=POLL_S, fetch_deadline_s=1.0)
    log = logging.getLogger("brokerwatch")
    log.addHandler(seen)
    try:
        with (
            cluster_of(spec, heartbeat_s=HEARTBEAT_S, **values) as cluster,
            Listener(cluster.health_endpoint) as listener,
        ):
            scene = Scene(cluster, listener, till, patch, seen.lines, held)
            until(lambda: listener.readings() and scene.is_well())
            yield scene
            held.set()
    finally:
        held.set()
        log.removeHandler(seen)
