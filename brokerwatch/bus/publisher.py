"""One PUB socket on one thread. Of each topic only the newest message waits, so a backlog cannot grow.

A message is packed only when it is sent: its ages are then those of the moment. The publisher remembers the
newest message of each topic and sends it again when a subscription comes, so a late subscriber has everything
within one gathering interval.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import zmq

from brokerwatch.bus.allow_list import LOOK_S
from brokerwatch.bus.curve import CurveClient, CurveServer
from brokerwatch.bus.sockets import DRAIN_LIMIT, HIGH_WATER_MARK, Bus, PathLock, Waker, is_ipv6, unavailable
from brokerwatch.bus.turning import TURN_S, Turning
from brokerwatch.errors import EndpointUnavailable
from brokerwatch.log import logger

_log: Final = logger(__name__)

GATHER_S: Final = 0.1
"""Subscriptions of this long are answered together, so that a storm of them is bounded."""
HEALTH_LINGER_MS: Final = 500
"""How long a closing publisher still tries to deliver its farewell."""
REOPEN_S: Final = 0.01
"""Between two attempts to bind an endpoint again. libzmq lets go of it a moment after its socket closed."""
ORDINARY_FAILURES: Final = 100
"""So many of these attempts may fail before it is said."""

Pack = Callable[[str], bytes]
"""Makes the body of one message at the moment it is sent. Its argument is the topic."""


@dataclass
class _Topic:
    """The newest message of one topic."""

    pack: Pack
    gap_s: float = 0.0
    sent_s: float = float("-inf")


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
    _topics: dict[str, _Topic] = field(default_factory=dict[str, _Topic])
    _pending: dict[str, None] = field(default_factory=dict[str, None])
    """The topics to send, in the order in which they were put."""
    _wanted: set[bytes] = field(default_factory=set[bytes])
    """The prefixes that have a subscriber."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False
    _turning: Turning = field(default_factory=Turning)
    _failure: EndpointUnavailable | None = None
    bound_endpoint: str = ""
    """Where it is really bound, when `endpoint` let the system pick a port."""

    def start(self) -> None:
        """Open the socket. Raises EndpointUnavailable when the endpoint cannot be bound."""
        self._waker = Waker()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self.name, daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def put(self, topic: str, pack: Pack, *, gap_s: float = 0.0) -> None:
        """Send this as soon as possible, in place of the message that waits under the same topic.

        With `gap_s` the topic is sent at most once in so many seconds.
        """
        with self._lock:
            known = self._topics.get(topic)
            if known is None:
                self._topics[topic] = _Topic(pack, gap_s)
            else:
                known.pack, known.gap_s = pack, gap_s
            self._pending[topic] = None
        self._waker.wake()

    def fault(self) -> str:
        """What is wrong with its thread; empty where nothing is. Any thread."""
        return self._turning.fault(self._thread)

    def stop(self, deadline_s: float) -> bool:
        """Send what waits, close the socket, end the thread. False after `deadline_s` seconds."""
        self._stopping = True
        self._turning.end()
        self._waker.wake()
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self, ready: threading.Event) -> None:
        lock: PathLock | None = None
        out: zmq.Socket[bytes] | None = None
        try:
            try:
                if self.bind:
                    lock = PathLock.take(self.endpoint)
                out = self._opened(self.endpoint)
                self.bound_endpoint = out.getsockopt_string(zmq.LAST_ENDPOINT) if self.bind else ""
            except (zmq.ZMQError, OSError) as error:
                self._failure = EndpointUnavailable(unavailable(self.endpoint, error))
                return
            finally:
                ready.set()
            while out is not None and self._serve(out):
                out.close(linger=0)
                out = self._opened_again()
        finally:
            if out is not None:
                out.close()
            if lock is not None:
                lock.release()
            self._waker.close()

    def _opened(self, endpoint: str) -> zmq.Socket[bytes]:
        """A socket there. Raises ZMQError."""
        out = self.bus.socket(zmq.XPUB)
        try:
            out.linger = HEALTH_LINGER_MS
            out.sndhwm = HIGH_WATER_MARK
            out.setsockopt(zmq.XPUB_VERBOSE, 1)  # or a second subscriber to a topic gets no replay
            out.setsockopt(zmq.MAXMSGSIZE, 4_096)  # what comes in are subscriptions
            out.setsockopt(zmq.IPV6, is_ipv6(endpoint))
            if self.curve is not None:
                self.curve.secure(out)
            if self.bind:
                out.bind(endpoint)
            else:
                out.connect(endpoint)
        except BaseException:
            out.close(linger=0)
            raise
        return out

    def _opened_again(self) -> zmq.Socket[bytes] | None:
        """A socket at the same place after the one before was closed; None: the publisher is being stopped.

        ZeroMQ cannot end a single connection. Honest subscribers connect again by themselves and subscribe,
        which brings them the newest state.
        """
        _log.info("%s: a key was revoked, so every subscriber has to prove itself again", self.name)
        self._wanted.clear()
        failed = 0
        while not self._stopping:
            try:
                return self._opened(self.bound_endpoint)
            except zmq.ZMQError as error:
                failed += 1
                if failed == ORDINARY_FAILURES:  # another program may have the port by now
                    _log.error(
                        "%s: %s; it is tried again", self.name, unavailable(self.bound_endpoint, error)
                    )
                time.sleep(REOPEN_S)
        return None

    def _serve(self, out: zmq.Socket[bytes]) -> bool:
        """Send until the publisher is stopped. True: until the socket is to be opened anew."""
        server = self.curve if isinstance(self.curve, CurveServer) else None
        poller = zmq.Poller()
        poller.register(out, zmq.POLLIN)
        poller.register(self._waker, zmq.POLLIN)
        wanted: list[bytes] = []
        answer_at_s = float("inf")
        wait_s = None if server is None else LOOK_S
        while True:
            self._turning.turn()
            for ready, _ in poller.poll(round(1_000 * (TURN_S if wait_s is None else min(TURN_S, wait_s)))):
                if ready is out:
                    asked = self._subscriptions(out)
                    if asked:
                        wanted += asked
                        answer_at_s = min(answer_at_s, time.monotonic() + self.gather_s)
                else:
                    self._waker.clear()
            if server is not None and server.ends_connections():
                return True
            stopping = self._stopping
            now_s = time.monotonic()
            if now_s >= answer_at_s or (wanted and stopping):
                self._replay(wanted)
                wanted, answer_at_s = [], float("inf")
            next_s = self._send(out, everything=stopping)
            if stopping:
                return False
            due_s = min(next_s, answer_at_s)
            if server is not None:
                due_s = min(due_s, time.monotonic() + LOOK_S)
            wait_s = None if due_s == float("inf") else max(0.0, due_s - time.monotonic()) + 0.001

    def _subscriptions(self, out: zmq.Socket[bytes]) -> list[bytes]:
        asked: list[bytes] = []
        with contextlib.suppress(zmq.Again):
            for _ in range(DRAIN_LIMIT):
                frame = out.recv(zmq.NOBLOCK)
                if frame[:1] == b"\x01":
                    asked.append(frame[1:])
                    self._wanted.add(frame[1:])
                elif frame[:1] == b"\x00":
                    # Arrives once the last subscriber of this prefix has gone.
                    self._wanted.discard(frame[1:])
        return asked

    def _replay(self, prefixes: Iterable[bytes]) -> None:
        """Send everything that matches again, to all subscribers. A state that comes twice does no harm."""
        wanted = tuple(set(prefixes))
        with self._lock:
            for name in self._topics:
                if name.encode().startswith(wanted):
                    self._pending[name] = None

    def _send(self, out: zmq.Socket[bytes], *, everything: bool) -> float:
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
                else:
                    next_s = min(next_s, free_s)
        wanted = tuple(self._wanted)
        for name, pack in due:
            if not name.encode().startswith(wanted):
                continue  # packing is most of the work, and a later subscriber gets a replay
            try:
                out.send_multipart((name.encode(), pack(name)))
            except Exception:  # noqa: BLE001 - one message that cannot be sent must not silence all the others
                _log.exception("%s: a message on %s was not sent", self.name, name)
        return next_s
