"""The terms of one process: of each API key whether it may be used here, and until when.

A key that this process has no claim on has a term that is over. So a lane of such a key, however it came
about, lets nothing out.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from brokerwatch.clock import Clock, Leads
from brokerwatch.gateway.lease import Term

UNCLAIMED: Final = "this node has no claim on the API key"


class Asked(NamedTuple):
    """The moment before the database was asked, from which a term counts."""

    up_s: float
    leads: Leads

    @classmethod
    def now(cls, clock: Clock) -> Asked:
        """The present moment. The leads come first: a sleep between the two counts."""
        leads = clock.leads()
        return cls(clock.up_s(), leads)


class Terms:
    """Any thread may use it.

    Args:
        lease_s: seconds of a claim by the database's clock.
        skew_s: seconds by which a term ends earlier.
        call_s: the longest deadline of one request.
    """

    def __init__(self, lease_s: float, skew_s: float, call_s: float) -> None:
        self.lease_s = lease_s
        self._skew_s = skew_s
        self._call_s = call_s
        self._lock = threading.Lock()
        self._held: dict[str, Term] = {}
        self._others: dict[str, Term] = {}
        """Of keys that a lane asked for and that are not held."""

    def of(self, key: str) -> Term:
        """The term of a key, for its lane. It is over where the key is not held."""
        with self._lock:
            found = self._held.get(key) or self._others.get(key)
            if found is None:
                found = Term(float("-inf"), self._call_s)
                found.end(UNCLAIMED)
                self._others[key] = found
            return found

    @property
    def held(self) -> Mapping[str, int]:
        """The epoch of each key that is held, by key."""
        with self._lock:
            return {key: term.epoch for key, term in self._held.items()}

    def until_s(self) -> float:
        """When the first of the terms ends, in monotonic seconds; infinite: none is held."""
        with self._lock:
            return min((term.until_s for term in self._held.values()), default=float("inf"))

    def taken(self, epochs: Mapping[str, int], asked: Asked) -> None:
        """Hold these keys from the moment on before the database was asked."""
        with self._lock:
            for key, epoch in epochs.items():
                self._others.pop(key, None)
                self._held[key] = Term(self._until(asked), self._call_s, epoch, asked.leads)

    def renewed(self, keys: Collection[str], asked: Asked) -> None:
        """These claims were extended."""
        with self._lock:
            for key in keys:
                if (term := self._held.get(key)) is not None:
                    term.extend(self._until(asked), leads=asked.leads)

    def ended(self, keys: Collection[str], why: str) -> None:
        """Start no call with these keys any more, for this reason. They count as not held from here on."""
        with self._lock:
            for key in keys:
                if (term := self._held.pop(key, None)) is not None:
                    term.end(why)

    def closed(self, keys: Collection[str], why: str) -> None:
        """Start no call with these keys any more, but go on holding them."""
        with self._lock:
            for key in keys:
                if (term := self._held.get(key)) is not None:
                    term.end(why)

    def call_within(self, call_s: float) -> None:
        """Another configuration has another longest deadline."""
        with self._lock:
            self._call_s = call_s
            for term in self._held.values():
                term.call_s = call_s

    def _until(self, asked: Asked) -> float:
        return asked.up_s + self.lease_s - self._skew_s
