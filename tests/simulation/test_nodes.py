"""Histories of a node and two supervisors, each from its seed."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from tests.simulation.nodes import simulated

SEEDS: Final = 200
CHUNK: Final = 50
REACHED: Final = (
    *("a hold", "a release", "a dead node", "a stopped node", "a stopped supervisor"),
    *("a restarted supervisor", "a lost message", "an account out", "an account back", "shown available"),
)
"""What each chunk of histories must come to, or it proves nothing."""


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK), ids=lambda first: f"{first}-{first + CHUNK - 1}")
def test_no_history_of_two_supervisors_breaks_an_invariant(first: int) -> None:
    reached: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        reached.update(simulated(seed))
    assert [what for what in REACHED if not reached[what]] == []
