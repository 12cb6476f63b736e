"""What all benches share: rows, a process of their own, the choice of a core, and profiling.

A bench is a module with `ROWS` and `measure(quick)`, which gives a number for each row's key. It runs in a
process of its own and is repeated by `benchmarks/__main__.py`; numbers are compared only within one process.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
NAMES: Final = ("reading", "event", "throughput", "fetch", "accounts", "detection", "push", "metrics")
BY_NAME_ALONE: Final = ("scale", "push_accounts", "push_day")
"""Benches that take long and are in no table: they run when they are named."""
PROFILE_LINES: Final = 25

Numbers = dict[str, float]
"""One repetition: a row's key to its number."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    key: str
    says: str
    """What was measured, for people."""
    unit: str
    over: str = ""
    """The key of the number that it is divided by, in the same repetition; empty: it stands alone."""
    at_most: float | None = None
    """The target: of the ratio where there is one, else of the number."""
    at_least: float | None = None


CORES: Final = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
"""The cores that this process may use, as it found them; empty where the system offers no choice."""


def place(core: int) -> None:
    """Stay on one of `CORES` from now on: 0 is the first, -1 the last. Threads to come inherit it."""
    if CORES:
        os.sched_setaffinity(0, {CORES[core]})


@contextmanager
def placed(core: int) -> Generator[None]:
    """What is started meanwhile, a process too, stays on this core."""
    if not CORES:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORES[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def resident_mb() -> float:
    """What this process has in memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def say(words: str) -> None:
    """Print progress to the terminal."""
    print(words, file=sys.stderr, flush=True)


def run(
    measure: Callable[[bool], Numbers],
    parts: dict[str, Callable[[list[str]], None]] | None = None,
) -> None:
    """The main program of a bench: measure once and print the numbers as JSON; or be one of its `parts`.

    A part is a program that the bench itself starts in another process, by its name.
    """
    arguments = sys.argv[1:]
    try:
        if parts and arguments and arguments[0] in parts:
            parts[arguments[0]](arguments[1:])
            return
        parser = argparse.ArgumentParser()
        parser.add_argument("--quick", action="store_true")
        parser.add_argument("--profile", action="store_true")
        chosen = parser.parse_args(arguments)
        place(0)
        if chosen.profile:
            with profiled():
                measure(chosen.quick)
        else:
            print(json.dumps(measure(chosen.quick)), flush=True)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def profiled() -> Generator[None]:
    """Profile every thread that is started meanwhile, by the CPU time of each, and say where it went."""
    profiles: list[cProfile.Profile] = []

    def begin(frame: Any, event: str, argument: Any) -> None:
        del frame, event, argument
        # In each thread at its first event; it replaces this function there.
        profiles.append(cProfile.Profile(time.thread_time))
        profiles[-1].enable()

    own = cProfile.Profile(time.thread_time)
    if sys.version_info < (3, 12):  # from there on one profile hears all threads
        threading.setprofile(begin)
    own.enable()
    try:
        yield
    finally:
        own.disable()
        threading.setprofile(None)
        told(own, profiles)


def told(own: cProfile.Profile, others: Iterable[cProfile.Profile]) -> None:
    """Print where the time of all of these went, together."""
    stats = pstats.Stats(own, stream=sys.stderr)
    for one in others:
        one.create_stats()
        if one.getstats():
            stats.add(one)
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats(PROFILE_LINES)
