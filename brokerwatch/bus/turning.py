"""Whether a thread still turns: it says so at each turn, and others look."""

from __future__ import annotations

import threading
import time
from typing import Final

TURN_S: Final = 1.0
"""A thread that has nothing to do turns this often all the same."""
HUNG_S: Final = 10.0
"""One that has not turned for so long hangs. A machine under load may hold a thread for seconds."""


class Turning:
    """The turns of one thread. `turn` is for that thread, `fault` for any."""

    def __init__(self) -> None:
        self._turned_s = time.monotonic()
        self._ended = False

    def turn(self) -> None:
        """The thread turns now."""
        self._turned_s = time.monotonic()

    def end(self) -> None:
        """The thread is to end, so that is no fault from here on."""
        self._ended = True

    def fault(self, thread: threading.Thread) -> str:
        """What is wrong with it; empty where nothing is."""
        if self._ended:
            return ""
        if not thread.is_alive():
            return f"{thread.name} has ended by an error"
        for_s = time.monotonic() - self._turned_s
        return f"{thread.name} has not turned for {HUNG_S:g} s" if for_s > HUNG_S else ""
