"""How long an outage, and its end, go unnoticed: both policies beside polling by hand.

There are several accounts of each kind, each polled every ten seconds. From some moment on all of them fail,
and later they answer again. The time of an outage runs from an account's first failure until it is
unavailable; that of a recovery from the end of the outage until it is available. "By hand" is a loop that
asks, sleeps for the poll interval, takes the account out after three failures in a row, and takes it back
after one answer.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.measure import Numbers, Row, run
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings

KINDS: Final = ("hand", "simple", "guarded")

ROWS: Final = (
    Row("hand_out", "outage noticed by hand", "s"),
    Row("simple_out", "outage noticed, `simple`", "s", over="hand_out"),
    Row("guarded_out", "outage noticed, `guarded`", "s", over="hand_out"),
    Row("hand_back", "recovery noticed by hand", "s"),
    Row("simple_back", "recovery noticed, `simple`", "s", over="hand_back"),
    Row("guarded_back", "recovery noticed, `guarded`, which asks for two answers", "s", over="hand_back"),
)

POLL_S: Final = 10.0
ACCOUNTS: Final = 12
"""Of each kind."""
STRIKES: Final = 3
LOOK_S: Final = 0.002
"""How often the availability of an account is read: the resolution of the numbers."""


class Outage(Exception):
    """What an account answers with while its exchange is down."""


class Exchange:
    """Is up or down, for all subjects."""

    def __init__(self) -> None:
        self.down = False


class Account:
    """An account at the exchange, which notes when it failed first."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.failed_s = 0.0

    async def __call__(self) -> Mapping[str, str]:
        """Its balance."""
        if self._exchange.down:
            self.failed_s = self.failed_s or time.monotonic()
            raise Outage("503 Service Unavailable")
        return {"USD": "100.00"}


class Hand:
    """A loop as people write it."""

    def __init__(self, account: Account, poll_s: float) -> None:
        self._account = account
        self._poll_s = poll_s
        self._available = True

    def is_available(self) -> bool:
        """What the loop thinks."""
        return self._available

    async def run(self) -> None:
        """Ask for ever."""
        strikes = 0
        await asyncio.sleep(random.uniform(0.0, self._poll_s))
        while True:
            try:
                await self._account()
            except Outage:
                strikes += 1
                self._available = strikes < STRIKES
            else:
                strikes, self._available = 0, True
            await asyncio.sleep(self._poll_s)


def noticed(asks: Mapping[str, Callable[[], bool]], *, available: bool) -> dict[str, float]:
    """The moment from which each of these says so, in monotonic seconds. Waits for all."""
    found: dict[str, float] = {}
    while len(found) < len(asks):
        for name, ask in asks.items():
            if name not in found and ask() is available:
                found[name] = time.monotonic()
        time.sleep(LOOK_S)
    return found


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """Seconds of each row, the median over the accounts."""
    poll_s, count = (0.2, 2) if quick else (POLL_S, ACCOUNTS)
    exchange = Exchange()
    accounts = {f"{kind}-{number}": Account(exchange) for kind in KINDS for number in range(count)}
    specs = [
        BrokerSpec(name, fetch=account, poll_interval_s=poll_s, policy=name.partition("-")[0])
        for name, account in accounts.items()
        if not name.startswith("hand")
    ]
    hands = {name: Hand(account, poll_s) for name, account in accounts.items() if name.startswith("hand")}

    async def by_hand() -> None:
        await asyncio.gather(*(hand.run() for hand in hands.values()))

    threading.Thread(target=lambda: asyncio.run(by_hand()), daemon=True).start()
    settings = ClusterSettings(remember=False, health_endpoint="tcp://127.0.0.1:*")
    with Cluster(specs, settings) as cluster:
        asks: dict[str, Callable[[], bool]] = {name: hand.is_available for name, hand in hands.items()}
        asks |= {spec.name: cluster.broker(spec.name).is_available for spec in specs}
        noticed(asks, available=True)
        time.sleep(2 * poll_s)  # until the polls lie apart from each other
        exchange.down = True
        out_s = noticed(asks, available=False)
        time.sleep(random.uniform(0.0, poll_s))
        exchange.down, mended_s = False, time.monotonic()
        back_s = noticed(asks, available=True)

    def of(kind: str, times: Mapping[str, float]) -> float:
        return statistics.median(taken for name, taken in times.items() if name.startswith(kind))

    outs = {name: at_s - accounts[name].failed_s for name, at_s in out_s.items()}
    backs = {name: at_s - mended_s for name, at_s in back_s.items()}
    return {
        **{f"{kind}_out": of(kind, outs) for kind in KINDS},
        **{f"{kind}_back": of(kind, backs) for kind in KINDS},
    }


if __name__ == "__main__":
    run(measure)
