"""The notifier end to end: a real cluster, real HTTP and SMTP on loopback, and what arrives there."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.errors import BalanceUnknown
from tests.support.clusters import Till, cluster_of
from tests.support.receivers import Received, web_receiver


def watched(till: Till, name: str = "till-1", **values: Any) -> BrokerSpec:
    return BrokerSpec(name, fetch=till, poll_interval_s=float("inf"), **values)


def fail(cluster: Cluster, till: Till, name: str = "till-1") -> None:
    """Three faults in a row."""
    till.failure = ValueError("the till is stuck")
    for _ in range(3):
        with contextlib.suppress(BalanceUnknown):
            cluster.broker(name).get_account_balance()


def recover(cluster: Cluster, till: Till, name: str = "till-1") -> None:
    till.failure = None
    cluster.broker(name).get_account_balance()


def notifying(received: Received, *specs: BrokerSpec, state: Path, **values: Any) -> Cluster:
    return cluster_of(*specs, state=state, notify=NotifySettings(urls=(received.url(),), **values))


def test_one_outage_is_one_message_and_its_end_is_another(tmp_path: Path) -> None:
    till = Till()
    with web_receiver() as received, notifying(received, watched(till), state=tmp_path) as cluster:
        recover(cluster, till)
        fail(cluster, till)
        [outage] = received.has(1)
        recover(cluster, till)
        received.has(2)
    titles = received.titles
    assert titles[0] == "[critical] till-1 is not available: errors, bad_response"
    assert titles[1].startswith("[recovery] till-1 is available again after ")
    assert "Last known cash there: 100.00 USD, as of 0 s before this message." in outage["message"]
    assert len(titles) == 2
