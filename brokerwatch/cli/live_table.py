"""The live table in a terminal: one row for each account, and a line for each that is not available.

The only file that imports rich. What stands in the table fits 80 columns. What is longer stands below it in
the whole width: why an account is not available, and what helps.
"""

from __future__ import annotations

import sys
import termios
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from brokerwatch.cli.text import age, cash, clock_time, key_warnings, parts, trouble
from brokerwatch.health.plain_words import plain_detail
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

_FIXED: Final = len("available") + 13 + 6 + 5 * 3 + 1
"""Characters of the columns that are always there, but for names and cash, with their borders."""
_STATUS: Final = 11 + 3
_ERRORS: Final = 6 + 3
_SINCE: Final = 8 + 3
_FRAME: Final = 4
"""Lines of a table beside its rows: the head and the borders."""
LEAST_NOTES: Final = 3
"""So many lines below the table are shown however low the terminal is."""


class LiveTable:
    """A table that stays where it is and changes, while the block lasts."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._echo: list[object] | None = None

    def __enter__(self) -> Self:
        self._echo = _without_echo_of_control_keys()
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._echo is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._echo)  # type: ignore[arg-type] # as it was read

    def say(self, line: str) -> None:
        """Write a line above the table, where it stays."""
        self._console.print(Text(line))

    def show(self, readings: Iterable[Reading], *, caption: str) -> None:
        """Draw this in place of what stood there."""
        size = self._console.size
        self._live.update(
            screenful(readings, caption=caption, width=size.width, height=size.height), refresh=True
        )


def _without_echo_of_control_keys() -> list[object] | None:
    """Let the terminal not write `^C` into the table. Returns what it was set to; None: it is no terminal."""
    try:
        before = termios.tcgetattr(sys.stdin.fileno())
        quiet = [*before[:3], before[3] & ~termios.ECHOCTL, *before[4:]]
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, quiet)
    except (termios.error, OSError, ValueError):
        return None
    return before


def screenful(readings: Iterable[Reading], *, caption: str, width: int, height: int) -> RenderableType:
    """The table, the caption, and as many notes below it as the terminal has lines for."""
    rows = sorted(readings, key=lambda reading: reading.broker)
    below = caption.count("\n") + 1
    room = max(LEAST_NOTES, height - len(rows) - _FRAME - below - 1)
    return Group(table(rows, width=width), Text(caption, style="italic"), *_notes(rows, width, room))


def _notes(rows: Iterable[Reading], width: int, room: int) -> Iterator[Text]:
    """A line for each account that is not available, for each cash that is unknown, for each warning about a
    key, and for each cash that is a sum."""
    rows = tuple(rows)
    lines = [(trouble(one, width - 1), "red") for one in rows if not one.available]
    lines += [
        (f"{one.broker}: cash unknown, not zero: {plain_detail(one.detail)}", "yellow")
        for one in rows
        if one.available and one.cash is None and one.as_of is not None and one.detail
    ]
    lines += [(f"{one.broker}: {words}", "yellow") for one in rows for words in key_warnings(one)]
    lines += [(f"{one.broker}: {cash(one)} is {parts(one)}", "dim") for one in rows if parts(one)]
    shown = lines if len(lines) <= room else lines[: room - 1]
    for line, style in shown:
        note = Text(escaped(line), style=style, no_wrap=True, overflow="ellipsis")
        note.truncate(width - 1, overflow="ellipsis")
        yield note
    if len(shown) < len(lines):
        yield Text(f"and {len(lines) - len(shown)} more: brokerwatch status", style="dim")


def table(rows: Iterable[Reading], *, width: int) -> Table:
    """One row for each reading, in `width` characters: where it is narrow, what matters least is left out."""
    rows = tuple(rows)
    # The widest word of each column from the start, or the table would jump with every change.
    name_width = max([len("broker"), *(len(reading.broker) for reading in rows)])
    cash_width = max([10, *(len(cash(reading)) for reading in rows)])
    room = width - name_width - cash_width - _FIXED
    answer = "available" if room >= 0 else "use"
    room += len("available") - len(answer)
    left_out = set[str]()
    for name, needed in (("status", _STATUS), ("errors", _ERRORS), ("since", _SINCE)):
        if room < needed:
            left_out.add(name)
        else:
            room -= needed
    shown = Table(expand=False)
    shown.add_column("broker", no_wrap=True, min_width=name_width)
    shown.add_column(answer, no_wrap=True, min_width=len(answer))
    for name, least, justify in (
        ("status", 11, "left"),
        ("reason", 13, "left"),
        ("since", 8, "right"),
        ("errors", 6, "right"),
        ("cash", cash_width, "right"),
        ("age", 6, "right"),
    ):
        if name not in left_out:
            shown.add_column(name, justify=justify, no_wrap=True, min_width=least)  # type: ignore[arg-type] # a literal
    for reading in rows:
        state = HealthState.UNKNOWN if reading.expired else reading.state
        style = _STYLE[state] if reading.available or state is not HealthState.HEALTHY else "red"
        cells: dict[str, str | Text] = {
            "broker": reading.broker,
            answer: Text(
                "yes" if reading.available else "no", style="green" if reading.available else "bold red"
            ),
            "status": Text(state.name.lower(), style=style),
            "reason": Text(str(reading.reason), style="" if reading.available else style),
            "since": clock_time(reading.since_us),
            "errors": str(reading.error_count),
            "cash": cash(reading),
            "age": age(reading),
        }
        shown.add_row(*(cell for name, cell in cells.items() if name not in left_out))
    return shown
