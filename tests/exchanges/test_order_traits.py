"""How exchanges that only ccxt knows take orders: the tables, held against the requests that ccxt makes."""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, cast

import pytest

from brokerwatch.errors import InvalidOrder
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_request import OrderRequest, requested
from brokerwatch.exchanges.order_traits import (
    ANY_FORM,
    BUYS_BY_COST,
    BY_OWN_ID,
    COST_AS_PARAMETER,
    ENDED_IN_CLOSED,
    FORMS,
    NO_IDS,
    OrderTraits,
)
from brokerwatch.exchanges.registry import ADAPTERS
from brokerwatch.exchanges.unified import Unified
from brokerwatch.messages import Product, Side

ccxt: Final[Any] = importlib.import_module("ccxt")
BTC: Final = Product(symbol="BTC/USDT", base="BTC", quote="USDT", id="BTCUSDT")
UNIFIED: Final = tuple(name for name in ccxt.exchanges if name not in ADAPTERS)
ASKS_FIRST: Final = frozenset(
    {
        "aster",
        "bitfinex",
        "bithumb",
        "bullish",
        "bybit",
        "bybiteu",
        "bybitid",
        "coinbaseinternational",
        "lighter",
        "ndax",
        "pacifica",
    }
)
"""Exchanges where ccxt asks something else before the order, or wants more of a market than is here."""


class Captured(Exception):
    """The parameters of a request that was not sent."""

    def __init__(self, parameters: Any) -> None:
        super().__init__("not sent")
        self.parameters = parameters


class Caller:
    """Asks a ccxt instance that sends nothing."""

    def __init__(self, exchange: str) -> None:
        self.instance = getattr(ccxt, exchange)(
            {
                "apiKey": "k" * 32,
                "secret": "c2VjcmV0" * 8,
                "password": "p",
                "uid": "1",
                "login": "l",
                "twofa": "1",
            }
        )
        self.instance.accounts = [{"id": "1", "type": "spot", "code": None, "info": {}}]
        self.instance.options.update({"uta": False, "operatorId": 1, "accountId": "1"})
        self.instance.set_markets([_market()])
        self.instance.fetch2 = self.instance.request = self._captured

    @staticmethod
    def _captured(*request: Any, **named: Any) -> Any:
        parameters = named.get("params", request[3] if len(request) > 3 else {})
        raise Captured(parameters)

    async def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.instance, method)(*arguments)


def _market() -> dict[str, Any]:
    return {
        "id": "BTCUSDT", "lowercaseId": "btcusdt", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT",
        "baseId": "BTC", "quoteId": "USDT", "settle": None, "type": "spot", "spot": True, "margin": False,
        "swap": False, "future": False, "option": False, "contract": False, "linear": None, "inverse": None,
        "active": True, "numericId": 1, "uppercaseId": "BTCUSDT",
        "precision": {"amount": 1e-8, "price": 1e-2, "cost": 1e-2},
        "limits": {"amount": {"min": None}, "cost": {"min": None}, "price": {"min": None}},
        "info": {"orderTypes": ["MARKET"], "types": ["spot"], "quoteIncrement": "0.01"},
    }  # fmt: skip


def sent(exchange: str, side: Side, order_id: str = "", **amount: Decimal) -> Any:
    """The parameters of the request that an order at an exchange is."""
    caller = Caller(exchange)
    traits = OrderTraits.of(caller.instance)
    ours = order_id or traits.rules.make_id(uuid.UUID(int=2**127 + 12345678901234567890))
    request = OrderRequest(BTC, side, amount.get("base"), amount.get("quote"), ours)
    with pytest.raises(Captured) as captured:
        asyncio.run(Unified(cast("Any", caller)).place(request))
    return captured.value.parameters


def texts(value: Any) -> list[str]:
    """Every text and number in a structure."""
    if isinstance(value, dict):
        return texts(list(cast("dict[str, Any]", value).values()))
    if not isinstance(value, list):
        return [str(value)]
    return [text for each in cast("Iterable[Any]", value) for text in texts(each)]


ORDERING: Final = tuple(
    name
    for name in UNIFIED
    if name not in ASKS_FIRST
    and not any(each.forbids for each in OrderTraits.of(getattr(ccxt, name)()).shortcomings())
)


