"""Accounts that are not asked any more, and whose orders are followed to their end.

An account that left the cluster is one, and so is an account behind an API key that was replaced, where it
is not known that both are of one account.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from brokerwatch.actors.board import Slot
from brokerwatch.actors.protocol import Alarms
from brokerwatch.cluster.wiring import WiredAccount
from brokerwatch.config.broker_spec import BrokerSpec

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access

RELEASE_AGAIN_S: Final = 0.5
"""When an account is let go of, if another change is just being made."""


@dataclass(slots=True, eq=False)
class Leaving:
    """An account whose orders are followed to their end."""

    spec: BrokerSpec
    slot: Slot
    account: WiredAccount
    why: str
    """Why no other order of it goes out."""


class Leavers:
    """All of these accounts of one cluster. Under its lock, but for what `see_off` calls later.

    `let_go` lets go of the ways to an account.
    """

    def __init__(self, lock: threading.RLock, let_go: Callable[[str, Access], object]) -> None:
        self._lock = lock
        self._let_go = let_go
        self._leaving: dict[Leaving, None] = {}
        """In the order in which they left."""

    def __iter__(self) -> Iterator[Leaving]:
        return iter(tuple(self._leaving))

    def see_off(self, leaving: Leaving, alarms: Alarms) -> None:
        """Follow the orders of an account to their end, and let go of it then."""
        self._leaving.setdefault(leaving)
        leaving.account.reporter.muted = True
        # Not on the account's loop, which is not to be held up.
        leaving.account.executor.see_off(
            leaving.why, lambda: alarms.after(0.0, lambda: self._release_soon(leaving, alarms))
        )

    def _release_soon(self, leaving: Leaving, alarms: Alarms) -> None:
        if not self._lock.acquire(blocking=False):
            alarms.after(RELEASE_AGAIN_S, lambda: self._release_soon(leaving, alarms))
            return
        try:
            self.release(leaving)
        finally:
            self._lock.release()

    def release(self, leaving: Leaving) -> None:
        """Let go of an account, whatever became of its orders."""
        if leaving in self._leaving:
            del self._leaving[leaving]
            self._let_go(leaving.spec.name, leaving.account.access)

    def stop(self) -> None:
        """Follow no order any more, from any thread."""
        for leaving in self:
            leaving.account.executor.stop()
