"""What people and pipes see: a table, a line for each change, or a JSON object for each.

The doors (`run`, `listen`, `status`) all show readings as an outside subscriber hears them, so what
stands on the screen is what the rest of the world was told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from brokerwatch.listener import Listener
from brokerwatch.messages import HealthState, Reading, Reason
from brokerwatch.reception import Heard

REFRESH_S: Final = 0.25

_STYLE: Final = {
    HealthState.UNKNOWN: "dim",
    HealthState.HEALTHY: "green",
    HealthState.DEGRADED: "yellow",
    HealthState.UNAVAILABLE: "bold red",
    HealthState.RECOVERING: "yellow",
    HealthState.MAINTENANCE: "cyan",
}


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


def change_line(reading: Reading) -> str:
    """One reading as a line for a log or a pipe."""
    return (
        f"{_clock_time(reading.since_us)} {reading.broker:<16} {reading.status:<12} {reading.reason:<13} "
        f"errors {reading.error_count:<4} cash {_cash(reading)}{_age(reading)} {reading.detail}"
    ).rstrip()


def table(readings: Iterable[Reading], *, title: str, caption: str) -> Table:
    """All readings, one a row."""
    shown = Table(title=title, caption=caption, title_justify="left", caption_justify="left", expand=False)
    # The widest word of each column from the start, or the table would jump with every change.
    for name, width in (("broker", 0), ("status", 11), ("reason", 10)):
        shown.add_column(name, no_wrap=True, min_width=width)
    for name, width in (("since", 8), ("errors", 6), ("cash", 10), ("age", 6)):
        shown.add_column(name, justify="right", no_wrap=True, min_width=width)
    shown.add_column("detail", overflow="ellipsis", no_wrap=True, min_width=24, max_width=48)
    for reading in sorted(readings, key=lambda reading: reading.broker):
        state = HealthState.UNKNOWN if reading.expired else reading.state
        trusted = reading.available
        style = _STYLE[state] if trusted or state is not HealthState.HEALTHY else "red"
        shown.add_row(
            reading.broker,
            Text(state.name.lower(), style=style),
            Text(str(reading.reason), style="" if trusted else style),
            _clock_time(reading.since_us),
            str(reading.error_count),
            _cash(reading),
            _age(reading).strip(" ()"),
            reading.detail,
        )
    return shown


def watch(
    listener: Listener,
    stopping: Callable[[], bool],
    *,
    as_json: bool = False,
    title: str = "",
    caption: Callable[[], str] = lambda: "",
    count: int | None = None,
    quiet_after_s: float = float("inf"),
    on_quiet: Callable[[], str] = lambda: "",
    up_s: Callable[[], float],
) -> bool:
    """Show what the listener hears, until `stopping()`, or until `count` objects were shown.

    When nothing at all was heard for `quiet_after_s`, says `on_quiet()` once. True when anything was heard.
    """
    shown = 0
    lines: dict[str, tuple[object, ...]] = {}
    quiet_at_s = up_s() + quiet_after_s
    live = None
    if not as_json and sys.stdout.isatty() and count is None:
        live = Live(console=Console(), auto_refresh=False)
    elif not as_json and title:
        emit(title)
    try:
        if live is not None:
            live.start()
        for heard in listener.changes(wait_s=REFRESH_S):
            if live is not None:
                live.update(table(listener.readings().values(), title=title, caption=caption()), refresh=True)
            elif heard is not None:
                if as_json:
                    emit(json_object(heard))
                    shown += 1
                elif _line_key(heard.reading) != lines.get(heard.reading.broker):
                    lines[heard.reading.broker] = _line_key(heard.reading)
                    emit(change_line(heard.reading))
                    shown += 1
            elif up_s() >= quiet_at_s and not listener.readings():
                quiet_at_s = float("inf")
                emit(nothing_heard_object(on_quiet()) if as_json else on_quiet())
                shown += 1
            if stopping() or (count is not None and shown >= count):
                break
    finally:
        if live is not None:
            live.stop()
    return bool(listener.readings())


def _line_key(reading: Reading) -> tuple[object, ...]:
    """What makes another line worth reading: not each successful poll that found the same money."""
    return (reading.state, reading.verdict, reading.error_count, reading.cash)


def _clock_time(wall_us: int) -> str:
    return datetime.fromtimestamp(wall_us / 1_000_000, tz=UTC).astimezone().strftime("%H:%M:%S")


def _cash(reading: Reading) -> str:
    return "unknown" if reading.cash is None else f"{_rounded(reading.cash):,}"


def _rounded(cash: Decimal) -> Decimal:
    """Two digits for people, unless that would show a small amount as zero."""
    rounded = cash.quantize(Decimal("0.01"))
    return cash if cash and not rounded else rounded


def _age(reading: Reading) -> str:
    age_ms = reading.age_ms
    if age_ms is None:
        return ""
    seconds = age_ms / 1_000
    return f" ({seconds:.1f} s)" if seconds < 60 else f" ({seconds / 60:.0f} min)"
