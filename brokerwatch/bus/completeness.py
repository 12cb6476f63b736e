"""Whether a listener has heard everything that there is: of each endpoint, and of each shard of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


class Heard(Protocol):
    """What one endpoint has sent."""

    complete: bool
    """Whether it has sent a roster, and every broker that it names."""
    shards: Mapping[str, tuple[int, int]]
    """By sender, which of several supervisors it is, and how many share its cluster."""


def is_complete(endpoints: Iterable[Heard]) -> bool:
    """Whether each has sent all, and each supervisor of those that share a cluster is among them."""
    found: dict[str, set[int]] = {}
    wanted: dict[str, int] = {}
    for endpoint in endpoints:
        if not endpoint.complete:
            return False
        for src, (shard, shards) in dict(endpoint.shards).items():
            found.setdefault(src, set()).add(shard)
            wanted[src] = max(shards, wanted.get(src, 1))
    return all(found[src] >= set(range(1, shards + 1)) for src, shards in wanted.items())
