"""Whether the raw answers of one `fetch_balance` prove the balance that ccxt made of them.

They are held against the exchange's own envelope (answers.py), page by page, and in the end ccxt may have
left out nothing of what they state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

from brokerwatch.exchanges import balances, json_text
from brokerwatch.exchanges.balances import Unstated
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages import Holding, amount
from brokerwatch.messages import total as summed


class Proof:
    """Holds the raw answers of one call against the exchange's envelope."""

    def __init__(self, family: str, code: Callable[[str], str]) -> None:
        self.holdings: dict[str, Holding] = {}
        self.stated = True
        self.taken = False
        """Whether any answer was one that we know."""
        self.goes_on = False
        """Whether the newest page promises another one."""
        self._code = code
        self._one_by_one = family != "kraken"  # there ccxt keeps the suffixes apart, and we add them up
        self._seen: set[str] = set()
        known: Mapping[str, Mapping[str, Callable[[object, Mapping[str, list[str]]], None]]] = {
            "kraken": {"/private/BalanceEx": self._kraken},
            "coinbase": {
                "/api/v3/brokerage/accounts": self._coinbase_page,
                "/v2/accounts": self._coinbase_older,
            },
            "okx": {"/api/v5/account/balance": self._okx, "/api/v5/asset/balances": self._okx_funding},
        }
        self._envelopes = known.get(family, {})

    def take(self, url: str, body: str) -> None:
        """One answer; whatever it is not about the balance is passed over. Raises UnprovenAnswer."""
        where = urlsplit(url)
        for path, envelope in self._envelopes.items():
            if where.path.endswith(path):
                envelope(json_text.parsed(body), parse_qs(where.query))
                self.taken = True

    def agree(self, structure: Mapping[str, Any]) -> None:
        """That ccxt has left out nothing. Raises UnprovenAnswer."""
        totals = structure.get("total")
        if not isinstance(totals, dict):
            raise UnprovenAnswer("what fetch_balance gave has no total")
        stated = cast("dict[str, Any]", totals)
        for currency, held in self.holdings.items() if self._one_by_one else ():
            theirs = stated.get(currency)
            if theirs is None or not math.isclose(float(theirs), float(held.total), rel_tol=1e-9):
                raise UnprovenAnswer(f"ccxt reads {theirs} {currency}, and the exchange states {held.total}")

    def _kraken(self, answer: object, query: object) -> None:
        del query
        try:
            self.holdings |= balances.kraken(answer, self._code)
        except Unstated:
            self.stated = False
            return
        assets = list(cast("dict[str, dict[str, Any]]", answer)["result"])
        if len({self._code(asset) for asset in assets}) < len(assets):
            raise UnprovenAnswer("two assets of one code: ccxt would keep one of them")

    def _coinbase_page(self, answer: object, query: Mapping[str, list[str]]) -> None:
        if "cursor" not in query:
            self._seen.clear()
            self.holdings.clear()
        self.goes_on = balances.coinbase_page(answer, self._code, self.holdings, self._seen) is not None

    def _coinbase_older(self, answer: object, query: object) -> None:
        del query
        self.holdings |= coinbase_older(answer, self._code)

    def _okx(self, answer: object, query: object) -> None:
        del query
        self.holdings |= balances.okx(answer, self._code)

    def _okx_funding(self, answer: object, query: object) -> None:
        del query
        self.holdings |= balances.okx_funding(answer, self._code)


OLDER_COUNTED: Final = frozenset({"wallet", "fiat"})
"""The accounts that ccxt adds up."""
OLDER_LEFT_OUT: Final = frozenset({"vault", "multisig", "multisig_vault"})
"""The accounts that cannot be traded from."""


def coinbase_older(answer: Any, code: Callable[[str], str]) -> dict[str, Holding]:
    """The holdings of Coinbase's /v2/accounts, which states no holds. Raises UnprovenAnswer.

    ccxt reads its first page alone, so an answer that has a next one is a part of a balance.
    ("List accounts" and "Pagination" of the Coinbase App API.)
    """
    match answer:
        case {"errors": errors} if errors:
            raise UnprovenAnswer("the answer carries errors")
        case {"data": list(), "pagination": {"next_uri": None | ""}}:
            rows: list[Any] = answer["data"]
        case {"data": list(), "pagination": {"next_uri": str()}}:
            raise UnprovenAnswer(
                "this is the first page of the accounts and ccxt reads no further; expected the option "
                "fetchBalance = v3PrivateGetBrokerageAccounts, or params {'v3': True}, which read all"
            )
        case _:
            raise UnprovenAnswer("the answer has no data, or does not say whether it is all of it")
    found: dict[str, Holding] = {}
    for row in rows:
        match row:
            case {"type": str(kind), "balance": {"amount": str(stated), "currency": str(currency)}}:
                pass
            case _:
                raise UnprovenAnswer("an account without type, amount or currency")
        if kind in OLDER_LEFT_OUT:
            continue
        if kind not in OLDER_COUNTED:
            raise UnprovenAnswer(f"an account is of a type that we do not know: {kind[:40]!r}")
        try:
            held = amount(stated)
        except ValueError as error:
            raise UnprovenAnswer(f"amount of {currency[:40]}: {error}") from error
        before = found.get(code(currency))
        held = held if before is None else summed((before.total, held))
        found[code(currency)] = Holding(free=held, used=_ZERO, total=held)
    return found


_ZERO: Final = Decimal(0)
