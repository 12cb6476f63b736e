"""Run many seeds, or show one.

make simulate                          # 100,000 seeds on all cores
make simulate SEEDS=5000
make simulate ARGS="--seed 4711"       # one seed with its trace
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.simulation.many import results
from tests.simulation.oracle import Broken
from tests.simulation.script import simulated


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
