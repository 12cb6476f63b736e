"""How an account's calls do, apart from its balance: reading, trading, and public prices.

An exchange that answers for balances may refuse orders, and one whose prices are out still takes exits.
So each kind of call has an outcome of its own, folded here like the health of the balance: a fault
that is final for the key (it may not trade) counts at once, any other in a run of three. A fault that
concerns the whole exchange is over for all of them when one that met it too is answered again. Over that
lies what the exchange's own status says: in maintenance nothing works, and where only cancels or only
resting orders are taken, a market order is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.state_machine import BROKER_MAX_CONSECUTIVE_ERRORS
from brokerwatch.messages import Capability, CapabilityState, Fault, FaultKind
from brokerwatch.messages.trading import Status, StatusWord

READ: Final = "read"
"""Private questions: balances, positions, orders."""
TRADE: Final = "trade"
"""Orders, dry runs included."""
DATA: Final = "data"
"""Public prices and markets."""
ALL: Final = (READ, TRADE, DATA)

NOT_TRIED: Final = "not_tried"
WORKS: Final = "ok"

FORGOTTEN_S: Final = 60.0
"""A passing fault of one kind of call is forgotten when the account answers so long after it."""

_FINAL: Final = frozenset({FaultKind.AUTH, FaultKind.PERMISSION})
"""What the next attempt will meet again: it counts at once, and no other call's success ends it."""
_NO_EVIDENCE: Final = frozenset({FaultKind.CLIENT_BUG})
"""A mistake on our side of the connection says nothing about the exchange."""
_WHOLE: Final = frozenset(
    {FaultKind.NETWORK, FaultKind.EXCHANGE_DOWN, FaultKind.MAINTENANCE, FaultKind.RATE_LIMITED}
)
"""What is wrong with the exchange, the key's allowance or the way there, whichever call has met it."""


def is_open(status: Status | None) -> bool:
    """Whether the exchange says that it is not in maintenance."""
    return status is not None and status.word is not StatusWord.MAINTENANCE


@dataclass(frozen=True, slots=True)
class _Run:
    """What the outcomes of one kind of call say."""

    state: CapabilityState
    reason: str
    detail: str
    since: Instant
    faults: int = 0
    """Consecutive ones."""
    failed: Instant | None = None
    """When the newest of them was met."""
    whole: bool = False
    """Whether one of them concerned the whole exchange."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """All kinds of calls of one account. Make one with `begin`, then fold."""

    runs: Mapping[str, _Run]
    status: Status | None = None
    """None: the exchange says nothing of itself."""
    status_since: Instant = field(default=Instant(0, 0.0))

    @classmethod
    def begin(cls, now: Instant) -> Capabilities:
        """Nothing was tried yet."""
        blank = _Run(CapabilityState.UNKNOWN, NOT_TRIED, "", now)
        return cls(MappingProxyType(dict.fromkeys(ALL, blank)))

    @classmethod
    def resumed(cls, told: Mapping[str, Capability], now: Instant) -> Capabilities:
        """What was told before the actor was replaced: neither a restart nor a failure launders it."""
        begun = cls.begin(now)
        runs = dict(begun.runs)
        for name, can in told.items():
            if name in runs and can.state is not CapabilityState.LIMITED:
                runs[name] = _Run(
                    can.state,
                    can.reason,
                    can.detail,
                    Instant(can.since_us, now.up_s),
                    failed=now,
                    whole=can.reason in _WHOLE,
                )
        return replace(begun, runs=MappingProxyType(runs))

    def succeeded(self, name: str, now: Instant) -> Capabilities:
        """A call of this kind was answered."""
        runs = dict(self.runs)
        recovered = runs[name].whole
        runs[name] = _changed(runs[name], CapabilityState.OK, WORKS, "", now)
        for other, run in self.runs.items():
            if other in (name, READ) or run.state is not CapabilityState.DOWN or _is_final(run.reason):
                continue  # reading is polled: its own answer says how it is
            old = run.failed is not None and now.up_s - run.failed.up_s >= FORGOTTEN_S
            # Only who met the outage knows that it is over: reading may go on while no order is taken.
            if (recovered and run.reason in _WHOLE) or (old and name == READ):
                detail = f"not tried since: {run.detail}"
                runs[other] = _changed(run, CapabilityState.UNKNOWN, NOT_TRIED, detail, now)
        return replace(self, runs=MappingProxyType(runs))

    def failed(self, name: str, fault: Fault, now: Instant) -> Capabilities:
        """A call of this kind met a fault."""
        run = self.runs[name]
        if fault.kind in _NO_EVIDENCE:
            return self
        count = run.faults + 1
        final, closed = fault.kind in _FINAL, fault.kind is FaultKind.MAINTENANCE
        long = count >= BROKER_MAX_CONSECUTIVE_ERRORS
        # What passes hides nothing that is final: its end would be taken for the end of both.
        if final or ((closed or long) and not _is_final(run.reason)):
            state, reason = CapabilityState.DOWN, str(fault.kind)
        else:
            state, reason = run.state, run.reason
        after = replace(
            _changed(run, state, reason, fault.detail, now),
            faults=count,
            failed=now,
            whole=run.whole or fault.kind in _WHOLE,
        )
        return replace(self, runs=MappingProxyType({**self.runs, name: after}))

    def said(self, status: Status | None, now: Instant) -> Capabilities:
        """The exchange speaks of itself; None: it does not say any more."""
        if status == self.status:
            return self
        same = (status and status.word) == (self.status and self.status.word)
        return replace(self, status=status, status_since=self.status_since if same else now)

    @property
    def told(self) -> Mapping[str, Capability]:
        """What a reading says of each kind."""
        return MappingProxyType({name: self._told(name, run) for name, run in self.runs.items()})

    def _told(self, name: str, run: _Run) -> Capability:
        overlay = _OVERLAYS.get((self.status.word, name)) if self.status is not None else None
        if self.status is not None and overlay is not None and not _is_final(run.reason):
            return Capability(
                state=overlay,
                reason=str(self.status.word),
                detail=self.status.detail,
                since_us=self.status_since.wall_us,
            )
        announced = "" if self.status is None or run.detail else self.status.detail
        return Capability(
            state=run.state, reason=run.reason, detail=run.detail or announced, since_us=run.since.wall_us
        )


_OVERLAYS: Final[Mapping[tuple[StatusWord, str], CapabilityState]] = MappingProxyType(
    {
        **{(StatusWord.MAINTENANCE, name): CapabilityState.DOWN for name in ALL},
        (StatusWord.CANCEL_ONLY, TRADE): CapabilityState.LIMITED,
        (StatusWord.POST_ONLY, TRADE): CapabilityState.LIMITED,
    }
)
"""What the exchange's own status makes of a kind of call, whatever its outcomes were."""


def _is_final(reason: str) -> bool:
    return reason in _FINAL


def _changed(run: _Run, state: CapabilityState, reason: str, detail: str, now: Instant) -> _Run:
    moved = (state, reason) != (run.state, run.reason)
    return _Run(state, reason, detail, now if moved else run.since)
