"""Readings, and a place to write them to, for the tests of changes."""

from __future__ import annotations

from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.health.changes import Change
from brokerwatch.messages import FaultKind, HealthState, Reading, Reason, Verdict

TTL_S: Final = 5.0


def reading(broker: str, errors: int = 0, *, clock: Clock, left_s: float = TTL_S) -> Reading:
    """A broker after so many errors in a row; three make it unavailable."""
    now = clock.now()
    out = errors >= 3
    state = HealthState.DEGRADED if errors else HealthState.HEALTHY
    return Reading(
        broker=broker,
        exchange="kraken",
        simulated=False,
        broker_epoch="",
        version=1,
        state=HealthState.UNAVAILABLE if out else state,
        verdict=Verdict(not out, Reason.ERRORS if out else Reason.OK),
        detail="",
        since_us=0,
        error_count=errors,
        fault=FaultKind.NETWORK if errors else None,
        as_of=None,
        cash=None,
        balance=None,
        labels={},
        valid_until_s=now.up_s + left_s,
        clock=clock,
    )


def errors_of(changes: list[Change]) -> list[tuple[str, int, int]]:
    return [(one.broker, one.before.error_count, one.after.error_count) for one in changes]
