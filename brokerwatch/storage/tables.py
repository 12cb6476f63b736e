"""The tables of the store, its version, and the steps from older versions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

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
    Table,
    Text,
    bindparam,
    case,
    delete,
    insert,
    or_,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from brokerwatch.storage.health_record import LARGEST_US

# PostgreSQL sorts text by its locale otherwise, where "a" is less than "B".
_BYTEWISE: Final = Text().with_variant(Text(collation="C"), "postgresql")


TABLES: Final = MetaData()


HEALTH: Final = Table(
    "brokerwatch_health",
    TABLES,
    Column("cluster", Text, primary_key=True),
    Column("broker", Text, primary_key=True),
    Column("exchange", Text, nullable=False),
    Column("credentials", Text, nullable=False),
    Column("epoch", _BYTEWISE, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("saved_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)


HOLD: Final = Table(
    "brokerwatch_hold",
    TABLES,
    Column("cluster", Text, primary_key=True),
    Column("broker", Text, primary_key=True),
    Column("by", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger),
)


# A key is the exchange's, whichever cluster or machine uses it: no cluster here.
KEY: Final = Table(
    "brokerwatch_key",
    TABLES,
    Column("fingerprint", Text, primary_key=True),
    Column("nonce_ceiling", BigInteger, nullable=False),
    Column("locked_until_us", BigInteger, nullable=False),
)


# Of an order that was sent and of which it is not known yet what became of it.
ORDER: Final = Table(
    "brokerwatch_order",
    TABLES,
    Column("fingerprint", Text, primary_key=True),
    Column("client_order_id", Text, primary_key=True),
    Column("sent_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)


HISTORY: Final = Table(
    "brokerwatch_history",
    TABLES,
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


ORDER_EVENT: Final = Table(
    "brokerwatch_order_event",
    TABLES,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("broker", Text, nullable=False),
    Column("exchange", Text, nullable=False),
    Column("client_order_id", Text, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("base_amount", Text, nullable=False),
    Column("quote_amount", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("filled_base", Text, nullable=False),
    Column("average_price", Text, nullable=False),
    Column("fee", Text, nullable=False),
    Column("fee_currency", Text, nullable=False),
    Column("detail", Text, nullable=False),
    # A line that is written twice is there once.
    Index("brokerwatch_order_event_once", "cluster", "client_order_id", "at_us", "state", unique=True),
    Index("brokerwatch_order_event_when", "cluster", "at_us"),
)


VERSION: Final = 4
"""Of the tables above; who changes one raises it, and adds the migration."""
SERVES_FROM: Final = 4
"""The oldest version that may use these tables. Nodes of two versions share a database while one is replaced
by the other. So a version *expands*: it adds tables, and columns that have a default, and leaves this number.
A later one *contracts*: it removes what no version in use needs any more, and raises it. Statements name
their columns, and no column changes its meaning."""


def _note_what_is_served(connection: Connection) -> None:
    # The versions until here are served by none but themselves.
    connection.exec_driver_sql(
        "ALTER TABLE brokerwatch_schema ADD COLUMN serves_from INTEGER NOT NULL DEFAULT 0"
    )
    connection.exec_driver_sql("UPDATE brokerwatch_schema SET serves_from = version")


MIGRATIONS: Final[dict[int, Callable[[Connection], None]]] = {
    1: lambda connection: ORDER.create(connection, checkfirst=True),
    2: lambda connection: ORDER_EVENT.create(connection, checkfirst=True),
    3: _note_what_is_served,
}
"""From each older version to the next one."""


# --- values -----------------------------------------------------------------------------------------------

LARGEST: Final = 2**63 - 1


# --- statements: built once, because building one takes longer than SQLite takes over a row ----------------

SENT_ORDER: Final = insert(ORDER)


FORGOTTEN_ORDER: Final = delete(ORDER).where(
    ORDER.c.fingerprint == bindparam("this_key"), ORDER.c.client_order_id == bindparam("this_id")
)


@cache
def later_healths(dialect: str) -> Executable:
    new = _new(dialect, HEALTH)
    order = or_(
        tuple_(HEALTH.c.epoch, HEALTH.c.version) < tuple_(new.excluded.epoch, new.excluded.version),
        # What is no epoch is later than none, however it compares.
        HEALTH.c.epoch >= str(LARGEST_US),
        HEALTH.c.epoch.not_like(f"{'_' * 16}-{'_' * 8}"),
    )
    values = {column.name: new.excluded[column.name] for column in HEALTH.c if not column.primary_key}
    return new.on_conflict_do_update(index_elements=HEALTH.primary_key, set_=values, where=order)


@cache
def grown_keys(dialect: str) -> Executable:
    new = _new(dialect, KEY)
    values = {
        column.name: _larger(column, new.excluded[column.name], most)
        for column, most in ((KEY.c.nonce_ceiling, LARGEST), (KEY.c.locked_until_us, LARGEST_US))
    }
    return new.on_conflict_do_update(index_elements=KEY.primary_key, set_=values)


@cache
def new_lines(dialect: str, table: Table = HISTORY) -> Executable:
    return _new(dialect, table).on_conflict_do_nothing()


def _larger(have: Column[int], new: ColumnElement[int], most: int) -> ColumnElement[int]:
    # SQLite compares text as more than any number: what cannot be gives way as well.
    return case((or_(new > have, have > most), new), else_=have)


def _new(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that may say what happens to a row that is there already."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
