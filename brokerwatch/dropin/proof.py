"""Whether the raw answers of one `fetch_balance` prove the balance that ccxt made of them.

They are held against the exchange's own envelope, as its adapter reads it, page by page, and in the end
ccxt may have left out nothing of what they state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.adapter import Profile, StatedBalance
from brokerwatch.exchanges.balances import Code
from brokerwatch.exchanges.envelope import UnprovenAnswer


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
            if theirs is None or not math.isclose(float(theirs), float(held.total), rel_tol=1e-9):
                raise UnprovenAnswer(f"ccxt reads {theirs} {currency}, and the exchange states {held.total}")
