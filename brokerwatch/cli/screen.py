"""What people and pipes see: a table, a line for each change, or a JSON object for each.

`run` and `listen` both show readings as an outside subscriber hears them, so what stands on the
screen is what the rest of the world was told.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from brokerwatch.bus.listener import Listener
from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.cli.output import LineWriter
from brokerwatch.cli.streams import can_draw
from brokerwatch.cli.text import change_line, json_object, name_width, nothing_heard_object
from brokerwatch.messages import Reading

REFRESH_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Screen:
    """How to show what a listener hears."""

    listener: Listener
    stopping: Callable[[], bool]
    """Asked several times a second; the showing ends when it is true."""
    up_s: Callable[[], float]
    """Monotonic seconds."""
    as_json: bool
    title: str
    caption: Callable[[], str]
    """Stands below the table; asked at each refresh."""
    count: int | None = None
    """End after so many lines or objects."""
    quiet_after_s: float = float("inf")
    """When nothing at all was heard for so long, say so once."""
    on_quiet: str = ""
    above: deque[str] = field(default_factory=deque[str])
    """Lines that are to stand above the table, such as warnings. Any thread adds to it."""

    def show(self) -> bool:
        """Show until it is stopped. True when anything was heard. Raises ReaderGone."""
        if not self.as_json and self.count is None and can_draw():
            self._table()
        else:
            self._lines()
        return bool(self.listener.readings())

    def _table(self) -> None:
        from brokerwatch.cli.live_table import LiveTable  # who prints lines does not pay for rich

        sys.stdout.write(f"{self.title}\n")  # outside the table, which could cut it
        with LiveTable() as table:
            for _ in self.listener.changes(wait_s=REFRESH_S, known=True):
                while self.above:
                    table.say(self.above.popleft())
                table.show(self.listener.readings().values(), caption=self.caption())
                if self.stopping():
                    return

    def _lines(self) -> None:
        shown = 0
        last: dict[str, tuple[object, ...]] = {}
        quiet_at_s = self.up_s() + self.quiet_after_s
        with LineWriter(self.stopping) as lines:
            if not self.as_json:
                for line in self.title.splitlines():
                    lines.emit(line)
            # A program that reads JSON computes the age of a balance from each of its renewals.
            changes = self.listener.changes(wait_s=REFRESH_S, known=True, renewals=self.as_json)
            for change in changes:
                if change is not None and change.stamp is not None:
                    received = ReceivedReading(change.after, change.stamp)
                    key = _line_key(change.after)
                    if self.as_json or key != last.get(change.broker):
                        last[change.broker] = key
                        width = name_width(self.listener.readings())
                        lines.emit(json_object(received) if self.as_json else change_line(received, width))
                        shown += 1
                elif self.up_s() >= quiet_at_s and not self.listener.readings():
                    quiet_at_s = float("inf")
                    lines.emit(nothing_heard_object(self.on_quiet) if self.as_json else self.on_quiet)
                    shown += 1
                if self.stopping() or shown == self.count:
                    return


def _line_key(reading: Reading) -> tuple[object, ...]:
    """What makes another line worth reading: not each successful poll that found the same money."""
    return (reading.state, reading.verdict, reading.error_count, reading.cash)
