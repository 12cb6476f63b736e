"""The invariants, held after every step against a record of its own.

The record is kept from what the world did: which answers the exchanges gave, when they were asked, which
actor handled which message, what was sent and when it arrived. It asks the product only for what it shows:
readings, messages, replies. So a mistake of the product is none of the record's.

The numbers are those of the design: 2 last known, 3 and 4 the count of errors, 13 to 16 the merge of views,
17 and 18 what may make an account available, 19 silence, 20 holds, 22 late listeners, 23 restarts, 26 each
outcome counted once, 27 liveness, 28 and 29 the age of a proof and leaps of time, 35 several endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.protocol import (
    LATE_S,
    AskAnew,
    Drain,
    Fetched,
    LookRound,
    Observed,
    OperatorCommand,
    Recall,
    Reconfigured,
    Regroup,
    Rekeyed,
    RestartDue,
    Tick,
    Unanswered,
)
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.outcome import FetchOutcome, NotAsked
from brokerwatch.health.reading import ttl_s
from brokerwatch.health.restarts import RESTART_LIMIT, RESTART_WINDOW_S
from brokerwatch.health.supervision import View
from brokerwatch.messages import Balance, Fault, FaultKind, Reading, ReadingData, Reason
from brokerwatch.storage.health_record import read
from tests.simulation.membership import GOOD, Membership, is_of
from tests.simulation.record import LONG_AGO_S, Account, Life, Promise, longest_proof_s, number_in
from tests.simulation.scheduler import Running
from tests.simulation.words import Words

if TYPE_CHECKING:
    from tests.simulation.network import Sent
    from tests.simulation.world import ClusterProcess, Hearing, Question, World

TRIFLE_S: Final = 0.02
"""What rounding to milliseconds and the steps of the scheduler may add."""
SELDOM_S: Final = 0.1
"""What nothing has changed is looked at so often."""


class Broken(AssertionError):
    """An invariant does not hold. The text names it, the seed, the step, and the last events."""


class Oracle:
    """Holds the invariants of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.membership = Membership(self)
        self.accounts: dict[str, Account] = {}
        self.lives: dict[Running, Life] = {}
        self._by_epoch: dict[str, Life] = {}
        self._promises: dict[tuple[str, str, int], Promise] = {}
        self._quickest_s: dict[tuple[int, str], float] = {}
        self._believed: dict[tuple[int, str, str], tuple[float, ReceivedReading]] = {}
        self._shown: dict[tuple[int, str, str, str], tuple[str, int]] = {}
        self._held_before: dict[str, bool] = {}
        self._heard_s: dict[str, float] = {}
        self._round_due_s = float("inf")
        self._silent_before: set[str] = set()
        self._looked_s = [LONG_AGO_S, LONG_AGO_S]
        self.holds_kept: dict[str, bool] = {}
        """Accounts whose hold was confirmed as stored, and not released: a restart must know of them."""
        self._kept_until_s: dict[str, float] = {}
        """When these end by themselves, in monotonic seconds. A newer hold may not be stored."""
        self._epoch_before = ""
        """Of the account whose restart the supervisor comes to now."""
        self._unhandled: Callable[[], None] | None = None
        """What puts the record back where the message that an actor comes to now is lost."""
        self.counts: dict[str, int] = {}
        """How often what was reached, so that a walk that proves nothing is seen."""

    # What is reported -----------------------------------------------------------------------------------

    def fail(self, invariant: int | str, words: str, *values: object) -> None:
        """An invariant does not hold."""
        world = self._world
        trace = "\n  ".join(world.scheduler.trace.lines())
        raise Broken(
            f"invariant {invariant}: {words.format(*values)}\n"
            f"seed {world.seed}, step {world.scheduler.steps}, at {world.scheduler.now_s:.3f} s; "
            f'again: make simulate ARGS="--seed {world.seed}"\n  {trace}'
        )

    def count(self, what: str) -> None:
        """Note that something was reached."""
        self.counts[what] = self.counts.get(what, 0) + 1

    # The cluster ----------------------------------------------------------------------------------------

    def started(self, cluster: ClusterProcess) -> None:
        """A process has restored what it remembers, and starts its actors now."""
        self._heard_s, self._silent_before = {}, set()
        before, self.accounts = self.accounts, {}
        for name in before:
            if name not in cluster.specs:
                gone = self.accounts[name] = Account(name, left_s=self._world.scheduler.now_s)
                gone.held, gone.held_until_s = bool(self.holds_kept.get(name)), self._kept_until(name)
        for name, spec in cluster.specs.items():
            self._restored(cluster, spec, before.get(name))

    def _restored(self, cluster: ClusterProcess, spec: BrokerSpec, old: Account | None) -> None:
        name = spec.name
        account = self.accounts[name] = Account(name)
        slot = cluster.board.slot(name)
        evidence, vetoes = slot.parts()
        account.begin(slot, spec, joined=False)
        account.errors = evidence.error_count
        stored = cluster.memory.remembered.healths.get(name)
        same = stored is not None and is_of(stored.exchange, spec)
        if stored is not None and same:
            was = read(stored.document, threshold=3).health.balance
            if was is not None:
                account.number = number_in(was.holdings)
                if evidence.balance is None or number_in(evidence.balance) != account.number:
                    self.fail(18, "the last known of {} was stored and is not restored", name)
                if evidence.as_of is not None:
                    account.as_of_s = evidence.as_of.up_s
        account.take_hold(vetoes)
        if not account.held and self._kept_until(name) < float("inf"):
            self.holds_kept[name] = False  # it ended by itself
        if self.holds_kept.get(name) and not account.held:
            self.fail(20, "the hold on {} was confirmed as stored and is lost", name)
        if account.held:
            self.count("a hold survived a restart")
        if (same or not cluster.memory.known) and evidence.state in GOOD:
            self.fail(18, "{} begins {} after a restart", name, evidence.status)

    @staticmethod
    def number_of(reading: Reading) -> int | None:
        """The number of the answer in a reading; None: it has none."""
        return None if reading.balance is None else number_in(reading.balance)

    def new_account(self, name: str) -> Account:
        """An account of which nothing was recorded."""
        account = self.accounts[name] = Account(name)
        return account

    def killed(self, cluster: ClusterProcess) -> None:
        """A process was killed."""
        for account in self.accounts.values():
            account.life = None
        del cluster

    def asked(
        self, actor: Running, now: Instant, deadline_s: float, done: Callable[[FetchOutcome], object]
    ) -> Question:
        """An actor starts a fetch."""
        from tests.simulation.world import Question

        life = self.lives[actor]
        life.questions += 1
        if life.question is not None and not life.question.cancelled:
            self.fail(26, "{} has two fetches under way", life.name)
        life.question = Question(life.questions, now, self._world.scheduler.now_s, done, deadline_s)
        return life.question

    def changed(self, before: Reading, after: Reading) -> None:
        """The board shows another reading."""
        if before.verdict != after.verdict:
            self._world.note(
                "board: {} {} {}, {} errors",
                after.broker,
                after.status,
                after.verdict.reason,
                after.error_count,
            )

    # The actors -----------------------------------------------------------------------------------------

    def before(self, actor: Running, message: object) -> None:
        """An actor is about to handle a message; None: it begins."""
        if isinstance(actor.actor, BrokerActor):
            life = self.lives.get(actor)
            if life is None:
                life = self._born(actor)
            leaps = self._look_for_a_leap(life)
            self._unhandled = self._saved(life) if leaps else None
            if message is not None and type(message) is not Tick:
                self._world.note("{} {}: {}", life.name, life.epoch[-8:], Words(message))
            self.membership.handled(life, message)
            self._count_outcome(life, message)
        elif isinstance(actor.actor, HealthSupervisor) and not isinstance(message, Drain | LookRound):
            self._world.note("supervisor: {}", Words(message))
            if isinstance(message, RestartDue):
                self._epoch_before = self._epoch_of(message.broker)
            self.membership.supervisor_handles(actor, message)

    def _born(self, actor: Running) -> Life:
        product, world = actor.actor, self._world
        name, cluster = product._spec.name, world.cluster
        assert cluster is not None
        account, spec = self.accounts[name], product._spec
        again = account.lived
        stored = cluster.memory.remembered.healths.get(name)
        first = (
            not again
            and not account.joined
            and spec.policy != "guarded"
            and cluster.memory.known
            and (stored is None or not is_of(stored.exchange, spec))
        )
        clock = cluster.clock
        life = Life(
            name, product._epoch, cluster, first, world.scheduler.now_s if again else cluster.began_s,
            account.errors, clock.leads(), spec, looked_s=world.scheduler.now_s, looked_up_s=clock.up_s(),
        )  # fmt: skip
        life.longest_s = longest_proof_s(spec, life)
        self.lives[actor] = life
        if account.left_s is not None or cluster.lives.of(name).epoch != life.epoch:
            return life  # it left before its actor came to anything
        waiting = [each.message for each in actor.inbox.waiting]
        changes = [each for each in waiting if isinstance(each, Reconfigured | Rekeyed)]
        if (changes[-1].spec if changes else spec) is not cluster.specs[name]:
            self.fail(36, "{} begins by a former configuration", name)
        if account.life is not None and life.epoch <= account.life.epoch:
            self.fail("18 (epoch)", "the new life of {} has no later epoch", name)
        # A key that was given after its actor was made waits for it. The others it begins with.
        begun = len(account.keys_given) - sum(isinstance(each, Rekeyed) for each in changes)
        if not all(account.keys_given[:begun]):
            account.number, account.as_of_s, account.errors = None, LONG_AGO_S, 0
            life.errors = 0
        elif again and account.life is not None:
            life.locked_until_s = account.life.locked_until_s  # the next life of an actor goes on with it
        account.key, account.keys_given = spec.credentials, account.keys_given[begun:]
        account.life = life
        account.lived = True
        account.epochs.add(life.epoch)
        account.births_s.append(clock.up_s())
        recent = [each for each in account.births_s[1:] if clock.up_s() - each < RESTART_WINDOW_S - 1.0]
        if len(recent) > RESTART_LIMIT:
            self.fail(23, "{} was restarted {} times within a minute", name, len(recent))
        if account.failed:
            self.fail(23, "{} was restarted after it was given up", name)
        if again:
            self.count("a restart")
        return life

    def is_over(self, life: Life) -> bool:
        """Whether an account that belongs to the cluster has another life, whose actor may not have begun."""
        return (
            self.accounts[life.name].left_s is None and life.cluster.lives.of(life.name).epoch != life.epoch
        )

    def _saved(self, life: Life) -> Callable[[], None]:
        """What puts the record back to this moment: of a life, and of its account."""
        account = self.accounts[life.name]
        known = [(each, {**vars(each)}) for each in (life, account)]
        known[1][1]["keys_given"] = [*account.keys_given]

        def put_back() -> None:
            for each, was in known:
                vars(each).update(was)

        return put_back

    def died_of_the_leap(self) -> None:
        """An actor dies while it asks its exchange after a leap: it does not come to its message."""
        if self._unhandled is not None:
            self._unhandled()
            self.count("a message that was lost after a leap")

    def _look_for_a_leap(self, life: Life) -> bool:
        """Whether the actor notices a leap of the clocks, before it looks at its message."""
        now_s, clock = self._world.scheduler.now_s, life.cluster.clock
        hidden_s = life.hidden_since_its_look_s(now_s)
        if hidden_s is None:
            life.doubted_s, life.question = now_s, None
            self.count("a leap")
        elif hidden_s > TRIFLE_S:
            life.hidden.append((now_s, hidden_s))
        life.looked_s, life.looked_up_s, life.leads = now_s, clock.up_s(), clock.leads()
        return hidden_s is None

    def _count_outcome(self, life: Life, message: object) -> None:
        question = life.question
        match message:
            case Fetched(ticket, outcome):
                if question is not None and not question.cancelled and question.number == ticket:
                    life.question = None
                    self.take(life, outcome, question.asked_s)
                else:
                    self.count("an answer that came too late")
            case Tick() if question is not None and not question.cancelled:
                source = self._world.exchanges[life.name]
                waited_s = life.cluster.clock.up_s() - question.asked.up_s
                if waited_s > source.queue_s + question.deadline_s + LATE_S:
                    life.question = None
                    self.take(life, Fault(FaultKind.NETWORK), 0.0)
                    self.count("a fetch that never ended")
            case Observed(outcome):
                asked_s = self._world.scheduler.now_s
                if isinstance(outcome, Balance):
                    asked_s -= life.cluster.clock.up_s() - outcome.as_of.up_s
                self.take(life, outcome, asked_s)
            case Unanswered(fault):
                self.take(life, fault, 0.0)
            case Recall(balance):
                account = self.accounts[life.name]
                is_newest = account.life is life and not self.is_over(life)
                if is_newest and balance.as_of.up_s >= account.as_of_s:
                    account.number, account.as_of_s = number_in(balance.holdings), balance.as_of.up_s
                    self.count("a balance that was read after the start")
            case AskAnew():
                life.question = None
            case _:
                pass

    def take(self, life: Life, outcome: FetchOutcome, asked_s: float) -> None:
        """The actor of an account counts an outcome that was asked for at this moment of the world."""
        account = self.accounts[life.name]
        guarded = life.guarded
        match outcome:
            case Balance():
                life.errors, life.refused, life.closed, life.tripped = 0, False, False, False
                life.recovers = False
                life.success_s = max(life.success_s, asked_s)
                life.longest_s = longest_proof_s(life.spec, life)
                last = account.life if account.left_s is None else account.last
                if last is life and not self.is_over(life) and outcome.as_of.up_s >= account.as_of_s:
                    account.number, account.as_of_s = number_in(outcome.holdings), outcome.as_of.up_s
            case Fault(kind=FaultKind.MAINTENANCE) if guarded:
                life.closed = True
            case Fault():
                life.errors += 1
                life.refused |= guarded and outcome.kind in (FaultKind.AUTH, FaultKind.PERMISSION)
                life.tripped |= life.refused or life.errors >= life.spec.max_consecutive_errors
            case NotAsked(_, until) if until is not None:
                life.locked_until_s = max(life.locked_until_s, until.up_s)
            case NotAsked():
                pass
        if life.tripped:
            self.count("an account out after errors")

    def after(self, actor: Running, message: object) -> None:
        """An actor has handled a message."""
        product = actor.actor
        if isinstance(product, BrokerActor):
            life = self.lives[actor]
            account = self.accounts.get(life.name)
            if account is None or account.life is not life or not life.cluster.process.alive:
                return
            self._check_epoch(life)
            if not self.is_over(life):
                self._check_fold(life, account)
                self.membership.after(life, message)
            if actor.ended:
                self._world.note("{}: its actor has ended", life.name)
        elif isinstance(product, HealthSupervisor):
            self._after_supervisor(actor, message)

    def _check_epoch(self, life: Life) -> None:
        shown = life.cluster.board.slot(life.name).parts()[0]
        if shown.broker_epoch != life.cluster.lives.of(life.name).epoch:
            self.fail(18, "a life of {} that is over was written over the new one", life.name)

    def _check_fold(self, life: Life, account: Account) -> None:
        evidence = life.cluster.board.slot(life.name).parts()[0]
        if evidence.error_count != life.errors:
            self.fail(
                "3 and 26", "{} counts {} errors and not {}", life.name, evidence.error_count, life.errors
            )
        account.errors = life.errors
        number = None if evidence.balance is None else number_in(evidence.balance)
        if number != account.number:
            self.fail(2, "the last known of {} is answer {} and not {}", life.name, number, account.number)
        recent_s = self._world.scheduler.now_s - life.spec.poll_interval_s
        proven = life.proof_s >= recent_s and not life.tripped
        locked = life.cluster.clock.up_s() < life.locked_until_s + 2.0
        ruled = not life.guarded and not life.closed and not life.recovers
        if ruled and proven and not locked and not evidence.verdict.available:
            self.fail(4, "{} answers, and its evidence says {}", life.name, evidence.verdict.reason)

    def _after_supervisor(self, actor: Running, message: object) -> None:
        product = actor.actor
        cluster = self._world.cluster
        if cluster is None or actor.process is not cluster.process:
            return
        now_s = cluster.clock.up_s()
        views = product._views
        if message is None:
            self._heard_s = dict.fromkeys(views, now_s)
        late = isinstance(message, LookRound) and now_s - self._round_due_s > 5.0
        if late:
            self._heard_s = dict.fromkeys(views, now_s)
            self.count("a round that came too late")
        silent = {
            name for name, view in views.items() if view.vetoes.laid.keys() & {Reason.SILENT, Reason.BLIND}
        }
        for name in silent - self._silent_before:
            self.count("a silence")
            quiet_s = now_s - self._heard_s.get(name, LONG_AGO_S)
            if quiet_s <= ttl_s(cluster.heartbeat_s) or late:
                self.fail(19, "{} is called silent {:.2f} s after it was heard", name, quiet_s)
        self._silent_before = silent
        if message is None or isinstance(message, LookRound):
            self._round_due_s = now_s + cluster.heartbeat_s
        if isinstance(message, Drain):
            for name, view in views.items():
                life = self.accounts[name].life if name in self.accounts else None
                if view.heard_s == now_s and life is not None:
                    self._heard_s[name] = now_s
        elif isinstance(message, RestartDue):
            if self._epoch_of(message.broker) != self._epoch_before:  # else it was due no more
                self._heard_s[message.broker] = now_s
        elif isinstance(message, OperatorCommand):
            self._obeyed(message, now_s)
        elif isinstance(message, Regroup):
            self._heard_s.update(dict.fromkeys(message.joined, now_s))
        self.membership.supervisor_handled(actor, cluster, message)
        for name, view in views.items():
            account = self.accounts.get(name)
            if account is not None and self.membership.is_current(product, cluster, name):
                self._check_replacement(account, view, now_s)
                failed = Reason.FAILED in view.vetoes.laid
                if failed and not account.failed:
                    self.count("an account given up")
                account.failed = failed

    def _epoch_of(self, name: str) -> str:
        """The epoch of the newest life of an account, which may not have begun; empty: it has left."""
        cluster = self._world.cluster
        return "" if cluster is None or name not in cluster.specs else cluster.lives.of(name).epoch

    def _check_replacement(self, account: Account, view: View, now_s: float) -> None:
        """An actor is replaced only when it has ended, or was not heard for the time to live."""
        replaced = Reason.RESTARTING in view.vetoes.laid
        if replaced and not account.replaced and account.life is not None:
            life, name = account.life, account.name
            lives = [each for each in life.cluster.brokers(name) if self.lives.get(each) is life]
            quiet_s = now_s - self._heard_s.get(name, LONG_AGO_S)
            if lives and quiet_s <= ttl_s(life.cluster.heartbeat_s):
                self.fail(23, "{} is replaced {:.2f} s after it was heard, and lives", name, quiet_s)
        account.replaced = replaced

    def _obeyed(self, command: OperatorCommand, now_s: float) -> None:
        reply = command.reply
        if reply.done() and reply.exception() is not None:
            self.count("a command that was refused")
            return
        account = self.accounts[command.broker]
        name = command.broker
        if command.verb == "hold":
            account.held = True
            until_s = account.held_until_s = float("inf") if command.until is None else command.until.up_s
            reply.add_done_callback(lambda done: self._stored(name, done.result(), until_s))
            self.count("a hold")
        elif command.verb == "release":
            account.held, self.holds_kept[name] = False, False
        elif command.verb == "reset":
            account.failed = False
            if reply.done() and "started again" in reply.result():
                account.births_s.clear()
                self._heard_s[name] = now_s

    def _stored(self, name: str, reply: str, until_s: float) -> None:
        account = self.accounts.get(name)
        if "could not be stored" not in reply and account is not None and account.held:
            self.holds_kept[name], self._kept_until_s[name] = True, until_s

    def _kept_until(self, name: str) -> float:
        """When the hold that is stored ends by itself, in monotonic seconds; never: infinite."""
        return self._kept_until_s.get(name, float("inf"))

    # What is shown --------------------------------------------------------------------------------------

    def look(self) -> None:
        """Hold what must be true of each reading now."""
        world, ran = self._world, self._world.scheduler.ran
        now_s = world.scheduler.now_s
        # What is shown changes by what runs there, or with time: the board by the actors alone.
        if ran is None or world.scheduler.acted or now_s - self._looked_s[0] > SELDOM_S:
            self._looked_s[0] = now_s
            self._look_at_the_board(now_s)
        if ran is not world.here or now_s - self._looked_s[1] > SELDOM_S:
            self._looked_s[1] = now_s
            self._look_at_the_listeners(now_s)

    def _look_at_the_board(self, now_s: float) -> None:
        world, cluster = self._world, self._world.cluster
        if cluster is not None and not world.here.stopped_until_s > now_s:
            for account in self.accounts.values():
                if account.slot is None:
                    continue
                reading = account.slot.reading
                if account.left_s is not None:
                    if reading.available:
                        self.fail(36, "a handle says that {} is available, which left", account.name)
                    continue
                if reading is not account.checked:
                    account.checked = reading
                    order = (reading.broker_epoch, reading.version)
                    if order < account.order:
                        self.fail(13, "the reading of {} went back", account.name)
                    account.order = order
                if reading.verdict.available and reading.available:
                    self._justified(account, cluster, "the board", 0.0)

    def _look_at_the_listeners(self, now_s: float) -> None:
        world = self._world
        if world.there.stopped_until_s > now_s:
            return  # no program runs there that could look
        for hearing in world.hearings:
            for name, reading in hearing.listener.readings().items():
                if reading.verdict.available and reading.available:
                    self._believable(hearing, name, reading, now_s)

    def _justified(self, account: Account, cluster: ClusterProcess, where: str, late_s: float) -> None:
        """Whether this account may be said to be available now."""
        world, life, name = self._world, account.life, account.name
        up_s, now_s = cluster.clock.up_s(), world.scheduler.now_s
        if account.held and up_s < account.held_until_s:
            self.fail(20, "{} says that {} is available, which is held out", where, name)
        if account.failed:
            self.fail(17, "{} says that {} is available, which was given up", where, name)
        if life is None:
            self.fail(17, "{} says that {} is available, which never lived", where, name)
            return
        if late_s == 0.0:
            if life.tripped or life.refused or life.closed:
                self.fail(4, "{} says that {} is available after {} errors", where, name, life.errors)
            if up_s < life.locked_until_s:
                self.fail(25, "{} says that {} is available in a lockout", where, name)
        if life.proof_s == LONG_AGO_S and late_s == 0.0:
            self.fail("17 and 18", "{} says that {} is available without a success in this life", where, name)
        until_s = life.proof_s + life.longest_s + late_s + life.hidden_s(now_s) + TRIFLE_S
        if life.proof_s > LONG_AGO_S and now_s > until_s:
            self.fail(
                28, "{} says that {} is available {:.1f} s after its proof", where, name, now_s - life.proof_s
            )

    # The health topic -----------------------------------------------------------------------------------

    def sent(self, cluster: ClusterProcess, message: Sent) -> None:
        """A message of the health topic leaves the cluster."""
        data, stamp = message.envelope.data, message.envelope.stamp
        self.membership.sent(message)
        if not isinstance(data, ReadingData):
            return
        account = self.accounts[data.broker]
        late_s = cluster.bus.longest_s + ttl_s(cluster.heartbeat_s)
        if data.available:
            self._justified(account, cluster, "the health topic", late_s)
        life = account.life
        proof_s = LONG_AGO_S if life is None else life.proof_s
        longest_s = 0.0 if life is None else life.longest_s + life.hidden_s(message.sent_s)
        until_s = proof_s + longest_s + cluster.bus.longest_s
        if proof_s == LONG_AGO_S:
            until_s = message.sent_s + late_s
        self._promises[stamp.epoch, message.topic, stamp.seq] = Promise(
            data.available, message.sent_s, until_s, (data.broker_epoch, data.version)
        )

    def delivered(
        self,
        hearing: Hearing,
        station: Any,
        message: Sent,
        known: Mapping[tuple[str, str], ReceivedReading],
        changed: Mapping[tuple[str, str], ReceivedReading],
    ) -> None:
        """A message has arrived at a listener; `changed` are the readings that it made."""
        stamp, data = message.envelope.stamp, message.envelope.data
        place = id(station)
        now_s = self._world.scheduler.now_s
        quickest_s = min(self._quickest_s.get((place, stamp.epoch), float("inf")), now_s - message.sent_s)
        for key, received in changed.items():
            if received.stamp.epoch != stamp.epoch or received.stamp.seq != stamp.seq:
                continue
            if not isinstance(data, ReadingData) or key != (stamp.src, data.broker):
                continue
            before = known.get(key)
            if before is not None and before.stamp == received.stamp:
                self.fail(14, "a doubled message of {} was taken twice", key[1])
            promise = self._promises[stamp.epoch, message.topic, stamp.seq]
            where = (place, stamp.epoch, *key)
            if promise.order[0]:  # else the supervisor has not heard of it since it came
                if promise.order < self._shown.get(where, ("", -1)):
                    self.fail(13, "{} went back at a listener", key[1])
                self._shown[where] = promise.order
            until_s = min(promise.sent_s + stamp.ttl_ms / 1_000, promise.proven_until_s) + quickest_s
            self._believed[place, *key] = (until_s, received)
        self._quickest_s[place, stamp.epoch] = quickest_s
        self._held_is_united(hearing)

    def _held_is_united(self, hearing: Hearing) -> None:
        """A hold that one endpoint has brought is not lost because another one is behind."""
        for station in hearing.stations:
            for (_, name), received in station.receiver.newest.items():
                reading = received.reading
                if reading.verdict.reason is Reason.HELD_OUT and not reading.expired:
                    merged = hearing.listener.readings()[name]
                    if merged.available:
                        self.fail(35, "a listener lost the hold on {} while it merged", name)

    def _believable(self, hearing: Hearing, name: str, shown: Reading, now_s: float) -> None:
        """Whether a listener may say that this account is available now."""
        slack_s = self._world.there.dozed_s + TRIFLE_S
        longest_s = LONG_AGO_S
        for station in hearing.stations:
            for key, received in station.receiver.newest.items():
                if key[1] == name and (received.reading is shown or received.reading.available):
                    until_s, believed = self._believed.get((id(station), *key), (LONG_AGO_S, None))
                    if believed is received:
                        longest_s = max(longest_s, until_s)
        if now_s > longest_s + slack_s:
            self.fail(
                "17 and 28",
                "a listener says that {} is available, {:.2f} s too long",
                name,
                now_s - longest_s,
            )
