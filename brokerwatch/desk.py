"""One account's other calls: what it has open, and its orders. Everything here runs on the account's loop.

An order is sent once. When its answer does not come, nobody knows whether it was taken: it is looked
up by the id that we gave it, and as long as it is not found no further order goes out, because a
second one might buy twice. Orders go before polls in the lane of the key; from the moment at which one
goes out, no balance that was read before counts as fresh.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from brokerwatch.capabilities import READ, TRADE
from brokerwatch.clock import Clock
from brokerwatch.config import BrokerSpec
from brokerwatch.connection import Connection
from brokerwatch.dialects import dialect
from brokerwatch.errors import (
    CouldNotAsk,
    InvalidOrder,
    NotSupported,
    OrderError,
    OrderNotSent,
    OrderRefused,
    OrderStateUnknown,
    ValidationNotSupported,
)
from brokerwatch.lane import Lane
from brokerwatch.loop import Loop
from brokerwatch.messages import Fault, FaultKind, Order, OrderState, Position, Product
from brokerwatch.orders import OrderRequest
from brokerwatch.positions import Named
from brokerwatch.refusals import NotTaken, definitely_not_placed, never_sent
from brokerwatch.source import Refrained
from brokerwatch.venue import Venue, answered

_log: Final = logging.getLogger(__name__)

T = TypeVar("T")

LOST_AFTER_S: Final = 60.0
"""An order that the exchange does not know so long after it was sent never arrived."""
KEPT_ORDERS: Final = 10_000
"""Of so many placed orders it is known what their ids were used for."""
SHOWN_S: Final = 0.5
"""How long an order waits until the reading says that the balance is overtaken."""


class Teller(Protocol):
    """Who is told how calls ended: the broker's actor, by way of the handle."""

    def called(self, capability: str, fault: Fault | None) -> object:
        """A call of this kind has ended."""
        ...

    def ordered(self, *, ended: bool) -> Future[None]:
        """An order goes out, or has ended; the future is done once the reading says so."""
        ...


@dataclass(frozen=True, slots=True)
class _Sent:
    """An order of which nobody knows what became."""

    request: OrderRequest
    at_s: float
    why: str


class OvertakenOrder(Exception):
    """The exchange refused an order's number, and nobody can say that it has not taken the order."""


