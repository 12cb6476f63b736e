"""What the actors tell each other, and the little that they need of the parts around them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pykka

from brokerwatch.clock import Instant
from brokerwatch.health.outcome import FetchOutcome
from brokerwatch.health.state_machine import utc_time
from brokerwatch.messages import Balance, Fault, Reading, Roster
from brokerwatch.messages.trading import Status
from brokerwatch.storage.records import Hold

LATE_S: Final = 1.0
"""A fetch that has not ended so long after its deadline is lost: its source does not keep its promise."""


class Alarms(Protocol):
    """Calls functions later, on a thread of its own.

    A protocol, because the class that does it (`cluster.timers.Timers`) stands above the actors and needs an
    event loop. The tests of the actors fire their alarms by hand.
    """

    def after(self, delay_s: float, function: Callable[[], object]) -> None:
        """Call `function` after `delay_s` seconds, from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Poll:
    """Fetch, as the schedule says. `ticket` says which: a newer schedule replaces the older."""

    ticket: int


@dataclass(frozen=True, slots=True)
class FetchNow:
    """Fetch, and tell `waiter` the reading when it has ended. Joins a fetch that is under way."""

    waiter: Future[Reading]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetch has ended. `ticket` says which: an outcome that comes too late is not counted twice."""

    ticket: int
    outcome: FetchOutcome


@dataclass(frozen=True, slots=True)
class Tick:
    """A heartbeat is due."""


@dataclass(frozen=True, slots=True)
class ReportNow:
    """Say how you are, now."""


@dataclass(frozen=True, slots=True)
class Reset:
    """An operator says that what was final is mended: ask again."""


@dataclass(frozen=True, slots=True)
class Recall:
    """A balance from before the restart has come to light."""

    balance: Balance


@dataclass(frozen=True, slots=True)
class Called:
    """A call other than the balance's has ended: of which kind, and with which fault; None is an answer."""

    capability: str
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Stated:
    """The exchange says how it is; None: it does not say any more."""

    status: Status | None


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order goes out, or has just ended: no balance that was asked for before counts as fresh.

    `shown` is set once the reading says so; with `ended` the balance is asked for again.
    """

    ended: bool
    shown: Future[None]


@dataclass(frozen=True, slots=True)
class Observed:
    """The trader asked by himself, and this is how it ended: evidence like any other, and no request."""

    outcome: Balance | Fault


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Another private question than the balance met a fault of the exchange itself, or of the way to it.

    That says of the account what a fetch would: while orders hang, no poll may have its turn.
    """

    fault: Fault


BrokerMessage = (
    Poll
    | FetchNow
    | Fetched
    | Tick
    | ReportNow
    | Reset
    | Recall
    | Called
    | Stated
    | Ordered
    | Observed
    | Unanswered
)


@dataclass(frozen=True, slots=True)
class Drain:
    """States have arrived; take the newest of each broker."""


@dataclass(frozen=True, slots=True)
class LookRound:
    """A tick: who is silent?"""


@dataclass(frozen=True, slots=True)
class Died:
    """The actor of `broker` that was started under `epoch` has ended by itself."""

    broker: str
    epoch: str
    why: str


@dataclass(frozen=True, slots=True)
class RestartDue:
    """The wait before a restart is over."""

    broker: str


@dataclass(frozen=True, slots=True)
class OperatorCommand:
    """An operator's command; `reply` is told in words what was done, or ControlError why not."""

    verb: str
    broker: str
    by: str
    why: str
    until: Instant | None
    reply: Future[str]


ITS_END: Final = "its own end"
"""Who ends a hold that had a time."""


@dataclass(frozen=True, slots=True)
class Life:
    """One incarnation of a broker actor."""

    epoch: str
    ref: pykka.ActorRef[Any]


class HealthTopic(Protocol):
    """Publishes readings.

    A protocol, so that the actors know no socket: `bus.publishing.HealthPublishing` satisfies it.
    """

    def publish(self, reading: Reading) -> None:
        """One broker's reading."""
        ...

    def publish_part(self, part: int, roster: Callable[[], Roster]) -> None:
        """One part of all readings. It is made when it is sent, on another thread."""
        ...


def held_words(hold: Hold) -> str:
    """A hold as everybody is shown it: by whom, why, until when."""
    end = "" if hold.until_us is None else f", until {utc_time(hold.until_us)}"
    return f"by {hold.by}: {hold.why}{end}"
