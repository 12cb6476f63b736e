"""Which part of a cluster is handed to which: functions that build parts and return them in frozen values.

Nothing is decided here. ccxt is imported only when an account is at an exchange: a cluster whose balances
come from callables does not load it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from brokerwatch.actors.board import Board, Slot
from brokerwatch.actors.broker import BrokerContext
from brokerwatch.actors.protocol import Alarms, BrokerMessage, Ordered
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import Clock
from brokerwatch.cluster.observation import CallReporter
from brokerwatch.cluster.order_entry import OrderEntry
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.cluster.queries import Queries
from brokerwatch.cluster.shutdown import SHORTEST_SHARE_S
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, cluster_mistakes
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.gateway.async_source import MovableSource, callable_source
from brokerwatch.gateway.loop import Loop, LoopThread
from brokerwatch.health.outcome import Source
from brokerwatch.health.reading import evidence
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.log import logger
from brokerwatch.messages import HealthState, Reading, Reason
from brokerwatch.messages.reading import CUSTOM
from brokerwatch.orders.fills import fill_of
from brokerwatch.orders.in_flight import LEFT_BEHIND, LOST_AFTER_S, InFlightOrders
from brokerwatch.storage.records import Remembered
from brokerwatch.tally import Tally

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access, Gateway
    from brokerwatch.orders.executor import OrderExecutor
    from brokerwatch.orders.gate import Gate


_log: Final = logger(__name__)


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets of one cluster, each on a thread of its own."""

    bus: Bus
    inbox: Inbox
    """What the brokers say, for the supervisor."""
    health_out: Publisher
    """The health topic."""
    broker_out: Publisher
    """What the brokers publish."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a cluster has before its accounts are wired."""

    board: Board
    state: Persistence
    clock: Clock
    heartbeat_s: float
    alarms: Alarms
    gate: Gate | None
    """Where entries need a verification; None: they need none."""
    send: Callable[[str, BrokerMessage], bool]
    """Tells the actor of a broker something; False when it has ended."""
    started_loop: Callable[[str], LoopThread]
    """Starts an event loop on a thread of this name, which the cluster stops."""
    tally: Tally
    """Counts what happens to each account and in each lane."""


@dataclass(frozen=True, slots=True)
class WiredAccount:
    """One account at an exchange, as the handles and the router use it."""

    access: Access
    executor: OrderExecutor
    queries: Queries
    entry: OrderEntry
    trading: bool
    """Whether its configuration lets orders go out."""


@dataclass(frozen=True, slots=True)
class KeyOrders:
    """The orders of one API key, and the event loop that they belong to."""

    loop: Loop
    orders: InFlightOrders


@dataclass(frozen=True, slots=True)
class Wired:
    """Everything that stands between the brokers' actors and their exchanges."""

    contexts: Mapping[str, BrokerContext] = field(default_factory=dict[str, BrokerContext])
    """What the actor of each broker needs, by the broker's name."""
    accounts: Mapping[str, WiredAccount] = field(default_factory=dict[str, WiredAccount])
    """The accounts at exchanges by the broker's name; a broker with a callable of the trader's has none."""
    in_flight: Mapping[str, KeyOrders] = field(default_factory=dict[str, KeyOrders])
    """The orders of each API key, by its fingerprint: brokers on one key share them."""
    sources: Mapping[str, MovableSource] = field(default_factory=dict[str, MovableSource])
    """Where the actor of each broker has its balance from, by the broker's name."""
    loops: Mapping[str, Loop] = field(default_factory=dict[str, Loop])
    """The event loop on which each broker is asked, by the broker's name."""

    def accounts_of(self, names: Iterable[str]) -> Mapping[str, WiredAccount]:
        """The accounts at exchanges of these brokers."""
        return {name: self.accounts[name] for name in names if name in self.accounts}

    def refuse_orders(self) -> None:
        """Let no order go out any more, from any thread."""
        for account in self.accounts.values():
            account.executor.stop()

    def recall_orders(self, remembered: Remembered) -> None:
        """Take over the orders of before, which could be read only now."""
        for fingerprint, key in self.in_flight.items():
            key.loop.call(partial(key.orders.recall, remembered.orders.get(fingerprint, ())))


