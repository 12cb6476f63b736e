"""What the answer to an order proves where only ccxt knows the exchange: its exact codes and nothing else."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final

import ccxt.async_support as ccxt
import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import OrderNotSent, OrderRefused, OrderStateUnknown
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.refusals import NO_REFUSALS, NotSent, Refused, Unknown, judged
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.strict_ccxt import Rehearsed, strict_class
from brokerwatch.messages import OrderState
from tests.support.plain_exchange import plain_exchange

HTML: Final = "<html><head><title>403 Forbidden</title></head><body>cloudflare</body></html>"


def answered(exchange: str, status: int, body: object, *, wrote: int = 0, method: str = "POST") -> Failure:
    """What is known of an order that an exchange answered so; ccxt's own code reads the answer."""
    instance: Any = strict_class(getattr(ccxt, exchange))()
    instance.wrote = wrote
    spec = BrokerSpec("b", exchange=exchange, credentials={"api_key": "k", "secret": "s"})
    connection = Connection(spec, "", lambda: instance, ManualClock())
    assert connection.instance is instance
    text = body if isinstance(body, str) else json.dumps(body)
    url = "https://api.example/api/v3/order"
    try:
        response = instance.parse_json(text)
        instance.handle_errors(status, "", url, method, {}, text, response, {}, None)
        instance.handle_http_status_code(status, "", url, method, text)
    except ccxt.BaseError as error:
        return connection.failure(error)
    raise AssertionError(f"ccxt took it for success: {text}")


def binance(code: int, message: str = "no") -> dict[str, object]:
    return {"code": code, "msg": message}


@pytest.mark.parametrize(
    ("exchange", "status", "body"),
    [
        ("binance", 400, binance(-2010, "Account has insufficient balance for requested action.")),
        ("binance", 400, binance(-1013, "Filter failure: NOTIONAL")),
        ("binance", 400, binance(-1121, "Invalid symbol.")),
        ("binance", 401, binance(-2015, "Invalid API-key, IP, or permissions for action.")),
        ("bybit", 200, {"retCode": 170131, "retMsg": "Insufficient balance.", "result": {}}),
        ("gate", 400, {"label": "BALANCE_NOT_ENOUGH", "message": "Not enough balance"}),
        ("gate", 400, {"label": "INVALID_PARAM_VALUE", "message": "amount too small"}),
        ("kucoin", 200, {"code": "200004", "msg": "Balance insufficient!"}),
        ("kucoin", 429, {"code": "429000", "msg": "Too Many Requests"}),
        ("digifinex", 200, {"code": 20011, "msg": "no"}),
        ("mexc", 400, {"code": 30004, "msg": "Insufficient position"}),
        ("bitget", 400, {"code": "43012", "msg": "Insufficient balance", "requestTime": 1, "data": None}),
        (
            "htx",
            200,
            {"status": "error", "err-code": "account-frozen-balance-insufficient-error", "data": None},
        ),
        ("bitvavo", 400, {"errorCode": 216, "error": "You do not have sufficient balance."}),
    ],
)
def test_what_ccxt_maps_exactly_is_a_refusal_and_nothing_else_is(
    exchange: str, status: int, body: dict[str, object]
) -> None:
    assert judged(answered(exchange, status, body), NO_REFUSALS, sent_nothing=False) == Refused()
    unsure = judged(answered(exchange, 500, body), NO_REFUSALS, sent_nothing=False)
    assert unsure == Unknown(), "under a status of the exchange's own trouble"
    # A call that had an order before it taken may have placed that one.
    after = answered(exchange, status, body, wrote=1)
    assert judged(after, NO_REFUSALS, sent_nothing=False) == Unknown()


