"""Which API keys fall to this node: the wish that follows from the accounts and the live nodes.

Pure. Every node computes the same from the same; what it may really use is said by its claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.placement.assignment import PlacedAccount, PlacedNode, placed, why_not
from brokerwatch.storage.claims import PoolNode


def placed_accounts(keys: Mapping[str, str], specs: Iterable[BrokerSpec]) -> list[PlacedAccount]:
    """The accounts as the placement takes them. `keys`: what each is claimed by, by name."""
    return [
        PlacedAccount(
            spec.name,
            keys[spec.name],
            spec.pin,
            1.0 / spec.poll_interval_s if math.isfinite(spec.poll_interval_s) else 0.0,
        )
        for spec in specs
    ]


def placed_nodes(nodes: Iterable[PoolNode]) -> list[PlacedNode]:
    """The live nodes as the placement takes them."""
    return [
        PlacedNode(node.name, node.capacity, node.labels, node.egress, node.calls_per_s, node.accounts)
        for node in nodes
    ]


def placement_of(accounts: Sequence[PlacedAccount], nodes: Sequence[PoolNode]) -> Mapping[str, str]:
    """Which node each account falls to, by name; those that no node takes are left out."""
    return placed(accounts, placed_nodes(nodes))


def share_of(
    node: PoolNode, accounts: Sequence[PlacedAccount], nodes: Sequence[PoolNode], where: Mapping[str, str]
) -> frozenset[str]:
    """The keys whose accounts fall to this node: none as long as it is not one of the live ones itself.

    `where`: from `placement_of`.
    """
    if not any(each.owner == node.owner for each in nodes):
        return frozenset()
    return frozenset(each.key for each in accounts if where.get(each.name) == node.name)


def left_out(
    accounts: Sequence[PlacedAccount], nodes: Sequence[PoolNode], where: Mapping[str, str]
) -> dict[str, str]:
    """Why no node takes an account, by its name; empty: each has one. `where`: from `placement_of`."""
    live = placed_nodes(nodes)
    return {each.name: why_not(each, live, accounts) for each in accounts if each.name not in where}
