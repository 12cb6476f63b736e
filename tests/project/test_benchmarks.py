"""Every bench runs, with the least counts, and has a number for each of its rows."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as program
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


@pytest.mark.parametrize("chosen", [["reading"], ["push_day"], [*NAMES[:-1], "push_day"], [*NAMES, "scale"]])
def test_only_a_run_of_the_table_s_own_benches_writes_the_page(
    chosen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before {program.BEGIN}\n{program.END} after")

    def once(name: str, *_: str) -> tuple[int, dict[str, float]]:
        return 0, {row.key: 1.0 for row in rows_of(name)}

    monkeypatch.setattr(program, "PAGE", page)
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "run_once", once)
    assert program.bench(chosen, 1, quick=False) == 0
    assert page.read_text() == f"before {program.BEGIN}\n{program.END} after"
    assert f"| {chosen[0]} |" in capsys.readouterr().out
    assert program.bench(list(NAMES), 1, quick=False) == 0
    assert f"| {NAMES[-1]} |" in page.read_text()
