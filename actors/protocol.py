"""The messages between the actors, and the protocols of the parts around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pykka

from brokerwatch.actors.push_inbox import PushInbox
from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.outcome import FetchOutcome
from brokerwatch.health.state_machine import utc_time
from brokerwatch.health.stated import NO_DOUBTS, Doubts, Fill
from brokerwatch.health.supervision import View
from brokerwatch.health.watched import NOTHING_WATCHED, Watched
from brokerwatch.messages import Balance, Fault, Reading, Roster
from brokerwatch.messages.key import KeyStatement
from brokerwatch.messages.money import LedgerEntry
from brokerwatch.messages.trading import Status
from brokerwatch.storage.records import Hold

LATE_S: Final = 1.0
"""A fetch that has not ended so long after its deadline is lost: its source is broken."""
ITS_END: Final = "its own end"
"""The name in the history for the end of a hold that had a time."""


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
    """Fetch, because the schedule says so. `ticket` numbers the schedule: a newer one replaces the older."""

    ticket: int


@dataclass(frozen=True, slots=True)
class FetchNow:
    """Fetch, and resolve `waiter` with the reading when the fetch has ended. Joins a fetch under way."""

    waiter: Future[Reading]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetch has ended. `ticket` numbers the fetch: an outcome that comes too late is not counted twice."""

    ticket: int
    outcome: FetchOutcome


@dataclass(frozen=True, slots=True)
class Tick:
    """A heartbeat is due."""


@dataclass(frozen=True, slots=True)
class ReportNow:
    """Publish the state now."""


@dataclass(frozen=True, slots=True)
class Reset:
    """An operator has removed the cause of a final refusal: ask again."""


@dataclass(frozen=True, slots=True)
class GiveWay:
    """Another process has the state folder, so this cluster asks no exchange any more."""

    why: str
    """For people."""


@dataclass(frozen=True, slots=True)
class Recall:
    """A balance from before the restart was found in the store, what was in doubt, and what was watched."""

    balance: Balance
    doubts: Doubts = NO_DOUBTS
    watched: Watched = NOTHING_WATCHED


@dataclass(frozen=True, slots=True)
class Called:
    """A call other than the balance's has ended: its kind, and its fault; None when it was answered."""

    capability: str
    fault: Fault | None
    symbol: str = ""
    """The market of an order, as ccxt writes it; empty for any other call."""


@dataclass(frozen=True, slots=True)
class Stated:
    """The exchange stated its status; None: it states none any more."""

    status: Status | None


@dataclass(frozen=True, slots=True)
class Streamed:
    """The exchange's private stream said something, which waits in `inbox`. It is no evidence."""

    inbox: PushInbox


@dataclass(frozen=True, slots=True)
class LookAtPush:
    """The read that a frame asked for may be due. `look` numbers the looks: only the newest counts."""

    look: int


@dataclass(frozen=True, slots=True)
class Unstreamed:
    """The account has no stream any more."""


@dataclass(frozen=True, slots=True)
class KeyStated:
    """The exchange stated something about the API key. It is no evidence about the account.

    `egress_address` is the address that our calls leave from; empty: it is not known.
    """

    said: KeyStatement
    egress_address: str = ""


@dataclass(frozen=True, slots=True)
class LedgerRead:
    """The exchange's ledger was asked, because money went. None: it could not be read, and why."""

    entries: tuple[LedgerEntry, ...] | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order goes out, or has just ended: a balance that was asked for before it is stale.

    `shown` is resolved once the reading says so. Once it has ended, with a `fill`, the balance is fetched
    again.
    """

    fill: Fill | None
    """What it did, as far as that is known; None: it goes out."""
    shown: Future[None]


@dataclass(frozen=True, slots=True)
class Observed:
    """The outcome of a call of the trader's own. It is evidence like any other, and cost no request.

    `dated`: whether the trader said when the call was made.
    """

    outcome: Balance | Fault
    dated: bool = False


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A private call other than the balance's met a fault of the exchange itself or of the network.

    It is evidence about the account, as a fetch would be: while orders hang, no poll may get its turn.
    """

    fault: Fault