@pytest.mark.parametrize("exchange", ORDERING)
def test_an_order_carries_an_id_of_ours_where_the_exchange_knows_ids(exchange: str) -> None:
    form = FORMS.get(exchange, ANY_FORM)
    made = form.make(uuid.UUID(int=2**127 + 12345678901234567890))
    found = texts(sent(exchange, Side.SELL, base=Decimal("0.01")))
    carried = [text for text in found if form.is_ours(text, made)]
    assert bool(carried) == (exchange not in NO_IDS), found


@pytest.mark.parametrize("exchange", ORDERING)
def test_a_purchase_goes_by_what_the_rules_of_the_exchange_take(exchange: str) -> None:
    traits = OrderTraits.of(Caller(exchange).instance)
    if traits.rules.buys_nothing:
        return
    if exchange == "phemex":  # it counts in a scale that only its own list of markets has
        assert sent(exchange, Side.BUY, base=Decimal("0.01"))["qtyType"] == "ByBase"
    elif exchange not in BUYS_BY_COST:
        assert "0.01" in texts(sent(exchange, Side.BUY, base=Decimal("0.01")))
    else:
        with pytest.raises((ccxt.InvalidOrder, ccxt.ArgumentsRequired), match="cost"):
            asyncio.run(Caller(exchange).call("create_order", "BTC/USDT", "market", "buy", "0.01"))
    if not traits.rules.buys_by_base:
        assert any(
            text in ("50", "50.0", "50.00") for text in texts(sent(exchange, Side.BUY, quote=Decimal(50)))
        )


@pytest.mark.parametrize("exchange", UNIFIED)
def test_an_id_that_is_made_is_one_that_the_exchange_takes(exchange: str) -> None:
    rules = OrderTraits.of(getattr(ccxt, exchange)()).rules
    for random in (uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.uuid4()):
        assert not rules.client_id_mistake(rules.make_id(random))


@pytest.mark.parametrize(
    ("exchange", "good", "bad"),
    [
        (
            "gate",
            ["a" * 28, "t-" + "a" * 26, "t" * 26, "mine_0.1-a"],
            ["a" * 29, "t-" + "a" * 27, "t" * 27, "a b"],
        ),
        ("binance", ["x-1.a:B/c_d", "a" * 36], ["a" * 37, "ä"]),
        ("bitvavo", ["2be7d0df-d8dc-7b93-a550-8876f3b393e9"], ["2be7d0dfd8dc7b93a5508876f3b393e9", "mine"]),
        ("bitfinex", ["1234567890123"], ["mine", "0", "12345678901234", "-1"]),
        ("blockchaincom", ["a" * 20], ["a" * 21]),
        ("hitbtc", ["mine0001"], ["mine001", "a" * 33]),
        ("xt", ["a_b1"], ["abc", "a-bc"]),
        ("ascendex-like", ["a" * 32], ["a" * 33, "a-b"]),
    ],
)
def test_the_form_of_an_id_is_that_of_the_exchange(exchange: str, good: list[str], bad: list[str]) -> None:
    rules = OrderTraits(exchange, {}, {}).rules
    assert [text for text in good if rules.client_id_mistake(text)] == []
    assert [text for text in bad if not rules.client_id_mistake(text)] == []


@pytest.mark.parametrize(
    ("ours", "stored"),
    [("mine0001", "t-mine0001"), ("t1", "t-t1"), ("t-1", "t-1"), ("a" * 28, "t-" + "a" * 28)],
)
def test_gate_puts_its_prefix_before_each_id_and_it_is_ours_all_the_same(ours: str, stored: str) -> None:
    assert stored in texts(sent("gate", Side.SELL, ours, base=Decimal("0.01")))
    assert FORMS["gate"].is_ours(stored, ours)
    assert not FORMS["gate"].is_ours(stored + "0", ours)


