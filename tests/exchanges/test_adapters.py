"""Orders, candles, positions and status as they go through real ccxt to the simulated exchanges and back."""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from brokerwatch.errors import NotSupported
from brokerwatch.exchanges import coinbase as coinbase_adapter
from brokerwatch.exchanges import kraken as kraken_adapter
from brokerwatch.exchanges import okx as okx_adapter
from brokerwatch.exchanges.adapter import ORDERS_PER_PAGE, SKEW_US
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_request import OrderRequest, requested
from brokerwatch.exchanges.refusals import NotTaken, never_sent
from brokerwatch.exchanges.registry import adapter_for, definitely_not_placed, profile_of
from brokerwatch.exchanges.unified import SHORTEST_PAGE
from brokerwatch.gateway.strict_ccxt import strict_class
from brokerwatch.messages import Candle, Product
from brokerwatch.messages.trading import StatusWord
from brokerwatch.simulator import (
    FAULTS,
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.simulator.kraken_pairs import PAIR_IDS
from brokerwatch.simulator.markets import market_of

# Through importlib, because ccxt's annotations do not pass a strict check.
ccxt: Any = importlib.import_module("ccxt.async_support")

PATIENCE_S: Final = 2.0
"""How long a call to an exchange that never answers is waited for."""
CANDLE: Final = (1_700_000_040, "100.5", "101.25", "99.75", "101", "1.5")
PLACED_AT: Final = {
    "kraken": "/0/private/AddOrder",
    "coinbase": "/api/v3/brokerage/orders",
    "okx": "/api/v5/trade/order",
}


class Venue:
    """One simulated exchange, asked as a program would ask it."""

    def __init__(self, exchange: SimulatedExchange, client: Any) -> None:
        self.exchange, self.client, self.family = exchange, client, exchange.ccxt_id

    @property
    def product(self) -> Product:
        market = market_of("BTC/USD")
        return Product(
            symbol=market.symbol,
            base=market.base,
            quote=market.quote,
            id=PAIR_IDS[market.symbol] if self.family == "kraken" else "BTC-USD",
            base_step=Decimal(market.amount_step),
            quote_step=self.exchange.limits(market).quote_step,
            base_minimum=Decimal(market.minimum),
        )

    # A connection, as far as a dialect needs one.

    @property
    def instance(self) -> Any:
        return self.client

    async def call(self, method: str, *arguments: Any) -> Any:
        return await getattr(self.client, method)(*arguments)

    def code(self, currency: str) -> str:
        return str(self.client.safe_currency_code(currency))

    async def place(self, request: OrderRequest) -> str:
        return await adapter_for(cast("Any", self)).place(request)

    async def find(self, product: Product, ours: str, since_us: int | None = None) -> FoundOrder | None:
        return await adapter_for(cast("Any", self)).find(product, ours, since_us)

    async def cancel(self, order_id: str) -> None:
        match self.family:
            case "kraken":
                await self.client.privatePostCancelOrder({"txid": order_id})
            case "coinbase":
                await self.client.v3PrivatePostBrokerageOrdersBatchCancel({"order_ids": [order_id]})
            case _:
                wanted = {"instId": self.product.id, "ordId": order_id}
                await self.client.privatePostTradeCancelOrder(wanted)

    async def candles(self, product: Product) -> tuple[Candle, ...]:
        match self.family:
            case "kraken":
                wanted = {"pair": product.id, "interval": kraken_adapter.interval("1m")}
                return kraken_adapter.candles(await self.client.publicGetOHLC(wanted), 10)
            case "coinbase":
                wanted = {
                    "product_id": product.id,
                    "granularity": coinbase_adapter.granularity("1m"),
                    "start": str(CANDLE[0] - 600),
                    "end": str(CANDLE[0]),
                }
                call = self.client.v3PublicGetBrokerageMarketProductsProductIdCandles
                return coinbase_adapter.candles(await call(wanted), 10)
            case _:
                wanted = {"instId": product.id, "bar": okx_adapter.bar("1m")}
                return okx_adapter.candles(await self.client.publicGetMarketCandles(wanted), 10)

    def failure(self, error: BaseException) -> Failure:
        return Failure.of(
            error, status=self.client.last_status, body=self.client.last_body, family=self.family
        )


@asynccontextmanager
async def venue_of(exchange: SimulatedExchange) -> AsyncGenerator[Venue]:
    names = {"api_key": "apiKey"}
    keys = {names.get(name, name): value for name, value in exchange.credentials.items()}
    made = strict_class(getattr(ccxt, exchange.ccxt_id))
    client: Any = made({**exchange.ccxt_options(), **keys, "number": str, "enableRateLimit": False})
    try:
        yield Venue(exchange, client)
    finally:
        client.timeout_on_exit = 0
        await client.close()


def run(exchange: SimulatedExchange, use: Callable[[Venue], Coroutine[Any, Any, Any]]) -> Any:
    async def used() -> Any:
        async with venue_of(exchange) as venue:
            return await use(venue)

    return asyncio.run(used())


def ours() -> str:
    return uuid.uuid4().hex


def buy(product: Product, family: str, dollars: int = 100) -> OrderRequest:
    return requested(product, "buy", None, Decimal(dollars), ours(), rules=profile_of(family).order_rules)


@pytest.fixture(params=[SimulatedKraken, SimulatedCoinbase, SimulatedOkx], ids=["kraken", "coinbase", "okx"])
def exchange(request: pytest.FixtureRequest) -> Generator[SimulatedExchange]:
    simulated: SimulatedExchange = request.param()
    simulated.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0")})
    with serve(simulated):
        yield simulated


def test_an_order_is_placed_in_the_currency_it_was_asked_for_and_is_found_again(
    exchange: SimulatedExchange,
) -> None:
    async def use(venue: Venue) -> None:
        product = venue.product
        assert await venue.find(product, ours()) is None
        bought = requested(
            product, "buy", None, Decimal("100.019"), ours(), rules=profile_of(venue.family).order_rules
        )
        sold = requested(
            product,
            "sell",
            Decimal("0.0012345678999"),
            None,
            ours(),
            rules=profile_of(venue.family).order_rules,
        )
        for request in (bought, sold):
            placed = await venue.place(request)
            assert placed == venue.exchange.orders_of()[-1].id
            by_base = request.base_amount is not None
            assert await venue.find(product, request.client_order_id) == FoundOrder(
                order_id=placed,
                market=product.id,
                side=request.side,
                ordered_base=request.base_amount,
                # Kraken's row does not say which currency the volume of an order by cost is in.
                ordered_quote=None if by_base or venue.family == "kraken" else request.quote_amount,
                filled_base=venue.exchange.orders_of()[-1].base_amount,
                ended="",
            )
        assert await venue.find(product, ours()) is None

    run(exchange, use)
    first, second = exchange.orders_of()
    assert (first.side, first.in_quote) == ("buy", True)
    # Rounded down to what the exchange says; OKX does not say.
    assert first.size == {"kraken": Decimal("100.019"), "coinbase": Decimal("100.0")}.get(
        exchange.ccxt_id, Decimal("100.019")
    )
    assert (second.side, second.in_quote, second.base_amount) == ("sell", False, Decimal("0.00123456"))


@pytest.fixture
def coinbase() -> Generator[SimulatedCoinbase]:
    simulated = SimulatedCoinbase()
    simulated.set_balance({"USD": ("100000", "0"), "BTC": ("1", "0")})
    with serve(simulated):
        yield simulated


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerwatch.exchanges.coinbase.ORDERS_PER_PAGE", 2)


LOOK_UP: Final = "/api/v3/brokerage/orders/historical/batch"


@pytest.mark.usefixtures("short_pages")
def test_an_order_that_coinbase_took_is_found_behind_many_newer_ones(
    coinbase: SimulatedCoinbase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(venue: Venue) -> None:
        request = buy(venue.product, venue.family)
        placed = await venue.place(request)
        for _ in range(9):
            await venue.place(buy(venue.product, venue.family))
        found = await venue.find(venue.product, request.client_order_id)
        assert found is not None
        assert found.order_id == placed
        assert coinbase.calls_to(LOOK_UP) == 5
        assert await venue.find(venue.product, ours()) is None
        monkeypatch.setattr("brokerwatch.exchanges.coinbase.MOST_PAGES", 4)
        for wanted in (request.client_order_id, ours()):
            with pytest.raises(UnprovenAnswer, match="not among the newest 8 in BTC-USD, and there are more"):
                await venue.find(venue.product, wanted)

    run(coinbase, use)


@pytest.mark.usefixtures("short_pages")
def test_coinbase_is_asked_for_orders_from_five_minutes_before_ours(coinbase: SimulatedCoinbase) -> None:
    async def use(venue: Venue) -> None:
        request = buy(venue.product, venue.family)
        placed_us = int(coinbase.now_s() * 1_000_000)
        await venue.place(request)
        for _ in range(5):
            await venue.place(buy(venue.product, venue.family))
        # It was placed so much earlier by the exchange's clock than it was sent by ours.
        assert await venue.find(venue.product, request.client_order_id, placed_us + SKEW_US - 2_000_000)
        looks = coinbase.calls_to(LOOK_UP)
        assert not await venue.find(venue.product, ours(), placed_us + SKEW_US + 3_600_000_000)
        assert coinbase.calls_to(LOOK_UP) == looks + 1

    run(coinbase, use)


def test_coinbase_places_nothing_under_an_id_that_it_knows_and_another_order_is_no_proof(
    coinbase: SimulatedCoinbase,
) -> None:
    async def use(venue: Venue) -> None:
        assert adapter_for(cast("Any", venue)).ids_are_final
        request = buy(venue.product, venue.family)
        placed = await venue.place(request)
        assert await venue.place(request) == placed
        sold = requested(venue.product, "sell", Decimal("0.01"), None, request.client_order_id)
        for other in (sold, replace(request, quote_amount=Decimal(200))):
            with pytest.raises(UnprovenAnswer):
                await venue.place(other)

    run(coinbase, use)
    assert coinbase.placed_orders == 1


def test_an_order_that_the_exchange_took_down_says_so(exchange: SimulatedExchange) -> None:
    async def use(venue: Venue) -> None:
        exchange.fills_at_once = False
        request = requested(
            venue.product, "sell", Decimal("0.25"), None, ours(), rules=profile_of(venue.family).order_rules
        )
        await venue.place(request)
        opened = await venue.find(venue.product, request.client_order_id)
        assert opened is not None
        assert (opened.ended, opened.filled_base) == ("", Decimal(0))
        await venue.cancel(opened.order_id)
        gone = await venue.find(venue.product, request.client_order_id)
        assert gone is not None
        assert gone.ended.lower().startswith("cancel")
        assert gone == replace(opened, ended=gone.ended)

    run(exchange, use)


def test_a_dry_run_places_nothing_and_says_what_would_be_refused() -> None:
    async def checked(venue: Venue, dollars: int) -> None:
        request = buy(venue.product, venue.family, dollars)
        if venue.family == "kraken":
            wanted = kraken_adapter.order_parameters(request, validate_only=True)
            kraken_adapter.validated(await venue.client.privatePostAddOrder(wanted))
        else:
            wanted = coinbase_adapter.preview_parameters(request)
            coinbase_adapter.previewed(await venue.client.v3PrivatePostBrokerageOrdersPreview(wanted))

    async def use(venue: Venue) -> None:
        await checked(venue, 100)
        with pytest.raises((NotTaken, ccxt.InsufficientFunds)) as refused:
            await checked(venue, 5_000)
        assert isinstance(refused.value, NotTaken) or definitely_not_placed(venue.failure(refused.value))

    for made in (SimulatedKraken, SimulatedCoinbase):
        simulated = made()
        simulated.set_balance({"USD": ("1000", "0")})
        with serve(simulated):
            run(simulated, use)
        assert simulated.placed_orders == 0


def test_an_order_that_is_too_large_is_a_certain_no(exchange: SimulatedExchange) -> None:
    async def use(venue: Venue) -> None:
        with pytest.raises((NotTaken, ccxt.BaseError)) as refused:
            await venue.place(buy(venue.product, venue.family, 5_000))
        assert isinstance(refused.value, NotTaken) or definitely_not_placed(venue.failure(refused.value))

    run(exchange, use)
    assert exchange.placed_orders == 0


REFUSALS: Final = {
    "maintenance",
    "rate_limited",
    "locked_out",
    "bad_key",
    "bad_signature",
    "bad_nonce",
    "permission",
}
"""The exchange's own no. What else goes wrong may go wrong after the order was placed."""
UNANSWERED: Final = {"hang", "stalled", "stalled_body", "drip"}


async def failure_of(venue: Venue, request: OrderRequest, fault: str) -> tuple[BaseException, bool]:
    """What an order meets, and whether it is taken for certainly not placed."""
    try:
        # Only what never answers is waited for so shortly.
        async with asyncio.timeout(PATIENCE_S if fault in UNANSWERED else 20.0):
            await venue.place(request)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is classified
        failure = venue.failure(error)
        return error, isinstance(error, NotTaken) or definitely_not_placed(failure) or never_sent(failure)
    raise AssertionError(f"{fault}: the order was answered")


@pytest.mark.parametrize("fault", sorted(REFUSALS))
def test_the_exchanges_own_no_is_certain_but_for_its_own_trouble(
    exchange: SimulatedExchange, fault: str
) -> None:
    async def use(venue: Venue) -> bool:
        request = buy(venue.product, venue.family)
        venue.exchange.set_fault(fault)
        return (await failure_of(venue, request, fault))[1]

    # Kraken refuses orders while it is cancel-only; the others say 503, which may be said too late.
    expected = fault != "maintenance" or exchange.ccxt_id == "kraken"
    assert run(exchange, use) is expected
    assert exchange.placed_orders == 0


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - REFUSALS))
def test_an_order_that_was_placed_is_never_taken_for_refused_and_is_found(
    exchange: SimulatedExchange, fault: str
) -> None:
    async def use(venue: Venue) -> None:
        product = venue.product
        request = buy(product, venue.family)
        venue.exchange.set_fault(fault, path=PLACED_AT[venue.family], executed=True)
        try:
            error, is_certain = await failure_of(venue, request, fault)
        except AssertionError:
            # What the fault spoils is no part of the answer to an order, or proves it all the same.
            assert fault in (
                "partial_page",
                "warning_beside_result",
                "text_amount",
                "nan_amount",
                "infinite_amount",
            )
        else:
            assert not is_certain, f"{type(error).__name__}: {error}"
        venue.exchange.mend()
        found = await venue.find(product, request.client_order_id)
        assert found is not None
        assert (found.order_id, found.side) == (venue.exchange.orders_of()[-1].id, request.side)

    run(exchange, use)
    assert exchange.placed_orders == 1


