"""A supervisor that runs alone: it hears the accounts of nodes elsewhere, and publishes the health topic.

It needs no credentials and asks no exchange. So it may run on a host that may reach none, and more than one
may run: each hears every node. What it keeps is its history, and what its page shows of the past.
"""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pykka

from brokerwatch.actors.base import tell, wait_for_end
from brokerwatch.actors.board import Board
from brokerwatch.actors.protocol import Drain, Leave, Life, OperatorCommand, Regroup
from brokerwatch.actors.remote_supervisor import RemoteSupervisor, RemoteSupervisorContext
from brokerwatch.bus.command_sender import CommandSender
from brokerwatch.bus.curve import BROKERS_DOMAIN, HEALTH_DOMAIN, Encryption
from brokerwatch.bus.descriptors import require
from brokerwatch.bus.listener import Listener
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.publishing import HealthPublishing, Publishing
from brokerwatch.bus.remote_inbox import RemoteInbox
from brokerwatch.bus.sockets import Bus
from brokerwatch.bus.turning import HUNG_S
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.cluster.account_loops import AccountLoops
from brokerwatch.cluster.lives import unheard
from brokerwatch.cluster.open_files import needed
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.outlets import Outlets
from brokerwatch.cluster.part_watch import Part, PartWatch
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.cluster.remote_commands import Forwarding
from brokerwatch.cluster.shutdown import SHORTEST_SHARE_S, Stop, at_once, ended, unreported
from brokerwatch.cluster.startup import check, listener_of, unreported_slot
from brokerwatch.cluster.timer_loop import TimerLoop
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.config.loader import load_supervised
from brokerwatch.config.reload_plan import plan
from brokerwatch.config.shard import WHOLE, Shard
from brokerwatch.errors import ClusterStopped, ConfigError, ControlError, Problem
from brokerwatch.health.reading import ttl_s
from brokerwatch.health.restarts import Restarts
from brokerwatch.health.state_machine import NO_VETOES
from brokerwatch.health.supervision import View
from brokerwatch.log import logger
from brokerwatch.messages import Reason, next_epoch

_log: Final = logger(__name__)

STOP_S: Final = 3.0
"""What a stop may take when something hangs."""
REMOVED: Final = "it was removed from the configuration of the supervisor"
STOPPED: Final = "the supervisor was stopped"


