"""What is said inside brokerwatch and to the outside: values only, nothing here acts."""

from __future__ import annotations

if __name__ != "brokerwatch.messages":
    raise ImportError("import brokerwatch.messages; this folder only looks like a package of its own")

from brokerwatch.messages.balance import Balance, DetailedBalance, Holding, Wallet, amount, total
from brokerwatch.messages.envelope import Envelope, MessageType, Stamp, next_epoch
from brokerwatch.messages.events import BalanceSeen, BrokerAlive, BrokerEvent, FetchFailed
from brokerwatch.messages.health import (
    Fault,
    FaultKind,
    HealthState,
    Reading,
    ReadingData,
    Reason,
    Roster,
    RosterData,
    Verdict,
    clipped,
)

__all__ = [
    "Balance",
    "BalanceSeen",
    "BrokerAlive",
    "BrokerEvent",
    "DetailedBalance",
    "Envelope",
    "Fault",
    "FaultKind",
    "FetchFailed",
    "HealthState",
    "Holding",
    "MessageType",
    "Reading",
    "ReadingData",
    "Reason",
    "Roster",
    "RosterData",
    "Stamp",
    "Verdict",
    "Wallet",
    "amount",
    "clipped",
    "next_epoch",
    "total",
]
