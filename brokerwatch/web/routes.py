"""The routes: what is answered where."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from brokerwatch.errors import BrokerwatchError, ControlError
from brokerwatch.log import logger
from brokerwatch.messages import topics
from brokerwatch.web.admission import COOKIE, SESSION_S, Caller, Sessions, caller, is_own_origin, objection
from brokerwatch.web.answers import (
    DoneAnswer,
    HoldRequest,
    LoginRequest,
    ProbeAnswer,
    ProblemAnswer,
    answer,
    tag,
)
from brokerwatch.web.connections import HEAD_S, LONGEST_WAIT_S, REQUEST_S, Connections
from brokerwatch.web.events import Events, all_accounts
from brokerwatch.web.metrics import Metrics
from brokerwatch.web.openapi import document
from brokerwatch.web.page import FILES, Page
from brokerwatch.web.past_routes import PastRoutes
from brokerwatch.web.pool_routes import PoolRoutes
from brokerwatch.web.view import View

_log: Final = logger(__name__)

BODY_BYTES: Final = 16_384
"""What a request may send."""
BODY_S: Final = 10.0
"""What its body may take to arrive."""
WRONG_TOKEN_S: Final = 0.5
"""How long a sender with a wrong token waits for its answer."""
READER_S: Final = 20.0
"""What a reader of events may take over one of them."""
MOST_COOKIES: Final = 8
"""Cookies of one name that are looked at."""
NO_TOKEN_NEEDED: Final = frozenset({"/healthz", "/readyz", "/v1/login", *FILES})
"""Paths that need no token. They name no account."""
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "brokerwatch",
}
_T = TypeVar("_T", bound=msgspec.Struct)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Every route over one view. Used on the server's loop."""

    def __init__(self, view: View, events: Events, connections: Connections) -> None:
        self._view = view
        self._events = events
        self._connections = connections
        self._sessions = Sessions(view.settings.token)
        self._document = document()
        self._metrics = Metrics(view)

    def application(self) -> web.Application:
        """The application with all routes."""

        @web.middleware  # it marks the function, which a method does not allow
        async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        application = web.Application(middlewares=[guard], client_max_size=BODY_BYTES)
        application.add_routes(
            [
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/openapi.json", self._openapi),
                web.get("/metrics", self._scrape),
                web.get("/v1/brokers", self._brokers),
                web.get("/v1/brokers/{broker}", self._broker),
                web.post("/v1/brokers/{broker}/hold", self._hold),
                web.post("/v1/brokers/{broker}/release", self._release),
                web.get("/v1/events", self._stream),
                web.post("/v1/login", self._login),
                web.post("/v1/logout", self._logout),
                *PastRoutes(self._view).routes(),
                *PoolRoutes(self._view).routes(),
                *Page().routes(),
            ]
        )
        return application

    # --- before each route ---------------------------------------------------------------------------------

    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        self._connections.give(request.transport, REQUEST_S)
        try:
            response = await self._answered(request, handler)
        finally:
            self._connections.give(request.transport, HEAD_S)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _answered(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            refused = await self._refusal(request)
            return refused if refused is not None else await handler(request)
        except web.HTTPException as error:
            return problem(error.status, error.reason)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except BrokerwatchError as error:
            return problem(503, str(error))
        except Exception:  # noqa: BLE001 - one request that fails must not be the last one
            _log.exception("a request could not be answered: %s %s", request.method, request.path)
            return problem(500, "the server failed; its log says how")

    async def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        """The answer to a sender that is not let in; None when it is."""
        if request.path in ("/healthz", "/readyz"):
            return None  # a probe comes under the address of a container, and learns nothing
        sender = self._caller(request)
        if why := objection(self._view.settings, sender):
            return problem(403, why)
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get(hdrs.ORIGIN, "")
            if origin and not is_own_origin(sender, origin):
                return problem(403, "the request comes from another page")
            if request.content_type != "application/json":
                return problem(415, "expected a body of JSON, as application/json")
        token = self._view.settings.token
        if not token or request.path in NO_TOKEN_NEEDED:
            return None
        scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if shown:
            if scheme.lower() == "bearer" and self._sessions.is_token(shown.strip()):
                return None
            await asyncio.sleep(WRONG_TOKEN_S)
        elif any(self._sessions.is_let_in(each, self._view.clock.up_s()) for each in _cookies(request)):
            origin = request.headers.get(hdrs.ORIGIN, "")
            if request.method in ("GET", "HEAD") or is_own_origin(sender, origin):
                return None
            return problem(403, "the request says no Origin, which a page always does")
        refused = problem(401, "expected the header Authorization: Bearer TOKEN")
        refused.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="brokerwatch"'
        return refused

    def _caller(self, request: web.Request) -> Caller:
        transport = request.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        get = request.headers.get
        return caller(
            self._view.settings,
            str(peer[0]) if peer else "",
            get(hdrs.HOST, ""),
            ",".join(request.headers.getall("X-Forwarded-For", [])),
            get("X-Forwarded-Host", ""),
            get("X-Forwarded-Proto", ""),
            is_tls=transport is not None and transport.get_extra_info("sslcontext") is not None,
        )

    # --- probes --------------------------------------------------------------------------------------------

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        why = self._view.fault()
        return json_answer(ProbeAnswer(ok=not why, why=why), 503 if why else 200)

    async def _ready(self, _request: web.Request) -> web.StreamResponse:
        why = self._view.fault()
        if not why and not self._view.listener.complete.is_set():
            why = "not every account has been heard yet"
        return json_answer(ProbeAnswer(ok=not why, why=why), 503 if why else 200)

    async def _openapi(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._document, content_type="application/json")

    async def _scrape(self, request: web.Request) -> web.StreamResponse:
        # On another thread: with many accounts it takes longer than a reader of events should wait.
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, []))
        content_type, body = await asyncio.to_thread(self._metrics.scrape, accept)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    # --- accounts ------------------------------------------------------------------------------------------

    async def _brokers(self, request: web.Request) -> web.StreamResponse:
        current, known = await self._waited(request, None)
        response = (
            web.Response(status=304) if current in known else json_answer(all_accounts(self._view), 200)
        )
        response.headers[hdrs.ETAG] = current
        return response

    async def _broker(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["broker"]
        current, known = await self._waited(request, name)
        heard = self._view.of(name)
        if heard is None:
            return problem(404, "there is no account of this name")
        # Without a success there is nothing that a reader could have kept.
        if heard.reading.available and current in known:
            response = web.Response(status=304)
        else:
            told = answer(heard.reading, heard.stamp, self._view.clock.up_s())
            response = json_answer(told, 200 if told.available else 503)
        response.headers[hdrs.ETAG] = current
        return response

    async def _waited(self, request: web.Request, broker: str | None) -> tuple[str, tuple[str, ...]]:
        """The entity tag of now, and those that the reader has. It waits for another where it is asked."""
        known = tuple(each.strip() for each in request.headers.get(hdrs.IF_NONE_MATCH, "").split(","))
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._patience_s(request)
        while True:
            heard = self._view.heard()
            current = tag(each for each in heard if broker in (None, each.reading.broker))
            left_s = until_s - loop.time()
            if current not in known or left_s <= 0:
                return current, known
            await self._events.wait(min(left_s, 1.0))

    def _patience_s(self, request: web.Request) -> float:
        wanted = request.query.get("wait", "0")
        try:
            seconds = float(wanted)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= LONGEST_WAIT_S:
            raise web.HTTPBadRequest(reason=f"wait: expected seconds from 0 to {LONGEST_WAIT_S:g}")
        self._connections.give(request.transport, REQUEST_S + seconds)
        return seconds

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**HEADERS, "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        stream = self._events.stream()
        try:
            async for event in stream:
                # The next one comes within a second, so only a reader that takes nothing meets the limit.
                self._connections.give(request.transport, READER_S)
                await response.write(event)
        except ConnectionError:
            pass  # the reader has gone
        finally:
            await stream.aclose()
        return response

    # --- operators -----------------------------------------------------------------------------------------

    async def _hold(self, request: web.Request) -> web.StreamResponse:
        wanted = await self._body(request, HoldRequest)
        return await self._operated(request, "hold", wanted.why, wanted.until_us)

    async def _release(self, request: web.Request) -> web.StreamResponse:
        return await self._operated(request, "release", "", None)

    async def _operated(
        self, request: web.Request, verb: str, why: str, until_us: int | None
    ) -> web.StreamResponse:
        operate = self._view.operate
        if operate is None:
            return problem(501, "no cluster can be told anything from here: it has no control socket here")
        if not self._view.settings.token:
            return problem(403, "operators need a token; set token_file in [http]")
        broker = request.match_info["broker"]
        if not topics.is_name(broker) or self._view.of(broker) is None:
            return problem(404, "there is no account of this name")
        try:
            said = await asyncio.to_thread(operate, verb, broker, why, until_us)
        except ControlError as error:
            return problem(409, str(error))
        return json_answer(DoneAnswer(said=said), 200)

    async def _body(self, request: web.Request, kind: type[_T]) -> _T:
        try:
            async with asyncio.timeout(BODY_S):
                return msgspec.json.decode(await request.read(), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise web.HTTPBadRequest(reason=f"the body cannot be used: {_one_line(error)}") from None
        except web.RequestPayloadError:
            raise web.HTTPBadRequest(reason="the body is not what its head says") from None
        except TimeoutError:
            raise web.HTTPRequestTimeout(reason="the body did not arrive in time") from None

    async def _login(self, request: web.Request) -> web.StreamResponse:
        shown = (await self._body(request, LoginRequest)).token
        if not self._sessions.is_token(shown.strip()):
            await asyncio.sleep(WRONG_TOKEN_S)
            return problem(401, "this is not the token")
        cookie = secrets.token_urlsafe(32)
        self._sessions.begin(cookie, self._view.clock.up_s())
        response = web.Response(status=204)
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=round(SESSION_S),
            httponly=True,
            samesite="Strict",
            secure=self._caller(request).scheme == "https",
            path="/",
        )
        return response

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        for each in _cookies(request):
            self._sessions.end(each)
        response = web.Response(status=204)
        response.del_cookie(COOKIE, path="/")
        return response


def json_answer(data: msgspec.Struct, status: int) -> web.Response:
    """A value of the API as a response."""
    return web.Response(body=msgspec.json.encode(data), status=status, content_type="application/json")


def problem(status: int, why: str) -> web.Response:
    """Why a request was not carried out, as a response."""
    return json_answer(ProblemAnswer(error=why), status)


def _cookies(request: web.Request) -> list[str]:
    """Every cookie of ours that a request shows.

    A browser sends one name several times where another program of this machine, or of the domain, has set it
    too: the one of a longer path first, else the older one. None of them may stand in the way of the other.
    """
    pairs = (each.partition("=") for each in ";".join(request.headers.getall(hdrs.COOKIE, [])).split(";"))
    found = [value.strip().strip('"') for name, _, value in pairs if name.strip() == COOKIE]
    return found[:MOST_COOKIES]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
