"""BrokerActor: owns the balance and the health of one account.

It starts fetches and is told how they ended; it never waits for the network. Each outcome is folded
into `Health` (brokerwatch/health.py decides, nothing here does), and then, in this order, the
reading on the board is swapped, the event is published with the whole state, the journal takes note,
and whoever waits is answered. So the call that meets the third fault finds the broker unavailable
when it returns. When to ask again is brokerwatch/backoff.py's to say.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol, assert_never

from brokerwatch import backoff
from brokerwatch.actors.base import Actor, tell
from brokerwatch.answers import EmptyAnswers
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
from brokerwatch.source import Fetching, NotAsked, Outcome, Source
from brokerwatch.view import composed, ttl_s

_log: Final = logging.getLogger(__name__)

LATE_S: Final = 1.0
"""A fetch that has not ended so long after its deadline is lost: its source does not keep its promise."""


_OUT: Final = frozenset({HealthState.UNAVAILABLE, HealthState.RECOVERING, HealthState.MAINTENANCE})


class Alarms(Protocol):
    """Something that calls a function later."""

    def after(self, delay_s: float, function: Callable[[], object]) -> None:
        """Call `function` after `delay_s` seconds, from any thread."""
        ...


class Journal(Protocol):
    """Where a broker's health is remembered. Nobody waits for it."""

    def health(self, spec: BrokerSpec, epoch: str, health: Health, now: Instant) -> None:
        """Its newest health."""
        ...

    def moved(self, before: Reading, after: Reading, now: Instant) -> None:
        """Its evidence, or what the broker itself lays over it, has changed."""
        ...


@dataclass(frozen=True, slots=True)
class Poll:
    """Fetch, as the schedule says. `ticket` says which: a newer schedule replaces the older."""

    ticket: int


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


@dataclass(frozen=True, slots=True)
class Reset:
    """An operator says that what was final is mended: ask again."""


@dataclass(frozen=True, slots=True)
class Recall:
    """A balance from before the restart has come to light."""

    balance: Balance


