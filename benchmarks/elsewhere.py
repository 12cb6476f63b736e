"""Another process, on another core, that gets requests as JSON lines and answers in JSON lines.

It ends when its standard input ends, so no process is left behind, however the bench ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.measure import ROOT, placed

PATIENCE_S: Final = 10.0


class Elsewhere:
    """A part of a bench: `python -m benchmarks.MODULE PART` on the core `core` of `measure.CORES`."""

    def __init__(self, module: str, part: str, *, core: int = -1) -> None:
        with placed(core):
            self._process = subprocess.Popen(
                (sys.executable, "-m", f"benchmarks.{module}", part),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )

    def tell(self, **words: Any) -> None:
        """Send a request, without waiting for an answer."""
        stream = self._process.stdin
        if stream is None:
            raise RuntimeError("it was closed")
        stream.write(json.dumps(words) + "\n")
        stream.flush()

    def hear(self) -> Any:
        """Wait for its next answer. Raises RuntimeError when the process has ended."""
        stream = self._process.stdout
        line = "" if stream is None else stream.readline()
        if not line:
            raise RuntimeError("the other process has ended; what it printed stands above")
        return json.loads(line)

    def ask(self, **words: Any) -> Any:
        """Send a request and wait for the answer."""
        self.tell(**words)
        return self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def heard() -> Iterator[dict[str, Any]]:
    """In the other process: each request, until the bench ends."""
    for line in sys.stdin:
        yield json.loads(line)


def answer(words: object) -> None:
    """In the other process: send an answer."""
    print(json.dumps(words), flush=True)
