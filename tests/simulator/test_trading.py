"""The simulated exchanges as places to trade: orders, candles, positions, status, seen through real ccxt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from brokerwatch.simulator import (
    FAULTS,
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from tests.support.clusters import until
from tests.support.simulated import ccxt, with_client

EXCHANGES: tuple[type[SimulatedExchange], ...] = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)
ORDER_PATH = {
    "kraken": "/0/private/AddOrder",
    "coinbase": "/api/v3/brokerage/orders",
    "okx": "/api/v5/trade/order",
}
UUID = "6d1b345e-2821-40e2-ad83-4ecb18a06876"


@pytest.fixture(params=EXCHANGES, ids=["kraken", "coinbase", "okx"])
def exchange(request: pytest.FixtureRequest) -> Generator[SimulatedExchange]:
    simulated: SimulatedExchange = request.param()
    simulated.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0.5")})
    with serve(simulated):
        yield simulated


@pytest.fixture
def kraken() -> Generator[SimulatedKraken]:
    simulated = SimulatedKraken()
    simulated.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0.5")})
    with serve(simulated):
        yield simulated


@pytest.fixture
def coinbase() -> Generator[SimulatedCoinbase]:
    simulated = SimulatedCoinbase()
    simulated.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0.5")})
    with serve(simulated):
        yield simulated


@pytest.fixture
def okx() -> Generator[SimulatedOkx]:
    simulated = SimulatedOkx()
    simulated.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0.5")})
    with serve(simulated):
        yield simulated


# --- plain orders of each exchange, as an implicit call of ccxt sends them --------------------------------

Fields = dict[str, Any]


def kraken_order(**fields: str) -> Fields:
    return {"pair": "XXBTZUSD", "type": "buy", "ordertype": "market", "volume": "0.001", **fields}


def coinbase_order(client_id: str = UUID, **fields: Any) -> Fields:
    sizes = fields.pop("sizes", {"base_size": "0.001"})
    return {
        "client_order_id": client_id,
        "product_id": "BTC-USD",
        "side": "BUY",
        "order_configuration": {"market_market_ioc": sizes},
        **fields,
    }


def okx_order(**fields: str) -> Fields:
    order = {"instId": "BTC-USD", "tdMode": "cash", "side": "buy", "ordType": "market"}
    return {**order, "sz": "0.001", "tgtCcy": "base_ccy", **fields}


async def send(client: Any, **fields: Any) -> Any:
    """One market order for 0.001 BTC, or what the fields say instead."""
    match client.id:
        case "kraken":
            return await client.privatePostAddOrder(kraken_order(**fields))
        case "coinbase":
            return await client.v3PrivatePostBrokerageOrders(coinbase_order(**fields))
        case _:
            return await client.privatePostTradeOrder(okx_order(**fields))


def order_once(simulated: SimulatedExchange, **fields: Any) -> Any:
    async def use(client: Any) -> Any:
        return await send(client, **fields)

    return with_client(simulated, use)


def amounts(simulated: SimulatedExchange) -> dict[str, tuple[str, str]]:
    """What ccxt reads as free and held."""
    balance = with_client(simulated, lambda client: client.fetch_balance())
    return {code: (balance["free"][code], balance["used"][code]) for code in balance["total"]}


# --- placing ----------------------------------------------------------------------------------------------


def test_a_market_order_of_ccxt_fills_at_the_price_that_is_set(exchange: SimulatedExchange) -> None:
    async def use(client: Any) -> list[Any]:
        bought = await client.create_market_buy_order_with_cost("BTC/USD", 120)
        # Only OKX knows this field: there the option above would make it an amount in dollars.
        params = {"tgtCcy": "base_ccy"} if client.id == "okx" else {}
        sold = await client.create_order("BTC/USD", "market", "sell", 0.25, None, params)
        return [bought, sold]

    exchange.set_price("BTC/USD", "48000")
    bought, sold = with_client(exchange, use)
    first, second = exchange.orders_of()
    assert (bought["id"], sold["id"]) == (first.id, second.id)
    assert (first.side, first.base_amount, first.quote_amount) == ("buy", Decimal("0.0025"), Decimal(120))
    assert (second.side, second.base_amount, second.quote_amount) == (
        "sell",
        Decimal("0.25"),
        Decimal(12_000),
    )
    assert {(order.symbol, order.price, order.state) for order in (first, second)} == {
        ("BTC/USD", Decimal(48_000), "filled")
    }
    assert exchange.placed_orders == 2
    free = {code: Decimal(free) for code, (free, _held) in amounts(exchange).items()}
    assert free == {"USD": Decimal(12_880), "BTC": Decimal("0.7525")}


def test_amounts_change_by_exact_decimals(kraken: SimulatedKraken) -> None:
    kraken.set_balance({"USD": ("1000.00000000000000000001", "0")})
    kraken.set_price("BTC/USD", "60000.3")
    order_once(kraken, volume="0.00123457")
    assert kraken.orders_of()[0].quote_amount == Decimal("74.074570371")
    assert amounts(kraken) == {"USD": ("925.92542962900000000001", "0"), "BTC": ("0.00123457", "0")}


def test_an_order_by_cost_buys_whole_lots_and_spends_no_more_than_they_cost(kraken: SimulatedKraken) -> None:
    kraken.set_price("BTC/USD", "70000")
    order_once(kraken, volume="100", oflags="viqc")
    (order,) = kraken.orders_of()
    assert (order.base_amount, order.quote_amount) == (Decimal("0.00142857"), Decimal("99.9999"))
    assert order.in_quote
    assert order.size == 100


def test_a_new_exchange_has_a_price_for_every_market(exchange: SimulatedExchange) -> None:
    assert exchange.price_of("BTC/USD") == 60_000
    markets = with_client(exchange, lambda client: client.load_markets())
    assert all(exchange.price_of(symbol) > 0 for symbol in markets)


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "1e5", "", "6٠"])
def test_a_price_that_is_none_cannot_be_set(price: str) -> None:
    with pytest.raises(ValueError, match="BTC/USD"):
        SimulatedKraken().set_price("BTC/USD", price)


def test_a_market_that_is_not_listed_has_no_price() -> None:
    with pytest.raises(ValueError, match=r"no market 'BTC/XYZ'.*BTC/USD"):
        SimulatedKraken().set_price("BTC/XYZ", "1")


REFUSED: list[tuple[type[SimulatedExchange], Fields, str, str]] = [
    (SimulatedKraken, {"volume": "0.00001"}, "InvalidOrder", "EOrder:Order minimum not met"),
    (SimulatedKraken, {"volume": "0.4", "oflags": "viqc"}, "ExchangeError", "EOrder:Cost minimum not met"),
    (SimulatedKraken, {"volume": "0.1"}, "InsufficientFunds", "EOrder:Insufficient funds"),
    (
        SimulatedKraken,
        {"type": "sell", "volume": "1.00000001"},
        "InsufficientFunds",
        "EOrder:Insufficient funds",
    ),
    (SimulatedKraken, {"volume": "0.001000001"}, "InvalidOrder", "EGeneral:Invalid arguments:volume"),
    (SimulatedKraken, {"volume": "NaN"}, "InvalidOrder", "EGeneral:Invalid arguments:volume"),
    (SimulatedKraken, {"volume": "-1"}, "InvalidOrder", "EGeneral:Invalid arguments:volume"),
    (SimulatedKraken, {"pair": "XXBTZXYZ"}, "ExchangeError", "EQuery:Unknown asset pair"),
    (SimulatedKraken, {"type": "hold"}, "ExchangeError", "EGeneral:Invalid arguments:type"),
    (SimulatedKraken, {"ordertype": "stop-loss"}, "ExchangeError", "EGeneral:Invalid arguments:ordertype"),
    (SimulatedKraken, {"type": "sell", "oflags": "viqc"}, "InvalidOrder", "EGeneral:Invalid arguments:viqc"),
    (SimulatedKraken, {"cl_ord_id": "x" * 19}, "ExchangeError", "EGeneral:Invalid arguments:cl_ord_id"),
    (
        SimulatedKraken,
        {"cl_ord_id": UUID, "userref": "1"},
        "ExchangeError",
        "EGeneral:Invalid arguments:cl_ord_id",
    ),
    (SimulatedKraken, {"userref": "one"}, "ExchangeError", "EGeneral:Invalid arguments:userref"),
    (SimulatedCoinbase, {"sizes": {"quote_size": "0.9"}}, "ExchangeError", "QUOTE_SIZE_TOO_SMALL"),
    (SimulatedCoinbase, {"sizes": {"base_size": "0.00002"}}, "ExchangeError", "BASE_SIZE_TOO_SMALL"),
    (SimulatedCoinbase, {"sizes": {"quote_size": "10.01"}}, "ExchangeError", "INVALID_QUOTE_SIZE_PRECISION"),
    (SimulatedCoinbase, {"sizes": {"base_size": "0.001000001"}}, "ExchangeError", "INVALID_SIZE_PRECISION"),
    (SimulatedCoinbase, {"sizes": {"quote_size": "1001"}}, "InsufficientFunds", "INSUFFICIENT_FUND"),
    (SimulatedCoinbase, {"sizes": {}}, "BadRequest", "INVALID_ARGUMENT"),
    (SimulatedCoinbase, {"side": "SELL", "sizes": {"quote_size": "10"}}, "BadRequest", "INVALID_ARGUMENT"),
    (SimulatedCoinbase, {"product_id": "BTC-XYZ"}, "BadRequest", "INVALID_ARGUMENT"),
    (SimulatedCoinbase, {"order_configuration": {"limit_limit_gtc": {}}}, "BadRequest", "INVALID_ARGUMENT"),
    (SimulatedCoinbase, {"client_id": ""}, "BadRequest", "INVALID_ARGUMENT"),
    (SimulatedOkx, {"sz": "0.00001"}, "InvalidOrder", "51020"),
    (SimulatedOkx, {"sz": "1", "tgtCcy": "quote_ccy"}, "InvalidOrder", "51020"),
    (SimulatedOkx, {"sz": "0.1"}, "InsufficientFunds", "51008"),
    (SimulatedOkx, {"sz": "0.001000001"}, "InvalidOrder", "51121"),
    (SimulatedOkx, {"sz": "0"}, "BadRequest", "51000"),
    (SimulatedOkx, {"instId": "BTC-XYZ"}, "BadSymbol", "51001"),
    (SimulatedOkx, {"clOrdId": UUID}, "BadRequest", "51000"),
    (SimulatedOkx, {"tdMode": "cross"}, "BadRequest", "51000"),
    (SimulatedOkx, {"ordType": "limit"}, "BadRequest", "51000"),
]


@pytest.mark.parametrize(("kind", "fields", "error", "words"), REFUSED)
def test_an_order_that_cannot_be_is_refused_in_the_exchanges_words_and_nothing_is_placed(
    kind: type[SimulatedExchange], fields: Fields, error: str, words: str
) -> None:
    simulated = kind()
    simulated.set_balance({"USD": ("1000", "0"), "BTC": ("1", "0.5")})
    with serve(simulated):
        with pytest.raises(ccxt.BaseError, match=words) as refusal:
            order_once(simulated, **fields)
        assert type(refusal.value).__name__ == error
        assert simulated.placed_orders == 0
        assert {code: float(free) for code, (free, _held) in amounts(simulated).items()} == {
            "USD": 1_000,
            "BTC": 1,
        }


def test_what_an_order_by_cost_may_spend_must_be_there_whole(kraken: SimulatedKraken) -> None:
    kraken.set_balance({"USD": ("99.9999", "0")})
    kraken.set_price("BTC/USD", "70000")
    with pytest.raises(ccxt.InsufficientFunds):
        order_once(kraken, volume="100", oflags="viqc")


def test_the_smallest_order_and_all_of_the_money_are_taken(exchange: SimulatedExchange) -> None:
    exchange.set_balance({"BTC": ("0.00005", "0")})
    smallest: dict[str, Fields] = {
        "kraken": {"type": "sell", "volume": "0.00005"},
        "coinbase": {"side": "SELL", "sizes": {"base_size": "0.00005"}},
        "okx": {"side": "sell", "sz": "0.00005"},
    }
    order_once(exchange, **smallest[exchange.ccxt_id])
    assert exchange.orders_of()[0].base_amount == Decimal("0.00005")
    assert Decimal(amounts(exchange)["BTC"][0]) == 0
    assert Decimal(amounts(exchange)["USD"][0]) == 3


def test_a_wrong_signature_places_nothing(exchange: SimulatedExchange) -> None:
    async def use(client: Any) -> Any:
        return await send(client)

    with pytest.raises(ccxt.ExchangeError):
        with_client(exchange, use, secret=exchange.new_credentials()["secret"])
    assert exchange.placed_orders == 0
    assert exchange.private_calls == exchange.calls_to(ORDER_PATH[exchange.ccxt_id]) == 1


# --- dry runs ---------------------------------------------------------------------------------------------


def test_kraken_validates_an_order_without_placing_it(kraken: SimulatedKraken) -> None:
    answer = order_once(kraken, validate="true", cl_ord_id=UUID)
    assert answer == {"error": [], "result": {"descr": {"order": "buy 0.00100000 XBTUSD @ market"}}}
    with pytest.raises(ccxt.InsufficientFunds):
        order_once(kraken, validate="true", volume="0.1")
    assert kraken.placed_orders == 0
    assert amounts(kraken)["USD"] == ("1000", "0")


def test_krakens_validation_by_ccxt_places_nothing(kraken: SimulatedKraken) -> None:
    async def use(client: Any) -> Any:
        return await client.create_order("BTC/USD", "market", "buy", 0.001, None, {"validate": True})

    assert with_client(kraken, use)["id"] is None
    assert kraken.placed_orders == 0


def test_coinbase_previews_an_order_without_placing_it(coinbase: SimulatedCoinbase) -> None:
    async def use(client: Any) -> Any:
        order = coinbase_order(sizes={"quote_size": "120"})
        del order["client_order_id"]
        good = await client.v3PrivatePostBrokerageOrdersPreview(order)
        order["order_configuration"] = {"market_market_ioc": {"quote_size": "1200"}}
        return good, await client.v3PrivatePostBrokerageOrdersPreview(order)

    good, poor = with_client(coinbase, use)
    assert (good["errs"], good["base_size"], good["quote_size"]) == ([], "0.00200000", "120.00000000")
    assert good["preview_id"]
    assert poor["errs"] == ["PREVIEW_INSUFFICIENT_FUND"]
    assert coinbase.placed_orders == 0


def test_okx_has_no_dry_run_and_places_a_real_order(okx: SimulatedOkx) -> None:
    async def use(client: Any) -> Any:
        params = {"test": True, "validate": True, "preview": True, "tgtCcy": "base_ccy"}
        return await client.create_order("BTC/USD", "market", "buy", 0.001, None, params)

    assert with_client(okx, use)["id"] == okx.orders_of()[0].id
    assert okx.placed_orders == 1


# --- a client's own id ------------------------------------------------------------------------------------


def test_coinbase_answers_the_same_client_id_with_the_first_order(coinbase: SimulatedCoinbase) -> None:
    first = order_once(coinbase)
    again = order_once(coinbase, sizes={"base_size": "0.002"})
    assert again["success"]
    assert again == first, "the order of that id, as it was asked for then"
    assert coinbase.placed_orders == 1


@pytest.mark.parametrize(
    ("kind", "field", "words"),
    [
        (SimulatedKraken, "cl_ord_id", "cl_ord_id not unique"),
        (SimulatedOkx, "clOrdId", "51016"),
    ],
)
def test_kraken_and_okx_refuse_a_client_id_only_while_its_order_is_open(
    kind: type[SimulatedExchange], field: str, words: str
) -> None:
    simulated = kind()
    simulated.set_balance({"USD": ("1000", "0")})
    with serve(simulated):
        simulated.fills_at_once = False
        order_once(simulated, **{field: "first1"})
        with pytest.raises(ccxt.ExchangeError, match=words):
            order_once(simulated, **{field: "first1"})
        assert simulated.placed_orders == 1
        simulated.fill_open_orders()
        order_once(simulated, **{field: "first1"})
        assert [order.client_id for order in simulated.orders_of()] == ["first1", "first1"]


def test_kraken_finds_a_filled_order_by_its_client_id(kraken: SimulatedKraken) -> None:
    async def use(client: Any) -> Any:
        await send(client, cl_ord_id=UUID)
        await send(client, cl_ord_id="another")
        params = {"clientOrderId": UUID}
        return (
            await client.fetch_closed_orders(None, None, None, params),
            await client.fetch_open_orders(None, None, None, params),
            await client.fetch_closed_orders(None, None, None, {"clientOrderId": "unknown"}),
        )

    found, still_open, nothing = with_client(kraken, use)
    assert [order["clientOrderId"] for order in found] == [UUID]
    assert (found[0]["status"], found[0]["symbol"], found[0]["side"]) == ("closed", "BTC/USD", "buy")
    assert Decimal(found[0]["filled"]) == Decimal("0.001")
    assert still_open == nothing == []


def test_okx_finds_an_order_by_its_client_id_and_says_when_there_is_none(okx: SimulatedOkx) -> None:
    async def find(client: Any) -> Any:
        return await client.fetch_order(None, "BTC/USD", {"clientOrderId": "mine1"})

    with pytest.raises(ccxt.OrderNotFound, match="51603"):
        with_client(okx, find)
    order_once(okx, clOrdId="mine1")
    order = with_client(okx, find)
    assert (order["status"], order["filled"], order["id"]) == ("closed", "0.001", okx.orders_of()[0].id)
    with pytest.raises(ccxt.OrderNotFound, match="51603"):
        with_client(okx, find, **okx.add_account())


def test_a_fault_of_a_method_spares_the_look_up_on_the_same_path(okx: SimulatedOkx) -> None:
    async def use(client: Any) -> Any:
        with pytest.raises(ccxt.ExchangeNotAvailable):
            await send(client, clOrdId="mine1")
        return await client.fetch_order(None, "BTC/USD", {"clientOrderId": "mine1"})

    okx.set_fault("http_502_html", path="POST /api/v5/trade/order", executed=True)
    assert with_client(okx, use)["clientOrderId"] == "mine1"
    assert okx.calls_to("POST /api/v5/trade/order") == okx.calls_to("GET /api/v5/trade/order") == 1
    assert okx.calls_to("/api/v5/trade/order") == 2
    okx.set_permissions({"query"})
    okx.mend()
    find = with_client(okx, lambda client: client.fetch_order(None, "BTC/USD", {"clOrdId": "mine1"}))
    assert find["clientOrderId"] == "mine1", "to look an order up needs no permission to trade"


# --- orders that are shown --------------------------------------------------------------------------------


def test_an_open_order_holds_its_cost_until_it_fills(exchange: SimulatedExchange) -> None:
    async def seen(client: Any) -> tuple[int, int]:
        opened = await client.fetch_open_orders("BTC/USD")
        return len(opened), len(await client.fetch_closed_orders("BTC/USD"))

    exchange.fills_at_once = False
    order_once(exchange)
    assert with_client(exchange, seen) == (1, 0)
    assert [float(part) for part in amounts(exchange)["USD"]] == [940, 60]
    exchange.fill_open_orders()
    assert with_client(exchange, seen) == (0, 1)
    assert [float(part) for part in amounts(exchange)["USD"]] == [940, 0]
    assert float(amounts(exchange)["BTC"][0]) == 1.001


def test_an_order_is_found_by_the_exchanges_id(exchange: SimulatedExchange) -> None:
    async def use(client: Any) -> Any:
        await send(client)
        return await client.fetch_order(exchange.orders_of()[0].id, "BTC/USD")

    order = with_client(exchange, use)
    assert (order["id"], order["status"], order["side"]) == (exchange.orders_of()[0].id, "closed", "buy")
    assert Decimal(order["filled"]) == Decimal("0.001")
    assert Decimal(order["average"]) == 60_000


def test_an_open_order_is_canceled_and_a_filled_one_is_not(exchange: SimulatedExchange) -> None:
    async def cancel(client: Any) -> Any:
        return await client.cancel_order(exchange.orders_of()[-1].id, "BTC/USD")

    exchange.fills_at_once = False
    order_once(exchange)
    with_client(exchange, cancel)
    assert exchange.orders_of()[0].state == "canceled"
    assert [float(part) for part in amounts(exchange)["USD"]] == [1_000, 0]
    exchange.fills_at_once = True
    order_once(exchange, **({"client_id": "second"} if exchange.ccxt_id == "coinbase" else {}))
    with pytest.raises(ccxt.ExchangeError, match=r"Unknown order|not found|cancelOrders|51400"):
        with_client(exchange, cancel)
    assert exchange.orders_of()[1].state == "filled"


def test_an_account_sees_only_its_own_orders(exchange: SimulatedExchange) -> None:
    other = exchange.add_account(balance={"USD": ("1000", "0")})
    order_once(exchange)
    assert exchange.orders_of(other["api_key"]) == []
    assert with_client(exchange, lambda client: client.fetch_closed_orders("BTC/USD"), **other) == []


def test_coinbases_list_of_orders_comes_in_pages(coinbase: SimulatedCoinbase) -> None:
    async def use(client: Any) -> list[Any]:
        for number in range(3):
            await send(client, client_id=f"number {number}")
        pages: list[Any] = []
        cursor = ""
        while not pages or cursor:
            page = await client.v3PrivateGetBrokerageOrdersHistoricalBatch({"limit": 2, "cursor": cursor})
            pages.append([order["client_order_id"] for order in page["orders"]])
            cursor = page["cursor"]
        return pages

    assert with_client(coinbase, use) == [["number 2", "number 1"], ["number 0"]]


def test_coinbases_list_of_orders_begins_at_a_moment(coinbase: SimulatedCoinbase) -> None:
    async def use(client: Any) -> list[Any]:
        await send(client)
        (order,) = (await listed(client))["orders"]
        made = datetime.fromisoformat(order["created_time"])
        for later_s in (-1, 0, 1):
            moment = f"{made + timedelta(seconds=later_s):%Y-%m-%dT%H:%M:%SZ}"
            found.append(len((await listed(client, start_date=moment))["orders"]))
        for wrong in ({"start_date": "yesterday"}, {"limit": "-1"}, {"cursor": "nowhere"}):
            with pytest.raises(ccxt.BadRequest, match="INVALID_ARGUMENT"):
                await listed(client, **wrong)
        return found

    async def listed(client: Any, **query: Any) -> Any:
        return await client.v3PrivateGetBrokerageOrdersHistoricalBatch(query)

    found: list[int] = []
    assert with_client(coinbase, use) == [1, 1, 0]


def test_coinbases_pages_do_not_shift_when_an_order_comes_in_between(coinbase: SimulatedCoinbase) -> None:
    async def use(client: Any) -> list[Any]:
        for number in range(3):
            await send(client, client_id=f"number {number}")
        first = await client.v3PrivateGetBrokerageOrdersHistoricalBatch({"limit": 2})
        await send(client, client_id="number 3")
        query = {"limit": 2, "cursor": first["cursor"]}
        second = await client.v3PrivateGetBrokerageOrdersHistoricalBatch(query)
        return [[order["client_order_id"] for order in page["orders"]] for page in (first, second)]

    assert with_client(coinbase, use) == [["number 2", "number 1"], ["number 0"]]


def test_a_batch_of_okx_tells_of_each_order(okx: SimulatedOkx) -> None:
    async def use(client: Any) -> Any:
        return await client.privatePostTradeBatchOrders([okx_order(), okx_order(sz="9")])

    answer = with_client(okx, use)
    assert answer["code"] == "2"
    assert [row["sCode"] for row in answer["data"]] == ["0", "51008"]
    assert okx.placed_orders == 1


# --- an answer that is lost -------------------------------------------------------------------------------


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_on_an_order_places_it_only_when_it_is_said_to_be_executed(
    exchange: SimulatedExchange, fault: str, executed: bool
) -> None:
    async def use(client: Any) -> None:
        client.timeout = 5_000
        sending = asyncio.ensure_future(send(client))
        if fault in ("hang", "stalled", "stalled_body", "drip"):
            await asyncio.to_thread(until, lambda: not executed or exchange.placed_orders or sending.done())
            await asyncio.wait({sending}, timeout=0.25)
            sending.cancel()
        with suppress(ccxt.BaseError, TypeError, asyncio.CancelledError):
            await sending

    exchange.set_fault(fault, path=ORDER_PATH[exchange.ccxt_id], executed=executed)
    with_client(exchange, use)
    assert exchange.placed_orders == (1 if executed else 0)
    exchange.mend()
    spent = Decimal(60) if executed else Decimal(0)
    assert Decimal(amounts(exchange)["USD"][0]) == 1_000 - spent


def test_an_executed_order_is_found_although_its_answer_was_lost(kraken: SimulatedKraken) -> None:
    async def use(client: Any) -> Any:
        client.timeout = 2_000
        with pytest.raises(ccxt.RequestTimeout):
            await send(client, cl_ord_id=UUID)
        client.timeout = 5_000
        return await client.fetch_closed_orders(None, None, None, {"clientOrderId": UUID})

    kraken.set_fault("hang", 1, path="/0/private/AddOrder", executed=True)
    assert [order["id"] for order in with_client(kraken, use)] == [kraken.orders_of()[0].id]


@pytest.mark.parametrize("executed", [False, True])
def test_a_set_answer_can_stand_for_an_executed_order(exchange: SimulatedExchange, executed: bool) -> None:
    exchange.set_answer("<html>busy</html>", 503, "text/html", executed=executed)
    with pytest.raises(ccxt.ExchangeNotAvailable):
        order_once(exchange)
    assert exchange.placed_orders == (1 if executed else 0)


def test_a_fault_of_a_pattern_is_met_by_every_path_of_it(coinbase: SimulatedCoinbase) -> None:
    pattern = "/api/v3/brokerage/market/products/{product_id}/candles"
    coinbase.set_fault("http_502_html", path=pattern, public=True)

    async def ask(client: Any) -> None:
        for symbol in ("BTC/USD", "ETH/USD"):
            with pytest.raises(ccxt.ExchangeNotAvailable):
                await client.fetch_ohlcv(symbol)

    with_client(coinbase, ask)
    assert coinbase.calls_to(pattern) == 2
    assert with_client(coinbase, lambda client: client.fetch_ticker("BTC/USD"))["last"] == "60000.0"


# --- prices -----------------------------------------------------------------------------------------------


def test_the_ticker_follows_the_price(exchange: SimulatedExchange) -> None:
    exchange.set_price("XRP/USD", "2.12345")
    ticker = with_client(exchange, lambda client: client.fetch_ticker("XRP/USD"))
    assert (ticker["last"], ticker["bid"], ticker["ask"]) == ("2.12345", "2.12344", "2.12346")


@pytest.mark.parametrize(("timeframe", "span_s"), [("1m", 60), ("15m", 900), ("1h", 3_600), ("1d", 86_400)])
def test_candles_end_at_the_exchanges_own_now(
    exchange: SimulatedExchange, timeframe: str, span_s: int
) -> None:
    async def use(client: Any) -> Any:
        return await client.fetch_ohlcv("BTC/USD", timeframe, None, 30)

    rows = with_client(exchange, use)
    # Coinbase counts its span from now, so there the oldest one may fall out.
    assert len(rows) in (29, 30)
    starts_s = [row[0] // 1_000 for row in rows]
    assert starts_s == list(range(starts_s[0], starts_s[-1] + 1, span_s))
    assert 0 <= time.time() - starts_s[-1] < span_s + 5
    assert Decimal(rows[-1][4]) == 60_000
    for _start, opened, high, low, close, volume in rows:
        assert Decimal(low) <= min(Decimal(opened), Decimal(close))
        assert Decimal(high) >= max(Decimal(opened), Decimal(close))
        assert Decimal(volume) > 0
    again = {row[0]: row for row in with_client(exchange, use)}
    same = [again[row[0]] for row in rows[:-1] if row[0] in again]
    assert len(same) >= 27, "another candle may have begun meanwhile"
    assert same == [row for row in rows[:-1] if row[0] in again]


def test_candles_can_be_stale_and_have_gaps(exchange: SimulatedExchange) -> None:
    async def use(client: Any) -> Any:
        return [row[0] // 1_000 for row in await client.fetch_ohlcv("BTC/USD", "1h", None, 20)]

    exchange.candle_lag_s = 3 * 3_600
    starts_s = with_client(exchange, use)
    assert 3 * 3_600 <= time.time() - starts_s[-1] < 4 * 3_600 + 5
    exchange.set_candle_gaps("BTC/USD", {1, 2})
    assert with_client(exchange, use)[-2:] == [starts_s[-1] - 3 * 3_600, starts_s[-1]]
    exchange.set_candle_gaps("BTC/USD", ())
    assert with_client(exchange, use)[-2:] == starts_s[-2:]


def test_candles_can_be_set_row_by_row(exchange: SimulatedExchange) -> None:
    async def use(client: Any) -> Any:
        return await client.fetch_ohlcv("BTC/USD", "1m", None, 10)

    newest_s = int(time.time()) // 60 * 60
    rows = [
        (newest_s, "2.0", "2.5", "1.5", "2.2", "7"),
        (newest_s - 60, "1.0", "2.5", "0.5", "2.0", "9"),
    ]
    exchange.set_candles("BTC/USD", rows)
    assert with_client(exchange, use) == [
        [(newest_s - 60) * 1_000, "1.0", "2.5", "0.5", "2.0", "9"],
        [newest_s * 1_000, "2.0", "2.5", "1.5", "2.2", "7"],
    ]
    exchange.set_candles("BTC/USD", [])
    assert with_client(exchange, use) == []
    exchange.set_candles("BTC/USD", None)
    assert len(with_client(exchange, use)) >= 9


def test_krakens_candles_since_a_moment_are_those_after_it(kraken: SimulatedKraken) -> None:
    newest_s = int(time.time()) // 3_600 * 3_600

    async def use(client: Any) -> Any:
        return await client.publicGetOHLC({"pair": "XBTUSD", "interval": 60, "since": newest_s - 7_200})

    result = with_client(kraken, use)["result"]
    starts_s = [row[0] for row in result["XXBTZUSD"]]
    # An hour may begin while this test runs.
    assert starts_s[:2] == [newest_s - 3_600, newest_s]
    assert result["last"] == starts_s[-2]


def test_candles_of_a_past_day_come_back(exchange: SimulatedExchange) -> None:
    since_ms = (int(time.time()) // 86_400 - 5) * 86_400_000

    async def use(client: Any) -> Any:
        return [row[0] for row in await client.fetch_ohlcv("BTC/USD", "1h", since_ms, 24)]

    assert with_client(exchange, use) == [since_ms + hour * 3_600_000 for hour in range(24)]


@pytest.mark.parametrize(
    ("kind", "method", "params", "words"),
    [
        (SimulatedKraken, "publicGetOHLC", {"pair": "XBTUSD", "interval": 7}, "Invalid arguments:interval"),
        (SimulatedKraken, "publicGetOHLC", {"pair": "XYZUSD"}, "EQuery:Unknown asset pair"),
        (SimulatedKraken, "publicGetTicker", {"pair": "XYZUSD"}, "EQuery:Unknown asset pair"),
        (
            SimulatedCoinbase,
            "v3PublicGetBrokerageMarketProductsProductIdCandles",
            {"product_id": "BTC-XYZ"},
            "NOT_FOUND",
        ),
        (
            SimulatedCoinbase,
            "v3PublicGetBrokerageMarketProductsProductIdCandles",
            {"product_id": "BTC-USD", "start": 0, "end": 60_000, "granularity": "ONE_MINUTE"},
            "less than 350",
        ),
        (SimulatedOkx, "publicGetMarketCandles", {"instId": "BTC-USD", "bar": "7m"}, "Parameter bar error"),
        (SimulatedOkx, "publicGetMarketCandles", {"instId": "BTC-XYZ"}, "51001"),
        (SimulatedOkx, "publicGetMarketTicker", {"instId": "BTC-XYZ"}, "51001"),
    ],
)
def test_a_question_about_prices_that_cannot_be_is_refused(
    kind: type[SimulatedExchange], method: str, params: Fields, words: str
) -> None:
    simulated = kind()
    with serve(simulated), pytest.raises(ccxt.ExchangeError, match=words):
        with_client(simulated, lambda client: getattr(client, method)(params))


# --- positions --------------------------------------------------------------------------------------------


def test_positions_are_none_until_they_are_set(exchange: SimulatedExchange) -> None:
    other = exchange.add_account()
    assert with_client(exchange, lambda client: client.fetch_positions()) == []
    exchange.set_positions([exchange.example_position])
    (position,) = with_client(exchange, lambda client: client.fetch_positions())
    assert position["side"] == "long"
    assert Decimal(position["contracts"]) > 0
    assert with_client(exchange, lambda client: client.fetch_positions(), **other) == []


def test_krakens_positions_have_a_name_each_unless_they_are_consolidated(kraken: SimulatedKraken) -> None:
    async def use(client: Any) -> Any:
        return (await client.privatePostOpenPositions())["result"]

    assert with_client(kraken, use) == {}
    kraken.set_positions([kraken.example_position] * 2)
    assert list(with_client(kraken, use).values()) == [kraken.example_position] * 2


# --- status -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["cancel_only", "post_only"])
def test_kraken_refuses_a_market_order_in_a_limited_mode_and_still_tells_the_balance(
    kraken: SimulatedKraken, status: str
) -> None:
    kraken.set_status(status)
    seen = with_client(kraken, lambda client: client.fetch_status())
    assert (seen["status"], seen["info"]["result"]["status"]) == ("maintenance", status)
    for validate in ("false", "true"):
        with pytest.raises(ccxt.OnMaintenance, match=f"EService:Market in {status} mode"):
            order_once(kraken, validate=validate)
    assert amounts(kraken)["USD"] == ("1000", "0")
    assert kraken.placed_orders == 0
    kraken.set_status("online")
    order_once(kraken)
    assert kraken.placed_orders == 1


def test_kraken_in_maintenance_answers_no_private_call(kraken: SimulatedKraken) -> None:
    kraken.set_status("maintenance")
    status = with_client(kraken, lambda client: client.publicGetSystemStatus())
    assert status["result"]["status"] == "maintenance"
    with pytest.raises(ccxt.ExchangeNotAvailable, match="EService:Unavailable"):
        order_once(kraken)
    with pytest.raises(ccxt.ExchangeNotAvailable, match="EService:Unavailable"):
        with_client(kraken, lambda client: client.fetch_balance())
    assert with_client(kraken, lambda client: client.fetch_ticker("BTC/USD"))["last"] == "60000.0"


def test_an_open_order_can_be_canceled_in_cancel_only_mode(kraken: SimulatedKraken) -> None:
    async def cancel(client: Any) -> Any:
        return await client.privatePostCancelOrder({"cl_ord_id": UUID})

    kraken.fills_at_once = False
    order_once(kraken, cl_ord_id=UUID)
    kraken.set_status("cancel_only")
    assert with_client(kraken, cancel)["result"] == {"count": 1}


def test_a_status_that_kraken_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown status 'closed'.*cancel_only"):
        SimulatedKraken().set_status("closed")


@pytest.mark.parametrize(
    ("state", "seen"), [("scheduled", "ok"), ("ongoing", "maintenance"), ("completed", "ok")]
)
def test_okx_tells_scheduled_from_ongoing_maintenance(okx: SimulatedOkx, state: str, seen: str) -> None:
    okx.set_maintenance("Spot System Upgrade", state, begin_in_s=60, end_in_s=600)
    status = with_client(okx, lambda client: client.fetch_status())
    (row,) = status["info"]["data"]
    assert (status["status"], row["state"], row["title"]) == (seen, state, "Spot System Upgrade")
    assert int(row["end"]) - int(row["begin"]) == 540_000
    assert int(row["begin"]) / 1_000 - time.time() == pytest.approx(60, abs=5)
    asked = with_client(okx, lambda client: client.publicGetSystemStatus({"state": "canceled"}))
    assert asked["data"] == []
    okx.end_maintenance()
    assert with_client(okx, lambda client: client.fetch_status())["info"]["data"] == []


def test_a_state_that_okx_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown state 'soon'.*scheduled"):
        SimulatedOkx().set_maintenance("Upgrade", "soon")


# --- permissions ------------------------------------------------------------------------------------------


def test_a_key_that_may_not_trade_reads_and_is_refused_at_an_order(exchange: SimulatedExchange) -> None:
    reader = exchange.add_account(balance={"USD": ("1000", "0")}, permissions={"query"})

    async def use(client: Any) -> Any:
        assert await client.fetch_balance()
        assert await client.fetch_open_orders("BTC/USD") == []
        return await send(client)

    with pytest.raises(ccxt.ExchangeError, match=r"EGeneral:Permission denied|PERMISSION_DENIED|50120"):
        with_client(exchange, use, **reader)
    assert exchange.placed_orders == 0
    exchange.set_permissions({"query", "trade"}, account=reader["api_key"])
    with_client(exchange, use, **reader)
    assert len(exchange.orders_of(reader["api_key"])) == 1


def test_a_key_that_may_not_query_reads_nothing(exchange: SimulatedExchange) -> None:
    exchange.set_permissions({"trade"})
    with pytest.raises(ccxt.ExchangeError, match=r"EGeneral:Permission denied|PERMISSION_DENIED|50120"):
        with_client(exchange, lambda client: client.fetch_balance())


def test_a_permission_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown permissions \['steal'\].*withdraw"):
        SimulatedKraken().add_account(permissions={"steal"})


def test_coinbase_and_okx_tell_what_a_key_may_do(coinbase: SimulatedCoinbase, okx: SimulatedOkx) -> None:
    def of_coinbase() -> list[bool]:
        told = with_client(coinbase, lambda client: client.v3PrivateGetBrokerageKeyPermissions())
        return [told["can_view"], told["can_trade"], told["can_transfer"]]

    def of_okx() -> tuple[str, str]:
        (row,) = with_client(okx, lambda client: client.privateGetAccountConfig())["data"]
        assert row["uid"]
        return row["perm"], row["ip"]

    assert of_coinbase() == [True, True, False]
    assert of_okx() == ("read_only,trade", "127.0.0.1")
    for simulated in (coinbase, okx):
        simulated.set_permissions({"query", "trade", "withdraw"})
    okx.key_ip = "203.0.113.7"
    assert of_coinbase() == [True, True, True]
    assert of_okx() == ("read_only,withdraw,trade", "203.0.113.7")


def test_kraken_shows_by_a_withdrawal_question_whether_a_key_may_withdraw(kraken: SimulatedKraken) -> None:
    async def use(client: Any) -> Any:
        return await client.privatePostWithdrawInfo({"asset": "XBT", "key": "none", "amount": "1"})

    with pytest.raises(ccxt.PermissionDenied, match="EGeneral:Permission denied"):
        with_client(kraken, use)
    kraken.set_permissions({"query", "withdraw"})
    with pytest.raises(ccxt.ExchangeError, match="EFunding:Unknown withdraw key"):
        with_client(kraken, use)


def test_krakens_trade_balance_values_what_has_a_price_in_dollars(kraken: SimulatedKraken) -> None:
    kraken.set_balance({"USD": ("100", "10"), "BTC": ("0.5", "0"), "DOT": ("7", "0")})
    told = with_client(kraken, lambda client: client.privatePostTradeBalance())
    assert told["result"]["eb"] == "30110.0000"
