"""The file that `brokerwatch simulate --log` writes: one JSON object a line for each call and each scene."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from brokerwatch.cli import exits
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.simulator import Broken, ServedCall


class SimulationLog:
    """Adds a line for each call and each scene, each written at once. Any thread may call it.

    Neither the query nor the body of a call is written: they may hold what signs it.

    Args:
        path: the file, which is added to; None: nothing is written.

    Raises:
        ConfigError: the file cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        try:
            self._file = None if path is None else path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise ConfigError(
                (Problem("", "--log", f"{path} cannot be written: {error.strerror}"),)
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def call(self, exchange: str, answered: ServedCall, name: str = "") -> None:
        """Write a call: its method and path, the status of its answer, and the fault that it met.

        `name` is that of the exchange's section, where there are several.
        """
        answer = answered.answer
        self._write(
            exchange=exchange,
            **_named(name),
            call=answered.call.method,
            path=answered.call.target.partition("?")[0],
            status=None if isinstance(answer, Broken) else answer.status,
            fault=answered.trouble.fault or None,
        )

    def scene(self, exchange: str, says: str, name: str = "") -> None:
        """Write a scene of the script, or of the operator, with its sentence."""
        self._write(exchange=exchange, **_named(name), scene=says)

    def _write(self, **content: object) -> None:
        moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.write(f"{json.dumps({'time': moment, **content})}\n")
            except OSError as error:  # the bot goes on without the log, and the operator is told once
                exits.say(f"--log: cannot be written any more: {error.strerror}")
                self._file = None


def _named(name: str) -> dict[str, object]:
    return {"name": name} if name else {}
