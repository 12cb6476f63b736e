"""Where healths, holds, keys and history outlive the process: a SQLite file, or a PostgreSQL of several.

One batch is one transaction: all of it is there when `write` returns, and none of it when it raises. What
is newer stays: a health gives way only to a later (epoch, version), and a key's numbers only grow, so a
process that hung and woke up can write what it likes. A batch may be written twice, because nobody knows
whether a commit arrived whose answer was lost; its history is there once.

After any failure everything is closed, and the next call opens it anew. So an outage needs no
special care: whoever owns the store tries again. Every wait for a database ends after a few seconds.
A damaged file is set aside under another name and never deleted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    QueuePool,
    Select,
    Table,
    Text,
    case,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from brokerwatch.backlog import Batch, Hold, KeyState, Remembered, Stored, Transition
from brokerwatch.errors import StoreError
from brokerwatch.messages import FaultKind, Reason

_log: Final = logging.getLogger(__name__)

LOCKED_S: Final = 2.0
"""So long we wait for another program that holds the SQLite file."""
CONNECT_S: Final = 2
STATEMENT_MS: Final = 4_000
TRANSACTION_S: Final = 10.0
"""A PostgreSQL that has not done by then is frozen, and hangs up on nobody: we do."""
PAGE: Final = 1_000
"""Lines of history that are read at once."""

_NETWORK: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_S,
    # A peer that vanished without a word is noticed within six seconds, instead of the kernel's hours.
    "keepalives_idle": 2,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 6_000,
    # A pool in front of the server may give each transaction another connection.
    "prepare_threshold": None,
}

# PostgreSQL sorts text by its locale otherwise, where "a" is less than "B".
_BYTEWISE: Final = Text().with_variant(Text(collation="C"), "postgresql")
_TABLES: Final = MetaData()
_SCHEMA: Final = Table("brokerwatch_schema", _TABLES, Column("version", Integer, primary_key=True))
_HEALTH: Final = Table(
    "brokerwatch_health",
    _TABLES,
    Column("cluster", Text, primary_key=True),
    Column("broker", Text, primary_key=True),
    Column("exchange", Text, nullable=False),
    Column("credentials", Text, nullable=False),
    Column("epoch", _BYTEWISE, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("saved_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)
_HOLD: Final = Table(
    "brokerwatch_hold",
    _TABLES,
    Column("cluster", Text, primary_key=True),
    Column("broker", Text, primary_key=True),
    Column("by", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger),
)
# A key is the exchange's, whichever cluster or machine uses it: no cluster here.
_KEY: Final = Table(
    "brokerwatch_key",
    _TABLES,
    Column("fingerprint", Text, primary_key=True),
    Column("nonce_ceiling", BigInteger, nullable=False),
    Column("locked_until_us", BigInteger, nullable=False),
)
_HISTORY: Final = Table(
    "brokerwatch_history",
    _TABLES,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("broker", Text, nullable=False),
    Column("exchange", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("available", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("error_count", BigInteger, nullable=False),
    Column("fault", Text),
    Column("detail", Text, nullable=False),
    # By broker and time; and a line that is written twice is there once.
    Index("brokerwatch_history_once", "cluster", "broker", "at_us", "event", "before", "after", unique=True),
    Index("brokerwatch_history_when", "cluster", "at_us"),
)

VERSION: Final = 1
"""The schema that this code reads and writes."""
MIGRATIONS: Final[dict[int, Callable[[Connection], None]]] = {}
"""From each older version to the next one. There is no older one yet."""

_ADVICE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_BUSY: "another program holds it locked; find out which",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "look after its disk: full, over a quota, or broken",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder writable for this user",
    sqlite3.SQLITE_CORRUPT: "it is set aside when it is opened next",
    sqlite3.SQLITE_NOTADB: "it is set aside when it is opened next",
}


class _Damaged(Exception):
    """The check that we make when we open a file found something."""


class Store:
    """What one cluster remembers. Any thread may call it; one call at a time touches the database."""

    def __init__(self, url: str, cluster: str) -> None:
        """No I/O yet. Raises StoreError for a URL that can never work."""
        self._url = _understood(url)
        self._path = _file_of(self._url)
        self._cluster = cluster
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._line: Any = None
        """The driver's own connection to a PostgreSQL."""
        self._inode: tuple[int, int] | None = None
        self._damage = ""
        """What the file was found to suffer from while it was in use."""

    @property
    def where(self) -> str:
        """The database, for messages: without a password."""
        if self._path is not None:
            return str(self._path)
        url = self._url
        plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
        return plain.render_as_string()

    def open(self) -> None:
        """Connect, and create or migrate the tables. Raises StoreError; then the next call tries again."""
        with self._lock, self._explained():
            self._drop()
            if self._damage:
                self._set_aside()
            try:
                self._engine = self._checked()
            except (SQLAlchemyError, sqlite3.Error, _Damaged) as error:
                self._damage = _damage(error)
                if not self._damage:
                    raise
                self._set_aside()
                self._engine = self._checked()

    def load(self) -> Remembered:
        """The healths and holds of this cluster, and all keys."""
        with self._transaction() as connection:
            healths = connection.execute(_columns(Stored, _HEALTH).where(_HEALTH.c.cluster == self._cluster))
            holds = connection.execute(_columns(Hold, _HOLD).where(_HOLD.c.cluster == self._cluster))
            keys = connection.execute(_columns(KeyState, _KEY))
            return Remembered(
                healths={row["broker"]: Stored(**row) for row in healths.mappings()},
                holds={row["broker"]: Hold(**row) for row in holds.mappings()},
                keys={row["fingerprint"]: KeyState(**row) for row in keys.mappings()},
            )

    def write(self, batch: Batch) -> None:
        """All of it in one transaction, durable when this returns. StoreError: nothing was written."""
        with self._transaction(writes=True) as connection:
            self._write_healths(connection, batch)
            self._write_holds(connection, batch)
            self._write_keys(connection, batch)
            lines = [_row(one, _HISTORY, cluster=self._cluster) for one in batch.transitions]
            if lines:
                connection.execute(self._insert(_HISTORY).on_conflict_do_nothing(), lines)

    def history(
        self, broker: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Iterator[Transition]:
        """Oldest first; of one broker, since a moment, and only the newest `limit` of them."""
        wanted = [_HISTORY.c.cluster == self._cluster]
        if broker is not None:
            wanted.append(_HISTORY.c.broker == broker)
        if since_us is not None:
            wanted.append(_HISTORY.c.at_us >= _storable(since_us))
        place = tuple_(_HISTORY.c.at_us, _HISTORY.c.id)
        left = float("inf") if limit is None else limit
        after = None if limit is None or limit <= 0 else self._before_the_newest(limit, wanted)
        while left > 0:
            lines = _columns(Transition, _HISTORY).add_columns(_HISTORY.c.id).where(*wanted)
            if after is not None:
                lines = lines.where(place > after)
            lines = lines.order_by(_HISTORY.c.at_us, _HISTORY.c.id).limit(int(min(left, PAGE)))
            # Each page is a transaction of its own: a slow reader holds nobody up.
            with self._transaction() as connection:
                rows = connection.execute(lines).mappings().all()
            for row in rows:
                yield self._transition(row)
            if len(rows) < min(left, PAGE):
                return
            left -= len(rows)
            after = (rows[-1]["at_us"], rows[-1]["id"])

    def close(self) -> None:
        """Let go of the database. A later call opens it again."""
        with self._lock:
            self._drop()

    # --- opening --------------------------------------------------------------------------------------

    def _checked(self) -> Engine:
        """A new engine on a database that was looked at and has our tables."""
        if self._path is not None:
            self._inode = _prepared(self._path)
        engine = self._new_engine()
        try:
            with self._begun(engine, writes=False) as connection:
                if self._path is not None:
                    _look_through(connection)
                found = self._version(connection)
            if found < VERSION:
                with self._begun(engine, writes=True) as connection:
                    self._migrate(connection)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _new_engine(self) -> Engine:
        one: Any = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "hide_parameters": True}
        if self._path is not None:
            path = self._path
            return create_engine("sqlite://", creator=lambda: _connected(path), **one)
        network = {name: value for name, value in _NETWORK.items() if name not in self._url.query}
        try:
            engine = create_engine(self._url, connect_args=network, pool_pre_ping=True, **one)
        except ImportError as error:
            raise StoreError(
                f'{self.where}: the driver is missing; pip install "brokerwatch[postgresql]"'
            ) from error
        event.listen(engine, "do_connect", self._remember_line)
        return engine

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

    def _version(self, connection: Connection) -> int:
        if not inspect(connection).has_table(_SCHEMA.name):
            return 0
        found = connection.execute(select(func.max(_SCHEMA.c.version))).scalar() or 0
        if found > VERSION:
            raise StoreError(
                f"{self.where} was made by a newer brokerwatch (its schema is {found}, this version knows "
                f"{VERSION}); use that one, or name another database"
            )
        return found

    def _migrate(self, connection: Connection) -> None:
        if self._path is None:
            # Machines that start together: one makes the tables, the others wait and find them.
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(_SCHEMA.name))))
        found = self._version(connection)
        if found == 0:
            _TABLES.create_all(connection)
        else:
            for version in range(found, VERSION):
                MIGRATIONS[version](connection)
        if found < VERSION:
            connection.execute(insert(_SCHEMA).values(version=VERSION))

    def _set_aside(self) -> None:
        path, damage = self._path, self._damage
        if path is None or _inode(path) != self._inode:
            self._damage = ""
            return  # somebody else was quicker, and this is another file
        aside = path.with_name(f"{path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        while aside.exists():
            aside = aside.with_name(f"{aside.name}+")
        # The log first: left alone with a new file, it would be taken for that one's.
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        self._damage = ""
        _log.error("%s is damaged (%s): it was set aside as %s, and a new one begins", path, damage, aside)

    # --- every call -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self, *, writes: bool = False) -> Generator[Connection]:
        with self._lock, self._explained():
            if self._engine is not None and self._path is not None and _inode(self._path) != self._inode:
                _log.error("%s was taken away while it was in use: what is there now is opened", self._path)
                self._drop()
            if self._engine is None:
                self.open()
            assert self._engine is not None  # noqa: S101 - `open` made it or raised
            with self._begun(self._engine, writes=writes) as connection:
                yield connection

    @contextlib.contextmanager
    def _begun(self, engine: Engine, *, writes: bool) -> Generator[Connection]:
        if self._path is not None:
            with engine.begin() as connection:
                # Only a transaction that is a writer's from the start can wait for another writer.
                connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
                yield connection
            return
        limit = threading.Timer(TRANSACTION_S, self._hang_up)
        limit.daemon = True
        limit.start()
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_MS}")
                yield connection
        finally:
            limit.cancel()

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        """Whatever the database does wrong becomes a StoreError, and nothing stays open."""
        try:
            yield
        except StoreError:
            self._drop()
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError, ValueError, OverflowError, _Damaged) as error:
            self._drop()
            self._damage = _damage(error) or self._damage
            raise StoreError(self._sentence(error)) from error

    def _sentence(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error
        said = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        code, state = getattr(cause, "sqlite_errorcode", 0), getattr(cause, "sqlstate", None)
        advice = ""
        if isinstance(cause, sqlite3.Error):
            advice = _ADVICE.get(code & 0xFF, "")
        elif isinstance(cause, OSError):
            advice = "name a file that this user can make and write"
        elif state is None and self._path is None:
            advice = "check that the server runs, and the URL's host, user, password and database"
        for secret in filter(None, (self._url.password, self._url.query.get("password"))):
            for form in (str(secret), quote(str(secret), safe="")):
                said = said.replace(form, "***")
        return f"{self.where}: {' '.join(said.split())}" + (f"; {advice}" if advice else "")

    def _drop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    # --- rows -----------------------------------------------------------------------------------------

    def _insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        return postgresql.insert(table) if self._path is None else sqlite.insert(table)

    def _write_healths(self, connection: Connection, batch: Batch) -> None:
        rows = [_row(batch.healths[name], _HEALTH, cluster=self._cluster) for name in sorted(batch.healths)]
        if not rows:
            return
        new = self._insert(_HEALTH)
        order = tuple_(_HEALTH.c.epoch, _HEALTH.c.version) < tuple_(new.excluded.epoch, new.excluded.version)
        values = {column.name: new.excluded[column.name] for column in _HEALTH.c if not column.primary_key}
        upsert = new.on_conflict_do_update(index_elements=_HEALTH.primary_key, set_=values, where=order)
        connection.execute(upsert, rows)

    def _write_holds(self, connection: Connection, batch: Batch) -> None:
        for broker, hold in sorted(batch.holds.items()):
            theirs = (_HOLD.c.cluster == self._cluster) & (_HOLD.c.broker == broker)
            connection.execute(delete(_HOLD).where(theirs))
            if hold is not None:
                connection.execute(insert(_HOLD), _row(hold, _HOLD, cluster=self._cluster, broker=broker))

    def _write_keys(self, connection: Connection, batch: Batch) -> None:
        # In one order: two machines that lock the same rows must not wait for each other.
        rows = [_row(batch.keys[name], _KEY) for name in sorted(batch.keys)]
        if not rows:
            return
        new = self._insert(_KEY)
        values = {
            column.name: _larger(column, new.excluded[column.name])
            for column in (_KEY.c.nonce_ceiling, _KEY.c.locked_until_us)
        }
        connection.execute(new.on_conflict_do_update(index_elements=_KEY.primary_key, set_=values), rows)

    def _before_the_newest(self, limit: int, wanted: list[ColumnElement[bool]]) -> tuple[int, int] | None:
        newest = select(_HISTORY.c.at_us, _HISTORY.c.id).where(*wanted)
        newest = newest.order_by(_HISTORY.c.at_us.desc(), _HISTORY.c.id.desc()).offset(limit - 1).limit(1)
        with self._transaction() as connection:
            first = connection.execute(newest).one_or_none()
        return None if first is None else (first.at_us, first.id - 1)

    def _transition(self, row: Mapping[Any, Any]) -> Transition:
        values: dict[str, Any] = {str(name): value for name, value in row.items() if name != "id"}
        try:
            values["reason"] = Reason(values["reason"])
            values["fault"] = None if values["fault"] is None else FaultKind(values["fault"])
        except ValueError as error:
            raise StoreError(
                f"{self.where}: a line of {row['broker']} says {error}, which a newer brokerwatch wrote; "
                "read its history with that one"
            ) from error
        return Transition(**values)


# --- the URL and the file ---------------------------------------------------------------------------------


def _understood(text: str) -> URL:
    """The URL, whose text may hold a password and is not repeated."""
    write = "write sqlite:///folder/file.db or postgresql+psycopg://user:password@host/database"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError(f"the store's URL is not one; {write}") from None
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "postgresql+psycopg":
        return url
    if url.drivername != "sqlite":
        raise StoreError(
            f"the store's URL begins with {url.drivername}://, which is no store of ours; {write}"
        )
    if url.database in (None, "", ":memory:") or url.host or url.query:
        raise StoreError(f"the store's URL names no file, or more than a file; {write}")
    return url


def _file_of(url: URL) -> Path | None:
    return Path(url.database or "").expanduser().resolve() if url.drivername == "sqlite" else None


def _prepared(path: Path) -> tuple[int, int] | None:
    """Make the file and its folders for nobody else's eyes; close a file to others that was open."""
    for folder in reversed([folder for folder in path.parents if not folder.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        # Never opened when it exists: closing it would take the locks of our own SQLite away.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    if not stat.S_ISREG(path.stat().st_mode):
        raise StoreError(f"{path} is a folder or a device and no file; name another one")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            one = path.with_name(path.name + suffix)
            if one.stat().st_mode & 0o077:
                one.chmod(0o600)
    return _inode(path)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=LOCKED_S,
        isolation_level=None,  # we say BEGIN ourselves
        check_same_thread=False,  # the store's lock sees to it
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _look_through(connection: Connection) -> None:
    """Find damage in what is read at the start. The history may be long, and is not looked through."""
    there = set(inspect(connection).get_table_names())
    for table in (_SCHEMA, _HEALTH, _HOLD, _KEY):
        if table.name in there:
            said = str(connection.exec_driver_sql(f"PRAGMA quick_check({table.name})").scalar())
            if said != "ok":
                raise _Damaged(" ".join(said.split()))


def _damage(error: Exception) -> str:
    """In what way the file is damaged; empty when the error says nothing of the kind."""
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    damaged = isinstance(cause, _Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return str(cause) if damaged else ""


# --- values -----------------------------------------------------------------------------------------------

_LARGEST: Final = 2**63 - 1


def _columns(words: type[Stored | Hold | KeyState | Transition], table: Table) -> Select[Any]:
    return select(*(table.c[field.name] for field in fields(words)))


def _row(words: Stored | Hold | KeyState | Transition, table: Table, **more: str) -> dict[str, Any]:
    names = (field.name for field in fields(words) if field.name in table.c)
    return {name: _storable(getattr(words, name)) for name in names} | more


def _storable(value: Any) -> Any:
    """A value as every database takes it: one that is refused would hold up all that waits behind it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_LARGEST, min(_LARGEST, value))
    if isinstance(value, str):
        # An exchange's own words may hold half a character, or a zero that PostgreSQL does not take.
        return str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return value


def _larger(have: Column[int], new: ColumnElement[int]) -> ColumnElement[int]:
    return case((new > have, new), else_=have)
