"""Nodes that start one after the other share the accounts once, and not anew at each start."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from brokerwatch.pool import settling
from brokerwatch.simulator import SimulatedCoinbase
from tests.support.pools import PoolDesk, pool_spec, until_shared

ACCOUNTS = 12


def test_each_key_of_nodes_that_start_one_after_the_other_is_claimed_once(
    desk: PoolDesk,
    coinbase: SimulatedCoinbase,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    # So few accounts are shared at once; here they count as many.
    monkeypatch.setattr(settling, "SETTLE_PER_ACCOUNT_S", settling.LONGEST_SETTLE_S / ACCOUNTS)
    specs = [pool_spec(coinbase, f"a{number}") for number in range(ACCOUNTS)]
    # A busy machine must not lose a claim meanwhile.
    with contextlib.closing(PoolDesk(desk.url, tmp_path, lease_s=20.0)) as slow:
        nodes = [slow.node(name, specs) for name in ("one", "two", "three", "four")]
        until_shared(nodes, specs)
        assert {row.epoch for row in desk.claims()} == {1}
        assert "handed over" not in caplog.text
