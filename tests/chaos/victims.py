"""Processes that are started, killed, stopped and started again, and when each of that happened."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from tests.chaos.clocks import Offsets
from tests.chaos.disk import Disk
from tests.chaos.lines import LineFile
from tests.chaos.periods import Period
from tests.chaos.recording import Process
from tests.support.command import environment_of
from tests.support.programs import ROOT

END_S: Final = 20.0
LEAP_S: Final = 5.0
"""docs/configuration.md: more than 5 seconds passed that the monotonic clock did not count."""


class Victim:
    """One process. All methods are for the round's own thread."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.disk: Disk | None = None
        self.said: LineFile | None = None
        """Where each line of its output goes with its moment; None: to its log."""
        self.surprises: list[str] = []
        self._command, self._folder, self._environment = command, folder, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._copying: list[threading.Thread] = []
        self._lives: list[Period] = []
        self._stopped: list[Period] = []
        self._full: list[Period] = []
        self._leaps: list[float] = []
        self._offsets = Offsets(folder / f"{name}.clock")

    @property
    def pid(self) -> int | None:
        """The process id of the present life; None while it is dead."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Begin the next life."""
        began_s = time.monotonic()
        process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=environment_of({"PYTHONPATH": str(ROOT), **self._environment}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if self.said is None else subprocess.PIPE,
        )
        self._process = process
        # Through this process, because a limit on the size of files would hold for its log too.
        self._copying = [threading.Thread(target=_copy, args=(process.stderr or process.stdout, self.log))]
        if self.said is not None:
            self._copying.append(threading.Thread(target=_note, args=(process.stdout, self.said)))
        for thread in self._copying:
            thread.start()
        self._lives.append(Period(began_s))
        if self.disk is not None:
            self.disk.started()

    def look(self) -> None:
        """Note an end that nothing of ours brought about, and begin the next life."""
        if self._process is not None and not self.is_running:
            status = self._process.returncode
            self.surprises.append(f"{self.name} ended by itself with status {status}; see {self.log}")
            self._ended()
            self.start()

    def kill(self) -> None:
        """End it without a word."""
        self.look()
        assert self._process is not None
        self._process.kill()
        self._ended()

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait(END_S)
        self._lives[-1] = Period(self._lives[-1].begin_s, time.monotonic())
        for thread in self._copying:
            thread.join(END_S)
        self._process = None

    def stop(self) -> None:
        """Let it stand still."""
        self.look()
        self._send(signal.SIGSTOP)
        self._stopped.append(Period(time.monotonic()))

    def go_on(self) -> None:
        """Let it run again."""
        self._stopped[-1] = Period(self._stopped[-1].begin_s, time.monotonic())
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def set_wall(self, wall_s: float) -> None:
        """Let its wall clock be off."""
        before_s, slept_s = self._offsets.read()
        self._offsets.write(wall_s, slept_s)
        if wall_s - before_s > LEAP_S:
            self._leaps.append(time.monotonic())

    def wake(self) -> None:
        """Let it run again; its machine slept since it was stopped, so its monotonic clock did not go on."""
        asleep_s = time.monotonic() - self._stopped[-1].begin_s
        wall_s, slept_s = self._offsets.read()
        self._offsets.write(wall_s, slept_s + asleep_s)
        if asleep_s > LEAP_S:
            self._leaps.append(time.monotonic())
        self.go_on()

    def fill_disk(self) -> None:
        """Let its disk take nothing more."""
        assert self.disk is not None
        self._full.append(Period(time.monotonic()))
        self.disk.fill()

    def free_disk(self) -> None:
        """Let its disk take everything again."""
        assert self.disk is not None
        self.disk.free()
        self._full[-1] = Period(self._full[-1].begin_s, time.monotonic())

    def record(self) -> Process:
        """What was done to it."""
        return Process(tuple(self._lives), tuple(self._stopped), tuple(self._full), tuple(self._leaps))

    def close(self) -> None:
        """End the present life, whatever it does, and use no disk of its own any more."""
        if self._process is not None:
            self._send(signal.SIGCONT)
            self._process.kill()
            self._ended()
        if self.disk is not None:
            self.disk.close()
            self.disk = None


def _copy(source: IO[bytes], path: Path) -> None:
    """Add what a process writes to its log."""
    with source, path.open("ab", buffering=0) as log:
        while chunk := os.read(source.fileno(), 65_536):
            log.write(chunk)


def _note(source: IO[bytes], file: LineFile) -> None:
    """Write each line of a process down, with its moment."""
    file.write(began=True)
    with source:
        for line in source:
            file.write(said=line.decode(errors="replace"))
    file.write(ended=True)
