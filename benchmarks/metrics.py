"""What the metrics cost: CPU of a scrape, and what a trading thread in the same process notices of it.

A cluster with a hundred accounts of twenty currencies each serves HTTP; a reader in another process scrapes
it. The accounts are callables that answer at once, so that what is measured is the scrape alone.
"""

from __future__ import annotations

import logging
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from benchmarks.elsewhere import Elsewhere, answer, heard
from benchmarks.measure import Numbers, Row, run

if TYPE_CHECKING:
    from brokerwatch.cluster.broker import Broker

ACCOUNTS: Final = 100
CURRENCIES: Final = 20
SCRAPES: Final = 40
INTERVAL_S: Final = 15.0
"""How often Prometheus scrapes, in the configuration in deploy/."""
WINDOW_S: Final = 5.0

ROWS: Final = (
    Row("scrape", "a scrape of 100 accounts with 20 currencies each: CPU", "ms"),
    Row("share", "the same every 15 s: CPU of one core", "%", at_most=2.0),
    Row("bytes", "its body", "kB"),
    Row("quiet", "the longest pause of a busy trading thread in 5 s without a scrape", "ms"),
    Row("busy", "the longest pause of it while scrapes follow each other", "ms", over="quiet"),
)


def scraper(arguments: list[str]) -> None:
    """The process that scrapes: so many times, or for so many seconds, without a pause."""
    del arguments
    for words in heard():
        until_s, count, size = time.monotonic() + words["seconds"], 0, 0
        while count < words["count"] or time.monotonic() < until_s:
            with urllib.request.urlopen(words["url"]) as response:
                size = len(response.read())
            count += 1
        answer(size)


async def account() -> Mapping[str, Any]:
    """The balance of one account."""
    return {"USD": "1234.56", **{f"C{number}": "0.12345678" for number in range(CURRENCIES - 1)}}


def longest_pause_ms(broker: Broker, seconds: float) -> float:
    """The longest time between two steps of a loop that only asks whether an account is available."""
    now_s = time.perf_counter()
    until_s, longest_s = now_s + seconds, 0.0
    while now_s < until_s:
        broker.is_available()
        last_s, now_s = now_s, time.perf_counter()
        longest_s = max(longest_s, now_s - last_s)
    return longest_s * 1_000


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """One number for each row."""
    # Here, because the process that scrapes needs none of it.
    from brokerwatch.cluster.cluster import Cluster
    from brokerwatch.config.broker_spec import BrokerSpec
    from brokerwatch.config.cluster_settings import ClusterSettings
    from brokerwatch.config.http_settings import HttpSettings
    from brokerwatch.web import metrics

    logging.disable(logging.WARNING)
    accounts, scrapes, window_s = (5, 2, 0.1) if quick else (ACCOUNTS, SCRAPES, WINDOW_S)
    metrics.SHARE = float("inf")  # type: ignore[misc] # pyright: ignore[reportConstantRedefinition] - each scrape is made anew
    settings = ClusterSettings(
        remember=False, health_endpoint="tcp://127.0.0.1:*", http=HttpSettings(listen="127.0.0.1:0")
    )
    specs = [BrokerSpec(f"account-{number}", fetch=account) for number in range(accounts)]
    with ExitStack() as opened:
        cluster = opened.enter_context(Cluster(specs, settings))
        reader = opened.enter_context(Elsewhere("metrics", "scraper"))
        while not cluster.http_url or any(reading.cash is None for reading in cluster.readings()):
            time.sleep(0.05)
        url = f"{cluster.http_url}/metrics"
        reader.ask(url=url, count=1, seconds=0)
        began_s, used_s = time.monotonic(), time.process_time()
        time.sleep(window_s)
        idle = (time.process_time() - used_s) / (time.monotonic() - began_s)
        began_s, used_s = time.monotonic(), time.process_time()
        size = reader.ask(url=url, count=scrapes, seconds=0)
        used_s = time.process_time() - used_s - idle * (time.monotonic() - began_s)
        scrape_s = max(0.0, used_s) / scrapes
        broker = cluster.broker("account-0")
        quiet = longest_pause_ms(broker, window_s)
        reader.tell(url=url, count=1, seconds=window_s)
        busy = longest_pause_ms(broker, window_s)
        reader.hear()
    return {
        "scrape": scrape_s * 1_000,
        "share": scrape_s / INTERVAL_S * 100,
        "bytes": size / 1_000,
        "quiet": quiet,
        "busy": busy,
    }


if __name__ == "__main__":
    run(measure, {"scraper": scraper})
