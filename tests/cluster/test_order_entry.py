"""Orders through the handle, on exchanges that really place them: once, or not at all, or looked up."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brokerwatch.clock import Clock, Instant, SystemClock
from brokerwatch.cluster.broker import Broker
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.errors import (
    ClusterStopped,
    CouldNotAsk,
    EarlierOrderUnknown,
    EntryRefused,
    InvalidOrder,
    InvalidSymbol,
    NotAllowed,
    OrderError,
    OrderNotSent,
    OrderRefused,
    OrderStateUnknown,
    TradingDisabled,
    UnknownSymbol,
    ValidationNotSupported,
)
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import CapabilityState, Order, OrderState, Side
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import RefusalCode
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import cluster_of, simulated_spec, until

FIFTY = Decimal("50")
ORDER_PATHS = {
    "kraken": "POST /0/private/AddOrder",
    "coinbase": "POST /api/v3/brokerage/orders",
    "okx": "POST /api/v5/trade/order",
}
LOOKUP_PATHS = {
    "kraken": ("POST /0/private/OpenOrders", "POST /0/private/ClosedOrders"),
    "coinbase": ("GET /api/v3/brokerage/orders/historical/batch",),
    "okx": ("GET /api/v5/trade/order",),
}
SYMBOLS = {"kraken": "BTC/USD", "coinbase": "BTC/USD", "okx": "BTC/USDT"}
KINDS = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)


def rich(exchange: SimulatedExchange) -> SimulatedExchange:
    exchange.set_balance(
        {"USD": ("10000", "0"), "USDT": ("10000", "0"), "BTC": ("0.5", "0.1"), "ETH": ("2", "0")}
    )
    return exchange


class Desk:
    """One simulated exchange, a cluster on it, and the handle."""

    def __init__(self, exchange: SimulatedExchange, cluster: Cluster) -> None:
        self.exchange, self.cluster = exchange, cluster
        self.broker: Broker = cluster.broker(f"{exchange.ccxt_id}-test")
        self.symbol = SYMBOLS[exchange.ccxt_id]
        self.order_path = ORDER_PATHS[exchange.ccxt_id]

    def buy(self, **values: Any) -> Any:
        chosen: dict[str, Any] = {"quote_amount": FIFTY, "validate_only": False, **values}
        return self.broker.place_market_order(self.symbol, "buy", **chosen)

    @property
    def placed(self) -> int:
        return self.exchange.placed_orders


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.ccxt_id))
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    with Opened(rich(request.param())) as found:
        yield found


class Opened:
    """A desk on this exchange, from start to stop."""

    def __init__(
        self, exchange: SimulatedExchange, clock: Clock | None = None, state: str = "", **values: Any
    ) -> None:
        self.exchange, self.clock = exchange, clock
        self.settings: dict[str, Any] = {"state": state} if state else {}
        self.values: dict[str, Any] = {"trading": True, "fetch_deadline_s": 1.0, **values}

    def __enter__(self) -> Desk:
        self.serving = serve(self.exchange)
        self.serving.__enter__()
        self.cluster = cluster_of(
            simulated_spec(self.exchange, **self.values),
            status_interval_s=float("inf"),
            clock=self.clock,
            **self.settings,
        )
        self.cluster.start()
        found = Desk(self.exchange, self.cluster)
        found.broker.get_account_balance()
        return found

    def __exit__(self, *_: object) -> None:
        self.cluster.stop()
        self.serving.__exit__(None, None, None)


# --- what is placed ----------------------------------------------------------------------------------


def test_an_order_is_placed_once_and_the_balance_is_read_again(desk: Desk) -> None:
    before = desk.broker.get_account_balance()
    order = desk.buy()
    assert order.state is OrderState.ACCEPTED
    assert order.order_id
    assert (order.quote_amount, order.base_amount) == (FIFTY, None)
    [placed] = desk.exchange.orders_of()
    assert (placed.symbol, placed.side) == (desk.symbol, "buy")
    assert (placed.size, placed.in_quote) == (FIFTY, True)
    until(lambda: not desk.broker.reading().overtaken)
    assert desk.broker.reading().cash == before - placed.quote_amount
    assert desk.broker.reading().capabilities["trade"].state is CapabilityState.OK


def test_what_is_held_can_be_sold_and_no_more_than_is_free(desk: Desk) -> None:
    order = desk.broker.close_position(desk.symbol, validate_only=False)
    assert order.base_amount == Decimal("0.5"), "0.1 more is held by other orders"
    [placed] = desk.exchange.orders_of()
    assert (placed.side, placed.base_amount) == ("sell", Decimal("0.5"))
    with pytest.raises(InvalidOrder, match="holds no BTC that is free"):
        desk.broker.close_position(desk.symbol, validate_only=False)
    assert desk.placed == 1


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedCoinbase])
def test_a_dry_run_is_checked_by_the_exchange_and_places_nothing(kind: type[SimulatedExchange]) -> None:
    with Opened(rich(kind())) as desk:
        order = desk.buy(validate_only=True)
        assert (order.state, order.order_id) == (OrderState.VALIDATED, "")
        assert not desk.broker.reading().overtaken
        closing = desk.broker.close_position(desk.symbol)
        assert closing.state is OrderState.VALIDATED
        with pytest.raises(OrderRefused):
            desk.buy(validate_only=True, quote_amount=Decimal(1_000_000))
        assert desk.placed == 0


def test_a_dry_run_that_is_answered_with_an_order_is_not_said_to_have_placed_nothing() -> None:
    with Opened(rich(SimulatedKraken())) as desk:
        placed = {"descr": {"order": "buy"}, "txid": ["OUF4EM-FRGI2-MQMWZD"]}
        desk.exchange.set_answer(json.dumps({"error": [], "result": placed}), path=desk.order_path)
        with pytest.raises(OrderStateUnknown, match="only a dry run was asked for") as raised:
            desk.buy(validate_only=True, client_order_id="a-dry-run")
        assert raised.value.client_order_id == "a-dry-run"


def test_where_there_is_no_dry_run_nothing_is_sent() -> None:
    with Opened(rich(SimulatedOkx())) as desk:
        calls = desk.exchange.private_calls
        for attempt in (
            lambda: desk.buy(validate_only=True),
            lambda: desk.broker.close_position(desk.symbol, base_amount=Decimal("0.1")),
        ):
            with pytest.raises(ValidationNotSupported):
                attempt()
        assert desk.placed == 0
        assert desk.exchange.private_calls == calls


def test_without_leave_in_the_configuration_nothing_is_sent() -> None:
    with Opened(rich(SimulatedKraken()), trading=False) as desk:
        calls = desk.exchange.private_calls
        with pytest.raises(TradingDisabled, match="trading = true"):
            desk.buy()
        with pytest.raises(TradingDisabled):
            desk.broker.close_position(desk.symbol)
        assert (desk.placed, desk.exchange.private_calls) == (0, calls)


@pytest.mark.parametrize(
    ("values", "argument"),
    [
        ({"quote_amount": None}, "amount"),
        ({"base_amount": Decimal("0.1")}, "amount"),
        ({"quote_amount": Decimal(0)}, "quote_amount"),
        ({"quote_amount": Decimal(-5)}, "quote_amount"),
        ({"quote_amount": Decimal("NaN")}, "quote_amount"),
        ({"quote_amount": Decimal("Infinity")}, "quote_amount"),
        ({"quote_amount": 50.0}, "quote_amount"),
        ({"quote_amount": None, "base_amount": Decimal("0.000001")}, "base_amount"),
        ({"client_order_id": "with spaces"}, "client_order_id"),
    ],
)
def test_an_argument_that_cannot_be_is_named_and_nothing_is_sent(
    desk: Desk, values: dict[str, Any], argument: str
) -> None:
    calls = desk.exchange.private_calls
    with pytest.raises(InvalidOrder) as error:
        desk.buy(**values)
    assert argument in error.value.argument
    assert (desk.placed, desk.exchange.private_calls) == (0, calls)


def test_a_symbol_or_side_that_cannot_be_is_an_error_and_nothing_is_sent(desk: Desk) -> None:
    calls = desk.exchange.private_calls
    with pytest.raises(UnknownSymbol):
        desk.broker.place_market_order("BTC/BUSD", "buy", quote_amount=FIFTY, validate_only=False)
    with pytest.raises(InvalidSymbol):
        desk.broker.place_market_order("?", "buy", quote_amount=FIFTY, validate_only=False)
    with pytest.raises(InvalidOrder, match="side"):
        desk.broker.place_market_order(desk.symbol, "long", quote_amount=FIFTY, validate_only=False)
    assert (desk.placed, desk.exchange.private_calls) == (0, calls)


def test_an_amount_is_rounded_down_to_what_the_market_takes(desk: Desk) -> None:
    order = desk.buy(quote_amount=None, base_amount=Decimal("0.0100000019"))
    assert order.base_amount == Decimal("0.01000000")
    assert desk.exchange.orders_of()[0].base_amount == Decimal("0.01")


def test_what_the_exchange_refuses_is_refused_in_its_words_and_is_no_outage(desk: Desk) -> None:
    for _ in range(4):
        with pytest.raises(OrderRefused):
            desk.buy(quote_amount=Decimal(1_000_000))
    assert desk.placed == 0
    assert desk.broker.reading().capabilities["trade"].state is CapabilityState.OK
    assert desk.broker.is_available()


def test_a_key_that_may_not_trade_is_said_so_and_still_reads() -> None:
    exchange = rich(SimulatedKraken())
    exchange.set_permissions({"query"})
    with Opened(exchange) as desk:
        with pytest.raises(OrderRefused) as refused:
            desk.buy()
        assert refused.value.kind == "permission"
        trade = desk.broker.reading().capabilities["trade"]
        assert (trade.state, trade.reason) == (CapabilityState.DOWN, "permission")
        assert desk.broker.reading().capabilities["read"].state is CapabilityState.OK
        assert desk.broker.is_available()


# --- answers that never come -------------------------------------------------------------------------

LOST = ("hang", "reset", "cut_body", "http_502_html", "empty_body", "html_200", "exchange_down")


@pytest.mark.parametrize("fault", LOST)
def test_an_order_whose_answer_is_lost_is_looked_up_and_not_sent_again(desk: Desk, fault: str) -> None:
    desk.exchange.set_fault(fault, path=desk.order_path, executed=True)
    order = desk.buy()
    assert order.state is OrderState.ACCEPTED
    [placed] = desk.exchange.orders_of()
    assert (placed.client_id, placed.id) == (order.client_order_id, order.order_id)
    assert desk.exchange.calls_to(desk.order_path) == 1


@pytest.mark.parametrize("fault", LOST)
def test_an_order_that_nobody_can_find_is_unknown_and_nothing_follows_it(desk: Desk, fault: str) -> None:
    desk.exchange.set_fault(fault, path=desk.order_path)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    desk.exchange.mend()
    assert unknown.value.client_order_id
    with pytest.raises(EarlierOrderUnknown, match="not accounted for"):
        desk.buy()
    assert desk.exchange.calls_to(desk.order_path) == 1, "nothing was sent after it"
    with pytest.raises(OrderStateUnknown, match="may still come"):
        desk.broker.find_order(desk.symbol, unknown.value.client_order_id)


def test_an_unknown_order_that_turns_up_lets_the_next_one_pass(desk: Desk) -> None:
    for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
        desk.exchange.set_fault("http_502_html", path=path)
    desk.exchange.set_fault("hang", path=desk.order_path, executed=True, times=1)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    with pytest.raises(EarlierOrderUnknown, match="not accounted for"):
        desk.buy()
    desk.exchange.mend()
    order = desk.buy()
    assert order.client_order_id != unknown.value.client_order_id
    assert desk.placed == 2


def test_sending_an_order_again_under_its_own_id_places_it_once(desk: Desk) -> None:
    first = desk.buy(client_order_id="abc123")
    again = desk.buy(client_order_id="abc123")
    assert (again.order_id, desk.placed) == (first.order_id, 1)


def test_an_unknown_order_sent_again_under_its_own_id_is_found_and_not_placed_twice(desk: Desk) -> None:
    for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
        desk.exchange.set_fault("http_502_html", path=path)
    desk.exchange.set_fault("hang", path=desk.order_path, executed=True, times=1)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    desk.exchange.mend()
    again = desk.buy(client_order_id=unknown.value.client_order_id)
    assert (again.client_order_id, desk.placed) == (unknown.value.client_order_id, 1)


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedOkx])
def test_an_id_of_which_nobody_can_say_whether_it_was_used_is_not_sent(kind: type[SimulatedExchange]) -> None:
    """Kraken and OKX refuse an id only as long as its order is open; a market order never is."""
    with Opened(rich(kind())) as desk:
        for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
            desk.exchange.set_fault("http_502_html", path=path)
        with pytest.raises(OrderNotSent, match="cannot be looked up"):
            desk.buy(client_order_id="abc125")
        assert desk.exchange.calls_to(desk.order_path) == 0


def test_coinbase_itself_places_nothing_twice_under_one_id(tmp_path: Path) -> None:
    exchange = rich(SimulatedCoinbase())
    orders = set[str]()
    for _ in range(2):
        with Opened(exchange, state=str(tmp_path)) as desk:
            for path in LOOKUP_PATHS["coinbase"]:
                desk.exchange.set_fault("http_502_html", path=path)
            orders.add(desk.buy(client_order_id="abc125").order_id)
    assert (len(orders), exchange.placed_orders) == (1, 1)


def test_whoever_stops_waiting_for_an_order_is_told_that_it_may_have_been_placed() -> None:
    with Opened(rich(SimulatedKraken()), fetch_deadline_s=3.0) as desk:
        desk.broker.get_all_products()
        desk.exchange.set_fault("hang", path=desk.order_path, executed=True)
        with pytest.raises(OrderStateUnknown) as unknown:
            desk.buy(timeout_s=1.0)
        until(lambda: not desk.broker.reading().overtaken)
        assert desk.broker.find_order(desk.symbol, unknown.value.client_order_id) is not None
        assert desk.placed == 1


def test_a_task_that_is_cancelled_does_not_leave_the_order_uncounted(desk: Desk) -> None:
    desk.exchange.set_fault("hang", path=desk.order_path, executed=True)

    async def story() -> None:
        task = asyncio.create_task(
            desk.broker.aio.place_market_order(
                desk.symbol, "buy", quote_amount=FIFTY, validate_only=False, client_order_id="cancelled1"
            )
        )
        await asyncio.to_thread(until, lambda: desk.exchange.calls_to(desk.order_path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    until(lambda: not desk.broker.reading().overtaken)
    assert desk.broker.find_order(desk.symbol, "cancelled1") is not None


def test_a_server_that_is_gone_was_never_reached_so_nothing_was_placed() -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange) as desk:
        desk.broker.get_all_products()
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True, fetch_deadline_s=1.0)
        cluster = cluster_of(spec, status_interval_s=float("inf"))
        cluster.start()
        broker = cluster.broker("kraken-test")
        broker.get_account_balance()
        broker.get_all_products()
    try:
        with pytest.raises(OrderNotSent, match="nothing was sent"):
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
    finally:
        cluster.stop()
    assert exchange.placed_orders == 0


# --- who may enter, and who may always leave ---------------------------------------------------------


def test_entries_are_refused_while_the_account_is_out_and_exits_are_not(desk: Desk) -> None:
    desk.broker.get_all_products()
    balance = {
        "kraken": "/0/private/BalanceEx",
        "coinbase": "/api/v3/brokerage/accounts",
        "okx": "/api/v5/account/balance",
    }[desk.exchange.ccxt_id]
    desk.exchange.set_fault("http_502_html", path=balance)
    for _ in range(3):
        desk.broker.get_account_balance()
    assert not desk.broker.is_available()
    with pytest.raises(EntryRefused, match="not available"):
        desk.buy()
    assert desk.placed == 0
    desk.broker.close_position(desk.symbol, validate_only=False)
    assert desk.placed == 1


def test_an_entry_needs_a_balance_that_is_young_enough() -> None:
    with Opened(rich(SimulatedKraken()), entry_max_age_s=0.000001) as desk:
        with pytest.raises(EntryRefused, match="old"):
            desk.buy()
        assert desk.placed == 0
        desk.broker.close_position(desk.symbol, validate_only=False)


def test_an_account_that_never_answered_takes_no_entry() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True)
        with (
            cluster_of(spec, status_interval_s=float("inf")) as cluster,
            pytest.raises(EntryRefused, match="never answered"),
        ):
            cluster.broker("kraken-test").place_market_order(
                "BTC/USD", "buy", quote_amount=FIFTY, validate_only=False
            )
    assert exchange.placed_orders == 0


def test_orders_of_many_threads_go_one_by_one_each_on_a_balance_read_after_the_one_before(desk: Desk) -> None:
    desk.exchange.set_balance({desk.symbol.partition("/")[2]: ("220", "0")})
    desk.broker.get_account_balance()
    barrier = threading.Barrier(4)

    def buy(_: int) -> object:
        barrier.wait()
        try:
            return desk.buy(quote_amount=Decimal(100))
        except (OrderRefused, EntryRefused) as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(buy, range(4)))
    assert desk.placed == 2, outcomes
    until(lambda: not desk.broker.reading().overtaken)
    spent = sum(order.quote_amount for order in desk.exchange.orders_of())
    assert desk.broker.reading().cash == 220 - spent


# --- the other questions -----------------------------------------------------------------------------


def test_positions_are_the_coins_that_are_held(desk: Desk) -> None:
    found = {position.symbol: position for position in desk.broker.get_positions()}
    held = found["BTC/USD"]  # the first of the cash currencies
    assert (held.kind, held.side, held.base_amount, held.free) == (
        "spot",
        "long",
        Decimal("0.6"),
        Decimal("0.5"),
    )
    desk.exchange.set_balance({"USD": ("5", "0")})
    assert desk.broker.get_positions() == []


def test_positions_that_cannot_be_asked_for_are_no_empty_list(desk: Desk) -> None:
    desk.broker.get_all_products()
    desk.exchange.set_fault("empty_body")
    with pytest.raises(CouldNotAsk):
        desk.broker.get_positions()
    desk.exchange.mend()
    desk.exchange.set_fault("permission")
    with pytest.raises(CouldNotAsk) as refused:
        desk.broker.get_positions()
    assert isinstance(refused.value, NotAllowed) or refused.value.kind == "permission"


def test_products_and_candles_are_whole_or_an_error(desk: Desk) -> None:
    products = desk.broker.get_all_products()
    assert desk.symbol in {product.symbol for product in products}
    candles = desk.broker.get_candles(desk.symbol, "1m", 10)
    assert len(candles) == 10
    starts = [candle.start_us for candle in candles]
    assert starts == sorted(set(starts))
    desk.exchange.set_fault("empty_body", public=True)
    with pytest.raises(CouldNotAsk):
        desk.broker.get_candles(desk.symbol, "1m", 10)


def test_prices_that_are_out_stop_no_exit(desk: Desk) -> None:
    desk.broker.get_all_products()
    paths = {
        "kraken": "/0/public/OHLC",
        "coinbase": "/api/v3/brokerage/market/products/{product_id}/candles",
        "okx": "/api/v5/market/candles",
    }
    desk.exchange.set_fault("http_502_html", path=paths[desk.exchange.ccxt_id], public=True)
    for _ in range(3):
        with pytest.raises(CouldNotAsk):
            desk.broker.get_candles(desk.symbol)
    until(lambda: desk.broker.reading().capabilities["data"].state is CapabilityState.DOWN)
    assert desk.broker.is_available()
    desk.broker.close_position(desk.symbol, validate_only=False)
    assert desk.placed == 1


@pytest.mark.parametrize("spelling", ["BTC-{}", "BTC/{}", "BTC{}", "XBT{}", "btc_{}"])
def test_every_spelling_is_one_symbol(desk: Desk, spelling: str) -> None:
    text = spelling.format(desk.symbol.partition("/")[2])
    assert desk.broker.normalize_symbol(text) == desk.symbol
    assert desk.broker.normalize_symbol_for_broker(text, desk.exchange.ccxt_id) == desk.symbol
    assert desk.cluster.normalize_symbol_for_broker(text, desk.exchange.ccxt_id) == desk.symbol
    assert desk.broker.supports_symbol(text)


def test_busd_is_refused_and_never_another_quote(desk: Desk) -> None:
    for text in ("BTC-BUSD", "BTCBUSD", "BTC/BUSD"):
        assert not desk.broker.supports_symbol(text)
        with pytest.raises(UnknownSymbol):
            desk.broker.normalize_symbol(text)
    with pytest.raises(InvalidSymbol):
        desk.broker.supports_symbol("")


def test_everything_can_be_awaited_too(desk: Desk) -> None:
    async def story() -> None:
        aio = desk.broker.aio
        assert await aio.get_account_balance() == desk.broker.reading().cash
        assert (await aio.get_account_balance_detailed()).broker == desk.broker.name
        assert await aio.normalize_symbol(desk.symbol.replace("/", "-")) == desk.symbol
        assert await aio.normalize_symbol_for_broker(desk.symbol, desk.exchange.ccxt_id) == desk.symbol
        assert await aio.supports_symbol(desk.symbol)
        assert len(await aio.get_candles(desk.symbol, "1m", 3)) == 3
        assert await aio.get_positions()
        assert await aio.get_all_products()
        order = await aio.place_market_order(desk.symbol, "buy", quote_amount=FIFTY, validate_only=False)
        found = await aio.find_order(desk.symbol, order.client_order_id)
        assert found is not None
        assert found.order_id == order.order_id
        assert (await aio.close_position(desk.symbol, validate_only=False)).order_id

    asyncio.run(story())
    assert desk.placed == 2


# --- what an attacker found --------------------------------------------------------------------------


def test_no_option_of_ccxt_sends_an_order_again() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True, fetch_deadline_s=1.0)
        retrying = {**spec.ccxt, "options": {"maxRetriesOnFailure": 3, "maxRetriesOnFailureDelay": 1}}
        spec = replace(spec, ccxt=retrying)
        with cluster_of(spec, status_interval_s=float("inf")) as cluster:
            broker = cluster.broker("kraken-test")
            broker.get_account_balance()
            exchange.set_fault("http_502_html", path=ORDER_PATHS["kraken"], executed=True)
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
    assert exchange.placed_orders == 1


def test_a_nonce_that_is_refused_after_the_order_was_taken_places_no_second_one() -> None:
    """A proxy that sends a request twice gets this answer to the second, and passes it on."""
    with Opened(rich(SimulatedKraken())) as desk:
        desk.exchange.set_fault("bad_nonce", path=desk.order_path, executed=True)
        order = desk.buy()
        assert (desk.placed, order.state) == (1, OrderState.ACCEPTED)


def test_a_nonce_that_is_refused_before_it_was_taken_is_tried_once_more() -> None:
    with Opened(rich(SimulatedKraken())) as desk:
        desk.exchange.set_fault("bad_nonce", path=desk.order_path, times=1)
        assert desk.buy().state is OrderState.ACCEPTED
        assert desk.placed == 1


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), "5", True])
def test_a_wait_that_cannot_be_is_an_error_before_anything_is_sent(desk: Desk, timeout_s: Any) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        desk.buy(timeout_s=timeout_s)
    assert desk.placed == 0
    assert desk.buy(timeout_s=float("inf")).state is OrderState.ACCEPTED


def test_an_order_of_which_nobody_knows_holds_up_no_exit(desk: Desk) -> None:
    desk.exchange.set_fault("hang", path=desk.order_path, times=1)
    for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
        desk.exchange.set_fault("http_502_html", path=path)
    with pytest.raises(OrderStateUnknown):
        desk.buy()
    with pytest.raises(EarlierOrderUnknown):
        desk.buy()
    assert desk.broker.close_position(desk.symbol, validate_only=False).state is OrderState.ACCEPTED


def test_an_id_that_was_used_for_another_order_is_refused(desk: Desk) -> None:
    desk.buy(client_order_id="abc126")
    with pytest.raises(InvalidOrder, match="another"):
        desk.broker.close_position(desk.symbol, client_order_id="abc126", validate_only=False)
    assert desk.placed == 1


def test_two_brokers_on_one_key_share_what_was_ordered() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("120", "0")})
    with serve(exchange):
        specs = [simulated_spec(exchange, name, trading=True) for name in ("one", "other")]
        with cluster_of(*specs, status_interval_s=float("inf")) as cluster:
            one, other = cluster.broker("one"), cluster.broker("other")
            assert one.get_account_balance() == other.get_account_balance() == 120
            asked = exchange.calls_to("/0/private/BalanceEx")
            one.place_market_order("BTC/USD", "buy", quote_amount=Decimal(70), validate_only=False)
            other.place_market_order("BTC/USD", "buy", quote_amount=Decimal(40), validate_only=False)
            until(lambda: exchange.calls_to("/0/private/BalanceEx") >= asked + 2)
            with pytest.raises(OrderRefused):
                other.place_market_order("BTC/USD", "buy", quote_amount=Decimal(40), validate_only=False)


def test_an_actor_that_is_gone_lets_no_entry_pass_on_an_old_balance() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("1000", "0")})
    with Opened(exchange) as desk:
        desk.broker.get_all_products()
        life = desk.cluster._lives.of("kraken-test")  # pyright: ignore[reportPrivateUsage] - to end its actor
        before = desk.broker.reading()
        life.ref.stop()
        desk.buy()
        if desk.broker.reading().as_of == before.as_of:
            with pytest.raises(EntryRefused):
                desk.buy()


def test_no_secret_stands_behind_an_error_of_an_order(caplog: pytest.LogCaptureFixture) -> None:
    exchange = rich(SimulatedOkx())
    secret = exchange.credentials["password"]
    with Opened(exchange) as desk:
        desk.exchange.set_answer(f"<html>{secret}</html>", 502, path=desk.order_path)
        with pytest.raises(OrderStateUnknown) as error:
            desk.buy()
    told = "".join(traceback.format_exception(error.value)) + caplog.text
    assert secret not in told


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedCoinbase])
def test_a_secret_that_was_cut_short_is_not_shown_in_part(kind: type[SimulatedExchange]) -> None:
    exchange = rich(kind())
    secret = exchange.credentials["secret"].replace("\n", "")
    said: dict[str, Any] = {"error": [], "result": {"txid": secret}, "success": secret}
    with Opened(exchange) as desk:
        desk.exchange.set_answer(json.dumps(said), path=desk.order_path)
        with pytest.raises(OrderStateUnknown) as error:
            desk.buy()
    assert "[redacted]" in str(error.value)
    assert not any(secret[at : at + 20] in str(error.value) for at in range(len(secret) - 20))


def test_a_handle_that_was_taken_before_the_start_works_after_it_and_says_so_before() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        cluster = cluster_of(simulated_spec(exchange, trading=True), status_interval_s=float("inf"))
        broker = cluster.broker("kraken-test")
        with pytest.raises(ClusterStopped, match="not been started"):
            broker.get_all_products()
        with cluster:
            broker.get_account_balance()
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
        with pytest.raises(ClusterStopped):
            broker.get_all_products()
    assert exchange.placed_orders == 1


# --- what became of it -------------------------------------------------------------------------------


class Ahead(SystemClock):
    """The system's clock, which a test can put ahead."""

    def __init__(self) -> None:
        self.by_s = 0.0

    def now(self) -> Instant:
        now = super().now()
        return Instant(now.wall_us + round(self.by_s * 1_000_000), now.up_s + self.by_s)


