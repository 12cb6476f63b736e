"""Keeps the claims of one process: renews them, says that its node lives, and reads which nodes do.

A thread of its own, so that nothing but the database can delay a renewal. When the database does not answer,
the terms end by themselves, each by the clock of this process. The claims that the database refuses to renew
are lost, because another node may have them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.errors import NodeNameTaken, StoreError
from brokerwatch.log import logger
from brokerwatch.pool.terms import Asked, Terms
from brokerwatch.storage.claims import PoolNode, PoolStore

_log: Final = logger(__name__)

NAME: Final = "brokerwatch-claims"
LONGEST_ROUND_S: Final = 1.0
"""Between two looks at the nodes: so soon it is seen that another one has ended."""
RENEWALS: Final = 6
"""In one lease: several may fail before a term is over. Each of them writes a row for each key."""
LOST: Final = "another node may have the claim on the API key by now"
HUNG_S: Final = 15.0
"""A round that takes longer hangs: each of its questions to the database has a limit."""


class ClaimKeeper:
    """`start` once, then `stop`. `nodes` and `lost` may be read by any thread.

    Args:
        store: of this thread alone.
        node: this process.
        changed: called when nodes or claims have changed, on this thread; it never waits.
    """

    def __init__(
        self,
        store: PoolStore,
        node: PoolNode,
        terms: Terms,
        clock: Clock,
        changed: Callable[[], object],
    ) -> None:
        self._store = store
        self._node = node
        self._terms = terms
        self._clock = clock
        self._changed = changed
        self._renewal_s = terms.lease_s / RENEWALS
        self.round_s = min(LONGEST_ROUND_S, self._renewal_s)
        self._renewed_s = float("-inf")
        """When the claims were renewed last, in monotonic seconds."""
        self.nodes: tuple[PoolNode, ...] = ()
        """The live nodes as they were read last, this one among them if it may take claims."""
        self.lost: frozenset[str] = frozenset()
        """Keys whose claims were lost, until `settle`."""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._said = ""
        self._said_late = False
        self._began_s: float | None = None
        """When the round under way began, in monotonic seconds; None: none is under way."""

    def start(self) -> None:
        """Begin. It asks the database on its own thread alone."""
        self._thread.start()

    def stop(self, deadline_s: float) -> bool:
        """End the thread. False when that took too long."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def fault(self) -> str:
        """What is wrong with the thread; empty where nothing is. Any thread; never waits."""
        if self._over.is_set() or self._thread.ident is None:
            return ""
        if not self._thread.is_alive():
            return "its thread has ended: no claim is renewed"
        began_s = self._began_s
        if began_s is not None and self._clock.up_s() - began_s > HUNG_S:
            return f"the database has not answered for {HUNG_S:g} s, nor refused: no claim is renewed"
        return ""

    def state(self, accounts: frozenset[tuple[str, str]]) -> None:
        """These are the accounts in the file of this node. The pool knows it after the next round."""
        self._node = replace(self._node, accounts=accounts)

    def settle(self, keys: frozenset[str]) -> None:
        """The accounts of these lost keys are not here any more."""
        with self._lock:
            self.lost -= keys

    def _run(self) -> None:
        try:
            while True:
                self._began_s = self._clock.up_s()
                self._round()
                self._began_s = None
                if self._over.wait(self.round_s):
                    return
        finally:
            self._store.close()

    def _round(self) -> None:
        asked = Asked.now(self._clock)
        try:
            if self._said or asked.up_s >= self._renewed_s + self._renewal_s - self.round_s / 2:
                self._renew(asked)
            self._store.beat(self._node, self._terms.lease_s)
            nodes = self._store.live_nodes()
        except NodeNameTaken as error:
            self._say(f"{error}")
            nodes = ()
        except StoreError as error:
            self._say(f"{self._store.where} cannot be asked: {error}")
            return
        else:
            if self._said:
                _log.warning("pool: this node is in it, and its claims are renewed")
            self._said, self._said_late = "", False
        if nodes != self.nodes:
            self.nodes = nodes
            self._changed()

    def _renew(self, asked: Asked) -> None:
        held = self._terms.held
        renewed = self._store.renew(held, self._node.owner, self._terms.lease_s)
        self._renewed_s = asked.up_s
        self._terms.renewed(renewed, asked)
        self._lose(held.keys() - renewed)

    def _lose(self, keys: set[str]) -> None:
        if not keys:
            return
        _log.error(
            "pool: %d claims on API keys are lost, and their accounts are out: another node may have them",
            len(keys),
        )
        # In this order: what is lost may be settled at once, and a key that still counted as held then would
        # be taken for ours without a claim.
        self._terms.ended(keys, LOST)
        with self._lock:
            self.lost |= keys
        self._changed()

    def _say(self, why: str) -> None:
        """Say it once, and again louder while half of the lease is left."""
        left_s = self._terms.until_s() - self._clock.up_s()
        if why != self._said:
            ends = f"; its accounts go out in {max(0.0, left_s):.1f} s" if left_s < float("inf") else ""
            _log.warning("pool: no claim is renewed: %s%s", why, ends)
            self._said = why
        if left_s < self._terms.lease_s / 2 and not self._said_late:
            self._said_late = True
            _log.error(
                "pool: the claims of this node end in %.1f s, and the database does not renew them: then "
                "its accounts are out, and neither entries nor exits are sent",
                max(0.0, left_s),
            )
