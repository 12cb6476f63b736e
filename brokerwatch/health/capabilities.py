"""Which kinds of call work for an account, apart from its balance: reading, trading, and public prices.

An exchange that answers for balances may refuse orders, and one without prices may still take exits. So each
kind of call has a state of its own, folded here like the health of the balance. A fault that is final for the
key (it may not trade) counts at once; any other counts in a run of three. A fault of the whole exchange is
over for all kinds when a kind that met it is answered again. The exchange's own status is laid over that: in
maintenance no call works, and when it takes only cancels or only resting orders, market orders do not work.
A refusal that is about the market of an order alone closes that market for a while, and says nothing of the
others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.state_machine import BROKER_MAX_CONSECUTIVE_ERRORS
from brokerwatch.messages import Capability, CapabilityState, Fault, FaultKind
from brokerwatch.messages.trading import ClosedMarket, Status, StatusWord

READ: Final = "read"
"""Private questions: balances, positions, orders."""
TRADE: Final = "trade"
"""Orders, dry runs included."""
DATA: Final = "data"
"""Public prices and markets."""
ALL: Final = (READ, TRADE, DATA)

LONGEST_CLOSED_S: Final = 86_400.0
"""No market stays closed for longer without another refusal."""
MOST_CLOSED: Final = 256
"""So many markets of one account are remembered as closed, the newest ones."""
_NONE_CLOSED: Final[Mapping[str, ClosedMarket]] = MappingProxyType({})

NOT_TRIED: Final = "not_tried"
WORKS: Final = "ok"

FORGOTTEN_S: Final = 60.0
"""A transient fault of one kind of call is forgotten when the account answers so many seconds after it."""

_FINAL: Final = frozenset({FaultKind.AUTH, FaultKind.PERMISSION})
"""The next attempt meets these again. They count at once, and no success of another kind of call ends
them."""
_NO_EVIDENCE: Final = frozenset({FaultKind.CLIENT_BUG})
"""A mistake of the program or the configuration is no evidence about the exchange."""
_WHOLE: Final = frozenset(
    {
        FaultKind.NETWORK,
        FaultKind.EXCHANGE_DOWN,
        FaultKind.MAINTENANCE,
        FaultKind.RATE_LIMITED,
        FaultKind.BLOCKED,
    }
)
"""Faults of the exchange, the key's rate limit or the network: any kind of call would have met them."""

_OVERLAYS: Final[Mapping[tuple[StatusWord, str], CapabilityState]] = MappingProxyType(
    {
        **{(StatusWord.MAINTENANCE, name): CapabilityState.DOWN for name in ALL},
        (StatusWord.CANCEL_ONLY, TRADE): CapabilityState.LIMITED,
        (StatusWord.POST_ONLY, TRADE): CapabilityState.LIMITED,
    }
)
"""(the exchange's own status, a kind of call) to its state then, whatever its outcomes were."""


def is_open(status: Status | None) -> bool:
    """Whether the exchange has a status that is not maintenance."""
    return status is not None and status.word is not StatusWord.MAINTENANCE


