"""A thousand accounts in one process, on the simulated exchanges: what it costs to watch them.

    python examples/thousand_accounts.py --accounts 1000 --seconds 60

The exchanges are programs of their own, so the memory and the threads that are shown are those of the process
with the accounts alone. No real exchange is asked; Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from brokerwatch import BrokerSpec, Cluster, ClusterSettings

EXCHANGES = ("kraken", "coinbase", "okx")
LOOK_S = 1.0
OVER_S = 10.0
"""Polls are counted over so long."""
END_S = 10.0
"""How long an exchange may take to end."""


def main() -> None:
    """Watch so many accounts, and say once a second how they are."""
    parser = argparse.ArgumentParser(description="Watch many simulated accounts in one process.")
    parser.add_argument("--accounts", type=int, default=1_000, metavar="N", help="1000 unless given")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, metavar="S", help="until Ctrl-C unless given"
    )
    parser.add_argument(
        "--poll", type=float, default=10.0, metavar="S", help="between two polls; 10 unless given"
    )
    chosen = parser.parse_args()
    if chosen.accounts < 1 or not chosen.seconds > 0 or not chosen.poll > 0:
        parser.error("expected at least one account, and seconds above 0")
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    with ExitStack() as running:
        specs: list[BrokerSpec] = []
        for place, name in enumerate(EXCHANGES):
            count = len(range(place, chosen.accounts, len(EXCHANGES)))  # each exchange gets its share
            if count:
                served = running.enter_context(simulated(name, count))
                specs += specs_of(name, served, chosen.poll)
        folder = running.enter_context(tempfile.TemporaryDirectory())
        settings = ClusterSettings(name="thousand", health_endpoint="tcp://127.0.0.1:*", state=folder)
        began_s = time.monotonic()
        with Cluster(specs, settings) as cluster:
            say(f"{len(specs):,} simulated accounts, started in {time.monotonic() - began_s:.1f} s\n")
            watch(cluster, stop, began_s + chosen.seconds)


@contextmanager
def simulated(name: str, accounts: int) -> Generator[Mapping[str, Any]]:
    """An exchange in a process of its own; what it said of itself when it began."""
    command = [sys.executable, "-m", "brokerwatch", "simulate", name, "--accounts", str(accounts), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            first = process.stdout.readline() if process.stdout else ""
            if not first:
                raise SystemExit(f"the simulated {name} did not start")
            yield json.loads(first)
        finally:
            process.terminate()
            process.wait(END_S)


def specs_of(name: str, served: Mapping[str, Any], poll_s: float) -> list[BrokerSpec]:
    """A broker for each account of an exchange."""
    return [
        BrokerSpec(
            f"{name}-{number:04d}",
            exchange=name,
            credentials=keys,
            ccxt={"urls": served["ccxt"]["urls"]},
            poll_interval_s=poll_s,
            policy="guarded",
            simulated=True,
        )
        for number, keys in enumerate(served["accounts"], 1)
    ]


def watch(cluster: Cluster, stop: threading.Event, until_s: float) -> None:
    """One line, every second anew. Everything in it is read from memory; nobody is asked for it."""
    known: dict[str, int | None] = {}
    looked_s = time.monotonic()
    polled: deque[tuple[float, int]] = deque([(looked_s, 0)], maxlen=round(OVER_S / LOOK_S))
    live = sys.stdout.isatty()
    while looked_s < until_s and not stop.wait(min(LOOK_S, until_s - looked_s)):
        readings = cluster.readings()
        now_s = time.monotonic()
        # A balance that was asked for later than the one before is a poll that was answered.
        polled.append((now_s, sum(one.as_of_us != known.get(one.broker) for one in readings)))
        known = {one.broker: one.as_of_us for one in readings}
        polls = sum(count for _, count in list(polled)[1:]) / (now_s - polled[0][0])
        available = sum(one.available for one in readings)
        parts = (
            f"{available:,} of {len(readings):,} available",
            f"{polls:,.0f} polls/s",
            f"{resident_mb():,.0f} MB",
            f"{threading.active_count()} threads",
        )
        say(("\r" if live else "") + " · ".join(parts) + ("   " if live else "\n"))
        looked_s = now_s
    if live:
        say("\n")


def resident_mb() -> float:
    """Memory of this process; where the system has no /proc, the most that it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 1e6 if sys.platform == "darwin" else most / 1e3
    return pages * resource.getpagesize() / 1e6


def say(words: str) -> None:
    """At once, also into a pipe."""
    sys.stdout.write(words)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
