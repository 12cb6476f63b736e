"""The attacks. Each is a function of a port, a source of chance, and for how long it goes on.

    python -m tests.hostile.attacks NAME PORT SECONDS SEED

At the end it prints what it sent, as JSON. An attacker whose connection is ended comes again.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.hostile.zmtp import GREETING, LONG, MORE, connected, frame, greet, message, subscription

CHUNK_BYTES: Final = 1 << 18
BODIES: Final[list[bytes]] = []
"""Those of the test vectors that are not too long."""


@dataclass
class Attack:
    """What an attack has to go by, and what it did."""

    port: int
    until_s: float
    chance: random.Random
    sent_bytes: int = 0
    connections: int = 0
    ended: int = 0
    """Connections that the other side ended."""
    frames: int = 0

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.until_s

    def connect(self, kind: str = "") -> socket.socket | None:
        """Another connection; None where it is refused just now."""
        try:
            peer = connected(self.port, kind, wait_s=1.0)
        except OSError:
            time.sleep(0.01)
            return None
        self.connections += 1
        return peer

    def send(self, peer: socket.socket, data: bytes) -> bool:
        """Send what can be sent within a moment. False: the connection is over, or the attack is."""
        view = memoryview(data)
        try:
            while view and self.goes_on:
                with contextlib.suppress(TimeoutError):
                    peer.settimeout(0.2)
                    count = peer.send(view)
                    self.sent_bytes += count
                    view = view[count:]
        except OSError:
            self.ended += 1
            peer.close()
            return False
        return self.goes_on


def _crowd(attack: Attack, size: int, kind: str, first: bytes, more: Callable[[], bytes]) -> None:
    """So many connections at once, which send for as long as it goes on."""
    peers: dict[int, tuple[socket.socket, memoryview]] = {}
    poller = select.poll()
    while attack.goes_on:
        while len(peers) < size and attack.goes_on:
            peer = attack.connect(kind)
            if peer is None:
                break
            peer.setblocking(False)
            peers[peer.fileno()] = peer, memoryview(first)
            poller.register(peer, select.POLLOUT)
        for number, _ in poller.poll(100):
            peer, rest = peers[number]
            try:
                count = peer.send(rest) if rest else 0
                attack.sent_bytes += count
                rest = rest[count:]
                peers[number] = peer, rest or memoryview(more())
            except BlockingIOError:
                continue
            except OSError:
                poller.unregister(number)
                del peers[number]
                attack.ended += 1
                peer.close()
    for peer, _ in peers.values():
        peer.close()


def _idle(attack: Attack, size: int, kind: str, first: bytes) -> None:
    """So many connections that send this once, read nothing and stay. One that is ended comes again."""
    peers: dict[int, socket.socket] = {}
    poller = select.poll()
    while attack.goes_on:
        while len(peers) < size and attack.goes_on:
            peer = attack.connect(kind)
            if peer is None:
                break
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                peer.sendall(first)
            peers[peer.fileno()] = peer
            poller.register(peer, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        for number, _ in poller.poll(100):
            poller.unregister(number)
            peers.pop(number).close()
            attack.ended += 1
    for peer in peers.values():
        peer.close()


def half_open(attack: Attack) -> None:
    """1,100 connections that never say a word."""
    _idle(attack, 1_100, "", b"")


def half_greeting(attack: Attack) -> None:
    """1,100 connections that stop in the middle of the handshake."""
    _idle(attack, 1_100, "", GREETING[:20])


def never_reads(attack: Attack) -> None:
    """1,000 subscribers that never read."""
    _idle(attack, 1_000, "SUB", subscription(b""))


def idle_subscribers(attack: Attack) -> None:
    """1,000 subscribers of topics that there are none of."""
    _idle(attack, 1_000, "SUB", subscription(b"nothing/"))


def _distinct(attack: Attack, size: int) -> bytes:
    """Subscriptions of so many bytes that share no beginning."""
    attack.frames += CHUNK_BYTES // size
    some = attack.chance.randbytes(CHUNK_BYTES)
    return b"".join(subscription(some[at : at + size]) for at in range(0, CHUNK_BYTES - size, size))


def long_subscriptions(attack: Attack) -> None:
    """Subscriptions of 4,000 bytes."""
    _crowd(attack, 4, "SUB", b"", lambda: _distinct(attack, 4_000))


def short_subscriptions(attack: Attack) -> None:
    """Subscriptions of 100 bytes."""
    _crowd(attack, 4, "SUB", b"", lambda: _distinct(attack, 100))


def many_short_subscriptions(attack: Attack) -> None:
    """The same over 200 connections."""
    _crowd(attack, 200, "SUB", b"", lambda: _distinct(attack, 100))


def plausible_subscriptions(attack: Attack) -> None:
    """Subscriptions that look like those of honest subscribers, each of another account."""

    def more() -> bytes:
        attack.frames += 2_000
        return b"".join(
            subscription(b"health/1/state/kraken/%d/" % attack.chance.getrandbits(60)) for _ in range(2_000)
        )

    _crowd(attack, 50, "SUB", b"", more)


def on_and_off(attack: Attack) -> None:
    """One subscription, made and cancelled again and again: each asks for all messages anew."""
    both = subscription(b"") + frame(b"\x00")
    _crowd(attack, 4, "SUB", b"", lambda: both * 10_000)


def foreign_cancels(attack: Attack) -> None:
    """Cancels of what others have subscribed to: each beginning of a topic, subscribed to before or not."""
    topic = b"health/1/state/custom/k1/"
    beginnings = [topic[:size] for size in range(len(topic) + 1)]

    def more() -> bytes:
        some = [frame(b"\x00" + each) for each in beginnings]
        some += [subscription(each) for each in attack.chance.sample(beginnings, 3)]
        attack.chance.shuffle(some)
        attack.frames += len(some)
        return b"".join(some)

    _crowd(attack, 4, "SUB", b"", more)


def endless_small_parts(attack: Attack) -> None:
    """One message of endlessly many parts of one byte."""
    part = frame(b"\x01", MORE) * (CHUNK_BYTES // 3)
    _crowd(attack, 2, "SUB", b"", lambda: part)


def endless_parts(attack: Attack) -> None:
    """One message of endlessly many parts of 1,000 bytes."""
    part = frame(bytes(1_000), MORE) * (CHUNK_BYTES // 1_000)
    _crowd(attack, 2, "SUB", b"", lambda: part)


def user_messages(attack: Attack) -> None:
    """Messages to a publisher that are no subscriptions."""
    some = frame(b"\x02" + bytes(100)) * 2_000
    _crowd(attack, 4, "SUB", b"", lambda: some)


def oversize(attack: Attack) -> None:
    """Frames that claim to be of 2^40 bytes."""
    head = bytes((LONG,)) + (1 << 40).to_bytes(8, "big") + bytes(100_000)
    while attack.goes_on:
        peer = attack.connect("SUB")
        if peer is not None:
            attack.frames += 1
            attack.send(peer, head)
            peer.close()


def garbage(attack: Attack) -> None:
    """Random bytes from the first on, and after the handshake."""
    while attack.goes_on:
        peer = attack.connect("SUB" if attack.chance.random() < 0.5 else "")
        if peer is not None:
            attack.frames += 1
            attack.send(peer, attack.chance.randbytes(attack.chance.randrange(1, 10_000)))
            peer.close()


def churn(attack: Attack) -> None:
    """Connections that come and go as fast as they can."""
    while attack.goes_on:
        peer = attack.connect("SUB")
        if peer is not None:
            with contextlib.suppress(OSError):
                peer.sendall(subscription(b""))
            peer.close()


def _stream(attack: Attack, more: Callable[[], bytes]) -> None:
    """As a publisher: four that connect to the port, or one that has the port and is connected to."""
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", attack.port)) as server:
        server.settimeout(0.2)
        while attack.goes_on:
            with contextlib.suppress(OSError):
                peer, _ = server.accept()
                attack.connections += 1
                peer.settimeout(1.0)
                greet(peer, "XPUB")
                while attack.send(peer, more()):
                    pass
        return
    _crowd(attack, 4, "XPUB", b"", more)


def _topic(attack: Attack) -> bytes:
    """A topic that a subscriber has asked for, of a publisher that has the port or of one that connects."""
    return (b"health/1/state/kraken/k%d/", b"broker/1/custom/k%d/balance/")[attack.chance.getrandbits(1)] % (
        attack.chance.getrandbits(4)
    )


def big_messages(attack: Attack) -> None:
    """Messages of nearly 1 MiB that are not read as anything."""
    body = bytes(1_000_000)
    _stream(attack, lambda: message(_topic(attack), body))


def nested_messages(attack: Attack) -> None:
    """Messages of nested maps, of which a decoder makes the most."""
    body = b"\xdc\x1f\xff" + b"\x80" * 8_191
    _stream(attack, lambda: b"".join(message(_topic(attack), body) for _ in range(100)))


def one_byte_parts(attack: Attack) -> None:
    """One message of endlessly many parts of one byte."""
    part = frame(_topic(attack), MORE) + frame(b"x", MORE) * (CHUNK_BYTES // 3)
    _stream(attack, lambda: part)


def thousand_byte_parts(attack: Attack) -> None:
    """One message of endlessly many parts of 1,000 bytes."""
    part = frame(_topic(attack), MORE) + frame(bytes(1_000), MORE) * (CHUNK_BYTES // 1_000)
    _stream(attack, lambda: part)


def unwanted_topics(attack: Attack) -> None:
    """Messages that are not subscribed to, which libzmq throws away for as long as they come."""
    some = message(b"nothing/", bytes(100)) * 2_000
    _stream(attack, lambda: some)


def empty_messages(attack: Attack) -> None:
    """As many messages as there can be."""
    _stream(attack, lambda: message(_topic(attack), b"") * 10_000)


def _mutated(attack: Attack) -> bytes:
    """A body of the test vectors with a few bytes changed, or random bytes."""
    chance = attack.chance
    attack.frames += 1
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(200))
    body = bytearray(chance.choice(BODIES))
    for _ in range(chance.randrange(1, 4)):
        body[chance.randrange(len(body))] = chance.getrandbits(8)
    return bytes(body)


def mutated_messages(attack: Attack) -> None:
    """Messages of the test vectors with a few bytes changed, each another one."""
    _stream(attack, lambda: b"".join(message(_topic(attack), _mutated(attack)) for _ in range(200)))


def random_frames(attack: Attack) -> None:
    """To a publisher: random frames of every kind, subscriptions with a few bytes changed among them."""

    def more() -> bytes:
        some: list[bytes] = []
        for _ in range(200):
            body = bytearray(b"\x01health/1/state/custom/k1/"[: attack.chance.randrange(1, 27)])
            body[attack.chance.randrange(len(body))] = attack.chance.getrandbits(8)
            some.append(frame(bytes(body), attack.chance.choice((0, 0, 0, 1, 4, 5, 8))))
        attack.frames += 200
        return b"".join(some)

    while attack.goes_on:
        peer = attack.connect("SUB")
        if peer is not None:
            while attack.send(peer, more()):
                pass


UPSTREAM: Final[tuple[Callable[[Attack], None], ...]] = (
    half_open,
    half_greeting,
    never_reads,
    idle_subscribers,
    long_subscriptions,
    short_subscriptions,
    many_short_subscriptions,
    plausible_subscriptions,
    on_and_off,
    foreign_cancels,
    endless_small_parts,
    endless_parts,
    user_messages,
    oversize,
    garbage,
    random_frames,
    churn,
)
"""At a publisher that is bound."""

DOWNSTREAM: Final[tuple[Callable[[Attack], None], ...]] = (
    big_messages,
    nested_messages,
    one_byte_parts,
    thousand_byte_parts,
    unwanted_topics,
    empty_messages,
    mutated_messages,
)
"""At a subscriber: one that is bound, or one that connects to a port which the attacker has."""


def run(name: str, port: int, for_s: float, seed: int) -> Attack:
    """Carry out one attack."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    if name == mutated_messages.__name__:
        from tests.support.wire_vectors import bodies  # the other attacks start quicker without it

        BODIES.extend(body for body, _ in bodies().values() if 0 < len(body) < 4_096)
    attack = Attack(port, time.monotonic() + for_s, random.Random(seed))
    globals()[name](attack)
    return attack


if __name__ == "__main__":
    done = run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    print(
        json.dumps(
            {
                "sent_bytes": done.sent_bytes,
                "connections": done.connections,
                "ended": done.ended,
                "frames": done.frames,
            }
        )
    )
