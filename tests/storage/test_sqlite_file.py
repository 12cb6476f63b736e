"""What is special about a file: permissions, damage, full disks, kills."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.errors import StoreError
from brokerwatch.storage.records import KeyState
from brokerwatch.storage.sqlite_file import CACHE_KIB, SqliteFile
from brokerwatch.storage.store import Store
from tests.support.stores import Opener, batch, health, life, line, raiser

# --- SQLite files -------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, int]:
    """The permissions of everything in a folder."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_folder_and_files_are_nobody_elses_to_read(tmp_path: Path, opened: Opener) -> None:
    before = os.umask(0)
    try:
        store = opened(f"sqlite:///{tmp_path}/deep/er/state.db")
        store.write(batch(health()))
        assert modes(tmp_path) | modes(tmp_path / "deep") == {"deep": 0o700, "er": 0o700}
        assert modes(tmp_path / "deep" / "er") == {
            "state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600
        }  # fmt: skip
    finally:
        os.umask(before)


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "state.db").touch(mode=0o644)
    store = opened(f"sqlite:///{tmp_path}/state.db")
    store.write(batch(health()))
    assert set(modes(tmp_path).values()) == {0o600}


def test_writes_are_synchronous_and_in_a_log(tmp_path: Path, opened: Opener) -> None:
    store = opened(f"sqlite:///{tmp_path}/state.db")
    store.write(batch(health()))
    with store._database.transaction() as connection:  # pyright: ignore[reportPrivateUsage] - nothing else shows it
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.parametrize("cache_kib", [CACHE_KIB, 40])
def test_the_memory_of_each_kind_of_connection_is_limited(tmp_path: Path, cache_kib: int) -> None:
    file = SqliteFile(tmp_path / "state.db", cache_kib)
    file.prepare()
    for connect in (file.connect, file.connect_to_read, file.connect_to_peek):
        connection = connect()
        assert connection.execute("PRAGMA cache_size").fetchone() == (-cache_kib,)
        connection.close()


def garbage(path: Path) -> None:
    """Not a database at all."""
    path.write_bytes(random.Random(1).randbytes(20_000))


def cut(path: Path) -> None:
    """The second half is gone."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def scribbled(path: Path) -> None:
    """Whole in length and in its first page, and nonsense from there on."""
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * (path.stat().st_size - 4_096))


def header_only(path: Path) -> None:
    """A hundred bytes of a database."""
    with path.open("r+b") as file:
        file.truncate(100)


def scribble(path: Path, tables: str) -> None:
    """Spoil the pages of some tables, and no others."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name LIKE ?"
        pages = connection.execute(query, (tables,)).fetchall()
    with path.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * 4_096)
            file.write(b"\xff" * 4_096)


def healths_alone(path: Path) -> None:
    """Nothing is wrong but what is remembered of the brokers."""
    scribble(path, "%brokerwatch_health%")


