"""The handle for asyncio: `broker.aio` has the names of the handle itself, and all of them are awaited."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from brokerwatch.messages import Candle, DetailedBalance, Order, Position, Product, Side

if TYPE_CHECKING:
    from brokerwatch.cluster.broker import Broker


class AioBroker:
    """A broker's questions and orders for asyncio: the same names, arguments, answers and errors."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def get_account_balance(self, *, timeout_s: float | None = None) -> Decimal:
        """See `Broker.get_account_balance`."""
        return await self._broker.fetch_balance(timeout_s=timeout_s)

    async def get_account_balance_detailed(self, *, timeout_s: float | None = None) -> DetailedBalance:
        """See `Broker.get_account_balance_detailed`."""
        return await self._broker.fetch_balance_detailed(timeout_s=timeout_s)

    async def get_positions(self, *, timeout_s: float | None = None) -> list[Position]:
        """See `Broker.get_positions`."""
        return await self._broker.answer(self._broker.asks_in_turn().positions(), timeout_s)

    async def get_all_products(self, *, timeout_s: float | None = None) -> list[Product]:
        """See `Broker.get_all_products`."""
        return list(await self._broker.answer(self._broker.asks().products(), timeout_s))

    async def get_candles(
        self, symbol: str, timeframe: str = "1m", count: int = 100, *, timeout_s: float | None = None
    ) -> list[Candle]:
        """See `Broker.get_candles`."""
        return await self._broker.answer(self._broker.asks().candles(symbol, timeframe, count), timeout_s)

    async def normalize_symbol(self, symbol: str, *, timeout_s: float | None = None) -> str:
        """See `Broker.normalize_symbol`."""
        return await self._broker.answer(self._broker.asks().symbol(symbol), timeout_s)

    async def normalize_symbol_for_broker(
        self, symbol: str, exchange: str, *, timeout_s: float | None = None
    ) -> str:
        """See `Broker.normalize_symbol_for_broker`."""
        self._broker.check_exchange(exchange)
        return await self.normalize_symbol(symbol, timeout_s=timeout_s)

    async def supports_symbol(self, symbol: str, *, timeout_s: float | None = None) -> bool:
        """See `Broker.supports_symbol`."""
        return await self._broker.answer(self._broker.asks().supports(symbol), timeout_s)

    async def place_market_order(
        self,
        symbol: str,
        side: Side | str,
        *,
        base_amount: Decimal | None = None,
        quote_amount: Decimal | None = None,
        validate_only: bool = True,
        client_order_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Order:
        """See `Broker.place_market_order`. A cancelled task withdraws what has not gone out yet."""
        ordering = self._broker.placing(
            symbol, side, base_amount, quote_amount, client_order_id, validate_only=validate_only
        )
        with ordering.accounted_for(self._broker.name):
            return await self._broker.answer(ordering.work, timeout_s, ordering.is_out)

    async def close_position(
        self,
        symbol: str,
        *,
        base_amount: Decimal | None = None,
        validate_only: bool = True,
        client_order_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Order:
        """See `Broker.close_position`. A cancelled task withdraws what has not gone out yet."""
        ordering = self._broker.closing(symbol, base_amount, client_order_id, validate_only=validate_only)
        with ordering.accounted_for(self._broker.name):
            return await self._broker.answer(ordering.work, timeout_s, ordering.is_out)

    async def find_order(
        self, symbol: str, client_order_id: str, *, timeout_s: float | None = None
    ) -> Order | None:
        """See `Broker.find_order`."""
        return await self._broker.answer(self._broker.asks_in_turn().find(symbol, client_order_id), timeout_s)

    async def forget_order(self, client_order_id: str, *, timeout_s: float | None = None) -> bool:
        """See `Broker.forget_order`."""
        return await self._broker.answer(self._broker.asks().forget(client_order_id), timeout_s)