def test_nobody_there_means_never_sent(exchange: SimulatedExchange) -> None:
    async def use(venue: Venue) -> None:
        request = buy(venue.product, venue.family)
        # There is no listener on the discard port.
        api = venue.client.urls["api"]
        venue.client.urls = {**venue.client.urls, "api": dict.fromkeys(api, "http://127.0.0.1:9")}
        error: BaseException
        with pytest.raises(ccxt.BaseError) as caught:
            await venue.place(request)
        error = caught.value
        assert never_sent(venue.failure(error))
        assert not definitely_not_placed(venue.failure(error))

    run(exchange, use)


def test_candles_and_positions_are_read_as_they_are_served(exchange: SimulatedExchange) -> None:
    exchange.set_candles("BTC/USD", [CANDLE, (CANDLE[0] - 60, *CANDLE[1:])])
    exchange.set_positions([exchange.example_position])

    async def use(venue: Venue) -> None:
        older, newer = await venue.candles(venue.product)
        assert (newer.start_us - older.start_us, newer.start_us) == (60_000_000, CANDLE[0] * 1_000_000)
        prices = (newer.open, newer.high, newer.low, newer.close, newer.volume)
        assert prices == tuple(map(Decimal, CANDLE[1:]))
        read, asked = {
            "kraken": (kraken_adapter.positions, "privatePostOpenPositions"),
            "coinbase": (coinbase_adapter.positions, "v3PrivateGetBrokerageCfmPositions"),
            "okx": (okx_adapter.positions, "privateGetAccountPositions"),
        }[venue.family]
        (found,) = read(await getattr(venue.client, asked)())
        assert found.side == "long"

    run(exchange, use)


