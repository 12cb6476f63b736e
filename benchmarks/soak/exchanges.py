"""The process of the simulated exchanges: it breaks them on request, and keeps the record that counts.

The record has each moment at which an account was answered with a balance that can be believed. A listener
that shows an account as available for longer than that allows is wrong, whatever the product says of itself.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from typing import Any, Final

from benchmarks.elsewhere import answer, heard
from benchmarks.soak.script import ACCOUNTS, PER_EXCHANGE
from brokerwatch.simulator import EXCHANGES, ServedCall, SimulatedExchange, serve

BALANCES: Final = {
    "kraken": "/0/private/BalanceEx",
    "coinbase": "/api/v3/brokerage/accounts",
    "okx": "/api/v5/account/balance",
}
"""Where each is asked for a balance."""
BELIEVABLE: Final = frozenset({"", "warning_beside_result", "missing_amount"})
"""What an answer may meet and still be believed: the warning of one exchange is no error of another, and a
missing amount leaves one currency in doubt."""
WAIT_S: Final = 2.0
"""What an exchange that is asked too often asks for."""


class Record:
    """What every account was answered. Written by the server's thread."""

    def __init__(self, keys: dict[str, str]) -> None:
        self._names = {key: name for name, key in keys.items()}
        self._lock = threading.Lock()
        self._proofs: dict[str, list[float]] = {name: [] for name in keys}
        self._met: Counter[str] = Counter()
        self._calls = 0

    def note(self, served: ServedCall) -> None:
        """Take in a call."""
        key = served.exchange.key_of(served.call)
        with self._lock:
            self._calls += 1
            if served.trouble.fault:
                self._met[served.trouble.fault] += 1
            name = self._names.get(key or "", "")
            if (
                name
                and served.call.path == BALANCES[served.exchange.ccxt_id]
                and served.trouble.fault in BELIEVABLE
            ):
                self._proofs[name].append(time.monotonic())

    def told(self) -> dict[str, Any]:
        """By the account, the monotonic seconds at which it was proven; and the faults that were met."""
        with self._lock:
            return {
                "proofs": {name: list(at_s) for name, at_s in self._proofs.items()},
                "met": dict(self._met),
                "calls": self._calls,
            }


def main() -> None:
    """Serve the exchanges until the soak ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exchanges = {name: kind() for name, kind in EXCHANGES.items()}
    credentials: dict[str, dict[str, str]] = {}
    for name, exchange in exchanges.items():
        for number in range(PER_EXCHANGE):
            credentials[f"{name}-{number}"] = exchange.add_account() if number else exchange.credentials
    keys = {name: credentials[name]["api_key"] for name in ACCOUNTS}
    record = Record(keys)
    with serve(*exchanges.values(), watcher=record.note):
        answer(
            {
                "credentials": credentials,
                "options": {name: exchange.ccxt_options() for name, exchange in exchanges.items()},
                "urls": {name: exchange.url for name, exchange in exchanges.items()},
            }
        )
        for words in heard():
            if words["op"] == "record":
                answer(record.told())
            else:
                carry_out(exchanges[words["exchange"]], keys.get(words.get("account", "")), words)
                answer({"at_s": time.monotonic()})


def carry_out(exchange: SimulatedExchange, key: str | None, words: dict[str, Any]) -> None:
    """Break the exchange, mend it, or move money."""
    match words["op"]:
        case "fault":
            name = words["fault"]
            wait_s = WAIT_S if name == "rate_limited" else None
            exchange.set_fault(name, account=key, public=words["public"], retry_after_s=wait_s)
        case "mend":
            exchange.mend(account=key)
        case "money":
            exchange.set_balance({"USD": (words["amount"], "5.00"), "BTC": ("0.5", "0")}, account=key)
        case other:
            raise ValueError(f"{other!r} is nothing that an exchange does")


if __name__ == "__main__":
    main()
