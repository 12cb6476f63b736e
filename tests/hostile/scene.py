"""A cluster under attack, an honest listener beside it, and what both come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from brokerwatch.bus.listener import Listener
from tests.hostile.victim import CASH
from tests.support.clusters import until
from tests.support.ports import free_endpoint

ROOT: Final = Path(__file__).resolve().parents[2]
LOOK_S: Final = 0.02


def resident_mb(pid: int) -> float:
    """The memory of a process that is in the machine."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Outcome:
    """What one attack came to."""

    before_mb: float
    peak_mb: float = 0.0
    files: int = 0
    """The most descriptors at once."""
    silent_s: float = 0.0
    """The longest for which the honest listener heard nothing."""
    wrong: list[str] = field(default_factory=list[str])
    """What the honest listener showed that is not so."""
    out_s: float = 0.0
    """For how long it showed an account as not available, which is so only where it heard nothing in time."""
    attack: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def grown_mb(self) -> float:
        return self.peak_mb - self.before_mb


def _spawned(module: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _port() -> int:
    return int(free_endpoint().rpartition(":")[2])


class Scene:
    """A cluster in a process of its own, and an honest listener in this one."""

    def __init__(self, cluster: subprocess.Popen[str], listener: Listener, health: int, brokers: int) -> None:
        self._cluster = cluster
        self.listener = listener
        self.health_port = health
        self.brokers_port = brokers

    @property
    def is_alive(self) -> bool:
        return self._cluster.poll() is None

    def attacked(self, name: str, port: int, for_s: float, seed: int) -> Outcome:
        """Let one attack run in a process of its own, and watch the cluster and the listener meanwhile."""
        return _watched(self._cluster.pid, name, port, for_s, seed, self.listener)

    def is_right_again(self) -> bool:
        """Wait until the listener has heard every account after what has happened, and nothing is missing."""
        after_us = time.time_ns() // 1_000
        until(lambda: all(each.stamp.ts_us > after_us for each in self.listener.heard()))
        return all(map(self.listener.is_available, self.listener.readings())) and (
            self.listener.lost == self.listener.healed
        )


def _watched(
    pid: int, name: str, port: int, for_s: float, seed: int, listener: Listener | None = None
) -> Outcome:
    found = Outcome(resident_mb(pid))
    attacker = _spawned("tests.hostile.attacks", name, port, for_s, seed)
    look_again = threading.Event()
    while attacker.poll() is None:
        found.peak_mb = max(found.peak_mb, resident_mb(pid))
        found.files = max(found.files, len(os.listdir(f"/proc/{pid}/fd")))
        if listener is not None:
            found.silent_s = max(found.silent_s, listener.heard_ago_s() or 0.0)
            readings = listener.readings()
            found.out_s += LOOK_S * any(not each.available for each in readings.values())
            found.wrong += [
                f"{each.broker}: {each.cash}" for each in readings.values() if each.cash != Decimal(CASH)
            ]
        look_again.wait(LOOK_S)
    said, _ = attacker.communicate()
    found.attack = json.loads(said)
    return found


@contextmanager
def scene(accounts: int, heartbeat_s: float) -> Generator[Scene]:
    """A cluster with so many accounts, and a listener that has heard them all."""
    health, brokers = _port(), _port()
    cluster = _spawned("tests.hostile.victim", health, brokers, accounts, heartbeat_s)
    try:
        assert cluster.stdout is not None
        assert cluster.stdout.readline() == "up\n"
        with Listener(f"tcp://127.0.0.1:{health}") as listener:
            until(lambda: len(listener.readings()) == accounts)
            until(lambda: all(each.cash == Decimal(CASH) for each in listener.readings().values()))
            yield Scene(cluster, listener, health, brokers)
    finally:
        cluster.kill()
        cluster.communicate()


LISTENS: Final = (
    "import sys; from brokerwatch import Listener; l = Listener(sys.argv[1]); l.start(); "
    "print('up', flush=True); sys.stdin.read(); l.stop()"
)


def listener_attacked(name: str, for_s: float, seed: int) -> Outcome:
    """Let an attacker have the port that a listener in a process of its own connects to."""
    port = _port()
    listening = subprocess.Popen(
        [sys.executable, "-c", LISTENS, f"tcp://127.0.0.1:{port}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert listening.stdout is not None
        assert listening.stdout.readline() == "up\n"
        found = _watched(listening.pid, name, port, for_s, seed)
        assert listening.poll() is None
        return found
    finally:
        listening.kill()
        listening.communicate()
