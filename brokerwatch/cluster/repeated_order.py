"""An order that is refused under an id that may be known: it is looked up before the refusal holds.

A refusal says that nothing was sent, and a program that reads it takes another account. That would buy
twice where an order of this id went out before. So our own records are looked at first, then the
exchange. Where neither can say that there is none, the state of the order is unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from brokerwatch.errors import (
    BrokerwatchError,
    EntryRefused,
    InvalidOrder,
    OrderRefused,
    OrderStateUnknown,
    SymbolError,
    ValidationNotSupported,
)
from brokerwatch.exchanges import order_request
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import Order, Product, Side
from brokerwatch.orders.ticket import FRESH, Ticket

if TYPE_CHECKING:
    from brokerwatch.orders.executor import OrderExecutor

STANDS = (OrderStateUnknown, OrderRefused, ValidationNotSupported)
"""What is said of the order itself, and not of the account or of the moment."""


@dataclass(frozen=True, slots=True)
class RepeatedOrder:
    """What is asked for under an id that a program has chosen, and that may have been sent before."""

    symbol: str
    side: Side | str
    base_amount: Decimal | None
    quote_amount: Decimal | None
    client_order_id: str
    ticket: Ticket

    async def unless_known(
        self,
        work: Callable[[], Awaitable[Order]],
        executor: OrderExecutor,
        markets: Callable[[], Products | None],
        *,
        remembers: Callable[[], bool],
    ) -> Order:
        """What `work` gives; where it refuses an order that is known, that order.

        Raises what `work` raises where there is no such order, and OrderStateUnknown where that is not known.
        """
        try:
            return await work()
        except STANDS:
            raise
        except BrokerwatchError as refusal:
            if isinstance(refusal, InvalidOrder) and refusal.argument == "client_order_id":
                raise
            before = executor.recorded(self.client_order_id)
            is_entry = isinstance(refusal, EntryRefused) and not FRESH.has(self.client_order_id)
            # That it was absent is from before: another call with this id may have sent it since.
            is_new = before is None and (self.ticket.absent or not is_entry)
            if is_new or self.side not in ("buy", "sell"):
                raise
            listed = markets()
            product = self._product(listed) if before is None else before.product
            if product is None or (before is not None and not self._means(product, listed)):
                raise
            request = self._request(product, executor)
            found = await executor.look_up(product, Side(self.side), self.client_order_id, request)
            if found is not None:
                return found
            if before is None and not remembers():
                raise OrderStateUnknown(
                    f"the exchange has no order {self.client_order_id} yet, and what was sent before this "
                    "start cannot be read, so it may still arrive",
                    self.client_order_id,
                ) from None
            raise

    def _product(self, markets: Products | None) -> Product | None:
        try:
            return None if markets is None else markets.product(self.symbol)
        except SymbolError:
            return None

    def _means(self, product: Product, markets: Products | None) -> bool:
        """Whether the symbol is that of the order in our records, which may not be listed any more."""
        meant = self._product(markets)
        if meant is not None:
            return meant.symbol == product.symbol
        return _letters(self.symbol) in {_letters(product.symbol), _letters(product.id)} or markets is None

    def _request(self, product: Product, executor: OrderExecutor) -> OrderRequest | None:
        """The order that is asked for now; None where no amount is given: whatever was sold then."""
        if self.base_amount is None and self.quote_amount is None:
            return None
        return order_request.requested(
            product,
            self.side,
            self.base_amount,
            self.quote_amount,
            self.client_order_id,
            rules=executor.profile.order_rules,
            leaving=True,
        )


def _letters(text: object) -> str:
    return "".join(letter for letter in str(text).upper() if letter.isalnum())
