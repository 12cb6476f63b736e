"""The whole thing put together: from a configuration to running actors, and back to nothing.

`start` goes up in an order in which everything finds what it needs; `stop` goes down in the reverse, each
step with a deadline, so that one part that hangs is named and left behind.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from brokerwatch.actors.base import wait_for_end
from brokerwatch.actors.board import Board
from brokerwatch.bus.change_dispatcher import ChangeDispatcher
from brokerwatch.bus.descriptors import require
from brokerwatch.bus.listener import Listener
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.cluster.broker import Broker
from brokerwatch.cluster.candidates import candidates
from brokerwatch.cluster.changeable import ChangeableCluster, ReadAgain
from brokerwatch.cluster.handover import Handover
from brokerwatch.cluster.key_changes import KeyChanges
from brokerwatch.cluster.members import Members
from brokerwatch.cluster.open_files import needed
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.outlets import Outlets
from brokerwatch.cluster.part_watch import Part, PartWatch
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.cluster.pooling import pooling_of
from brokerwatch.cluster.remote_commands import Obedience
from brokerwatch.cluster.requests import Requests
from brokerwatch.cluster.shutdown import SHORTEST_SHARE_S, Stop, at_once, ended, unreported
from brokerwatch.cluster.startup import Sockets, check, opened_sockets, warn_of_default_policies
from brokerwatch.cluster.timer_loop import TimerLoop
from brokerwatch.cluster.totals import Total, totals
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.green_threads import refuse_green_threads
from brokerwatch.config.loader import load
from brokerwatch.errors import ClusterStopped, UnknownBroker
from brokerwatch.gateway.lease import TermOf, no_term
from brokerwatch.gateway.loop import running_loop
from brokerwatch.health.changes import Change
from brokerwatch.health.reading import ttl_s
from brokerwatch.log import logger
from brokerwatch.messages import Reading
from brokerwatch.routing.router import Router

if TYPE_CHECKING:
    pass

_log: Final = logger(__name__)

START_S: Final = 5.0
"""How long a start waits for the first word of every broker."""
STOP_S: Final = 3.0
"""What a stop may take when something hangs; an operator was promised 5 s."""


class Cluster(ChangeableCluster):
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
        term_of: The term of an API key by its fingerprint, in a pool.

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
        term_of: TermOf = no_term,
    ) -> None:
        refuse_green_threads()
        self._settings = ClusterSettings() if settings is None else settings
        specs = tuple(brokers)
        self._clock = SystemClock() if clock is None else clock
        check(specs, self._settings)
        self._pooling = pooling_of(self._settings, specs, self._clock)
        if self._pooling is not None:
            # One heartbeat, however many accounts are here just now.
            beat_s = min(self._settings.heartbeat_of(len(specs)), self._pooling.heartbeat_s)
            self._settings = replace(self._settings, heartbeat_s=beat_s)
            specs, term_of = (), self._pooling.terms.of
        self._state = Persistence(self._settings, self._clock)
        self._changes = ChangeDispatcher(self._clock, readings=self.readings)
        members = Members(specs, broken, self._settings, self._state, self._clock, self._changes.put, term_of)
        keys = KeyChanges(members, self._state.journal, self._clock)
        operators = Operators(members.lives.obey, self._clock)
        self._obedience = Obedience(operators, lambda name: name in members.board, self._clock)
        outlets = Outlets(
            self._settings,
            self._clock,
            operators,
            lambda: self.hung,
            members.heartbeat_s,
            lambda: members.settings,
        )
        super().__init__(members, keys, operators, outlets, self._pooling)
        self._board, self._lives, self._loops = members.board, members.lives, members.loops
        self._lock = members.lock
        self._used = False
        self._home: asyncio.AbstractEventLoop | None = None
        """The trader's own event loop, where there is one."""
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._parts = PartWatch(on_broken=lambda why: self._board.fail(why, self._clock.now()))
        self._router = Router(
            lambda: candidates(members.specs, members.board, members.wired.accounts, members.watch),
            self._changes.subscribe,
        )

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], *, keep_going: bool = False) -> Cluster:
        """Make the cluster that a TOML file describes. Raises ConfigError, which names every mistake.

        With `keep_going` a broker with a mistake is shown as unknown, and the others are watched.
        """
        from brokerwatch.gateway.catalogue import Catalogue

        source = Path(path).absolute()  # the program may change its folder before a reload
        settings = load(Path(path), Catalogue(), keep_going=keep_going)
        return cls.from_settings(
            settings, lambda keep_going: load(source, Catalogue(), keep_going=keep_going)
        )

    @classmethod
    def from_settings(
        cls, settings: Settings, read: ReadAgain | None = None, term_of: TermOf = no_term
    ) -> Cluster:
        """Make the cluster of settings that were loaded. Raises ConfigError.

        `read` loads them again for a reload; None: they come from no file. `term_of` as for the constructor.
        """
        cluster = cls(settings.brokers, settings.cluster, broken=settings.broken, term_of=term_of)
        cluster._read = read
        return cluster

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
        """Why accounts are watched no more: an event loop hangs and is given up, or a part has ended. Empty:
        all are."""
        return self._loops.hung or self._parts.broken

    @property
    def health_endpoint(self) -> str:
        """Where the health topic is published; known exactly once the cluster has started."""
        running = self._members.running
        return self._sockets.health_out.bound_endpoint if running else self._settings.health_endpoint

    @property
    def http_url(self) -> str:
        """Where the page and the API are; empty where they are not served."""
        return self._outlets.http_url

    def broker(self, name: str) -> Broker:
        """The handle of one broker. Raises UnknownBroker, which names the brokers that exist."""
        if self._pooling is not None and name in self._pooling.accounts and name not in self._board:
            raise UnknownBroker(f"{name} is not with this node of the pool now; another one may have it")
        members, slot = self._members, self._board.slot(name)
        if name in members.broken:
            raise UnknownBroker(f"{name} cannot be used: {members.broken[name][1]}")
        requests = Requests(
            name,
            slot,
            partial(members.ask, name),
            lambda: members.wired.accounts.get(name),
            lambda: members.specs.get(name),
        )
        return Broker(requests, self._clock)

    def listener(self) -> Listener:
        """A subscriber to this cluster's health topic, inside this process. It ends with the cluster.
        Raises ClusterStopped while the cluster does not run."""
        if not self._members.running:
            raise ClusterStopped("the cluster is not running, so there is nothing to listen to")
        listener = self._sockets.listener()
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
        for name, spec in self._members.specs.items():
            if exchange in (name, spec.exchange):
                return self.broker(name).normalize_symbol(symbol)
        raise UnknownBroker(f"no broker in this cluster is at {exchange!r}")

    def readings(self) -> tuple[Reading, ...]:
        """How every broker is, in the order of the configuration. Never waits."""
        return self._board.readings()

    def total_cash(self) -> dict[str, Total]:
        """The cash of all accounts by unit (USD, EUR, …), each sum stale when any part is. Never waits."""
        return totals(self._members.specs, self._board)

    def start(self) -> None:
        """Start everything, and wait up to 5 s for the first word of every broker. A cluster starts once.

        Raises:
            ClusterStopped: It was started before.
            StateFolderTaken: Another cluster has the state folder.
            EndpointUnavailable: An endpoint is taken.
            TooFewDescriptors: This process may not open so many files. Nothing was opened, and it may be
                started again.
            ConfigError: An account cannot be set up as it is configured, or gevent or eventlet has replaced
                the threads of this process.
        """
        refuse_green_threads()
        with self._lock:
            if self._used:
                raise ClusterStopped("a cluster can be started once; make a new one")
            accounts = self._members.specs if self._pooling is None else self._pooling.accounts
            require(needed(self._settings, accounts.values()), "the cluster")
            self._used = True
            warn_of_default_policies(self._members.specs.values())
            self._home = self._home or running_loop()
            try:
                self._state.open()
                self._sockets = opened_sockets(
                    self._settings, self._clock, ttl_s(self._members.heartbeat_s), self._obedience.obey
                )
            except BaseException:
                self._state.close(SHORTEST_SHARE_S)
                raise
            try:
                self._go_up(self._sockets)
            except BaseException:
                self._members.running = True
                self.stop()
                raise
        self._lives.wait_until_heard(START_S)

    def _go_up(self, sockets: Sockets) -> None:
        timers = TimerLoop(self._loops, self._operators)
        alarms = timers.alarms
        self._members.go_up(sockets, alarms, self._outlets.tally, self._home)
        # Last, because what it reads only now it hands to all of these.
        self._state.record(alarms, self._members.recall, self._operators.listen_again, self._lives.give_way)
        timers.listen(self._state.folder)
        self._outlets.start(self.listener)
        if self._pooling is not None:
            self._pooling.start(Handover(self._members, self._state, self._clock))
        self._parts.start(
            Part("the timers", timers.fault, mend=timers.replace),
            Part("the bus of the brokers", sockets.broker_out.fault),
            Part("the inbox of the supervisor", sockets.inbox.fault),
            Part("the supervisor", self._lives.supervisor_fault),
            Part("the health topic", sockets.health_out.fault),
            Part("the check of keys", sockets.encryption.fault),
            *(Part(f"the way to a supervisor ({out.endpoint})", out.fault) for out in sockets.outward),
            *(Part(f"the ear for operators at {one.endpoint}", one.fault) for one in sockets.commands),
            *(() if self._pooling is None else (Part("the pool", self._pooling.fault),)),
            Part("the recorder", self._state.recorder_fault, is_vital=False),
            Part(
                "the callbacks of on_change", self._changes.fault, is_vital=False, mend=self._changes.replace
            ),
        )

    def stop(self) -> None:
        """Stop everything, in order, within 5 s. What hangs is named in the log. May be called twice."""
        with self._lock:
            if not self._members.running:
                return
            self._members.running = False
            self._lives.stopping()
        if left := ended(self._shutdown_steps(), STOP_S):
            _log.warning("did not stop in time and is left behind: %s", ", ".join(left))

    def _shutdown_steps(self) -> Iterator[tuple[str, Stop]]:
        """Every part that ends, in the order in which it does, by the name that the log gives it."""
        # It would take parts that end for broken ones.
        yield "the watch of the parts", self._parts.stop
        if self._pooling is not None:
            # No account comes any more. The claims are kept until the last call has ended.
            yield "the moves of the pool", self._pooling.stop_moving
        # Before all others, because from here on an order could not be written down.
        yield "the orders", at_once(self._members.refuse_orders)
        # They would take over a key of an account that ends.
        yield "the new API keys", self._keys.stop
        # They ask exchanges that are about to be let go.
        yield "the watch of the exchanges", at_once(self._members.watch.stop)
        yield "the watch of the API keys", at_once(self._members.keys.stop)
        yield "the streams of the exchanges", at_once(self._members.streams.stop)
        yield "a look at a ledger", at_once(self._members.ledgers.stop)
        # It only reads files, and nothing needs it any more.
        yield "a look at a verification", self._members.gate.close
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
        sockets = self._sockets.ending()
        for part in sockets:
            # Nothing is published any more.
            yield part.name, part.stop
        if self._members.gateway is not None:
            # On its loop, which therefore ends after it.
            yield "the exchange sessions", self._members.gateway.close
        loops = tuple(self._loops.ending())
        yield from loops
        if self._pooling is not None:
            # Another node begins with these keys at once.
            is_quiet = all(stop(0.0) for _, stop in loops)
            yield "the claims", partial(self._pooling.leave, is_quiet=is_quiet)
        yield from self._outlets.stopping()
        for listener in tuple(self._listeners):
            # They use the bus of this cluster.
            yield "a listener", unreported(listener.stop)
        # After all that could still change a reading.
        yield "a callback of on_change", self._changes.close
        if all(part.stop(0.0) for part in sockets):
            # It would wait for a socket that its thread has not closed.
            yield "the bus", at_once(self._sockets.bus.close)
