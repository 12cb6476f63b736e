"""Run many seeds, or show one.

make simulate                          # 100,000 seeds on all cores
make simulate SEEDS=5000
make simulate ARGS="--seed 4711"       # one seed with its trace
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
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
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(chunk, starts)


def main() -> int:
    """Run. The status is 1 where an invariant was broken."""
    parser = argparse.ArgumentParser(
        prog="make simulate", description="Simulate histories and hold invariants."
    )
    parser.add_argument("--seed", type=int, help="show this seed alone, with its trace")
    parser.add_argument("--seeds", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed is not None:
        try:
            world = simulated(options.seed, shows=True)
        except Broken as error:
            print(str(error).partition("\n  ")[0])
            return 1
        print(f"seed {options.seed}: {world.scheduler.steps} steps, and everything holds")
        return 0
    began_s, done, broken = time.monotonic(), 0, 0
    reached: Counter[str] = Counter()
    try:
        for held, failures, found in results(options.first, options.seeds, options.jobs):
            done, broken = done + held, broken + len(failures)
            reached.update(found)
            for failure in failures:
                print(f"\n{failure}\n")
            gone_s = time.monotonic() - began_s
            print(
                f"\r{done:,} of {options.seeds:,} hold, {broken} broken, {gone_s:.0f} s", end="", flush=True
            )
        print()
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    finally:
        for what, count in sorted(reached.items()):
            print(f"{count:>10,}  {what}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
