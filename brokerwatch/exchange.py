"""The gateway to the exchanges: ccxt on one asyncio loop. The only file that imports ccxt and aiohttp.

ccxt signs, counts nonces and speaks HTTP. What it may not do here is decide that an answer is a
balance: for HTML, an empty body, cut JSON or a status that it does not know it gives an empty
balance without an error. So every instance is made from a class of ours that refuses such
answers, and for the exchanges whose envelope we know the balance is read by answers.py from the
exact text of the amounts. An instance belongs to the loop's thread; all share one HTTP session.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import aiohttp
import ccxt.async_support as ccxt
import certifi
from ccxt.base.errors import BadResponse, ExchangeError

from brokerwatch import answers
from brokerwatch.answers import NotProof
from brokerwatch.clock import Clock
from brokerwatch.config import BrokerSpec
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.faults import Failure, classify
from brokerwatch.loop import LoopThread
from brokerwatch.messages import Fault, FaultKind, Holding
from brokerwatch.source import AsyncSource

KEEPALIVE_S: Final = 75.0
"""Longer than the usual poll, so that a connection is used again."""
MAX_SHOWN: Final = 20_000
"""Characters of a broken answer that are looked through for secrets; far more than a fault's text keeps."""
MAX_PAGES: Final = 100
"""Pages of one account list; a cursor that never ends is a broken answer."""

FAMILIES: Final[Mapping[str, str]] = {
    "kraken": "kraken",
    "coinbase": "coinbase",
    "coinbaseadvanced": "coinbase",
    "okx": "okx",
    "myokx": "okx",
    "okxus": "okx",
}
"""Exchanges whose envelope we know; an alias shares its parent's."""

_SNAKE: Final = {
    "apiKey": "api_key",
    "accountId": "account_id",
    "privateKey": "private_key",
    "walletAddress": "wallet_address",
}
"""ccxt's credentials whose name in our configuration differs."""


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


class _Strict:
    """Mixed into a ccxt class: refuses answers that ccxt would call empty, and keeps what it saw."""

    last_status: int | None = None
    last_body: str = ""

    async def fetch(self, *request: Any, **named: Any) -> Any:
        # What the page before said must not explain why this one never came.
        self.last_status, self.last_body = None, ""
        return await cast("Any", super()).fetch(*request, **named)

    def handle_errors(
        self,
        code: int,
        reason: str,
        url: str,
        method: str,
        headers: Any,
        body: str,
        response: Any,
        *rest: Any,
    ) -> Any:
        self.last_status, self.last_body = code, body
        if not isinstance(response, dict | list):
            raise BadResponse(f"HTTP {code} {reason or ''}: {_shown(body)}")
        inner = cast("Any", super())
        found = inner.handle_errors(code, reason, url, method, headers, body, response, *rest)
        if not 200 <= code < 300:
            # ccxt's own table follows this call; a status it has not would pass as an answer.
            raise ExchangeError(f"HTTP {code} {reason or ''}: {_shown(body)}")
        return found

    def on_json_response(self, text: str) -> Any:
        return answers.parsed(text)

    def on_rest_response(self, *answer: Any) -> str:
        body: str = answer[5]
        # A byte order mark and blanks are no part of the text, and ccxt looks at the first character.
        return body.removeprefix("\ufeff").strip()


def _shown(body: str) -> str:
    # Not cut to what people are shown yet: half a secret would not be recognised any more.
    return repr(body[:MAX_SHOWN]) if body else "an empty body"


_QUIET: Final = logging.getLogger("brokerwatch.ccxt")
_QUIET.setLevel(logging.INFO)

_strict_classes: dict[str, type[Any]] = {}


def _strict_class(exchange: str) -> type[Any]:
    if exchange not in _strict_classes:
        _strict_classes[exchange] = type(exchange, (_Strict, getattr(ccxt, exchange)), {})
    return _strict_classes[exchange]


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


class Gateway:
    """All exchange accounts of one process: one loop thread, one HTTP session, one instance per broker."""

    def __init__(self, loop: LoopThread, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._sessions: dict[type[aiohttp.ClientResponse], aiohttp.ClientSession] = {}
        self._context: ssl.SSLContext | None = None
        self._accounts: list[_Account] = []

    def source(self, spec: BrokerSpec) -> AsyncSource:
        """The source of one broker's balance. Makes no request yet. Raises ConfigError."""
        if spec.exchange not in Catalogue.exchanges():
            expected = f"expected a ccxt id; ccxt knows no {spec.exchange!r}"
            raise ConfigError((Problem("", f"brokers.{spec.name}.exchange", expected),))
        for name in Catalogue.required_credentials(spec.exchange):
            if name not in spec.credentials and _camel(name) not in spec.ccxt:
                expected = f"expected the {name} of {spec.exchange}"
                raise ConfigError((Problem("", f"brokers.{spec.name}.credentials", expected),))
        account = _Account(self, spec)
        self._accounts.append(account)
        return AsyncSource(self._loop, account.read, account.explain, self._clock)

    def session(self, response: type[aiohttp.ClientResponse]) -> aiohttp.ClientSession:
        """The shared session for answers of this class; made on the loop's thread when it is first needed."""
        if response not in self._sessions:
            if self._context is None:
                # One context for all: making it costs 15 to 30 ms and most of a megabyte.
                self._context = ssl.create_default_context(cafile=certifi.where())
            tracing = aiohttp.TraceConfig()
            tracing.on_request_redirect.append(_follow_nobody)
            self._sessions[response] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._context, limit=0, keepalive_timeout=KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                response_class=response,
                trace_configs=[tracing],
            )
        return self._sessions[response]

    def close(self, deadline_s: float) -> bool:
        """Close the session on its own loop. False when the loop does not answer in time."""
        try:
            self._loop.submit(self._close()).result(deadline_s)
        except (TimeoutError, RuntimeError):
            return False
        return True

    async def _close(self) -> None:
        for account in self._accounts:
            await account.close()
        for session in self._sessions.values():
            await session.close()


