"""`brokerwatch verify` of an account of a pool: it calls with the key as one process among the nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from brokerwatch.cli import verification
from brokerwatch.clock import ManualClock
from brokerwatch.errors import KeyInUse
from brokerwatch.pool.visit import Visit
from brokerwatch.simulator import SimulatedKraken
from brokerwatch.simulator.account import PrivateCall
from brokerwatch.storage.claims import PoolStore
from tests.support.command import logging_of_a_program
from tests.support.pools import LEASE_S, PoolDesk, pool_spec, until_shared

Verify = Callable[[], int]


@pytest.fixture
def verify(
    desk: PoolDesk, kraken: SimulatedKraken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Verify:
    """Verifies the first account of the exchange, called `mine`, by a file of the pool. The status."""
    monkeypatch.setenv("MINE_API_KEY", kraken.credentials["api_key"])
    monkeypatch.setenv("MINE_API_SECRET", kraken.credentials["secret"])
    urls = ", ".join(f'{name} = "{kraken.url}"' for name in kraken.url_names)
    path = tmp_path / "desk.toml"
    path.write_text(
        f'version = 1\n[cluster]\nname = "desk"\nstate = "{tmp_path}/verified"\nstore = "{desk.url}"\n'
        # Longer than that of the nodes, or a busy machine would not renew it in time.
        f'[pool]\nname = "tests"\nlease_s = {20 * LEASE_S}\nskew_s = 0.25\n'
        f'[brokers.mine]\nexchange = "kraken"\ntrading = true\npolicy = "guarded"\nfetch_deadline_s = 10.0\n'
        f"[brokers.mine.ccxt]\nurls = {{ api = {{ {urls} }} }}\n",
        encoding="utf-8",
    )
    path.chmod(0o600)

    def run() -> int:
        with logging_of_a_program():
            return verification.run(verification.of_config("mine", path), None, settle_s=0.0)

    return run


def test_a_verification_has_the_claim_while_it_calls_and_gives_it_back(
    desk: PoolDesk, kraken: SimulatedKraken, verify: Verify
) -> None:
    class Log(list[PrivateCall]):
        """Looks at the claims at each private call."""

        def append(self, call: PrivateCall, /) -> None:
            super().append(call)
            held.append(any(row.is_held and row.node == "verify" for row in desk.claims()))

    held: list[bool] = []
    kraken.private_log = Log()
    assert verify() == 0
    assert held
    assert all(held), "a node could have called at the same time"
    (row,) = desk.claims()
    assert (row.is_held, row.accounts) == (False, ("mine",))


def test_no_verification_calls_with_a_key_that_a_node_has(
    desk: PoolDesk, kraken: SimulatedKraken, verify: Verify
) -> None:
    spec = replace(pool_spec(kraken, "mine"), credentials=MappingProxyType(dict(kraken.credentials)))
    node = desk.node("a", [spec])
    until_shared([node], [spec])
    with pytest.raises(KeyInUse, match="mine: node a of pool tests has its API key"):
        verify()
    node.stop()
    assert verify() == 0


def test_a_verification_whose_claim_is_not_renewed_begins_no_call(desk: PoolDesk) -> None:
    clock = ManualClock()
    visit = Visit(PoolStore(desk.url, "tests"), "f" * 32, "mine", 30.0, clock)
    assert visit.lost, "nothing was taken yet"
    with visit:
        assert not visit.lost
        with (
            pytest.raises(KeyInUse, match="another verification"),
            Visit(PoolStore(desk.url, "tests"), "f" * 32, "mine", 30.0),
        ):
            pass
        clock.advance(15.1)
        assert "not renewed for 15 s" in visit.lost
    assert not any(row.is_held for row in desk.claims())
