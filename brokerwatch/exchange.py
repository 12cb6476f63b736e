"""The gateway to the exchanges: ccxt on one asyncio loop.

ccxt signs, counts nonces and speaks HTTP. What it may not do here is decide that an answer is a
balance: for HTML, an empty body, cut JSON or a status that it does not know it gives an empty
balance without an error. So every instance is made from a class of ours that refuses such
answers (strict.py), and for the exchanges whose envelope we know the balance is read by answers.py from the
exact text of the amounts. An instance belongs to the loop's thread; all share one HTTP session.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import ccxt.async_support as ccxt

from brokerwatch.account import Account
from brokerwatch.answers import FAMILIES
from brokerwatch.backlog import KeyState
from brokerwatch.claims import Claim, claim
from brokerwatch.clock import Clock
from brokerwatch.config import CCXT_NAMES, CREDENTIALS, BrokerSpec
from brokerwatch.connection import Connection, Run
from brokerwatch.credentials import key_fingerprint
from brokerwatch.desk import Desk, Teller
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.lane import LANE_WAIT_S, KeyBook, Lane
from brokerwatch.loop import Loop
from brokerwatch.pace import BUDGETS, STAND_IN, Budget
from brokerwatch.sessions import CERTIFICATES, Sessions, unredirected
from brokerwatch.source import AsyncSource
from brokerwatch.strict import QUIET, clone, strict_class
from brokerwatch.venue import Venue

POOL_THREADS: Final = 8
"""For synchronous ccxt instances, whose calls block."""
RISING_NONCES: Final = frozenset({"kraken"})
"""Families whose private calls carry a number that must rise; the others sign the time, or a token."""

_SNAKE: Final = {theirs: ours for ours, theirs in CCXT_NAMES.items()}

_log: Final = logging.getLogger(__name__)


class Catalogue:
    """What ccxt knows about exchanges, for the configuration to check itself against."""

    @staticmethod
    def exchanges() -> frozenset[str]:
        """Every exchange id."""
        return frozenset(ccxt.exchanges)

    @staticmethod
    @cache
    def required_credentials(exchange: str) -> tuple[str, ...]:
        """The credentials that an exchange cannot do without, in snake_case."""
        described = getattr(ccxt, exchange)().requiredCredentials
        return tuple(_SNAKE.get(str(name), str(name)) for name, needed in described.items() if needed)


@dataclass(frozen=True, slots=True)
class Access:
    """The ways to one broker's account."""

    source: AsyncSource
    """Its balance."""
    desk: Desk
    """Everything else that it can be asked or told."""
    loop: Loop
    """Where all of it runs."""
    lane: Lane
    """The queue of its API key."""
    venue: Venue
    """What is public about its exchange."""


