"""What a pool costs: accounts over several nodes with one supervisor, and how long moved accounts are out.

Each node and the supervisor is a process of its own, and so are each simulated exchange and a PostgreSQL that
is made for the bench. CPU is counted over a window after every account was read once.
`make bench ARGS="scale"` writes no table: docs/scale.md has the numbers of one run.
"""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import quote

from benchmarks.elsewhere import Elsewhere, answer, heard
from benchmarks.exchanges import KINDS, spec
from benchmarks.measure import Numbers, Row, resident_mb, run, say
from brokerwatch.bus.listener import Listener
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.standalone import StandaloneSupervisor
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.pool_settings import PoolNodeSettings, PoolSettings
from brokerwatch.config.supervisor_settings import SupervisorSettings
from tests.support.postgres import DATABASE, MISSING, PASSWORD, PostgreSQL, folder_of_programs, started

WORLDS: Final = (
    (1_000, 1, 60.0),
    (1_000, 1, 300.0),
    (1_000, 4, 300.0),
    (4_000, 4, 300.0),
    (10_000, 4, 300.0),
)
"""Accounts, nodes, and seconds between two polls of an account."""
QUICK: Final = ((40, 2, 60.0),)
LEASES_S: Final = (3.0, 5.0, 10.0, 20.0)
SHORT_POLL_S: Final = 1.0
"""Where it is measured for how long an account is out."""
LONG_LEASE_S: Final = 240.0
"""Where costs are measured: the heartbeat may be a quarter of it, so that ten thousand accounts fit."""
LONG_DEADLINE_S: Final = 30.0
"""There too: the simulated exchanges share the cores, and get thousands of questions at the start."""
MOVED: Final = 30
"""Accounts of which some move."""
WINDOW_S: Final = 30.0
PATIENCE_S: Final = 900.0
LOOK_S: Final = 0.02
LARGE: Final = 1_000
LARGE_LOOK_S: Final = 0.5
"""Of so many accounts looking costs the machine too much to be done more often."""


def _rows() -> tuple[Row, ...]:
    found: list[Row] = []
    for accounts, nodes, poll_s in (*QUICK, *WORLDS):
        key = _key(accounts, nodes, poll_s)
        says = f"{accounts:,} accounts, {nodes} node{'' if nodes == 1 else 's'}, a poll each {poll_s:g} s"
        found += [
            Row(f"nodes_cpu_{key}", f"{says}: CPU of all nodes, of one core", "%"),
            Row(f"nodes_memory_{key}", f"{says}: memory of all nodes", "MB"),
            Row(f"supervisor_cpu_{key}", f"{says}: CPU of the supervisor, of one core", "%"),
            Row(f"supervisor_memory_{key}", f"{says}: memory of the supervisor", "MB"),
            Row(f"commits_{key}", f"{says}: transactions of the database", "1/s"),
            Row(f"read_{key}", f"{says}: until each account was read and heard", "s"),
        ]
    found += [
        Row(
            f"taken_over_{lease_s:g}",
            f"lease {lease_s:g} s: kill -9 until all answer elsewhere",
            "s",
        )
        for lease_s in LEASES_S
    ]
    found.append(Row("handed_over", "a node joins: the longest that an account was out that moved", "s"))
    return tuple(found)


def _key(accounts: int, nodes: int, poll_s: float) -> str:
    return f"{nodes}x{accounts}_{poll_s:g}"


ROWS: Final = _rows()


