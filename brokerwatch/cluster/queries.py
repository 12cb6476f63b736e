"""Questions about one account that send no order: markets, candles, positions, and orders that were sent.

The handles (broker.py, aio_broker.py) offer them, waiting or awaitable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from brokerwatch.actors.board import Slot
from brokerwatch.actors.protocol import BrokerMessage, FetchNow
from brokerwatch.cluster.observation import CallReporter
from brokerwatch.cluster.waiting import ALLOWANCE_S
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import CouldNotAsk, UnknownSymbol
from brokerwatch.exchanges.positions import held_positions
from brokerwatch.exchanges.symbols import Products
from brokerwatch.health.capabilities import DATA
from brokerwatch.messages import Balance, Candle, FaultKind, Order, Position, Reading
from brokerwatch.money import is_money

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access
    from brokerwatch.orders.executor import OrderExecutor

MOST_CANDLES: Final = 1_000
"""Candles of one question; more than any of the exchanges gives."""


class Queries:
    """Asks the exchange of one account. Its coroutines run on the account's loop, and nowhere else."""

    def __init__(
        self,
        spec: BrokerSpec,
        slot: Slot,
        access: Access,
        executor: OrderExecutor,
        send: Callable[[BrokerMessage], bool],
    ) -> None:
        self._spec = spec
        self._slot = slot
        self._access = access
        self._executor = executor
        self._send = send
        self._reporter = CallReporter(send)

    async def products(self) -> Products:
        """The markets of the exchange. Raises CouldNotAsk."""
        known = self._access.venue.known
        if self._spec.trading:
            self._access.venue.clock.refresh()
        try:
            found = await self._access.venue.products()
        except CouldNotAsk as error:
            self._reporter.called(DATA, error.fault)
            raise
        if known is not found:
            self._reporter.called(DATA, None)
        return found

    async def symbol(self, text: str) -> str:
        """The symbol in its common spelling."""
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
            found = await self._access.venue.candles(product, timeframe, count)
        except CouldNotAsk as error:
            self._reporter.called(DATA, error.fault)
            raise
        self._reporter.called(DATA, None)
        return list(found)

    async def positions(self) -> list[Position]:
        """The coins that are held, and the derivatives that are open."""
        products = await self.products()
        balance = await self.read_again()
        if balance is None:
            reading = self._slot.reading
            kind = str(reading.fault or "")
            raise CouldNotAsk(f"{self._spec.name}: the balance was not read: {reading.detail}", kind)
        unknown = balance.unread | {
            code for code, held in balance.holdings.items() if held.total is None and not is_money(code)
        }
        if unknown:
            raise CouldNotAsk(
                f"{self._spec.name}: the exchange does not state how much there is of "
                f"{', '.join(sorted(unknown))}",
                str(FaultKind.BAD_RESPONSE),
            )
        held = held_positions(balance.holdings, products, self._spec.cash_currencies)
        return [*held, *await self._executor.positions(products.named)]

    async def find(self, symbol: str, client_order_id: str) -> Order | None:
        """An order of ours as the exchange has it; None when it answers that it has none."""
        return await self._executor.find((await self.products()).product(symbol), client_order_id)

    async def forget(self, client_order_id: str) -> bool:
        """Stop looking for this order."""
        return await self._executor.forget(client_order_id)

    async def read_again(self, at_most_s: float = float("inf")) -> Balance | None:
        """The balance as the exchange says it now; None when it was not read, or not within `at_most_s`."""
        before = self._slot.known()[1]
        waiter: Future[Reading] = Future()
        if not self._send(FetchNow(waiter)):
            return None
        patience_s = self._access.source.longest_wait_s + self._spec.fetch_deadline_s + ALLOWANCE_S
        await asyncio.wait({asyncio.wrap_future(waiter)}, timeout=min(patience_s, at_most_s))
        after = self._slot.known()[1]
        newer = after is not None and (before is None or after.as_of.up_s > before.as_of.up_s)
        return after if newer else None
