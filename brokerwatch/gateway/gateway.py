"""The gateway to the exchanges: ccxt on one asyncio loop.

ccxt signs, counts nonces and speaks HTTP. What it may not do here is decide that an answer is a
balance: for HTML, an empty body, cut JSON or a status that it does not know it gives an empty
balance without an error. So every instance is made from a class of ours that refuses such
answers (strict_ccxt.py), and for the exchanges whose envelope is known the balance is read by its adapter
from the exact text of the amounts. An instance belongs to the loop's thread; all share one HTTP session.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import ccxt.async_support as ccxt

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import CCXT_NAMES, BrokerSpec
from brokerwatch.config.suggestions import unknown_exchange
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.exchanges.order_traits import LISTED_WITH_KEY
from brokerwatch.exchanges.rate_limit import STAND_IN, Budget
from brokerwatch.exchanges.registry import FAMILIES, profile_of
from brokerwatch.gateway.address import Address, address_key
from brokerwatch.gateway.async_source import AsyncSource
from brokerwatch.gateway.balance_reader import BalanceReader
from brokerwatch.gateway.call_thread import CallThread
from brokerwatch.gateway.catalogue import (
    Catalogue,
    account_mistakes_of,
    call_spacing_ms,
    is_elsewhere,
    report_key,
)
from brokerwatch.gateway.ccxt_instances import Instances
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.http_sessions import Sessions
from brokerwatch.gateway.lane import LANE_WAIT_S, Lane
from brokerwatch.gateway.lanes import Lanes
from brokerwatch.gateway.lease import TermOf, no_term
from brokerwatch.gateway.loop import Loop
from brokerwatch.gateway.owner_instance import is_async
from brokerwatch.gateway.venue import Venue
from brokerwatch.log import logger
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import Remembered
from brokerwatch.tally import Tally

_log: Final = logger(__name__)

KEPT_ADDRESSES: Final = 100
"""So many addresses are kept that no account leaves by now: a ban holds when one of them is used again."""
RETIRED_S: Final = 120.0
"""How long a connection that is not used any more is kept open: no call of it is under way by then."""


@dataclass(frozen=True, slots=True)
class Access:
    """The ways to one broker's account."""

    connection: Connection
    """Its ccxt instance."""
    venue: Venue
    """What is public about its exchange."""
    source: AsyncSource
    """Its balance."""
    lane: Lane
    """The queue of its API key."""
    loop: Loop
    """Where all of it runs."""
    elsewhere: bool
    """Whether it is at another address than the exchange's own."""
    report_key: str
    """The name that its verification goes by."""