class World:
    """One pool that runs."""

    def __init__(
        self, url: str, folder: str, accounts: int, nodes: int, *, poll_s: float, lease_s: float
    ) -> None:
        self._stack = ExitStack()
        share, more = divmod(accounts, len(KINDS))
        counts = {name: share + (number < more) for number, name in enumerate(KINDS)}
        places: dict[str, Any] = {}
        for name, count in counts.items():
            # Each a process of its own: thousands of accounts that start ask all of them at once.
            exchange = self._stack.enter_context(Elsewhere("exchanges", "serve"))
            places |= exchange.ask(accounts={name: count})
        self._told = {
            "url": url,
            "folder": folder,
            "counts": counts,
            "places": places,
            "lease_s": lease_s,
            "deadline_s": 1.0 if lease_s < 20.0 else 8.0 if lease_s < LONG_LEASE_S else LONG_DEADLINE_S,
            "poll_s": poll_s,
        }
        self.supervisor = self._stack.enter_context(Elsewhere("scale", "supervisor"))
        self.supervisor.ask(**self._told)
        self.nodes: list[Elsewhere] = []
        self.start_nodes(nodes)
        self._listener = Listener(f"ipc://{folder}/h")
        self._listener.start()
        self._stack.callback(self._listener.stop)
        self.names = frozenset(f"{name}-{number}" for name in KINDS for number in range(counts[name]))

    def start_nodes(self, nodes: int) -> None:
        """Start so many more, all at one time."""
        new = [self._stack.enter_context(Elsewhere("scale", "node")) for _ in range(nodes)]
        for node in new:
            node.tell(**self._told, name=f"n{len(self.nodes)}")
            self.nodes.append(node)
        for node in new:
            node.hear()

    def here(self, node: int) -> frozenset[str]:
        """The accounts that are with a node."""
        return frozenset(self.nodes[node].ask()["here"])

    def available(self) -> frozenset[str]:
        """The accounts that a listener believes."""
        return frozenset(name for name, one in self._listener.readings().items() if one.available)

    def wait(self) -> float:
        """Wait until all accounts are available; seconds."""
        began_s = time.monotonic()
        while self.available() != self.names:
            if time.monotonic() - began_s > PATIENCE_S:
                missing = len(self.names - self.available())
                raise RuntimeError(f"{missing} accounts were not available within {PATIENCE_S:g} s")
            time.sleep(LOOK_S if len(self.names) < LARGE else LARGE_LOOK_S)
        return time.monotonic() - began_s

    def close(self) -> None:
        """End all of it."""
        self._stack.close()


def settings_of(told: Mapping[str, Any]) -> tuple[ClusterSettings, tuple[BrokerSpec, ...]]:
    """The settings of a node, and all accounts."""
    folder = told["folder"]
    specs = tuple(
        spec(name, told["places"][name], number, poll_interval_s=told["poll_s"],
             fetch_deadline_s=told["deadline_s"], policy="simple")
        for name, count in told["counts"].items()
        for number in range(count)
    )  # fmt: skip
    settings = ClusterSettings(
        name=f"bench-{told['name']}",
        health_endpoint="inproc://health",
        broker_endpoint="inproc://brokers",
        state=f"{folder}/{told['name']}",
        store=told["url"],
        supervisors=(SupervisorSettings(f"ipc://{folder}/b", f"ipc://{folder}/h"),),
        pool=PoolSettings("bench", told["lease_s"], 0.25, "bench", PoolNodeSettings(told["name"])),
    )
    return settings, specs


def node(arguments: list[str]) -> None:
    """The process of a node."""
    del arguments
    _many_files()
    words = heard()
    settings, specs = settings_of(next(words))
    cluster = Cluster(specs, settings)
    with cluster:
        answer({})
        for _ in words:
            answer({"cpu_s": time.process_time(), "memory_mb": resident_mb(), "pid": os.getpid(),
                    "here": [one.broker for one in cluster.readings()]})  # fmt: skip


def supervisor(arguments: list[str]) -> None:
    """The process of the supervisor."""
    del arguments
    _many_files()
    words = heard()
    told = next(words)
    names = [(name, f"{name}-{number}") for name, count in told["counts"].items() for number in range(count)]
    settings = ClusterSettings(
        name="bench",
        health_endpoint=f"ipc://{told['folder']}/h",
        broker_endpoint=f"ipc://{told['folder']}/b",
        remember=False,
    )
    specs = tuple(BrokerSpec(name, exchange=exchange) for exchange, name in names)
    running = StandaloneSupervisor(Settings(settings, specs))
    running.start()
    answer({})
    for _ in words:
        answer({"cpu_s": time.process_time(), "memory_mb": resident_mb()})
    running.stop()


