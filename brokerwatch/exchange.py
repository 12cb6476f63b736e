"""The gateway to the exchanges: ccxt on one asyncio loop. The only file that imports aiohttp.

ccxt signs, counts nonces and speaks HTTP. What it may not do here is decide that an answer is a
balance: for HTML, an empty body, cut JSON or a status that it does not know it gives an empty
balance without an error. So every instance is made from a class of ours that refuses such
answers (strict.py), and for the exchanges whose envelope we know the balance is read by answers.py from the
exact text of the amounts. An instance belongs to the loop's thread; all share one HTTP session.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import ccxt.async_support as ccxt
import certifi

from brokerwatch.account import Account
from brokerwatch.answers import FAMILIES
from brokerwatch.backlog import KeyState
from brokerwatch.claims import Claim, claim
from brokerwatch.clock import Clock
from brokerwatch.config import BrokerSpec
from brokerwatch.connection import Connection
from brokerwatch.credentials import key_fingerprint
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.lane import LANE_WAIT_S, KeyBook, Lane
from brokerwatch.loop import LoopThread
from brokerwatch.pace import BUDGETS, STAND_IN, Budget
from brokerwatch.source import AsyncSource
from brokerwatch.strict import QUIET, strict_class

KEEPALIVE_S: Final = 75.0
"""Longer than the usual poll, so that a connection is used again."""
RISING_NONCES: Final = frozenset({"kraken"})
"""Families whose private calls carry a number that must rise; the others sign the time, or a token."""

_SNAKE: Final = {
    "apiKey": "api_key",
    "accountId": "account_id",
    "privateKey": "private_key",
    "walletAddress": "wallet_address",
}
"""ccxt's credentials whose name in our configuration differs."""


_log: Final = logging.getLogger(__name__)


class Catalogue:
    """What ccxt knows about exchanges, for the configuration to check itself against."""

    @staticmethod
    def exchanges() -> frozenset[str]:
        """Every exchange id."""
        return frozenset(ccxt.exchanges)

    @staticmethod
    def required_credentials(exchange: str) -> tuple[str, ...]:
        """The credentials that an exchange cannot do without, in snake_case."""
        described = getattr(ccxt, exchange)().requiredCredentials
        return tuple(_SNAKE.get(str(name), str(name)) for name, needed in described.items() if needed)


