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
from email.utils import formatdate
from typing import ClassVar
from urllib.parse import parse_qs

from brokerwatch.simulator.account import Account, BalanceSpec, without_missing
from brokerwatch.simulator.exchange import Call, Json, SimulatedExchange
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.markets import ASSETS, FIAT, MARKETS

PRIVATE = "/0/private/"
MAX_NONCE = 2**64 - 1

# ccxt's code -> Kraken's asset id, where the two differ.
ASSET_IDS: Mapping[str, str] = {
    "AUD": "ZAUD", "CAD": "ZCAD", "EUR": "ZEUR", "GBP": "ZGBP", "JPY": "ZJPY", "USD": "ZUSD",
    "BTC": "XXBT", "DOGE": "XXDG", "ETC": "XETC", "ETH": "XETH", "LTC": "XLTC", "XLM": "XXLM",
    "XMR": "XXMR", "XRP": "XXRP", "ZEC": "XZEC",
}  # fmt: skip
# ccxt's code -> the short name Kraken uses in pairs and before a suffix such as `.F`.
ALT_NAMES: Mapping[str, str] = {"BTC": "XBT", "DOGE": "XDG"}


def alt_name(code: str) -> str:
    """Kraken's short name of a currency: XBT for BTC, XBT.F for BTC.F."""
    base, dot, suffix = code.partition(".")
    return ALT_NAMES.get(base, base) + dot + suffix


def asset_id(code: str) -> str:
    """Kraken's asset id of a currency; what has a suffix (`BTC.F`, earning) is built on the short name."""
    return alt_name(code) if "." in code else ASSET_IDS.get(code, code)


def _error(text: str, status: int = 200) -> Answer:
    return json_answer({"error": [text]}, status)


@dataclass(frozen=True, slots=True)
class _Counter:
    """How high a key's call counter stood at one moment."""

    value: float
    at_s: float


class SimulatedKraken(SimulatedExchange):
    """Kraken's spot REST API as far as a balance watcher needs it.

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
        "http_500_json": _error("EGeneral:Internal error", 500),
        "exchange_down": _error("EService:Unavailable"),
        "maintenance": _error("EService:Market in cancel_only mode"),
        "rate_limited": _error("EAPI:Rate limit exceeded"),
        "locked_out": _error("EGeneral:Temporary lockout"),
        "bad_key": _error("EAPI:Invalid key"),
        "bad_signature": _error("EAPI:Invalid signature"),
        "bad_nonce": _error("EAPI:Invalid nonce"),
        "permission": _error("EGeneral:Permission denied"),
        "empty_result": json_answer({"error": []}),
    }
    warning: ClassVar[Mapping[str, object]] = {"error": ["WGeneral:Some balances may be delayed"]}

    def __init__(self) -> None:
        super().__init__()
        self.call_limit: float | None = None
        self.call_decay_per_s = 0.33
        self._last_nonce: dict[str, int] = {}
        self._counters: dict[str, _Counter] = {}
        self._locked_until_s: dict[str, float] = {}
        self.public_routes = {
            ("GET", "/0/public/Time"): self._time,
            ("GET", "/0/public/SystemStatus"): self._system_status,
            ("GET", "/0/public/Assets"): lambda _call: _result(_ASSETS),
            ("GET", "/0/public/AssetPairs"): lambda _call: _result(_PAIRS),
        }
        self.private_routes = {("POST", PRIVATE + "BalanceEx"): self._balance}

    def lock_out(self, seconds: float, account: str | None = None) -> None:
        """Shut a key out for so long by the exchange's own clock; None is the first account's key.

        Whatever the key asks meanwhile is refused, and counted in `private_calls` as ever.
        """
        with self._lock:
            self._locked_until_s[self._account(account).api_key] = self.now_s() + seconds

    def new_credentials(self) -> dict[str, str]:
        return {
            "api_key": base64.b64encode(secrets.token_bytes(42)).decode(),
            "secret": base64.b64encode(secrets.token_bytes(64)).decode(),
        }

    def key_of(self, call: Call) -> str | None:
        return call.headers.get("API-Key", "") if call.path.startswith(PRIVATE) else None

    def verify(self, call: Call, account: Account | None) -> None:
        if account is None:
            raise Refused(self.refusals["bad_key"])
        if self.now_s() < self._locked_until_s.get(account.api_key, 0.0):
            raise Refused(self.refusals["locked_out"])
        body = call.body.decode(errors="replace")
        nonce = parse_qs(body).get("nonce", [""])[0]
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
        return _error("EGeneral:Unknown method")

    def _balance(self, _call: Call, account: Account, fault: str) -> Json:
        amounts = {
            asset_id(row.currency): without_missing({"balance": row.total, "hold_trade": row.held})
            for row in self.rows_of(account, fault)
        }
        return self.with_warning(_result(amounts), fault)

    def _time(self, _call: Call) -> Json:
        now_s = self.now_s()
        return _result({"unixtime": int(now_s), "rfc1123": formatdate(now_s, usegmt=True)})

    def _system_status(self, _call: Call) -> Json:
        moment = datetime.fromtimestamp(self.now_s(), UTC)
        status = "cancel_only" if self.in_maintenance else "online"
        return _result({"status": status, "timestamp": f"{moment:%Y-%m-%dT%H:%M:%SZ}"})


def _result(result: object) -> Json:
    return {"error": [], "result": result}


def _asset(code: str) -> Json:
    decimals, shown = (4, 2) if code in FIAT else (10, 5)
    return {
        "aclass": "currency",
        "altname": alt_name(code),
        "decimals": decimals,
        "display_decimals": shown,
        "status": "enabled",
    }


# What earns (.F), is staked (.S), opted in (.M) or bonded (.B) is an asset of its own, named without the
# X or Z in front: XBT.F. A term may stand before the suffix: DOT28.S is bonded for 28 days.
SUFFIXED = ("BTC.F", "USD.F", "USD.M", "ETH.B", "ETH.F", "DOT.S", "DOT28.S", "SOL.S", "USD.HOLD")
_ASSETS: Json = {asset_id(code): _asset(code) for code in (*ASSETS, *SUFFIXED)}


def _pairs() -> Json:
    pairs: dict[str, Json] = {}
    for market in MARKETS:
        base, quote = asset_id(market.base), asset_id(market.quote)
        short = alt_name(market.base) + alt_name(market.quote)
        # Kraken keeps the long form only where both sides have one: XXBTZUSD, but XBTUSDC and SOLUSD.
        # The pair XDGUSD is its exception.
        both_long = market.base in ASSET_IDS and market.quote in ASSET_IDS and market.base != "DOGE"
        pairs[base + quote if both_long else short] = {
            "altname": short,
            "wsname": f"{alt_name(market.base)}/{alt_name(market.quote)}",
            "aclass_base": "currency",
            "base": base,
            "aclass_quote": "currency",
            "quote": quote,
            "lot": "unit",
            "pair_decimals": market.price_decimals,
            "cost_decimals": 5,
            "lot_decimals": market.amount_decimals,
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": [[0, 0.4]],
            "fees_maker": [[0, 0.25]],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": market.minimum,
            "costmin": "0.5",
            "tick_size": market.price_step,
            "status": "online",
        }
    return pairs


_PAIRS = _pairs()
