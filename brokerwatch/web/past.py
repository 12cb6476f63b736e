"""What the API says of the time before now: timelines of the accounts, and their transitions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.health.plain_words import plain_detail
from brokerwatch.health.reason_words import meaning
from brokerwatch.health.timeline import Span
from brokerwatch.health.uptime import AnswerTimes, Kind, cells, kind, uptime
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.storage.chronicle import DAY_US, HOUR_US, CashSample
from brokerwatch.storage.records import Transition

_T = TypeVar("_T")

MOST_SPANS: Final = 1_000
"""Spans of one account in one answer: the newest."""
MOST_LINES: Final = 1_000
"""Lines of the history in one answer."""
USUAL_LINES: Final = 100
TIME_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Window:
    """A time that ends now, and into how many cells its bar is cut."""

    length_us: int
    cells: int
    counted_us: int
    """The length of the periods in which answer times are counted together."""
    keep_s: float
    """For how long an answer is good enough for the next reader."""


WINDOWS: Final[Mapping[str, Window]] = {
    "24h": Window(DAY_US, 96, HOUR_US, 2.0),
    "7d": Window(7 * DAY_US, 84, HOUR_US, 30.0),
    "30d": Window(30 * DAY_US, 90, DAY_US, 60.0),
}
"""The windows by their names: cells of 15 minutes, 2 hours and 8 hours."""


class BarRun(msgspec.Struct, frozen=True, kw_only=True):
    """Some cells of a bar, one after the other, that are the same."""

    cells: Annotated[int, Meta(ge=1)]
    parts: dict[Kind, Annotated[float, Meta(ge=0, le=1)]]
    """What share of the time of each cell the account was what."""


class CashRun(msgspec.Struct, frozen=True, kw_only=True):
    """Some cells, one after the other, at whose ends the cash was the same."""

    cells: Annotated[int, Meta(ge=1)]
    cash: str | None
    """An amount as text; null: unknown, or nothing was heard in these cells."""


class SpanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which the account was heard and its verdict was the same. Between two of them it was not."""

    from_us: int
    until_us: int
    available: bool
    reason: Reason
    kind: Kind


class TimelineAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One account in one window of time."""

    broker: str
    availability: Annotated[float, Meta(ge=0, le=1)] | None
    """The share of the time in which it was available. Time that was not heard, or held out, counts neither
    way. Null: no time counts."""
    outages: int
    """How many outages ended in the window, or last."""
    recovery_ms: int | None
    """Mean time to recovery of the outages that ended in the window; null: none did."""
    worst_ms: int | None
    """The longest outage; null: there was none."""
    answer_p95_ms: int | None
    """95 of 100 answers with a balance took no longer; null: not known."""
    kinds_ms: dict[Kind, int]
    """How long it was what; together as long as the window."""
    bar: tuple[BarRun, ...]
    """The window cut into cells of one length, oldest first."""
    cash_unit: str
    cash: tuple[CashRun, ...]
    """The cash at the end of each cell; empty where amounts are not published."""
    spans: tuple[SpanAnswer, ...] | None
    """The newest 1,000 spans; null where all accounts were asked for."""


class TimelinesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every account in one window of time."""

    window: str
    from_us: int
    until_us: int
    cells: int
    """How many cells each bar has."""
    brokers: tuple[TimelineAnswer, ...]


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True):
    """One transition of an account."""

    at_us: int
    broker: str
    exchange: str
    event: str
    """`state`, `veto`, `operator`, `key` or `money`, by the cluster's own store; `heard`: written down from
    outside."""
    before: str
    after: str
    available: bool
    reason: Reason
    meaning: str
    """The reason in words."""
    error_count: int
    fault: FaultKind | None
    detail: str


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The newest transitions, oldest first."""

    lines: tuple[HistoryLine, ...]
    more: bool
    """Whether there are older ones that were asked for."""


Transitions = Callable[[str | None, int | None, int], Sequence[Transition]]
"""The newest transitions, oldest first: of one account, since a moment, so many at most. StoreError."""


def timeline(
    name: str,
    window: Window,
    now_us: int,
    spans: Sequence[Span],
    samples: Sequence[CashSample],
    answers: AnswerTimes | None,
    newest: ReceivedReading | None,
    *,
    with_spans: bool,
) -> TimelineAnswer:
    """One account in one window.

    Args:
        name: the account.
        window: which window; it ends now.
        now_us: wall clock, µs.
        spans: oldest first and without an overlap.
        samples: its amounts, oldest first.
        answers: how long its answers took.
        newest: its newest reading; None: it is not heard any more.
        with_spans: whether the spans themselves are wanted.
    """
    from_us = now_us - window.length_us
    found = uptime(spans, from_us, now_us)
    bar = cells(spans, from_us, now_us, window.cells)
    # Where a cluster stopped to publish amounts, those of earlier times are not shown either. Of an account
    # that is not heard, it is not known whether it did.
    is_hidden = newest is None or not newest.reading.cash_unit
    unit = samples[-1].unit if samples and not is_hidden else ""
    return TimelineAnswer(
        broker=name,
        availability=found.availability,
        outages=found.outages,
        recovery_ms=None if found.recovery_us is None else found.recovery_us // 1_000,
        worst_ms=None if found.worst_us is None else found.worst_us // 1_000,
        answer_p95_ms=None if answers is None else answers.percentile(95),
        kinds_ms={what: length_us // 1_000 for what, length_us in found.by_kind.items()},
        bar=tuple(BarRun(cells=count, parts=parts) for parts, count in _runs(map(_shares, bar))),
        cash_unit=unit,
        cash=()
        if not unit
        else tuple(
            CashRun(cells=count, cash=cash)
            for cash, count in _runs(_cash(samples, unit, bar, from_us, window.length_us))
        ),
        spans=None
        if not with_spans
        else tuple(
            SpanAnswer(
                from_us=each.from_us,
                until_us=each.until_us,
                available=each.available,
                reason=each.reason,
                kind=kind(each.available, each.reason),
            )
            for each in [each for each in spans if each.until_us > from_us][-MOST_SPANS:]
        ),
    )


def history(lines: Sequence[Transition], limit: int) -> HistoryAnswer:
    """Transitions as the API states them. `lines` has one more than the limit where there are more."""
    return HistoryAnswer(
        lines=tuple(
            HistoryLine(
                at_us=each.at_us,
                broker=each.broker,
                exchange=each.exchange,
                event=each.event,
                before=each.before,
                after=each.after,
                available=each.available,
                reason=each.reason,
                meaning=meaning(each.reason),
                error_count=each.error_count,
                fault=each.fault,
                detail=plain_detail(each.detail),
            )
            for each in lines[-limit:]
        ),
        more=len(lines) > limit,
    )


def heard_transitions(
    spans: Mapping[str, Sequence[Span]], broker: str | None, since_us: int | None, limit: int
) -> list[Transition]:
    """The beginnings of spans as transitions, where the cluster's own store cannot be read."""
    found: list[Transition] = []
    for name, each in spans.items():
        before = ""
        for span in each:
            if broker in (None, name) and (since_us is None or span.from_us >= since_us):
                found.append(
                    Transition(
                        at_us=span.from_us,
                        broker=name,
                        exchange="",
                        event="heard",
                        before=before,
                        after=str(span.reason),
                        available=span.available,
                        reason=span.reason,
                        error_count=0,
                        fault=None,
                        detail="",
                    )
                )
            before = str(span.reason)
    found.sort(key=lambda one: one.at_us)
    return found[-limit:]


def moment_us(text: str, now_us: int) -> int:
    """A moment in a request: µs since 1970, a date in UTC, or how long ago. Raises ValueError."""
    if ago := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return now_us - int(ago[1]) * TIME_UNITS_S[ago[2]] * 1_000_000
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,15}Z", text):
        with suppress(ValueError, OverflowError):
            return round(datetime.fromisoformat(text).timestamp() * 1_000_000)
    raise ValueError(
        "since: expected microseconds since 1970, 2026-11-29T12:00:00Z, or how long ago, such as 90m or 7d"
    )


def _shares(cell: Mapping[Kind, int]) -> dict[Kind, float]:
    whole_us = sum(cell.values()) or 1
    # What is there is never rounded away.
    return {what: max(0.001, round(length_us / whole_us, 3)) for what, length_us in cell.items()}


def _cash(
    samples: Sequence[CashSample], unit: str, bar: Sequence[Mapping[Kind, int]], from_us: int, length_us: int
) -> Iterable[str | None]:
    place = 0
    for number, cell in enumerate(bar, 1):
        end_us = from_us + length_us * number // len(bar)
        while place < len(samples) and samples[place].at_us < end_us:
            place += 1
        newest = samples[place - 1] if place else None
        was_heard = any(what is not Kind.UNHEARD for what in cell)
        yield newest.cash if newest is not None and was_heard and newest.unit == unit else None


def _runs(values: Iterable[_T]) -> list[tuple[_T, int]]:
    found: list[tuple[_T, int]] = []
    for value in values:
        if found and found[-1][0] == value:
            found[-1] = (value, found[-1][1] + 1)
        else:
            found.append((value, 1))
    return found
