"""What is asked once for all accounts of an exchange: its own status, its markets, and the verifications."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from brokerwatch.actors.protocol import BrokerMessage, Stated
from brokerwatch.clock import Clock
from brokerwatch.cluster.wiring import WiredAccount
from brokerwatch.errors import CouldNotAsk
from brokerwatch.gateway.loop import Loop
from brokerwatch.log import logger
from brokerwatch.messages.trading import Status

if TYPE_CHECKING:
    from brokerwatch.gateway.venue import Venue
    from brokerwatch.orders.gate import Gate

_log: Final = logger(__name__)

BELIEVED: Final = 3
"""After so many failed questions in a row the last word is not believed any more."""
MARKETS_AGAIN_S: Final = 10.0
"""How long after an attempt to load markets that are not known yet the next one is made."""


@dataclass(slots=True)
class _Watched:
    """One exchange that is asked how it is."""

    loop: Loop
    asking: Future[Any]
    names: tuple[str, ...]
    """The accounts that get its word."""
    said: Status | None = None
    """Its newest word."""


class ExchangeWatch:
    """Asks each exchange once for all accounts there, as long as the cluster runs.

    `follow` and `stop` are for one thread at a time; `want_markets` is for any thread.
    """

    def __init__(self, clock: Clock, interval_s: float, send: Callable[[str, BrokerMessage], object]) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._send = send
        self._running = False
        self._watched: dict[Venue, _Watched] = {}
        self._loading: list[Future[Any]] = []
        self._looked_up_s: dict[Venue, float] = {}
        self._warned: set[str] = set()

    def follow(self, accounts: Mapping[str, WiredAccount], *, interval_s: float | None = None) -> None:
        """Ask the exchanges of these accounts, and no others, how they are, again and again; and for their
        markets where orders may go out.

        An exchange that is asked already goes on being asked, by the same schedule. `interval_s`: another
        interval than until now.
        """
        self._running = True
        if interval_s is not None and interval_s != self._interval_s:
            self._interval_s = interval_s
            self._end(tuple(self._watched))
        by_venue: dict[Venue, list[str]] = {}
        for name, account in accounts.items():
            if account.trading and name not in self._warned:
                self._warned.add(name)
                warn_of_shortcomings(name, account)
            by_venue.setdefault(account.access.venue, []).append(name)
        self._warned &= accounts.keys()
        self._end([venue for venue in self._watched if venue not in by_venue])
        self._looked_up_s = {venue: at for venue, at in self._looked_up_s.items() if venue in by_venue}
        for venue, names in by_venue.items():
            first = accounts[names[0]]
            if self._interval_s < float("inf") and venue.says_its_status:
                self._ask(venue, tuple(names), first.access.loop)
            if venue.known is None and any(accounts[name].trading for name in names):
                self.want_markets(first)

    def _ask(self, venue: Venue, names: tuple[str, ...], loop: Loop) -> None:
        watched = self._watched.get(venue)
        if watched is not None:
            for name in frozenset(names).difference(watched.names):
                self._send(name, Stated(watched.said))
            watched.names = names
            return

        def state(status: Status | None) -> None:
            asked = self._watched.get(venue)
            if asked is not None:
                asked.said = status
                for name in asked.names:
                    self._send(name, Stated(status))

        # Known before it can have an answer.
        self._watched[venue] = asked = _Watched(loop, Future(), names)
        try:
            asked.asking = loop.submit(watch(venue, self._interval_s, state, random.uniform))
        except RuntimeError:
            del self._watched[venue]  # its loop is given up

    def _end(self, venues: Iterable[Venue]) -> None:
        for venue in venues:
            self._watched.pop(venue).asking.cancel()

    def want_markets(self, account: WiredAccount) -> None:
        """Load markets that are not known yet, if the last attempt is long enough ago. Never waits."""
        venue, now_s = account.access.venue, self._clock.up_s()
        if self._running and now_s - self._looked_up_s.get(venue, float("-inf")) >= MARKETS_AGAIN_S:
            self._looked_up_s[venue] = now_s
            self._loading = [loading for loading in self._loading if not loading.done()]
            self._loading.append(account.access.loop.submit(account.queries.products()))

    def stop(self) -> None:
        """Ask no more. What is under way is cancelled."""
        self._running = False
        self._end(tuple(self._watched))
        for loading in self._loading:
            loading.cancel()


async def watch(
    venue: Venue,
    interval_s: float,
    tell: Callable[[Status | None], object],
    uniform: Callable[[float, float], float],
) -> None:
    """Ask for ever, every `interval_s` seconds, and tell what was said; None when nothing is known."""
    failures = 0
    while True:
        try:
            tell(await venue.status())
            failures = 0
        except CouldNotAsk as error:
            failures += 1
            _log.debug("the status of the exchange: %s", error)
            if failures >= BELIEVED:
                tell(None)
        # Not all programs in the world at the same second.
        await asyncio.sleep(interval_s * uniform(0.9, 1.1))


def warn_of_shortcomings(name: str, account: WiredAccount) -> None:
    """Log what cannot be done with orders at the exchange of an account, before one needs it."""
    for shortcoming in account.executor.shortcomings:
        _log.log(logging.ERROR if shortcoming.forbids else logging.WARNING, "%s: %s", name, shortcoming.text)


def look_up_verifications(gate: Gate, accounts: Mapping[str, WiredAccount], max_age_s: float | None) -> None:
    """Learn which keys are verified before any handle is given out, and log which are not.

    `max_age_s`: of the reports that entries need; None: they need none.
    """
    trading = [account for account in accounts.values() if account.trading]
    new = gate.follow((account.access.report_key for account in trading), max_age_s)
    for account in trading:
        if account.access.report_key in new and account.entry.unverified:
            _log.warning("%s", account.entry.unverified)
