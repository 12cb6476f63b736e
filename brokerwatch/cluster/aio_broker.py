"""The handle for asyncio: `broker.aio` has the names of the handle itself, and all of them are awaited."""

from __future__ import annotations

from decimal import Decimal

from brokerwatch.cluster.requests import Requests
from brokerwatch.messages import Candle, DetailedBalance, Order, Position, Product, Side


class AioBroker:
    """A broker's questions and orders for asyncio. Get it from `Broker.aio`; any event loop may use it.

    Names, arguments, answers and errors are those of `Broker`, without BlockingCallInLoop. A cancelled task
    withdraws an order that has not gone out yet; one that is out goes on, and is looked up with `find_order`.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def get_account_balance(self, *, timeout_s: float | None = None) -> Decimal:
        """Fetch the free cash now, or give the last known when that fails.

        Args:
            timeout_s: Seconds to wait; then the answer is the last known too.

        Raises:
            BalanceUnknown: The account has never answered with a balance, or its exchange does not state how
                much of a cash currency is free. That is not zero.
            ClusterStopped: The cluster does not run, so the exchange cannot be asked.
            InsideLane: The call was made inside `broker.lane()`.
        """
        await self._requests.await_balance(timeout_s)
        return self._requests.cash()

    async def free(self, currency: str, *, timeout_s: float | None = None) -> Decimal:
        """See `Broker.free`."""
        await self._requests.await_balance(timeout_s)
        return self._requests.free(currency)

    async def get_account_balance_detailed(self, *, timeout_s: float | None = None) -> DetailedBalance:
        """Fetch all that is in the account, or give the last known when that fails.

        Args and Raises as for `get_account_balance`.
        """
        await self._requests.await_balance(timeout_s)
        return self._requests.detailed()

    async def get_positions(self, *, timeout_s: float | None = None) -> list[Position]:
        """Await what `Broker.get_positions` gives. Raises CouldNotAsk, NotAllowed, NotSupported."""
        return await self._requests.answer(
            "get_positions", self._requests.queries_in_turn().positions(), timeout_s
        )

    async def get_all_products(self, *, timeout_s: float | None = None) -> list[Product]:
        """Await what `Broker.get_all_products` gives. Raises CouldNotAsk, NotSupported."""
        return list(
            await self._requests.answer("get_all_products", self._requests.queries().products(), timeout_s)
        )

    async def get_candles(
        self, symbol: str, timeframe: str = "1m", count: int = 100, *, timeout_s: float | None = None
    ) -> list[Candle]:
        """Await what `Broker.get_candles` gives.

        Raises InvalidSymbol, UnknownSymbol, NotSupported, CouldNotAsk, ValueError.
        """
        return await self._requests.answer(
            "get_candles", self._requests.queries().candles(symbol, timeframe, count), timeout_s
        )

    async def normalize_symbol(self, symbol: str, *, timeout_s: float | None = None) -> str:
        """Await what `Broker.normalize_symbol` gives. Raises InvalidSymbol, UnknownSymbol, CouldNotAsk."""
        return await self._requests.answer(
            "normalize_symbol", self._requests.queries().symbol(symbol), timeout_s
        )

    async def normalize_symbol_for_broker(
        self, symbol: str, exchange: str, *, timeout_s: float | None = None
    ) -> str:
        """Await what `Broker.normalize_symbol_for_broker` gives.

        Raises UnknownBroker, InvalidSymbol, UnknownSymbol, CouldNotAsk.
        """
        self._requests.check_exchange(exchange)
        return await self.normalize_symbol(symbol, timeout_s=timeout_s)

    async def supports_symbol(self, symbol: str, *, timeout_s: float | None = None) -> bool:
        """Await what `Broker.supports_symbol` gives. Raises InvalidSymbol, CouldNotAsk."""
        return await self._requests.answer(
            "supports_symbol", self._requests.queries().supports(symbol), timeout_s
        )

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
        """Place a market order; by default only have it checked. A cancelled task withdraws it if it can.

        Args, Returns and Raises as for `Broker.place_market_order`: only OrderStateUnknown leaves open
        whether the order was placed.
        """
        ordering = self._requests.placing(
            symbol, side, base_amount, quote_amount, client_order_id, validate_only=validate_only
        )
        with ordering.reported(self._requests.name):
            return await self._requests.answer(
                "place_market_order", ordering.work, timeout_s, ordering.is_out
            )

    async def close_position(
        self,
        symbol: str,
        *,
        base_amount: Decimal | None = None,
        validate_only: bool = True,
        client_order_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Order:
        """Sell what is held of a coin at market. A cancelled task withdraws the order if it can.

        Args, Returns and Raises as for `Broker.close_position`.
        """
        ordering = self._requests.closing(symbol, base_amount, client_order_id, validate_only=validate_only)
        with ordering.reported(self._requests.name):
            return await self._requests.answer("close_position", ordering.work, timeout_s, ordering.is_out)

    async def find_order(
        self, symbol: str, client_order_id: str, *, timeout_s: float | None = None
    ) -> Order | None:
        """Await what `Broker.find_order` gives; None when the exchange answers that there is no such order.

        Raises CouldNotAsk, OrderStateUnknown, InvalidOrder.
        """
        return await self._requests.answer(
            "find_order", self._requests.queries_in_turn().find(symbol, client_order_id), timeout_s
        )

    async def forget_order(self, client_order_id: str, *, timeout_s: float | None = None) -> bool:
        """Stop looking for an order; False when no order with this id was being looked for."""
        return await self._requests.answer(
            "forget_order", self._requests.queries().forget(client_order_id), timeout_s
        )
