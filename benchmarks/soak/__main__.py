"""`make soak`: run a cluster under trouble, and say whether it holds.

make soak                       # ten minutes
make soak SOAK_S=60
make soak ARGS="--seed 4711"    # the same trouble again
make soak ARGS="--split"        # a supervisor and two nodes
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.machine import load, processor, revision, version
from benchmarks.measure import CORES, ROOT, say
from benchmarks.soak import plot, report
from benchmarks.soak.measured import Measured
from benchmarks.soak.soak import Soak
from benchmarks.soak.verdicts import verdicts

USUAL_S: Final = 600.0
LIBRARIES: Final = ("aiohttp", "ccxt", "msgpack", "msgspec", "pykka", "pyzmq", "sqlalchemy")
LINE_S: Final = 30.0
"""How often a line is printed where there is no terminal."""


def main() -> int:
    """Run. The status is 1 where something is broken, and 2 where the soak cannot be run here."""
    parser = argparse.ArgumentParser(
        prog="make soak", description="Run a cluster under trouble, and judge it."
    )
    parser.add_argument("--seconds", type=float, default=USUAL_S, help="of trouble; 600 by default")
    parser.add_argument("--seed", type=int, default=None, help="of chance; a new one by default")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "soak", help="the folder of the results")
    parser.add_argument(
        "--split", action="store_true", help="a supervisor and two nodes, in place of one process"
    )
    options = parser.parse_args()
    if not Path("/proc/self/status").exists():
        say("brokerwatch: the soak reads /proc, which this system does not have; run it on Linux")
        return 2
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    say(f"brokerwatch: a soak of {options.seconds:g} s with seed {seed}; Ctrl-C ends it early")
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    began, before = datetime.now(UTC), load()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(seed, options.seconds, Path(folder), options.out, Progress(), is_split=options.split)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: soak.stop())
        measured = soak.run()
    measured.began = began.isoformat(timespec="seconds")
    measured.circumstances = _circumstances(before)
    found = verdicts(measured)
    say("")
    print(report.table(measured, found))
    say(f"\nbrokerwatch: all of it is in {report.write(measured, found, options.out)}")
    try:
        plot.plot(measured, options.out / "soak.png")
        say(f"brokerwatch: the picture is {options.out / 'soak.png'}")
    except ImportError:
        say("brokerwatch: there is no picture without matplotlib: pip install '.[soak]'")
    return 1 if any(each.holds is False for each in found) else 0


class Progress:
    """One line of how far it is: always the same one at a terminal, else one every half a minute."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __call__(self, measured: Measured) -> None:
        """Say it. On the sampler's thread."""
        terminal, now_s = sys.stderr.isatty(), time.monotonic()
        if not terminal and now_s < self._next_s:
            return
        self._next_s = now_s + LINE_S
        life = measured.lives[-1] if measured.lives else None
        newest = life.samples[-1] if life and life.samples else None
        if newest is None or not measured.seconds:
            return
        second = measured.seconds[-1]
        line = (
            f"{now_s - measured.began_s:4.0f} of {measured.length_s:.0f} s  life {len(measured.lives)}  "
            f"{newest.memory_mb:.1f} MB  {newest.threads} threads  {newest.descriptors} fds  "
            f"{second.available} up  {second.lost} lost"
        )
        sys.stderr.write(f"\r{line:<79}" if terminal else f"{line}\n")
        sys.stderr.flush()


def _circumstances(before: str) -> dict[str, str]:
    cores = len(CORES) or os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return {
        "machine": f"{processor()}, {cores} cores, {platform.system()} {platform.release()}",
        "load average": f"{before} before, {load()} after",
        "versions": f"revision {revision()}; {platform.python_implementation()} {platform.python_version()}; "
        f"{versions}",
    }


if __name__ == "__main__":
    sys.exit(main())
