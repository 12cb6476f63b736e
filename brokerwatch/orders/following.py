"""Follows orders to their end, in the background.

A market order is taken at once and filled soon, or in parts, or not at all. An order whose answer was lost
was taken, or never arrived; it is looked up here too, whether or not another order follows. Both are asked
for after exits, entries and polls had their turn, and while half of the key's budget is left. In a lockout
nothing is asked. What goes wrong says nothing about the account: polls find that out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import CouldNotAsk, NotSupported
from brokerwatch.exchanges.adapter import ExchangeAdapter
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.gateway import Access
from brokerwatch.gateway.venue import answered
from brokerwatch.log import logger
from brokerwatch.orders.in_flight import FOLLOWED_S, InFlightOrders
from brokerwatch.orders.lookup import Lookup
from brokerwatch.orders.records import Followed, Sent

_log: Final = logger(__name__)

FIRST_LOOK_S: Final = 1.0
"""How long after an order was taken it is first looked at."""
LONGEST_LOOK_S: Final = 60.0
"""The longest time between two looks; it doubles up to this."""
LATE: Final = "24 hours have passed"


@dataclass(slots=True)
class _Pace:
    """When one order is looked at next."""

    next_s: float
    wait_s: float

    def slower(self, now_s: float, not_before_s: float = float("-inf")) -> None:
        """Look again after twice the time."""
        self.wait_s = min(LONGEST_LOOK_S, 2 * self.wait_s)
        self.next_s = max(now_s + self.wait_s, not_before_s)


class OrderFollower:
    """Follows the orders of one account. Runs on the account's loop; the constructor on any thread."""

    def __init__(
        self,
        spec: BrokerSpec,
        access: Access,
        adapter: ExchangeAdapter,
        in_flight: InFlightOrders,
        lookup: Lookup,
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._access = access
        self._adapter = adapter
        self._in_flight = in_flight
        self._clock = clock
        self._lookup = lookup
        self._paces: dict[str, _Pace] = {}
        self._cannot_be_found: set[str] = set()
        """Lost orders by our ids, that the exchange has no way to look up."""
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._done: Callable[[], object] | None = None
        """Called when there is nothing left to follow; None: the account stays."""
        in_flight.watchers.append(self.wake)
        if in_flight.followed(spec.name) or in_flight.lost():
            access.loop.call(self.wake)  # those of before this start

    def wake(self) -> None:
        """There may be an order to follow."""
        if self._stopped or self._task is not None:
            return
        if not self._orders():
            self._leave_when_done()
            return
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def _orders(self) -> dict[str, Followed | Sent]:
        """What is to be looked at: by the exchange's id what it took, and by ours what was lost."""
        if self._access.lane.lease.replaced or self._is_given_away:
            return {}  # the loop that took the place of this one has them, or another node
        found: dict[str, Followed | Sent] = {
            order.order_id: order for order in self._in_flight.followed(self._spec.name)
        }
        for sent in self._in_flight.lost():
            order_id = sent.request.client_order_id
            is_late = self._clock.up_s() >= sent.lost_s + FOLLOWED_S
            if sent.broker == self._spec.name and order_id not in self._cannot_be_found and not is_late:
                found[order_id] = sent
        return found

    def stop(self) -> None:
        """Follow no more. What was not followed to its end is after the next start."""
        self._stopped = True
        with contextlib.suppress(ValueError):
            self._in_flight.watchers.remove(self.wake)
        if self._task is not None:
            self._task.cancel()

    def see_off(self, done: Callable[[], object]) -> None:
        """Follow what there is to its end, and call `done` then."""
        self._done = done
        self.wake()

    @property
    def _is_given_away(self) -> bool:
        """Whether the account leaves, and another node has its key: that one follows its orders."""
        term = self._access.lane.lease.term
        return self._done is not None and term is not None and bool(term.ended)

    def _leave_when_done(self) -> None:
        under_way = self._in_flight.under_way(self._spec.name) and not self._is_given_away
        goes_on = under_way or self._access.lane.lease.replaced
        if self._done is not None and not goes_on:
            done, self._done = self._done, None
            self.stop()
            done()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("%s: its orders are followed no more: %r", self._spec.name, error)
            return
        self.wake()  # for an order that came after the last look

    async def _run(self) -> None:
        while orders := self._orders():
            now_s = self._clock.up_s()
            self._paces = {
                order_id: self._paces.get(order_id) or _Pace(now_s + FIRST_LOOK_S, FIRST_LOOK_S)
                for order_id in orders
            }
            order_id = min(orders, key=lambda each: self._paces[each].next_s)
            wait_s = self._paces[order_id].next_s - now_s
            if wait_s > 0:
                # No longer than until another one may be due that is taken meanwhile.
                await asyncio.sleep(min(wait_s, FIRST_LOOK_S))
                continue
            await self._look(orders[order_id], self._paces[order_id])

    async def _look(self, order: Followed | Sent, pace: _Pace) -> None:
        try:
            is_over = await (self._end_of(order) if isinstance(order, Followed) else self._found(order))
        except Refrained as refrained:
            if refrained.by_claim:
                pace.next_s = self._clock.up_s() + FIRST_LOOK_S  # nothing was asked, and it may come back
                return
            until = refrained.outcome.locked_until
            pace.slower(self._clock.up_s(), float("-inf") if until is None else until.up_s)
        except CouldNotAsk as error:
            if error.fault is not None:
                self._access.lane.note(error.fault)
            pace.slower(self._clock.up_s())
        else:
            if not is_over:
                pace.slower(self._clock.up_s())

    async def _end_of(self, order: Followed) -> bool:
        """Whether an order that was taken has come to its end, or is not followed any more."""
        if self._clock.up_s() >= order.until_s:
            self._in_flight.give_up(order, LATE)
            return True
        product, connection = order.request.product, self._access.connection
        try:
            await self._lend_markets()
            async with self._access.lane.turn(last=True):
                look = self._adapter.look_at(product, order.order_id)
                found = await answered(connection, look, self._spec.fetch_deadline_s)
        except NotSupported as error:
            self._in_flight.give_up(order, str(error))
            return True
        return self._in_flight.moved(order, found)

    async def _found(self, lost: Sent) -> bool:
        """Whether it is known what became of an order whose answer was lost, or cannot be asked."""
        order_id = lost.request.client_order_id
        try:
            await self._lend_markets()
            async with self._access.lane.turn(last=True, calls=self._adapter.find_calls):
                return await self._lookup.look_again(order_id)
        except NotSupported:
            self._cannot_be_found.add(order_id)
            return True

    async def _lend_markets(self) -> None:
        if self._adapter.needs_markets:
            await self._access.venue.lend_markets(self._access.connection.instance)
