"""What must hold when accounts come, go and change: the part of the record that is about reloads.

The numbers are those of the design. Invariant 36: no reload makes an account available, one that comes back
has everything to prove, and one that left is shown available no longer than its messages live.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brokerwatch.actors.board import Slot
from brokerwatch.actors.protocol import OperatorCommand, Reconfigured, Regroup, Rekeyed
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.reload_plan import Plan as Changes
from brokerwatch.health.supervision import View
from brokerwatch.messages import HealthState, Reading, ReadingData, Reason, RosterData
from brokerwatch.storage.journal import identity
from tests.simulation.record import LONG_AGO_S
from tests.simulation.scheduler import Running

if TYPE_CHECKING:
    from tests.simulation.network import Sent
    from tests.simulation.oracle import Oracle
    from tests.simulation.record import Account, Life
    from tests.simulation.world import ClusterProcess

GOOD = frozenset({HealthState.HEALTHY, HealthState.DEGRADED})


@dataclass(frozen=True)
class Untouched:
    """What a change of something else must leave as it is."""

    slot: Slot
    reading: Reading
    vetoes: object
    life: object
    due_s: float
    fetching: object


class Membership:
    """Holds what is promised of reloads, in one world."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._views: Mapping[str, View] = {}
        self._was_good = False

    # --- the reload itself --------------------------------------------------------------------------------

    def before(self, cluster: ClusterProcess) -> dict[str, Untouched]:
        """What there is right before a reload."""
        return {name: self._of(cluster, name) for name in cluster.specs}

    def _of(self, cluster: ClusterProcess, name: str) -> Untouched:
        slot = cluster.board.slot(name)
        life = cluster.lives.of(name)
        actor: Any = next(
            (each.actor for each in cluster.brokers(name) if each.actor.actor_ref is life.ref), None
        )
        due_s = 0.0 if actor is None else actor._schedule._due_s
        return Untouched(
            slot, slot.reading, slot.parts()[1], life, due_s, None if actor is None else actor._fetching
        )

    def reloaded(self, cluster: ClusterProcess, before: Mapping[str, Untouched], changes: Changes) -> None:
        """The product has carried out a reload; its actors do not know of it yet."""
        oracle, now_s = self._oracle, cluster.world.scheduler.now_s
        added = {spec.name for spec in changes.added}
        touched = {*added, *changes.removed, *(one.after.name for one in changes.changed)}
        if tuple(reading.broker for reading in cluster.board.readings()) != changes.order:
            oracle.fail("36", "the board has other accounts than the configuration")
        for name, was in before.items():
            if name not in touched and self._of(cluster, name) != was:
                oracle.fail("36", "a reload that does not name {} has touched it", name)
        for reading in cluster.board.readings():
            known = before.get(reading.broker)
            if reading.available and (known is None or not known.reading.available):
                oracle.fail(36, "a reload made {} available", reading.broker)
        for name in changes.removed:
            self._left(oracle.accounts[name], before[name].slot, now_s)
        for spec in changes.added:
            self._came(cluster, spec)

    def _left(self, account: Account, slot: Slot, now_s: float) -> None:
        account.left_s, account.last, account.life = now_s, account.life, None
        self._oracle.count("an account that left")
        if slot.reading.available or not slot.closed:
            self._oracle.fail(36, "a handle of {} says after it left that it is available", account.name)

    def _came(self, cluster: ClusterProcess, spec: BrokerSpec) -> None:
        oracle, name = self._oracle, spec.name
        account = oracle.accounts.get(name)
        evidence, vetoes = cluster.board.slot(name).parts()
        number = oracle.number_of(evidence)
        if account is None:
            account = oracle.new_account(name)
            oracle.count("an account that is new")
        else:
            oracle.count("an account that came back")
            same = account.key == spec.credentials or spec.same_account
            if account.knows and number != (account.number if same else None):
                oracle.fail(2, "{} came back with answer {} and not {}", name, number, account.number)
            held = Reason.HELD_OUT in vetoes.laid
            kept = account.held or oracle.holds_kept.get(name)
            if kept and not account.timed and not held:
                oracle.fail(20, "the hold on {} is lost after it came back", name)
            if account.timed and not held:
                oracle.holds_kept[name] = False  # it ended by itself
        if evidence.state in GOOD:
            oracle.fail(36, "{} begins {} after a reload", name, evidence.status)
        account.begin(cluster.board.slot(name), spec, joined=True)
        account.number, account.errors = number, evidence.error_count
        account.as_of_s = float("-inf") if evidence.as_of is None else evidence.as_of.up_s
        account.epochs.add(cluster.lives.of(name).epoch)
        account.take_hold(vetoes)

    # --- what the actors make of it -----------------------------------------------------------------------

    def handled(self, life: Life, message: object) -> None:
        """The actor of an account is about to handle a message."""
        slot = self._oracle.accounts[life.name].slot
        was = None if slot is None else slot.parts()[0]
        good = was is not None and was.state in GOOD
        # The end of a lockout needs no answer, and the actor finds it with whatever comes first.
        ended = LONG_AGO_S < life.locked_until_s <= life.cluster.clock.up_s()
        self._was_good = was is not None and (
            was.verdict.available or (ended and was.verdict.reason is Reason.LOCKED_OUT and good)
        )
        match message:
            case Reconfigured(spec):
                life.take(spec, good=good)
                self._oracle.count("another configuration")
            case Rekeyed(spec, found, same):
                life.question = None
                life.refused = False
                if not same:
                    self._another_account(life)
                life.take(spec, good=good)
                account = self._oracle.accounts[life.name]
                if account.life is life and not self._oracle.is_over(life):
                    account.key = spec.credentials
                    del account.keys_given[:1]
                self._oracle.count("another key")
                if found is not None:
                    now_s = life.cluster.world.scheduler.now_s
                    asked_s = now_s - (life.cluster.clock.up_s() - found.as_of.up_s)
                    self._oracle.take(life, found, asked_s)
            case _:
                pass

    def _another_account(self, life: Life) -> None:
        life.forget()
        account = self._oracle.accounts[life.name]
        if account.life is life and not self._oracle.is_over(life):
            account.number, account.as_of_s = None, float("-inf")

    def after(self, life: Life, message: object) -> None:
        """It has handled it, and the life is the present one."""
        slot: Any = life.cluster.board.slot(life.name)
        wanted = (life.spec.max_consecutive_errors, life.spec.rules)
        if (slot._health.threshold, slot._health.rules) != wanted:
            self._oracle.fail(36, "{} goes by other rules than its configuration has", life.name)
        asks = isinstance(message, Rekeyed) and message.found is not None
        if isinstance(message, Reconfigured | Rekeyed) and not asks:
            evidence = life.cluster.board.slot(life.name).parts()[0]
            if evidence.verdict.available and not self._was_good:
                self._oracle.fail(36, "another configuration made {} available", life.name)

    # --- the supervisor -----------------------------------------------------------------------------------

    def supervisor_handles(self, actor: Running, message: object) -> None:
        """The supervisor is about to handle a message."""
        if isinstance(message, Regroup):
            self._views = dict(actor.actor._views)

    def supervisor_handled(self, actor: Running, cluster: ClusterProcess, message: object) -> None:
        """It has."""
        oracle, product = self._oracle, actor.actor
        views: Mapping[str, View] = product._views
        for name, view in views.items():
            account = oracle.accounts.get(name)
            if account is None or not self.is_current(product, cluster, name):
                continue
            laid = Reason.HELD_OUT in view.vetoes.laid
            if account.is_held(cluster) and not laid:
                oracle.fail(20, "the supervisor has lost the hold on {}", name)
            on_board = Reason.HELD_OUT in cluster.board.slot(name).parts()[1].laid
            if account.is_held(cluster) and not on_board:
                oracle.fail(20, "the board has lost the hold on {}", name)
            if isinstance(message, Regroup) and laid and not account.held:
                oracle.fail(20, "a hold on {} that was released is back", name)
        if isinstance(message, Regroup):
            for name in message.names:
                known = self._views.get(name)
                if name not in message.joined and known is not None and views[name] is not known:
                    oracle.fail("36", "a reload that does not name {} has changed what is known of it", name)
            if not message.done.done():
                oracle.fail(26, "a reload was carried out and is not answered")
        if isinstance(message, OperatorCommand):
            reply = message.reply
            if not reply.running() and not reply.done():
                oracle.fail(26, "{} {} was handled and is not answered", message.verb, message.broker)

    @staticmethod
    def is_current(product: Any, cluster: ClusterProcess, name: str) -> bool:
        """Whether the supervisor knows of all reloads that name this account."""
        lives: Any = cluster.lives
        return name in cluster.board and product._lives.get(name) is lives._lives.get(name)

    # --- what is published --------------------------------------------------------------------------------

    def sent(self, message: Sent) -> None:
        """A message of the health topic leaves the cluster."""
        data = message.envelope.data
        readings: tuple[ReadingData, ...] = ()
        if isinstance(data, ReadingData):
            readings = (data,)
        elif isinstance(data, RosterData):
            readings = tuple(data.readings)
        for each in readings:
            if not each.available:
                continue
            account = self._oracle.accounts.get(each.broker)
            if account is None or account.left_s is not None:
                self._oracle.fail(36, "{} is sent as available, and has left", each.broker)
            elif each.broker_epoch not in account.epochs:
                self._oracle.fail(36, "{} is sent as available by a life from before it left", each.broker)


def is_of(exchange: str, spec: BrokerSpec) -> bool:
    """Whether what was stored under this identity is of the account that this configuration names."""
    return exchange == identity(spec) or spec.same_account
