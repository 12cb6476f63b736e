"""What is found in a database by looking: damage, the version of our tables, what this user may do.

Every statement here only reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect

from brokerwatch.storage.sqlite_file import Damaged

_NOT_LOOKED_THROUGH: Final = "brokerwatch_history"
"""It may be long, and a store that opens does not look through it either."""
_FILE_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table'"
_SERVER_TABLES: Final = (
    "SELECT relname, has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') "
    "AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE') FROM pg_class "
    "WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid) AND starts_with(relname, 'brokerwatch_')"
)
_NUMBERS: Final = (
    "SELECT has_sequence_privilege(pg_get_serial_sequence('brokerwatch_history', 'id'), 'USAGE')"
)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a database."""

    version: int | None = None
    """Of our tables; None: there are none."""
    is_read_only: bool = False
    """Of a server: it takes no writes. Then nothing else was looked at."""
    closed: tuple[str, ...] = ()
    """Of a server: our tables and sequences that this user may not write."""
    may_make_tables: bool = True
    """Of a server: whether this user may make tables in the schema that is used."""


def look_through(connection: Connection, tables: Iterable[str]) -> None:
    """Look for damage in those of these tables of a SQLite file that are there. Raises Damaged."""
    there = set(inspect(connection).get_table_names())
    for table in tables:
        if table in there:
            _check(connection, table)


def found_in_file(connection: Connection) -> Found:
    """What a SQLite file has. Raises Damaged, and what SQLAlchemy raises."""
    tables = [str(row[0]) for row in connection.exec_driver_sql(_FILE_TABLES)]
    for table in tables:
        if table.startswith("brokerwatch_") and table != _NOT_LOOKED_THROUGH:
            _check(connection, table)
    return Found(_version(connection) if "brokerwatch_schema" in tables else None)


def found_on_server(connection: Connection) -> Found:
    """What a PostgreSQL has, and lets this user do. Raises what SQLAlchemy raises."""
    if connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
        return Found(is_read_only=True)
    tables = {str(row[0]): bool(row[1]) for row in connection.exec_driver_sql(_SERVER_TABLES)}
    closed = sorted(name for name, may in tables.items() if not may)
    if "brokerwatch_history" in tables and connection.exec_driver_sql(_NUMBERS).scalar() is False:
        closed.append("the numbers of brokerwatch_history")
    if closed:
        return Found(closed=tuple(closed))
    may_make = connection.exec_driver_sql("SELECT has_schema_privilege(current_schema(), 'CREATE')").scalar()
    return Found(
        _version(connection) if "brokerwatch_schema" in tables else None, may_make_tables=bool(may_make)
    )


def _check(connection: Connection, table: str) -> None:
    words = str(connection.exec_driver_sql(f"PRAGMA quick_check({table})").scalar())
    if words != "ok":
        raise Damaged(" ".join(words.split()))


def _version(connection: Connection) -> int | None:
    found: object = connection.exec_driver_sql("SELECT max(version) FROM brokerwatch_schema").scalar()
    return found if isinstance(found, int) else None
