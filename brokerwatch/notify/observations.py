"""What one reading says at one moment, as the decisions about messages need it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.plain_words import plain_detail, rounded
from brokerwatch.messages import CapabilityState, FaultKind, Reading, Reason

TRADE: Final = "trade"
ORDERS: Final = " orders"
"""How the subject of an outage of orders alone ends."""
_GONE: Final = frozenset({Reason.NOTHING_HEARD, Reason.SHUTDOWN})
_ASKED_WHILE_OUT: Final = frozenset(
    {Reason.ERRORS, Reason.RECOVERING, Reason.LOCAL_NETWORK, Reason.UNPROVEN, Reason.NEVER_SEEN}
)
"""The reasons under which an exchange is still asked again and again."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One account at one moment."""

    broker: str
    """Its configured name."""
    exchange: str
    """The exchange's ccxt id, or `custom`."""
    available: bool
    """Whether it can be trusted at that moment."""
    reason: Reason
    """Why it is, or is not, available."""
    since_us: int
    """Wall clock, µs: when this verdict began."""
    fault: FaultKind | None = None
    """The kind of its newest fault; None when there is none."""
    detail: str = ""
    """For people."""
    error_count: int = 0
    """How many faults came in a row."""
    as_of: Instant | None = None
    """When the last known balance was asked for; None: there is none."""
    cash: str = ""
    """The free cash as text; empty where it is not known or not published."""
    cash_unit: str = ""
    """The unit of the cash, such as `USD`."""
    amount: Decimal | None = None
    """The same cash, to be added up; None where it is not known or not published."""
    polled: bool = True
    """Whether it is asked by itself, as far as the reading says."""
    outcome_until_s: float = float("inf")
    """The monotonic second by which its next outcome is due; infinite where the reading does not say."""
    simulated: bool = False
    """Whether its exchange is a simulator."""
    trade: CapabilityState = CapabilityState.UNKNOWN
    """Whether orders can be placed."""
    trade_reason: str = ""
    """Why they cannot."""
    of_orders: bool = False
    """Whether it is about the orders of the account alone, and not about the account."""

    @property
    def subject(self) -> str:
        """What it is about, in words: the account, or its orders."""
        return f"{self.broker}{ORDERS}" if self.of_orders else self.broker

    @property
    def ok(self) -> bool:
        """Whether all is well with its subject."""
        return self.can_trade if self.of_orders else self.available

    @property
    def gone(self) -> bool:
        """Whether nothing is heard of it any more, or its cluster was stopped."""
        return self.reason in _GONE

    @property
    def asked(self) -> bool:
        """Whether the exchange is asked about it by itself."""
        return self.polled if self.available else self.reason in _ASKED_WHILE_OUT

    @property
    def cut_off(self) -> bool:
        """Whether its newest outcome was a fault of the network."""
        if self.of_orders:
            return self.trade_reason == str(FaultKind.NETWORK)
        return self.fault is FaultKind.NETWORK or self.reason is Reason.LOCAL_NETWORK

    @property
    def in_maintenance(self) -> bool:
        """Whether the exchange itself says that it is in maintenance."""
        return (
            self.reason is Reason.MAINTENANCE
            or self.fault is FaultKind.MAINTENANCE
            or (self.trade is CapabilityState.DOWN and self.trade_reason == str(FaultKind.MAINTENANCE))
        )

    @property
    def can_trade(self) -> bool:
        """Whether an order may be placed, as far as it is known."""
        return self.available and self.trade not in (CapabilityState.DOWN, CapabilityState.LIMITED)


def observation(reading: Reading, now: Instant) -> Observation:
    """What a reading says at this moment."""
    available = reading.verdict.available and now.up_s < reading.available_until_s
    reason = reading.verdict.reason
    if reading.verdict.available and not available:
        expired = reading.valid_until_s <= reading.proven_until_s
        reason = Reason.NOTHING_HEARD if expired else Reason.UNPROVEN
    trade = reading.capabilities.get(TRADE)
    return Observation(
        broker=reading.broker,
        exchange=reading.exchange,
        available=available,
        reason=reason,
        since_us=reading.since_us,
        fault=reading.fault,
        detail=plain_detail(reading.detail),
        error_count=reading.error_count,
        as_of=reading.as_of,
        cash="" if reading.cash is None else rounded(reading.cash),
        cash_unit=reading.cash_unit,
        amount=reading.cash,
        polled=min(reading.proven_until_s, reading.outcome_until_s) < float("inf"),
        outcome_until_s=reading.outcome_until_s,
        simulated=reading.simulated,
        trade=CapabilityState.UNKNOWN if trade is None else trade.state,
        trade_reason="" if trade is None else trade.reason,
    )


def orders_observation(reading: Reading, seen: Observation) -> Observation | None:
    """The same about the orders of the account alone; None while the account itself is not available."""
    trade = reading.capabilities.get(TRADE)
    if trade is None or not seen.available:
        return None
    return replace(seen, of_orders=True, since_us=trade.since_us, detail=trade.detail)


def observed(reading: Reading, now: Instant) -> tuple[Observation, ...]:
    """Everything that a reading says at this moment: about the account, and about its orders."""
    seen = observation(reading, now)
    orders = orders_observation(reading, seen)
    return (seen,) if orders is None else (seen, orders)
