"""The standard streams as a program may find them: closed, without UTF-8, on a terminal that cannot draw."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.cli.streams import can_draw
from tests.support.clusters import PATIENCE_S
from tests.support.command import environment_of
from tests.support.ports import free_endpoint
from tests.support.programs import BROKERWATCH

SETTLE: Final = "from brokerwatch.cli.streams import settle_streams; settle_streams();"


def in_a_shell(redirection: str, *command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it with this done to its streams by a shell."""
    return subprocess.run(
        ("sh", "-c", f'exec "$@" {redirection}', "sh", *command),
        cwd=folder,
        env=environment_of({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("redirection", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_whose_stream_was_closed_ends_with_its_own_status(tmp_path: Path, redirection: str) -> None:
    done = in_a_shell(
        redirection, *BROKERWATCH, "status", free_endpoint(), "--timeout", "0.1", folder=tmp_path
    )
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_a_closed_stream_leaves_its_number_to_no_file(tmp_path: Path) -> None:
    program = f"{SETTLE} import os; kept = open('kept', 'w'); os.write(1, b'a line'); kept.close()"
    done = in_a_shell("<&- >&- 2>&-", sys.executable, "-c", program, folder=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "kept").read_text() == ""


def test_an_open_stream_is_left_as_it_is(tmp_path: Path) -> None:
    done = in_a_shell("", sys.executable, "-c", f"{SETTLE} print('a \u2026 b')", folder=tmp_path)
    assert (done.stdout, done.stderr) == ("a \u2026 b\n", "")


def test_a_stream_without_utf_8_shows_a_mark_and_ends_no_program(tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-c", f"{SETTLE} print('a \\u2026 b')"),
        cwd=tmp_path,
        env={**environment_of({}), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"a ? b\n", b"")


@pytest.mark.parametrize(
    ("term", "expected"), [("xterm-256color", True), ("linux", True), ("dumb", False), ("unknown", False)]
)
def test_a_table_is_drawn_where_the_terminal_can(
    monkeypatch: pytest.MonkeyPatch, term: str, expected: bool
) -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("TERM", term)
        assert can_draw() is expected
        monkeypatch.undo()
    os.close(ours)


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_table_is_drawn_nowhere_else(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", stream)
    assert not can_draw()
