"""BrokerActor: owns the balance and the health of one account.

It starts fetches and gets their outcomes as messages; it never waits for the network. Each outcome is folded
into `Health` (`brokerwatch.health.state_machine` decides). Then, in this order, the reading on the board is
swapped, the event is published with the whole state, the journal records it, and the waiters are answered. So
a call that meets the third fault finds the broker unavailable when it returns. `brokerwatch.health.backoff`
says when to fetch again. Orders and other calls are folded apart (`health.capabilities`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, assert_never

from brokerwatch.actors.account_watches import AccountWatches
from brokerwatch.actors.base import SharingActor, tell
from brokerwatch.actors.broker_context import BrokerContext
from brokerwatch.actors.broker_log import BrokerLog
from brokerwatch.actors.claim_watch import ClaimWatch
from brokerwatch.actors.poll_schedule import PollSchedule
from brokerwatch.actors.proof_watch import ProofWatch
from brokerwatch.actors.protocol import (
    LATE_S,
    AskAnew,
    BrokerMessage,
    Called,
    Fetched,
    FetchNow,
    KeyStated,
    LedgerRead,
    LookAtPush,
    Observed,
    Ordered,
    Poll,
    Recall,
    Reconfigured,
    Rekeyed,
    ReportNow,
    Reset,
    Stated,
    Streamed,
    Tick,
    Unanswered,
    Unstreamed,
)
from brokerwatch.actors.push_desk import PushDesk
from brokerwatch.actors.push_inbox import PushInbox
from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.capabilities import READ, Capabilities, is_open, states_of
from brokerwatch.health.outcome import Fetching, FetchOutcome, NotAsked
from brokerwatch.health.reading import evidence
from brokerwatch.health.reconfigured import ruled, with_another_key
from brokerwatch.health.state_machine import Health
from brokerwatch.health.stated import Unconfirmed, judged
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
)


class BrokerActor(SharingActor):
    """The actor of one account. Its methods run on one thread at a time; other threads send it messages."""

    def __init__(
        self,
        spec: BrokerSpec,
        epoch: str,
        health: Health,
        context: BrokerContext,
        publish: Callable[[BrokerEvent], None],
        on_death: Callable[[str], None],
    ) -> None:
        super().__init__(on_death)
        self._spec = spec
        self._epoch = epoch
        self._health = health
        self._context = context
        self._publish = publish
        self._waiters: list[Future[Reading]] = []
        self._log = BrokerLog(spec.name)
        self._schedule = PollSchedule(spec, context.uniform)
        self._ticket = 0
        self._fetching: Fetching | None = None
        self._is_spare = False
        """Whether the fetch under way leaves the reserve of the budget to exits."""
        self._is_shared = False
        """Whether a caller, a poll or an order wants its outcome too."""
        self._started = health.since
        """When the fetch under way was started."""
        self._deadline_s = spec.fetch_deadline_s  # of the fetch under way: the configuration may change
        self._counted_s = float("-inf")
        """When an outcome was last published, in monotonic seconds."""
        self._published: Reading | None = None  # what this life published last
        self._calls = Capabilities.begin(health.since)
        self._capabilities = self._calls.published
        self._ordered_s = float("-inf")
        """When the newest order ended, in monotonic seconds; infinite while one is under way."""
        self._answer_ms: int | None = None
        self._beside = context.watches or AccountWatches(spec, context.slot, context.journal)
        self._push = context.push or PushDesk(spec, context.source, context.tally)
        self._claim = ClaimWatch(context.claimed)
        self._watch = ProofWatch(spec, context.source, context.clock, context.heartbeat_s, health)

    def begin(self) -> None:
        now, before = self._now(), self._context.slot.reading
        self._beside.rules = self._spec.money_watch  # the life before may have missed a change
        self._learn(Capabilities.resumed(before.capabilities, now, before.closed_markets))
        if before.overtaken:
            self._ordered_s = now.up_s
        self._keep(self._health.ignored(now))  # once a health is stored, the next start is no first life
        self._later(self._context.heartbeat_s, Tick())
        self._push.began()
        if self._spec.poll_interval_s < float("inf"):
            self._fetch()

    def handle(self, message: Any) -> None:
        """Handle one message of `BrokerMessage`."""
        known: BrokerMessage = message
        self._look_for_a_leap()
        match known:
            case Poll(ticket):
                if ticket == self._schedule.number:
                    self._fetch()
            case FetchNow(waiter):
                self._waiters.append(waiter)
                self._fetch()
            case Fetched(ticket, outcome):
                if ticket == self._ticket and self._fetching is not None:
                    self._take_outcome(outcome)
            case Tick():
                self._later(self._context.heartbeat_s, Tick())
                self._give_up_a_lost_fetch()
                if self._watch.hung_call(self._now(), None if self._fetching is None else self._started):
                    self._report()
                self._beside_health(changed=self._beside.look(self._now()))
                self._push.looked(self._now())
                self._look_at_the_claim()
                self._beat()
            case ReportNow():
                self._report()
            case Reset():
                self._beside.reset(self._now())
                self._keep(self._health.reset(self._now()))
                self._fetch()
            case Recall(balance, doubts, watched):
                self._beside.recalled(watched)
                self._keep(self._health.remembered(balance, self._now(), doubts))
            case Called(capability, fault, symbol):
                now = self._now()
                self._learn(
                    self._calls.succeeded(capability, now, symbol)
                    if fault is None
                    else self._calls.failed(capability, fault, now, symbol)
                )
                self._publish_capabilities()
            case KeyStated(said, egress_address):
                changed = self._beside.key_stated(said, egress_address, self._now())
                self._beside_health(changed=changed)
            case Streamed(inbox):
                self._take_pushed(inbox)
            case LookAtPush(look):
                self._look_at_push(look)
            case Unstreamed():
                self._push.forget(self._now())
                self._take_pushed()
            case LedgerRead(entries, why):
                self._beside_health(changed=self._beside.ledger_read(entries, why, self._now()))
            case Stated(status):
                self._learn(self._calls.with_status(status, self._now()))
                self._publish_capabilities()
                if self._health.state is HealthState.MAINTENANCE and is_open(status):
                    self._fetch()  # only an answer ends maintenance, and now there may be one
            case Ordered():
                self._order(known)
            case Observed(outcome, dated):
                self._count(outcome, dated=dated)
                now = self._now()
                self._plan(now, since=now)
            case Unanswered(fault):
                self._count(fault)
                self._fetch()  # the balance decides, if it is answered
            case AskAnew(why):
                self._ordered_s = min(self._ordered_s, self._now().up_s)  # an order ends there no more
                if self._fetching is not None:
                    self._drop_the_fetch()  # the loop hung, and not the exchange
                    self._count(NotAsked(why))
                self._fetch()
            case Reconfigured(spec, taken):
                self._reconfigure(spec)
                taken.set_result(None)
            case Rekeyed():
                self._take_another_key(known)
            case _:
                assert_never(known)

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        self._answer()

    def dismiss(self, message: BrokerMessage) -> None:
        """Answer callers whose message was not handled before the end, or not to its end."""
        match message:
            case FetchNow(waiter):
                if waiter not in self._waiters and not waiter.done():
                    self._waiters.append(waiter)
                self._answer()
            case Reconfigured(_, taken) if not taken.done():
                taken.set_result(None)  # the next life begins with it
            case Rekeyed(taken=taken) if not taken.done():
                taken.set_result(False)  # so it does with this
            case Ordered(shown=shown) if not shown.done() and shown.set_running_or_notify_cancel():
                shown.set_result(None)
            case _:
                pass

    def _beat(self) -> None:
        """Publish a heartbeat, unless an outcome was published within it: that proves life as well.

        Two messages are then at most about two heartbeats apart. Silence begins after four and a second.
        """
        now, published = self._now(), self._published
        nothing_new = (
            published is not None
            # Before it ends: the wait since the last fault may have made the bound longer.
            and published.proven_until_s > now.up_s + 2 * self._context.heartbeat_s
            and published.capabilities is self._capabilities
            and published.vouched_s is None  # else each heartbeat passes on that the stream lives
            and self._health.woken(now) is self._health
            and now.up_s - self._counted_s < self._context.heartbeat_s
        )
        if not nothing_new:
            self._report()

    def _report(self) -> None:
        now = self._now()
        self._show(BrokerAlive, self._health.ignored(now).woken(now))

    def _beside_health(self, *, changed: bool) -> None:
        """Publish and record what is watched beside the health, where it has changed. The health stays."""
        if changed:
            self._keep(self._health.ignored(self._now()))

    def _store(self, now: Instant, *, news: bool = True) -> None:
        watched, journal = self._beside.watched, self._context.journal
        journal.health(self._spec, self._epoch, self._health, now, news=news, watched=watched)

    def _fetch(self, *, spare: bool = False) -> None:
        """Start a fetch, unless one is under way: all waiters share its outcome.

        `spare`: it may wait, and leaves the reserve of the budget to exits.
        """
        if self._fetching is not None:
            self._is_shared = self._is_shared or not spare
            return
        now = self._now()
        awake = self._health.woken(now)
        if awake is not self._health:
            self._show(BrokerAlive, awake)
        if self._health.barred(now) or self._claim.at(now).over:
            # No private call goes out. The waiters get the last known balance.
            self._plan(now)
            self._answer()
            return
        self._ticket += 1
        ticket, me = self._ticket, self.actor_ref
        self._started, self._deadline_s = now, self._spec.fetch_deadline_s
        self._is_spare, self._is_shared = spare, not spare
        self._fetching = self._context.source.fetch(
            self._deadline_s, lambda outcome: tell(me, Fetched(ticket, outcome)), spare=spare
        )

    def _take_outcome(self, outcome: FetchOutcome) -> None:
        """The fetch under way has ended."""
        if not self._is_spare or not isinstance(outcome, NotAsked) or outcome.locked_until is not None:
            self._fold(outcome)
            return
        # It was only for what was pushed, and the budget went to another account of the key meanwhile.
        self._fetching = None
        if self._is_shared:
            self._fetch()
        else:
            self._plan_push(max(self._push.spare_wait_s(), LATE_S))

    def _give_up_a_lost_fetch(self) -> None:
        waited_s = self._now().up_s - self._started.up_s
        limit_s = self._context.source.queue_s + self._deadline_s + LATE_S
        if self._fetching is not None and waited_s > limit_s:
            self._fetching.cancel()
            self._fold(Fault(FaultKind.NETWORK, f"the fetch never ended; given up after {waited_s:.1f} s"))

    def _look_for_a_leap(self) -> None:
        """When the machine slept, nothing from before counts. It is no fault. The exchange is asked now."""
        if not self._watch.leap(self._now()):
            return
        self._report()
        self._drop_the_fetch()  # it was asked before, on a connection from before
        self._fetch()

    def _look_at_the_claim(self) -> None:
        """When the claim of the key has ended, say so. When it is back, nothing from before counts."""
        now = self._now()
        if not self._claim.turned(now):
            return
        if self._claim.at(now).over:
            self._report()
            return
        self._watch.proof = self._watch.proof.doubt(self._claim.doubt(), now)
        self._report()
        self._drop_the_fetch()
        self._fetch()

    def _order(self, order: Ordered) -> None:
        """The known balance is overtaken until one is read that was asked for after the order's end."""
        now = self._now()
        self._ordered_s = now.up_s if order.fill is not None else float("inf")
        self._schedule.unchanged = 0
        health = self._health
        if order.fill is not None:
            health = replace(health, doubts=health.doubts.filled(order.fill, now))
        self._beside.ordered(order.fill, now)
        self._show(BrokerAlive, health.ignored(now))
        if order.shown.set_running_or_notify_cancel():
            order.shown.set_result(None)
        if order.fill is not None:
            self._fetch()

    def _learn(self, calls: Capabilities) -> None:
        if calls is not self._calls:
            self._calls, self._capabilities = calls, calls.published

    def _publish_capabilities(self) -> None:
        """Publish at once when the state of a capability has changed; else the next heartbeat does it."""
        published = self._published
        if published is not None and (
            states_of(published.capabilities) != states_of(self._capabilities)
            or published.closed_markets is not self._calls.closed
        ):
            self._show(BrokerAlive, self._health.ignored(self._now()))

    def _fold(self, outcome: FetchOutcome) -> None:
        self._fetching = None
        self._count(outcome)
        self._plan(self._now(), unasked=isinstance(outcome, NotAsked))
        self._answer()
        self._plan_push(None if isinstance(outcome, Balance) else LATE_S)

    def _count(self, outcome: FetchOutcome, *, dated: bool = True) -> None:
        """Fold an outcome, and publish and record the new health.

        `dated`: whether it is known when the outcome was asked for.
        """
        now, before = self._now(), self._health
        found: FetchOutcome | Unconfirmed = outcome
        last = before.balance
        if not isinstance(outcome, NotAsked):
            allowed, funded = self._spec.allow_empty, before.funded
            doubts, found = judged(before.doubts, outcome, last, funded=funded, allow_empty=allowed)
            if doubts is not before.doubts:
                before = replace(before, doubts=doubts)
        warned = self._beside.met(outcome, now)
        if dated and isinstance(outcome, Balance) and not isinstance(found, Balance):
            self._push.answered(outcome.as_of)
        if dated and isinstance(found, Balance):
            self._push.read(found, now)
            self._schedule.sweeps = self._push.watch.live
            warned = self._beside.read(found, before.doubts.missing, now) or warned
        match found:
            case Balance():
                # While something is in doubt, the next answers are needed soon.
                same = last is not None and found.holdings == last.holdings and not before.doubts.missing
                self._schedule.found(same=same and before.fault is None)
                self._learn(self._calls.succeeded(READ, now))
                if dated:
                    self._answer_ms = max(0, round((now.up_s - found.as_of.up_s) * 1_000))
                self._watch.succeeded(found.as_of, self._schedule.interval_s(before), dated=dated)
                self._show(BalanceSeen, before.seen(found, now))
            case Fault():
                self._schedule.unchanged = 0
                self._context.tally.faults.add(found.kind)
                self._learn(self._calls.failed(READ, found, now))
                self._show(FetchFailed, before.failed(found, now))
            case Unconfirmed():
                self._schedule.unchanged = 0
                self._watch.confirms()
                self._show(BrokerAlive, before.ignored(now))
            case NotAsked(why, until) if until is not None:
                self._show(BrokerAlive, before.locked(until, why, now))
            case NotAsked(why):
                self._show(BrokerAlive, before.ignored(now))
                self._log.not_asked(why)
        self._counted_s = now.up_s
        if not isinstance(outcome, NotAsked):
            self._log.asked()
        if not isinstance(outcome, NotAsked) or outcome.locked_until is not None:
            # The same amounts once more are not urgent to store; after a kill the balance is a little older.
            self._store(now, news=warned or not (isinstance(found, Balance) and self._schedule.unchanged))
        self._log.folded(before, self._health, self._context.slot.reading)

    def _plan(self, now: Instant, *, since: Instant | None = None, unasked: bool = False) -> None:
        """Schedule the next poll, in place of an earlier one.

        `since`: when the account was last asked. `unasked`: a poll that was due did not go out.
        """
        schedule = self._schedule
        wait_s = schedule.wait_s(self._health, now)
        self._watch.planned(wait_s)
        wait_s = schedule.unasked_wait_s(self._health, now) if unasked else wait_s
        wait_s = self._schedule.plan(wait_s, self._health, now, self._started if since is None else since)
        self._later(wait_s, Poll(self._schedule.number))

    def _reconfigure(self, spec: BrokerSpec) -> None:
        """Go on by another configuration. It makes no account available, and puts no poll off."""
        now = self._now()
        asks = self._watch.reconfigured(spec, now)
        self._spec = self._schedule.spec = self._push.spec = spec
        self._beside.rules = spec.money_watch
        self._keep(ruled(self._health, spec, now))
        if asks:
            doubted = self._watch.proof.doubted
            if doubted is not None and self._started.up_s < doubted.up_s:
                self._drop_the_fetch()  # its answer would prove nothing
            self._fetch()
        elif self._fetching is None and self._schedule.is_sooner(self._health, now, self._started):
            self._plan(now)

    def _take_another_key(self, rekeyed: Rekeyed) -> None:
        """Go on with another API key. What was asked with the old one counts no more."""
        now, same = self._now(), rekeyed.same_account
        self._drop_the_fetch()
        self._beside.rekeyed(same_account=same)
        self._watch.reconfigured(rekeyed.spec, now)
        self._spec = self._schedule.spec = self._push.spec = rekeyed.spec
        self._push.forget(now)
        self._schedule.sweeps = False
        if not same:
            self._watch.forget()
            self._learn(Capabilities.begin(now))
            self._ordered_s = float("-inf")
        self._keep(with_another_key(self._health, now, same_account=same))
        if rekeyed.found is None:
            self._fetch()
        else:
            self._started = rekeyed.found.as_of
            self._fold(rekeyed.found)
            if self._watch.proof.doubted is not None:
                self._fetch()  # it was asked before the doubt
        rekeyed.taken.set_result(True)

    def _take_pushed(self, inbox: PushInbox | None = None) -> None:
        """Show what the exchange pushed, and have a read follow it. The health stays as it is."""
        asks, now, sweeps = False, self._now(), self._schedule.sweeps
        for event in () if inbox is None else inbox.take():
            asks = self._push.heard(event, now) or asks
        self._schedule.sweeps = self._push.watch.live
        self._report()
        if asks:
            self._fetch()
        elif sweeps and not self._schedule.sweeps and self._fetching is None:
            self._plan(now, since=self._started)
        self._plan_push()

    def _plan_push(self, wait_s: float | None = None) -> None:
        """Look soon whether the read that a frame asked for may go out. After a fault polls decide."""
        planned = None if self._health.fault is not None else self._push.planned(wait_s)
        if planned is not None:
            self._later(planned[0], LookAtPush(planned[1]))

    def _look_at_push(self, look: int) -> None:
        if not self._push.is_due(look) or self._fetching is not None:
            return  # the end of the fetch under way looks again
        wait_s = self._push.spare_wait_s()
        if wait_s > 0:
            self._plan_push(wait_s)
        else:
            self._push.reads()
            self._fetch(spare=True)

    def _drop_the_fetch(self) -> None:
        """Give up the fetch under way. Its callers get the outcome of the next one."""
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None

    def _show(self, kind: Callable[[Reading], BrokerEvent], health: Health) -> None:
        """Take this health: first on the board, then on the bus."""
        self._health = health
        now, before = self._now(), self._published
        shown = self._push.watch.shown(health.balance)
        ordered_s = self._ordered_s
        if health.balance is not None:
            ordered_s = max(ordered_s, math.nextafter(self._push.watch.overtaken_s(health.balance), math.inf))
        reading = evidence(
            self._spec,
            self._epoch,
            health if shown is health.balance else replace(health, balance=shown),
            now,
            self._context.clock,
            self._context.heartbeat_s,
            capabilities=self._capabilities,
            ordered_s=ordered_s,
            closed_markets=self._calls.closed,
            proof=self._watch.proof,
            longest_age_s=self._watch.longest_age_s(),
            leads=self._watch.leads,
            answer_ms=self._answer_ms,
            outcome_until_s=self._watch.outcome_until_s(health, now),
            key=self._beside.watched.key.data,
            money=self._beside.watched.money.alarms,
            stream=self._push.watch.data(),
            vouched_s=self._push.vouched_s(),
            claim=self._claim.at(now),
        )
        self._published = reading
        if self._context.slot.write_evidence(reading, health, shown):
            self._publish(kind(reading))
            board = self._context.slot.reading
            self._log.shown(before, reading, board)
            if before is not None and (before.state, before.verdict) != (reading.state, reading.verdict):
                self._context.journal.moved(before, reading, board, now)
        else:
            # A newer incarnation has the slot. This actor hung, was replaced, and woke up.
            self._log.replaced(left=self._context.slot.closed)
            self.stop()

    def _keep(self, health: Health) -> None:
        """Take this health, which no outcome made, and store it."""
        self._show(BrokerAlive, health)
        self._store(self._now())

    def _answer(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(self._context.slot.reading)

    def _later(self, delay_s: float, message: BrokerMessage) -> None:
        me = self.actor_ref
        self._context.alarms.after(delay_s, lambda: tell(me, message))

    def _now(self) -> Instant:
        return self._context.clock.now()
