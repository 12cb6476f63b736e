"""The live table in a terminal: one row for each account. The only file that imports rich."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from brokerwatch.lines import age, cash, clock_time
from brokerwatch.messages import HealthState, Reading

_STYLE: Final = {
    HealthState.UNKNOWN: "dim",
    HealthState.HEALTHY: "green",
    HealthState.DEGRADED: "yellow",
    HealthState.UNAVAILABLE: "bold red",
    HealthState.RECOVERING: "yellow",
    HealthState.MAINTENANCE: "cyan",
}


class LiveTable:
    """A table that stays where it is and changes, while the block lasts."""

    def __init__(self) -> None:
        self._live = Live(console=Console(), auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, readings: Iterable[Reading], *, title: str, caption: str) -> None:
        """Draw this in place of what stood there."""
        self._live.update(table(readings, title=title, caption=caption), refresh=True)


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
            clock_time(reading.since_us),
            str(reading.error_count),
            cash(reading),
            age(reading),
            reading.detail,
        )
    return shown
