"""The whole thing put together: from a configuration to running actors, and back to nothing.

`start` goes up in an order in which everything finds what it needs; `stop` goes down in the reverse,
each step with a deadline, so that one part that hangs is named and left behind and the rest ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import pykka

from brokerwatch.actors.base import stop_soon, tell, wait_for_end
from brokerwatch.actors.board import Board, Slot
from brokerwatch.actors.broker import BrokerActor, BrokerContext
from brokerwatch.actors.protocol import BrokerMessage, Died, Drain, Life, OperatorCommand, Recall, Stated
from brokerwatch.actors.supervisor import HealthSupervisor, SupervisorContext
from brokerwatch.bus.change_dispatcher import ChangeDispatcher
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.listener import Listener
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.publishing import BrokerPublishing, HealthPublishing, Publishing
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.cluster.broker import Broker
from brokerwatch.cluster.exchange_watch import watch
from brokerwatch.cluster.observation import CallReporter
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.cluster.queries import Calls
from brokerwatch.cluster.restore import balances, missed_holds, restored
from brokerwatch.cluster.timers import Timers
from brokerwatch.cluster.totals import Total, total_cash
from brokerwatch.cluster.wiring import wired_executor
from brokerwatch.config.broker_spec import CUSTOM, BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings, cluster_mistakes
from brokerwatch.config.loader import load
from brokerwatch.errors import ClusterStopped, ConfigError, Problem, UnknownBroker
from brokerwatch.gateway.async_source import callable_source
from brokerwatch.gateway.loop import Loop, LoopThread
from brokerwatch.health.changes import Change
from brokerwatch.health.outcome import Source
from brokerwatch.health.reading import evidence, ttl_s
from brokerwatch.health.restarts import Restarts
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.messages import HealthState, Reading, Reason, Roster, next_epoch
from brokerwatch.messages.trading import Status
from brokerwatch.money import unit
from brokerwatch.orders.gate import Gate
from brokerwatch.orders.in_flight import LOST_AFTER_S, InFlightOrders
from brokerwatch.routing.objections import Candidate
from brokerwatch.routing.router import Router
from brokerwatch.storage.journal import identity
from brokerwatch.storage.records import Remembered
from brokerwatch.storage.state_folder import folder_of

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access, Gateway
    from brokerwatch.gateway.venue import Venue

from brokerwatch.cluster.exchange_watch import MARKETS_AGAIN_S
from brokerwatch.cluster.lives import unheard

_log: Final = logging.getLogger(__name__)

START_S: Final = 5.0
"""How long a start waits for the first word of every broker."""
STOP_S: Final = 3.0
"""What a stop may take when something hangs; an operator was promised 5 s."""
SHORTEST_SHARE_S: Final = 0.05
"""What a part gets even when the others have used up the time."""


class Cluster:
    """All brokers of one process, their supervisor and the health topic.

    with Cluster.from_config("brokerwatch.toml") as cluster:
        kraken = cluster.broker("kraken-main")
        if kraken.is_available():
            print(kraken.get_account_balance())
    """

    def __init__(
        self,
        brokers: Iterable[BrokerSpec] = (),
        settings: ClusterSettings | None = None,
        *,
        broken: Mapping[str, tuple[str, str]] = MappingProxyType({}),
        clock: Clock | None = None,
    ) -> None:
        self._settings = ClusterSettings() if settings is None else settings
        specs = tuple(brokers)
        self._specs = {spec.name: spec for spec in specs}
        self._broken = broken
        self._clock = SystemClock() if clock is None else clock
        self._check(specs)
        self._state = Persistence(self._settings, self._clock)
        self._heartbeat_s = self._settings.heartbeat_of(len(self._specs))
        self._ttl_s = ttl_s(self._heartbeat_s)
        self._changes = ChangeDispatcher(self._clock, readings=self.readings)
        self._board = Board((*map(self._slot, self._specs.values()), *self._broken_slots()))
        self._lock = threading.RLock()
        self._running = False
        self._used = False
        self._surroundings: dict[str, BrokerContext] = {}
        self._lives: dict[str, Life] = {}
        self._home: asyncio.AbstractEventLoop | None = None
        """The trader's own event loop, where there is one."""
        self._calls: dict[str, Calls] = {}
        self._in_flight: dict[str, tuple[Loop, InFlightOrders]] = {}
        """The orders of each API key, by its fingerprint, and the loop that they are for."""
        self._watches: list[Future[Any]] = []
        self._looked_up_s: dict[Venue, float] = {}
        self._supervisor: pykka.ActorRef[HealthSupervisor] | None = None
        self._supervisor_restarts = Restarts()
        self._supervisor_epoch = ""
        self._health: HealthPublishing | None = None
        self._gateway: Gateway | None = None
        self._sources: LoopThread | None = None
        self._loops: list[LoopThread] = []
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        max_age_s = self._settings.require_verification_max_age_s
        self._gate = None if max_age_s is None else Gate(folder_of(self._settings), max_age_s, self._clock)
        self._operators = Operators(self._obey, self._clock)
        self._router = Router(self._candidates, self._changes.subscribe)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], *, keep_going: bool = False) -> Cluster:
        """The cluster that a TOML file describes. Raises ConfigError with every problem of the file."""
        from brokerwatch.gateway.catalogue import Catalogue

        return cls.from_settings(load(Path(path), Catalogue(), keep_going=keep_going))

    @classmethod
    def from_settings(cls, settings: Settings) -> Cluster:
        """The cluster of settings that were loaded."""
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
        # Not to be cut short by a cancellation: what runs now would go on without anybody.
        await asyncio.shield(asyncio.to_thread(self.stop))

    @property
    def router(self) -> Router:
        """Which broker to use, and who is told when that changes."""
        return self._router

    @property
    def board(self) -> Board:
        """Every broker's newest reading, in memory."""
        return self._board

    def changes(self) -> AsyncGenerator[Change]:
        """Each change of a reading from now on, in the running event loop: `async for change in …`."""
        return self._changes.stream()

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self._settings.name

    @property
    def health_endpoint(self) -> str:
        """Where the health topic is published; known exactly once the cluster has started."""
        return self._health_out.bound_endpoint if self._running else self._settings.health_endpoint

    def broker(self, name: str) -> Broker:
        """The handle of one broker. Raises UnknownBroker, which names those that exist."""
        slot = self._board.slot(name)
        if name not in self._specs:
            raise UnknownBroker(f"{name} cannot be used: {self._broken[name][1]}")
        around = self._surroundings.get(name)
        queue_s = 0.0 if around is None else around.source.queue_s
        return Broker(
            self._specs[name],
            slot,
            self._clock,
            partial(self._ask, name),
            lambda: self._calls.get(name),
            queue_s,
        )

    def listener(self) -> Listener:
        """A subscriber to this cluster's health topic, inside this process. It ends with the cluster."""
        if not self._running:
            raise ClusterStopped("the cluster is not running, so there is nothing to listen to")
        listener = Listener(self.health_endpoint, bus=self._bus)
        self._listeners.add(listener)
        return listener

    def reading(self, broker: str) -> Reading:
        """How one broker is. Never waits. Raises UnknownBroker."""
        return self._board.reading(broker)

    def normalize_symbol_for_broker(self, symbol: str, exchange: str) -> str:
        """The symbol as everybody writes it, by the markets of this exchange, or of a broker of that name.

        Waits while they are loaded. Raises UnknownBroker, InvalidSymbol, UnknownSymbol, CouldNotAsk.
        """
        for name, spec in self._specs.items():
            if exchange in (name, spec.exchange):
                return self.broker(name).normalize_symbol(symbol)
        raise UnknownBroker(f"no broker in this cluster is at {exchange!r}")

    def readings(self) -> tuple[Reading, ...]:
        """How every broker is, in the order of the configuration. Never waits."""
        return self._board.readings()

    def total_cash(self) -> dict[str, Total]:
        """The cash of all accounts by unit (USD, EUR, …), each sum marked stale when any part of it is.

        Brokers on one API key are one account and count once.
        """
        by_unit: dict[str, list[Reading]] = {}
        doubles: dict[str, list[str]] = {}
        seen: set[str] = set()
        for name, spec in self._specs.items():
            code, account = unit(spec.cash_currencies[0]), identity(spec)
            if spec.credentials and account in seen:
                doubles.setdefault(code, []).append(name)
                continue
            seen.add(account)
            by_unit.setdefault(code, []).append(self._board.slot(name).reading)
        return {code: total_cash(parts, doubles.get(code, ())) for code, parts in by_unit.items()}

    def start(self) -> None:
        """Start everything; a cluster starts once.

        Raises StateFolderTaken when another cluster has the state folder, EndpointUnavailable when an
        endpoint is taken.
        """
        with self._lock:
            if self._used:
                raise ClusterStopped("a cluster can be started once; make a new one")
            self._used = True
            self._home = self._home or _running_loop()
            try:
                self._state.open()
                self._open_bus()
            except BaseException:
                self._state.close(SHORTEST_SHARE_S)
                raise
            try:
                timers, heartbeat_s = self._loop("brokerwatch-timers"), self._heartbeat_s
                self._alarms = Timers(timers)
                self._healths = restored(self._specs, self._board, self._state, self._clock, heartbeat_s)
                self._surroundings = {name: self._around(spec) for name, spec in self._specs.items()}
                self._look_up_verifications()
                self._running = True
                for name in self._specs:
                    before = self._state.remembered.healths.get(name)
                    epoch = self._next_epoch("" if before is None else before.epoch)
                    self._lives[name] = self._born(name, self._healths[name], epoch)
                self._start_supervisor()
                self._look_at_exchanges()
                # Last, because what it reads only now it hands to all of these.
                self._state.record(self._alarms, self._recall)
                self._operators.listen(timers, self._state.folder)
            except BaseException:
                self._running = True
                self.stop()
                raise
        self._wait_until_heard()

    def _candidates(self) -> Iterator[Candidate]:
        for place, (name, spec) in enumerate(self._specs.items()):
            calls = self._calls.get(name)
            markets = None if calls is None else calls.access.venue.known
            known = None if markets is None else markets.by_symbol
            if calls is not None and markets is None:
                self._look_up_markets(calls)
            if calls is not None and spec.trading:
                calls.look_up_verification()
            # Without `trading` the trader places his orders himself: nothing for us to refuse.
            trading, reading = spec.trading or None, self._board.slot(name).reading
            yield Candidate(
                reading=reading,
                products=known,
                listed=place,
                trading=trading,
                unaccounted="" if calls is None else calls.executor.unaccounted,
                unverified="" if calls is None or not spec.trading else calls.unverified,
                knowable=spec.fetch is None,
            )

    def _look_up_markets(self, calls: Calls) -> None:
        """Somebody wants to choose by markets that are not known: load them, without making him wait."""
        venue, now_s = calls.access.venue, self._clock.up_s()
        if self._running and now_s - self._looked_up_s.get(venue, float("-inf")) >= MARKETS_AGAIN_S:
            self._looked_up_s[venue] = now_s
            self._watches.append(calls.access.loop.submit(calls.products()))

    def stop(self) -> None:
        """Stop everything, in order. What hangs is named in the log and left behind. May be called twice."""
        with self._lock:
            if not self._running:
                return
            self._running = False
            lives = dict(self._lives)
        until_s = time.monotonic() + STOP_S

        def share() -> float:
            return max(SHORTEST_SHARE_S, min(STOP_S / 4, until_s - time.monotonic()))

        left: list[str] = []
        for calls in self._calls.values():
            calls.executor.closed = True  # from here on nobody could write an order down
        for watching in self._watches:
            watching.cancel()
        if self._gate is not None and not self._gate.close(share()):
            left.append("a look at a verification")
        if not self._operators.stop(share()):
            left.append("the control socket")
        # The supervisor first, or it would take the brokers that stop for dead and restart them.
        if self._supervisor is not None and not wait_for_end(self._supervisor, share()):
            left.append("the supervisor")
        self._farewell()
        for life in lives.values():  # all are told before one is waited for
            stop_soon(life.ref)
        left += [name for name, life in lives.items() if not wait_for_end(life.ref, share())]
        if not self._state.close(share()):  # the brokers have said all they had to say
            left.append("the recorder")
        sockets = (self._broker_out, self._health_out, self._inbox)
        open_sockets = [part.name for part in sockets if not part.stop(share())]
        left += open_sockets
        if self._gateway is not None and not self._gateway.close(share()):
            left.append("the exchange sessions")
        left += [loop.name for loop in reversed(self._loops) if not loop.stop(share())]
        for listener in tuple(self._listeners):
            listener.stop(share())
        if not self._changes.close(share()):
            left.append("a callback of on_change")
        if not open_sockets:
            self._bus.close()  # it would wait for a socket that its thread has not closed
        if left:
            _log.warning("did not stop in time and is left behind: %s", ", ".join(left))

    def _check(self, brokers: tuple[BrokerSpec, ...]) -> None:
        problems = [Problem("", f"cluster.{key}", text) for key, text in cluster_mistakes(self._settings)]
        names = [spec.name for spec in brokers]
        problems += [
            Problem("", f"brokers.{name}", "expected a name of its own; two brokers have this one")
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        if problems:
            raise ConfigError(tuple(problems))

    def _recall(self, remembered: Remembered) -> None:
        """The store could be read only now: what it knows of the time before is better than nothing."""
        now = self._clock.now()
        for name, balance in balances(self._specs, remembered, self._state, now).items():
            tell(self._lives[name].ref, Recall(balance))
        for hold in missed_holds(self._board, remembered, now):
            self._obey(hold)
        if self._gateway is not None:
            self._gateway.recall(remembered)
        for fingerprint, (loop, orders) in self._in_flight.items():
            loop.call(partial(orders.recall, remembered.orders.get(fingerprint, ())))

    def hold(self, broker: str, why: str, *, until: datetime | None = None) -> str:
        """Hold a broker out: not available whatever its exchange says, until then or until `release`.

        It outlives a restart. Returns what was done, in words. Raises ControlError; ValueError for a time
        without its zone.
        """
        return self._operators.hold(broker, why, until)

    def release(self, broker: str) -> str:
        """End a hold: the state is what it would have been without it. Raises ControlError."""
        return self._operators.release(broker)

    def reset(self, broker: str) -> str:
        """What was final for a broker is mended: ask its exchange again. Raises ControlError."""
        return self._operators.reset(broker)

    def _obey(self, command: OperatorCommand) -> bool:
        return self._supervisor is not None and tell(self._supervisor, command)

    def _slot(self, spec: BrokerSpec) -> Slot:
        """A broker's place before its cluster has started."""
        now = self._clock.now()
        health = Health.begin(now, threshold=spec.max_consecutive_errors, rules=spec.rules)
        blank = evidence(spec, "", health, now, self._clock, self._heartbeat_s)
        return Slot(
            blank, health, NO_VETOES.lay(Reason.NEVER_SEEN, "not started yet", now), self._changes.put
        )

    def _broken_slots(self) -> Iterable[Slot]:
        now = self._clock.now()
        for name, (exchange, why) in self._broken.items():
            spec = BrokerSpec(name, exchange=exchange)
            health = replace(Health.begin(now), state=HealthState.UNKNOWN)
            blank = evidence(spec, "", health, now, self._clock, self._heartbeat_s)
            for_ever = msgspec.structs.replace(blank, valid_until_s=float("inf"))
            yield Slot(for_ever, health, NO_VETOES.lay(Reason.CONFIG, why, now))

    def _open_bus(self) -> None:
        settings = self._settings
        self._bus = Bus()
        self._inbox = Inbox(self._bus, settings.broker_endpoint, self._clock, self._ttl_s)
        self._health_out = Publisher(self._bus, settings.health_endpoint, "brokerwatch-health", bind=True)
        self._broker_out = Publisher(
            self._bus, settings.broker_endpoint, "brokerwatch-brokers", bind=False, gather_s=0.0
        )
        started: list[Inbox | Publisher] = []
        try:
            for part in (self._inbox, self._health_out, self._broker_out):
                part.start()
                started.append(part)
        except BaseException:
            for part in started:
                part.stop(SHORTEST_SHARE_S)
            self._bus.close()
            raise

    def _loop(self, name: str) -> LoopThread:
        loop = LoopThread(name)
        loop.start()
        self._loops.append(loop)
        return loop

    def _around(self, spec: BrokerSpec) -> BrokerContext:
        return BrokerContext(
            source=self._source(spec),
            slot=self._board.slot(spec.name),
            alarms=self._alarms,
            clock=self._clock,
            heartbeat_s=self._heartbeat_s,
            journal=self._state.journal,
        )

    def _source(self, spec: BrokerSpec) -> Source:
        if spec.fetch is not None:
            # A callable that blocks its loop must hold up neither the exchanges nor the heartbeats.
            if self._sources is None:
                self._sources = self._loop("brokerwatch-sources")
            return callable_source(self._sources, spec.fetch, self._clock)
        if spec.exchange == CUSTOM:
            expected = "expected exchange=, a ccxt id, or fetch=, an async callable"
            raise ConfigError((Problem("", f"brokers.{spec.name}", expected),))
        if self._gateway is None:
            from brokerwatch.gateway.gateway import Gateway

            self._gateway = Gateway(
                self._loop("brokerwatch-exchanges"),
                self._clock,
                self._state.journal,
                self._state.remembered,
                self._state.keys_folder,
                self._home,
            )
        send = partial(self._tell, spec.name)
        access = self._gateway.account(spec)
        executor = wired_executor(spec, access, self._orders_of(access), self._clock, CallReporter(send))
        patience_s = self._clock.up_s() + LOST_AFTER_S

        def remembers() -> bool:
            # What was lost before has arrived after that time, or never will.
            return self._state.journal.loaded or self._clock.up_s() > patience_s

        self._calls[spec.name] = Calls(
            spec, self._board.slot(spec.name), access, executor, send, remembers, self._gate
        )
        return access.source

    def _orders_of(self, access: Access) -> InFlightOrders:
        """The orders of this account's API key; brokers on one key share them."""
        fingerprint = access.lane.fingerprint
        if fingerprint not in self._in_flight:
            orders = InFlightOrders(fingerprint, self._clock, self._state.journal)
            orders.recall(self._state.remembered.orders.get(fingerprint, ()))
            self._in_flight[fingerprint] = access.loop, orders
        return self._in_flight[fingerprint][1]

    def _look_up_verifications(self) -> None:
        """Learn who is verified before anybody is handed over, and say who is not."""
        if self._gate is None:
            return
        trading = [calls for name, calls in self._calls.items() if self._specs[name].trading]
        self._gate.start(calls.access.lane.fingerprint for calls in trading)
        for calls in trading:
            if calls.unverified:
                _log.warning("%s", calls.unverified)

    def _look_at_exchanges(self) -> None:
        """Ask each exchange once for all accounts there: how it is, and its markets where orders may go."""
        by_venue: dict[Venue, list[str]] = {}
        for name, calls in self._calls.items():
            by_venue.setdefault(calls.access.venue, []).append(name)
        interval_s = self._settings.status_interval_s
        for venue, names in by_venue.items():
            loop = self._calls[names[0]].access.loop

            def told(status: Status | None, names: list[str] = names) -> None:
                for name in names:
                    self._tell(name, Stated(status))

            if interval_s < float("inf") and venue.says_its_status:
                self._watches.append(loop.submit(watch(venue, interval_s, told, random.uniform)))
            if any(self._specs[name].trading for name in names):
                self._look_up_markets(self._calls[names[0]])

    def _born(self, name: str, health: Health, epoch: str) -> Life:
        """Start an actor for this broker, with this health and a voice of its own."""
        spec = self._specs[name]
        voice = BrokerPublishing(
            Publishing(self._broker_out, f"broker/{spec.exchange}/{name}", epoch, self._clock, self._ttl_s)
        )

        def died(why: str) -> None:
            # Nobody to tell is no loss: a supervisor looks for the dead too.
            if self._supervisor is not None:
                tell(self._supervisor, Died(name, epoch, why))

        ref = BrokerActor.start(
            spec,
            epoch,
            health,
            self._surroundings[name],
            voice.publish,
            died,
        )
        return Life(epoch, ref)

    def _reborn(self, name: str) -> Life:
        """The next life of a broker, with all that the one before knew."""
        slot = self._board.slot(name)
        epoch = self._next_epoch(slot.reading.broker_epoch)
        life = self._born(name, slot.supersede(epoch, self._clock.now()), epoch)
        with self._lock:
            self._lives[name] = life
            if not self._running:
                stop_soon(life.ref)
        return life

    def _next_epoch(self, predecessor: str) -> str:
        return next_epoch(self._clock.now().wall_us, predecessor, os.urandom(4).hex())

    def _start_supervisor(self) -> None:
        now = self._clock.now()
        self._supervisor_epoch = self._next_epoch(self._supervisor_epoch)
        src = f"supervisor/{self._settings.name}"
        voice = Publishing(self._health_out, src, self._supervisor_epoch, self._clock, self._ttl_s)
        health = HealthPublishing(voice, publish_balances=self._settings.publish_balances)
        self._health = health
        self._supervisor = HealthSupervisor.start(
            {name: unheard(*said, now) for name, said in self._board.said().items()},
            dict(self._lives),
            SupervisorContext(
                start_broker=self._reborn,
                take_newest=self._inbox.take,
                topic=health,
                journal=self._state.journal,
                board=self._board,
                alarms=self._alarms,
                clock=self._clock,
                heartbeat_s=self._heartbeat_s,
            ),
            self._supervisor_died,
        )
        supervisor = self._supervisor
        self._inbox.call(lambda: tell(supervisor, Drain()))

    def _wait_until_heard(self) -> None:
        """The whole way works once the supervisor has heard every broker; until then none is available."""
        until_s = self._clock.up_s() + START_S
        for name in self._specs:
            slot = self._board.slot(name)
            if not slot.wait_until_lifted(Reason.NEVER_SEEN, max(0.0, until_s - self._clock.up_s())):
                _log.warning("%s has not been heard of %g s after the start", name, START_S)

    def _supervisor_died(self, why: str) -> None:
        """The watcher itself died: start another, within the same limits as for everybody."""
        with self._lock:
            if not self._running:
                return
            self._supervisor_restarts, wait_s = self._supervisor_restarts.died(
                self._clock.up_s(), random.uniform
            )
        if wait_s is None:
            _log.error("the supervisor has failed for good: %s; every reading will expire", why)
            return
        _log.error("the supervisor died and is restarted in %.1f s: %s", wait_s, why)
        self._alarms.after(wait_s, self._restart_supervisor)

    def _restart_supervisor(self) -> None:
        with self._lock:
            if self._running:
                self._start_supervisor()

    def _ask(self, name: str, message: BrokerMessage) -> bool:
        if not self._running:
            raise ClusterStopped("the cluster is not running, so nobody can ask the exchange")
        return self._tell(name, message)

    def _tell(self, name: str, message: BrokerMessage) -> bool:
        life = self._lives.get(name)
        return life is not None and tell(life.ref, message)

    def _farewell(self) -> None:
        """The last word on every topic: unknown, because we are leaving."""
        vetoes = NO_VETOES.lay(Reason.SHUTDOWN, "the cluster was stopped", self._clock.now())
        for reading in self._board.readings():
            self._board.slot(reading.broker).write_vetoes(vetoes)
        gone = tuple(
            msgspec.structs.replace(reading, state=HealthState.UNKNOWN) for reading in self._board.readings()
        )
        if self._health is not None:
            for reading in gone:
                self._health.publish(reading, ttl_ms=0)
            self._health.publish_roster(Roster(gone), ttl_ms=0)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
