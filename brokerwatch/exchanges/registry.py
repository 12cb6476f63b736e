"""Which adapter speaks to which exchange. No other module knows the adapters by name.

A new exchange is one line in `ADAPTERS`; see CONTRIBUTING.md, "How to add an exchange".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from brokerwatch.exchanges import clock_skew, faults, market_refusals, refusals
from brokerwatch.exchanges.adapter import Caller, ExchangeAdapter, Profile
from brokerwatch.exchanges.coinbase import Coinbase
from brokerwatch.exchanges.faults import Failure, FaultWords
from brokerwatch.exchanges.kraken import Kraken
from brokerwatch.exchanges.okx import Okx
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.exchanges.unified import Unified
from brokerwatch.messages import Fault


class MakesAdapter(Protocol):
    """The class of an adapter."""

    @property
    def profile(self) -> Profile:
        """What is the same for each account there."""
        ...

    def __call__(self, caller: Caller) -> ExchangeAdapter:
        """An adapter that asks with `caller`."""
        ...


ADAPTERS: Final[Mapping[str, MakesAdapter]] = MappingProxyType(
    {
        "kraken": Kraken,
        "coinbase": Coinbase,
        "coinbaseadvanced": Coinbase,
        "okx": Okx,
        "myokx": Okx,
        "okxus": Okx,
    }
)
"""Each ccxt id with an adapter of its own; all others are asked by `Unified`."""

FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    {exchange: adapter.profile.family for exchange, adapter in ADAPTERS.items()}
)
"""The name of each exchange's adapter, by ccxt id; an alias shares its parent's."""

_BY_FAMILY: Final[Mapping[str, MakesAdapter]] = MappingProxyType(
    {adapter.profile.family: adapter for adapter in ADAPTERS.values()}
)

FAULT_WORDS: Final[Mapping[str, FaultWords]] = MappingProxyType(
    {family: adapter.profile.fault_words for family, adapter in _BY_FAMILY.items()}
)
BUDGETS: Final[Mapping[str, Budget]] = MappingProxyType(
    {
        family: adapter.profile.budget
        for family, adapter in _BY_FAMILY.items()
        if adapter.profile.budget is not None
    }
)
"""Published budgets of private calls, by the name of the adapter."""


def adapter_for(caller: Caller) -> ExchangeAdapter:
    """The adapter of the exchange that `caller` asks."""
    return _BY_FAMILY.get(caller.family, Unified)(caller)


def profile_of(family: str) -> Profile:
    """What is the same for each account at an exchange, by the name of its adapter; empty: `Unified`."""
    return _BY_FAMILY.get(family, Unified).profile


def fault_of(failure: Failure, wall_s: float = 0.0, skew_s: float | None = None) -> Fault:
    """The fault that a failure is, by its own exchange's words; see `faults.classify`.

    `skew_s`: how far our clock was measured to be ahead; None: the Date of the answer is all that is known.
    """
    profile = profile_of(failure.family)
    fault = faults.classify(failure, profile.fault_words, wall_s)
    known_s = clock_skew.dated_skew_s(failure, wall_s) if skew_s is None else skew_s
    return clock_skew.explained(fault, failure, known_s, profile.clock_tolerance_s)


def order_fault_of(failure: Failure, wall_s: float = 0.0, skew_s: float | None = None) -> Fault:
    """The fault that the failure of an order is; it may be about the order's market alone."""
    profile = profile_of(failure.family)
    fault = faults.classify(failure, profile.fault_words, wall_s)
    closed_s = market_refusals.closed_s(failure, fault, profile.market_words)
    if closed_s:
        return msgspec.structs.replace(fault, closes_market_s=closed_s)
    return fault_of(failure, wall_s, skew_s)


def refusal(family: str, answer: object) -> str:
    """The exchange's own words if its answer says for certain that nothing was placed; else empty."""
    return refusals.refusal(profile_of(family).refusals, answer)


def is_refused_order(failure: Failure) -> bool:
    """Whether the answer in a failure of which no status is known refuses an order in certain words."""
    return bool(refusal(failure.family, refusals.answered_map(failure.body)))


def definitely_not_placed(failure: Failure) -> bool:
    """Whether a call that was to place an order failed with the exchange's own, certain no."""
    return refusals.definitely_not_placed(failure, profile_of(failure.family).refusals)
