"""One account's orders, each sent once, and its other private questions.

The way of an order: `order` waits for the turn in the lane, and hands it to `orders/sending.py`. An order
that timed out is looked up there. As long as it is not found no further entry goes out: `order` calls
`Lookup.settle` first, because a second order might buy twice. Orders go before polls in the lane of the key;
from the moment at which one goes out, no balance that was read before counts as fresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import (
    CouldNotAsk,
    EarlierOrderUnknown,
    InvalidOrder,
    NotSupported,
    OrderNotSent,
    OrderRefused,
    OrderStateUnknown,
    ValidationNotSupported,
)
from brokerwatch.exchanges.adapter import Profile
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.positions import Named
from brokerwatch.exchanges.registry import adapter_for
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.catalogue import order_rules, order_traits
from brokerwatch.gateway.gateway import Access
from brokerwatch.gateway.venue import answered
from brokerwatch.health.capabilities import READ
from brokerwatch.log import logger
from brokerwatch.messages import Fault, Order, Position, Product, Side
from brokerwatch.orders.following import OrderFollower
from brokerwatch.orders.in_flight import InFlightOrders
from brokerwatch.orders.lookup import Lookup, NotLookedUp
from brokerwatch.orders.not_sent import not_sent
from brokerwatch.orders.records import Followed, Sent
from brokerwatch.orders.sending import OrderSender, Reporter
from brokerwatch.orders.succession import HandedOver, Succession
from brokerwatch.orders.ticket import FRESH, Ticket

_log: Final = logger(__name__)

T = TypeVar("T")

PREPARE_S: Final = 1.0
"""How long an order waits for what it depends on, such as the mode of the account."""
LOOK_ROUND_S: Final = 1.0
"""How long an exit waits for what became of earlier orders: it does not depend on it."""


class OrderExecutor:
    """Sends the orders of one account, once each, and says how they ended. Runs on the account's loop.

    `closed`, `profile`, `shortcomings`, `has_dry_run`, `recorded` and `unaccounted` are for any thread.
    """

    def __init__(
        self,
        spec: BrokerSpec,
        access: Access,
        in_flight: InFlightOrders,
        clock: Clock,
        reporter: Reporter,
    ) -> None:
        self._spec = spec
        self._connection = access.connection
        self._lane = access.lane
        self._venue = access.venue
        self._clock = clock
        self._reporter = reporter
        self._loop = access.loop
        self._adapter = adapter_for(access.connection)
        self._profile = replace(self._adapter.profile, order_rules=order_rules(spec))
        traits = order_traits(spec)
        self.shortcomings: Final = () if traits is None else traits.shortcomings()
        """What cannot be done with orders at the exchange."""
        self._in_flight = in_flight
        self._remark = ""
        """What was logged of the mode of the account."""
        self.closed = ""
        """Why no order goes out any more; empty: it does. Any thread."""
        self.succession: Final = Succession(spec.name)
        """The executors of this account before and after this one."""
        self._lookup = Lookup(
            spec, access.connection, self._adapter, access.lane, in_flight, clock, reporter.unanswered
        )
        self._follower = OrderFollower(spec, access, self._adapter, in_flight, self._lookup, clock)
        self._sender = OrderSender(spec, access, self._adapter, in_flight, self._lookup, clock, reporter)

    def stop(self, why: str = "the cluster is being stopped") -> None:
        """Let no order out any more, and follow none. From any thread."""
        self.closed = why
        self._loop.call(self._follower.stop)

    def hand_over(self, successor: OrderExecutor) -> None:
        """Another executor has this account from now on, and follows its orders. From any thread.

        What is under way here goes on to its end. What waits for its turn goes out there.
        """
        self.succession.successor = successor
        self._loop.call(self._follower.stop)

    def see_off(self, why: str, done: Callable[[], object]) -> None:
        """Let no order out any more, and follow the others to their end. From any thread.

        `done` is called on the account's loop when there is nothing left to follow.
        """
        self.closed = why
        self._loop.call(partial(self._follower.see_off, done))

    @property
    def profile(self) -> Profile:
        """What is the same for each account at the exchange."""
        return self._profile

    @property
    def has_dry_run(self) -> bool:
        """Whether the exchange can check an order without placing it."""
        return self._adapter.has_dry_run

    def observed(self, error: BaseException) -> Fault:
        """The fault that a call of the trader's own met."""
        fault = self._connection.observed(error)
        # On the lane's own thread: it is where all of its calls are counted.
        self._loop.call(partial(self._lane.note, fault))
        return fault

    async def positions(self, named: Named) -> tuple[Position, ...]:
        """What is open beside the coins that are held; `named` gives our symbol for an id of the exchange.

        Raises CouldNotAsk, NotAllowed.
        """
        await self._ready()
        try:
            async with self._lane.turn():
                found = await self._lookup.asked(lambda: self._adapter.positions(named))
        except Refrained as refrained:
            raise CouldNotAsk(refrained.outcome.why) from None
        self._reporter.called(READ, None)
        return found

    async def find(self, product: Product, client_order_id: str) -> Order | None:
        """An order of ours as the exchange has it; None when it answers that there is none.

        Raises CouldNotAsk; OrderStateUnknown as long as it may still arrive.
        """
        mistake = self.profile.order_rules.client_id_mistake(client_order_id)
        if mistake:
            raise InvalidOrder("client_order_id", f"{mistake}, not {client_order_id!r}")
        await self._ready()
        try:
            async with self._lane.turn(urgent=True):
                sent = self._in_flight.sent(client_order_id)
                found = await self._lookup.is_known(product, client_order_id)
        except Refrained as refrained:
            raise CouldNotAsk(refrained.outcome.why) from None
        known = self._in_flight.placed(client_order_id)
        if found is None:
            # What the exchange took is there, although its list may be a moment behind.
            return None if known is None else self._lookup.as_known(known)
        request = sent.request if sent is not None else None if known is None else known.request
        return self._lookup.as_found(product, found.side, client_order_id, request, found)

    async def sold_before(self, product: Product, client_order_id: str) -> Order | None:
        """The exit that was placed under this id before, whatever its amount; None: it may be sent.

        Raises OrderError.
        """
        await self._ready()
        try:
            async with self._lane.turn(urgent=True):
                return await self._lookup.placed_before(
                    product, Side.SELL, client_order_id, None, repeats=self._sender.may_repeat
                )
        except NotLookedUp as error:
            if not self._sender.may_repeat:
                raise OrderNotSent(str(error)) from error.__cause__
            return None  # the exchange itself places nothing under an id that it has seen
        except Refrained as refrained:
            raise not_sent(self._spec.name, refrained) from None

    def recorded(self, client_order_id: object) -> OrderRequest | None:
        """What this id was used for, as our own records have it; None: they have no such order.

        For any thread.
        """
        return self._in_flight.used_for(client_order_id) if isinstance(client_order_id, str) else None

    async def look_up(
        self, product: Product, side: Side, client_order_id: str, request: OrderRequest | None
    ) -> Order | None:
        """The order of this id, as the exchange has it, or else our own records; None: there is none.

        `request`: with its amounts; None: whatever the amount. Raises InvalidOrder, OrderRefused; and
        OrderStateUnknown where it may be there and cannot be looked up.
        """
        try:
            await self._ready()
            async with self._lane.turn(urgent=True):
                return await self._lookup.looked_up(product, side, client_order_id, request)
        except (CouldNotAsk, NotSupported, Refrained) as trouble:
            recorded = self._lookup.recorded(client_order_id, trouble)
            if recorded is not None:
                return recorded
            raise OrderStateUnknown(
                f"{self._spec.name}: whether the order {client_order_id} was placed before is not known, and "
                f"it cannot be looked up now: {trouble}. Nothing was sent now; an id of new_order_id() needs "
                "no looking up",
                client_order_id,
            ) from None

    async def look_round(self) -> None:
        """Find out what became of the orders with an unknown outcome, as far as that can be found out now."""
        if not self._in_flight.lost():
            return
        try:
            async with asyncio.timeout(LOOK_ROUND_S), self._lane.turn(urgent=True):
                await self._lookup.settle()
        except (Refrained, EarlierOrderUnknown, TimeoutError):
            return  # then they are still not known

    async def _look_once(self, mine: str) -> None:
        """The same inside a turn, but for the order `mine`."""
        try:
            async with asyncio.timeout(LOOK_ROUND_S):
                await self._lookup.settle(mine)
        except (Refrained, EarlierOrderUnknown, TimeoutError):
            return

    @property
    def unaccounted(self) -> str:
        """An order of this key whose outcome is not known, in words; empty: none. For any thread."""
        return self._in_flight.unaccounted or self.succession.unaccounted

    @property
    def is_open(self) -> bool:
        """Whether an order of this account is under way, or its outcome is not known."""
        return bool(self._in_flight.lost()) or self._in_flight.under_way(self._spec.name)

    def lost(self) -> tuple[Sent, ...]:
        """The orders with an unknown outcome, oldest first."""
        return self._in_flight.lost()

    def followed(self) -> tuple[Followed, ...]:
        """The orders that the exchange took, and that are followed to their end. For any thread."""
        return self._in_flight.followed(self._spec.name)

    async def forget(self, client_order_id: str) -> bool:
        """Look no more for this order: its outcome was found out elsewhere. False: it was not looked for."""
        sent = self._in_flight.sent(client_order_id)
        if sent is None or not sent.why:
            earlier = self.succession.earlier
            return earlier is not None and await earlier.forget(client_order_id)
        _log.warning("%s: the order %s is forgotten, as was asked for", self._spec.name, client_order_id)
        self._in_flight.end(client_order_id, None, None, "forgotten")
        return True

    async def order(
        self,
        request: OrderRequest,
        ticket: Ticket,
        *,
        validate_only: bool,
        repeated: bool,
        check: Callable[[], object],
        leaving: bool = False,
    ) -> Order:
        """Place an order, or have it checked. `check` raises when it may not go out after all.

        `leaving`: an exit, which no order with an unknown outcome holds up.
        `repeated`: it may have been placed before under this very id, so it is looked up first. (Kraken
        and OKX refuse an id only as long as its order is open, and a market order never is.)
        Raises OrderNotSent, OrderRefused, OrderStateUnknown, ValidationNotSupported.
        """
        self.succession.pending += 1
        try:
            return await self._order(
                request, ticket, validate_only=validate_only, repeated=repeated, check=check, leaving=leaving
            )
        except HandedOver:
            if (successor := self.succession.successor) is None:
                raise AssertionError("there is no successor") from None
        finally:
            self.succession.pending -= 1
        return await successor.order(
            request, ticket, validate_only=validate_only, repeated=repeated, check=check, leaving=leaving
        )

    async def _order(
        self,
        request: OrderRequest,
        ticket: Ticket,
        *,
        validate_only: bool,
        repeated: bool,
        check: Callable[[], object],
        leaving: bool,
    ) -> Order:
        if validate_only and not self.has_dry_run:
            raise ValidationNotSupported(
                f"{self._spec.exchange} has no dry run: it would place a real order. Nothing was sent; "
                "place it with validate_only=False"
            )
        try:
            await self._ready()
        except CouldNotAsk as error:
            raise OrderNotSent(f"{self._spec.name}: the markets are not known: {error}") from error
        try:
            async with self._lane.turn(urgent=True, first=leaving):
                self.succession.refuse_when_over()
                if not leaving:
                    self.succession.refuse_after(request.client_order_id)
                    await self._lookup.settle(request.client_order_id)
                elif self._in_flight.left_behind:
                    # It may have been an exit too, and have sold already. This one does not wait for long.
                    await self._look_once(request.client_order_id)
                unsure = ""
                if repeated and not validate_only and not FRESH.has(request.client_order_id):
                    try:
                        placed = await self._lookup.placed_before(
                            request.product,
                            request.side,
                            request.client_order_id,
                            request,
                            repeats=leaving and self._sender.may_repeat,
                        )
                    except NotLookedUp as error:
                        if not self._sender.may_repeat:
                            raise OrderNotSent(str(error)) from error.__cause__
                        unsure = str(error.__cause__)  # but the exchange places no second order of one id
                    else:
                        if placed is not None:
                            return placed
                        ticket.absent = True
                if not validate_only:
                    await self._prepare()
                check()
                if validate_only:
                    return await self._sender.validate(request)
                if self.closed:
                    raise OrderNotSent(f"{self._spec.name}: {self.closed}; nothing was sent")
                self._lane.refrain_when_barred()
                self.succession.refuse_when_over()
                if not ticket.go():
                    raise OrderNotSent(f"{self._spec.name}: its turn was not waited for, so it was withdrawn")
                FRESH.spend(request.client_order_id)
                return await self._placed(request, unsure, leaving=leaving)
        except Refrained as refrained:
            recorded = self._lookup.recorded(request.client_order_id, refrained) if repeated else None
            if recorded is not None:
                return recorded
            raise not_sent(self._spec.name, refrained) from None

    async def _placed(self, request: OrderRequest, unsure: str, *, leaving: bool) -> Order:
        """The order that is sent now. `unsure`: why it is not known whether its id was used before."""
        try:
            return await self._sender.place(request, leaving=leaving)
        except (OrderNotSent, OrderRefused) as error:
            if not unsure:
                raise
            # It says nothing about an order that has this id already.
            raise OrderStateUnknown(
                f"{self._spec.name}: whether the order {request.client_order_id} was placed before cannot be "
                f"looked up ({unsure}); it was sent now, and {error}",
                request.client_order_id,
            ) from None

    async def _prepare(self) -> None:
        """Ask what the order depends on. Where that is not answered it goes out all the same.

        Raises OrderNotSent where no order can be placed in the mode that the account has.
        """
        try:
            await self._lane.another(urgent=True, calls=self._adapter.prepare_calls)
            # What it meets is counted nowhere: the order itself meets it too.
            remark = await answered(self._connection, self._adapter.prepare(), PREPARE_S)
        except NotSupported as error:
            raise OrderNotSent(f"{self._spec.name}: nothing was sent: {error}") from None
        except (CouldNotAsk, Refrained):
            return
        if remark and remark != self._remark:
            _log.warning("%s: %s", self._spec.name, remark)
        self._remark = remark

    async def _ready(self) -> None:
        self._venue.clock.refresh()
        if self._adapter.needs_markets:
            await self._venue.lend_markets(self._connection.instance)
