"""The health of one broker: a pure fold over the outcomes of its fetches.

The theory, in the order in which it matters:

*A fetch ends in a balance or in a fault.* A balance becomes the last known and clears the count. A fault
leaves the last known alone and adds one to the count of consecutive faults. At the threshold
(`BROKER_MAX_CONSECUTIVE_ERRORS`, three) the broker becomes UNAVAILABLE, and one success makes it HEALTHY
again. A true zero balance is a success; an answer that could not be read is a fault. So "no money" and "could
not ask" can never be confused.

*What is no outcome changes nothing.* A cancelled fetch, a cache hit, a wait in a queue that ran out, a
heartbeat: they raise `version`, which orders the broker's own events, and nothing else. A breaker that resets
its count on a cancellation would report an exchange as healthy without an answer from it.

*A restart is not evidence of health.* A broker that starts again knows its last balance and its last state,
and needs a success before it is available. Only the very first life of a broker starts HEALTHY: that is the
contract that its users know, and it lasts until the third fault at the latest.

*The evidence and the vetoes are kept apart.* The outcomes of fetches are evidence. Silence, death and an
operator's hold are vetoes of the supervisor. The broker lays two vetoes itself, when private calls must stop:
the exchange locked the key out, or refused it. Neither is written into the other: silence does not
count as errors, and when a hold ends, the state is what it would have been without it. `verdict` combines the
two. It is the only function that decides.

*A policy makes the machine stricter and never laxer.* Under `guarded` (`brokerwatch.config.policy` has the
numbers) a life starts UNKNOWN. Maintenance that the exchange itself announces is a state and no error. A
rolling window of weighted faults trips it too, so that error, error, success, repeated for ever, does not
pass. An unavailable broker needs more than one success.

*A refused key is asked again, and seldom.* Exchanges refuse keys that are valid, once or for minutes. They
also lock out a key that is refused and goes on asking. So from the first refusal on the broker is not
available. A key that has worked is confirmed after a second, and then asked after growing waits
(`Rules.auth_probes_s`); a success brings it back. After the last of them the refusal is final, until a reset
or other credentials. A key that has never worked is confirmed once.

Here is the table, which the code below reads. TRIP is the fault that reaches the threshold or the window's
share. PARTIAL is a success when more are required. A dash cannot happen.

                SUCCESS  PARTIAL     FAULT        TRIP         CLOSED       NEUTRAL  RESTART
    UNKNOWN     HEALTHY  -           UNKNOWN      UNAVAILABLE  MAINTENANCE  same     UNKNOWN
    HEALTHY     HEALTHY  -           DEGRADED     UNAVAILABLE  MAINTENANCE  same     UNKNOWN
    DEGRADED    HEALTHY  -           DEGRADED     UNAVAILABLE  MAINTENANCE  same     UNKNOWN
    UNAVAILABLE HEALTHY  RECOVERING  UNAVAILABLE  UNAVAILABLE  MAINTENANCE  same     UNAVAILABLE
    RECOVERING  HEALTHY  RECOVERING  UNAVAILABLE  UNAVAILABLE  MAINTENANCE  same     UNAVAILABLE
    MAINTENANCE HEALTHY  -           MAINTENANCE  MAINTENANCE  MAINTENANCE  same     UNKNOWN

No row leads from "not available" to "available" but by SUCCESS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Instant, utc_text
from brokerwatch.config.policy import SIMPLE, WEIGHTS, Rules
from brokerwatch.health.stated import NO_DOUBTS, Doubts, recalled
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Reason, Verdict, clipped

BROKER_MAX_CONSECUTIVE_ERRORS: Final = 3
"""Consecutive faults that make a broker unavailable, unless its configuration has another number."""


class Happening(Enum):
    """What can happen to a broker: the columns of the table."""

    SUCCESS = "success"
    PARTIAL = "partial"
    FAULT = "fault"
    TRIP = "trip"
    CLOSED = "closed"
    NEUTRAL = "neutral"
    RESTART = "restart"


_U, _H, _D = HealthState.UNKNOWN, HealthState.HEALTHY, HealthState.DEGRADED
_X, _R, _M = HealthState.UNAVAILABLE, HealthState.RECOVERING, HealthState.MAINTENANCE
TRANSITIONS: Final[Mapping[tuple[HealthState, Happening], HealthState]] = MappingProxyType(
    {
        (state, happening): target
        for state, row in {
            _U: (_H, None, _U, _X, _M, _U, _U),
            _H: (_H, None, _D, _X, _M, _H, _U),
            _D: (_H, None, _D, _X, _M, _D, _U),
            _X: (_H, _R, _X, _X, _M, _X, _X),
            _R: (_H, _R, _X, _X, _M, _R, _X),
            _M: (_H, None, _M, _M, _M, _M, _U),
        }.items()
        for happening, target in zip(Happening, row, strict=True)
        if target is not None
    }
)
"""(state, happening) to the next state. PARTIAL and CLOSED do not occur under `simple`."""

PRECEDENCE: Final = (
    Reason.CONFIG,
    Reason.SHUTDOWN,
    Reason.HELD_OUT,
    Reason.FAILED,
    Reason.NEVER_SEEN,
    Reason.BLIND,
    Reason.SILENT,
    Reason.RESTARTING,
    Reason.LOOP,
    Reason.CLAIM,
    Reason.LOCKED_OUT,
    Reason.AUTH,
    Reason.UNPROVEN,
)
"""The vetoes, strongest first: the first one that is laid gives the reason."""

BARS: Final = frozenset({Reason.LOCKED_OUT, Reason.AUTH})
"""The vetoes under which private calls have stopped. A broker lays them on itself."""

OWN_VETOES: Final = BARS | {Reason.CLAIM, Reason.UNPROVEN}
"""The vetoes that a broker lays on itself. The others are the supervisor's. `UNPROVEN` is laid only where the
evidence is good, so it ranks below every reason of the evidence that is not (`brokerwatch.health.proof`).
`CLAIM` and `UNPROVEN` are made anew with each evidence, and are not stored."""


@dataclass(frozen=True, slots=True)
class Veto:
    """Why the evidence does not count now, in words, and since when."""

    since: Instant
    detail: str = ""
    until: Instant | None = None
    """When it ends by itself; None: it lasts until it is lifted."""


@dataclass(frozen=True, slots=True)
class Vetoes:
    """The vetoes laid on one broker. Immutable: laying and lifting give a new value."""

    laid: Mapping[Reason, Veto] = field(default_factory=lambda: MappingProxyType({}))
    lifted_us: int = 0
    """Wall clock, µs: when a veto was last lifted, which is when the verdict after it began."""
    cut_off: bool = False
    """Every broker meets network faults at once. No veto: it changes the reason and never the answer."""

    def lay(self, reason: Reason, detail: str, now: Instant, *, until: Instant | None = None) -> Vetoes:
        """With this veto. Laying it again keeps its beginning, and changes its end."""
        if reason not in PRECEDENCE:
            raise ValueError(f"{reason} is no veto")
        before = self.laid.get(reason)
        if before is not None and before.until == until:
            return self
        since = now if before is None else before.since
        return replace(
            self, laid=MappingProxyType({**self.laid, reason: Veto(since, clipped(detail), until)})
        )

    def lift(self, now: Instant, *reasons: Reason) -> Vetoes:
        """Without these vetoes; the same object when none of them was laid."""
        kept = {reason: veto for reason, veto in self.laid.items() if reason not in reasons}
        if len(kept) == len(self.laid):
            return self
        return replace(self, laid=MappingProxyType(kept), lifted_us=now.wall_us)

    def lift_ended(self, now: Instant) -> Vetoes:
        """Without the vetoes whose end has come; the same object when there are none."""
        ended = [
            reason
            for reason, veto in self.laid.items()
            if veto.until is not None and now.up_s >= veto.until.up_s
        ]
        return self.lift(now, *ended)

    @property
    def strongest(self) -> Reason | None:
        """The veto that gives the reason; None when there is none."""
        if not self.laid:
            return None
        return next((reason for reason in PRECEDENCE if reason in self.laid), None)


NO_VETOES: Final = Vetoes()


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one broker, from its outcomes. Make one with `begin`, then fold. Immutable."""

    state: HealthState
    since: Instant
    """When `state` last changed."""
    threshold: int = BROKER_MAX_CONSECUTIVE_ERRORS
    """The number of consecutive faults that trips it; at least 1."""
    rules: Rules = SIMPLE
    """The rules of its policy."""
    error_count: int = 0
    """How many counted faults came in a row."""
    fault: Fault | None = None
    """The newest of those faults, or the one that announced maintenance; None when there is neither."""
    balance: Balance | None = None
    """The last known balance. Only a success changes it, and no fault ever clears it."""
    version: int = 0
    """+1 for every event of this life."""
    successes: int = 0
    """The run of successes while RECOVERING; 0 in every other state."""
    recent: tuple[FaultKind | None, ...] = ()
    """The outcomes in the rolling window, oldest first; None is a success. Empty without a window."""
    funded: bool = False
    """Whether any balance ever held anything: from then on an empty answer is doubted."""
    refusals: int = 0
    """How many times in a row the exchange refused the key, where refusals are final in the end."""
    probe_at: Instant | None = None
    """When the refused key may be asked again; None: it is not refused, or for good."""
    vetoes: Vetoes = NO_VETOES
    """The broker's own vetoes, those of `BARS`."""
    doubts: Doubts = NO_DOUBTS
    """What the newest answers left out; `health.stated` folds it before each read comes here."""

    @classmethod
    def begin(
        cls, now: Instant, *, threshold: int = BROKER_MAX_CONSECUTIVE_ERRORS, rules: Rules = SIMPLE
    ) -> Health:
        """The very first life of a broker: no balance, and HEALTHY unless the rules say UNKNOWN."""
        if threshold < 1:
            raise ValueError(f"the threshold must be at least 1, not {threshold}")
        state = HealthState.UNKNOWN if rules.start_unknown else HealthState.HEALTHY
        return cls(state=state, since=now, threshold=threshold, rules=rules)

    def seen(self, balance: Balance, now: Instant) -> Health:
        """A fetch succeeded. A balance older than the last known proves health and does not replace it."""
        last = self.balance
        older = last is not None and balance.as_of.up_s < last.as_of.up_s
        newest = last if older else balance.after(last)
        successes = self.successes + 1 if self.state in _TO_PROVE else 0
        partial = 0 < successes < self.rules.successes_to_recover
        moved = self._moved(Happening.PARTIAL if partial else Happening.SUCCESS, now)
        if self.probe_at is not None:
            moved = moved._unrefused(now)
        return replace(
            moved,
            error_count=0,
            fault=None,
            balance=newest,
            successes=successes if partial else 0,
            recent=self._window(None),
            funded=self.funded or bool(balance.holdings),
        )

    def failed(self, fault: Fault, now: Instant) -> Health:
        """A fetch met a fault. The last known balance stays."""
        vetoes = self.vetoes
        if fault.lockout_s > 0:
            vetoes = locked_out(vetoes, fault.detail, _later(now, fault.lockout_s), now)
        if fault.kind is FaultKind.MAINTENANCE and self.rules.maintenance_state:
            closed = self._moved(Happening.CLOSED, now)
            return replace(closed, fault=fault, successes=0, vetoes=vetoes)
        at_once = self.rules.final_auth and fault.kind in _ABOUT_CREDENTIALS
        refusals, probe_at = self.refusals, self.probe_at
        if at_once and fault.kind is FaultKind.AUTH:
            if not refusals or probe_at is not None:
                refusals += 1  # what is final is counted no further
            probe_at = self._next_probe(refusals, now)
            vetoes = _refused(vetoes, fault.detail, probe_at, now)
        elif probe_at is not None and probe_at.up_s <= now.up_s:
            probe_at = self._next_probe(refusals, now)  # it was asked, and the key is in doubt as before
        count, recent = self.error_count + 1, self._window(fault.kind)
        trips = count >= self.threshold or at_once or self._too_many(recent)
        target = TRANSITIONS[self.state, Happening.TRIP if trips else Happening.FAULT]
        return replace(
            self,
            state=target,
            since=self.since if target is self.state else now,
            version=self.version + 1,
            error_count=count,
            fault=fault,
            successes=0,
            # The outcomes from before the outage must not count against a recovery.
            recent=() if target is HealthState.UNAVAILABLE else recent,
            refusals=refusals,
            probe_at=probe_at,
            vetoes=vetoes,
        )

    def ignored(self, now: Instant) -> Health:
        """An event that is no outcome: a cancellation, a heartbeat. Only `version` changes."""
        return self._moved(Happening.NEUTRAL, now)

    def locked(self, until: Instant, why: str, now: Instant) -> Health:
        """The key is locked out until `until`, as another call with the same key found."""
        return replace(self.ignored(now), vetoes=locked_out(self.vetoes, why, until, now))

    def woken(self, now: Instant) -> Health:
        """Time has passed: a lockout whose end has come is lifted. The same object when there is none."""
        vetoes = self.vetoes.lift_ended(now)
        return self if vetoes is self.vetoes else replace(self.ignored(now), vetoes=vetoes)

    def reset(self, now: Instant) -> Health:
        """An operator, or new credentials, end a refusal. A lockout of the exchange stays."""
        return self.ignored(now)._unrefused(now)

    def remembered(self, balance: Balance, now: Instant, doubts: Doubts = NO_DOUBTS) -> Health:
        """A balance from before a restart was found, and what was in doubt. It proves no health.

        A newer one is kept, and what it leaves out is in doubt.
        """
        newest, kept = recalled(self.doubts, self.balance, doubts, balance)
        funded = self.funded or bool(balance.holdings)
        return replace(self.ignored(now), balance=newest, funded=funded, doubts=kept)

    def restarted(self, now: Instant) -> Health:
        """The health that the next life starts with: all that was known, and no proof."""
        return replace(self._moved(Happening.RESTART, now), version=0, successes=0)

    def barred(self, now: Instant) -> bool:
        """Whether no private call may go out: a lockout, or a refused key whose next probe is not due."""
        if Reason.LOCKED_OUT in self.vetoes.laid:
            return True
        due = self.probe_at is not None and now.up_s >= self.probe_at.up_s
        return Reason.AUTH in self.vetoes.laid and not due

    def _unrefused(self, now: Instant) -> Health:
        return replace(self, refusals=0, probe_at=None, vetoes=self.vetoes.lift(now, Reason.AUTH))

    def _next_probe(self, refusals: int, now: Instant) -> Instant | None:
        """When the key may be asked again after so many refusals; None: never."""
        # A balance was read with this key: another key is another account.
        waits = self.rules.auth_probes_s if self.balance is not None else self.rules.auth_probes_s[:1]
        return None if refusals > len(waits) else _later(now, waits[max(0, refusals - 1)])

    def _moved(self, happening: Happening, now: Instant) -> Health:
        target = TRANSITIONS[self.state, happening]
        since = self.since if target is self.state else now
        return replace(self, state=target, since=since, version=self.version + 1)

    def _window(self, outcome: FaultKind | None) -> tuple[FaultKind | None, ...]:
        size = self.rules.window_fetches
        return (*self.recent, outcome)[-size:] if size and self.state not in _OUTSIDE_WINDOW else self.recent

    def _too_many(self, recent: tuple[FaultKind | None, ...]) -> bool:
        if not self.rules.window_fetches or len(recent) < self.rules.window_minimum:
            return False
        weight = sum(WEIGHTS[kind] for kind in recent if kind is not None)
        return weight >= self.rules.window_share * len(recent)


