"""A cluster to be attacked: accounts that always answer, and both endpoints on tcp.

    python -m tests.hostile.victim HEALTH_PORT BROKERS_PORT ACCOUNTS HEARTBEAT_S

It prints a line when it has started, and ends with its standard input.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings

CASH = "100"


async def balance() -> Mapping[str, str]:
    """What every account holds."""
    return {"USD": CASH}


def main() -> None:
    """Run until the standard input is closed."""
    logging.basicConfig(level=logging.ERROR)
    health, brokers, accounts, heartbeat_s = sys.argv[1:5]
    settings = ClusterSettings(
        health_endpoint=f"tcp://127.0.0.1:{health}",
        broker_endpoint=f"tcp://127.0.0.1:{brokers}",
        heartbeat_s=float(heartbeat_s),
        remember=False,
    )
    specs = [BrokerSpec(f"k{number}", fetch=balance, poll_interval_s=2.0) for number in range(int(accounts))]
    with Cluster(specs, settings):
        print("up", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
