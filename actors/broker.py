"""BrokerActor: owns the balance and the health of one account.

It starts fetches and is told how they ended; it never waits for the network. Each outcome is folded
into `Health` (brokerwatch/health.py decides, nothing here does), and then, in this order, the
reading on the board is swapped, the event is published with the whole state, and whoever waits
is answered. So the call that meets the third fault finds the broker unavailable when it returns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol, assert_never

from brokerwatch.actors.base import Actor, tell
from brokerwatch.board import Slot
from brokerwatch.clock import Clock, Instant
from brokerwatch.config import BrokerSpec
from brokerwatch.currencies import is_money
from brokerwatch.health import Health, verdict
from brokerwatch.messages import (
    Balance,
    BalanceSeen,
    BrokerAlive,
    BrokerEvent,
    Fault,
    FaultKind,
    FetchFailed,
    HealthState,
    Reading,
    clipped,
)
from brokerwatch.messages.balance import amount_text
from brokerwatch.source import Fetching, Outcome, Source
from brokerwatch.view import ttl_s

_log: Final = logging.getLogger(__name__)

LATE_S: Final = 1.0
"""A fetch that has not ended so long after its deadline is lost: its source does not keep its promise."""


class Alarms(Protocol):
    """Something that calls a function later."""

    def after(self, delay_s: float, function: Callable[[], object]) -> None:
        """Call `function` after `delay_s` seconds, from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Poll:
    """Fetch, as the schedule says."""


@dataclass(frozen=True, slots=True)
class FetchNow:
    """Fetch, and tell `waiter` the reading when it has ended. Joins a fetch that is under way."""

    waiter: Future[Reading]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetch has ended. `ticket` says which: an outcome that comes too late is not counted twice."""

    ticket: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Tick:
    """A heartbeat is due."""


@dataclass(frozen=True, slots=True)
class Report:
    """Say how you are, now."""


Message = Poll | FetchNow | Fetched | Tick | Report


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a broker actor needs from outside; the same for each of its lives."""

    source: Source
    slot: Slot
    alarms: Alarms
    clock: Clock
    heartbeat_s: float


