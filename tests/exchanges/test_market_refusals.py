"""The refusal of one market, told from that of the whole account, in the words of each exchange."""

from __future__ import annotations

import json
from typing import Any

import ccxt
import pytest

from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.market_refusals import MODE_S, RULE_S
from brokerwatch.exchanges.registry import order_fault_of


def closed_s(
    family: str, answer: Any, status: int | None = 200, raised: type[Exception] = ccxt.ExchangeError
) -> float:
    body = answer if isinstance(answer, str) else json.dumps(answer)
    failure = Failure.of(raised(f"x {body}"), status=status, body=body, family=family)
    return order_fault_of(failure).closes_market_s


KRAKEN: dict[str, float] = {
    "EAccount:Invalid permissions:STBL trading restricted for NL.": RULE_S,
    "EAccount:Invalid permissions:ETH trading restricted for NL.": RULE_S,
    "EAccount:Invalid permissions:SOL/USD trading restricted for US:NY.": RULE_S,
    "EAccount:Invalid permissions:AAPLx trading restricted for US.": RULE_S,
    "EAccount:Invalid permissions:USDT.M is not available in your region": RULE_S,
    "EAccount:Invalid permissions:W trading restricted for NL.": RULE_S,
    "EAccount:Invalid permissions:T/USD trading restricted for US:NY.": RULE_S,
    "EService:Market in cancel_only mode": MODE_S,
    "EService:Market in reduce_only mode": MODE_S,
    "EService:Market in auction mode": MODE_S,
    "EService:Market in post_only mode": MODE_S,
    "EService:Market in limit_only mode": MODE_S,
    "EOrder:Market suspended": MODE_S,
    "EQuery:Unknown asset pair": RULE_S,
    "EOrder:Asset pair restricted": RULE_S,
    # The account, the key, or this one order.
    "EAccount:Invalid permissions": 0.0,
    "EAccount:Invalid permissions:Account trading restricted": 0.0,
    "EAccount:Invalid permissions:All trading restricted for KP.": 0.0,
    "EGeneral:Permission denied": 0.0,
    "EAPI:Invalid key": 0.0,
    "EAPI:Invalid signature": 0.0,
    "EAPI:Invalid nonce": 0.0,
    "EAPI:Rate limit exceeded": 0.0,
    "EGeneral:Temporary lockout": 0.0,
    "EService:Unavailable": 0.0,
    "EService:Busy": 0.0,
    "ETrade:Locked": 0.0,
    "EOrder:Insufficient funds": 0.0,
    "EOrder:Order minimum not met": 0.0,
    "EOrder:Trading agreement required": 0.0,
    "EGeneral:Invalid arguments:volume": 0.0,
}


@pytest.mark.parametrize(("said", "seconds"), KRAKEN.items(), ids=KRAKEN)
def test_krakens_words(said: str, seconds: float) -> None:
    assert closed_s("kraken", {"error": [said]}) == seconds


@pytest.mark.parametrize("family", ["kraken", "coinbase", "okx"])
def test_the_class_says_that_a_market_is_closed_where_the_answer_is_not_known(family: str) -> None:
    closed = Failure.of(ccxt.MarketClosed("the market is closed"), family=family)
    assert order_fault_of(closed).closes_market_s == MODE_S
    assert closed_s(family, "", 503, ccxt.MarketClosed) == 0.0


def test_words_elsewhere_in_an_answer_close_nothing() -> None:
    said = "EAccount:Invalid permissions:ETH trading restricted for NL."
    assert closed_s("kraken", {"upstream": [said], "error": []}) == 0.0
    assert closed_s("kraken", f"<html>{said}</html>", 403) == 0.0
    assert closed_s("kraken", {"error": [said]}, 502) == 0.0


COINBASE: dict[str, float] = {
    "INELIGIBLE_PAIR": RULE_S,
    "INVALID_PRODUCT_ID": RULE_S,
    "GEOFENCING_RESTRICTION": RULE_S,
    "UNTRADABLE_PRODUCT": RULE_S,
    "INVALID_UNSUPPORTED_INSTRUMENT": RULE_S,
    "ORDER_ENTRY_DISABLED": MODE_S,
    "TRADING_DISABLED": MODE_S,
    "PRODUCT_TRADING_HALTED": MODE_S,
    "NOT_ALLOWED_BY_MARKET_STATE": MODE_S,
    "CLOSE_ONLY_FAILURE": MODE_S,
    "INVALID_FCM_TRADING_SESSION": MODE_S,
    "MISSING_MARKET_TRADE_DATA": MODE_S,
    "MARKET_ORDERS_PROHIBITED_DURING_NON_CORE_SESSION": MODE_S,
    "INSUFFICIENT_FUND": 0.0,
    "INVALID_SIZE_PRECISION": 0.0,
    "UNTRADABLE_FCM_ACCOUNT_STATUS": 0.0,
    "IN_LIQUIDATION": 0.0,
    "INVALID_REQUEST": 0.0,
    "RISK_PROXY_FAILURE": 0.0,
}


