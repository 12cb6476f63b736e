"""What subscribers may send to a publisher: which subscriptions there are, and the bounds of each of them.

A subscription is a path of nodes in libzmq's memory, one for each byte of its prefix, and every message that
comes from below is read at once, however many there are. So one peer could take a gigabyte within seconds.
A connection that goes beyond what an honest subscriber needs is ended; the others are not touched.

* A subscriber sends subscriptions and nothing else: no other message, and none of several frames.
* That a subscriber cancels a prefix is not believed: libzmq passes it on also where this one had never
  subscribed to it, and others still have. What is believed is that the last connection with a prefix has
  gone, which libzmq says by itself. So what its last subscriber cancels is published until that one ends.
* A prefix has as many bytes as the longest topic at most.
* A connection makes so many subscriptions at once, and so many more each second.
* Prefixes of topics that there are share the nodes of these topics. All others together have a budget.
* What came over a connection and was no subscription (the handshake, signs of life, cancels) has one too. It
  is how an endless message is noticed, which libzmq keeps to itself.
* There are so many connections at most. When there are more, the oldest is ended that has not subscribed to
  anything there is; where each of them has, the newest is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import zmq

from brokerwatch.bus.budget import Budget
from brokerwatch.bus.connections import Connection, Connections

MOST_SUBSCRIBERS: Final = 256
"""Connections to one publisher."""
MOST_UNPROVEN: Final = 16
"""Of these, so many that have not subscribed yet to anything there is."""
MAX_PREFIX_BYTES: Final = 128
"""The longest topic: `health/1/state/`, two names of 48 characters and two slashes."""
MOST_PREFIXES: Final = 2_048
PREFIXES_A_SECOND: Final = 8.0
"""Subscriptions that one connection makes at once, and how many more each second."""
MOST_WANTED: Final = 32_768
"""Prefixes that are known as wanted. Where there are more, every topic is published."""
FOREIGN_BYTES: Final = 65_536
"""The bytes of all prefixes of which there was no topic when they came over the connections that there are: a
subscriber may come before its account does."""
OTHER_BYTES: Final = 32_768
OTHER_BYTES_A_SECOND: Final = 512.0
"""What one connection sends beside its subscriptions, and how much more each second. Half of it is for what
is under way: what the kernel holds counts, and is not read yet."""
UNREAD_BYTES: Final = 65_536
HANDSHAKE_BYTES: Final = 2_048
"""What all connections together may have sent beside subscriptions that were read, and how much of each does
not count there. libzmq makes fifty times as much of it in memory, and takes half a second of CPU for 1 MB."""
LOOK_S: Final = 0.001
"""Between two looks at what comes, while anything comes."""
FRAME_BYTES: Final = 12
CURVE_BYTES: Final = 48
"""What surrounds a subscription, at most, and how much more where it is encrypted."""
PREFIXES_KEPT: Final = 4
"""So many of a connection's prefixes are remembered, to know later whether there is a topic of any."""
READ_AT_ONCE: Final = 1_000
"""Messages of subscribers that are read in one go, so that a flood keeps nothing from being sent."""
MAX_FRAME_BYTES: Final = 1_024
"""One frame of a subscriber. The longest is the last of a CURVE handshake, which has its identity in it."""
RECEIVE_BYTES: Final = 4_096
"""What the kernel holds of a subscriber's bytes; it doubles that."""
RECEIVE_MESSAGES: Final = 16
"""What libzmq holds of a subscriber's messages."""


@dataclass(slots=True)
class _Subscriber:
    """What one connection has used up. Written by the publisher's thread."""

    prefixes: Budget
    first: list[bytes] = field(default_factory=list[bytes])
    """Its first prefixes."""
    foreign_bytes: int = 0
    """What came over it of the budget of all. It is given back when the connection ends, and not before."""


@dataclass(slots=True)
class _Other:
    """What came over a connection and was no subscription. Written by the thread that watches it."""

    bytes_left: Budget
    most: int = 0
    """The most that it was so far."""


