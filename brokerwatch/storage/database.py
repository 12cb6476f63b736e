"""One database that opens by itself: a SQLite file, or a PostgreSQL of several machines.

After any failure everything is closed, and the next call opens it anew. So an outage needs no special
care: the owner of the database tries again. What went wrong is a StoreError of one sentence, with the
place and what to do, and without a password. Every wait for a database ends after a few seconds. A
damaged SQLite file is set aside, and a new one begins. One whose disk is full is still read.

What is kept in it is not known here: the owner of the database brings its tables as a `Schema`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Dialect,
    Engine,
    Integer,
    MetaData,
    QueuePool,
    Table,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from brokerwatch.config.redaction import redacted
from brokerwatch.errors import StoreError
from brokerwatch.log import logger
from brokerwatch.storage.database_url import WRITE, passwords, understood
from brokerwatch.storage.inspection import Found, found_in_file, found_on_server, look_through
from brokerwatch.storage.sqlite_file import CACHE_KIB, Damaged, SqliteFile, advice, unwritable

_log: Final = logger(__name__)

CONNECT_S: Final = 2
STATEMENT_MS: Final = 4_000
PEEK_CONNECT_S: Final = 3
PEEK_STATEMENT_MS: Final = 1_500
TRANSACTION_S: Final = 10.0
"""A PostgreSQL that has not done by then is frozen, and does not hang up by itself: this side does."""

_NETWORK: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_S,
    # A peer that vanished without a word is noticed within six seconds, instead of the kernel's hours.
    "keepalives_idle": 2,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 6_000,
    # A pool in front of the server may give each transaction another connection.
    "prepare_threshold": None,
    # To a database that has no encoding, as initdb makes it under LC_ALL=C, we bring ours.
    "client_encoding": "utf8",
}
_FORESEEN: Final = (SQLAlchemyError, sqlite3.Error, OSError, ValueError, OverflowError, Damaged)
"""What a database does wrong; anything else is a mistake of ours."""


@dataclass(frozen=True)
class Schema:
    """What a database must have before it is used."""

    tables: MetaData
    version: int
    """Of the tables, from 1 on; the database remembers it."""
    migrations: Mapping[int, Callable[[Connection], None]]
    """From each older version to the next one."""
    looked_through: tuple[Table, ...]
    """The tables of a SQLite file in which damage is looked for when it is opened."""
    name: str = "brokerwatch_schema"
    """Of the table with the version: several schemas may share a PostgreSQL."""
    serves_from: int | None = None
    """The oldest version that may use these tables, noted beside the newest. None: only the newest may."""
    cache_kib: int = CACHE_KIB
    """What a connection keeps of a SQLite file in memory."""

    @property
    def checked(self) -> tuple[str, ...]:
        """Their names, and that of the table with the version."""
        return (self.name, *(table.name for table in self.looked_through))

    @cached_property
    def versions(self) -> Table:
        """The table with the version."""
        columns = [Column("version", Integer, primary_key=True)]
        if self.serves_from is not None:
            columns.append(Column("serves_from", Integer, nullable=False))
        return Table(self.name, MetaData(), *columns)

    @property
    def row(self) -> Mapping[str, int]:
        """What is noted in it."""
        oldest = {} if self.serves_from is None else {"serves_from": self.serves_from}
        return {"version": self.version, **oldest}


_ONE: Final[Any] = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "hide_parameters": True}
"""An engine of one connection."""


class Database:
    """Any thread may call it; one call at a time touches it."""

    def __init__(self, url: str, schema: Schema, *, follows_link: bool = True) -> None:
        """No I/O yet. `follows_link`: the file may be one. Raises StoreError for a URL that cannot work."""
        self._url = understood(url)
        self._file = _file_of(self._url, schema.cache_kib, follows_link=follows_link)
        """None: it is a PostgreSQL."""
        self._schema = schema
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._only_read = False
        """The engine can only read, and no other process gets at the file while it is there."""
        self._line: Any = None
        """The driver's own connection to a PostgreSQL."""
        self._was_opened = self._had_log = False
        self._inode: tuple[int, int] | None = None
        """Of the file that was opened last; None: none was yet, or it is a PostgreSQL."""
        self.renewals = 0
        """How often another file than before was opened, or a database without tables: what was written is
        lost."""

    @property
    def where(self) -> str:
        """The database, for messages: without a password."""
        if self._file is not None:
            return str(self._file.path)
        url = self._url
        plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
        return plain.render_as_string()

    def open(self) -> None:
        """Connect, and create or migrate the tables. Raises StoreError; then the next call tries again."""
        with self._lock, self._explained():
            self._drop()
            if self._file is not None and self._file.damage:
                self._file.set_aside()
            try:
                self._engine = self._checked()
            except (SQLAlchemyError, sqlite3.Error, Damaged) as error:
                if self._file is None or not self._file.suspect(_cause(error)):
                    raise
                self._file.set_aside()
                self._engine = self._checked()

    @contextlib.contextmanager
    def transaction(self, *, writes: bool = False, limit_s: float | None = None) -> Generator[Connection]:
        """Durable as a whole when its block ends. StoreError: nothing was written. Say if it `writes`.

        `limit_s`: how long a PostgreSQL has for all of it; None: `TRANSACTION_S`.
        """
        with self._lock, self._explained():
            if self._engine is not None and self._file is not None and not self._file.is_the_prepared_one():
                _log.error("%s was taken away while it was in use: what is there now is opened", self.where)
                self._drop()
            if self._engine is None:
                self._open_for(writes=writes)
            assert self._engine is not None  # noqa: S101 - `open` made it or raised
            with self._begun(self._engine, writes=writes, limit_s=limit_s) as connection:
                yield connection
            if self._only_read:
                self._drop()

    def is_there(self) -> bool:
        """Whether the file that was opened last, and its log, are at their places. True of a server."""
        if self._file is None or self._inode is None:
            return True
        # Without the log SQLite goes on in a file that no other process finds, until it is opened anew.
        has_log = self._engine is None or not self._had_log or self._file.has_log()
        return has_log and self._file.inode() == self._inode

    def close(self) -> None:
        """Let go of the database. A later call opens it again."""
        with self._lock:
            self._drop()

    def peek(self) -> Found:
        """Look without changing anything: no file or table is made, and not a byte of a file is written.

        It may block for some seconds, and needs no `open`.

        Raises:
            StoreError: It cannot be read. The text is the database's own, without place and password.
            ImportError: The driver is missing.
        """
        if self._file is None:
            engine = self._server_engine({**_NETWORK, "connect_timeout": PEEK_CONNECT_S})
        else:
            engine = create_engine("sqlite://", creator=self._file.connect_to_peek, **_ONE)
        try:
            with engine.connect() as connection:
                if self._file is not None:
                    return found_in_file(connection)
                connection.exec_driver_sql(f"SET statement_timeout = {PEEK_STATEMENT_MS}")
                return found_on_server(connection)
        except _FORESEEN as error:
            words = redacted(str(_cause(error)), passwords(self._url), mark="***")
            raise StoreError(" ".join(words.split())) from error
        finally:
            engine.dispose()

    # --- opening --------------------------------------------------------------------------------------

    def _open_for(self, *, writes: bool) -> None:
        try:
            self.open()
        except StoreError as error:
            if writes or self._file is None or not isinstance(error.__cause__, Exception):
                raise
            if not unwritable(_cause(error.__cause__)):
                raise
            try:
                self._engine = self._reader(self._file)
            except (SQLAlchemyError, sqlite3.Error, OSError, Damaged, StoreError):
                raise error from error.__cause__
            self._only_read = True

    def _reader(self, file: SqliteFile) -> Engine:
        """An engine on a file in which nothing can be written just now."""
        engine = create_engine("sqlite://", creator=file.connect_to_read, **_ONE)
        try:
            with self._begun(engine, writes=False) as connection:
                look_through(connection, self._schema.checked)
                if self._version(connection) != self._schema.version:
                    raise StoreError(f"{self.where} has other tables than ours")
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _checked(self) -> Engine:
        """A new engine on a database that was looked at and has our tables."""
        inode: tuple[int, int] | None = None
        if self._file is not None:
            self._file.prepare()
            inode = self._file.inode()
        engine = self._new_engine()
        try:
            with self._begun(engine, writes=False) as connection:
                if self._file is not None:
                    look_through(connection, self._schema.checked)
                found = self._version(connection)
            if found < self._schema.version:
                with self._begun(engine, writes=True) as connection:
                    self._migrate(connection)
        except BaseException:
            engine.dispose()
            raise
        self.renewals += self._was_opened and (not found or self._inode != inode)
        self._was_opened, self._inode = True, inode
        self._had_log = self._file is not None and self._file.has_log()
        return engine

    def _new_engine(self) -> Engine:
        if self._file is not None:
            return create_engine("sqlite://", creator=self._file.connect, **_ONE)
        try:
            engine = self._server_engine(_NETWORK)
        except ImportError as error:
            raise StoreError(
                f'{self.where}: the driver is missing; pip install "brokerwatch[postgresql]"'
            ) from error
        event.listen(engine, "do_connect", self._remember_line)
        return engine

    def _server_engine(self, network: Mapping[str, Any]) -> Engine:
        """What the URL says itself about the network goes first. Raises ImportError: there is no driver."""
        network = {name: value for name, value in network.items() if name not in self._url.query}
        return create_engine(self._url, connect_args=network, pool_pre_ping=True, **_ONE)

    def _version(self, connection: Connection) -> int:
        if not inspect(connection).has_table(self._schema.versions.name):
            return 0
        found = connection.execute(select(func.max(self._schema.versions.c.version))).scalar()
        if found is None:
            return 0
        if not isinstance(found, int) or found < 1:
            raise StoreError(
                f"{self.where} says that its schema is {found!r}, which no brokerwatch wrote; restore it "
                "from a copy, or name another database"
            )
        if found > self._schema.version and not self._still_serves(connection):
            raise StoreError(
                f"{self.where} was made by a newer brokerwatch (its schema is {found}, this version knows "
                f"{self._schema.version}); use that one, or name another database"
            )
        return found

    def _still_serves(self, connection: Connection) -> bool:
        """Whether the tables of a newer version may be used by this one."""
        if self._schema.serves_from is None:
            return False
        table = self._schema.versions
        oldest = connection.execute(select(table.c.serves_from).order_by(table.c.version.desc()).limit(1))
        return int(oldest.scalar_one()) <= self._schema.version

    def _migrate(self, connection: Connection) -> None:
        schema = self._schema
        if self._file is None:
            # Machines that start together: one makes the tables, the others wait and find them.
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(self._schema.versions.name))))
        found = self._version(connection)
        if found == 0:
            self._schema.versions.create(connection, checkfirst=True)
            schema.tables.create_all(connection)
        else:
            for version in range(found, schema.version):
                schema.migrations[version](connection)
        if found < schema.version:
            connection.execute(insert(self._schema.versions).values(**schema.row))

    # --- every call -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _begun(self, engine: Engine, *, writes: bool, limit_s: float | None = None) -> Generator[Connection]:
        if self._file is not None:
            with engine.begin() as connection:
                # Only a transaction that is a writer's from the start can wait for another writer.
                connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
                yield connection
            return
        limit_s = TRANSACTION_S if limit_s is None else limit_s
        limit = threading.Timer(limit_s, self._hang_up)
        limit.daemon = True
        limit.start()
        try:
            with engine.begin() as connection:
                # A process that is stopped hangs up on nothing, and what it has locked others wait for.
                connection.exec_driver_sql(
                    f"SET LOCAL statement_timeout = {STATEMENT_MS}; "
                    f"SET LOCAL idle_in_transaction_session_timeout = {round(limit_s * 1_000)}"
                )
                yield connection
        finally:
            limit.cancel()

    def _remember_line(
        self, dialect: Dialect, _record: object, args: list[Any], named: dict[str, Any]
    ) -> Any:
        self._line = dialect.connect(*args, **named)
        return self._line

    def _hang_up(self) -> None:
        # Only the socket is touched: the driver belongs to the thread that waits, which meets the end of it.
        if self._line is None or self._line.closed:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._line.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        """Whatever the database does wrong becomes a StoreError, and nothing stays open."""
        try:
            yield
        except StoreError:
            self._drop()
            raise
        except Exception as error:
            self._drop()
            if not isinstance(error, _FORESEEN):
                _log.exception("a mistake of brokerwatch's own in using %s", self.where)
            if self._file is not None:
                self._file.suspect(_cause(error))
            raise StoreError(self._sentence(error)) from error

    def _sentence(self, error: Exception) -> str:
        cause = _cause(error)
        words = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        todo = ""
        if not isinstance(error, _FORESEEN):
            words = f"{type(cause).__name__}: {words}"
            todo = "this is a mistake of brokerwatch's own, and the log has more of it"
        elif isinstance(cause, sqlite3.Error):
            todo = advice(cause)
        elif isinstance(cause, OSError):
            todo = "name a file that this user can make and write"
        elif self._file is None and getattr(cause, "sqlstate", None) is None:
            todo = "check that the server runs, and the URL's host, user, password and database"
        words = redacted(words, passwords(self._url), mark="***")
        return f"{self.where}: {' '.join(words.split())}" + (f"; {todo}" if todo else "")

    def _drop(self) -> None:
        engine, self._engine, self._only_read = self._engine, None, False
        if engine is not None:
            engine.dispose()


def _file_of(url: URL, cache_kib: int, *, follows_link: bool) -> SqliteFile | None:
    if url.drivername != "sqlite":
        return None
    try:
        named = Path(url.database or "").expanduser()
        # Unlike Path.resolve it does not mind links in a circle: those can be mended while we run.
        real = Path(os.path.realpath(named if follows_link else named.parent))
        return SqliteFile(real if follows_link else real / named.name, cache_kib)
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"the store's URL names a file that cannot be: {error}; {WRITE}") from error


def _cause(error: Exception) -> BaseException:
    """The driver's own error, which SQLAlchemy wraps."""
    return getattr(error, "orig", None) or error
