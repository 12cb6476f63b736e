"""The [pool] table: nodes that share the accounts of one configuration, each API key with one at a time.

A node has the right to a key for `lease_s` and renews it. What it may do with it until when is in
`brokerwatch.gateway.lease`; the formula below says how long a lease has to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.toml_table import TomlTable
from brokerwatch.messages import topics

SHORTEST_DEFAULT_S: Final = 20.0
"""A lease that nothing was said of lasts at least so long: a database may be away for a moment."""
SKEW_S: Final = 0.5
"""By how much the monotonic clocks of a node and of the database may drift apart within one lease."""
MARGIN_S: Final = 0.25
"""A request begins so much earlier than its longest time before the end of a term. It is what the request may
take from there until its bytes are written: signing, a place in the loop, a name, a connection and TLS. One
that takes longer is not written."""
BEATS: Final = 4
"""Heartbeats in one lease, at least."""
LONGEST_S: Final = 3_600.0
"""An account whose node died would be out for so long."""


@dataclass(frozen=True, slots=True)
class PoolNodeSettings:
    """What this process is in its pool."""

    name: str
    """Of the node; one live process of the pool has it."""
    capacity: float = 1.0
    """Its weight: a node of twice the capacity gets twice the accounts."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What accounts may pin, by name."""
    egress: str = ""
    """The address that exchanges see; nodes behind one address share its budget. Empty: not known."""
    calls_per_s: float = math.inf
    """How many polls a second may leave from its egress address."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """One pool, as all of its nodes know it, and as its supervisors do."""

    name: str = ""
    """Which pool; empty: `--pool` has to say it."""
    lease_s: float | None = None
    """Seconds for which a node has the right to a key; None: by the formula of `lease_of`."""
    skew_s: float = SKEW_S
    """Seconds by which a node ends its term earlier than the database does."""
    stored_as: str = ""
    """The name that everything stored of the accounts goes by: that of the cluster. Set by the loader."""
    node: PoolNodeSettings | None = None
    """This process; None: it is no node of the pool."""


def longest_call_s(specs: Iterable[BrokerSpec]) -> float:
    """The longest deadline of one request of these accounts, in seconds."""
    return max((spec.fetch_deadline_s for spec in specs), default=0.0)


def shortest_lease_s(call_s: float, skew_s: float) -> float:
    """The shortest lease: half of it is left for the next renewal while a call may start."""
    return 2 * (call_s + MARGIN_S) + skew_s


def lease_of(pool: PoolSettings, specs: Iterable[BrokerSpec]) -> float:
    """The lease in seconds: what the file says, else 2 × (longest call + margin) + skew, 20 s at least."""
    if pool.lease_s is not None:
        return pool.lease_s
    return max(SHORTEST_DEFAULT_S, shortest_lease_s(longest_call_s(specs), pool.skew_s))


def longest_heartbeat_s(lease_s: float) -> float:
    """The longest heartbeat in a pool: each reading ends with the claim, and is renewed before it does."""
    return lease_s / BEATS


def pool_of(top: TomlTable, cluster: str) -> PoolSettings | None:
    """What the [pool] table of a file says; None: it has none. `cluster`: the name of the cluster."""
    said = top.table_or_none("pool")
    if said is None:
        return None
    table = TomlTable(top.where, "pool", said, top.problems, top.lines)
    found = PoolSettings(
        table.text("name", ""),
        table.limit("lease_s"),
        table.number("skew_s", SKEW_S),
        stored_as=cluster,
    )
    table.end("name, lease_s, skew_s")
    for key, expected in pool_mistakes(found):
        table.wrong(key, expected)
    return found


def pool_mistakes(pool: PoolSettings) -> list[tuple[str, str]]:
    """(key, what was expected) for each value that cannot be."""
    found: list[tuple[str, str]] = []
    if pool.name and not topics.is_name(pool.name):
        found.append(("name", f"expected {topics.NAME_RULE}, not {pool.name!r}"))
    if not 0 <= pool.skew_s <= LONGEST_S:
        found.append(("skew_s", f"expected seconds from 0 to {LONGEST_S:g}, not {pool.skew_s:g}"))
    elif pool.lease_s is not None and not shortest_lease_s(0.0, pool.skew_s) <= pool.lease_s <= LONGEST_S:
        shortest_s = shortest_lease_s(0.0, pool.skew_s)
        found.append(
            ("lease_s", f"expected seconds from {shortest_s:g} to {LONGEST_S:g}, not {pool.lease_s:g}")
        )
    return found


def lease_mistake(pool: PoolSettings, specs: Iterable[BrokerSpec]) -> str:
    """Why the lease is too short for these accounts; empty: it is not."""
    if pool.lease_s is None:
        return ""
    call_s = longest_call_s(specs)
    shortest_s = shortest_lease_s(call_s, pool.skew_s)
    if pool.lease_s >= shortest_s:
        return ""
    return (
        f"expected at least {shortest_s:g} s, 2 × (the longest fetch_deadline_s, {call_s:g} s, + "
        f"{MARGIN_S:g} s) + skew_s, not {pool.lease_s:g}"
    )


def node_mistakes(node: PoolNodeSettings) -> list[tuple[str, str]]:
    """(option, what was expected) for each value of a node that cannot be."""
    found: list[tuple[str, str]] = []
    if not topics.is_name(node.name):
        found.append(("--name", f"expected {topics.NAME_RULE}, not {node.name!r}"))
    if not (math.isfinite(node.capacity) and node.capacity >= 0):
        found.append(("--capacity", f"expected 0 or more, not {node.capacity:g}"))
    if not node.calls_per_s >= 0:
        found.append(("--calls-per-s", f"expected 0 or more, not {node.calls_per_s:g}"))
    return found
