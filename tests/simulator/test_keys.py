"""The simulated exchanges as the verification of an account meets them: what a key is told about itself,
and the faults that a test plants in listings, candles, holds, dry runs and markets."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator
from decimal import Decimal
from typing import Any

import pytest

from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.simulated import ccxt, with_client

EXCHANGES: tuple[type[SimulatedExchange], ...] = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)
BALANCE = {"USD": ("1000", "50"), "BTC": ("1", "0.5")}


@pytest.fixture(params=EXCHANGES, ids=["kraken", "coinbase", "okx"])
def exchange(request: pytest.FixtureRequest) -> Generator[SimulatedExchange]:
    simulated: SimulatedExchange = request.param()
    simulated.set_balance(BALANCE)
    with serve(simulated):
        yield simulated


@pytest.fixture
def kraken() -> Generator[SimulatedKraken]:
    simulated = SimulatedKraken()
    simulated.set_balance(BALANCE)
    with serve(simulated):
        yield simulated


@pytest.fixture
def coinbase() -> Generator[SimulatedCoinbase]:
    simulated = SimulatedCoinbase()
    simulated.set_balance(BALANCE)
    with serve(simulated):
        yield simulated


@pytest.fixture
def okx() -> Generator[SimulatedOkx]:
    simulated = SimulatedOkx()
    simulated.set_balance(BALANCE)
    with serve(simulated):
        yield simulated


def amounts(simulated: SimulatedExchange) -> dict[str, tuple[Decimal, Decimal]]:
    """What ccxt reads as free and held."""
    balance = with_client(simulated, lambda client: client.fetch_balance())
    return {
        code: (Decimal(balance["free"][code]), Decimal(balance["used"][code])) for code in balance["total"]
    }


def products(simulated: SimulatedExchange) -> dict[str, Any]:
    """The products that ccxt reads in the list of markets, by symbol."""

    async def use(client: Any) -> Any:
        return {market["symbol"]: market for market in await client.fetch_markets()}

    listed: dict[str, Any] = with_client(simulated, use)
    return listed


def buy(simulated: SimulatedExchange, symbol: str = "BTC/USD", **params: Any) -> Any:
    async def use(client: Any) -> Any:
        given = {"tgtCcy": "base_ccy", **params} if client.id == "okx" else params
        client.options["createMarketBuyOrderRequiresPrice"] = False
        # Only Coinbase takes an amount in dollars here.
        size = 60 if client.id == "coinbase" else 0.001
        return await client.create_order(symbol, "market", "buy", size, None, given)

    return with_client(simulated, use)


# --- what a key is told about itself ----------------------------------------------------------------------


def key_info(kraken: SimulatedKraken, **credentials: str) -> Any:
    async def use(client: Any) -> Any:
        return (await client.privatePostGetApiKeyInfo())["result"]

    return with_client(kraken, use, **credentials)


def test_kraken_tells_a_key_what_it_may_do_and_whose_it_is(kraken: SimulatedKraken) -> None:
    told = key_info(kraken)
    assert told["apiKey"] == kraken.credentials["api_key"]
    assert told["permissions"] == [
        "query-funds",
        "query-open-trades",
        "query-closed-trades",
        "modify-trades",
        "close-trades",
    ]
    assert re.fullmatch(r"AA[0-9]{2}( [A-Z0-9]{4}){3}", told["iban"])
    assert told["nonce"].isdigit()
    assert (told["validUntil"], told["queryFrom"], told["queryTo"]) == ("0", "0", "0")


@pytest.mark.parametrize(
    ("permissions", "words"),
    [
        (set[str](), []),
        ({"query"}, ["query-funds", "query-open-trades", "query-closed-trades"]),
        ({"trade"}, ["modify-trades", "close-trades"]),
        ({"withdraw"}, ["withdraw-funds"]),
    ],
)
def test_kraken_tells_a_key_what_it_may_do_whatever_that_is(
    kraken: SimulatedKraken, permissions: set[str], words: list[str]
) -> None:
    kraken.set_permissions(permissions)
    assert key_info(kraken)["permissions"] == words


def test_kraken_tells_a_stranger_nothing_about_a_key(kraken: SimulatedKraken) -> None:
    with pytest.raises(ccxt.ExchangeError, match="EAPI:Invalid signature"):
        key_info(kraken, secret=kraken.new_credentials()["secret"])


def test_an_account_has_one_number_of_its_own_at_every_exchange(exchange: SimulatedExchange) -> None:
    async def use(client: Any) -> Any:
        match client.id:
            case "kraken":
                return (await client.privatePostGetApiKeyInfo())["result"]["iban"]
            case "coinbase":
                return (await client.v3PrivateGetBrokerageKeyPermissions())["portfolio_uuid"]
            case _:
                (row,) = (await client.privateGetAccountConfig())["data"]
                assert row["uid"] == row["mainUid"]
                assert row["uid"].isdigit()
                return row["uid"]

    numbers = {with_client(exchange, use) for _ in range(2)}
    assert len(numbers) == 1
    exchange.set_permissions({"query"})
    assert with_client(exchange, use) in numbers
    assert with_client(exchange, use, **exchange.add_account()) not in numbers


@pytest.mark.parametrize(
    ("key_ip", "listed"),
    [("", []), ("127.0.0.1", ["127.0.0.1"]), ("203.0.113.7,::1", ["203.0.113.7", "::1"])],
)
def test_the_addresses_of_a_key_are_told_by_kraken_and_okx(
    kraken: SimulatedKraken, okx: SimulatedOkx, key_ip: str, listed: list[str]
) -> None:
    kraken.key_ip = okx.key_ip = key_ip
    assert key_info(kraken)["ipAllowlist"] == listed
    config = with_client(okx, lambda client: client.privateGetAccountConfig())
    assert config["data"][0]["ip"] == key_ip


def test_a_key_is_bound_to_this_machine_unless_told(kraken: SimulatedKraken, okx: SimulatedOkx) -> None:
    assert key_info(kraken)["ipAllowlist"] == ["127.0.0.1"]
    assert okx.key_ip == "127.0.0.1"


# --- the list of markets ----------------------------------------------------------------------------------


def test_a_market_that_is_delisted_is_in_no_list_and_works_on(exchange: SimulatedExchange) -> None:
    async def candles(client: Any) -> Any:
        await client.load_markets()
        exchange.delist("BTC/USD", "ETH/EUR")
        return await client.fetch_ohlcv("BTC/USD", "1h", None, 5), await client.fetch_ticker("BTC/USD")

    before = set(products(exchange))
    rows, ticker = with_client(exchange, candles)
    assert rows
    assert ticker["last"] == "60000.0"
    assert set(products(exchange)) == before - {"BTC/USD", "ETH/EUR"}
    exchange.relist()
    assert set(products(exchange)) == before


def test_a_delisted_market_still_takes_orders(kraken: SimulatedKraken) -> None:
    kraken.delist("BTC/USD", everywhere=True)
    order = {"pair": "XXBTZUSD", "type": "buy", "ordertype": "market", "volume": "0.001"}
    with_client(kraken, lambda client: client.privatePostAddOrder(order))
    assert kraken.placed_orders == 1


def test_a_market_that_is_gone_everywhere_is_in_no_tickers(exchange: SimulatedExchange) -> None:
    async def tickers(client: Any) -> Any:
        match client.id:
            case "kraken":
                return (await client.publicGetTicker())["result"].keys()
            case "coinbase":
                told = await client.v3PublicGetBrokerageMarketProducts()
                return [each["product_id"] for each in told["products"]]
            case _:
                told = await client.publicGetMarketTickers({"instType": "SPOT"})
                return [each["instId"] for each in told["data"]]

    async def ticker(client: Any) -> Any:
        match client.id:
            case "kraken":
                return await client.publicGetTicker({"pair": "XXBTZUSD"})
            case "coinbase":
                path = {"product_id": "BTC-USD"}
                return await client.v3PublicGetBrokerageMarketProductsProductIdTicker(path)
            case _:
                return await client.publicGetMarketTicker({"instId": "BTC-USD"})

    name = {"kraken": "XXBTZUSD"}.get(exchange.ccxt_id, "BTC-USD")
    all_of_them = set(with_client(exchange, tickers))
    assert name in all_of_them
    exchange.delist("BTC/USD")
    # The list of products is Coinbase's list of prices too.
    assert (name in with_client(exchange, tickers)) is (exchange.ccxt_id != "coinbase")
    with_client(exchange, ticker)
    exchange.delist("BTC/USD", everywhere=True)
    assert set(with_client(exchange, tickers)) == all_of_them - {name}
    with pytest.raises(ccxt.ExchangeError, match=r"Unknown asset pair|NOT_FOUND|51001"):
        with_client(exchange, ticker)
    exchange.relist()
    assert set(with_client(exchange, tickers)) == all_of_them
    with_client(exchange, ticker)


def test_coinbases_count_tells_a_broken_list_from_a_shorter_one(coinbase: SimulatedCoinbase) -> None:
    async def public(client: Any) -> Any:
        return await client.v3PublicGetBrokerageMarketProducts({"product_type": "SPOT"})

    async def signed(client: Any) -> Any:
        return await client.v3PrivateGetBrokerageProducts({"product_type": "SPOT"})

    def counted(use: Callable[[Any], Awaitable[Any]]) -> tuple[int, int]:
        told = with_client(coinbase, use)
        return len(told["products"]), int(told["num_products"])

    (listed, count) = counted(public)
    assert listed == count
    coinbase.delist("BTC/USD", "BTC/EUR")
    coinbase.delist("SOL/USD", everywhere=True)
    assert counted(public) == counted(signed) == (count - 3, count - 1)


def test_a_market_that_does_not_exist_cannot_be_arranged(exchange: SimulatedExchange) -> None:
    arrangements: list[Callable[[], object]] = [
        lambda: exchange.delist("BTC/USD", "BTC/XYZ"),
        lambda: exchange.close_market("BTC/XYZ"),
        lambda: exchange.open_market("BTC/XYZ"),
        lambda: exchange.swap_candles("BTC/XYZ", "BTC/USD"),
        lambda: exchange.swap_candles("BTC/USD", "BTC/XYZ"),
        lambda: exchange.rest("BTC/XYZ", "buy", "1", "1"),
    ]
    for arrange in arrangements:
        with pytest.raises(ValueError, match="no market 'BTC/XYZ'"):
            arrange()
    assert "BTC/USD" in products(exchange)


def test_a_closed_market_is_listed_as_closed_and_takes_no_orders(exchange: SimulatedExchange) -> None:
    exchange.close_market("BTC/USD")
    listed = products(exchange)
    assert [symbol for symbol, market in listed.items() if market["active"] is False] == ["BTC/USD"]
    info = listed["BTC/USD"]["info"]
    match exchange.ccxt_id:
        case "kraken":
            assert info["status"] == "cancel_only"
        case "coinbase":
            assert (info["trading_disabled"], info["is_disabled"]) == (True, False)
        case _:
            assert info["state"] == "suspend"
    with pytest.raises(ccxt.BaseError, match=r"Market in cancel_only mode|ORDER_ENTRY_DISABLED|51022"):
        buy(exchange)
    assert exchange.placed_orders == 0
    exchange.open_market("BTC/USD")
    assert products(exchange)["BTC/USD"]["active"] is True
    buy(exchange)
    assert exchange.placed_orders == 1


def test_what_is_open_in_a_closed_market_can_be_cancelled(exchange: SimulatedExchange) -> None:
    order_id = exchange.rest("BTC/USD", "buy", "0.001", "30000")
    exchange.close_market("BTC/USD")
    with_client(exchange, lambda client: client.cancel_order(order_id, "BTC/USD"))
    assert exchange.orders_of()[0].state == "canceled"


def test_a_dry_run_in_a_closed_market_is_refused(
    kraken: SimulatedKraken, coinbase: SimulatedCoinbase
) -> None:
    kraken.close_market("BTC/USD")
    coinbase.close_market("BTC/USD")
    with pytest.raises(ccxt.OnMaintenance, match="EService:Market in cancel_only mode"):
        buy(kraken, validate=True)
    assert with_client(coinbase, preview)["errs"] == ["UNKNOWN_PREVIEW_FAILURE_REASON"]


# --- the candles of another market ------------------------------------------------------------------------


def newest_close(simulated: SimulatedExchange, symbol: str) -> Decimal:
    async def use(client: Any) -> Any:
        return (await client.fetch_ohlcv(symbol, "1h", None, 3))[-1][4]

    return Decimal(with_client(simulated, use))


@pytest.mark.parametrize("disguised", [False, True])
def test_candles_can_be_those_of_another_market(exchange: SimulatedExchange, disguised: bool) -> None:
    if exchange.ccxt_id == "kraken":
        disguised = True  # ccxt reads the key of its own pair, so it sees nothing under another one
    exchange.swap_candles("BTC/USD", "ETH/USD", disguised=disguised)
    assert newest_close(exchange, "BTC/USD") == 3_000
    assert newest_close(exchange, "ETH/USD") == 3_000
    exchange.swap_candles("BTC/USD", None)
    assert newest_close(exchange, "BTC/USD") == 60_000


def test_candles_that_were_set_are_swapped_as_well(exchange: SimulatedExchange) -> None:
    exchange.set_candles("ETH/USD", [(1_700_000_000, "1", "2", "1", "2", "9")])
    exchange.swap_candles("BTC/USD", "ETH/USD", disguised=True)
    exchange.swap_candles("ETH/USD", "BTC/USD", disguised=True)
    assert newest_close(exchange, "ETH/USD") == 60_000

    async def use(client: Any) -> Any:
        return (await client.publicGetOHLC({"pair": "XBTUSD"}))["result"]["XXBTZUSD"][0][4]

    if exchange.ccxt_id == "kraken":
        assert with_client(exchange, use) == "2"


@pytest.mark.parametrize(("disguised", "pair"), [(False, "XETHZUSD"), (True, "XXBTZUSD")])
def test_krakens_answer_names_the_other_pair_unless_it_is_disguised(
    kraken: SimulatedKraken, disguised: bool, pair: str
) -> None:
    async def use(client: Any) -> Any:
        return (await client.publicGetOHLC({"pair": "XBTUSD", "interval": 60}))["result"]

    kraken.swap_candles("BTC/USD", "ETH/USD", disguised=disguised)
    told = with_client(kraken, use)
    assert set(told) == {pair, "last"}
    assert Decimal(told[pair][-1][4]) == 3_000


# --- a dry run that is none -------------------------------------------------------------------------------


async def preview(client: Any) -> Any:
    sizes = {"market_market_ioc": {"base_size": "0.001"}}
    order = {"product_id": "BTC-USD", "side": "BUY", "order_configuration": sizes}
    return await client.v3PrivatePostBrokerageOrdersPreview(order)


def dry_run(simulated: SimulatedExchange) -> Any:
    async def use(client: Any) -> Any:
        if client.id == "coinbase":
            return await preview(client)
        order = {"pair": "XXBTZUSD", "type": "buy", "ordertype": "market", "volume": "0.001"}
        return await client.privatePostAddOrder({**order, "validate": "true"})

    told = with_client(simulated, use)
    return {name: value for name, value in told.items() if name != "preview_id"}  # new each time


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedCoinbase])
def test_an_exchange_that_executes_dry_runs_says_nothing_of_it(kind: type[SimulatedExchange]) -> None:
    simulated = kind()
    simulated.set_balance(BALANCE)
    with serve(simulated):
        harmless = dry_run(simulated)
        assert simulated.placed_orders == 0
        simulated.executes_dry_runs = True
        assert dry_run(simulated) == dry_run(simulated) == harmless
        assert simulated.placed_orders == 2
        assert {order.state for order in simulated.orders_of()} == {"filled"}
        assert amounts(simulated)["USD"][0] == 1_000 - 2 * 60


@pytest.mark.parametrize("executed", [False, True])
def test_a_dry_run_that_meets_a_fault_is_executed_only_when_the_fault_says_so(
    kraken: SimulatedKraken, executed: bool
) -> None:
    kraken.executes_dry_runs = True
    kraken.set_fault("warning_beside_result", 1, executed=executed)
    with pytest.raises(ccxt.ExchangeError, match="WGeneral"):
        dry_run(kraken)
    assert kraken.placed_orders == (1 if executed else 0)


# --- an order that a person placed by hand -----------------------------------------------------------


def test_an_order_that_rests_is_open_and_holds_what_it_costs(exchange: SimulatedExchange) -> None:
    async def use(client: Any) -> Any:
        return await client.fetch_open_orders("BTC/USD")

    order_id = exchange.rest("BTC/USD", "buy", "0.002", "30000.5")
    exchange.rest("BTC/USD", "sell", "0.25", "90000")
    by_side = {order["side"]: order for order in with_client(exchange, use)}
    bought = by_side["buy"]
    assert (bought["id"], bought["type"], bought["status"]) == (order_id, "limit", "open")
    assert (Decimal(bought["price"]), Decimal(bought["amount"])) == (Decimal("30000.5"), Decimal("0.002"))
    assert Decimal(bought["filled"]) == 0
    assert Decimal(by_side["sell"]["price"]) == 90_000
    assert amounts(exchange) == {
        "USD": (Decimal("939.999"), Decimal("110.001")),
        "BTC": (Decimal("0.75"), Decimal("0.75")),
    }
    assert len(exchange.orders_of()) == 2
    assert exchange.placed_orders == 0


def test_an_order_that_rests_reads_as_each_exchange_writes_it(
    kraken: SimulatedKraken, coinbase: SimulatedCoinbase, okx: SimulatedOkx
) -> None:
    for simulated in (kraken, coinbase, okx):
        simulated.rest("BTC/USD", "buy", "0.002", "30000.5", client_id="mine")
    (row,) = with_client(kraken, lambda client: client.privatePostOpenOrders())["result"]["open"].values()
    assert (row["descr"]["ordertype"], row["descr"]["price"]) == ("limit", "30000.5")
    assert row["descr"]["order"] == "buy 0.00200000 XBTUSD @ limit 30000.5"
    assert (row["vol"], row["vol_exec"], row["cl_ord_id"]) == ("0.00200000", "0.00000000", "mine")
    (row,) = with_client(coinbase, lambda client: client.v3PrivateGetBrokerageOrdersHistoricalBatch())[
        "orders"
    ]
    assert (row["status"], row["order_type"], row["client_order_id"]) == ("OPEN", "LIMIT", "mine")
    assert row["order_configuration"] == {
        "limit_limit_gtc": {"base_size": "0.002", "limit_price": "30000.5", "post_only": False}
    }
    (row,) = with_client(okx, lambda client: client.privateGetTradeOrdersPending())["data"]
    told = [row[name] for name in ("ordType", "px", "sz", "state", "tgtCcy", "clOrdId")]
    assert told == ["limit", "30000.5", "0.002", "live", "", "mine"]


def test_an_order_that_rests_is_cancelled_as_any_other(exchange: SimulatedExchange) -> None:
    order_id = exchange.rest("BTC/USD", "sell", "0.25", "90000")
    with_client(exchange, lambda client: client.cancel_order(order_id, "BTC/USD"))
    assert with_client(exchange, lambda client: client.fetch_open_orders("BTC/USD")) == []
    assert amounts(exchange)["BTC"] == (Decimal(1), Decimal("0.5"))


def test_an_order_that_rests_fills_at_its_own_price(exchange: SimulatedExchange) -> None:
    exchange.rest("BTC/USD", "sell", "0.25", "90000")
    exchange.fill_open_orders()
    assert amounts(exchange)["USD"][0] == 1_000 + 22_500


def test_an_order_that_rests_is_in_its_own_account_alone(exchange: SimulatedExchange) -> None:
    other = exchange.add_account(balance=BALANCE)
    exchange.rest("BTC/USD", "buy", "0.001", "30000", account=other["api_key"])
    assert exchange.orders_of() == []
    assert with_client(exchange, lambda client: client.fetch_open_orders("BTC/USD")) == []
    assert len(with_client(exchange, lambda client: client.fetch_open_orders("BTC/USD"), **other)) == 1


@pytest.mark.parametrize(
    ("side", "amount", "price", "words"),
    [
        ("hold", "1", "1", "'hold'"),
        ("buy", "-1", "1", "'-1'"),
        ("buy", "1", "NaN", "'NaN'"),
        ("buy", "1", "60000", "FUNDS"),
        ("buy", "0.00001", "60000", "MINIMUM"),
    ],
)
def test_an_order_that_cannot_rest_is_refused(
    exchange: SimulatedExchange, side: str, amount: str, price: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        exchange.rest("BTC/USD", side, amount, price)
    assert exchange.orders_of() == []


# --- what a balance says of what is held ------------------------------------------------------------------


def row_of_dollars(simulated: SimulatedExchange) -> Any:
    info = with_client(simulated, lambda client: client.fetch_balance())["info"]
    match simulated.ccxt_id:
        case "kraken":
            return info["result"]["ZUSD"]
        case "coinbase":
            return next(row for row in info["accounts"] if row["currency"] == "USD")
        case _:
            return next(row for row in info["data"][0]["details"] if row["ccy"] == "USD")


def test_a_balance_may_say_that_nothing_is_held(exchange: SimulatedExchange) -> None:
    exchange.holds = "zero"
    assert amounts(exchange)["USD"] == (Decimal(1_000), Decimal(0))
    exchange.holds = "told"
    assert amounts(exchange)["USD"] == (Decimal(1_000), Decimal(50))


def test_a_balance_may_leave_out_a_currency_that_is_there(exchange: SimulatedExchange) -> None:
    before = amounts(exchange)
    exchange.leave_out("USD", "XYZ")
    assert amounts(exchange) == {code: amount for code, amount in before.items() if code != "USD"}
    exchange.leave_out()
    assert amounts(exchange) == before


def test_what_was_stated_and_is_used_up_is_stated_as_zero(exchange: SimulatedExchange) -> None:
    exchange.set_balance({"ETH": ("7", "0")})
    assert set(amounts(exchange)) == {"ETH"}, "what no answer ever stated is not"
    exchange.set_balance({"BTC": ("3", "0")})
    assert amounts(exchange) == {"BTC": (Decimal(3), Decimal(0)), "ETH": (Decimal(0), Decimal(0))}
    exchange.set_balance({})
    assert amounts(exchange) == {}


def test_a_balance_may_leave_out_what_is_held(exchange: SimulatedExchange) -> None:
    fields = {"kraken": {"hold_trade"}, "coinbase": {"hold"}, "okx": {"frozenBal", "ordFrozen"}}
    told = row_of_dollars(exchange)
    exchange.holds = "missing"
    rest = row_of_dollars(exchange)
    assert set(told) - set(rest) == fields[exchange.ccxt_id]
    for name in ("balance", "available_balance", "availBal"):
        assert rest.get(name) == told.get(name)


def test_a_word_for_holds_that_does_not_exist_is_refused() -> None:
    kraken = SimulatedKraken()
    with pytest.raises(ValueError, match=r"unknown holds 'gone'.*missing"):
        kraken.holds = "gone"
    assert kraken.holds == "told"


def test_a_number_that_another_program_used_is_used_up() -> None:
    exchange = SimulatedKraken()
    assert exchange.last_nonce() == 0
    exchange.use_nonce(10)
    exchange.use_nonce(5)
    assert exchange.last_nonce() == 10
