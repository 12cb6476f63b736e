"""Fixtures that the tests of this folder share: a real PostgreSQL, and pools whose nodes are programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.pools import LEASE_S
from tests.support.postgres import PostgreSQL, postgresql
from tests.support.started_pools import StartedPool
from tests.support.stores import emptied

__all__ = ["postgresql"]

PoolOf = Callable[..., StartedPool]


@pytest.fixture
def pool_of(postgresql: PostgreSQL, tmp_path: Path) -> Iterator[PoolOf]:
    """Makes a pool with so many accounts."""
    with ExitStack() as stack:

        def made(count: int, lease_s: float = LEASE_S) -> StartedPool:
            exchange = SimulatedKraken()
            stack.enter_context(serve(exchange))
            pool = StartedPool(emptied(postgresql), exchange, tmp_path, count, lease_s)
            stack.callback(pool.close)
            return pool

        yield made
