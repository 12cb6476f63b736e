"""The right to send requests, and its end: of one event loop, and in a pool of one API key.

When a loop hangs, its accounts go on on another one. The old one may wake at any later moment, with requests
that it was about to make. In a pool a key goes on at another node when this one does not hold its claim any
more. So each request looks here in its signing step, before a number is used up for it, and once more before
it is written to a connection. A loop that was replaced sends nothing, and nothing goes out outside a term.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, NamedTuple

from brokerwatch.clock import Clock, Leads
from brokerwatch.config.pool_settings import MARGIN_S
from brokerwatch.gateway.call_thread import NeverStarted
from brokerwatch.health.claim import UNCLAIMED, Claim

CLAIM: Final = "claim"
"""What the words begin with where the term of an API key is over."""


class Revoked(NeverStarted):
    """The request belongs to an event loop that was replaced, so nothing was sent."""


class ClaimOver(Revoked):
    """The request would go out outside the term of its API key, so nothing was sent."""


class _Extent(NamedTuple):
    """What a term says at one moment; replaced whole, so that readers need no lock."""

    until_s: float
    epoch: int
    ended: str
    leads: Leads | None


class Term:
    """Until when this process may use one API key, by its own monotonic clock.

    Any thread may use it. The keeper of the pool extends it.
    """

    __slots__ = ("_extent", "_lock", "call_s")

    def __init__(self, until_s: float, call_s: float, epoch: int = 0, leads: Leads | None = None) -> None:
        """
        Args:
            until_s: monotonic seconds at which no call may be under way any more: the lease in the database,
                counted from the moment before it was asked for, less the skew.
            call_s: the longest call: the deadline of one request of any account on the key, in seconds.
            epoch: of the claim.
            leads: how far the other clocks were ahead of the monotonic one at the moment from which `until_s`
                counts. Time that the monotonic clock does not count, such as a machine's sleep, counts here.
                None: it is not known, and none does.
        """
        self.call_s = call_s
        self._extent = _Extent(until_s, epoch, "", leads)
        self._lock = threading.Lock()

    @property
    def until_s(self) -> float:
        """Monotonic seconds at which no call may be under way any more; it has passed when the term ended."""
        extent = self._extent
        return float("-inf") if extent.ended else extent.until_s

    @property
    def epoch(self) -> int:
        """Of the claim."""
        return self._extent.epoch

    @property
    def ended(self) -> str:
        """Why it ended for good under this epoch; empty: it did not, although it may be over for now."""
        return self._extent.ended

    def extend(self, until_s: float, epoch: int | None = None, leads: Leads | None = None) -> None:
        """It lasts until this moment, in monotonic seconds. It is never cut short; one that ended stays so.

        `epoch`: of a claim that was taken anew. A higher one begins anew, also after an end; None: the same.
        `leads` as for the constructor.
        """
        with self._lock:
            before = self._extent
            if epoch is not None and epoch > before.epoch:
                self._extent = _Extent(until_s, epoch, "", leads)
            elif not before.ended and epoch in (None, before.epoch) and until_s >= before.until_s:
                self._extent = before._replace(until_s=until_s, leads=leads)

    def end(self, why: str) -> None:
        """Let no call out from this moment on, for example because another node has the claim."""
        with self._lock:
            self._extent = self._extent._replace(ended=why or "it was given up")

    def time_s(self, clock: Clock) -> float:
        """The monotonic second that counts for this term: later than the clock's own after a sleep."""
        leads = self._extent.leads
        if leads is None:
            return clock.up_s()
        now = clock.leads()
        return clock.up_s() + max(0.0, now[0] - leads[0], now[1] - leads[1])

    def over(self, now_s: float) -> str:
        """Why no call may begin now, in words that begin with "claim"; empty: it may."""
        until_s, _, ended, _ = self._extent
        if ended:
            return f"{CLAIM}: this process has the API key no more: {ended}"
        if now_s + self.call_s + MARGIN_S < until_s:
            return ""
        return f"{CLAIM}: the pool has not confirmed in time that this process may go on using the API key"

    def written_too_late(self, now_s: float) -> str:
        """Why a request that has begun may not be written any more; empty: it may."""
        until_s, _, ended, _ = self._extent
        return "" if not ended and now_s + self.call_s < until_s else self.over(now_s)


TermOf = Callable[[str], Term | None]
"""The term of an API key by its fingerprint; None: the key needs none, as outside a pool. In a pool a key
that was not claimed has a term that ended, never None."""


def no_term(_: str) -> None:
    """Where there is no pool, no key has a term."""


class Lease:
    """Lets the requests of one event loop go out until it is revoked. Any thread may use it."""

    __slots__ = ("revoked",)

    def __init__(self) -> None:
        self.revoked = ""
        """Why nothing may be sent any more; empty: it may."""

    @property
    def term(self) -> Term | None:
        """Of the API key: a loop by itself has none."""
        return None

    @property
    def too_late(self) -> str:
        """Why a request that has begun may not be written any more; empty: it may."""
        return self.revoked

    @property
    def replaced(self) -> str:
        """Why the event loop sends nothing any more; empty: it does."""
        return self.revoked

    @property
    def claim_over(self) -> str:
        """Why no request of the API key may begin: a loop by itself has none."""
        return ""

    def claimed(self, _: float) -> Claim:
        """What the claim of the API key says: a loop by itself has none."""
        return UNCLAIMED

    def check(self) -> None:
        """Raise Revoked where nothing may be sent any more."""
        if self.revoked:
            raise Revoked(self.revoked)

    check_write = check


class KeyLease:
    """The same for the requests of one API key that has a term: they need the lease of their loop, and it.

    Any thread may use it.
    """

    __slots__ = ("_clock", "_loop", "term")

    def __init__(self, loop: Lease, term: Term, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self.term: Final = term

    @property
    def revoked(self) -> str:
        """Why no request may begin; empty: it may."""
        return self._loop.revoked or self.claim_over

    @property
    def too_late(self) -> str:
        """Why a request that has begun may not be written any more; empty: it may."""
        return self._loop.revoked or self.term.written_too_late(self.term.time_s(self._clock))

    @property
    def replaced(self) -> str:
        """Why the event loop sends nothing any more; empty: it does."""
        return self._loop.revoked

    @property
    def claim_over(self) -> str:
        """Why no request of the API key may begin, whatever its loop may do; empty: it may."""
        return self.term.over(self.term.time_s(self._clock))

    def claimed(self, now_s: float) -> Claim:
        """What the claim of the API key says at a monotonic second."""
        slept_s = self.term.time_s(self._clock) - self._clock.up_s()
        return Claim(self.term.until_s - slept_s, self.term.over(now_s + slept_s))

    def check(self) -> None:
        """Raise Revoked where no request may begin."""
        self._loop.check()
        if why := self.revoked:
            raise ClaimOver(why)

    def check_write(self) -> None:
        """Raise Revoked where nothing may be written any more."""
        self._loop.check()
        if why := self.too_late:
            raise ClaimOver(why)


LaneLease = Lease | KeyLease
"""What lets the requests of a lane go out."""

UNDER: Final[ContextVar[KeyLease | None]] = ContextVar("brokerwatch_lease", default=None)
"""The lease of the request that is being made, where its key has a term: connections know only their loop."""
