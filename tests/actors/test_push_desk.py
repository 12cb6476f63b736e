"""When a broker's actor reads after a push: soon, and never again and again where nothing comes of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from brokerwatch.actors.protocol import Fetched, LookAtPush, Streamed
from brokerwatch.actors.push_desk import GATHER_S
from brokerwatch.actors.push_inbox import PushInbox
from brokerwatch.config.push_settings import SWEEP_S
from brokerwatch.health.push import Acknowledged, Asks, Connecting, Lost, StreamEvent
from brokerwatch.messages import Balance, Fault, FaultKind, Holding
from brokerwatch.messages.stream import PushedAmounts, StreamState
from tests.support.driven_broker import Driven


class Line:
    """A connection that counts how often it was asked to begin anew, or to end."""

    def __init__(self) -> None:
        self.last_frame_s = 0.0
        self.again = self.ended = 0

    def reconnect(self) -> None:
        """Count it."""
        self.again += 1

    def end(self) -> None:
        """Count it."""
        self.ended += 1


class Desk(Driven):
    """A driven broker with a stream."""

    def __init__(self, **values: Any) -> None:
        super().__init__(poll_interval_s=10.0, **values)
        self.line = Line()

    def says(self, *events: StreamEvent) -> None:
        """The stream says this."""
        inbox = PushInbox(lambda _: True)
        for event in events:
            inbox.put(event)
        self.hear(Streamed(inbox))

    def answers(self, total: int | None) -> None:
        """The fetch under way ends with so much USD; None: with no currency at all."""
        held = {} if total is None else {"USD": usd(total)}
        asked = self.questions[-1].asked
        self.ends(Balance(holdings=held, as_of=asked))

    def ends(self, outcome: Balance | Fault) -> None:
        """The fetch under way ends so."""
        ticket = self.actor._ticket  # pyright: ignore[reportPrivateUsage] - what numbers the fetch
        self.hear(Fetched(ticket, outcome), 0.01)

    def look(self, number: int) -> None:
        """The look of this number is due."""
        self.hear(LookAtPush(number), GATHER_S)

    def connects(self, total: int) -> None:
        """A stream is made, and a read agrees with it."""
        self.says(Connecting(self.line), Acknowledged(sets=True), whole(total))
        self.look(1)
        self.answers(total)


def usd(total: int) -> Holding:
    return Holding(free=Decimal(total), used=Decimal(0), total=Decimal(total))


def whole(total: int) -> PushedAmounts:
    return PushedAmounts(holdings={"USD": Holding(free=None, used=None, total=Decimal(total))}, whole=True)


def update(total: int) -> PushedAmounts:
    return PushedAmounts(holdings={"USD": Holding(free=None, used=None, total=Decimal(total))})


def test_a_read_follows_a_frame_and_polls_are_seldom_once_it_agrees() -> None:
    desk = Desk()
    desk.answers(100)
    asked = len(desk.questions)
    desk.connects(100)
    assert len(desk.questions) == asked + 1
    stream = desk.reading.stream
    assert stream is not None
    assert stream.state is StreamState.LIVE
    assert SWEEP_S / 20 <= desk.waits_s[-1] <= SWEEP_S, "the next poll"
    assert max(desk.waits_s[-3:]) > 10.0


def test_a_lost_stream_asks_at_once_and_polls_are_as_often_as_ever() -> None:
    desk = Desk()
    desk.answers(100)
    desk.connects(100)
    asked = len(desk.questions)
    desk.says(Lost("cut"))
    assert len(desk.questions) == asked + 1
    desk.answers(100)
    assert desk.waits_s[-1] <= 10.0


def test_after_a_fault_polls_decide_and_no_frame_makes_them_sooner() -> None:
    desk = Desk()
    desk.answers(100)
    desk.connects(100)
    desk.says(update(90))
    desk.look(2)
    asked, waits = len(desk.questions), len(desk.waits_s)
    desk.ends(Fault(FaultKind.EXCHANGE_DOWN, "503"))
    assert desk.waits_s[waits:] == [desk.waits_s[-1]], "the next poll alone"
    assert desk.waits_s[-1] <= 10.0
    desk.says(update(80), Asks("an order"))
    assert len(desk.questions) == asked
    assert len(desk.waits_s) == waits + 1


def test_an_answer_that_proves_no_balance_yet_is_not_asked_for_again_at_once() -> None:
    desk = Desk()
    desk.says(Connecting(desk.line), Acknowledged(sets=True), PushedAmounts(whole=True))
    desk.answers(None)  # a new account that is empty: it was asked for before the stream came
    desk.look(1)
    asked, waits = len(desk.questions), len(desk.waits_s)
    desk.answers(None)
    assert GATHER_S not in desk.waits_s[waits:]
    assert len(desk.questions) == asked


def test_the_next_life_of_an_actor_has_the_stream_begin_anew() -> None:
    desk = Desk()
    desk.answers(100)
    desk.connects(100)
    before = desk.line.again
    desk.actor.begin()
    assert desk.line.again == before + 1