@pytest.mark.parametrize(
    ("exchange", "status", "body"),
    [
        ("binance", 400, binance(-1007, "Timeout waiting for response from backend server.")),
        ("binance", 400, binance(-1006, "An unexpected response was received from the message bus.")),
        ("binance", 400, binance(-1001, "Internal error; unable to process your request. Please try again.")),
        ("binance", 400, binance(-2010, "Duplicate order sent.")),
        ("binance", 400, binance(-99999, "a code that is in no table")),
        ("binance", 409, binance(-2010, "Account has insufficient balance for requested action.")),
        ("binance", 408, binance(-1013)),
        ("binance", 403, HTML),
        ("binance", 403, {"code": 403, "message": "Forbidden"}),
        ("binance", 200, HTML),
        ("bybit", 200, {"retCode": 170007, "retMsg": "Timeout waiting for response from backend server."}),
        ("bybit", 200, {"retCode": 170141, "retMsg": "Duplicate clientOrderId"}),
        ("bybit", 200, {"retCode": 10016, "retMsg": "Internal system error."}),
        ("gate", 500, {"label": "INTERNAL", "message": "Internal server error"}),
        ("gate", 400, {"label": "SERVER_ERROR", "message": "Internal server error"}),
        ("mexc", 400, {"code": 700003, "msg": "a code that is in no table: Insufficient position"}),
        ("bitget", 400, {"code": "40015", "msg": "System is abnormal, please try again later"}),
    ],
)
def test_what_is_no_certain_refusal_stays_unknown(exchange: str, status: int, body: object) -> None:
    assert judged(answered(exchange, status, body), NO_REFUSALS, sent_nothing=False) == Unknown()


def test_a_time_out_proves_nothing_whatever_was_answered_before() -> None:
    failure = Failure(classes=("TimeoutError",), exact_code="-2010", status=400, body="{}")
    assert judged(failure, NO_REFUSALS, sent_nothing=False) == Unknown()
    assert judged(failure, NO_REFUSALS, sent_nothing=True) == NotSent(by_us=True)


def test_a_broad_match_of_ccxt_is_no_proof() -> None:
    broad = binance(-123456, "You are not authorized to execute this request.")
    failure = answered("binance", 400, {**broad, "msg": "has no operation privilege for this"})
    assert "PermissionDenied" in failure.classes, "the control: ccxt has a class for it"
    assert failure.exact_code == ""
    assert judged(failure, NO_REFUSALS, sent_nothing=False) == Unknown()


def test_what_an_answer_before_said_explains_no_later_failure() -> None:
    instance: Any = strict_class(ccxt.binance)()
    instance.exact_code, instance.rehearses = "-2010", True
    with pytest.raises(Rehearsed):
        instance.fetch("https://api.example/api/v3/order", "POST")
    assert instance.exact_code == ""


GATE: Final[dict[str, Any]] = {
    "/currency_pairs": (200, [{
        "id": "BTC_USDT", "base": "BTC", "quote": "USDT", "fee": "0.2", "min_base_amount": "0.00001",
        "min_quote_amount": "3", "amount_precision": 6, "precision": 1, "trade_status": "tradable",
        "sell_start": 0, "buy_start": 0,
    }]),
    "/spot/accounts": (200, [{"currency": "USDT", "available": "1000", "locked": "0"},
                             {"currency": "BTC", "available": "1", "locked": "0"}]),
}  # fmt: skip
"""A Gate account with one market. (developers.gate.com)"""
SPOT: Final = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"}
BINANCE: Final[dict[str, Any]] = {
    "exchangeInfo": (200, {"symbols": [{
        "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT",
        "baseAssetPrecision": 8, "quotePrecision": 8, "orderTypes": ["MARKET"],
        "quoteOrderQtyMarketAllowed": True, "isSpotTradingAllowed": True, "permissions": ["SPOT"],
        "filters": [
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9", "stepSize": "0.00001"},
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
        ],
    }]}),
    "/allOrders": (200, []),
    "/account": (200, {"balances": [{"asset": "USDT", "free": "100", "locked": "0"}]}),
}  # fmt: skip
"""A Binance account with one market. (developers.binance.com)"""


