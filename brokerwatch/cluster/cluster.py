"""The whole thing put together: from a configuration to running actors, and back to nothing.

`start` goes up in an order in which everything finds what it needs; `stop` goes down in the reverse, each
step with a deadline, so that one part that hangs is named and left behind.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from brokerwatch.actors.base import wait_for_end
from brokerwatch.actors.board import Board
from brokerwatch.actors.protocol import BrokerMessage
from brokerwatch.bus.change_dispatcher import ChangeDispatcher
from brokerwatch.bus.listener import Listener
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.cluster.account_loops import AccountLoops, LetGo
from brokerwatch.cluster.broker import Broker
from brokerwatch.cluster.candidates import candidates
from brokerwatch.cluster.exchange_watch import ExchangeWatch, look_up_verifications
from brokerwatch.cluster.lives import Lives
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.outlets import Outlets
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.cluster.requests import Requests
from brokerwatch.cluster.restore import recall, restored
from brokerwatch.cluster.shutdown import SHORTEST_SHARE_S, Stop, at_once, ended, unreported
from brokerwatch.cluster.timers import Timers
from brokerwatch.cluster.totals import Total, totals
from brokerwatch.cluster.wiring import (
    Parts,
    Sockets,
    Wired,
    blank_board,
    check,
    gateway_of,
    opened_sockets,
    rewired,
    warn_of_default_policies,
    wired,
)
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.green_threads import refuse_green_threads
from brokerwatch.config.loader import load
from brokerwatch.errors import ClusterStopped, UnknownBroker
from brokerwatch.gateway.loop import LoopThread, running_loop
from brokerwatch.health.changes import Change
from brokerwatch.health.reading import ttl_s
from brokerwatch.log import logger
from brokerwatch.messages import Reading
from brokerwatch.orders.gate import Gate
from brokerwatch.routing.router import Router
from brokerwatch.storage.records import Remembered
from brokerwatch.storage.state_folder import folder_of

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Gateway

_log: Final = logger(__name__)

START_S: Final = 5.0
"""How long a start waits for the first word of every broker."""
STOP_S: Final = 3.0
"""What a stop may take when something hangs; an operator was promised 5 s."""


class Cluster:
    """All brokers of one process, their supervisor and the health topic. Any thread may use it.

    Example:
        with Cluster.from_config("brokerwatch.toml") as cluster:
            kraken = cluster.broker("kraken-main")
            if kraken.is_available():
                print(kraken.get_account_balance())

    `async with` starts and stops it without holding up the running event loop.

    Args:
        brokers: The accounts, in the order of preference.
        settings: Name, endpoints, store and the rest; the defaults where none are given.
        broken: Brokers that cannot be used because of their configuration: name to exchange and reason.
        clock: Where the time comes from; a test passes its own.

    Raises:
        ConfigError: Two brokers have one name, or the settings contradict each other.
    """

    def __init__(
        self,
        brokers: Iterable[BrokerSpec] = (),
        settings: ClusterSettings | None = None,
        *,
        broken: Mapping[str, tuple[str, str]] = MappingProxyType({}),
        clock: Clock | None = None,
    ) -> None:
        refuse_green_threads()
        self._settings = ClusterSettings() if settings is None else settings
        specs = tuple(brokers)
        self._specs = {spec.name: spec for spec in specs}
        self._broken = broken
        self._clock = SystemClock() if clock is None else clock
        check(specs, self._settings)
        self._state = Persistence(self._settings, self._clock)
        self._heartbeat_s = self._settings.heartbeat_of(len(self._specs))
        self._changes = ChangeDispatcher(self._clock, readings=self.readings)
        self._board = blank_board(specs, self._broken, self._clock, self._heartbeat_s, self._changes.put)
        self._lock = threading.RLock()
        self._running = False
        self._used = False
        self._home: asyncio.AbstractEventLoop | None = None
        """The trader's own event loop, where there is one."""
        self._lives = Lives(
            self._specs, self._board, self._state.journal, self._settings, self._clock, self._heartbeat_s
        )
        self._watch = ExchangeWatch(self._clock, self._settings.status_interval_s, self._lives.tell)
        self._wired = Wired()
        self._gateway: Gateway | None = None
        self._loops = AccountLoops()
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        max_age_s = self._settings.require_verification_max_age_s
        self._gate = None if max_age_s is None else Gate(folder_of(self._settings), max_age_s, self._clock)
        self._operators = Operators(self._lives.obey, self._clock)
        self._outlets = Outlets(self._settings, self._clock, self._operators, self._loops, self._heartbeat_s)
        self._router = Router(
            lambda: candidates(self._specs, self._board, self._wired.accounts, self._watch),
            self._changes.subscribe,
        )

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], *, keep_going: bool = False) -> Cluster:
        """Make the cluster that a TOML file describes. Raises ConfigError, which names every mistake.

        With `keep_going` a broker with a mistake is shown as unknown, and the others are watched.
        """
        from brokerwatch.gateway.catalogue import Catalogue

        return cls.from_settings(load(Path(path), Catalogue(), keep_going=keep_going))

    @classmethod
    def from_settings(cls, settings: Settings) -> Cluster:
        """Make the cluster of settings that were loaded. Raises ConfigError."""
        return cls(settings.brokers, settings.cluster, broken=settings.broken)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._home = asyncio.get_running_loop()
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not to be cut short by a cancellation: what runs now would go on unsupervised.
        await asyncio.shield(asyncio.to_thread(self.stop))

    @property
    def router(self) -> Router:
        """Which broker to use, and callbacks for changes of that."""
        return self._router

    @property
    def board(self) -> Board:
        """Every broker's newest reading, in memory."""
        return self._board

    def changes(self, *, renewals: bool = False) -> AsyncGenerator[Change]:
        """Each change from now on, in the running event loop. `renewals`: see `Router.on_change`."""
        return self._changes.stream(renewals=renewals)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self._settings.name

    @property
    def hung(self) -> str:
        """Why accounts are asked no more: their event loop hangs and is given up. Empty: none is."""
        return self._loops.hung

    @property
    def health_endpoint(self) -> str:
        """Where the health topic is published; known exactly once the cluster has started."""
        return self._sockets.health_out.bound_endpoint if self._running else self._settings.health_endpoint

    @property
    def http_url(self) -> str:
        """Where the page and the API are; empty where they are not served."""
        return self._outlets.http_url

    def broker(self, name: str) -> Broker:
        """The handle of one broker. Raises UnknownBroker, which names the brokers that exist."""
        slot = self._board.slot(name)
        if name not in self._specs:
            raise UnknownBroker(f"{name} cannot be used: {self._broken[name][1]}")
        requests = Requests(
            self._specs[name], slot, partial(self._ask, name), lambda: self._wired.accounts.get(name)
        )
        return Broker(requests, self._clock)

    def listener(self) -> Listener:
        """A subscriber to this cluster's health topic, inside this process. It ends with the cluster.
        Raises ClusterStopped while the cluster does not run."""
        if not self._running:
            raise ClusterStopped("the cluster is not running, so there is nothing to listen to")
        listener = Listener(self.health_endpoint, bus=self._sockets.bus)
        self._listeners.add(listener)
        return listener

    def reading(self, broker: str) -> Reading:
        """How one broker is. Never waits. Raises UnknownBroker."""
        return self._board.reading(broker)

    def normalize_symbol_for_broker(self, symbol: str, exchange: str) -> str:
        """The symbol in its common spelling, by the markets of an exchange. Waits while they are loaded.

        `exchange` is a ccxt id, or the name of a broker in this cluster. Raises UnknownBroker when no broker
        of this cluster is there, else as `Broker.normalize_symbol`.
        """
        for name, spec in self._specs.items():
            if exchange in (name, spec.exchange):
                return self.broker(name).normalize_symbol(symbol)
        raise UnknownBroker(f"no broker in this cluster is at {exchange!r}")

    def readings(self) -> tuple[Reading, ...]:
        """How every broker is, in the order of the configuration. Never waits."""
        return self._board.readings()

    def total_cash(self) -> dict[str, Total]:
        """The cash of all accounts by unit (USD, EUR, …), each sum stale when any part is. Never waits."""
        return totals(self._specs, self._board)

    def start(self) -> None:
        """Start everything, and wait up to 5 s for the first word of every broker. A cluster starts once.

        Raises:
            ClusterStopped: It was started before.
            StateFolderTaken: Another cluster has the state folder.
            EndpointUnavailable: An endpoint is taken.
            ConfigError: An account cannot be set up as it is configured, or gevent or eventlet has replaced
                the threads of this process.
        """
        refuse_green_threads()
        with self._lock:
            if self._used:
                raise ClusterStopped("a cluster can be started once; make a new one")
            self._used = True
            warn_of_default_policies(self._specs.values())
            self._home = self._home or running_loop()
            try:
                self._state.open()
                self._sockets = opened_sockets(self._settings, self._clock, ttl_s(self._heartbeat_s))
            except BaseException:
                self._state.close(SHORTEST_SHARE_S)
                raise
            try:
                self._go_up(self._sockets)
            except BaseException:
                self._running = True
                self.stop()
                raise
        self._lives.wait_until_heard(START_S)

    def _go_up(self, sockets: Sockets) -> None:
        timers = self._loops.started("brokerwatch-timers")
        alarms = Timers(timers)
        healths = restored(self._specs, self._board, self._state, self._clock, self._heartbeat_s)
        parts = Parts(
            board=self._board,
            tally=self._outlets.tally,
            state=self._state,
            clock=self._clock,
            heartbeat_s=self._heartbeat_s,
            alarms=alarms,
            gate=self._gate,
            send=self._lives.tell,
            started_loop=self._loops.started,
        )
        self._gateway = gateway_of(self._specs.values(), parts, self._home)
        self._wired = wired(self._specs.values(), parts, self._gateway)
        self._loops.watch(self._wired.loops, self._specs, self._heartbeat_s, partial(self._move, parts))
        look_up_verifications(self._gate, self._wired.accounts)
        self._running = True
        epochs = {name: health.epoch for name, health in self._state.remembered.healths.items()}
        self._lives.start(sockets, self._wired.contexts, healths, epochs, alarms, self._loops.watched)
        self._watch.start(self._wired.accounts)
        # Last, because what it reads only now it hands to all of these.
        self._state.record(alarms, self._recall, self._operators.listen_again, self._lives.give_way)
        self._operators.listen(timers, self._state.folder)
        self._outlets.start(self.listener)

    def _move(self, parts: Parts, names: tuple[str, ...], loop: LoopThread) -> LetGo | None:
        """Move brokers to another loop, in place of one that hangs. None: the cluster is being stopped."""
        with self._lock:
            if not self._running:
                return None
            moved = map(self._specs.__getitem__, names)
            self._wired, let_go = rewired(self._wired, moved, parts, self._gateway, loop)
            self._watch.go_on(self._wired.accounts_of(names))
        return let_go

    def stop(self) -> None:
        """Stop everything, in order, within 5 s. What hangs is named in the log. May be called twice."""
        with self._lock:
            if not self._running:
                return
            self._running = False
            self._lives.stopping()
        if left := ended(self._shutdown_steps(), STOP_S):
            _log.warning("did not stop in time and is left behind: %s", ", ".join(left))

    def _shutdown_steps(self) -> Iterator[tuple[str, Stop]]:
        """Every part that ends, in the order in which it does, by the name that the log gives it."""
        # First, because from here on an order could not be written down.
        yield "the orders", at_once(lambda: self._wired.refuse_orders())
        # They ask exchanges that are about to be let go.
        yield "the watch of the exchanges", at_once(self._watch.stop)
        if self._gate is not None:
            # It only reads files, and nothing needs it any more.
            yield "a look at a verification", self._gate.close
        # A command would reach a supervisor that ends.
        yield "the control socket", self._operators.stop
        # Before the brokers, or it would take those that stop for dead and restart them.
        yield "the supervisor", self._lives.end_supervisor
        # While the sockets are still open.
        yield "the last word", at_once(self._lives.farewell)
        # All are asked before one is waited for.
        yield "the brokers", at_once(self._lives.stop_brokers_soon)
        for name, life in self._lives.ending().items():
            # Each gets a share of its own: one that hangs does not cost the others theirs.
            yield name, partial(wait_for_end, life.ref)
        # The brokers have said all they had to say.
        yield "the recorder", self._state.close
        sockets = self._sockets.broker_out, self._sockets.health_out, self._sockets.inbox
        for part in sockets:
            # Nothing is published any more.
            yield part.name, part.stop
        if self._gateway is not None:
            # On its loop, which therefore ends after it.
            yield "the exchange sessions", self._gateway.close
        yield from self._loops.ending()
        yield from self._outlets.stopping()
        for listener in tuple(self._listeners):
            # They use the bus of this cluster.
            yield "a listener", unreported(listener.stop)
        # After all that could still change a reading.
        yield "a callback of on_change", self._changes.close
        if all(part.stop(0.0) for part in sockets):
            # It would wait for a socket that its thread has not closed.
            yield "the bus", at_once(self._sockets.bus.close)

    def _recall(self, remembered: Remembered) -> None:
        """The store could be read only now: what it knows of the time before is better than nothing."""
        recall(self._specs, self._board, remembered, self._state, self._lives, self._clock.now())
        if self._gateway is not None:
            self._gateway.recall(remembered)
        self._wired.recall_orders(remembered)

    def hold(self, broker: str, why: str, *, until: datetime | None = None) -> str:
        """Hold a broker out: not available whatever its exchange says. It outlives a restart.

        Args:
            broker: The broker's name.
            why: The reason, up to 160 characters; it is shown wherever the hold is.
            until: When the hold ends, with a time zone; None: when it is released.

        Returns what was done, in words. Raises ControlError when the command was refused or the supervisor
        did not answer within 5 s, and ValueError when `until` has no time zone.
        """
        return self._operators.hold(broker, why, until)

    def release(self, broker: str) -> str:
        """End a hold; ControlError where there is none. The state is what it would have been without it."""
        return self._operators.release(broker)

    def reset(self, broker: str) -> str:
        """Ask again after a state that was final, such as refused credentials. Otherwise as `hold`."""
        return self._operators.reset(broker)

    def _ask(self, name: str, message: BrokerMessage) -> bool:
        if not self._running:
            raise ClusterStopped("the cluster is not running, so it cannot ask the exchange")
        return self._lives.tell(name, message)
