"""Fixtures that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerwatch.storage.store import Store
from tests.support.postgres import PostgreSQL, postgresql
from tests.support.stores import Opener, emptied

__all__ = ["postgresql"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    return emptied(request.getfixturevalue("postgresql"))


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Makes stores that are closed afterwards."""
    made: list[Store] = []

    def make(url: str, cluster: str = "main") -> Store:
        made.append(Store(url, cluster))
        return made[-1]

    yield make
    for store in made:
        store.close()


# --- PostgreSQL ---------------------------------------------------------------------------------------


@pytest.fixture
def server(postgresql: PostgreSQL) -> PostgreSQL:
    """The server without any of our tables."""
    emptied(postgresql)
    return postgresql
