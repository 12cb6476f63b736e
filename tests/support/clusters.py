"""What tests build clusters from: simulated accounts, own callables, and waiting without sleeping."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from brokerwatch.bus.listener import Listener
from brokerwatch.clock import Clock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.gateway.lease import TermOf, no_term
from brokerwatch.messages import Reading
from brokerwatch.simulator import SimulatedExchange

ONLY_WHEN_ASKED = float("inf")
HEARTBEAT_S = 0.5
"""Silence is established in 7 s: a loaded machine that holds a thread for a second is no hanging actor."""
PATIENCE_S = 60.0
"""No test waits longer for anything. A machine under load may be slow; a broken product is never done."""
LOOK_S = 0.01


def simulated_spec(exchange: SimulatedExchange, name: str = "", **values: Any) -> BrokerSpec:
    """A broker on a simulated exchange, through real ccxt and HTTP."""
    chosen: dict[str, Any] = {"poll_interval_s": ONLY_WHEN_ASKED, "fetch_deadline_s": 5.0, **values}
    return BrokerSpec(
        name or f"{exchange.ccxt_id}-test",
        exchange=exchange.ccxt_id,
        credentials=MappingProxyType(dict(exchange.credentials)),
        ccxt=MappingProxyType(exchange.ccxt_options()),
        simulated=True,
        **chosen,
    )


def cluster_of(
    *specs: BrokerSpec,
    heartbeat_s: float = HEARTBEAT_S,
    clock: Clock | None = None,
    term_of: TermOf = no_term,
    **values: Any,
) -> Cluster:
    """A cluster on a port of its own. It remembers only where a test gives it a `state` folder."""
    chosen: dict[str, Any] = {"remember": "state" in values, **values}
    settings = ClusterSettings(heartbeat_s=heartbeat_s, health_endpoint="tcp://127.0.0.1:*", **chosen)
    return Cluster(specs, settings, clock=clock, term_of=term_of)


def until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait for something that another thread does, without a guess at how long it takes."""
    look_again = threading.Event()
    for _ in range(round(patience_s / LOOK_S)):
        if true():
            return
        look_again.wait(LOOK_S)
    raise AssertionError(f"not true within {patience_s:g} s")


class Till:
    """A source whose next outcomes a test decides: `balance` or an exception, one per fetch."""

    def __init__(self, balance: Mapping[str, Any] | None = None) -> None:
        self.balance: Mapping[str, Any] = {"USD": "100.00"} if balance is None else balance
        self.failure: BaseException | None = None
        self.fetches = 0
        self.hangs = False
        self.stuck = threading.Event()
        """Set once a fetch hangs."""

    async def __call__(self) -> Mapping[str, Any]:
        self.fetches += 1
        if self.hangs:
            self.stuck.set()
            await asyncio.get_running_loop().create_future()
        if self.failure is not None:
            raise self.failure
        return self.balance


def wait_for_reading(
    listener: Listener, broker: str, wanted: Callable[[Reading], bool], patience_s: float = PATIENCE_S
) -> Reading:
    """The reading of `broker` that a subscriber has, or hears next, and that is as wanted."""
    changes = listener.changes(wait_s=0.05, renewals=True)  # before the look, or what comes between is missed
    known = listener.readings().get(broker)
    if known is not None and wanted(known):
        return known
    waited: list[Reading] = []
    deadline = threading.Event()
    timer = threading.Timer(patience_s, deadline.set)
    timer.daemon = True
    timer.start()
    try:
        for heard in changes:
            if heard is not None and heard.reading.broker == broker:
                waited.append(heard.reading)
                if wanted(heard.reading):
                    return heard.reading
            if deadline.is_set():
                break
    finally:
        timer.cancel()
        timer.join()
    raise AssertionError(
        f"{broker} was never heard as wanted within {patience_s:g} s; heard: "
        + "; ".join(f"{r.status}/{r.reason}/{r.error_count}" for r in waited)
    )
