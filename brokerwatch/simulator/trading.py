"""What a client asks for when it sends an order, the same on every exchange, and why it may be refused.

Each exchange reads the request and writes the answer in its own form. What becomes of the order is in
`order_book.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, auto

from brokerwatch.simulator.account import SPOILED_AMOUNTS, Account
from brokerwatch.simulator.markets import Market
from brokerwatch.simulator.placed_order import GTC, PlacedOrder

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
    PRICE_PRECISION = auto()
    """Its limit has more decimal places than the market's prices."""
    WOULD_TAKE = auto()
    """It is post-only, and would fill at once."""


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
    limit: Decimal | None = None
    """The worst price; None for a market order."""
    time_in_force: str = GTC
    post_only: bool = False
    expires_s: float | None = None
    """When a GTD order ends, by the exchange's own clock."""

    @property
    def kind(self) -> str:
        """`market` or `limit`."""
        return "market" if self.limit is None else "limit"

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
