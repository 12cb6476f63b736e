"""The supervisor of brokers elsewhere, without a thread: what it makes of what arrives, and of silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final

import msgspec
import pytest

from brokerwatch.actors.board import Board
from brokerwatch.actors.protocol import Drain, Leave, LookRound, Regroup
from brokerwatch.actors.remote_supervisor import RemoteSupervisor, RemoteSupervisorContext
from brokerwatch.clock import ManualClock
from brokerwatch.cluster.lives import unheard
from brokerwatch.cluster.startup import unreported_slot
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.reading import ttl_s
from brokerwatch.health.supervision import TICK_GRACE_S
from brokerwatch.messages import FaultKind, HealthState, Reading, Reason, Roster, Verdict
from brokerwatch.storage.journal import Journal
from tests.support.wire_examples import reading

EPOCH: Final = "1800000000000000-0000abcd"
LATER: Final = "1800000000000001-0000abcd"
EARLIER: Final = "1799999999999999-0000abcd"


class Desk:
    """The actor with what it needs: a clock, what arrives, and what it publishes."""

    def __init__(self, *names: str, heartbeat_s: float = 1.0) -> None:
        self.clock = ManualClock()
        self.heartbeat_s = heartbeat_s
        self.arrived: dict[str, Reading] = {}
        self.published: list[Reading] = []
        self.last_words: list[Reading] = []
        self.beats = 0
        slots = [unreported_slot(BrokerSpec(n, exchange="custom"), self.clock, heartbeat_s) for n in names]
        self.board = Board(slots)
        self.version = 0
        self.actor = self.born()

    def born(self) -> RemoteSupervisor:
        """A life of the actor, as it is started."""
        now = self.clock.now()
        me: Any = self
        around = RemoteSupervisorContext(
            take_newest=self.taken,
            topic=me,
            journal=Journal(None),
            board=self.board,
            alarms=me,
            clock=self.clock,
            heartbeat_s=self.heartbeat_s,
            beat=self.beat,
        )
        views = {name: unheard(*parts, now) for name, parts in self.board.parts().items()}
        self.actor = RemoteSupervisor(views, around, lambda _why: None)
        self.actor.begin()
        return self.actor

    def taken(self) -> Mapping[str, Reading]:
        taken, self.arrived = self.arrived, {}
        return taken

    def beat(self, brokers: int) -> None:
        del brokers
        self.beats += 1

    def after(self, delay_s: float, function: Callable[[], object]) -> None:
        """An alarm, which the test gives by hand."""

    def publish(self, reading: Reading) -> None:
        self.published.append(reading)

    def farewell(self, reading: Reading) -> None:
        self.last_words.append(reading)

    def leave(self, readings: Iterable[Reading]) -> None:
        self.last_words += readings

    def publish_part(self, part: int, roster: Callable[[], Roster]) -> None:
        """The roster is of no interest here."""

    def hear(self, *names: str, lasts_s: float, **values: Any) -> None:
        """A message of the node of each of these, which is valid for so long from now."""
        for name in names:
            self.version += 1
            usual: dict[str, Any] = {
                "broker": name,
                "exchange": "custom",
                "broker_epoch": EPOCH,
                "version": self.version,
                "state": HealthState.HEALTHY,
                "fault": None,
                "error_count": 0,
                "clock": self.clock,
                "valid_until_s": self.clock.up_s() + lasts_s,
            }
            self.arrived[name] = reading(**{**usual, **values})
        self.actor.handle(Drain())

    def rounds(self, for_s: float) -> None:
        """Let so much time pass, with a round at each heartbeat."""
        until_s = self.clock.up_s() + for_s
        while self.clock.up_s() < until_s - 1e-9:
            self.clock.advance(min(self.heartbeat_s, until_s - self.clock.up_s()))
            self.actor.handle(LookRound())

    def shown(self, name: str) -> Reading:
        """What was published of a broker last."""
        return next(one for one in reversed(self.published) if one.broker == name)


def test_a_node_with_a_quicker_heartbeat_is_silent_by_its_own_time_to_live() -> None:
    desk = Desk("a", "b", heartbeat_s=1.0)
    desk.hear("a", lasts_s=ttl_s(0.1))
    desk.hear("b", lasts_s=ttl_s(30.0))
    assert desk.shown("a").available
    desk.clock.advance(ttl_s(0.1))
    assert not desk.shown("a").available, "before any round: what was published ends with the node's message"
    desk.rounds(1.0)
    assert desk.shown("a").reason is Reason.SILENT
    assert desk.shown("b").available


def test_a_node_with_a_slower_heartbeat_is_not_silent_before_its_own_time_to_live() -> None:
    desk = Desk("a", heartbeat_s=0.5)
    desk.hear("a", lasts_s=ttl_s(5.0))
    desk.rounds(ttl_s(5.0) - 1.0)
    assert desk.shown("a").available
    desk.rounds(2.0)
    assert desk.shown("a").reason is Reason.SILENT
    assert desk.shown("a").cash is not None, "the last known stays"


@pytest.mark.parametrize("proven_s", [float("inf"), 3.0, 60.0])
def test_what_is_published_is_available_no_longer_than_the_nodes_message_is_valid(proven_s: float) -> None:
    desk = Desk("a", heartbeat_s=20.0)
    desk.hear("a", lasts_s=5.0, proven_until_s=desk.clock.up_s() + proven_s)
    assert desk.shown("a").available_until_s == desk.clock.up_s() + min(5.0, proven_s)
    assert desk.shown("a").reason is Reason.OK


def test_a_node_that_beats_quicker_is_published_again_before_its_message_is_over() -> None:
    desk = Desk("a", heartbeat_s=20.0)
    for _ in range(20):
        desk.hear("a", lasts_s=2.0)
        desk.clock.advance(0.5)
        assert desk.shown("a").available
    assert len([one for one in desk.published if one.broker == "a"]) < 20, "and not each of its messages"


def test_a_proof_that_ends_soon_is_published_again_before_it_does() -> None:
    desk = Desk("a", heartbeat_s=40.0)  # as with ten thousand accounts, in a pool with a lease of 20 s
    for _ in range(8):
        desk.hear("a", lasts_s=65.0, proven_until_s=desk.clock.up_s() + 19.0)
        published = desk.published[-1]
        assert published.available
        assert min(published.valid_until_s, published.proven_until_s) > desk.clock.up_s() + 5.0, (
            "until the next message of its node"
        )
        desk.clock.advance(5.0)


def test_a_late_round_finds_no_node_silent_and_the_next_one_does() -> None:
    desk = Desk("a", "b", "c")
    desk.hear("a", "b", lasts_s=30.0)
    desk.rounds(1.0)
    desk.clock.advance(1.0 + TICK_GRACE_S + 60.0)
    desk.actor.handle(LookRound())
    assert desk.shown("a").verdict.reason is Reason.OK
    assert not desk.shown("a").available, "but what was valid no longer is not believed again"
    desk.hear("b", lasts_s=90.0)
    desk.rounds(31.0)
    assert (desk.shown("a").reason, desk.shown("b").reason) == (Reason.SILENT, Reason.OK)


def test_every_node_silent_at_once_is_blind_until_one_is_heard() -> None:
    desk = Desk("a", "b")
    desk.hear("a", "b", lasts_s=5.0)
    desk.rounds(6.0)
    assert {desk.shown(name).reason for name in "ab"} == {Reason.BLIND}
    desk.hear("b", lasts_s=5.0)
    desk.rounds(1.0)
    assert (desk.shown("a").reason, desk.shown("b").reason) == (Reason.SILENT, Reason.OK)


def test_a_node_that_was_never_heard_makes_no_supervisor_blind() -> None:
    desk = Desk("a", "b", "c")
    desk.rounds(20.0)
    assert {desk.shown(name).reason for name in "abc"} == {Reason.NEVER_SEEN}
    assert desk.shown("a").detail != "", "it says why"
    desk.hear("a", lasts_s=5.0)
    desk.rounds(6.0)
    assert desk.shown("a").reason is Reason.SILENT, "the only one that was ever heard"
    assert desk.shown("b").reason is Reason.NEVER_SEEN


def test_a_node_that_took_its_leave_is_not_turned_into_silent() -> None:
    desk = Desk("a", "b")
    desk.hear("a", "b", lasts_s=5.0)
    gone = {"verdict": Verdict(available=False, reason=Reason.SHUTDOWN), "detail": "its node was stopped"}
    desk.hear("a", lasts_s=0.0, **gone)
    desk.rounds(12.0)
    assert (desk.shown("a").reason, desk.shown("a").detail) == (Reason.SHUTDOWN, "its node was stopped")
    assert desk.shown("b").reason is Reason.SILENT, "nor does it make the supervisor blind"
    desk.hear("a", lasts_s=5.0, broker_epoch=LATER)
    assert desk.shown("a").available


def test_an_old_state_and_a_doubled_one_change_nothing() -> None:
    desk = Desk("a")
    desk.hear("a", lasts_s=5.0, version=5)
    before = len(desk.published)
    for old in ({"version": 5}, {"version": 4}, {"version": 9, "broker_epoch": EARLIER}):
        desk.hear("a", lasts_s=5.0, detail="old", **old)
    assert len(desk.published) == before


def test_a_node_whose_clock_was_set_back_is_believed_once_its_life_before_is_over() -> None:
    desk = Desk("a")
    desk.hear("a", lasts_s=5.0)
    desk.rounds(6.0)
    assert desk.shown("a").reason is Reason.SILENT
    desk.hear("a", lasts_s=5.0, broker_epoch=EARLIER, version=1)
    assert desk.shown("a").available
    assert desk.shown("a").broker_epoch == EARLIER


def test_what_is_no_longer_valid_when_it_arrives_ends_no_silence() -> None:
    desk = Desk("a", "b")
    desk.hear("a", "b", lasts_s=5.0)
    desk.rounds(3.0)
    desk.hear("b", lasts_s=30.0)
    desk.rounds(4.0)
    assert desk.shown("a").reason is Reason.SILENT
    before = len(desk.published)
    desk.hear("a", lasts_s=-2.0)
    said = [one for one in desk.published[before:] if one.broker == "a"]
    assert {one.verdict.reason for one in said} <= {Reason.SILENT}
    desk.hear("a", lasts_s=5.0)
    assert desk.shown("a").available


def test_a_new_life_of_the_supervisor_knows_at_once_what_was_heard_before() -> None:
    desk = Desk("a", "b")
    desk.hear("a", lasts_s=30.0)
    heard = desk.shown("a")
    desk.clock.advance(1.0)
    desk.arrived = {"a": heard}
    before = len(desk.published)
    desk.born()
    (first, *_) = [one for one in desk.published[before:] if one.broker == "a"]
    assert (first.available, first.cash) == (True, heard.cash), "no reading without the money comes first"
    assert desk.shown("b").reason is Reason.NEVER_SEEN


def test_a_hold_of_the_node_outranks_its_silence() -> None:
    desk = Desk("a", "b")
    held = Verdict(available=False, reason=Reason.HELD_OUT)
    desk.hear("a", lasts_s=5.0, verdict=held, detail="by anna: a test")
    desk.hear("b", lasts_s=60.0)
    desk.rounds(10.0)
    assert (desk.shown("a").reason, desk.shown("a").detail) == (Reason.HELD_OUT, "by anna: a test")


def test_when_no_exchange_can_be_reached_from_any_node_it_is_said_as_that() -> None:
    desk = Desk("a", "b")
    out = {
        "state": HealthState.UNAVAILABLE,
        "verdict": Verdict(available=False, reason=Reason.ERRORS),
        "fault": FaultKind.NETWORK,
        "error_count": 3,
    }
    desk.hear("a", "b", lasts_s=5.0, **out)
    assert {desk.shown(name).reason for name in "ab"} == {Reason.LOCAL_NETWORK}
    desk.hear("b", lasts_s=5.0)
    assert desk.shown("a").reason is Reason.ERRORS


def test_other_brokers_are_expected_after_a_reload_and_those_that_stay_go_on() -> None:
    desk = Desk("a", "b")
    desk.hear("a", "b", lasts_s=30.0)
    slot = unreported_slot(BrokerSpec("c", exchange="custom"), desk.clock, 1.0)
    left = msgspec.structs.replace(desk.shown("b"), verdict=Verdict(available=False, reason=Reason.SHUTDOWN))
    desk.board.arrange(("a", "c"), {"c": slot})
    done: Future[None] = Future()
    joined = {"c": (unheard(*slot.parts(), desk.clock.now()), None)}
    desk.actor.handle(Regroup(("a", "c"), joined, (left,), done, desk.board.arrangement))
    assert done.done()
    assert desk.last_words == [left]
    assert desk.shown("c").reason is Reason.NEVER_SEEN
    before = len(desk.published)
    desk.hear("b", lasts_s=30.0)
    assert len(desk.published) == before, "it has left"
    desk.hear("a", "c", lasts_s=30.0)
    assert all(desk.shown(name).available for name in "ac")


def test_the_last_word_is_the_last() -> None:
    desk = Desk("a")
    desk.hear("a", lasts_s=30.0)
    desk.actor.handle(Leave("the supervisor was stopped"))
    (said,) = desk.last_words
    assert (said.reason, said.detail) == (Reason.SHUTDOWN, "the supervisor was stopped")
    beats, published = desk.beats, len(desk.published)
    desk.hear("a", lasts_s=30.0)
    desk.actor.handle(LookRound())
    assert (desk.beats, len(desk.published)) == (beats, published)
