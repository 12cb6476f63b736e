"""The roster of many brokers: in parts that every receiver accepts, and that a listener waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from brokerwatch.bus.listener import Listener
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.publishing import HealthPublishing, Publishing
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import ManualClock, SystemClock
from brokerwatch.health.state_machine import verdict
from brokerwatch.messages import HealthState, Reading, Reason, Roster, RosterData, Verdict, topics
from brokerwatch.messages.codec import MAX_BODY_BYTES, decode
from brokerwatch.messages.reading import ROSTER_PART
from tests.support.clusters import PATIENCE_S, until

EPOCH = "1800000000000000-0123abcd"
MANY = 2 * ROSTER_PART + 1


def reading(broker: str) -> Reading:
    clock = ManualClock()
    return Reading(
        broker=broker,
        exchange="kraken",
        simulated=True,
        broker_epoch=EPOCH,
        version=1,
        state=HealthState.HEALTHY,
        verdict=verdict(HealthState.HEALTHY),
        detail="",
        since_us=1,
        error_count=0,
        fault=None,
        as_of=None,
        cash=None,
        balance=None,
        labels={},
        valid_until_s=clock.up_s() + 5.0,
        clock=clock,
    )


class Sent:
    """A publisher that keeps the newest body of each topic, as the real one does."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    def put(self, topic: str, pack: Any, **_: Any) -> None:
        self.bodies[topic] = pack(topic)


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus()
    yield bus
    bus.close()


def voice_on(out: Any) -> HealthPublishing:
    voice = Publishing(out, "supervisor/main", EPOCH, SystemClock(), 5.0)
    return HealthPublishing(voice, publish_balances=True)


def parts_of(bodies: dict[str, bytes]) -> dict[str, RosterData]:
    found: dict[str, RosterData] = {}
    for topic, body in bodies.items():
        assert len(body) < MAX_BODY_BYTES
        data = decode(body).data
        assert isinstance(data, RosterData)
        found[topic] = data
    return found


@pytest.mark.parametrize("brokers", [0, 1, ROSTER_PART])
def test_what_fits_into_one_message_is_one_message_as_it_always_was(brokers: int) -> None:
    sent = Sent()
    voice_on(sent).publish_roster(Roster(tuple(reading(f"b{number}") for number in range(brokers))))
    [(topic, roster)] = parts_of(sent.bodies).items()
    assert topic == topics.ROSTER
    assert len(roster.readings) == brokers
    assert tuple(msgspec.to_builtins(roster)) == ("readings",)


def test_a_roster_of_many_brokers_comes_in_parts_that_name_everybody_once() -> None:
    sent, names = Sent(), [f"b{number}" for number in range(MANY)]
    voice_on(sent).publish_roster(Roster(tuple(map(reading, names))))
    parts = parts_of(sent.bodies)
    assert list(parts) == [topics.ROSTER, f"{topics.ROSTER}2/", f"{topics.ROSTER}3/"]
    assert [(roster.part, roster.parts) for roster in parts.values()] == [(1, 3), (2, 3), (3, 3)]
    assert [one.broker for roster in parts.values() for one in roster.readings] == names


def test_a_listener_is_complete_once_it_has_heard_everybody_whom_any_part_names(bus: Bus) -> None:
    names = [f"b{number}" for number in range(MANY)]
    out = Publisher(bus, "inproc://health", "health", bind=True)
    out.start()
    voice = voice_on(out)
    with Listener("inproc://health", bus=bus) as listener:
        for name in names[:-1]:
            voice.publish(reading(name))
        voice.publish_roster(Roster(tuple(map(reading, names))))
        changes = listener.changes(wait_s=PATIENCE_S, known=True)
        heard: set[str] = set()
        while len(heard) < MANY - 1:
            change = next(changes)
            assert change is not None
            heard.add(change.reading.broker)
        assert not listener.complete.is_set()
        voice.publish(reading(names[-1]))
        assert listener.complete.wait(PATIENCE_S)
        assert set(listener.readings()) == set(names)
        assert listener.undecodable == 0
    assert out.stop(PATIENCE_S)


def test_the_time_of_a_sender_goes_on_while_its_machine_sleeps() -> None:
    clock, sent = ManualClock(), Sent()
    voice = HealthPublishing(Publishing(sent, "supervisor/main", EPOCH, clock, 5.0), publish_balances=True)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it keeps what is sent
    clock.advance(2.0)
    clock.sleep(40.0)
    voice.publish(reading("a"))
    [body] = sent.bodies.values()
    assert decode(body).stamp.up_us == 42_000_000


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_sent_again_after_the_machine_slept_is_not_proven(*, whole: bool) -> None:
    """One that joins is sent what there is before the actor of the account has looked at the time."""
    clock, packs = ManualClock(), list[Callable[[], bytes]]()

    class Kept:
        def put(self, topic: str, pack: Callable[[str], bytes], **_: Any) -> None:
            packs.append(lambda: pack(topic))

    voice = HealthPublishing(Publishing(Kept(), "supervisor/main", EPOCH, clock, 5.0), publish_balances=True)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it keeps what is sent
    one = msgspec.structs.replace(reading("a"), verdict=Verdict(available=True, reason=Reason.OK))
    if whole:
        voice.publish_roster(Roster((one,)))
    else:
        voice.publish(one)
    [packed] = packs

    def proofs() -> set[int | None]:
        data = decode(packed()).data
        return {each.proof_ms for each in (data.readings if isinstance(data, RosterData) else (data,))}  # type: ignore[union-attr] # pyright: ignore[reportAttributeAccessIssue] - of a reading

    clock.advance(2.0)
    assert 0 not in proofs()
    clock.sleep(7.0)
    assert proofs() == {0}


def test_a_subscriber_that_joins_gets_every_topic_however_many_came_after_the_start(
    bus: Bus, tmp_path: Path
) -> None:
    """It reads nothing until all are sent, which is more than libzmq holds for one subscriber by itself."""
    topics_made = 12_000
    publisher = Publisher(bus, f"ipc://{tmp_path}/h", "health", bind=True)
    publisher.start()
    sent: set[str] = set()

    def pack(topic: str) -> bytes:
        sent.add(topic)
        return topic.encode().ljust(200, b".")

    for number in range(topics_made):
        publisher.put(f"health/1/state/kraken/a{number}/", pack)
    # Not on a context of ours, whose other end libzmq would know.
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    reader = context.socket(zmq.SUB)
    try:
        reader.rcvhwm = 1
        reader.setsockopt(zmq.SUBSCRIBE, b"health/")
        reader.connect(publisher.bound_endpoint)

        def all_are_sent() -> bool:
            reader.poll(0)  # takes nothing, and subscribes again where the socket was replaced meanwhile
            return len(sent) == topics_made

        until(all_are_sent)
        found: set[bytes] = set()
        while len(found) < topics_made and reader.poll(round(1_000 * PATIENCE_S)):
            found.add(reader.recv_multipart()[0])
        assert len(found) == topics_made
    finally:
        reader.close(linger=0)
        context.term()
        publisher.stop(PATIENCE_S)
