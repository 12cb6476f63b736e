"""Kraken: form bodies, a strictly rising nonce per key, and 200 for everything, errors included.

An error is a list of texts beside an absent `result`. Older assets carry an X or a Z before their code
(XXBT, ZUSD), newer ones do not, so codes go through a table and never through a rule about letters.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import formatdate
from typing import ClassVar, cast
from urllib.parse import parse_qs

from brokerwatch.simulator.account import Account, BalanceSpec, without_missing
from brokerwatch.simulator.candles import CandleSpan
from brokerwatch.simulator.exchange import Call, Json
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.kraken_orders import PRIVATE, KrakenOrders, error, result
from brokerwatch.simulator.kraken_pairs import (
    ASSET_LIST,
    COST_DECIMALS,
    COST_MINIMUM,
    PAIR_IDS,
    PAIR_LIST,
    asset_id,
    find_pair,
)
from brokerwatch.simulator.kraken_streams import PATH, TOKEN_LIFE_S, KrakenConnection
from brokerwatch.simulator.markets import Market
from brokerwatch.simulator.routes import Route
from brokerwatch.simulator.streams import Streams
from brokerwatch.simulator.trading import Limits, json_body

MAX_NONCE = 2**64 - 1
# https://docs.kraken.com/api/docs/rest-api/get-ohlc-data
INTERVALS_MIN = frozenset({"1", "5", "15", "30", "60", "240", "1440", "10080", "21600"})
MOST_CANDLES = 720
STATUSES = frozenset({"online", "maintenance", "cancel_only", "post_only"})

# https://docs.kraken.com/api-reference/account-data/get-api-key-info
_PERMISSIONS: Mapping[str, tuple[str, ...]] = {
    "query": ("query-funds", "query-open-trades", "query-closed-trades"),
    "trade": ("modify-trades", "close-trades"),
    "withdraw": ("withdraw-funds",),
}


@dataclass(frozen=True, slots=True)
class _Counter:
    """How high a key's call counter stood at one moment."""

    value: float
    at_s: float


