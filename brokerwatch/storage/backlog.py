"""What waits to be written: bounded, and without a wait for a disk when something is added.

Of a broker's health only the newest is kept, so a store that is away for a day costs one entry for each
broker. Transitions are a ring: when it is full the oldest is dropped and counted. What the recorder
could not write it puts back, and what came meanwhile is newer. Who waits for durability is always
answered: with False while no recorder runs.

What a restart would need (healths, holds, keys, orders) is kept here also when it is written, so that a
database that is lost while the cluster runs can be written again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from brokerwatch.messages import next_epoch
from brokerwatch.storage.records import (
    Hold,
    KeyState,
    OrderEvent,
    Remembered,
    SentOrder,
    Stored,
    Transition,
)

MAX_TRANSITIONS: Final = 10_000
"""Transitions that wait to be written."""


@dataclass(slots=True)
class Batch:
    """What is written in one transaction."""

    healths: dict[str, Stored] = field(default_factory=dict[str, Stored])
    transitions: deque[Transition] = field(default_factory=lambda: deque[Transition](maxlen=MAX_TRANSITIONS))
    order_events: deque[OrderEvent] = field(default_factory=lambda: deque[OrderEvent](maxlen=MAX_TRANSITIONS))
    holds: dict[str, Hold | None] = field(default_factory=dict[str, "Hold | None"])
    """None: released."""
    keys: dict[str, KeyState] = field(default_factory=dict[str, KeyState])
    orders: dict[tuple[str, str], SentOrder | None] = field(
        default_factory=dict[tuple[str, str], "SentOrder | None"]
    )
    """By key and client order id; None: it is known what became of it."""
    waiters: list[Future[bool]] = field(default_factory=list[Future[bool]])
    """Told True once it is durable, False when it could not be written."""

    def __bool__(self) -> bool:
        return bool(len(self) or self.waiters)

    def __len__(self) -> int:
        parts = (self.healths, self.transitions, self.order_events, self.holds, self.keys, self.orders)
        return sum(map(len, parts))


class Backlog:
    """Filled from any thread, emptied by the recorder.

    `wake` is called when it stops being empty, and with True whenever what came is not to wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batch = Batch()
        self._known = Batch()
        """The newest of what outlives a restart, written or not. A released hold stays here as None."""
        self._unwritten: dict[str, Hold | None] = {}
        """The newest hold or release of each broker that is not in the store yet, also where another node has
        the broker by now."""
        self._later: dict[str, tuple[str, str]] = {}
        """By the broker, the epoch of its newest life, and the one under which the store has to have it."""
        self._asked: list[tuple[str, Future[KeyState | None]]] = []
        """The keys whose stored state a caller waits for."""
        self._wake: Callable[[bool], object] | None = None
        self._deserted = False
        self._surrendered = False
        self.dropped = 0
        """Transitions that were lost because too many waited."""

    def call(self, wake: Callable[[bool], object]) -> None:
        """Call `wake` whenever something begins to wait; at once when something does already."""
        with self._lock:
            self._wake = wake
            self._deserted = False
            waits = bool(self._batch) or bool(self._asked)
        if waits:
            wake(True)

    def desert(self) -> None:
        """Nothing is recorded from here on, until the next `call`: what waits is answered False at once."""
        with self._lock:
            self._wake = None
            self._deserted = True
            waiters, self._batch.waiters = self._batch.waiters, []
        answer(waiters, durable=False)
        answer_asked(self.take_asked())

    def health(self, stored: Stored, *, urgent: bool = False) -> None:
        """Keep the newest of each broker."""

        if self._surrendered:
            return

        def add(batch: Batch) -> None:
            have, new = batch.healths.get(stored.broker), self._succeeding(stored)
            if have is None or have.order < new.order:
                batch.healths[stored.broker] = new

        self._add(add, urgent=urgent)

    def _succeeding(self, stored: Stored) -> Stored:
        """This health under an epoch that is later than what the store had.

        A life that began while the store could not be read does not know its predecessor. Where the wall
        clock was set back, its own epoch is the earlier one, and the store would refuse all of it.
        """
        own, later = self._later.get(stored.broker, ("", ""))
        if not later or stored.epoch < own:
            return stored
        if stored.epoch != own:
            later = next_epoch(int(stored.epoch[:16]), later, stored.epoch[17:])
            self._later[stored.broker] = stored.epoch, later
        return replace(stored, epoch=later)

    def know(self, remembered: Remembered) -> None:
        """What was read from the store is known too, where nothing newer came meanwhile."""
        with self._lock:
            known = self._known
            for broker, stored in remembered.healths.items():
                known.healths.setdefault(broker, stored)
            for broker, hold in remembered.holds.items():
                known.holds.setdefault(broker, hold)
            known.holds.update(self._unwritten)
            for fingerprint, state in remembered.keys.items():
                known.keys[fingerprint] = _later(known.keys.get(fingerprint), state)
            for orders in remembered.orders.values():
                for order in orders:
                    known.orders.setdefault((order.fingerprint, order.client_order_id), order)

    def know_late(self, remembered: Remembered) -> None:
        """As `know`, of a store that could be read only after the start. What it has is the predecessor.

        The healths that wait, and those that come, are made to succeed it. No thread is woken.
        """
        with self._lock:
            for broker, stored in remembered.healths.items():
                if stored.epoch <= self._later.get(broker, ("", ""))[1]:
                    continue
                self._later[broker] = "", stored.epoch
                for batch in (self._known, self._batch):
                    if broker in batch.healths:
                        batch.healths[broker] = self._succeeding(batch.healths[broker])
        self.know(remembered)
        self.write_missing_holds(remembered.holds)

    def write_missing_holds(self, stored: Mapping[str, Hold]) -> None:
        """Let the holds wait that are known and not stored, or only an older one. No thread is woken.

        A hold is kept in two places, and a process may have been killed between the two.
        """
        with self._lock:
            for broker, hold in self._known.holds.items():
                if hold is None or broker in self._batch.holds:
                    continue
                have = stored.get(broker)
                if have is None or have.since_us < hold.since_us:
                    self._batch.holds[broker] = self._unwritten[broker] = hold

    def forget(self, brokers: Collection[str], fingerprints: Collection[str]) -> None:
        """Another process has these accounts from now on: what is known of them here is not written again."""
        with self._lock:
            known = self._known
            for broker in brokers:
                known.healths.pop(broker, None)
                known.holds.pop(broker, None)
            for fingerprint in fingerprints:
                known.keys.pop(fingerprint, None)
            for key in [key for key in known.orders if key[0] in fingerprints]:
                del known.orders[key]

    def settled(self) -> Future[bool]:
        """Whether all that waits now has been written; the future is as for `key`."""
        done: Future[bool] = Future()
        self._add(lambda _: None, urgent=True, lasts=False, waiter=done)
        return done

    def known_holds(self) -> dict[str, Hold | None]:
        """The holds and releases that a restart would need, written or not."""
        with self._lock:
            return dict(self._known.holds)

    def known_hold(self, broker: str) -> Hold | None:
        """The hold on a broker that a restart would need, written or not; None: there is none."""
        with self._lock:
            return self._known.holds.get(broker)

    def known_health(self, broker: str) -> Stored | None:
        """The newest health of a broker, written or not."""
        with self._lock:
            return self._known.healths.get(broker)

    def known_epochs(self) -> dict[str, str]:
        """The epoch of the newest health of each broker, written or not."""
        with self._lock:
            return {broker: stored.epoch for broker, stored in self._known.healths.items()}

    def write_again(self) -> None:
        """Let all that is known wait once more, because the store has lost it. No thread is woken."""
        with self._lock:
            known = self._known
            again = Batch(
                healths=dict(known.healths),
                holds=dict(known.holds),
                keys=dict(known.keys),
                orders=dict(known.orders),
            )
        self.put_back(again)

    def surrender(self) -> None:
        """Another process keeps the memory of this cluster from here on.

        What a restart of that one must find waits once more: the holds, the keys, and the orders that are not
        accounted for. Healths, holds and the history that come later are not kept: they are the other's.
        """
        with self._lock:
            self._surrendered = True
            known = self._known
            waiters = self._batch.waiters
            self._batch = Batch(
                order_events=self._batch.order_events,
                holds={broker: hold for broker, hold in known.holds.items() if hold is not None},
                keys=dict(known.keys),
                orders=dict(known.orders),
            )
            known.healths.clear()
            known.holds.clear()
        answer(waiters, durable=False)

    def transitions(self, lines: Iterable[Transition]) -> None:
        """Append to the history."""

        if self._surrendered:
            return

        def add(batch: Batch) -> None:
            for line in lines:
                self.dropped += len(batch.transitions) == MAX_TRANSITIONS
                batch.transitions.append(line)

        self._add(add, urgent=True, lasts=False)

    def order_event(self, event: OrderEvent) -> None:
        """Append to the life of an order, soon."""

        def add(batch: Batch) -> None:
            self.dropped += len(batch.order_events) == MAX_TRANSITIONS
            batch.order_events.append(event)

        self._add(add, lasts=False)

    def hold(self, broker: str, hold: Hold | None) -> Future[bool]:
        """Remember an operator's hold, or with None its end; the future is as for `key`."""
        done: Future[bool] = Future()
        if self._surrendered:
            done.set_result(False)
            return done

        def add(batch: Batch) -> None:
            batch.holds[broker] = self._unwritten[broker] = hold

        self._add(add, urgent=True, waiter=done)
        return done

    def key(self, state: KeyState) -> Future[bool]:
        """Remember a key's state; the future is True once that is durable, False when it could not be."""
        done: Future[bool] = Future()

        def add(batch: Batch) -> None:
            batch.keys[state.fingerprint] = _later(batch.keys.get(state.fingerprint), state)

        self._add(add, urgent=True, waiter=done)
        return done

    def stored_key(self, fingerprint: str) -> Future[KeyState | None]:
        """What the store has of a key; None where it cannot be read, or has nothing of it."""
        asked: Future[KeyState | None] = Future()
        with self._lock:
            deserted, wake = self._deserted, self._wake
            if not deserted:
                self._asked.append((fingerprint, asked))
        if deserted:
            answer_asked([(fingerprint, asked)])
        elif wake is not None:
            wake(True)
        return asked

    def order(self, order: SentOrder) -> Future[bool]:
        """Remember an order that is about to be sent; the future is as for `key`."""
        done: Future[bool] = Future()

        def add(batch: Batch) -> None:
            batch.orders[order.fingerprint, order.client_order_id] = order

        self._add(add, urgent=True, waiter=done)
        return done

    def order_ended(self, fingerprint: str, client_order_id: str) -> None:
        """It is known what became of an order: forget it, soon."""

        def add(batch: Batch) -> None:
            batch.orders[fingerprint, client_order_id] = None

        self._add(add, lasts=False)
        with self._lock:
            self._known.orders.pop((fingerprint, client_order_id), None)

    def take(self) -> Batch:
        """Everything that waits; from here on it is the caller's."""
        with self._lock:
            batch, self._batch = self._batch, Batch()
            return batch

    def take_asked(self) -> list[tuple[str, Future[KeyState | None]]]:
        """The keys whose stored state is waited for; from here on the caller answers."""
        with self._lock:
            asked, self._asked = self._asked, []
            return asked

    def written(self, batch: Batch) -> None:
        """This is in the store."""
        with self._lock:
            for broker, hold in batch.holds.items():
                if broker in self._unwritten and self._unwritten[broker] is hold:
                    del self._unwritten[broker]

    def waiting_holds(self) -> dict[str, Hold | None]:
        """The holds and releases that wait."""
        with self._lock:
            return dict(self._batch.holds)

    def waiting(self) -> int:
        """How many entries wait."""
        with self._lock:
            return len(self._batch)

    def put_back(self, batch: Batch) -> None:
        """What could not be written waits again, behind nothing that is newer. No thread is woken."""
        with self._lock:
            newer = self._batch
            for broker, stored in newer.healths.items():
                have = batch.healths.get(broker)
                if have is None or have.order < stored.order:
                    batch.healths[broker] = stored
            self.dropped += max(0, len(batch.transitions) + len(newer.transitions) - MAX_TRANSITIONS)
            batch.transitions.extend(newer.transitions)
            self.dropped += max(0, len(batch.order_events) + len(newer.order_events) - MAX_TRANSITIONS)
            batch.order_events.extend(newer.order_events)
            batch.holds.update(newer.holds)
            batch.orders.update(newer.orders)
            for fingerprint, state in newer.keys.items():
                batch.keys[fingerprint] = _later(batch.keys.get(fingerprint), state)
            batch.waiters.extend(newer.waiters)
            self._batch = batch

    def _add(
        self,
        add: Callable[[Batch], None],
        *,
        urgent: bool = False,
        lasts: bool = True,
        waiter: Future[bool] | None = None,
    ) -> None:
        with self._lock:
            was_empty = not self._batch
            add(self._batch)
            if lasts:
                add(self._known)
            if waiter is not None:
                self._batch.waiters.append(waiter)
            wake = self._wake if was_empty or urgent else None
            unheard: list[Future[bool]] = []
            if self._deserted:
                unheard, self._batch.waiters = self._batch.waiters, []
        answer(unheard, durable=False)
        if wake is not None:
            wake(urgent)


def answer(waiters: Iterable[Future[bool]], *, durable: bool) -> None:
    """Answer everything that still waits."""
    for waiter in waiters:
        if waiter.set_running_or_notify_cancel():
            waiter.set_result(durable)


def answer_asked(
    asked: Iterable[tuple[str, Future[KeyState | None]]], keys: Mapping[str, KeyState] = MappingProxyType({})
) -> None:
    """Answer everybody who asked for the stored state of a key."""
    for fingerprint, waiter in asked:
        if waiter.set_running_or_notify_cancel():
            waiter.set_result(keys.get(fingerprint))


def _later(have: KeyState | None, new: KeyState) -> KeyState:
    if have is None:
        return new
    return KeyState(
        new.fingerprint,
        max(have.nonce_ceiling, new.nonce_ceiling),
        max(have.locked_until_us, new.locked_until_us),
    )
