"""What a subscriber may send to a publisher, by peers that do not keep to it, beside one that does."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest
import zmq

from brokerwatch.bus import publisher as publishing
from brokerwatch.bus import upstream
from brokerwatch.bus.budget import Budget
from brokerwatch.bus.connections import Connection, Connections
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus, Waker
from brokerwatch.bus.subscriber import Subscriber
from tests.hostile.zmtp import GREETING, MORE, connected, frame, greet, message, subscription
from tests.support.clusters import PATIENCE_S, until

STEP_S = 0.05


@contextmanager
def published(*topics: str) -> Generator[tuple[Publisher, int]]:
    """A publisher of these topics, and its port."""
    bus = Bus()
    out = Publisher(bus, "tcp://127.0.0.1:*", "test", bind=True, gather_s=0.0)
    out.start()
    try:
        for topic in topics:
            out.put(topic, lambda topic: topic.encode())
        yield out, int(out.bound_endpoint.rpartition(":")[2])
    finally:
        assert out.stop(PATIENCE_S)
        bus.close()


@contextmanager
def honest(out: Publisher, *prefixes: str) -> Generator[Subscriber]:
    bus, waker = Bus(), Waker()
    incoming = Subscriber(bus, [out.bound_endpoint], prefixes, waker)
    try:
        yield incoming
    finally:
        incoming.close()
        waker.close()
        bus.close()


def hears(incoming: Subscriber, out: Publisher, topic: str) -> bool:
    """Whether what is published now still arrives."""
    out.put(topic, lambda _: b"now")
    until(lambda: b"now" in incoming.take(STEP_S).get(topic, []))
    return True


def is_ended(peer: socket.socket) -> bool:
    """Wait until the other side has ended the connection. What it sent before that is thrown away."""
    peer.settimeout(PATIENCE_S)
    try:
        while peer.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


def pours(peer: socket.socket, data: bytes) -> None:
    """Send it again and again, until the connection is ended."""
    peer.settimeout(PATIENCE_S)
    with contextlib.suppress(ConnectionError):
        while True:
            peer.sendall(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(b"\x01", MORE) * 10_000, id="an endless message"),
        pytest.param(b"".join(subscription(os.urandom(40)) for _ in range(1_000)), id="foreign topics"),
        pytest.param(subscription(b"a/") * 1_000, id="one topic for ever"),
        pytest.param((subscription(b"") + frame(b"\x00")) * 1_000, id="on and off"),
        pytest.param(subscription(bytes(500)), id="long prefixes"),
        pytest.param(message(b"\x01a/", b"more"), id="a subscription of two frames"),
        pytest.param(frame(b"\x02hello"), id="no subscription"),
        pytest.param(frame(bytes(2_000)), id="an oversize frame"),
    ],
)
def test_a_connection_that_sends_what_no_subscriber_sends_is_ended_and_the_others_go_on(data: bytes) -> None:
    with published("a/") as (out, port), honest(out, "a/") as incoming:
        assert hears(incoming, out, "a/")
        with connected(port, "SUB") as peer:
            pours(peer, data)
        assert hears(incoming, out, "a/")


def test_a_subscriber_of_each_of_a_thousand_topics_alone_has_them_all() -> None:
    names = [f"health/1/state/kraken/account-{number:04}/" for number in range(1_000)]
    with published(*names) as (out, _), honest(out, *names) as incoming:
        missing = set(names)

        def is_complete() -> bool:
            missing.difference_update(incoming.take(STEP_S))
            return not missing

        until(is_complete)
        assert hears(incoming, out, names[-1])


def test_of_too_many_connections_the_oldest_goes_that_asked_for_nothing_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "MOST_SUBSCRIBERS", 3)
    with published("a/") as (out, port), honest(out, "a/") as incoming:
        assert hears(incoming, out, "a/")
        with connected(port, "SUB") as idle, connected(port, "SUB") as elsewhere:
            elsewhere.sendall(subscription(b"nothing/"))
            with connected(port, "SUB") as third:
                assert is_ended(idle)
                third.sendall(subscription(b"a/"))
                assert third.recv(1)
                with connected(port, "SUB") as fourth:
                    assert is_ended(elsewhere)
                    fourth.sendall(subscription(b"a/"))
                    assert fourth.recv(1)
                    until(lambda: all_proven(out, 3))
                    with contextlib.suppress(ConnectionError), connected(port) as fifth:
                        assert is_ended(fifth), "where all of them are in use, the newest goes"
                    assert all_proven(out, 3)
        assert hears(incoming, out, "a/")


def test_of_many_that_have_asked_for_nothing_there_is_the_newest_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crowd that floods comes in at once, and libzmq frees what all of it has sent for each that ends."""
    monkeypatch.setattr(upstream, "MOST_UNPROVEN", 2)
    with published("a/") as (out, port), honest(out, "a/") as incoming:
        assert hears(incoming, out, "a/")
        with connected(port) as first, connected(port) as second, connected(port, "SUB") as third:
            assert is_ended(first)
            third.sendall(subscription(b"a/"))
            assert third.recv(1)
            with connected(port), connected(port):
                assert is_ended(second)
        assert hears(incoming, out, "a/")


def test_many_that_are_turned_away_and_come_again_keep_nobody_out() -> None:
    budget = Budget(2, 1.0, 0.0)
    assert [budget.left(0.0) >= 1 and budget.spend(1, 0.0) for _ in range(3)] == [True, True, False]
    turned_away = [at_s / 100 for at_s in range(1, 100) if budget.left(at_s / 100) < 1]
    assert len(turned_away) == 99
    assert budget.left(1.0) >= 1


