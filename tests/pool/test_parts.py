"""The threads of a node of a pool: one that ends or hangs is said, and its accounts go out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection
from typing import Any

import pytest

from brokerwatch.cluster.pooling import Pooling
from brokerwatch.pool.keeper import LOST, ClaimKeeper
from brokerwatch.pool.terms import Terms
from brokerwatch.simulator import SimulatedKraken
from brokerwatch.storage.claims import PoolStore
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
        hung = node.hung
    finally:
        go_on.set()
    assert hung.startswith("the pool: ")


def test_a_key_counts_as_not_held_before_the_loss_of_its_claim_is_settled(
    desk: PoolDesk, kraken: SimulatedKraken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its account would come back at once without a claim, and ask nothing from then on."""
    spec = pool_spec(kraken, "k")
    node = desk.node("one", [spec])
    until_shared([node], [spec])
    settled = threading.Event()
    still_held: list[frozenset[str]] = []
    ended, settle = Terms.ended, ClaimKeeper.settle

    def ended_late(terms: Terms, keys: Collection[str], why: str) -> None:
        if why == LOST:
            settled.wait(1.0)
        ended(terms, keys, why)

    def watched_settle(keeper: ClaimKeeper, keys: frozenset[str]) -> None:
        if keys:
            still_held.append(keys & keeper._terms.held.keys())  # pyright: ignore[reportPrivateUsage] - shown nowhere else
            settled.set()
        settle(keeper, keys)

    monkeypatch.setattr(Terms, "ended", ended_late)
    monkeypatch.setattr(ClaimKeeper, "settle", watched_settle)
    with contextlib.closing(PoolStore(desk.url, "tests")) as other:
        (row,) = desk.claims()
        other.leave(row.owner)
    until(settled.is_set)
    assert not any(still_held)
    asked = len(kraken.private_log or ())
    until(lambda: len(kraken.private_log or ()) > asked + 2)
