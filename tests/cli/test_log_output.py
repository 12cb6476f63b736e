"""The log of a program: its forms, and a count in place of a storm."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from pathlib import Path

import pytest

from brokerwatch.cli import log_output
from brokerwatch.cli.log_output import ALIKE, Calm, JsonForm, LogChoice, TextForm, logging_to
from brokerwatch.errors import ConfigError
from brokerwatch.log import about, logger
from tests.support.clusters import until

LOG = logger("brokerwatch.tests.log_output")


class Written(logging.Handler):
    """Keeps what would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def record(name: str, detail: str, created_s: float = 0.0) -> logging.LogRecord:
    made = logging.LogRecord("x", logging.WARNING, "x.py", 7, "%s is out: %s", (name, detail), None)
    made.created = created_s
    return made


def test_of_a_storm_the_first_lines_are_written_and_the_others_counted() -> None:
    written = Written()
    calm = Calm(written, window_s=60.0)
    for number in range(100):
        calm.handle(record("a", f"error {number}", number * 0.1))
    calm.handle(record("b", "its own", 10.0))
    assert written.lines == [*(f"a is out: error {number}" for number in range(ALIKE)), "b is out: its own"]
    calm.handle(record("a", "later", 61.0))
    assert written.lines[-2:] == ["a is out: error 99 (and 94 more like it)", "a is out: later"]
    calm.close()
    assert len(written.lines) == ALIKE + 3


def test_a_storm_that_ends_is_told_without_another_line() -> None:
    written = Written()
    calm = Calm(written, window_s=0.05)
    now_s = 1_000.0
    for number in range(ALIKE + 1):
        calm.handle(record("a", str(number), now_s))
    until(lambda: len(written.lines) == ALIKE + 1)
    assert written.lines[-1] == f"a is out: {ALIKE}"
    until(lambda: not any(each.name == "brokerwatch-log" for each in threading.enumerate()))
    calm.close()


def test_a_kind_whose_window_is_over_is_kept_no_more() -> None:
    written = Written()
    calm = Calm(written, window_s=60.0)
    for number in range(200):
        calm.handle(record(str(number), "x", 1.0 * number))
    assert len(calm._alike) <= 121  # pyright: ignore[reportPrivateUsage] - memory is what is tested
    assert len(written.lines) == 200
    calm.close()


def test_the_number_of_kinds_is_bounded() -> None:
    written = Written()
    calm = Calm(written)
    for number in range(5_000):
        calm.handle(record(str(number), "x"))
    assert len(written.lines) == 5_000
    assert len(calm._alike) <= 1_001  # pyright: ignore[reportPrivateUsage] - memory is what is tested
    calm.close()


def test_a_line_of_json_has_the_names_of_the_wire(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with logging_to(LogChoice("info", "json", file)):
        said = about("a", reason="errors", error_count=3, fault=None, available=False)
        LOG.warning("%s is out: %s", "a", "bad\nline\x1b[2J", extra=said)
        LOG.debug("not written")
    (line,) = file.read_text().splitlines()
    told = json.loads(line)
    assert (told["level"], told["broker"], told["reason"], told["available"]) == (
        "warning",
        "a",
        "errors",
        False,
    )
    assert (told["error_count"], "fault" in told, "ts_us" in told) == (3, False, True)
    assert "\n" not in told["message"]
    assert "\x1b" not in told["message"]
    assert file.stat().st_mode & 0o777 == 0o640 & file.stat().st_mode & 0o777


def test_a_traceback_stands_in_both_forms() -> None:
    try:
        raise ValueError("x")
    except ValueError:
        made = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed", (), None)
        import sys

        made.exc_info = sys.exc_info()
    assert "ValueError: x" in json.loads(JsonForm().format(made))["traceback"]
    assert "ValueError: x" in TextForm().format(made)


def test_where_there_is_a_table_a_warning_waits_to_stand_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    above = deque[str]()
    with logging_to(LogChoice(), above):
        LOG.warning("one")
        assert [line.partition(" ")[2] for line in above] == ["one"], "after the time of day"
        assert capsys.readouterr().err == ""
        above.clear()
        LOG.warning("nothing draws it any more")
    assert "nothing draws it any more" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--log-file"), logging_to(LogChoice(file=tmp_path / "no" / "log")):
        pass


def test_the_level_and_the_handlers_are_put_back() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with logging_to(LogChoice("debug")):
        assert root.level == logging.DEBUG
    assert (root.level, list(root.handlers)) == before
    assert log_output.LEVELS[0] == "debug"
