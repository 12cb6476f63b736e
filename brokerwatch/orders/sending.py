"""One order is sent once, in the turn of its lane, and what a failure proves about it is found out.

`OrderSender.place` writes the order down and sends it, and `_cleared_up` decides what a failure proves. An
order that timed out is looked up in `_looked_up`, by the id that it was given (`orders/lookup.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Final, Protocol, TypeVar

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import (
    CouldNotAsk,
    NotSupported,
    OrderError,
    OrderNotSent,
    OrderRefused,
    OrderStateUnknown,
)
from brokerwatch.exchanges.adapter import ExchangeAdapter
from brokerwatch.exchanges.order_answers import PlacedAfterAll
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.refusals import (
    NotSent,
    OvertakenOrder,
    Refused,
    Unknown,
    definitely_not_placed,
    is_refused,
    judged,
)
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.call_thread import BUSY
from brokerwatch.gateway.gateway import Access
from brokerwatch.health.capabilities import TRADE
from brokerwatch.messages import Fault, FaultKind, Order, OrderState
from brokerwatch.orders.in_flight import CUT_OFF, InFlightOrders, another_order
from brokerwatch.orders.lookup import Lookup, accepted

_log: Final = logging.getLogger(__name__)

T = TypeVar("T")

SHOWN_S: Final = 0.5
"""How long an order waits until the reading says that the balance is overtaken."""


class Reporter(Protocol):
    """Where the orders of one account say how their calls ended.

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


class OrderSender:
    """Sends the orders of one account. Runs on the account's loop, inside a turn of its lane."""

    def __init__(
        self,
        spec: BrokerSpec,
        access: Access,
        adapter: ExchangeAdapter,
        in_flight: InFlightOrders,
        lookup: Lookup,
        clock: Clock,
        reporter: Reporter,
    ) -> None:
        self._spec = spec
        self._connection = access.connection
        self._lane = access.lane
        self._adapter = adapter
        self._refusals = adapter.profile.refusals
        self._in_flight = in_flight
        self._lookup = lookup
        self._clock = clock
        self._reporter = reporter

    async def validate(self, request: OrderRequest) -> Order:
        """Have the order checked. Raises OrderRefused, OrderNotSent, OrderStateUnknown."""
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
            if is_refused(self._connection.failure(error), self._refusals):
                raise OrderRefused(
                    f"{self._spec.name} would refuse: {fault.detail}", str(fault.kind)
                ) from None
            raise OrderNotSent(
                f"{self._spec.name}: nothing was placed: {fault.kind}: {fault.detail}"
            ) from None
        self._reporter.called(TRADE, None)
        return accepted(self._spec.name, request, "", OrderState.VALIDATED)

    async def place(self, request: OrderRequest) -> Order:
        """Place the order. Raises OrderNotSent, OrderRefused, OrderStateUnknown."""
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
                overtaken and self._lane.counts_nonces and definitely_not_placed(failure, self._refusals)
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
        return judged(self._connection.failure(error), self._refusals, sent_nothing=sent_nothing)

    def _fault(self, error: Exception) -> Fault:
        if isinstance(error, TimeoutError):
            return Fault(FaultKind.NETWORK, f"no answer within {self._spec.fetch_deadline_s:g} s")
        return self._connection.fault(error)

    def _noted(self, error: Exception) -> Fault:
        """The fault that an order met; a refusal of this one order is no fault of the exchange."""
        fault = self._fault(error)
        self._lane.note(fault)
        about_us = fault.kind in (FaultKind.CLIENT_BUG, FaultKind.BAD_RESPONSE)
        refused = is_refused(self._connection.failure(error), self._refusals)
        self._reporter.called(TRADE, None if refused and about_us else fault)
        return fault

    async def _overtake(self, *, ended: bool) -> None:
        shown = asyncio.wrap_future(self._reporter.ordered(ended=ended))
        # An actor that is just being replaced says it later; the order does not wait for it.
        await asyncio.wait({shown}, timeout=SHOWN_S)
