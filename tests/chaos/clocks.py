"""A wall clock that can be set while its program runs.

`python -m tests.chaos.clocks FILE MODULE ARGUMENT...` runs the module.

Setting the machine's own clock would set it for every program there. The offsets of a time namespace cannot
change once a process is in it, and it has none for the wall clock. So `time.time`, `time.time_ns`,
`time.monotonic`, `time.monotonic_ns` and the same by `time.clock_gettime` are replaced before the program is
imported. FILE has two numbers, which another process changes: by how many seconds the wall clock is off, and
for how many seconds the machine has slept, which its monotonic clock does not count.

`time.perf_counter` stays as it is. On Linux it is the monotonic clock of the machine.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path
from typing import Final

_FORM: Final = struct.Struct("=dd")


class Offsets:
    """The two numbers in the file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_FORM.pack(0.0, 0.0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FORM.size)

    def read(self) -> tuple[float, float]:
        """By how many seconds the wall clock is off, and for how many the machine has slept."""
        wall_s, slept_s = _FORM.unpack_from(self._map)
        return wall_s, slept_s

    def write(self, wall_s: float, slept_s: float) -> None:
        """Set both."""
        _FORM.pack_into(self._map, 0, wall_s, slept_s)


def install(offsets: Offsets) -> None:
    """Replace the clocks of this process."""
    wall_ns, monotonic_ns, clock_gettime = time.time_ns, time.monotonic_ns, time.clock_gettime

    def time_ns() -> int:
        return wall_ns() + round(offsets.read()[0] * 1e9)

    def up_ns() -> int:
        return monotonic_ns() - round(offsets.read()[1] * 1e9)

    def gettime(which: int) -> float:
        if which == time.CLOCK_REALTIME:
            return time_ns() / 1e9
        return up_ns() / 1e9 if which == time.CLOCK_MONOTONIC else clock_gettime(which)

    time.time_ns, time.time = time_ns, lambda: time_ns() / 1e9
    time.monotonic_ns, time.monotonic = up_ns, lambda: up_ns() / 1e9
    time.clock_gettime = gettime


def main() -> None:
    """Run a module under these clocks."""
    install(Offsets(Path(sys.argv[1])))
    module, *arguments = sys.argv[2:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