class BrokerActor(Actor):
    """One account."""

    def __init__(
        self,
        spec: BrokerSpec,
        epoch: str,
        health: Health,
        around: Surroundings,
        publish: Callable[[BrokerEvent], None],
        on_death: Callable[[str], None],
    ) -> None:
        super().__init__(on_death)
        self._spec = spec
        self._epoch = epoch
        self._health = health
        self._around = around
        self._publish = publish
        self._waiters: list[Future[Reading]] = []
        self._ticket = 0
        self._fetching: Fetching | None = None
        self._started = health.since
        """When the fetch under way was started."""

    def begin(self) -> None:
        self._show(BrokerAlive, self._health.ignored(self._now()))
        self._later(self._around.heartbeat_s, Tick())
        if self._spec.poll_interval_s < float("inf"):
            self.handle(Poll())

    def handle(self, message: Any) -> None:
        """One message; see the classes above."""
        known: Message = message
        match known:
            case Poll():
                self._later(self._spec.poll_interval_s, Poll())
                self._fetch()
            case FetchNow(waiter):
                self._waiters.append(waiter)
                self._fetch()
            case Fetched(ticket, outcome):
                if ticket == self._ticket and self._fetching is not None:
                    self._fold(outcome)
            case Tick():
                self._later(self._around.heartbeat_s, Tick())
                self._give_up_a_lost_fetch()
                self._show(BrokerAlive, self._health.ignored(self._now()))
            case Report():
                self._show(BrokerAlive, self._health.ignored(self._now()))
            case _:
                assert_never(known)

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        self._answer()

    def _fetch(self) -> None:
        """Start a fetch, unless one is under way: whoever asks meanwhile shares its outcome."""
        if self._fetching is not None:
            return
        self._ticket += 1
        ticket, me = self._ticket, self.actor_ref
        self._started = self._now()
        self._fetching = self._around.source.fetch(
            self._spec.fetch_deadline_s, lambda outcome: tell(me, Fetched(ticket, outcome))
        )

    def _give_up_a_lost_fetch(self) -> None:
        waited_s = self._now().up_s - self._started.up_s
        if self._fetching is not None and waited_s > self._spec.fetch_deadline_s + LATE_S:
            self._fetching.cancel()
            self._fold(Fault(FaultKind.NETWORK, f"the fetch never ended; given up after {waited_s:.1f} s"))

    def _fold(self, outcome: Outcome) -> None:
        self._fetching = None
        now, before = self._now(), self._health
        if isinstance(outcome, Balance):
            self._show(BalanceSeen, before.seen(outcome, now))
        else:
            self._show(FetchFailed, before.failed(outcome, now))
        self._log_flip(before.state, self._health)
        self._answer()

    def _show(self, kind: Callable[[Reading], BrokerEvent], health: Health) -> None:
        """Make this the truth: first on the board, then on the bus."""
        self._health = health
        reading = evidence(
            self._spec, self._epoch, health, self._now(), self._around.clock, self._around.heartbeat_s
        )
        if self._around.slot.write_evidence(reading, health):
            self._publish(kind(reading))
        else:
            # A newer incarnation has the place. This one hung, was replaced, and woke up.
            _log.warning("%s: a replaced actor woke up and ends", self._spec.name)
            self.stop()

    def _answer(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(self._around.slot.reading)

    def _log_flip(self, before: HealthState, after: Health) -> None:
        if (before is HealthState.UNAVAILABLE) == (after.state is HealthState.UNAVAILABLE):
            return
        if after.fault is not None:
            _log.warning(
                "%s is unavailable after %d consecutive errors; the last: %s: %s",
                self._spec.name,
                after.error_count,
                after.fault.kind,
                after.fault.detail,
            )
        else:
            _log.warning("%s is available again", self._spec.name)

    def _later(self, delay_s: float, message: Message) -> None:
        me = self.actor_ref
        self._around.alarms.after(delay_s, lambda: tell(me, message))

    def _now(self) -> Instant:
        return self._around.clock.now()


def evidence(
    spec: BrokerSpec, epoch: str, health: Health, now: Instant, clock: Clock, heartbeat_s: float
) -> Reading:
    """What a broker says of itself: the evidence, without anybody's vetoes."""
    balance = health.balance
    return Reading(
        broker=spec.name,
        exchange=spec.exchange,
        simulated=spec.simulated,
        broker_epoch=epoch,
        version=health.version,
        state=health.state,
        verdict=verdict(health.state),
        detail=_detail(spec, health),
        since_us=health.since.wall_us,
        error_count=health.error_count,
        fault=None if health.fault is None else health.fault.kind,
        as_of=None if balance is None else balance.as_of,
        cash=None if balance is None else balance.cash(spec.cash_currencies),
        balance=None if balance is None else balance.holdings,
        labels=spec.labels,
        valid_until_s=now.up_s + ttl_s(heartbeat_s),
        clock=clock,
    )


def _detail(spec: BrokerSpec, health: Health) -> str:
    """The newest fault; else the money that is there and not in the cash, so that no zero is false."""
    if health.fault is not None:
        return health.fault.detail
    if health.balance is None:
        return "no balance yet"
    left_out = [
        f"{_grouped(held.free)} {code}"
        for code, held in health.balance.holdings.items()
        if is_money(code) and code not in spec.cash_currencies and held.free
    ]
    return clipped(f"{', '.join(left_out)} not counted") if left_out else ""


def _grouped(number: Decimal) -> str:
    whole, point, fraction = amount_text(number).partition(".")
    return f"{int(whole):,}{point}{fraction}".rstrip("0").rstrip(".") if point else f"{int(whole):,}"
