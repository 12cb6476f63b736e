"""Two executors of one account, one after the other: another API key, or another configuration.

An order that has not gone out when an executor has a successor goes out there. One that has, goes on to its
end where it began. Where it is not known whether both keys are of one account, no entry goes out at the later
one while an order of the earlier one is not accounted for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from brokerwatch.errors import EarlierOrderUnknown
from brokerwatch.exchanges.order_answers import canonical_id
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.messages import Order
from brokerwatch.orders.records import Sent
from brokerwatch.orders.ticket import Ticket


class AccountExecutor(Protocol):
    """What one executor needs of another one; `executor.OrderExecutor` says what each promises."""

    @property
    def unaccounted(self) -> str:
        """An order whose outcome is not known, in words; empty: none."""
        ...

    def lost(self) -> tuple[Sent, ...]:
        """The orders with an unknown outcome."""
        ...

    async def forget(self, client_order_id: str) -> bool:
        """Look no more for this order."""
        ...

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
        """Place an order, or have it checked."""
        ...


class HandedOver(Exception):
    """The order has not gone out, and has to go out at the successor."""


class Succession:
    """What one executor knows of those before and after it. Any thread may set it."""

    def __init__(self, name: str) -> None:
        """`name` of the account."""
        self._name = name
        self.earlier: AccountExecutor | None = None
        """The executor before this one, if its key may be of the same account; None: it is accounted for."""
        self.successor: AccountExecutor | None = None
        """The one that has the account now; None: this one has it."""
        self.pending = 0
        """How many orders are under way here, also those that wait for their turn. Any thread may look."""

    def refuse_when_over(self) -> None:
        """Raise HandedOver where another executor has the account by now."""
        if self.successor is not None:
            raise HandedOver

    def refuse_after(self, mine: str) -> None:
        """Raise EarlierOrderUnknown while an order of the key before is not accounted for, but for `mine`."""
        for sent in () if self.earlier is None else self.earlier.lost():
            earlier = sent.request.client_order_id
            if canonical_id(earlier) != canonical_id(mine):
                raise EarlierOrderUnknown(
                    f"{self._name}: an earlier order, {earlier}, which was sent with another API key, is not "
                    f"accounted for ({sent.why}). Nothing was sent. Once you know what became of it: "
                    f"forget_order({earlier!r})",
                    earlier,
                )

    @property
    def unaccounted(self) -> str:
        """An order of the key before whose outcome is not known, in words; empty: none."""
        return "" if self.earlier is None else self.earlier.unaccounted
