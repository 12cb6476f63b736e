"""The live table in a terminal: one row for each account. The only file that imports rich."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from brokerwatch.cli.text import age, cash, clock_time
from brokerwatch.log import escaped
from brokerwatch.messages import HealthState, Reading

_STYLE: Final = {
    HealthState.UNKNOWN: "dim",
    HealthState.HEALTHY: "green",
    HealthState.DEGRADED: "yellow",
    HealthState.UNAVAILABLE: "bold red",
    HealthState.RECOVERING: "yellow",
    HealthState.MAINTENANCE: "cyan",
}


_FIXED: Final = len("available") + 11 + 13 + 6 + 6 + 7 * 3 + 1
"""Characters of the columns that are always there, but for names and cash, with their borders."""
_SINCE: Final = 8 + 3
_DETAIL: Final = 16 + 3


class LiveTable:
    """A table that stays where it is and changes, while the block lasts."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, readings: Iterable[Reading], *, caption: str) -> None:
        """Draw this in place of what stood there."""
        self._live.update(table(readings, caption=caption, width=self._console.width), refresh=True)


def table(readings: Iterable[Reading], *, caption: str, width: int) -> Table:
    """All readings, one a row, in `width` characters: where it is narrow, what matters least is left out."""
    rows = sorted(readings, key=lambda reading: reading.broker)
    # The widest word of each column from the start, or the table would jump with every change.
    name_width = max([len("broker"), *(len(reading.broker) for reading in rows)])
    cash_width = max([10, *(len(cash(reading)) for reading in rows)])
    room = width - name_width - cash_width - _FIXED
    answer = "available" if room >= 0 else "use"
    room += len("available") - len(answer)
    shown = Table(caption=caption, caption_justify="left", expand=False)
    shown.add_column("broker", no_wrap=True, min_width=name_width)
    shown.add_column(answer, no_wrap=True, min_width=len(answer))
    shown.add_column("status", no_wrap=True, min_width=11)
    shown.add_column("reason", no_wrap=True, min_width=13)
    with_errors = room >= 0
    with_since, with_detail = room >= _SINCE, room >= _SINCE + _DETAIL
    left_out = {"since": not with_since, "errors": not with_errors}
    for name, least in (("since", 8), ("errors", 6), ("cash", cash_width), ("age", 6)):
        if not left_out.get(name):
            shown.add_column(name, justify="right", no_wrap=True, min_width=least)
    if with_detail:
        left = room - _SINCE - 3
        shown.add_column("detail", overflow="ellipsis", no_wrap=True, min_width=left, max_width=left)
    for reading in rows:
        state = HealthState.UNKNOWN if reading.expired else reading.state
        style = _STYLE[state] if reading.available or state is not HealthState.HEALTHY else "red"
        cells: list[str | Text] = [
            reading.broker,
            Text("yes" if reading.available else "no", style="green" if reading.available else "bold red"),
            Text(state.name.lower(), style=style),
            Text(str(reading.reason), style="" if reading.available else style),
            *([clock_time(reading.since_us)] if with_since else []),
            *([str(reading.error_count)] if with_errors else []),
            cash(reading),
            age(reading),
            *([Text(escaped(reading.detail))] if with_detail else []),
        ]
        shown.add_row(*cells)
    return shown
