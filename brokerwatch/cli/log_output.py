"""The log of a program: its level, its form, where it goes, and a count in place of a storm.

The library itself configures no logging: a trader's process has a configuration of its own. What is set up
here is that of `brokerwatch run` and the other commands that stay.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from brokerwatch.clock import local_text
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.log import FIELDS

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
ALIKE: Final = 5
"""So many lines that differ in their details alone are written in `WINDOW_S`; further ones are counted."""
WINDOW_S: Final = 60.0
_MOST_KEYS: Final = 1_000


@dataclass(frozen=True, slots=True)
class LogChoice:
    """What the options of a command say about its log."""

    level: str = "warning"
    form: str = "text"
    file: Path | None = None
    """None: standard error, and above the table where there is one."""


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options `--log-level`, `--log-format` and `--log-file` of a command that stays.

    The command gets what they say as `log`, a LogChoice.
    """

    @functools.wraps(command)
    def with_log(*, log_level: str, log_format: str, log_file: Path | None, **others: Any) -> None:
        command(**others, log=LogChoice(log_level, log_format, log_file))

    decorated: Callable[..., None] = with_log
    for option in (
        click.option(
            "--log-file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write the log there; it is opened anew after a rotation. Default: standard error.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(FORMATS),
            default="text",
            show_default=True,
            help="json: one object a line, with the field names of the wire.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(LEVELS),
            default="warning",
            show_default=True,
            help="From here on.",
        ),
    ):
        decorated = option(decorated)
    return decorated


@contextmanager
def logging_to(choice: LogChoice, above: deque[str] | None = None) -> Generator[None]:
    """Set up the log of this process while the block lasts.

    Args:
        choice: what the options say.
        above: where a table is shown, the lines that are to stand above it; None: they go to standard error.

    Raises:
        ConfigError: the file cannot be written.
    """
    handler: logging.Handler
    if choice.file is not None:
        try:
            from logging.handlers import WatchedFileHandler

            handler = WatchedFileHandler(choice.file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            expected = f"expected a file that can be written: {error.strerror}"
            raise ConfigError((Problem("", "--log-file", expected),)) from error
        # Texts of exchanges may quote amounts.
        choice.file.chmod(choice.file.stat().st_mode & 0o640)
    elif above is not None:
        handler = _Above(above)
    else:
        handler = logging.StreamHandler(sys.stderr)
    plain = TableForm() if choice.file is None and above is not None else TextForm()
    handler.setFormatter(JsonForm() if choice.form == "json" else plain)
    calm = Calm(handler)
    root = logging.getLogger()
    before = root.level
    root.addHandler(calm)
    root.setLevel(choice.level.upper())
    try:
        yield
    finally:
        root.removeHandler(calm)
        root.setLevel(before)
        calm.close()
        while above:  # no table was drawn, or it ended before
            sys.stderr.write(f"{above.popleft()}\n")


class TextForm(logging.Formatter):
    """A line for people, with the moment in local time."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        line = f"{_moment(record)} {record.levelname} {record.name}: {record.message}"
        return (
            f"{line}\n{record.exc_text or self.formatException(record.exc_info)}" if record.exc_info else line
        )


class TableForm(logging.Formatter):
    """A short line above a table: the time of day and what is said."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.WARNING else f"{record.levelname} "
        return f"{_moment(record).partition(' ')[2]} {level}{record.getMessage()}"


class JsonForm(logging.Formatter):
    """One JSON object, whose fields about an account are named as on the wire."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "ts_us": round(record.created * 1_000_000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= getattr(record, FIELDS, {})
        if record.exc_info:
            said["traceback"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)


def _moment(record: logging.LogRecord) -> str:
    return local_text(round(record.created * 1_000_000))


class _Above(logging.Handler):
    """Keeps each line for the thread that draws the table."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


class Calm(logging.Handler):
    """Writes the first lines of a storm, and how many more there were in place of the others.

    Lines are alike when they were written by one place of the program about one account, whatever stands in
    their details. `behind` writes what is left.
    """

    def __init__(self, behind: logging.Handler, window_s: float = WINDOW_S) -> None:
        super().__init__()
        self._behind = behind
        self._window_s = window_s
        self._alike: dict[tuple[str, int, str, str], _Alike] = {}
        self._swept_s = 0.0
        """When the kinds whose window is over were last forgotten, by the clock of the records."""

    def emit(self, record: logging.LogRecord) -> None:
        argument = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        key = (record.name, record.lineno, str(record.msg), str(argument))
        alike = self._alike.get(key)
        if alike is None:
            if len(self._alike) >= _MOST_KEYS or record.created >= self._swept_s + self._window_s:
                self._forget(record.created)
                self._swept_s = record.created
            alike = self._alike[key] = _Alike(record.created + self._window_s)
        elif record.created >= alike.until_s:
            self._tell(key)
            alike = self._alike[key] = _Alike(record.created + self._window_s)
        alike.count += 1
        if alike.count <= ALIKE:
            self._behind.handle(record)
            return
        alike.last = record
        if alike.timer is None:
            alike.timer = threading.Timer(max(0.0, alike.until_s - record.created), self._end, (key, alike))
            alike.timer.name, alike.timer.daemon = "brokerwatch-log", True
            alike.timer.start()

    def close(self) -> None:
        """Tell what was counted, and end."""
        with self.lock or threading.RLock():
            for key in tuple(self._alike):
                self._tell(key)
        self._behind.close()
        super().close()

    def _end(self, key: tuple[str, int, str, str], alike: _Alike) -> None:
        with self.lock or threading.RLock():
            if self._alike.get(key) is alike:
                self._tell(key)

    def _forget(self, now_s: float) -> None:
        for key, alike in tuple(self._alike.items()):
            if now_s >= alike.until_s or len(self._alike) >= _MOST_KEYS:
                self._tell(key)

    def _tell(self, key: tuple[str, int, str, str]) -> None:
        """Write how many lines were not written, with the newest of them."""
        alike = self._alike.pop(key)
        if alike.timer is not None:
            alike.timer.cancel()
        last = alike.last
        if last is not None:
            more = alike.count - ALIKE - 1
            if more:
                last.msg, last.args = "%s (and %d more like it)", (last.getMessage(), more)
            self._behind.handle(last)


class _Alike:
    """Lines that are alike."""

    __slots__ = ("count", "last", "timer", "until_s")

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s
        self.count = 0
        self.last: logging.LogRecord | None = None
        self.timer: threading.Timer | None = None