def gate_order(body: str) -> tuple[int, dict[str, object]]:
    """What Gate answers to an order, and later lists of it: with a rest that is less than a step."""
    asked = json.loads(body)
    return 201, {
        "id": "12332324", "text": asked["text"], "status": "closed", "currency_pair": "BTC_USDT",
        "type": "market", "account": "spot", "side": asked["side"], "amount": asked["amount"], "price": "0",
        "left": "0.0034", "filled_total": "49.9966", "avg_deal_price": "60123.4", "create_time": "1",
        "create_time_ms": "1700000000000", "update_time": "1",
    }  # fmt: skip


@pytest.mark.parametrize("own", [None, "mine0001", "t-mine0002", "t" * 26, "a" * 28])
def test_an_order_at_gate_goes_out_with_an_id_in_its_form(own: str | None) -> None:
    with plain_exchange("gate", {**GATE, "POST /spot/orders": gate_order}, SPOT) as (gate, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        order = broker.place_market_order(
            "BTC/USDT", "buy", quote_amount=Decimal(50), client_order_id=own, validate_only=False
        )
        assert order.state is OrderState.ACCEPTED
        [sent] = [json.loads(body) for body in gate.sent("POST /spot/orders")]
        assert re.fullmatch(r"t-[0-9a-zA-Z_.-]{1,28}", sent["text"])
        assert (sent["amount"], sent["side"]) == ("50", "buy")
        assert re.fullmatch(r"[0-9a-f]{28}", broker.new_order_id())


def test_a_filled_purchase_at_gate_is_found_again_and_is_not_placed_twice() -> None:
    _, listed = gate_order(json.dumps({"text": "t-mine0001", "side": "buy", "amount": "50"}))
    routes = {**GATE, "GET /spot/orders": (200, [listed]), "POST /spot/orders": (500, "lost")}
    with plain_exchange("gate", routes, SPOT) as (gate, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        order = broker.place_market_order(
            "BTC/USDT", "buy", quote_amount=Decimal(50), client_order_id="mine0001", validate_only=False
        )
        assert (order.order_id, order.state) == ("12332324", OrderState.ACCEPTED)
        assert gate.sent("POST /spot/orders") == []
        found = broker.find_order("BTC/USDT", "mine0001")
        assert found is not None
        assert str(found.filled_base).startswith("0.0008")
        assert broker.find_order("BTC/USDT", "mine0002") is None


def test_an_ordinary_refusal_is_said_and_nothing_waits_for_it() -> None:
    no = (400, binance(-2010, "Account has insufficient balance for requested action."))
    options = {**SPOT, "fetchCurrencies": False, "fetchMargins": False}
    with plain_exchange("binance", {**BINANCE, "POST /order": no}, options) as (exchange, cluster):
        broker = cluster.broker("b")
        broker.get_account_balance()
        for _ in range(2):
            with pytest.raises(OrderRefused, match="insufficient balance"):
                broker.place_market_order("BTC/USDT", "buy", quote_amount=Decimal(50), validate_only=False)
        assert len(exchange.sent("POST /order")) == 2
        exchange.routes["POST /order"] = (400, binance(-1007, "Timeout waiting for response."))
        with pytest.raises(OrderStateUnknown):
            broker.place_market_order("BTC/USDT", "buy", quote_amount=Decimal(50), validate_only=False)


def test_what_an_exchange_cannot_do_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with plain_exchange("gate", GATE, SPOT):
        assert "b: gate: it buys by quote_amount alone" in caplog.text
    with plain_exchange("gate", GATE, SPOT, trading=False):
        assert caplog.text.count("quote_amount alone") == 1
    with plain_exchange("gemini", {}) as (gemini, cluster):
        assert "b: no market order can be placed at gemini: it takes limit orders alone" in caplog.text
        asked = len(gemini.requests)
        with pytest.raises(OrderNotSent, match="it takes limit orders alone; nothing was sent"):
            cluster.broker("b").close_position("BTC/USD", base_amount=Decimal(1), validate_only=False)
        assert not [request for request, _ in gemini.requests[asked:] if "order" in request]
