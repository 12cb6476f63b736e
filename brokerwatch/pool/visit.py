"""The claim of one API key for a program that is no node of its pool, such as a verification.

It goes by the rules of a node: while a node has the key, the program makes no call with it, and while the
program has it, no node does. The accounts behind the key are then out at every node with the reason `claim`.
"""

from __future__ import annotations

import secrets
import threading
from typing import Final, Self

from brokerwatch.clock import Clock, SystemClock, with_sleep_s
from brokerwatch.errors import KeyInUse, StoreError
from brokerwatch.log import logger
from brokerwatch.pool.keeper import RENEWALS
from brokerwatch.storage.claims import ClaimRow, PoolStore

_log: Final = logger(__name__)

OWNER: Final = "verify"


class Visit:
    """The claim, from `with` to its end.

    Args:
        store: the pool's, of this object alone.
        key: the fingerprint of the API key.
        account: the name of an account behind it.
        lease_s: for so many seconds the claim lasts when it is renewed no more.
        clock: for tests.
    """

    def __init__(
        self, store: PoolStore, key: str, account: str, lease_s: float, clock: Clock | None = None
    ) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._store = store
        self._key = key
        self._account = account
        self._lease_s = lease_s
        self._owner = f"{OWNER}/{secrets.token_hex(8)}"
        self._epochs: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="brokerwatch-visit", daemon=True)
        self._renewed_s = float("-inf")
        self._taken_away = False

    @property
    def lost(self) -> str:
        """Why no call may begin any more; empty while one may. Any thread.

        Half of the lease is left for a call that is under way: that is how a lease is measured.
        """
        if self._taken_away:
            return "another process may have the claim on the API key by now"
        for_s = with_sleep_s(self._clock) - self._renewed_s
        return f"the claim was not renewed for {for_s:.0f} s" if for_s > self._lease_s / 2 else ""

    def __enter__(self) -> Self:
        """Take the claim. Raises KeyInUse while another process has it, and StoreError."""
        try:
            self._store.open()
            self._renewed_s = with_sleep_s(self._clock)
            taken = self._store.take([self._key], self._owner, self._lease_s, {self._key: [self._account]})
            if self._key not in taken:
                raise KeyInUse(self._in_use())
        except BaseException:
            self._store.close()
            raise
        self._epochs = dict(taken)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Give the claim back. Where the database does not answer, it ends by itself."""
        self._over.set()
        self._thread.join()
        try:
            self._store.release([self._key], self._owner)
        except StoreError as error:
            _log.warning("the claim on the API key ends in %g s, by itself: %s", self._lease_s, error)
        self._store.close()

    def _in_use(self) -> str:
        rows = self._store.claims(everywhere=True)
        row = next((row for row in rows if row.key == self._key and row.is_held), None)
        whose = "another process" if row is None else _whose(row)
        return (
            f"{self._account}: {whose} has its API key, and two processes must not call with one key. "
            "Stop that one or take the account out of its file, wait for the end of its claim "
            "(`brokerwatch pool` shows it), and try again"
        )

    def _run(self) -> None:
        while not self._over.wait(self._lease_s / RENEWALS):
            asked_s = with_sleep_s(self._clock)
            try:
                renewed = self._store.renew(self._epochs, self._owner, self._lease_s)
            except StoreError as error:
                _log.warning("the claim on the API key is not renewed: %s", error)
                continue
            if self._key not in renewed:
                self._taken_away = True
                return
            self._renewed_s = asked_s


def _whose(row: ClaimRow) -> str:
    if row.node == OWNER:
        return "another verification"
    return f"node {row.node} of pool {row.pool}"
