"""The threads of a node of a pool: one that ends or hangs is said, and its accounts go out."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from brokerwatch.cluster.pooling import Pooling
from brokerwatch.pool.keeper import ClaimKeeper
from brokerwatch.simulator import SimulatedKraken
from tests.support.clusters import until
from tests.support.pools import PoolDesk, pool_spec, until_shared


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is raised on purpose
@pytest.mark.parametrize("way", ["ends", "hangs"])
@pytest.mark.parametrize("part", [(ClaimKeeper, "_round"), (Pooling, "_move")], ids=["claims", "moves"])
def test_a_node_whose_claims_or_moves_end_or_hang_is_broken(
    desk: PoolDesk, kraken: SimulatedKraken, monkeypatch: pytest.MonkeyPatch, part: tuple[Any, str], way: str
) -> None:
    spec = pool_spec(kraken, "k")
    node = desk.node("one", [spec])
    until_shared([node], [spec])
    go_on = threading.Event()

    def broken(*_: object) -> None:
        if way == "ends":
            raise ArithmeticError("a mistake")
        go_on.wait()

    monkeypatch.setattr(*part, broken)
    monkeypatch.setattr("brokerwatch.pool.keeper.HUNG_S", 1.0)
    monkeypatch.setattr("brokerwatch.cluster.pooling.HUNG_S", 1.0)
    try:
        until(lambda: node.hung)
        until(lambda: not node.reading("k").available)
    finally:
        go_on.set()
    assert node.hung.startswith("the pool: ")
