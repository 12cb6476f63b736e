"""What the parts of one cluster did since it started: counters, and histograms of durations, in memory.

The parts count here what no message on the bus states. The metrics read it (`brokerwatch.web.metrics`). Each
cluster has a tally of its own, which is handed down like its clock, so that two clusters in one process are
counted apart. Counting takes a lock for less than a microsecond. Every method may be called from any thread.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets, in seconds; one more has no bound. A usual answer of an exchange takes
0.1 to 0.5 s, the usual deadline is 8 s, and a call waits in its lane for at most 60 s."""

ORDER_ENDS: Final = (
    "filled",
    "cancelled",
    "not_followed",
    "refused",
    "not_sent",
    "never_arrived",
    "forgotten",
)
"""How an order can end. The exchange took those of the first three; the end of `not_followed` was not found
out. `forgotten` was looked for no more, because the operator asked for that."""


PUSH_WORDS: Final = ("connected", "lost", "refused", "amounts", "reads", "struck")
"""What can happen to a stream: it was accepted, lost or refused; it stated amounts; a read followed a frame;
it was wrong."""


class Counts:
    """How often each of some words was counted.

    Args:
        words: those that stand at zero before they are counted for the first time.
    """

    def __init__(self, words: tuple[str, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(words, 0)

    def add(self, word: str = "") -> None:
        """Count one."""
        with self._lock:
            self._counts[word] = self._counts.get(word, 0) + 1

    def counts(self) -> dict[str, int]:
        """A copy of all counts."""
        with self._lock:
            return self._counts.copy()

    @property
    def total(self) -> int:
        """The sum of all counts."""
        return sum(self.counts().values())


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram at one moment."""

    counts: tuple[int, ...]
    """How many durations fell into each bucket alone, the last without a bound."""
    sum_s: float
    """The sum of all durations, in seconds."""


class Histogram:
    """How long something took, in the buckets of `BUCKETS_S`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration. One that is negative, after a clock went wrong, counts as zero."""
        seconds = max(0.0, seconds)
        place = bisect_left(BUCKETS_S, seconds)
        with self._lock:
            self._counts[place] += 1
            self._sum_s += seconds

    def durations(self) -> Durations:
        """All of it, of one moment."""
        with self._lock:
            return Durations(tuple(self._counts), self._sum_s)


class AccountTally:
    """What happened to one account."""

    def __init__(self) -> None:
        self.faults: Final = Counts()
        """Failed fetches, by the kind of fault."""
        self.not_made: Final = Counts()
        """Fetches that were not made: no turn came, or the key is locked out."""
        self.fetches: Final = Histogram()
        """How long the exchange took over each fetch, whatever its end; without the wait for a turn."""
        self.pushes: Final = Counts(PUSH_WORDS)
        """What its stream did: by the words of `PUSH_WORDS`."""
        self.trades = False
        """Whether its configuration lets orders go out."""
        self.sent: Final = Counts()
        """Orders that were sent. One that is sent again with its own id counts once."""
        self.ended: Final = Counts(ORDER_ENDS)
        """Orders by their end."""
        self.unknown_orders = 0
        """How many orders have an unknown outcome now."""


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How much of the budget of an API key is used at one moment."""

    per_s: float
    """Requests a second that it allows for ever."""
    burst: float
    """Requests that it allows at once."""
    used: float
    """Requests of those that are not made up for yet. Orders wait for no budget and can use more of it than
    there is."""


class KeyTally:
    """What happened in the lane of one API key."""

    def __init__(self) -> None:
        self.waits: Final = Histogram()
        """How long calls waited for their turn and for the budget; those too whose turn did not come."""
        self.requests: Final = Counts()
        """Requests that were counted against the budget."""
        self.budget: Callable[[], BudgetUse] | None = None
        """Looks up the budget; None: the lane is not made yet. For any thread."""


@dataclass(slots=True)
class _Key:
    tally: KeyTally
    brokers: list[str] = field(default_factory=list[str])
    """The accounts of this key, the first one first."""


class Tally:
    """All counts of one cluster."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, AccountTally] = {}
        self._keys: dict[str, _Key] = {}

    def account(self, broker: str) -> AccountTally:
        """The counts of an account that the cluster has. They go on where one of this name was replaced."""
        with self._lock:
            return self._accounts.setdefault(broker, AccountTally())

    def of(self, broker: str) -> AccountTally:
        """The counts of an account. Those of an account that was removed are counted and not kept."""
        with self._lock:
            return self._accounts.get(broker) or AccountTally()

    def key(self, fingerprint: str, broker: str) -> KeyTally:
        """The counts of an API key, which this account uses."""
        with self._lock:
            key = self._keys.setdefault(fingerprint, _Key(KeyTally()))
            if broker not in key.brokers:
                key.brokers.append(broker)
            return key.tally

    def leave(self, fingerprint: str, broker: str) -> None:
        """This account uses the key no more. Forget the key, unless another account uses it."""
        with self._lock:
            key = self._keys.get(fingerprint)
            if key is not None and broker in key.brokers:
                key.brokers.remove(broker)
                if not key.brokers:
                    del self._keys[fingerprint]

    def forget(self, broker: str) -> None:
        """Forget an account that was removed."""
        with self._lock:
            self._accounts.pop(broker, None)
            used = [fingerprint for fingerprint, key in self._keys.items() if broker in key.brokers]
        for fingerprint in used:
            self.leave(fingerprint, broker)

    def accounts(self) -> Mapping[str, AccountTally]:
        """The counts of every account, by its name."""
        with self._lock:
            return MappingProxyType(self._accounts.copy())

    def keys(self) -> Mapping[str, KeyTally]:
        """The counts of every API key, by the name of the first account that uses it.

        While the key of an account is replaced, it is the one that it had before.
        """
        with self._lock:
            newest_first = reversed(self._keys.values())
            return MappingProxyType({key.brokers[0]: key.tally for key in newest_first})
