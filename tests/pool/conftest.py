"""Fixtures that the tests of this folder share: a real PostgreSQL, and pools of nodes in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerwatch.simulator import SimulatedCoinbase, SimulatedKraken, SimulatedOkx, serve
from tests.support.pools import PoolDesk
from tests.support.postgres import PostgreSQL, postgresql
from tests.support.stores import emptied

__all__ = ["postgresql"]


@pytest.fixture
def kraken() -> Iterator[SimulatedKraken]:
    exchange = SimulatedKraken()
    exchange.private_log = []
    with serve(exchange):
        yield exchange


@pytest.fixture
def okx() -> Iterator[SimulatedOkx]:
    exchange = SimulatedOkx()
    exchange.private_log = []
    with serve(exchange):
        yield exchange


@pytest.fixture
def coinbase() -> Iterator[SimulatedCoinbase]:
    exchange = SimulatedCoinbase()
    exchange.private_log = []
    with serve(exchange):
        yield exchange


@pytest.fixture
def desk(postgresql: PostgreSQL, tmp_path: Path) -> Iterator[PoolDesk]:
    made = PoolDesk(emptied(postgresql), tmp_path)
    yield made
    made.close()
