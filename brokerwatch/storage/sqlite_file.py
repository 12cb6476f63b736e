"""One SQLite file: closed to other users, opened so that it is durable, set aside when it is damaged.

A damaged file gets another name and is never deleted. Whether it is still the same file is asked of its
inode: it may be taken away or replaced while it is open.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from brokerwatch.errors import StoreError
from brokerwatch.log import logger

_log: Final = logger(__name__)

LOCKED_S: Final = 2.0
"""So long we wait for another program that holds the file."""
CACHE_KIB: Final = 256
"""What a connection keeps of the file in memory. SQLite's own limit is 2 MB, which a history fills row by
row: 0.3 kB more with each line, for 6,000 lines, which looks like a leak for hours. What is read is read at
the start, or for a person who looks, and the system's own cache has it."""

_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNWRITABLE: Final = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)
_ADVICE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_BUSY: "another program holds it locked; find out which",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "look after its disk: full, over a quota, or broken",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder writable for this user",
    sqlite3.SQLITE_CORRUPT: "it is set aside when it is opened next",
    sqlite3.SQLITE_NOTADB: "it is set aside when it is opened next",
}


class Damaged(Exception):
    """The check that is made when a file is opened found something."""


class SqliteFile:
    """The file at one path. Its owner calls it from one thread at a time."""

    def __init__(self, path: Path, cache_kib: int = CACHE_KIB) -> None:
        self.path: Final = path
        self._cache_kib = cache_kib
        self.damage = ""
        """What the file was found to suffer from; empty: nothing."""
        self._inode: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make it and its folders, if they are not there; close it to others if it was open to them."""
        for folder in reversed([folder for folder in self.path.parents if not folder.exists()]):
            folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            # Never opened when it exists: closing it would take the locks of our own SQLite away.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                one = self.path.with_name(self.path.name + suffix)
                mode = one.lstat().st_mode
                if stat.S_ISLNK(mode):
                    raise StoreError(
                        f"{one} is a link, which is not followed; name the file that it leads to"
                    )
                if not stat.S_ISREG(mode):
                    raise StoreError(f"{one} is a folder or a device and no file; name another one")
                if mode & 0o077:
                    one.chmod(0o600)
        self._inode = _inode(self.path)

    def inode(self) -> tuple[int, int] | None:
        """Which file is there now; None: none is."""
        return _inode(self.path)

    def has_log(self) -> bool:
        """Whether there is a log beside it, in which everything stands that was written last."""
        return self.path.with_name(f"{self.path.name}-wal").exists()

    def is_the_prepared_one(self) -> bool:
        """Whether the file that is there now is the one of the last `prepare`."""
        return _inode(self.path) == self._inode

    def connect(self) -> sqlite3.Connection:
        """A connection whose transactions its user begins, and that any thread may use in its turn."""
        return self._connected("mode=rw", "journal_mode = WAL", "synchronous = FULL")

    def connect_to_read(self) -> sqlite3.Connection:
        """The same where nothing can be written, which SQLite would do even to read.

        Beside the file it keeps an index of the log. An exclusive connection has that index in memory. When
        it is closed SQLite merges the log into the file as far as there is room, and keeps the log.
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        if os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK):
            how = "mode=rw"
        elif log.exists() and log.stat().st_size:
            how = "mode=ro&vfs=unix-none"  # an exclusive lock cannot be had on what is read-only
        else:
            how = "immutable=1"  # not even an empty log can be made
        return self._connected(how, "locking_mode = EXCLUSIVE")

    def connect_to_peek(self) -> sqlite3.Connection:
        """A connection that changes nothing, neither in the file nor beside it.

        A file that no process has open is read as one that cannot change, since an ordinary reader would make
        a log beside it. Where there is such a log, it is read without a lock and with its index in memory.
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        has_log = log.exists() and log.stat().st_size
        how = "mode=ro&vfs=unix-none" if has_log else "mode=ro&immutable=1"
        return self._connected(how, "locking_mode = EXCLUSIVE")

    def _connected(self, how: str, *pragmas: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?{how}",
            uri=True,
            timeout=LOCKED_S,
            isolation_level=None,  # we say BEGIN ourselves
            check_same_thread=False,  # the database's lock sees to it
        )
        # Half a character in one row must not hide all the others.
        connection.text_factory = _decoded
        try:
            # The limit last: it reads the file, which has to be locked by then as it is to be.
            for pragma in (*pragmas, f"cache_size = -{self._cache_kib}"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def suspect(self, cause: BaseException) -> bool:
        """Remember the damage that an error tells of. Whether any is known now."""
        if isinstance(cause, Damaged) or _code(cause) in _DAMAGED:
            self.damage = str(cause) or self.damage
        return bool(self.damage)

    def set_aside(self) -> None:
        """Give the damaged file another name, unless it was replaced already and this is another file."""
        if not self.is_the_prepared_one():
            self.damage = ""
            return
        aside = self.path.with_name(f"{self.path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        while aside.exists():
            aside = aside.with_name(f"{aside.name}+")
        # The log first: left alone with a new file, it would be taken for that one's.
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
        damage, self.damage = self.damage, ""
        _log.error(
            "%s is damaged (%s): it was set aside as %s, and a new one begins", self.path, damage, aside
        )


def advice(error: sqlite3.Error) -> str:
    """What to do about an error of SQLite's; empty when there is none."""
    return _ADVICE.get(_code(error), "")


def unwritable(error: BaseException) -> bool:
    """Whether it may be that the file can be read all the same: its disk is full, or read-only."""
    return isinstance(error, OSError) or _code(error) in _UNWRITABLE


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _code(error: BaseException) -> int:
    """SQLite's primary code; 0 for an error that has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