def lose(desk: Desk, *, executed: bool) -> None:
    """The next order's answer is lost, and it cannot be looked up either, until the exchange is mended."""
    desk.exchange.set_fault("hang", path=desk.order_path, executed=executed, times=1)
    for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
        desk.exchange.set_fault("http_502_html", path=path)


def test_an_order_that_fails_before_any_request_goes_out_was_not_sent() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True)
        spec = replace(spec, credentials={**spec.credentials, "secret": "abc"})
        with cluster_of(spec, status_interval_s=float("inf")) as cluster:
            broker = cluster.broker("kraken-test")
            with pytest.raises(OrderNotSent, match="the secret cannot sign"):
                broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
    assert exchange.calls_to(ORDER_PATHS["kraken"]) == 0


def test_what_never_arrived_holds_up_entries_for_a_minute_and_then_no_more() -> None:
    clock = Ahead()
    with Opened(rich(SimulatedKraken()), clock=clock) as desk:
        desk.exchange.set_fault("reset", path=desk.order_path, times=1)
        with pytest.raises(OrderStateUnknown) as unknown:
            desk.buy()
        with pytest.raises(EarlierOrderUnknown, match="may still come"):
            desk.buy()
        clock.by_s = 61.0
        desk.broker.get_account_balance()
        with pytest.raises(InvalidOrder, match=r"symbol: .* was sent for BTC/USD"):
            desk.broker.find_order("ETH/USD", unknown.value.client_order_id)
        assert desk.broker.find_order(desk.symbol, unknown.value.client_order_id) is None
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("http_502_html", path=path)
        assert desk.buy().state is OrderState.ACCEPTED, "it is accounted for, so nothing is looked up"
        assert desk.placed == 1


