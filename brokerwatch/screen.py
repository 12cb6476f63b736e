"""What people and pipes see: a table, a line for each change, or a JSON object for each.

`run` and `listen` both show readings as an outside subscriber hears them, so what stands on the
screen is what the rest of the world was told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from brokerwatch.lines import change_line, emit, json_object, nothing_heard_object
from brokerwatch.listener import Listener
from brokerwatch.messages import Reading

REFRESH_S: Final = 0.25


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
        from brokerwatch.table import LiveTable  # who prints lines does not pay for rich

        live = LiveTable()
    elif not as_json and title:
        emit(title)
    try:
        if live is not None:
            live.start()
        for heard in listener.changes(wait_s=REFRESH_S):
            if live is not None:
                live.show(listener.readings().values(), title=title, caption=caption())
            elif heard is not None:
                if as_json:
                    emit(json_object(heard))
                    shown += 1
                elif _line_key(heard.reading) != lines.get(heard.reading.broker):
                    lines[heard.reading.broker] = _line_key(heard.reading)
                    emit(change_line(heard))
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
