"""What a cluster that runs keeps of accounts that left: nothing, in any of its tables and at its listeners.

A process that runs for months is reloaded again and again. What it keeps of each change, and not of what
there is, is a leak. The tests count what is kept, and look at no memory.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final, cast

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.gateway import ccxt_instances, gateway
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support import own_instances
from tests.support.clusters import ONLY_WHEN_ASKED, Till, cluster_of, simulated_spec, until

HEARTBEAT_S: Final = 0.1
"""A time to live of 1.4 s, after which nothing that was sent before counts."""
ROUNDS: Final = 4
LOOKS_S: Final = 1.0
"""A hundred looks. Each of them walks through all objects, which takes some tenths of a second by itself."""


def tables_with(words: Iterable[str]) -> list[str]:
    """The tables of brokerwatch's own objects that still have one of these words as a key or an element."""
    gc.collect()
    found: list[str] = []
    wanted = tuple(words)
    for each in gc.get_objects():
        if not str(type(each).__module__).startswith("brokerwatch."):
            continue
        for name, table in _tables(each):
            for key in tuple(cast("Iterable[object]", table)):
                text = key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)
                if any(word in text for word in wanted):
                    found.append(f"{type(each).__qualname__}.{name} has {text}")
    return found


def _tables(owner: object) -> Iterator[tuple[str, Any]]:
    names = list(getattr(owner, "__dict__", {}))
    for kind in type(owner).__mro__:
        slots: str | Iterable[str] = kind.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    for name in names:
        table = getattr(owner, name, None)
        if isinstance(table, dict | list | set | frozenset | tuple | MappingProxyType):
            yield name, table


def own(name: str) -> BrokerSpec:
    return BrokerSpec(name, fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)


def gateway_of(cluster: Cluster) -> Any:
    return cluster._members.gateway  # pyright: ignore[reportPrivateUsage] - what it keeps is looked at


def test_nothing_is_kept_of_accounts_that_left() -> None:
    left = [f"departed-{number}" for number in range(ROUNDS)]
    with (
        cluster_of(own("stays"), heartbeat_s=HEARTBEAT_S) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        for name in left:
            cluster.add(own(name))
            cluster.broker(name).get_account_balance()
            until(partial(listener.is_available, name))
            cluster.remove(name)
        assert tables_with(["stays"]), "else the search finds nothing at all"
        until(lambda: not tables_with(left), LOOKS_S)


def test_an_account_that_comes_back_after_it_was_forgotten_is_heard_of_and_counts_as_no_loss() -> None:
    with (
        cluster_of(own("stays"), own("returns"), heartbeat_s=HEARTBEAT_S) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        until(lambda: "returns" in listener.readings())
        cluster.remove("returns")
        until(lambda: not tables_with(["returns"]), LOOKS_S)
        lost = listener.lost
        cluster.add(own("returns"))
        cluster.broker("returns").get_account_balance()
        until(lambda: listener.is_available("returns"))
        assert listener.lost == lost


@pytest.fixture
def kraken() -> Iterator[SimulatedKraken]:
    exchange = SimulatedKraken()
    with serve(exchange):
        yield exchange


def test_instances_to_copy_from_are_limited_while_another_account_is_at_the_same_exchange(
    kraken: SimulatedKraken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccxt_instances, "MOST_PROTOTYPES", 3)
    with cluster_of(simulated_spec(kraken, "stays"), simulated_spec(kraken, "changes")) as cluster:
        for number in range(10):
            cluster.replace(simulated_spec(kraken, "changes", fetch_deadline_s=5.0 + number / 10))
            cluster.broker("changes").get_account_balance()
        until(lambda: len(gateway_of(cluster)._instances._prototypes) <= 4)
        assert cluster.broker("stays").get_account_balance() is not None


def test_addresses_that_no_account_leaves_by_are_limited(
    kraken: SimulatedKraken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "KEPT_ADDRESSES", 3)
    monkeypatch.setattr("brokerwatch.gateway.lanes.KEPT_LANES", 1)
    monkeypatch.setattr(gateway, "RETIRED_S", 0.01)
    with cluster_of(simulated_spec(kraken, "stays")) as cluster:
        for number in range(10):
            spec = simulated_spec(kraken, f"leaves-{number}")
            ccxt = MappingProxyType({**spec.ccxt, "httpProxy": f"http://127.0.0.1:{number + 1}"})
            cluster.add(replace(spec, ccxt=ccxt))
            cluster.remove(f"leaves-{number}")

        def few() -> bool:
            gc.collect()
            return len(gateway_of(cluster)._addresses) <= 5

        until(few)


def test_no_thread_is_left_of_an_instance_that_blocks_and_whose_account_left(kraken: SimulatedKraken) -> None:
    def blocking() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name.startswith("brokerwatch-sync")]

    with cluster_of(own("stays")) as cluster:
        for number in range(3):
            mine = own_instances.own(kraken)
            spec = BrokerSpec(
                f"mine-{number}", exchange=mine, poll_interval_s=ONLY_WHEN_ASKED, simulated=True
            )
            cluster.add(spec)
            handle = cluster.broker(spec.name)
            handle.get_account_balance()
            handle.normalize_symbol("BTC/USD")
            assert any("public" in name for name in blocking())
            cluster.remove(spec.name)
        until(lambda: not blocking())
        assert not gateway_of(cluster)._threads
