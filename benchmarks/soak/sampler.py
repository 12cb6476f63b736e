"""Looks at the processes of a soak once a second, and reads what the cluster serves over HTTP."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Final

from benchmarks.soak.cluster import Cluster
from benchmarks.soak.measured import Measured
from benchmarks.soak.proc import Sample, sample

INTERVAL_S: Final = 1.0
READ_EVERY: Final = 5
"""Seconds between two readers over HTTP."""
READ_S: Final = 3.0
PATHS: Final = ("/metrics", "/v1/brokers", "/healthz")


class Sampler:
    """Adds samples to what was measured, on a thread of its own, until it is ended."""

    def __init__(
        self, measured: Measured, cluster: Cluster, listeners_pid: int, exchange_ports: frozenset[int],
        progress: Callable[[], object],
    ) -> None:  # fmt: skip
        self._measured = measured
        self._cluster = cluster
        self._listeners_pid = listeners_pid
        self._exchange_ports = exchange_ports
        self._progress = progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def now(self) -> dict[str, Sample]:
        """Each process of the cluster that runs now."""
        pids = {program.name: program.pid for program in self._cluster.programs}
        found = {name: self._sample(pid) for name, pid in pids.items() if pid is not None}
        return {name: one for name, one in found.items() if one is not None}

    def _sample(self, pid: int) -> Sample | None:
        return sample(
            pid, time.monotonic(), exchange_ports=self._exchange_ports, own_ports=self._cluster.ports
        )

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._ended.wait(INTERVAL_S):
            newest = {life.program: life for life in tuple(self._measured.lives)}
            for name, found in self.now().items():
                newest[name].samples.append(found)
            if (listeners := self._sample(self._listeners_pid)) is not None:
                self._measured.listeners.append(listeners)
            turn += 1
            if turn % READ_EVERY == 0 and self._cluster.programs[0].pid is not None:
                self._read()
            self._progress()

    def _read(self) -> None:
        for path in PATHS:
            # While it is restarted there is no answer, and while no account is available a probe says 503.
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(self._cluster.url + path, timeout=READ_S) as page,
            ):
                page.read()