def test_status_is_read_as_it_is_served() -> None:
    kraken, okx = SimulatedKraken(), SimulatedOkx()

    async def kraken_word(venue: Venue) -> StatusWord:
        return kraken_adapter.status(await venue.client.publicGetSystemStatus()).word

    async def okx_word(venue: Venue) -> StatusWord:
        return okx_adapter.status(
            await venue.client.publicGetSystemStatus(), int(okx.now_s() * 1_000_000)
        ).word

    with serve(kraken, okx):
        for word in StatusWord:
            kraken.set_status(str(word))
            assert run(kraken, kraken_word) is word
        assert run(okx, okx_word) is StatusWord.ONLINE
        for state, word in (
            ("scheduled", StatusWord.ONLINE),
            ("ongoing", StatusWord.MAINTENANCE),
            ("pre_open", StatusWord.POST_ONLY),
            ("completed", StatusWord.ONLINE),
        ):
            okx.set_maintenance("Upgrade", state)
            assert run(okx, okx_word) is word


class Listing:
    """A connection to an exchange that we know by ccxt's unified calls alone."""

    family = ""

    def __init__(self, *has: str, page: object = None, **rows: list[dict[str, Any]]) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.rows = rows
        features = {"spot": {name: {"limit": page} for name in has}}
        self.instance = SimpleNamespace(id="any", has=dict.fromkeys(has, True), features=features)

    async def call(self, method: str, *arguments: Any) -> Any:
        self.asked.append((method, *arguments))
        return self.rows.get(method, [])

    def find(self, since_us: int | None = None) -> FoundOrder | None:
        return asyncio.run(adapter_for(cast("Any", self)).find(PRODUCT, "a", since_us))


