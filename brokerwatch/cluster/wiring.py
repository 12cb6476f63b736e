"""Which part of a cluster is handed to which: functions that build parts and return them in frozen values.

Nothing is decided here. ccxt is imported only when an account is at an exchange: a cluster whose balances
come from callables does not load it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from brokerwatch.actors.account_watches import AccountWatches
from brokerwatch.actors.board import Board, Slot
from brokerwatch.actors.broker_context import BrokerContext
from brokerwatch.actors.protocol import Alarms, BrokerMessage, Ordered
from brokerwatch.actors.push_desk import PushDesk
from brokerwatch.clock import Clock
from brokerwatch.cluster.observation import CallReporter
from brokerwatch.cluster.order_entry import OrderEntry
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.cluster.queries import Queries
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.gateway.async_source import MovableSource, callable_source
from brokerwatch.gateway.lease import TermOf, no_term
from brokerwatch.gateway.loop import Loop, LoopThread
from brokerwatch.health.outcome import Source
from brokerwatch.log import logger
from brokerwatch.messages.reading import CUSTOM
from brokerwatch.orders.fills import fill_of
from brokerwatch.orders.in_flight import LEFT_BEHIND, InFlightOrders
from brokerwatch.orders.records import LOST_AFTER_S
from brokerwatch.storage.journal import former_key
from brokerwatch.storage.records import Remembered
from brokerwatch.tally import Tally

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access, Gateway
    from brokerwatch.orders.executor import OrderExecutor
    from brokerwatch.orders.gate import Gate


_log: Final = logger(__name__)


def _never(*_: object) -> None:
    """Where there is no cluster around the account."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a cluster has before its accounts are wired."""

    board: Board
    state: Persistence
    clock: Clock
    heartbeat_s: float
    alarms: Alarms
    gate: Gate
    """Where entries need a verification, if they do."""
    send: Callable[[str, BrokerMessage], bool]
    """Tells the actor of a broker something; False when it has ended."""
    started_loop: Callable[[str], LoopThread]
    """The event loop on a thread of this name, which the cluster stops; started where it is not yet."""
    tally: Tally
    """Counts what happens to each account and in each lane."""
    ask_ledger: Callable[[str, int, tuple[str, ...]], object] = _never
    """Asks for the ledger of a broker, since a moment (wall clock, µs), of some currencies. Never waits."""
    term_of: TermOf = no_term
    """The term of an API key by its fingerprint, in a pool."""
    hold: Callable[[str, str], object] = _never
    """Holds a broker out, for this reason. Never waits."""


@dataclass(frozen=True, slots=True)
class WiredAccount:
    """One account at an exchange, as the handles and the router use it."""

    access: Access
    executor: OrderExecutor
    queries: Queries
    entry: OrderEntry
    trading: bool
    """Whether its configuration lets orders go out."""
    reporter: CallReporter
    """Tells the actor how its calls ended."""


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
        parts.term_of,
    )


def wired(specs: Iterable[BrokerSpec], parts: Parts, gateway: Gateway | None) -> Wired:
    """Build what stands between each actor and its exchange. Makes no request. Raises ConfigError."""
    return extended(Wired(), specs, parts, gateway)


def extended(
    before: Wired,
    specs: Iterable[BrokerSpec],
    parts: Parts,
    gateway: Gateway | None,
    accesses: Mapping[str, Access] = MappingProxyType({}),
) -> Wired:
    """The same with these brokers too. Makes no request.

    `accesses`: the ways to their accounts, where they were made already; else this raises ConfigError.
    """
    accounts, in_flight = dict(before.accounts), dict(before.in_flight)
    contexts, loops, sources = dict(before.contexts), dict(before.loops), dict(before.sources)
    for spec in specs:
        name = spec.name
        if spec.fetch is not None:
            # A callable that blocks its loop must hold up neither the exchanges nor the heartbeats.
            loops[name] = own = parts.started_loop("brokerwatch-sources")
            sources[name] = MovableSource(own_source(spec, own, parts))
        else:
            access = accesses.get(name) or access_of(spec, gateway)
            accounts[name] = account_of(spec, access, parts, in_flight, parts.board.slot(name))
            loops[name], sources[name] = access.loop, MovableSource(access.source)
        contexts[name] = BrokerContext(
            source=sources[name],
            slot=parts.board.slot(name),
            alarms=parts.alarms,
            clock=parts.clock,
            heartbeat_s=parts.heartbeat_s,
            journal=parts.state.journal,
            tally=parts.tally.account(name),
            watches=watches_of(spec, parts),
            push=PushDesk(spec, sources[name], parts.tally.account(name)),
            claimed=sources[name].claimed,
        )
    return Wired(contexts, accounts, in_flight, sources, loops)


def watches_of(spec: BrokerSpec, parts: Parts) -> AccountWatches:
    """What is watched of a broker beside its health, with what is remembered of it."""
    journal = parts.state.journal
    stored = journal.newest(spec.name) or parts.state.remembered.healths.get(spec.name)
    return AccountWatches(
        spec,
        parts.board.slot(spec.name),
        journal,
        journal.watched(spec, stored),
        partial(parts.ask_ledger, spec.name),
        partial(parts.hold, spec.name),
    )