class _Account:
    """One broker's ccxt instance, used on the loop's thread alone."""

    def __init__(self, gateway: Gateway, spec: BrokerSpec) -> None:
        self._gateway = gateway
        self._spec = spec
        self._family = FAMILIES.get(spec.exchange, "")
        self._instance: Any = None
        # The longest first: one secret may be a part of another.
        self._secrets = sorted(
            (text for value in spec.credentials.values() for text in _spellings(value)), key=len, reverse=True
        )
        readers: Mapping[str, Callable[[], Awaitable[Mapping[str, Holding]]]] = {
            "kraken": self._read_kraken,
            "coinbase": self._read_coinbase,
            "okx": self._read_okx,
        }
        self._read_family = readers.get(self._family, self._read_unified)

    async def read(self) -> Mapping[str, Holding]:
        """The holdings. Raises NotProof or whatever ccxt raises."""
        self._open()
        return await self._read_family()

    def explain(self, error: BaseException) -> Fault:
        """The fault that `error` is, in the exchange's own words, without secrets."""
        instance = self._instance
        if isinstance(error, NotProof):
            return Fault(FaultKind.BAD_RESPONSE, self._redacted(str(error)))
        body = "" if instance is None else instance.last_body
        return classify(
            Failure.of(
                error,
                status=None if instance is None else instance.last_status,
                body=body,
                family=self._family,
                text=self._redacted(_words(error)),
            )
        )

    async def close(self) -> None:
        """Let go of the instance; the session is shared and stays."""
        if self._instance is not None:
            self._instance.timeout_on_exit = 0
            await self._instance.close()

    def _open(self) -> None:
        spec = self._spec
        if self._instance is None:
            options: dict[str, Any] = {
                **{_camel(name): value for name, value in spec.credentials.items()},
                # ccxt's throttle would add 3 s to each Kraken call; a poll is slower than the budget anyway.
                "enableRateLimit": False,
                "timeout": round(spec.fetch_deadline_s * 1_000) + 1_000,  # the deadline of ours comes first
                # Floats would lose digits where ccxt parses the balance; we parse it where we know the form.
                **({} if self._family else {"number": str}),
                **spec.ccxt,
            }
            instance = _strict_class(spec.exchange)(options)
            # At DEBUG ccxt's own logger would print keys and signatures.
            instance.logger = _QUIET
            instance.own_session = False
            instance.session = self._gateway.session(_Answer if self._family else _LargeAnswer)
            if self._family:
                # The balance needs no list of markets (160 KiB an account instead of 11 to 17 MiB).
                instance.markets = {}
            self._instance = instance

    async def _read_kraken(self) -> Mapping[str, Holding]:
        answer = await self._instance.privatePostBalanceEx()
        return answers.kraken(answer, self._instance.safe_currency_code)

    async def _read_okx(self) -> Mapping[str, Holding]:
        answer = await self._instance.privateGetAccountBalance()
        return answers.okx(answer, self._instance.safe_currency_code)

    async def _read_coinbase(self) -> Mapping[str, Holding]:
        found: dict[str, Holding] = {}
        request: dict[str, Any] = {"limit": 250}
        accounts: set[str] = set()
        cursors: set[str] = set()
        for _ in range(MAX_PAGES):
            page = await self._instance.v3PrivateGetBrokerageAccounts(request)
            cursor = answers.coinbase_page(page, self._instance.safe_currency_code, found, accounts)
            if cursor is None:
                return found
            if cursor in cursors:
                raise NotProof("the list of accounts comes round to a page that was read already")
            cursors.add(cursor)
            request = {"limit": 250, "cursor": cursor}
        raise NotProof(f"the list of accounts does not end after {MAX_PAGES} pages")

    async def _read_unified(self) -> Mapping[str, Holding]:
        return answers.unified(_exact(await self._instance.fetch_balance()))

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text


def _words(error: BaseException) -> str:
    """What an error says; first what lies beneath it, since ccxt's own text is often only the address."""
    text = f"{type(error).__name__}: {error}"
    cause = error.__cause__
    return text if cause is None else f"{type(cause).__name__}: {cause} ({text})"


def _exact(structure: object) -> object:
    """ccxt's structure with its floats as the shortest text that means the same."""
    if isinstance(structure, float):
        return repr(structure)
    if isinstance(structure, dict):
        return {
            key: _exact(value)
            for key, value in cast("dict[object, object]", structure).items()
            if key != "info"
        }
    return structure


def _spellings(secret: str) -> tuple[str, ...]:
    """A secret as it may appear in an error text; of a PEM key also each line."""
    lines = [line for line in secret.splitlines() if line and not line.startswith("-----")]
    return tuple({text for text in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], *lines) if text})


def _camel(name: str) -> str:
    return next((camel for camel, snake in _SNAKE.items() if snake == name), name)
