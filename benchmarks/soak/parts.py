"""Another process of a soak, with JSON lines in both directions. Answers are taken in whenever they come."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from benchmarks.measure import ROOT
from benchmarks.soak.proc import WITHOUT_SPARES

PATIENCE_S: Final = 30.0
"""An answer that takes longer does not come any more: other programs may use the machine too."""


class PartFailed(Exception):
    """Another process of the soak has ended by itself, or does not answer."""


class Part:
    """`python -m benchmarks.soak.MODULE`. It ends when its standard input ends, so none is left behind.

    `tell`, `hear` and `ask` are for one thread. What the process pushes by itself is given to `on_push`, on a
    thread of this part.
    """

    def __init__(self, module: str, on_push: Callable[[dict[str, Any]], object] = lambda _said: None) -> None:
        self._module = module
        self._on_push = on_push
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # A session of its own, so that Ctrl-C at the terminal reaches the soak alone.
        self._process = subprocess.Popen(
            (sys.executable, "-m", f"benchmarks.soak.{module}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **WITHOUT_SPARES},
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, **words: Any) -> None:
        """Send a request. Raises PartFailed."""
        stream = self._process.stdin
        try:
            if stream is None:
                raise PartFailed(f"{self._module} was closed")
            stream.write(json.dumps(words) + "\n")
            stream.flush()
        except OSError as error:
            raise PartFailed(f"{self._module} has ended; what it printed stands above") from error

    def ask(self, **words: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises PartFailed."""
        self.tell(**words)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Wait for its next answer. Raises PartFailed."""
        try:
            said = self._answers.get(timeout=PATIENCE_S)
        except queue.Empty:
            said = None
        if said is None:
            raise PartFailed(f"{self._module} does not answer; what it printed stands above")
        return said

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with stream:
            for line in stream:
                said = json.loads(line)
                if said.pop("pushed", False):
                    self._on_push(said)
                else:
                    self._answers.put(said)
        self._answers.put(None)
