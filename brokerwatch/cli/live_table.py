"""The live table in a terminal: one row for each account, and a line for each that is not available.

The only file that imports rich. What stands in the table fits 80 columns: long names are shortened in the
middle, and no answer and no amount is. What is longer stands below it in the whole width: why an account is
not available, and what helps. Where the terminal has fewer lines than there are accounts, those that are out
come first, and the others are counted.
"""

from __future__ import annotations

import sys
import termios
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from brokerwatch.cli.fitting import short_names, wrapped
from brokerwatch.cli.text import age, cash, clock_time, parts, trouble, warnings_of
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
_REASON: Final = 13 + 3
_AGE: Final = 6 + 3
_LEAST_NAME: Final = 12
"""Names are shortened to so many characters; below that, columns are left out."""
_FRAME: Final = 4
"""Lines of a table beside its rows: the head and the borders."""
LEAST_NOTES: Final = 3
"""So many lines below the table are shown however low the terminal is."""
_ASIDE: Final = "dim"
"""The style of notes that have no trouble to tell."""
_NOTES_SHARE: Final = 3
"""Where accounts have to be left out, their notes have a third of the terminal."""


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
    names = short_names([one.broker for one in rows], _name_room(rows, width))
    notes = list(_notes(rows, names, width))
    wanted = sum(len(lines) for lines, _ in notes)
    below = sum(len(wrapped(line, width)) for line in caption.splitlines() or [""])
    usable = height - _FRAME - below - 1
    room = max(LEAST_NOTES, usable - len(rows))
    urgent = sum(len(lines) for lines, style in notes if style != _ASIDE)
    rest: list[Text] = []
    if len(rows) + min(wanted, LEAST_NOTES) > usable:
        room = max(LEAST_NOTES, min(urgent + 1, height // _NOTES_SHARE))
        rows.sort(key=lambda one: (one.available, one.cash is not None))  # the others keep their order
        shown = max(1, usable - room - 1)
        rest.append(_count(rows[shown:]))
        rows = rows[:shown]
    shown_names = {one.broker: names[one.broker] for one in rows}
    return Group(
        table(rows, width=width, names=shown_names),
        *rest,
        Text(caption, style="italic"),
        *_fitting(notes, room),
    )


def _count(left_out: list[Reading]) -> Text:
    """What stands below a table that has no room for these accounts."""
    lost = sum(not one.available for one in left_out)
    state = f"{lost} of them not available: brokerwatch status" if lost else "all available"
    return Text(f"and {len(left_out)} more accounts, {state}", style="bold red" if lost else "dim")


_Note = tuple[list[str], str]
"""Its lines, and their style."""


def _notes(rows: Iterable[Reading], names: Mapping[str, str], width: int) -> Iterator[_Note]:
    """A note for each account that is not available, for each cash that is unknown, for each warning about a
    key, and for each cash that is a sum."""
    rows = tuple(rows)
    for one in rows:
        if not one.available:
            yield wrapped(escaped(trouble(one, width - 1, names[one.broker])), width - 1), "red"
    for one in rows:
        if one.available and one.cash is None and one.as_of is not None and one.detail:
            text = f"{names[one.broker]}: cash unknown, not zero: {plain_detail(one.detail)}"
            yield wrapped(escaped(text), width - 1), "yellow"
    for one in rows:
        for words in warnings_of(one):
            yield wrapped(escaped(f"{names[one.broker]}: {words}"), width - 1), "yellow"
    for one in rows:
        if parts(one):
            text = f"{names[one.broker]}: {cash(one)} is {parts(one)}"
            yield wrapped(escaped(text), width - 1), _ASIDE


def _fitting(notes: list[_Note], room: int) -> Iterator[Text]:
    """The notes for which there is room, each of them whole, and how many more there are."""
    wanted = sum(len(lines) for lines, _ in notes)
    if wanted > room:
        room -= 1
    shown = 0
    for lines, style in notes:
        if len(lines) > room:
            break
        room -= len(lines)
        shown += 1
        for line in lines:
            yield Text(line, style=style, no_wrap=True, overflow="crop")
    if shown < len(notes):
        yield Text(f"and {len(notes) - shown} more: brokerwatch status", style="dim")


def _name_room(rows: Iterable[Reading], width: int) -> int:
    """How many characters a name may have, beside the columns that are always there."""
    room = width - _cash_width(rows) - _FIXED + len("available") - len("use")
    for column in (_AGE, _REASON):
        if room < _LEAST_NAME:
            room += column
    return max(_LEAST_NAME, room)


def _cash_width(rows: Iterable[Reading]) -> int:
    return max([10, *(len(cash(reading)) for reading in rows)])


def table(rows: Iterable[Reading], *, width: int, names: Mapping[str, str]) -> Table:
    """One row for each reading, in `width` characters: where it is narrow, what matters least is left out."""
    rows = tuple(rows)
    # The widest word of each column from the start, or the table would jump with every change.
    name_width = max([len("broker"), *map(len, names.values())])
    cash_width = _cash_width(rows)
    room = width - name_width - cash_width - _FIXED
    answer = "available" if room >= 0 else "use"
    room += len("available") - len(answer)
    left_out = set[str]()
    for name, freed in (("age", _AGE), ("reason", _REASON)):  # the reason stands below the table too
        if room < 0:
            left_out.add(name)
            room += freed
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
        cells = {
            "broker": Text(escaped(names[reading.broker])),
            answer: Text(
                "yes" if reading.available else "no", style="green" if reading.available else "bold red"
            ),
            "status": Text(state.name.lower(), style=style),
            "reason": Text(str(reading.reason), style="" if reading.available else style),
            "since": Text(clock_time(reading.since_us)),
            "errors": Text(str(reading.error_count)),
            "cash": Text(escaped(cash(reading))),
            "age": Text(age(reading)),
        }
        shown.add_row(*(cell for name, cell in cells.items() if name not in left_out))
    return shown
