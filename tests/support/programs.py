"""A program as a process of its own: its lines, its exit status, and the signals that it is sent.

Every wait is on a pipe or on the end of a process, with a limit.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.clusters import PATIENCE_S
from tests.support.command import Done, environment_of

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_S: Final = 5.0
"""So soon after a signal a program ends, as docs/operate.md promises."""

Said = dict[str, Any]
"""One JSON object of a line."""

WIRE_KEYS: Final = frozenset(
    ("broker", "exchange", "simulated", "broker_epoch", "version", "state", "status", "available", "reason",
     "detail", "since_us", "error_count", "fault", "as_of_us", "age_ms", "stale", "cash", "balance", "labels",
     "capabilities")
)  # fmt: skip
STAMP_KEYS: Final = frozenset(("src", "epoch", "seq", "ts_us"))
"""The keys of one change as JSON: of its reading, and of its stamp."""
SOMETIMES: Final = frozenset(
    ("proof_ms", "cash_unit", "cash_parts", "answer_ms", "key", "money", "outcome_ms")
)
"""Keys that stand there only where there is something to say."""

BROKERWATCH: Final = (sys.executable, "-m", "brokerwatch")
RUN_CLUSTER: Final = (sys.executable, str(ROOT / "run_cluster.py"))


class Program:
    """One program that runs. Reads its standard output line by line; standard error goes to a file."""

    def __init__(
        self,
        *command: str,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        output: int | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the program
        self._unread = b""
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment_of(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output is None else output,
            stderr=self._errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
        self.close_pipe()
        self._errors.close()

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        # Not read(): the child writes at the same position, and seeking would move it.
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close_pipe(self) -> None:
        """Read no more."""
        if self._process.stdout is not None:
            self._process.stdout.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def line(self, until_s: float) -> str | None:
        """The next line, None at the end of the output; fails when neither comes by then."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))
            assert ready, f"no line came in time; standard error: {self.errors[-2_000:]}"
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                assert self._unread == b"", f"half a line at the end: {self._unread!r}"
                return None
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def objects(self, patience_s: float = PATIENCE_S) -> Iterator[Said]:
        """Each line as a JSON object, until the output ends; fails when they stop coming for good."""
        until_s = time.monotonic() + patience_s
        while (line := self.line(until_s)) is not None:
            said = json.loads(line)
            assert isinstance(said, dict), line
            yield said

    def until(self, wanted: Callable[[Said], bool], patience_s: float = PATIENCE_S) -> list[Said]:
        """The objects up to and including the first that is as wanted.

        A listener that is started before its cluster may say first that it hears nothing; that is left out.
        """
        heard: list[Said] = []
        for said in self.objects(patience_s):
            if said.get("broker", "") is None:
                continue
            heard.append(said)
            if wanted(said):
                return heard
        raise AssertionError(f"it ended; the last was {heard[-1:]}; standard error: {self.errors[-2_000:]}")

    def until_each(
        self, brokers: Iterable[str], wanted: Callable[[Said], bool], patience_s: float = PATIENCE_S
    ) -> list[Said]:
        """The objects up to where each of these brokers has been heard as wanted."""
        missing = set(brokers)

        def last_one(said: Said) -> bool:
            if wanted(said):
                missing.discard(said["broker"])
            return not missing

        return self.until(last_one, patience_s)

    def stopped_by(self, number: signal.Signals) -> int:
        """Send a signal and read on to the end, within what was promised; its exit status."""
        until_s = time.monotonic() + STOP_S
        self.send(number)
        while self.line(until_s) is not None:
            pass
        return self.end(max(0.0, until_s - time.monotonic()))

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for its end; its exit status."""
        return self._process.wait(patience_s)


def run_program(
    *command: str, cwd: Path, environment: Mapping[str, str] | None = None, patience_s: float = PATIENCE_S
) -> Done:
    """Run a program to its end."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment_of(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience_s,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def drawn_on(terminal: int) -> str:
    """All that a program draws on its end of a pseudo-terminal, until it closes that; ours is closed then."""
    drawn = b""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        try:
            chunk = os.read(terminal, 65_536) if ready else None
        except OSError:
            break  # how Linux says that the other end is closed
        if chunk == b"":
            break
        drawn += chunk or b""
    os.close(terminal)
    return drawn.decode()
