"""What was recorded of a round, as values: the truth, the processes, what each subscriber showed, each order.

All moments are seconds of the machine's monotonic clock, which is one for all processes. The checker reads
nothing else, so a test can make up any recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.periods import Period


@dataclass(frozen=True, slots=True)
class Promises:
    """The numbers that the documentation makes of the configuration of the round."""

    ttl_s: float
    """A broker that was not heard for so long is not available: four heartbeats and a second."""
    deadline_s: float
    """`fetch_deadline_s`: a question that is not answered by then is an error."""
    threshold: int
    """So many errors in a row make an account unavailable."""
    proof_s: float
    """A success proves an account for so long (docs/configuration.md, "How long a success counts")."""
    written_s: float
    """A balance may be so much older after a kill: it waits so long to be written."""
    rewritten_s: float
    """So long after the disk has room again all that is known is written."""
    grace_s: float
    """What a busy machine adds between an event and its record."""


@dataclass(frozen=True, slots=True)
class Call:
    """One question about a balance that arrived at an exchange."""

    at_s: float
    good: bool
    """The exchange stated the balance."""
    hangs: bool = False
    """It is not answered, so it counts only when the deadline is over."""


@dataclass(frozen=True, slots=True)
class Process:
    """One program that watches accounts or passes on what it hears of them."""

    lives: tuple[Period, ...]
    stopped: tuple[Period, ...] = ()
    """SIGSTOP to SIGCONT."""
    full: tuple[Period, ...] = ()
    """Its disk took nothing."""
    leaps: tuple[float, ...] = ()
    """When its clocks found that its machine had slept, or that its virtual machine was paused."""


@dataclass(frozen=True, slots=True)
class Way:
    """The connection from a process to one that listens to it."""

    cut: tuple[Period, ...] = ()
    """When nothing came through, and what was sent is lost."""
    held: tuple[Period, ...] = ()
    """When nothing came through, and what was sent came later."""
    late: tuple[tuple[Period, float], ...] = ()
    """When, and by how many seconds, all that came through was delayed."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account: the process that watches it, who publishes it, and the truth about it."""

    owner: str
    published_by: Mapping[str, Way]
    """The processes that publish it, and how each hears of it from its owner."""
    calls: tuple[Call, ...]
    versions: tuple[float, ...]
    """When each version of its balance was replaced: the first is version 1."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a subscriber showed of one account at one moment."""

    at_s: float
    account: str
    available: bool
    version: int | None
    """The version of the last known balance; None where none is known."""
    reason: str = ""
    epoch: str = ""
    """The life of the account's actor that the reading is of."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A program that listens, and what it showed."""

    shown: tuple[Shown, ...]
    hears: Mapping[str, Way]
    """The processes that it listens to."""
    says_versions: bool = True
    """Whether it wrote down which version of a balance it showed."""


@dataclass(frozen=True, slots=True)
class Intent:
    """An order that a trading program meant to place once, however often it asked."""

    account: str
    order_id: str
    size: str
    """In the quote currency. It is the size of no other order of the account."""
    end: str
    """`placed`, `not placed`, or empty while the program does not know."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that an exchange has."""

    account: str
    order_id: str
    size: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole round."""

    promises: Promises
    begins_s: float
    """From here on: everything had started, and each subscriber had shown each account available."""
    ends_s: float
    """Up to here: all trouble was over, and all processes ran."""
    processes: Mapping[str, Process]
    accounts: Mapping[str, Account]
    subscribers: Mapping[str, Subscriber]
    intents: tuple[Intent, ...] = ()
    placed: tuple[Placed, ...] = ()
