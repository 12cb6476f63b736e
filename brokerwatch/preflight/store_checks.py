"""The store's lines of `doctor`. The store is looked at, and nothing in it or beside it is changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from brokerwatch.errors import StoreError
from brokerwatch.preflight.diagnosis import Line, fail, ok
from brokerwatch.storage.inspection import Found
from brokerwatch.storage.store import Store
from brokerwatch.storage.tables import VERSION

SUBJECT: Final = "store"
SERVER_S: Final = 5.0
"""A PostgreSQL that has not answered by then is reported to be out."""
TRIES: Final = 3
"""A file that is written to is read again, since no lock keeps a writer from it meanwhile."""
_WRITABLE: Final = "make the file and its folder writable for this user"
_NEWER: Final = "use the newer brokerwatch, or name another store"


# --- SQLite ---------------------------------------------------------------------------------------


def file_line(store: Store, *, in_use: bool) -> Line:
    """Whether a SQLite file can be written, and is a database. `in_use`: our own cluster has it now."""
    check, path = "file", Path(store.where)
    try:
        found = path.stat()
    except FileNotFoundError:
        return _not_there(path)
    except OSError as error:
        return fail(
            SUBJECT, check, f"{path}: {error.strerror}", "name a file that this user can make and write"
        )
    if not stat.S_ISREG(found.st_mode):
        return fail(SUBJECT, check, f"{path} is a folder or a device and no file", "name another `store`")
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
        return fail(SUBJECT, check, f"{path} cannot be written by this user", _WRITABLE)
    if not found.st_size:
        return ok(SUBJECT, check, f"{path} is empty, and will be filled")
    line = _read(store)
    for _ in range(TRIES - 1 if in_use else 0):
        if line.advice:
            line = _read(store)
    return line


def _not_there(path: Path) -> Line:
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return fail(
            SUBJECT, "file", f"{path} cannot be made: {folder} is no folder that this user can write",
            "name a file that this user can make and write",
        )  # fmt: skip
    return ok(SUBJECT, "file", f"{path} is not there yet, and can be made")


def _read(store: Store) -> Line:
    path = store.where
    try:
        version = store.peek().version
    except StoreError as error:
        return fail(
            SUBJECT, "file", f"{path} is no sound database: {error}",
            "restore it from a copy; else it is set aside at the next start, and nothing is remembered",
        )  # fmt: skip
    if version is not None and version > VERSION:
        return fail(
            SUBJECT, "file", f"{path} was made by a newer brokerwatch (its schema is {version})", _NEWER
        )
    if version is None:
        return ok(SUBJECT, "file", f"{path} is a database, without our tables yet")
    return ok(SUBJECT, "file", f"{path} is a database of ours, and can be written")


# --- PostgreSQL -----------------------------------------------------------------------------------


def server_line(store: Store) -> Line:
    """Whether a PostgreSQL answers, and lets us write our tables there. It may block for some seconds."""
    where = store.where
    try:
        return _rights(store.peek(), where)
    except ImportError:
        return fail(
            SUBJECT, "database", f"{where}: its driver is missing", 'pip install "brokerwatch[postgresql]"'
        )
    except StoreError as error:
        return fail(
            SUBJECT, "database", f"{where}: {error}",
            "check that the server runs, and the URL's host, user, password and database",
        )  # fmt: skip


def no_answer(where: str) -> Line:
    """The line of a server that holds the line and says nothing."""
    return fail(
        SUBJECT, "database", f"{where}: no answer within {SERVER_S:g} s",
        "check that the server is well, and not overloaded",
    )  # fmt: skip


def _rights(found: Found, where: str) -> Line:
    """What this user may do there."""
    check = "database"
    if found.is_read_only:
        return fail(
            SUBJECT, check, f"{where} is read-only", "name the primary server, or a user who may write"
        )
    if found.closed:
        return fail(
            SUBJECT, check, f"{where}: this user may not write {', '.join(found.closed)}",
            "grant SELECT, INSERT, UPDATE and DELETE on them, and USAGE on their sequences",
        )  # fmt: skip
    if found.version is not None and found.version > VERSION:
        return fail(
            SUBJECT, check, f"{where} was made by a newer brokerwatch (its schema is {found.version})", _NEWER
        )
    if found.version == VERSION:
        return ok(SUBJECT, check, f"{where} answers, and our tables can be written")
    if not found.may_make_tables:
        return fail(
            SUBJECT, check, f"{where}: this user may make no tables there", "grant CREATE on the schema to it"
        )
    return ok(SUBJECT, check, f"{where} answers, and our tables can be made")
