"""Amounts, holdings and readings that tests of the messages share."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.messages import (
    Envelope,
    FaultKind,
    HealthState,
    Holding,
    MessageType,
    Reading,
    Reason,
    Roster,
    Stamp,
    Verdict,
)
from brokerwatch.messages.commands import CommandData, CommandDoneData, SupervisorAliveData
from brokerwatch.messages.envelope import AnyData

NOW: Final = Instant(wall_us=1_800_000_000_000_000, up_s=1_000.0)
LONGEST: Final = "9" * 30 + "." + "9" * 18


# Holdings and balances ------------------------------------------------------------------------------


def holding(free: str, total: str = "0") -> Holding:
    return Holding(free=Decimal(free), used=Decimal(0), total=Decimal(total))


# Readings -------------------------------------------------------------------------------------------


def reading(**values: Any) -> Reading:
    usual: dict[str, Any] = {
        "broker": "kraken-main",
        "exchange": "kraken",
        "simulated": True,
        "broker_epoch": "1800000000000000-0000abcd",
        "version": 7,
        "state": HealthState.DEGRADED,
        "verdict": Verdict(available=True, reason=Reason.OK),
        "detail": "timed out",
        "since_us": NOW.wall_us,
        "error_count": 1,
        "fault": FaultKind.NETWORK,
        "as_of": NOW,
        "cash": Decimal("1234.56"),
        "balance": {"USD": holding("1234.56", "1234.56"), "BTC": holding("0.50000000")},
        "labels": {"desk": "one"},
        "valid_until_s": 1_005.0,
        "clock": ManualClock(),
    }
    return Reading(**{**usual, **values})


# The codec ------------------------------------------------------------------------------------------


def stamp(**values: Any) -> Stamp:
    usual: dict[str, Any] = {
        "src": "supervisor/main",
        "epoch": "1800000000000000-0000abcd",
        "seq": 1,
        "ts_us": NOW.wall_us,
        "up_us": 5_000_000,
        "ttl_ms": 5_000,
    }
    return Stamp(**{**usual, **values})


_ID: Final = "00112233445566778899aabbccddeeff"
_COMMANDS: Final[dict[MessageType, tuple[str, AnyData]]] = {
    MessageType.COMMAND: (
        "operators/main",
        CommandData(
            id=_ID,
            verb="hold",
            exchange="kraken",
            broker="kraken-main",
            by="anna",
            why="a test",
            until_us=1_800_000_600_000_000,
        ),
    ),
    MessageType.COMMAND_DONE: (
        "broker/kraken/kraken-main",
        CommandDoneData(
            id=_ID,
            exchange="kraken",
            broker="kraken-main",
            refused=False,
            said="kraken-main is held out by anna: a test",
        ),
    ),
    MessageType.SUPERVISOR_ALIVE: ("operators/main", SupervisorAliveData(brokers=2)),
}
"""Who sends each of these, and what."""


def example(kind: MessageType) -> Envelope:
    """One message of each type, for ever the same."""
    if kind is MessageType.ROSTER:
        quiet = reading(
            broker="okx-2",
            exchange="okx",
            state=HealthState.UNKNOWN,
            verdict=Verdict(available=False, reason=Reason.NEVER_SEEN),
            as_of=None,
            cash=None,
            balance=None,
            labels={},
            fault=None,
            error_count=0,
            detail="",
            broker_epoch="",
            version=0,
        )
        return Envelope(type=kind, stamp=stamp(), data=Roster((reading(), quiet)).data())
    if kind in _COMMANDS:
        return Envelope(type=kind, stamp=stamp(src=_COMMANDS[kind][0]), data=_COMMANDS[kind][1])
    if kind is MessageType.READING:
        return Envelope(type=kind, stamp=stamp(), data=reading().data())
    own: dict[MessageType, dict[str, Any]] = {
        MessageType.BALANCE_SEEN: {
            "state": HealthState.HEALTHY,
            "error_count": 0,
            "fault": None,
            "detail": "",
        },
        MessageType.FETCH_FAILED: {
            "state": HealthState.UNAVAILABLE,
            "error_count": 3,
            "verdict": Verdict(available=False, reason=Reason.ERRORS),
        },
        MessageType.BROKER_ALIVE: {"version": 8},
    }
    broker = stamp(src="broker/kraken/kraken-main", seq=2)
    return Envelope(type=kind, stamp=broker, data=reading(**own[kind]).data())
