"""What an order leaves behind in an account: held against how the account was before, pure.

A dry run leaves nothing. An exchange's word that it was one is not enough, so the balance and the open orders
are compared: an executed order moves both currencies of its market, one that rests is in the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from brokerwatch.exchanges.open_orders import OpenOrder
from brokerwatch.messages import Holding, Product, Side
from brokerwatch.messages import total as summed
from brokerwatch.money import plain

_NOTHING = Holding(free=Decimal(0), used=Decimal(0), total=Decimal(0))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How an account was at one moment."""

    holdings: Mapping[str, Holding]
    orders: tuple[OpenOrder, ...] | None
    """Those that were open; None: they could not be listed."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What has changed between two moments."""

    placed: str
    """What shows that an order was placed; empty: nothing does."""
    moved: str = ""
    """What else has changed in the currencies of the market: by another program, or by an order after all."""


def traces(before: Snapshot, after: Snapshot, product: Product, side: Side) -> Traces:
    """What an order of this side in this market would have left, between two moments."""
    if before.orders is not None and after.orders is not None:
        known = {order.order_id for order in before.orders}
        new = [order for order in after.orders if order.order_id not in known]
        here = [order.order_id for order in new if order.market == product.symbol]
        if here:
            return Traces(f"open orders that were not there before: {', '.join(here)}")
    moved = {
        code: summed((after_, before_.copy_negate()))
        for code in (product.base, product.quote)
        for before_, after_ in [(_total(before, code), _total(after, code))]
        if before_ != after_
    }
    paid_in = product.quote if side is Side.BUY else product.base
    if len(moved) == 2 or moved.get(paid_in, Decimal(0)) < 0:
        return Traces(f"the balance moved by {_words(moved.items())}")
    held = {
        code: summed((after_, before_.copy_negate()))
        for code in (product.base, product.quote)
        for before_, after_ in [(_held(before, code), _held(after, code))]
        if before_ is not None and after_ is not None and before_ != after_
    }
    parts = [_words(moved.items()), *([f"held: {_words(held.items())}"] if held else [])]
    return Traces("", "; ".join(part for part in parts if part))


def _total(snapshot: Snapshot, code: str) -> Decimal:
    # What an answer does not name is not there: a coin that was sold whole is often left out.
    return snapshot.holdings.get(code, _NOTHING).least_total


def _held(snapshot: Snapshot, code: str) -> Decimal | None:
    return snapshot.holdings.get(code, _NOTHING).used


def _words(amounts: Iterable[tuple[str, Decimal]]) -> str:
    return ", ".join(f"{plain(amount)} {code}" for code, amount in amounts)
