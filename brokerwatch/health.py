"""The health of one broker: a pure fold over the outcomes of its fetches.

The theory, in the order in which it matters:

*A fetch ends in a balance or in a fault.* A balance becomes the last known and clears the count. A
fault leaves the last known alone and adds one to the count of consecutive faults. At the
threshold (`BROKER_MAX_CONSECUTIVE_ERRORS`, three) the broker becomes UNAVAILABLE, and one success
brings it back. A real zero balance is a success; an answer that could not be read is a fault. So
"no money" and "could not ask" can never be confused.

*What is no outcome changes nothing.* A cancelled fetch, a cache hit, a wait in a queue that ran
out, a heartbeat: they raise `version`, which orders the broker's own events, and nothing else. A
breaker that resets its count on a cancellation reports an exchange healthy that nobody reached.

*A restart is not evidence of health.* A broker that starts again knows its last balance and what it
was convicted of, and has to show a success before anybody calls it available. Only the very first
life of a broker starts HEALTHY: that is the contract its users know, and it lasts until the
third fault at the latest.

*The evidence and the vetoes are kept apart.* What the fetches say is evidence; silence, death,
an operator's hold are vetoes that somebody else lays. Neither is written into the other: silence
does not count as errors, and when a hold ends, the state is what it would have been without it.
`verdict` brings the two together. It is the only function that decides, and everybody calls it.

Here is the table; the code below reads it and has no second opinion. TRIP is the fault that
reaches the threshold.

                SUCCESS    FAULT        TRIP         NEUTRAL      RESTART
    UNKNOWN     HEALTHY    UNKNOWN      UNAVAILABLE  same         UNKNOWN
    HEALTHY     HEALTHY    DEGRADED     UNAVAILABLE  same         UNKNOWN
    DEGRADED    HEALTHY    DEGRADED     UNAVAILABLE  same         UNKNOWN
    UNAVAILABLE HEALTHY    UNAVAILABLE  UNAVAILABLE  same         UNAVAILABLE

No row leads from "not available" to "available" but by SUCCESS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.messages import Balance, Fault, HealthState, Reason, Verdict, clipped

BROKER_MAX_CONSECUTIVE_ERRORS: Final = 3
"""Consecutive faults that make a broker unavailable, unless its configuration says another number."""


class Happening(Enum):
    """What can befall a broker, as the table's columns."""

    SUCCESS = "success"
    FAULT = "fault"
    TRIP = "trip"
    NEUTRAL = "neutral"
    RESTART = "restart"


_U, _H, _D, _X = HealthState.UNKNOWN, HealthState.HEALTHY, HealthState.DEGRADED, HealthState.UNAVAILABLE
_COLUMNS: Final = (
    Happening.SUCCESS,
    Happening.FAULT,
    Happening.TRIP,
    Happening.NEUTRAL,
    Happening.RESTART,
)
TRANSITIONS: Final[Mapping[tuple[HealthState, Happening], HealthState]] = MappingProxyType(
    {
        (state, happening): target
        for state, row in {
            _U: (_H, _U, _X, _U, _U),
            _H: (_H, _D, _X, _H, _U),
            _D: (_H, _D, _X, _D, _U),
            _X: (_H, _X, _X, _X, _X),
        }.items()
        for happening, target in zip(_COLUMNS, row, strict=True)
    }
)
"""(state, happening) to the next state: the `simple` policy, whole."""


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that one broker's outcomes say about it. Make one with `begin`, then fold."""

    state: HealthState
    since: Instant
    """When `state` last changed."""
    threshold: int = BROKER_MAX_CONSECUTIVE_ERRORS
    """The number of consecutive faults that trips it; at least 1."""
    error_count: int = 0
    """The run of counted faults up to now."""
    fault: Fault | None = None
    """The newest fault of that run; None when the run is empty."""
    balance: Balance | None = None
    """The last known. Only a success changes it, and no fault ever clears it."""
    version: int = 0
    """+1 for every event of this life."""

    @classmethod
    def begin(cls, now: Instant, *, threshold: int = BROKER_MAX_CONSECUTIVE_ERRORS) -> Health:
        """The very first life of a broker: HEALTHY, and no balance."""
        if threshold < 1:
            raise ValueError(f"the threshold must be at least 1, not {threshold}")
        return cls(state=HealthState.HEALTHY, since=now, threshold=threshold)

    def seen(self, balance: Balance, now: Instant) -> Health:
        """A fetch succeeded. An observation older than the last known proves health but replaces nothing."""
        last = self.balance
        newest = last if last is not None and balance.as_of.up_s < last.as_of.up_s else balance
        return replace(self._moved(Happening.SUCCESS, now), error_count=0, fault=None, balance=newest)

    def failed(self, fault: Fault, now: Instant) -> Health:
        """A fetch met a fault. The last known stays."""
        count = self.error_count + 1
        happening = Happening.TRIP if count >= self.threshold else Happening.FAULT
        return replace(self._moved(happening, now), error_count=count, fault=fault)

    def ignored(self, now: Instant) -> Health:
        """Something happened that is no outcome: a cancellation, a heartbeat. Only `version` changes."""
        return self._moved(Happening.NEUTRAL, now)

    def restarted(self, now: Instant) -> Health:
        """The first state of the next life: what was known is known, and nothing is proven."""
        return replace(self._moved(Happening.RESTART, now), version=0)

    def _moved(self, happening: Happening, now: Instant) -> Health:
        target = TRANSITIONS[self.state, happening]
        since = self.since if target is self.state else now
        return replace(self, state=target, since=since, version=self.version + 1)