Message = Poll | FetchNow | Fetched | Tick | Report | Reset | Recall


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a broker actor needs from outside; the same for each of its lives."""

    source: Source
    slot: Slot
    alarms: Alarms
    clock: Clock
    heartbeat_s: float
    journal: Journal
    uniform: Callable[[float, float], float] = random.uniform


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
        self._empty = EmptyAnswers()
        self._not_asked = ""
        """Why the newest fetch was not made; empty when it was."""
        self._schedule = 0
        self._ticket = 0
        self._fetching: Fetching | None = None
        self._started = health.since
        """When the fetch under way was started."""
        self._said: Reading | None = None
        """What this life last said of itself."""

    def begin(self) -> None:
        now = self._now()
        self._show(BrokerAlive, self._health.ignored(now))
        # From here on this broker has lived: another start is no first life.
        self._around.journal.health(self._spec, self._epoch, self._health, now)
        self._later(self._around.heartbeat_s, Tick())
        if self._spec.poll_interval_s < float("inf"):
            self._fetch()

    def handle(self, message: Any) -> None:
        """One message; see the classes above."""
        known: Message = message
        match known:
            case Poll(ticket):
                if ticket == self._schedule:
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
                self._report()
            case Report():
                self._report()
            case Reset():
                now = self._now()
                self._show(BrokerAlive, self._health.reset(now))
                self._around.journal.health(self._spec, self._epoch, self._health, now)
                self._fetch()
            case Recall(balance):
                now = self._now()
                self._show(BrokerAlive, self._health.remembered(balance, now))
                self._around.journal.health(self._spec, self._epoch, self._health, now)
            case _:
                assert_never(known)

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        self._answer()

    def _report(self) -> None:
        now = self._now()
        self._show(BrokerAlive, self._health.ignored(now).woken(now))

    def _fetch(self) -> None:
        """Start a fetch, unless one is under way: whoever asks meanwhile shares its outcome."""
        if self._fetching is not None:
            return
        now = self._now()
        awake = self._health.woken(now)
        if awake is not self._health:
            self._show(BrokerAlive, awake)
        if self._health.barred:
            # Not one private call goes out: who waits gets the last known.
            self._plan(now)
            self._answer()
            return
        self._ticket += 1
        ticket, me = self._ticket, self.actor_ref
        self._started = now
        self._fetching = self._around.source.fetch(
            self._spec.fetch_deadline_s, lambda outcome: tell(me, Fetched(ticket, outcome))
        )

    def _give_up_a_lost_fetch(self) -> None:
        waited_s = self._now().up_s - self._started.up_s
        limit_s = self._around.source.queue_s + self._spec.fetch_deadline_s + LATE_S
        if self._fetching is not None and waited_s > limit_s:
            self._fetching.cancel()
            self._fold(Fault(FaultKind.NETWORK, f"the fetch never ended; given up after {waited_s:.1f} s"))

    def _fold(self, outcome: Outcome) -> None:
        self._fetching = None
        now, before = self._now(), self._health
        if isinstance(outcome, Balance):
            doubt = self._empty.doubt(outcome, before.balance, funded=before.funded)
            if doubt:
                outcome = Fault(FaultKind.BAD_RESPONSE, doubt)
        elif isinstance(outcome, Fault):
            self._empty.interrupted()
        match outcome:
            case Balance():
                self._show(BalanceSeen, before.seen(outcome, now))
            case Fault():
                self._show(FetchFailed, before.failed(outcome, now))
            case NotAsked(why, until) if until is not None:
                self._show(BrokerAlive, before.locked(until, why, now))
            case NotAsked(why):
                self._show(BrokerAlive, before.ignored(now))
                self._log_not_asked(why)
        if not isinstance(outcome, NotAsked):
            self._not_asked = ""
        if not isinstance(outcome, NotAsked) or outcome.locked_until is not None:
            self._around.journal.health(self._spec, self._epoch, self._health, now)
        self._log_flip(before, self._health)
        self._plan(now)
        self._answer()

    def _plan(self, now: Instant) -> None:
        """Arm the next poll; whatever was armed before is void."""
        wait_s = backoff.wait_s(self._health, self._spec.poll_interval_s, now, self._around.uniform)
        if wait_s == self._spec.poll_interval_s:
            # The usual poll keeps its pace, however long the fetch took.
            wait_s -= now.up_s - self._started.up_s
        self._schedule += 1
        self._later(wait_s, Poll(self._schedule))

    def _show(self, kind: Callable[[Reading], BrokerEvent], health: Health) -> None:
        """Make this the truth: first on the board, then on the bus."""
        self._health = health
        now, before = self._now(), self._said
        reading = evidence(self._spec, self._epoch, health, now, self._around.clock, self._around.heartbeat_s)
        self._said = reading
        if self._around.slot.write_evidence(reading, health):
            self._publish(kind(reading))
            if before is not None and (before.state, before.verdict) != (reading.state, reading.verdict):
                self._around.journal.moved(before, reading, now)
        else:
            # A newer incarnation has the place. This one hung, was replaced, and woke up.
            _log.warning("%s: a replaced actor woke up and ends", self._spec.name)
            self.stop()

    def _answer(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(self._around.slot.reading)

    def _log_flip(self, before: Health, after: Health) -> None:
        name = self._spec.name
        for reason, veto in after.vetoes.laid.items():
            if reason not in before.vetoes.laid:
                _log.error("%s is %s: %s", name, reason, veto.detail)
        mistake = after.fault is not None and after.fault.kind is FaultKind.CLIENT_BUG
        if mistake and (before.fault is None or before.fault.kind is not FaultKind.CLIENT_BUG):
            _log.error(
                "%s: a mistake on our side of the connection, of the configuration or of brokerwatch: %s",
                name,
                "" if after.fault is None else after.fault.detail,
            )
        was_out, is_out = before.state in _OUT, after.state in _OUT
        if is_out and not was_out and after.fault is not None:
            _log.warning(
                "%s is %s after %d consecutive errors; the last: %s: %s",
                name,
                after.state.name.lower(),
                after.error_count,
                after.fault.kind,
                after.fault.detail,
            )
        elif was_out and not is_out:
            _log.warning("%s is available again", name)

    def _log_not_asked(self, why: str) -> None:
        if not self._not_asked:
            _log.warning("%s: %s", self._spec.name, why)
        self._not_asked = why

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
    reading = Reading(
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
        max_age_s=spec.rules.max_age_s,
    )
    return composed(reading, health.vetoes)


def _detail(spec: BrokerSpec, health: Health) -> str:
    """The newest fault; else the money that is there and not in the cash, so that no zero is false."""
    if health.fault is not None:
        return health.fault.detail
    if health.balance is None:
        return "no balance yet"
    notes = [
        f"{name} account not read: {wallet.trouble}"
        for name, wallet in health.balance.wallets.items()
        if wallet.trouble
    ]
    left_out = [
        f"{_grouped(held.free)} {code}"
        for code, held in health.balance.holdings.items()
        if is_money(code) and code not in spec.cash_currencies and held.free
    ]
    if left_out:
        notes.insert(0, f"{', '.join(left_out)} not counted")
    return clipped("; ".join(notes))


def _grouped(number: Decimal) -> str:
    whole, point, fraction = amount_text(number).partition(".")
    return f"{int(whole):,}{point}{fraction}".rstrip("0").rstrip(".") if point else f"{int(whole):,}"
