"""Numbers for signed requests that only rise, also over a restart and a clock that steps back."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.gateway.lease import Term
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import KeyState

RESERVED_MS: Final = 60_000
"""Nonces are reserved so far ahead of the clock: a process that is killed cannot fall behind what it used."""


RENEW_MS: Final = 20_000
"""A reservation with less than this left is renewed before the call."""


RESERVED_AHEAD: Final = 1_000


RENEW_AHEAD: Final = 100
"""The same where the last nonce is ahead of the clock, after a start: then each call uses just one. So
starts that follow each other quickly do not carry the nonces minutes ahead of the clock."""


EPOCH_STEP: Final = 10**13
"""So many numbers are of one epoch of a claim: milliseconds since 1970 have 13 digits until the year 2286."""


LAST_EPOCH: Final = 2**63 // EPOCH_STEP - 1
"""The last one whose numbers fit into 63 bits, as exchanges and the store take them. Later ones share it."""


RESERVE_WAIT_S: Final = 2.0
"""How long a call waits for its reservation: a disk that is full must not blind the watcher."""


class Nonces:
    """Strictly rising numbers, milliseconds where the clock allows, below a ceiling that is durable.

    With a `fence` they are above all numbers of the epochs before: epoch × `EPOCH_STEP` + milliseconds. An
    owner of an earlier epoch that wakes is then refused by the exchange itself, as soon as the new one has
    asked once. Numbers of a higher epoch, which only another owner can have used, do not carry it beyond its
    own. Each epoch has one owner, so no ceiling has to hold it back.
    """

    def __init__(self, fingerprint: str, clock: Clock, journal: Journal) -> None:
        self._fingerprint = fingerprint
        self._clock = clock
        self._journal = journal
        self._last = 0
        self._ceiling = 0
        self.fence: Term | None = None
        """The term whose epoch the numbers carry; None: they carry none. Set before the first number."""
        # A trader's own instance takes its numbers here too, on whatever thread it is used.
        self._lock = threading.Lock()

    @property
    def ceiling(self) -> int:
        """No number above this was used so far. For any thread."""
        return max(self._last, self._ceiling)

    def above(self, ceiling: int) -> None:
        """Go on above what an earlier process reserved: all of it may have been used. Any thread."""
        with self._lock:
            self._last = max(self._last, ceiling)
            self._ceiling = max(self._ceiling, ceiling)

    def refused(self) -> None:
        """The exchange refused a number as too low.

        Where the key has a term, a process that had the key before may have written its last reservation only
        after this one read the store: its database was out of reach, and its clock is ahead of this one. So
        the store is read again. Without a term two processes may use the key at once, and would carry their
        numbers ahead in turns.
        """
        self._journal.stored_key(self._fingerprint).add_done_callback(self._learn)

    def _learn(self, answered: Future[KeyState | None]) -> None:
        known = None if answered.cancelled() else answered.result()
        # Up to our own ceiling the numbers are our own.
        if known is not None and known.nonce_ceiling > self.ceiling:
            self.above(known.nonce_ceiling)

    async def reserve(self) -> None:
        """Make sure that the next nonces are below a ceiling which outlives us. Called before each call."""
        now_ms, last = self._now_ms(), self._used()
        ahead = last >= now_ms
        begin, renew, reserved = (
            (last, RENEW_AHEAD, RESERVED_AHEAD) if ahead else (now_ms, RENEW_MS, RESERVED_MS)
        )
        if begin + renew <= self._ceiling:
            return
        self._ceiling = begin + reserved
        durable = asyncio.wrap_future(
            self._journal.key(KeyState(self._fingerprint, nonce_ceiling=self._ceiling))
        )
        await asyncio.wait({durable}, timeout=RESERVE_WAIT_S)

    def next(self) -> int:
        """The next nonce. A wall clock that jumps ahead in one call does not carry it past the ceiling."""
        with self._lock:
            last = self._used()
            rising = max(self._now_ms(), last + 1)
            is_reserved = rising <= self._ceiling or self.fence is not None
            self._last = rising if is_reserved else max(last + 1, self._ceiling)
            return self._last

    def _used(self) -> int:
        """The highest number that may have been used before ours; with a fence, in our own epoch."""
        return self._last if self.fence is None or self._last < self._low() + EPOCH_STEP else self._low()

    def _low(self) -> int:
        """What is below every number of our epoch, and above all of those before."""
        return 0 if self.fence is None else min(self.fence.epoch, LAST_EPOCH) * EPOCH_STEP

    def _now_ms(self) -> int:
        now_ms = self._clock.now().wall_us // 1_000
        return now_ms if self.fence is None else self._low() + min(now_ms, EPOCH_STEP // 2)
