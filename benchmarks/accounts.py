"""What many accounts cost in one process: memory, CPU and start-up, with a poll of each every ten seconds.

Each number of accounts has a process of its own, with a cluster and its store in SQLite. The accounts are at
the three simulated exchanges in turn, which run in another process. Plain ccxt stands beside it: instances of
Kraken, each with the markets that it loads (made up, as many as the real exchange lists). A few instances are
measured, and the numbers for a thousand are computed from them. Their CPU is measured twice: with one
`fetch_balance` after the other, and with as many evenly spread calls a second as a thousand accounts make.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.elsewhere import Elsewhere, answer, heard
from benchmarks.exchanges import KINDS, spec
from benchmarks.measure import Numbers, Row, resident_mb, run, say

SIZES: Final = (1, 10, 100, 1_000, 5_000)
PLAIN: Final = 30
"""Instances of plain ccxt that are really made."""


def _rows() -> tuple[Row, ...]:
    found: list[Row] = []
    for size in SIZES:
        found += [
            Row(f"memory_{size}", f"{size:,}: memory, interpreter and libraries too", "MB"),
            Row(
                f"cpu_{size}",
                f"{size:,}: CPU of one core that all polls take",
                "%",
                at_most=100.0 if size == SIZES[-1] else None,
            ),
            Row(f"started_{size}", f"{size:,}: until the cluster has started", "s"),
            Row(f"answered_{size}", f"{size:,}: until every account has been read", "s"),
            Row(f"late_{size}", f"{size:,}: accounts that were not read in time", "", at_most=0.0),
        ]
    return (
        *found,
        Row("further", "each further account, from 100 to 1,000", "MB", at_most=0.13),
        Row("further_most", "each further account, from 1,000 to 5,000", "MB", over="further"),
        Row("plain_memory", "one instance of plain ccxt with its markets", "MB"),
        Row("plain_started", "one instance of plain ccxt: made, and its markets loaded", "s"),
        Row(
            "plain_cpu",
            "a thousand of them at one `fetch_balance` in 10 s, back to back, CPU of one core",
            "%",
        ),
        Row("plain_paced", "the same, 100 evenly spread calls a second", "%", over="plain_cpu"),
        Row("further", "each further account against plain ccxt", "MB", over="plain_memory"),
        Row("cpu_1000", "1,000: CPU against plain ccxt back to back", "%", over="plain_cpu"),
        Row("cpu_1000", "1,000: CPU against plain ccxt, evenly spread", "%", over="plain_paced"),
    )


ROWS: Final = _rows()
POLL_S: Final = 10.0
WINDOW_S: Final = 20.0
"""CPU is counted for so long: two polls of every account."""
LATE: Final = 1.5
"""A balance older than so many polls was not read in time."""
PATIENCE_S: Final = 120.0


def accounts(arguments: list[str]) -> None:
    """The process with the accounts."""
    del arguments
    for words in heard():
        answer(watch(words["places"], words["size"], words["poll_s"], words["window_s"]))


def watch(places: Mapping[str, Any], size: int, poll_s: float, window_s: float) -> dict[str, float]:
    """Watch so many accounts for a while."""
    from brokerwatch.cluster.cluster import Cluster
    from brokerwatch.config.cluster_settings import ClusterSettings

    logging.disable(logging.WARNING)
    names = tuple(KINDS)
    specs = [
        spec(name := names[number % len(names)], places[name], number // len(names), poll_interval_s=poll_s)
        for number in range(size)
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", state=folder)
        began_s = time.monotonic()
        with Cluster(specs, settings) as cluster:
            started_s = time.monotonic() - began_s
            while any(reading.as_of is None for reading in cluster.readings()):
                if time.monotonic() - began_s > PATIENCE_S:
                    break
                time.sleep(0.05)
            answered_s = time.monotonic() - began_s
            time.sleep(poll_s)
            before = time.process_time()
            time.sleep(window_s)
            used_s = time.process_time() - before
            late = sum(
                reading.age_ms is None or reading.age_ms > LATE * poll_s * 1_000
                for reading in cluster.readings()
            )
            gc.collect()
            memory = resident_mb()
    return {
        "memory": memory,
        # A process that does not get through its polls has used up its core and would need more.
        "cpu": used_s / window_s * 100 / (1 - late / size) if late < size else float("inf"),
        "started": started_s,
        "answered": answered_s,
        "late": late,
    }


def plain(arguments: list[str]) -> None:
    """The process with plain ccxt."""
    del arguments
    for words in heard():
        answer(asyncio.run(instances(words["place"], words["count"], words["rounds"], words["window_s"])))


async def instances(place: Mapping[str, Any], count: int, rounds: int, window_s: float) -> dict[str, float]:
    """So many instances, as a bot makes them: each with its markets, each with its session."""
    import ccxt.async_support as ccxt

    from brokerwatch.config.broker_spec import CCXT_NAMES

    gc.collect()
    before, began_s = resident_mb(), time.monotonic()
    made: list[Any] = []
    for keys in place["credentials"][:count]:
        named = {CCXT_NAMES.get(key, key): value for key, value in keys.items()}
        options: Any = {**json.loads(json.dumps(place["options"])), **named, "enableRateLimit": False}
        made.append(ccxt.kraken(options))
        await made[-1].load_markets()
    started_s = time.monotonic() - began_s
    await asyncio.gather(*(one.fetch_balance() for one in made))
    gc.collect()
    memory, used_s = resident_mb() - before, time.process_time()
    for _ in range(rounds):
        await asyncio.gather(*(one.fetch_balance() for one in made))
    used_s = (time.process_time() - used_s) / rounds / count

    async def poll(one: Any, number: int) -> None:
        await asyncio.sleep(number * POLL_S / 1_000)
        while True:
            began_s = time.monotonic()
            await one.fetch_balance()
            await asyncio.sleep(max(0.0, count * POLL_S / 1_000 - (time.monotonic() - began_s)))

    before_s = time.process_time()
    polls = [asyncio.create_task(poll(one, number)) for number, one in enumerate(made)]
    await asyncio.sleep(window_s)
    paced_s = time.process_time() - before_s
    for each in polls:
        each.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    await asyncio.gather(*(one.close() for one in made))
    return {
        "memory": memory / count,
        "started": started_s / count,
        "cpu": used_s * 1_000 / POLL_S * 100,
        "paced": paced_s / window_s * 100,
    }


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """One number for each row."""
    poll_s, window_s = (0.5, 0.5) if quick else (POLL_S, WINDOW_S)
    found: Numbers = {}
    for size in SIZES:
        if quick and size > 10:
            continue
        each = -(-size // len(KINDS))
        with Elsewhere("exchanges", "serve") as served, Elsewhere("accounts", "accounts", core=0) as ours:
            places = served.ask(accounts=dict.fromkeys(KINDS, each))
            seen = ours.ask(places=places, size=size, poll_s=poll_s, window_s=window_s)
        found |= {f"{name}_{size}": value for name, value in seen.items()}
        say(f"accounts: {size:,} " + ", ".join(f"{name} {value:.3g}" for name, value in seen.items()))
    count, rounds = (2, 1) if quick else (PLAIN, 10)
    with Elsewhere("exchanges", "serve") as served, Elsewhere("accounts", "plain", core=0) as theirs:
        place = served.ask(accounts={"kraken": count})["kraken"]
        served.ask(many_pairs=True)
        seen = theirs.ask(place=place, count=count, rounds=rounds, window_s=window_s)
    found |= {f"plain_{name}": value for name, value in seen.items()}
    for name, few, many in (("further", 100, 1_000), ("further_most", 1_000, 5_000)):
        if f"memory_{many}" in found:
            found[name] = (found[f"memory_{many}"] - found[f"memory_{few}"]) / (many - few)
    return found


if __name__ == "__main__":
    run(measure, {"accounts": accounts, "plain": plain})
