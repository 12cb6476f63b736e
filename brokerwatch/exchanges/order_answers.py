"""What the answers to orders prove: placed, checked, or found again; and which of them prove nothing.

Two failures are kept apart. `NotTaken`: the exchange says no, so nothing was placed. `UnprovenAnswer`: the
answer cannot be read, so the state of the order is not known; it must be looked up before anything else is
sent. Nothing is "placed" without the exchange's id of it, and nothing is "not there" unless the
exchange was asked for exactly this and answered whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, cast

from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    number,
    positive,
    short,
)
from brokerwatch.messages import OrderState, Side

OPEN: Final = ""
FILLED: Final = "filled"
OVER: Final = "over"
"""What an exchange's word for the state of an order means: may still be filled; filled whole; neither."""


@dataclass(frozen=True, slots=True)
class FoundOrder:
    """An order of ours as the exchange has it."""

    order_id: str
    """The exchange's id of it."""
    market: str
    """The exchange's own id of the market, as in `Product.id`; empty when the row does not say."""
    side: Side | None
    ordered_base: Decimal | None
    """What was asked for, in the base currency; None when it was asked for in the quote currency, or the row
    does not say."""
    ordered_quote: Decimal | None
    """What was asked for, in the quote currency; None when it was asked for in the base currency, or the row
    does not say."""
    filled_base: Decimal | None
    """So much of the base currency was bought or sold so far; None: the row does not say."""
    ended: str
    """Why it is over and was not filled whole, in the exchange's own words; empty while it is open, or when
    it was filled."""
    is_filled: bool = field(default=False, compare=False)
    """Whether the exchange says that it was filled whole."""
    average_price: Decimal | None = field(default=None, compare=False)
    """At which price, in the quote currency, it was filled so far on average; None: the row does not say, or
    nothing of it was filled."""
    fee: Decimal | None = field(default=None, compare=False)
    """What it has cost so far beside that; below zero: it was paid. None: the row does not say."""
    fee_currency: str = field(default="", compare=False)
    """The common code of the currency of the fee; empty: the row does not say."""

    @property
    def state(self) -> OrderState:
        """How far it is."""
        if self.ended:
            return OrderState.CANCELLED
        if self.is_filled:
            return OrderState.FILLED
        return OrderState.PARTIALLY_FILLED if self.filled_base else OrderState.ACCEPTED

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return bool(self.ended) or self.is_filled


@dataclass(frozen=True, slots=True)
class Paid:
    """What an order's row says of its price and its fee, as it is written; None: it does not say."""

    price: object = None
    fee: object = None
    fee_currency: str = ""


UNPAID: Final = Paid()
"""A row that says neither."""


class PlacedAfterAll(UnprovenAnswer):
    """A dry run was answered with an order: what was only to be checked may have been placed."""


def canonical_id(client_order_id: str) -> str:
    """An id of ours, or of a UUID the one spelling of it: Kraken knows all of them as one."""
    bare = client_order_id.replace("-", "")
    is_uuid = len(bare) == 32 and all(letter in "0123456789abcdefABCDEF" for letter in bare)
    return bare.lower() if is_uuid else client_order_id


def order_of(
    order_id: str,
    market: str,
    side: object,
    ordered: Mapping[str, object],
    filled: object,
    state: tuple[Mapping[str, str], object, tuple[object, ...]],
    paid: Paid = UNPAID,
) -> FoundOrder:
    """The order that a row tells of; `state`: what the exchange's words mean, its word, and its reasons.

    A price or a fee that cannot be read is not stated: it makes no order unknown. What is None the row does
    not say. Raises UnprovenAnswer for what cannot be read or contradicts itself.
    """
    meanings, word, reasons = state
    meaning = meanings.get(word) if isinstance(word, str) else None
    if meaning is None:
        raise UnprovenAnswer(f"the state of the order {order_id} is {short(word)}")
    if side not in ("buy", "sell", None):
        raise UnprovenAnswer(f"the side of the order {order_id} is {short(side)}")
    size = {
        unit: positive(value, f"the size of {order_id}")
        for unit, value in ordered.items()
        if value is not None
    }
    base, done = size.get("ordered_base"), None if filled is None else number(filled, f"filled of {order_id}")
    too_little = meaning == FILLED and done is not None and (done == 0 or (base is not None and done < base))
    if done is not None and (done < 0 or too_little or (base is not None and done > base)):
        raise UnprovenAnswer(f"{order_id} is {word}, {done} of {'its size' if base is None else base} filled")
    # An amount of which the currency is not known is none.
    fee = _stated(paid.fee) if paid.fee_currency else None
    words = dict.fromkeys((str(word), *(str(reason) for reason in reasons if reason)))
    return FoundOrder(
        order_id=order_id,
        market=market,
        side=None if side is None else Side(cast("str", side)),
        ordered_base=base,
        ordered_quote=size.get("ordered_quote"),
        filled_base=done,
        ended=": ".join(words) if meaning == OVER else "",
        is_filled=meaning == FILLED,
        average_price=None if done == 0 else _stated(paid.price) or None,
        fee=fee,
        fee_currency="" if fee is None else paid.fee_currency,
    )


def _stated(value: object) -> Decimal | None:
    try:
        found = None if value in (None, "") else number(value, "an amount")
    except UnprovenAnswer:
        return None
    return found.copy_abs() if found is not None and not found else found  # no zero below zero


def only(ours: Mapping[str, FoundOrder], client_order_id: str) -> FoundOrder | None:
    """The one order that has our id. Raises UnprovenAnswer for a second one: which is meant is not known."""
    if len(ours) > 1:
        raise UnprovenAnswer(f"{len(ours)} orders have the id {client_order_id}: {', '.join(sorted(ours))}")
    return next(iter(ours.values()), None)