class Gateway:
    """All exchange accounts of one process: one loop thread, one HTTP session, one lane for each API key.

    A trader's own asynchronous instance is asked on its own loop (the one that it was used on, else
    `home`), a synchronous one in a small pool.
    """

    def __init__(
        self,
        loop: Loop,
        clock: Clock,
        journal: Journal,
        known: Remembered,
        claims: Path | None,
        home: asyncio.AbstractEventLoop | None = None,
        tally: Tally | None = None,
        term_of: TermOf = no_term,
    ) -> None:
        self._loop = loop
        self._home = home
        self._tally = Tally() if tally is None else tally
        self._clock = clock
        self._lanes = Lanes(clock, journal, known, claims, self._tally, term_of)
        self._instances = Instances(loop, partial(getattr, ccxt))
        self._owners: dict[asyncio.AbstractEventLoop, Loop] = {}
        self._connections: dict[Connection, None] = {}
        """Those that we made, in their order."""
        self._addresses: weakref.WeakValueDictionary[str, Address] = weakref.WeakValueDictionary()
        self._kept_addresses: dict[str, Address] = {}
        """Those that were asked for last, in this order."""
        self._venues: dict[str, tuple[Loop, Venue]] = {}
        self._venue_users: Counter[Venue] = Counter()
        self._former_venues: dict[str, Venue] = {}
        self._threads: dict[str, CallThread] = {}

    @property
    def loop(self) -> Loop:
        """The loop on which the accounts are asked, but for those with a trader's own instance."""
        return self._loop

    def account(self, spec: BrokerSpec) -> Access:
        """The ways to one broker's account. Makes no request yet.

        Raises ConfigError.
        """
        if spec.exchange not in Catalogue.exchanges():
            expected = f"expected a ccxt id; {unknown_exchange(spec.exchange, Catalogue.exchanges())}"
            raise ConfigError((Problem("", f"brokers.{spec.name}.exchange", expected),))
        for name in Catalogue.required_credentials(spec.exchange):
            if name not in spec.credentials and CCXT_NAMES.get(name, name) not in spec.ccxt:
                expected = f"expected the {name} of {spec.exchange}"
                raise ConfigError((Problem("", f"brokers.{spec.name}.credentials", expected),))
        problems = [
            Problem("", f"brokers.{spec.name}.{key}", expected) for key, expected in account_mistakes_of(spec)
        ]
        if problems:
            raise ConfigError(tuple(problems))
        family = FAMILIES.get(spec.exchange, "")
        blocks = spec.instance is not None and not is_async(spec.instance)
        loop = self._loop if spec.instance is None or blocks else self._owners_loop(spec)
        address = self._address(spec, family)
        lane = self._lanes.of(spec, family, loop, _budget(spec, family), address)
        connection = Connection(
            spec,
            family,
            lambda: self._instances.of_account(spec, family, lane, loop),
            self._clock,
            self._thread(lane.fingerprint).run if blocks else None,
        )
        if spec.instance is None:
            self._connections[connection] = None
        signed = (connection, lane) if spec.exchange in LISTED_WITH_KEY else None
        venue = self._venue(spec, family, loop, signed, address, blocks=blocks)
        self._venue_users[venue] += 1
        asks = venue.clock.refresh if spec.trading else _nothing
        account = BalanceReader(spec, connection, lane, self._clock, asks)
        source = AsyncSource(
            loop,
            account.read,
            account.explain,
            self._clock,
            turn=account.turn,
            queue_s=LANE_WAIT_S,
            longest_wait_s=partial(lane.longest_wait_s, spec.fetch_deadline_s),
            held_since_s=lambda: lane.in_use_since_s,
            spare_wait_s=account.spare_wait_s,
            tally=self._tally.account(spec.name),
            claimed=lane.lease.claimed,
        )
        return Access(connection, venue, source, lane, loop, is_elsewhere(spec), report_key(spec))

    def let_go(self, broker: str, access: Access) -> None:
        """The ways to an account are used no more, for new calls: those under way go on to their end."""
        if self._lanes.leave(access.lane, broker) and access.lane.fingerprint in self._threads:
            self._threads.pop(access.lane.fingerprint).close()
        self._retire(access.connection, access.loop)
        access.loop.call(self._instances.forget)
        self._venue_users[access.venue] -= 1
        if self._venue_users[access.venue] > 0:
            return
        del self._venue_users[access.venue]
        for name, (_, venue) in tuple(self._venues.items()):
            if venue is access.venue:
                del self._venues[name]
                self._retire(venue.connection, access.loop)
                if (public := self._threads.pop(_public(name), None)) is not None:
                    public.close()

    def _retire(self, connection: Connection, loop: Loop) -> None:
        """Close a connection once no call of it can be under way any more."""
        if connection in self._connections:
            later = partial(self._close_retired, connection, loop)
            loop.call(partial(loop.asyncio_loop.call_later, RETIRED_S, later))

    def _close_retired(self, connection: Connection, loop: Loop) -> None:
        if self._connections.pop(connection, self) is None:
            loop.hand_over(connection.close())

    def move(self, new: Loop) -> Callable[[], Coroutine[Any, Any, None]]:
        """Go on on another loop of ours, because the one until now hangs. Asks nothing.

        Its accounts are to be asked for again, with `account`. From here on no request goes out of the old
        loop. Called by one thread at a time.

        Returns:
            What lets go of the sessions of the old loop. It is for that loop's own thread, if it ever wakes.
        """
        old = self._loop
        old.lease.revoked = old.lease.revoked or "its event loop hangs and is replaced"
        left, sessions = self._connections, self._instances.moved(old, new)
        self._loop, self._connections = new, {}
        self._lanes.move(old)
        for name, (loop, venue) in tuple(self._venues.items()):
            if loop is old:
                del self._venues[name], self._venue_users[venue]
                self._former_venues[name] = venue

        async def let_go() -> None:
            for connection in tuple(left):
                await connection.close()
            await sessions.close()

        return let_go

    def _venue(
        self,
        spec: BrokerSpec,
        family: str,
        loop: Loop,
        signed: tuple[Connection, Lane] | None,
        address: Address,
        *,
        blocks: bool,
    ) -> Venue:
        """What is public about this broker's exchange; accounts at one address share it.

        Where the list of markets takes a key, `signed` asks for it, and only the accounts of that key share.
        """
        own = spec.instance
        where = json.dumps(dict(spec.ccxt), sort_keys=True, default=repr)
        name = f"{spec.exchange} {where}" if own is None else f"instance {id(own)}"
        if signed is not None:
            name = f"{name} {signed[1].fingerprint}"
        if name not in self._venues:
            blank = replace(spec, credentials=MappingProxyType({}), exchange=spec.exchange, instance=None)
            # Not on the thread of the key: a list of markets must not hold up an order.
            connection = Connection(
                blank,
                family,
                lambda: self._instances.of_venue(blank, own, loop),
                self._clock,
                self._thread(_public(name)).run if blocks else None,
            )
            if own is None:
                self._connections[connection] = None
            venue = Venue(connection, self._clock, spec.fetch_deadline_s, address, signed)
            former = self._former_venues.pop(name, None)
            if former is not None:
                venue.go_on_from(former)
            self._venues[name] = loop, venue
        return self._venues[name][1]

    def _address(self, spec: BrokerSpec, family: str) -> Address:
        """Where the calls of this broker leave from; accounts at one exchange may share it."""
        key = address_key(spec, family, Catalogue.urls(spec.exchange))
        found = self._kept_addresses.pop(key, None) or self._addresses.get(key) or Address(self._clock)
        self._addresses[key] = self._kept_addresses[key] = found
        if len(self._kept_addresses) > KEPT_ADDRESSES:
            del self._kept_addresses[next(iter(self._kept_addresses))]
        return found

    def _thread(self, name: str) -> CallThread:
        """Where the calls of a synchronous instance block."""
        if name not in self._threads:
            self._threads[name] = CallThread(f"brokerwatch-sync {name}")
        return self._threads[name]

    def recall(self, known: Remembered) -> None:
        """What is remembered of the keys could be read only now."""
        self._lanes.recall(known)

    def forget_keys(self, keys: Collection[str], known: Remembered) -> None:
        """Lanes of these keys, when they are made again, begin with what is stored of them."""
        self._lanes.forget(keys, known)

    def close(self, deadline_s: float) -> bool:
        """Close the sessions, each on its own loop. False when ours does not answer in time."""
        self._lanes.close()
        until_s = self._clock.up_s() + deadline_s
        for thread in self._threads.values():
            thread.close()
        closing: list[Future[None]] = []
        for loop, sessions in self._instances.sessions.items():
            try:
                closing.append(loop.submit(self._close(sessions, last=loop is self._loop)))
            except RuntimeError:
                if loop is self._loop:
                    return False  # a trader's loop may have ended before us, and its session with it
        ended = not wait(closing, deadline_s).not_done
        for thread in self._threads.values():
            if not thread.ended(max(0.0, until_s - self._clock.up_s())):
                _log.warning("%s is in a call that does not end, and is left behind", thread.name)
        return ended

    def _owners_loop(self, spec: BrokerSpec) -> Loop:
        """The event loop that a trader's asynchronous instance belongs to."""
        found = spec.instance.asyncio_loop or self._home
        if found is None:
            expected = (
                "its ccxt instance belongs to no event loop yet; expected a cluster that is started "
                "inside the loop (`async with Cluster(...)`), or `asyncio_loop` in the instance's options"
            )
            raise ConfigError((Problem("", f"brokers.{spec.name}.exchange", expected),))
        return self._owners.setdefault(found, Loop(found))

    async def _close(self, sessions: Sessions, *, last: bool) -> None:
        if last:
            for connection in tuple(self._connections):
                await connection.close()
        await sessions.close()


def _public(venue: str) -> str:
    """The name of the thread on which a venue is asked where calls block."""
    return f"{venue} public"


def _nothing() -> None:
    """Where no order has a deadline, the clock of the exchange is not asked for."""


def _budget(spec: BrokerSpec, family: str) -> Budget:
    """What the configuration says, else what the exchange publishes, else what ccxt says of it."""
    known = profile_of(family).budget
    if is_elsewhere(spec):
        known = STAND_IN
    elif known is None:
        spacing_ms = call_spacing_ms(spec.exchange)
        known = Budget(1.0, 1_000.0 / max(1.0, spacing_ms))
    return Budget(
        known.burst if spec.request_burst is None else spec.request_burst,
        known.per_s if spec.requests_per_s is None else spec.requests_per_s,
    )
