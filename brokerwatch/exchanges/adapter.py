"""How each exchange is spoken to: which call asks for what, and whose answer proves it.

A dialect makes ccxt's implicit calls and hands the answers to the pure floor, which says what they
prove. Exchanges whose envelope we do not know are spoken to by ccxt's unified calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

from brokerwatch.errors import InvalidOrder, NotSupported
from brokerwatch.exchanges import candles, envelope, order_answers, order_request, positions
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.positions import Named
from brokerwatch.exchanges.refusals import no_such_order
from brokerwatch.messages import Candle, Fault, FaultKind, Position, Product
from brokerwatch.messages.trading import Status

MOST_COINBASE_CANDLES: Final = 350
"""Candles of one answer ("Get Product Candles")."""
ORDERS_PER_PAGE: Final = 100
"""So many orders are asked for at once, where they cannot be asked for by our id."""
MOST_PAGES: Final = 50
"""Pages of such a list that are looked through."""
SHORTEST_PAGE: Final = 10
"""Where ccxt does not say how long a page is, one with fewer orders is not full: of the pages that it knows
the shortest has 50."""
SKEW_US: Final = 300_000_000
"""So far the exchange's clock may be behind ours. (From 2 minutes on Coinbase refuses what we sign.)"""


class Caller(Protocol):
    """What an adapter asks an exchange with. The gateway's `Connection` is one."""

    @property
    def family(self) -> str:
        """Whose envelope its answers have; empty: none that we know."""
        ...

    @property
    def instance(self) -> Any:
        """The ccxt instance."""
        ...

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the instance. Raises whatever ccxt raises."""
        ...

    def code(self, currency: str) -> str:
        """The common code of a currency in the exchange's own: XXBT to BTC."""
        ...

    def fault(self, error: BaseException) -> Fault:
        """The fault that `error` is, from what the last answer said."""
        ...

    def failure(self, error: BaseException) -> Failure:
        """What is known about a call that failed."""
        ...


class ExchangeAdapter(Protocol):
    """One exchange's way of saying it. All raise UnprovenAnswer, NotTaken, or whatever ccxt raises."""

    has_dry_run: bool
    """Whether it can check an order without placing it."""
    needs_markets: bool
    """Whether ccxt must know the markets before it can be asked."""
    ids_are_final: bool
    """Whether the exchange itself never places a second order under an id of ours that it has seen."""
    says_its_status: bool
    """Whether it has a word about itself that we know how to read."""

    async def place(self, request: OrderRequest) -> str:
        """Place an order; its id."""
        ...

    async def validate(self, request: OrderRequest) -> None:
        """Have an order checked. Only where there is a dry run."""
        ...

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        """An order of ours, by the id that we gave it; None when the exchange answers that it has none.

        `since_us`: when it was first sent, µs by our own clock; None when nobody knows.
        """
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


_NO_FUTURES: Final = re.compile(
    r"\bnot (?:yet )?(?:approved|eligible|enabled|onboarded)\b[^\"]{0,40}\b(?:futures|fcm|cfm)\b",
    re.IGNORECASE,
)
"""Said of the account. That the key lacks a right is said of the key, and is no answer about positions."""


class Kraken:
    """Kraken's spot REST API."""

    ids_are_final = False
    has_dry_run = True
    needs_markets = False
    says_its_status = True

    def __init__(self, connection: Caller) -> None:
        self._ask = connection.call
        self._code = connection.code

    async def place(self, request: OrderRequest) -> str:
        return order_answers.kraken_placed(
            await self._ask("privatePostAddOrder", order_request.kraken_order(request, validate_only=False))
        )

    async def validate(self, request: OrderRequest) -> None:
        answer = await self._ask(
            "privatePostAddOrder", order_request.kraken_order(request, validate_only=True)
        )
        order_answers.kraken_validated(answer)

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        del since_us
        wanted = {"cl_ord_id": client_order_id}
        # In this order: what is filled in between stands in both, and never in none.
        still_open = await self._ask("privatePostOpenOrders", wanted)
        closed = await self._ask("privatePostClosedOrders", wanted)
        return order_answers.kraken_found(still_open, closed, client_order_id, product, self._code)

    async def positions(self, named: Named) -> tuple[Position, ...]:
        return positions.kraken_positions(await self._ask("privatePostOpenPositions"), named)

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        del now_us
        interval = candles.kraken_interval(timeframe)
        return candles.kraken_candles(
            await self._ask("publicGetOHLC", {"pair": product.id, "interval": interval}), count, product.id
        )

    async def status(self, now_us: int) -> Status | None:
        del now_us
        return envelope.kraken_status(await self._ask("publicGetSystemStatus"))


