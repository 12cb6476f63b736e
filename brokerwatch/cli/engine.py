"""`run --engine`: the nodes of a pool, started and kept by an engine, until this program is stopped.

This program ends and the nodes end. It is no part of what they do: it shows what they say of themselves.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from brokerwatch.cli import exits
from brokerwatch.cli.config_lookup import config_path
from brokerwatch.cli.log_output import LogChoice
from brokerwatch.cli.pool_actor import NodeState
from brokerwatch.cli.service import ServiceManager
from brokerwatch.cli.showing import Showing, accounts, logged
from brokerwatch.clock import SystemClock
from brokerwatch.config.node_settings import DEFAULT_NODE, NodeChoice, load_node
from brokerwatch.errors import ConfigError, Problem

if TYPE_CHECKING:
    from brokerwatch.cli.ray_engine import RayEngine

LOOK_S: Final = 1.0
"""How often the nodes are asked how they are."""
QUIET: Final[Mapping[str, str]] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Ray reports nothing to its makers, and shows each line of the nodes as it is."""
HEADLESS: Final[Mapping[str, str]] = {"RAY_gcs_rpc_server_reconnect_timeout_s": "31536000"}
"""A year in place of a minute, after which Ray's processes would end themselves without their head."""
LOCAL: Final[Mapping[str, str]] = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_enable_metrics_collection": "0",
}
"""Of a Ray on this host: only who has the token comes in, over loopback alone (the second one, on Linux too),
and no node is killed because other programs take the memory."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What the options say."""

    pool: str
    """Its name; empty: the one that the file names."""
    address: str
    """Of a cluster of the engine that runs; empty: one of its own on this host."""
    nodes: int


def run_nodes(
    *,
    config: Path | None,
    choice: EngineChoice,
    duration_s: float | None,
    as_json: bool,
    keep_going: bool,
    log: LogChoice,
) -> None:
    """Run nodes of a pool on Ray, and show how they are. Returns when it was stopped, or after `duration_s`.

    Raises ConfigError when the configuration cannot be used, Ray is not installed, or cannot be reached.
    """
    if importlib.util.find_spec("ray") is None:
        expected = "expected Ray, which is not installed; pip install 'brokerwatch[ray]'"
        raise ConfigError((Problem("", "--engine", expected),))
    file = config_path(config).absolute()
    where = choice.address or "this host"
    title = f"brokerwatch: {choice.nodes} nodes of pool {choice.pool or '[pool] name'} on Ray at {where}"
    if not choice.address:
        # On other hosts the credentials may lie where they do not lie here.
        title += f", {accounts(_count(file, choice.pool, keep_going=keep_going))}"
    with logged(log, as_json=as_json) as showing:
        _say(title, to_stderr=as_json)
        with _engine(file, choice, log, keep_going=keep_going) as engine:
            _show(engine, showing, duration_s, choice.nodes)


def _count(file: Path, pool: str, *, keep_going: bool) -> int:
    """How many accounts a node of this configuration may have. Raises ConfigError."""
    from brokerwatch.gateway.catalogue import Catalogue

    found = load_node(file, Catalogue(), NodeChoice(DEFAULT_NODE, pool=pool), keep_going=keep_going)
    return len(found.brokers) + len(found.broken)


@contextmanager
def _engine(file: Path, choice: EngineChoice, log: LogChoice, *, keep_going: bool) -> Generator[RayEngine]:
    for name, value in environment_of_ray(is_local=not choice.address).items():
        os.environ.setdefault(name, value)
    from brokerwatch.cli.ray_engine import RayEngine

    node = {"file": str(file), "pool": choice.pool, "keep_going": keep_going, "log_level": log.level}
    engine = RayEngine(choice.address, choice.nodes, node)
    try:
        yield engine
    finally:
        _say("the nodes are being stopped", to_stderr=True)
        ended = engine.stop()
        if ended < choice.nodes:
            exits.say(
                f"{ended} of {choice.nodes} nodes have ended in order; the claims of the others end with "
                "their lease"
            )


def environment_of_ray(*, is_local: bool) -> dict[str, str]:
    """What Ray is to find in the environment, unless something else stands there. It counts at its import.

    Args:
        is_local: whether Ray is started on this host. One that runs already has settings of its own.
    """
    found = {**QUIET, **HEADLESS}
    if is_local:
        found |= {**LOCAL, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return found


def _show(engine: RayEngine, showing: Showing, duration_s: float | None, count: int) -> None:
    """Show each node anew whenever what it says has changed, until the program is stopped."""
    up_s = SystemClock().up_s
    until_s = float("inf") if duration_s is None else up_s() + duration_s
    shown: list[NodeState | str] = [""] * count
    with ServiceManager().watched(str, lambda: _line(shown)):
        while not showing.stopped.wait(max(0.0, min(LOOK_S, until_s - up_s()))) and up_s() < until_s:
            for number, state in enumerate(engine.states()):
                if state != shown[number]:
                    shown[number] = state
                    _say(object_of(number, state) if showing.as_json else text_of(number, state))


def text_of(number: int, state: NodeState | str) -> str:
    """A node in one line. `number` counts from 0; a state that is a text is why nothing is known."""
    if isinstance(state, str):
        return f"node {number + 1}: {state}"
    if state.why:
        return f"node {number + 1}: on {state.host}, process {state.pid}, cannot be started: {state.why}"
    if not state.name:
        return f"node {number + 1}: on {state.host}, process {state.pid}, is being started"
    has = f"{accounts(state.accounts)}, {state.available} available"
    return f"node {number + 1}: {state.name} on {state.host}, process {state.pid}: {has}"


def object_of(number: int, state: NodeState | str) -> str:
    """The same as JSON: `why` says what is wrong, and `name` is empty while the node does not run."""
    known = NodeState("", "", 0, 0, 0, state) if isinstance(state, str) else state
    return json.dumps({"node": number + 1, **known._asdict()}, ensure_ascii=False)


def _line(shown: Sequence[NodeState | str]) -> str:
    """All nodes in one line, for the service manager."""
    running = [state for state in shown if isinstance(state, NodeState) and state.name]
    return f"{len(running)} of {len(shown)} nodes run, with {accounts(sum(one.accounts for one in running))}"


def _say(line: str, *, to_stderr: bool = False) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(f"{line}\n")
    stream.flush()