PRODUCT: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="btcusd")
LISTED: Final[dict[str, Any]] = {"id": "9", "clientOrderId": "a", "symbol": "BTC/USD", "status": "closed"}
OTHERS: Final = [{**LISTED, "id": str(number), "clientOrderId": f"x{number}"} for number in range(100)]


@pytest.mark.parametrize(
    ("has", "asked"),
    [
        (("fetchOpenOrders", "fetchClosedOrders", "fetchOrders"), ("fetchOrders",)),
        (
            ("fetchCanceledAndClosedOrders", "fetchClosedOrders", "fetchOpenOrders"),
            ("fetchOpenOrders", "fetchCanceledAndClosedOrders"),
        ),
        (
            ("fetchOpenOrders", "fetchClosedOrders", "fetchCanceledOrders"),
            ("fetchOpenOrders", "fetchClosedOrders", "fetchCanceledOrders"),
        ),
    ],
)
def test_ccxts_lists_of_every_state_are_asked_for_from_five_minutes_before_ours(
    has: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    sent_us = 1_700_000_000_000_000
    since_ms = (sent_us - SKEW_US) // 1000
    pages: tuple[tuple[object, int | None], ...]
    pages = ((None, None), (50, 50), (1000, ORDERS_PER_PAGE), ("many", None))
    for page, limit in pages:
        exchange = Listing(*has, page=page)
        assert exchange.find(sent_us) is None
        assert exchange.asked == [(name, "BTC/USD", since_ms, limit) for name in asked]
    unsaid = Listing(*has, **{asked[-1]: [LISTED]})
    found = unsaid.find()
    assert found is not None
    assert (found.order_id, found.market) == ("9", "btcusd")
    assert unsaid.asked == [(name, "BTC/USD", None, None) for name in asked]


@pytest.mark.parametrize(
    "has",
    [
        ("fetchOpenOrders", "fetchClosedOrders"),
        ("fetchOpenOrders",),
        ("fetchClosedOrders", "fetchCanceledAndClosedOrders"),
        (),
    ],
)
def test_who_does_not_list_the_orders_that_were_cancelled_never_says_that_there_is_none(
    has: tuple[str, ...],
) -> None:
    with pytest.raises(NotSupported):
        Listing(*has).find()
    for name in {"fetchOpenOrders", "fetchClosedOrders"} & set(has):
        assert Listing(*has, **{name: [LISTED]}).find() is not None


@pytest.mark.parametrize(("page", "full"), [(None, SHORTEST_PAGE), (50, 50), (1000, ORDERS_PER_PAGE)])
def test_a_full_page_of_ccxt_hides_what_comes_after_it(page: int | None, full: int) -> None:
    exchange = Listing("fetchOrders", page=page, fetchOrders=OTHERS[: full - 1])
    assert exchange.find() is None
    exchange.rows = {"fetchOrders": OTHERS[:full]}
    with pytest.raises(UnprovenAnswer, match="the page is full"):
        exchange.find()


def test_a_list_that_an_exchange_makes_of_another_is_not_taken_for_one_of_its_own() -> None:
    exchange = Listing("fetchOpenOrders", "fetchCanceledOrders")
    exchange.instance.has |= {"fetchClosedOrders": "emulated", "fetchOrders": None}
    with pytest.raises(NotSupported):
        exchange.find()
    exchange.instance.features = None
    with pytest.raises(NotSupported):
        exchange.find()


def test_an_order_that_kraken_fills_between_the_two_questions_is_not_missed() -> None:
    row = {"cl_ord_id": "a", "vol": "1", "vol_exec": "1"}

    class Filling:
        family, asked = "kraken", 0

        async def call(self, method: str, _wanted: object) -> Any:
            self.asked += 1
            name = "open" if method == "privatePostOpenOrders" else "closed"
            state = "open" if self.asked == 1 else "closed"
            rows = {"O1": {**row, "status": state}} if name == state else {}
            return {"error": [], "result": {name: rows}}

        def code(self, currency: str) -> str:
            return currency

    found = asyncio.run(adapter_for(cast("Any", Filling())).find(PRODUCT, "a", None))
    assert found is not None
    assert found.order_id == "O1"


def test_a_list_of_coinbase_that_does_not_go_on_proves_nothing() -> None:
    async def call(_method: str, wanted: dict[str, Any]) -> Any:
        pages.append(wanted.get("cursor"))
        return {"orders": [], "has_next": True, "cursor": "same"}

    pages: list[object] = []
    stuck: Any = SimpleNamespace(family="coinbase", call=call)
    with pytest.raises(UnprovenAnswer, match="does not go on"):
        asyncio.run(adapter_for(stuck).find(PRODUCT, "a", None))
    assert pages == [None, "same"]


@pytest.mark.parametrize("family", ["kraken", "okx", ""])
def test_only_coinbase_itself_keeps_an_id_from_being_used_twice(family: str) -> None:
    unused: Any = SimpleNamespace(family=family, call=None, code=None, failure=None)
    assert not adapter_for(unused).ids_are_final
