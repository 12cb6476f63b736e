"""What outlives the process: the health of every broker, operators' holds, keys, and the history.

A cluster has one row for each broker's health and for each hold, and a line of history for every
transition. Keys and their orders are the exchange's, and all clusters share them. What is newer stays: a
health gives way only to a later (epoch, version), and a key's numbers only grow, so a process that hung
and woke up can write what it likes.

One batch is one transaction: all of it is there when `write` returns, and none of it when it raises. A
batch may be written twice, because nobody knows whether a commit arrived whose answer was lost; its
history is there once. A row that somebody spoilt hides no other: what cannot be in it is left aside with
a line in the log, and the next writing replaces it. How the database is opened, and what happens when it
fails, is in `database`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from operator import itemgetter
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    bindparam,
    case,
    delete,
    insert,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from brokerwatch.backlog import Batch, Hold, KeyState, Remembered, SentOrder, Stored, Transition
from brokerwatch.database import Database, Schema
from brokerwatch.memory import LARGEST_US
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.messages.envelope import EPOCH_PATTERN
from brokerwatch.messages.topics import is_name

_log: Final = logging.getLogger(__name__)
_Words = TypeVar("_Words", Stored, Hold, KeyState, SentOrder)
_Kept = Stored | Hold | KeyState | SentOrder | Transition

PAGE: Final = 1_000
"""Lines of history that are read at once."""

# PostgreSQL sorts text by its locale otherwise, where "a" is less than "B".
_BYTEWISE: Final = Text().with_variant(Text(collation="C"), "postgresql")
_TABLES: Final = MetaData()
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
# Of an order that was sent and of which it is not known yet what became of it.
_ORDER: Final = Table(
    "brokerwatch_order",
    _TABLES,
    Column("fingerprint", Text, primary_key=True),
    Column("client_order_id", Text, primary_key=True),
    Column("sent_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
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

VERSION: Final = 2
"""Of the tables above; who changes one raises it, and adds the migration."""
MIGRATIONS: Final[dict[int, Callable[[Connection], None]]] = {
    1: lambda connection: _ORDER.create(connection, checkfirst=True)
}
"""From each older version to the next one."""


class Store:
    """What one cluster remembers. Any thread may call it; one call at a time touches the database."""

    def __init__(self, url: str, cluster: str) -> None:
        """No I/O yet. Raises StoreError for a URL that can never work."""
        # The history may be long, and is not looked through.
        schema = Schema(_TABLES, VERSION, MIGRATIONS, looked_through=(_HEALTH, _HOLD, _KEY, _ORDER))
        self._database = Database(url, schema)
        self._cluster = cluster

    @property
    def where(self) -> str:
        """The database, for messages: without a password."""
        return self._database.where

    def open(self) -> None:
        """Connect, and create or migrate the tables. Raises StoreError; then the next call tries again."""
        self._database.open()

    def load(self) -> Remembered:
        """The healths and holds of this cluster, and all keys with their orders."""
        with self._database.transaction() as connection:
            healths = connection.execute(_columns(Stored, _HEALTH).where(_HEALTH.c.cluster == self._cluster))
            holds = connection.execute(_columns(Hold, _HOLD).where(_HOLD.c.cluster == self._cluster))
            keys = connection.execute(_columns(KeyState, _KEY))
            orders: dict[str, tuple[SentOrder, ...]] = {}
            sent = connection.execute(
                _columns(SentOrder, _ORDER).order_by(_ORDER.c.sent_us, _ORDER.c.client_order_id)
            )
            for one in self._read(SentOrder, _ORDER, sent.mappings()):
                orders[one.fingerprint] = (*orders.get(one.fingerprint, ()), one)
            return Remembered(
                orders=orders,
                healths={one.broker: one for one in self._read(Stored, _HEALTH, healths.mappings())},
                holds={one.broker: one for one in self._read(Hold, _HOLD, holds.mappings())},
                keys={one.fingerprint: one for one in self._read(KeyState, _KEY, keys.mappings())},
            )

    def write(self, batch: Batch) -> None:
        """All of it in one transaction, durable when this returns. StoreError: nothing was written."""
        with self._database.transaction(writes=True) as connection:
            self._write_healths(connection, batch)
            self._write_holds(connection, batch)
            self._write_keys(connection, batch)
            self._write_orders(connection, batch)
            lines = [_row(one, _HISTORY, cluster=self._cluster) for one in batch.transitions]
            if lines:
                connection.execute(_new_lines(connection.dialect.name), lines)

    def history(
        self, broker: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Iterator[Transition]:
        """Oldest first; of one broker, since a moment, and only the newest `limit` of them.

        Lines that this version does not understand are left out, which is said once.
        """
        wanted = [_HISTORY.c.cluster == self._cluster]
        if broker is not None:
            wanted.append(_HISTORY.c.broker == broker)
        if since_us is not None:
            wanted.append(_HISTORY.c.at_us >= _storable(since_us))
        place = tuple_(_HISTORY.c.at_us, _HISTORY.c.id)
        said = False
        left = float("inf") if limit is None else limit
        after = None if limit is None or limit <= 0 else self._before_the_newest(limit, wanted)
        while left > 0:
            lines = _columns(Transition, _HISTORY).add_columns(_HISTORY.c.id).where(*wanted)
            if after is not None:
                lines = lines.where(place > after)
            lines = lines.order_by(_HISTORY.c.at_us, _HISTORY.c.id).limit(int(min(left, PAGE)))
            # Each page is a transaction of its own: a slow reader holds nobody up.
            with self._database.transaction() as connection:
                rows = connection.execute(lines).mappings().all()
            for row in rows:
                if not (wrong := _impossible(row)):
                    yield _transition(row)
                elif not said:
                    said = True
                    _log.warning(
                        "%s: lines of the history that this version does not understand are left out; "
                        "the first is of %s: %s",
                        self.where,
                        _shown(row["broker"]),
                        ", ".join(f"{name} {_shown(row[name])}" for name in wrong),
                    )
            if len(rows) < min(left, PAGE):
                return
            left -= len(rows)
            after = (rows[-1]["at_us"], rows[-1]["id"])

    def close(self) -> None:
        """Let go of the database. A later call opens it again."""
        self._database.close()

    # --- rows -----------------------------------------------------------------------------------------

    def _write_healths(self, connection: Connection, batch: Batch) -> None:
        rows = [_row(batch.healths[name], _HEALTH, cluster=self._cluster) for name in sorted(batch.healths)]
        if not rows:
            return
        connection.execute(_later_healths(connection.dialect.name), rows)

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
        connection.execute(_grown_keys(connection.dialect.name), rows)

    def _write_orders(self, connection: Connection, batch: Batch) -> None:
        for (fingerprint, client_order_id), order in sorted(batch.orders.items(), key=itemgetter(0)):
            this = {"this_key": _storable(fingerprint), "this_id": _storable(client_order_id)}
            connection.execute(_FORGOTTEN_ORDER, this)
            if order is not None:
                connection.execute(_SENT_ORDER, _row(order, _ORDER))

    def _before_the_newest(self, limit: int, wanted: list[ColumnElement[bool]]) -> tuple[int, int] | None:
        newest = select(_HISTORY.c.at_us, _HISTORY.c.id).where(*wanted)
        newest = newest.order_by(_HISTORY.c.at_us.desc(), _HISTORY.c.id.desc()).offset(limit - 1).limit(1)
        with self._database.transaction() as connection:
            first = connection.execute(newest).one_or_none()
        return None if first is None else (first.at_us, first.id - 1)

    def _read(self, words: type[_Words], table: Table, rows: Iterable[Mapping[Any, Any]]) -> Iterator[_Words]:
        """Every row whose owner can be one; what else cannot be in it is left aside and said."""
        for row in rows:
            wrong = _impossible(row)
            if wrong:
                owner = _shown(next(iter(row.values())))
                _log.error(
                    "%s: what cannot be is left aside in %s of %s: %s",
                    self.where,
                    table.name,
                    owner,
                    ", ".join(f"{name} {_shown(row[name])}" for name in wrong),
                )
            if not {"broker", "fingerprint", "client_order_id"}.intersection(wrong):
                values = {str(name): value for name, value in row.items()}
                yield words(**values | {name: _instead(name, row[name]) for name in wrong})


# --- values -----------------------------------------------------------------------------------------------

_LARGEST: Final = 2**63 - 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_epoch(value: Any) -> bool:
    return isinstance(value, str) and (
        not value or (re.match(EPOCH_PATTERN, value) is not None and value < str(LARGEST_US))
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_moment(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < LARGEST_US


_CAN_BE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "broker": lambda value: isinstance(value, str) and is_name(value),
    "epoch": _is_epoch,
    "version": _is_count,
    "saved_us": _is_moment,
    "since_us": _is_moment,
    "sent_us": _is_moment,
    "until_us": lambda value: value is None or _is_moment(value),
    "nonce_ceiling": _is_count,
    "locked_until_us": _is_moment,
    "at_us": _is_moment,
    "available": lambda value: isinstance(value, bool),
    "reason": lambda value: value in set(Reason),
    "error_count": _is_count,
    "fault": lambda value: value is None or value in set(FaultKind),
}
"""What a column can hold; the others hold text. SQLite takes anything in any of them."""


def _impossible(row: Mapping[Any, Any]) -> list[str]:
    """The columns of a row in which something is that cannot be."""
    columns = (str(name) for name in row if name != "id")
    return [name for name in columns if not _CAN_BE.get(name, _is_text)(row[name])]


def _instead(name: str, value: Any) -> Any:
    """What is read where something impossible is. Nothing of it makes a broker new, or ends a hold."""
    if name == "until_us":
        return None
    if name == "epoch":
        return ""
    if name in _CAN_BE:
        return 0
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _shown(value: Any) -> str:
    """A value for the log, which may be anything and of any length."""
    return ascii(value)[:60]


def _transition(row: Mapping[Any, Any]) -> Transition:
    values: dict[str, Any] = {str(name): value for name, value in row.items() if name != "id"}
    values["reason"] = Reason(values["reason"])
    values["fault"] = None if values["fault"] is None else FaultKind(values["fault"])
    return Transition(**values)


def _columns(words: type[_Kept], table: Table) -> Select[Any]:
    return select(*(table.c[field.name] for field in fields(words)))


def _row(words: _Kept, table: Table, **more: str) -> dict[str, Any]:
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


# --- statements: built once, because building one takes longer than SQLite takes over a row ----------------

_SENT_ORDER: Final = insert(_ORDER)
_FORGOTTEN_ORDER: Final = delete(_ORDER).where(
    _ORDER.c.fingerprint == bindparam("this_key"), _ORDER.c.client_order_id == bindparam("this_id")
)


@cache
def _later_healths(dialect: str) -> Executable:
    new = _new(dialect, _HEALTH)
    order = or_(
        tuple_(_HEALTH.c.epoch, _HEALTH.c.version) < tuple_(new.excluded.epoch, new.excluded.version),
        # What is no epoch is later than none, however it compares.
        _HEALTH.c.epoch >= str(LARGEST_US),
        _HEALTH.c.epoch.not_like(f"{'_' * 16}-{'_' * 8}"),
    )
    values = {column.name: new.excluded[column.name] for column in _HEALTH.c if not column.primary_key}
    return new.on_conflict_do_update(index_elements=_HEALTH.primary_key, set_=values, where=order)


@cache
def _grown_keys(dialect: str) -> Executable:
    new = _new(dialect, _KEY)
    values = {
        column.name: _larger(column, new.excluded[column.name], most)
        for column, most in ((_KEY.c.nonce_ceiling, _LARGEST), (_KEY.c.locked_until_us, LARGEST_US))
    }
    return new.on_conflict_do_update(index_elements=_KEY.primary_key, set_=values)


@cache
def _new_lines(dialect: str) -> Executable:
    return _new(dialect, _HISTORY).on_conflict_do_nothing()


def _larger(have: Column[int], new: ColumnElement[int], most: int) -> ColumnElement[int]:
    # SQLite compares text as more than any number: what cannot be gives way as well.
    return case((or_(new > have, have > most), new), else_=have)


def _new(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that may say what happens to a row that is there already."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
