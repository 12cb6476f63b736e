"""The ccxt configuration that leads to a simulated exchange."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from brokerwatch.config.broker_spec import CCXT_NAMES
from brokerwatch.simulator import SimulatedExchange

# Without it ccxt reads Coinbase's older list, which has neither holds nor pages and is not simulated.
CCXT_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {"coinbase": {"fetchBalance": "v3PrivateGetBrokerageAccounts"}}
)


def ccxt_config(
    exchange: SimulatedExchange, credentials: Mapping[str, str] | None = None
) -> dict[str, object]:
    """All that ccxt's constructor needs: `ccxt.kraken(ccxt_config(exchange))`.

    `credentials` are those of the first account, unless given. RuntimeError outside `serve`.
    """
    keys = exchange.credentials if credentials is None else credentials
    config: dict[str, object] = {CCXT_NAMES.get(name, name): value for name, value in keys.items()}
    config |= exchange.ccxt_options()
    # Its limiter would make a client wait seconds between two calls, and nobody limits us here.
    config["enableRateLimit"] = False
    if options := CCXT_OPTIONS.get(exchange.ccxt_id):
        config["options"] = dict(options)
    return config
