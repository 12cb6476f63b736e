"""A node with very many claims: what it costs to renew them grows with their number, and not faster."""

from __future__ import annotations

import pytest

from brokerwatch.storage import claims, database
from brokerwatch.storage.claims import PoolStore
from tests.support.pools import PoolDesk

MANY = 20_000
"""Compared each with each they would take minutes, and a call has some seconds."""


def test_very_many_claims_are_renewed_and_released_in_time(
    desk: PoolDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine too; minutes would be above these as well.
    monkeypatch.setattr(database, "STATEMENT_MS", 20_000)
    monkeypatch.setattr(claims, "TRANSACTION_S", 40.0)
    store = PoolStore(desk.url, "tests")
    keys = [f"{number:064x}" for number in range(MANY)]
    try:
        held = store.take(keys, "one/1", 60.0)
        assert store.renew(held, "one/1", 60.0) == frozenset(keys)
        store.release(keys[1:], "one/1")
        assert [row.key for row in store.claims() if row.is_held] == keys[:1]
    finally:
        store.close()
