"""Every bench runs, with the least counts, and has a number for each of its rows."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import BY_NAME_ALONE, NAMES, ROOT, Row
from benchmarks.reading import GUARDS

LEFT_OUT_WHEN_QUICK = ("_100", "_1000", "_5000", "further", "further_most")


def rows_of(name: str) -> tuple[Row, ...]:
    return tuple(importlib.import_module(f"benchmarks.{name}").ROWS)


@pytest.mark.parametrize("name", [*NAMES, "push_day"])
def test_a_bench_has_a_number_for_each_of_its_rows(name: str) -> None:
    done = subprocess.run(
        (sys.executable, "-m", f"benchmarks.{name}", "--quick"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    numbers = json.loads(done.stdout)
    expected = {row.key for row in rows_of(name) if not row.key.endswith(LEFT_OUT_WHEN_QUICK)}
    assert expected - set(GUARDS) <= set(numbers), "a guard may not be installed; all else is measured"
    assert all(number >= 0 for number in numbers.values())


@pytest.mark.parametrize("name", [*NAMES, *BY_NAME_ALONE])
def test_each_ratio_is_taken_to_another_row_of_the_same_bench(name: str) -> None:
    rows = rows_of(name)
    assert {row.over for row in rows if row.over} <= {row.key for row in rows}


def test_the_page_has_a_place_for_the_table() -> None:
    from benchmarks.__main__ import BEGIN, END

    page = Path(ROOT, "docs", "benchmarks.md").read_text()
    assert 0 < page.index(BEGIN) < page.index(END)
