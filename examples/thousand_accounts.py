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
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brokerwatch import BrokerSpec, Cluster, ClusterSettings
from brokerwatch.testing import simulated

LOOK_S = 1.0
OVER_S = 10.0
"""Polls are counted over so long."""


def main() -> None:
    """Watch so many accounts, and say once a second how they are."""
    parser = argparse.ArgumentParser(description="Watch many simulated accounts in one process.")
    parser.add_argument("--accounts", type=int, default=1_000, metavar="N", help="1000 unless given")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, metavar="S", help="until Ctrl-C unless given"
    )
    parser.add_argument(
        "--poll", type=float, default=10.0, metavar="S", help="between polls; 10 unless given"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.accounts < 1 or not chosen.seconds > 0 or not chosen.poll > 0:
        parser.error("expected at least one account, and seconds above 0")
    if chosen.serve:
        serve_here(chosen.accounts)
        return
    running = True

    def end(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    with exchanges(chosen.accounts) as served, tempfile.TemporaryDirectory() as folder:
        specs = [spec for name, told in served.items() for spec in specs_of(name, told, chosen.poll)]
        settings = ClusterSettings(name="thousand", health_endpoint="tcp://127.0.0.1:*", state=folder)
        began_s = time.monotonic()
        with Cluster(specs, settings) as cluster:
            say(f"{len(specs):,} simulated accounts, started in {time.monotonic() - began_s:.1f} s\n")
            watch(cluster, lambda: running and time.monotonic() - began_s < chosen.seconds)


def serve_here(accounts: int) -> None:
    """The other process: say where the exchanges are and who has an account there, and serve them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    with simulated("kraken") as kraken, simulated("coinbase") as coinbase, simulated("okx") as okx:
        told: dict[str, dict[str, Any]] = {}
        for place, exchange in enumerate((kraken, coinbase, okx)):
            count = len(range(place, accounts, 3))  # each has its share
            keys = [exchange.credentials, *(exchange.add_account() for _ in range(count - 1))][:count]
            told[exchange.ccxt_id] = {"options": exchange.ccxt_options(), "accounts": keys}
        say(json.dumps(told) + "\n")
        sys.stdin.read()  # it ends with the one who started it


@contextmanager
def exchanges(accounts: int) -> Generator[Mapping[str, Any]]:
    """The simulated exchanges in a process of their own, and what they say of themselves."""
    command = [sys.executable, __file__, "--serve", "--accounts", str(accounts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - this very program
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("unreachable: both are pipes")
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def specs_of(name: str, told: Mapping[str, Any], poll_s: float) -> list[BrokerSpec]:
    """A broker for each account of an exchange."""
    return [
        BrokerSpec(
            f"{name}-{number:04d}",
            exchange=name,
            credentials=keys,
            ccxt=told["options"],
            poll_interval_s=poll_s,
            policy="guarded",
            simulated=True,
        )
        for number, keys in enumerate(told["accounts"], 1)
    ]


def watch(cluster: Cluster, running: Callable[[], bool]) -> None:
    """One line, every second anew. All of it is read from memory; no exchange is asked for it."""
    known: dict[str, int | None] = {}
    polled: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=round(OVER_S / LOOK_S))
    live = sys.stdout.isatty()
    while running():
        time.sleep(LOOK_S)
        readings = cluster.readings()
        now_s = time.monotonic()
        # A balance that was asked for later than the one before is a poll that was answered.
        polled.append((now_s, sum(one.as_of_us != known.get(one.broker) for one in readings)))
        known = {one.broker: one.as_of_us for one in readings}
        polls = sum(count for _, count in list(polled)[1:]) / (now_s - polled[0][0])
        available = sum(one.available for one in readings)
        parts = (
            f"{available:,} of {len(readings):,} available",
            f"{polls:,.1f} polls/s",
            f"{resident_mb():,.0f} MB",
            f"{threading.active_count()} threads",
        )
        say(("\r" if live else "") + " · ".join(parts) + ("   " if live else "\n"))
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