class Upstream:
    """The subscriptions of one publisher's socket. For the thread of that socket, but for `rule`.

    Args:
        out: the XPUB socket, before it is bound.
        name: of the socket, for the log.
        is_topic_below: whether there is a topic with this prefix. Any thread calls it.
        is_watched: whether others connect to it; inside of one process there is nothing to be bounded.
        is_encrypted: whether subscribers speak CURVE.
    """

    def __init__(
        self,
        out: zmq.Socket[bytes],
        name: str,
        is_topic_below: Callable[[bytes], bool],
        *,
        is_watched: bool,
        is_encrypted: bool = False,
    ) -> None:
        self._out = out
        self._frame_bytes = FRAME_BYTES + (CURVE_BYTES if is_encrypted else 0)
        self._is_topic_below = is_topic_below
        self._wanted: set[bytes] = set()
        """The prefixes that have a subscriber, or had one that has only cancelled them."""
        self._wants_all = False
        """Whether there were too many of these to be known."""
        self._lengths: tuple[int, ...] = ()
        """How long these are, or were: a topic is looked up by each of its beginnings."""
        self._foreign_bytes = 0
        self._connections = Connections(out, name, self.rule, LOOK_S, is_quiet=True) if is_watched else None

    def close(self) -> None:
        """To be called before the socket is closed."""
        if self._connections is not None:
            self._connections.close()

    @property
    def is_wanted(self) -> bool:
        """Whether anything is subscribed to any topic. Any thread."""
        return self._wants_all or bool(self._wanted)

    def wants(self, topic: bytes) -> bool:
        """Whether anything may be subscribed to this topic."""
        return self._wants_all or any(topic[:length] in self._wanted for length in self._lengths)

    def read(self, now_s: float) -> list[bytes]:
        """Take in what subscribers sent. Returns the prefixes that are to be answered with what there is."""
        asked: list[bytes] = []
        with contextlib.suppress(zmq.Again):
            for _ in range(READ_AT_ONCE):
                frame = self._out.recv(zmq.NOBLOCK, copy=False)
                said = frame.bytes
                if said[:1] == b"\x00":
                    if _source(frame) is None:
                        self._wanted.discard(said[1:])  # its last subscriber has gone
                elif said[:1] != b"\x01":
                    self._end(self._sender(frame, 0), "sent what is no subscription")
                elif self._takes(frame, said[1:], now_s):
                    asked.append(said[1:])
        return asked

    def rule(self, connections: Sequence[Connection], now_s: float) -> Iterator[tuple[Connection, str]]:
        """Which connections are to be ended. On the thread that watches them."""
        unread = 0
        self._foreign_bytes = sum(
            each.kept.foreign_bytes for each in connections if isinstance(each.kept, _Subscriber)
        )
        for each in connections:
            if each.ruled is None:
                each.ruled = _Other(Budget(OTHER_BYTES, OTHER_BYTES_A_SECOND, now_s))
            state: _Other = each.ruled
            other = each.received - each.delivered
            more, state.most = max(0, other - state.most), max(other, state.most)
            unread += max(0, other - HANDSHAKE_BYTES)
            if not state.bytes_left.spend(more, now_s):
                yield each, "sent too much that is no subscription"
            elif unread > UNREAD_BYTES and other > HANDSHAKE_BYTES:
                yield each, "sent more than could be read, beside others that do"
        unproven = [each for each in connections if not self._is_proven(each)]
        for each in unproven[:-MOST_UNPROVEN]:
            yield each, f"was one of more than {MOST_UNPROVEN} that have not subscribed to anything there is"
        yield from self._too_many([each for each in connections if not each.is_over])

    def _too_many(self, connections: list[Connection]) -> Iterator[tuple[Connection, str]]:
        for _ in range(len(connections) - MOST_SUBSCRIBERS):
            leaves = next((each for each in connections if not self._is_proven(each)), connections[-1])
            connections.remove(leaves)
            yield leaves, f"was one of more than {MOST_SUBSCRIBERS}"

    def _is_proven(self, connection: Connection) -> bool:
        """Whether it has subscribed to anything that there is."""
        state = connection.kept
        first = state.first if isinstance(state, _Subscriber) else ()
        return any(map(self._is_topic_below, (*connection.early, *first)))

    def _sender(self, frame: zmq.Frame, size: int) -> Connection | None:
        """The connection over which it came; None: it is not watched, or not yet, or over."""
        descriptor = _source(frame)
        if self._connections is None or descriptor is None:
            return None
        return self._connections.deliver(descriptor, size)

    def _remember(self, frame: zmq.Frame, prefix: bytes) -> None:
        descriptor = _source(frame)
        if self._connections is not None and descriptor is not None and len(prefix) <= MAX_PREFIX_BYTES:
            self._connections.remember(descriptor, prefix, PREFIXES_KEPT)

    def _takes(self, frame: zmq.Frame, prefix: bytes, now_s: float) -> bool:
        """Whether a subscription is within the bounds. Its connection is ended where it is not."""
        is_foreign = not self._is_topic_below(prefix)
        self._want(prefix)  # libzmq has it already, and says when it is gone
        sender = self._sender(frame, len(prefix) + self._frame_bytes)
        if sender is None:
            # Its first subscription may be read before the monitor tells of the connection.
            self._remember(frame, prefix)
            return True
        if sender.is_over:
            return False
        if sender.kept is None:
            sender.kept = _Subscriber(Budget(MOST_PREFIXES, PREFIXES_A_SECOND, now_s))
        state: _Subscriber = sender.kept
        if is_foreign:
            state.foreign_bytes += len(prefix) + 1
            self._foreign_bytes += len(prefix) + 1
        if len(state.first) < PREFIXES_KEPT:
            state.first = [*state.first, prefix]
        if frame.more or len(prefix) > MAX_PREFIX_BYTES:
            self._end(sender, "sent a subscription that fits no topic")
        elif not state.prefixes.spend(1, now_s):
            self._end(sender, "made too many subscriptions")
        elif is_foreign and self._foreign_bytes > FOREIGN_BYTES:
            self._end(sender, "subscribed to one topic too many that does not exist")
        else:
            return True
        return False

    def _want(self, prefix: bytes) -> None:
        if len(prefix) > MAX_PREFIX_BYTES:
            return  # no topic begins so
        if len(self._wanted) >= MOST_WANTED and prefix not in self._wanted:
            self._wants_all = True
            self._wanted.clear()
        if self._wants_all:
            return
        self._wanted.add(prefix)
        if len(prefix) not in self._lengths:
            self._lengths = tuple(sorted((*self._lengths, len(prefix))))

    def _end(self, connection: Connection | None, why: str) -> None:
        if connection is not None and self._connections is not None:
            self._connections.end(connection, why)


def _source(frame: zmq.Frame) -> int | None:
    """The descriptor of the connection over which it came; None: libzmq says it by itself."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return None
