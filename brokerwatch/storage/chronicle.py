"""What was heard of the accounts, over months: spans, amounts, and how long answers took.

It has tables of its own, in a file of its own (`chronicle.db` in the state folder) or beside the others on a
PostgreSQL. So the database that a restart needs has no second writer. What is written twice is there once: a
span only grows, an amount is a row of its moment, and answer times are counted for each life of the watcher
apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Executable,
    Index,
    MetaData,
    Table,
    Text,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from brokerwatch.config.cluster_settings import SQLITE
from brokerwatch.health.timeline import Span
from brokerwatch.health.uptime import AnswerTimes
from brokerwatch.messages import Reason
from brokerwatch.messages.topics import is_name
from brokerwatch.storage.database import Database, Schema

CHRONICLE_NAME: Final = "chronicle.db"
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
WRONG_CLOCK_US: Final = 2 * DAY_US
"""What lies later than this after now was written while the wall clock was wrong."""

_TABLES: Final = MetaData()
_SPAN: Final = Table(
    "brokerwatch_span",
    _TABLES,
    Column("cluster", Text, primary_key=True),
    Column("broker", Text, primary_key=True),
    Column("from_us", BigInteger, primary_key=True),
    Column("until_us", BigInteger, nullable=False),
    Column("available", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Index("brokerwatch_span_when", "cluster", "until_us"),
)
_CASH: Final = Table(
    "brokerwatch_cash",
    _TABLES,
    Column("cluster", Text, primary_key=True),
    Column("broker", Text, primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("cash", Text),
    Column("unit", Text, nullable=False),
    Index("brokerwatch_cash_when", "cluster", "at_us"),
)
_ANSWER_TIMES: Final = Table(
    "brokerwatch_answer_times",
    _TABLES,
    Column("cluster", Text, primary_key=True),
    Column("length_us", BigInteger, primary_key=True),
    Column("begin_us", BigInteger, primary_key=True),
    Column("broker", Text, primary_key=True),
    Column("life_us", BigInteger, primary_key=True),
    Column("counts", Text, nullable=False),
)
_SCHEMA: Final = Schema(
    _TABLES,
    1,
    {},
    looked_through=(),
    name="brokerwatch_chronicle_schema",
    # A few rows are written each ten seconds. More would fill for an hour, a page a minute, which looks like
    # a leak; what a person reads of it, the system's own cache has.
    cache_kib=40,
)


def chronicle_url(folder: Path) -> str:
    """The URL of the chronicle in a state folder."""
    return f"{SQLITE}{folder.absolute() / CHRONICLE_NAME}"


@dataclass(frozen=True, slots=True)
class CashSample:
    """The cash of one account from a moment on."""

    broker: str
    at_us: int
    """Wall clock, µs: when it was asked for."""
    cash: str | None
    """None: unknown."""
    unit: str


@dataclass(frozen=True, slots=True)
class AnswerPeriod:
    """Which answers are counted together: of one account, in one hour or one day."""

    broker: str
    length_us: int
    begin_us: int


@dataclass(slots=True)
class Pages:
    """What is written in one transaction."""

    spans: dict[tuple[str, int], Span] = field(default_factory=dict[tuple[str, int], Span])
    """By broker and beginning; the newest length counts."""
    cash: list[CashSample] = field(default_factory=list[CashSample])
    answers: dict[AnswerPeriod, Mapping[int, int]] = field(
        default_factory=dict[AnswerPeriod, Mapping[int, int]]
    )
    """All that this life of the watcher counted there."""

    def __bool__(self) -> bool:
        return bool(self.spans or self.cash or self.answers)


class ChronicleStore:
    """The chronicle of one cluster in a database. Any thread may call it; every call may raise StoreError."""

    def __init__(self, url: str, cluster: str) -> None:
        self._database = Database(url, _SCHEMA)
        self._cluster = cluster

    @property
    def where(self) -> str:
        """The database, for messages: without a password."""
        return self._database.where

    def write(self, pages: Pages, life_us: int) -> None:
        """Write all of it in one transaction.

        Args:
            pages: what is new or longer than it was.
            life_us: wall clock, µs: when the watcher that counted the answers was started.
        """
        with self._database.transaction(writes=True) as connection:
            dialect = connection.dialect.name
            mine: dict[str, object] = {"cluster": self._cluster}
            spans = [
                mine
                | {
                    "broker": span.broker,
                    "from_us": span.from_us,
                    "until_us": span.until_us,
                    "available": span.available,
                    "reason": str(span.reason),
                }
                for span in pages.spans.values()
            ]
            cash = [
                mine | {"broker": each.broker, "at_us": each.at_us, "cash": each.cash, "unit": each.unit}
                for each in pages.cash
            ]
            answers = [
                mine
                | {
                    "broker": period.broker,
                    "length_us": period.length_us,
                    "begin_us": period.begin_us,
                    "life_us": life_us,
                    "counts": msgspec.json.encode(counts).decode(),
                }
                for period, counts in pages.answers.items()
            ]
            for rows, statement in ((spans, _grown_spans), (cash, _new_cash), (answers, _newest_answers)):
                if rows:
                    connection.execute(statement(dialect), rows)

    def spans(self, since_us: int) -> dict[str, list[Span]]:
        """Every span that reaches beyond a moment, by broker."""
        found: dict[str, list[Span]] = {}
        columns = (_SPAN.c.broker, _SPAN.c.from_us, _SPAN.c.until_us, _SPAN.c.available, _SPAN.c.reason)
        wanted = select(*columns).where(_SPAN.c.cluster == self._cluster, _SPAN.c.until_us > since_us)
        for broker, from_us, until_us, available, reason in self._rows(wanted):
            if is_name(broker) and isinstance(from_us, int) and isinstance(until_us, int):
                span = Span(broker, from_us, until_us, available is True, _reason(reason))
                found.setdefault(broker, []).append(span)
        return found

    def cash(self, since_us: int) -> dict[str, list[CashSample]]:
        """The amounts since a moment, and the last one before it, by broker and oldest first."""
        newest = (
            select(_CASH.c.broker, func.max(_CASH.c.at_us).label("at_us"))
            .where(_CASH.c.cluster == self._cluster, _CASH.c.at_us <= since_us)
            .group_by(_CASH.c.broker)
            .subquery()
        )
        columns = (_CASH.c.broker, _CASH.c.at_us, _CASH.c.cash, _CASH.c.unit)
        wanted = (
            select(*columns)
            .outerjoin(newest, _CASH.c.broker == newest.c.broker)
            .where(
                _CASH.c.cluster == self._cluster,
                or_(_CASH.c.at_us > since_us, _CASH.c.at_us == newest.c.at_us),
            )
            .order_by(_CASH.c.at_us)
        )
        found: dict[str, list[CashSample]] = {}
        for broker, at_us, cash, unit in self._rows(wanted):
            if is_name(broker) and isinstance(at_us, int):
                sample = CashSample(broker, at_us, cash if isinstance(cash, str) else None, str(unit))
                found.setdefault(broker, []).append(sample)
        return found

    def answers(self, since_us: int, length_us: int) -> dict[str, AnswerTimes]:
        """The answer times of all hours, or all days, that reach beyond a moment, by broker."""
        table = _ANSWER_TIMES
        wanted = select(table.c.broker, table.c.counts).where(
            table.c.cluster == self._cluster,
            table.c.length_us == length_us,
            table.c.begin_us > since_us - length_us,
        )
        found: dict[str, AnswerTimes] = {}
        for broker, counts in self._rows(wanted):
            try:
                found.setdefault(str(broker), AnswerTimes()).join(_COUNTS.decode(counts))
            except (msgspec.DecodeError, TypeError):
                continue  # a row that was spoilt hides no other
        return found

    def prune(self, before_us: int, now_us: int) -> None:
        """Forget what ended before a moment, and what lies in the future: a clock was wrong there."""
        late_us = now_us + WRONG_CLOCK_US
        with self._database.transaction(writes=True) as connection:
            for table, old in (
                (_SPAN, or_(_SPAN.c.until_us < before_us, _SPAN.c.from_us > late_us)),
                (_CASH, or_(_CASH.c.at_us < before_us, _CASH.c.at_us > late_us)),
                (
                    _ANSWER_TIMES,
                    or_(
                        _ANSWER_TIMES.c.begin_us + _ANSWER_TIMES.c.length_us < before_us,
                        _ANSWER_TIMES.c.begin_us > late_us,
                    ),
                ),
            ):
                connection.execute(delete(table).where(table.c.cluster == self._cluster, old))

    def close(self) -> None:
        """Let go of the database. A later call opens it again."""
        self._database.close()

    def _rows(self, wanted: Executable) -> Sequence[Any]:
        with self._database.transaction() as connection:
            return connection.execute(wanted).all()


_COUNTS: Final = msgspec.json.Decoder(dict[int, int])


def _reason(word: object) -> Reason:
    try:
        return Reason(str(word))
    except ValueError:
        return Reason.OTHER


@cache
def _grown_spans(dialect: str) -> Executable:
    new = _new(dialect, _SPAN)
    names = ("until_us", "available", "reason")
    values = {name: new.excluded[name] for name in names}
    return new.on_conflict_do_update(
        index_elements=_SPAN.primary_key, set_=values, where=_SPAN.c.until_us < new.excluded.until_us
    )


@cache
def _new_cash(dialect: str) -> Executable:
    return _new(dialect, _CASH).on_conflict_do_nothing()


@cache
def _newest_answers(dialect: str) -> Executable:
    new = _new(dialect, _ANSWER_TIMES)
    return new.on_conflict_do_update(
        index_elements=_ANSWER_TIMES.primary_key, set_={"counts": new.excluded.counts}
    )


def _new(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