@pytest.mark.parametrize(("reason", "seconds"), COINBASE.items(), ids=COINBASE)
def test_coinbases_reasons_of_orders_and_of_previews(reason: str, seconds: float) -> None:
    placed = {"success": False, "error_response": {"error": reason, "message": "", "error_details": ""}}
    newer = {
        "success": False,
        "error_response": {"error": "UNKNOWN_FAILURE_REASON", "new_order_failure_reason": reason},
    }
    preview = {"success": False, "error_response": {"preview_failure_reason": f"PREVIEW_{reason}"}}
    checked = {"order_total": "0", "errs": [f"PREVIEW_{reason}"]}
    for answer in (placed, newer, preview, checked):
        assert closed_s("coinbase", answer) == seconds


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ("Orderbook is in limit only mode", MODE_S),
        ("BTC-USD: product is not available in your region", RULE_S),
        ("user is not allowed to trade this product", RULE_S),
        ("Trading for BTC-USDT is not available in your region", RULE_S),
        ("user is not allowed to trade ETH-USD", RULE_S),
        ("SOL-USD is halted", MODE_S),
        ("account is not available to trade in USD", 0.0),
        ("Missing required scopes for this product: not allowed", 0.0),
        ("account is not available", 0.0),
        ("the api key is not authorized for this product", 0.0),
    ],
)
def test_coinbases_sentences(details: str, seconds: float) -> None:
    answer = {"error": "PERMISSION_DENIED", "error_details": details, "message": details}
    assert closed_s("coinbase", answer, 403) == seconds


@pytest.mark.parametrize(
    ("codes", "seconds"),
    [
        ((51001, 51012, 51014, 51015, 51026, 51087, 51155, 51166, 51734, 51773, 54000, 54072), RULE_S),
        ((50018, 50021, 51021, 51022, 51027, 51028, 51029, 51030, 51110, 51124, 51508, 54011, 54073), MODE_S),
        (
            # The key, the account, the exchange, or this one order.
            (
                *(50007, 50011, 50013, 50026, 50027, 50028, 50030, 50102, 50110, 50111, 50113, 50119, 50120),
                *(51004, 51008, 51009, 51010, 51020, 51024, 51131, 51603),
            ),
            0.0,
        ),
    ],
)
def test_okxs_codes(codes: tuple[int, ...], seconds: float) -> None:
    for code in codes:
        row = {"code": "1", "data": [{"ordId": "", "sCode": str(code), "sMsg": "x"}], "msg": ""}
        assert closed_s("okx", row) == seconds, code
        assert closed_s("okx", {"code": str(code), "data": [], "msg": "x"}) == seconds, code


