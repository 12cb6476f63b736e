"""The private stream of an exchange that has no fold: ccxt.pro connects, and each change asks for a read.

Nothing that ccxt.pro says of a balance is used: it merges, keeps and loses amounts. That `watch_balance()`
has returned is all that counts. A frame that comes while no call waits is lost to ccxt; the read that was
asked for a moment before comes after it.

Each connection has an instance of its own, since a second login on the same one waits for ever. Its requests
go through the lane of the key, like all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol, cast

from ccxt.base.errors import AuthenticationError, PermissionDenied

from brokerwatch.clock import Clock
from brokerwatch.config.balance_params import thawed
from brokerwatch.config.broker_spec import CCXT_NAMES, BrokerSpec
from brokerwatch.errors import CouldNotAsk, NotSupported
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.kept_stream import CLAIM_LOOK_S, KeptStream, StreamRefused, Turns
from brokerwatch.gateway.lane import Lane
from brokerwatch.gateway.stream import NO_ADDRESS, may_connect, proxy_of
from brokerwatch.gateway.strict_ccxt import QUIET, mixed
from brokerwatch.health.push import Acknowledged, Asks, Refused, StreamEvent
from brokerwatch.messages import FaultKind

KEEP_ALIVE_MS: Final = 1_000
"""ccxt.pro pings so often, and takes a connection for dead after three of them without an answer. Its own
defaults see a silent one after 15 to 540 s."""
NO_STREAM: Final = "ccxt.pro cannot watch the balance at this exchange"
WAITING: Final = "no frame has come yet"


class Heard:
    """Mixed into a ccxt.pro class: its requests take their turn, and no exception ends its frames."""

    lane: Turns
    on_frame: Callable[[], object]
    on_stumble: Callable[[BaseException], object]

    def __del__(self) -> None:
        """Nothing. The session has another owner, and ccxt would complain that it was not closed."""

    async def fetch2(self, *request: Any, **named: Any) -> Any:
        """One request of ccxt's, such as for a token or a listen key."""
        async with self.lane.turn():
            self.lane.lease.check()
            return await cast("Any", super()).fetch2(*request, **named)

    def handle_message(self, client: Any, message: Any) -> Any:
        """One frame. An exception in ccxt's code would end the loop that receives, without a word."""
        self.on_frame()
        try:
            return cast("Any", super()).handle_message(client, message)
        except Exception as error:  # noqa: BLE001 - ccxt raises whatever the exchange says
            self.on_stumble(error)
        finally:
            # ccxt keeps the refusal of a request for a call that waits for it, and none does.
            for refusal in tuple(client.rejections.values()):
                self.on_stumble(refusal)


async def has_stream(exchange: str) -> bool:
    """Whether ccxt.pro can watch the balance at an exchange."""
    made = await _class_of(exchange)
    return made is not None and bool(made().has.get("watchBalance"))


async def _class_of(exchange: str) -> Any:
    # It imports all exchanges, which takes a second and 110 MB; the loop goes on meanwhile.
    pro = await asyncio.to_thread(importlib.import_module, "ccxt.pro")
    return getattr(pro, exchange, None)


class Watched(Protocol):
    """What ccxt.pro watches for one account."""

    async def exists(self) -> bool:
        """Whether ccxt.pro can watch it."""
        ...

    async def instance(self) -> Any:
        """Another instance of ccxt.pro, on the session of the account."""
        ...

    def change(self, instance: Any) -> Awaitable[object]:
        """Return once the exchange has pushed a change."""
        ...

    def asks(self) -> Asks | None:
        """What the change leads to; None: that was said already."""
        ...


Lend = Callable[[Any], Awaitable[None]]


class WatchedBalance:
    """The balance of an account that is configured."""

    def __init__(self, spec: BrokerSpec, connection: Connection, lane: Lane, lend: Lend) -> None:
        """`lend` gives an instance the markets of its exchange, which all accounts share."""
        self._spec = spec
        self._connection = connection
        self._lane = lane
        self._lend = lend

    async def exists(self) -> bool:
        """See `Watched`."""
        return await has_stream(str(self._spec.exchange))

    async def instance(self) -> Any:
        """See `Watched`."""
        spec, account = self._spec, self._connection.instance
        given = cast("Mapping[str, Any]", spec.ccxt.get("options") or {})
        options = {
            "enableRateLimit": False,
            "timeout": round(spec.fetch_deadline_s * 1_000),
            **spec.ccxt,
            "options": with_stream_options(given),
        }
        made = (await _class_of(spec.exchange))(options)
        for name, value in spec.credentials.items():
            setattr(made, CCXT_NAMES.get(name, name), value)
        made.own_session, made.session, made.ssl_context = False, account.session, account.ssl_context
        if self._lane.counts_nonces:
            made.nonce = self._lane.nonces.next
        # ccxt.pro would load them for each account; where they cannot be lent it still does.
        with contextlib.suppress(CouldNotAsk, NotSupported):
            await self._lend(made)
        return made

    def change(self, instance: Any) -> Awaitable[object]:
        """See `Watched`."""
        return cast("Awaitable[object]", instance.watch_balance(thawed(self._spec.balance_params)))

    def asks(self) -> Asks:
        """See `Watched`."""
        return Asks("the exchange pushed a change")


