"""How an order is executed, the same on every exchange: checks, the fill, and the account after it.

A market order fills at once and completely, at the price that is set, without a fee. So a test knows exactly
what is in the account afterwards. Each exchange reads the request and writes the answer in its own form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal, localcontext
from enum import Enum, auto

from brokerwatch.simulator.account import EXACT, SPOILED_AMOUNTS, Account, PlacedOrder
from brokerwatch.simulator.markets import Market

_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")


class Flaw(Enum):
    """Why an order cannot be placed."""

    PRECISION = auto()
    """Its amount has more decimal places than the market."""
    BASE_MINIMUM = auto()
    """It is smaller than the market's smallest order."""
    QUOTE_MINIMUM = auto()
    """It costs less than the smallest order may cost."""
    FUNDS = auto()
    """The account has not enough."""
    CLOSED = auto()
    """Its market takes no orders."""


class Unplaceable(Exception):
    """An order cannot be placed; each exchange says so in its own words."""

    def __init__(self, flaw: Flaw, wish: Wish) -> None:
        super().__init__(flaw.name)
        self.flaw = flaw
        self.wish = wish


@dataclass(frozen=True, slots=True)
class Wish:
    """An order as it was asked for. `size` is positive and finite."""

    market: Market
    side: str
    size: Decimal
    in_quote: bool
    client_id: str = ""
    reference: str = ""
    kind: str = "market"
    """`market` or `limit`."""

    @property
    def paid_in(self) -> str:
        """The currency that the account gives."""
        return self.market.quote if self.side == "buy" else self.market.base


@dataclass(frozen=True, slots=True)
class Limits:
    """What an exchange asks of an amount in the quote currency. None: nothing."""

    quote_step: Decimal | None = None
    quote_minimum: Decimal | None = None


def json_body(body: bytes) -> object:
    """What a client sent as JSON; None for what is none."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def positive_amount(text: object) -> Decimal | None:
    """The amount that a client wrote, which must be a positive plain decimal in a string; else None."""
    if not isinstance(text, str) or not _PLAIN.fullmatch(text):
        return None
    amount = Decimal(text)
    return amount if amount > 0 else None


def place(
    account: Account,
    wish: Wish,
    price: Decimal,
    limits: Limits,
    *,
    order_id: str,
    now_s: float,
    at_once: bool = True,
) -> PlacedOrder:
    """Place the order and change the account by it; Unplaceable, with nothing changed, if it cannot be.

    Without `at_once` it stays open, and what it will cost is held.
    """
    with localcontext(EXACT):
        base, quote = _filled(wish, price, limits)
        paid = quote if wish.side == "buy" else base
        # An order by cost needs all of it, even where the lot size leaves a rest that is not spent.
        needed = wish.size if wish.in_quote and wish.side == "buy" else paid
    if needed > account.free(wish.paid_in):
        raise Unplaceable(Flaw.FUNDS, wish)
    order = PlacedOrder(
        id=order_id,
        client_id=wish.client_id,
        symbol=wish.market.symbol,
        side=wish.side,
        base_amount=base,
        quote_amount=quote,
        price=price,
        size=wish.size,
        in_quote=wish.in_quote,
        placed_s=now_s,
        state="open",
        reference=wish.reference,
        kind=wish.kind,
    )
    account.orders[order_id] = order
    account.move(wish.paid_in, free=-paid, held=Decimal() if at_once else paid)
    return _received(account, order) if at_once else order


def fill(account: Account, order: PlacedOrder) -> PlacedOrder:
    """Fill an open order."""
    paid_in, paid = _legs(order)[0]
    account.move(paid_in, held=-paid)
    return _received(account, order)


def cancel(account: Account, order: PlacedOrder) -> PlacedOrder:
    """Cancel an open order: what it held is free again."""
    paid_in, paid = _legs(order)[0]
    account.move(paid_in, free=paid, held=-paid)
    account.orders[order.id] = replace(order, state="canceled")
    return account.orders[order.id]


def with_client_id(account: Account, client_id: str, *states: str) -> PlacedOrder | None:
    """The latest order with this id of the client's own, in one of the states if any are given."""
    for order in reversed(account.orders.values()):
        if order.client_id == client_id and (not states or order.state in states):
            return order
    return None


def id_field(name: str, order_id: str, fault: str) -> Mapping[str, str]:
    """The field with an order's id; a fault that spoils an amount in a balance spoils the id in an order."""
    shown = SPOILED_AMOUNTS.get(fault, order_id)
    return {} if shown is None else {name: shown}


def _received(account: Account, order: PlacedOrder) -> PlacedOrder:
    received_in, received = _legs(order)[1]
    account.move(received_in, free=received)
    account.orders[order.id] = replace(order, state="filled")
    return account.orders[order.id]


def _legs(order: PlacedOrder) -> tuple[tuple[str, Decimal], tuple[str, Decimal]]:
    """Currency and amount of what the account gives, and of what it gets."""
    base, _, quote = order.symbol.partition("/")
    of_base, of_quote = (base, order.base_amount), (quote, order.quote_amount)
    return (of_quote, of_base) if order.side == "buy" else (of_base, of_quote)


def _filled(wish: Wish, price: Decimal, limits: Limits) -> tuple[Decimal, Decimal]:
    step = limits.quote_step if wish.in_quote else Decimal(wish.market.amount_step)
    if step is not None and wish.size % step:
        raise Unplaceable(Flaw.PRECISION, wish)
    lot = Decimal(wish.market.amount_step)
    base = (wish.size / price).quantize(lot, ROUND_FLOOR) if wish.in_quote else wish.size
    quote = base * price
    if limits.quote_minimum is not None and (wish.size if wish.in_quote else quote) < limits.quote_minimum:
        raise Unplaceable(Flaw.QUOTE_MINIMUM, wish)
    if base < Decimal(wish.market.minimum):
        raise Unplaceable(Flaw.BASE_MINIMUM, wish)
    return base, quote
