"""What became of an order: asked, never guessed. This is where an order that timed out is looked up.

`Lookup.found` asks the exchange for an order by the id that it was given. That the exchange does not list it
proves nothing until it has had time to arrive (`in_flight.LOST_AFTER_S`): `Lookup.is_known` waits for that.
`Lookup.settle` looks up every order with an unknown outcome before the next entry goes out; `placed_before`
looks up an id that may have been used. `executor.OrderExecutor` calls all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import (
    CouldNotAsk,
    EarlierOrderUnknown,
    InvalidOrder,
    NotSupported,
    OrderRefused,
    OrderStateUnknown,
)
from brokerwatch.exchanges.adapter import ExchangeAdapter
from brokerwatch.exchanges.order_answers import FoundOrder, canonical_id
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.lane import Lane
from brokerwatch.gateway.venue import answered
from brokerwatch.log import logger
from brokerwatch.messages import Fault, Order, OrderState, Product, Side
from brokerwatch.orders.comparison import another_order, another_request
from brokerwatch.orders.in_flight import InFlightOrders
from brokerwatch.orders.records import Placed, Sent

_log: Final = logger(__name__)

T = TypeVar("T")


class NotLookedUp(Exception):
    """Whether an order of this id was placed before cannot be looked up, and our records have none."""


class Lookup:
    """Looks up the orders of one account. Runs on the account's loop, inside a turn of its lane."""

    def __init__(
        self,
        spec: BrokerSpec,
        connection: Connection,
        adapter: ExchangeAdapter,
        lane: Lane,
        in_flight: InFlightOrders,
        clock: Clock,
        unanswered: Callable[[Fault], object],
    ) -> None:
        self._spec = spec
        self._connection = connection
        self._adapter = adapter
        self._lane = lane
        self._in_flight = in_flight
        self._clock = clock
        self._unanswered = unanswered
        """Called with the fault that a private question met."""

    async def surely_absent(self, request: OrderRequest) -> bool:
        """Whether the exchange answers that it has no such order: a proxy may have sent it twice, and of the
        two the second was refused."""
        try:
            return await self.found(request.product, request.client_order_id) is None
        except (CouldNotAsk, NotSupported, Refrained):
            return False

    async def placed_before(
        self,
        product: Product,
        side: Side,
        client_order_id: str,
        request: OrderRequest | None,
        *,
        repeats: bool = False,
    ) -> Order | None:
        """The order that has this id already. Raises InvalidOrder when that is another one, and NotLookedUp.

        `repeats`: as for `is_known`.
        """
        try:
            return await self.looked_up(product, side, client_order_id, request, repeats=repeats)
        except (CouldNotAsk, NotSupported, Refrained) as trouble:
            recorded = self.recorded(client_order_id, trouble)
            if recorded is not None:
                return recorded
            if isinstance(trouble, Refrained):
                raise
            raise NotLookedUp(
                f"{self._spec.name}: whether the order {client_order_id} was placed before cannot be "
                f"looked up, so it was not sent: {trouble}"
            ) from trouble

    async def looked_up(
        self,
        product: Product,
        side: Side,
        client_order_id: str,
        request: OrderRequest | None,
        *,
        repeats: bool = False,
    ) -> Order | None:
        """The same where the exchange answers. Raises CouldNotAsk, NotSupported and Refrained too."""
        before = self._in_flight.used_for(client_order_id)
        other = "" if before is None else another_request(before, product, side, request)
        if other:
            raise InvalidOrder("client_order_id", f"{client_order_id} was used for another one: {other}")
        found = await self.is_known(product, client_order_id, repeats=repeats)
        known = self._in_flight.placed(client_order_id)
        if found is None and known is not None:
            # The exchange took it: its list is a moment behind, or no longer holds it.
            return self.taken(self.as_known(known))
        if found is None:
            return None
        other = another_order(found, product, side, request)
        if other:
            raise InvalidOrder("client_order_id", f"{client_order_id} was used for another one: {other}")
        return self.taken(self.as_found(product, side, client_order_id, request or before, found))

    def recorded(self, client_order_id: str, trouble: Exception) -> Order | None:
        """What our own records say of an id that cannot be looked up because of `trouble`; None: nothing.

        Raises OrderStateUnknown for an order that was sent, and OrderRefused for one that was ended unfilled.
        """
        known = self._in_flight.placed(client_order_id)
        if known is not None:
            return self.taken(self.as_known(known))
        if self._in_flight.sent(client_order_id) is None:
            return None
        raise OrderStateUnknown(
            f"{self._spec.name}: it is unknown what became of the order {client_order_id}, and it "
            f"cannot be looked up, so it was not sent again: {trouble}",
            client_order_id,
        ) from trouble

    async def settle(self, mine: str = "") -> None:
        """Before anything else goes out: what became of the orders with an unknown outcome?

        But for `mine`, which is looked up by itself.
        Raises EarlierOrderUnknown when that is still not known of one.
        """
        for sent in self._in_flight.lost():
            earlier, name = sent.request, self._spec.name
            if canonical_id(earlier.client_order_id) == canonical_id(mine):
                continue
            about = f"an earlier order, {earlier.client_order_id}, is not accounted for ({sent.why})"
            try:
                await self.is_known(earlier.product, earlier.client_order_id)
            except (CouldNotAsk, NotSupported, Refrained) as trouble:
                raise EarlierOrderUnknown(
                    f"{name}: {about}, and looking it up failed: {trouble}. Nothing was sent. "
                    f"Once you know what became of it: forget_order({earlier.client_order_id!r})",
                    earlier.client_order_id,
                ) from trouble
            except OrderStateUnknown as error:
                still = str(error).removeprefix(f"{name}: ")
                raise EarlierOrderUnknown(
                    f"{name}: {about}; {still}. Nothing was sent", earlier.client_order_id
                ) from None

    async def is_known(
        self, product: Product, client_order_id: str, *, repeats: bool = False
    ) -> FoundOrder | None:
        """An order as the exchange has it; None when there is none and none will come.

        `repeats`: it would be sent again with this id, so None where the exchange does not list it.
        Raises OrderStateUnknown while one that was sent may still arrive.
        """
        sent = self._in_flight.sent(client_order_id)
        if sent is None:
            return await self.found(product, client_order_id)
        if sent.request.product.symbol != product.symbol:
            raise InvalidOrder("symbol", f"{client_order_id} was sent for {sent.request.product.symbol}")
        # Before the question: what arrives while the exchange still answers is not in its answer.
        left_s = sent.left_s(self._clock.now())
        found = await self.found(sent.request.product, client_order_id)
        if self._is_settled(sent, found, left_s):
            return found
        if repeats:
            return None  # it stays unknown: the exchange places one order for both
        raise OrderStateUnknown(
            f"{self._spec.name}: the exchange does not list {client_order_id} yet, and it may still come "
            f"for {left_s:.0f} s",
            client_order_id,
        )

    async def look_again(self, client_order_id: str) -> bool:
        """Whether nothing is unknown any more of an order whose outcome was; asked in the background.

        Inside a turn for all calls of `find`. Trouble is counted nowhere. Raises CouldNotAsk, NotSupported,
        Refrained.
        """
        sent = self._in_flight.sent(client_order_id)
        if sent is None or not sent.why:
            return True
        await self._lane.another(calls=self._adapter.find_calls - 1)
        left_s = sent.left_s(self._clock.now())
        ask = self._adapter.find(sent.request.product, client_order_id, sent.sent_us)
        found = await answered(self._connection, ask, self._spec.fetch_deadline_s)
        return self._is_settled(sent, found, left_s)

    def _is_settled(self, sent: Sent, found: FoundOrder | None, left_s: float) -> bool:
        """Whether it is known what became of an order; then that is noted.

        `found` at the exchange, `left_s` before it was asked for.
        """
        if found is None and left_s > 0:
            return False
        outcome = "never arrived" if found is None else f"was placed: {found.order_id}"
        order_id = sent.request.client_order_id
        _log.warning("%s: the order %s %s", self._spec.name, order_id, outcome)
        self._in_flight.end(order_id, None if found is None else found.order_id, found, "never_arrived")
        return True

    async def found(self, product: Product, client_order_id: str) -> FoundOrder | None:
        """An order as the exchange has it just now; None when it does not list it."""
        sent = self._in_flight.sent(client_order_id)
        since_us = None if sent is None else sent.sent_us
        await self._lane.another(urgent=True, calls=self._adapter.find_calls)
        return await self.asked(lambda: self._adapter.find(product, client_order_id, since_us))

    async def asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A private question, its trouble noted. Raises CouldNotAsk, NotAllowed, NotSupported."""
        try:
            return await answered(self._connection, ask(), self._spec.fetch_deadline_s)
        except CouldNotAsk as error:
            self._lane.note(error.fault)
            self._unanswered(error.fault)
            raise

    def as_found(
        self,
        product: Product,
        side: Side | None,
        client_order_id: str,
        request: OrderRequest | None,
        found: FoundOrder,
    ) -> Order:
        """What was found, with what was asked for. Raises CouldNotAsk when its side is not known."""
        side = side or found.side
        if side is None:
            raise CouldNotAsk(f"{self._spec.name}: the order {found.order_id} does not say its side")
        return Order(
            broker=self._spec.name,
            symbol=product.symbol,
            side=side,
            base_amount=found.ordered_base if request is None else request.base_amount,
            quote_amount=found.ordered_quote if request is None else request.quote_amount,
            client_order_id=client_order_id,
            order_id=found.order_id,
            state=found.state,
            filled_base=found.filled_base,
            detail=found.ended,
            average_price=found.average_price,
            fee=found.fee,
            fee_currency=found.fee_currency,
        )

    def as_known(self, known: Placed) -> Order:
        """An order that the exchange took, as it was found last, or else as it was accepted."""
        request = known.request
        if known.found is None:
            return accepted(self._spec.name, request, known.order_id)
        return self.as_found(request.product, request.side, request.client_order_id, request, known.found)

    def taken(self, order: Order) -> Order:
        """The order as it was taken, unless the exchange ended it before anything of it was filled.

        A program that places an order asks whether it was taken, so one that is filled is accepted. Raises
        OrderRefused.
        """
        if order.state is OrderState.CANCELLED and order.filled_base == 0:
            raise OrderRefused(
                f"{self._spec.name} took the order {order.order_id} and ended it, and nothing of it was "
                f"filled: {order.detail}"
            )
        if order.state is OrderState.CANCELLED:
            return order
        return msgspec.structs.replace(order, state=OrderState.ACCEPTED)


def accepted(
    broker: str, request: OrderRequest, order_id: str, state: OrderState = OrderState.ACCEPTED
) -> Order:
    """An order that the exchange has taken as it was asked for."""
    return Order(
        broker=broker,
        symbol=request.product.symbol,
        side=request.side,
        base_amount=request.base_amount,
        quote_amount=request.quote_amount,
        client_order_id=request.client_order_id,
        order_id=order_id,
        state=state,
    )
