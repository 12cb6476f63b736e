"""Whether an order under an id is the one that is asked for now, and in words how it differs."""

from __future__ import annotations

from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.messages import Product, Side
from brokerwatch.money import plain


def another_request(before: OrderRequest, product: Product, side: Side, request: OrderRequest | None) -> str:
    """How an earlier request differs from what is asked for now, in words; empty when it is the same.

    `request`: with its amounts; None: whatever the amount.
    """
    if (before.product.symbol, before.side) != (product.symbol, side):
        return f"{before.side} {before.product.symbol}"
    if request is not None and (before.base_amount, before.quote_amount) != (
        request.base_amount,
        request.quote_amount,
    ):
        return f"{before.side} {before.size} of {before.product.symbol}"
    return ""


def another_order(found: FoundOrder, product: Product, side: Side, request: OrderRequest | None) -> str:
    """How an order that the exchange has under an id differs from what is asked for now; empty: not at all.

    What the exchange does not say differs in nothing. `request` is as for `another_request`.
    """
    if found.market and found.market != product.id:
        return f"an order in {found.market}"
    if found.side is not None and found.side is not side:
        return f"{found.side} {product.symbol}"
    if request is not None:
        for theirs, ours in (
            (found.ordered_base, request.base_amount),
            (found.ordered_quote, request.quote_amount),
        ):
            if theirs is not None and ours is not None and theirs != ours:
                return f"{side} {plain(theirs)} of {product.symbol}"
    return ""
