"""What is public about one exchange at one address: its markets, prices, and its own word about itself.

All accounts there share it, so that a thousand of them load one list of markets. It has no key, but for the
list of markets of an exchange that gives it only to a key. Each call has a copy of the instance of its own:
two that run at once must not mix up what they saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any, Final, TypeVar

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import MARKETS_DEADLINE_S
from brokerwatch.errors import CouldNotAsk, NotAllowed, NotSupported
from brokerwatch.exchanges.adapter import ExchangeAdapter
from brokerwatch.exchanges.envelope import exact, mapping, positive
from brokerwatch.exchanges.markets import products_from
from brokerwatch.exchanges.registry import adapter_for, profile_of
from brokerwatch.exchanges.symbols import Products
from brokerwatch.gateway.address import Address
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.exchange_clock import ExchangeClock
from brokerwatch.gateway.lane import Lane
from brokerwatch.gateway.lease import ClaimOver
from brokerwatch.health.outcome import NotAsked
from brokerwatch.log import logger
from brokerwatch.messages import Candle, Fault, FaultKind, Product
from brokerwatch.messages.trading import Status

_log: Final = logger(__name__)

T = TypeVar("T")

MARKETS_KEPT_S: Final = 3_600.0
"""After so long the markets are loaded again; while that fails, the old ones are used."""
MARKETS_RETRY_S: Final = 60.0
"""How long after a load that failed the next one is tried, while there are old ones to use."""


PRICE_DEADLINE_S: Final = 1.0
"""How long an order waits for a price that says whether it is too small. Without one it goes unchecked."""
PRICE_KEPT_S: Final = 10.0
"""So long a price is new enough to refuse an order by, and so long no other is asked for after a failure."""
PRICE_OLDEST_S: Final = 3_600.0
"""A price that is older says nothing any more, even about an amount that is many times the smallest."""


class Venue:
    """Asks one exchange for what is public there. Everything but `known` belongs to the loop's thread."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        deadline_s: float,
        address: Address,
        signed: tuple[Connection, Lane] | None = None,
    ) -> None:
        """`signed`: the account's own connection and lane, where the exchange lists its markets only to a
        key. Then the venue is of that key alone."""
        self.known: Products | None = None
        """The markets, once they were loaded; any thread may look."""
        self._connection = connection
        self._clock = clock
        self._deadline_s = deadline_s
        self._address = address
        self._signed = signed
        self._loaded_s = float("-inf")
        self._loading: asyncio.Task[Products] | None = None
        self.clock = ExchangeClock(
            lambda: self.ask(lambda fresh: fresh.call("fetch_time")),
            clock,
            profile_of(connection.family).order_deadline,
        )
        """The exchange's own clock, by which orders have deadlines."""
        self._prices: dict[str, tuple[Decimal | None, float]] = {}
        """By symbol: the last price, None where the question failed, and when it was asked."""

    def go_on_from(self, before: Venue) -> None:
        """Take the place of this exchange's venue on a loop that hangs: its markets need not be loaded again.

        Called before anything is asked here.
        """
        if before.known is not None:
            self._connection.starts_with_markets_of(before._connection)
            self.known, self._loaded_s = before.known, before._loaded_s

    @property
    def connection(self) -> Connection:
        """What it asks through."""
        return self._connection

    @property
    def says_its_status(self) -> bool:
        """Whether the exchange has a word about itself that we know how to read."""
        return adapter_for(self._connection).says_its_status

    async def products(self) -> Products:
        """The markets: loaded once for all callers meanwhile, and later renewed in the background.

        No caller waits for newer ones: an exit must not hang on a list of markets. Raises CouldNotAsk.
        """
        if self.known is None:
            return await asyncio.shield(self._loading or self._begin())
        if self._loading is None and self._clock.up_s() - self._loaded_s >= MARKETS_KEPT_S:
            self._begin()
        return self.known

    def _begin(self) -> asyncio.Task[Products]:
        self._loading = asyncio.create_task(self._load())
        self._loading.add_done_callback(self._has_loaded)
        return self._loading

    def _has_loaded(self, task: asyncio.Task[Products]) -> None:
        self._loading = None
        trouble = None if task.cancelled() else task.exception()
        if trouble is not None and self.known is not None:
            self._loaded_s = self._clock.up_s() - MARKETS_KEPT_S + MARKETS_RETRY_S
            _log.warning("the markets were not loaded again, the old ones are used: %s", trouble)

    @property
    def lists_with_key(self) -> bool:
        """Whether the list of markets is asked for with the key of an account."""
        return self._signed is not None

    async def _load(self) -> Products:
        if self._signed is None:
            fresh = self._connection.copy()
            markets = await self._answered(fresh, fresh.call("load_markets", True), MARKETS_DEADLINE_S)
        else:
            fresh, lane = self._signed[0].copy(), self._signed[1]
            try:
                async with lane.turn():
                    markets = await answered(fresh, fresh.call("load_markets", True), MARKETS_DEADLINE_S)
            except Refrained as refrained:
                raise CouldNotAsk(refrained.outcome.why) from None
            except CouldNotAsk as error:
                if error.fault is not None:
                    lane.note(error.fault)
                raise
        try:
            instance = fresh.used
            found = Products(products_from(markets, instance.precisionMode), str(instance.id))
        except ValueError as error:
            raise unanswered(Fault(FaultKind.BAD_RESPONSE, f"the list of markets: {error}")) from error
        self._connection.instance.set_markets_from_exchange(instance)
        self.known, self._loaded_s = found, self._clock.up_s()
        return found

    async def lend_markets(self, instance: Any) -> None:
        """Give ccxt's own list of markets to an account's instance, which shares it. Raises CouldNotAsk."""
        await self.products()
        instance.set_markets_from_exchange(self._connection.instance)

    async def candles(self, product: Product, timeframe: str, count: int) -> tuple[Candle, ...]:
        """The newest candles, oldest first. Raises CouldNotAsk, NotSupported."""
        fresh, speaks = self._fresh()
        return await self._answered(
            fresh, speaks.candles(product, timeframe, count, self._clock.now().wall_us)
        )

    def earlier_price(self, product: Product) -> Decimal | None:
        """The price that was asked for last, at most an hour ago; None: there is none."""
        price, asked_s = self._prices.get(product.symbol, (None, float("-inf")))
        return price if self._clock.up_s() - asked_s <= PRICE_OLDEST_S else None

    async def price(self, product: Product) -> Decimal | None:
        """What the market cost last, some seconds ago at most; None when that cannot be had soon."""
        price, asked_s = self._prices.get(product.symbol, (None, float("-inf")))
        now_s = self._clock.up_s()
        if now_s - asked_s <= PRICE_KEPT_S:
            return price
        try:
            async with asyncio.timeout(PRICE_DEADLINE_S):
                price = await self.ask(lambda connection: _last_price(connection, product))
        except (CouldNotAsk, NotSupported, TimeoutError) as error:
            _log.debug("no price of %s: %s", product.symbol, error)
            price = None
        self._prices[product.symbol] = (price, now_s)
        return price

    async def status(self) -> Status | None:
        """The exchange's own word about itself; None where it has none. Raises CouldNotAsk."""
        fresh, speaks = self._fresh()
        return await self._answered(fresh, speaks.status(self._clock.now().wall_us))

    async def ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Whatever else is public. Raises CouldNotAsk, NotSupported."""
        fresh = self._connection.copy()
        return await self._answered(fresh, question(fresh))

    def _fresh(self) -> tuple[Connection, ExchangeAdapter]:
        fresh = self._connection.copy()
        return fresh, adapter_for(fresh)

    async def _answered(self, fresh: Connection, call: Awaitable[T], deadline_s: float = 0.0) -> T:
        """What a public call answers, unless the address is banned: it would be banned for longer."""
        if self._address.is_banned:
            if isinstance(call, Coroutine):
                call.close()
            raise unanswered(Fault(FaultKind.RATE_LIMITED, f"not asked: {self._address.ban.why}"))
        try:
            return await answered(fresh, call, deadline_s or self._deadline_s)
        except CouldNotAsk as error:
            self._address.note(error.fault)
            raise


async def _last_price(connection: Connection, product: Product) -> Decimal:
    if not connection.instance.has.get("fetchTicker"):
        raise NotSupported(f"{connection.instance.id} has no ticker")
    ticker = mapping(await connection.call("fetch_ticker", product.symbol), "the ticker")
    return positive(exact(ticker.get("last")), "the last price")


async def answered(connection: Connection, call: Awaitable[T], deadline_s: float) -> T:
    """What a call answers. Raises CouldNotAsk, NotAllowed, NotSupported: never an answer that is none.

    In the lane of a key with a term it raises Refrained when a request of it would go out too late.
    """
    deadline = asyncio.timeout(deadline_s)
    try:
        async with deadline:
            return await call
    except (NotSupported, Refrained):
        raise
    except ClaimOver as error:
        raise Refrained(NotAsked(str(error)), by_claim=True) from None
    except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
        if isinstance(error, TimeoutError) and deadline.expired():
            raise unanswered(Fault(FaultKind.NETWORK, f"no answer within {deadline_s:g} s")) from None
        # Without ccxt's own error behind it: its text may hold what the server repeated of our secrets.
        raise unanswered(await connection.explained(error)) from None


def unanswered(fault: Fault) -> CouldNotAsk:
    """The error that a fault is to the caller."""
    refused = fault.kind in (FaultKind.AUTH, FaultKind.PERMISSION)
    return (NotAllowed if refused else CouldNotAsk)(f"{fault.kind}: {fault.detail}", str(fault.kind), fault)
