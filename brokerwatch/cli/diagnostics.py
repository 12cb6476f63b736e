"""What `brokerwatch doctor` does: its lines on a terminal, on a pipe and as JSON."""

from __future__ import annotations

import logging
import queue
import shutil
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TextIO

from brokerwatch.cli import exits
from brokerwatch.cli.config_lookup import config_path
from brokerwatch.cli.fitting import wrapped
from brokerwatch.cli.output import LOOK_UP_S
from brokerwatch.cli.output import LineWriter as Out
from brokerwatch.cli.signals import Stop, stop_signals
from brokerwatch.config.loader import examine, examine_supervised
from brokerwatch.gateway.catalogue import Catalogue
from brokerwatch.preflight.diagnosis import Line, count, written, written_json
from brokerwatch.preflight.doctor import Diagnostics

_INDENT: Final = 6
"""As far as the word that says how a look ended."""


def run(
    config: Path | None,
    *,
    as_json: bool,
    only: Collection[str] = (),
    supervises: bool = False,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Look at all of it and say so. The exit status. Raises ConfigError where there is nothing to look at.

    `only`: the accounts that a node runs; none named: all. `supervises`: it is a supervisor alone,
    whose accounts run elsewhere.
    """
    path = config_path(config)
    logging.getLogger("brokerwatch").propagate = False  # what the parts would log stands in the lines
    with stop_signals() as stopped, ExitStack() as stack:
        if supervises:
            examined = examine_supervised(path, environment=environment)
        else:
            examined = examine(path, Catalogue(), environment=environment, only=only)
        if sys.stdout.isatty():
            emit = _to_terminal if as_json else _in_words_of_a_terminal
        else:
            emit = stack.enter_context(Out(stopped.is_set)).emit
        looks = Diagnostics(path, examined)
        shown: list[Line] = []
        for line in _as_they_come(looks, stopped):
            shown.append(line)
            emit(written_json(line) if as_json else written(line, looks.width))
        if stopped.is_set():
            sys.stderr.write("brokerwatch: stopped before the end; what is not shown was not looked at\n")
            return exits.INTERRUPTED
        if not as_json:
            emit(count(shown))
    return exits.of_lines(shown)


def _to_terminal(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _in_words_of_a_terminal(line: str) -> None:
    """What is too long for a line goes on below it, and no word is cut."""
    for part in wrapped(line, shutil.get_terminal_size().columns - 1, _INDENT):
        _to_terminal(part)


def _as_they_come(looks: Diagnostics, stopped: Stop) -> Iterator[Line]:
    """The lines, each as soon as it is there, until the end or until the user stops it."""
    coming: queue.SimpleQueue[Line | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            with looks:
                for line in looks.lines():
                    coming.put(line)
                    if stopped.is_set():
                        return
            coming.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again on the main thread
            coming.put(error)

    threading.Thread(target=work, name="brokerwatch-looks", daemon=True).start()
    waiting = Waiting(sys.stderr)
    try:
        while not stopped.is_set():
            try:
                found = coming.get(timeout=LOOK_UP_S)
            except queue.Empty:
                waiting.show(looks.waits_for)
                continue
            waiting.clear()
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        waiting.clear()


class Waiting:
    """A line in a terminal that says what is waited for, and leaves nothing behind; in a pipe, nothing."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._is_one = terminal.isatty()
        self._since_s = time.monotonic()
        self._drawn = 0

    def show(self, what: str) -> None:
        """Draw it in place of what stood there."""
        if not self._is_one:
            return
        text = f"looking: {what} … {time.monotonic() - self._since_s:.0f} s"
        text = text[: max(1, shutil.get_terminal_size().columns - 1)]
        self._terminal.write(f"\r{text:<{self._drawn}}")
        self._terminal.flush()
        self._drawn = len(text)

    def clear(self) -> None:
        """Take it away."""
        if self._drawn:
            self._terminal.write(f"\r{'':<{self._drawn}}\r")
            self._terminal.flush()
            self._drawn = 0
