"""What a verification asks an exchange beyond what a trader asks: about the key, the clock, open orders.

All of it only reads. Private questions take their turn in the lane of the key like every other one, and
what they meet is told as it is: a question that was not answered is never an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, TypeVar

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import CouldNotAsk, NotAllowed, NotSupported
from brokerwatch.exchanges.balances import FAMILIES, unified
from brokerwatch.exchanges.envelope import (
    kraken_envelope,
    kraken_result,
    listing,
    mapping,
    okx_rows,
    positive,
    text,
)
from brokerwatch.exchanges.key_info import KeyFacts, coinbase_key, kraken_key, okx_key
from brokerwatch.exchanges.open_orders import (
    Market,
    OpenOrder,
    coinbase_open,
    kraken_open,
    okx_open,
    unified_open,
)
from brokerwatch.exchanges.order_answers import coinbase_cursor
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.gateway import Access
from brokerwatch.gateway.venue import answered
from brokerwatch.messages import FaultKind, Product
from brokerwatch.verification.account_findings import skew_ms
from brokerwatch.verification.market_findings import misnamed

T = TypeVar("T")

MOST_PAGES: Final = 20
"""Pages of open orders that are read: 2,000 orders at OKX."""
OKX_PAGE: Final = 100
WITHDRAWAL_PROBE: Final = {"asset": "XBT", "key": "brokerwatch verification", "amount": "0.001"}
"""A withdrawal that is only asked about, to an address that does not exist: it can move nothing."""
HEARD: Final = "EFunding:"
"""So begins what Kraken says to it when the key may withdraw: only the address is not known."""

NO_QUESTION: Final = ("Unknown method", "HTTP 404", "HTTP 405")
"""What is said where Kraken's newer question about a key is not known."""

_BALANCE: Final[dict[str, tuple[str, tuple[Any, ...]]]] = {
    "kraken": ("privatePostBalanceEx", ()),
    "coinbase": ("v3PrivateGetBrokerageAccounts", ({"limit": 250},)),
    "okx": ("privateGetAccountBalance", ()),
}

