"""Many seeds on all cores. A module of its own, because a worker cannot import `__main__`."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.simulation.oracle import Broken
from tests.simulation.script import simulated

CHUNK: Final = 50


Chunk = tuple[int, list[str], Counter[str]]


def chunk(seeds: range) -> Chunk:
    """Run some seeds. Returns how many held, what was broken, and what was reached."""
    reached: Counter[str] = Counter()
    failures: list[str] = []
    for seed in seeds:
        try:
            reached.update(simulated(seed).oracle.counts)
        except Broken as error:
            failures.append(str(error))
        except Exception as error:  # noqa: BLE001 - a seed that ends in any error is to be named
            failures.append(f"seed {seed}: {type(error).__name__}: {error}")
    return len(seeds) - len(failures), failures, reached


def results(first: int, seeds: int, jobs: int) -> Iterator[Chunk]:
    """The chunks, as they come."""
    end = first + seeds
    starts = [range(at, min(at + CHUNK, end)) for at in range(first, end, CHUNK)]
    if jobs == 1:
        yield from map(chunk, starts)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _leave_ctrl_c_to_the_parent) as pool:
        yield from pool.imap_unordered(chunk, starts)


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
