"""Nodes of one pool that lose their database at random: no two of them ever use one API key.

Each node reaches PostgreSQL over a link of its own, which is held (as when packets are lost) or cut. Their
clocks run at different rates and show different times. `python -m tests.pool.partitions` runs many rounds, on
a PostgreSQL of its own; a short round is a test.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from brokerwatch.clock import Instant, Leads, Limits
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx, serve
from tests.chaos.links import DOWN, UP, Link, Links
from tests.support.pools import PoolDesk, overlaps, pool_spec, until_shared

NODES: Final = ("one", "two", "three")
ACCOUNTS: Final = 6
DEADLINE_S: Final = 0.3
LEASE_S: Final = 1.4
"""2 × (0.3 + 0.25) + 0.25, and a bit."""
DRIFT: Final = 0.02
"""By how much a clock runs too fast or too slow: 28 ms in a lease, of which the skew allows 250."""
LONGEST_S: Final = 3.5


class SkewedClock:
    """A clock that runs at another rate than that of the machine, and shows another time."""

    def __init__(self, chance: random.Random) -> None:
        self._rate = 1.0 + chance.uniform(-DRIFT, DRIFT)
        self._off_us = round(chance.uniform(-3_600, 3_600) * 1e6)
        self._up_off_s = chance.uniform(0.0, 1e6)
        self._began_s = time.monotonic()

    def _passed_s(self) -> float:
        return (time.monotonic() - self._began_s) * self._rate

    def now(self) -> Instant:
        """The present moment by this clock."""
        return Instant(self._off_us + 1_800_000_000_000_000 + round(self._passed_s() * 1e6), self.up_s())

    def up_s(self) -> float:
        """Monotonic seconds by this clock."""
        return self._up_off_s + self._passed_s()

    def leads(self) -> Leads:
        """This clock never sleeps."""
        return self._off_us / 1e6 + 1_800_000_000.0 - self._up_off_s, 0.0

    def is_before(self, limits: Limits) -> bool:
        """As every clock has it."""
        leads = self.leads()
        return self.up_s() < limits[0] and leads[0] <= limits[1] and leads[1] <= limits[2]


@dataclass(slots=True)
class Round:
    """What became of one round."""

    partitions: int = 0
    calls: int = 0
    handovers: int = 0
    faults: list[str] = field(default_factory=list[str])


@contextmanager
def linked(links: Links, url: str) -> Generator[tuple[Link, str]]:
    """A way of its own to a database: the link, and the URL over it."""
    parts = urlsplit(url)
    assert parts.port is not None
    link = links.add(parts.port)
    place = parts.netloc.rpartition(":")[0]
    yield link, urlunsplit(parts._replace(netloc=f"{place}:{link.port}"))


def run(url: str, folder: Path, seed: int, partitions: int) -> Round:
    """Cut nodes off from their database so many times, and look at what the exchanges saw."""
    chance = random.Random(seed)
    kraken, okx = SimulatedKraken(), SimulatedOkx()
    kraken.private_log, okx.private_log = [], []
    found = Round()
    with ExitStack() as stack:
        stack.enter_context(serve(kraken, okx))
        specs = [
            pool_spec(
                (kraken, okx)[number % 2], f"a{number}", poll_interval_s=0.1, fetch_deadline_s=DEADLINE_S
            )
            for number in range(ACCOUNTS)
        ]
        links = stack.enter_context(Links())
        ways: dict[str, Link] = {}
        nodes: list[Cluster] = []
        desk = PoolDesk(url, folder, lease_s=LEASE_S)
        stack.callback(desk.close)
        for name in NODES:
            ways[name], its_url = stack.enter_context(linked(links, url))
            nodes.append(desk.node(name, specs, url=its_url, clock=SkewedClock(chance)))
        until_shared(nodes, specs)
        pause = threading.Event()
        for _ in range(partitions):
            link = ways[chance.choice(NODES)]
            kind = chance.random()
            if kind < 0.4:
                links.do(link.set, held=frozenset({UP, DOWN}))
            elif kind < 0.6:
                links.do(link.set, held=frozenset({DOWN}))  # what it asks is done, and it does not hear so
            else:
                links.do(link.set, cut=True)
            found.partitions += 1
            # Half of them outlast the lease, so that others take the keys.
            lasts_s = (
                chance.uniform(0.0, LEASE_S) if chance.random() < 0.5 else chance.uniform(LEASE_S, LONGEST_S)
            )
            pause.wait(lasts_s)
            if chance.random() < 0.8:
                links.do(link.set)
        for link in ways.values():
            links.do(link.set)
        until_shared(nodes, specs)
        calls = sorted([*kraken.private_log, *okx.private_log], key=lambda call: call.at_s)
        claims = desk.claims()
        found.calls = len(calls)
        found.handovers = sum(row.epoch - 1 for row in claims)
        found.faults = overlaps(calls, specs, claims)
    return found


def main() -> int:
    """Run rounds until so many partitions were made."""
    from tests.support.postgres import MISSING, folder_of_programs, started
    from tests.support.stores import emptied

    parser = argparse.ArgumentParser(prog="make partitions")
    parser.add_argument("--partitions", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    chosen = parser.parse_args()
    sys.stdout.write(f"seed {chosen.seed}\n")
    if (programs := folder_of_programs()) is None:
        sys.stderr.write(f"{MISSING}\n")
        return 2
    done, at = 0, 0
    with started(programs) as server:
        while done < chosen.partitions:
            many = min(50, chosen.partitions - done)
            with tempfile.TemporaryDirectory(prefix="bw-") as folder:
                found = run(emptied(server), Path(folder), chosen.seed + at, many)
            done, at = done + many, at + 1
            sys.stdout.write(
                f"{done} of {chosen.partitions} partitions, {found.calls} private calls, "
                f"{found.handovers} changes of an owner, {len(found.faults)} overlaps\n"
            )
            sys.stdout.flush()
            for fault in found.faults:
                sys.stdout.write(f"  seed {chosen.seed + at - 1}: {fault}\n")
            if found.faults:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
