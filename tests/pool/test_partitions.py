"""A short round of `tests.pool.partitions`; `make partitions` runs a thousand."""

from __future__ import annotations

import os
from pathlib import Path

from tests.pool.partitions import run
from tests.support.postgres import PostgreSQL
from tests.support.stores import emptied

PARTITIONS = 5


def test_no_two_nodes_use_one_key_while_they_lose_their_database(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SEED", "0")) or int.from_bytes(os.urandom(3), "big") + 1
    found = run(emptied(postgresql), tmp_path, seed, PARTITIONS)
    assert not found.faults, f"SEED={seed}"
    assert found.calls > 0
    assert found.handovers > 0
