"""Which brokers belong to a cluster, and how that changes while it runs.

A change is prepared before anything of it happens, so that one that is not possible changes nothing. What it
does not name is not touched: neither the actor of an account, nor its lane, nor its next poll.

Readers of `specs`, `board` and `wired` take no lock. So each is replaced whole, in an order in which every
broker that is listed can be found.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from brokerwatch.actors.base import wait_for_end
from brokerwatch.actors.board import Slot
from brokerwatch.actors.protocol import Alarms, BrokerMessage, Life, OperatorCommand
from brokerwatch.clock import Clock
from brokerwatch.cluster.account_loops import AccountLoops, LetGo
from brokerwatch.cluster.exchange_watch import ExchangeWatch, look_up_verifications
from brokerwatch.cluster.key_watch import KeyWatching
from brokerwatch.cluster.leaving import Leavers, Leaving
from brokerwatch.cluster.ledger_reading import LedgerReading
from brokerwatch.cluster.lives import Joining, Lives
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.cluster.restore import recall, rejoined, restored
from brokerwatch.cluster.startup import (
    Changed,
    Sockets,
    blank_board,
    broken_slot,
    gate_folder,
    warn_of_default_policies,
)
from brokerwatch.cluster.streaming import Streaming
from brokerwatch.cluster.wiring import (
    Parts,
    Wired,
    WiredAccount,
    access_of,
    account_of,
    extended,
    gateway_of,
    rebuilt,
    rewired,
    wired,
    without,
)
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.reload_plan import Plan, plan
from brokerwatch.errors import ClusterStopped, ConfigError
from brokerwatch.gateway.lease import TermOf, no_term
from brokerwatch.gateway.loop import Loop, LoopThread
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.log import logger
from brokerwatch.messages import Reason
from brokerwatch.orders.gate import Gate
from brokerwatch.storage.records import Remembered
from brokerwatch.tally import Tally

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access, Gateway

_log: Final = logger(__name__)

MONEY_WATCH: Final = "money watch"
"""By whom an account is held that has less than its floor."""
SETTLES_S: Final = 2.0
"""How long a change waits until the supervisor goes on with it, and until the actors that left have ended."""
REMOVED: Final = "it was removed from the cluster"
ORDERS_OFF: Final = "orders are off since the configuration was changed"


class Members:
    """The brokers of one cluster, and what stands behind each.

    Any thread may read `specs`, `board` and `wired`.

    `go_up` once, then `change`, `move` and `recall` by one thread at a time, then `refuse_orders`.
    """

    def __init__(
        self,
        specs: Iterable[BrokerSpec],
        broken: Mapping[str, tuple[str, str]],
        settings: ClusterSettings,
        state: Persistence,
        clock: Clock,
        changed: Changed,
        term_of: TermOf = no_term,
    ) -> None:
        self._term_of = term_of
        self.specs: Mapping[str, BrokerSpec] = {spec.name: spec for spec in specs}
        self.broken = broken
        self.settings = settings
        self.heartbeat_s = settings.heartbeat_of(len(self.specs))
        self.board = blank_board(self.specs.values(), broken, clock, self.heartbeat_s, changed)
        self.wired = Wired()
        self.lock = threading.RLock()
        """Held by the thread that changes anything here."""
        self.running = False
        self.gateway: Gateway | None = None
        self.loops = AccountLoops(self.lock)
        self.lives = Lives(self.specs, self.board, state.journal, settings, clock, self.heartbeat_s)
        self.watch = ExchangeWatch(clock, settings.status_interval_s, self.lives.tell)
        self.keys = KeyWatching(self.lives.tell)
        self.streams = Streaming(self.lives.tell, clock)
        self.ledgers = LedgerReading(self.lives.tell)
        self.gate = Gate(gate_folder(settings), settings.require_verification_max_age_s, clock)
        self._state = state
        self._clock = clock
        self._changed = changed
        self._home: asyncio.AbstractEventLoop | None = None
        self.leavers = Leavers(self.lock, self.let_go)

    def go_up(
        self, sockets: Sockets, alarms: Alarms, tally: Tally, home: asyncio.AbstractEventLoop | None
    ) -> None:
        """Wire and start all of them. `home`: the trader's own event loop, where there is one.

        Raises ConfigError.
        """
        self._home = home
        healths = restored(self.specs, self.board, self._state, self._clock, self.heartbeat_s)
        self.parts = Parts(
            board=self.board,
            tally=tally,
            state=self._state,
            clock=self._clock,
            heartbeat_s=self.heartbeat_s,
            alarms=alarms,
            gate=self.gate,
            send=self.lives.tell,
            ask_ledger=self._ask_ledger,
            hold=self._hold,
            started_loop=self.loops.named,
            term_of=self._term_of,
        )
        self.gateway = gateway_of(self.specs.values(), self.parts, home)
        self.wired = wired(self.specs.values(), self.parts, self.gateway)
        self._watch_loops()
        self._look_up_verifications()
        self.running = True
        epochs = {name: health.epoch for name, health in self._state.remembered.healths.items()}
        self.lives.start(sockets, self.wired.contexts, healths, epochs, alarms, lambda: self.loops.watched)
        self.watch.follow(self.wired.accounts)
        self._watch_keys()

    @property
    def configured(self) -> Settings:
        """The configuration that holds now."""
        return Settings(self.settings, tuple(self.specs.values()), self.broken)

    # --- changes ---------------------------------------------------------------------------------------

    def change(self, configuration: Callable[[Settings], Settings], by: str, *, gone: str = REMOVED) -> Plan:
        """Go on by another configuration; what has changed. All of it, or nothing.

        `configuration` makes it of the one that holds now; `by` whom it is wanted, for the history; `gone`
        says why an account leaves. Raises what `configuration` raises, ConfigError with every mistake, and
        ClusterStopped.
        """
        with self.lock:
            self.refuse_when_stopped()
            wanted = configuration(self.configured)
            planned = plan(self.configured, wanted)
            if planned.refused:
                raise ConfigError(planned.refused)
            accesses = self._prepared(planned)
            self._try_out([one.after for one in planned.changed if one.new_key], accesses)
            leaving = {name: self.board.slot(name) for name in planned.removed}
            taken, ended = self._carry_out(planned, wanted, accesses, gone)
        warn_of_default_policies(planned.added)
        # Not under the lock: the supervisor may need it, to replace a loop.
        if wait(taken, SETTLES_S).not_done:
            _log.warning("an actor has not taken up the new configuration within %g s", SETTLES_S)
        # Until the supervisor has heard one, it is not available whatever it answers.
        self.lives.wait_until_heard(SETTLES_S, [spec.name for spec in planned.added])
        for life in ended.values():
            wait_for_end(life.ref, SETTLES_S)
        for name, words in planned.words().items():
            reading = (leaving.get(name) or self.board.slot(name)).reading
            self._state.journal.commanded("reload", by, reading, words, self._clock.now())
        return planned

    def refuse_when_stopped(self) -> None:
        if not self.running:
            raise ClusterStopped("the cluster is not running, so nothing can be changed")
        if self.lives.gave_way:
            raise ClusterStopped(self.lives.gave_way)

    def _prepared(self, planned: Plan) -> dict[str, Access]:
        """The ways to the accounts that are new, or asked by another configuration. Raises ConfigError."""
        specs = [*planned.added, *(one.at_once for one in planned.changed if one.rebuilds)]
        if self.gateway is None:
            self.gateway = gateway_of(specs, self.parts, self._home)
        accesses: dict[str, Access] = {}
        problems: list[ConfigError] = []
        for spec in specs:
            if spec.fetch is None:
                try:
                    accesses[spec.name] = access_of(spec, self.gateway)
                except ConfigError as error:
                    problems.append(error)
        self._refuse(problems, accesses)
        return accesses

    def _try_out(self, specs: Iterable[BrokerSpec], accesses: Mapping[str, Access]) -> None:
        """See whether these can be asked at all. Raises ConfigError, with the ways to the others let go."""
        problems: list[ConfigError] = []
        for spec in specs:
            try:
                self.let_go(spec.name, access_of(spec, self.gateway))
            except ConfigError as error:
                problems.append(error)
        self._refuse(problems, accesses)

    def _refuse(self, problems: list[ConfigError], accesses: Mapping[str, Access]) -> None:
        if problems:
            for name, access in accesses.items():
                self.let_go(name, access)
            raise ConfigError(tuple(problem for error in problems for problem in error.problems))

    def _carry_out(
        self, planned: Plan, wanted: Settings, accesses: Mapping[str, Access], why: str = REMOVED
    ) -> tuple[list[Future[None]], Mapping[str, Life]]:
        """Carry out what was prepared. Nothing here may fail.

        Returns what is done once every actor goes on by it, and the actors that were asked to stop.
        """
        before, were = self.wired.accounts, self.specs
        at_once = {one.after.name: one.at_once for one in planned.changed}
        known = {**self.specs, **at_once, **{spec.name: spec for spec in planned.added}}
        self.specs = {name: known[name] for name in self.specs if name in planned.order}
        gone = NO_VETOES.lay(Reason.SHUTDOWN, why, self._clock.now())
        slots = {name: self.board.slot(name) for name in planned.removed}
        left = tuple(slot.close(gone) for slot in slots.values())
        begins = self._seated(planned, wanted)
        self._rewire(planned, accesses)
        self.specs = {name: known[name] for name in planned.order if name not in wanted.broken}
        self.broken, self.settings = wanted.broken, wanted.cluster
        self.follow_all()
        self.lives.set_publish_balances(publish=self.settings.publish_balances)
        self._state.history_days = self.settings.history_days
        taken = [self.lives.reconfigure(spec) for spec in at_once.values()]
        joining = {
            name: Joining(self.specs.get(name), self.wired.contexts.get(name), *begin)
            for name, begin in begins.items()
        }
        done, ended = self.lives.regroup(planned.order, joining, left)
        self._part_with(planned, before)
        for name, slot in slots.items():
            if name in before:
                self.leavers.see_off(Leaving(were[name], slot, before[name], why), self.parts.alarms)
            else:
                self.parts.tally.forget(name)
        return [*taken, done], ended

    def _seated(self, planned: Plan, wanted: Settings) -> dict[str, tuple[Health | None, str]]:
        """Give the brokers that are new their places on the board.

        With what each begins: its health, and the epoch of its life before; None: it has no actor, because
        of its configuration.
        """
        begins: dict[str, tuple[Health | None, str]] = {}
        slots: dict[str, Slot] = {}
        for spec in planned.added:
            health, evidence, vetoes = rejoined(spec, self._state, self._clock, self.heartbeat_s)
            stored, slot = self._state.journal.newest(spec.name), self.board.former(spec.name)
            epoch = "" if stored is None else stored.epoch
            if slot is None:
                slot = Slot(evidence, health, vetoes, self._changed)
            else:
                epoch = max(epoch, slot.reading.broker_epoch)
                slot.reopen(evidence, health, vetoes)
            slots[spec.name], begins[spec.name] = slot, (health, epoch)
        for name, (exchange, why) in wanted.broken.items():
            if name not in self.board:
                slots[name] = broken_slot(name, exchange, why, self._clock, self.heartbeat_s)
                begins[name] = None, ""
        self.board.arrange(planned.order, slots)
        return begins

    def _rewire(self, planned: Plan, accesses: Mapping[str, Access]) -> None:
        """Put other ways to the accounts between the actors and their exchanges."""
        after = without(self.wired, planned.removed)
        for one in planned.changed:
            if one.rebuilds:
                after = rebuilt(after, one.at_once, self.parts, accesses.get(one.after.name))
        self.wired = extended(after, planned.added, self.parts, self.gateway, accesses)

    def _watch_loops(self) -> None:
        self.loops.watch(self.wired.loops, self.specs, self.heartbeat_s, self._move)

    def _ask_ledger(self, name: str, since_us: int, currencies: tuple[str, ...]) -> None:
        self.ledgers.ask(name, self.wired.accounts.get(name), since_us, currencies)

    def _hold(self, name: str, why: str) -> None:
        """Hold a broker out, as an operator would. A hold that is laid already stays."""
        if Reason.HELD_OUT not in self.board.slot(name).parts()[1].laid:
            self.lives.obey(OperatorCommand("hold", name, MONEY_WATCH, why, None, Future()))

    def _watch_keys(self) -> None:
        self.keys.follow(self.specs, self.wired.accounts, self.settings)
        self.streams.follow(self.specs, self.wired.accounts)

    def follow_all(self) -> None:
        """Have the parts that look at all accounts look at those that there are now."""
        self._watch_loops()
        self._look_up_verifications()
        self.watch.follow(self.wired.accounts, interval_s=self.settings.status_interval_s)
        self._watch_keys()

    def _look_up_verifications(self) -> None:
        max_age_s = self.settings.require_verification_max_age_s
        look_up_verifications(self.gate, self.wired.accounts, max_age_s)

    def _part_with(self, planned: Plan, before: Mapping[str, WiredAccount]) -> None:
        """Let go of the ways to accounts that are not used any more."""
        for one in planned.changed:
            name, spec = one.after.name, one.at_once
            if one.rebuilds and name in before:
                before[name].executor.hand_over(self.wired.accounts[name].executor)
                if not spec.trading:
                    before[name].executor.closed = ORDERS_OFF
                    self.wired.accounts[name].executor.closed = ORDERS_OFF
                self.let_go(name, before[name].access)
        for leaving in self.leavers:
            back = self.wired.accounts.get(leaving.spec.name)
            if back is not None and back.access.lane is leaving.account.access.lane:
                leaving.account.executor.hand_over(back.executor)  # it is followed there
                self.leavers.release(leaving)

    def let_go(self, name: str, access: Access) -> None:
        """The ways to an account are used no more. Under the lock."""
        if self.gateway is not None:
            self.gateway.let_go(name, access)
        if name not in self.specs:
            self.parts.tally.forget(name)

    # --- what comes from elsewhere ---------------------------------------------------------------------

    def _move(self, old: Loop, new: LoopThread) -> LetGo | None:
        """Move the accounts of a loop that hangs to another one; None: the cluster is being stopped.

        Called under the lock.
        """
        if not self.running:
            return None
        let_go: LetGo = _nothing
        if self.gateway is not None and self.gateway.loop is old:
            let_go = self.gateway.move(new)
        moved = [self.specs[name] for name, loop in self.wired.loops.items() if loop is old]
        self.wired = rewired(self.wired, moved, self.parts, self.gateway, new)
        for leaving in self.leavers:
            if leaving.account.access.loop is old:
                in_flight = dict(self.wired.in_flight)
                access = access_of(leaving.spec, self.gateway)
                leaving.account = account_of(leaving.spec, access, self.parts, in_flight, leaving.slot)
                self.wired = replace(self.wired, in_flight=in_flight)
                self.leavers.see_off(leaving, self.parts.alarms)
        self.watch.follow(self.wired.accounts)
        self._watch_keys()
        return let_go

    def recall(self, remembered: Remembered) -> None:
        """The store could be read only now: what it knows of the time before is better than nothing."""
        with self.lock:
            self._state.remembered = remembered
            recall(self.specs, self.board, remembered, self._state, self.lives, self._clock.now())
            if self.gateway is not None:
                self.gateway.recall(remembered)
            self.wired.recall_orders(remembered)

    def refuse_orders(self) -> None:
        """Let no order go out any more, and follow none, from any thread."""
        self.wired.refuse_orders()
        self.leavers.stop()

    def ask(self, name: str, message: BrokerMessage) -> bool:
        """Tell the actor of a broker something; False when it has none just now. Raises ClusterStopped."""
        if not self.running:
            raise ClusterStopped("the cluster is not running, so it cannot ask the exchange")
        return self.lives.tell(name, message)


async def _nothing() -> None:
    """Nothing belongs to a loop on which only callables of the trader's run."""
