"""How soon a change at an exchange, a cut and a silent connection are seen: with `push`, and by other means.

Three accounts at a simulated OKX, which runs in another process: one with `push = true`, one that is polled
every ten seconds alone, and one that plain ccxt.pro watches. Their balances change at random moments. The
time runs from the change, by the clock of the exchange's process, until the reading has it. Then the stream
is cut while the exchange refuses each request, and the time runs until the account is not available. Last,
nothing comes on the stream any more, and the time runs until that is noticed.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from benchmarks.elsewhere import Elsewhere
from benchmarks.exchanges import spec
from benchmarks.measure import Numbers, Row, run
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import CCXT_NAMES
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.messages.stream import StreamState

ROWS: Final = (
    Row("poll_s", "a change seen by a poll every 10 s", "s"),
    Row("pro_s", "a change seen by plain ccxt.pro", "s", over="poll_s"),
    Row("push_s", "a change seen by `push`", "s", at_most=0.05),
    Row("push_s", "that against a poll every 10 s", "s", over="poll_s", at_most=0.01),
    Row("push_s", "that against plain ccxt.pro", "s", over="pro_s"),
    Row(
        "drop_s",
        "a cut connection, and an exchange that is down, until not available (`guarded`)",
        "s",
        at_most=1.0,
    ),
    Row("hole_s", "a connection on which nothing comes any more, until that is noticed", "s", at_most=4.0),
)

POLL_S: Final = 10.0
CHANGES: Final = 12
CUTS: Final = 5
HOLES: Final = 3
LOOK_S: Final = 0.0005
KINDS: Final = ("push", "poll", "pro")


def until(true: Callable[[], object]) -> float:
    """The monotonic second from which something is so."""
    while not true():
        time.sleep(LOOK_S)
    return time.monotonic()


@contextmanager
def watched(place: Mapping[str, Any]) -> Generator[Callable[[], object]]:
    """What plain ccxt.pro has of the third account's USDT, as the newest `watch_balance()` gave it."""
    keys = place["credentials"][KINDS.index("pro")]
    named = {CCXT_NAMES.get(key, key): value for key, value in keys.items()}
    newest: dict[str, object] = {}
    ended = threading.Event()

    async def watch() -> None:
        made = importlib.import_module("ccxt.pro").okx({**place["options"], **named})

        async def go_on() -> None:
            while True:
                newest["USDT"] = dict((await made.watch_balance())["total"]).get("USDT")

        task = asyncio.create_task(go_on())
        await asyncio.to_thread(ended.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.close()

    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    try:
        yield lambda: newest.get("USDT")
    finally:
        ended.set()
        thread.join()


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """The median of each row, in seconds."""
    found: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "drop", "hole")}
    settings = ClusterSettings(remember=False, health_endpoint="tcp://127.0.0.1:*")
    with Elsewhere("exchanges", "serve") as served:
        place = served.ask(accounts={"okx": len(KINDS)})["okx"]

        def at_exchange(method: str, *values: object, streams: bool = False, **named: object) -> float:
            words = {"exchange": "okx", "do": method, "values": values, "named": named, "streams": streams}
            return float(served.ask(**words)["at_s"])

        specs = [
            spec("okx", place, number, policy="guarded", poll_interval_s=POLL_S, push=kind == "push")
            for number, kind in enumerate(KINDS[:2])
        ]
        with Cluster(specs, settings) as cluster, watched(place) as pro:

            def total(kind: str) -> object:
                if kind == "pro":
                    return pro()
                balance = cluster.reading(f"okx-{KINDS.index(kind)}").balance or {}
                return balance["USDT"].total if "USDT" in balance else None

            def has(kind: str, amount: int) -> bool:
                return total(kind) == amount

            def is_live() -> bool:
                stream = cluster.reading("okx-0").stream
                return stream is not None and stream.state is StreamState.LIVE

            until(lambda: is_live() and all(total(kind) is not None for kind in KINDS))
            for amount in range(1, 2 if quick else CHANGES + 1):
                for number, kind in enumerate(KINDS):
                    time.sleep(random.uniform(0.0, 0.2 if quick or kind != "poll" else POLL_S))
                    key = place["credentials"][number]["api_key"]
                    at_s = at_exchange("set_balance", {"USDT": (str(amount), "0")}, account=key)
                    found[kind].append(until(partial(has, kind, amount)) - at_s)
            for _ in range(1 if quick else CUTS):
                until(lambda: is_live() and cluster.reading("okx-0").available)
                at_exchange("set_fault", "exchange_down")
                at_s = at_exchange("cut", streams=True)
                found["drop"].append(until(lambda: not cluster.reading("okx-0").available) - at_s)
                at_exchange("mend")
                until(is_live)
            for _ in range(1 if quick else HOLES):
                until(is_live)
                time.sleep(random.uniform(0.0, 2.0))
                at_s = at_exchange("set_fault", "black_hole", streams=True)
                found["hole"].append(until(lambda: not is_live()) - at_s)
                at_exchange("mend", streams=True)
    return {f"{kind}_s": statistics.median(times) for kind, times in found.items()}


if __name__ == "__main__":
    run(measure)
