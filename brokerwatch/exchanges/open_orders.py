"""What an account has ordered and what is still open: each order read whole, or `UnprovenAnswer`.

An order that is left out would make money look free that is not. The list is read to hold a balance and
positions against it, so it says of each order what it must be holding, where that can be said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from brokerwatch.errors import CouldNotAsk
from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    number,
    positive,
    short,
)
from brokerwatch.messages import FaultKind, Product, Side
from brokerwatch.messages import total as summed
from brokerwatch.messages.balance import less
from brokerwatch.money import EXACT

Market = Callable[[str], Product | None]
"""The market of an exchange's name for it; None where its list has none of that name."""


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """One order that may still be filled."""

    order_id: str
    market: str
    """The symbol; the exchange's own name where its list of markets has none of it."""
    side: Side
    holds: tuple[str, Decimal] | None
    """A currency, and how much of it this order must be holding; None where that cannot be said: an order by
    a price that is not known yet, on credit, or in a market that is not listed."""
    listed: bool = True
    """Whether the list of markets has its market."""


OrdersPage = tuple[tuple[OpenOrder, ...], Mapping[str, str | None]]
"""The orders of one page, and what asks for the next one: None in it, there is none."""
MOST_PAGES: Final = 20
"""Pages of open orders that are read."""


async def all_pages(
    ask: Callable[[dict[str, Any]], Awaitable[OrdersPage]], wanted: dict[str, Any]
) -> tuple[OpenOrder, ...]:
    """The orders of all pages; `ask` gives one page for what is wanted. Raises CouldNotAsk."""
    found: list[OpenOrder] = []
    for _ in range(MOST_PAGES):
        orders, following = await ask(dict(wanted))
        found += orders
        if None in following.values():
            return tuple(found)
        wanted = {**wanted, **following}
    raise CouldNotAsk(f"there are more than {MOST_PAGES} pages of open orders", FaultKind.BAD_RESPONSE)


def left_of(ordered: object, filled: object, order_id: str) -> Decimal:
    """How much is still to be filled. Raises UnprovenAnswer."""
    size = number(ordered, f"the size of {order_id}")
    done = number(filled, f"filled of {order_id}")
    left = less(size, done)
    if size <= 0 or done < 0 or left < 0:
        raise UnprovenAnswer(f"{order_id} is of {size}, and {done} of it is filled")
    return left


def resting_order(
    order_id: str,
    name: str,
    side: object,
    market: Market,
    left: Decimal | None,
    price: object,
    *,
    plain: bool,
) -> OpenOrder:
    """An open order as its row says.

    `plain`: it rests in the book at `price`, by the account's own means; only then its hold is known.
    Raises UnprovenAnswer.
    """
    if side not in ("buy", "sell"):
        raise UnprovenAnswer(f"the side of the order {order_id} is {short(side)}")
    product = market(name)
    holds: tuple[str, Decimal] | None = None
    if product is not None and product.kind == "spot" and left is not None and plain:
        at = positive(price, f"price of {order_id}")
        holds = (product.base, left) if side == "sell" else (product.quote, EXACT.multiply(left, at))
    return OpenOrder(
        order_id=order_id,
        market=name if product is None else product.symbol,
        side=Side(side),
        holds=holds,
        listed=product is not None,
    )


def held_by(orders: Iterable[OpenOrder]) -> dict[str, Decimal]:
    """What these orders must be holding: currency to amount, as far as it can be said."""
    found: dict[str, Decimal] = {}
    for order in orders:
        if order.holds is not None:
            currency, amount = order.holds
            found[currency] = summed((found.get(currency, Decimal(0)), amount))
    return found