async def _follow_nobody(
    session: aiohttp.ClientSession, context: object, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    """A redirect would carry key and signature to a stranger, and his answer would be believed."""
    del session, context
    answer = redirect.response
    answer.close()
    raise aiohttp.ClientResponseError(
        answer.request_info,
        answer.history,
        status=answer.status,
        message=f"redirects to {answer.headers.get('Location', 'nowhere')}, and we follow nobody",
    )


class _Answer(aiohttp.ClientResponse):
    """An answer that is not read for ever: a bomb in gzip would take gigabytes, and everybody's time."""

    largest_bytes = 4 << 20  # an account with 1,500 currencies states them in 200 KB

    async def read(self) -> bytes:
        if self._body is None:
            read = bytearray()
            async for part in self.content.iter_any():
                read += part
                if len(read) > self.largest_bytes:
                    self.close()
                    raise aiohttp.ClientResponseError(
                        self.request_info, self.history, message=f"more than {self.largest_bytes:,} bytes"
                    )
            self._body = bytes(read)
        return self._body


class _LargeAnswer(_Answer):
    """The same for exchanges that must load their list of markets first."""

    largest_bytes = 64 << 20


class _Connector(aiohttp.TCPConnector):
    """Connections on which nothing waits to be read: what came before the question answers none of ours.

    All accounts share them, so a server that repeats itself would give one account's money to another.
    """

    async def connect(self, *request: Any, **named: Any) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(*request, **named)
            protocol = connection.protocol
            if protocol is None or not protocol.should_close:
                return connection
            connection.close()


class Gateway:
    """All exchange accounts of one process: one loop thread, one HTTP session, one lane for each API key."""

    def __init__(
        self,
        loop: LoopThread,
        clock: Clock,
        book: KeyBook,
        known: Mapping[str, KeyState],
        claims: Path | None,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._book = book
        self._known = known
        self._claims_folder = claims
        self._sessions: dict[type[aiohttp.ClientResponse], aiohttp.ClientSession] = {}
        self._context: ssl.SSLContext | None = None
        self._connections: list[Connection] = []
        self._lanes: dict[str, Lane] = {}
        self._claims: list[Claim] = []

    def source(self, spec: BrokerSpec) -> AsyncSource:
        """The source of one broker's balance. Makes no request yet. Raises ConfigError."""
        if spec.exchange not in Catalogue.exchanges():
            expected = f"expected a ccxt id; ccxt knows no {spec.exchange!r}"
            raise ConfigError((Problem("", f"brokers.{spec.name}.exchange", expected),))
        for name in Catalogue.required_credentials(spec.exchange):
            if name not in spec.credentials and _camel(name) not in spec.ccxt:
                expected = f"expected the {name} of {spec.exchange}"
                raise ConfigError((Problem("", f"brokers.{spec.name}.credentials", expected),))
        family = FAMILIES.get(spec.exchange, "")
        lane = self._lane(spec, family)
        connection = Connection(spec, family, lambda: self._instance(spec, family, lane), self._clock)
        self._connections.append(connection)
        account = Account(spec, connection, lane, self._clock)
        return AsyncSource(
            self._loop, account.read, account.explain, self._clock, turn=account.turn, queue_s=LANE_WAIT_S
        )

    def _lane(self, spec: BrokerSpec, family: str) -> Lane:
        """The lane of this broker's API key; brokers on one key share it."""
        name = key_fingerprint(family or spec.exchange, spec.credentials) or f"broker {spec.name}"
        budget = _budget(spec, family)
        if name in self._lanes:
            _log.warning("%s has the API key of another broker here: one account, and one lane", spec.name)
            self._lanes[name].budget_at_most(budget)
            return self._lanes[name]
        lane = Lane(name, budget, self._clock, self._book, self._known.get(name, KeyState(name)))
        lane.counts_nonces = family in RISING_NONCES
        self._lanes[name] = lane
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

    def _instance(self, spec: BrokerSpec, family: str, lane: Lane) -> Any:
        """A ccxt instance for one account, on the shared session."""
        options: dict[str, Any] = {
            **{_camel(name): value for name, value in spec.credentials.items()},
            # ccxt's throttle would add 3 s to each Kraken call, by the wall clock; the lane has the budget.
            "enableRateLimit": False,
            "timeout": round(spec.fetch_deadline_s * 1_000) + 1_000,  # the deadline of ours comes first
            # Floats would lose digits where ccxt parses the balance; we parse it where we know the form.
            **({} if family else {"number": str}),
            **spec.ccxt,
        }
        instance = strict_class(getattr(ccxt, spec.exchange))(options)
        # At DEBUG ccxt's own logger would print keys and signatures.
        instance.logger = QUIET
        instance.own_session = False
        instance.session = self.session(_Answer if family else _LargeAnswer)
        if family:
            # The balance needs no list of markets (160 KiB an account instead of 11 to 17 MiB).
            instance.markets = {}
        if lane.counts_nonces:
            instance.nonces = lane.nonces
        return instance

    def session(self, response: type[aiohttp.ClientResponse]) -> aiohttp.ClientSession:
        """The shared session for answers of this class; made on the loop's thread when it is first needed."""
        if response not in self._sessions:
            if self._context is None:
                # One context for all: making it costs 15 to 30 ms and most of a megabyte.
                self._context = ssl.create_default_context(cafile=certifi.where())
            tracing = aiohttp.TraceConfig()
            tracing.on_request_redirect.append(_follow_nobody)
            self._sessions[response] = aiohttp.ClientSession(
                connector=_Connector(ssl=self._context, limit=0, keepalive_timeout=KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                response_class=response,
                trace_configs=[tracing],
            )
        return self._sessions[response]

    def recall(self, keys: Mapping[str, KeyState]) -> None:
        """What is remembered of the keys could be read only now."""
        for name, lane in self._lanes.items():
            if name in keys:
                self._loop.call(partial(lane.recall, keys[name]))

    def close(self, deadline_s: float) -> bool:
        """Close the session on its own loop. False when the loop does not answer in time."""
        try:
            self._loop.submit(self._close()).result(deadline_s)
        except (TimeoutError, RuntimeError):
            return False
        return True

    async def _close(self) -> None:
        for held in self._claims:
            held.release()
        for connection in self._connections:
            await connection.close()
        for session in self._sessions.values():
            await session.close()


def _budget(spec: BrokerSpec, family: str) -> Budget:
    """What the configuration says, else what the exchange publishes, else what ccxt says of it."""
    if "urls" in spec.ccxt:
        known = STAND_IN
    elif family:
        known = BUDGETS[family]
    else:
        spacing_ms = float(getattr(ccxt, spec.exchange)().rateLimit or 1_000.0)
        known = Budget(1.0, 1_000.0 / max(1.0, spacing_ms))
    return Budget(
        known.burst if spec.request_burst is None else spec.request_burst,
        known.per_s if spec.requests_per_s is None else spec.requests_per_s,
    )


def _camel(name: str) -> str:
    return next((camel for camel, snake in _SNAKE.items() if snake == name), name)
