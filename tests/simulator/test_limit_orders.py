"""Limit orders at the simulated exchanges, as plain ccxt meets them: they rest, fill and are cancelled."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Generator
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.simulator import EXCHANGES, SimulatedExchange, SimulatedKraken, serve
from brokerwatch.simulator.ccxt_config import ccxt_config
from tests.support.simulated import ccxt as async_ccxt

ccxt: Final[Any] = importlib.import_module("ccxt")

MARKET: Final = "BTC/USD"
"""Its price is 60000 until a test sets another one."""

UNKNOWN: Final = {
    "kraken": "OAAAAA-AAAAA-AAAAAA",
    "coinbase": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "okx": "1234567890123456789",
}


@pytest.fixture(params=EXCHANGES)
def exchange(request: pytest.FixtureRequest) -> Generator[SimulatedExchange]:
    simulated = EXCHANGES[request.param]()
    simulated.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0")})
    with serve(simulated):
        yield simulated


@pytest.fixture
def bot(exchange: SimulatedExchange) -> Any:
    return getattr(ccxt, exchange.ccxt_id)({**ccxt_config(exchange), "timeout": 20_000})


def limit(bot: Any, side: str, amount: float, price: float, **params: object) -> Any:
    """The order as the exchange shows it after it was placed."""
    placed = bot.create_order(MARKET, "limit", side, amount, price, params)
    return bot.fetch_order(placed["id"], MARKET)


def money(bot: Any, currency: str = "USD") -> tuple[float, float, float]:
    balance = bot.fetch_balance()[currency]
    return balance["free"], balance["used"], balance["total"]


# --- placed, shown, cancelled -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "price", "currency", "held"),
    [("buy", 50_000, "USD", (500, 500, 1000)), ("sell", 70_000, "BTC", (0.99, 0.01, 1))],
)
def test_a_limit_away_from_the_market_rests_and_holds_what_it_costs_until_it_is_cancelled(
    exchange: SimulatedExchange, bot: Any, side: str, price: float, currency: str, held: tuple[float, ...]
) -> None:
    before = money(bot, currency)
    order = limit(bot, side, 0.01, price)
    assert (order["status"], order["type"], order["side"], order["price"]) == ("open", "limit", side, price)
    assert (order["amount"], order["filled"], order["remaining"]) == (0.01, 0, 0.01)
    assert [open_order["id"] for open_order in bot.fetch_open_orders(MARKET)] == [order["id"]]
    assert bot.fetch_open_orders("ETH/USD") == []
    assert money(bot, currency) == held
    assert (exchange.placed_orders, bot.fetch_my_trades(MARKET)) == (1, [])
    bot.cancel_order(order["id"], MARKET)
    assert bot.fetch_order(order["id"], MARKET)["status"] == "canceled"
    assert bot.fetch_open_orders(MARKET) == []
    assert money(bot, currency) == before


@pytest.mark.parametrize("currency", ["USD", "BTC"])
def test_what_rests_cannot_be_spent_again(bot: Any, currency: str) -> None:
    side, price = ("buy", 50_000.0) if currency == "USD" else ("sell", 70_000.0)
    amount = 0.012 if currency == "USD" else 0.6
    limit(bot, side, amount, price)
    with pytest.raises(ccxt.InsufficientFunds):
        limit(bot, side, amount, price)
    assert len(bot.fetch_open_orders(MARKET)) == 1


def test_an_order_is_found_and_cancelled_by_the_clients_own_id(exchange: SimulatedExchange, bot: Any) -> None:
    name = "client_order_id" if exchange.ccxt_id == "coinbase" else "clientOrderId"
    order = limit(bot, "buy", 0.01, 50_000, **{name: "mine1"})
    assert order["clientOrderId"] == "mine1"
    assert [open_order["clientOrderId"] for open_order in bot.fetch_open_orders(MARKET)] == ["mine1"]
    if exchange.ccxt_id == "coinbase":
        # Its cancelling takes its own ids alone. A second order with the same id is the first one.
        assert limit(bot, "buy", 0.01, 50_000, **{name: "mine1"})["id"] == order["id"]
        assert exchange.placed_orders == 1
        return
    with pytest.raises(ccxt.BaseError, match=r"cl_ord_id|51016"):
        limit(bot, "buy", 0.01, 50_000, clientOrderId="mine1")
    bot.cancel_order(None, MARKET, {"clientOrderId": "mine1"})
    assert bot.fetch_open_orders(MARKET) == []


def test_several_orders_are_cancelled_in_one_call(bot: Any) -> None:
    ids = [limit(bot, "buy", 0.001, 50_000 - number)["id"] for number in range(3)]
    bot.cancel_orders(ids[:2], MARKET)
    assert [order["id"] for order in bot.fetch_open_orders(MARKET)] == ids[2:]
    if bot.has["cancelAllOrders"]:
        bot.cancel_all_orders()
        assert bot.fetch_open_orders() == []
        assert money(bot) == (1000, 0, 1000)


def test_an_order_that_is_not_open_cannot_be_cancelled(bot: Any) -> None:
    wrong = (ccxt.OrderNotFound, ccxt.BadRequest)
    with pytest.raises(wrong):
        bot.cancel_order(UNKNOWN[bot.id], MARKET)
    order = limit(bot, "buy", 0.01, 50_000)
    bot.cancel_order(order["id"], MARKET)
    with pytest.raises(wrong):
        bot.cancel_order(order["id"], MARKET)
    with pytest.raises(ccxt.ExchangeError, match=r"could not find order|not found|51603"):
        bot.fetch_order(UNKNOWN[bot.id], MARKET)


# --- filled ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "price", "away", "reached"),
    [("buy", 50_000, "50000.1", "49000"), ("sell", 70_000, "69999.9", "71000")],
)
def test_it_fills_at_its_own_limit_once_the_price_reaches_it(
    exchange: SimulatedExchange, bot: Any, side: str, price: float, away: str, reached: str
) -> None:
    order = limit(bot, side, 0.01, price)
    exchange.set_price(MARKET, away)
    assert bot.fetch_order(order["id"], MARKET)["status"] == "open"
    exchange.set_price(MARKET, reached)
    filled = bot.fetch_order(order["id"], MARKET)
    assert (filled["status"], filled["filled"], filled["average"]) == ("closed", 0.01, price)
    assert filled["cost"] == pytest.approx(0.01 * price)
    assert bot.fetch_open_orders(MARKET) == []
    assert [closed["id"] for closed in bot.fetch_closed_orders(MARKET)] == [order["id"]]
    sign = 1 if side == "buy" else -1
    assert money(bot) == pytest.approx((1000 - sign * 0.01 * price, 0, 1000 - sign * 0.01 * price))
    assert money(bot, "BTC") == pytest.approx((1 + sign * 0.01, 0, 1 + sign * 0.01))


def test_a_limit_beyond_the_price_fills_at_once_and_at_the_price(bot: Any) -> None:
    order = limit(bot, "buy", 0.01, 70_000)
    assert (order["status"], order["average"], order["price"]) == ("closed", 60_000, 70_000)
    assert money(bot) == (400, 0, 400)


def test_it_fills_in_part_where_the_market_has_no_more(exchange: SimulatedExchange, bot: Any) -> None:
    order = limit(bot, "buy", 0.01, 50_000)
    exchange.set_depth(MARKET, "0.004")
    exchange.set_price(MARKET, "49000")
    part = bot.fetch_order(order["id"], MARKET)
    assert (part["status"], part["filled"], part["remaining"], part["cost"]) == ("open", 0.004, 0.006, 200)
    assert money(bot) == (500, 300, 800)
    assert [trade["amount"] for trade in bot.fetch_my_trades(MARKET)] == [0.004]
    bot.cancel_order(order["id"], MARKET)
    part = bot.fetch_order(order["id"], MARKET)
    assert (part["status"], part["filled"]) == ("canceled", 0.004)
    assert money(bot) == (800, 0, 800)
    assert money(bot, "BTC") == pytest.approx((1.004, 0, 1.004))


def test_the_better_limit_fills_first_and_then_the_earlier_one(exchange: SimulatedExchange) -> None:
    ids = [exchange.rest(MARKET, "buy", "0.001", price) for price in ("50000", "51000", "50000")]
    exchange.set_depth(MARKET, "0.001")
    for _ in ids:
        exchange.set_price(MARKET, "49000")
    fills = {order.id: order.fills[0].at_s for order in exchange.orders_of()}
    assert sorted(ids, key=lambda order_id: fills[order_id]) == [ids[1], ids[0], ids[2]]


def test_what_one_order_takes_of_the_depth_the_next_one_does_not_get(
    exchange: SimulatedExchange, bot: Any
) -> None:
    exchange.set_depth(MARKET, "0.01")
    filled = [limit(bot, "buy", 0.006, 61_000, timeInForce="IOC")["filled"] for _ in range(2)]
    assert filled == [0.006, 0.004]
    exchange.set_price(MARKET, "60000")
    assert limit(bot, "buy", 0.006, 61_000, timeInForce="IOC")["filled"] == 0.006


def test_an_order_is_filled_by_hand_whole_or_in_part(exchange: SimulatedExchange, bot: Any) -> None:
    order = limit(bot, "sell", 0.01, 70_000)
    assert exchange.fill_order(order["id"], "0.004").state == "open"
    with pytest.raises(ValueError, match=r"0\.007"):
        exchange.fill_order(order["id"], "0.007")
    assert exchange.fill_order(order["id"]).state == "filled"
    with pytest.raises(ValueError, match="is open"):
        exchange.fill_order(order["id"])
    trades = bot.fetch_my_trades(MARKET)
    assert sorted(trade["amount"] for trade in trades) == [0.004, 0.006]
    assert len({trade["id"] for trade in trades}) == 2


def test_a_trade_names_its_order_its_price_and_its_fee_as_the_exchange_documents(
    exchange: SimulatedExchange, bot: Any
) -> None:
    exchange.charges_fees = True
    resting = limit(bot, "buy", 0.004, 50_000)
    taking = bot.fetch_order(bot.create_order(MARKET, "market", "sell", 0.01)["id"], MARKET)
    exchange.set_price(MARKET, "49000")
    by_order = {trade["order"]: trade for trade in bot.fetch_my_trades(MARKET)}
    maker, taker = by_order[resting["id"]], by_order[taking["id"]]
    assert (maker["side"], maker["price"], maker["amount"]) == ("buy", 50_000, 0.004)
    assert (maker["takerOrMaker"], taker["takerOrMaker"]) == ("maker", "taker")
    rates = {"kraken": (0.0025, 0.004), "coinbase": (0.006, 0.012), "okx": (0.0008, 0.001)}[bot.id]
    # OKX takes a buyer's fee from what was bought.
    of_maker, currency = (0.004, "BTC") if bot.id == "okx" else (200, "USD")
    assert maker["fee"] == {"cost": pytest.approx(of_maker * rates[0]), "currency": currency}
    assert taker["fee"] == {"cost": pytest.approx(600 * rates[1]), "currency": "USD"}
    in_dollars = 600 * rates[1] + (0 if bot.id == "okx" else 200 * rates[0])
    assert money(bot)[2] == pytest.approx(1000 - 200 + 600 - in_dollars)
    in_bitcoin = 0.004 * rates[0] if bot.id == "okx" else 0
    assert money(bot, "BTC")[2] == pytest.approx(1 + 0.004 - 0.01 - in_bitcoin)
    fee = bot.fetch_order(resting["id"], MARKET)["fee"]
    assert float(fee["cost"]) == pytest.approx(of_maker * rates[0])


def test_with_fees_a_buyer_holds_and_needs_them_too_where_they_are_paid_on_top(
    exchange: SimulatedExchange, bot: Any
) -> None:
    exchange.charges_fees = True
    if bot.id == "okx":
        limit(bot, "buy", 0.02, 50_000)
        return
    with pytest.raises(ccxt.InsufficientFunds):
        limit(bot, "buy", 0.02, 50_000)
    limit(bot, "buy", 0.01, 50_000)
    assert money(bot)[1] == pytest.approx(500 * (1.0025 if bot.id == "kraken" else 1.006))


def test_a_purchase_by_cost_costs_no_more_than_the_account_has(exchange: SimulatedExchange, bot: Any) -> None:
    exchange.charges_fees = True
    cost = 1000 / 1.004 - 0.01 if bot.id == "kraken" else 1000
    params = {"tgtCcy": "quote_ccy"} if bot.id == "okx" else {}
    bot.create_market_buy_order_with_cost(MARKET, cost, params)
    assert 0 <= money(bot)[0] < 1


# --- changed -----------------------------------------------------------------------------------------------


def edit(bot: Any, order_id: str, amount: float | None, price: float | None) -> Any:
    bot.edit_order(order_id, MARKET, "limit", "buy", amount, price)
    return bot.fetch_order(order_id, MARKET)


@pytest.mark.parametrize(
    ("amount", "price", "held"), [(0.005, 40_000, 200), (None, 40_000, 400), (0.012, None, 600)]
)
def test_an_order_that_rests_gets_another_size_or_limit_and_holds_what_it_costs_now(
    exchange: SimulatedExchange, bot: Any, amount: float | None, price: float | None, held: float
) -> None:
    order = limit(bot, "buy", 0.01, 50_000)
    changed = edit(bot, order["id"], amount, price)
    assert (changed["amount"], changed["price"]) == (amount or 0.01, price or 50_000)
    assert (changed["status"], money(bot)) == ("open", (1000 - held, held, 1000))
    exchange.set_price(MARKET, "30000")
    assert money(bot) == (1000 - held, 0, 1000 - held)


def test_an_order_that_is_edited_keeps_what_is_filled(exchange: SimulatedExchange, bot: Any) -> None:
    order = limit(bot, "buy", 0.01, 50_000)
    exchange.fill_order(order["id"], "0.004")
    changed = edit(bot, order["id"], 0.006, 45_000)
    assert (changed["filled"], changed["remaining"]) == (0.004, 0.002)
    assert money(bot) == (710, 90, 800)


def test_an_order_that_is_edited_beyond_the_price_fills_at_the_price(bot: Any) -> None:
    order = limit(bot, "buy", 0.01, 50_000)
    assert edit(bot, order["id"], 0.01, 61_000)["average"] == 60_000
    assert money(bot) == (400, 0, 400)


@pytest.mark.parametrize(("amount", "price"), [(0.1, 50_000), (0.00001, 50_000), (0.01, 60_000)])
def test_an_order_that_cannot_be_edited_so_stays_as_it_was(bot: Any, amount: float, price: float) -> None:
    order = limit(bot, "buy", 0.01, 50_000, postOnly=True)
    if bot.id == "coinbase":  # ccxt does not look whether Coinbase did it
        assert edit(bot, order["id"], amount, price)["price"] == 50_000
    else:
        words = r"Insufficient funds|minimum not met|Post only|51502|51020|51511"
        with pytest.raises(ccxt.ExchangeError, match=words):
            edit(bot, order["id"], amount, price)
    same = bot.fetch_order(order["id"], MARKET)
    assert (same["status"], same["amount"], same["price"]) == ("open", 0.01, 50_000)
    assert money(bot) == (500, 500, 1000)


def test_an_order_that_is_not_open_cannot_be_edited(bot: Any) -> None:
    order = limit(bot, "buy", 0.01, 61_000)
    if bot.id == "coinbase":
        answer = bot.v3PrivatePostBrokerageOrdersEdit({"order_id": order["id"], "size": "0.02"})
        assert answer["errors"][0]["edit_failure_reason"] == "ORDER_NOT_FOUND"
        return
    for order_id in (order["id"], UNKNOWN[bot.id]):
        with pytest.raises(ccxt.ExchangeError, match=r"Unknown order|51510|51503"):
            edit(bot, order_id, 0.02, 50_000)


# --- how long an order is good ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "price", "depth", "status", "filled"),
    [
        ({"timeInForce": "GTC"}, 50_000, None, "open", 0),
        ({"timeInForce": "IOC"}, 50_000, None, "canceled", 0),
        ({"timeInForce": "IOC"}, 60_000, None, "closed", 0.01),
        ({"timeInForce": "IOC"}, 61_000, "0.004", "canceled", 0.004),
        ({"timeInForce": "FOK"}, 50_000, None, "canceled", 0),
        ({"timeInForce": "FOK"}, 61_000, "0.004", "canceled", 0),
        ({"timeInForce": "FOK"}, 61_000, "0.01", "closed", 0.01),
        ({"timeInForce": "GTC"}, 61_000, "0.004", "open", 0.004),
        ({"postOnly": True}, 59_999.9, None, "open", 0),
        ({"timeInForce": "PO"}, 50_000, None, "open", 0),
    ],
)
def test_how_long_an_order_is_good_decides_what_rests_of_it(
    exchange: SimulatedExchange,
    bot: Any,
    params: dict[str, object],
    price: float,
    depth: str | None,
    status: str,
    filled: float,
) -> None:
    exchange.set_depth(MARKET, depth)
    order = limit(bot, "buy", 0.01, price, **params)
    assert (order["status"], order["filled"]) == (status, filled)
    rest = price * (0.01 - filled) if status == "open" else 0
    assert money(bot) == pytest.approx((1000 - 60_000 * filled - rest, rest, 1000 - 60_000 * filled))


def test_a_post_only_order_that_would_fill_at_once_does_not(exchange: SimulatedExchange, bot: Any) -> None:
    if bot.id == "okx":  # it takes the order, and cancels it
        order = limit(bot, "buy", 0.01, 60_000, postOnly=True)
        assert (order["status"], order["info"]["cancelSource"], order["filled"]) == ("canceled", "31", 0)
    else:
        with pytest.raises(ccxt.ExchangeError, match=r"Post only order|INVALID_LIMIT_PRICE_POST_ONLY"):
            limit(bot, "buy", 0.01, 60_000, postOnly=True)
        assert exchange.placed_orders == 0
    assert money(bot) == (1000, 0, 1000)


def test_an_order_for_a_time_ends_with_it() -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("1000", "0")})
    with serve(kraken):
        bot = ccxt.kraken(ccxt_config(kraken))
        order = limit(bot, "buy", 0.01, 50_000, timeInForce="GTD", expiretm="+60")
        assert (order["status"], money(bot)) == ("open", (500, 500, 1000))
        kraken.clock_skew_s = 61.0
        assert bot.fetch_order(order["id"], MARKET)["status"] == "expired"
        assert money(bot) == (1000, 0, 1000)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "price", "words"),
    [
        (0.00001, 50_000, r"Order minimum not met|Cost minimum|TOO_SMALL|51020"),
        (100.0, 50_000, r"Insufficient funds|INSUFFICIENT_FUND|51008"),
    ],
)
def test_a_limit_order_that_cannot_be_is_refused_in_the_exchanges_words(
    exchange: SimulatedExchange, bot: Any, amount: float, price: float, words: str
) -> None:
    with pytest.raises(ccxt.ExchangeError, match=words):
        limit(bot, "buy", amount, price)
    assert (exchange.placed_orders, money(bot)) == (0, (1000, 0, 1000))


RAW: Final[dict[str, Callable[[Any, str], Any]]] = {
    "kraken": lambda bot, price: bot.privatePostAddOrder(
        {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "volume": "0.01", "price": price}
    ),
    "coinbase": lambda bot, price: bot.v3PrivatePostBrokerageOrders(
        {
            "client_order_id": "a",
            "product_id": "BTC-USD",
            "side": "BUY",
            "order_configuration": {"limit_limit_gtc": {"base_size": "0.01", "limit_price": price}},
        }
    ),
    "okx": lambda bot, price: bot.privatePostTradeOrder(
        {"instId": "BTC-USD", "tdMode": "cash", "side": "buy", "ordType": "limit", "sz": "0.01", "px": price}
    ),
}


@pytest.mark.parametrize("price", ["0", "-5", "NaN", "50000.123", ""])
def test_a_price_that_cannot_be_is_refused(exchange: SimulatedExchange, bot: Any, price: str) -> None:
    bot.load_markets()
    words = r"Invalid price|arguments:price|PRICE_PRECISION|limit_price|51000"
    with pytest.raises(ccxt.BaseError, match=words):
        RAW[bot.id](bot, price)
    assert exchange.placed_orders == 0


def test_a_closed_market_takes_no_limit_order_and_gives_up_what_rests(
    exchange: SimulatedExchange, bot: Any
) -> None:
    order = limit(bot, "buy", 0.01, 50_000)
    exchange.close_market(MARKET)
    with pytest.raises(ccxt.BaseError, match=r"cancel_only|ORDER_ENTRY_DISABLED|51022"):
        limit(bot, "buy", 0.001, 50_000)
    bot.cancel_order(order["id"], MARKET)
    assert money(bot) == (1000, 0, 1000)


# --- beside other things -----------------------------------------------------------------------------------


def test_a_balance_that_is_set_anew_makes_no_money_of_what_rests(
    exchange: SimulatedExchange, bot: Any
) -> None:
    order = limit(bot, "buy", 0.01, 50_000)
    exchange.set_balance({"USD": ("100", "0"), "BTC": ("1", "0")})
    bot.cancel_order(order["id"], MARKET)
    assert money(bot) == (100, 0, 100)
    order = limit(bot, "buy", 0.001, 50_000)
    exchange.set_balance({"USD": ("10", "0")})
    exchange.set_price(MARKET, "40000")
    assert bot.fetch_order(order["id"], MARKET)["status"] == "canceled"
    assert money(bot) == (10, 0, 10)


def test_a_dry_run_of_a_limit_order_places_nothing_and_uses_no_depth(
    exchange: SimulatedExchange, bot: Any
) -> None:
    if bot.id == "okx":
        return  # it has none
    exchange.set_depth(MARKET, "0.01")
    flag = "validate" if bot.id == "kraken" else "test"
    bot.create_order(MARKET, "limit", "buy", 0.01, 61_000, {flag: True})
    assert (exchange.placed_orders, money(bot)) == (0, (1000, 0, 1000))
    assert limit(bot, "buy", 0.01, 61_000)["status"] == "closed"


def test_the_order_book_lies_around_the_price(bot: Any) -> None:
    book = bot.fetch_order_book(MARKET, 5)
    assert (len(book["bids"]), len(book["asks"])) == (5, 5)
    ticker = bot.fetch_ticker(MARKET)
    assert (book["bids"][0][0], book["asks"][0][0]) == (ticker["bid"], ticker["ask"]) == (59_999.9, 60_000.1)


def test_what_a_bot_asks_besides_is_answered(exchange: SimulatedExchange, bot: Any) -> None:
    trades = bot.fetch_trades(MARKET)
    assert {trade["price"] for trade in trades} == {60_000}
    assert len({trade["id"] for trade in trades if trade["id"]} | {trades[-1]["timestamp"]}) > 1
    if bot.id == "coinbase":
        assert bot.fetch_bids_asks([MARKET])[MARKET]["bid"] == 59_999.9
        fees = bot.fetch_trading_fees()[MARKET]
    else:
        fees = bot.fetch_trading_fee(MARKET)
    assert (fees["maker"], fees["taker"]) == (float(exchange.fees.maker), float(exchange.fees.taker))


def test_the_asynchronous_ccxt_sees_the_same(exchange: SimulatedExchange) -> None:
    async def main() -> tuple[Any, Any, Any]:
        bot = getattr(async_ccxt, exchange.ccxt_id)(ccxt_config(exchange))
        bot.timeout_on_exit = 0
        try:
            placed = await bot.create_order(MARKET, "limit", "buy", 0.01, 50_000)
            seen = await bot.fetch_open_orders(MARKET)
            exchange.set_price(MARKET, "50000")
            return placed, seen, await bot.fetch_my_trades(MARKET)
        finally:
            await bot.close()

    placed, seen, trades = asyncio.run(main())
    assert [order["id"] for order in seen] == [trade["order"] for trade in trades] == [placed["id"]]
    assert exchange.orders_of()[0].filled_base == Decimal("0.01")