def test_an_order_is_found_as_the_exchange_has_it(desk: Desk) -> None:
    order = desk.buy()
    found = desk.broker.find_order(desk.symbol, order.client_order_id)
    assert found is not None
    assert (found.order_id, found.side, found.state) == (order.order_id, Side.BUY, OrderState.ACCEPTED)
    assert found.filled_base
    assert desk.broker.find_order(desk.symbol, "0123456789abcdef0123456789abcdef") is None
    with pytest.raises(InvalidOrder, match="client_order_id"):
        desk.broker.find_order(desk.symbol, "")


@pytest.mark.parametrize("kind", KINDS)
def test_orders_of_which_nobody_knows_are_remembered_over_a_restart(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    exchange = rich(kind())
    with Opened(exchange, state=str(tmp_path)) as desk:
        lose(desk, executed=True)
        with pytest.raises(OrderStateUnknown) as unknown:
            desk.buy()
    with Opened(exchange, state=str(tmp_path)) as desk:
        with pytest.raises(EarlierOrderUnknown, match="not accounted for"):
            desk.buy()
        assert desk.placed == 1
        desk.exchange.mend()
        again = desk.buy(client_order_id=unknown.value.client_order_id)
        assert (again.client_order_id, desk.placed) == (unknown.value.client_order_id, 1)
        assert desk.buy().state is OrderState.ACCEPTED
    with Opened(exchange, state=str(tmp_path)) as desk:
        assert desk.buy().state is OrderState.ACCEPTED, "it is known, and forgotten"


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_that_is_under_way_when_the_cluster_stops_is_remembered(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    exchange = rich(kind())
    with Opened(exchange, state=str(tmp_path), fetch_deadline_s=10.0) as desk:
        desk.broker.get_all_products()
        exchange.set_fault("hang", path=desk.order_path, executed=True, times=1)
        with ThreadPoolExecutor(1) as elsewhere:
            buying = elsewhere.submit(desk.buy)
            until(lambda: exchange.calls_to(desk.order_path))
            desk.cluster.stop()
            assert isinstance(buying.exception(), OrderStateUnknown)
    exchange.mend()
    for path in LOOKUP_PATHS[exchange.ccxt_id]:
        exchange.set_fault("http_502_html", path=path)
    with Opened(exchange, state=str(tmp_path)) as desk:
        with pytest.raises(EarlierOrderUnknown, match="under way when the program"):
            desk.buy()
        exchange.mend()
        desk.buy()
    assert exchange.placed_orders == 2


def test_an_order_that_is_known_is_not_remembered(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange, state=str(tmp_path)) as desk:
        desk.buy()
        with pytest.raises(OrderRefused):
            desk.buy(quote_amount=Decimal(1_000_000))
    with Opened(exchange, state=str(tmp_path)) as desk:
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("http_502_html", path=path)
        assert desk.buy().state is OrderState.ACCEPTED, "nothing had to be looked up"


def test_an_order_that_never_gets_known_can_be_forgotten(desk: Desk) -> None:
    lose(desk, executed=False)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    with pytest.raises(EarlierOrderUnknown, match="forget_order"):
        desk.buy()
    assert desk.broker.forget_order(unknown.value.client_order_id)
    assert desk.buy().state is OrderState.ACCEPTED
    assert not desk.broker.forget_order(unknown.value.client_order_id)


ENDED: dict[str, dict[str, object]] = {
    "kraken": {
        "POST /0/private/OpenOrders": {"error": [], "result": {"open": {}}},
        "POST /0/private/ClosedOrders": {
            "error": [],
            "result": {
                "closed": {
                    "OX-1": {
                        "status": "canceled",
                        "reason": "Insufficient margin",
                        "cl_ord_id": "abc9",
                        "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "market"},
                        "oflags": "fciq,viqc",
                        "vol": "50",
                        "vol_exec": "0",
                    }
                },
                "count": 1,
            },
        },
    },
    "coinbase": {
        "GET /api/v3/brokerage/orders/historical/batch": {
            "orders": [
                {
                    "order_id": "o1",
                    "client_order_id": "abc9",
                    "product_id": "BTC-USD",
                    "side": "BUY",
                    "order_configuration": {"market_market_ioc": {"quote_size": "50"}},
                    "status": "FAILED",
                    "filled_size": "0",
                    "reject_reason": "INSUFFICIENT_FUND",
                }
            ],
            "has_next": False,
            "cursor": "",
        }
    },
    "okx": {
        "GET /api/v5/trade/order": {
            "code": "0",
            "msg": "",
            "data": [
                {
                    "ordId": "1",
                    "clOrdId": "abc9",
                    "instId": "BTC-USDT",
                    "side": "buy",
                    "tgtCcy": "quote_ccy",
                    "sz": "50",
                    "state": "canceled",
                    "accFillSz": "0",
                }
            ],
        }
    },
}


def test_an_order_that_the_exchange_ended_is_not_told_as_accepted(desk: Desk) -> None:
    desk.broker.get_all_products()
    for path, answer in ENDED[desk.exchange.ccxt_id].items():
        desk.exchange.set_answer(json.dumps(answer), path=path)
    with pytest.raises(OrderRefused, match=r"(?i)nothing of it was filled: .*(cancel|fail)"):
        desk.buy(client_order_id="abc9")
    assert desk.placed == 0
    found = desk.broker.find_order(desk.symbol, "abc9")
    assert found is not None
    assert found.state is OrderState.CANCELLED
    assert found.filled_base == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_that_was_used_for_another_amount_is_refused_also_after_a_restart(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    exchange = rich(kind())

    def buy(desk: Desk, amount: str) -> Order:
        placed: Order = desk.buy(client_order_id="abc7", base_amount=Decimal(amount), quote_amount=None)
        return placed

    with Opened(exchange, state=str(tmp_path)) as desk:
        first = buy(desk, "0.0010")
    with Opened(exchange, state=str(tmp_path)) as desk:
        assert buy(desk, "0.001").order_id == first.order_id
        with pytest.raises(InvalidOrder, match="another"):
            buy(desk, "0.01")
        with pytest.raises(InvalidOrder, match="another"):
            desk.broker.close_position(desk.symbol, client_order_id="abc7", validate_only=False)
    assert exchange.placed_orders == 1


def test_an_exit_that_is_sent_again_under_its_own_id_is_found(desk: Desk) -> None:
    first = desk.broker.close_position(desk.symbol, validate_only=False, client_order_id="x1")
    again = desk.broker.close_position(desk.symbol, validate_only=False, client_order_id="x1")
    assert (again.order_id, again.base_amount, desk.placed) == (first.order_id, first.base_amount, 1)


@pytest.mark.parametrize("executed", [True, False])
def test_an_exit_of_which_nobody_knows_is_not_sent_twice_under_its_id(desk: Desk, *, executed: bool) -> None:
    def close() -> Order:
        return desk.broker.close_position(
            desk.symbol, base_amount=Decimal("0.1"), client_order_id="x1", validate_only=False
        )

    desk.broker.get_all_products()
    desk.exchange.set_fault("hang", path=desk.order_path, executed=executed, times=1)
    with ThreadPoolExecutor(1) as elsewhere:
        closing = elsewhere.submit(close)
        until(lambda: desk.exchange.calls_to(desk.order_path))
        for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
            desk.exchange.set_fault("http_502_html", path=path)
        assert isinstance(closing.exception(), OrderStateUnknown)
    if desk.exchange.ccxt_id != "coinbase":
        with pytest.raises(OrderStateUnknown, match="cannot be looked up"):
            close()
    desk.exchange.mend()
    if executed:
        assert close().state is OrderState.ACCEPTED
    else:
        with pytest.raises(OrderStateUnknown, match="may still come"):
            close()
    assert desk.exchange.calls_to(desk.order_path) == 1


NOTHING_LISTED: dict[str, dict[str, object]] = {
    "POST /0/private/OpenOrders": {"error": [], "result": {"open": {}}},
    "POST /0/private/ClosedOrders": {"error": [], "result": {"closed": {}, "count": 0}},
}
"""What Kraken says of an id that it does not know, or does not list yet."""


def test_an_order_that_was_accepted_is_not_sent_again_because_a_list_is_behind() -> None:
    with Opened(rich(SimulatedKraken())) as desk:
        first = desk.buy(client_order_id="abc8")
        for path, answer in NOTHING_LISTED.items():
            desk.exchange.set_answer(json.dumps(answer), path=path)
        assert desk.buy(client_order_id="abc8").order_id == first.order_id
        found = desk.broker.find_order(desk.symbol, "abc8")
        assert found is not None
        assert found.order_id == first.order_id
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("http_502_html", path=path)
        assert desk.buy(client_order_id="abc8").order_id == first.order_id
        assert desk.placed == 1


def test_one_uuid_in_two_spellings_is_one_order() -> None:
    name = "6f1f0c2e-6d3c-4b8f-9a55-0e8a3c9d1f42"
    with Opened(rich(SimulatedKraken())) as desk:
        desk.buy(client_order_id=name)
        for path, answer in NOTHING_LISTED.items():
            desk.exchange.set_answer(json.dumps(answer), path=path)
        for spelling in (name.replace("-", ""), name.upper()):
            desk.buy(client_order_id=spelling)
        assert desk.placed == 1


def test_an_exit_does_not_hang_on_what_became_of_an_earlier_order() -> None:
    with Opened(rich(SimulatedKraken()), fetch_deadline_s=20.0) as desk:
        desk.broker.get_all_products()
        lose(desk, executed=True)
        desk.exchange.set_fault("reset", path=desk.order_path, times=1)
        with pytest.raises(OrderStateUnknown):
            desk.buy()
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("hang", path=path)
        sold = desk.broker.close_position(desk.symbol, validate_only=False, timeout_s=15.0)
        assert sold.state is OrderState.ACCEPTED


@pytest.mark.parametrize("timeout_s", [0.3, 5.0])
def test_an_exchange_that_hangs_is_noticed_also_while_orders_take_every_turn(timeout_s: float) -> None:
    """Each order displaces the poll: what it meets itself has to count, and some poll to have its turn."""
    with Opened(rich(SimulatedKraken()), poll_interval_s=0.3) as desk:
        desk.broker.get_all_products()
        desk.exchange.set_fault("hang")

        def out() -> bool:
            with contextlib.suppress(OrderError):
                desk.broker.close_position(
                    desk.symbol,
                    base_amount=Decimal("0.1"),
                    client_order_id="x7",
                    validate_only=False,
                    timeout_s=timeout_s,
                )
            return not desk.broker.is_available()

        until(out)
        assert desk.broker.reading().error_count >= 3
        desk.exchange.mend()
        until(desk.broker.is_available)


def test_the_router_leaves_out_whose_order_is_not_accounted_for(desk: Desk) -> None:
    need = Need(symbol=desk.symbol, side="buy", quote_amount=FIFTY)
    desk.broker.get_all_products()
    assert desk.cluster.router.pick(need).broker == desk.broker.name
    lose(desk, executed=True)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    until(lambda: not desk.broker.reading().overtaken)
    choice = desk.cluster.router.pick(need)
    assert choice.broker is None
    [refusal] = choice.refused
    assert refusal.code is RefusalCode.ORDER_UNKNOWN
    assert unknown.value.client_order_id in refusal.text
    desk.exchange.mend()
    assert desk.broker.find_order(desk.symbol, unknown.value.client_order_id) is not None
    assert desk.cluster.router.pick(need).broker == desk.broker.name


def test_the_minute_of_an_order_begins_when_nobody_knows_of_it_any_more() -> None:
    """A process that was frozen after it had written the order down sends it late."""
    clock = Ahead()
    with Opened(rich(SimulatedKraken()), clock=clock, fetch_deadline_s=5.0) as desk:
        desk.broker.get_all_products()
        desk.exchange.set_fault("hang", path=desk.order_path, times=1)
        with ThreadPoolExecutor(1) as elsewhere:
            buying = elsewhere.submit(desk.buy)
            until(lambda: desk.exchange.calls_to(desk.order_path))
            clock.by_s = 61.0
            assert isinstance(buying.exception(), OrderStateUnknown)
        desk.broker.get_account_balance()
        with pytest.raises(EarlierOrderUnknown, match="may still come"):
            desk.buy()
        assert desk.placed == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_goes_out_also_where_the_markets_could_never_be_loaded(kind: type[SimulatedExchange]) -> None:
    exchange = rich(kind())
    paths = {
        "kraken": "/0/public/AssetPairs",
        "coinbase": "/api/v3/brokerage/market/products",
        "okx": "/api/v5/public/instruments",
    }
    exchange.set_fault("http_502_html", public=True, path=paths[exchange.ccxt_id])
    with Opened(exchange) as desk:
        with pytest.raises(OrderNotSent, match="markets are not known"):
            desk.buy()
        sold = desk.broker.close_position(
            desk.symbol.replace("/", "-"), base_amount=Decimal("0.1"), validate_only=False
        )
        assert (sold.symbol, desk.placed) == (desk.symbol, 1)


def test_an_exit_goes_out_also_where_the_market_is_said_to_be_closed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = desk.broker.get_all_products()
    closed = [msgspec.structs.replace(product, active=False) for product in products]
    venue = desk.cluster._wired.accounts[desk.broker.name].access.venue  # pyright: ignore[reportPrivateUsage] - the list is an hour old
    monkeypatch.setattr(venue, "known", Products(closed))
    with pytest.raises(InvalidOrder, match="not open"):
        desk.buy()
    assert desk.broker.close_position(desk.symbol, validate_only=False).state is OrderState.ACCEPTED


def test_an_exit_sells_what_an_order_bought_of_which_nobody_knew(desk: Desk) -> None:
    desk.exchange.set_balance({"USD": ("10000", "0"), "USDT": ("10000", "0")})
    desk.broker.get_account_balance()
    lose(desk, executed=True)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    desk.exchange.set_balance({"USD": ("9950", "0"), "USDT": ("9950", "0")})
    with pytest.raises(EarlierOrderUnknown, match="holds no BTC") as still:
        desk.broker.close_position(desk.symbol, validate_only=False)
    assert still.value.client_order_id == unknown.value.client_order_id
    desk.exchange.mend()
    desk.exchange.set_balance({"BTC": ("0.001", "0")})
    assert desk.broker.close_position(desk.symbol, validate_only=False).base_amount == Decimal("0.001")
    assert not desk.broker.forget_order(unknown.value.client_order_id), "it was looked up before"


def test_an_order_whose_turn_does_not_come_in_time_is_withdrawn(desk: Desk) -> None:
    desk.broker.get_all_products()
    with desk.broker.lane(), ThreadPoolExecutor(1) as elsewhere:
        waiting = elsewhere.submit(desk.buy, timeout_s=0.2)
        assert isinstance(waiting.exception(), OrderNotSent)
    desk.broker.get_positions()  # its turn comes after that of the order
    assert desk.exchange.calls_to(desk.order_path) == 0


def test_orders_that_were_withdrawn_hold_up_no_exit() -> None:
    with Opened(rich(SimulatedKraken()), fetch_deadline_s=10.0) as desk:
        desk.broker.get_all_products()
        lose(desk, executed=False)
        desk.exchange.set_fault("reset", path=desk.order_path, times=1)
        with pytest.raises(OrderStateUnknown):
            desk.buy()
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("hang", path=path)
        for _ in range(5):
            with pytest.raises(OrderNotSent, match="withdrawn"):
                desk.buy(timeout_s=0.1)
        sold = desk.broker.close_position(
            desk.symbol, base_amount=Decimal("0.1"), validate_only=False, timeout_s=9.0
        )
        assert sold.state is OrderState.ACCEPTED


def test_an_order_that_the_exchange_ended_is_told_so_again_when_it_lists_it_no_more() -> None:
    with Opened(rich(SimulatedKraken())) as desk:
        desk.broker.get_all_products()
        desk.exchange.set_fault("hang", path=desk.order_path, times=1)
        with ThreadPoolExecutor(1) as elsewhere:
            buying = elsewhere.submit(desk.buy, client_order_id="abc9")
            until(lambda: desk.exchange.calls_to(desk.order_path))
            for path, answer in ENDED["kraken"].items():
                desk.exchange.set_answer(json.dumps(answer), path=path)
            assert isinstance(buying.exception(), OrderRefused)
        for path, answer in NOTHING_LISTED.items():
            desk.exchange.set_answer(json.dumps(answer), path=path)
        with pytest.raises(OrderRefused, match="nothing of it was filled"):
            desk.buy(client_order_id="abc9")
        assert desk.placed == 0


def test_a_task_that_is_cancelled_before_its_turn_orders_nothing(desk: Desk) -> None:
    async def story() -> None:
        await desk.broker.aio.get_all_products()
        async with desk.broker.lane():
            task = asyncio.create_task(
                desk.broker.aio.place_market_order(
                    desk.symbol, "buy", quote_amount=FIFTY, validate_only=False
                ),
                context=contextvars.Context(),
            )
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await desk.broker.aio.get_positions()

    asyncio.run(story())
    assert desk.exchange.calls_to(desk.order_path) == 0
