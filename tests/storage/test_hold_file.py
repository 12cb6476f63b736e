"""The holds' own file: whole or not at all, and a hold that either place knows is a hold."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path

import pytest

from brokerwatch.storage.hold_file import HoldFile, both
from brokerwatch.storage.records import Hold

ONE = Hold("a", "root", "moving funds", 1_800_000_000_000_000)
TWO = Hold("b", "ops", "ü \n {", 1_800_000_000_000_001, 1_800_000_100_000_000)


def test_what_is_written_is_read_and_a_release_takes_it_out(tmp_path: Path) -> None:
    file = HoldFile(tmp_path / "holds.json")
    assert file.read() == {}
    file.update({"a": ONE})
    file.update({"b": TWO})
    assert file.read() == {"a": ONE, "b": TWO}
    file.update({"a": None, "never": None})
    assert file.read() == {"b": TWO}
    assert [path.name for path in tmp_path.iterdir()] == ["holds.json"]
    assert (tmp_path / "holds.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{", "null", "[1, null]", '[{"broker": 1}]', "\x00", "[" * 100_000])
def test_a_file_that_is_none_of_ours_holds_nobody_and_stops_nothing(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    path = tmp_path / "holds.json"
    path.write_text(content)
    assert HoldFile(path).read() == {}
    HoldFile(path).update({"a": ONE})
    assert HoldFile(path).read() == {"a": ONE}


def test_one_entry_that_is_none_of_ours_takes_no_other_with_it(tmp_path: Path) -> None:
    file = HoldFile(tmp_path / "holds.json")
    file.update({"a": ONE})
    entries = [*json.loads((tmp_path / "holds.json").read_text()), {"broker": "x"}]
    (tmp_path / "holds.json").write_text(json.dumps(entries))
    assert file.read() == {"a": ONE}


def test_a_broker_is_held_when_either_says_so_and_the_newer_word_is_shown() -> None:
    newer = Hold("a", "ops", "again", ONE.since_us + 1)
    assert both({"a": ONE}, {"b": TWO}) == {"a": ONE, "b": TWO}
    assert both({"a": ONE}, {"a": newer}) == {"a": newer}
    assert both({"a": newer}, {"a": ONE}) == {"a": newer}


def test_a_file_that_cannot_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "holds.json"
    HoldFile(path).update({"a": ONE})
    before = path.read_bytes()

    def broken_disk(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", broken_disk)
        with pytest.raises(OSError, match="Input/output"):
            HoldFile(path).update({"b": TWO})
    assert path.read_bytes() == before
    assert HoldFile(path).read() == {"a": ONE}


@pytest.mark.parametrize("kind", ["a link", "a link to nothing", "a folder", "a pipe"])
def test_what_is_no_file_is_neither_followed_nor_written(tmp_path: Path, kind: str) -> None:
    path, elsewhere = tmp_path / "holds.json", tmp_path / "elsewhere"
    if kind == "a link":
        HoldFile(elsewhere).update({"a": ONE})
        path.symlink_to(elsewhere)
    elif kind == "a link to nothing":
        path.symlink_to(elsewhere)
    elif kind == "a folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert HoldFile(path).read() == {}
    with pytest.raises(OSError, match=r"."):
        HoldFile(path).update({"b": TWO})
    assert path.is_symlink() or not path.is_file()
    assert not elsewhere.exists() or HoldFile(elsewhere).read() == {"a": ONE}


def test_what_is_no_list_of_holds_is_kept_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "holds.json"
    path.write_text('[{"broker": "a", ')
    HoldFile(path).update({"b": TWO})
    (aside,) = tmp_path.glob("holds.json.corrupt-*")
    assert aside.read_text() == '[{"broker": "a", '
    assert HoldFile(path).read() == {"b": TWO}
