"""How a fetch ended, and what can be asked for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from brokerwatch.clock import Instant
from brokerwatch.messages import Balance, Fault


@dataclass(frozen=True, slots=True)
class NotAsked:
    """A fetch that was not made: no outcome, so it counts nowhere."""

    why: str
    """In words; of a lockout the exchange's own."""
    locked_until: Instant | None = None
    """The end of the lockout that forbids it; None when there is none."""


FetchOutcome = Balance | Fault | NotAsked
"""How a fetch ends."""


class Fetching(Protocol):
    """A fetch that is under way."""

    def cancel(self) -> object:
        """Give it up; its outcome is not told any more, or nobody listens."""
        ...


class Source(Protocol):
    """Whatever fetches a broker's balance."""

    @property
    def queue_s(self) -> float:
        """How long a fetch may wait for its turn before its deadline begins."""
        ...

    def fetch(self, deadline_s: float, done: Callable[[FetchOutcome], object]) -> Fetching:
        """Start one fetch and return without waiting. `done` is called once, on any thread."""
        ...