@dataclass(frozen=True, slots=True)
class _Run:
    """The state of one kind of call, from its outcomes."""

    state: CapabilityState
    reason: str
    detail: str
    since: Instant
    faults: int = 0
    """How many came in a row."""
    failed: Instant | None = None
    """When the newest of them came."""
    whole: bool = False
    """Whether one of them concerned the whole exchange."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """All kinds of call of one account. Make one with `begin`, then fold. Immutable."""

    runs: Mapping[str, _Run]
    status: Status | None = None
    """None when the exchange states none."""
    status_since: Instant = field(default=Instant(0, 0.0))
    closed: Mapping[str, ClosedMarket] = field(default_factory=lambda: _NONE_CLOSED)
    """Symbol to a market in which orders of this account are refused, for that market alone."""

    @classmethod
    def begin(cls, now: Instant) -> Capabilities:
        """Nothing was tried yet."""
        blank = _Run(CapabilityState.UNKNOWN, NOT_TRIED, "", now)
        return cls(MappingProxyType(dict.fromkeys(ALL, blank)))

    @classmethod
    def resumed(
        cls,
        before: Mapping[str, Capability],
        now: Instant,
        closed: Mapping[str, ClosedMarket] = MappingProxyType({}),
    ) -> Capabilities:
        """Go on from what the previous life of the actor published: a restart is no recovery."""
        begun = cls.begin(now)
        runs = dict(begun.runs)
        for name, can in before.items():
            if name in runs and can.state is not CapabilityState.LIMITED:
                runs[name] = _Run(
                    can.state,
                    can.reason,
                    can.detail,
                    Instant(can.since_us, now.up_s),
                    failed=now,
                    whole=can.reason in _WHOLE,
                )
        return replace(begun, runs=MappingProxyType(runs), closed=MappingProxyType(dict(closed)))

    def succeeded(self, name: str, now: Instant, symbol: str = "") -> Capabilities:
        """A call of this kind was answered; an order in the market of this symbol."""
        if symbol in self.closed:
            kept = {market: each for market, each in self.closed.items() if market != symbol}
            return replace(self, closed=MappingProxyType(kept)).succeeded(name, now)
        runs = dict(self.runs)
        recovered = runs[name].whole
        runs[name] = _changed(runs[name], CapabilityState.OK, WORKS, "", now)
        for other, run in self.runs.items():
            if other in (name, READ) or run.state is not CapabilityState.DOWN or _is_final(run.reason):
                continue  # reading is polled, so its own outcomes decide
            old = run.failed is not None and now.up_s - run.failed.up_s >= FORGOTTEN_S
            # Only a kind of call that met the outage proves its end: reading may work while trading does not.
            if (recovered and run.reason in _WHOLE) or (old and name == READ):
                detail = f"not tried since: {run.detail}"
                runs[other] = _changed(run, CapabilityState.UNKNOWN, NOT_TRIED, detail, now)
        # Nearly each poll changes nothing, and what is published of it need not be made anew.
        return self if runs == self.runs else replace(self, runs=MappingProxyType(runs))

    def failed(self, name: str, fault: Fault, now: Instant, symbol: str = "") -> Capabilities:
        """A call of this kind met a fault; an order in the market of this symbol."""
        if fault.closes_market_s > 0:
            return self._closing(symbol, fault, now) if symbol else self
        run = self.runs[name]
        if fault.kind in _NO_EVIDENCE:
            return self
        count = run.faults + 1
        final, closed = fault.kind in _FINAL, fault.kind is FaultKind.MAINTENANCE
        long = count >= BROKER_MAX_CONSECUTIVE_ERRORS
        # A transient fault does not replace a final one: its end would then end both.
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

    def _closing(self, symbol: str, fault: Fault, now: Instant) -> Capabilities:
        """Close one market. The account could be asked, so its orders elsewhere go on as before."""
        seconds = min(LONGEST_CLOSED_S, fault.closes_market_s)
        until = Instant(now.wall_us + round(seconds * 1_000_000), now.up_s + seconds)
        market = ClosedMarket(reason=str(fault.kind), detail=fault.detail, since_us=now.wall_us, until=until)
        still = {name: each for name, each in self.closed.items() if each.until.up_s > now.up_s}
        still.pop(symbol, None)
        newest = list(still.items())[-(MOST_CLOSED - 1) :]
        return replace(self, closed=MappingProxyType({**dict(newest), symbol: market}))

    def with_status(self, status: Status | None, now: Instant) -> Capabilities:
        """The exchange stated its status; None: it states none any more."""
        if status == self.status:
            return self
        same = (status and status.word) == (self.status and self.status.word)
        return replace(self, status=status, status_since=self.status_since if same else now)

    @property
    def published(self) -> Mapping[str, Capability]:
        """Kind of call to its capability, as a reading has it."""
        return MappingProxyType({name: self._published(name, run) for name, run in self.runs.items()})

    def _published(self, name: str, run: _Run) -> Capability:
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


def _is_final(reason: str) -> bool:
    return reason in _FINAL


def _changed(run: _Run, state: CapabilityState, reason: str, detail: str, now: Instant) -> _Run:
    moved = (state, reason) != (run.state, run.reason)
    return _Run(state, reason, detail, now if moved else run.since)


def states_of(capabilities: Mapping[str, Capability]) -> list[tuple[str, str, str]]:
    """What of some capabilities is published at once when it changes."""
    return [(name, can.state, can.reason) for name, can in capabilities.items()]
