"""The HTTP server: one thread with an event loop of its own, so that no reader holds up a cluster."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from contextlib import suppress
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from brokerwatch.bus.revival import Revival
from brokerwatch.errors import EndpointUnavailable
from brokerwatch.log import logger
from brokerwatch.web.connections import HEAD_S, Connections
from brokerwatch.web.events import Events
from brokerwatch.web.routes import Routes
from brokerwatch.web.view import View

_log: Final = logger(__name__)
_requests_log: Final = logger(f"{__name__}.requests")
"""What aiohttp has to say of single requests."""

START_S: Final = 10.0
"""What the start may take."""
RETRY_S: Final = 5.0
"""How often a server tries again to listen where it could not."""


COMPLAINT_S: Final = 60.0
"""What the loop says again is in the log once in so long: without descriptors it says it each second."""


class _SendersMistakes(logging.Filter):
    """Keeps out of the log what is wrong with a request, and that its sender has gone, of which any program
    that reaches the port can make thousands. A sender that is there is told so by the answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


_requests_log.addFilter(_SendersMistakes())


class HttpServer:
    """Serves a view until it is stopped. `start` and `stop` are for the thread that owns it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        """Of the loop that runs."""
        self._stopping = False
        self._revival = Revival("the page and the API")
        self._thread = threading.Thread(target=self._run, name="brokerwatch-http", daemon=True)
        self._begun = threading.Event()
        self._failure = ""
        self._insists = True
        """Whether what cannot be served ends the thread. Once it has listened, it goes on trying."""
        self._port = 0
        self._had_port = 0
        """Where it listens again after an error, when the system picked the port."""
        self._complained_s: dict[str, float] = {}

    @property
    def url(self) -> str:
        """Where it is reached; empty while it does not listen."""
        settings = self._view.settings
        host = settings.listen.rpartition(":")[0]
        return (
            f"{'https' if settings.tls_certificate else 'http'}://{host}:{self._port}" if self._port else ""
        )

    def start(self, *, insists: bool = True) -> None:
        """Begin to serve.

        Args:
            insists: Raise where it cannot listen. Else say so in the log, and go on trying: the process that
                it runs in has more to do than to show a page.

        Raises:
            EndpointUnavailable: The address is taken, or the certificate cannot be used.
        """
        self._insists = insists
        self._thread.start()
        self._begun.wait(START_S)
        if self._failure and insists:
            self._thread.join(START_S)
            raise EndpointUnavailable(self._failure)

    def stop(self, deadline_s: float = 2.0) -> bool:
        """End it, with every connection. False when that took too long."""
        self._stopping = True
        self._revival.end()
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it ended at this moment
                loop.call_soon_threadsafe(lambda: self._end.set())
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._revival.run(self._work)
        finally:
            self._begun.set()

    def _work(self) -> None:
        """Serve on a loop of its own until the end."""
        try:
            with asyncio.Runner() as runner:
                self._loop, self._end = runner.get_loop(), asyncio.Event()
                self._loop.set_exception_handler(self._complain)
                if not self._stopping:  # else the loop came too late to be told
                    runner.run(self._serve())
        except Exception as error:
            if not self._insists:
                raise
            _log.exception("the page and the API cannot be served")
            self._failure = f"HTTP cannot be served: {error}"
        finally:
            self._port = 0

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what the loop could not do, such as to accept a connection without a descriptor."""
        error, now_s = context.get("exception"), self._view.clock.up_s()
        words = f"{context.get('message')}: {type(error).__name__}"
        if now_s - self._complained_s.get(words, float("-inf")) < COMPLAINT_S:
            return
        self._complained_s = {**self._complained_s, words: now_s} if len(self._complained_s) < 20 else {}
        is_ours = error is not None and not isinstance(error, OSError)
        _log.error("HTTP: %s: %s", context.get("message"), error, exc_info=error if is_ours else None)

    async def _serve(self) -> None:
        events, connections = Events(self._view), Connections()
        runner = web.AppRunner(
            Routes(self._view, events, connections).application(),
            access_log=None,
            keepalive_timeout=HEAD_S,
            handle_signals=False,
            shutdown_timeout=0.5,
            logger=_requests_log,
            auto_decompress=False,  # what is small may become large, and no client of ours packs a body
        )
        await runner.setup()
        events.start()
        server = None
        try:
            server = await self._listening(runner, connections)
            if server is not None:
                await self._end.wait()
        finally:
            if server is not None:
                server.close()
            await events.stop()
            await runner.cleanup()

    async def _listening(
        self, runner: web.AppRunner, connections: Connections
    ) -> asyncio.AbstractServer | None:
        """The socket. Where it cannot be had: None, or it is tried again until the end."""
        made = runner.server
        if made is None:
            raise RuntimeError("the server was not set up")
        settings = self._view.settings
        while not self._end.is_set():
            try:
                server = await asyncio.get_running_loop().create_server(
                    connections.guarded(made, _tls(settings.tls_certificate, settings.tls_key)),
                    settings.host,
                    settings.port or self._had_port,
                )
            except (OSError, ssl.SSLError) as error:
                failure = f"HTTP cannot be served at {settings.listen}: {error.strerror or error}"
                if failure != self._failure and not self._insists:
                    _log.error("%s; it is tried again", failure)
                self._failure = failure
                self._begun.set()
                if self._insists:
                    return None
                try:
                    async with asyncio.timeout(RETRY_S):
                        await self._end.wait()
                except TimeoutError:
                    continue
            else:
                self._port = self._had_port = server.sockets[0].getsockname()[1]
                self._failure, self._insists = "", False
                self._begun.set()
                return server
        return None


def _tls(certificate: str, key: str) -> ssl.SSLContext | None:
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL asks for one at the terminal, and the thread waits there for ever.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        is_other = error.reason == "KEY_VALUES_MISMATCH"
        words = (
            "the key is not that of the certificate"
            if is_other
            else "expected PEM, and a key without a password"
        )
        raise ssl.SSLError(error.errno, f"tls_certificate and tls_key: {words}") from error
    return context