def without(before: Wired, names: Iterable[str]) -> Wired:
    """The same without these brokers. Their orders are kept: what an id was used for stays known."""
    gone = frozenset(names)
    return Wired(
        {name: each for name, each in before.contexts.items() if name not in gone},
        {name: each for name, each in before.accounts.items() if name not in gone},
        before.in_flight,
        {name: each for name, each in before.sources.items() if name not in gone},
        {name: each for name, each in before.loops.items() if name not in gone},
    )


def rebuilt(before: Wired, spec: BrokerSpec, parts: Parts, access: Access | None) -> Wired:
    """The same with what asks for one broker built anew, by another configuration. Makes no request.

    The actor stays, and so do the handles. `access`: the new ways to its account; None: it is read by a
    callable.
    """
    name = spec.name
    if access is None:
        loop = parts.started_loop("brokerwatch-sources")
        before.sources[name].move_to(own_source(spec, loop, parts))
        return before
    in_flight = dict(before.in_flight)
    account = account_of(spec, access, parts, in_flight, parts.board.slot(name))
    before.sources[name].move_to(access.source)
    accounts, loops = {**before.accounts, name: account}, {**before.loops, name: access.loop}
    return replace(before, accounts=accounts, in_flight=in_flight, loops=loops)


def access_of(spec: BrokerSpec, gateway: Gateway | None) -> Access:
    """The ways to the account of a broker. Raises ConfigError."""
    if gateway is None or spec.exchange == CUSTOM:
        expected = "expected exchange=, a ccxt id, or fetch=, an async callable"
        raise ConfigError((Problem("", f"brokers.{spec.name}", expected),))
    return gateway.account(spec)


def rewired(
    before: Wired, specs: Iterable[BrokerSpec], parts: Parts, gateway: Gateway | None, loop: LoopThread
) -> Wired:
    """The same with these brokers on another loop, because the one that they all share hangs.

    They are all the brokers of that loop, its lease is revoked, and the gateway was moved. The actors and the
    handles stay as they are. Makes no request.
    """
    accounts, in_flight = dict(before.accounts), dict(before.in_flight)
    made: dict[str, Source] = {}
    for spec in specs:
        if spec.fetch is not None:
            made[spec.name] = own_source(spec, loop, parts)
        else:
            access = access_of(spec, gateway)
            accounts[spec.name] = account_of(spec, access, parts, in_flight, parts.board.slot(spec.name))
            made[spec.name] = access.source
    for name, source in made.items():
        before.sources[name].move_to(source)
        for sent in () if name not in accounts else accounts[name].executor.lost():
            # No balance from before has it in it, and the old loop cannot say that it has ended.
            if sent.why == LEFT_BEHIND:
                parts.send(name, Ordered(fill_of(sent.request, None), Future()))
    loops = {**before.loops, **dict.fromkeys(made, loop)}
    return replace(before, accounts=accounts, in_flight=in_flight, loops=loops)


def own_source(spec: BrokerSpec, loop: LoopThread, parts: Parts) -> Source:
    """The balance of a broker that is read by a callable of the trader's."""
    if spec.fetch is None:
        raise ValueError(f"{spec.name} has no callable")
    return callable_source(loop, spec.fetch, parts.clock, parts.tally.account(spec.name))


def _orders_of(
    spec: BrokerSpec, access: Access, parts: Parts, in_flight: dict[str, KeyOrders]
) -> InFlightOrders:
    """The orders of this account's API key; brokers on one key share them.

    On another loop than until now they take over those that were under way there.
    """
    fingerprint = access.lane.fingerprint
    before = in_flight.get(fingerprint)
    if before is not None and before.loop is access.loop:
        return before.orders
    journal, tally = parts.state.journal, parts.tally
    in_pool = access.lane.lease.term is not None
    orders = InFlightOrders(fingerprint, parts.clock, journal, str(spec.exchange), tally, durable=in_pool)
    if before is None:
        remembered = parts.state.remembered
        orders.recall(remembered.orders.get(fingerprint, ()))
        former = former_key(remembered.healths.get(spec.name), spec)
        orders.adopt(remembered.orders.get(former, ()), spec.name)
    else:
        orders.go_on_from(before.orders)
    in_flight[fingerprint] = KeyOrders(access.loop, orders)
    return orders


def account_of(
    spec: BrokerSpec, access: Access, parts: Parts, in_flight: dict[str, KeyOrders], slot: Slot
) -> WiredAccount:
    """One account at an exchange, with the orders of its key, which are added where they are not known."""
    from brokerwatch.orders.executor import OrderExecutor

    parts.tally.account(spec.name).trades = spec.trading
    send = partial(parts.send, spec.name)
    reporter, orders = CallReporter(send), _orders_of(spec, access, parts, in_flight)
    executor = OrderExecutor(spec, access, orders, parts.clock, reporter)
    if access.lane.lease.term is not None and executor.lost():
        # Another process may have sent it a moment ago. This is in the queue of the key before the first
        # question for the balance, which would miss what the order did.
        with suppress(RuntimeError):  # a trader's own loop may have ended
            access.loop.hand_over(executor.look_round())
    queries = Queries(spec, slot, access, executor, send)
    known_from_s = parts.clock.up_s() + LOST_AFTER_S

    def remembers() -> bool:
        # What was lost before has arrived after that time, or never will.
        return parts.state.journal.loaded or parts.clock.up_s() > known_from_s

    entry = OrderEntry(spec, slot, access, executor, queries, remembers, parts.gate)
    return WiredAccount(access, executor, queries, entry, spec.trading, reporter)
