"""Fixtures that the tests of this folder share: a real PostgreSQL, and pools of nodes in this process."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.pools import PoolDesk
from tests.support.postgres import PostgreSQL, postgresql
from tests.support.stores import emptied

__all__ = ["postgresql"]

ExchangeT = TypeVar("ExchangeT", bound=SimulatedExchange)


@contextmanager
def _served(exchange: ExchangeT) -> Generator[ExchangeT]:
    exchange.private_log = []
    with serve(exchange):
        yield exchange


@pytest.fixture
def kraken() -> Iterator[SimulatedKraken]:
    with _served(SimulatedKraken()) as exchange:
        yield exchange


@pytest.fixture
def okx() -> Iterator[SimulatedOkx]:
    with _served(SimulatedOkx()) as exchange:
        yield exchange


@pytest.fixture
def coinbase() -> Iterator[SimulatedCoinbase]:
    with _served(SimulatedCoinbase()) as exchange:
        yield exchange


@pytest.fixture
def desk(postgresql: PostgreSQL, tmp_path: Path) -> Iterator[PoolDesk]:
    made = PoolDesk(emptied(postgresql), tmp_path)
    yield made
    made.close()
