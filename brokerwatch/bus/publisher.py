"""One PUB socket on one thread. Of each topic only the newest message waits, so a backlog cannot grow.

A message is packed only when it is sent: its ages are then those of the moment. The publisher remembers the
newest message of each topic and sends it again when a subscription comes, so a late subscriber has everything
within one gathering interval.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import zmq

from brokerwatch.bus.allow_list import LOOK_S
from brokerwatch.bus.curve import HANDSHAKE_MS, CurveClient, CurveServer
from brokerwatch.bus.socket_thread import SocketThread
from brokerwatch.bus.sockets import (
    HIGH_WATER_MARK,
    Bus,
    PathLock,
    is_ipv6,
    refuse_old_protocols,
    unavailable,
)
from brokerwatch.bus.turning import TURN_S
from brokerwatch.bus.upstream import MAX_FRAME_BYTES, RECEIVE_BYTES, RECEIVE_MESSAGES, Upstream
from brokerwatch.errors import EndpointUnavailable, TooFewDescriptors
from brokerwatch.log import logger

_log: Final = logger(__name__)

GATHER_S: Final = 0.1
"""Subscriptions of this long are answered together, so that a storm of them is bounded."""
HEALTH_LINGER_MS: Final = 500
"""How long a closing publisher still tries to deliver its farewell."""
LEAST_WAITING: Final = 1_000
"""The messages that libzmq holds for one subscriber that does not keep up, where there are few topics."""
SEND_BYTES: Final = 131_072
"""What the kernel holds for one subscriber; it doubles that."""
TAKES_NOTHING_MS: Final = 10_000
"""A subscriber that takes nothing for so long loses its connection. When it goes on it connects again, and
has the newest state in place of the oldest that waited. Linux alone."""
REOPEN_S: Final = 0.01
"""Between two attempts to bind an endpoint again. libzmq lets go of it a moment after its socket closed."""
ORDINARY_FAILURES: Final = 100
"""So many of these attempts may fail before it is said."""
REOPEN_LATER_S: Final = 0.2
"""Between two attempts from then on."""

Pack = Callable[[str], bytes]
"""Makes the body of one message at the moment it is sent. Its argument is the topic."""


@dataclass
class _Topic:
    """The newest message of one topic."""

    pack: Pack
    gap_s: float = 0.0
    sent_s: float = float("-inf")
    is_once: bool = False
    """Whether it is forgotten once it is sent, so that no later subscriber gets it."""
    on_forgotten: Callable[[str], object] | None = None
    """Called with its name when it is forgotten because of its age."""


@dataclass
class Publisher:
    """An XPUB socket on a thread of its own.

    `endpoint` is bound (`bind=True`) or connected to. After `start`, `put` may be called from any thread.
    """

    bus: Bus
    endpoint: str
    name: str
    bind: bool
    gather_s: float = GATHER_S
    """Subscriptions of so long are answered together."""
    curve: CurveServer | CurveClient | None = None
    """Its encryption. A socket that is bound is opened anew when a key of a subscriber is revoked."""
    token: bytes = b""
    """Goes with each message as its third frame, where the other end asks for it."""
    _topics: dict[str, _Topic] = field(default_factory=dict[str, _Topic])
    _pending: dict[str, None] = field(default_factory=dict[str, None])
    """The topics to send, in the order in which they were put."""
    _sorted: list[bytes] = field(default_factory=list[bytes])
    """The names of all topics, in order."""
    _ageing: dict[str, float] = field(default_factory=dict[str, float])
    """The topics that are not kept for ever, the one that was put first in front, and until when each is."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reopens: bool = False
    """Whether a fresh socket is wanted, although no key was revoked."""
    _upstream: Upstream | None = None
    """What comes in over the socket of the moment."""
    bound_endpoint: str = ""
    """Where it is really bound, when `endpoint` let the system pick a port."""

    def __post_init__(self) -> None:
        self._place: PathLock | None = None
        self._limit = 0
        """The messages that the socket of the moment holds for one subscriber. A bound socket makes each
        connection with the limit that it had when it was bound, and to change that of connections that there
        are may end the process (libzmq 4.3.5). So a socket that the topics have outgrown is replaced. One
        inside the process is not: over inproc ZeroMQ never connects again."""
        self._thread = SocketThread(self.name, self._opened_first, self._work, self._leave)

    def start(self) -> None:
        """Open the socket. Raises EndpointUnavailable when the endpoint cannot be bound."""
        self._thread.start()

    def put(
        self,
        topic: str,
        pack: Pack,
        *,
        gap_s: float = 0.0,
        is_once: bool = False,
        kept_s: float = float("inf"),
        on_forgotten: Callable[[str], object] | None = None,
    ) -> None:
        """Send this as soon as possible, in place of the message that waits under the same topic.

        Args:
            topic: the name of the topic.
            pack: makes the message.
            gap_s: the topic is sent at most once in so many seconds.
            is_once: only those get it that are subscribed when it is sent.
            kept_s: for so many seconds it is sent to those too that subscribe later. Then the topic is
                forgotten, unless something was put under it meanwhile.
            on_forgotten: called with the topic when that is forgotten, on the publisher's thread.
        """
        with self._lock:
            known = self._topics.get(topic)
            if known is None:
                known = self._topics[topic] = _Topic(pack, gap_s, is_once=is_once)
                insort(self._sorted, topic.encode())
            known.pack, known.gap_s = pack, gap_s
            known.on_forgotten = on_forgotten
            self._ageing.pop(topic, None)
            if kept_s < float("inf"):
                self._ageing[topic] = time.monotonic() + kept_s
            self._pending[topic] = None
        self._thread.wake()

    def reopen(self) -> None:
        """Take a fresh socket soon. Any thread.

        Some errors end a connection for good: a handshake that was refused. Over inproc ZeroMQ never connects
        again.
        """
        self._reopens = True
        self._thread.wake()

    @property
    def is_wanted(self) -> bool:
        """Whether the other end is connected and subscribes to anything. Any thread."""
        upstream = self._upstream
        return upstream is not None and upstream.is_wanted

    def fault(self) -> str:
        """What is wrong with its thread; empty where nothing is. Any thread."""
        return self._thread.fault()

    def stop(self, deadline_s: float) -> bool:
        """Send what waits, close the socket, end the thread. False after `deadline_s` seconds."""
        return self._thread.stop(deadline_s)

    def _opened_first(self) -> zmq.Socket[bytes]:
        """The first socket. Raises EndpointUnavailable."""
        try:
            if self.bind:
                self._place = PathLock.take(self.endpoint)
            out = self._opened(self.endpoint)
        except (zmq.ZMQError, OSError) as error:
            raise EndpointUnavailable(unavailable(self.endpoint, error)) from error
        self.bound_endpoint = out.getsockopt_string(zmq.LAST_ENDPOINT) if self.bind else ""
        return out

    def _leave(self) -> None:
        if self._place is not None:
            self._place.release()

    def _work(self, first: list[zmq.Socket[bytes]]) -> None:
        """Serve until the publisher is stopped: over the first socket, and then over fresh ones."""
        if not first:
            self._reopens = True
        out = first.pop() if first else self._opened_again()
        while out is not None and self._upstream is not None:
            is_over = False
            try:
                is_over = not self._serve(out, self._upstream)
            finally:
                # What waits in one that is replaced is sent again to every subscriber that comes back.
                self._close(out, linger_ms=HEALTH_LINGER_MS if is_over else 0)
            out = None if is_over else self._opened_again()

    def _opened(self, endpoint: str) -> zmq.Socket[bytes]:
        """A socket there. Raises ZMQError or TooFewDescriptors."""
        out = self.bus.socket(zmq.XPUB)
        try:
            out.linger = HEALTH_LINGER_MS
            is_inside = endpoint.startswith("inproc://")
            self._limit = max(HIGH_WATER_MARK if is_inside else LEAST_WAITING, 4 * len(self._topics))
            out.sndhwm = self._limit
            out.setsockopt(zmq.XPUB_VERBOSE, 1)  # or a second subscriber to a topic gets no replay
            out.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
            out.setsockopt(zmq.IPV6, is_ipv6(endpoint))
            if self.curve is not None:
                self.curve.secure(out)
            elif self.bind:
                refuse_old_protocols(out)
            if self.bind:
                out.rcvhwm = RECEIVE_MESSAGES
                out.setsockopt(zmq.RCVBUF, RECEIVE_BYTES)
                out.setsockopt(zmq.SNDBUF, SEND_BYTES)
                out.setsockopt(zmq.TCP_MAXRT, TAKES_NOTHING_MS)
                out.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
            self._upstream = Upstream(
                out,
                self.name,
                self._is_topic_below,
                is_watched=self.bind and not is_inside,
                is_encrypted=self.curve is not None,
            )
            if self.bind:
                out.bind(endpoint)
            else:
                out.connect(endpoint)
        except BaseException:
            self._close(out, linger_ms=0)
            raise
        return out

    def _close(self, out: zmq.Socket[bytes], *, linger_ms: int) -> None:
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        out.close(linger=linger_ms)

    def _opened_again(self) -> zmq.Socket[bytes] | None:
        """A socket at the same place after the one before was closed; None: the publisher is being stopped.

        ZeroMQ cannot end a single connection. Honest subscribers connect again by themselves and subscribe,
        which brings them the newest state.
        """
        if self._reopens:
            self._reopens = False
        else:
            _log.info("%s: a key was revoked, so every subscriber has to prove itself again", self.name)
        failed = 0
        while not self._thread.is_ending:
            try:
                return self._opened(self.bound_endpoint or self.endpoint)
            except (zmq.ZMQError, TooFewDescriptors) as error:
                failed += 1
                if failed == ORDINARY_FAILURES:  # another program may have the port by now
                    _log.error("%s: %s; it is tried again", self.name, unavailable(self.endpoint, error))
                self._thread.wait(REOPEN_S if failed < ORDINARY_FAILURES else REOPEN_LATER_S)
        return None

    def _serve(self, out: zmq.Socket[bytes], upstream: Upstream) -> bool:
        """Send until the publisher is stopped. True: until the socket is to be opened anew."""
        server = self.curve if isinstance(self.curve, CurveServer) else None
        poller = zmq.Poller()
        poller.register(out, zmq.POLLIN)
        poller.register(self._thread.waker, zmq.POLLIN)
        wanted: list[bytes] = []
        answer_at_s = float("inf")
        wait_s = TURN_S if server is None else LOOK_S
        while True:
            self._thread.turn()
            for ready, _ in poller.poll(round(1_000 * wait_s)):
                if ready is out:
                    asked = upstream.read(time.monotonic())
                    if asked:
                        wanted += asked
                        answer_at_s = min(answer_at_s, time.monotonic() + self.gather_s)
                else:  # the poller gives the descriptor of the waker, and not the waker
                    self._thread.waker.clear()
            if 2 * len(self._topics) > self._limit and not self.endpoint.startswith("inproc://"):
                self._reopens = True  # one message of a topic may be sent while the one before is under way
            if self._reopens or (server is not None and server.ends_connections()):
                return True
            stopping = self._thread.is_ending
            now_s = time.monotonic()
            if now_s >= answer_at_s or (wanted and stopping):
                self._replay(wanted)
                wanted, answer_at_s = [], float("inf")
            next_s = self._send(out, upstream, everything=stopping)
            self._forget_old()
            if stopping:
                return False
            due_s = min(next_s, answer_at_s)
            if server is not None:
                due_s = min(due_s, time.monotonic() + LOOK_S)
            wait_s = min(TURN_S, max(0.0, due_s - time.monotonic()) + 0.001)

    def _is_topic_below(self, prefix: bytes) -> bool:
        """Whether there is a topic that begins so."""
        at = bisect_left(self._sorted, prefix)
        return at < len(self._sorted) and self._sorted[at].startswith(prefix)

    def _replay(self, prefixes: Iterable[bytes]) -> None:
        """Send everything that matches again, to all subscribers. A state that comes twice does no harm."""
        with self._lock:
            for prefix in set(prefixes):
                for name in self._sorted[bisect_left(self._sorted, prefix) :]:
                    if not name.startswith(prefix):
                        break
                    self._pending[name.decode()] = None

    def _forget(self, name: str) -> _Topic:
        """Forget a topic. Under the lock."""
        self._ageing.pop(name, None)
        del self._sorted[bisect_left(self._sorted, name.encode())]
        return self._topics.pop(name)

    def _forget_old(self) -> None:
        """Forget the topics that were kept for long enough."""
        now_s = time.monotonic()
        gone: list[tuple[str, _Topic]] = []
        with self._lock:
            # One that was put later with a shorter time waits for those before it: all have about the same.
            while (name := next(iter(self._ageing), None)) is not None and self._ageing[name] <= now_s:
                if name in self._pending:
                    break  # it is sent first
                gone.append((name, self._forget(name)))
        for name, topic in gone:
            if topic.on_forgotten is not None:
                topic.on_forgotten(name)

    def _send(self, out: zmq.Socket[bytes], upstream: Upstream, *, everything: bool) -> float:
        """Send what is due; return the monotonic second at which more will be."""
        now_s = time.monotonic()
        next_s = float("inf")
        due: list[tuple[str, Pack]] = []
        with self._lock:
            for name in list(self._pending):
                topic = self._topics[name]
                free_s = topic.sent_s + topic.gap_s
                if now_s >= free_s or everything:
                    del self._pending[name]
                    topic.sent_s = now_s
                    due.append((name, topic.pack))
                    if topic.is_once:
                        self._forget(name)
                else:
                    next_s = min(next_s, free_s)
        token = (self.token,) if self.token else ()
        for name, pack in due:
            encoded = name.encode()
            if not upstream.wants(encoded):
                continue  # packing is most of the work, and a later subscriber gets a replay
            try:
                out.send_multipart((encoded, pack(name), *token))
            except Exception:  # noqa: BLE001 - one message that cannot be sent must not silence all the others
                _log.exception("%s: a message on %s was not sent", self.name, name)
        return next_s
