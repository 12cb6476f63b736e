"""The programs of a cluster of several processes: a node with some accounts, and a supervisor alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import Final

from brokerwatch.cli.config_lookup import config_path
from brokerwatch.cli.log_output import LogChoice
from brokerwatch.cli.showing import Watching, accounts, logged, reload, show
from brokerwatch.cli.signals import on_hangup
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.standalone import StandaloneSupervisor
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.config.loader import load_supervised
from brokerwatch.config.node_settings import DEFAULT_NODE, NodeChoice, load_node
from brokerwatch.config.shard import Shard
from brokerwatch.errors import StateFolderTaken

MOST_NODES: Final = 64
"""Nodes of one pool on one host that find a name by themselves."""
NAME_CHARACTERS: Final = 40
"""Of the host's name in that of a node: the cluster's name stands before it, and a topic has a limit."""


def run_node(
    *,
    config: Path | None,
    choice: NodeChoice,
    duration_s: float | None,
    as_json: bool,
    keep_going: bool,
    alive_file: Path | None,
    log: LogChoice,
) -> None:
    """Run some accounts of a configuration, and report them to its supervisors. Otherwise as `run`.

    `alive_file` is touched while the watcher itself works; None: there is none.
    """
    with logged(log, as_json=as_json) as showing, ExitStack() as stack:
        path = config_path(config).absolute()
        running: list[Watching] = []
        stack.enter_context(on_hangup(lambda: reload(running, showing.stopped, demo=False)))
        cluster, settings, name = started_node(path, choice, stack, keep_going=keep_going)
        running.append(cluster)
        where = ", ".join(each.broker_endpoint for each in settings.cluster.supervisors)
        count = len(settings.brokers) + len(settings.broken)
        pool = settings.cluster.pool
        node = f"node {name}" if choice.pool is None or pool is None else f"node {name} of pool {pool.name}"
        shared = "" if choice.pool is None else "its share of "
        title = f"brokerwatch: {node}, {shared}{accounts(count)}, reported to {where}"
        show(cluster, settings, showing, title, duration_s, alive_file=alive_file)


def started_node(
    path: Path, choice: NodeChoice, stack: ExitStack, *, keep_going: bool
) -> tuple[Cluster, Settings, str]:
    """The node, running, with the name that it has. A node of a pool that was given none finds one."""
    from brokerwatch.gateway.catalogue import Catalogue

    taken: StateFolderTaken | None = None
    for name in (choice.name,) if choice.name else _host_names():
        named = replace(choice, name=name)

        def read(keep_going: bool, named: NodeChoice = named) -> Settings:  # noqa: FBT001 - as a reload calls it
            return load_node(path, Catalogue(), named, keep_going=keep_going)

        settings = read(keep_going)
        try:
            return stack.enter_context(Cluster.from_settings(settings, read)), settings, name
        except StateFolderTaken as error:
            taken = StateFolderTaken(f"{error}; or give this node another --name")
    raise taken or ValueError("no name was tried")


def _host_names() -> Iterator[str]:
    """The names for nodes on this host: its own, and then with a number."""
    host = re.sub(r"[^a-z0-9_-]+", "-", gethostname().partition(".")[0].lower()).strip("-")[:NAME_CHARACTERS]
    yield host or DEFAULT_NODE
    for number in range(2, MOST_NODES + 1):
        yield f"{host or DEFAULT_NODE}-{number}"


def run_supervisor(
    *, config: Path | None, shard: Shard, duration_s: float | None, as_json: bool, log: LogChoice
) -> None:
    """Run a supervisor alone, and show what it publishes. Otherwise as `run`."""
    with logged(log, as_json=as_json) as showing, ExitStack() as stack:
        path = config_path(config)
        settings = load_supervised(path, shard=shard)
        running: list[Watching] = []
        stack.enter_context(on_hangup(lambda: reload(running, showing.stopped, demo=False)))
        supervisor = stack.enter_context(StandaloneSupervisor(settings, path, shard=shard))
        running.append(supervisor)
        title = (
            f"brokerwatch: supervisor{_words(shard)} of cluster {supervisor.name}, "
            f"{accounts(len(settings.brokers))} of nodes at {settings.cluster.broker_endpoint}"
        )
        show(supervisor, settings, showing, title, duration_s)


def _words(shard: Shard) -> str:
    return "" if shard.of == 1 else f" {shard.number} of {shard.of}"