_ENVELOPES: Final[dict[str, Callable[[object], object]]] = {
    "kraken": kraken_envelope,
    "coinbase": lambda answer: listing(mapping(answer, "the answer").get("accounts"), "accounts"),
    "okx": lambda answer: [
        listing(row.get("details"), "details") for row in okx_rows(answer) or [{"details": None}]
    ],
}
"""What of an answer shows that the exchange took the question for its owner's."""


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
    """See the module. Its coroutines run on the account's loop."""

    def __init__(self, spec: BrokerSpec, access: Access, clock: Clock) -> None:
        self._spec = spec
        self._access = access
        self._connection = access.connection
        self._clock = clock
        self._family = FAMILIES.get(spec.exchange, "")

    async def time(self) -> Timing:
        """The exchange's clock. Raises CouldNotAsk, NotSupported."""
        if not self._connection.instance.has.get("fetchTime"):
            raise NotSupported(f"{self._spec.exchange} has no clock that can be asked")
        try:
            return await self._access.venue.ask(lambda connection: self._timed(connection, "fetch_time"))
        except CouldNotAsk:
            if self._family != "coinbase":
                raise
            # ccxt asks the older API of Coinbase, and the one that is traded through has a clock too.
            return await self._access.venue.ask(
                lambda connection: self._timed(connection, "v3PublicGetBrokerageTime", "epochMillis")
            )

    async def _timed(self, connection: Connection, method: str, key: str = "") -> Timing:
        """One look at the clock; `key`: where in the answer it stands, in milliseconds."""
        sent_ms = self._clock.now().wall_us / 1_000
        answer = await connection.call(method)
        told = mapping(answer, "the time").get(key) if key else answer
        theirs = positive(repr(told) if isinstance(told, float) else told, "the time")
        return Timing(sent_ms, float(theirs), self._clock.now().wall_us / 1_000)

    async def last_price(self, product: Product) -> Decimal:
        """What a market cost last, by another answer than its candles. Raises CouldNotAsk, NotSupported."""

        async def ask(connection: Connection) -> Decimal:
            if not connection.instance.has.get("fetchTicker"):
                raise NotSupported(f"{self._spec.exchange} has no ticker")
            ticker = mapping(await connection.call("fetch_ticker", product.symbol), "the ticker")
            last = ticker.get("last")
            return positive(repr(last) if isinstance(last, float) else last, "the last price")

        await self._access.venue.products()
        return await self._access.venue.ask(ask)

    async def listed_elsewhere(self) -> frozenset[str]:
        """The ids of the spot markets that another answer than the list of markets names.

        Raises CouldNotAsk; NotSupported where there is no such answer.
        """

        async def ask(connection: Connection) -> frozenset[str]:
            match self._family:
                case "kraken":
                    return frozenset(kraken_result(await connection.call("publicGetTicker")))
                case "okx":
                    rows = okx_rows(await connection.call("publicGetMarketTickers", {"instType": "SPOT"}))
                    return frozenset(text(row.get("instId"), "instId") for row in rows)
                case _:
                    raise NotSupported(f"{self._spec.exchange} has no second list")

        return await self._access.venue.ask(ask)

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

        async def ask(connection: Connection) -> int:
            if self._family != "coinbase":
                raise NotSupported(f"{self._spec.exchange} does not count its markets")
            answer = mapping(
                await connection.call("v3PublicGetBrokerageMarketProducts", {"product_type": "SPOT"}),
                "the answer",
            )
            listing(answer.get("products"), "products")
            return int(positive(answer.get("num_products"), "num_products"))

        return await self._access.venue.ask(ask)

    async def signed(self) -> str:
        """The request for the balance, signed and not sent; empty where that could not be had.

        Raises CouldNotAsk for credentials that cannot sign.
        """
        if not self._family:
            # What ccxt asks first would else be the list of markets, which nobody signs.
            await self._access.venue.lend_markets(self._connection.instance)
        method, arguments = _BALANCE.get(self._family, ("fetch_balance", ()))
        return await self._asked(lambda: self._connection.rehearsed(method, *arguments))

    async def ask_balance(self) -> None:
        """Ask for the balance once, and never a second time with a fresh number: was it answered?

        Amounts are not looked at. Raises CouldNotAsk.
        """
        method, arguments = _BALANCE.get(self._family, ("fetch_balance", ()))
        await self._private(_ENVELOPES.get(self._family, unified), method, *arguments)

    async def key(self) -> KeyFacts:
        """What the exchange says of the key. Raises CouldNotAsk, NotAllowed, NotSupported."""
        match self._family:
            case "kraken":
                return await self._kraken_key()
            case "coinbase":
                return await self._private(coinbase_key, "v3PrivateGetBrokerageKeyPermissions")
            case "okx":
                return await self._private(okx_key, "privateGetAccountConfig")
            case _:
                raise NotSupported(f"ccxt has no way to ask {self._spec.exchange} what a key may do")

    async def _kraken_key(self) -> KeyFacts:
        """By what it says of the key; and by a question about a withdrawal, which must be denied."""
        try:
            facts = await self._private(kraken_key, "privatePostGetApiKeyInfo")
        except CouldNotAsk as error:
            no_such_question = isinstance(error, NotAllowed) or any(
                word in str(error) for word in NO_QUESTION
            )
            facts = KeyFacts(unsaid="" if no_such_question else str(error))
        try:
            await self._private(kraken_result, "privatePostWithdrawInfo", WITHDRAWAL_PROBE)
        except CouldNotAsk as error:
            if isinstance(error, NotAllowed) and error.kind == FaultKind.PERMISSION:
                return replace(facts, withdraw=bool(facts.withdraw))
            if HEARD in str(error):
                return replace(facts, withdraw=True)
            if facts.withdraw is not None and any(word in str(error) for word in NO_QUESTION):
                return facts
            return replace(facts, doubt="; ".join(part for part in (str(error), facts.unsaid) if part))
        return replace(facts, withdraw=True)

    async def open_orders(self, market: Market) -> tuple[OpenOrder, ...]:
        """Every open order. Raises CouldNotAsk, NotAllowed, NotSupported."""
        match self._family:
            case "kraken":
                return await self._private(
                    lambda answer: kraken_open(answer, market), "privatePostOpenOrders"
                )
            case "coinbase":
                return await self._pages(
                    "v3PrivateGetBrokerageOrdersHistoricalBatch",
                    {"order_status": ["OPEN"], "limit": 100},
                    lambda page: (coinbase_open(page, market), {"cursor": coinbase_cursor(page)}),
                )
            case "okx":
                return await self._pages(
                    "privateGetTradeOrdersPending",
                    {},
                    lambda page: _okx_page(okx_open(page, market)),
                )
            case _:
                return await self._unified_orders(market)

    async def _pages(
        self,
        method: str,
        wanted: dict[str, Any],
        read: Callable[[object], tuple[tuple[OpenOrder, ...], dict[str, str | None]]],
    ) -> tuple[OpenOrder, ...]:
        """The orders of all pages; `read` gives those of one, and what asks for the next one."""
        found: list[OpenOrder] = []
        for _ in range(MOST_PAGES):
            orders, following = await self._private(read, method, dict(wanted))
            found += orders
            if None in following.values():
                return tuple(found)
            wanted |= following
        raise CouldNotAsk(f"there are more than {MOST_PAGES} pages of open orders", FaultKind.BAD_RESPONSE)

    async def _unified_orders(self, market: Market) -> tuple[OpenOrder, ...]:
        if self._connection.instance.has.get("fetchOpenOrders") is not True:
            raise NotSupported(f"{self._spec.exchange} does not list its open orders")
        await self._access.venue.lend_markets(self._connection.instance)
        return await self._private(lambda rows: unified_open(rows, market), "fetch_open_orders")

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


def _okx_page(orders: tuple[OpenOrder, ...]) -> tuple[tuple[OpenOrder, ...], dict[str, str | None]]:
    return orders, {"after": orders[-1].order_id if len(orders) >= OKX_PAGE else None}
