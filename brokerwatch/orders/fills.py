"""What an order of ours took from the account, as far as it is known: that explains what is not stated."""

from __future__ import annotations

from brokerwatch.exchanges.order_request import FINEST, OrderRequest
from brokerwatch.health.stated import Fill
from brokerwatch.messages import Side
from brokerwatch.orders.records import Placed


def fill_of(request: OrderRequest, placed: Placed | None) -> Fill:
    """What an order did that has ended; `placed` as it is known, None where it was not placed or is unknown.

    A market order that the exchange took at once is filled whole, or an answer that states the rest shows it.
    What a purchase of an amount of the coin cost is not known.
    """
    product, sells = request.product, request.side is Side.SELL
    spent, received = (product.base, product.quote) if sells else (product.quote, product.base)
    amount = request.base_amount if sells else request.quote_amount
    if placed is None:
        amount = None
    elif placed.found is not None:
        # It was looked up, and the exchange itself says how much of it was filled.
        amount = placed.found.filled_base if sells else None
    step = product.base_step if sells else product.quote_step
    return Fill(spent=spent, received=received, amount=amount, step=step or FINEST)
