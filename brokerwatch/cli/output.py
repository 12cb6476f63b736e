"""Lines written for a reader that may be slow, closed or full."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

from brokerwatch.errors import ReaderGone
from brokerwatch.log import escaped

STDOUT: Final = 1


LINES_AHEAD: Final = 1_000
"""Lines that wait for a slow reader."""


LOOK_UP_S: Final = 0.1


FLUSH_S: Final = 1.0
"""What is written within so long after a stop is still written."""


class LineWriter:
    """Standard output, one line at a time and at once, on a thread of its own.

    A pipe that is not read blocks the thread that writes to it, and a blocked program cannot be stopped.
    So a thread of its own may block, and `emit` waits only as long as `stopping()` is false.
    """

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._waiting: queue.Queue[bytes | None] = queue.Queue(LINES_AHEAD)
        self._gone = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._write, name="brokerwatch-lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put(None)
        while self._thread.is_alive() and not self._stopping():
            self._thread.join(LOOK_UP_S)
        self._thread.join(FLUSH_S)

    def emit(self, line: str) -> None:
        """One line, in which nothing can change the terminal or begin another line. Raises ReaderGone."""
        self._put(escaped(line).encode("utf-8", "replace") + b"\n")

    def _put(self, text: bytes | None) -> None:
        while not self._gone.is_set():
            try:
                self._waiting.put(text, timeout=LOOK_UP_S)
            except queue.Full:
                if self._stopping():
                    return
            else:
                return
        if text is not None:
            raise ReaderGone

    def _write(self) -> None:
        while (text := self._waiting.get()) is not None:
            try:
                # Not through sys.stdout: a thread that blocks in there would block the end of Python too.
                while text:
                    text = text[os.write(STDOUT, text) :]
            except (BrokenPipeError, ConnectionResetError):
                self._gone.set()
                return
            except OSError as error:
                # A full disk is no reason to stop watching.
                if not self._complained:
                    sys.stderr.write(f"brokerwatch: lines are lost, standard output: {error.strerror}\n")
                self._complained = True


def emit_all(lines: Iterable[str]) -> None:
    """The lines of a program that says a few and ends; waits for its reader. Raises ReaderGone."""
    with LineWriter(lambda: False) as out:
        for line in lines:
            out.emit(line)
