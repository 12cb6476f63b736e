"""The metrics of a view, in Prometheus' text formats: made anew for each scrape, from readings and counts.

What is not fresh is not shown as fresh: a stale balance has no sample, and the moment at which it was read
stays. Without published amounts there are none here either. The registry is this server's own, so that the
metrics of the program around it stay as they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from importlib import metadata
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Sample

from brokerwatch.messages import FaultKind, HealthState, Holding, Reading, Reason
from brokerwatch.messages.key import KeyData, KeyWarning
from brokerwatch.messages.money import MoneyAlarm
from brokerwatch.messages.stream import StreamState
from brokerwatch.tally import BUCKETS_S, AccountTally, Durations, KeyTally
from brokerwatch.web import metric_table as table
from brokerwatch.web.metric_table import METRICS, Kind, MetricRow, Origin
from brokerwatch.web.view import View

MOST_CURRENCIES: Final = 64
"""The most currencies of one account that are shown …"""
ALL_CURRENCIES: Final = 20_000
"""… and of all accounts together; each account has an equal part of it, and at least …"""
LEAST_CURRENCIES: Final = 4
"""… so many."""
PIECE: Final = 100
"""After so many samples another thread of the process that waits for the interpreter gets it: to write all of
them at once would hold up a trading thread."""
SHARE: Final = 0.05
"""At most this part of a core is spent on scrapes: sooner than that the last answer is given again …"""
LONGEST_KEPT_S: Final = 2.0
"""… but none that is older than this, however long it takes to make one."""


OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"

_STATES: Final = tuple((state, state.name.lower()) for state in HealthState)
_KINDS: Final = tuple(kind for kind in FaultKind if kind is not FaultKind.OTHER)
_BOUNDS: Final = (*(repr(bound) for bound in BUCKETS_S), "+Inf")

Labels = tuple[str, ...]


class Metrics:
    """The metrics of one view. `scrape` may be called from any thread."""

    def __init__(self, view: View) -> None:
        self._clock = view.clock
        self._registry = CollectorRegistry()
        self._registry.register(_Readings(view))
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, bytes]] = {}
        """Content type to the monotonic second until which an answer is given again, and the answer."""

    def scrape(self, accept: str) -> tuple[str, bytes]:
        """The content type and the body of an answer. It takes a while; not for a thread with other work.

        Args:
            accept: the header `Accept`: OpenMetrics where it names it, else the text format.
        """
        # One of two, whatever else the reader asks for: each is kept.
        encode, content_type = choose_encoder(OPENMETRICS if "openmetrics" in accept else "")
        with self._lock:
            began_s = self._clock.up_s()
            until_s, body = self._kept.get(content_type, (0.0, b""))
            if began_s >= until_s:
                body = encode(self._registry)
                ended_s = self._clock.up_s()
                kept_s = min(LONGEST_KEPT_S, (ended_s - began_s) / SHARE)
                self._kept[content_type] = ended_s + kept_s, body
        return content_type, body


class _Paced(list[Sample]):
    """Samples, whose reader lets go of the interpreter between two pieces."""

    def __iter__(self) -> Iterator[Sample]:
        for at in range(0, len(self), PIECE):
            yield from self[at : at + PIECE]
            time.sleep(0)


class _Readings:
    """Makes the metrics of a view, as prometheus-client wants a collector to."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._version = metadata.version("brokerwatch")

    def describe(self) -> Iterable[Metric]:
        """Nothing to ask for at the registration."""
        return ()

    def collect(self) -> Generator[Metric]:
        """Every metric with its samples of now."""
        families = {row: _family(row) for row in METRICS if row.origin is Origin.WIRE or self._view.tally}
        found = _Families(families)
        self._of_server(found)
        heard = self._view.heard()
        exchanges: dict[str, str] = {}
        limit = max(LEAST_CURRENCIES, min(MOST_CURRENCIES, ALL_CURRENCIES // max(1, len(heard))))
        for each in heard:
            reading = each.reading
            exchanges[reading.broker] = reading.exchange
            _of_reading(found, reading, limit)
            time.sleep(0)
        found.add(table.ACCOUNTS, (), len(heard))
        tally = self._view.tally
        if tally is not None:
            # What is not heard of any more was removed, whatever was counted of it.
            for broker, account in tally.accounts().items():
                if broker in exchanges:
                    _of_account(found, (broker, exchanges[broker]), account)
            for broker, key in tally.keys().items():
                if broker in exchanges:
                    _of_key(found, (broker, exchanges[broker]), key)
        for family in families.values():
            family.samples = _Paced(family.samples)
            yield family

    def _of_server(self, found: _Families) -> None:
        listener, clock = self._view.listener, self._view.clock
        found.add(table.BUILD, (self._version,))
        heard_ago_s = listener.heard_ago_s()
        if heard_ago_s is not None:
            found.add(table.HEARD, (), clock.now().wall_us / 1_000_000 - heard_ago_s)
        found.add(table.LOST, (), listener.lost)
        found.add(table.HEALED, (), listener.healed)
        found.add(table.UNDECODABLE, (), listener.undecodable)


class _Families:
    """Where samples are added by the row of their metric."""

    def __init__(self, families: Mapping[MetricRow, Metric]) -> None:
        self._families = families

    def add(self, row: MetricRow, labels: Labels, value: float = 1.0) -> None:
        """Add one sample."""
        suffix = "" if row.kind is not Kind.COUNTER else "_total"
        family = self._families[row]
        name = row.name if row.kind is Kind.INFO else f"{family.name}{suffix}"
        family.samples.append(Sample(name, dict(zip(row.all_labels, labels, strict=True)), value))

    def add_durations(self, row: MetricRow, labels: Labels, durations: Durations) -> None:
        """Add the samples of a histogram."""
        family, named = self._families[row], dict(zip(row.all_labels, labels, strict=True))
        for bound, count in zip(_BOUNDS, accumulate(durations.counts), strict=True):
            family.samples.append(Sample(f"{row.name}_bucket", {**named, "le": bound}, count))
        family.samples.append(Sample(f"{row.name}_count", named, sum(durations.counts)))
        family.samples.append(Sample(f"{row.name}_sum", named, durations.sum_s))


def _family(row: MetricRow) -> Metric:
    """A metric without samples."""
    name = row.name.removesuffix("_info") if row.kind is Kind.INFO else row.name
    match row.kind:
        case Kind.GAUGE:
            return GaugeMetricFamily(name, row.says, unit=row.unit, labels=row.all_labels)
        case Kind.COUNTER:
            return CounterMetricFamily(name, row.says, labels=row.all_labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(name, row.says, unit=row.unit, labels=row.all_labels)
        case Kind.INFO:
            return InfoMetricFamily(name, row.says, labels=row.all_labels)


def _of_reading(found: _Families, reading: Reading, limit: int) -> None:
    name = reading.broker, reading.exchange
    available, reason, stale = reading.available, reading.reason, reading.stale
    found.add(table.ACCOUNT, (*name, str(reading.simulated).lower(), reading.cash_unit))
    found.add(table.AVAILABLE, name, available)
    for state, word in _STATES:
        found.add(table.STATE, (*name, word), reading.state is state)
    for each in Reason:
        found.add(table.REASON, (*name, each.value), reason is each)
    found.add(table.SINCE, name, reading.since_us / 1_000_000)
    found.add(table.ERRORS, name, reading.error_count)
    found.add(table.STALE, name, stale)
    found.add(
        table.CLOSED, name, sum(reading.closed(symbol) is not None for symbol in reading.closed_markets)
    )
    if reading.as_of_us is not None:
        found.add(table.AS_OF, name, reading.as_of_us / 1_000_000)
    _of_api_key(found, name, reading.key)
    for alarm in MoneyAlarm:
        stand = sum(each.word is alarm for each in reading.money)
        found.add(table.MONEY_ALARMS, (*name, alarm.value), stand)
    if reading.stream is not None:
        for kind in StreamState:
            found.add(table.STREAM, (*name, kind.value), reading.stream.state is kind)
    balance = reading.balance
    if balance is None:
        return
    found.add(table.DOUBT, name, sum(held.unstated_since_us is not None for held in balance.values()))
    if stale:
        return
    if reading.cash is not None:
        found.add(table.CASH, (*name, reading.cash_unit), float(reading.cash))
    shown = _shown(balance, reading.cash_parts.keys(), limit)
    found.add(table.LEFT_OUT, name, len(balance) - len(shown))
    for currency in shown:
        held = balance[currency]
        if held.unstated_since_us is None:
            if held.total is not None:
                found.add(table.BALANCE, (*name, currency), float(held.total))
            if held.free is not None:
                found.add(table.FREE, (*name, currency), float(held.free))


def _of_api_key(found: _Families, name: Labels, key: KeyData | None) -> None:
    if key is None:
        return
    if key.checked_us:
        found.add(table.KEY_CHECKED, name, key.checked_us / 1_000_000)
    if key.expires_us is not None:
        found.add(table.KEY_EXPIRES, name, key.expires_us / 1_000_000)
    for right, has in (("read", key.read), ("trade", key.trade), ("withdraw", key.withdraw)):
        if has is not None:
            found.add(table.KEY_RIGHT, (*name, right), has)
    stands = {each.word for each in key.warnings}
    for word in KeyWarning:
        found.add(table.KEY_WARNING, (*name, word.value), word in stands)


def _shown(balance: Mapping[str, Holding], cash: Iterable[str], limit: int) -> list[str]:
    """The currencies that are shown. Of too many, cash comes before coins, and coins before zeros."""
    if len(balance) <= limit:
        return list(balance)
    first = frozenset(cash)
    return sorted(balance, key=lambda code: (code not in first, balance[code].total == 0, code))[:limit]


def _of_account(found: _Families, name: Labels, account: AccountTally) -> None:
    faults = account.faults.counts()
    for kind in _KINDS:
        found.add(table.FAULTS, (*name, kind.value), faults.get(kind, 0))
    found.add(table.NOT_MADE, name, account.not_made.total)
    for event, count in account.pushes.counts().items():
        found.add(table.PUSHES, (*name, event), count)
    found.add_durations(table.FETCHES, name, account.fetches.durations())
    if account.trades:
        found.add(table.SENT, name, account.sent.total)
        for end, count in account.ended.counts().items():
            found.add(table.ENDED, (*name, end), count)
        found.add(table.UNKNOWN, name, account.unknown_orders)


def _of_key(found: _Families, name: Labels, key: KeyTally) -> None:
    found.add_durations(table.WAITS, name, key.waits.durations())
    found.add(table.REQUESTS, name, key.requests.total)
    if key.budget is not None:
        use = key.budget()
        found.add(table.PER_SECOND, name, use.per_s)
        found.add(table.BURST, name, use.burst)
        found.add(table.USED, name, use.used / max(1.0, use.burst))
