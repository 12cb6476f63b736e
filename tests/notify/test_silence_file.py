"""The silences in the state folder: read again when they change, kept when they cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.errors import ControlError
from brokerwatch.notify.silence_file import SILENCES_NAME, SilenceFile
from brokerwatch.notify.silences import MOST_SILENCES
from tests.support.watching import silence


def test_a_reader_sees_what_a_command_in_another_process_changes(tmp_path: Path) -> None:
    clock = ManualClock()
    reader, writer = SilenceFile(tmp_path), SilenceFile(tmp_path)
    now_us = clock.now().wall_us
    assert reader.current(now_us) == ()
    writer.add(silence(clock, 60, "a"))
    writer.add(silence(clock, 600, "b"))
    writer.add(silence(clock, 90, "a", brokers=("k",)))  # in place of the first one
    assert [(each.name, each.brokers) for each in reader.current(now_us)] == [("b", ()), ("a", ("k",))]
    assert [each.name for each in reader.current(now_us + 91_000_000)] == ["b"]
    assert writer.end("b", now_us).name == "b"
    assert [each.name for each in reader.current(now_us)] == ["a"]
    assert (tmp_path / SILENCES_NAME).stat().st_mode & 0o077 == 0


def test_a_file_that_cannot_be_read_leaves_what_was_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, reader = ManualClock(), SilenceFile(tmp_path)
    reader.add(silence(clock, 60))
    now_us = clock.now().wall_us
    assert len(reader.current(now_us)) == 1
    (tmp_path / SILENCES_NAME).write_text("[{")
    assert len(reader.current(now_us)) == 1
    assert len(reader.current(now_us)) == 1
    assert caplog.text.count("cannot be read") == 1
    with pytest.raises(ControlError, match="is no list of silences"):
        reader.add(silence(clock, 60))
    (tmp_path / SILENCES_NAME).unlink()
    assert reader.current(now_us) == ()


def test_a_silence_ends_also_while_its_folder_cannot_be_read_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, folder = ManualClock(), tmp_path / "state"
    folder.mkdir()
    reader = SilenceFile(folder)
    reader.add(silence(clock, 60))
    now_us = clock.now().wall_us
    assert len(reader.current(now_us)) == 1
    folder.rename(tmp_path / "aside")
    folder.write_text("no folder")
    assert [len(reader.current(now_us + seconds * 1_000_000)) for seconds in (1, 2, 59, 61)] == [1, 1, 1, 0]
    assert caplog.text.count("cannot be read") == 1
    folder.unlink()
    folder.mkdir()
    (folder / SILENCES_NAME).write_text('[{"x":' + "[" * 100_000)
    assert reader.current(now_us + 62_000_000) == ()
    assert caplog.text.count("cannot be read") == 2


def test_there_is_a_bound_and_what_has_ended_does_not_count(tmp_path: Path) -> None:
    clock, file = ManualClock(), SilenceFile(tmp_path)
    for number in range(3):
        file.add(silence(clock, 60, f"n{number}"))
    clock.advance(61)
    file.add(silence(clock, 60, "last"))
    assert [each.name for each in file.read()] == ["last"]
    assert MOST_SILENCES >= 100
    with pytest.raises(ControlError, match="no silence named 'n0'; there are: last"):
        file.end("n0", clock.now().wall_us)
