"""Which live nodes of a pool accounts are shared among: those that have stayed for a moment.

Pure; the caller passes the time. When several nodes start one after the other, as after a deployment, the
first would take every account and hand most of them over again, at each start of another one. So a node that
joins counts once no other one has joined for a while: the longer, the more accounts a wrong move would touch,
and within a limit. A node that leaves counts at once, because its accounts are watched by no node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from brokerwatch.storage.claims import PoolNode

SETTLE_PER_ACCOUNT_S: Final = 0.002
"""About the CPU that it costs to take an account."""
LONGEST_SETTLE_S: Final = 5.0
JOINS: Final = 3
"""Where nodes go on joining, all count after so many times that."""

TAKE_AGAIN_S: Final = 0.2
"""How soon it is looked again whether keys are free that their owner is to hand over, because their accounts
are out meanwhile …"""
TAKE_PER_KEY_S: Final = 0.001
"""… and the database looks at each of them."""
HANDED_WITHIN_S: Final = 30.0
"""For so long after the nodes have changed. Another pool may have a key for ever."""


def settle_s(accounts: int) -> float:
    """For how long no node must have joined a pool of so many accounts, in seconds."""
    return min(LONGEST_SETTLE_S, accounts * SETTLE_PER_ACCOUNT_S)


class Settling:
    """For one thread. `nodes` are those that count."""

    def __init__(self) -> None:
        self.nodes: tuple[PoolNode, ...] = ()
        self._seen: frozenset[str] = frozenset()
        self._first_s: float | None = None
        """When the first of those joined that do not count yet, in monotonic seconds."""
        self._last_s = 0.0
        """When the last one did."""
        self._changed_s = float("-inf")
        """When the nodes that count changed last."""

    def look(self, live: Sequence[PoolNode], accounts: int, now_s: float) -> float:
        """Take what the database says now. Gives the seconds until one that has joined counts, if none joins
        meanwhile; infinite where all count.

        Args:
            live: the live nodes.
            accounts: of the pool.
            now_s: monotonic seconds.
        """
        owners = frozenset(node.owner for node in live)
        counted = {node.owner for node in self.nodes}
        if owners <= counted:
            self._first_s = None
        elif self._first_s is None:
            self._first_s = self._last_s = now_s
        elif owners - self._seen:
            self._last_s = now_s
        self._seen = owners
        left_s, before = self._left_s(settle_s(accounts), now_s), self.nodes
        self.nodes = tuple(node for node in live if left_s <= 0 or node.owner in counted)
        if self.nodes != before:
            self._changed_s = now_s
        if left_s <= 0:
            self._first_s = None
            return float("inf")
        return left_s

    def take_again_s(self, missing: int, now_s: float) -> float:
        """Seconds until it is looked again for keys that their owner is to hand over; infinite: no time.

        Args:
            missing: keys that fall to this node, and that another one had at the last look.
            now_s: monotonic seconds.
        """
        if not missing or now_s > self._changed_s + HANDED_WITHIN_S:
            return float("inf")
        return max(TAKE_AGAIN_S, missing * TAKE_PER_KEY_S)

    def _left_s(self, wait_s: float, now_s: float) -> float:
        if self._first_s is None:
            return 0.0
        return min(self._last_s + wait_s, self._first_s + JOINS * wait_s) - now_s
