"""One order is sent once, in the turn of its lane, and what a failure proves about it is found out.

`OrderSender.place` writes the order down and sends it, and `_cleared_up` decides what a failure proves. An
order that timed out is looked up in `_looked_up`, by the id that it was given (`orders/lookup.py`). Where the
exchange takes a deadline the order has one, so that it is soon certain what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import (
    ClaimLost,
    CouldNotAsk,
    NotSupported,
    OrderError,
    OrderNotSent,
    OrderRefused,
    OrderStateUnknown,
)
from brokerwatch.exchanges.adapter import ExchangeAdapter
from brokerwatch.exchanges.order_answers import FoundOrder, PlacedAfterAll
from brokerwatch.exchanges.order_deadline import ENTRY_S, EXIT_S, OrderDeadline
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.refusals import (
    NotSent,
    OvertakenOrder,
    Refused,
    Unknown,
    definitely_not_placed,
    is_refused,
    judged,
    trusted_answer,
)
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.call_thread import BUSY
from brokerwatch.gateway.gateway import Access
from brokerwatch.gateway.lease import ClaimOver, Revoked
from brokerwatch.health.capabilities import TRADE
from brokerwatch.health.stated import Fill
from brokerwatch.log import logger
from brokerwatch.messages import Fault, FaultKind, Order, OrderState
from brokerwatch.orders.comparison import another_order
from brokerwatch.orders.fills import fill_of
from brokerwatch.orders.in_flight import CUT_OFF, InFlightOrders
from brokerwatch.orders.lookup import Lookup, accepted
from brokerwatch.orders.records import Sent

_log: Final = logger(__name__)

T = TypeVar("T")

SHOWN_S: Final = 0.5
"""How long an order waits until the reading says that the balance is overtaken."""


class Reporter(Protocol):
    """Where the orders of one account say how their calls ended.

    The broker's actor learns of it through `cluster.observation.CallReporter`. It is a protocol because
    orders stand beside the actors and may not import them.
    """

    def called(self, capability: str, fault: Fault | None, symbol: str = "") -> object:
        """A call of this kind has ended; an order in the market of this symbol."""
        ...

    def unanswered(self, fault: Fault) -> object:
        """A private question met this."""
        ...

    def ordered(self, fill: Fill | None = None) -> Future[None]:
        """An order goes out, or with a `fill` has ended; the future is done once the reading says so."""
        ...


@dataclass(frozen=True, slots=True)
class _Sending:
    """One order that is being sent."""

    request: OrderRequest
    leaving: bool
    """Whether it is an exit."""
    before: Sent | None
    """An earlier sending with this id of which it is unknown what became; None: it is the first."""


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
        self._exchange_clock = access.venue.clock

    async def validate(self, request: OrderRequest) -> Order:
        """Have the order checked. Raises OrderRefused, OrderNotSent, OrderStateUnknown."""
        try:
            await self._attempt(request, self._adapter.validate)
        except (Refrained, OrderError):
            raise
        except ClaimOver as error:
            raise ClaimLost(f"{self._spec.name}: {error}; nothing was sent") from None
        except PlacedAfterAll as error:
            raise OrderStateUnknown(
                f"{self._spec.name}: only a dry run was asked for, and {error}: look at the account, and ask "
                f"find_order({request.product.symbol!r}, {request.client_order_id!r})",
                request.client_order_id,
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, a dry run places nothing
            fault = await self._noted(request, error)
            if is_refused(self._connection.failure(error), self._refusals):
                raise OrderRefused(
                    f"{self._spec.name} would refuse: {fault.detail}", str(fault.kind)
                ) from None
            raise OrderNotSent(
                f"{self._spec.name}: nothing was placed: {fault.kind}: {fault.detail}"
            ) from None
        self._reporter.called(TRADE, None, request.product.symbol)
        return accepted(self._spec.name, request, "", OrderState.VALIDATED)

    @property
    def may_repeat(self) -> bool:
        """Whether an exit of which it is unknown what became may be sent again with its own id."""
        return self._adapter.ids_are_final and self._spec.repeat_exits

    async def place(self, request: OrderRequest, *, leaving: bool) -> Order:
        """Place the order. `leaving`: it is an exit. Raises OrderNotSent, OrderRefused, OrderStateUnknown."""
        self._lane.ordered_s = float("inf")
        name, out = request.client_order_id, False
        sending = _Sending(request, leaving, self._in_flight.sent(name))
        try:
            # All before it goes out: on the board as "overtaken", where a restart finds it, and the clock by
            # which it has a deadline.
            await asyncio.gather(
                self._overtake(),
                self._in_flight.send(request, self._spec.name),
                self._exchange_clock.ready(),
            )
            out = True
            wanted_s = EXIT_S if leaving else max(ENTRY_S, self._spec.fetch_deadline_s)
            order = await self._sent(sending, wanted_s)
        except asyncio.CancelledError:
            if out:
                self._in_flight.lose(name, CUT_OFF)
            else:
                self._not_sent(sending)
            raise
        except OrderNotSent as error:
            if not out:
                self._not_sent(sending, why=str(error))
            raise
        finally:
            self._lane.ordered_s = self._clock.up_s()
            await self._overtake(fill_of(request, self._in_flight.placed(name)))
        self._reporter.called(TRADE, None, request.product.symbol)
        return order

    async def _sent(self, sending: _Sending, wanted_s: float | None) -> Order:
        """Send it, with a deadline that leaves `wanted_s` seconds where that can be; None: without one."""
        request, given = sending.request, list[OrderDeadline]()

        def send(_: OrderRequest) -> Awaitable[str]:
            # Here and not before: the deadline counts from the moment at which it goes out.
            deadline = None if wanted_s is None else self._exchange_clock.deadline(wanted_s)
            given[:] = [] if deadline is None else [deadline]
            certain_s = float("inf") if deadline is None else deadline.certain_s
            self._in_flight.bound(request.client_order_id, certain_s)
            return self._adapter.place(request, deadline)

        try:
            order_id = await self._attempt(request, send)
        except (Refrained, OrderError):
            self._not_sent(sending)
            raise
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the order may have been placed
            if given and (words := self._refuses_deadline(error)):
                return await self._without_deadline(sending, words)
            return await self._cleared_up(sending, error)
        self._in_flight.end(request.client_order_id, order_id)
        return accepted(self._spec.name, request, order_id)

    def _not_sent(self, sending: _Sending, outcome: str = "not_sent", why: str = "") -> None:
        """This sending never went out, or was refused. An earlier one is as unknown as before."""
        if sending.before is None:
            self._in_flight.end(sending.request.client_order_id, None, None, outcome, why)
        else:
            self._in_flight.put_back(sending.before)

    def _refuses_deadline(self, error: Exception) -> str:
        """`passed` or `unusable`, where the exchange refuses the order for its deadline alone; else empty."""
        rule = self._adapter.profile.order_deadline
        if rule is None or isinstance(error, TimeoutError):
            return ""
        answer = trusted_answer(self._connection.failure(error))
        return "passed" if rule.passed(answer) else "unusable" if rule.unusable(answer) else ""

    async def _without_deadline(self, sending: _Sending, words: str) -> Order:
        """The exchange took no order: its deadline had `passed`, or is `unusable` there.

        An exit is sent once more without one, and so is an order whose deadline could not be used.
        """
        request, name = sending.request, self._spec.name
        if words == "passed" and not sending.leaving:
            self._in_flight.end(request.client_order_id, None, None, "refused", "later than its deadline")
            raise OrderRefused(
                f"{name} refused: the order came later than the deadline that it had"
            ) from None
        _log.warning(
            "%s: the deadline of an order is %s at the exchange; it is sent without one", name, words
        )
        # A proxy may have sent it twice, and of the two the second was refused.
        with contextlib.suppress(CouldNotAsk, NotSupported, Refrained):
            found = await self._lookup.found(request.product, request.client_order_id)
            if found is not None and not another_order(found, request.product, request.side, request):
                return self._was_placed(request, found)
        try:
            await self._lane.another(urgent=True)
            await self._in_flight.unbound(request.client_order_id)
        except (Refrained, OrderNotSent):
            self._not_sent(sending)
            raise
        return await self._sent(sending, None)

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
        await self._in_flight.unbound(request.client_order_id)
        async with asyncio.timeout(self._spec.fetch_deadline_s):
            return await send(request)

    async def _cleared_up(self, sending: _Sending, error: Exception) -> Order:
        """The order whose answer was none, when it was placed; else the error that says what is known."""
        judgement = self._judged(error)
        name, fault = self._spec.name, await self._fault(error)
        if isinstance(judgement, Unknown):
            return await self._looked_up(sending, await self._noted(sending.request, error))
        outcome = "refused" if isinstance(judgement, Refused) else "not_sent"
        self._not_sent(sending, outcome, f"{fault.kind}: {fault.detail}")
        # In each case without ccxt's own error: its text may hold what the server repeated of the secrets.
        if sending.before is not None:
            # It says nothing about the first sending, which may still arrive.
            await self._noted(sending.request, error)
            raise self._unknown(sending.request, sending.before.why, f"sent again: {fault.detail}") from None
        if isinstance(judgement, Refused):
            await self._noted(sending.request, error)
            raise OrderRefused(f"{name} refused: {fault.detail}", str(fault.kind)) from None
        if judgement.by_us:
            # It is no fault of the exchange, so it is not noted.
            if isinstance(error, ClaimOver):
                raise ClaimLost(f"{name}: {error}; nothing was sent") from None
            why = BUSY if isinstance(error, TimeoutError) else fault.detail
            raise OrderNotSent(f"{name}: nothing was sent: {why}") from None
        await self._noted(sending.request, error)
        raise OrderNotSent(f"{name}: nothing was sent: {fault.kind}: {fault.detail}") from None

    async def _looked_up(self, sending: _Sending, fault: Fault) -> Order:
        """Look up an order whose answer was lost. Raises OrderStateUnknown when it is not found."""
        request, order_id = sending.request, sending.request.client_order_id
        about = f"{fault.kind}: {fault.detail}"
        self._in_flight.lose(order_id, about)
        try:
            found = await self._lookup.found(request.product, order_id)
        except (CouldNotAsk, NotSupported, Refrained) as trouble:
            raise self._unknown(request, about, f"looking it up failed too: {trouble}") from None
        other = "" if found is None else another_order(found, request.product, request.side, request)
        if other:
            raise self._unknown(request, about, f"its id is that of {other}") from None
        if found is not None:
            _log.warning(
                "%s: the answer to an order was lost (%s); it was placed: %s",
                self._spec.name,
                about,
                found.order_id,
            )
            return self._was_placed(request, found)
        if sending.leaving and sending.before is None and self.may_repeat:
            return await self._repeated(sending, about)
        raise self._unknown(request, about, "the exchange does not list it yet") from None

    async def _repeated(self, sending: _Sending, about: str) -> Order:
        """Send a lost exit again, the same body with the same id, of which the exchange places one order."""
        request = sending.request
        _log.warning(
            "%s: the answer to an exit was lost (%s) and it is not listed: it is sent again with its id, %s",
            self._spec.name,
            about,
            request.client_order_id,
        )
        lost = self._in_flight.sent(request.client_order_id)
        try:
            await self._lane.another(urgent=True)
            await self._in_flight.send(request, self._spec.name)
            return await self._sent(_Sending(request, leaving=True, before=lost), EXIT_S)
        except (Refrained, OrderNotSent) as trouble:
            # It says nothing about the first sending, which may have arrived.
            if lost is not None:
                self._in_flight.put_back(lost)
            raise self._unknown(request, about, f"it was not sent again: {trouble}") from None

    def _was_placed(self, request: OrderRequest, found: FoundOrder) -> Order:
        order_id = request.client_order_id
        self._in_flight.end(order_id, found.order_id, found)
        return self._lookup.taken(
            self._lookup.as_found(request.product, request.side, order_id, request, found)
        )

    def _unknown(self, request: OrderRequest, about: str, looked: str) -> OrderStateUnknown:
        order_id = request.client_order_id
        return OrderStateUnknown(
            f"{self._spec.name}: an order was sent and it is not known whether it was taken ({about}; "
            f"{looked}). Do not send it again; ask find_order({request.product.symbol!r}, {order_id!r})",
            order_id,
        )

    def _judged(self, error: Exception) -> Refused | NotSent | Unknown:
        if isinstance(error, Revoked) and self._connection.changed_something:
            return Unknown()  # a later request of the same call was refused by us
        sent_nothing = not isinstance(error, TimeoutError) and self._connection.sent_nothing
        return judged(self._connection.failure(error), self._refusals, sent_nothing=sent_nothing)

    async def _fault(self, error: Exception) -> Fault:
        if isinstance(error, TimeoutError):
            return Fault(FaultKind.NETWORK, f"no answer within {self._spec.fetch_deadline_s:g} s")
        return await self._connection.explained(error, of_order=True)

    async def _noted(self, request: OrderRequest, error: Exception) -> Fault:
        """The fault that an order met; a refusal of this one order is no fault of the exchange."""
        fault = await self._fault(error)
        self._lane.note(fault)
        about_us = fault.kind in (FaultKind.CLIENT_BUG, FaultKind.BAD_RESPONSE)
        refused = is_refused(self._connection.failure(error), self._refusals)
        about_us = about_us and not fault.closes_market_s
        self._reporter.called(TRADE, None if refused and about_us else fault, request.product.symbol)
        return fault

    async def _overtake(self, fill: Fill | None = None) -> None:
        shown = asyncio.wrap_future(self._reporter.ordered(fill))
        # An actor that is just being replaced says it later; the order does not wait for it.
        await asyncio.wait({shown}, timeout=SHOWN_S)
