"""What the answers to orders prove: placed, checked, or found again; and which of them prove nothing.

Two failures are kept apart. `NotTaken`: the exchange says no, so nothing was placed. `UnprovenAnswer`: the
answer cannot be read, so the state of the order is not known; it must be looked up before anything else is
sent. Nothing is "placed" without the exchange's id of it, and nothing is "not there" unless the
exchange was asked for exactly this and answered whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, cast

from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    number,
    positive,
    short,
)
from brokerwatch.messages import Side

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
) -> FoundOrder:
    """The order that a row tells of; `state`: what the exchange's words mean, its word, and its reasons.

    What is None the row does not say. Raises UnprovenAnswer for what cannot be read or contradicts itself.
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
    words = dict.fromkeys((str(word), *(str(reason) for reason in reasons if reason)))
    return FoundOrder(
        order_id=order_id,
        market=market,
        side=None if side is None else Side(cast("str", side)),
        ordered_base=base,
        ordered_quote=size.get("ordered_quote"),
        filled_base=done,
        ended=": ".join(words) if meaning == OVER else "",
    )


def only(ours: Mapping[str, FoundOrder], client_order_id: str) -> FoundOrder | None:
    """The one order that has our id. Raises UnprovenAnswer for a second one: which is meant is not known."""
    if len(ours) > 1:
        raise UnprovenAnswer(f"{len(ours)} orders have the id {client_order_id}: {', '.join(sorted(ours))}")
    return next(iter(ours.values()), None)
