"""`make bench`: run the benches, each in a process of its own, in turns, and write the table.

The benches of one round follow each other and then the next round begins, so that a machine that
changes meanwhile changes them all. A ratio is made of two numbers of one process; the table shows medians
and the range. A run of all benches writes docs/benchmarks.md, between its two markers; a run of some
prints its table only: numbers of different runs do not stand in one table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from typing import Final

from benchmarks.machine import load, processor, revision, version
from benchmarks.measure import BY_NAME_ALONE, CORES, NAMES, ROOT, Numbers, Row, say

PAGE: Final = ROOT / "docs" / "benchmarks.md"
BEGIN: Final = "<!-- the table begins: written by make bench -->"
END: Final = "<!-- the table ends -->"
ROUNDS: Final = 5
FEWER: Final = {"accounts": 3, "detection": 3, "push": 3, "scale": 1, "push_accounts": 1, "push_day": 1}
"""Rounds of what takes minutes."""
KNOWN: Final = ", ".join((*NAMES, *BY_NAME_ALONE))
LIBRARIES: Final = (
    "aiohttp", "ccxt", "msgpack", "msgspec", "pykka", "pyzmq", "sqlalchemy",
    "pybreaker", "purgatory", "circuitbreaker", "interlock-cb",
)  # fmt: skip


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure what brokerwatch costs."
    )
    parser.add_argument(
        "benches",
        nargs="*",
        metavar="BENCH",
        help=f"of {KNOWN}; by default the table's",
    )
    parser.add_argument("--quick", action="store_true", help="once, with the least counts")
    parser.add_argument("--rounds", type=int, default=None, help=f"repetitions; {ROUNDS} by default")
    parser.add_argument("--profile", metavar="BENCH", help="where the CPU of this bench goes, all threads")
    chosen = parser.parse_args()
    benches: list[str] = [chosen.profile] if chosen.profile else chosen.benches or list(NAMES)
    if unknown := set(benches) - {*NAMES, *BY_NAME_ALONE}:
        parser.error(f"no bench is called {', '.join(sorted(unknown))}; there are: {KNOWN}")
    try:
        if chosen.profile:
            return run_once(chosen.profile, "--profile", *(["--quick"] if chosen.quick else []))[0]
        return bench(benches, chosen.rounds, quick=chosen.quick)
    except KeyboardInterrupt:
        say("brokerwatch: interrupted; nothing was written")
        return 130


def bench(benches: list[str], rounds: int | None, *, quick: bool) -> int:
    """Measure, and print or write the table."""
    began, before = datetime.now(UTC), load()
    found: dict[str, list[Numbers]] = {name: [] for name in benches}
    most = rounds or (1 if quick else ROUNDS)
    for turn in range(most):
        for name in benches:
            if rounds is None and turn >= FEWER.get(name, most):
                continue
            say(f"brokerwatch: {name}, round {turn + 1}")
            status, numbers = run_once(name, *(["--quick"] if quick else []))
            if status:
                say(f"brokerwatch: {name} failed with status {status}; nothing was written")
                return status
            found[name].append(numbers)
    text = "\n".join((*_circumstances(began, before, quick=quick), "", *_table(found)))
    if quick or set(benches) != set(NAMES):
        print(text)
        return 0
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    say(f"brokerwatch: written to {PAGE.relative_to(ROOT)}")
    return 0


def run_once(name: str, *arguments: str) -> tuple[int, Numbers]:
    """One repetition in its own process: its exit status and its numbers."""
    process = subprocess.Popen(
        (sys.executable, "-m", f"benchmarks.{name}", *arguments), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        said, _ = process.communicate()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # a terminal has told it already; a `kill -INT` has not
        process.wait()
        raise
    if process.returncode or "--profile" in arguments:
        return process.returncode, {}
    return 0, json.loads(said)


def _table(found: dict[str, list[Numbers]]) -> list[str]:
    lines = [
        "| bench | what | median | range | ratio | range | target | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, repeated in found.items():
        rows: tuple[Row, ...] = importlib.import_module(f"benchmarks.{name}").ROWS
        lines += [line for row in rows if (line := _line(name, row, rows, repeated))]
    return lines


def _line(bench: str, row: Row, rows: tuple[Row, ...], repeated: list[Numbers]) -> str:
    values = [numbers[row.key] for numbers in repeated if row.key in numbers]
    if not values:
        return ""
    ratios = [
        numbers[row.key] / numbers[row.over]
        for numbers in repeated
        if row.key in numbers and numbers.get(row.over)
    ]
    judged = statistics.median(ratios) if ratios else statistics.median(values)
    times = "×" if row.over else row.unit
    target, met = "", ""
    if row.at_most is not None:
        target, met = f"≤ {row.at_most:g} {times}".rstrip(), "yes" if judged <= row.at_most else "**no**"
    if row.at_least is not None:
        target, met = f"≥ {row.at_least:g} {times}".rstrip(), "yes" if judged >= row.at_least else "**no**"
    over = next((other.says for other in rows if other.key == row.over), row.over)
    ratio = f"{_number(statistics.median(ratios))} × {over}" if ratios else ""
    return (
        f"| {bench} | {row.says} | {_number(statistics.median(values))} {row.unit} | {_range(values)} "
        f"| {ratio} | {_range(ratios) if ratios else ''} | {target} | {met} |"
    )


def _range(values: list[float]) -> str:
    return f"{_number(min(values))}–{_number(max(values))}"


def _number(value: float) -> str:
    """Three figures."""
    if value in (0, float("inf")):
        return "∞" if value else "0"
    digits = max(0, 2 - len(str(int(abs(value))))) if abs(value) >= 1 else 3
    return f"{float(f'{value:.3g}'):,.{digits}f}"


def _circumstances(began: datetime, before: str, *, quick: bool) -> list[str]:
    return [
        f"- {'a quick run, whose numbers mean nothing; ' if quick else ''}begun {began:%Y-%m-%d %H:%M} UTC, "
        f"ended {datetime.now(UTC):%H:%M}; revision {revision()}",
        f"- {processor()}, {len(CORES) or os.cpu_count()} cores, {platform.system()} {platform.release()}; "
        f"load average {before} before, {load()} after",
        f"- placement: {_placement()}",
        f"- {platform.python_implementation()} {platform.python_version()}; "
        + ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    ]


def _placement() -> str:
    if not CORES:
        return "wherever the system puts it; this one offers no choice"
    return (
        f"the process that is measured on core {CORES[0]}, all its threads; exchanges, subscribers and "
        f"publishers, each a process of its own, on core {CORES[-1]}"
    )


if __name__ == "__main__":
    sys.exit(main())
