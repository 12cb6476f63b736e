"""ccxt instances of the trader's own on a simulated exchange."""

from __future__ import annotations

from typing import Any

import ccxt

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.gateway.lease import TermOf, no_term
from brokerwatch.simulator import SimulatedExchange
from tests.support.clusters import HEARTBEAT_S, ONLY_WHEN_ASKED


def options(exchange: SimulatedExchange) -> dict[str, Any]:
    given = exchange.credentials
    return {
        "apiKey": given["api_key"],
        "secret": given["secret"],
        "password": given.get("password"),
        "enableRateLimit": False,
        "timeout": 2_000,
        # The default of Coinbase is the older API, which states no holds.
        **(
            {"options": {"fetchBalance": "v3PrivateGetBrokerageAccounts"}}
            if exchange.ccxt_id == "coinbase"
            else {}
        ),
        **exchange.ccxt_options(),
    }


def own(exchange: SimulatedExchange, library: Any = ccxt) -> Any:
    return getattr(library, exchange.ccxt_id)(options(exchange))


def cluster_on(instance: Any, *, term_of: TermOf = no_term, **values: Any) -> Cluster:
    chosen: dict[str, Any] = {"poll_interval_s": ONLY_WHEN_ASKED, "fetch_deadline_s": 5.0, **values}
    settings = ClusterSettings(
        heartbeat_s=HEARTBEAT_S,
        health_endpoint="tcp://127.0.0.1:*",
        remember=False,
        status_interval_s=float("inf"),
    )
    spec = BrokerSpec("mine", exchange=instance, simulated=True, **chosen)
    return Cluster([spec], settings, term_of=term_of)
