"""OKX: four headers sign a call, a timestamp may be 30 s off, and the envelope's `code` tells the error.

A refusal for the key, the signature or the time is 401 with `msg` and `code` alone; the exchange's
other troubles come with the status that its documentation lists for the code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar

from brokerwatch.simulator.account import Account, BalanceSpec, checked_balance, rows, without_missing
from brokerwatch.simulator.candles import CandleSpan
from brokerwatch.simulator.exchange import Call, Json
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.markets import Market
from brokerwatch.simulator.okx_currencies import CURRENCIES
from brokerwatch.simulator.okx_orders import (
    BY_ID,
    UNKNOWN_INSTRUMENT,
    OkxOrders,
    data,
    error,
    parameter_error,
)
from brokerwatch.simulator.okx_streams import PATH, OkxConnection
from brokerwatch.simulator.streams import Streams

# https://www.okx.com/docs-v5/en/#overview-rest-authentication-making-requests
TIMESTAMP_WINDOW_S = 30.0

_REQUIRED_HEADERS: Mapping[str, str] = {
    "OK-ACCESS-KEY": "50103",
    "OK-ACCESS-PASSPHRASE": "50104",
    "OK-ACCESS-SIGN": "50106",
    "OK-ACCESS-TIMESTAMP": "50107",
}


# https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks
BARS_S: Mapping[str, int] = {
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1_800,
    "1H": 3_600,
    "2H": 7_200,
    "4H": 14_400,
    # From six hours on a bar begins by the clock of Hong Kong, unless it is asked for in UTC.
    "6Hutc": 21_600,
    "12Hutc": 43_200,
    "1Dutc": 86_400,
}
MOST_CANDLES = 300
_CANDLE_NUMBERS = {"limit": "100", "before": "0", "after": "0"}
# https://www.okx.com/docs-v5/en/#status-get-status
STATES = frozenset({"scheduled", "ongoing", "pre_open", "completed", "canceled"})


def _unauthorized(code: str, message: str) -> Answer:
    return json_answer({"msg": message, "code": code}, 401)


class SimulatedOkx(OkxOrders):
    """OKX's REST API, version 5, as far as a balance watcher that can trade at the market needs it.

    `margin_mode` is the account's mode: False, the default, is spot mode, where OKX leaves `availEq`
    empty and only `availBal` tells what is free.
    """

    ccxt_id = "okx"
    default_balance: ClassVar[BalanceSpec] = {
        "USDT": ("5120.4400000001", "310"),
        "BTC": ("0.21", "0"),
        "ETH": ("1.75", "0.25"),
    }
    refusals: ClassVar[Mapping[str, Answer]] = {
        "http_500_json": error("50026", "System error. Try again later.", 500),
        "exchange_down": error("50013", "Systems are busy. Please try again later.", 429),
        "maintenance": error("50001", "Service temporarily unavailable. Try again later.", 503),
        "rate_limited": json_answer({"msg": "Too Many Requests", "code": "50011"}, 429),
        "locked_out": error("50040", "Operations are too frequent, please try again later.", 429),
        "bad_key": _unauthorized("50111", "Invalid OK-ACCESS-KEY"),
        "bad_signature": _unauthorized("50113", "Invalid Sign"),
        "bad_nonce": _unauthorized("50102", "Timestamp request expired"),
        "permission": _unauthorized("50120", "This API key doesn't have permission to use this function"),
        "empty_result": error("0", ""),
    }
    example_position: ClassVar[Json] = {
        "instType": "SWAP",
        "instId": "BTC-USDT-SWAP",
        "posId": "307173036051017730",
        "posSide": "long",
        "pos": "1",
        "availPos": "1",
        "avgPx": "59000",
        "markPx": "60000",
        "ccy": "USDT",
        "lever": "10",
        "margin": "",
        "mgnMode": "cross",
        "notionalUsd": "600",
        "upl": "10",
        "cTime": "1700000000000",
        "uTime": "1700000000000",
    }
    # Code 2 is OKX's word for "only in part"; ccxt takes it for success.
    warning: ClassVar[Mapping[str, object]] = {"code": "2", "msg": "Bulk operation partially succeeded."}

    def __init__(self) -> None:
        super().__init__()
        self.margin_mode = False
        self.streams = Streams(self._lock, self._accounts.get, OkxConnection)
        self._maintenance: Json | None = None
        self.public_routes = {
            ("GET", "/api/v5/public/time"): lambda _call: data({"ts": self.now_ms()}),
            ("GET", "/api/v5/system/status"): self._system_status,
            ("GET", "/api/v5/public/instruments"): self._instruments,
            ("GET", "/api/v5/market/ticker"): self._ticker,
            ("GET", "/api/v5/market/tickers"): self._tickers,
            ("GET", "/api/v5/market/books"): self._books,
            ("GET", "/api/v5/market/trades"): self._trades,
            ("GET", "/api/v5/market/candles"): self._candles_page,
            ("GET", "/api/v5/market/history-candles"): self._candles_page,
        }
        self.private_routes = {
            ("GET", "/api/v5/account/balance"): self._trading_balance,
            ("GET", "/api/v5/asset/balances"): self._funding_balance,
            ("GET", "/api/v5/asset/currencies"): lambda _call, _account, _fault: data(*CURRENCIES),
            ("GET", "/api/v5/account/config"): self._config,
            ("GET", "/api/v5/account/bills"): self._bills,
            ("GET", "/api/v5/asset/bills"): lambda _call, _account, _fault: data(),
            ("GET", "/api/v5/account/positions"): self._positions,
            **self.order_routes(),
        }

    def set_maintenance(
        self,
        title: str,
        state: str = "scheduled",
        begin_in_s: float = 3_600.0,
        end_in_s: float = 7_200.0,
    ) -> None:
        """What the status endpoint tells from now on: a maintenance from one moment to another.

        `state` is `scheduled`, `ongoing`, `pre_open`, `completed` or `canceled`; it is only told, and no call
        is refused for it. ValueError for another word.
        """
        if state not in STATES:
            raise ValueError(f"unknown state {state!r}; there are: {', '.join(sorted(STATES))}")
        now_s = self.now_s()
        with self._lock:
            self._maintenance = {
                "begin": str(int((now_s + begin_in_s) * 1000)),
                "end": str(int((now_s + end_in_s) * 1000)),
                "env": "1",
                "href": "",
                "maintType": "1",
                "preOpenBegin": "",
                "scheDesc": "",
                "serviceType": "5",
                "state": state,
                "system": "unified",
                "title": title,
            }

    def end_maintenance(self) -> None:
        """The status endpoint has nothing to tell any more."""
        with self._lock:
            self._maintenance = None

    def set_funding(self, balance: BalanceSpec, *, account: str | None = None) -> None:
        """Replace what is in the funding account, which is empty to begin with; as `set_balance`."""
        checked = checked_balance(balance)
        with self._lock:
            self._account(account).funding = checked

    def stream_urls(self) -> dict[str, object]:
        return {"ws": self.url.replace("http", "ws", 1) + PATH}

    def new_credentials(self) -> dict[str, str]:
        return {
            "api_key": str(uuid.uuid4()),
            "secret": secrets.token_hex(16).upper(),
            "password": "Pass-" + secrets.token_urlsafe(12),
        }

    def key_of(self, call: Call) -> str | None:
        return call.headers.get("OK-ACCESS-KEY")

    def verify(self, call: Call, account: Account | None) -> None:
        for name, code in _REQUIRED_HEADERS.items():
            if not call.headers.get(name):
                raise Refused(_unauthorized(code, f"Request header {name} can not be empty."))
        timestamp = call.headers["OK-ACCESS-TIMESTAMP"]
        try:
            sent_s = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise Refused(_unauthorized("50112", "Invalid OK-ACCESS-TIMESTAMP")) from None
        if abs(self.now_s() - sent_s) > TIMESTAMP_WINDOW_S:
            raise Refused(self.refusals["bad_nonce"])
        if account is None:
            raise Refused(self.refusals["bad_key"])
        if call.headers["OK-ACCESS-PASSPHRASE"] != account.credentials["password"]:
            raise Refused(_unauthorized("50105", "Request header OK-ACCESS-PASSPHRASE incorrect."))
        signed = (timestamp + call.method + call.target).encode() + call.body
        expected = hmac.digest(account.credentials["secret"].encode(), signed, "sha256")
        if not hmac.compare_digest(base64.b64encode(expected), call.headers["OK-ACCESS-SIGN"].encode()):
            raise Refused(self.refusals["bad_signature"])

    def unknown_method(self, call: Call) -> Answer:  # noqa: ARG002 - OKX says the same to all of them
        return json_answer({"code": "404", "data": {}, "msg": "Not Found"}, 404)

    def _trading_balance(self, _call: Call, account: Account, fault: str) -> Json:
        now_ms = self.now_ms()
        details = [
            without_missing(
                {
                    "ccy": row.currency,
                    "eq": row.total,
                    "cashBal": row.total,
                    "availBal": row.free,
                    "availEq": row.free if self.margin_mode else "",
                    "frozenBal": row.held,
                    "ordFrozen": row.held,
                    "uTime": now_ms,
                }
            )
            for row in self.rows_of(account, fault)
        ]
        row = {"adjEq": "", "totalEq": "", "details": details, "uTime": now_ms}
        return self.with_warning(data(row), fault)

    def _funding_balance(self, _call: Call, account: Account, fault: str) -> Json:
        balances = [
            without_missing(
                {"ccy": row.currency, "bal": row.total, "availBal": row.free, "frozenBal": row.held}
            )
            for row in rows(account.funding, fault)
        ]
        return self.with_warning(data(*balances), fault)

    def _system_status(self, call: Call) -> Json:
        if self._maintenance is not None:
            asked = call.query.get("state", "") in ("", self._maintenance["state"])
            return data(self._maintenance) if asked else data()
        if not self.in_maintenance:
            return data()
        now_ms = int(self.now_ms())
        begin, end = str(now_ms - 60_000), str(now_ms + 3_600_000)
        return data({"title": "System upgrade", "state": "ongoing", "begin": begin, "end": end, "href": ""})

    def _bills(self, _call: Call, account: Account, fault: str) -> Json:
        kinds = {"trade": "2", "funding": "8", "transfer": "1", "interest": "7", "conversion": "4"}
        rows = [
            {"ccy": currency, "balChg": amount, "ts": str(int(at_s * 1_000)), "type": kinds.get(kind, "1")}
            for at_s, currency, amount, kind in account.ledger
        ]
        return self.with_warning(data(*rows), fault)

    def _config(self, _call: Call, account: Account, fault: str) -> Json:
        number = _account_number(account.number)
        words = {"query": "read_only", "withdraw": "withdraw", "trade": "trade"}
        row = {
            "uid": number,
            "mainUid": number,
            "acctLv": "2" if self.margin_mode else "1",
            "posMode": "net_mode",
            "autoLoan": False,
            "level": "Lv1",
            "label": "simulated",
            "roleType": "0",
            "perm": ",".join(word for name, word in words.items() if name in account.permissions),
            "ip": self.key_ip,
        }
        return self.with_warning(data(row), fault)

    def _positions(self, call: Call, account: Account, fault: str) -> Json:
        kind, wanted = call.query.get("instType"), call.query.get("instId")
        rows = [
            row
            for row in account.positions
            if kind in (None, "", row.get("instType"))
            and (not wanted or row.get("instId") in wanted.split(","))
        ]
        return self.with_warning(data(*rows), fault)

    def _ticker(self, call: Call) -> Json:
        market = _instrument(call)
        if market not in self.traded():
            raise Refused(error(*UNKNOWN_INSTRUMENT))
        return data(self._ticker_row(market))

    def _tickers(self, call: Call) -> Json:
        return data(*map(self._ticker_row, self.traded())) if call.query.get("instType") == "SPOT" else data()

    def _ticker_row(self, market: Market) -> Json:
        price, step = self._prices[market.symbol], Decimal(market.price_step)
        last = market.price_text(price)
        return {
            "instType": "SPOT",
            "instId": f"{market.base}-{market.quote}",
            "last": last,
            "lastSz": "0.01",
            "askPx": market.price_text(price + step),
            "askSz": "1",
            "bidPx": market.price_text(max(price - step, step)),
            "bidSz": "1",
            "open24h": last,
            "high24h": last,
            "low24h": last,
            "volCcy24h": "1000",
            "vol24h": "25",
            "ts": self.now_ms(),
            "sodUtc0": last,
            "sodUtc8": last,
        }

    def _books(self, call: Call) -> Json:
        market, size = _instrument(call), call.query.get("sz") or "1"
        if not size.isdigit():
            raise Refused(parameter_error("sz"))
        bids, asks = (
            [[price, amount, "0", "1"] for price, amount in side]
            for side in self.order_book(market, int(size))
        )
        return data({"asks": asks, "bids": bids, "ts": self.now_ms()})

    def _trades(self, call: Call) -> Json:
        market = _instrument(call)
        return data(
            *(
                {
                    "instId": f"{market.base}-{market.quote}",
                    "side": trade.side,
                    "sz": trade.amount,
                    "px": trade.price,
                    "tradeId": str(trade.id),
                    "ts": str(int(trade.at_s * 1000)),
                }
                for trade in reversed(self.recent_trades(market))
            )
        )

    def _candles_page(self, call: Call) -> Json:
        market = _instrument(call)
        bar = call.query.get("bar", "1m")
        texts = [call.query.get(name) or default for name, default in _CANDLE_NUMBERS.items()]
        if bar not in BARS_S or not all(text.isdigit() for text in texts):
            raise Refused(parameter_error("bar" if bar not in BARS_S else "limit"))
        limit, before_ms, after_ms = map(int, texts)
        # `after` asks for what is older and `before` for what is newer, and neither for the moment itself.
        until_s = (after_ms - 1) // 1000 if after_ms else None
        span = CandleSpan(min(limit, MOST_CANDLES), before_ms // 1000 + 1, until_s)
        newest_s = self.now_s() - self.candle_lag_s
        return data(
            *(
                [
                    str(row.start_s * 1000),
                    row.open,
                    row.high,
                    row.low,
                    row.close,
                    row.volume,
                    row.volume,
                    row.volume,
                    "1" if row.start_s + BARS_S[bar] <= newest_s else "0",
                ]
                for row in reversed(self.candles(market, BARS_S[bar], span))
            )
        )

    def _instruments(self, call: Call) -> Json:
        # The simulated exchange has no futures, swaps or options.
        if call.query.get("instType") != "SPOT":
            return data()
        return data(*(self._instrument_row(market) for market in self.listed()))

    def _instrument_row(self, market: Market) -> Json:
        return {
            "instType": "SPOT",
            "instId": f"{market.base}-{market.quote}",
            "baseCcy": market.base,
            "quoteCcy": market.quote,
            "settleCcy": "",
            "uly": "",
            "tickSz": market.price_step,
            "lotSz": market.amount_step,
            "minSz": market.minimum,
            "maxLmtSz": "9999999999",
            "lever": "",
            "listTime": "1548133413000",
            "state": "suspend" if self.is_closed(market) else "live",
        }


def _instrument(call: Call) -> Market:
    market = BY_ID.get(call.query.get("instId", ""))
    if market is None:
        raise Refused(error(*UNKNOWN_INSTRUMENT))
    return market


def _account_number(api_key: str) -> str:
    """The account's number, 17 digits, the same for a key every time."""
    digest = hashlib.sha256(api_key.encode()).digest()
    return str(10**16 + int.from_bytes(digest[:8]) % (9 * 10**16))
