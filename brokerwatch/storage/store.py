"""What outlives the process: the health of every broker, operators' holds, keys, and the history.

A cluster has one row for each broker's health and for each hold, and a line of history for every
transition. Keys and their orders are the exchange's, and all clusters share them. What is newer stays: a
health gives way only to a later (epoch, version), and a key's numbers only grow, so a process that hung
and woke up can write what it likes.

One batch is one transaction: all of it is there when `write` returns, and none of it when it raises. A
batch may be written twice, because a commit whose answer was lost may have arrived; its
history is there once. A row that was spoilt hides no other: what cannot be in it is left aside with
a line in the log, and the next writing replaces it. How the database is opened, and what happens when it
fails, is in `database`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from operator import itemgetter
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    delete,
    insert,
    select,
    tuple_,
)

from brokerwatch.log import logger
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.messages.envelope import EPOCH_PATTERN
from brokerwatch.messages.topics import is_name
from brokerwatch.storage.backlog import Batch
from brokerwatch.storage.database import Database, Schema
from brokerwatch.storage.health_record import LARGEST_US
from brokerwatch.storage.inspection import Found
from brokerwatch.storage.records import Hold, KeyState, OrderEvent, Remembered, SentOrder, Stored, Transition
from brokerwatch.storage.tables import (
    FORGOTTEN_ORDER,
    HEALTH,
    HISTORY,
    HOLD,
    KEY,
    LARGEST,
    MIGRATIONS,
    ORDER,
    ORDER_EVENT,
    SENT_ORDER,
    SERVES_FROM,
    TABLES,
    VERSION,
    grown_keys,
    later_healths,
    new_lines,
)

_log: Final = logger(__name__)
_Words = TypeVar("_Words", Stored, Hold, KeyState, SentOrder)
_Kept = Stored | Hold | KeyState | SentOrder | Transition | OrderEvent

PAGE: Final = 1_000
"""Lines of history that are read at once."""
FORGOTTEN_AT_ONCE: Final = 5_000
"""Lines of history that are deleted at once: what waits to be written waits for no longer than that takes."""


class Store:
    """What one cluster remembers. Any thread may call it; one call at a time touches the database."""

    def __init__(self, url: str, cluster: str, *, follows_link: bool = True) -> None:
        """No I/O yet. `follows_link`: the file may be one. Raises StoreError for a URL that cannot work."""
        # The history may be long, and is not looked through.
        looked_through = (HEALTH, HOLD, KEY, ORDER)
        schema = Schema(TABLES, VERSION, MIGRATIONS, looked_through, serves_from=SERVES_FROM)
        self._database = Database(url, schema, follows_link=follows_link)
        self._cluster = cluster

    @property
    def where(self) -> str:
        """The database, for messages: without a password."""
        return self._database.where

    @property
    def renewals(self) -> int:
        """How often what had been written was found to be lost: see `Database.renewals`."""
        return self._database.renewals

    def is_there(self) -> bool:
        """Whether a file that was opened is still at its place: see `Database.is_there`."""
        return self._database.is_there()

    def peek(self) -> Found:
        """Look at the database without changing it: see `Database.peek`, also for what it raises."""
        return self._database.peek()

    def open(self) -> None:
        """Connect, and create or migrate the tables. Raises StoreError; then the next call tries again."""
        self._database.open()

    def load(self) -> Remembered:
        """The healths and holds of this cluster, and all keys with their orders."""
        return self._loaded(None, None)

    def load_accounts(self, brokers: Collection[str], fingerprints: Collection[str]) -> Remembered:
        """The same for these brokers, and for these keys with their orders."""
        return self._loaded(brokers, fingerprints)

    def _loaded(self, brokers: Collection[str] | None, fingerprints: Collection[str] | None) -> Remembered:
        """None: all of them."""

        def wanted(words: type[_Words], table: Table, column: str, names: Collection[str] | None) -> Any:
            found = _columns(words, table)
            if "cluster" in table.c:
                found = found.where(table.c.cluster == self._cluster)
            return found if names is None else found.where(table.c[column].in_(sorted(names)))

        with self._database.transaction() as connection:
            healths = connection.execute(wanted(Stored, HEALTH, "broker", brokers))
            holds = connection.execute(wanted(Hold, HOLD, "broker", brokers))
            keys = connection.execute(wanted(KeyState, KEY, "fingerprint", fingerprints))
            orders: dict[str, tuple[SentOrder, ...]] = {}
            sent = connection.execute(
                wanted(SentOrder, ORDER, "fingerprint", fingerprints).order_by(
                    ORDER.c.sent_us, ORDER.c.client_order_id
                )
            )
            for one in self._read(SentOrder, ORDER, sent.mappings()):
                orders[one.fingerprint] = (*orders.get(one.fingerprint, ()), one)
            return Remembered(
                orders=orders,
                healths={one.broker: one for one in self._read(Stored, HEALTH, healths.mappings())},
                holds={one.broker: one for one in self._read(Hold, HOLD, holds.mappings())},
                keys={one.fingerprint: one for one in self._read(KeyState, KEY, keys.mappings())},
            )

    def epochs(self) -> dict[str, str]:
        """The epoch of the stored health of each broker of this cluster."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                select(HEALTH.c.broker, HEALTH.c.epoch).where(HEALTH.c.cluster == self._cluster)
            )
            return {broker: epoch for broker, epoch in rows if _is_epoch(epoch)}

    def clusters(self) -> list[str]:
        """The names of the clusters of which something is stored."""
        found: set[str] = set()
        with self._database.transaction() as connection:
            for table in (HEALTH, HOLD, HISTORY, ORDER_EVENT):
                found.update(connection.execute(select(table.c.cluster).distinct()).scalars())
        return sorted(filter(is_name, found))

    def write(self, batch: Batch) -> None:
        """All of it in one transaction, durable when this returns. StoreError: nothing was written."""
        with self._database.transaction(writes=True) as connection:
            self._write_healths(connection, batch)
            self._write_holds(connection, batch)
            self._write_keys(connection, batch)
            self._write_orders(connection, batch)
            lines = [_row(one, HISTORY, cluster=self._cluster) for one in batch.transitions]
            if lines:
                connection.execute(new_lines(connection.dialect.name), lines)
            events = [_row(one, ORDER_EVENT, cluster=self._cluster) for one in batch.order_events]
            if events:
                connection.execute(new_lines(connection.dialect.name, ORDER_EVENT), events)

    def history(
        self, broker: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Iterator[Transition]:
        """Oldest first; of one broker, since a moment, and only the newest `limit` of them.

        Lines that this version does not understand are left out, which is said once.
        """
        return map(_transition, self._lines(Transition, HISTORY, broker, since_us, limit))

    def order_events(
        self, broker: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Iterator[OrderEvent]:
        """The lives of the orders, line by line; otherwise as `history`."""
        for row in self._lines(OrderEvent, ORDER_EVENT, broker, since_us, limit):
            yield OrderEvent(**{str(name): value for name, value in row.items() if name != "id"})

    def _lines(
        self,
        words: type[Transition | OrderEvent],
        table: Table,
        broker: str | None,
        since_us: int | None,
        limit: int | None,
    ) -> Iterator[Mapping[Any, Any]]:
        wanted = [table.c.cluster == self._cluster]
        if broker is not None:
            wanted.append(table.c.broker == broker)
        if since_us is not None:
            wanted.append(table.c.at_us >= _storable(since_us))
        place = tuple_(table.c.at_us, table.c.id)
        is_logged = False
        left = float("inf") if limit is None else limit
        after = None if limit is None or limit <= 0 else self._before_the_newest(table, limit, wanted)
        while left > 0:
            lines = _columns(words, table).add_columns(table.c.id).where(*wanted)
            if after is not None:
                lines = lines.where(place > after)
            lines = lines.order_by(table.c.at_us, table.c.id).limit(int(min(left, PAGE)))
            # Each page is a transaction of its own: a slow reader holds up no writer.
            with self._database.transaction() as connection:
                rows = connection.execute(lines).mappings().all()
            for row in rows:
                if not (wrong := _impossible(row)):
                    yield row
                elif not is_logged:
                    is_logged = True
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

    def forget_history(self, before_us: int) -> bool:
        """Delete old lines of this cluster's history, a limited number. False: there are more of them."""
        old = select(HISTORY.c.id).where(HISTORY.c.cluster == self._cluster, HISTORY.c.at_us < before_us)
        some = old.order_by(HISTORY.c.at_us).limit(FORGOTTEN_AT_ONCE)
        with self._database.transaction(writes=True) as connection:
            gone = connection.execute(delete(HISTORY).where(HISTORY.c.id.in_(some))).rowcount
        return gone < FORGOTTEN_AT_ONCE

    def close(self) -> None:
        """Let go of the database. A later call opens it again."""
        self._database.close()

    # --- rows -----------------------------------------------------------------------------------------

    def _write_healths(self, connection: Connection, batch: Batch) -> None:
        rows = [_row(batch.healths[name], HEALTH, cluster=self._cluster) for name in sorted(batch.healths)]
        if not rows:
            return
        connection.execute(later_healths(connection.dialect.name), rows)

    def _write_holds(self, connection: Connection, batch: Batch) -> None:
        for broker, hold in sorted(batch.holds.items()):
            theirs = (HOLD.c.cluster == self._cluster) & (HOLD.c.broker == broker)
            connection.execute(delete(HOLD).where(theirs))
            if hold is not None:
                connection.execute(insert(HOLD), _row(hold, HOLD, cluster=self._cluster, broker=broker))

    def _write_keys(self, connection: Connection, batch: Batch) -> None:
        # In one order: two machines that lock the same rows must not wait for each other.
        rows = [_row(batch.keys[name], KEY) for name in sorted(batch.keys)]
        if not rows:
            return
        connection.execute(grown_keys(connection.dialect.name), rows)

    def _write_orders(self, connection: Connection, batch: Batch) -> None:
        for (fingerprint, client_order_id), order in sorted(batch.orders.items(), key=itemgetter(0)):
            this = {"this_key": _storable(fingerprint), "this_id": _storable(client_order_id)}
            connection.execute(FORGOTTEN_ORDER, this)
            if order is not None:
                connection.execute(SENT_ORDER, _row(order, ORDER))

    def _before_the_newest(
        self, table: Table, limit: int, wanted: list[ColumnElement[bool]]
    ) -> tuple[int, int] | None:
        newest = select(table.c.at_us, table.c.id).where(*wanted)
        newest = newest.order_by(table.c.at_us.desc(), table.c.id.desc()).offset(limit - 1).limit(1)
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
        return max(-LARGEST, min(LARGEST, value))
    if isinstance(value, str):
        # An exchange's own words may hold half a character, or a zero that PostgreSQL does not take.
        return str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return value