class Desk:
    """See the module."""

    def __init__(
        self,
        spec: BrokerSpec,
        connection: Connection,
        lane: Lane,
        venue: Venue,
        clock: Clock,
        teller: Teller,
        loop: Loop,
    ) -> None:
        self._spec = spec
        self._connection = connection
        self._lane = lane
        self._venue = venue
        self._clock = clock
        self._teller = teller
        self._loop = loop
        self._speaks = dialect(connection)
        self._unknown: dict[str, _Sent] = lane.orders.setdefault("unknown", {})
        self._placed: dict[str, OrderRequest] = lane.orders.setdefault("placed", {})
        """The newest orders by their ids: what an id was used for. Brokers of one key share both."""

    @property
    def family(self) -> str:
        """Whose rules for ids and amounts apply; empty: those of no exchange that we know."""
        return self._connection.family

    @property
    def has_dry_run(self) -> bool:
        """Whether the exchange can check an order without placing it."""
        return self._speaks.has_dry_run

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
                found = await self._asked(lambda: self._speaks.positions(named))
        except Refrained as refrained:
            raise CouldNotAsk(refrained.outcome.why) from None
        self._teller.called(READ, None)
        return found

    async def find(self, product: Product, client_order_id: str) -> str | None:
        """The exchange's id of an order of ours; None when it answers that there is none."""
        await self._ready()
        try:
            async with self._lane.turn(urgent=True):
                return await self._found(product, client_order_id)
        except Refrained as refrained:
            raise CouldNotAsk(refrained.outcome.why) from None

    async def order(
        self,
        request: OrderRequest,
        *,
        validate_only: bool,
        repeated: bool,
        check: Callable[[], object],
        leaving: bool = False,
    ) -> Order:
        """Place an order, or have it checked. `check` raises when it may not go out after all.

        `leaving`: an exit, which no earlier order of which nobody knows holds up.
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
            async with self._lane.turn(urgent=True):
                placed = None if leaving else await self._settle(request)
                if placed is None and repeated and not validate_only:
                    placed = await self._placed_before(request)
                if placed is not None:
                    return self._order(request, placed, OrderState.ACCEPTED)
                check()
                if validate_only:
                    return await self._validate(request)
                return await self._place(request)
        except Refrained as refrained:
            raise OrderNotSent(f"{self._spec.name}: {refrained.outcome.why}") from None

    async def _ready(self) -> None:
        if self._speaks.needs_markets:
            await self._venue.lend_markets(self._connection.instance)

    async def _validate(self, request: OrderRequest) -> Order:
        try:
            await self._attempt(request, self._speaks.validate)
        except (Refrained, OrderError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, a dry run places nothing
            fault = self._noted(error)
            if self._said_no(error):
                raise OrderRefused(
                    f"{self._spec.name} would refuse: {fault.detail}", str(fault.kind)
                ) from None
            raise OrderNotSent(
                f"{self._spec.name}: nothing was placed: {fault.kind}: {fault.detail}"
            ) from None
        self._teller.called(TRADE, None)
        return self._order(request, "", OrderState.VALIDATED)

    async def _place(self, request: OrderRequest) -> Order:
        self._lane.ordered_s = float("inf")
        await self._overtake(ended=False)
        try:
            order_id = await self._attempt(request, self._speaks.place)
        except asyncio.CancelledError:
            self._remember(request, "it was under way when this program stopped")
            raise
        except (Refrained, OrderError):
            raise  # it was never sent
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the order may have been placed
            order_id = await self._cleared_up(request, error)
        finally:
            self._lane.ordered_s = self._clock.up_s()
            await self._overtake(ended=True)
        self._teller.called(TRADE, None)
        self._placed[request.client_order_id] = request
        if len(self._placed) > KEPT_ORDERS:
            del self._placed[next(iter(self._placed))]
        return self._order(request, order_id, OrderState.ACCEPTED)

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
            if not (overtaken and self._lane.counts_nonces and definitely_not_placed(failure)):
                raise
            if not await self._surely_absent(request):
                raise OvertakenOrder(str(error)) from None
        await self._lane.another(urgent=True)
        async with asyncio.timeout(self._spec.fetch_deadline_s):
            return await send(request)

    async def _surely_absent(self, request: OrderRequest) -> bool:
        """Whether the exchange answers that it has no such order: a proxy may have sent it twice, and of the
        two the second was refused."""
        try:
            return await self._found(request.product, request.client_order_id) is None
        except (CouldNotAsk, NotSupported):
            return False

    async def _cleared_up(self, request: OrderRequest, error: Exception) -> str:
        """What became of an order whose answer was none: its id, or the error that says what is known."""
        fault = self._noted(error)
        name, about = self._spec.name, f"{fault.kind}: {fault.detail}"
        if self._said_no(error):
            # Without ccxt's own error behind it: its text may hold what the server repeated of our secrets.
            raise OrderRefused(f"{name} refused: {fault.detail}", str(fault.kind)) from None
        if never_sent(self._connection.failure(error)):
            raise OrderNotSent(f"{name}: nothing was sent: {about}") from None
        self._remember(request, about)
        try:
            found = await self._found(request.product, request.client_order_id)
        except (CouldNotAsk, NotSupported, Refrained) as trouble:
            looked = f"looking it up failed too: {trouble}"
        else:
            if found is not None:
                self._unknown.pop(request.client_order_id, None)
                _log.warning(
                    "%s: the answer to an order was lost (%s); it was placed: %s", name, about, found
                )
                return found
            looked = "the exchange does not list it yet"
        raise OrderStateUnknown(
            f"{name}: an order was sent and nobody knows whether it was taken ({about}; {looked}). Do not "
            f"send it again; ask find_order({request.product.symbol!r}, {request.client_order_id!r})",
            request.client_order_id,
        ) from None

    async def _placed_before(self, request: OrderRequest) -> str | None:
        before = self._placed.get(request.client_order_id, request)
        if (before.product.symbol, before.side) != (request.product.symbol, request.side):
            raise InvalidOrder(
                "client_order_id",
                f"{request.client_order_id} was used for another one: {before.side} {before.product.symbol}",
            )
        try:
            return await self._found(request.product, request.client_order_id)
        except (CouldNotAsk, NotSupported) as trouble:
            raise OrderNotSent(
                f"{self._spec.name}: whether the order {request.client_order_id} was placed before cannot be "
                f"looked up, so it was not sent: {trouble}"
            ) from trouble

    async def _settle(self, request: OrderRequest) -> str | None:
        """Before anything else goes out: what became of the orders of which nobody knew?

        The id that the exchange gave to this very request, when it is one of them and was placed.
        """
        placed: str | None = None
        for sent in tuple(self._unknown.values()):
            earlier, waited_s = sent.request, self._clock.up_s() - sent.at_s
            about = f"an earlier order, {earlier.client_order_id}, is not accounted for ({sent.why})"
            try:
                found = await self._found(earlier.product, earlier.client_order_id)
            except (CouldNotAsk, NotSupported, Refrained) as trouble:
                raise OrderStateUnknown(
                    f"{self._spec.name}: {about}, and looking it up failed: {trouble}. Nothing was sent",
                    earlier.client_order_id,
                ) from trouble
            if found is None and waited_s < LOST_AFTER_S:
                raise OrderStateUnknown(
                    f"{self._spec.name}: {about}; the exchange does not list it yet, and it may still come "
                    f"for {LOST_AFTER_S - waited_s:.0f} s. Nothing was sent",
                    earlier.client_order_id,
                )
            del self._unknown[earlier.client_order_id]
            outcome = "never arrived" if found is None else f"was placed: {found}"
            _log.warning("%s: the order %s %s", self._spec.name, earlier.client_order_id, outcome)
            if earlier.client_order_id == request.client_order_id:
                placed = found
        return placed

    async def _found(self, product: Product, client_order_id: str) -> str | None:
        await self._lane.another(urgent=True)
        return await self._asked(lambda: self._speaks.find(product, client_order_id))

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A private question, its trouble noted. Raises CouldNotAsk, NotAllowed, NotSupported."""
        try:
            return await answered(self._connection, ask(), self._spec.fetch_deadline_s)
        except CouldNotAsk as error:
            self._lane.note(error.fault)
            self._teller.called(READ, error.fault)
            raise

    def _noted(self, error: Exception) -> Fault:
        """The fault that an order met; a refusal of this one order is no fault of the exchange."""
        if isinstance(error, TimeoutError):
            fault = Fault(FaultKind.NETWORK, f"no answer within {self._spec.fetch_deadline_s:g} s")
        else:
            fault = self._connection.fault(error)
        self._lane.note(fault)
        about_us = fault.kind in (FaultKind.CLIENT_BUG, FaultKind.BAD_RESPONSE)
        self._teller.called(TRADE, None if self._said_no(error) and about_us else fault)
        return fault

    def _said_no(self, error: Exception) -> bool:
        if isinstance(error, TimeoutError | OvertakenOrder):
            return False
        return isinstance(error, NotTaken) or definitely_not_placed(self._connection.failure(error))

    def _remember(self, request: OrderRequest, why: str) -> None:
        self._unknown[request.client_order_id] = _Sent(request, self._clock.up_s(), why)

    async def _overtake(self, *, ended: bool) -> None:
        shown = asyncio.wrap_future(self._teller.ordered(ended=ended))
        # An actor that is just being replaced says it later; the order does not wait for it.
        await asyncio.wait({shown}, timeout=SHOWN_S)

    def _order(self, request: OrderRequest, order_id: str, state: OrderState) -> Order:
        return Order(
            broker=self._spec.name,
            symbol=request.product.symbol,
            side=request.side,
            base_amount=request.base_amount,
            quote_amount=request.quote_amount,
            client_order_id=request.client_order_id,
            order_id=order_id,
            state=state,
        )
