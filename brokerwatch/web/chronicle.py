"""The chronicle: a subscriber that writes down what it hears of each account.

It works the same inside a cluster's process and beside any endpoint. One thread folds what is heard into
spans, amounts and answer times (`brokerwatch.health.timeline` decides). Another one writes them, so that a
slow database makes no gap. A database that cannot be written is said once, and what waits for it is bounded;
nothing else ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from brokerwatch.bus.listener import Listener
from brokerwatch.bus.reception import LONGEST_TTL_MS
from brokerwatch.bus.revival import Revival
from brokerwatch.clock import Clock, Instant
from brokerwatch.errors import StoreError
from brokerwatch.health.timeline import OpenSpan, Span, extended, heard, in_order
from brokerwatch.health.uptime import AnswerTimes
from brokerwatch.log import logger
from brokerwatch.messages import Reading
from brokerwatch.messages.balance import amount_text
from brokerwatch.storage.chronicle import (
    DAY_US,
    HOUR_US,
    AnswerPeriod,
    CashSample,
    ChronicleStore,
    Pages,
)
from brokerwatch.storage.locks import Claim, claim

_log: Final = logger(__name__)

LOCK_NAME: Final = "chronicle.lock"
"""The file that the one process claims that writes the chronicle of a folder."""
GLANCE_S: Final = 0.1
"""How soon a change is folded."""
LOOK_S: Final = 1.0
"""How often every account is looked at."""
WRITE_S: Final = 10.0
"""How often it is written. A watcher that is killed leaves a gap that is so much longer."""
PRUNE_S: Final = 3_600.0
CASH_EVERY_S: Final = 60.0
"""An amount that moves all the time is written down so often."""
MOST_WAITING: Final = 10_000
"""Spans, and amounts, that wait to be written; the oldest of more is dropped."""


class Chronicle:
    """What is known of the time before now. `start` and `stop` are for its owner, the rest for any thread.

    Args:
        listener: what is heard.
        clock: the clock of the listener.
        store: where it is kept; None: in memory, until the process ends.
        keep_days: gives the number of days after which something is forgotten; inf: never.
        lock: the file that one process of several on one store claims, to be the one that writes; None: there
            is no other.
    """

    def __init__(
        self,
        listener: Listener,
        clock: Clock,
        store: ChronicleStore | None,
        *,
        keep_days: Callable[[], float],
        lock: Path | None = None,
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._store = store
        self._keep_days = keep_days
        self._lock_path = lock
        self._claim: Claim | None = None
        self._life_us = clock.now().wall_us
        self._memory = _Memory()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._said = ""
        """What was logged of an outage of the store that lasts."""
        self._pruned_s = float("-inf")
        works = {"brokerwatch-chronicle": self._follow, "brokerwatch-chronicle-writer": self._write_on}
        self._revivals = {name: Revival(name) for name in works}
        self._threads = [
            threading.Thread(target=self._revivals[name].run, args=(work,), name=name, daemon=True)
            for name, work in works.items()
        ]

    def start(self) -> None:
        """Begin to write down what is heard."""
        for thread in self._threads:
            thread.start()

    def stop(self, deadline_s: float = 2.0) -> bool:
        """Write what waits, and end. False when that took too long."""
        self._stopping.set()
        for revival in self._revivals.values():
            revival.end()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(deadline_s)
        ended = not any(thread.is_alive() for thread in self._threads)
        if ended and self._store is not None:
            self._store.close()
        if ended and self._claim is not None:
            self._claim.release()
            self._claim = None
        return ended

    # --- what is known -------------------------------------------------------------------------------------

    def spans(self, since_us: int, now_us: int) -> dict[str, list[Span]]:
        """The spans of each account that reach beyond a moment, oldest first. Raises StoreError."""
        with self._lock:  # first, or a span that is written meanwhile would be in neither
            mine = self._memory.spans()
        found: dict[tuple[str, int], Span] = {}
        stored = {} if self._store is None else self._store.spans(since_us)
        for span in (*(one for spans in stored.values() for one in spans), *mine):
            known = found.get((span.broker, span.from_us))
            if known is None or known.until_us <= span.until_us:
                found[span.broker, span.from_us] = span
        by_broker: dict[str, list[Span]] = {}
        for span in found.values():
            if span.until_us > since_us:
                by_broker.setdefault(span.broker, []).append(span)
        return {broker: in_order(spans, now_us) for broker, spans in by_broker.items()}

    def cash(self, since_us: int) -> dict[str, list[CashSample]]:
        """The amounts of each account since a moment, and the last one before it. Raises StoreError."""
        with self._lock:
            mine = list(self._memory.cash)
        found = {} if self._store is None else self._store.cash(since_us)
        for sample in mine:
            found.setdefault(sample.broker, []).append(sample)
        for samples in found.values():
            samples.sort(key=lambda one: one.at_us)
        return found

    def answers(self, since_us: int, length_us: int) -> Mapping[str, AnswerTimes]:
        """How long the answers of each account took since a moment. Raises StoreError.

        Args:
            since_us: wall clock, µs.
            length_us: `HOUR_US` or `DAY_US`: whether whole hours or whole days are counted together.
        """
        if self._store is not None:
            return self._store.answers(since_us, length_us)
        found: dict[str, AnswerTimes] = {}
        with self._lock:
            for period, times in self._memory.answers.items():
                if period.length_us == length_us and period.begin_us > since_us - length_us:
                    found.setdefault(period.broker, AnswerTimes()).join(times.counts)
        return found

    # --- what is heard -------------------------------------------------------------------------------------

    def look(self) -> None:
        """Fold what is heard at this moment."""
        # The messages before the verdicts: a verdict is then never older than its message.
        messages = self._listener.heard()
        readings = self._listener.readings()
        now = self._clock.now()
        newest: dict[str, tuple[float, int]] = {}
        for each in messages:
            ttl_ms = min(each.stamp.ttl_ms, LONGEST_TTL_MS)
            sent_s = each.reading.valid_until_s - ttl_ms / 1_000
            name = each.reading.broker
            if name not in readings:
                continue  # it comes at this moment
            if name not in newest or newest[name][0] < sent_s:
                newest[name] = (sent_s, round((readings[name].valid_until_s - sent_s) * 1_000))
        with self._lock:
            for name, (_, ttl_ms) in newest.items():
                self._memory.take(readings[name], ttl_ms, now)
            if self._store is None:
                self._memory.forget(now.wall_us)

    def _follow(self) -> None:
        looked_s, changed = float("-inf"), False
        for change in self._listener.changes(wait_s=GLANCE_S, known=True):
            if self._stopping.is_set():
                return
            changed = changed or change is not None
            ago_s = self._clock.up_s() - looked_s
            # A look goes over all accounts, so a thousand that change at once are looked at together.
            if ago_s >= LOOK_S or (changed and ago_s >= GLANCE_S):
                looked_s, changed = self._clock.up_s(), False
                try:
                    self.look()
                except Exception:  # noqa: BLE001 - a mistake of ours must not end what is heard later
                    _log.exception("what is heard cannot be written down")
                    if self._stopping.wait(WRITE_S):
                        return

    # --- what is written -----------------------------------------------------------------------------------

    def save(self) -> None:
        """Write what waits. Raises StoreError; then it still waits."""
        store = self._store
        if store is None:
            return
        with self._lock:
            pages = self._memory.pages()
        if pages:
            store.write(pages, self._life_us)
            with self._lock:
                self._memory.written(pages, self._clock.now())
        now = self._clock.now()
        if now.up_s - self._pruned_s >= PRUNE_S:
            days = self._keep_days()
            before_us = 0 if days == float("inf") else round(now.wall_us - days * DAY_US)
            store.prune(before_us, now.wall_us)
            self._pruned_s = now.up_s

    def _write_on(self) -> None:
        wait_s = WRITE_S
        while True:
            ends = self._stopping.wait(wait_s)
            if self._has_store():
                wait_s = self._attempt(wait_s)
            if ends:
                return

    def _attempt(self, waited_s: float) -> float:
        try:
            self.save()
        except StoreError as error:
            if str(error) != self._said:
                _log.error("the chronicle cannot be written and has a gap, if it stays so: %s", error)
                self._said = str(error)
            return min(2 * waited_s, 60.0)
        except Exception:  # noqa: BLE001 - a mistake of ours must not end the thread
            _log.exception("the chronicle cannot be written")
            return 60.0
        if self._said:
            _log.warning("the chronicle is written again")
            self._said = ""
        return WRITE_S

    def _has_store(self) -> bool:
        """Whether this process is the one that writes."""
        if self._lock_path is None or self._claim is not None:
            return True
        try:
            found = claim(self._lock_path)
        except OSError:
            return True  # the folder cannot be used, and what is written there says it better
        if isinstance(found, Claim):
            self._claim = found
            return True
        words = f"{found} writes the chronicle in {self._lock_path.parent}"
        if words != self._said:
            _log.warning("%s: this process only reads it", words)
            self._said = words
        return False


@dataclass(slots=True)
class _Account:
    """What was folded last of one account."""

    open: OpenSpan | None = None
    cash: tuple[str | None, str] | None = None
    cash_s: float = float("-inf")
    """When the cash was taken down, in monotonic seconds."""
    as_of_us: int | None = None


@dataclass(slots=True)
class _Memory:
    """What is not written yet; where nothing is ever written, all of it. Used under its owner's lock."""

    accounts: dict[str, _Account] = field(default_factory=dict[str, _Account])
    done: dict[tuple[str, int], Span] = field(default_factory=dict[tuple[str, int], Span])
    cash: deque[CashSample] = field(default_factory=lambda: deque[CashSample](maxlen=MOST_WAITING))
    answers: dict[AnswerPeriod, AnswerTimes] = field(default_factory=dict[AnswerPeriod, AnswerTimes])
    saved: dict[AnswerPeriod, int] = field(default_factory=dict[AnswerPeriod, int])
    """How many answers of a period are in the store."""

    def take(self, reading: Reading, ttl_ms: int, now: Instant) -> None:
        news = heard(reading, ttl_ms, now)
        if news is None:
            return
        account = self.accounts.setdefault(reading.broker, _Account())
        account.open, ended = extended(account.open, news, now)
        if ended is not None and ended.until_us > ended.from_us:
            self.done[ended.broker, ended.from_us] = ended
            if len(self.done) > MOST_WAITING:
                self.done.pop(next(iter(self.done)))
        as_of_us = reading.as_of_us
        if as_of_us is None or as_of_us == account.as_of_us:
            return
        is_first = account.as_of_us is None
        account.as_of_us = as_of_us
        # The first one may be as old as the last life of the cluster, and was counted then.
        if reading.answer_ms is not None and not is_first:
            for length_us in (HOUR_US, DAY_US):
                period = AnswerPeriod(reading.broker, length_us, now.wall_us // length_us * length_us)
                self.answers.setdefault(period, AnswerTimes()).add(reading.answer_ms)
        cash = (None if reading.cash is None else amount_text(reading.cash), reading.cash_unit)
        # Without a unit amounts are not published.
        if cash[1] and cash != account.cash and now.up_s - account.cash_s >= CASH_EVERY_S:
            account.cash, account.cash_s = cash, now.up_s
            self.cash.append(CashSample(reading.broker, min(as_of_us, now.wall_us), *cash))

    def forget(self, now_us: int) -> None:
        """Let go of what is too old for any window. Spans and amounts have a limit of their own."""
        for period in [one for one in self.answers if one.begin_us < now_us - 32 * one.length_us]:
            if period.length_us == DAY_US or period.begin_us < now_us - 8 * DAY_US:
                del self.answers[period]

    def spans(self) -> list[Span]:
        """Every span that is not only in the store."""
        opened = [one.open.span for one in self.accounts.values() if one.open is not None]
        return [*self.done.values(), *opened]

    def pages(self) -> Pages:
        return Pages(
            spans={(span.broker, span.from_us): span for span in self.spans()},
            cash=list(self.cash),
            answers={
                period: dict(times.counts)
                for period, times in self.answers.items()
                if sum(times.counts.values()) != self.saved.get(period)
            },
        )

    def written(self, pages: Pages, now: Instant) -> None:
        for key, span in pages.spans.items():
            if self.done.get(key) == span:
                del self.done[key]
        written = {id(one) for one in pages.cash}
        while self.cash and id(self.cash[0]) in written:
            self.cash.popleft()
        for period, counts in pages.answers.items():
            self.saved[period] = sum(counts.values())
        for period in [one for one in self.answers if one.begin_us + one.length_us <= now.wall_us]:
            if sum(self.answers[period].counts.values()) == self.saved.get(period):
                del self.answers[period]
                self.saved.pop(period)