class Gateway:
    """All exchange accounts of one process: one loop thread, one HTTP session, one lane for each API key.

    A trader's own asynchronous instance is asked on the loop that is his (the one that it was used on, else
    `home`), a synchronous one in a small pool.
    """

    def __init__(
        self,
        loop: Loop,
        clock: Clock,
        book: KeyBook,
        known: Mapping[str, KeyState],
        claims: Path | None,
        home: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop
        self._home = home
        self._clock = clock
        self._book = book
        self._known = known
        self._claims_folder = claims
        self._sessions = {loop: Sessions()}
        self._owners: dict[asyncio.AbstractEventLoop, Loop] = {}
        self._prototypes: dict[str, Any] = {}
        self._connections: list[Connection] = []
        self._lanes: dict[str, tuple[Loop, Lane]] = {}
        self._claims: list[Claim] = []
        self._venues: dict[str, Venue] = {}
        self._pool: ThreadPoolExecutor | None = None

    def account(self, spec: BrokerSpec, teller: Teller) -> Access:
        """The ways to one broker's account; `teller` is told how calls end. Makes no request yet.

        Raises ConfigError.
        """
        if spec.exchange not in Catalogue.exchanges():
            expected = f"expected a ccxt id; ccxt knows no {spec.exchange!r}"
            raise ConfigError((Problem("", f"brokers.{spec.name}.exchange", expected),))
        for name in Catalogue.required_credentials(spec.exchange):
            if name not in spec.credentials and CCXT_NAMES.get(name, name) not in spec.ccxt:
                expected = f"expected the {name} of {spec.exchange}"
                raise ConfigError((Problem("", f"brokers.{spec.name}.credentials", expected),))
        family = FAMILIES.get(spec.exchange, "")
        run = self._pool_of(spec)
        loop = self._loop if spec.instance is None or run is not None else self._owners_loop(spec)
        lane = self._lane(spec, family, loop)
        connection = Connection(
            spec, family, lambda: self._instance(spec, family, lane, loop), self._clock, run
        )
        if spec.instance is None:
            self._connections.append(connection)
        account = Account(spec, connection, lane, self._clock)
        source = AsyncSource(
            loop, account.read, account.explain, self._clock, turn=account.turn, queue_s=LANE_WAIT_S
        )
        venue = self._venue(spec, family, loop, run)
        return Access(
            source, Desk(spec, connection, lane, venue, self._clock, teller, loop), loop, lane, venue
        )

    def _venue(self, spec: BrokerSpec, family: str, loop: Loop, run: Run | None) -> Venue:
        """What is public about this broker's exchange; accounts at one address share it."""
        own = spec.instance
        where = json.dumps(dict(spec.ccxt), sort_keys=True, default=repr)
        name = f"{spec.exchange} {where}" if own is None else f"instance {id(own)}"
        if name not in self._venues:
            blank = replace(spec, credentials=MappingProxyType({}), exchange=spec.exchange, instance=None)

            def instantiate() -> Any:
                if own is not None:
                    made = self._borrowed(own, loop)
                    for credential in CREDENTIALS:
                        if hasattr(made, CCXT_NAMES.get(credential, credential)):
                            setattr(made, CCXT_NAMES.get(credential, credential), "")
                else:
                    made = self._prototype(blank, loop, large=True)
                # Prices and steps as they were written; markets as nobody else has changed them.
                made.number = str
                made.markets = None
                return made

            connection = Connection(blank, family, instantiate, self._clock, run)
            if own is None:
                self._connections.append(connection)
            self._venues[name] = Venue(connection, self._clock, spec.fetch_deadline_s)
        return self._venues[name]

    def _pool_of(self, spec: BrokerSpec) -> Run | None:
        """Where calls of a synchronous instance block; None for an asynchronous one."""
        if spec.instance is None or _is_async(spec.instance):
            return None
        if self._pool is None:
            self._pool = ThreadPoolExecutor(POOL_THREADS, "brokerwatch-sync")
        pool, loop = self._pool, self._loop

        async def run(function: Callable[[], Any]) -> Any:
            return await loop.asyncio_loop.run_in_executor(pool, function)

        return run

    def _lane(self, spec: BrokerSpec, family: str, loop: Loop) -> Lane:
        """The lane of this broker's API key; brokers on one key share it."""
        name = key_fingerprint(family or spec.exchange, spec.credentials) or f"broker {spec.name}"
        budget = _budget(spec, family)
        if name in self._lanes:
            lanes_loop, lane = self._lanes[name]
            if lanes_loop is not loop:
                expected = (
                    "its API key is also that of a broker on another event loop, and one key is one queue; "
                    "expected the same ccxt instance for both, or another key"
                )
                raise ConfigError((Problem("", f"brokers.{spec.name}", expected),))
            _log.warning("%s has the API key of another broker here: one account, and one lane", spec.name)
            lane.budget_at_most(budget)
            return lane
        lane = Lane(name, budget, self._clock, self._book, self._known.get(name, KeyState(name)))
        lane.counts_nonces = family in RISING_NONCES
        self._lanes[name] = (loop, lane)
        if spec.credentials and not spec.simulated and self._claims_folder is not None:
            self._claim(self._claims_folder / f"{name}.lock", spec)
        return lane

    def _claim(self, path: Path, spec: BrokerSpec) -> None:
        """Warn when somebody else on this machine watches with the same key: their nonces would collide."""
        try:
            claimed = claim(path)
        except OSError as error:
            _log.warning("cannot tell whether another process uses the key of %s: %s", spec.name, error)
            return
        if isinstance(claimed, Claim):
            self._claims.append(claimed)
        else:
            _log.warning(
                "%s: %s watches with the same API key; give each a key of its own, or nonces and rate limits "
                "will collide",
                spec.name,
                claimed,
            )

    def _instance(self, spec: BrokerSpec, family: str, lane: Lane, loop: Loop) -> Any:
        """A strict ccxt instance for one account."""
        if spec.instance is not None:
            instance = self._borrowed(spec.instance, loop)
            if lane.counts_nonces:
                # The trader's own calls and ours take their numbers from one place, which ccxt allows for.
                spec.instance.nonce = lane.nonces.next
        else:
            instance = clone(self._prototype(spec, loop, large=not family))
            for name, value in spec.credentials.items():
                setattr(instance, CCXT_NAMES.get(name, name), value)
        if family:
            # The balance needs no list of markets (160 KiB an account instead of 11 to 17 MiB).
            instance.markets = {}
        if lane.counts_nonces:
            instance.nonces = lane.nonces
        return instance

    def _prototype(self, spec: BrokerSpec, loop: Loop, *, large: bool) -> Any:
        """A ccxt instance without credentials, which others are copied from."""
        options: dict[str, Any] = {
            # ccxt's throttle would add 3 s to each Kraken call, by the wall clock; the lane has the budget.
            "enableRateLimit": False,
            "timeout": round(spec.fetch_deadline_s * 1_000) + 1_000,  # the deadline of ours comes first
            # Floats would lose digits where ccxt parses the balance; we parse it where we know the form.
            **({} if spec.exchange in FAMILIES else {"number": str}),
            **spec.ccxt,
        }
        name = json.dumps([spec.exchange, large, options], sort_keys=True, default=repr)
        if name not in self._prototypes:
            made = strict_class(getattr(ccxt, spec.exchange))(options)
            # At DEBUG ccxt's own logger would print keys and signatures.
            made.logger = QUIET
            self._sessions[loop].lend(made, large=large)
            self._prototypes[name] = made
        return self._prototypes[name]

    def _borrowed(self, own: Any, loop: Loop) -> Any:
        """A strict copy of a trader's own instance; a session that he brought is used, and not closed."""
        made = clone(own)
        made.timeout = own.timeout
        if not _is_async(own):
            made.session = unredirected(own.session)
            return made
        if own.own_session and own.verify is True and own.cafile == CERTIFICATES:
            sessions = self._sessions.setdefault(loop, Sessions(trust_env=own.aiohttp_trust_env))
            sessions.lend(made, large=True)
            return made
        if own.session is None:
            own.open()
        made.own_session, made.session, made.ssl_context = False, own.session, own.ssl_context
        return made

    def recall(self, keys: Mapping[str, KeyState]) -> None:
        """What is remembered of the keys could be read only now."""
        for name, (loop, lane) in self._lanes.items():
            if name in keys:
                loop.call(partial(lane.recall, keys[name]))

    def close(self, deadline_s: float) -> bool:
        """Close the sessions, each on its own loop. False when ours does not answer in time."""
        for held in self._claims:
            held.release()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        closing: list[Future[None]] = []
        for loop, sessions in self._sessions.items():
            try:
                closing.append(loop.submit(self._close(sessions, last=loop is self._loop)))
            except RuntimeError:
                if loop is self._loop:
                    return False  # a trader's loop may have ended before us, and its session with it
        return not wait(closing, deadline_s).not_done

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
            for connection in self._connections:
                await connection.close()
        await sessions.close()


@cache
def _spacing_ms(exchange: str) -> float:
    return float(getattr(ccxt, exchange)().rateLimit or 1_000.0)


def _is_async(instance: Any) -> bool:
    fetch: Any = getattr(instance, "fetch_balance", None)
    return inspect.iscoroutinefunction(fetch)


def _budget(spec: BrokerSpec, family: str) -> Budget:
    """What the configuration says, else what the exchange publishes, else what ccxt says of it."""
    own = spec.instance
    elsewhere = own is not None and own.urls.get("api") != own.describe().get("urls", {}).get("api")
    if "urls" in spec.ccxt or elsewhere:
        known = STAND_IN
    elif family:
        known = BUDGETS[family]
    else:
        spacing_ms = _spacing_ms(spec.exchange)
        known = Budget(1.0, 1_000.0 / max(1.0, spacing_ms))
    return Budget(
        known.burst if spec.request_burst is None else spec.request_burst,
        known.per_s if spec.requests_per_s is None else spec.requests_per_s,
    )
