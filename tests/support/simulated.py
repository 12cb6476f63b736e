"""A ccxt client for a simulated exchange, and one question to it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from brokerwatch.simulator import SimulatedExchange

# Through importlib, because ccxt's annotations do not pass a strict check.
ccxt: Final[Any] = importlib.import_module("ccxt.async_support")


@asynccontextmanager
async def open_client(simulated: SimulatedExchange, **credentials: str) -> AsyncGenerator[Any]:
    """A client with the first account's credentials, but for those that are given."""
    given = {**simulated.credentials, **credentials}
    client = getattr(ccxt, simulated.ccxt_id)(
        {
            "apiKey": given["api_key"],
            "secret": given["secret"],
            "password": given.get("password"),
            "enableRateLimit": False,
            "number": str,
            "timeout": 5_000,
            **simulated.ccxt_options(),
        }
    )
    client.timeout_on_exit = 0
    # Coinbase's default is an older endpoint without holds; the others do not know this option.
    client.options["fetchBalance"] = "v3PrivateGetBrokerageAccounts"
    client.options["tgtCcy"] = "quote_ccy"
    client.options["createMarketBuyOrderRequiresPrice"] = False
    try:
        yield client
    finally:
        await client.close()


def with_client(
    simulated: SimulatedExchange, use: Callable[[Any], Awaitable[Any]], **credentials: str
) -> Any:
    """What `use` returns for a client of its own."""

    async def main() -> Any:
        async with open_client(simulated, **credentials) as client:
            return await use(client)

    return asyncio.run(main())
