"""HTTP sessions that check what a server says: the only file that imports aiohttp.

All accounts on one loop share them, with one TLS context. A redirect is an error, an answer has a size
that it may not exceed, and a connection on which something waits before we asked is not used.
"""

from __future__ import annotations

import copy
import socket
import ssl
import weakref
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import Any, Final, NamedTuple, cast

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver, ResolveResult

from brokerwatch.gateway.lease import UNDER, Lease
from brokerwatch.gateway.name_lookup import NameLookup
from brokerwatch.gateway.undelivered import drop_undelivered

CERTIFICATES: Final = certifi.where()
"""Whose signatures on certificates are believed; ccxt's own choice too."""
KEEPALIVE_S: Final = 75.0
"""Longer than the usual poll, so that a connection is used again."""


_URL: Final[Any] = cast("Any", aiohttp.client).URL
"""yarl's, which comes with aiohttp. An address is sent as it was signed, and not put in order again."""
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

CLIENT_ERROR: Final = aiohttp.ClientError
"""What `Ask` raises beside TimeoutError and OSError; so that no other file imports aiohttp."""
CONNECTION_ERROR: Final = aiohttp.ClientConnectionError
"""The ones where nothing was answered."""


class HttpAnswer(NamedTuple):
    """An answer as it came."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: str


Ask = Callable[[str, str, str | None, Mapping[str, str], float], Awaitable[HttpAnswer]]
"""Sends one request: method, address, body, headers, and the seconds that it may take."""


class Sessions:
    """The sessions of one loop. Made on the loop's thread when they are first needed, and closed there."""

    def __init__(self, lease: Lease | None = None) -> None:
        """`lease` of the loop: once it is revoked nothing is written any more."""
        self._lease = Lease() if lease is None else lease
        self._context: ssl.SSLContext | None = None
        self._made: dict[tuple[bool, bool], aiohttp.ClientSession] = {}
        """By whether answers may be large, and whether the proxies of the environment are taken."""
        self._names = NameLookup()

    def lend(self, instance: Any, *, large: bool) -> None:
        """Give the shared session to a ccxt instance; `large` to one that loads a list of markets."""
        instance.own_session = False
        # By each account's own settings: one with a proxy must not leave directly, nor the reverse. ccxt has
        # two names for this one, and its asynchronous side passes over the shorter.
        trust_env = bool(instance.aiohttp_trust_env or getattr(instance, "trust_env", False))
        instance.session = self._session(large=large, trust_env=trust_env)
        # Without it ccxt makes another one for each instance: 15 to 30 ms, and 0.7 MB each.
        instance.ssl_context = self._context
        if not large and not _is_proxied(instance):
            instance.ask = partial(_ask, instance.session)

    def _session(self, *, large: bool, trust_env: bool) -> aiohttp.ClientSession:
        if (large, trust_env) not in self._made:
            if self._context is None:
                self._context = ssl.create_default_context(cafile=CERTIFICATES)
            connector = _Connector(
                ssl=self._context, limit=0, keepalive_timeout=KEEPALIVE_S, resolver=_Resolver(self._names)
            )
            connector.lease, connector.of_terms = self._lease, weakref.WeakSet()
            self._made[large, trust_env] = aiohttp.ClientSession(
                connector=connector,
                request_class=cast("Any", partial(_Request, self._lease)),
                cookie_jar=aiohttp.DummyCookieJar(),
                response_class=_LargeAnswer if large else _Answer,
                trust_env=trust_env,
            )
        return self._made[large, trust_env]

    async def close(self) -> None:
        """Close them. Called on the loop's thread."""
        for session in self._made.values():
            await session.close()


class _Resolver(AbstractResolver):
    """Host names for the connections of our sessions."""

    def __init__(self, names: NameLookup) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=where[0],
                port=where[1],
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, where in await self._names.addresses(host, port, family)
            # Where Python has no IPv6, its addresses have another form.
            if found in (socket.AF_INET, socket.AF_INET6) and isinstance(where[0], str)
        ]

    async def close(self) -> None:
        """Nothing to close: what hangs is not waited for."""


class Unredirected:
    """A session that is none of ours and follows no redirect.

    A redirect would carry key and signature to another server, and that server's answer would be believed.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        if name not in _METHODS:
            return found
        if UNDER.get() is None or not _HAS_MIDDLEWARES:
            return partial(found, allow_redirects=False)
        own = getattr(self._session, "_middlewares", ())
        return partial(found, allow_redirects=False, middlewares=(*own, _looked_at))


def unredirected(session: Any) -> Any:
    """A trader's own `requests` session, with its proxies and adapters, that follows and repeats nothing."""
    found = copy.copy(session)
    found.max_redirects = 0
    found.adapters = type(session.adapters)(
        (prefix, _once(adapter)) for prefix, adapter in session.adapters.items()
    )
    return found


def _once(adapter: Any) -> Any:
    """An adapter that repeats nothing by itself: an order that is sent again is placed twice."""
    found = copy.copy(adapter)
    retries = getattr(adapter, "max_retries", None)
    if retries is not None:
        found.max_retries = type(retries)(0, read=False)
    for name in ("get_connection_with_tls_context", "get_connection"):  # the second one before requests 2.32
        if (pool_for := getattr(found, name, None)) is not None:
            setattr(found, name, partial(_looked_at_pool, pool_for))
    return found


