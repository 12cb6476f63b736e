"""How long an order waits until it is written down, and where it does not go out without."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Final

from brokerwatch.errors import OrderNotSent

MARK_WAIT_S: Final = 2.0
"""How long an order waits until it is written down: a disk that is full must not stop an exit."""


async def written_down(mark: Future[bool], client_order_id: str, *, durable: bool) -> None:
    """Wait until an order is written down, but not for long.

    `durable`: it may not go out otherwise. Raises OrderNotSent then.
    """
    known = asyncio.wrap_future(mark)
    await asyncio.wait({known}, timeout=MARK_WAIT_S)
    if durable and not (
        known.done() and not known.cancelled() and known.exception() is None and known.result()
    ):
        raise OrderNotSent(
            f"the database did not confirm within {MARK_WAIT_S:g} s that the order {client_order_id} is "
            "written down, and in a pool no order goes out without that: another node could not look it up. "
            "Nothing was sent"
        )