class SimulatedKraken(KrakenOrders):
    """Kraken's spot REST API as far as a bot that trades at the market or with a limit needs it.

    `call_limit` is how high a key's call counter may rise, and `call_decay_per_s` by how much it sinks;
    None, the default, counts nothing. (15 and 0.33 are what the Starter tier has.)
    """

    ccxt_id = "kraken"
    url_names = ("public", "private")
    default_balance: ClassVar[BalanceSpec] = {
        "USD": ("8250.1300", "1749.8700"),
        "BTC": ("0.3512000000", "0.0500000000"),
        "ETH": ("4.2000000000", "0"),
        "USDT": ("120.50000000", "0"),
    }
    refusals: ClassVar[Mapping[str, Answer]] = {
        "http_500_json": error("EGeneral:Internal error", 500),
        "exchange_down": error("EService:Unavailable"),
        "maintenance": error("EService:Market in cancel_only mode"),
        "rate_limited": error("EAPI:Rate limit exceeded"),
        "locked_out": error("EGeneral:Temporary lockout"),
        "bad_key": error("EAPI:Invalid key"),
        "bad_signature": error("EAPI:Invalid signature"),
        "bad_nonce": error("EAPI:Invalid nonce"),
        "permission": error("EGeneral:Permission denied"),
        "empty_result": json_answer({"error": []}),
    }
    warning: ClassVar[Mapping[str, object]] = {"error": ["WGeneral:Some balances may be delayed"]}
    needs: ClassVar[Mapping[Route, str]] = {
        ("POST", PRIVATE + "GetApiKeyInfo"): "",
        ("POST", PRIVATE + "AddOrder"): "trade",
        ("POST", PRIVATE + "AmendOrder"): "trade",
        ("POST", PRIVATE + "CancelOrder"): "trade",
        ("POST", PRIVATE + "CancelOrderBatch"): "trade",
        ("POST", PRIVATE + "CancelAll"): "trade",
        ("POST", PRIVATE + "WithdrawInfo"): "withdraw",
    }

    def __init__(self) -> None:
        super().__init__()
        self.call_limit: float | None = None
        self.call_decay_per_s = 0.33
        self._last_nonce: dict[str, int] = {}
        self._counters: dict[str, _Counter] = {}
        self._locked_until_s: dict[str, float] = {}
        self._status = "online"
        self._tokens: dict[str, tuple[str, float]] = {}
        """Of the websockets: whose key it was given to, and until when."""
        self.streams = Streams(self._lock, self._of_token, KrakenConnection)
        self.public_routes = {
            ("GET", "/0/public/Time"): self._time,
            ("GET", "/0/public/SystemStatus"): self._system_status,
            ("GET", "/0/public/Assets"): lambda _call: result(ASSET_LIST),
            ("GET", "/0/public/AssetPairs"): self._asset_pairs,
            ("GET", "/0/public/Ticker"): self._ticker,
            ("GET", "/0/public/OHLC"): self._ohlc,
            ("GET", "/0/public/Depth"): self._depth,
            ("GET", "/0/public/Trades"): self._trades,
        }
        self.private_routes = {
            ("POST", PRIVATE + "GetApiKeyInfo"): self._key_info,
            ("POST", PRIVATE + "BalanceEx"): self._balance,
            ("POST", PRIVATE + "Ledgers"): self._ledgers,
            ("POST", PRIVATE + "GetWebSocketsToken"): self._new_token,
            ("POST", PRIVATE + "TradeBalance"): self._trade_balance,
            ("POST", PRIVATE + "WithdrawInfo"): self._withdraw_info,
            **self.order_routes(),
        }

    def set_status(self, status: str) -> None:
        """What SystemStatus says from now on: `online`, `maintenance`, `cancel_only` or `post_only`.

        In cancel_only mode every order is refused, in post_only mode each one that is not post-only. In
        maintenance every private call is. ValueError for another word.
        """
        # https://docs.kraken.com/api/docs/rest-api/get-system-status
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}; there are: {', '.join(sorted(STATUSES))}")
        with self._lock:
            self._status = status

    @property
    def mode(self) -> str:
        """`cancel_only` or `post_only` while that is the status; else empty."""
        return self._status if self._status.endswith("_only") else ""

    def last_nonce(self, account: str | None = None) -> int:
        """The highest number that a key has used; 0 for none. None is the first account's key."""
        with self._lock:
            return self._last_nonce.get(self._account(account).api_key, 0)

    def use_nonce(self, nonce: int, account: str | None = None) -> None:
        """Another program uses this number with a key: from now on only higher ones are taken."""
        with self._lock:
            key = self._account(account).api_key
            self._last_nonce[key] = max(nonce, self._last_nonce.get(key, 0))

    def lock_out(self, seconds: float, account: str | None = None) -> None:
        """Shut a key out for so long by the exchange's own clock; None is the first account's key.

        Whatever the key asks meanwhile is refused, and counted in `private_calls` as ever.
        """
        with self._lock:
            self._locked_until_s[self._account(account).api_key] = self.now_s() + seconds

    def stream_urls(self) -> dict[str, object]:
        return {"ws": {"privateV2": self.url.replace("http", "ws", 1) + PATH, "private": self.url}}

    def _new_token(self, _call: Call, account: Account, fault: str) -> Json:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = account.api_key, self.now_s() + TOKEN_LIFE_S
        return self.with_warning(result({"token": token, "expires": TOKEN_LIFE_S}), fault)

    def _of_token(self, token: str) -> Account | None:
        api_key, until_s = self._tokens.get(token, ("", 0.0))
        return self._accounts.get(api_key) if self.now_s() < until_s else None

    def limits(self, market: Market) -> Limits:  # noqa: ARG002 - the same for all of them here
        return Limits(Decimal(1).scaleb(-COST_DECIMALS), Decimal(COST_MINIMUM))

    def new_credentials(self) -> dict[str, str]:
        return {
            "api_key": base64.b64encode(secrets.token_bytes(42)).decode(),
            "secret": base64.b64encode(secrets.token_bytes(64)).decode(),
        }

    def key_of(self, call: Call) -> str | None:
        return call.headers.get("API-Key", "") if call.path.startswith(PRIVATE) else None

    def verify(self, call: Call, account: Account | None) -> None:
        if self._status == "maintenance":
            raise Refused(self.refusals["exchange_down"])
        if account is None:
            raise Refused(self.refusals["bad_key"])
        if self.now_s() < self._locked_until_s.get(account.api_key, 0.0):
            raise Refused(self.refusals["locked_out"])
        body = call.body.decode(errors="replace")
        # CancelOrderBatch is JSON; everything else is a form.
        fields = json_body(call.body) if body.startswith("{") else None
        in_json = str(cast("dict[str, object]", fields).get("nonce", "")) if isinstance(fields, dict) else ""
        nonce = in_json or parse_qs(body).get("nonce", [""])[0]
        if not (nonce.isascii() and nonce.isdigit() and len(nonce) <= len(str(MAX_NONCE))):
            raise Refused(self.refusals["bad_nonce"])
        digest = hashlib.sha256(nonce.encode() + call.body).digest()
        secret = base64.b64decode(account.credentials["secret"])
        expected = hmac.digest(secret, call.path.encode() + digest, "sha512")
        if not hmac.compare_digest(base64.b64encode(expected), call.headers.get("API-Sign", "").encode()):
            raise Refused(self.refusals["bad_signature"])
        self._count(account.api_key)
        # Only a call that is really the owner's may move the nonce.
        if not self._last_nonce.get(account.api_key, -1) < int(nonce) <= MAX_NONCE:
            raise Refused(self.refusals["bad_nonce"])
        self._last_nonce[account.api_key] = int(nonce)

    def _count(self, key: str) -> None:
        if self.call_limit is None:
            return
        now_s = self.now_s()
        before = self._counters.get(key, _Counter(0.0, now_s))
        # A clock that is set back gives nothing back and takes nothing.
        passed_s = max(0.0, now_s - before.at_s)
        risen = max(0.0, before.value - passed_s * self.call_decay_per_s) + 1
        # A call too many counts as well: who goes on asking stays shut out for longer.
        self._counters[key] = _Counter(risen, now_s)
        if risen > self.call_limit:
            raise Refused(self.refusals["rate_limited"])

    def unknown_method(self, call: Call) -> Answer:  # noqa: ARG002 - Kraken says the same to all of them
        return error("EGeneral:Unknown method")

    def _key_info(self, _call: Call, account: Account, fault: str) -> Json:
        allowed = [words for name, words in _PERMISSIONS.items() if name in account.permissions]
        answer = {
            "apiKeyName": "simulated",
            "apiKey": account.api_key,
            "nonce": str(self._last_nonce[account.api_key]),
            "nonceWindow": 0,
            "permissions": [word for words in allowed for word in words],
            "iban": _iban(account.number),
            "validUntil": "0" if self.key_ends_s is None else str(int(self.key_ends_s)),
            "queryFrom": "0",
            "queryTo": "0",
            "createdTime": "1700000000",
            "modifiedTime": "1700000000",
            "ipAllowlist": self.key_ip.split(",") if self.key_ip else [],
            "lastUsed": str(int(self.now_s())),
        }
        return self.with_warning(result(answer), fault)

    def _asset_pairs(self, _call: Call) -> Json:
        pairs = {PAIR_IDS[market.symbol]: market for market in self.listed()}
        return result(
            {
                name: {**PAIR_LIST[name], "status": "cancel_only" if self.is_closed(market) else "online"}
                for name, market in pairs.items()
            }
        )

    def _ledgers(self, _call: Call, account: Account, fault: str) -> Json:
        rows = {
            f"L{number:05}-TEST": {
                "refid": f"R{number:05}",
                "time": at_s,
                "type": kind,
                "subtype": "",
                "aclass": "currency",
                "asset": asset_id(currency),
                "amount": amount,
                "fee": "0",
                "balance": "0",
            }
            for number, (at_s, currency, amount, kind) in enumerate(account.ledger)
        }
        return self.with_warning(result({"ledger": rows, "count": len(rows)}), fault)

    def _balance(self, _call: Call, account: Account, fault: str) -> Json:
        amounts = {
            asset_id(row.currency): without_missing({"balance": row.total, "hold_trade": row.held})
            for row in self.rows_of(account, fault)
        }
        return self.with_warning(result(amounts), fault)

    def _time(self, _call: Call) -> Json:
        now_s = self.now_s()
        return result({"unixtime": int(now_s), "rfc1123": formatdate(now_s, usegmt=True)})

    def _system_status(self, _call: Call) -> Json:
        moment = datetime.fromtimestamp(self.now_s(), UTC)
        # The fault of that name is what a client meets at an order; the status that is set goes before it.
        status = "cancel_only" if self._status == "online" and self.in_maintenance else self._status
        return result({"status": status, "timestamp": f"{moment:%Y-%m-%dT%H:%M:%SZ}"})

    def _trade_balance(self, _call: Call, account: Account, _fault: str) -> Json:
        worth = f"{sum((self._in_dollars(code, account) for code in account.balance), Decimal()):.4f}"
        none = dict.fromkeys(("m", "n", "c", "v"), "0.0000")
        return result({"eb": worth, "tb": worth, **none, "e": worth, "mf": worth})

    def _in_dollars(self, code: str, account: Account) -> Decimal:
        total = sum((Decimal(amount) for amount in account.balance[code]), Decimal())
        price = Decimal(1) if code == "USD" else self._prices.get(f"{code}/USD", Decimal())
        return total * price

    def _withdraw_info(self, _call: Call, _account: Account, _fault: str) -> Json:
        # No account has an address here. A key without the permission is refused before this.
        raise Refused(error("EFunding:Unknown withdraw key"))

    def _ticker(self, call: Call) -> Json:
        asked = call.query.get("pair")
        traded = self.traded()
        markets = traded if asked is None else [self._pair(name) for name in asked.split(",")]
        if not all(market in traded for market in markets):
            raise Refused(error("EQuery:Unknown asset pair"))
        return result({PAIR_IDS[market.symbol]: self._ticker_row(market) for market in markets})

    def _ticker_row(self, market: Market) -> Json:
        price, step = self._prices[market.symbol], Decimal(market.price_step)
        last = market.price_text(price)
        return {
            "a": [market.price_text(price + step), "1", "1.000"],
            "b": [market.price_text(max(price - step, step)), "1", "1.000"],
            "c": [last, "0.01000000"],
            "v": ["10.00000000", "25.00000000"],
            "p": [last, last],
            "t": [100, 250],
            "l": [last, last],
            "h": [last, last],
            "o": last,
        }

    def _depth(self, call: Call) -> Json:
        market, count = self._pair(call.query.get("pair", "")), call.query.get("count", "100")
        if not count.isdigit():
            raise Refused(error("EGeneral:Invalid arguments:count"))
        now_s = int(self.now_s())
        bids, asks = (
            [[price, amount, now_s] for price, amount in side] for side in self.order_book(market, int(count))
        )
        return result({PAIR_IDS[market.symbol]: {"asks": asks, "bids": bids}})

    def _trades(self, call: Call) -> Json:
        market = self._pair(call.query.get("pair", ""))
        rows = [
            [trade.price, trade.amount, trade.at_s, trade.side[0], "m", "", trade.id]
            for trade in self.recent_trades(market)
        ]
        return result({PAIR_IDS[market.symbol]: rows, "last": str(int(self.now_s() * 1e9))})

    def _ohlc(self, call: Call) -> Json:
        market = self._pair(call.query.get("pair", ""))
        interval, since = call.query.get("interval", "1"), call.query.get("since", "0")
        if interval not in INTERVALS_MIN:
            raise Refused(error("EGeneral:Invalid arguments:interval"))
        if not since.isdigit():
            raise Refused(error("EGeneral:Invalid arguments:since"))
        rows = self.candles(market, int(interval) * 60, CandleSpan(MOST_CANDLES, int(since) + 1))
        shown = [
            [row.start_s, row.open, row.high, row.low, row.close, row.close, row.volume, 10] for row in rows
        ]
        # `last` is where to go on: the newest candle is not finished, so it is the one before.
        last = rows[-2].start_s if len(rows) > 1 else int(since)
        return result({PAIR_IDS[self.named_with_candles(market).symbol]: shown, "last": last})

    @staticmethod
    def _pair(name: str) -> Market:
        market = find_pair(name)
        if market is None:
            raise Refused(error("EQuery:Unknown asset pair"))
        return market


def _iban(api_key: str) -> str:
    """The account's public number, which looks like one of a bank: AA88 N84G WOAK NMOI."""
    digest = hashlib.sha256(api_key.encode()).digest()
    letters = base64.b32encode(digest).decode()
    return f"AA{digest[-1] % 100:02} {letters[:4]} {letters[4:8]} {letters[8:12]}"
