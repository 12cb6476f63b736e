"""How each exchange is spoken to: which call asks for what, and whose answer proves it.

A dialect makes ccxt's implicit calls and hands the answers to the pure floor, which says what they
prove. Exchanges whose envelope we do not know are spoken to by ccxt's unified calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from brokerwatch import candles, orders, positions, receipts, status
from brokerwatch.capabilities import Status
from brokerwatch.connection import Connection
from brokerwatch.envelopes import NotProof
from brokerwatch.errors import InvalidOrder, NotSupported
from brokerwatch.messages import Candle, Position, Product
from brokerwatch.orders import OrderRequest
from brokerwatch.positions import Named
from brokerwatch.refusals import no_such_order

MOST_COINBASE_CANDLES: Final = 350
"""Candles of one answer ("Get Product Candles")."""
MOST_PAGES: Final = 3
"""Pages of such a list that are read; an order that was just sent is among the newest."""
NEWEST_ORDERS: Final = 100
"""So many of the newest orders are looked through for one of ours."""


class Dialect(Protocol):
    """One exchange's way of saying it. All raise NotProof, NotTaken, or whatever ccxt raises."""

    has_dry_run: bool
    """Whether it can check an order without placing it."""
    needs_markets: bool
    """Whether ccxt must know the markets before it can be asked."""
    says_its_status: bool
    """Whether it has a word about itself that we know how to read."""

    async def place(self, request: OrderRequest) -> str:
        """Place an order; its id."""
        ...

    async def validate(self, request: OrderRequest) -> None:
        """Have an order checked. Only where there is a dry run."""
        ...

    async def find(self, product: Product, client_order_id: str) -> str | None:
        """The id of an order of ours; None when the exchange answers that it has none."""
        ...

    async def positions(self, named: Named) -> tuple[Position, ...]:
        """What is open beside the coins that are held; `named` gives our symbol for an id of the exchange."""
        ...

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        """The newest candles, oldest first."""
        ...

    async def status(self, now_us: int) -> Status | None:
        """Its own word about itself."""
        ...


class Kraken:
    """Kraken's spot REST API."""

    has_dry_run = True
    needs_markets = False
    says_its_status = True

    def __init__(self, connection: Connection) -> None:
        self._ask = connection.call

    async def place(self, request: OrderRequest) -> str:
        return receipts.kraken_placed(
            await self._ask("privatePostAddOrder", orders.kraken_order(request, validate_only=False))
        )

    async def validate(self, request: OrderRequest) -> None:
        answer = await self._ask("privatePostAddOrder", orders.kraken_order(request, validate_only=True))
        receipts.kraken_validated(answer)

    async def find(self, product: Product, client_order_id: str) -> str | None:
        del product
        wanted = {"cl_ord_id": client_order_id}
        still_open = await self._ask("privatePostOpenOrders", wanted)
        closed = await self._ask("privatePostClosedOrders", wanted)
        return receipts.kraken_found(still_open, closed, client_order_id)

    async def positions(self, named: Named) -> tuple[Position, ...]:
        return positions.kraken_positions(await self._ask("privatePostOpenPositions"), named)

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        del now_us
        interval = candles.kraken_interval(timeframe)
        return candles.kraken_candles(
            await self._ask("publicGetOHLC", {"pair": product.id, "interval": interval}), count
        )

    async def status(self, now_us: int) -> Status | None:
        del now_us
        return status.kraken_status(await self._ask("publicGetSystemStatus"))


class Coinbase:
    """Coinbase's Advanced Trade API. It says nothing of itself."""

    has_dry_run = True
    needs_markets = False
    says_its_status = False

    def __init__(self, connection: Connection) -> None:
        self._ask = connection.call

    async def place(self, request: OrderRequest) -> str:
        return receipts.coinbase_placed(
            await self._ask("v3PrivatePostBrokerageOrders", orders.coinbase_order(request))
        )

    async def validate(self, request: OrderRequest) -> None:
        answer = await self._ask("v3PrivatePostBrokerageOrdersPreview", orders.coinbase_preview(request))
        receipts.coinbase_previewed(answer)

    async def find(self, product: Product, client_order_id: str) -> str | None:
        # Nothing can be asked for by our id, so the newest orders of this market are looked through.
        wanted: dict[str, Any] = {"product_ids": [product.id], "limit": NEWEST_ORDERS}
        for _ in range(MOST_PAGES):
            page = await self._ask("v3PrivateGetBrokerageOrdersHistoricalBatch", wanted)
            found = receipts.coinbase_found(page, client_order_id)
            cursor = receipts.coinbase_cursor(page)
            if found is not None or cursor is None:
                return found
            wanted["cursor"] = cursor
        raise NotProof(f"the order is not among the newest {MOST_PAGES * NEWEST_ORDERS}, and there are more")

    async def positions(self, named: Named) -> tuple[Position, ...]:
        return positions.coinbase_positions(await self._ask("v3PrivateGetBrokerageCfmPositions"), named)

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        granularity, now_s = candles.coinbase_granularity(timeframe), now_us // 1_000_000
        count = min(count, MOST_COINBASE_CANDLES)
        wanted = {
            "product_id": product.id,
            "granularity": granularity,
            "start": str(now_s - count * candles.TIMEFRAMES[timeframe]),
            "end": str(now_s),
            "limit": count,
        }
        answer = await self._ask("v3PublicGetBrokerageMarketProductsProductIdCandles", wanted)
        return candles.coinbase_candles(answer, count)

    async def status(self, now_us: int) -> Status | None:
        del now_us
        return None


