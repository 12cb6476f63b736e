"""What `brokerwatch doctor` says of [pool]: which nodes live, and whether each account is with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, is_in_a_file
from brokerwatch.config.pool_settings import PoolSettings, lease_mistake, lease_of, longest_call_s
from brokerwatch.errors import StoreError
from brokerwatch.gateway.catalogue import lane_name
from brokerwatch.pool.share import left_out, placed_accounts, placement_of
from brokerwatch.preflight.diagnosis import Line, fail, ok, skip, warn
from brokerwatch.storage.claims import PoolStore, PoolView

SUBJECT: Final = "pool"
SHOWN: Final = 5
"""So many names stand in one line."""


def pool_lines(cluster: ClusterSettings, specs: Sequence[BrokerSpec]) -> Iterator[Line]:
    """The lines about [pool]; none without it. `specs`: the accounts of the file, where they were read."""
    pool = cluster.pool
    if pool is None:
        return
    if not cluster.remember or is_in_a_file(cluster):
        yield fail(
            SUBJECT,
            "database",
            "a pool needs a PostgreSQL that all of its nodes reach, and the store is a file",
            'write store = "postgresql+psycopg://USER@HOST/DATABASE" under [cluster]',
        )
        return
    yield _lease(pool, specs)
    if not pool.name:
        yield skip(SUBJECT, "nodes", "[pool] has no name", "write it there, or give --pool to each node")
        return
    store = PoolStore(cluster.store, pool.name)
    try:
        store.open()
        view = store.view()
    except StoreError as error:
        yield fail(SUBJECT, "nodes", str(error), "mend the database; without it no account is watched")
        return
    finally:
        store.close()
    yield _nodes(pool, view)
    yield from _accounts(view, specs)


def _lease(pool: PoolSettings, specs: Sequence[BrokerSpec]) -> Line:
    if mistake := lease_mistake(pool, specs):
        return fail(SUBJECT, "lease", mistake, "raise lease_s under [pool], or lower fetch_deadline_s")
    lease_s = lease_of(pool, specs)
    said = f"an API key goes on at another node {lease_s:g} s after its node was killed"
    if specs:
        said += f"; the longest call takes {longest_call_s(specs):g} s"
    return ok(SUBJECT, "lease", said)


def _nodes(pool: PoolSettings, view: PoolView) -> Line:
    if not view.nodes:
        return warn(
            SUBJECT,
            "nodes",
            f"pool {pool.name} has no live node",
            f"start one: brokerwatch node --pool {pool.name}",
        )
    held = {node.name: 0 for node in view.nodes}
    for row in view.claims:
        if row.is_held:
            held[row.node] = held.get(row.node, 0) + 1
    shown = ", ".join(f"{name} with {_keys(count)}" for name, count in held.items())
    return ok(SUBJECT, "nodes", f"pool {pool.name}: {shown}")


def _keys(count: int) -> str:
    return f"{count} API key{'' if count == 1 else 's'}"


def _accounts(view: PoolView, specs: Sequence[BrokerSpec]) -> Iterator[Line]:
    """Which accounts of the file are with no node, and why."""
    if not specs or not view.nodes:
        return
    keys = {spec.name: lane_name(spec) for spec in specs}
    held = {row.key for row in view.claims if row.is_held}
    without = [name for name, key in keys.items() if key not in held]
    yield from _files(view, keys)
    accounts = placed_accounts(keys, specs)
    reasons = left_out(accounts, view.nodes, placement_of(accounts, view.nodes))
    for name, why in list(reasons.items())[:SHOWN]:
        yield fail(SUBJECT, "placement", f"no node takes {name}: {why}", "then it is taken by itself")
    waiting = [name for name in without if name not in reasons]
    if waiting:
        more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
        yield warn(
            SUBJECT,
            "claims",
            f"with no node now: {', '.join(waiting[:SHOWN])}{more}",
            "wait for a lease; if they stay so, look at the logs of the nodes",
        )
    elif not without:
        yield ok(SUBJECT, "claims", f"each of the {len(specs)} accounts is with a node")


def _files(view: PoolView, keys: Mapping[str, str]) -> Iterator[Line]:
    """Which nodes have not the accounts of this file, or have them with other keys."""
    for node in view.nodes:
        if node.accounts is None:
            continue
        names = {name for _, name in node.accounts}
        missing = [name for name in keys if name not in names]
        if missing:
            yield _differs(f"node {node.name} has not all accounts of this file", missing)
        others = [name for name, key in keys.items() if name in names and (key, name) not in node.accounts]
        if others:
            yield _differs(f"node {node.name} knows another API key of accounts of this file", others)


def _differs(what: str, names: Sequence[str]) -> Line:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return warn(
        SUBJECT,
        "files",
        f"{what}: {', '.join(names[:SHOWN])}{more}",
        "give all nodes the same accounts, and reload them; until then fewer nodes can watch these",
    )
