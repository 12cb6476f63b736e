"""The actors of a cluster: started, started again within limits, and asked to end."""

from __future__ import annotations

import os
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import msgspec
import pykka

from brokerwatch.actors.base import stop_soon, tell, wait_for_end
from brokerwatch.actors.board import Board, Slot
from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.broker_context import BrokerContext
from brokerwatch.actors.protocol import (
    AccountLoop,
    Alarms,
    BrokerMessage,
    Died,
    Drain,
    GiveWay,
    Life,
    OperatorCommand,
    Recall,
    Reconfigured,
    Regroup,
    Rekeyed,
)
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.actors.supervisor_context import SupervisorContext
from brokerwatch.bus.publishing import BrokerPublishing, HealthPublishing, Publishing
from brokerwatch.bus.turning import HUNG_S
from brokerwatch.clock import Clock, Instant
from brokerwatch.cluster.startup import Sockets
from brokerwatch.cluster.waiting_commands import WaitingCommands
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import ClusterStopped
from brokerwatch.health.reading import ttl_s
from brokerwatch.health.reconfigured import ruled, with_another_key
from brokerwatch.health.restarts import Restarts
from brokerwatch.health.state_machine import NO_VETOES, Health, Vetoes
from brokerwatch.health.supervision import View
from brokerwatch.log import logger
from brokerwatch.messages import Balance, Reading, Reason, next_epoch
from brokerwatch.storage.journal import Journal

_log: Final = logger(__name__)


@dataclass(frozen=True, slots=True)
class Joining:
    """A broker that joins a cluster which runs."""

    spec: BrokerSpec | None
    context: BrokerContext | None
    """What its actor needs. Both are None where it has none, because of its configuration."""
    health: Health | None
    epoch: str
    """Of its life before this one; empty: none is known."""