class Coinbase:
    """Coinbase's Advanced Trade API. It says nothing of itself."""

    ids_are_final = True
    has_dry_run = True
    needs_markets = False
    says_its_status = False

    def __init__(self, connection: Caller) -> None:
        self._ask = connection.call
        self._connection = connection

    async def place(self, request: OrderRequest) -> str:
        answer = await self._ask("v3PrivatePostBrokerageOrders", order_request.coinbase_order(request))
        return order_answers.coinbase_placed(answer, request)

    async def validate(self, request: OrderRequest) -> None:
        answer = await self._ask(
            "v3PrivatePostBrokerageOrdersPreview", order_request.coinbase_preview(request)
        )
        order_answers.coinbase_previewed(answer)

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        # Nothing can be asked for by our id, so this market's orders are looked through, the newest first.
        # https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/list-orders
        wanted: dict[str, Any] = {"product_ids": [product.id], "limit": ORDERS_PER_PAGE}
        if since_us is not None:
            since = datetime.fromtimestamp((since_us - SKEW_US) // 1_000_000, UTC)
            wanted["start_date"] = f"{since:%Y-%m-%dT%H:%M:%SZ}"
        for _ in range(MOST_PAGES):
            page = await self._ask("v3PrivateGetBrokerageOrdersHistoricalBatch", wanted)
            found = order_answers.coinbase_found(page, client_order_id)
            cursor = order_answers.coinbase_cursor(page)
            if found is not None or cursor is None:
                return found
            if cursor == wanted.get("cursor"):
                raise UnprovenAnswer("the list of orders does not go on: a page names itself as the next one")
            wanted["cursor"] = cursor
        raise UnprovenAnswer(
            f"not among the newest {MOST_PAGES * ORDERS_PER_PAGE} in {product.id}, and there are more"
        )

    async def positions(self, named: Named) -> tuple[Position, ...]:
        try:
            answer = await self._ask("v3PrivateGetBrokerageCfmPositions")
        except Exception as error:
            fault = self._connection.fault(error)
            if fault.kind is FaultKind.PERMISSION and _NO_FUTURES.search(fault.detail):
                return ()  # who is not approved for futures has none
            raise
        return positions.coinbase_positions(answer, named)

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

    ids_are_final = False
    has_dry_run = False
    needs_markets = False
    says_its_status = True

    def __init__(self, connection: Caller) -> None:
        self._ask = connection.call
        self._failure = connection.failure

    async def place(self, request: OrderRequest) -> str:
        return order_answers.okx_placed(
            await self._ask("privatePostTradeOrder", order_request.okx_order(request))
        )

    async def validate(self, request: OrderRequest) -> None:
        raise AssertionError(f"there is no dry run of {request}")

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        del since_us
        wanted = {"instId": product.id, "clOrdId": client_order_id}
        try:
            answer = await self._ask("privateGetTradeOrder", wanted)
        except Exception as error:
            if no_such_order(self._failure(error)):
                return None
            raise
        return order_answers.okx_found(answer, client_order_id)

    async def positions(self, named: Named) -> tuple[Position, ...]:
        return positions.okx_positions(await self._ask("privateGetAccountPositions"), named)

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        del now_us
        wanted = {"instId": product.id, "bar": candles.okx_bar(timeframe), "limit": min(count, 300)}
        return candles.okx_candles(await self._ask("publicGetMarketCandles", wanted), count)

    async def status(self, now_us: int) -> Status | None:
        return envelope.okx_status(await self._ask("publicGetSystemStatus"), now_us)


_WHOLE: Final = (
    ("fetchOrders",),
    ("fetchOpenOrders", "fetchCanceledAndClosedOrders"),
    ("fetchOpenOrders", "fetchClosedOrders", "fetchCanceledOrders"),
)
"""ccxt's lists that have orders of every state; what may still end is asked for first, so that nothing is
missed that ends in between. Of closed orders alone, those that were cancelled half filled may be left out."""
_LISTS: Final = ("fetchOpenOrders", "fetchClosedOrders")


class Unified:
    """Any other exchange, by ccxt's unified calls. Whether it has a dry run, ccxt does not say."""

    ids_are_final = False
    has_dry_run = False
    needs_markets = True
    says_its_status = False

    def __init__(self, connection: Caller) -> None:
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
        return order_answers.unified_placed(answer)

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

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        since_ms = None if since_us is None else (since_us - SKEW_US) // 1000
        names = self._lists()
        lists: list[tuple[object, int]] = []
        for name in names:
            limit = self._page(name)
            asked = min(limit, ORDERS_PER_PAGE) if limit else None
            lists.append((await self._ask(name, product.symbol, since_ms, asked), asked or SHORTEST_PAGE))
        found = order_answers.unified_found(lists, client_order_id, product)
        if found is None and names not in _WHOLE:
            raise NotSupported(f"{self._connection.instance.id} does not list its orders of every state")
        return found

    def _lists(self) -> tuple[str, ...]:
        """The lists to look through: those that together have orders of every state, or what there is."""
        has = self._connection.instance.has
        for names in _WHOLE:
            if all(has.get(name) is True for name in names):
                return names
        return tuple(name for name in _LISTS if has.get(name) is True)

    def _page(self, name: str) -> int | None:
        """How many orders a page of this list has at most; None: ccxt does not know."""
        features: object = self._connection.instance.features
        for key in ("spot", name, "limit"):
            features = (
                cast("Mapping[str, object]", features).get(key) if isinstance(features, Mapping) else None
            )
        return features if isinstance(features, int) and features > 0 else None

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


_DIALECTS: Final[dict[str, Callable[[Caller], ExchangeAdapter]]] = {
    "kraken": Kraken,
    "coinbase": Coinbase,
    "okx": Okx,
}


def adapter_for(connection: Caller) -> ExchangeAdapter:
    """The way of speaking to the exchange of this connection."""
    return _DIALECTS.get(connection.family, Unified)(connection)
