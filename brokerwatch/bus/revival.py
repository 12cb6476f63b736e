"""A thread whose work begins again after an error, within the limits that hold for actors.

The work of a thread ends by an error only where there is a mistake of ours. The same thread begins it again:
so what it holds, such as a bound port, is let go first and taken again, and no other program can take it in
between for longer. After too many errors the thread ends, which `Turning.fault` then says.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from brokerwatch.bus.turning import TURN_S, Turning
from brokerwatch.health.restarts import Restarts
from brokerwatch.log import logger

_log: Final = logger(__name__)


class Revival:
    """Keeps up the work of one thread. `run` is for that thread, `end` for any."""

    def __init__(self, name: str, turning: Turning | None = None) -> None:
        self._name = name
        self._turning = Turning() if turning is None else turning
        self._over = threading.Event()
        self._restarts = Restarts()

    def end(self) -> None:
        """Begin nothing again from here on."""
        self._over.set()

    def run(self, work: Callable[[], object]) -> None:
        """Do the work until it returns. It lets go of all that it holds when it raises."""
        while True:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - any error would end the thread without a word
                if not self._begins_again(error):
                    return
            else:
                return

    def _begins_again(self, error: BaseException) -> bool:
        """Wait until the work begins again. False: it does not."""
        if self._over.is_set():
            return False
        self._restarts, wait_s = self._restarts.died(time.monotonic(), random.uniform)
        why = f"{type(error).__name__}: {error}"
        if wait_s is None:
            _log.error("%s has failed for good: %s", self._name, why, exc_info=error)
            return False
        _log.error("%s failed and begins again in %.1f s: %s", self._name, wait_s, why, exc_info=error)
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0.0:
            self._turning.turn()  # it does not hang
            if self._over.wait(min(TURN_S, left_s)):
                return False
        return True
