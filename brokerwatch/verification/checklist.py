"""What is verified of an account before it goes live: nine categories, each a list of weighted checks.

The maximum is the sum of the points, never a number beside it: a list that can be read off and a total
that can drift apart is how a checklist comes to pass whatever is wrong. A check has passed only if what
it says was done and seen; what was not done is a skip, and a skip gives no points.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class CheckOutcome(StrEnum):
    """How one check ended."""

    PASS = "pass"  # noqa: S105 - an outcome, no secret
    """It was done, and all is as it should be."""
    WARN = "warn"
    """It was done and has passed, with a remark that an operator should read."""
    FAIL = "fail"
    """It was done, and something is wrong; or what should have answered did not."""
    SKIP = "skip"
    """It was not done, and the evidence says why. No points."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is verified."""

    name: str
    """`category.what`; fixed, for programs."""
    title: str
    """For people."""
    points: int

    @property
    def category(self) -> str:
        """The name of its category."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a check ended, and its evidence in one line."""

    outcome: CheckOutcome
    evidence: str


def passed(evidence: str) -> Judgement:
    """It is as it should be."""
    return Judgement(CheckOutcome.PASS, evidence)


def warned(evidence: str) -> Judgement:
    """It has passed, with a remark."""
    return Judgement(CheckOutcome.WARN, evidence)


def failed(evidence: str) -> Judgement:
    """Something is wrong."""
    return Judgement(CheckOutcome.FAIL, evidence)


def skipped(why: str) -> Judgement:
    """It was not done."""
    return Judgement(CheckOutcome.SKIP, why)


CATEGORIES: Final = MappingProxyType(
    {
        "credentials": "Credentials",
        "connection": "Connection",
        "balance": "Balance",
        "health": "Health",
        "market_data": "Market data",
        "symbols": "Symbols",
        "positions": "Positions",
        "trade": "Trade",
        "safety": "Safety",
    }
)
"""Name to title, in the order of the report."""

CHECKLIST: Final = (
    Check("credentials.present", "every credential that the exchange needs is there", 3),
    Check("credentials.kept", "no other user of this machine can read them", 3),
    Check("credentials.signs", "a request can be signed with them", 4),
    Check("connection.reach", "the exchange answers", 4),
    Check("connection.open", "it says that it is open for trading", 4),
    Check("connection.authentication", "it accepts a signed question", 8),
    Check("connection.account", "which account this is", 4),
    Check("balance.simple", "get_account_balance() answers", 4),
    Check("balance.detailed", "every currency adds up, and so does the cash", 5),
    Check("balance.held", "what open orders hold is said to be held", 6),
    Check("health.available", "the account is available", 2),
    Check("health.error_count", "every fetch that fails is counted, and one that succeeds ends the count", 2),
    Check("health.fallback", "a fetch that fails is answered with the last known balance", 2),
    Check("health.flip", "so many errors in a row make it unavailable", 2),
    Check("health.recovery", "a success brings it back", 2),
    Check("market_data.products", "the list of markets is whole", 5),
    Check("market_data.candles_fresh", "candles are of now", 4),
    Check("market_data.candles_ordered", "candles are in order, without a gap", 3),
    Check("market_data.candles_plausible", "prices agree with what else the exchange says", 3),
    Check("symbols.normalised", "every spelling of a market is read as that market", 4),
    Check("symbols.busd_refused", "BTC/BUSD is refused, and nothing is put in its place", 3),
    Check("symbols.usd_supported", "BTC/USD is supported", 3),
    Check("positions.structure", "positions can be read, and are what the balance says", 5),
    Check("positions.open_orders", "they agree with the open orders", 5),
    Check("trade.market_order", "a market order passes the exchange's dry run", 5),
    Check("trade.close", "so does closing a position", 5),
    Check("safety.withdraw", "the key cannot withdraw", 4),
    Check("safety.rights", "the key may do what it is for", 2),
    Check("safety.clock", "this machine's clock agrees with the exchange's", 2),
    Check("safety.nonce", "signed questions in a row are all accepted", 2),
)
"""Every check, in the order in which they are done."""

MAXIMUM: Final = sum(check.points for check in CHECKLIST)
"""The most points that can be had."""

BY_NAME: Final = MappingProxyType({check.name: check for check in CHECKLIST})
