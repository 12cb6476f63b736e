"""A spot order at OKX says the mode that the account has, and never one in which it might borrow."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.errors import OrderNotSent, OrderRefused
from brokerwatch.messages import OrderState
from tests.support.plain_exchange import PlainExchange, Route, plain_exchange

INSTRUMENT: Final = {
    "instType": "SPOT", "instId": "BTC-USD", "baseCcy": "BTC", "quoteCcy": "USD", "lotSz": "0.00000001",
    "minSz": "0.00001", "tickSz": "0.1", "state": "live", "lever": "10", "listTime": "1",
}  # fmt: skip
WANTS: Final = {"1": "cash", "2": "cash", "3": "cross", "4": "cross"}


def data(*rows: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 200, {"code": "0", "msg": "", "data": list(rows)}


class Account:
    """An OKX account in one mode, whose orders have to say it."""

    def __init__(self, level: str, **values: object) -> None:
        self.level = level
        self.values = values

    def config(self, _body: str) -> tuple[int, dict[str, Any]]:
        return data({"acctLv": self.level, "uid": "1", "perm": "read_only,trade", "ip": "", **self.values})

    def order(self, body: str) -> tuple[int, dict[str, Any]]:
        asked = json.loads(body)
        if asked["tdMode"] != WANTS.get(self.level, "cash"):
            row = {"clOrdId": "", "ordId": "", "sCode": "51000", "sMsg": "Parameter tdMode  error"}
            return 200, {"code": "1", "data": [row], "msg": "All operations failed"}
        return data({"clOrdId": asked["clOrdId"], "ordId": "312269865356374016", "sCode": "0", "sMsg": ""})

    @property
    def routes(self) -> dict[str, Route]:
        coins = [
            {"ccy": code, "eq": held, "availEq": held, "availBal": held, "frozenBal": "0", "cashBal": held}
            for code, held in (("USD", "1000"), ("BTC", "0.5"))
        ]
        return {
            "POST /trade/order": self.order,
            "GET /trade/order": (200, {"code": "51603", "data": [], "msg": "Order does not exist"}),
            "/account/config": self.config,
            "/account/balance": data({"details": coins, "totalEq": "31000"}),
            "instType=SPOT": data(INSTRUMENT),
            "/api/v5/": data(),
        }


def trade_modes(okx: PlainExchange) -> list[str]:
    return [json.loads(body)["tdMode"] for body in okx.sent("POST /trade/order")]


@pytest.mark.parametrize("level", ["1", "2", "3", "4"])
def test_an_entry_and_an_exit_say_the_mode_of_the_account(level: str) -> None:
    with plain_exchange("okx", Account(level).routes) as (okx, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        bought = broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
        sold = broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert (bought.state, sold.state) == (OrderState.ACCEPTED, OrderState.ACCEPTED)
        assert trade_modes(okx) == [WANTS[level]] * 2


@pytest.mark.parametrize("answer", [(500, "down"), (200, "<html>"), data(), data({}, {})])
def test_where_the_mode_cannot_be_asked_an_exit_goes_out_and_borrows_nothing(answer: Any) -> None:
    with plain_exchange("okx", {**Account("1").routes, "/account/config": answer}) as (okx, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        sold = broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert sold.state is OrderState.ACCEPTED
        assert trade_modes(okx) == ["cash"]
        assert broker.get_error_count() == 0


def test_an_account_that_was_switched_is_asked_again_and_the_order_is_placed_once() -> None:
    account = Account("1")
    with plain_exchange("okx", account.routes) as (okx, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()

        def sell() -> OrderState:
            return broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False).state

        assert sell() is OrderState.ACCEPTED
        account.level = "3"
        assert sell() is OrderState.ACCEPTED
        account.level = "2"  # where `cross` would be an order on margin
        assert sell() is OrderState.ACCEPTED
        assert trade_modes(okx) == ["cash", "cash", "cross", "cash"]
        ids = [json.loads(body)["clOrdId"] for body in okx.sent("POST /trade/order")]
        assert ids[1] == ids[2]


def test_a_refusal_of_the_mode_that_asking_again_does_not_explain_stands() -> None:
    account = Account("3")
    routes = {**account.routes, "/account/config": data({"acctLv": "1"})}
    with plain_exchange("okx", routes) as (okx, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        with pytest.raises(OrderRefused, match="tdMode"):
            broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert trade_modes(okx) == ["cash"]


def test_a_mode_that_is_not_supported_is_said_before_money_moves() -> None:
    with plain_exchange("okx", Account("7").routes) as (okx, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        with pytest.raises(OrderNotSent, match="a mode that is not known here, acctLv '7'"):
            broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
        with pytest.raises(OrderNotSent, match="a mode that is not known here, acctLv '7'"):
            broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert trade_modes(okx) == []


def test_an_account_that_may_borrow_is_said_to(caplog: pytest.LogCaptureFixture) -> None:
    with plain_exchange("okx", Account("3", autoLoan=True).routes) as (_, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        for _ in range(2):
            broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert caplog.text.count("b: the account is in multi-currency margin mode with autoLoan, so an") == 1


@pytest.mark.parametrize(
    ("chosen", "sent"), [(None, None), ("USDC", "USDC"), ({"USD": "USDC"}, "USDC"), ({"EUR": "USDC"}, None)]
)
def test_the_currency_that_an_order_is_paid_in_can_be_set(chosen: object, sent: str | None) -> None:
    options = {} if chosen is None else {"tradeQuoteCcy": chosen}
    with plain_exchange("okx", Account("1").routes, options) as (okx, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
        [body] = okx.sent("POST /trade/order")
        assert json.loads(body).get("tradeQuoteCcy") == sent
