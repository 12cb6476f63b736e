"""The inbox of a supervisor that runs alone, on a real socket: what of the nodes' messages counts."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest
import zmq

from brokerwatch.bus.remote_inbox import RemoteInbox
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import ManualClock
from brokerwatch.messages import Envelope, MessageType, Reading, Stamp, topics
from brokerwatch.messages.codec import encode
from brokerwatch.messages.commands import CommandDoneData
from tests.support.clusters import PATIENCE_S, until
from tests.support.keys import PATIENCE_MS, Stranger, null, stranger
from tests.support.wire_examples import reading

EPOCH: Final = "1800000000000000-0000abcd"
LATER: Final = "1800000000000001-0000abcd"
EARLIER: Final = "1799999999999999-0000abcd"
EXCHANGES: Final = {"a": "kraken", "b": "kraken"}


class Supervised:
    """The inbox, a node that speaks to it, and what came of it."""

    def __init__(self, inbox: RemoteInbox, node: Stranger, clock: ManualClock) -> None:
        self.inbox = inbox
        self.clock = clock
        self._node = node
        self._seq = 0
        self.answers: list[CommandDoneData] = []
        inbox.on_answer = self.answers.append

    def say(
        self,
        broker: str = "a",
        *,
        epoch: str = EPOCH,
        version: int = 1,
        late_s: float = 0.0,
        topic: str = "",
        values: dict[str, Any] | None = None,
        **stamp: Any,
    ) -> None:
        """Send one message of a node. `late_s`: for so long it was under way."""
        self._seq += 1
        data = reading(broker=broker, broker_epoch=epoch, version=version, **(values or {})).data()
        usual: dict[str, Any] = {
            "src": f"broker/{data.exchange}/{broker}",
            "epoch": epoch,
            "seq": self._seq,
            "ts_us": 1,
            "up_us": round((self.clock.up_s() - late_s) * 1_000_000),
            "ttl_ms": 5_000,
        }
        body = encode(Envelope(type=MessageType.BROKER_ALIVE, stamp=Stamp(**{**usual, **stamp}), data=data))
        self.send(topic or topics.alive(data.exchange, broker), body)

    def answer(self, *, topic: str = "", src: str = "broker/kraken/a", broker: str = "a") -> None:
        """Send an answer to a command."""
        data = CommandDoneData(id="0" * 32, exchange="kraken", broker=broker, refused=False, said="done")
        stamp = Stamp(src=src, epoch=EPOCH, seq=1, ts_us=1, up_us=0, ttl_ms=5_000)
        body = encode(Envelope(type=MessageType.COMMAND_DONE, stamp=stamp, data=data))
        self.send(topic or topics.command_done("kraken", broker, "0" * 32), body)

    def send(self, topic: str, body: bytes) -> None:
        self._node.socket.send_multipart([topic.encode(), body])

    def marked(self) -> dict[str, Reading]:
        """What was taken, once all that was sent before has come: one more of `b` is the mark."""
        self._seq += 1
        self.say("b", version=self._seq)
        taken: dict[str, Reading] = {}
        until(
            lambda: (
                taken.update(self.inbox.take()) or (taken.get("b") and taken["b"].version == self._seq - 1)
            )
        )
        del taken["b"]
        return taken


@pytest.fixture
def supervised(tmp_path: Path) -> Generator[Supervised]:
    bus, clock, endpoint = Bus(), ManualClock(), f"ipc://{tmp_path}/brokers"
    inbox = RemoteInbox(bus, endpoint, clock, None, EXCHANGES.get)
    inbox.start()
    with stranger(zmq.XPUB, endpoint, null) as node:
        assert node.socket.poll(PATIENCE_MS)  # the supervisor has subscribed
        yield Supervised(inbox, node, clock)
    assert inbox.stop(PATIENCE_S)
    bus.close()


def test_a_life_that_was_replaced_is_not_heard_while_the_new_one_is(supervised: Supervised) -> None:
    supervised.say(epoch=LATER)
    assert supervised.marked()["a"].broker_epoch == LATER
    supervised.say(epoch=EPOCH, version=99)
    assert "a" not in supervised.marked()
    supervised.clock.advance(5.1)  # the new one is heard no more: a wall clock may have been set back
    supervised.say(epoch=EPOCH, version=99)
    assert supervised.marked()["a"].broker_epoch == EPOCH


def test_after_a_farewell_any_life_is_heard(supervised: Supervised) -> None:
    supervised.say(epoch=LATER)
    supervised.marked()
    supervised.say(epoch=LATER, version=2, ttl_ms=0)
    assert supervised.marked()["a"].expired
    assert supervised.inbox.reported("a") is None, "no command is sent to a node that left"
    supervised.say(epoch=EARLIER)
    assert supervised.marked()["a"].broker_epoch == EARLIER
    assert supervised.inbox.reported("a") is not None


def test_what_waited_is_as_old_as_it_is(supervised: Supervised) -> None:
    supervised.say(version=1)
    supervised.marked()
    supervised.clock.advance(60.0)
    supervised.say(version=2, late_s=58.0)  # from before the supervisor was stopped
    assert supervised.marked()["a"].expired
    assert supervised.inbox.reported("a") is None
    supervised.say(version=3, late_s=2.0)
    fresh = supervised.marked()["a"]
    assert fresh.valid_until_s == pytest.approx(supervised.clock.up_s() + 3.0)


def test_a_message_that_is_old_or_doubled_is_dropped(supervised: Supervised) -> None:
    supervised.say(version=5, seq=50)
    supervised.marked()
    for seq in (50, 49):
        supervised.say(version=6, seq=seq)
        assert "a" not in supervised.marked()


def test_a_broker_that_is_not_expected_is_named_once_and_one_at_another_exchange_too(
    supervised: Supervised, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        supervised.say("stranger")
        supervised.say("a", values={"exchange": "okx"})
        assert supervised.marked() == {}
    assert (
        caplog.text.count("stranger at kraken is reported by a node, and is not in this configuration") == 1
    )
    assert caplog.text.count("a at okx is reported by a node, and this configuration has it at kraken") == 1
    assert supervised.inbox.reported("stranger") is None
    assert supervised.inbox.refused == 4


@pytest.mark.parametrize(
    "values",
    [
        {"topic": topics.alive("kraken", "bb")},
        {"topic": topics.alive("okx", "a")},
        {"topic": "broker/1/kraken/a"},
        {"src": "broker/kraken/b"},
        {"src": "supervisor/desk"},
    ],
)
def test_topic_sender_and_content_name_the_same_broker(
    supervised: Supervised, values: dict[str, str]
) -> None:
    supervised.say("a", **values)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - as it stands
    assert supervised.marked() == {}
    assert supervised.inbox.refused == 1


def test_an_answer_counts_where_topic_and_sender_are_of_its_account(supervised: Supervised) -> None:
    supervised.answer(src="broker/kraken/b")
    supervised.answer(src="supervisor/desk")
    supervised.answer(topic=topics.command_done("kraken", "b", "0" * 32))
    supervised.answer(topic=topics.command_done("kraken", "a", "1" * 32))
    supervised.answer(topic=topics.alive("kraken", "a"))
    supervised.send(topics.command_done("kraken", "a", "0" * 32), b"\xc1")
    assert supervised.marked() == {}
    assert supervised.answers == []
    supervised.answer()
    until(lambda: [each.broker for each in supervised.answers] == ["a"])


def test_a_supervisor_that_is_started_anew_gets_all_that_was_heard_before(supervised: Supervised) -> None:
    supervised.say(version=3)
    assert supervised.marked()["a"].version == 3
    assert supervised.inbox.take() == {}
    supervised.inbox.remind()
    notified: list[int] = []
    supervised.inbox.call(lambda: notified.append(1))
    assert notified == [1]
    assert {name: one.version for name, one in supervised.inbox.take().items()}["a"] == 3
