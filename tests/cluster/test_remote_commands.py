"""Operators' commands between processes, without sockets: what each side makes of what it is given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import msgspec
import pytest

from brokerwatch.actors.protocol import OperatorCommand
from brokerwatch.bus.publisher import Pack
from brokerwatch.clock import ManualClock
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.remote_commands import AGAIN_S, ANSWER_S, Forwarding, Obedience
from brokerwatch.errors import ControlError
from brokerwatch.messages import Reading, topics
from brokerwatch.messages.codec import decode
from brokerwatch.messages.commands import MAX_SAID, CommandData, CommandDoneData
from brokerwatch.storage.journal import Journal
from tests.support.wire_examples import reading

EXCHANGES: Final = {"a": "kraken", "b": "okx"}


class Desk:
    """The supervisor's side, with what it sends, and alarms that a test fires by pushing the clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sent: list[tuple[CommandData, float]] = []
        self.reported: dict[str, Reading] = {name: reading(broker=name) for name in EXCHANGES}
        self._alarms: list[tuple[float, Callable[[], object]]] = []
        me: Any = self
        self.forwarding = Forwarding(
            me, EXCHANGES.get, lambda name: self.reported.get(name), Journal(None), self.clock, me
        )

    def send(self, command: CommandData, ttl_s: float) -> None:
        self.sent.append((command, ttl_s))

    def after(self, delay_s: float, function: Callable[[], object]) -> None:
        self._alarms.append((self.clock.up_s() + delay_s, function))

    def wait(self, seconds: float) -> None:
        """Let time pass, and fire what is due meanwhile."""
        until_s = self.clock.up_s() + seconds
        while due := sorted((at for at in self._alarms if at[0] <= until_s), key=lambda at: at[0]):
            at_s, function = due[0]
            self._alarms.remove(due[0])
            self.clock.advance(max(0.0, at_s - self.clock.up_s()))
            function()
        self.clock.advance(max(0.0, until_s - self.clock.up_s()))

    def ask(self, broker: str = "a", by: str = "anna", verb: str = "hold") -> Future[str]:
        reply: Future[str] = Future()
        assert self.forwarding.obey(OperatorCommand(verb, broker, by, "a test", None, reply))
        return reply

    def answer(self, asked: CommandData, said: str = "done", **values: Any) -> None:
        usual: dict[str, Any] = {
            "id": asked.id,
            "exchange": asked.exchange,
            "broker": asked.broker,
            "refused": False,
            "said": said,
        }
        self.forwarding.done(CommandDoneData(**{**usual, **values}))


def test_a_command_is_sent_again_under_its_id_until_it_is_answered() -> None:
    desk = Desk()
    reply = desk.ask()
    desk.wait(3 * AGAIN_S)
    commands = [command for command, _ in desk.sent]
    assert len(commands) == 4
    assert len(set(map(repr, commands))) == 1
    assert [left for _, left in desk.sent] == [ANSWER_S - AGAIN_S * number for number in range(4)]
    desk.answer(commands[0], "a is held out")
    assert reply.result(0) == "a is held out"
    desk.wait(ANSWER_S)
    assert len(desk.sent) == 4


def test_a_command_that_is_not_answered_says_that_it_may_still_be_carried_out() -> None:
    desk = Desk()
    reply = desk.ask()
    desk.wait(ANSWER_S - 0.01)
    assert not reply.done()
    desk.wait(0.02)
    with pytest.raises(ControlError, match=r"did not answer within 4\.5 s; it may still carry it out"):
        reply.result(0)
    desk.answer(desk.sent[0][0])  # too late: it changes nothing, and breaks nothing
    assert desk.sent[-1][1] > 0, "a command that counts no more is not sent"


def test_a_refusal_of_the_node_is_that_of_the_command() -> None:
    desk = Desk()
    reply = desk.ask(verb="release")
    desk.answer(desk.sent[0][0], "a is not held out", refused=True)
    with pytest.raises(ControlError, match="a is not held out"):
        reply.result(0)


def test_an_answer_of_another_account_or_to_no_command_changes_nothing() -> None:
    desk = Desk()
    reply = desk.ask("a")
    asked = desk.sent[0][0]
    desk.answer(asked, broker="b", exchange="okx")
    desk.answer(asked, exchange="okx")
    desk.answer(asked, id="f" * 32)
    assert not reply.done()
    desk.answer(asked, "a is held out")
    desk.answer(asked, "twice")
    assert reply.result(0) == "a is held out"


def test_two_operators_at_once_get_each_their_own_answer() -> None:
    desk = Desk()
    replies = [desk.ask(by=by) for by in ("anna", "ben")]
    (first, _), (second, _) = desk.sent
    assert first.id != second.id
    assert (first.by, second.by) == ("anna", "ben")
    desk.answer(second, "held by ben")
    desk.answer(first, "held by anna")
    assert [reply.result(0) for reply in replies] == ["held by anna", "held by ben"]


