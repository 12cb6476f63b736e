"""What a publisher may send to a subscriber, by peers that do not keep to it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import zmq

from brokerwatch.bus import downstream
from brokerwatch.bus.connections import Connection
from brokerwatch.bus.downstream import UNFINISHED_BYTES, WAITING_BYTES, Downstream
from brokerwatch.bus.sockets import Bus, Waker
from brokerwatch.bus.subscriber import TURN_BYTES, Subscriber
from brokerwatch.messages.codec import MAX_BODY_BYTES
from tests.hostile.zmtp import MORE, connected, frame, greet, message
from tests.support.clusters import PATIENCE_S, until
from tests.support.ports import free_endpoint

MB = 1 << 20


@contextmanager
def bounds(*, is_bound: bool = True) -> Generator[Downstream]:
    bus = Bus()
    incoming = bus.socket(zmq.SUB)
    made = Downstream(incoming, "test", is_bound=is_bound)
    try:
        yield made
    finally:
        made.close()
        incoming.close()
        bus.close()


def connection(number: int = 1) -> Connection:
    return Connection(number, socket.AF_INET, number, 0.0)


def ended(made: Downstream, now_s: float, *connections: Connection) -> list[tuple[int, str]]:
    return [(each.descriptor, why) for each, why in made.rule(connections, now_s)]


def test_a_message_without_an_end_is_noticed_while_nothing_else_is_there() -> None:
    with bounds() as made:
        one, other = connection(1), connection(2)
        one.received = UNFINISHED_BYTES + 1
        other.received = UNFINISHED_BYTES
        assert ended(made, 0.1, one, other) == []
        assert ended(made, 0.2, one, other) == [(1, "sent a message without an end")]


def test_a_message_without_an_end_is_noticed_while_others_are_read() -> None:
    with bounds() as made:
        one, busy = connection(1), connection(2)
        made.begun()
        one.received = busy.received = UNFINISHED_BYTES + 1
        assert ended(made, 0.1, one, busy) == []
        busy.delivered, busy.messages = 100, 1
        made.drained(0.15)
        made.begun()
        assert ended(made, 0.2, one, busy) == [], "that drain may have begun before the look"
        for at_s in (0.22, 0.24):
            made.drained(at_s)
            made.begun()
        assert ended(made, 0.3, one, busy) == [(1, "sent a message without an end")]


def test_a_backlog_of_whole_messages_that_is_read_is_no_message_without_an_end() -> None:
    with bounds() as made:
        one = connection()
        for at in range(1, 100):
            one.received = at * 20 * MB
            one.delivered, one.messages = one.received - 15 * MB, at
            made.begun()
            made.drained(at / 10)
            made.begun()
            made.drained(at / 10)
            assert ended(made, at / 10, one) == []


def test_what_waits_has_a_bound_over_all_connections_and_the_largest_goes() -> None:
    with bounds() as made:
        made.begun()
        some = [connection(number) for number in range(1, 4)]
        for each, part in zip(some, (2, 3, 1), strict=True):
            each.received = part * WAITING_BYTES // 5
        assert ended(made, 0.1, *some) == [(2, "sent more than could be read")]


def test_what_is_written_around_a_message_does_not_add_up() -> None:
    """Encryption and signs of life add bytes that are no part of any message."""
    with bounds() as made:
        one = connection()
        for at in range(1, 2_000):
            one.received += 2_000
            one.delivered, one.messages = one.delivered + 500, at
            made.begun()
            made.drained(at / 10)
            assert ended(made, at / 10, one) == []
        one.ruled = None


def test_of_more_connections_than_there_may_be_the_newest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downstream, "MOST_PUBLISHERS", 2)
    some = [connection(number) for number in range(1, 5)]
    with bounds() as made:
        assert [number for number, _ in ended(made, 0.1, *some)] == [3, 4]
    with bounds(is_bound=False) as made:
        assert ended(made, 0.1, *some) == []


@contextmanager
def subscribed(endpoint: str, *, bind: bool = False) -> Generator[Subscriber]:
    bus, waker = Bus(), Waker()
    incoming = Subscriber(bus, [endpoint], ["a/"], waker, bind=bind)
    try:
        yield incoming
    finally:
        incoming.close()
        waker.close()
        bus.close()


def endless(size: int) -> bytes:
    return frame(b"a/", MORE) + frame(bytes(size), MORE) * (MB // size)


@pytest.mark.parametrize("size", [10, 1_000])
def test_a_publisher_that_sends_a_message_without_an_end_is_let_go_and_may_come_again(size: int) -> None:
    endpoint = free_endpoint()
    port = int(endpoint.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as server, subscribed(endpoint) as incoming:
        server.settimeout(PATIENCE_S)
        peer, _ = server.accept()
        with peer:
            greet(peer, "XPUB")
            pours(peer, endless(size), incoming)
        peer, _ = server.accept()
        with peer:
            greet(peer, "XPUB")
            peer.sendall(message(b"a/", b"whole"))
            until(lambda: incoming.take(0.05).get("a/") == [b"whole"])


def test_at_a_bound_subscriber_one_publisher_is_let_go_and_another_goes_on() -> None:
    endpoint = free_endpoint()
    port = int(endpoint.rpartition(":")[2])
    with subscribed(endpoint, bind=True) as incoming, connected(port, "XPUB") as good:
        good.sendall(message(b"a/", b"one"))
        until(lambda: incoming.take(0.05).get("a/") == [b"one"])
        with connected(port, "XPUB") as bad:
            pours(bad, endless(100), incoming)
        good.sendall(message(b"a/", b"two"))
        until(lambda: incoming.take(0.05).get("a/") == [b"two"])


def test_one_turn_takes_a_bounded_number_of_bytes_and_the_next_goes_on() -> None:
    endpoint = free_endpoint()
    port = int(endpoint.rpartition(":")[2])
    body = bytes(MAX_BODY_BYTES // 2)
    with subscribed(endpoint, bind=True) as incoming, connected(port, "XPUB") as peer:
        peer.settimeout(0.01)
        count, waiting = 0, memoryview(message(b"a/", body) * 40)
        while count < 40:
            with contextlib.suppress(TimeoutError):
                waiting = waiting[peer.send(waiting) :] if waiting else waiting
            taken = incoming.take(0.05).get("a/", [])
            assert sum(map(len, taken)) <= TURN_BYTES + len(body)
            count += len(taken)


def pours(peer: socket.socket, data: bytes, incoming: Subscriber) -> None:
    """Send it again and again, until the connection is ended."""
    over = False

    def step() -> bool:
        nonlocal over
        peer.settimeout(0.05)
        try:
            peer.sendall(data)
        except TimeoutError:
            pass
        except ConnectionError:
            over = True
        assert not incoming.take(0.0)
        return over

    until(step)
