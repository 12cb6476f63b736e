"""Watches the parts of a cluster that are no actors of accounts: threads that end by an error, or hang.

The supervisor watches the accounts, and event loops that ask exchanges. Here the supervisor itself is
watched, with what carries its words: publishers, inbox and timers. When one of these ends, readings expire
by themselves, so no account is believed for longer than a time to live. It is said once, the process counts
as broken (`/healthz`, the watchdog of systemd), and `brokerwatch run` ends, so that a service is started
again. A program that embeds a cluster goes on. What stores is told about only: a disk that hangs is no
reason to stop watching.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from brokerwatch.bus.turning import HUNG_S
from brokerwatch.gateway.loop import LoopThread
from brokerwatch.log import logger

_log: Final = logger(__name__)

LOOK_S: Final = 1.0
"""Between two looks at all parts."""
LATE_S: Final = 3.0
"""A look that is so late finds a machine that stood still, and no part that hangs."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part that is watched."""

    name: str
    fault: Callable[[], str]
    """What is wrong with it; empty where nothing is. It never waits."""
    is_vital: bool = True
    """Whether nothing is watched, or nothing of it is heard, without this part."""


class LoopTurns:
    """Whether an event loop turns. `fault` is for one thread."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._turned_s = time.monotonic()

    def fault(self) -> str:
        """What is wrong with it; empty where nothing is. It asks the loop to turn until the next call."""
        now_s = time.monotonic()
        try:
            if self._loop.turned():
                self._turned_s = now_s
        except RuntimeError:  # it takes no work any more
            return f"{self._loop.name} has ended"
        return f"{self._loop.name} has not turned for {HUNG_S:g} s" if now_s - self._turned_s > HUNG_S else ""


class PartWatch:
    """Looks at each part every second, on a thread of its own. `broken` may be read by any thread."""

    def __init__(self, look_s: float = LOOK_S) -> None:
        self._look_s = look_s
        self._over = threading.Event()
        self._parts: tuple[Part, ...] = ()
        self._said: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="brokerwatch-parts", daemon=True)
        self.broken = ""
        """What is wrong with a vital part; empty where nothing is."""

    def start(self, *parts: Part) -> None:
        """Begin to look at these."""
        self._parts = parts
        self._thread.start()

    def stop(self, deadline_s: float) -> bool:
        """End it. False when that took too long."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._over.wait(self._look_s):
            now_s = time.monotonic()
            if now_s - looked_s < self._look_s + LATE_S:
                self._look()
            looked_s = now_s

    def _look(self) -> None:
        broken = ""
        for part in self._parts:
            try:
                why = part.fault()
            except Exception as error:  # noqa: BLE001 - a look that fails must not end the looking
                why = f"it cannot be looked at: {error}"
            if why and part.name not in self._said:
                _log.error("%s: %s", part.name, why)
            elif not why and part.name in self._said:
                _log.warning("%s works again", part.name)
            if why:
                self._said[part.name] = why
            else:
                self._said.pop(part.name, None)
            if why and part.is_vital:
                broken = broken or f"{part.name}: {why}"
        self.broken = broken
