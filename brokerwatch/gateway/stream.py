"""The private stream of one account whose exchange has a fold: connected and watched.

One task on the account's loop. Frames go to the fold of the exchange, and what that finds to the actor. The
connection is that of the shared session, with its one TLS context, and nothing of ccxt.pro is in it
(docs/architecture.md says why). A connection that ends is seen at once; one on which nothing comes any more
within `SILENCE_S`, whether or not it looks open. `kept_stream` connects again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from brokerwatch.clock import Clock
from brokerwatch.config.redaction import redacted_answer
from brokerwatch.errors import CouldNotAsk, NotAllowed
from brokerwatch.exchanges.stream import Opening, Step, StreamFold
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.kept_stream import CLAIM_LOOK_S, KeptStream, StreamEnded, StreamRefused, Turns
from brokerwatch.gateway.venue import answered
from brokerwatch.health.push import Acknowledged, Asks, StreamEvent
from brokerwatch.log import logger

_log: Final = logger(__name__)

PING_S: Final = 1.5
"""After so long without a frame an answer is asked for …"""
SILENCE_S: Final = 3.5
"""… and after so long the connection is taken for dead."""
CONNECT_S: Final = 10.0
"""What a connection and its handshake may take."""
ACCEPT_S: Final = 5.0
"""Within this time the subscription is acknowledged and its first amounts are there; else it is deaf."""
LARGEST_BYTES: Final = 4 << 20
"""A frame larger than this ends the connection, as an answer would."""


NO_ADDRESS: Final = "the address of the account is not its exchange's own, and none is given for a stream"
DIRECT: Final = "requests go through a proxy, and a stream would leave directly: give ccxt a wssProxy"
PROXIES: Final = ("wssProxy", "wss_proxy", "wsProxy", "ws_proxy")
"""ccxt's names for the proxy of a stream."""


