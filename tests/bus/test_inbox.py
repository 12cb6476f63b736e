"""The supervisor's end of the brokers' bus: whose word about which broker counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from brokerwatch.bus.curve import Encryption
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import ManualClock
from brokerwatch.messages import Envelope, MessageType, Reading, Reason, Stamp, topics
from brokerwatch.messages.codec import encode
from tests.support.clusters import PATIENCE_S, until
from tests.support.keys import IN, PATIENCE_MS, Keys, curve, stranger
from tests.support.wire_examples import reading

EPOCH = "1800000000000000-0000abcd"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    keys.make("node")
    keys.let_in(keys.brokers, "node", brokers=["b"])
    return keys


@pytest.fixture
def endpoint(keys: Keys) -> str:
    return f"ipc://{keys.folder}/brokers"


@pytest.fixture
def inbox(keys: Keys, endpoint: str) -> Iterator[Inbox]:
    encryption = Encryption(bus := Bus(), keys.settings)
    encryption.start()
    inbox = Inbox(bus, endpoint, ManualClock(), 5.0, encryption.server("brokers", endpoint))
    inbox.start()
    yield inbox
    assert inbox.stop(PATIENCE_S)
    assert encryption.stop(PATIENCE_S)
    bus.close()


def event(broker: str, src: str = "", version: int = 1, ts_us: int = 1) -> bytes:
    """What says of itself that it is of that broker."""
    data = reading(broker=broker, version=version).data()
    sender = src or f"broker/kraken/{broker}"
    stamp = Stamp(src=sender, epoch=EPOCH, seq=1, ts_us=ts_us, up_us=1, ttl_ms=5_000)
    return encode(Envelope(type=MessageType.BALANCE_SEEN, stamp=stamp, data=data))


def test_a_listed_key_speaks_for_its_own_brokers_and_for_no_other(
    keys: Keys, endpoint: str, inbox: Inbox
) -> None:
    own = topics.balance("kraken", "b")
    forged = [
        (topics.balance("kraken", "a"), event("a")),
        (own, event("a")),
        (own, event("a", src="broker/kraken/b")),
        (own, event("b", src="broker/kraken/a")),
        (own, event("b", src="supervisor/main")),
        (topics.balance("okx", "b"), event("b")),
        ("broker/1/", event("b")),
        ("broker/1/kraken", event("b")),
    ]
    with stranger(zmq.XPUB, endpoint, curve(keys.pairs["node"], keys.own.public)) as node:
        assert node.socket.poll(PATIENCE_MS)  # the supervisor has subscribed
        for number, (topic, body) in enumerate(forged, 1):
            node.socket.send_multipart([topic.encode(), body])
            until(lambda number=number: inbox.refused == number)  # type: ignore[misc]
        assert inbox.take() == {}
        node.socket.send_multipart([own.encode(), event("b")])
        taken: dict[str, Reading] = {}
        until(lambda: taken.update(inbox.take()) or taken)
        assert list(taken) == ["b"]
        assert inbox.refused == len(forged)


def test_a_forged_message_does_not_hide_an_honest_one_of_the_same_topic(
    keys: Keys, endpoint: str, inbox: Inbox
) -> None:
    keys.make("villain")
    keys.let_in(keys.brokers, "node", "villain", brokers=["b"])
    topic = topics.balance("kraken", "b").encode()
    own = curve(keys.own, keys.own.public)
    with (
        stranger(zmq.XPUB, endpoint, own) as honest,
        stranger(zmq.XPUB, endpoint, curve(keys.pairs["node"], keys.own.public)) as villain,
    ):
        for peer in (honest, villain):
            assert peer.socket.poll(PATIENCE_MS)
        honest.socket.send_multipart([topics.balance("kraken", "a").encode(), event("a")])
        for _ in range(100):
            villain.socket.send_multipart([topics.balance("kraken", "a").encode(), b"rubbish"])
        villain.socket.send_multipart([topic, event("b")])
        taken: dict[str, Reading] = {}
        until(lambda: taken.update(inbox.take()) or len(taken) == 2)
        assert taken["a"].version == 1
        until(lambda: inbox.refused == 100)


def test_a_revoked_key_is_refused_at_its_next_message_though_its_connection_is_still_there(
    keys: Keys, endpoint: str, inbox: Inbox
) -> None:
    topic = topics.balance("kraken", "b").encode()
    with stranger(zmq.XPUB, endpoint, curve(keys.pairs["node"], keys.own.public)) as node:
        assert node.socket.poll(PATIENCE_MS)
        node.socket.send_multipart([topic, event("b")])
        until(inbox.take)
        keys.let_in(keys.brokers)
        version = 1

        def is_refused() -> bool:
            nonlocal version
            version += 1
            node.socket.send_multipart([topic, event("b", version=version)])
            return inbox.refused > 0

        until(is_refused)
        inbox.take()
        refused = inbox.refused
        node.socket.send_multipart([topic, event("b", version=version + 1)])
        until(lambda: inbox.refused > refused)
        assert inbox.take() == {}
        assert node.outcome() == IN
        assert not node.has_events(), "its connection was never lost"


def test_without_encryption_topic_and_sender_must_still_be_those_of_the_broker() -> None:
    bus = Bus()
    inbox = Inbox(bus, "inproc://brokers", ManualClock(), 5.0)
    inbox.start()
    out = bus.socket(zmq.XPUB)
    try:
        out.connect("inproc://brokers")
        assert out.poll(PATIENCE_MS)
        out.send_multipart([topics.balance("kraken", "a").encode(), event("b")])
        until(lambda: inbox.refused == 1)
        out.send_multipart([topics.balance("kraken", "b").encode(), event("b")])
        until(inbox.take)
    finally:
        out.close(linger=0)
        assert inbox.stop(PATIENCE_S)
        bus.close()


@pytest.mark.parametrize(
    ("slept_s", "wall_s", "is_proven"),
    [(6.0, 0.0, False), (4.0, 0.0, True), (0.0, -3_600.0, True), (0.0, 0.0, True)],
    ids=["the machine slept", "for less than a leap", "the wall clock was set back", "at once"],
)
def test_a_state_that_was_under_way_while_the_machine_slept_proves_nothing(
    slept_s: float, wall_s: float, *, is_proven: bool
) -> None:
    bus, clock = Bus(), ManualClock()
    inbox = Inbox(bus, "inproc://brokers", clock, 60.0)
    inbox.start()
    out = bus.socket(zmq.XPUB)
    try:
        out.connect("inproc://brokers")
        assert out.poll(PATIENCE_MS)
        body = event("b", ts_us=clock.now().wall_us)
        clock.sleep(slept_s)
        clock.jump_wall(wall_s)
        out.send_multipart([topics.balance("kraken", "b").encode(), body])
        taken: dict[str, Reading] = {}

        def is_taken() -> bool:
            taken.update(inbox.take())
            return "b" in taken

        until(is_taken)
        assert taken["b"].available is is_proven
        assert is_proven or taken["b"].reason is Reason.UNPROVEN
    finally:
        out.close(linger=0)
        assert inbox.stop(PATIENCE_S)
        bus.close()
