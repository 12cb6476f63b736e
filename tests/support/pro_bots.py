"""Bots of ccxt.pro at simulated exchanges, as they are and guarded."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from brokerwatch.dropin.guard import guard
from brokerwatch.simulator import SimulatedExchange
from brokerwatch.simulator.ccxt_config import ccxt_config
from brokerwatch.simulator.streams import Streams
from tests.support.clusters import LOOK_S, PATIENCE_S

ccxt: Final[Any] = importlib.import_module("ccxt")


def pro_instance(exchange: SimulatedExchange, **values: Any) -> Any:
    """An instance of ccxt.pro, as a bot makes it."""
    pro = importlib.import_module("ccxt.pro")
    return getattr(pro, exchange.ccxt_id)({**ccxt_config(exchange), **values})


@asynccontextmanager
async def plain(exchange: SimulatedExchange) -> AsyncGenerator[Any]:
    """ccxt.pro as it is, at a simulated exchange."""
    made = pro_instance(exchange)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def guarded(
    exchange: SimulatedExchange, configured: dict[str, Any] | None = None, **options: Any
) -> AsyncGenerator[Any]:
    """The same instance, guarded. `configured`: for ccxt, `options`: for guard()."""
    safe = guard(pro_instance(exchange, **(configured or {})), **options)
    try:
        yield safe
    finally:
        await safe.close()


async def quiet(made: Any, seconds: float = 0.3) -> Any:
    """What `watch_balance()` gives, or None where it does not return."""
    try:
        async with asyncio.timeout(seconds):
            return await made.watch_balance()
    except TimeoutError:
        return None


async def soon(call: Awaitable[Any]) -> Any:
    """What a call gives; a call that never returns fails the test."""
    async with asyncio.timeout(PATIENCE_S):
        return await call


async def together(*calls: Awaitable[Any]) -> list[Any]:
    """What calls give that wait at once."""
    return await asyncio.gather(*calls)


async def when(holds: Callable[[], object]) -> None:
    """Wait until this holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - the exchange is on another thread
            await asyncio.sleep(LOOK_S)


def streams_of(exchange: SimulatedExchange) -> Streams:
    """Its websockets."""
    assert exchange.streams is not None
    return exchange.streams