class Lives:
    """The actors of one cluster: one for each broker, and the supervisor over them.

    `start` once, then `stopping`, then what ends the parts, on the thread that starts or stops the cluster.
    `tell`, `obey` and `of` may be called from any thread.
    """

    def __init__(
        self,
        specs: Mapping[str, BrokerSpec],
        board: Board,
        journal: Journal,
        settings: ClusterSettings,
        clock: Clock,
        heartbeat_s: float,
    ) -> None:
        self._specs = dict(specs)
        self._board = board
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._ttl_s = ttl_s(heartbeat_s)
        self._lock = threading.RLock()
        self._running = False
        self._lives: dict[str, Life] = {}
        self._ending: dict[str, Life] = {}
        """The lives that were there when the cluster began to stop."""
        self._supervisor: pykka.ActorRef[HealthSupervisor] | None = None
        self._supervisor_restarts = Restarts()
        self._restarts: defaultdict[str, Restarts] = defaultdict(Restarts)
        """Of the brokers: a supervisor that starts again allows no more of them."""
        self._commands = WaitingCommands()
        self._keys: defaultdict[str, list[tuple[Future[bool], bool]]] = defaultdict(list)
        """By the broker, the API keys that it was given in its present life: whether that took each up, and
        whether it is of the same account."""
        self._recalled: dict[str, Recall] = {}
        """By the broker, the balance of before that could be read only after the start."""
        self._supervisor_epoch = ""
        self._health: HealthPublishing | None = None
        self._gave_way = ""
        self._publishes_balances = settings.publish_balances

    def start(
        self,
        sockets: Sockets,
        contexts: Mapping[str, BrokerContext],
        healths: Mapping[str, Health],
        epochs: Mapping[str, str],
        alarms: Alarms,
        loops: Callable[[], Sequence[AccountLoop]],
    ) -> None:
        """Start an actor for each broker, then the supervisor, which watches these loops too.

        `healths` with which the brokers begin; `epochs` of the lives before this start, where they are known.
        """
        with self._lock:
            self._running = True
            self._sockets, self._alarms, self._loops = sockets, alarms, loops
            self._contexts = dict(contexts)
            for name in self._specs:
                self._lives[name] = self._born(name, healths[name], self._next_epoch(epochs.get(name, "")))
            self._start_supervisor()

    def regroup(
        self, names: tuple[str, ...], joining: Mapping[str, Joining], left: tuple[Reading, ...]
    ) -> tuple[Future[None], Mapping[str, Life]]:
        """Have other brokers from now on, in this order: those of `joining` are new.

        `left`: the last readings of those that leave. The board has the new ones already, and still has the
        old ones.

        Returns:
            What is done once the supervisor goes on with them; and the actors of those that left, which were
            asked to stop.
        """
        done: Future[None] = Future()
        with self._lock:
            if not self._running:
                raise ClusterStopped("the cluster is not running")
            gone = {name: self._lives.pop(name) for name in tuple(self._lives) if name not in names}
            for name in tuple(self._specs):
                if name not in names:
                    del self._specs[name], self._contexts[name]
                    self._keys.pop(name, None)
                    self._recalled.pop(name, None)
            for name in tuple(self._restarts):
                if name not in names:
                    self._restarts.pop(name, None)
            joined: dict[str, tuple[View, Life | None]] = {}
            for name, new in joining.items():
                self._restarts[name] = Restarts()  # also where the supervisor dies before it comes to it
                if new.spec is not None and new.context is not None and new.health is not None:
                    self._specs[name], self._contexts[name] = new.spec, new.context
                    self._lives[name] = self._born(name, new.health, self._next_epoch(new.epoch))
                view = unheard(*self._board.slot(name).parts(), self._clock.now())
                joined[name] = view, self._lives.get(name)
            # At once, and not only by the supervisor: that may be dead, or hang.
            for reading in left:
                if self._health is not None:
                    self._health.farewell(reading)
            regroup = Regroup(names, joined, left, done, self._board.arrangement)
            if self._supervisor is None or not tell(self._supervisor, regroup):
                done.set_result(None)  # the next supervisor begins with them
            for life in gone.values():
                stop_soon(life.ref)
        return done, gone

    def reconfigure(self, spec: BrokerSpec) -> Future[None]:
        """Have a broker go on by another configuration; done once its actor does, or where it has none."""
        taken: Future[None] = Future()
        with self._lock:
            self._specs[spec.name] = spec
            if not self.tell(spec.name, Reconfigured(spec, taken)):
                taken.set_result(None)  # its next life begins with it
        return taken

    def rekey(self, spec: BrokerSpec, found: Balance | None, *, same_account: bool) -> Future[bool]:
        """Have a broker go on with another API key, as `Rekeyed` says; done as for `reconfigure`."""
        taken: Future[bool] = Future()
        with self._lock:
            self._specs[spec.name] = spec
            if not same_account:
                self._recalled.pop(spec.name, None)
            self._keys[spec.name] = [*self._missed_keys(spec.name), (taken, same_account)]
            if not self.tell(spec.name, Rekeyed(spec, found, same_account, taken)):
                taken.set_result(False)
        return taken

    def recall(self, broker: str, found: Recall) -> None:
        """Tell a broker's actor what could be read only now; and the next one, where this one misses it."""
        with self._lock:
            self._recalled[broker] = found
            self.tell(broker, found)

    @property
    def gave_way(self) -> str:
        """Why nothing is sent any more, because another process has the state folder; empty: it is."""
        return self._gave_way

    def set_publish_balances(self, *, publish: bool) -> None:
        """Whether amounts are published from now on."""
        with self._lock:
            self._publishes_balances = publish
            if self._health is not None:
                self._health.publish_balances = publish

    def of(self, broker: str) -> Life:
        """The life that a broker has just now."""
        return self._lives[broker]

    def tell(self, broker: str, message: BrokerMessage) -> bool:
        """Tell a broker's actor something. False when there is none just now."""
        life = self._lives.get(broker)
        return life is not None and tell(life.ref, message)

    def obey(self, command: OperatorCommand) -> bool:
        """Hand a command to the supervisor, or to the next one if it dies before it comes to it.

        False when there will be none: the cluster is stopped, or its supervisor has failed for good.
        """
        with self._lock:
            if not self._running or self._supervisor_restarts.failed or not self._commands.add(command):
                return False
            if self._supervisor is not None:
                tell(self._supervisor, command)
        return True

    def give_way(self, why: str) -> None:
        """Send nothing any more, and make every account unavailable: another process has the state folder."""
        for loop in self._loops():
            loop.revoke(why)
        with self._lock:
            self._gave_way = why
            if self._supervisor is not None:
                tell(self._supervisor, GiveWay(why))

    def wait_until_heard(self, within_s: float, names: Iterable[str] | None = None) -> None:
        """Wait until the supervisor has heard these brokers, or all: only then does the whole way work.

        Until then no broker is available. One that is not heard in time is named in the log.
        """
        until_s = self._clock.up_s() + within_s
        for name in tuple(self._specs) if names is None else names:
            slot = self._board.find(name)
            left_s = max(0.0, until_s - self._clock.up_s())
            if slot is not None and not slot.wait_until_lifted(Reason.NEVER_SEEN, left_s):
                _log.warning("%s has not been heard of %g s after the start", name, within_s)

    def stopping(self) -> None:
        """Start no actor again from here on."""
        with self._lock:
            self._running = False
            self._ending = dict(self._lives)

    def supervisor_fault(self) -> str:
        """What is wrong with the supervisor; empty where nothing is. Any thread; never waits."""
        health = self._health
        if not self._running or health is None:
            return ""
        bound_s = self._ttl_s + HUNG_S
        return f"it has said nothing for {bound_s:.0f} s" if health.silent_s() > bound_s else ""

    def end_supervisor(self, deadline_s: float) -> bool:
        """End the supervisor. False when it does not end in time."""
        ended = self._supervisor is None or wait_for_end(self._supervisor, deadline_s)
        self._commands.refuse("the cluster was stopped before it came to this command")
        return ended

    def stop_brokers_soon(self) -> None:
        """Ask every broker's actor to stop, without waiting for any."""
        for life in self._ending.values():
            stop_soon(life.ref)

    def ending(self) -> Mapping[str, Life]:
        """The lives of the brokers that are to be waited for with `wait_for_end`."""
        return self._ending

    def farewell(self) -> None:
        """Publish the last word on every topic: unknown, because the cluster is stopped."""
        is_node = self._health is not None and self._sockets.uplink is not None
        why = "its node was stopped" if is_node else "the cluster was stopped"
        vetoes = NO_VETOES.lay(Reason.SHUTDOWN, why, self._clock.now())
        for reading in self._board.readings():
            self._board.slot(reading.broker).write_vetoes(vetoes)
        if self._health is not None:
            self._health.leave(self._board.readings())

    def _born(self, name: str, health: Health, epoch: str) -> Life:
        """Start an actor for this broker, with this health and a publisher of its own."""
        spec = self._specs[name]
        src = f"broker/{spec.exchange}/{name}"
        publishing = BrokerPublishing(
            Publishing(self._sockets.broker_out, src, epoch, self._clock, self._ttl_s)
        )

        def died(why: str) -> None:
            # Without a supervisor nothing is lost: the next one looks for dead actors too.
            if self._supervisor is not None:
                tell(self._supervisor, Died(name, epoch, why))

        ref = BrokerActor.start(spec, epoch, health, self._contexts[name], publishing.publish, died)
        return Life(epoch, ref)

    def _reborn(self, name: str) -> Life | None:
        """The next life of a broker, with all that the one before knew; None: it left just now."""
        with self._lock:
            slot = self._board.find(name)
            if name not in self._specs or slot is None:
                return None
            epoch = self._next_epoch(slot.reading.broker_epoch)
            health = self._handed_on(name, slot, epoch)
            life = self._born(name, health, epoch)
            self._lives[name] = life
            if health.balance is None and name in self._recalled:
                tell(life.ref, self._recalled[name])
            if not self._running:
                stop_soon(life.ref)
        return life

    def _handed_on(self, name: str, slot: Slot, epoch: str) -> Health:
        """The health with which the next life of a broker begins: that of the last one, by the configuration
        that holds now. The last one may have died, or hung, before it took that up."""
        now, spec = self._clock.now(), self._specs[name]
        health, watches = slot.supersede(epoch, now), self._contexts[name].watches
        # From here on what the last life does counts no more.
        missed = [same for _, same in self._missed_keys(name)]
        self._keys.pop(name, None)
        if missed:
            health = with_another_key(health, now, same_account=all(missed))
            if watches is not None:
                watches.rekeyed(same_account=all(missed))
        if (health.threshold, health.rules) != (spec.max_consecutive_errors, spec.rules):
            health = ruled(health, spec, now)
        return health

    def _missed_keys(self, name: str) -> list[tuple[Future[bool], bool]]:
        """The API keys that the present life of a broker was given and has not taken up."""
        return [each for each in self._keys[name] if not (each[0].done() and each[0].result())]

    def _next_epoch(self, predecessor: str) -> str:
        return next_epoch(self._clock.now().wall_us, predecessor, os.urandom(4).hex())

    def _start_supervisor(self) -> None:
        now = self._clock.now()
        self._supervisor_epoch = self._next_epoch(self._supervisor_epoch)
        src = f"supervisor/{self._settings.name}"
        publishing = Publishing(
            self._sockets.health_out, src, self._supervisor_epoch, self._clock, self._ttl_s
        )
        health = HealthPublishing(
            publishing, publish_balances=self._publishes_balances, uplink=self._sockets.uplink
        )
        self._health = health
        self._supervisor = HealthSupervisor.start(
            {name: unheard(*parts, now) for name, parts in self._board.parts().items()},
            dict(self._lives),
            SupervisorContext(
                start_broker=self._reborn,
                take_newest=self._sockets.inbox.take,
                topic=health,
                journal=self._journal,
                board=self._board,
                alarms=self._alarms,
                clock=self._clock,
                heartbeat_s=self._heartbeat_s,
                uniform=random.uniform,
                restarts=self._restarts,
                loops=self._loops,
            ),
            self._supervisor_died,
        )
        supervisor = self._supervisor
        if self._gave_way:
            tell(supervisor, GiveWay(self._gave_way))
        for command in self._commands.untouched():
            tell(supervisor, command)
        self._sockets.inbox.call(lambda: tell(supervisor, Drain()))

    def _supervisor_died(self, why: str) -> None:
        """The supervisor itself died: start another, within the same limits as for a broker."""
        with self._lock:
            if not self._running:
                return
            self._supervisor_restarts, wait_s = self._supervisor_restarts.died(
                self._clock.up_s(), random.uniform
            )
        if wait_s is None:
            _log.error("the supervisor has failed for good: %s; every reading will expire", why)
            self._commands.refuse("the supervisor has failed for good: start this program again")
            return
        _log.error("the supervisor died and is restarted in %.1f s: %s", wait_s, why)
        self._alarms.after(wait_s, self._restart_supervisor)

    def _restart_supervisor(self) -> None:
        with self._lock:
            if self._running:
                self._start_supervisor()


def unheard(evidence: Reading, vetoes: Vetoes, now: Instant) -> View:
    """What a supervisor knows at first: which brokers there are, and the vetoes that were laid before it."""
    blank = msgspec.structs.replace(evidence, broker_epoch="", version=0)
    return View(blank, now.up_s, vetoes.lay(Reason.NEVER_SEEN, "the supervisor has not heard of it yet", now))
