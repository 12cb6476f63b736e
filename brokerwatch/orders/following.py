"""Follows the orders that the exchange took to their end, in the background.

A market order is taken at once and filled soon, or in parts, or not at all. What became of it is asked after
exits, entries and polls had their turn, and while half of the key's budget is left. In a lockout nothing is
asked. What goes wrong says nothing about the account: polls find that out.
"""

from __future__ import annotations

import asyncio
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
from brokerwatch.orders.in_flight import Followed, InFlightOrders

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
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._access = access
        self._adapter = adapter
        self._in_flight = in_flight
        self._clock = clock
        self._paces: dict[str, _Pace] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        in_flight.watchers.append(self.wake)
        if in_flight.followed(spec.name):
            access.loop.call(self.wake)  # those of before this start

    def wake(self) -> None:
        """There may be an order to follow."""
        if self._stopped or self._task is not None or not self._in_flight.followed(self._spec.name):
            return
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Follow no more. What was not followed to its end is after the next start."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s: its orders are followed no more: %r", self._spec.name, error)

    async def _run(self) -> None:
        while orders := self._in_flight.followed(self._spec.name):
            now_s = self._clock.up_s()
            paces = {order.order_id: self._paces.get(order.order_id) for order in orders}
            self._paces = {
                order_id: pace or _Pace(now_s + FIRST_LOOK_S, FIRST_LOOK_S)
                for order_id, pace in paces.items()
            }
            order = min(orders, key=lambda each: self._paces[each.order_id].next_s)
            wait_s = self._paces[order.order_id].next_s - now_s
            if wait_s > 0:
                # No longer than until another one may be due that is taken meanwhile.
                await asyncio.sleep(min(wait_s, FIRST_LOOK_S))
                continue
            await self._look(order, self._paces[order.order_id])

    async def _look(self, order: Followed, pace: _Pace) -> None:
        if self._clock.up_s() >= order.until_s:
            self._in_flight.give_up(order, LATE)
            return
        product, connection = order.request.product, self._access.connection
        lane, deadline_s = self._access.lane, self._spec.fetch_deadline_s
        try:
            if self._adapter.needs_markets:
                await self._access.venue.lend_markets(connection.instance)
            async with lane.turn(last=True):
                found = await answered(connection, self._adapter.look_at(product, order.order_id), deadline_s)
        except NotSupported as error:
            self._in_flight.give_up(order, str(error))
        except Refrained as refrained:
            until = refrained.outcome.locked_until
            pace.slower(self._clock.up_s(), float("-inf") if until is None else until.up_s)
        except CouldNotAsk as error:
            if error.fault is not None:
                lane.note(error.fault)
            pace.slower(self._clock.up_s())
        else:
            if not self._in_flight.moved(order, found):
                pace.slower(self._clock.up_s())