def with_stream_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ccxt.pro for a connection without compression, which is soon found dead."""
    return {**options, "compress": 0, "ws": {"keepAlive": KEEP_ALIVE_MS}}


class ProStream(KeptStream):
    """The stream of one account. `run` is its task; `reconnect` and `end` may be called by any thread."""

    begins_with = WAITING

    def __init__(
        self,
        watched: Watched,
        connection: Connection,
        lane: Turns,
        clock: Clock,
        say: Callable[[StreamEvent], object],
        *,
        has_address: bool = True,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`has_address`: whether it is known where the stream is; the exchange's own may be the wrong one."""
        super().__init__(lane, clock, say, uniform)
        self._watched = watched
        self._connection = connection
        self._has_address = has_address

    async def run(self) -> None:
        """Keep the stream up, until it is cancelled or ended. Nothing where ccxt.pro has none."""
        if await self._watched.exists():
            await super().run()
        else:
            self._say(Refused(NO_STREAM))

    def _is_refusal(self, error: Exception) -> bool:
        if isinstance(error, AuthenticationError | PermissionDenied | StreamRefused):
            return True
        return self._connection.observed(error).kind in (FaultKind.AUTH, FaultKind.PERMISSION)

    async def _one_connection(self) -> None:
        proxy_of(self._connection.instance)
        if not self._has_address:
            raise StreamRefused(NO_ADDRESS)
        may_connect(self._lane)
        stumbled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watched = await self._instance(stumbled)
        again = asyncio.ensure_future(self._again.wait())
        change: asyncio.Future[Any] | None = None
        acknowledged = False
        try:
            while True:
                change = asyncio.ensure_future(self._watched.change(watched))
                await self._first_of(change, again, stumbled)
                if again.done():
                    return
                if stumbled.done() and not change.done():
                    stumbled.result()
                change.result()  # what it says is not used
                if not acknowledged:
                    acknowledged = True
                    self._say(Acknowledged(sets=False))
                if (asks := self._watched.asks()) is not None:
                    self._say(asks)
        finally:
            again.cancel()
            if not stumbled.cancel() and not stumbled.cancelled():
                stumbled.exception()  # asyncio would log it otherwise
            await watched.close_ws_clients()
            if change is not None:
                change.cancel()
                await asyncio.wait((change,), timeout=CLAIM_LOOK_S)
                if change.done() and not change.cancelled():
                    change.exception()  # the same
            watched.session = None

    async def _first_of(self, change: asyncio.Future[Any], *others: asyncio.Future[Any]) -> None:
        """Wait for one of these. Raises Revoked once nothing may be sent."""
        while not any(each.done() for each in (change, *others)):
            self._lane.lease.check()
            await asyncio.wait((change, *others), timeout=CLAIM_LOOK_S, return_when=asyncio.FIRST_COMPLETED)

    async def _instance(self, stumbled: asyncio.Future[None]) -> Any:
        """Another instance of ccxt.pro, whose frames are seen here."""
        made = await self._watched.instance()
        made.__class__ = mixed(Heard, made.__class__)
        made.lane, made.on_frame = self._lane, self._frame
        made.on_stumble = partial(_stumble, stumbled)
        made.logger = QUIET
        return made

    def _frame(self) -> None:
        self.last_frame_s = self._clock.up_s()

    def _words(self, error: BaseException) -> str:
        return self._connection.redacted(f"{type(error).__name__}: {error}".rstrip(": "))


def _stumble(stumbled: asyncio.Future[None], error: BaseException) -> None:
    if not stumbled.done():
        stumbled.set_exception(error)


def recorder(limit: int, take: Callable[[Mapping[str, Any]], object]) -> Any:
    """A cache of ccxt.pro for orders that hands over each one that is put into it, before it is merged."""
    cache: Any = importlib.import_module("ccxt.async_support.base.ws.cache")

    class Recorder(cache.ArrayCacheBySymbolById):  # type: ignore[misc]  # ccxt has no types
        def append(self, item: Mapping[str, Any]) -> None:
            take(item)
            super().append(item)  # pyright: ignore[reportUnknownMemberType] - as above

    return Recorder(limit)
