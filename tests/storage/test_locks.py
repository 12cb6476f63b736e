"""What one process may hold at a time, and that no claim outlives the one who holds it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from brokerwatch.storage.locks import HOMELESS, Claim, claim, private_folder, state_root
from tests.support.clusters import PATIENCE_S, until
from tests.support.homeless import be_homeless

HOLDER = """
import sys, time
from pathlib import Path
from brokerwatch.storage.locks import claim
print(type(claim(Path(sys.argv[1]))).__name__, flush=True)
time.sleep(60)
"""


def held(found: Claim | str) -> Claim:
    assert isinstance(found, Claim), found
    return found


def test_a_claim_is_held_by_one_and_names_its_process_to_the_other(tmp_path: Path) -> None:
    first = held(claim(tmp_path / "one.lock"))
    assert claim(tmp_path / "one.lock") == f"process {os.getpid()}"
    other = held(claim(tmp_path / "two.lock"))
    first.release()
    held(claim(tmp_path / "one.lock")).release()
    other.release()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_claim_ends_with_its_process_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "one.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "Claim\n"
            assert claim(path) == f"process {process.pid}"
        finally:
            process.send_signal(number)
            process.wait(PATIENCE_S)
    held(claim(path)).release()


def test_a_shorter_process_id_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    path.write_text("123456789012345\n")
    ours = held(claim(path))
    assert path.read_text() == f"{os.getpid()}\n"
    ours.release()


def test_whoever_holds_it_without_a_name_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    ours = held(claim(path))
    path.write_bytes(b"\xff garbage")
    assert claim(path) == "another process"
    ours.release()


def test_a_refused_claim_leaves_no_open_file(tmp_path: Path) -> None:
    ours = held(claim(tmp_path / "one.lock"))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(20):
        assert isinstance(claim(tmp_path / "one.lock"), str)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    ours.release()


def test_a_claim_and_its_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys" / "one.lock"
    ours = held(claim(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    ours.release()


def test_the_folders_above_a_claim_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ours = held(claim(tmp_path / "a" / "b" / "keys" / "one.lock"))
    finally:
        os.umask(before)
    made = (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "keys")
    assert [oct(stat.S_IMODE(folder.stat().st_mode)) for folder in made] == ["0o700"] * 3
    ours.release()


def test_a_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    assert private_folder(tmp_path / "open") == tmp_path / "open"
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o755


def test_a_place_that_cannot_be_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        claim(tmp_path / "file" / "one.lock")


def test_a_claim_is_not_inherited_by_programs_that_we_start(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    ours = held(claim(path))
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
    ) as process:
        ours.release()
        until(lambda: _free(path))
        process.communicate(b"\n", PATIENCE_S)


def _free(path: Path) -> bool:
    found = claim(path)
    if isinstance(found, Claim):
        found.release()
    return isinstance(found, Claim)


def test_state_lies_where_the_platform_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert state_root() == tmp_path / "brokerwatch"
    assert state_root().name == "brokerwatch"


def test_a_user_without_a_home_has_no_state_root_and_none_below_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    be_homeless(monkeypatch)
    with pytest.raises(OSError, match="no home folder") as refused:
        state_root()
    assert refused.value.strerror == HOMELESS
