"""One account's orders, each sent once, and its other private questions.

The way of an order: `order` waits for the turn in the lane, `_place` writes it down and sends it, and
`_cleared_up` decides what a failure proves. An order that timed out is looked up in `_looked_up`, by the id
that it was given (`orders/lookup.py`). As long as it is not found no further entry goes out: `order` calls
`Lookup.settle` first, because a second order might buy twice. Orders go before polls in the lane of the key;
from the moment at which one goes out, no balance that was read before counts as fresh.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import Final, Protocol, TypeVar

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import (
    CouldNotAsk,
    EarlierOrderUnknown,
    InvalidOrder,
    NotSupported,
    OrderError,
    OrderNotSent,
    OrderRefused,
    OrderStateUnknown,
    ValidationNotSupported,
)
from brokerwatch.exchanges.adapter import Profile
from brokerwatch.exchanges.order_answers import PlacedAfterAll
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.positions import Named
from brokerwatch.exchanges.refusals import (
    NotSent,
    OvertakenOrder,
    Refused,
    Unknown,
    definitely_not_placed,
    is_refused,
    judged,
)
from brokerwatch.exchanges.registry import adapter_for
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.call_thread import BUSY
from brokerwatch.gateway.gateway import Access
from brokerwatch.health.capabilities import READ, TRADE
from brokerwatch.messages import Fault, FaultKind, Order, OrderState, Position, Product, Side
from brokerwatch.orders.in_flight import CUT_OFF, InFlightOrders, Sent, another_order
from brokerwatch.orders.lookup import Lookup, accepted
from brokerwatch.orders.ticket import Ticket

_log: Final = logging.getLogger(__name__)

T = TypeVar("T")

SHOWN_S: Final = 0.5
"""How long an order waits until the reading says that the balance is overtaken."""


LOOK_ROUND_S: Final = 1.0
"""How long an exit waits for what became of earlier orders: it does not depend on it."""


class Reporter(Protocol):
    """Where the executor says how its calls ended.

    The broker's actor learns of it through `cluster.observation.CallReporter`. It is a protocol because
    orders stand beside the actors and may not import them.
    """

    def called(self, capability: str, fault: Fault | None) -> object:
        """A call of this kind has ended."""
        ...

    def unanswered(self, fault: Fault) -> object:
        """A private question met this."""
        ...

    def ordered(self, *, ended: bool) -> Future[None]:
        """An order goes out, or has ended; the future is done once the reading says so."""
        ...


class OrderExecutor:
    """Sends the orders of one account, once each, and says how they ended. Runs on the account's loop.

    `closed`, `profile`, `has_dry_run` and `unaccounted` are for any thread.
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
        self._in_flight = in_flight
        self.closed = False
        """Whether no order goes out any more. Set when the cluster stops, from any thread."""
        self._lookup = Lookup(
            spec, access.connection, self._adapter, access.lane, in_flight, clock, reporter.unanswered
        )

    @property
    def profile(self) -> Profile:
        """What is the same for each account at the exchange."""
        return self._adapter.profile

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

    async def placed_before(self, product: Product, side: Side, client_order_id: str) -> Order | None:
        """The order that was placed under this id before, whatever its amount. Raises OrderError."""
        await self._ready()
        try:
            async with self._lane.turn(urgent=True):
                return await self._lookup.placed_before(product, side, client_order_id, None)
        except Refrained as refrained:
            raise OrderNotSent(f"{self._spec.name}: {refrained.outcome.why}") from None

    async def look_round(self) -> None:
        """Find out what became of the orders with an unknown outcome, as far as that can be found out now."""
        if not self._in_flight.lost():
            return
        try:
            async with asyncio.timeout(LOOK_ROUND_S), self._lane.turn(urgent=True):
                await self._lookup.settle()
        except (Refrained, EarlierOrderUnknown, TimeoutError):
            return  # then they are still not known

    @property
    def unaccounted(self) -> str:
        """An order of this key whose outcome is not known, in words; empty: none. For any thread."""
        return self._in_flight.unaccounted

    def lost(self) -> tuple[Sent, ...]:
        """The orders with an unknown outcome, oldest first."""
        return self._in_flight.lost()

    async def forget(self, client_order_id: str) -> bool:
        """Look no more for this order: its outcome was found out elsewhere. False: it was not looked for."""
        sent = self._in_flight.sent(client_order_id)
        if sent is None or not sent.why:
            return False
        _log.warning("%s: the order %s is forgotten, as was asked for", self._spec.name, client_order_id)
        self._in_flight.end(client_order_id, None)
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
                if not leaving:
                    await self._lookup.settle(request.client_order_id)
                if repeated and not validate_only:
                    placed = await self._lookup.placed_before(
                        request.product, request.side, request.client_order_id, request
                    )
                    if placed is not None:
                        return placed
                check()
                if validate_only:
                    return await self._validate(request)
                if self.closed:
                    raise OrderNotSent(f"{self._spec.name}: the cluster is being stopped; nothing was sent")
                if not ticket.go():
                    raise OrderNotSent(f"{self._spec.name}: its turn was not waited for, so it was withdrawn")
                return await self._place(request)
        except Refrained as refrained:
            raise OrderNotSent(f"{self._spec.name}: {refrained.outcome.why}") from None

    async def _ready(self) -> None:
        if self._adapter.needs_markets:
            await self._venue.lend_markets(self._connection.instance)

    async def _validate(self, request: OrderRequest) -> Order:
        try:
            await self._attempt(request, self._adapter.validate)
        except (Refrained, OrderError):
            raise
        except PlacedAfterAll as error:
            raise OrderStateUnknown(
                f"{self._spec.name}: only a dry run was asked for, and {error}: look at the account, and ask "
                f"find_order({request.product.symbol!r}, {request.client_order_id!r})",
                request.client_order_id,
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, a dry run places nothing
            fault = self._noted(error)
            if is_refused(self._connection.failure(error), self.profile.refusals):
                raise OrderRefused(
                    f"{self._spec.name} would refuse: {fault.detail}", str(fault.kind)
                ) from None
            raise OrderNotSent(
                f"{self._spec.name}: nothing was placed: {fault.kind}: {fault.detail}"
            ) from None
        self._reporter.called(TRADE, None)
        return accepted(self._spec.name, request, "", OrderState.VALIDATED)

    async def _place(self, request: OrderRequest) -> Order:
        self._lane.ordered_s = float("inf")
        name, out = request.client_order_id, False
        try:
            # Both before it goes out: on the board as "overtaken", and where a restart finds it.
            await asyncio.gather(self._overtake(ended=False), self._in_flight.send(request))
            out = True
            order = await self._sent(request)
        except asyncio.CancelledError:
            if out:
                self._in_flight.lose(name, CUT_OFF)
            else:
                self._in_flight.end(name, None)
            raise
        finally:
            self._lane.ordered_s = self._clock.up_s()
            await self._overtake(ended=True)
        self._reporter.called(TRADE, None)
        return order

    async def _sent(self, request: OrderRequest) -> Order:
        try:
            order_id = await self._attempt(request, self._adapter.place)
        except (Refrained, OrderError):
            self._in_flight.end(request.client_order_id, None)
            raise  # it was never sent
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the order may have been placed
            return await self._cleared_up(request, error)
        self._in_flight.end(request.client_order_id, order_id)
        return accepted(self._spec.name, request, order_id)

    async def _attempt(self, request: OrderRequest, send: Callable[[OrderRequest], Awaitable[T]]) -> T:
        """Send once; a second time only where the exchange itself said that our number was overtaken."""
        try:
            async with asyncio.timeout(self._spec.fetch_deadline_s):
                return await send(request)
        except Exception as error:
            if isinstance(error, TimeoutError | Refrained | OrderError):
                raise
            failure = self._connection.failure(error)
            overtaken = self._connection.fault(error).kind is FaultKind.NONCE_CLOCK
            if not (
                overtaken
                and self._lane.counts_nonces
                and definitely_not_placed(failure, self.profile.refusals)
            ):
                raise
            if not await self._lookup.surely_absent(request):
                raise OvertakenOrder(str(error)) from None
        await self._lane.another(urgent=True)
        async with asyncio.timeout(self._spec.fetch_deadline_s):
            return await send(request)

    async def _cleared_up(self, request: OrderRequest, error: Exception) -> Order:
        """The order whose answer was none, when it was placed; else the error that says what is known."""
        name, order_id, fault = self._spec.name, request.client_order_id, self._fault(error)
        judgement = self._judged(error)
        if isinstance(judgement, Unknown):
            return await self._looked_up(request, self._noted(error))
        self._in_flight.end(order_id, None)
        # In each case without ccxt's own error: its text may hold what the server repeated of the secrets.
        if isinstance(judgement, Refused):
            self._noted(error)
            raise OrderRefused(f"{name} refused: {fault.detail}", str(fault.kind)) from None
        if judgement.by_us:
            # It is no fault of the exchange, so it is not noted.
            why = BUSY if isinstance(error, TimeoutError) else fault.detail
            raise OrderNotSent(f"{name}: nothing was sent: {why}") from None
        self._noted(error)
        raise OrderNotSent(f"{name}: nothing was sent: {fault.kind}: {fault.detail}") from None

    async def _looked_up(self, request: OrderRequest, fault: Fault) -> Order:
        """Look up an order whose answer was lost. Raises OrderStateUnknown when it is not found."""
        name, order_id = self._spec.name, request.client_order_id
        about = f"{fault.kind}: {fault.detail}"
        self._in_flight.lose(order_id, about)
        try:
            found = await self._lookup.found(request.product, order_id)
        except (CouldNotAsk, NotSupported, Refrained) as trouble:
            looked = f"looking it up failed too: {trouble}"
        else:
            other = "" if found is None else another_order(found, request.product, request.side, request)
            if found is not None and not other:
                _log.warning(
                    "%s: the answer to an order was lost (%s); it was placed: %s", name, about, found.order_id
                )
                self._in_flight.end(order_id, found.order_id, found)
                return self._lookup.taken(
                    self._lookup.as_found(request.product, request.side, order_id, request, found)
                )
            looked = f"its id is that of {other}" if other else "the exchange does not list it yet"
        raise OrderStateUnknown(
            f"{name}: an order was sent and it is not known whether it was taken ({about}; {looked}). Do not "
            f"send it again; ask find_order({request.product.symbol!r}, {order_id!r})",
            order_id,
        ) from None

    def _judged(self, error: Exception) -> Refused | NotSent | Unknown:
        sent_nothing = not isinstance(error, TimeoutError) and self._connection.sent_nothing
        return judged(self._connection.failure(error), self.profile.refusals, sent_nothing=sent_nothing)

    def _fault(self, error: Exception) -> Fault:
        if isinstance(error, TimeoutError):
            return Fault(FaultKind.NETWORK, f"no answer within {self._spec.fetch_deadline_s:g} s")
        return self._connection.fault(error)

    def _noted(self, error: Exception) -> Fault:
        """The fault that an order met; a refusal of this one order is no fault of the exchange."""
        fault = self._fault(error)
        self._lane.note(fault)
        about_us = fault.kind in (FaultKind.CLIENT_BUG, FaultKind.BAD_RESPONSE)
        refused = is_refused(self._connection.failure(error), self.profile.refusals)
        self._reporter.called(TRADE, None if refused and about_us else fault)
        return fault

    async def _overtake(self, *, ended: bool) -> None:
        shown = asyncio.wrap_future(self._reporter.ordered(ended=ended))
        # An actor that is just being replaced says it later; the order does not wait for it.
        await asyncio.wait({shown}, timeout=SHOWN_S)