@dataclass(frozen=True, slots=True)
class AskAnew:
    """The event loop of the account turns again after it hung: what was asked before proves nothing."""

    why: str


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration of the account is another one from now on; its API key is the same.

    `taken` is resolved once the reading is made by it.
    """

    spec: BrokerSpec
    taken: Future[None]


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """The account is asked with another API key from now on.

    `found`: what it answered to that key, which is evidence like any other; None: it was not asked yet.
    `same_account`: whether the key is known to be of the same account. `taken` is resolved once the reading
    is made by it, and is False where the actor ended before: the next one begins with the key.
    """

    spec: BrokerSpec
    found: Balance | None
    same_account: bool
    taken: Future[bool]


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
    | KeyStated
    | Streamed
    | LookAtPush
    | Unstreamed
    | LedgerRead
    | Ordered
    | Observed
    | Unanswered
    | AskAnew
    | Reconfigured
    | Rekeyed
)


@dataclass(frozen=True, slots=True)
class Drain:
    """States have arrived; take the newest of each broker."""


@dataclass(frozen=True, slots=True)
class LookRound:
    """A round is due: which brokers are silent?"""


@dataclass(frozen=True, slots=True)
class LookAtLoops:
    """A look at the event loops is due: which of them hang?"""


@dataclass(frozen=True, slots=True)
class Regroup:
    """Other brokers belong to the cluster from now on.

    `done` is resolved once the last word of the brokers that left was published.
    """

    names: tuple[str, ...]
    """All of them, in the order of the configuration."""
    joined: Mapping[str, tuple[View, Life | None]]
    """What is known of each new one, and its actor; None: it has none, because of its configuration."""
    left: tuple[Reading, ...]
    """The last readings of those that belong to it no more."""
    done: Future[None]
    arrangement: int
    """Of the board, which has these brokers already."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The supervisor is about to be stopped, for this reason: publish the last word, and no other."""

    why: str


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
    """An operator's command. `reply` is resolved with a sentence of what was done, or with a ControlError."""

    verb: str
    broker: str
    by: str
    why: str
    until: Instant | None
    reply: Future[str]


@dataclass(frozen=True, slots=True)
class Life:
    """One incarnation of a broker actor."""

    epoch: str
    ref: pykka.ActorRef[Any]


class AccountLoop(Protocol):
    """The event loop of some accounts, whichever one that is now.

    A protocol, because the actors know no event loop: `cluster.account_loops.AccountLoop` satisfies it.
    """

    @property
    def name(self) -> str:
        """The name of the loop, for people."""
        ...

    @property
    def brokers(self) -> Sequence[str]:
        """The brokers whose accounts are asked on it."""
        ...

    @property
    def replaced_after_s(self) -> float | None:
        """How long it may hang before another one takes its place; None: it cannot be replaced."""
        ...

    def turned(self) -> bool:
        """Whether it has turned since the last call, which asked it to. Never waits."""
        ...

    def replace(self, why: str) -> bool:
        """Have another one take its place. False, and nothing has changed, when none can be started."""
        ...

    def revoke(self, why: str) -> None:
        """Send nothing from it any more, nor from one that takes its place. Any thread."""
        ...

    def give_up(self, why: str) -> None:
        """Ask nothing on it any more: calls raise at once."""
        ...


class HealthTopic(Protocol):
    """Publishes readings.

    A protocol, so that the actors know no socket: `bus.publishing.HealthPublishing` satisfies it.
    """

    def publish(self, reading: Reading) -> None:
        """One broker's reading."""
        ...

    def farewell(self, reading: Reading) -> None:
        """The last word about a broker, which belongs to the cluster no more."""
        ...

    def leave(self, readings: Iterable[Reading]) -> None:
        """The last word on every topic: the publisher ends. Their verdict says why."""
        ...

    def publish_part(self, part: int, roster: Callable[[], Roster]) -> None:
        """One part of all readings. It is made when it is sent, on another thread."""
        ...


def held_words(hold: Hold) -> str:
    """A hold as a text for people: by whom, why, until when."""
    end = "" if hold.until_us is None else f", until {utc_time(hold.until_us)}"
    return f"by {hold.by}: {hold.why}{end}"