class StandaloneSupervisor:
    """The supervisor of accounts that run in other processes. Any thread may use it.

    Args:
        settings: Of each broker the name and the exchange count. `[cluster] broker_endpoint` is where nodes
            connect to, and `health_endpoint` where listeners do.
        path: The file that a reload reads again; None: there is none.
        shard: Which of several supervisors it is that share the accounts. The settings have its share.
        clock: Where the time comes from; a test passes its own.

    Raises:
        ConfigError: The settings contradict each other, or no node could connect.
    """

    def __init__(
        self,
        settings: Settings,
        path: Path | None = None,
        *,
        clock: Clock | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        check(settings.brokers, settings.cluster)
        if settings.cluster.broker_endpoint.startswith("inproc://"):
            expected = (
                "expected where nodes connect to, such as tcp://127.0.0.1:5572; inproc:// does not leave "
                "this process"
            )
            raise ConfigError((Problem("", "cluster.broker_endpoint", expected),))
        self._settings = settings
        self._shard = shard
        self._path = None if path is None else path.absolute()
        self._clock = SystemClock() if clock is None else clock
        self._heartbeat_s = settings.cluster.heartbeat_of(len(settings.brokers))
        self._ttl_s = ttl_s(self._heartbeat_s)
        self._state = Persistence(settings.cluster, self._clock, has_accounts=False)
        self._board = Board(
            [unreported_slot(spec, self._clock, self._heartbeat_s) for spec in settings.brokers]
        )
        self._exchanges = {spec.name: spec.exchange for spec in settings.brokers}
        self._lock = threading.RLock()
        self._running = self._used = False
        self._actor: pykka.ActorRef[RemoteSupervisor] | None = None
        self._restarts = Restarts()
        self._epoch = ""
        self._health: HealthPublishing | None = None
        self._parts = PartWatch()
        self._loops = AccountLoops(self._lock)
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._forwarding: Forwarding | None = None
        self._operators = Operators(self._obey, self._clock)
        self._operators.reload = self._reload_for
        self._outlets = Outlets(
            settings.cluster,
            self._clock,
            self._operators,
            lambda: self.hung,
            self._heartbeat_s,
            lambda: self._settings.cluster,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self._settings.cluster.name

    @property
    def hung(self) -> str:
        """Why nothing is published any more: a part has ended or hangs. Empty: it works."""
        return self._parts.broken

    @property
    def health_endpoint(self) -> str:
        """Where the health topic is published; known exactly once it has started."""
        return self._health_out.bound_endpoint if self._running else self._settings.cluster.health_endpoint

    @property
    def http_url(self) -> str:
        """Where the page and the API are; empty where they are not served."""
        return self._outlets.http_url

    def listener(self) -> Listener:
        """A subscriber to its health topic, inside this process. Raises ClusterStopped."""
        if not self._running:
            raise ClusterStopped("the supervisor is not running, so there is nothing to listen to")
        listener = listener_of(self._bus, self._health_out, self._encryption)
        self._listeners.add(listener)
        return listener

    def start(self) -> None:
        """Start everything. It waits for no node. It starts once.

        Raises:
            ClusterStopped: It was started before.
            StateFolderTaken: Another process has the state folder.
            EndpointUnavailable: An endpoint is taken.
            ConfigError: A key cannot be used.
            TooFewDescriptors: This process may not open so many files. It may be started again.
        """
        with self._lock:
            if self._used:
                raise ClusterStopped("a supervisor can be started once; make a new one")
            require(needed(self._settings.cluster, ()), "the supervisor")
            self._used = True
            try:
                self._state.open()
                self._open_sockets()
            except BaseException:
                self._state.close(SHORTEST_SHARE_S)
                raise
            self._running = True
            try:
                self._go_up()
            except BaseException:
                self.stop()
                raise

    def _open_sockets(self) -> None:
        cluster = self._settings.cluster
        brokers, health = cluster.broker_endpoint, cluster.health_endpoint
        if cluster.curve is None and brokers.startswith("tcp://"):
            _log.warning(
                "every program of this machine can send events of brokers to %s; [curve] ends that", brokers
            )
        self._bus = bus = Bus()
        started: list[Encryption | RemoteInbox | Publisher] = []
        try:
            self._encryption = encryption = Encryption(bus, cluster.curve)
            self._inbox = RemoteInbox(
                bus,
                brokers,
                self._clock,
                encryption.server(BROKERS_DOMAIN, brokers),
                lambda broker: self._exchanges.get(broker),
            )
            self._health_out = Publisher(
                bus, health, "brokerwatch-health", bind=True, curve=encryption.server(HEALTH_DOMAIN, health)
            )
            for part in (encryption, self._inbox, self._health_out):
                part.start()
                started.append(part)
        except BaseException:
            for part in reversed(started):
                part.stop(SHORTEST_SHARE_S)
            bus.close()
            raise

    def _go_up(self) -> None:
        timers = TimerLoop(self._loops, self._operators)
        self._alarms = timers.alarms
        self._sender = CommandSender(self._health_out, self.name, self._clock, self._ttl_s)
        self._forwarding = Forwarding(
            self._sender,
            lambda broker: self._exchanges.get(broker),
            self._inbox.reported,
            self._state.journal,
            self._clock,
            self._alarms,
        )
        self._inbox.on_answer = self._forwarding.done
        self._start_actor()
        self._state.record(
            self._alarms, lambda _: None, self._operators.listen_again, lambda why: _log.error("%s", why)
        )
        timers.listen(self._state.folder)
        self._outlets.start(self.listener)
        self._parts.start(
            Part("the timers", timers.fault, mend=timers.replace),
            Part("the inbox of the supervisor", self._inbox.fault),
            Part("the supervisor", self._actor_fault),
            Part("the health topic", self._health_out.fault),
            Part("the check of keys", self._encryption.fault),
            Part("the recorder", self._state.recorder_fault, is_vital=False),
        )

    def stop(self) -> None:
        """Stop everything, in order, within 5 s. What hangs is named in the log. May be called twice."""
        with self._lock:
            if not self._running:
                return
            self._running = False
        if left := ended(self._shutdown_steps(), STOP_S):
            _log.warning("did not stop in time and is left behind: %s", ", ".join(left))

    def _shutdown_steps(self) -> Iterator[tuple[str, Stop]]:
        # It would take parts that end for broken ones.
        yield "the watch of the parts", self._parts.stop
        yield "the control socket", self._operators.stop
        if self._actor is not None:
            tell(self._actor, Leave(STOPPED))
            yield "the supervisor", partial(wait_for_end, self._actor)
        yield "the recorder", self._state.close
        sockets = self._health_out, self._inbox, self._encryption
        for part in sockets:
            yield part.name, part.stop
        yield from self._loops.ending()
        yield from self._outlets.stopping()
        for listener in tuple(self._listeners):
            yield "a listener", unreported(listener.stop)
        if all(part.stop(0.0) for part in sockets):
            # It would wait for a socket that its thread has not closed.
            yield "the bus", at_once(self._bus.close)

    def reload(self, settings: Settings) -> str:
        """Expect other accounts from now on; what has changed, in words. Those that stay are not touched.

        Raises ConfigError, with nothing changed, and ClusterStopped.
        """
        with self._lock:
            if not self._running:
                raise ClusterStopped("the supervisor is not running, so nothing can be changed")
            check(settings.brokers, settings.cluster)
            self._outlets.check(settings.cluster)
            planned = plan(self._settings, settings)
            if planned.refused:
                raise ConfigError(planned.refused)
            now = self._clock.now()
            gone = NO_VETOES.lay(Reason.SHUTDOWN, REMOVED, now)
            left = tuple(self._board.slot(name).close(gone) for name in planned.removed)
            slots = {
                spec.name: unreported_slot(spec, self._clock, self._heartbeat_s) for spec in planned.added
            }
            self._board.arrange(planned.order, slots)
            self._exchanges = {spec.name: spec.exchange for spec in settings.brokers}
            joined: dict[str, tuple[View, Life | None]] = {
                name: (unheard(*slot.parts(), now), None) for name, slot in slots.items()
            }
            self._settings = settings
            if self._health is not None:
                self._health.publish_balances = settings.cluster.publish_balances
                for reading in left:  # at once: the supervisor may be dead, or hang
                    self._health.farewell(reading)
            if self._actor is not None:
                tell(self._actor, Regroup(planned.order, joined, left, Future(), self._board.arrangement))
        self._outlets.follow(settings.cluster)
        changes = [f"{name}: added" for name in slots] + [f"{name}: removed" for name in planned.removed]
        changes += [f"cluster: changed: {', '.join(planned.cluster)}"] if planned.cluster else []
        return "\n".join(changes) or "nothing has changed"

    def reload_for(self, by: str) -> str:
        """Read the configuration again. Returns what has changed, in words; raises ControlError."""
        return self._reload_for(by, force_key=False)

    def _reload_for(self, by: str, *, force_key: bool) -> str:
        del force_key  # there are no API keys here
        if self._path is None:
            raise ControlError("this supervisor was made in Python, and from no file")
        try:
            said = self.reload(load_supervised(self._path, shard=self._shard))
        except ConfigError as error:
            _log.error("reload (%s): nothing was changed:\n%s", by, error)
            raise ControlError(f"nothing was changed:\n{error}") from None
        except ClusterStopped as error:
            raise ControlError(str(error)) from None
        _log.warning("reload (%s): %s", by, said.replace("\n", "; "))
        return said

    def hold(self, broker: str, why: str, *, until: datetime | None = None) -> str:
        """Have the node of a broker hold it out; otherwise as `Cluster.hold`."""
        return self._operators.hold(broker, why, until)

    def release(self, broker: str) -> str:
        """Have the node of a broker end a hold. Raises ControlError."""
        return self._operators.release(broker)

    def reset(self, broker: str) -> str:
        """Have the node of a broker ask again, as `Cluster.reset` does. Raises ControlError."""
        return self._operators.reset(broker)

    def _obey(self, command: OperatorCommand) -> bool:
        return self._running and self._forwarding is not None and self._forwarding.obey(command)

    # --- the actor -------------------------------------------------------------------------------------

    def _start_actor(self) -> None:
        now = self._clock.now()
        self._epoch = next_epoch(now.wall_us, self._epoch, os.urandom(4).hex())
        src = f"supervisor/{self.name}"
        publishing = Publishing(self._health_out, src, self._epoch, self._clock, self._ttl_s)
        publishes = self._settings.cluster.publish_balances
        shard = self._shard.number, self._shard.of
        self._health = HealthPublishing(publishing, publish_balances=publishes, shard=shard)
        self._inbox.remind()
        actor = RemoteSupervisor.start(
            {name: unheard(*parts, now) for name, parts in self._board.parts().items()},
            RemoteSupervisorContext(
                take_newest=self._inbox.take,
                topic=self._health,
                journal=self._state.journal,
                board=self._board,
                alarms=self._alarms,
                clock=self._clock,
                heartbeat_s=self._heartbeat_s,
                beat=self._sender.beat,
            ),
            self._actor_died,
        )
        self._actor = actor
        self._inbox.call(lambda: tell(actor, Drain()))

    def _actor_died(self, why: str) -> None:
        with self._lock:
            if not self._running:
                return
            self._restarts, wait_s = self._restarts.died(self._clock.up_s(), random.uniform)
        if wait_s is None:
            _log.error("the supervisor has failed for good: %s; every reading will expire", why)
            return
        _log.error("the supervisor died and is restarted in %.1f s: %s", wait_s, why)
        self._alarms.after(wait_s, self._restart_actor)

    def _restart_actor(self) -> None:
        with self._lock:
            if self._running:
                self._start_actor()

    def _actor_fault(self) -> str:
        """What is wrong with the supervisor; empty where nothing is. Any thread; never waits."""
        if not self._running or self._health is None:
            return ""
        bound_s = self._ttl_s + HUNG_S
        return f"it has said nothing for {bound_s:.0f} s" if self._health.silent_s() > bound_s else ""