def test_a_node_that_dies_after_the_command_was_sent_leaves_the_operator_an_answer() -> None:
    desk = Desk()
    reply = desk.ask()
    del desk.reported["a"]
    desk.wait(ANSWER_S + 0.01)
    with pytest.raises(ControlError, match="may still carry it out"):
        reply.result(0)
    with pytest.raises(ControlError, match="no node reports a now"):
        desk.ask().result(0)


def test_an_operator_who_gave_up_before_is_sent_nothing() -> None:
    desk = Desk()
    reply: Future[str] = Future()
    assert reply.cancel()
    assert desk.forwarding.obey(OperatorCommand("hold", "a", "anna", "a test", None, reply))
    assert desk.sent == []


# --- the node's side --------------------------------------------------------------------------------


class Back:
    """The way back to one supervisor."""

    def __init__(self) -> None:
        self.said: list[CommandDoneData] = []

    def put(self, topic: str, pack: Pack, *, gap_s: float = 0.0, is_once: bool = False) -> None:
        del gap_s
        envelope = decode(pack(topic))
        data = envelope.data
        assert isinstance(data, CommandDoneData)
        assert is_once, "no later supervisor gets it"
        assert topic == topics.command_done(data.exchange, data.broker, data.id)
        assert envelope.stamp.src == f"broker/{data.exchange}/{data.broker}"
        self.said.append(data)


class Node:
    """The node's side. Its supervisor's answers are the test's."""

    def __init__(self) -> None:
        self.asked: list[OperatorCommand] = []
        self.runs = True
        clock = ManualClock()
        self.operators = Operators(self._obey, clock)
        self.obedience = Obedience(self.operators, {"a"}.__contains__, clock)
        self.back = Back()

    def _obey(self, command: OperatorCommand) -> bool:
        if self.runs:
            self.asked.append(command)
        return self.runs

    def hear(self, number: int = 1, **values: Any) -> None:
        usual: dict[str, Any] = {
            "id": f"{number:032x}",
            "verb": "hold",
            "exchange": "kraken",
            "broker": "a",
            "by": "anna",
            "why": "a test",
            "until_us": None,
        }
        back: Any = self.back
        self.obedience.obey(CommandData(**{**usual, **values}), back)


def test_a_node_carries_out_what_is_for_its_account_and_says_what_became_of_it() -> None:
    node = Node()
    node.hear(1)
    (asked,) = node.asked
    assert (asked.verb, asked.broker, asked.by, asked.why) == ("hold", "a", "anna", "a test")
    assert node.back.said == [], "not before it is done"
    asked.reply.set_result("a is held out by anna: a test")
    (said,) = node.back.said
    assert (said.refused, said.said) == (False, "a is held out by anna: a test")
    node.hear(2, verb="release", why="")
    node.asked[1].reply.set_exception(ControlError("a is not held out"))
    assert (node.back.said[1].refused, node.back.said[1].said) == (True, "a is not held out")


def test_a_command_for_an_account_of_another_node_is_left_to_that() -> None:
    node = Node()
    node.hear(broker="b")
    assert (node.asked, node.back.said) == ([], [])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"verb": "reload"}, "reload: expected hold, release, reset"),
        ({"verb": "trade"}, "trade: expected hold, release, reset"),
        ({"until_us": 2**62}, "that moment cannot be"),
    ],
)
def test_what_a_node_does_not_know_is_refused_in_words(values: dict[str, Any], expected: str) -> None:
    node = Node()
    node.hear(**values)
    assert node.asked == []
    (said,) = node.back.said
    assert said.refused
    assert expected in said.said


def test_a_command_that_comes_again_is_answered_again_and_carried_out_once() -> None:
    node = Node()
    node.hear(1)
    node.hear(1)  # sent again before it is done
    (asked,) = node.asked
    asked.reply.set_result("a is held out")
    node.hear(1)  # its answer was lost
    assert len(node.asked) == 1
    assert [said.said for said in node.back.said] == ["a is held out", "a is held out"]


def test_a_failure_of_the_node_is_answered_and_a_long_answer_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    node.hear(1)
    node.asked[0].reply.set_exception(ValueError("a bug"))
    assert (node.back.said[0].refused, node.back.said[0].said) == (True, "the node failed at it: a bug")
    assert "hold of a: a bug" in caplog.text
    node.hear(2)
    node.asked[1].reply.set_result("x" * (MAX_SAID + 1))
    assert len(node.back.said[1].said) == MAX_SAID


def test_a_node_without_a_supervisor_just_now_refuses() -> None:
    node = Node()
    node.runs = False
    node.hear()
    assert (node.back.said[0].refused, node.back.said[0].said) == (
        True,
        "the supervisor is not running; try again",
    )


def test_what_cannot_be_printed_comes_into_no_log() -> None:
    node = Node()
    node.hear(by="anna\n2026 ERROR all is lost\x1b[2J", why="a\ntest")
    assert node.asked[0].by == "anna 2026 ERROR all is lost [2J"
    assert node.asked[0].why == "a test"


def test_an_operator_with_a_long_name_can_send_a_command() -> None:
    desk = Desk()
    desk.ask(by="n" * 500)
    assert msgspec.convert(msgspec.to_builtins(desk.sent[0][0]), CommandData).by == "n" * 128
