"""What one read of a balance costs the trader's process, beside plain ccxt and beside bare aiohttp.

The number is the CPU of the whole process, all its threads, per fetch. The simulated exchange runs in another
process on another core. Plain ccxt is its asynchronous `fetch_balance`, with the markets loaded before. Bare
aiohttp sends ccxt's last request again, to an address that always gives ccxt's last answer, and reads the
JSON. brokerwatch is measured in layers: the read alone (lane, gateway, strict parse); the same asked by the
account's actor, which folds it; and a whole running cluster with board, bus, supervisor and health topic,
without a store and with the default store in SQLite. A cluster waits between two polls, and a process that
wakes from a wait costs more than one that goes on. So plain ccxt is measured back to back, and paced by the
same wait.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import ccxt.async_support as ccxt

from benchmarks.elsewhere import Elsewhere
from benchmarks.exchanges import spec
from benchmarks.measure import Numbers, Row, run
from brokerwatch.actors.base import wait_for_end
from brokerwatch.actors.board import Slot
from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.broker_context import BrokerContext
from brokerwatch.actors.protocol import FetchNow
from brokerwatch.clock import SystemClock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.timers import Timers
from brokerwatch.config.broker_spec import CCXT_NAMES, BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.gateway.gateway import Gateway
from brokerwatch.gateway.loop import LoopThread
from brokerwatch.health.outcome import FetchOutcome
from brokerwatch.health.reading import evidence
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.messages import Balance, Reading
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import Remembered

TARGETS: Final[Mapping[str, float]] = {"kraken": 1.1, "okx": 1.1, "coinbase": 0.8}
"""At most so many times plain ccxt."""


def _rows() -> tuple[Row, ...]:
    found: list[Row] = []
    for name, target in TARGETS.items():
        found += [
            Row(f"{name}_bare", f"{name}: bare aiohttp", "µs"),
            Row(f"{name}_plain", f"{name}: plain ccxt `fetch_balance`", "µs", over=f"{name}_bare"),
            Row(f"{name}_read", f"{name}: lane, gateway, strict parse", "µs", over=f"{name}_plain"),
            Row(
                f"{name}_actor", f"{name}: the same and its actor", "µs", over=f"{name}_plain", at_most=target
            ),
            Row(f"{name}_actor", f"{name}: that against bare aiohttp", "µs", over=f"{name}_bare"),
            Row(f"{name}_paced", f"{name}: plain ccxt, paced as the cluster is", "µs", over=f"{name}_plain"),
            Row(f"{name}_cluster", f"{name}: in a cluster, without a store", "µs", over=f"{name}_plain"),
            Row(f"{name}_cluster", f"{name}: that against plain ccxt, paced", "µs", over=f"{name}_paced"),
            Row(f"{name}_stored", f"{name}: in a cluster, with its store", "µs", over=f"{name}_plain"),
            Row(f"{name}_stored", f"{name}: that against plain ccxt, paced", "µs", over=f"{name}_paced"),
            Row(f"{name}_asked", f"{name}: that, by `get_account_balance()`", "µs", over=f"{name}_plain"),
        ]
    return tuple(found)


ROWS: Final = _rows()
ROUNDS: Final = 5
KEYS: Final = 6
OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    # The accounts of Advanced Trade, as we read them; the default is an older list without what is held.
    "coinbase": {"options": {"fetchBalance": "v3PrivateGetBrokerageAccounts"}},
}
POLL_S: Final = 0.002
"""Polls follow each other, so that hardly any of the CPU is spent on anything else."""
PATIENCE_S: Final = 60.0


async def cpu_of(call: Callable[[], Awaitable[object]], times: int) -> float:
    """CPU microseconds of each call."""
    before = time.process_time()
    for _ in range(times):
        await call()
    return (time.process_time() - before) / times * 1e6


def cpu_between(times: int, one: Callable[[], object]) -> float:
    """The same for calls that wait."""
    one()
    before = time.process_time()
    for _ in range(times):
        one()
    return (time.process_time() - before) / times * 1e6


def _ignore(event: object) -> bool:
    del event
    return True


@contextmanager
def gateway() -> Generator[tuple[Gateway, LoopThread]]:
    """A gateway on a loop of its own."""
    loop = LoopThread("exchanges")
    loop.start()
    found = Gateway(loop, SystemClock(), Journal(None), Remembered(), None)
    try:
        yield found, loop
    finally:
        found.close(2.0)
        loop.stop(2.0)


def read(account: BrokerSpec, times: int) -> float:
    """Lane, gateway and strict parse, one fetch started by the end of the other."""
    with gateway() as (gate, _):
        source = gate.account(account).source
        left, ended = times, threading.Event()
        before, after = 0.0, 0.0

        def done(outcome: FetchOutcome) -> None:
            nonlocal left, before, after
            if not isinstance(outcome, Balance):
                raise TypeError(repr(outcome))
            before = before or time.process_time()
            left -= 1
            if left >= 0:
                source.fetch(8.0, done)
            else:
                after = time.process_time()
                ended.set()

        source.fetch(8.0, done)
        if not ended.wait(PATIENCE_S):
            raise RuntimeError(f"{account.name} was not read {times} times")
    return (after - before) / times * 1e6


def acted(account: BrokerSpec, times: int) -> float:
    """The same, asked by the account's actor, which folds each outcome and shows it on the board."""
    clock = SystemClock()
    with gateway() as (gate, loop):
        source = gate.account(account).source
        health = Health.begin(clock.now())
        slot = Slot(evidence(account, "", health, clock.now(), clock, 1.0), health, NO_VETOES)
        around = BrokerContext(
            source=source, slot=slot, alarms=Timers(loop), clock=clock, heartbeat_s=1.0, journal=Journal(None)
        )
        actor = BrokerActor.start(account, "1", health, around, _ignore, print)

        def one() -> None:
            waiter: Future[Reading] = Future()
            actor.tell(FetchNow(waiter))
            waiter.result(PATIENCE_S)

        try:
            return cpu_between(times, one)
        finally:
            wait_for_end(actor, 5.0)


