"""Coinbase Advanced Trade: each call carries a JWT that is bound to its method and path, for two minutes.

Whatever is wrong with the token, the answer is 401 and the bare word "Unauthorized", so a client cannot
tell a wrong key from a slow clock. Accounts come in pages, and a balance is whole only with every page.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from brokerwatch.simulator.account import Account, BalanceSpec, Row, without_missing
from brokerwatch.simulator.candles import CandleSpan
from brokerwatch.simulator.coinbase_orders import (
    BROKERAGE,
    MAKER_FEE,
    QUOTE_MINIMUM,
    TAKER_FEE,
    UNKNOWN_PRODUCT,
    CoinbaseOrders,
    error,
    product_in_path,
)
from brokerwatch.simulator.coinbase_rows import iso, product_id
from brokerwatch.simulator.coinbase_streams import CoinbaseConnection
from brokerwatch.simulator.exchange import Call, Json, PublicHandler
from brokerwatch.simulator.faults import Answer, Refused, html_answer, json_answer
from brokerwatch.simulator.markets import ASSETS, FIAT, Market
from brokerwatch.simulator.streams import Streams
from brokerwatch.simulator.tokens import (
    base64url_decoded,
    key_name,
    new_ed25519_credentials,
    new_es256_credentials,
    verify,
)

ACCOUNTS = BROKERAGE + "accounts"
MAX_PAGE = 250
DEFAULT_PAGE = 49
# https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/products/get-product-candles
MOST_CANDLES = 350
GRANULARITIES_S: Mapping[str, int] = {
    "ONE_MINUTE": 60,
    "FIVE_MINUTE": 300,
    "FIFTEEN_MINUTE": 900,
    "THIRTY_MINUTE": 1_800,
    "ONE_HOUR": 3_600,
    "TWO_HOUR": 7_200,
    "FOUR_HOUR": 14_400,
    "SIX_HOUR": 21_600,
    "ONE_DAY": 86_400,
}

UNAUTHORIZED = Answer(401, b"Unauthorized\n", "text/plain; charset=utf-8")


def _older_error(code: str, message: str, status: int, **headers: str) -> Answer:
    return json_answer({"errors": [{"id": code, "message": message}]}, status, **headers)


class SimulatedCoinbase(CoinbaseOrders):
    """Coinbase's Advanced Trade API, version 3, as far as a balance watcher that can trade needs it.

    `page_size` is the most accounts in one page, whatever limit the client asks for.
    """

    ccxt_id = "coinbase"
    default_balance: ClassVar[BalanceSpec] = {
        "USD": ("3100.25", "400.00"),
        "BTC": ("0.11500000", "0.01"),
        "ETH": ("2.5", "0"),
        "SOL": ("40", "0"),
        "USDC": ("250.000000", "0"),
    }
    refusals: ClassVar[Mapping[str, Answer]] = {
        "http_500_json": error("INTERNAL", "Internal server error", 500),
        "exchange_down": error("UNAVAILABLE", "Service unavailable", 503),
        "maintenance": _older_error("service_unavailable", "Coinbase is under maintenance", 503),
        "rate_limited": error("RESOURCE_EXHAUSTED", "Too many requests", 429),
        "locked_out": _older_error("rate_limit_exceeded", "Too many requests", 429, Retry_After="900"),
        "bad_key": UNAUTHORIZED,
        "bad_signature": UNAUTHORIZED,
        # The older API's words, which alone name the clock; a real expired token is a bare 401 as well.
        "bad_nonce": _older_error("authentication_error", "request timestamp expired", 401),
        "permission": error("PERMISSION_DENIED", "Missing required scopes", 403),
        "empty_result": json_answer({"has_next": False, "cursor": "", "size": 0}),
    }
    warning: ClassVar[Mapping[str, object]] = {
        "warnings": [{"id": "partial_data", "message": "Some balances may be delayed"}]
    }
    cutting = frozenset({"cut_json"})
    example_position: ClassVar[Json] = {
        "product_id": "BIT-26APR24-CDE",
        "expiration_time": "2024-04-26T15:00:00Z",
        "side": "LONG",
        "number_of_contracts": "2",
        "current_price": "71145",
        "avg_entry_price": "70980",
        "unrealized_pnl": "33",
        "daily_realized_pnl": "0",
    }

    def __init__(self) -> None:
        super().__init__()
        self.page_size = MAX_PAGE
        self.streams = Streams(self._lock, self._accounts.get, CoinbaseConnection)
        self.public_routes = {
            ("GET", "/v2/time"): self._time,
            ("GET", "/api/v3/brokerage/time"): self._time_v3,
            ("GET", "/v2/currencies"): lambda _call: {"data": _FIAT_CURRENCIES},
            ("GET", "/v2/currencies/crypto"): lambda _call: {"data": _CRYPTO_CURRENCIES},
            ("GET", "/v2/exchange-rates"): lambda _call: {"data": _EXCHANGE_RATES},
            **{("GET", BROKERAGE + "market/" + path): handler for path, handler in self._market_data.items()},
        }
        self.private_routes = {
            ("GET", ACCOUNTS): self._accounts_page,
            ("GET", BROKERAGE + "transaction_summary"): lambda _call, _account, _fault: _SUMMARY,
            ("GET", BROKERAGE + "key_permissions"): self._key_permissions,
            ("GET", BROKERAGE + "best_bid_ask"): self._best_bid_ask,
            ("GET", BROKERAGE + "cfm/positions"): self._positions,
            **{
                ("GET", BROKERAGE + path): partial(_as_private, handler)
                for path, handler in self._market_data.items()
            },
            **self.order_routes(),
        }

    def new_credentials(self) -> dict[str, str]:
        return new_es256_credentials()

    @staticmethod
    def new_ed25519_credentials() -> dict[str, str]:
        """Credentials of the newer form, for `add_account`."""
        return new_ed25519_credentials()

    def key_of(self, call: Call) -> str | None:
        token = _token_of(call)
        return None if token is None else key_name(token)

    def page_of(self, call: Call) -> int:
        # Whatever a cursor says, who sends one is beyond the first page; and pages are all alike here.
        try:
            return 1 + int(base64url_decoded(call.query["cursor"])) // self.page_size
        except KeyError:
            return 1
        except ValueError:
            return 2

    def stream_urls(self) -> dict[str, object]:
        return {"ws": self.url.replace("http", "ws", 1)}

    def verify(self, call: Call, account: Account | None) -> None:
        token = _token_of(call)
        if token is None or account is None:
            raise Refused(UNAUTHORIZED)
        signed = f"{call.method} {call.headers.get('Host', '')}{call.path}"
        try:
            verify(token, account.credentials, signed, self.now_s())
        except ValueError:
            raise Refused(UNAUTHORIZED) from None

    def unknown_method(self, call: Call) -> Answer:
        if call.path.startswith("/v2/"):
            return _older_error("not_found", "Not found", 404)
        return error("NOT_FOUND", "Not Found", 404)

    def _accounts_page(self, call: Call, account: Account, fault: str) -> Json:
        rows = self.rows_of(account, fault)
        cursor = call.query.get("cursor", "")
        if fault == "partial_page" and cursor:
            raise Refused(html_answer("502 Bad Gateway", 502))
        # Under this fault the first page has half of the accounts, and promises a second one in any case.
        size = max(1, len(rows) // 2) if fault == "partial_page" else self.page_size
        try:
            start = int(base64url_decoded(cursor)) if cursor else 0
            limit = int(call.query.get("limit", DEFAULT_PAGE))
            if not (0 <= start <= len(rows) and 1 <= limit <= MAX_PAGE):
                raise ValueError("out of range")
        except ValueError:
            raise Refused(error("INVALID_ARGUMENT", "limit or cursor is not valid", 400)) from None
        end = min(start + min(limit, size), len(rows))
        page = [_account_json(row, account) for row in rows[start:end]]
        more = end < len(rows) or fault == "partial_page"
        following = base64.urlsafe_b64encode(str(end).encode()).decode().rstrip("=") if more else ""
        payload: Json = {"accounts": page, "has_next": more, "cursor": following, "size": len(page)}
        return self.with_warning(payload, fault)

    @property
    def _market_data(self) -> Mapping[str, PublicHandler]:
        """The routes that are public below /market, and need a signature without it."""
        return {
            "products": self._products,
            "products/{product_id}": self._one_product,
            "products/{product_id}/ticker": self._ticker,
            "product_book": self._product_book,
            "products/{product_id}/candles": self._candles_page,
        }

    def _products(self, call: Call) -> Json:
        # The simulated exchange has no futures.
        if call.query.get("product_type", "SPOT") != "SPOT":
            return {"products": [], "num_products": 0}
        products = [self._product(market) for market in self.listed()]
        return {"products": products, "num_products": len(self.traded())}

    def _one_product(self, call: Call) -> Json:
        return self._product(self._traded_product(call))

    def _traded_product(self, call: Call) -> Market:
        market = product_in_path(call)
        if market not in self.traded():
            raise Refused(UNKNOWN_PRODUCT)
        return market

    def _product(self, market: Market) -> Json:
        return {
            "product_id": product_id(market),
            "price": market.price_text(self._prices[market.symbol]),
            "base_increment": market.amount_step,
            "quote_increment": market.price_step,
            "price_increment": market.price_step,
            "quote_min_size": QUOTE_MINIMUM,
            "quote_max_size": "150000000",
            "base_min_size": market.minimum,
            "base_max_size": "3400",
            "base_name": ASSETS[market.base],
            "quote_name": ASSETS[market.quote],
            "is_disabled": False,
            "status": "online",
            "cancel_only": False,
            "limit_only": False,
            "post_only": False,
            "trading_disabled": self.is_closed(market),
            "product_type": "SPOT",
            "quote_currency_id": market.quote,
            "base_currency_id": market.base,
            "alias": "",
            "alias_to": [],
            "view_only": False,
        }

    def _ticker(self, call: Call) -> Json:
        market = self._traded_product(call)
        bid, ask = self.best(market)
        trade = {
            "trade_id": "1",
            "product_id": product_id(market),
            "price": market.price_text(self._prices[market.symbol]),
            "size": "0.01",
            "time": self._iso(),
            "side": "BUY",
            "bid": "",
            "ask": "",
        }
        return {"trades": [trade], "best_bid": bid, "best_ask": ask}

    def _product_book(self, call: Call) -> Json:
        named, limit = call.query.get("product_id", ""), call.query.get("limit", "100")
        market = next((market for market in self.traded() if product_id(market) == named), None)
        if market is None:
            raise Refused(UNKNOWN_PRODUCT)
        if not limit.isdigit():
            raise Refused(error("INVALID_ARGUMENT", "limit is not valid", 400))
        bids, asks = (
            [{"price": price, "size": amount} for price, amount in side]
            for side in self.order_book(market, int(limit))
        )
        return {"pricebook": {"product_id": named, "bids": bids, "asks": asks, "time": self._iso()}}

    def _best_bid_ask(self, call: Call, _account: Account, fault: str) -> Json:
        wanted = parse_qs(urlsplit(call.target).query).get("product_ids", [])
        books = [
            self._product_book(replace(call, query={"product_id": product_id(market), "limit": "1"}))[
                "pricebook"
            ]
            for market in self.traded()
            if not wanted or product_id(market) in wanted
        ]
        return self.with_warning({"pricebooks": books}, fault)

    def _candles_page(self, call: Call) -> Json:
        market = product_in_path(call)
        timeframe_s = GRANULARITIES_S.get(call.query.get("granularity", ""))
        start, end = call.query.get("start", ""), call.query.get("end", "")
        limit = call.query.get("limit", str(MOST_CANDLES))
        if timeframe_s is None or not (start.isdigit() and end.isdigit() and limit.isdigit()):
            raise Refused(error("INVALID_ARGUMENT", "start, end, granularity or limit is not valid", 400))
        if (int(end) - int(start)) // timeframe_s > MOST_CANDLES:
            text = f"number of candles requested should be less than {MOST_CANDLES}"
            raise Refused(error("INVALID_ARGUMENT", text, 400))
        span = CandleSpan(int(limit), int(start), int(end))
        return {
            "candles": [
                {
                    "start": str(row.start_s),
                    "low": row.low,
                    "high": row.high,
                    "open": row.open,
                    "close": row.close,
                    "volume": row.volume,
                }
                for row in reversed(self.candles(market, timeframe_s, span))
            ]
        }

    def _key_permissions(self, _call: Call, account: Account, _fault: str) -> Json:
        return {
            "can_view": "query" in account.permissions,
            "can_trade": "trade" in account.permissions,
            "can_transfer": "withdraw" in account.permissions,
            "portfolio_uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, account.number)),
            "portfolio_type": "DEFAULT",
        }

    def _positions(self, _call: Call, account: Account, fault: str) -> Json:
        return self.with_warning({"positions": account.positions}, fault)

    def _time(self, _call: Call) -> Json:
        return {"data": {"iso": self._iso(), "epoch": int(self.now_s())}}

    def _time_v3(self, _call: Call) -> Json:
        now_s = self.now_s()
        return {"iso": self._iso(), "epochSeconds": str(int(now_s)), "epochMillis": str(int(now_s * 1000))}

    def _iso(self) -> str:
        return iso(self.now_s())


def _as_private(handler: PublicHandler, call: Call, _account: Account, _fault: str) -> Json:
    return handler(call)


def _token_of(call: Call) -> str | None:
    scheme, _, token = call.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else None


def _account_json(row: Row, account: Account) -> Json:
    kind = "ACCOUNT_TYPE_FIAT" if row.currency in FIAT else "ACCOUNT_TYPE_CRYPTO"
    hold = {} if row.held is None else {"hold": {"value": row.held, "currency": row.currency}}
    return {
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{account.number}/{row.currency}")),
        "name": f"{row.currency} Wallet",
        "currency": row.currency,
        "available_balance": without_missing({"value": row.free, "currency": row.currency}),
        "default": True,
        "active": True,
        "created_at": "2024-01-02T03:04:05.678Z",
        "updated_at": "2024-01-02T03:04:05.678Z",
        "deleted_at": None,
        "type": kind,
        "ready": True,
        **hold,
        "platform": "ACCOUNT_PLATFORM_CONSUMER",
    }


_FIAT_CURRENCIES: list[Json] = [{"id": code, "name": ASSETS[code], "min_size": "0.01"} for code in FIAT]
_CRYPTO_CURRENCIES: list[Json] = [
    {
        "asset_id": str(uuid.uuid5(uuid.NAMESPACE_URL, code)),
        "code": code,
        "name": name,
        "exponent": 8,
        "type": "crypto",
    }
    for code, name in ASSETS.items()
    if code not in FIAT
]
_EXCHANGE_RATES: Json = {"currency": "USD", "rates": {"USD": "1", "EUR": "0.92", "BTC": "0.00001"}}
_SUMMARY: Json = {
    "total_volume": 0,
    "total_fees": 0,
    "fee_tier": {"pricing_tier": "Intro 1", "taker_fee_rate": TAKER_FEE, "maker_fee_rate": MAKER_FEE},
    "margin_rate": None,
    "has_promo_fee": False,
}