AVAILABLE: Final = frozenset({HealthState.HEALTHY, HealthState.DEGRADED})
"""The evidence under which a broker may be used."""

_EVIDENCE_REASON: Final[Mapping[HealthState, Reason]] = MappingProxyType(
    {
        HealthState.UNKNOWN: Reason.NEVER_SEEN,
        HealthState.HEALTHY: Reason.OK,
        HealthState.DEGRADED: Reason.OK,
        HealthState.UNAVAILABLE: Reason.ERRORS,
        HealthState.RECOVERING: Reason.RECOVERING,
        HealthState.MAINTENANCE: Reason.MAINTENANCE,
    }
)

PRECEDENCE: Final = (
    Reason.CONFIG,
    Reason.SHUTDOWN,
    Reason.HELD_OUT,
    Reason.FAILED,
    Reason.NEVER_SEEN,
    Reason.BLIND,
    Reason.SILENT,
    Reason.RESTARTING,
    Reason.LOCKED_OUT,
    Reason.AUTH,
)
"""The vetoes, strongest first: the first one laid is the reason that is given."""


@dataclass(frozen=True, slots=True)
class Veto:
    """Why the evidence does not count just now, in words, and since when."""

    since: Instant
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Vetoes:
    """The vetoes laid on one broker. Immutable: laying and lifting give a new value."""

    laid: Mapping[Reason, Veto] = field(default_factory=lambda: MappingProxyType({}))
    lifted_us: int = 0
    """Wall clock, µs: when a veto was last lifted, which is when the verdict after it began."""
    cut_off: bool = False
    """Every broker meets network faults at once. No veto: it changes the reason and never the answer."""

    def lay(self, reason: Reason, detail: str, now: Instant) -> Vetoes:
        """With one veto more. Laying it again changes nothing: it began when it began."""
        if reason not in PRECEDENCE:
            raise ValueError(f"{reason} is no veto")
        if reason in self.laid:
            return self
        return replace(self, laid=MappingProxyType({**self.laid, reason: Veto(now, clipped(detail))}))

    def lift(self, now: Instant, *reasons: Reason) -> Vetoes:
        """Without these vetoes; the same object when none of them was laid."""
        kept = {reason: veto for reason, veto in self.laid.items() if reason not in reasons}
        if len(kept) == len(self.laid):
            return self
        return replace(self, laid=MappingProxyType(kept), lifted_us=now.wall_us)

    @property
    def strongest(self) -> Reason | None:
        """The veto that gives the reason; None when there is none."""
        return next((reason for reason in PRECEDENCE if reason in self.laid), None)


NO_VETOES: Final = Vetoes()


def verdict(evidence: HealthState, vetoes: Vetoes = NO_VETOES) -> Verdict:
    """May this broker be used, and why: the first veto by `PRECEDENCE`, else the evidence."""
    strongest = vetoes.strongest
    if strongest is not None:
        return Verdict(available=False, reason=strongest)
    reason = _EVIDENCE_REASON[evidence]
    if reason is Reason.ERRORS and vetoes.cut_off:
        reason = Reason.LOCAL_NETWORK
    return Verdict(available=evidence in AVAILABLE, reason=reason)