def clustered(account: BrokerSpec, times: int, folder: str, *, asked: bool) -> float:
    """A whole cluster: CPU of each poll, or of each `get_account_balance()`."""
    settings = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=bool(folder), state=folder)
    with Cluster([account], settings) as cluster:
        broker = cluster.broker(account.name)
        if asked:
            cost = cpu_between(times, broker.get_account_balance)
        else:
            broker.get_account_balance()
            first, before = cluster.reading(account.name).version, time.process_time()
            # A heartbeat counts too, but there is one in some five hundred polls.
            while (done := cluster.reading(account.name).version - first) < times:
                time.sleep(0.02)
            cost = (time.process_time() - before) / done * 1e6
        if not broker.is_available() or broker.get_error_count():
            raise RuntimeError(f"{account.name}: {broker.reading().detail}")
    return cost


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """CPU microseconds of each row: the median of several rounds, taken in turns."""
    times, rounds = (5, 1) if quick else (300, ROUNDS)
    found: dict[str, list[float]] = {}
    with (
        Elsewhere("exchanges", "serve") as other,
        Elsewhere("exchanges", "serve") as fixed,
        tempfile.TemporaryDirectory() as folder,
    ):
        places = other.ask(accounts=dict.fromkeys(TARGETS, KEYS))
        echoes = fixed.ask(accounts=dict.fromkeys(TARGETS, 1))
        for number in range(rounds):
            for name in TARGETS:
                costs = plain(name, places[name], echoes[name], fixed, times)
                # A key for each layer: at more than a call a millisecond its nonces run ahead of the clock.
                asked, polled = (
                    [
                        spec(name, places[name], account, read_funding=False, poll_interval_s=poll_s)
                        for account in range(KEYS)
                    ]
                    for poll_s in (float("inf"), POLL_S)
                )
                costs |= {
                    "read": read(asked[1], times),
                    "actor": acted(asked[2], times),
                    "cluster": clustered(polled[3], times, "", asked=False),
                    "stored": clustered(polled[4], times, f"{folder}/{name}-{number}", asked=False),
                    "asked": clustered(asked[5], times, f"{folder}/{name}-{number}-asked", asked=True),
                }
                for kind, cost in costs.items():
                    found.setdefault(f"{name}_{kind}", []).append(cost)
    return {name: statistics.median(costs) for name, costs in found.items()}


def plain(
    name: str, place: Mapping[str, Any], echo: Mapping[str, Any], fixed: Elsewhere, times: int
) -> dict[str, float]:
    """CPU microseconds of each fetch with plain ccxt and with bare aiohttp."""
    keys = {CCXT_NAMES.get(key, key): value for key, value in place["credentials"][0].items()}
    options = {**place["options"], **OPTIONS.get(name, {}), **keys, "enableRateLimit": False}

    async def both() -> dict[str, float]:
        exchange: Any = getattr(ccxt, name)(options)
        try:
            await exchange.load_markets()
            await exchange.fetch_balance()
            last = exchange.last_request_url, exchange.last_request_body, exchange.last_request_headers
            path = last[0].removeprefix(place["url"])
            fixed.ask(fixed=name, path=path.partition("?")[0], body=exchange.last_http_response)
            costs = {"plain": await cpu_of(exchange.fetch_balance, times)}

            async def paced() -> None:
                await exchange.fetch_balance()
                await asyncio.sleep(POLL_S)

            costs["paced"] = await cpu_of(paced, times)
        finally:
            await exchange.close()
        method = "GET" if last[1] is None else "POST"
        async with aiohttp.ClientSession() as session:

            async def ask() -> object:
                url = echo["url"] + path
                async with session.request(method, url, data=last[1], headers=last[2]) as answer:
                    return json.loads(await answer.text())

            await ask()
            costs["bare"] = await cpu_of(ask, times)
        return costs

    return asyncio.run(both())


if __name__ == "__main__":
    run(measure)
