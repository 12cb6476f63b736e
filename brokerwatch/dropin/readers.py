"""What each caller of a watched state has been given: a caller is a task of the bot.

ccxt.pro gives an update to the calls that wait when it comes, and to no other. Here each caller is given the
newest state that it has not had yet, however late it calls. `asyncio.wait_for` and `gather` make a task for
each call, so the caller is the task in which the call was written down, not the one that runs it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call wants of the orders."""

    symbol: str | None = None
    """Only those of this market; None: all."""
    since_ms: int | None = None
    """Only those that were placed since then, in ms since 1970; None: all."""
    limit: int | None = None
    """At most so many with one call; None: all."""


ALL: Final = Wanted()


@dataclass(slots=True)
class Reader:
    """What one caller was given last."""

    version: int | None = None
    """Of the state; None: it was given none yet."""
    joined: int = 0
    """The version when it first called."""
    wanted: Wanted = ALL
    """What its newest call wants."""
    failed: bool = False
    """Whether the newest call raised, or gave a last known state: the next proven one is news in any case."""
    refusal: object = None
    """The refusal that it was told last."""

    def had(self, call: Reader) -> None:
        """One of its calls returns."""
        if self.version is None or (call.version is not None and call.version > self.version):
            self.version = call.version
        self.joined = max(self.joined, call.joined)
        self.failed, self.refusal = call.failed, call.refusal


class Readers:
    """The callers of one feed. Used on one event loop."""

    def __init__(self) -> None:
        self._by_task: WeakKeyDictionary[asyncio.Task[Any], dict[str | None, Reader]] = WeakKeyDictionary()
        self._others: dict[str | None, Reader] = {}

    def of(self, task: asyncio.Task[Any] | None, wanted: Wanted, version: int) -> Reader:
        """The reader that a task is, for each market one. All callers outside of a task are one."""
        readers = self._others if task is None else self._by_task.setdefault(task, {})
        found = readers.setdefault(wanted.symbol, Reader(joined=version))
        found.wanted = wanted
        return found


def calling_task() -> asyncio.Task[Any] | None:
    """The task in which a call is written down; None outside of an event loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
