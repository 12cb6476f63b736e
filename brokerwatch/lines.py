"""Readings as text: a JSON object, a line for a pipe, and the words of a table's cells."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from brokerwatch.messages import HealthState, Reading, Reason
from brokerwatch.reception import Heard


def json_object(heard: Heard) -> str:
    """One reading as a JSON object: the wire's own map, with who said it and when beside it."""
    stamp = heard.stamp
    said = {"src": stamp.src, "epoch": stamp.epoch, "seq": stamp.seq, "ts_us": stamp.ts_us}
    return json.dumps({**msgspec.to_builtins(heard.reading.data()), **said}, ensure_ascii=False)


def nothing_heard_object(detail: str) -> str:
    """The JSON object of somebody who never heard anything."""
    said: dict[str, Any] = {
        "broker": None,
        "exchange": None,
        "state": int(HealthState.UNKNOWN),
        "status": "unknown",
        "available": False,
        "reason": str(Reason.NOTHING_HEARD),
        "detail": detail,
    }
    return json.dumps(said)


def emit(line: str) -> None:
    """One line to whoever reads, now: a pipe must not wait for a full buffer."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def change_line(heard: Heard) -> str:
    """One reading as a line for a log or a pipe, with the time at which it was said or ran out."""
    reading = heard.reading
    shown_age = f" ({age(reading)})" if reading.as_of is not None else ""
    return (
        f"{clock_time(max(heard.stamp.ts_us, reading.since_us))} {reading.broker:<16} {reading.status:<12} {reading.reason:<13} "
        f"errors {reading.error_count:<4} cash {cash(reading)}{shown_age} {reading.detail}"
    ).rstrip()


def clock_time(wall_us: int) -> str:
    """The wall clock for people, in their own zone."""
    return datetime.fromtimestamp(wall_us / 1_000_000, tz=UTC).astimezone().strftime("%H:%M:%S")


def cash(reading: Reading) -> str:
    """The cash for people; the word `unknown` where it is."""
    return "unknown" if reading.cash is None else f"{_rounded(reading.cash):,}"


def _rounded(exact: Decimal) -> Decimal:
    """Two digits for people, unless that would show a small amount as zero."""
    rounded = exact.quantize(Decimal("0.01"))
    return exact if exact and not rounded else rounded


def age(reading: Reading) -> str:
    """The age of the balance for people; empty when there is none."""
    age_ms = reading.age_ms
    if age_ms is None:
        return ""
    seconds = age_ms / 1_000
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
