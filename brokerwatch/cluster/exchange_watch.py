"""What is asked once for all accounts of an exchange: its own status, its markets, and the verifications."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from brokerwatch.actors.protocol import BrokerMessage, Stated
from brokerwatch.clock import Clock
from brokerwatch.cluster.wiring import WiredAccount
from brokerwatch.errors import CouldNotAsk
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


class ExchangeWatch:
    """Asks each exchange once for all accounts there, as long as the cluster runs.

    `start` and `stop` are for the thread that starts or stops the cluster, `go_on` for one thread beside it;
    `want_markets` is for any thread.
    """

    def __init__(self, clock: Clock, interval_s: float, send: Callable[[str, BrokerMessage], object]) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._send = send
        self._running = False
        self._watches: list[Future[Any]] = []
        self._looked_up_s: dict[Venue, float] = {}

    def start(self, accounts: Mapping[str, WiredAccount]) -> None:
        """Ask each exchange how it is, again and again, and for its markets where orders may go out."""
        self._running = True
        self._begin(accounts)

    def go_on(self, accounts: Mapping[str, WiredAccount]) -> None:
        """The same for accounts that were moved to another event loop; the old one asks no more."""
        if self._running:
            self._watches = [watching for watching in self._watches if not watching.done()]
            self._begin(accounts)

    def _begin(self, accounts: Mapping[str, WiredAccount]) -> None:
        by_venue: dict[Venue, list[str]] = {}
        for name, account in accounts.items():
            if account.trading:
                warn_of_shortcomings(name, account)
            by_venue.setdefault(account.access.venue, []).append(name)
        for venue, names in by_venue.items():
            first = accounts[names[0]]
            if self._interval_s < float("inf") and venue.says_its_status:
                watching = watch(venue, self._interval_s, self._to_all(names), random.uniform)
                self._watches.append(first.access.loop.submit(watching))
            if any(accounts[name].trading for name in names):
                self.want_markets(first)

    def _to_all(self, names: list[str]) -> Callable[[Status | None], None]:
        def state(status: Status | None) -> None:
            for name in names:
                self._send(name, Stated(status))

        return state

    def want_markets(self, account: WiredAccount) -> None:
        """Load markets that are not known yet, if the last attempt is long enough ago. Never waits."""
        venue, now_s = account.access.venue, self._clock.up_s()
        if self._running and now_s - self._looked_up_s.get(venue, float("-inf")) >= MARKETS_AGAIN_S:
            self._looked_up_s[venue] = now_s
            self._watches.append(account.access.loop.submit(account.queries.products()))

    def stop(self) -> None:
        """Ask no more. What is under way is cancelled."""
        self._running = False
        for watching in self._watches:
            watching.cancel()


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


def look_up_verifications(gate: Gate | None, accounts: Mapping[str, WiredAccount]) -> None:
    """Learn which keys are verified before any handle is given out, and log which are not."""
    if gate is None:
        return
    trading = [account for account in accounts.values() if account.trading]
    gate.start(account.access.report_key for account in trading)
    for account in trading:
        if account.entry.unverified:
            _log.warning("%s", account.entry.unverified)
