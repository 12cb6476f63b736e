"""What a private stream costs for each account: memory and CPU, beside polls alone and beside plain ccxt.pro.

Accounts of a simulated Kraken, which runs in another process and sends each connection a heartbeat a second.
Each number of accounts has two processes of its own: one polls each account every ten seconds, and in the
other each has a stream, so that it is polled every two minutes. Plain ccxt.pro is a sample of instances, as a
bot makes them: each with its markets (made up, as many as the real exchange lists) and its connection. The
CPU for a thousand is computed by proportion. There is no TLS on this way.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.elsewhere import Elsewhere, answer, heard
from benchmarks.exchanges import spec
from benchmarks.measure import Numbers, Row, resident_mb, run, say

SIZES: Final = (1, 100, 1_000)
PLAIN: Final = 20
"""Instances of plain ccxt.pro that are really made."""
POLL_S: Final = 10.0
WINDOW_S: Final = 20.0
LOOK_S: Final = 0.25
"""So often the simulated exchange looks for changes of an account."""
PATIENCE_S: Final = 120.0


def _rows() -> tuple[Row, ...]:
    found: list[Row] = []
    for size in SIZES:
        found += [
            Row(f"poll_memory_{size}", f"{size:,}: memory with polls alone", "MB"),
            Row(f"push_memory_{size}", f"{size:,}: memory with `push`", "MB", over=f"poll_memory_{size}"),
            Row(f"poll_cpu_{size}", f"{size:,}: CPU of one core with polls alone", "%"),
            Row(f"push_cpu_{size}", f"{size:,}: CPU of one core with `push`", "%", over=f"poll_cpu_{size}"),
        ]
    return (
        *found,
        Row("each_100", "a stream more, of 100", "KB"),
        Row("each_1000", "a stream more, of 1,000", "KB", at_most=100.0),
        Row("pro_memory", "an instance of plain ccxt.pro with its markets and connection", "KB"),
        Row("each_1000", "a stream more, of 1,000, against plain ccxt.pro", "KB", over="pro_memory"),
        Row("pro_cpu", "a thousand of plain ccxt.pro, nothing but heartbeats: CPU of one core", "%"),
        Row("push_cpu_1000", "1,000 with `push` against plain ccxt.pro", "%", over="pro_cpu"),
    )


ROWS: Final = _rows()


def accounts(arguments: list[str]) -> None:
    """The process with the accounts."""
    del arguments
    for words in heard():
        answer(watch(words["place"], words["size"], words["window_s"], push=words["push"]))


def watch(place: Mapping[str, Any], size: int, window_s: float, *, push: bool) -> dict[str, float]:
    """Watch so many accounts for a while."""
    from brokerwatch.cluster.cluster import Cluster
    from brokerwatch.config.cluster_settings import ClusterSettings
    from brokerwatch.messages import Reading
    from brokerwatch.messages.stream import StreamState

    def ready(reading: Reading) -> bool:
        if not push:
            return reading.as_of is not None
        return reading.stream is not None and reading.stream.state is StreamState.LIVE

    logging.disable(logging.WARNING)
    specs = [spec("kraken", place, number, poll_interval_s=POLL_S, push=push) for number in range(size)]
    settings = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=False)
    with Cluster(specs, settings) as cluster:
        until_s = time.monotonic() + PATIENCE_S
        while not all(map(ready, cluster.readings())):
            if time.monotonic() > until_s:
                raise RuntimeError(f"{size} accounts were not ready in {PATIENCE_S:g} s")
            time.sleep(0.05)
        time.sleep(window_s / 4)
        before = time.process_time()
        time.sleep(window_s)
        used_s = time.process_time() - before
        if not all(map(ready, cluster.readings())):
            raise RuntimeError("not all accounts are as they were")
        gc.collect()
        return {"memory": resident_mb(), "cpu": used_s / window_s * 100}


def plain(arguments: list[str]) -> None:
    """The process with plain ccxt.pro."""
    del arguments
    for words in heard():
        answer(asyncio.run(instances(words["place"], words["count"], words["window_s"])))


async def instances(place: Mapping[str, Any], count: int, window_s: float) -> dict[str, float]:
    """So many instances, each of which waits for its balance to change."""
    from brokerwatch.config.broker_spec import CCXT_NAMES

    pro = importlib.import_module("ccxt.pro")
    made: list[Any] = []
    before = 0.0
    for number, keys in enumerate(place["credentials"][: count + 1]):
        if number == 1:  # what the first one loads is not counted
            gc.collect()
            before = resident_mb()
        named = {CCXT_NAMES.get(key, key): value for key, value in keys.items()}
        made.append(
            pro.kraken({**json.loads(json.dumps(place["options"])), **named, "enableRateLimit": False})
        )
        await made[-1].watch_balance()
    waiting = [asyncio.create_task(one.watch_balance()) for one in made]
    await asyncio.sleep(window_s / 4)
    used_s = time.process_time()
    await asyncio.sleep(window_s)
    used_s = time.process_time() - used_s
    if any(each.done() for each in waiting):
        raise RuntimeError("a connection was lost")
    gc.collect()
    memory = resident_mb() - before
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.gather(*(one.close() for one in made))
    return {"memory": memory / count * 1_000, "cpu": used_s / window_s * 100 / len(made) * 1_000}


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """One number for each row."""
    window_s, found = 0.5 if quick else WINDOW_S, Numbers()
    for size in SIZES:
        if quick and size > 1:
            continue
        for kind in ("poll", "push"):
            with (
                Elsewhere("exchanges", "serve") as served,
                Elsewhere("push_accounts", "accounts", core=0) as ours,
            ):
                place = served.ask(accounts={"kraken": size})["kraken"]
                served.ask(look_s=LOOK_S)
                seen = ours.ask(place=place, size=size, window_s=window_s, push=kind == "push")
            found |= {f"{kind}_{name}_{size}": value for name, value in seen.items()}
            said = ", ".join(f"{name} {value:.3g}" for name, value in seen.items())
            say(f"push_accounts: {size:,} {kind} {said}")
    count = 2 if quick else PLAIN
    with Elsewhere("exchanges", "serve") as served, Elsewhere("push_accounts", "plain", core=0) as theirs:
        place = served.ask(accounts={"kraken": count + 1})["kraken"]
        served.ask(many_pairs=True, look_s=LOOK_S)
        seen = theirs.ask(place=place, count=count, window_s=window_s)
    say("push_accounts: plain ccxt.pro " + ", ".join(f"{name} {value:.3g}" for name, value in seen.items()))
    found |= {f"pro_{name}": value for name, value in seen.items()}
    for size in SIZES[1:]:
        if f"push_memory_{size}" in found:
            more = found[f"push_memory_{size}"] - found[f"poll_memory_{size}"]
            # What the first stream loads is not counted.
            first = found["push_memory_1"] - found["poll_memory_1"]
            found[f"each_{size}"] = (more - first) / (size - 1) * 1_000
    return found


if __name__ == "__main__":
    run(measure, {"accounts": accounts, "plain": plain})
