"""What publishers may send to a subscriber: how many bytes wait in memory, and what is no message at all.

libzmq keeps one message until its last frame has come, however many there are, and makes up to twenty times
as much of it in memory. And it keeps ten thousand whole messages, whatever their size.

* What came over all connections and was not read yet has a bound, and so has what came over one and is not
  even a whole message, though everything that was whole was read meanwhile.
* There are so many connections at most; the newest is ended where there are more.

A connection that is ended comes again, or is replaced by rule 6 of docs/wire.md, and then brings the newest
of each topic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import zmq

from brokerwatch.bus.connections import Connection, Connections
from brokerwatch.messages.codec import MAX_BODY_BYTES

LOOK_S: Final = 0.04
"""Between two looks at what came. A peer on an idle machine sends some megabytes meanwhile, and parts of one
byte take twenty times as much memory as they have bytes."""
MOST_PUBLISHERS: Final = 256
"""Connections to one subscriber that is bound."""
RECEIVE_BYTES: Final = 262_144
"""What the kernel holds for one subscriber; it doubles that."""
WAITING_BYTES: Final = 32 << 20
"""What has come over all connections and was not read yet."""
UNFINISHED_BYTES: Final = 2 * MAX_BODY_BYTES
"""What has come over one connection since its last whole message, or is still under way: no message of ours
is longer than half of it."""
UNFINISHED_IN_ALL_BYTES: Final = 2 * UNFINISHED_BYTES
"""The same of all connections together."""
HEAD_BYTES: Final = 9
"""What surrounds a frame, at most."""


@dataclass(frozen=True, slots=True)
class _Progress:
    """What a connection had come to at the last look."""

    received: int = 0
    messages: int = 0
    delivered: int = 0
    settled: int = 0
    """Bytes of the kernel's count that are known to be read."""


class Downstream:
    """The bounds of one subscriber's socket. For the thread of that socket, but for `rule`.

    Args:
        incoming: the SUB socket, before it is bound or connected.
        name: of the socket, for the log.
        is_bound: whether publishers connect to it; else it connects to one.
    """

    def __init__(self, incoming: zmq.Socket[bytes], name: str, *, is_bound: bool) -> None:
        self._is_bound = is_bound
        self._drains = 0
        """How often everything that was there was read."""
        self._idle_since_s = float("-inf")
        """Since this monotonic second nothing was there to be read; infinite while something is."""
        self._looked: tuple[float, int] = (float("-inf"), 0)
        """When the last look was, and the drains before it."""
        self._connections = Connections(incoming, name, self.rule, LOOK_S, is_quiet=False)

    def close(self) -> None:
        """To be called before the socket is closed."""
        self._connections.close()

    def read(self, frames: Sequence[bytes | zmq.Frame], first: zmq.Frame | None = None) -> None:
        """Note that this message was read. `first`: its first frame, where several connections may be."""
        descriptor: int | None = None
        if first is not None:
            try:
                descriptor = int(first.get(zmq.SRCFD))
            except zmq.ZMQError:
                return
        self._connections.deliver(descriptor, sum(map(len, frames)) + HEAD_BYTES * len(frames))

    def drained(self, now_s: float) -> None:
        """Note that everything that was there was read."""
        self._drains += 1
        self._idle_since_s = min(self._idle_since_s, now_s)

    def begun(self) -> None:
        """Note that there is something to be read."""
        self._idle_since_s = float("inf")

    def rule(self, connections: Sequence[Connection], now_s: float) -> Iterator[tuple[Connection, str]]:
        """Which connections are to be ended. On the thread that watches them."""
        looked_s, drains = self._looked
        # One drain that ended since then may have begun before. Of two, one did not.
        drained = self._idle_since_s <= looked_s or self._drains >= drains + 2
        self._looked = now_s, self._drains
        waiting: dict[Connection, int] = {}
        unfinished: dict[Connection, int] = {}
        for each in connections:
            before: _Progress = each.ruled or _Progress()
            delivered, messages = each.delivered, each.messages
            settled = before.settled + delivered - before.delivered
            if messages != before.messages:
                settled = max(settled, before.received)  # one was whole, and so was all that came before it
            settled = min(settled, each.received)
            waiting[each] = each.received - settled
            if drained:
                unfinished[each] = before.received - settled
            each.ruled = _Progress(each.received, messages, delivered, settled)
        for each in _beyond(unfinished, UNFINISHED_BYTES, UNFINISHED_IN_ALL_BYTES):
            yield each, "sent a message without an end"
        for each in _beyond(waiting, WAITING_BYTES, WAITING_BYTES):
            yield each, "sent more than could be read"
        if self._is_bound:
            for each in connections[MOST_PUBLISHERS:]:
                yield each, f"was one of more than {MOST_PUBLISHERS}"


def _beyond(sizes: Mapping[Connection, int], most: int, most_in_all: int) -> list[Connection]:
    """Those that are too large, and as many of the largest others as it takes."""
    largest_first = sorted(sizes, key=lambda each: -sizes[each])
    in_all = sum(max(0, size) for size in sizes.values())
    found: list[Connection] = []
    for each in largest_first:
        if sizes[each] <= most and in_all <= most_in_all:
            break
        found.append(each)
        in_all -= sizes[each]
    return found
