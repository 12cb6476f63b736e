"""Numbers for signed requests that only rise, also over a restart and a clock that steps back."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from brokerwatch.clock import Clock
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


RESERVE_WAIT_S: Final = 2.0
"""How long a call waits for its reservation: a disk that is full must not blind the watcher."""


class Nonces:
    """Strictly rising numbers, milliseconds where the clock allows, below a ceiling that is durable."""

    def __init__(self, fingerprint: str, clock: Clock, journal: Journal) -> None:
        self._fingerprint = fingerprint
        self._clock = clock
        self._journal = journal
        self._last = 0
        self._ceiling = 0
        # A trader's own instance takes its numbers here too, on whatever thread it is used.
        self._lock = threading.Lock()

    @property
    def ceiling(self) -> int:
        """No number above this was used so far. For any thread."""
        return max(self._last, self._ceiling)

    def above(self, ceiling: int) -> None:
        """Go on above what an earlier process reserved: all of it may have been used."""
        self._last = max(self._last, ceiling)
        self._ceiling = max(self._ceiling, ceiling)

    async def reserve(self) -> None:
        """Make sure that the next nonces are below a ceiling which outlives us. Called before each call."""
        now_ms = self._now_ms()
        ahead = self._last >= now_ms
        begin, renew, reserved = (
            (self._last, RENEW_AHEAD, RESERVED_AHEAD) if ahead else (now_ms, RENEW_MS, RESERVED_MS)
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
            rising = max(self._now_ms(), self._last + 1)
            self._last = rising if rising <= self._ceiling else max(self._last + 1, self._ceiling)
            return self._last

    def _now_ms(self) -> int:
        return self._clock.now().wall_us // 1_000
