"""Files of JSON lines that survive a kill: each line is one write."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class LineFile:
    """Appends lines to a file, each with its moment. Any thread may write."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # What a kill cut off stays a line of its own.
        self._before = b"\n" if path.stat().st_size else b""

    def write(self, at_s: float | None = None, /, **line: object) -> None:
        """Write one line; `at_s` is a moment of the machine's monotonic clock, now unless given.

        Raises OSError where the disk takes nothing.
        """
        # Not `monotonic()`, which a round may have replaced in this program.
        stamped = {"at_s": time.perf_counter() if at_s is None else at_s, **line}
        with self._lock:
            os.write(self._file, self._before + json.dumps(stamped, separators=(",", ":")).encode() + b"\n")
            self._before = b""

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file that are whole; none where there is no file."""
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # its writer was killed in it
        if isinstance(line, dict):
            yield line