def test_an_amount_that_an_exchange_does_not_take_is_refused_before_anything_is_sent() -> None:
    def order(exchange: str, side: str, **amount: Decimal) -> OrderRequest:
        rules = OrderTraits.of(getattr(ccxt, exchange)()).rules
        ours = rules.make_id(uuid.uuid4())
        return requested(BTC, side, amount.get("base"), amount.get("quote"), ours, rules=rules)

    for exchange in sorted(BUYS_BY_COST):
        with pytest.raises(InvalidOrder, match="buys by what it costs; give quote_amount, in USDT"):
            order(exchange, "buy", base=Decimal(1))
        assert order(exchange, "buy", quote=Decimal(50)).quote_amount == 50
    with pytest.raises(InvalidOrder, match="bitrue buys by base amount"):
        order("bitrue", "buy", quote=Decimal(50))
    with pytest.raises(InvalidOrder, match="coincheck takes no market order to buy: ccxt sends it without"):
        order("coincheck", "buy", base=Decimal(1))
    with pytest.raises(InvalidOrder, match="gate sells by base amount"):
        order("gate", "sell", quote=Decimal(50))


def test_what_cannot_be_done_at_an_exchange_is_said_and_why() -> None:
    said = {name: OrderTraits.of(getattr(ccxt, name)()).shortcomings() for name in UNIFIED}
    forbidden = {name for name, found in said.items() if any(each.forbids for each in found)}
    assert {"coinone", "coinspot", "gemini", "p2b", "zaif", "hyperliquid", "bitvavo", "cex"} <= forbidden
    assert not forbidden & {"gate", "binance", "bybit", "kucoin", "toobit", "woo", "cryptomus", "bitstamp"}
    assert "operatorId" in said["bitvavo"][0].text
    assert not OrderTraits("bitvavo", ccxt.bitvavo().has, {"operatorId": 7}).shortcomings()[0].forbids
    assert said["binance"] == ()
    assert ["buys by quote_amount alone" in each.text for each in said["gate"]] == [True]
    assert "every state" in said["btse"][0].text
    assert "has no id of ours" in said["bitbank"][0].text
    unlisted = {
        name for name in set(UNIFIED) - forbidden if any("forget_order" in each.text for each in said[name])
    }
    assert {"bit2c", "bitbank", "bitso", "btse", "indodax", "deribit"} <= unlisted
    assert not unlisted & ({*ENDED_IN_CLOSED, *BY_OWN_ID} | {"binance", "bybit"})


def test_the_tables_name_exchanges_that_ccxt_has() -> None:
    assert not {*FORMS, *NO_IDS, *BY_OWN_ID, *ENDED_IN_CLOSED, *BUYS_BY_COST, *COST_AS_PARAMETER} - set(
        ccxt.exchanges
    )
    for name in ENDED_IN_CLOSED:
        assert OrderTraits.of(getattr(ccxt, name)()).lists.whole, name


def by_own_id(exchange: str, answer: object) -> tuple[FoundOrder | None, list[Any]]:
    """What is found where ccxt's `fetch_order` answers so, and what was asked."""
    asked: list[Any] = []

    class Answering(Caller):
        async def call(self, method: str, *arguments: Any) -> Any:
            asked.append((method, *arguments))
            if isinstance(answer, BaseException):
                raise answer
            return answer

        def failure(self, error: BaseException) -> Failure:
            return Failure.of(
                error, status=200, body='{"reason": "Order not found."}', exact_code="Order not"
            )

    return asyncio.run(Unified(cast("Any", Answering(exchange))).find(BTC, "mine0001", None)), asked


ASKED: Final[dict[str, tuple[Any, ...]]] = {
    "bitstamp": ("fetch_order", "", "BTC/USDT", {"clientOrderId": "mine0001"}),
    "poloniex": ("fetch_order", "cid:mine0001", "BTC/USDT", {}),
}


@pytest.mark.parametrize("exchange", ASKED)
def test_an_order_is_asked_for_by_our_id_where_no_list_has_all(exchange: str) -> None:
    row = {
        "id": "7",
        "status": "closed",
        "side": "sell",
        "amount": "0.5",
        "filled": "0.5",
        "clientOrderId": None,
    }
    found, questions = by_own_id(exchange, row)
    assert found is not None
    assert (found.order_id, questions) == ("7", [ASKED[exchange]])
    assert by_own_id(exchange, ccxt.OrderNotFound("no"))[0] is None
    with pytest.raises(ccxt.RequestTimeout):
        by_own_id(exchange, ccxt.RequestTimeout("late"))
    with pytest.raises(UnprovenAnswer, match="another order than mine0001"):
        by_own_id(exchange, {**row, "clientOrderId": "other"})
