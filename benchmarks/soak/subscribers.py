"""A process with some listeners, as a trader's program has them: how late messages are, and what they show.

The first request names them: `{"endpoint": …, "seats": [names], "relayed": false}`. Every second it pushes
what was counted. It is stopped and goes on by signals of the soak, which it does not notice.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from typing import Any, Final

from benchmarks.elsewhere import answer, heard
from benchmarks.soak.relay import Relay
from benchmarks.soak.watch import Watch
from brokerwatch import Listener
from brokerwatch.messages import Reason

LOOK_S: Final = 0.05
PUSH_S: Final = 1.0
STEPS: Final = 50
"""Buckets of the histogram for each power of ten: one is 4.7 % wide."""


def bucket(latency_us: float) -> int:
    """Where a latency belongs."""
    return round(STEPS * math.log10(max(1.0, latency_us)))


def bucket_ms(number: int) -> float:
    """The middle of a bucket."""
    return float(10 ** (number / STEPS)) / 1_000


class Seat:
    """One listener, and a consumer of its changes on a thread."""

    def __init__(self, name: str, endpoint: str) -> None:
        self.name = name
        self.watch = Watch()
        self.listener = Listener(endpoint)
        self._lock = threading.Lock()
        self._latencies: Counter[int] = Counter()
        self.listener.start()
        self._thread = threading.Thread(target=self._consume, daemon=True)
        self._thread.start()

    def _consume(self) -> None:
        for change in self.listener.changes(renewals=True):
            now_us = time.time_ns() / 1_000
            if change.stamp is None or change.after.verdict.reason is Reason.NOTHING_HEARD:
                continue  # no message: the listener says so itself
            with self._lock:
                self._latencies[bucket(now_us - change.stamp.ts_us)] += 1

    def look(self) -> None:
        """Look at what it shows."""
        # A message that comes meanwhile makes it only newer.
        now_s, wall_us, seen = time.monotonic(), time.time_ns() // 1_000, self.listener.heard()
        available = [name for name, reading in self.listener.readings().items() if reading.available]
        self.watch.look(now_s, wall_us, seen, available, self.listener.lost)

    def counts(self) -> dict[str, int]:
        """What it has counted."""
        one = self.listener
        return {"lost": one.lost, "healed": one.healed, "undecodable": one.undecodable}

    def seen(self, *, is_last: bool = False) -> dict[str, Any]:
        """What it has shown since the last call."""
        return {"name": self.name, **self.watch.taken(is_last=is_last)}

    def latencies(self) -> Counter[int]:
        """The latencies since the last call."""
        with self._lock:
            found, self._latencies = self._latencies, Counter()
        return found

    def end(self) -> None:
        """Stop listening."""
        self.listener.stop()
        self._thread.join()


class Subscribers:
    """All listeners of this process."""

    def __init__(self, endpoint: str, names: list[str], *, relayed: bool) -> None:
        self.relay = Relay(int(endpoint.rpartition(":")[2])) if relayed else None
        self._endpoint = f"tcp://127.0.0.1:{self.relay.port}" if self.relay else endpoint
        self._lock = threading.Lock()
        self._seats = [Seat(name, self._endpoint) for name in names]
        self._past: list[dict[str, Any]] = []
        """What was seen by a listener that has ended."""
        self._before: Counter[str] = Counter()
        """What they counted."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def replace(self) -> None:
        """End a listener for good, and begin another one in its place."""
        with self._lock:
            former, self._seats[0] = self._seats[0], Seat(self._seats[0].name, self._endpoint)
        former.end()
        with self._lock:
            self._before.update(former.counts())
            self._past.append(former.seen(is_last=True))

    def cut(self, lasts_s: float) -> None:
        """Cut the connections of all listeners here."""
        if self.relay is not None:
            self.relay.cut(lasts_s)

    def _look(self) -> None:
        next_s = time.monotonic() + PUSH_S
        while not self._ended.wait(LOOK_S):
            with self._lock:
                for seat in self._seats:
                    seat.look()
                if time.monotonic() >= next_s:
                    next_s = time.monotonic() + PUSH_S
                    answer({"pushed": True, **self._counted()})

    def _counted(self, *, is_last: bool = False) -> dict[str, Any]:
        latencies: Counter[int] = Counter()
        counts = self._before.copy()
        past, self._past = self._past, []
        for seat in self._seats:
            latencies.update(seat.latencies())
            counts.update(seat.counts())
        shown = [seat.listener.readings().values() for seat in self._seats]
        return {
            "at_s": time.monotonic(),
            "latencies": dict(latencies),
            "available": [sum(reading.available for reading in readings) for readings in shown],
            "seats": [*past, *(seat.seen(is_last=is_last) for seat in self._seats)],
            **counts,
        }

    def end(self) -> dict[str, Any]:
        """End all of them. Returns what was seen."""
        self._ended.set()
        self._thread.join()
        for seat in self._seats:
            seat.end()
        return self._counted(is_last=True)


def main() -> None:
    """Listen until the soak ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = heard()
    first = next(requests)
    subscribers = Subscribers(first["endpoint"], first["seats"], relayed=first["relayed"])
    answer({"relay": subscribers.relay.port if subscribers.relay else 0})
    for words in requests:
        match words["op"]:
            case "replace":
                subscribers.replace()
            case "cut":
                subscribers.cut(words["lasts_s"])
            case "end":
                answer(subscribers.end())
                return
            case other:
                raise ValueError(f"{other!r} is nothing that subscribers do")


if __name__ == "__main__":
    main()
