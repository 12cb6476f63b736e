"""OKX: four headers sign a call, a timestamp may be 30 s off, and the envelope's `code` tells the error.

A refusal for the key, the signature or the time is 401 with `msg` and `code` alone; the exchange's
other troubles come with the status that its documentation lists for the code.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar

from brokerwatch.simulator.account import Account, BalanceSpec, checked_balance, rows, without_missing
from brokerwatch.simulator.exchange import Call, Json, SimulatedExchange
from brokerwatch.simulator.faults import Answer, Refused, json_answer
from brokerwatch.simulator.markets import ASSETS, FIAT, MARKETS

# https://www.okx.com/docs-v5/en/#overview-rest-authentication-making-requests
TIMESTAMP_WINDOW_S = 30.0

_REQUIRED_HEADERS: Mapping[str, str] = {
    "OK-ACCESS-KEY": "50103",
    "OK-ACCESS-PASSPHRASE": "50104",
    "OK-ACCESS-SIGN": "50106",
    "OK-ACCESS-TIMESTAMP": "50107",
}


def _unauthorized(code: str, message: str) -> Answer:
    return json_answer({"msg": message, "code": code}, 401)


def _error(code: str, message: str, status: int = 200) -> Answer:
    return json_answer({"code": code, "data": [], "msg": message}, status)


class SimulatedOkx(SimulatedExchange):
    """OKX's REST API, version 5, as far as a balance watcher needs it.

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
        "http_500_json": _error("50026", "System error. Try again later.", 500),
        "exchange_down": _error("50013", "Systems are busy. Please try again later.", 429),
        "maintenance": _error("50001", "Service temporarily unavailable. Try again later.", 503),
        "rate_limited": json_answer({"msg": "Too Many Requests", "code": "50011"}, 429),
        "locked_out": _error("50040", "Operations are too frequent, please try again later.", 429),
        "bad_key": _unauthorized("50111", "Invalid OK-ACCESS-KEY"),
        "bad_signature": _unauthorized("50113", "Invalid Sign"),
        "bad_nonce": _unauthorized("50102", "Timestamp request expired"),
        "permission": _unauthorized("50120", "This API key doesn't have permission to use this function"),
        "empty_result": _error("0", ""),
    }
    # Code 2 is OKX's word for "only in part"; ccxt takes it for success.
    warning: ClassVar[Mapping[str, object]] = {"code": "2", "msg": "Bulk operation partially succeeded."}

    def __init__(self) -> None:
        super().__init__()
        self.margin_mode = False
        self.public_routes = {
            ("GET", "/api/v5/public/time"): lambda _call: _data({"ts": self._now_ms()}),
            ("GET", "/api/v5/system/status"): self._system_status,
            ("GET", "/api/v5/public/instruments"): self._instruments,
        }
        self.private_routes = {
            ("GET", "/api/v5/account/balance"): self._trading_balance,
            ("GET", "/api/v5/asset/balances"): self._funding_balance,
            ("GET", "/api/v5/asset/currencies"): lambda _call, _account, _fault: _data(*_CURRENCIES),
        }

    def set_funding(self, balance: BalanceSpec, *, account: str | None = None) -> None:
        """Replace what is in the funding account, which is empty to begin with; as `set_balance`."""
        checked = checked_balance(balance)
        with self._lock:
            self._account(account).funding = checked

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
        now_ms = self._now_ms()
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
        return self.with_warning(_data(row), fault)

    def _funding_balance(self, _call: Call, account: Account, fault: str) -> Json:
        balances = [
            without_missing(
                {"ccy": row.currency, "bal": row.total, "availBal": row.free, "frozenBal": row.held}
            )
            for row in rows(account.funding, fault)
        ]
        return self.with_warning(_data(*balances), fault)

    def _system_status(self, _call: Call) -> Json:
        if not self.in_maintenance:
            return _data()
        now_ms = int(self._now_ms())
        begin, end = str(now_ms - 60_000), str(now_ms + 3_600_000)
        return _data({"title": "System upgrade", "state": "ongoing", "begin": begin, "end": end, "href": ""})

    def _instruments(self, call: Call) -> Json:
        # The simulated exchange has no futures, swaps or options.
        return _data(*_INSTRUMENTS) if call.query.get("instType") == "SPOT" else _data()

    def _now_ms(self) -> str:
        return str(int(self.now_s() * 1000))


def _data(*items: object) -> Json:
    return {"code": "0", "data": list(items), "msg": ""}


_INSTRUMENTS: list[Json] = [
    {
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
        "state": "live",
    }
    for market in MARKETS
]

_CURRENCIES: list[Json] = [
    {
        "ccy": code,
        "name": name,
        # OKX has no chain for money of a state; ccxt tells fiat by that.
        "chain": "" if code in FIAT else f"{code}-{name}",
        "canDep": True,
        "canWd": True,
        "minWd": "0.001",
        "maxWd": "1000000",
        "fee": "0.0001",
        "wdTickSz": "8",
    }
    for code, name in ASSETS.items()
]
