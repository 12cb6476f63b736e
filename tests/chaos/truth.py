"""The exchanges, in a process of their own that is never killed, and the log of what is true.

`python -m tests.chaos.truth LOG`. The first line of standard input is a JSON list of accounts, each
`{"name", "exchange", "credentials"}`; the answer is what ccxt needs for each exchange. Then each line is a
command, and its answer a line: `{"exchange", "fault", ...}` sets a fault, `{"exchange", "mend": true}` ends
all of them, and `{"orders": true}` lists every order that was placed.

The ETH of each account is the number of its balance's version, and the log says when each version was
replaced. So the age of every balance that is shown anywhere is known exactly.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any, Final

from brokerwatch.simulator import EXCHANGES, Broken, ServedCall, SimulatedCoinbase, SimulatedExchange, serve
from tests.chaos.lines import LineFile

VERSION_S: Final = 0.25
BALANCE_PATHS: Final = {
    "/0/private/BalanceEx": "kraken",
    "/api/v3/brokerage/accounts": "coinbase",
    "/api/v5/account/balance": "okx",
}
MONEY: Final = {"USD": ("90000000", "0"), "USDT": ("90000000", "0"), "BTC": ("1", "0"), "ETH": ("1", "0")}
NEVER_ANSWERED: Final = frozenset(("hang", "stalled", "stalled_body", "drip"))


class Truth:
    """The exchanges and their log."""

    def __init__(self, path: Path, accounts: list[dict[str, Any]]) -> None:
        self.file = LineFile(path)
        self.names: dict[str, str] = {}
        self.exchanges: dict[str, SimulatedExchange] = {}
        self.accounts: list[tuple[SimulatedExchange, str, str]] = []
        for account in accounts:
            exchange = self.exchanges.get(account["exchange"])
            if exchange is None:
                exchange = self.exchanges[account["exchange"]] = EXCHANGES[account["exchange"]]()
            if isinstance(exchange, SimulatedCoinbase):
                exchange.places_repeated_ids = True  # an order that is sent twice is to be seen
            key = exchange.add_account(account["credentials"], MONEY)["api_key"]
            self.names[key] = account["name"]
            self.accounts.append((exchange, key, account["name"]))

    def watch(self, served: ServedCall) -> None:
        """Write down a question about a balance."""
        if served.call.path not in BALANCE_PATHS:
            return
        account = self.names.get(served.exchange.key_of(served.call) or "")
        if account is None:
            return
        fault = served.trouble.fault
        self.file.write(
            account=account, good=not fault and stated(served), fault=fault, hangs=fault in NEVER_ANSWERED
        )

    def obey(self, command: dict[str, Any]) -> object:
        """Carry out a command; its answer."""
        if "orders" in command:
            return [
                [name, order.client_id, f"{order.size if order.in_quote else order.quote_amount:.2f}"]
                for exchange, key, name in self.accounts
                for order in exchange.orders_of(key)
            ]
        exchange = self.exchanges[command.pop("exchange")]
        if command.pop("mend", False):
            exchange.mend()
        else:
            exchange.set_fault(command.pop("fault"), **command)
        return "done"

    def renew(self, ended: threading.Event) -> None:
        """Give each account the next version of its balance, again and again."""
        version = 1
        while not ended.wait(VERSION_S):
            for exchange, key, name in self.accounts:
                exchange.move_money("ETH", "1", listed=False, account=key)
                self.file.write(replaced=name, version=version)
            version += 1


def stated(served: ServedCall) -> bool:
    """Whether an answer states the balance, in the exchange's own form."""
    answer = served.answer
    if isinstance(answer, Broken) or answer.status != 200:
        return False
    told = json.loads(answer.body)
    return not told.get("error") and told.get("code", "0") == "0"


def main() -> None:
    """Serve until standard input ends."""
    truth, ended = Truth(Path(sys.argv[1]), json.loads(sys.stdin.readline())), threading.Event()
    with serve(*truth.exchanges.values(), watcher=truth.watch):
        options = {name: exchange.ccxt_options() for name, exchange in truth.exchanges.items()}
        print(json.dumps(options), flush=True)
        renewal = threading.Thread(target=truth.renew, args=(ended,))
        renewal.start()
        for line in sys.stdin:
            print(json.dumps(truth.obey(json.loads(line))), flush=True)
        ended.set()
        renewal.join()


if __name__ == "__main__":
    main()
