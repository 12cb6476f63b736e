"""What a verification asks an exchange beyond what a trader asks: about the key, the clock, open orders.

All of it only reads. Private questions take their turn in the lane of the key like every other one, and
what they meet is raised as it is: a question that was not answered is never an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from brokerwatch.clock import Clock
from brokerwatch.config.balance_params import thawed
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import CouldNotAsk, NotAllowed, NotSupported
from brokerwatch.exchanges.envelope import exact, mapping, positive
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.open_orders import Market, OpenOrder
from brokerwatch.exchanges.registry import adapter_for
from brokerwatch.exchanges.streams import STREAMS
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.gateway import Access
from brokerwatch.gateway.venue import answered
from brokerwatch.messages import Product
from brokerwatch.verification.account_findings import skew_ms
from brokerwatch.verification.market_findings import misnamed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """The exchange's clock, and ours before and after it was asked. Milliseconds since 1970."""

    sent_ms: float
    theirs_ms: float
    received_ms: float

    @property
    def skew_ms(self) -> float:
        """See `brokerwatch.verification.account_findings.skew_ms`."""
        return skew_ms(self.sent_ms, self.theirs_ms, self.received_ms)

    @property
    def took_ms(self) -> float:
        """How long the question and its answer took."""
        return self.received_ms - self.sent_ms


class ExchangeProbe:
    """Asks the exchange of one account what a verification wants to know. Its coroutines run on the account's
    loop."""

    def __init__(self, spec: BrokerSpec, access: Access, clock: Clock) -> None:
        self._spec = spec
        self._access = access
        self._connection = access.connection
        self._clock = clock
        self._adapter = adapter_for(access.connection)

    async def time(self) -> Timing:
        """The exchange's clock. Raises CouldNotAsk, NotSupported."""
        if not self._connection.instance.has.get("fetchTime"):
            raise NotSupported(f"{self._spec.exchange} has no clock that can be asked")
        try:
            return await self._access.venue.ask(lambda connection: self._timed(connection, "fetch_time"))
        except CouldNotAsk:
            second = self._adapter.profile.second_clock
            if second is None:
                raise
            return await self._access.venue.ask(lambda connection: self._timed(connection, *second))

    async def _timed(self, connection: Connection, method: str, key: str = "") -> Timing:
        """One look at the clock; `key`: where in the answer it stands, in milliseconds."""
        sent_ms = self._clock.now().wall_us / 1_000
        answer = await connection.call(method)
        moment = mapping(answer, "the time").get(key) if key else answer
        theirs = positive(exact(moment), "the time")
        return Timing(sent_ms, float(theirs), self._clock.now().wall_us / 1_000)

    async def last_price(self, product: Product) -> Decimal:
        """What a market cost last, by another answer than its candles. Raises CouldNotAsk, NotSupported."""

        async def ask(connection: Connection) -> Decimal:
            if not connection.instance.has.get("fetchTicker"):
                raise NotSupported(f"{self._spec.exchange} has no ticker")
            ticker = mapping(await connection.call("fetch_ticker", product.symbol), "the ticker")
            return positive(exact(ticker.get("last")), "the last price")

        await self._access.venue.products()
        return await self._access.venue.ask(ask)

    async def listed_elsewhere(self) -> frozenset[str]:
        """The ids of the spot markets that another answer than the list of markets names.

        Raises CouldNotAsk; NotSupported where there is no such answer.
        """

        return await self._access.venue.ask(lambda connection: adapter_for(connection).market_ids())

    async def doubled(self) -> frozenset[str]:
        """Symbols that are listed for two spot markets, of which ccxt keeps the last. Raises CouldNotAsk."""

        async def look(connection: Connection) -> frozenset[str]:
            instance = connection.instance
            names = Counter(
                str(row["symbol"])
                for rows in instance.markets_by_id.values()
                for row in rows
                if row.get("spot")
            )
            return frozenset(name for name, times in names.items() if times > 1)

        await self._access.venue.products()
        return await self._access.venue.ask(look)

    async def misnamed(self) -> tuple[str, ...]:
        """See `brokerwatch.verification.market_findings.misnamed`. Raises CouldNotAsk."""
        listed = await self._access.venue.products()

        async def look(connection: Connection) -> tuple[str, ...]:
            return misnamed(listed, connection.code)

        return await self._access.venue.ask(look)

    async def counted(self) -> int:
        """How many spot markets the exchange says it has. Raises CouldNotAsk, NotSupported."""
        return await self._access.venue.ask(lambda connection: adapter_for(connection).market_count())

    async def signed(self) -> str:
        """The request for the balance, signed and not sent; empty where that could not be had.

        Raises CouldNotAsk for credentials that cannot sign.
        """
        if not self._adapter.profile.own_envelope:
            # What ccxt asks first would else be the list of markets, which is not signed.
            await self._access.venue.lend_markets(self._connection.instance)
        method, arguments = self._balance_call()
        return await self._asked(lambda: self._connection.rehearsed(method, *arguments))

    def _balance_call(self) -> tuple[str, tuple[object, ...]]:
        """The question for the balance: a method of ccxt, and its arguments."""
        profile = self._adapter.profile
        method, arguments = profile.balance_call
        params = thawed(self._spec.balance_params)
        return method, ((*arguments, params) if params and not profile.other_accounts else arguments)

    async def ask_balance(self) -> None:
        """Ask for the balance once, and never a second time with a fresh number: was it answered?

        Amounts are not looked at. Raises CouldNotAsk.
        """
        method, arguments = self._balance_call()
        await self._private(self._adapter.proves_answered, method, *arguments)

    async def key(self) -> KeyFacts:
        """What the exchange says of the key. Raises CouldNotAsk, NotAllowed, NotSupported."""
        return await self._adapter.key_facts(self._private)

    async def stream_right(self) -> str:
        """The right that the key has not and that its exchange's stream needs, in words; empty: it has it.

        Raises CouldNotAsk.
        """
        fold = STREAMS.get(self._connection.family)
        if fold is None or fold.ticket is None:
            return ""
        try:
            await self._private(fold.ticket.read, fold.ticket.method)
        except NotAllowed as error:
            return f"{fold.ticket.right!r} ({error})"
        return ""

    async def open_orders(self, market: Market) -> tuple[OpenOrder, ...]:
        """Every open order. Raises CouldNotAsk, NotAllowed, NotSupported."""
        if not self._adapter.lists_open_orders:
            raise NotSupported(f"{self._spec.exchange} does not list its open orders")
        if self._adapter.needs_markets:
            await self._access.venue.lend_markets(self._connection.instance)
        return await self._adapter.open_orders(self._private, market)

    async def _private(self, read: Callable[[object], T], method: str, *arguments: object) -> T:
        """What one private call proves; UnprovenAnswer of `read` is a `bad_response`."""

        async def ask() -> T:
            return read(await self._connection.call(method, *arguments))

        return await self._asked(ask)

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T:
        """A question in the lane of the key. Raises CouldNotAsk, NotAllowed, NotSupported."""
        lane = self._access.lane
        try:
            async with lane.turn():
                return await answered(self._connection, question(), self._spec.fetch_deadline_s)
        except Refrained as refrained:
            raise CouldNotAsk(refrained.outcome.why) from None
        except CouldNotAsk as error:
            if error.fault is not None:
                lane.note(error.fault)
            raise
