"""The values that threads and processes exchange: balances, readings, orders, and their form on the wire."""

from __future__ import annotations

if __name__ != "brokerwatch.messages":
    raise ImportError("import brokerwatch.messages; this folder only looks like a package of its own")

from brokerwatch.messages.balance import Balance, DetailedBalance, Holding, Wallet, amount, total
from brokerwatch.messages.envelope import Envelope, MessageType, Stamp, next_epoch
from brokerwatch.messages.events import BalanceSeen, BrokerAlive, BrokerEvent, FetchFailed
from brokerwatch.messages.health import Fault, FaultKind, HealthState, Reason, Verdict, clipped
from brokerwatch.messages.reading import Reading, Roster
from brokerwatch.messages.trading import (
    Candle,
    Capability,
    CapabilityState,
    Order,
    OrderState,
    Position,
    Product,
    Side,
)
from brokerwatch.messages.wire import ReadingData, RosterData

__all__ = [
    "Balance",
    "BalanceSeen",
    "BrokerAlive",
    "BrokerEvent",
    "Candle",
    "Capability",
    "CapabilityState",
    "DetailedBalance",
    "Envelope",
    "Fault",
    "FaultKind",
    "FetchFailed",
    "HealthState",
    "Holding",
    "MessageType",
    "Order",
    "OrderState",
    "Position",
    "Product",
    "Reading",
    "ReadingData",
    "Reason",
    "Roster",
    "RosterData",
    "Side",
    "Stamp",
    "Verdict",
    "Wallet",
    "amount",
    "clipped",
    "next_epoch",
    "total",
]