OTHERS: list[tuple[type[Exception], Any, int, float]] = [
    (ccxt.RestrictedLocation, {"retCode": 170209, "retMsg": "only available to Brunei"}, 200, RULE_S),
    (ccxt.RestrictedLocation, {"code": "400500", "msg": "not supported for this token"}, 200, RULE_S),
    (ccxt.BadSymbol, {"code": -1121, "msg": "Invalid symbol."}, 400, RULE_S),
    (ccxt.MarketClosed, {"code": -1013, "msg": "Market is closed."}, 400, MODE_S),
    (ccxt.ContractUnavailable, {"code": 1, "msg": "x"}, 200, MODE_S),
    (
        ccxt.PermissionDenied,
        {"code": -2010, "msg": "This symbol is not permitted for this account."},
        400,
        RULE_S,
    ),
    (
        ccxt.PermissionDenied,
        {"code": -2010, "msg": "This symbol is restricted for this account."},
        400,
        RULE_S,
    ),
    (
        ccxt.PermissionDenied,
        {"code": -10047, "msg": "This coin is currently not supported in your location."},
        400,
        RULE_S,
    ),
    (ccxt.PermissionDenied, {"msg": "No permission for this trading pair."}, 200, RULE_S),
    (ccxt.PermissionDenied, {"msg": "Not allowed to trade this trading pair"}, 200, RULE_S),
    (ccxt.PermissionDenied, {"msg": "User cannot trade on this pair"}, 200, RULE_S),
    (
        ccxt.PermissionDenied,
        {"msg": "This trading pair requires advanced KYC certification before trading"},
        200,
        RULE_S,
    ),
    (ccxt.PermissionDenied, {"error": "ErrMarketNotAllowed", "msg": "market not allowed"}, 403, RULE_S),
    (ccxt.OnMaintenance, {"msg": "The current trading pair is under maintenance"}, 200, MODE_S),
    (ccxt.OnMaintenance, {"msg": "The current trading pair is opening soon"}, 200, MODE_S),
    (ccxt.ExchangeError, {"msg": "SYMBOL_NOT_IN_TRADING_STATUS: symbol not trading"}, 200, MODE_S),
    (ccxt.ExchangeError, {"msg": "trading pair suspended"}, 200, MODE_S),
    (ccxt.InvalidOrder, {"msg": "Instrument is in post-only mode"}, 200, MODE_S),
    (ccxt.OnMaintenance, {"msg": "The contract is being temporarily maintained"}, 200, MODE_S),
    (ccxt.ExchangeError, {"error": "marketSuspended"}, 200, MODE_S),
    (ccxt.ExchangeError, {"err-code": "base-symbol-trade-disabled"}, 200, MODE_S),
    (ccxt.ExchangeError, {"error": "ErrMarketNotAllowed"}, 400, RULE_S),
    (ccxt.ExchangeError, {"msg": "Invalid trading pair"}, 400, RULE_S),
    (ccxt.ExchangeError, {"msg": "symbol BTCUSDT does not exist"}, 400, RULE_S),
    (ccxt.BadRequest, {"msg": "Market orders are not supported for this symbol."}, 400, MODE_S),
    (ccxt.ExchangeError, {"label": "SYMBOL_DISABLED", "message": "x"}, 400, MODE_S),
    (ccxt.ExchangeError, {"code": "MARKET_SUSPENDED"}, 400, MODE_S),
    (ccxt.ExchangeError, {"code": "PAIR_NOT_FOUND", "msg": "DOGE_USDT could not be found"}, 404, RULE_S),
    (
        ccxt.ExchangeError,
        {"err-code": "base-symbol-trade-disabled", "err-msg": "trading is disabled for the symbol"},
        200,
        MODE_S,
    ),
    (ccxt.PermissionDenied, {"msg": "Trading has been suspended on this pair"}, 400, MODE_S),
    (ccxt.PermissionDenied, {"msg": "XMR/EUR is not available in your jurisdiction"}, 403, RULE_S),
    (ccxt.PermissionDenied, {"msg": "Trading is disabled for this account"}, 403, 0),
    # This one order, or a token that signs.
    (ccxt.InvalidOrder, {"msg": "Invalid quantity for this market"}, 400, 0),
    (ccxt.InvalidOrder, {"msg": "Price is not allowed for this symbol"}, 400, 0),
    (ccxt.ExchangeError, {"msg": "Balance of this asset is insufficient: not available"}, 400, 0),
    (ccxt.InvalidOrder, {"msg": "Precision is over the maximum defined for this asset: restricted"}, 400, 0),
    (ccxt.ExchangeError, {"msg": "access token is disabled"}, 400, 0),
    (ccxt.AuthenticationError, {"msg": "token expired"}, 401, 0),
    (ccxt.ExchangeError, {"msg": "Invalid token"}, 400, 0),
    # More than one market, or no market.
    (
        ccxt.PermissionDenied,
        {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
        401,
        0,
    ),
    (
        ccxt.PermissionDenied,
        {"msg": "You are not authorized to execute this request: api key has no market permission"},
        400,
        0,
    ),
    (
        ccxt.PermissionDenied,
        {"msg": "Your account has been restricted for trades. Contact us."},
        200,
        0,
    ),
    (ccxt.AccountSuspended, {"msg": "account is suspended, no market is available"}, 200, 0),
    (ccxt.InsufficientFunds, {"msg": "Insufficient funds: asset not available"}, 400, 0),
    (ccxt.InvalidOrder, {"msg": "Filter failure: LOT_SIZE"}, 400, 0),
    (ccxt.RateLimitExceeded, {"msg": "market is closed for you: too many requests"}, 429, 0),
    (ccxt.InvalidNonce, {"msg": "Timestamp for this symbol is not allowed"}, 400, 0),
    (ccxt.ExchangeNotAvailable, {"msg": "market is closed"}, 503, 0),
    (ccxt.PermissionDenied, "<html>this market is not available in your country</html>", 403, 0),
    (
        ccxt.RestrictedLocation,
        {"code": 0, "msg": "Service unavailable from a restricted location according to 'b. Eligibility'"},
        451,
        0,
    ),
]


@pytest.mark.parametrize(
    ("raised", "answer", "status", "seconds"), OTHERS, ids=[str(each[1]) for each in OTHERS]
)
def test_ccxts_classes_and_the_sentences_of_other_exchanges(
    raised: type[Exception], answer: Any, status: int, seconds: float
) -> None:
    assert closed_s("", answer, status, raised) == seconds
