"""What a node is of a configuration: some of its accounts, reported to the supervisors that it names.

One file serves a supervisor and its nodes on one host. On several hosts each has a file of its own, whose
[[supervisors]] tables say where the supervisors are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from brokerwatch.config.cluster_settings import (
    ClusterSettings,
    Settings,
    cluster_mistakes,
    is_in_a_file,
    reachable,
)
from brokerwatch.config.credentials import Catalogue
from brokerwatch.config.curve_keys import read_pair
from brokerwatch.config.loader import load
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.config.pool_settings import (
    PoolNodeSettings,
    PoolSettings,
    lease_mistake,
    lease_of,
    longest_heartbeat_s,
    node_mistakes,
    pool_mistakes,
)
from brokerwatch.config.supervisor_settings import SupervisorSettings
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.messages import topics

DEFAULT_NODE: Final = "node"


@dataclass(frozen=True, slots=True)
class NodeChoice:
    """Which node of a configuration this process is."""

    name: str = DEFAULT_NODE
    """Its name: what it remembers belongs to it. Two on one host need two."""
    only: tuple[str, ...] = ()
    """The accounts that it runs; none named: all, or in a pool those that fall to it."""
    pool: str | None = None
    """The pool that it belongs to; empty: the one that the file names. None: to none."""
    capacity: float = 1.0
    """In a pool: its weight against the other nodes."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """In a pool: what accounts may pin, by name."""
    egress: str = ""
    """In a pool: the address that exchanges see. Empty: `egress_address` under [cluster], if that is set."""
    calls_per_s: float = math.inf
    """In a pool: how many polls a second may leave from that address."""


def load_node(
    path: Path,
    catalogue: Catalogue,
    choice: NodeChoice,
    *,
    environment: Mapping[str, str] | None = None,
    keep_going: bool = False,
) -> Settings:
    """The settings of a node. Raises ConfigError with every problem.

    The accounts that it does not run are not looked at: their credentials need not be on this host.
    """
    found = load(path, catalogue, environment=environment, keep_going=keep_going, only=choice.only)
    cluster = _of_node(found.cluster, choice, str(path))
    if not topics.is_name(choice.name):
        raise ConfigError((Problem("", "--name", f"expected {topics.NAME_RULE}, not {choice.name!r}"),))
    if mistakes := cluster_mistakes(cluster):
        raise ConfigError(
            tuple(
                # The cluster's own name was checked, so it is that of the node.
                Problem("", "--name", expected) if key == "name" else Problem(str(path), key, expected)
                for key, expected in mistakes
            )
        )
    if choice.pool is None:
        return replace(found, cluster=cluster)
    return replace(found, cluster=replace(cluster, pool=_pool(found, choice, str(path))))


def _pool(found: Settings, choice: NodeChoice, where: str) -> PoolSettings:
    """The pool, and what this node is in it. Raises ConfigError with every problem."""
    said = found.cluster.pool or PoolSettings(stored_as=found.cluster.name)
    node = PoolNodeSettings(
        choice.name,
        choice.capacity,
        MappingProxyType(dict(choice.labels)),
        choice.egress or found.cluster.egress_address,
        choice.calls_per_s,
    )
    pool = replace(said, name=choice.pool or said.name, node=node)
    problems = [Problem("", key, expected) for key, expected in node_mistakes(node)]
    if not pool.name:
        problems.append(Problem(where, "pool.name", "expected a name there, or one after --pool"))
    elif mistakes := pool_mistakes(replace(pool, lease_s=None)):
        problems += [Problem("", "--pool", expected) for _, expected in mistakes]
    if mistake := lease_mistake(pool, found.brokers):
        problems.append(Problem(where, "pool.lease_s", mistake))
    longest_s = longest_heartbeat_s(lease_of(pool, found.brokers))
    if (heartbeat_s := found.cluster.heartbeat_s) is not None and heartbeat_s > longest_s:
        expected = f"expected up to {longest_s:g} s in this pool, a quarter of its lease, not {heartbeat_s:g}"
        problems.append(Problem(where, "cluster.heartbeat_s", expected))
    if choice.only:
        problems.append(Problem("", "--only", "expected none in a pool, which itself places the accounts"))
    if not found.cluster.remember or is_in_a_file(found.cluster):
        expected = (
            "expected a PostgreSQL that all nodes of the pool reach, postgresql+psycopg://USER@HOST/DATABASE"
        )
        problems.append(Problem(where, "cluster.store", expected))
    if problems:
        raise ConfigError(tuple(problems))
    return pool


def _of_node(cluster: ClusterSettings, choice: NodeChoice, where: str) -> ClusterSettings:
    supervisors = cluster.supervisors or _own(cluster)
    if not supervisors:
        expected = (
            "expected where the supervisor is: a [[supervisors]] table with its broker_endpoint and "
            "health_endpoint, or on one host a broker_endpoint such as tcp://127.0.0.1:5572 here"
        )
        raise ConfigError((Problem(where, "cluster.broker_endpoint", expected),))
    return replace(
        cluster,
        name=f"{cluster.name}-{choice.name}",
        state=f"{cluster.state}/{choice.name}" if cluster.state else "",
        health_endpoint="inproc://health",
        broker_endpoint="inproc://brokers",
        supervisors=supervisors,
        # Page and messages are for all accounts, so they are the supervisor's.
        http=None,
        notify=NotifySettings(),
    )


def _own(cluster: ClusterSettings) -> tuple[SupervisorSettings, ...]:
    """The supervisor that the same file describes; none where no other process could reach it."""
    if cluster.broker_endpoint.startswith("inproc://"):
        return ()
    server_key = "" if cluster.curve is None else read_pair(cluster.curve.key_file).public
    return (
        SupervisorSettings(
            reachable(cluster.broker_endpoint), reachable(cluster.health_endpoint), server_key
        ),
    )
