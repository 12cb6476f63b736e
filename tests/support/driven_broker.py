"""A broker actor without a thread: a test hands it its messages, and reads what it says and asks."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from brokerwatch.actors.board import Slot
from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.broker_context import BrokerContext
from brokerwatch.actors.protocol import Observed
from brokerwatch.clock import Instant, ManualClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.claim import Claimed, unclaimed
from brokerwatch.health.outcome import Fetching, FetchOutcome
from brokerwatch.health.reading import evidence
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.messages import Balance, BrokerEvent, Holding, Reading
from brokerwatch.tally import AccountTally
from tests.support.clusters import ONLY_WHEN_ASKED, Till


class Question:
    """A fetch that is under way until the test answers it."""

    def __init__(self, asked: Instant, done: Callable[[FetchOutcome], object]) -> None:
        self.asked = asked
        self.done = done
        self.cancelled = False

    def cancel(self) -> None:
        """Give it up."""
        self.cancelled = True


class Driven:
    """The actor, its place on the board, and the questions that it asked."""

    def __init__(self, heartbeat_s: float = 1.0, *, clock: ManualClock | None = None, **values: Any) -> None:
        self.clock = ManualClock() if clock is None else clock
        self.tally = AccountTally()
        self.said: list[type[BrokerEvent]] = []
        self.questions: list[Question] = []
        self.waits_s: list[float] = []
        """How long from now each message comes that the actor sends to itself."""
        self.queue_s = self.longest_wait_s = 0.0
        self.held_since_s: float | None = None
        self.claim: Claimed = unclaimed
        """What the claim of its key says; a test changes it."""
        now = self.clock.now()
        chosen: dict[str, Any] = {"poll_interval_s": ONLY_WHEN_ASKED, **values}
        spec = BrokerSpec("a", fetch=Till(), **chosen)
        health = Health.begin(now, threshold=spec.max_consecutive_errors, rules=spec.rules)
        self.slot = Slot(evidence(spec, "", health, now, self.clock, heartbeat_s), health, NO_VETOES)
        me: Any = self
        around = BrokerContext(
            source=me,
            slot=self.slot,
            alarms=me,
            clock=self.clock,
            heartbeat_s=heartbeat_s,
            tally=self.tally,
            claimed=lambda now_s: self.claim(now_s),
            journal=Forgetful(),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it keeps nothing
        )
        epoch = "1800000000000000-0123abcd"
        self.actor = BrokerActor(
            spec, epoch, health, around, lambda event: self.said.append(type(event)), lambda _why: None
        )
        self.actor.begin()
        self.said.clear()

    @property
    def reading(self) -> Reading:
        """The account as the board shows it."""
        return self.slot.reading

    def hear(self, message: object, after_s: float = 0.0) -> list[type[BrokerEvent]]:
        """What it says to a message that comes so much later."""
        self.clock.advance(after_s)
        self.actor.handle(message)
        said = self.said.copy()
        self.said.clear()
        return said

    def balance(self) -> Balance:
        """A balance that was asked for just now."""
        one = Holding(free=Decimal(1), used=Decimal(0), total=Decimal(1))
        return Balance(holdings={"USD": one}, as_of=self.clock.now())

    def seen(self, *, dated: bool = True) -> Observed:
        """A balance that the trader's own code read just now."""
        return Observed(self.balance(), dated=dated)

    # The source and the timer ------------------------------------------------------------------------

    def spare_wait_s(self) -> float:
        """The budget has room for every read."""
        return 0.0

    def fetch(
        self, deadline_s: float, done: Callable[[FetchOutcome], object], *, spare: bool = False
    ) -> Fetching:
        """Ask; the test answers."""
        del deadline_s, spare
        self.questions.append(Question(self.clock.now(), done))
        return self.questions[-1]

    def after(self, delay_s: float, function: object) -> None:
        """Nothing comes by itself."""
        del function
        self.waits_s.append(delay_s)


class Forgetful:
    """A journal that keeps nothing."""

    def health(self, *_told: object, **_more: object) -> None:
        """Forget it."""

    def warned(self, *_told: object) -> None:
        """Forget it."""

    def moved(self, *_told: object) -> None:
        """Forget it."""
