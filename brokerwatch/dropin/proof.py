"""Whether the raw answers of one `fetch_balance` prove the balance that ccxt made of them.

They are held against the exchange's own envelope, as its adapter reads it, page by page, and in the end
ccxt may have left out nothing of what they state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.adapter import Profile, StatedBalance
from brokerwatch.exchanges.balances import Code
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages import total


class Proof:
    """Holds the raw answers of one call against the exchange's envelope."""

    def __init__(self, profile: Profile, code: Code) -> None:
        self.seen = StatedBalance()
        """What the answers have stated so far."""
        self.taken = False
        """Whether any answer was one that we know."""
        self._profile = profile
        self._code = code

    def take(self, url: str, body: str) -> None:
        """Read one answer; one that is not about the balance is passed over. Raises UnprovenAnswer."""
        where = urlsplit(url)
        for path, read in self._profile.balance_answers.items():
            if where.path.endswith(path):
                read(self.seen, json_text.parsed(body), parse_qs(where.query), self._code)
                self.taken = True

    def agree(self, structure: Mapping[str, Any]) -> None:
        """That ccxt has left out nothing. Raises UnprovenAnswer."""
        totals = structure.get("total")
        if not isinstance(totals, dict):
            raise UnprovenAnswer("what fetch_balance gave has no total")
        stated = cast("dict[str, Any]", totals)
        for currency, held in self.seen.holdings.items() if self._profile.ccxt_adds_up else ():
            theirs = stated.get(currency)
            # ccxt may add what lies apart, such as the money of futures, which is taken out later.
            least = held.least_total
            most = total((least, *(one.least_total for one in self.seen.apart_of(currency))))
            if theirs is None or not _between(float(theirs), float(least), float(most)):
                raise UnprovenAnswer(f"ccxt reads {theirs} {currency}, and the exchange states {least}")

    def take_apart_out(self, structure: dict[str, Any]) -> None:
        """Leave in ccxt's structure what can be spent, where the exchange states money that cannot."""
        for currency in {code for wallet in self.seen.apart.values() for code in wallet}:
            held = self.seen.holdings.get(currency)
            for part in ("free", "used", "total"):
                table = structure.get(part)
                if not isinstance(table, dict):
                    continue
                if held is None:
                    cast("dict[str, Any]", table).pop(currency, None)
                    structure.pop(currency, None)
                    continue
                before = cast("dict[str, Any]", table).get(currency)
                ours = getattr(held, part)
                table[currency] = type(before)(ours) if isinstance(before, str | float) else ours
                row = structure.get(currency)
                if isinstance(row, dict):
                    row[part] = table[currency]


def _between(number: float, least: float, most: float) -> bool:
    near = max(abs(least), abs(most)) * 1e-9
    return least - near <= number <= most + near
