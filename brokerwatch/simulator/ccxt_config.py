"""The ccxt configuration that leads to a simulated exchange."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from brokerwatch.simulator import SimulatedExchange

_CCXT_NAMES: Final[Mapping[str, str]] = MappingProxyType({"api_key": "apiKey"})
"""ccxt's own name of a simulated exchange's credential where it differs from ours. The simulator imports no
other package, so the configuration's longer table is not used here."""

# Without it ccxt reads Coinbase's older list, which has neither holds nor pages and is not simulated.
CCXT_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {"coinbase": {"fetchBalance": "v3PrivateGetBrokerageAccounts"}}
)


def ccxt_config(
    exchange: SimulatedExchange, credentials: Mapping[str, str] | None = None
) -> dict[str, object]:
    """All that ccxt's constructor needs: `ccxt.kraken(ccxt_config(exchange))`.

    Args:
        exchange: The exchange, while it is served.
        credentials: Those of another account, in snake_case; None: those of the first.

    Raises:
        RuntimeError: The exchange is not served.
    """
    keys = exchange.credentials if credentials is None else credentials
    config: dict[str, object] = {_CCXT_NAMES.get(name, name): value for name, value in keys.items()}
    config |= exchange.ccxt_options()
    # ccxt's limiter would make a client wait seconds between two calls. The simulator sets no such limit.
    config["enableRateLimit"] = False
    if options := CCXT_OPTIONS.get(exchange.ccxt_id):
        config["options"] = dict(options)
    return config