def check(specs: tuple[BrokerSpec, ...], settings: ClusterSettings) -> None:
    """Raise ConfigError where two brokers have one name, or the settings cannot be."""
    problems = [Problem("", f"cluster.{key}", text) for key, text in cluster_mistakes(settings)]
    names = [spec.name for spec in specs]
    problems += [
        Problem("", f"brokers.{name}", "expected a name of its own; two brokers have this one")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ConfigError(tuple(problems))


def warn_of_default_policies(specs: Iterable[BrokerSpec]) -> None:
    """Say once for which accounts that may trade no policy was chosen."""
    names = [spec.name for spec in specs if spec.trading and not spec.policy_is_chosen]
    if names:
        _log.warning(
            '%s: trading is on and no policy is set, so it is `guarded`; write policy = "guarded" to say so, '
            'or "simple" to start available',
            ", ".join(names),
        )


def blank_board(
    specs: Iterable[BrokerSpec],
    broken: Mapping[str, tuple[str, str]],
    clock: Clock,
    heartbeat_s: float,
    changed: Callable[[Reading, Reading], object],
) -> Board:
    """The board before the cluster has started: no broker is available.

    `broken`: brokers that cannot be used because of their configuration, with their exchange and the reason.
    `changed` is called with each change of a reading.
    """
    now = clock.now()
    slots: list[Slot] = []
    for spec in specs:
        health = Health.begin(now, threshold=spec.max_consecutive_errors, rules=spec.rules)
        blank = evidence(spec, "", health, now, clock, heartbeat_s)
        vetoes = NO_VETOES.lay(Reason.NEVER_SEEN, "not started yet", now)
        slots.append(Slot(blank, health, vetoes, changed))
    for name, (exchange, why) in broken.items():
        spec = BrokerSpec(name, exchange=exchange)
        health = replace(Health.begin(now), state=HealthState.UNKNOWN)
        blank = evidence(spec, "", health, now, clock, heartbeat_s)
        for_ever = msgspec.structs.replace(blank, valid_until_s=float("inf"))
        slots.append(Slot(for_ever, health, NO_VETOES.lay(Reason.CONFIG, why, now)))
    return Board(tuple(slots))


def opened_sockets(settings: ClusterSettings, clock: Clock, ttl_s: float) -> Sockets:
    """Open and start the sockets. Raises EndpointUnavailable, with nothing left open."""
    bus = Bus()
    sockets = Sockets(
        bus,
        Inbox(bus, settings.broker_endpoint, clock, ttl_s),
        Publisher(bus, settings.health_endpoint, "brokerwatch-health", bind=True),
        Publisher(bus, settings.broker_endpoint, "brokerwatch-brokers", bind=False, gather_s=0.0),
    )
    started: list[Inbox | Publisher] = []
    try:
        for part in (sockets.inbox, sockets.health_out, sockets.broker_out):
            part.start()
            started.append(part)
    except BaseException:
        for part in started:
            part.stop(SHORTEST_SHARE_S)
        bus.close()
        raise
    return sockets


def gateway_of(
    specs: Iterable[BrokerSpec], parts: Parts, home: asyncio.AbstractEventLoop | None
) -> Gateway | None:
    """The gateway to the exchanges; None where every balance comes from a callable of the trader's.

    `home`: the trader's own event loop, where there is one.
    """
    if not any(spec.fetch is None and spec.exchange != CUSTOM for spec in specs):
        return None
    from brokerwatch.gateway.gateway import Gateway

    return Gateway(
        parts.started_loop("brokerwatch-exchanges"),
        parts.clock,
        parts.state.journal,
        parts.state.remembered,
        parts.state.keys_folder,
        home,
        parts.tally,
    )


def wired(specs: Iterable[BrokerSpec], parts: Parts, gateway: Gateway | None) -> Wired:
    """Build what stands between each actor and its exchange. Makes no request. Raises ConfigError."""
    accounts: dict[str, WiredAccount] = {}
    in_flight: dict[str, KeyOrders] = {}
    made: dict[str, tuple[Source, Loop]] = {}
    own: LoopThread | None = None
    for spec in specs:
        if spec.fetch is not None:
            # A callable that blocks its loop must hold up neither the exchanges nor the heartbeats.
            own = own or parts.started_loop("brokerwatch-sources")
            made[spec.name] = own_source(spec, own, parts), own
        elif gateway is None or spec.exchange == CUSTOM:
            expected = "expected exchange=, a ccxt id, or fetch=, an async callable"
            raise ConfigError((Problem("", f"brokers.{spec.name}", expected),))
        else:
            access = gateway.account(spec)
            accounts[spec.name] = _account(spec, access, _orders_of(spec, access, parts, in_flight), parts)
            made[spec.name] = access.source, access.loop
    sources = {name: MovableSource(source) for name, (source, _) in made.items()}
    contexts = {
        name: BrokerContext(
            source=source,
            slot=parts.board.slot(name),
            alarms=parts.alarms,
            clock=parts.clock,
            heartbeat_s=parts.heartbeat_s,
            journal=parts.state.journal,
            tally=parts.tally.account(name),
        )
        for name, source in sources.items()
    }
    loops = {name: loop for name, (_, loop) in made.items()}
    return Wired(contexts, accounts, in_flight, sources, loops)


def rewired(
    before: Wired, specs: Iterable[BrokerSpec], parts: Parts, gateway: Gateway | None, loop: LoopThread
) -> tuple[Wired, Callable[[], Coroutine[Any, Any, None]]]:
    """The same with these brokers on another loop, because the one that they all share hangs.

    They are all the brokers of that loop, and its lease is revoked. The actors and the handles stay as they
    are. Makes no request.

    Returns:
        What stands between now, and what lets go of the sessions of the old loop: for its own thread.
    """
    accounts, in_flight = dict(before.accounts), dict(before.in_flight)
    made: dict[str, Source] = {}
    let_go: Callable[[], Coroutine[Any, Any, None]] = _nothing
    for spec in specs:
        if spec.fetch is not None:
            made[spec.name] = own_source(spec, loop, parts)
        elif gateway is not None:
            if let_go is _nothing:
                let_go = gateway.move(loop)
            access = gateway.account(spec)
            orders = _moved_orders(access, parts, in_flight)
            accounts[spec.name] = _account(spec, access, orders, parts)
            made[spec.name] = access.source
    for name, source in made.items():
        before.sources[name].move_to(source)
        for sent in () if name not in accounts else accounts[name].executor.lost():
            # No balance from before has it in it, and the old loop cannot say that it has ended.
            if sent.why == LEFT_BEHIND:
                parts.send(name, Ordered(fill_of(sent.request, None), Future()))
    loops = {**before.loops, **dict.fromkeys(made, loop)}
    return replace(before, accounts=accounts, in_flight=in_flight, loops=loops), let_go


async def _nothing() -> None:
    """Nothing belongs to a loop on which only callables of the trader's run."""


def own_source(spec: BrokerSpec, loop: LoopThread, parts: Parts) -> Source:
    """The balance of a broker that is read by a callable of the trader's."""
    if spec.fetch is None:
        raise ValueError(f"{spec.name} has no callable")
    return callable_source(loop, spec.fetch, parts.clock, parts.tally.account(spec.name))


def _orders_of(
    spec: BrokerSpec, access: Access, parts: Parts, in_flight: dict[str, KeyOrders]
) -> InFlightOrders:
    """The orders of this account's API key; brokers on one key share them."""
    fingerprint = access.lane.fingerprint
    if fingerprint not in in_flight:
        journal, tally = parts.state.journal, parts.tally
        orders = InFlightOrders(fingerprint, parts.clock, journal, str(spec.exchange), tally)
        orders.recall(parts.state.remembered.orders.get(fingerprint, ()))
        in_flight[fingerprint] = KeyOrders(access.loop, orders)
    return in_flight[fingerprint].orders


def _moved_orders(access: Access, parts: Parts, in_flight: dict[str, KeyOrders]) -> InFlightOrders:
    """The orders of this account's API key, with those that were under way on the loop until now."""
    fingerprint = access.lane.fingerprint
    before = in_flight[fingerprint]
    if before.loop is not access.loop:
        journal, tally = parts.state.journal, parts.tally
        orders = InFlightOrders(fingerprint, parts.clock, journal, before.orders.exchange, tally)
        orders.go_on_from(before.orders)
        in_flight[fingerprint] = KeyOrders(access.loop, orders)
    return in_flight[fingerprint].orders


def _account(spec: BrokerSpec, access: Access, in_flight: InFlightOrders, parts: Parts) -> WiredAccount:
    from brokerwatch.orders.executor import OrderExecutor

    parts.tally.account(spec.name).trades = spec.trading
    send, slot = partial(parts.send, spec.name), parts.board.slot(spec.name)
    executor = OrderExecutor(spec, access, in_flight, parts.clock, CallReporter(send))
    queries = Queries(spec, slot, access, executor, send)
    known_from_s = parts.clock.up_s() + LOST_AFTER_S

    def remembers() -> bool:
        # What was lost before has arrived after that time, or never will.
        return parts.state.journal.loaded or parts.clock.up_s() > known_from_s

    entry = OrderEntry(spec, slot, access, executor, queries, remembers, parts.gate)
    return WiredAccount(access, executor, queries, entry, spec.trading)
