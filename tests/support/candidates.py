"""Candidates, readings and needs for the tests of the choice of an account."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import msgspec

from brokerwatch.clock import Clock, Instant, ManualClock
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import (
    Capability,
    CapabilityState,
    FaultKind,
    HealthState,
    Holding,
    Product,
    Reading,
    Reason,
    Verdict,
)
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import Candidate, RefusalCode
from brokerwatch.routing.selection import Choice

CLOCK: Final = ManualClock()
"""No test pushes it: every age and expiry in this file is relative to its one moment."""
BTC_USD: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="XXBTZUSD")
MARKETS: Final[Mapping[str, Product]] = {"BTC/USD": BTC_USD}
BUY: Final = Need(symbol="BTC/USD", side="buy", quote_amount=Decimal(500))
SELL: Final = Need(symbol="BTC/USD", side="sell", base_amount=Decimal("0.5"))


def market(**changes: Any) -> dict[str, Product]:
    """The market BTC/USD by its symbol, but for these changes."""
    product = msgspec.structs.replace(BTC_USD, **changes)
    return {product.symbol: product}


def free(**amounts: str) -> dict[str, Holding]:
    return {
        code: Holding(free=Decimal(text), used=Decimal(0), total=Decimal(text))
        for code, text in amounts.items()
    }


RICH: Final = free(USD="1000", BTC="1")


def reading(
    broker: str = "a",
    *,
    state: HealthState = HealthState.HEALTHY,
    available: bool = True,
    reason: Reason = Reason.OK,
    errors: int = 0,
    age_s: float | None = 1.0,
    balance: Mapping[str, Holding] | None = RICH,
    left_s: float = 5.0,
    overtaken: bool = False,
    max_age_s: float | None = None,
    trade: CapabilityState | None = None,
    clock: Clock = CLOCK,
) -> Reading:
    now = clock.now()
    capabilities: Mapping[str, Capability] = {}
    if trade is not None:
        capabilities = {
            "trade": Capability(state=trade, reason="cancel_only", detail="until noon", since_us=0)
        }
    return Reading(
        broker=broker,
        exchange="kraken",
        simulated=False,
        broker_epoch="",
        version=1,
        state=state,
        verdict=Verdict(available, reason),
        detail="",
        since_us=0,
        error_count=errors,
        fault=FaultKind.NETWORK if errors else None,
        as_of=None if age_s is None else Instant(now.wall_us, now.up_s - age_s),
        cash=None,
        balance=None if balance is None else MappingProxyType(dict(balance)),
        labels={},
        valid_until_s=now.up_s + left_s,
        clock=clock,
        max_age_s=max_age_s,
        overtaken=overtaken,
        capabilities=capabilities,
    )


def listing(by_symbol: Mapping[str, Product] | None) -> Products | None:
    return None if by_symbol is None else Products(by_symbol.values())


def candidate(
    broker: str = "a",
    *,
    products: Mapping[str, Product] | None = MARKETS,
    listed: int = 0,
    trading: bool | None = True,
    **known: Any,
) -> Candidate:
    return Candidate(
        reading=reading(broker, **known), products=listing(products), listed=listed, trading=trading
    )


def degraded(broker: str = "a", *, errors: int = 1, **known: Any) -> Candidate:
    return candidate(broker, state=HealthState.DEGRADED, errors=errors, **known)


def with_reading(one: Candidate, **changes: Any) -> Candidate:
    """The same candidate with these changes to its reading."""
    return dataclasses.replace(one, reading=msgspec.structs.replace(one.reading, **changes))


def need_of(**arguments: Any) -> Need:
    """A need of whatever arguments, also such as no type checker would let through."""
    given_: dict[str, Any] = {"symbol": "BTC/USD", "side": "buy", **arguments}
    return Need(**given_)


def refusal(choice: Choice, broker: str = "a") -> tuple[RefusalCode, str]:
    return next((one.code, one.text) for one in choice.refused if one.broker == broker)


# --- what properties are drawn from ------------------------------------------------------------------

TICK: Final = Decimal("0.000000000000000001")


def names_of(choice: Choice) -> list[str]:
    return [one.broker for one in choice.ranked]
