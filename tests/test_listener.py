"""The external subscriber beside a real cluster: joining late, going silent, coming back."""

from __future__ import annotations

import socket
from decimal import Decimal

import pytest

from brokerwatch import ConfigError, Listener, UnknownBroker
from brokerwatch.cluster import Cluster
from brokerwatch.config import BrokerSpec, ClusterSettings
from brokerwatch.messages import HealthState, Reading, Reason
from tests.clusters import HEARTBEAT_S, ONLY_WHEN_ASKED, PATIENCE_S, Till, cluster_of, wait_for_reading


def free_endpoint() -> str:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def cluster_at(endpoint: str, name: str = "main", till: Till | None = None) -> Cluster:
    spec = BrokerSpec("a", fetch=till or Till(), poll_interval_s=ONLY_WHEN_ASKED)
    return Cluster([spec], ClusterSettings(name=name, health_endpoint=endpoint, heartbeat_s=HEARTBEAT_S))


def with_cash(reading: Reading) -> bool:
    return reading.available and reading.cash == Decimal(100)


def test_a_late_joiner_agrees_with_the_cluster() -> None:
    till = Till({"USD": "100", "EUR": "1.50"})
    with cluster_of(
        BrokerSpec("a", fetch=till, poll_interval_s=ONLY_WHEN_ASKED, labels={"desk": "x"})
    ) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        till.failure = ConnectionError("down")
        for _ in range(3):
            broker.get_account_balance()
        with Listener(cluster.health_endpoint) as listener:
            heard = wait_for_reading(listener, "a", lambda reading: reading.error_count == 3)
            mine = broker.reading()
            assert (heard.state, heard.available, heard.reason) == (mine.state, mine.available, mine.reason)
            assert (heard.cash, heard.balance, heard.labels) == (mine.cash, mine.balance, {"desk": "x"})
            assert (heard.as_of_us, heard.since_us, heard.fault) == (mine.as_of_us, mine.since_us, mine.fault)
            assert listener.complete.wait(PATIENCE_S)
            assert not listener.is_available("a")


def test_a_listener_that_was_there_first_hears_a_cluster_that_starts_later_and_its_successor() -> None:
    endpoint = free_endpoint()
    with Listener(endpoint) as listener:
        with pytest.raises(UnknownBroker):
            listener.reading("a")
        assert not listener.is_available("a")
        with cluster_at(endpoint) as first:
            first.broker("a").get_account_balance()
            epoch = wait_for_reading(listener, "a", with_cash).broker_epoch
        gone = wait_for_reading(listener, "a", lambda reading: not reading.available)
        assert (gone.state, gone.reason) == (HealthState.UNKNOWN, Reason.SHUTDOWN)
        assert gone.cash == Decimal(100)
        with cluster_at(endpoint) as second:
            second.broker("a").get_account_balance()
            again = wait_for_reading(listener, "a", with_cash)
            assert again.broker_epoch > epoch


def test_amounts_stay_inside_when_they_are_not_to_be_published() -> None:
    with cluster_of(
        BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED), publish_balances=False
    ) as cluster:
        assert cluster.broker("a").get_account_balance() == Decimal(100)
        with Listener(cluster.health_endpoint) as listener:
            heard = wait_for_reading(listener, "a", lambda reading: reading.as_of_us is not None)
            assert (heard.cash, heard.balance) == (None, None)
            assert heard.available
            assert not heard.stale


def test_of_two_clusters_with_a_broker_of_one_name_the_worse_one_counts() -> None:
    endpoints = [free_endpoint(), free_endpoint()]
    broken = Till()
    with (
        cluster_at(endpoints[0], "good") as good,
        cluster_at(endpoints[1], "bad", broken) as bad,
        Listener(*endpoints) as listener,
    ):
        for cluster in (good, bad):
            cluster.broker("a").get_account_balance()
        wait_for_reading(listener, "a", with_cash)
        broken.failure = ConnectionError("down")
        for _ in range(3):
            bad.broker("a").get_account_balance()
        wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.ERRORS)
        before = len(listener.heard())
        good.broker("a").get_account_balance()
        wait_for_reading(listener, "a", lambda reading: reading.available)
        assert before == 2
        assert not listener.is_available("a")


@pytest.mark.parametrize(
    "endpoint", ["tcp://10.0.0.1:5571", "127.0.0.1:5571", "tcp://*:5571", "tcp://127.0.0.1"]
)
def test_an_endpoint_that_cannot_be_listened_to_is_refused_in_words(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Listener(endpoint)


@pytest.mark.parametrize("kind", ["ipc", "tcp", "inproc"])
def test_the_brokers_bus_may_be_any_transport(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    endpoint = {
        "ipc": f"ipc://{tmp_path_factory.mktemp('bus')}/brokers",
        "tcp": free_endpoint(),
        "inproc": "inproc://brokers",
    }[kind]
    with cluster_of(
        BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED), broker_endpoint=endpoint
    ) as cluster:
        assert cluster.broker("a").is_available()
        cluster.broker("a").get_account_balance()
        with Listener(cluster.health_endpoint) as listener:
            wait_for_reading(listener, "a", with_cash)


def test_who_listens_inside_the_process_needs_no_socket_beyond_it() -> None:
    settings = ClusterSettings(health_endpoint="inproc://health", heartbeat_s=HEARTBEAT_S)
    with Cluster([BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)], settings) as cluster:
        cluster.broker("a").get_account_balance()
        with cluster.listener() as listener:
            wait_for_reading(listener, "a", with_cash)
