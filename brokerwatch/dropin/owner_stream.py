"""The private stream of a guarded instance: a connection of its own, on the session of the owner's instance.

Its requests, such as the one for a token, take their turn in the rate limit of the owner's instance and use
its nonces. Nothing of what ccxt.pro keeps in that instance is read or changed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, cast

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.dropin.errors import LockedOut
from brokerwatch.dropin.last_known import Watch
from brokerwatch.dropin.lent_instance import lend_for_long
from brokerwatch.exchanges.rate_limit import STAND_IN, Budget
from brokerwatch.exchanges.registry import FAMILIES, profile_of
from brokerwatch.exchanges.stream import StreamFold, url_of
from brokerwatch.gateway.address import Address
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.catalogue import is_elsewhere
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.lease import LaneLease, Lease
from brokerwatch.gateway.pro_stream import ProStream, Watched, with_stream_options
from brokerwatch.gateway.stream import AccountStream
from brokerwatch.health.outcome import NotAsked
from brokerwatch.health.push import Asks, StreamEvent
from brokerwatch.messages import Fault, FaultKind

SPEC_NAME: Final = "guard"
CONNECT_S: Final = 15.0
"""What the request for a token may take."""


class OwnersTurn:
    """The lane of a guarded instance: its calls wait in the owner's own queue, and a lockout ends them."""

    def __init__(self, watch: Watch) -> None:
        self.lease: LaneLease = Lease()
        self.address = Address(watch.clock)
        self._watch = watch

    def refrain_when_barred(self) -> None:
        """Raise Refrained while the exchange has shut the key out."""
        if why := self._watch.locked_out():
            raise Refrained(NotAsked(why))

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """One call. Raises Refrained."""
        self.refrain_when_barred()
        yield


class OwnerStream(Protocol):
    """A stream of a guarded instance. Used on one event loop."""

    def reconnect(self) -> None:
        """Begin anew."""
        ...

    def end(self) -> None:
        """Connect no more."""
        ...

    async def run(self) -> None:
        """Keep it up until it is cancelled or ended."""
        ...


Say = Callable[[StreamEvent], object]
MakeStream = Callable[[Say], OwnerStream]


def own_stream(watch: Watch, fold: type[StreamFold]) -> MakeStream:
    """How the stream of an exchange is made that has a fold of ours."""

    def make(say: Say) -> OwnerStream:
        connection, spec = _connection(watch)
        owner = watch.owner
        url = url_of(fold, owner.id, owner.urls, elsewhere=is_elsewhere(spec))
        keys = spec.credentials
        return AccountStream(fold, url, keys, connection, OwnersTurn(watch), watch.clock, say, CONNECT_S)

    return make


Change = Callable[[Any, Say], Awaitable[object]]
"""Is given an instance of ccxt.pro, and returns once its exchange has pushed a change."""
Leads = Callable[[], Asks | None]
"""What a change leads to."""


def pro_stream(watch: Watch, change: Change, asks: Leads) -> MakeStream:
    """How the stream of any other exchange is made: by ccxt.pro, on a copy of the owner's instance."""

    def make(say: Say) -> OwnerStream:
        connection, _ = _connection(watch)
        watched = _OwnersPro(watch, change, asks, say)
        return ProStream(watched, connection, OwnersTurn(watch), watch.clock, say)

    return make


class _OwnersPro(Watched):
    """Copies of the owner's instance of ccxt.pro, each with no connection and no cache."""

    def __init__(self, watch: Watch, change: Change, asks: Leads, say: Say) -> None:
        self._watch = watch
        self._change = change
        self._asks = asks
        self._say = say

    async def exists(self) -> bool:
        return True  # it was looked at when it was asked for

    async def instance(self) -> Any:
        made = lend_for_long(self._watch.owner)
        made.clean_ws_data()
        made.clients = {}
        made.ws_dial_backoff = {}
        given: dict[str, object] = dict(made.options)
        given.pop("urls", None)  # of KuCoin, with tokens in them that the owner's instance has used
        made.options = with_stream_options({name: _own(each) for name, each in given.items()})
        made.own_session = False
        if not made.markets and self._watch.markets is not None:
            made.set_markets_from_exchange(self._watch.markets)
        return made

    def change(self, instance: Any) -> Awaitable[object]:
        return self._change(instance, self._say)

    def asks(self) -> Asks | None:
        return self._asks()


def _own(value: object) -> object:
    """A value of ccxt's options, so that what a stream keeps there is not in the owner's instance."""
    return dict(cast("dict[object, object]", value)) if isinstance(value, dict) else value


def budget_of(watch: Watch) -> Budget:
    """What the key of a guarded instance may be asked, by its exchange's own word or by ccxt's."""
    spec = BrokerSpec(SPEC_NAME, exchange=watch.owner)
    if is_elsewhere(spec):
        return STAND_IN
    known = profile_of(family_of(watch.owner)).budget
    return known or Budget(1.0, 1_000.0 / max(1.0, float(watch.owner.rateLimit or 1_000.0)))


def family_of(owner: Any) -> str:
    """The name of the exchange's adapter; empty: it has none of its own."""
    return FAMILIES.get(str(owner.id), "")


def fault_of_call(watch: Watch, lent: Any, error: Exception) -> Fault:
    """The fault that an error of a call is, which was made through this copy; None: through none."""
    spec = BrokerSpec(SPEC_NAME, exchange=watch.owner)
    made = Connection(spec, family_of(watch.owner), lambda: lent, watch.clock)
    if lent is not None:
        _ = made.instance
    if isinstance(error, LockedOut):
        return Fault(FaultKind.RATE_LIMITED, str(error))
    return made.fault(error)


def _connection(watch: Watch) -> tuple[Connection, BrokerSpec]:
    spec = BrokerSpec(SPEC_NAME, exchange=watch.owner)
    made = Connection(spec, family_of(watch.owner), lambda: lend_for_long(watch.owner), watch.clock)
    return made, spec
