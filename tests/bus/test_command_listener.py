"""The ear of a node, on real sockets: which commands count, and what it does where nothing is heard."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from brokerwatch.bus.command_listener import (
    NOTHING_HEARD_S,
    REOPEN_RANGE_S,
    CommandListener,
    Retries,
    in_order,
)
from brokerwatch.bus.command_sender import CommandSender
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import ManualClock
from brokerwatch.messages import Envelope, MessageType, Stamp, topics
from brokerwatch.messages.codec import encode
from brokerwatch.messages.commands import CommandData, SupervisorAliveData
from tests.support.clusters import PATIENCE_S, until

EPOCH: Final = "1800000000000000-0000abcd"
LATER: Final = "1800000000000001-0000abcd"
EARLIER: Final = "1799999999999999-0000abcd"


class Reports:
    """The way of the reports, as the ear looks at it."""

    endpoint = "ipc://brokers"

    def __init__(self) -> None:
        self.is_wanted = True
        self.reopened = 0

    def reopen(self) -> None:
        self.reopened += 1


class Ear:
    """A listener, the publisher that it listens to, and what it took for a command."""

    def __init__(self, bus: Bus, endpoint: str) -> None:
        self.clock = ManualClock()
        self.taken: list[CommandData] = []
        self.reports = Reports()
        uplink: Any = self.reports
        self.listener = CommandListener(
            "ear", endpoint, bus, self.clock, None, uplink, lambda command, _back: self.taken.append(command)
        )
        self.out = Publisher(bus, endpoint, "supervisor", bind=True, gather_s=0.0)
        self._seq = 0

    def say(
        self,
        data: CommandData | SupervisorAliveData,
        *,
        topic: str = "",
        late_s: float = 0.0,
        **values: Any,
    ) -> None:
        """Send one message. `late_s`: for so long it was under way."""
        self._seq += 1
        is_alive = isinstance(data, SupervisorAliveData)
        usual: dict[str, Any] = {
            "src": "operators/desk",
            "epoch": EPOCH,
            "seq": self._seq,
            "ts_us": self.clock.now().wall_us,
            "up_us": round((self.clock.up_s() - late_s) * 1_000_000),
            "ttl_ms": 5_000,
        }
        own = topics.SUPERVISOR_ALIVE
        if not isinstance(data, SupervisorAliveData):
            own = topics.command(data.exchange, data.broker, data.id)
        kind = MessageType.SUPERVISOR_ALIVE if is_alive else MessageType.COMMAND
        body = encode(Envelope(type=kind, stamp=Stamp(**{**usual, **values}), data=data))
        self.out.put(topic or own, lambda _: body, is_once=True)

    def alive(self, **values: Any) -> None:
        self.say(SupervisorAliveData(brokers=1), **values)

    def ids(self) -> list[str]:
        return [command.id[-1] for command in self.taken]


@pytest.fixture
def ear(tmp_path: Path) -> Generator[Ear]:
    bus = Bus()
    made = Ear(bus, f"ipc://{tmp_path}/health")
    made.out.start()
    made.listener.start()
    until(lambda: made.out.is_wanted)
    yield made
    assert made.listener.stop(PATIENCE_S)
    assert made.out.stop(PATIENCE_S)
    bus.close()


def command(number: int, **values: Any) -> CommandData:
    usual: dict[str, Any] = {
        "id": f"{number:032x}",
        "verb": "hold",
        "exchange": "custom",
        "broker": "a",
        "by": "anna",
        "why": "a test",
        "until_us": None,
    }
    return CommandData(**{**usual, **values})


def stamp_of(seq: int) -> Stamp:
    return Stamp(src="operators/desk", epoch=EPOCH, seq=seq, ts_us=1, up_us=1, ttl_ms=5_000)


def test_a_command_counts_only_after_a_sign_of_life_of_its_epoch(ear: Ear) -> None:
    ear.say(command(1))
    ear.alive()
    ear.say(command(2))
    until(lambda: ear.ids() == ["2"])
    ear.say(command(3), epoch=LATER)
    ear.alive(epoch=LATER)
    ear.say(command(4), epoch=LATER)
    until(lambda: ear.ids() == ["2", "4"])
    ear.say(command(5), epoch=EARLIER)  # of a supervisor that was replaced
    ear.say(command(6), epoch=LATER)
    until(lambda: ear.ids() == ["2", "4", "6"])


def test_a_command_that_waited_longer_than_it_counts_is_not_carried_out(
    ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    ear.alive()
    ear.say(command(1), late_s=5.1)
    ear.say(command(2), late_s=4.9)
    until(lambda: ear.ids() == ["2"])
    assert "hold of a: a command that came too late is not carried out" in caplog.text


def test_commands_and_signs_of_life_that_are_read_together_count_in_the_order_of_their_sending() -> None:
    early, late = (
        (topics.SUPERVISOR_ALIVE, encode(Envelope(type=MessageType.SUPERVISOR_ALIVE, stamp=stamp, data=data)))
        for stamp, data in (
            (stamp_of(1), SupervisorAliveData(brokers=1)),
            (stamp_of(3), SupervisorAliveData(brokers=1)),
        )
    )
    body = encode(Envelope(type=MessageType.COMMAND, stamp=stamp_of(2), data=command(1)))
    taken = {early[0]: [early[1], late[1], b"\xc1"], "command/1/to/custom/a/x/": [body]}
    assert [envelope.stamp.seq for _, envelope in in_order(taken)] == [1, 2, 3]


def test_a_message_that_comes_twice_counts_once_and_a_command_that_is_sent_again_is_handed_over_again(
    ear: Ear,
) -> None:
    ear.alive()
    ear.say(command(1))
    until(lambda: ear.ids() == ["1"])
    ear.say(command(2), seq=2)  # the number of the first one
    ear.say(command(1))  # sent again, under a number of its own: its answer may be lost
    until(lambda: ear.ids() == ["1", "1"])


@pytest.mark.parametrize(
    "topic",
    [
        topics.command("custom", "b", f"{1:032x}"),
        topics.command("kraken", "a", f"{1:032x}"),
        topics.command("custom", "a", f"{9:032x}"),
        topics.SUPERVISOR_ALIVE,
        "command/1/",
    ],
)
def test_a_command_on_the_topic_of_another_one_does_not_count(ear: Ear, topic: str) -> None:
    ear.alive()
    until(lambda: ear.listener.heard)
    ear.say(command(1), topic=topic)
    ear.say(command(2))
    until(lambda: ear.ids() == ["2"])


def test_what_is_no_command_of_operators_does_not_count(ear: Ear) -> None:
    ear.alive()
    ear.say(command(1), src="supervisor/desk")
    ear.say(command(2), src="broker/custom/a")
    ear.out.put(topics.command("custom", "a", "x"), lambda _: b"\xc1", is_once=True)
    ear.say(command(3))
    until(lambda: ear.ids() == ["3"])


def test_what_the_sender_of_a_supervisor_sends_is_taken(ear: Ear) -> None:
    sender = CommandSender(ear.out, "desk", ear.clock, 5.0)
    sender.beat(3)
    until(lambda: ear.listener.heard)
    asked = command(7, verb="release", why="")
    sender.send(asked, 4.5)
    until(lambda: ear.taken == [asked])
    sender.send(msgspec.structs.replace(asked, id=f"{8:032x}"), 4.5)
    until(lambda: ear.ids() == ["7", "8"])


def test_a_command_is_not_sent_to_a_node_that_comes_later(ear: Ear, tmp_path: Path) -> None:
    sender = CommandSender(ear.out, "desk", ear.clock, 5.0)
    sender.beat(1)
    until(lambda: ear.listener.heard)
    sender.send(command(1), 4.5)
    until(lambda: ear.ids() == ["1"])
    late = Ear(bus := Bus(), f"ipc://{tmp_path}/health")
    late.listener.start()
    try:
        until(lambda: late.listener.heard)  # the sign of life is sent again to each that comes
        sender.send(command(2), 4.5)
        until(lambda: late.ids() == ["2"])
    finally:
        assert late.listener.stop(PATIENCE_S)
        bus.close()


def test_a_supervisor_that_is_not_heard_is_connected_to_anew_with_both_sockets(
    ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "brokerwatch")
    ear.alive()
    until(lambda: ear.listener.heard)
    ear.clock.advance(NOTHING_HEARD_S + 0.1)
    until(lambda: not ear.listener.heard)
    until(lambda: ear.reports.reopened == 1)
    assert "is not heard: it does not run, cannot be reached" in caplog.text
    until(lambda: ear.out.is_wanted)
    ear.alive()
    until(lambda: ear.listener.heard)


def test_a_supervisor_with_a_slow_heartbeat_is_waited_for(ear: Ear) -> None:
    ear.alive(ttl_ms=41_000)  # a heartbeat of 10 s
    until(lambda: ear.listener.heard)
    ear.clock.advance(49.0)
    ear.say(command(1), late_s=0.0)
    until(lambda: ear.ids() == ["1"])
    assert ear.listener.heard
    ear.clock.advance(2.0)
    until(lambda: not ear.listener.heard)


def test_a_supervisor_that_takes_no_reports_is_connected_to_anew_and_named(
    ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    ear.reports.is_wanted = False
    ear.alive()
    until(lambda: ear.listener.heard)
    ear.clock.advance(NOTHING_HEARD_S - 0.1)
    ear.alive()
    ear.clock.advance(0.2)
    until(lambda: ear.reports.reopened >= 1)
    assert ear.listener.heard
    assert "takes no report of this node at ipc://brokers" in caplog.text


# --- when a way is opened anew ----------------------------------------------------------------------


def attempts(retries: Retries, from_s: float, to_s: float) -> Iterator[float]:
    """The moments at which it is due, looked at ten times a second."""
    for tenth in range(round(from_s * 10), round(to_s * 10)):
        if retries.due(tenth / 10):
            yield tenth / 10


def test_attempts_in_vain_come_later_and_later_up_to_a_limit() -> None:
    found = list(attempts(Retries(0.0), 0.0, 60.0))
    gaps = [round(after - before, 1) for before, after in itertools.pairwise(found)]
    assert found[0] == pytest.approx(NOTHING_HEARD_S, abs=0.2)
    assert gaps[0] == pytest.approx(REOPEN_RANGE_S[0], abs=0.2)
    assert gaps == sorted(gaps)
    assert max(gaps) <= REOPEN_RANGE_S[1] + 0.2


def test_after_a_way_that_works_the_patience_begins_anew() -> None:
    retries = Retries(0.0)
    assert list(attempts(retries, 0.0, 30.0))
    retries.works(30.0)
    (first, second, *_) = attempts(retries, 30.0, 50.0)
    assert first == pytest.approx(30.0 + NOTHING_HEARD_S, abs=0.2)
    assert second - first == pytest.approx(REOPEN_RANGE_S[0], abs=0.2)
    retries.works(50.0, 40.0)
    assert not list(attempts(retries, 50.0, 90.0))
