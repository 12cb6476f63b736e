"""A program that listens and writes down what it shows, five times a second.

`python -m tests.chaos.subscriber FILE SERVER-KEY KEY-FILE ENDPOINT...`; without encryption both keys are "-".
Each line has the moment before the look, so that a program that is stopped in between claims too little.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Final

from brokerwatch import Listener
from tests.chaos.lines import LineFile

LOOK_S: Final = 0.2
COUNTER: Final = "ETH"
"""The currency of which each account holds as much as its balance has versions."""


def main() -> None:
    """Listen until the process is ended."""
    path, server_key, key_file, *endpoints = sys.argv[1:]
    encrypted = server_key != "-"
    file, pause = LineFile(Path(path)), threading.Event()
    with Listener(
        *endpoints,
        server_key=server_key if encrypted else None,
        key_file=key_file if encrypted else None,
    ) as listener:
        file.write(began=True)
        while not pause.wait(LOOK_S):
            at_s = time.perf_counter()  # the clock of the machine; see clocks.py
            file.write(at_s, shown={name: shown(listener, name) for name in list(listener.readings())})


def shown(listener: Listener, name: str) -> tuple[bool, int | None, str, str]:
    """Whether it is available, the version of its last known balance, the reason, and the actor's life."""
    available = listener.is_available(name)
    reading = listener.reading(name)
    held = None if reading.balance is None else reading.balance.get(COUNTER)
    version = None if held is None or held.total is None else int(held.total)
    return available, version, str(reading.reason), reading.broker_epoch


if __name__ == "__main__":
    main()