def all_proven(out: Publisher, count: int) -> bool:
    used = out._upstream  # pyright: ignore[reportPrivateUsage] - a subscription says nothing back
    assert used is not None
    assert used._connections is not None  # pyright: ignore[reportPrivateUsage]
    known = tuple(used._connections._known.values())  # pyright: ignore[reportPrivateUsage]
    return len(known) == count and all(map(used._is_proven, known))  # pyright: ignore[reportPrivateUsage]


def test_a_peer_that_stops_in_the_handshake_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "HANDSHAKE_MS", 100)
    with published("a/") as (_, port):
        for said in (b"", GREETING[:20], GREETING):
            with connected(port) as peer:
                peer.sendall(said)
                assert is_ended(peer)


def test_a_subscriber_that_takes_nothing_is_let_go_and_the_others_have_lost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "TAKES_NOTHING_MS", 300)
    monkeypatch.setattr(publishing, "SEND_BYTES", 4_096)
    with published("a/") as (out, port), honest(out, "a/") as incoming:
        assert hears(incoming, out, "a/")
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            stalled.connect(("127.0.0.1", port))
            greet(stalled, "SUB")
            stalled.sendall(subscription(b""))
            until(lambda: all_proven(out, 2))

            def is_let_go() -> bool:
                out.put("a/b/", lambda _: bytes(10_000))
                return all_proven(out, 1)

            until(is_let_go)
            assert hears(incoming, out, "a/")
            assert is_ended(stalled), "when it reads again it knows that it has to connect again"


def no_rule(connections: Sequence[Connection], now_s: float) -> tuple[()]:
    del connections, now_s
    return ()


def test_a_descriptor_that_belongs_to_another_socket_by_now_is_left_alone() -> None:
    """The number of a connection that is over may be that of a connection to an exchange."""
    bus = Bus()
    out = bus.socket(zmq.XPUB)
    watching = Connections(out, "test", no_rule, 0.1, is_quiet=True)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stale = Connection(ours.fileno(), ours.family, os.fstat(ours.fileno()).st_ino + 1, 0.0)
        watching._known[ours.fileno()] = stale  # pyright: ignore[reportPrivateUsage] - as if it had come
        watching.end(stale, "was over")
        theirs.sendall(b"still there")
        assert ours.recv(100) == b"still there"
        with watching._lock:  # pyright: ignore[reportPrivateUsage] - what the monitor says may come late
            watching._admit(ours.fileno(), b"tcp://127.0.0.1:5571", 0.0, is_ours=False)  # pyright: ignore[reportPrivateUsage]
        assert not watching._known  # pyright: ignore[reportPrivateUsage]
    read, written = os.pipe()
    open_files = os.listdir("/proc/self/fd")
    with watching._opened(Connection(read, socket.AF_INET, os.fstat(read).st_ino + 1, 0.0)) as opened:  # pyright: ignore[reportPrivateUsage]
        assert opened is None, "its number is that of a file by now"
    assert len(os.listdir("/proc/self/fd")) == len(open_files)
    os.close(read)
    os.close(written)
    watching.close()
    out.close(linger=0)
    bus.close()
    assert "test-connections" not in {each.name for each in threading.enumerate()}


def test_a_stranger_who_cancels_what_others_have_subscribed_to_takes_it_from_nobody() -> None:
    with published("a/b/", "c/") as (out, port), honest(out, "a/") as incoming:
        assert hears(incoming, out, "a/b/")
        for before in (b"", subscription(b"a/")):
            with connected(port, "SUB") as peer:
                peer.sendall(before + 2 * frame(b"\x00a/") + subscription(b"c/"))
                peer.settimeout(PATIENCE_S)
                answered = b""
                while b"c/" not in answered:  # all that was sent has been read by then
                    answered += peer.recv(65_536)
                assert hears(incoming, out, "a/b/")
            assert hears(incoming, out, "a/b/")


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(b"\x01\x00", id="ZMTP 1"),
        pytest.param(b"\xff" + bytes(8) + b"\x7f\x01\x02\x00\x00", id="ZMTP 2"),
    ],
)
def test_a_peer_of_an_old_protocol_is_let_go(greeting: bytes) -> None:
    # libzmq does not say over which connection its messages come.
    with published("a/") as (out, port), honest(out, "a/") as incoming:
        with connected(port) as peer:
            peer.sendall(greeting)
            assert is_ended(peer)
        assert hears(incoming, out, "a/")


def test_what_the_last_subscriber_leaves_is_wanted_no_more() -> None:
    with published("a/") as (out, _):
        with honest(out, "a/") as incoming:
            assert hears(incoming, out, "a/")
            assert out.is_wanted
        until(lambda: not out.is_wanted)


def test_where_too_many_topics_are_wanted_to_be_known_each_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "MOST_WANTED", 3)
    names = [f"a/{number}/" for number in range(5)]
    with published(*names) as (out, _), honest(out, *names) as incoming:
        for name in names:
            assert hears(incoming, out, name)
        assert out.is_wanted


def test_what_foreign_topics_use_up_is_there_again_when_their_subscribers_have_gone() -> None:
    ours = [os.urandom(100) for _ in range(upstream.FOREIGN_BYTES // 101 // 2)]
    with published("a/") as (out, port):
        for _ in range(4):
            with connected(port, "SUB") as peer:
                peer.sendall(b"".join(map(subscription, ours)) + subscription(b"a/"))
                peer.sendall(b"".join(frame(b"\x00" + each) for each in ours))
                peer.settimeout(PATIENCE_S)
                assert peer.recv(1), "it is answered, and not ended"
        with honest(out, "a/") as incoming:
            assert hears(incoming, out, "a/")
