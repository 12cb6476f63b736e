"""Whether an order may go out now: entries need an account that can be trusted, exits do not."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from brokerwatch.errors import (
    BalanceUnknown,
    CouldNotAsk,
    EarlierOrderUnknown,
    EntryRefused,
    InvalidOrder,
    InvalidSymbol,
    OrderError,
    OrderNotSent,
    OrderRefused,
    OrderStateUnknown,
    TradingDisabled,
    UnknownSymbol,
)
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import CapabilityState, Holding, OrderState
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import RefusalCode
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import PATIENCE_S, cluster_of, simulated_spec, until
from tests.support.desks import (
    BALANCE_PATHS,
    FIFTY,
    KINDS,
    LOOKUP_PATHS,
    Desk,
    Opened,
    deadline_s,
    desk,
    gives_up_soon,
    lose,
    rich,
)

__all__ = ["deadline_s", "desk"]  # fixtures


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


TICKERS: dict[type[SimulatedExchange], str] = {
    SimulatedKraken: "GET /0/public/Ticker",
    SimulatedOkx: "GET /api/v5/market/ticker",
}


@pytest.mark.parametrize("own_id", [None, "small0001"])
@pytest.mark.parametrize("kind", TICKERS)
def test_a_quote_amount_below_a_smallest_order_in_the_base_currency_is_never_sent(
    kind: type[SimulatedExchange], own_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerwatch.gateway.venue.PRICE_DEADLINE_S", 20.0)
    with Opened(rich(kind())) as desk:
        with pytest.raises(
            InvalidOrder, match=r"smallest order, 0\.00005 BTC, at the last price of "
        ) as error:
            desk.buy(quote_amount=Decimal("2.5"), client_order_id=own_id)
        assert error.value.argument == "quote_amount"
        assert desk.exchange.calls_to(desk.order_path) == 0
        assert desk.buy(quote_amount=Decimal("3.5"), client_order_id=own_id).state is OrderState.ACCEPTED
        asked = desk.exchange.calls_to(TICKERS[kind])
        assert desk.buy(quote_amount=Decimal(50)).state is OrderState.ACCEPTED
        assert desk.exchange.calls_to(TICKERS[kind]) == asked, "an old price suffices for a large amount"


@pytest.mark.parametrize("kind", TICKERS)
def test_a_price_that_cannot_be_had_holds_up_no_entry(kind: type[SimulatedExchange]) -> None:
    with Opened(rich(kind())) as desk:
        desk.exchange.set_fault("http_502_html", path=TICKERS[kind], public=True)
        assert desk.buy(quote_amount=Decimal("3.5")).state is OrderState.ACCEPTED
        with pytest.raises(OrderRefused):
            desk.buy(quote_amount=Decimal("2.5"))


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
        spec = simulated_spec(exchange, trading=True, policy="simple")
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


def longest(shortest_s: float, longest_s: float) -> float:
    """The wait before a restart: for the whole test."""
    del shortest_s, longest_s
    return PATIENCE_S


def test_an_actor_that_is_gone_lets_no_entry_pass_on_an_old_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerwatch.cluster.lives.random.uniform", longest)
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("1000", "0")})
    with Opened(exchange) as desk:
        desk.broker.get_all_products()
        life = desk.cluster._lives.of("kraken-test")  # pyright: ignore[reportPrivateUsage] - to end its actor
        before = desk.broker.reading()
        life.ref.stop()
        with contextlib.suppress(EntryRefused):  # its end may be known already
            desk.buy()
        if desk.broker.reading().as_of == before.as_of:
            with pytest.raises(EntryRefused):
                desk.buy()


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
    with Opened(rich(SimulatedKraken()), poll_interval_s=0.3, fetch_deadline_s=2.0) as desk:
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
            return not desk.broker.is_available() and desk.broker.reading().error_count >= 3

        until(out)
        desk.exchange.mend()
        until(desk.broker.is_available)


@gives_up_soon
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
    venue = desk.cluster._members.wired.accounts[desk.broker.name].access.venue  # pyright: ignore[reportPrivateUsage] - the list is an hour old
    monkeypatch.setattr(venue, "known", Products(closed))
    with pytest.raises(InvalidOrder, match="not open"):
        desk.buy()
    assert desk.broker.close_position(desk.symbol, validate_only=False).state is OrderState.ACCEPTED


@gives_up_soon
def test_an_exit_sells_what_an_order_bought_of_which_nobody_knew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerwatch.orders.executor.LOOK_ROUND_S", 20.0)
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


def test_an_exit_after_a_buy_whose_balance_could_not_be_read_says_that_it_is_not_known(desk: Desk) -> None:
    desk.exchange.set_balance({"USD": ("10000", "0"), "USDT": ("10000", "0")})
    desk.broker.get_account_balance()
    desk.broker.get_all_products()
    desk.exchange.set_fault("http_502_html", path=BALANCE_PATHS[desk.exchange.ccxt_id])
    assert desk.buy().state is OrderState.ACCEPTED
    until(lambda: desk.broker.reading().overtaken)
    with pytest.raises(BalanceUnknown, match="give base_amount"):
        desk.broker.close_position(desk.symbol, validate_only=False)
    assert desk.placed == 1
    sold = desk.broker.close_position(desk.symbol, base_amount=Decimal("0.0005"), validate_only=False)
    assert sold.state is OrderState.ACCEPTED


def test_an_exit_of_all_that_is_free_does_not_wait_for_the_polls_of_other_accounts_on_its_key() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        one = simulated_spec(exchange, "one", trading=True, fetch_deadline_s=1.0)
        other = simulated_spec(exchange, "other", fetch_deadline_s=60.0)
        with cluster_of(one, other, status_interval_s=float("inf")) as cluster, ThreadPoolExecutor(1) as pool:
            broker = cluster.broker("one")
            until(lambda: broker.get_account_balance() > 0 and broker.supports_symbol("BTC/USD"))
            exchange.set_fault("hang", path="/0/private/BalanceEx")
            asked = exchange.calls_to("/0/private/BalanceEx")
            pool.submit(cluster.broker("other").get_account_balance, timeout_s=0.1)
            until(lambda: exchange.calls_to("/0/private/BalanceEx") > asked)
            sold = broker.close_position("BTC/USD", validate_only=False, timeout_s=15.0)
            assert sold.base_amount == Decimal("0.5")


def test_an_exit_sells_what_was_last_known_to_be_free_also_after_an_order(desk: Desk) -> None:
    desk.broker.get_all_products()
    desk.exchange.set_fault("http_502_html", path=BALANCE_PATHS[desk.exchange.ccxt_id])
    assert desk.buy().state is OrderState.ACCEPTED
    until(lambda: desk.broker.reading().overtaken)
    sold = desk.broker.close_position(desk.symbol, validate_only=False)
    assert (sold.state, sold.base_amount) == (OrderState.ACCEPTED, Decimal("0.5"))


def test_an_exit_names_nothing_unknown_where_no_order_came_after_the_last_known_balance(desk: Desk) -> None:
    desk.exchange.set_balance({"USD": ("10000", "0"), "USDT": ("10000", "0")})
    desk.broker.get_account_balance()
    desk.broker.get_all_products()
    desk.exchange.set_fault("http_502_html", path=BALANCE_PATHS[desk.exchange.ccxt_id])
    with pytest.raises(InvalidOrder, match="holds no BTC"):
        desk.broker.close_position(desk.symbol, validate_only=False)


def coins(desk: Desk) -> Holding | None:
    """What the reading says of the coin."""
    held = desk.broker.reading().balance
    assert held is not None
    return held.get("BTC")


def test_a_coin_that_is_not_stated_is_no_base_for_an_exit_but_of_a_given_amount(
    desk: Desk,
) -> None:
    desk.exchange.set_balance({"USD": ("10", "0"), "USDT": ("10", "0"), "BTC": ("0.5", "0")})
    cash = desk.broker.get_account_balance()
    desk.exchange.leave_out("BTC")
    with pytest.raises(BalanceUnknown, match="give base_amount"):
        desk.broker.close_position(desk.symbol, validate_only=False)
    assert (desk.placed, desk.broker.get_account_balance()) == (0, cash)
    desk.broker.close_position(desk.symbol, base_amount=Decimal("0.2"), validate_only=False)
    desk.broker.get_account_balance()
    coin = coins(desk)
    assert coin is not None
    assert (coin.total, coin.free) == (Decimal("0.5"), None), "a part was sold, and that explains nothing"
    desk.broker.close_position(desk.symbol, base_amount=Decimal("0.3"), validate_only=False)
    desk.broker.get_account_balance()
    assert coins(desk) is None, "all of it was sold, and so it is not there any more"


def test_cash_that_is_not_stated_sizes_no_entry(desk: Desk) -> None:
    quote = desk.symbol.partition("/")[2]
    other = {"USD": "USDT", "USDT": "USD"}[quote]
    desk.exchange.set_balance({quote: ("1000", "0"), other: ("5", "0")})
    desk.broker.get_account_balance()
    desk.broker.get_all_products()
    need = Need(symbol=desk.symbol, side="buy", quote_amount=FIFTY)
    assert desk.cluster.router.pick(need).broker == desk.broker.name
    desk.exchange.leave_out(quote)
    with pytest.raises(BalanceUnknown, match="not stated any more, as last known: 1,000"):
        desk.broker.get_account_balance()
    with pytest.raises(EntryRefused, match=f"does not state its {quote} any more"):
        desk.buy()
    assert desk.placed == 0
    refused = desk.cluster.router.pick(need)
    assert refused.broker is None
    assert [each.code for each in refused.refused] == [RefusalCode.BALANCE_UNKNOWN]