class Okx:
    """OKX's API, version 5. There is no dry run: it would ignore the wish and place a real order."""

    has_dry_run = False
    needs_markets = False
    says_its_status = True

    def __init__(self, connection: Connection) -> None:
        self._ask = connection.call
        self._failure = connection.failure

    async def place(self, request: OrderRequest) -> str:
        return receipts.okx_placed(await self._ask("privatePostTradeOrder", orders.okx_order(request)))

    async def validate(self, request: OrderRequest) -> None:
        raise AssertionError(f"there is no dry run of {request}")

    async def find(self, product: Product, client_order_id: str) -> str | None:
        wanted = {"instId": product.id, "clOrdId": client_order_id}
        try:
            answer = await self._ask("privateGetTradeOrder", wanted)
        except Exception as error:
            if no_such_order(self._failure(error)):
                return None
            raise
        return receipts.okx_found(answer, client_order_id)

    async def positions(self, named: Named) -> tuple[Position, ...]:
        return positions.okx_positions(await self._ask("privateGetAccountPositions"), named)

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        del now_us
        wanted = {"instId": product.id, "bar": candles.okx_bar(timeframe), "limit": min(count, 300)}
        return candles.okx_candles(await self._ask("publicGetMarketCandles", wanted), count)

    async def status(self, now_us: int) -> Status | None:
        return status.okx_status(await self._ask("publicGetSystemStatus"), now_us)


class Unified:
    """Any other exchange, by ccxt's unified calls. Whether it has a dry run, ccxt does not say."""

    has_dry_run = False
    needs_markets = True
    says_its_status = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ask = connection.call

    async def place(self, request: OrderRequest) -> str:
        ours = {"clientOrderId": request.client_order_id}
        symbol, side = request.product.symbol, str(request.side)
        if request.quote_amount is not None:
            method = (
                "create_market_buy_order_with_cost" if side == "buy" else "create_market_sell_order_with_cost"
            )
            self._needs(request, method)
            answer = await self._ask(method, symbol, request.size, ours)
        else:
            answer = await self._ask("create_order", symbol, "market", side, request.size, None, ours)
        return _id_of(answer)

    def _needs(self, request: OrderRequest, method: str) -> None:
        camel = "createMarketBuyOrderWithCost" if "buy" in method else "createMarketSellOrderWithCost"
        instance, quote = self._connection.instance, request.product.quote
        if not instance.has.get(camel):
            raise InvalidOrder(
                "quote_amount",
                f"{instance.id} takes no amount in {quote} to {request.side}; expected base_amount",
            )

    async def validate(self, request: OrderRequest) -> None:
        raise AssertionError(f"there is no dry run of {request}")

    async def find(self, product: Product, client_order_id: str) -> str | None:
        has = self._connection.instance.has
        asked = [name for name in ("fetchOpenOrders", "fetchClosedOrders") if has.get(name)]
        for name in asked:
            for order in await self._ask(name, product.symbol, None, NEWEST_ORDERS):
                if order.get("clientOrderId") == client_order_id:
                    return _id_of(order)
        if len(asked) < 2:
            raise NotSupported(f"{self._connection.instance.id} does not list its open and closed orders")
        return None

    async def positions(self, named: Named) -> tuple[Position, ...]:
        del named
        if not self._connection.instance.has.get("fetchPositions"):
            return ()
        return positions.unified_positions(await self._ask("fetch_positions"))

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        del now_us
        instance = self._connection.instance
        if timeframe not in (instance.timeframes or {}):
            known = ", ".join(instance.timeframes or ()) or "none"
            raise NotSupported(f"{instance.id} has no candles of {timeframe}; it has: {known}")
        return candles.unified_candles(await self._ask("fetch_ohlcv", product.symbol, timeframe, None, count))

    async def status(self, now_us: int) -> Status | None:
        del now_us
        return None


def _id_of(answer: Any) -> str:
    found = cast("dict[str, Any]", answer).get("id") if isinstance(answer, dict) else None
    if not isinstance(found, str) or not found:
        raise NotProof("the answer to an order names no order")
    return found


_DIALECTS: Final[dict[str, Callable[[Connection], Dialect]]] = {
    "kraken": Kraken,
    "coinbase": Coinbase,
    "okx": Okx,
}


def dialect(connection: Connection) -> Dialect:
    """The way of speaking to the exchange of this connection."""
    return _DIALECTS.get(connection.family, Unified)(connection)
