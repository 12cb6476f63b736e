"""Watches the parts of a cluster that are no actors of accounts: threads that end by an error, or hang.

The supervisor watches the accounts, and event loops that ask exchanges. Here the supervisor itself is
watched, with what carries its words: publishers, inbox and timers. When one of these ends, readings expire
by themselves, so no account is believed for longer than a time to live. It is said once, the process counts
as broken (`/healthz`, the watchdog of systemd), and `brokerwatch run` ends, so that a service is started
again. A program that embeds a cluster goes on, and its accounts have failed. A part whose place can be taken
is replaced first, within the limits that hold for actors. What only stores or shows is said and no more: a
disk that hangs is no reason to stop watching.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from brokerwatch.bus.turning import HUNG_S
from brokerwatch.health.restarts import Restarts
from brokerwatch.log import logger

_log: Final = logger(__name__)

NAME: Final = "brokerwatch-parts"
MENDING: Final = "it is being mended"
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
    mend: Callable[[], object] | None = None
    """Has another one take its place; None: nothing can, or the part begins again by itself."""


class PartWatch:
    """Looks at each part every second, on a thread of its own. `broken` may be read by any thread.

    Args:
        look_s: seconds between two looks.
        on_broken: called with what is wrong when that has changed; empty: nothing is any more.
    """

    def __init__(
        self, look_s: float = LOOK_S, *, on_broken: Callable[[str], object] = lambda _why: None
    ) -> None:
        self._look_s = look_s
        self._on_broken = on_broken
        self._over = threading.Event()
        self._parts: tuple[Part, ...] = ()
        self._said: dict[str, str] = {}
        self._replacements: dict[str, Restarts] = {}
        """Of each part that was replaced."""
        self._due_s: dict[str, float] = {}
        """When a part that is out is replaced, in monotonic seconds."""
        self._looked_s = time.monotonic()
        self._late_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._broken = ""

    @property
    def broken(self) -> str:
        """What is wrong with a vital part, and is not mended; empty where nothing is."""
        return self._broken or self._own_fault()

    def start(self, *parts: Part) -> None:
        """Begin to look at these."""
        self._parts = parts
        self._looked_s = time.monotonic()
        self._thread.start()

    def stop(self, deadline_s: float) -> bool:
        """End it. False when that took too long."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _own_fault(self) -> str:
        """Whether this watch itself hangs. A machine that stood still is no reason: then it looks soon."""
        now_s = time.monotonic()
        if self._over.is_set() or self._thread.ident is None or now_s - self._looked_s < HUNG_S:
            self._late_since_s = None
            return ""
        if self._late_since_s is None:
            self._late_since_s = now_s
        return f"{NAME} has not looked for {HUNG_S:g} s" if now_s - self._late_since_s > LATE_S else ""

    def _run(self) -> None:
        while not self._over.wait(self._look_s):
            now_s = time.monotonic()
            if now_s - self._looked_s < self._look_s + LATE_S:
                self._look(now_s)
            self._looked_s = now_s

    def _look(self, now_s: float) -> None:
        broken = ""
        for part in self._parts:
            why = _fault(part)
            if not why:
                self._due_s.pop(part.name, None)
                if self._said.pop(part.name, ""):
                    _log.warning("%s works again", part.name)
                continue
            if part.mend is not None:
                why = self._mended(part, part.mend, why, now_s)
            elif part.name not in self._said:
                _log.error("%s: %s", part.name, why)
            self._said[part.name] = why or self._said.get(part.name, "") or MENDING
            if why and part.is_vital:
                broken = broken or f"{part.name}: {why}"
        if broken != self._broken:
            self._broken = broken
            self._on_broken(broken)

    def _mended(self, part: Part, mend: Callable[[], object], why: str, now_s: float) -> str:
        """Replace a part that is out, within the limits that hold for actors. What is wrong where it stays
        out; empty while it is being replaced."""
        due_s = self._due_s.get(part.name)
        if due_s is None:
            before = self._replacements.get(part.name, Restarts())
            after, wait_s = before.died(now_s, random.uniform)
            self._replacements[part.name] = after
            if wait_s is None:
                why = f"{why}, and another one took its place {after.limit} times within {after.window_s:g} s"
                if not before.failed:
                    _log.error("%s has failed for good: %s", part.name, why)
                return why
            self._due_s[part.name] = due_s = now_s + wait_s
            _log.error("%s: %s; another one takes its place in %.1f s", part.name, why, wait_s)
        if now_s >= due_s:
            del self._due_s[part.name]
            try:
                mend()
            except Exception as error:  # noqa: BLE001 - the next look tries it again
                _log.error("%s: nothing could take its place: %s", part.name, error)
        return ""


def _fault(part: Part) -> str:
    try:
        return part.fault()
    except Exception as error:  # noqa: BLE001 - a look that fails must not end the looking
        return f"it cannot be looked at: {error}"
