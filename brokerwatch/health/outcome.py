"""The outcome of a fetch, and the protocol of what fetches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from brokerwatch.clock import Instant
from brokerwatch.messages import Balance, Fault


@dataclass(frozen=True, slots=True)
class NotAsked:
    """A fetch that was not made. It is no evidence, so it is not counted."""

    why: str
    """Why not, in words; for a lockout in the exchange's own."""
    locked_until: Instant | None = None
    """The end of the lockout that forbids it; None when there is none."""


FetchOutcome = Balance | Fault | NotAsked
"""What a fetch ends with."""


class Fetching(Protocol):
    """A fetch that is under way."""

    def cancel(self) -> object:
        """Give it up. Its outcome may still come, and is then ignored."""
        ...


class Source(Protocol):
    """Fetches a broker's balance."""

    @property
    def queue_s(self) -> float:
        """How long a fetch may wait for its turn before its deadline begins."""
        ...

    @property
    def longest_wait_s(self) -> float:
        """How long a fetch waits at the longest where every call of the same key keeps its own deadline."""
        ...

    @property
    def held_since_s(self) -> float | None:
        """Since when, in monotonic seconds, code of the trader's has had the account's lane; None: it has
        not."""
        ...

    def spare_wait_s(self) -> float:
        """Seconds until a fetch leaves the reserve of the key's budget to exits; 0: now."""
        ...

    def fetch(
        self, deadline_s: float, done: Callable[[FetchOutcome], object], *, spare: bool = False
    ) -> Fetching:
        """Start one fetch and return without waiting. `done` is called once, on any thread.

        `spare`: the outcome is `NotAsked` where the fetch would take from that reserve.
        """
        ...
