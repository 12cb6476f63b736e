"""A look at the store that changes nothing: no file is made, no table, not a byte of a file is written.

A SQLite file that no process has open is read as one that cannot change, since an ordinary reader would make
a log beside it. Where there is such a log, it is read without a lock and with its index in memory.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from brokerwatch.config.redaction import redacted
from brokerwatch.preflight.diagnosis import Line, fail, ok
from brokerwatch.storage.database import passwords
from brokerwatch.storage.tables import VERSION

SUBJECT: Final = "store"
CONNECT_S: Final = 3
STATEMENT_MS: Final = 1_500
SERVER_S: Final = 5.0
"""A PostgreSQL that has not answered by then is told to be out."""
TRIES: Final = 3
"""A file that is written to is read again, since no lock keeps a writer from it meanwhile."""
_WRITABLE: Final = "make the file and its folder writable for this user"
_NEWER: Final = "use the newer brokerwatch, or name another store"
_NO_VERSION: Final = -1


def secrets_of(url: str) -> tuple[str, ...]:
    """What of a store's URL is secret, in every form in which an error may quote it."""
    try:
        return passwords(make_url(url)) if url else ()
    except (ArgumentError, ValueError):
        return ()


# --- SQLite ---------------------------------------------------------------------------------------


def file_line(path: Path, *, in_use: bool) -> Line:
    """Whether a SQLite file can be written, and is a database. `in_use`: our own cluster has it now."""
    check = "file"
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
    line = _read(path)
    for _ in range(TRIES - 1 if in_use else 0):
        if line.advice:
            line = _read(path)
    return line


def _not_there(path: Path) -> Line:
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return fail(
            SUBJECT, "file", f"{path} cannot be made: {folder} is no folder that this user can write",
            "name a file that this user can make and write",
        )  # fmt: skip
    return ok(SUBJECT, "file", f"{path} is not there yet, and can be made")


def _read(path: Path) -> Line:
    try:
        version = _version_in_file(path)
    except sqlite3.DatabaseError as error:
        return fail(
            SUBJECT, "file", f"{path} is no sound database: {error}",
            "restore it from a copy; else it is set aside at the next start, and nothing is remembered",
        )  # fmt: skip
    if version > VERSION:
        return fail(
            SUBJECT, "file", f"{path} was made by a newer brokerwatch (its schema is {version})", _NEWER
        )
    if version == _NO_VERSION:
        return ok(SUBJECT, "file", f"{path} is a database, without our tables yet")
    return ok(SUBJECT, "file", f"{path} is a database of ours, and can be written")


def _version_in_file(path: Path) -> int:
    """The version of our tables; -1: there are none. Raises sqlite3.DatabaseError."""
    log = path.with_name(f"{path.name}-wal")
    how = "mode=ro&vfs=unix-none" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # the log's index is in memory then
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            # The history may be long, and a store that opens does not look through it either.
            if table.startswith("brokerwatch_") and table != "brokerwatch_history":
                said = str(connection.execute(f"PRAGMA quick_check({table})").fetchone()[0])
                if said != "ok":
                    raise sqlite3.DatabaseError(said)
        if "brokerwatch_schema" not in tables:
            return _NO_VERSION
        found: object = connection.execute("SELECT max(version) FROM brokerwatch_schema").fetchone()[0]
        return found if isinstance(found, int) else _NO_VERSION
    finally:
        connection.close()


# --- PostgreSQL -----------------------------------------------------------------------------------


def server_line(url: str, where: str) -> Line:
    """Whether a PostgreSQL answers, and lets us write our tables there. It may block for some seconds.

    `where` is the database without a password.
    """
    parts = make_url(url).set(drivername="postgresql+psycopg")
    network = {"connect_timeout": CONNECT_S, "client_encoding": "utf8", "prepare_threshold": None}
    try:
        engine = create_engine(
            parts,
            connect_args={name: value for name, value in network.items() if name not in parts.query},
            poolclass=NullPool,
            hide_parameters=True,
        )
    except ImportError:
        return fail(
            SUBJECT, "database", f"{where}: its driver is missing", 'pip install "brokerwatch[postgresql]"'
        )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SET statement_timeout = {STATEMENT_MS}")
            return _rights(connection, where)
    except (SQLAlchemyError, OSError, ValueError) as error:
        said = redacted(str(getattr(error, "orig", None) or error), passwords(parts), mark="***")
        return fail(
            SUBJECT, "database", f"{where}: {' '.join(said.split())}",
            "check that the server runs, and the URL's host, user, password and database",
        )  # fmt: skip
    finally:
        engine.dispose()


def no_answer(where: str) -> Line:
    """The line of a server that holds the line and says nothing."""
    return fail(
        SUBJECT, "database", f"{where}: no answer within {SERVER_S:g} s",
        "check that the server is well, and not overloaded",
    )  # fmt: skip


_TABLES: Final = (
    "SELECT relname, has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') "
    "AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE') FROM pg_class "
    "WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid) AND starts_with(relname, 'brokerwatch_')"
)
_NUMBERS: Final = (
    "SELECT has_sequence_privilege(pg_get_serial_sequence('brokerwatch_history', 'id'), 'USAGE')"
)


def _rights(connection: Connection, where: str) -> Line:
    """What this user may do there."""
    check = "database"
    if connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
        return fail(
            SUBJECT, check, f"{where} is read-only", "name the primary server, or a user who may write"
        )
    tables: dict[str, bool] = {str(row[0]): bool(row[1]) for row in connection.exec_driver_sql(_TABLES)}
    closed = sorted(name for name, may in tables.items() if not may)
    if "brokerwatch_history" in tables and connection.exec_driver_sql(_NUMBERS).scalar() is False:
        closed.append("the numbers of brokerwatch_history")
    if closed:
        return fail(
            SUBJECT, check, f"{where}: this user may not write {', '.join(closed)}",
            "grant SELECT, INSERT, UPDATE and DELETE on them, and USAGE on their sequences",
        )  # fmt: skip
    version = _NO_VERSION
    if "brokerwatch_schema" in tables:
        found: object = connection.exec_driver_sql("SELECT max(version) FROM brokerwatch_schema").scalar()
        version = found if isinstance(found, int) else _NO_VERSION
    if version > VERSION:
        return fail(
            SUBJECT, check, f"{where} was made by a newer brokerwatch (its schema is {version})", _NEWER
        )
    if version == VERSION:
        return ok(SUBJECT, check, f"{where} answers, and our tables can be written")
    may_make = connection.exec_driver_sql("SELECT has_schema_privilege(current_schema(), 'CREATE')").scalar()
    if not may_make:
        return fail(
            SUBJECT, check, f"{where}: this user may make no tables there", "grant CREATE on the schema to it"
        )
    return ok(SUBJECT, check, f"{where} answers, and our tables can be made")