_TO_PROVE: Final = frozenset({HealthState.UNAVAILABLE, HealthState.RECOVERING})
_OUTSIDE_WINDOW: Final = frozenset({HealthState.UNAVAILABLE, HealthState.RECOVERING, HealthState.MAINTENANCE})
_ABOUT_CREDENTIALS: Final = frozenset({FaultKind.AUTH, FaultKind.PERMISSION})


def locked_out(vetoes: Vetoes, why: str, until: Instant, now: Instant) -> Vetoes:
    """With the lockout laid. A lockout that is reported again lasts until the later of the two ends."""
    before = vetoes.laid.get(Reason.LOCKED_OUT)
    if before is not None and before.until is not None and before.until.up_s >= until.up_s:
        return vetoes
    return vetoes.lay(Reason.LOCKED_OUT, f"until {utc_time(until.wall_us)}: {why}", now, until=until)


def _refused(vetoes: Vetoes, why: str, probe_at: Instant | None, now: Instant) -> Vetoes:
    """With the refusal laid, and when the key is asked again."""
    if probe_at is None:
        words = f"refused until `brokerwatch reset` or new credentials: {why}"
    else:
        words = f"refused, and asked again at {utc_time(probe_at.wall_us)}: {why}"
    before = vetoes.laid.get(Reason.AUTH)
    veto = Veto(now if before is None else before.since, clipped(words))
    return replace(vetoes, laid=MappingProxyType({**vetoes.laid, Reason.AUTH: veto}))


def utc_time(wall_us: int) -> str:
    """A moment for people, in UTC, with its date."""
    return utc_text(wall_us)


def _later(now: Instant, seconds: float) -> Instant:
    return Instant(wall_us=now.wall_us + round(seconds * 1_000_000), up_s=now.up_s + seconds)


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


def verdict(evidence: HealthState, vetoes: Vetoes = NO_VETOES) -> Verdict:
    """Whether this broker may be used, and why: the first veto by `PRECEDENCE`, else the evidence."""
    strongest = vetoes.strongest
    if strongest is not None:
        return Verdict(available=False, reason=strongest)
    reason = _EVIDENCE_REASON[evidence]
    if reason is Reason.ERRORS and vetoes.cut_off:
        reason = Reason.LOCAL_NETWORK
    return Verdict(available=evidence in AVAILABLE, reason=reason)
