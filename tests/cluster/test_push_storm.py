"""A storm of faults on the stream: an amount without a mark is one that a read stated, at every moment."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.gateway import kept_stream
from brokerwatch.messages import Reading
from brokerwatch.simulator import SimulatedExchange, serve
from tests.cluster.test_push import PUSHING, live, marked, pushing, total
from tests.support.clusters import cluster_of, until
from tests.support.pro_bots import streams_of

STORM_S: Final = 3.0
FAULTS: Final = (
    "drop",
    "duplicate",
    "swap",
    "garbage",
    "unnoticed",
    "old_snapshot",
    "no_handshake",
)


@dataclass
class Truth:
    """What the exchange had, and from when on."""

    exchange: SimulatedExchange
    chance: random.Random
    amounts: dict[str, str] = field(default_factory=dict[str, str])
    past: dict[str, list[tuple[float, Decimal]]] = field(
        default_factory=dict[str, list[tuple[float, Decimal]]]
    )

    def change(self, currency: str) -> None:
        """Another amount, from now on."""
        self.amounts[currency] = str(self.chance.randint(1, 1_000_000))
        self.exchange.set_balance({code: (amount, "0") for code, amount in self.amounts.items()})
        self.past.setdefault(currency, []).append((time.monotonic(), Decimal(self.amounts[currency])))

    def since(self, currency: str, asked_s: float) -> Iterator[Decimal]:
        """What there was from this moment on; with it the amount that it began with."""
        times = self.past[currency]
        for number, (_, amount) in enumerate(times):
            ended_s = times[number + 1][0] if number + 1 < len(times) else float("inf")
            # What follows is noted once the exchange has it, however long that took.
            if ended_s >= asked_s:
                yield amount


def check(reading: Reading, truth: Truth) -> None:
    """Raise AssertionError for an amount that is wrong and has no mark."""
    if reading.balance is None or reading.as_of is None:
        return
    for currency, held in reading.balance.items():
        everything = [amount for _, amount in truth.past[currency]]
        if held.pushed_us is None and held.unstated_since_us is None:
            assert held.total in list(truth.since(currency, reading.as_of.up_s)), (
                currency,
                held,
                reading.as_of,
            )
        else:
            assert held.total in everything, (currency, held)


def calm(cluster: Cluster, truth: Truth) -> bool:
    wanted = {code: Decimal(amount) for code, amount in truth.amounts.items()}
    return not marked(cluster.reading("a")) and all(total(cluster, code) == wanted[code] for code in wanted)


@pytest.mark.parametrize("make", PUSHING)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_fault_of_a_stream_shows_a_wrong_amount_without_a_mark(
    make: type[SimulatedExchange], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_stream, "LONGEST_S", 0.05)  # it is there for most of the storm
    exchange, chance = make(), random.Random(seed)
    truth, streams, pace = Truth(exchange, chance), streams_of(exchange), threading.Event()
    for currency in ("USDT", "BTC", "ETH"):
        truth.change(currency)
    # Where nothing is pushed it is polled as often as this.
    with serve(exchange), cluster_of(pushing(exchange, poll_interval_s=0.5)) as cluster:
        live(cluster)
        end_s = time.monotonic() + STORM_S
        while time.monotonic() < end_s:
            pace.wait(0.001)
            event = chance.randrange(400)
            if event == 0:
                if chance.random() < 0.5:
                    streams.set_fault("old_snapshot", 1)
                streams.cut(abort=chance.random() < 0.5)
            elif event < 6:
                streams.set_fault(chance.choice(FAULTS), 1)
            elif event < 20:
                truth.change(chance.choice(("USDT", "BTC", "ETH")))
            else:
                check(cluster.reading("a"), truth)
        streams.mend()
        truth.change("USDT")
        until(lambda: calm(cluster, truth))
        check(cluster.reading("a"), truth)