@pytest.mark.parametrize("spoil", [garbage, cut, scribbled, header_only, healths_alone])
def test_a_damaged_file_is_set_aside_and_a_new_one_begins(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "state.db"
    first = opened(f"sqlite:///{path}")
    first.write(batch(*(health(f"b{number}", document="x" * 3_000) for number in range(20))))
    first.close()
    spoil(path)
    spoilt = path.read_bytes()
    store = opened(f"sqlite:///{path}")
    store.open()
    assert store.load().healths == {}
    store.write(batch(health()))
    (aside,) = tmp_path.glob("state.db.corrupt-*Z")
    assert aside.read_bytes() == spoilt
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"it was set aside as {aside}" in caplog.text
    assert opened(f"sqlite:///{path}").load().healths.keys() == {"a"}


def test_the_log_of_a_damaged_file_is_not_taken_for_the_new_ones(tmp_path: Path, opened: Opener) -> None:
    living = opened(f"sqlite:///{tmp_path}/living/state.db")
    living.write(batch(health(document="old")))
    left = tmp_path / "left" / "state.db"
    shutil.copytree(tmp_path / "living", left.parent)  # as a killed process leaves it, its log not merged
    assert (left.parent / "state.db-wal").stat().st_size > 0
    garbage(left)
    (left.parent / "state.db-wal").write_bytes((tmp_path / "living" / "state.db-wal").read_bytes()[:5_000])
    store = opened(f"sqlite:///{left}")
    assert store.load().healths == {}
    store.write(batch(health(document="new")))
    store.close()
    assert store.load().healths["a"].document == "new"
    assert len(list(left.parent.glob("state.db.corrupt-*Z"))) == 1


def test_twice_damaged_in_a_second_both_are_kept(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "state.db"
    for number in range(3):
        path.write_bytes(b"%d" % number * 5_000)
        store = opened(f"sqlite:///{path}")
        store.open()
        store.close()
    kept = {one.read_bytes()[:1] for one in tmp_path.glob("state.db.corrupt-*")}
    assert kept == {b"0", b"1", b"2"}


def test_a_file_that_is_damaged_while_in_use_is_set_aside_at_the_next_call(
    tmp_path: Path, opened: Opener
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(lines=tuple(line(number, detail="x" * 200) for number in range(500))))
    store.close()
    store.open()
    scribble(path, "%history%")
    with pytest.raises(StoreError, match=r"malformed.*set aside"):
        list(store.history())
    store.write(batch(health()))
    assert store.load().healths.keys() == {"a"}
    assert len(list(tmp_path.glob("state.db.corrupt-*Z"))) == 1


def test_a_file_of_no_bytes_is_an_empty_database(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "state.db").touch()
    store = opened(f"sqlite:///{tmp_path}/state.db")
    store.write(batch(health()))
    assert store.load().healths.keys() == {"a"}
    assert list(tmp_path.glob("*corrupt*")) == []


def test_a_file_that_is_taken_away_while_in_use_is_missed(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(health()))
    shutil.rmtree(tmp_path)
    store.write(batch(health("b")))
    assert opened(f"sqlite:///{path}").load().healths.keys() == {"b"}, "what write returned for is there"
    assert "was taken away while it was in use" in caplog.text


def test_a_locked_file_is_an_error_within_seconds_and_works_when_it_is_let_go(
    tmp_path: Path, opened: Opener
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(health(version=1)))
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        begun_s = time.monotonic()
        with pytest.raises(StoreError, match=r"locked; another program holds it"):
            store.write(batch(health(version=2)))
        assert time.monotonic() - begun_s > 1.0, "it waits for the other program for a while"
        assert store.load().healths["a"].version == 1, "reading goes on"
        other.execute("ROLLBACK")
        store.write(batch(health(version=2)))
        assert store.load().healths["a"].version == 2
    finally:
        other.close()


@pytest.mark.parametrize("place", ["a folder", "under a file", "a pipe", "in /proc", "a link to itself"])
def test_a_place_where_no_file_can_be_is_said_and_works_once_it_is_mended(
    tmp_path: Path, opened: Opener, place: str
) -> None:
    path = tmp_path / "state.db"
    if place == "a folder":
        path.mkdir()
    elif place == "under a file":
        (tmp_path / "state.db").touch()
        path = tmp_path / "state.db" / "inner.db"
    elif place == "a pipe":
        os.mkfifo(path)
    elif place == "a link to itself":
        path.symlink_to(path)
    else:
        path = Path("/proc/brokerwatch/state.db")
    store = opened(f"sqlite:///{path}")
    for ask in (store.open, lambda: store.write(batch(health()))):
        with pytest.raises(StoreError, match=rf"{path}( is|: ).*(name|another)"):
            ask()
    if place == "in /proc":
        return
    blocker = tmp_path / "state.db"
    blocker.rmdir() if blocker.is_dir() else blocker.unlink()
    store.write(batch(health()))
    assert store.load().healths.keys() == {"a"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(folder)),
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(
            "no disk can be mounted here (it takes root); the limit on a file's size is tested anyway"
        )
    yield folder
    subprocess.run(("umount", "--lazy", str(folder)), check=True)


def fill(file: Path) -> None:
    """Leave no room on the disk of this file."""
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4_096)


def test_a_full_disk_is_said_nothing_is_half_written_and_it_works_when_there_is_room(
    small_disk: Path, opened: Opener
) -> None:
    store = opened(f"sqlite:///{small_disk}/state.db")
    store.write(batch(health(version=1), lines=(line(1),)))
    filler = small_disk / "filler"
    fill(filler)
    with pytest.raises(StoreError, match=r"; (make room|look after its disk)"):
        store.write(batch(health(version=2, document="x" * 50_000), lines=(line(2),)))
    filler.unlink()
    assert (store.load().healths["a"].version, list(store.history())) == (1, [line(1)])
    store.write(batch(health(version=2), lines=(line(2),)))
    assert (store.load().healths["a"].version, len(list(store.history()))) == (2, 2)


def test_a_disk_that_is_read_only_is_said_and_works_when_it_is_mended(
    small_disk: Path, opened: Opener
) -> None:
    store = opened(f"sqlite:///{small_disk}/state.db")
    store.write(batch(health(version=1)))
    store.close()
    subprocess.run(("mount", "-o", "remount,ro", str(small_disk)), check=True)
    for ask in (store.open, lambda: store.write(batch(health(version=2)))):
        with pytest.raises(StoreError, match="writable for this user"):
            ask()
    subprocess.run(("mount", "-o", "remount,rw", str(small_disk)), check=True)
    store.write(batch(health(version=2)))
    assert store.load().healths["a"].version == 2


def killed_writer(path: Path) -> None:
    """Write some batches, and die as by kill -9: what was written is in the log, and not in the file."""
    with subprocess.Popen(
        (sys.executable, "-c", WRITER, f"sqlite:///{path}", "1"), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 7:
            pass
        process.kill()
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


@pytest.mark.parametrize("killed", [True, False])
def test_on_a_full_disk_everything_is_read_although_nothing_can_be_written(
    small_disk: Path, opened: Opener, *, killed: bool
) -> None:
    path = small_disk / "state.db"
    if killed:
        killed_writer(path)
    else:
        first = opened(f"sqlite:///{path}")
        first.write(batch(health(version=7), lines=(line(1),), keys=(KeyState("k", 7),)))
        first.close()
    path.with_name("state.db-shm").unlink(missing_ok=True)  # as after a restart of the machine
    fill(small_disk / "filler")
    store = opened(f"sqlite:///{path}")
    newest = 0
    for _ in range(3):
        found = store.load()
        newest = found.keys["k"].nonce_ceiling
        assert newest == found.healths["a"].version >= 7
        assert len(list(store.history())) == (newest if killed else 1)
        with pytest.raises(StoreError, match=r"; (make room|look after its disk)"):
            store.write(batch(keys=(KeyState("k", newest + 1),)))
    (small_disk / "filler").unlink()
    store.write(batch(keys=(KeyState("k", newest + 1),)))
    found = store.load()
    assert (found.keys["k"].nonce_ceiling, found.healths["a"].version) == (newest + 1, newest)
    assert len(list(store.history())) == (newest if killed else 1)
    assert list(small_disk.glob("*corrupt*")) == []


@pytest.mark.parametrize("killed", [True, False])
def test_on_a_read_only_disk_everything_is_read(small_disk: Path, opened: Opener, *, killed: bool) -> None:
    path = small_disk / "state.db"
    if killed:
        killed_writer(path)
    else:
        first = opened(f"sqlite:///{path}")
        first.write(batch(health(version=7), keys=(KeyState("k", 7),)))
        first.close()
    path.with_name("state.db-shm").unlink(missing_ok=True)
    subprocess.run(("mount", "-o", "remount,ro", str(small_disk)), check=True)
    store = opened(f"sqlite:///{path}")
    try:
        for _ in range(2):
            found = store.load()
            assert found.keys["k"].nonce_ceiling == found.healths["a"].version >= 7
            with pytest.raises(StoreError, match="writable for this user"):
                store.write(batch(health(version=2)))
    finally:
        subprocess.run(("mount", "-o", "remount,rw", str(small_disk)), check=True)
    store.write(batch(health(epoch=life(2), document="new")))
    assert store.load().healths["a"].document == "new"


def test_while_another_program_has_the_file_of_a_full_disk_the_first_error_is_said(
    small_disk: Path, opened: Opener
) -> None:
    path = small_disk / "state.db"
    opened(f"sqlite:///{path}").write(batch(health()))  # and has it open
    store = opened(f"sqlite:///{path}")
    full = sqlite3.OperationalError("disk I/O error")
    full.sqlite_errorcode = sqlite3.SQLITE_IOERR
    with pytest.MonkeyPatch.context() as no_room:
        no_room.setattr(SqliteFile, "connect", raiser(full))
        with pytest.raises(StoreError, match="look after its disk"):
            store.load()
    assert store.load().healths.keys() == {"a"}


def test_a_file_that_may_not_grow_is_said_and_works_when_it_may(tmp_path: Path, opened: Opener) -> None:
    store = opened(f"sqlite:///{tmp_path}/state.db")
    store.write(batch(health(version=1)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"; (make room|look after its disk)"):
            store.write(batch(health(version=2, document="x" * 1_000_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.load().healths["a"].version == 1
    store.write(batch(health(version=2, document="x" * 1_000_000)))
    assert store.load().healths["a"].version == 2


WRITER: Final = """
import sys
from brokerwatch.storage.backlog import Batch
from brokerwatch.storage.records import KeyState, Stored, Transition
from brokerwatch.messages import Reason
from brokerwatch.storage.store import Store
store, first = Store(sys.argv[1], "main"), int(sys.argv[2])
store.open()
for number in range(first, first + 100_000):
    batch = Batch(keys={"k": KeyState("k", number)})
    batch.healths["a"] = Stored("a", "x", "", "0000000000000001-0000000a", number, 0, str(number))
    batch.transitions.append(Transition(number, "a", "x", "state", "", "", True, Reason.OK, 0, None, ""))
    store.write(batch)
    print(number, flush=True)
"""


@pytest.mark.timeout(120)
def test_what_write_returned_for_is_there_after_the_process_was_killed_at_any_moment(url: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - repeats a failure
    chance = random.Random(seed)
    told = 0
    for _ in range(6):
        with subprocess.Popen(
            (sys.executable, "-c", WRITER, url, str(told + 1)), stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 40)):
                told = int(process.stdout.readline())
            spin_until_s = time.perf_counter() + chance.uniform(0, 0.003)
            while time.perf_counter() < spin_until_s:
                pass
            process.kill()
            told = int((process.stdout.read().splitlines() or [b"%d" % told])[-1])
        store = Store(url, "main")
        found = store.load()
        moments = [one.at_us for one in store.history()]
        store.close()
        newest = found.healths["a"].version
        assert newest in (told, told + 1), f"seed {seed}: told {told}, found {newest}"
        assert found.healths["a"].document == str(newest) == str(found.keys["k"].nonce_ceiling)
        assert moments == list(range(1, newest + 1)), f"seed {seed}"
        told = newest