def _looked_at_pool(pool_for: Callable[..., Any], *request: Any, **named: Any) -> Any:
    """The connections of a trader's own `requests` session, which look at the term before they write."""
    pool = pool_for(*request, **named)
    if UNDER.get() is None:
        return pool
    found = copy.copy(pool)  # with the same connections
    found._make_request = partial(_made, pool._make_request)
    return found


def _made(make: Callable[..., Any], connection: Any, *request: Any, **named: Any) -> Any:
    if connection.sock is None:
        connection.connect()  # first, or it would lie between the look and the write
    if (lease := UNDER.get()) is not None:
        lease.check_write()
        drop_undelivered(connection.sock, lease.term.call_s)
    return make(connection, *request, **named)


_HAS_MIDDLEWARES: Final = hasattr(aiohttp, "ClientMiddlewareType")
"""From aiohttp 3.12 on. Before, a session of the trader's own cannot be looked at."""


async def _looked_at(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """A request through a trader's own session, which looks at the term before it is written."""
    send, write = request.send, request.write_bytes

    async def sent(connection: Any) -> Any:
        _check_write(connection)
        return await send(connection)

    async def written(writer: Any, connection: Any, *rest: Any, **named: Any) -> None:
        lease = UNDER.get()
        if lease is not None and lease.too_late:
            connection.close()
            return
        await write(writer, connection, *rest, **named)

    request.send, request.write_bytes = sent, written
    return await handler(request)


def _check_write(connection: Any) -> None:
    """Look at the term of the key that is asked with, if it has one. Raises ClaimOver; nothing is written."""
    lease = UNDER.get()
    if lease is None:
        return
    if lease.too_late:
        connection.close()
        lease.check_write()
    transport = connection.transport
    if transport is not None:
        drop_undelivered(transport.get_extra_info("socket"), lease.term.call_s)


_METHODS: Final = frozenset({"request", "get", "post", "put", "delete", "patch"})
"""The methods of a session that would follow a redirect."""


def _is_proxied(instance: Any) -> bool:
    """Whether a ccxt instance goes through a proxy: ccxt itself knows how."""
    own = cast("dict[str, Any]", instance.__dict__)
    return any(value for name, value in own.items() if "proxy" in name.lower())


async def _ask(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    body: str | None,
    headers: Mapping[str, str],
    allowed_s: float,
) -> HttpAnswer:
    """What ccxt's own `fetch` asks and gets, without what it does for proxies, files and logs."""
    data = None if body is None else body.encode()
    async with session.request(
        method, _URL(url, encoded=True), data=data, headers=headers, timeout=_within(allowed_s)
    ) as answer:
        read = await answer.read()
        if answer.charset in _UTF_8:
            text = read.decode("utf-8", "replace")
        else:
            text = await answer.text(errors="replace")
        return HttpAnswer(answer.status, answer.reason or "", answer.headers, text)


_UTF_8: Final = frozenset({None, "utf-8", "UTF-8"})


@cache
def _within(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)


class _Answer(aiohttp.ClientResponse):
    """An answer that leads nowhere else, and that is not read for ever.

    A redirect would carry key and signature to another server, and its answer would be believed. A bomb in
    gzip would take gigabytes, and the time of all accounts.
    """

    largest_bytes = 4 << 20  # an account with 1,500 currencies states them in 200 KB

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        await super().start(connection)
        if self.status in REDIRECTS:
            raise aiohttp.ClientResponseError(
                self.request_info,
                self.history,
                status=self.status,
                message=f"redirects to {self.headers.get('Location', 'nowhere')}; redirects are not followed",
            )
        return self

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


class _Request(aiohttp.ClientRequest):
    """A request that is not written once the lease of its loop is revoked, or too late in its key's term.

    aiohttp writes a body in a task of its own (before Python 3.12 one turn of the loop later). A loop that
    hangs just then would write an order when it wakes.
    """

    def __init__(self, lease: Lease, *request: Any, **named: Any) -> None:
        super().__init__(*request, **named)
        self._lease = lease

    async def write_bytes(
        self, writer: Any, conn: aiohttp.connector.Connection, *rest: Any, **named: Any
    ) -> None:
        if (UNDER.get() or self._lease).too_late:
            conn.close()  # which also ends the wait for an answer
            return
        await super().write_bytes(writer, conn, *rest, **named)


class _Connector(aiohttp.TCPConnector):
    """Connections on which nothing waits to be read: what came before the question answers none of ours.

    All accounts share them, so a server that repeats itself would give one account's money to another.
    """

    lease: Lease
    """The lease of the loop; set where the connector is made."""

    of_terms: weakref.WeakSet[Any]
    """Connections that were used for a key with a term; set there too."""

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        if (should_close or protocol.should_close) and protocol in self.of_terms:
            # Closing takes its time under TLS, and what was not delivered would be sent again meanwhile.
            transport = protocol.transport
            if transport is not None:
                transport.abort()
        super()._release(key, protocol, should_close=should_close)

    async def connect(self, *request: Any, **named: Any) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(*request, **named)
            if self.lease.revoked:
                # The loop hung while the connection was made, and was replaced. Nothing is written yet.
                connection.close()
                self.lease.check()
            # The same where that took so long that another node may have the key before this call has ended.
            _check_write(connection)
            protocol = connection.protocol
            if protocol is not None and UNDER.get() is not None:
                self.of_terms.add(protocol)
            if protocol is None or not protocol.should_close:
                return connection
            connection.close()