class AccountStream(KeptStream):
    """The stream of one account. `run` is its task; `reconnect` and `end` may be called by any thread."""

    def __init__(
        self,
        fold: type[StreamFold],
        url: str,
        credentials: Mapping[str, str],
        connection: Connection,
        lane: Turns,
        clock: Clock,
        say: Callable[[StreamEvent], object],
        deadline_s: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        super().__init__(lane, clock, say, uniform)
        self._fold = fold
        self._url = url
        self._credentials = credentials
        self._connection = connection
        self._deadline_s = deadline_s

    async def _one_connection(self) -> None:
        """Connect, and take frames until it ends. Returns where a new connection was asked for."""
        if not self._url:
            raise StreamRefused(NO_ADDRESS)
        may_connect(self._lane)
        instance = self._connection.instance
        proxy = proxy_of(instance)
        ticket = await self._ticket()
        async with asyncio.timeout(CONNECT_S):
            # 37 KiB for a connection; with compression it is 222 KiB.
            web_socket = await instance.session.ws_connect(
                self._url, compress=0, max_msg_size=LARGEST_BYTES, proxy=proxy
            )
        try:
            if _was_redirected(web_socket):
                raise StreamEnded("its address redirects, and redirects are not followed")
            opening = Opening(self._credentials, ticket, self._clock.now(), self._connection.code)
            await self._frames(web_socket, self._fold.opened(opening))
        finally:
            await _close(web_socket)

    async def _ticket(self) -> str:
        wanted, connection = self._fold.ticket, self._connection
        if wanted is None:
            now_s = self._clock.now().wall_us // 1_000_000
            return self._fold.token(connection.instance, self._credentials, now_s)

        async def ask() -> str:
            return wanted.read(await connection.call(wanted.method))

        try:
            async with self._lane.turn():
                return await answered(connection, ask(), self._deadline_s)
        except Refrained as refrained:
            raise StreamEnded(refrained.outcome.why) from None
        except NotAllowed as error:
            raise StreamRefused(f"{error}; it needs the right {wanted.right!r}") from None
        except CouldNotAsk as error:
            raise StreamEnded(str(error)) from None

    async def _frames(self, web_socket: Any, step: Step) -> None:
        up_s = self._clock.up_s
        pinged_s = self.last_frame_s = up_s()
        accepted_by_s = pinged_s + ACCEPT_S
        acknowledged, stated = False, not step.fold.sets
        # Only a claim can end while its loop goes on.
        look_s = PING_S if self._lane.lease.term is None else CLAIM_LOOK_S
        await self._send(web_socket, step.send)
        while not self._again.is_set():
            self._lane.lease.check()
            now_s, silent_from_s = up_s(), self.last_frame_s + SILENCE_S
            if now_s >= silent_from_s:
                raise StreamEnded(f"no frame for {SILENCE_S:g} s")
            if now_s >= accepted_by_s:
                missing = "its snapshot" if acknowledged else "an answer to the subscription"
                raise StreamEnded(f"{missing} did not come within {ACCEPT_S:g} s")
            if now_s >= max(pinged_s, self.last_frame_s) + PING_S:
                pinged_s = now_s
                await self._send(web_socket, (step.fold.ping,) if step.fold.ping else ())
            ping_s = max(pinged_s, self.last_frame_s) + PING_S
            until_s = min(now_s + look_s, ping_s, silent_from_s, accepted_by_s)
            frame = await self._received(web_socket, until_s - now_s)
            if frame is None:
                continue
            self.last_frame_s = up_s()
            step = step.fold.heard(frame)
            acknowledged = acknowledged or step.acknowledged
            stated = stated or (step.amounts is not None and step.amounts.whole)
            if acknowledged and stated:
                accepted_by_s = float("inf")
            self._pass_on(step)
            await self._send(web_socket, step.send)

    def _pass_on(self, step: Step) -> None:
        """Tell the account's actor what a frame says. Raises StreamRefused, StreamEnded."""
        if step.refused:
            raise StreamRefused(step.refused)
        if step.acknowledged:
            self._say(Acknowledged(step.fold.sets))
        if step.amounts is not None:
            self._say(step.amounts)
        if step.asks:
            self._say(Asks(step.asks, step.orders))
        if step.ended:
            raise StreamEnded(step.ended)

    async def _received(self, web_socket: Any, wait_s: float) -> str | None:
        """One frame of text; None: none came so soon. Raises StreamEnded."""
        try:
            message = await web_socket.receive(timeout=max(0.001, wait_s))
        except TimeoutError:
            return None
        match message.type.name:
            case "TEXT":
                return str(message.data)
            case "CLOSE" | "CLOSING" | "CLOSED":
                raise StreamEnded(f"closed by the exchange ({web_socket.close_code})")
            case "ERROR":
                raise StreamEnded(f"{type(message.data).__name__}: {message.data}")
            case _:
                raise StreamEnded(f"a frame that is no text: {message.type.name}")

    async def _send(self, web_socket: Any, texts: tuple[str, ...]) -> None:
        for text in texts:
            self._lane.lease.check()
            async with asyncio.timeout(SILENCE_S):
                await web_socket.send_str(text)

    def _words(self, error: BaseException) -> str:
        own = isinstance(error, StreamEnded | StreamRefused)
        said = str(error) if own else f"{type(error).__name__}: {error}".rstrip(": ")
        return redacted_answer(said, tuple(self._credentials.values()))


def may_connect(lane: Turns) -> None:
    """Raise where nothing may go out: the loop was replaced, the key is locked out, the address is banned."""
    lane.lease.check()
    try:
        lane.refrain_when_barred()
    except Refrained as refrained:
        raise StreamEnded(refrained.outcome.why) from None
    if lane.address.is_banned:
        raise StreamEnded(lane.address.ban.why)


def proxy_of(instance: Any) -> str | None:
    """The proxy that a stream leaves through; None: there is none. Raises StreamRefused."""
    for name in PROXIES:
        if found := getattr(instance, name, None):
            return str(found)
    own = cast("dict[str, object]", instance.__dict__)
    if any(value for name, value in own.items() if "proxy" in name.lower()):
        raise StreamRefused(DIRECT)
    return None


def _was_redirected(web_socket: Any) -> bool:
    """Whether it is with another server: aiohttp follows redirects here, and has no option against it.

    Our own sessions follow none. The session of a trader's own instance does, and what is sent next logs in.
    """
    return bool(getattr(getattr(web_socket, "_response", None), "history", ()))


async def _close(web_socket: Any) -> None:
    """Close a connection that may be dead, without waiting for it."""
    try:
        async with asyncio.timeout(0.2):
            await web_socket.close()
    except Exception as error:  # noqa: BLE001 - it is of no more use in any case
        _log.debug("a stream did not close: %s", type(error).__name__)
