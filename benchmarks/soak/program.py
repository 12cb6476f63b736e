"""One process of the cluster that is looked at: how it is started, told to read again, and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.measure import ROOT
from benchmarks.soak.proc import WITHOUT_SPARES

START_S: Final = 60.0
"""A start that takes longer has failed. Other programs may use the machine too."""
STOP_S: Final = 15.0
"""An orderly end takes 3 s at most; the rest is for a machine that is busy."""


class ClusterFailed(Exception):
    """A process of the cluster did not start, or has ended by itself."""


class Program:
    """One of brokerwatch's commands that stay, life after life. For one thread; `pid` may be read by any.

    Args:
        name: what it is called in the results.
        words: the command, such as `run`, with its options.
        config: its configuration.
        folder: where its socket for the service manager is.
        logs: where its log is kept.
    """

    def __init__(self, name: str, words: tuple[str, ...], config: Path, folder: Path, logs: Path) -> None:
        self.name: Final = name
        self.config: Final = config
        self._words = words
        self._address = folder / f"{name}.sock"
        self.log: Final = logs / f"{name}.log"
        self.errors: Final = logs / f"{name}.err"
        self._process: subprocess.Popen[bytes] | None = None
        self.pid: int | None = None
        """None while it does not run."""
        for old in (self.log, self.errors):
            old.unlink(missing_ok=True)

    def tracebacks(self) -> int:
        """How many are in its log and in what it wrote to standard error."""
        texts = [each.read_text(errors="replace") for each in (self.log, self.errors) if each.exists()]
        return sum(text.count("Traceback (most recent call last)") for text in texts)

    def start(self, most_s: float) -> float:
        """Start it. Returns the seconds until it said that it is ready. Raises ClusterFailed.

        Args:
            most_s: seconds after which it ends by itself, also when the soak was killed.
        """
        began_s = time.monotonic()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, self.errors.open("ab") as errors:
            self._address.unlink(missing_ok=True)
            manager.bind(str(self._address))
            self._process = subprocess.Popen(
                (sys.executable, "-m", "benchmarks.soak.run", *self._words, "--config", str(self.config),
                 "--duration", str(most_s), "--log-file", str(self.log)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, **WITHOUT_SPARES, "NOTIFY_SOCKET": str(self._address)},
                start_new_session=True,
            )  # fmt: skip
            manager.settimeout(0.5)
            while time.monotonic() - began_s < START_S:
                if self._process.poll() is not None:
                    break
                try:
                    if b"READY=1" in manager.recv(4_096):
                        self.pid = self._process.pid
                        return time.monotonic() - began_s
                except TimeoutError:
                    continue
        raise ClusterFailed(f"{self.name} did not start; see {self.errors} and {self.log}")

    def reload(self) -> None:
        """Have it read its configuration again."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)

    def stop(self, *, kill: bool = False) -> int:
        """End it, and wait for that. Returns its exit status. Raises ClusterFailed where it does not end."""
        process, self.pid = self._process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise ClusterFailed(f"{self.name} did not end within {STOP_S:g} s of a SIGTERM") from error

    def ended_by_itself(self) -> int | None:
        """Its exit status, where it has ended without being asked to."""
        return None if self._process is None or self.pid is None else self._process.poll()