def _many_files() -> None:
    """As many descriptors as this user may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - as every bench has it
    """Measure each world, and then the takeover by lease."""
    programs = folder_of_programs()
    if programs is None:
        raise RuntimeError(MISSING)
    found: Numbers = {}
    _many_files()
    for accounts, nodes, poll_s in QUICK if quick else WORLDS:
        with started(programs) as server, tempfile.TemporaryDirectory(prefix="bw-") as folder:
            found |= _cost(server, folder, accounts, nodes, poll_s, 2.0 if quick else WINDOW_S)
    for lease_s in LEASES_S[:1] if quick else LEASES_S:
        with started(programs) as server, tempfile.TemporaryDirectory(prefix="bw-") as folder:
            found[f"taken_over_{lease_s:g}"] = _takeover(server, folder, lease_s)
    with started(programs) as server, tempfile.TemporaryDirectory(prefix="bw-") as folder:
        found["handed_over"] = _handed_over(server, folder)
    return found


def _cost(
    server: PostgreSQL, folder: str, accounts: int, nodes: int, poll_s: float, window_s: float
) -> Numbers:
    key = _key(accounts, nodes, poll_s)
    say(f"brokerwatch: {accounts:,} accounts over {nodes}, a poll each {poll_s:g} s")
    url = server.url(quote(PASSWORD))
    world = World(url, folder, accounts, nodes, poll_s=poll_s, lease_s=LONG_LEASE_S)
    try:
        read_s = world.wait()
        before, commits = _used(world), _commits(server)
        time.sleep(window_s)
        after, later = _used(world), _commits(server)
    finally:
        world.close()
    return {
        f"nodes_cpu_{key}": 100 * (after["nodes_cpu_s"] - before["nodes_cpu_s"]) / window_s,
        f"nodes_memory_{key}": after["nodes_mb"],
        f"supervisor_cpu_{key}": 100 * (after["supervisor_cpu_s"] - before["supervisor_cpu_s"]) / window_s,
        f"supervisor_memory_{key}": after["supervisor_mb"],
        f"commits_{key}": (later - commits) / window_s,
        f"read_{key}": read_s,
    }


def _used(world: World) -> dict[str, float]:
    nodes = [each.ask() for each in world.nodes]
    supervised = world.supervisor.ask()
    return {
        "nodes_cpu_s": sum(each["cpu_s"] for each in nodes),
        "nodes_mb": sum(each["memory_mb"] for each in nodes),
        "supervisor_cpu_s": supervised["cpu_s"],
        "supervisor_mb": supervised["memory_mb"],
    }


def _commits(server: PostgreSQL) -> int:
    """Transactions of the database so far."""
    asked = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{DATABASE}'"
    return int(server.execute(asked)[0][0])


def _takeover(server: PostgreSQL, folder: str, lease_s: float) -> float:
    """Kill one of two nodes; seconds until all of its accounts are available again."""
    say(f"brokerwatch: a node is killed, lease {lease_s:g} s")
    world = World(server.url(quote(PASSWORD)), folder, MOVED, 2, poll_s=SHORT_POLL_S, lease_s=lease_s)
    try:
        world.wait()
        told = world.nodes[0].ask()
        gone = frozenset(told["here"])
        began_s = time.monotonic()
        os.kill(told["pid"], signal.SIGKILL)
        while world.available() & gone:  # until it is seen that they are out
            time.sleep(LOOK_S)
        world.wait()
        return time.monotonic() - began_s
    finally:
        world.close()


def _handed_over(server: PostgreSQL, folder: str) -> float:
    """Start a second node; the longest seconds for which an account was out that moved to it."""
    say("brokerwatch: a node joins")
    world = World(server.url(quote(PASSWORD)), folder, MOVED, 1, poll_s=SHORT_POLL_S, lease_s=LEASES_S[-1])
    out_s: dict[str, float] = {}
    gaps_s: dict[str, float] = {}
    try:
        world.wait()
        world.start_nodes(1)
        until_s = time.monotonic() + PATIENCE_S
        while not (gaps_s and not out_s and world.here(0) | world.here(1) == world.names):
            available, now_s = world.available(), time.monotonic()
            for name in world.names - available:
                out_s.setdefault(name, now_s)
            gaps_s |= {name: now_s - out_s.pop(name) for name in tuple(out_s) if name in available}
            if now_s > until_s:
                raise RuntimeError(f"no account was handed over within {PATIENCE_S:g} s")
            time.sleep(LOOK_S)
    finally:
        world.close()
    return max(gaps_s.values())


if __name__ == "__main__":
    run(measure, {"node": node, "supervisor": supervisor})
