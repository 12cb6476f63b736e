"""Ask, then wait or await: what the synchronous and the awaited handle share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from brokerwatch.errors import BlockingCallInLoop

T = TypeVar("T")


GRACE_S: Final = 1.0
"""What a caller waits beyond the moment at which the actor must have answered."""


MOST_QUESTIONS: Final = 4
"""So many questions one call of the handle may ask one after the other, each with its own deadline."""


def not_in_a_loop(call: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BlockingCallInLoop(
        f"{call}would stop the running event loop until the exchange answers; use: await broker.{instead}"
    )


_under_way: set[asyncio.Task[Any]] = set()


async def run_shielded(work: Coroutine[Any, Any, T], goes_on: Callable[[], bool]) -> T:
    task = asyncio.create_task(work)
    _under_way.add(task)  # a loop keeps no hold of its tasks
    task.add_done_callback(_ended)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not goes_on():
            task.cancel()  # what nobody waits for leaves the queue to those who wait
        raise


def _ended(task: asyncio.Task[Any]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # asyncio would log it, all of it, where nobody waits for it any more
