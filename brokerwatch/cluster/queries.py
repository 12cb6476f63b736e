"""What one account can be asked and told besides its balance: coroutines that run on the account's loop.

The handle (broker.py) offers them, waiting or awaitable. Here stands what must hold before anything
goes out: a symbol that the exchange has, amounts that it takes, and for an entry an account that can be
trusted on a balance that is fresh. An exit needs none of that last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from brokerwatch.actors.board import Slot
from brokerwatch.actors.protocol import LATE_S, BrokerMessage, FetchNow
from brokerwatch.clock import Instant
from brokerwatch.cluster.observation import asked_at, judged, observed
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import (
    BalanceUnknown,
    CouldNotAsk,
    EarlierOrderUnknown,
    EntryRefused,
    InvalidOrder,
    OrderNotSent,
    TradingDisabled,
    UnknownSymbol,
    VerificationRequired,
)
from brokerwatch.exchanges import order_request
from brokerwatch.exchanges.balances import exact, unified
from brokerwatch.exchanges.positions import held_positions
from brokerwatch.exchanges.symbols import Products
from brokerwatch.exchanges.unlisted_market import unlisted
from brokerwatch.health.capabilities import DATA
from brokerwatch.messages import Balance, Candle, Order, Position, Product, Reading, Side
from brokerwatch.orders.ticket import Ticket

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access
    from brokerwatch.orders.executor import OrderExecutor
    from brokerwatch.orders.gate import Gate

from brokerwatch.cluster.observation import CallReporter
from brokerwatch.cluster.order_entry import ENTRY_ATTEMPTS

_log: Final = logging.getLogger(__name__)
MOST_CANDLES: Final = 1_000
"""Candles of one question; more than any of the exchanges gives."""


class Calls:
    """See the module."""

    def __init__(
        self,
        spec: BrokerSpec,
        slot: Slot,
        access: Access,
        executor: OrderExecutor,
        send: Callable[[BrokerMessage], bool],
        remembers: Callable[[], bool] = lambda: True,
        gate: Gate | None = None,
    ) -> None:
        self.access = access
        self.executor = executor
        self._spec = spec
        self._slot = slot
        self._send = send
        self._remembers = remembers
        """Whether it is known what was ordered before this start."""
        self._gate = gate
        """Where entries need a verification; None: they need none."""
        self._teller = CallReporter(send)

    @property
    def unverified(self) -> str:
        """Why entries need a verification first, in words; empty when they need none, or there is one."""
        if self._gate is None:
            return ""
        return self._gate.trouble(
            self.access.lane.fingerprint, self._spec.name, elsewhere=self.access.elsewhere
        )

    def look_up_verification(self) -> None:
        """Have it looked whether there is a newer report, if that is due. Never waits."""
        if self._gate is not None:
            self._gate.look_soon(self.access.lane.fingerprint)

    def observe(self, outcome: object, capability: str, asked_s: float | None, now: Instant) -> None:
        """Count the outcome of a call that the trader made himself; see `Broker.observe`."""
        asked = asked_at(asked_s, now, self.access.lane.ordered_s, self._slot.reading)
        seen = judged(outcome, asked, lambda given: unified(exact(given)), self.executor.observed)
        self._send(observed(capability, seen))

    async def products(self) -> Products:
        """The markets of the exchange. Raises CouldNotAsk."""
        known = self.access.venue.known
        try:
            found = await self.access.venue.products()
        except CouldNotAsk as error:
            self._teller.called(DATA, error.fault)
            raise
        if known is not found:
            self._teller.called(DATA, None)
        return found

    async def symbol(self, text: str) -> str:
        """The symbol as everybody writes it."""
        return (await self.products()).symbol(text)

    async def supports(self, text: str) -> bool:
        """Whether the exchange has this market."""
        try:
            await self.symbol(text)
        except UnknownSymbol:
            return False
        return True

    async def candles(self, symbol: str, timeframe: str, count: int) -> list[Candle]:
        """The newest candles, oldest first."""
        given: Any = count
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_CANDLES:
            raise ValueError(f"count: expected a whole number from 1 to {MOST_CANDLES:,}, not {given!r}")
        product = (await self.products()).product(symbol)
        try:
            found = await self.access.venue.candles(product, timeframe, count)
        except CouldNotAsk as error:
            self._teller.called(DATA, error.fault)
            raise
        self._teller.called(DATA, None)
        return list(found)

    async def positions(self) -> list[Position]:
        """The coins that are held, and what is open beside them."""
        products = await self.products()
        balance = await self._read_again()
        if balance is None:
            reading = self._slot.reading
            kind = str(reading.fault or "")
            raise CouldNotAsk(f"{self._spec.name}: the balance was not read: {reading.detail}", kind)
        held = held_positions(balance.holdings, products, self._spec.cash_currencies)
        return [*held, *await self.executor.positions(products.named)]

    async def find(self, symbol: str, client_order_id: str) -> Order | None:
        """An order of ours as the exchange has it; None when it answers that it has none."""
        return await self.executor.find((await self.products()).product(symbol), client_order_id)

    async def forget(self, client_order_id: str) -> bool:
        """Do not look for this order any more."""
        return await self.executor.forget(client_order_id)

    async def place(
        self,
        symbol: str,
        side: Side | str,
        base_amount: Decimal | None,
        quote_amount: Decimal | None,
        client_order_id: str,
        ticket: Ticket,
        *,
        validate_only: bool,
        repeated: bool,
    ) -> Order:
        """Place a market order, or have it checked."""
        product = await self._tradable(symbol)
        request = order_request.requested(
            product, side, base_amount, quote_amount, client_order_id, family=self.executor.family
        )
        if self._gate is not None and (
            unknown := await self._gate.looked(self.access.lane.fingerprint, self._spec.name)
        ):
            raise VerificationRequired(unknown)
        for attempt in range(1, ENTRY_ATTEMPTS + 1):
            if self._overtaken():
                await self._read_again()
            self._admit_entry()
            try:
                return await self.executor.order(
                    request, ticket, validate_only=validate_only, repeated=repeated, check=self._admit_entry
                )
            except EntryRefused:
                # Another order may have gone out while this one waited: its balance is read again.
                if attempt == ENTRY_ATTEMPTS or not self._overtaken():
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def close(
        self,
        symbol: str,
        base_amount: Decimal | None,
        client_order_id: str,
        ticket: Ticket,
        *,
        validate_only: bool,
        repeated: bool,
    ) -> Order:
        """Sell what is held of a coin, or a part of it. Never refused for the state of the account."""
        product, desk = await self._tradable(symbol, leaving=True), self.executor
        if base_amount is None:
            if repeated and not validate_only:
                # What is held now is what that order left.
                before = await desk.placed_before(product, Side.SELL, client_order_id)
                if before is not None:
                    return before
            # What an order of which nobody knows has bought is to be sold too.
            await desk.look_round()
            base_amount = await self._free(product)
        request = order_request.requested(
            product,
            Side.SELL,
            base_amount,
            None,
            client_order_id,
            family=desk.family,
            leaving=True,
        )
        return await desk.order(
            request,
            ticket,
            validate_only=validate_only,
            repeated=repeated,
            check=lambda: None,
            leaving=True,
        )

    async def _tradable(self, symbol: str, *, leaving: bool = False) -> Product:
        if not self._spec.trading:
            raise TradingDisabled(
                f"{self._spec.name}: orders are off; nothing was sent. To place any, set trading = true "
                f"under [brokers.{self._spec.name}], or trading=True in its BrokerSpec"
            )
        try:
            products = await self.products()
        except CouldNotAsk as error:
            named = unlisted(self.executor.family, symbol) if leaving else None
            if named is not None:
                _log.warning("%s: its markets are not known, so an exit goes without", self._spec.name)
                return named
            raise OrderNotSent(f"{self._spec.name}: its markets are not known: {error}") from error
        return products.product(symbol)

    def _overtaken(self) -> bool:
        """Whether an order of this key, through whichever broker, came after the balance was asked for."""
        reading = self._slot.reading
        asked_s = float("inf") if reading.as_of is None else reading.as_of.up_s
        return reading.overtaken or asked_s < self.access.lane.ordered_s

    def _admit_entry(self) -> None:
        """Raise EntryRefused unless the account can be trusted with an entry this very moment."""
        reading, name = self._slot.reading, self._spec.name
        if unverified := self.unverified:
            raise VerificationRequired(unverified)
        if not reading.available:
            raise EntryRefused(f"{name} is not available: {reading.reason}: {reading.detail}".rstrip(": "))
        if not self._remembers():
            raise EntryRefused(
                f"{name}: what was ordered before this start cannot be read yet: the store does not answer"
            )
        if reading.age_ms is None:
            raise EntryRefused(f"{name} has never answered with a balance")
        if self._overtaken():
            raise EntryRefused(f"{name}: an order was sent after its balance was read; read it again first")
        if reading.age_ms > self._spec.entry_age_s * 1_000:
            raise EntryRefused(
                f"{name}: its balance is {reading.age_ms / 1_000:.0f} s old, and entries need one of at most "
                f"{self._spec.entry_age_s:g} s; read it again with get_account_balance()"
            )

    async def _free(self, product: Product) -> Decimal:
        """What can be sold of a coin: read now, or the last known when that fails."""
        balance = await self._read_again() or self._slot.known()[1]
        if balance is None:
            raise BalanceUnknown(
                f"{self._spec.name} has never answered with a balance, so nobody knows how much "
                f"{product.base} it holds; give base_amount"
            )
        held = balance.holdings.get(product.base)
        if held is None or held.free <= 0:
            for sent in self.executor.lost():
                earlier = sent.request
                if (earlier.side, earlier.product.base) == (Side.BUY, product.base):
                    raise EarlierOrderUnknown(
                        f"{self._spec.name} holds no {product.base} that is free to be sold, and nobody "
                        f"knows what became of {earlier.client_order_id}, which buys it ({sent.why})",
                        earlier.client_order_id,
                    )
            raise InvalidOrder("symbol", f"{self._spec.name} holds no {product.base} that is free to be sold")
        return held.free

    async def _read_again(self) -> Balance | None:
        """The balance as the exchange says it now; None when it was not read."""
        before = self._slot.known()[1]
        waiter: Future[Reading] = Future()
        if not self._send(FetchNow(waiter)):
            return None
        patience_s = self.access.source.queue_s + self._spec.fetch_deadline_s + 2 * LATE_S
        await asyncio.wait({asyncio.wrap_future(waiter)}, timeout=patience_s)
        after = self._slot.known()[1]
        newer = after is not None and (before is None or after.as_of.up_s > before.as_of.up_s)
        return after if newer else None
