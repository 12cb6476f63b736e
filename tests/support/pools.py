"""Pools of nodes inside the process of a test, and the proof that no two owners of a key overlapped."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.clock import Clock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.config.pool_settings import PoolNodeSettings, PoolSettings
from brokerwatch.gateway.catalogue import lane_name
from brokerwatch.simulator import SimulatedExchange, SimulatedKraken, SimulatedOkx
from brokerwatch.simulator.account import CALLER_HEADER, PrivateCall
from brokerwatch.storage.claims import ClaimRow, PoolStore
from tests.support.clusters import simulated_spec, until

LEASE_S: Final = 3.0
DEADLINE_S: Final = 1.0
SKEW_S: Final = 0.25
HEARTBEAT_S: Final = 0.5


def pool_spec(exchange: SimulatedExchange, name: str, **values: Any) -> BrokerSpec:
    """An account with a key of its own."""
    chosen: dict[str, Any] = {"poll_interval_s": 0.2, "fetch_deadline_s": DEADLINE_S, **values}
    return replace(
        simulated_spec(exchange, name, **chosen),
        credentials=MappingProxyType(dict(exchange.add_account(steady_credentials(exchange, name)))),
    )


def steady_credentials(exchange: SimulatedExchange, name: str) -> dict[str, str]:
    """Made-up credentials whose key follows from the account's name.

    Nodes share accounts by a hash of their keys: of few random ones all would fall to one node now and then.
    """
    made, digest = exchange.new_credentials(), hashlib.sha512(name.encode()).digest()
    if isinstance(exchange, SimulatedKraken):
        return {**made, "api_key": base64.b64encode(digest[:42]).decode()}
    if isinstance(exchange, SimulatedOkx):
        return {**made, "api_key": str(uuid.UUID(bytes=digest[:16]))}
    return made  # its keys are signatures' own


class PoolDesk:
    """One pool on one database. `close` ends the nodes that still run."""

    def __init__(self, url: str, folder: Path, *, lease_s: float = LEASE_S) -> None:
        self.url = url
        self._folder = folder
        self._stack = ExitStack()
        self._lease_s = lease_s
        self._store = PoolStore(url, "tests")
        """Its connection is kept: some tests look a hundred times a second."""
        self._stack.callback(self._store.close)

    def settings(
        self, name: str, *, url: str = "", http: HttpSettings | None = None, **values: Any
    ) -> ClusterSettings:
        """Those of one node. `url`: its own way to the database."""
        node = PoolNodeSettings(name, **values)
        return ClusterSettings(
            name=f"desk-{name}",
            heartbeat_s=HEARTBEAT_S,
            health_endpoint=f"ipc://{self._folder}/{name}-h",
            state=self._folder / name,
            store=url or self.url,
            http=http,
            pool=PoolSettings("tests", self._lease_s, SKEW_S, "desk", node),
        )

    def node(
        self, name: str, specs: Sequence[BrokerSpec], *, clock: Clock | None = None, **values: Any
    ) -> Cluster:
        """A node that runs. Its calls carry its name."""
        called = [called_by(name, spec) for spec in specs]
        made = Cluster(called, self.settings(name, **values), clock=clock)
        self._stack.callback(made.stop)
        made.start()
        return made

    def claims(self) -> tuple[ClaimRow, ...]:
        """What the database says of each key."""
        return self._store.claims()

    def close(self) -> None:
        self._stack.close()


def called_by(name: str, spec: BrokerSpec) -> BrokerSpec:
    """The account as the process of this name asks it."""
    return replace(spec, ccxt=MappingProxyType({**spec.ccxt, "headers": {CALLER_HEADER: name}}))


def here(node: Cluster) -> set[str]:
    """The accounts that are with a node."""
    return {reading.broker for reading in node.readings()}


def until_shared(nodes: Iterable[Cluster], specs: Iterable[BrokerSpec]) -> None:
    """Wait until each account is with one of the nodes and available there."""
    among, names = tuple(nodes), {spec.name for spec in specs}

    def shared() -> bool:
        found = [here(node) for node in among]
        return (
            sum(map(len, found)) == len(names)
            and set().union(*found) == names
            and all(reading.available for node in among for reading in node.readings())
        )

    until(shared)


def overlaps(
    calls: Iterable[PrivateCall], specs: Iterable[BrokerSpec], claims: Iterable[ClaimRow]
) -> list[str]:
    """Keys whose callers changed more often than their owners did; empty: no two owners overlapped.

    An epoch is one unbroken term of one owner, so with `n` epochs the caller changes `n - 1` times at most.
    Two owners at one time would call in turns.
    """
    epochs = {row.key: row.epoch for row in claims}
    fingerprints = {spec.credentials["api_key"]: lane_name(spec) for spec in specs}
    changes: Counter[str] = Counter()
    newest: dict[str, str] = {}
    for call in calls:
        changes[call.key] += newest.get(call.key, call.caller) != call.caller
        newest[call.key] = call.caller
    return [
        f"{key}: {changed} changes of its caller within {epochs[fingerprints[key]]} epochs"
        for key, changed in changes.items()
        if changed > epochs[fingerprints[key]] - 1
    ]
