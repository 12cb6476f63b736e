"""The ZeroMQ ends: who publishes and who subscribes. The only file that imports zmq.

A socket is made, used and closed by one thread. So actors hand values to a `Publisher`, which has a
thread and a socket of its own and packs a message only when it sends it: its ages are then those
of the moment. It remembers the newest message of each topic and says it again to whoever
subscribes, so a late joiner knows everything within one gathering interval. What was not sent yet
is replaced by what is newer: a backlog cannot grow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq

from brokerwatch.errors import EndpointUnavailable
from brokerwatch.messages.codec import MAX_BODY_BYTES

_log: Final = logging.getLogger(__name__)

HIGH_WATER_MARK: Final = 10_000
"""Messages that a socket holds for a peer that does not keep up; then it drops."""
GATHER_S: Final = 0.1
"""Subscriptions of this long are answered together, so that a storm of them is bounded."""
HEALTH_LINGER_MS: Final = 500
"""How long a closing publisher still tries to deliver its farewell."""
DRAIN_LIMIT: Final = 20_000
"""Messages taken in one go, so that a flood cannot keep a reader from looking up."""

Pack = Callable[[str], bytes]
"""Makes the body of one message at the moment it is sent; it is given the topic."""


class Bus:
    """One ZeroMQ context, shared by the sockets of one cluster or one listener."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        # The default, for ever, would make a process that is ending hang on a peer that is gone.
        self._context.linger = 0
        self._context.max_sockets = min(65_535, self._context.get(zmq.SOCKET_LIMIT))

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        """A socket for the calling thread."""
        return self._context.socket(kind)

    def close(self) -> None:
        """End it. Every socket must have been closed by its own thread before."""
        self._context.term()


class Waker:
    """Wakes a thread that waits for its socket. `wake` may be called from any thread, also after `close`."""

    def __init__(self) -> None:
        self._ears, self._mouth = socket.socketpair()
        self._ears.setblocking(False)
        self._mouth.setblocking(False)
        self._called = False

    def wake(self) -> None:
        """Let the thread look up. What it shall see must be there before."""
        if self._called:
            return  # it was called already, and looks after it has heard
        self._called = True
        # Full means that it was woken already; closed, that it has ended.
        with contextlib.suppress(OSError):
            self._mouth.send(b"\0")

    def heard(self) -> None:
        """Forget how often it was woken. To be called when its poller has said that it was."""
        # A byte of each thread that called at one moment: what is left wakes once more, for nothing.
        with contextlib.suppress(OSError):
            self._ears.recv(4_096)
        self._called = False

    def fileno(self) -> int:
        """What the poller watches."""
        return self._ears.fileno()

    def close(self) -> None:
        """No more waking."""
        self._ears.close()
        self._mouth.close()


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
    _topics: dict[str, _Topic] = field(default_factory=dict[str, _Topic])
    _pending: dict[str, None] = field(default_factory=dict[str, None])
    """The topics to send, in the order in which they were put."""
    _wanted: set[bytes] = field(default_factory=set[bytes])
    """What somebody subscribes to."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False
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
        """Send this as soon as possible, in place of what waits under the same topic.

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

    def stop(self, deadline_s: float) -> bool:
        """Send what waits, close the socket, end the thread. False when that took too long."""
        self._stopping = True
        self._waker.wake()
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self, ready: threading.Event) -> None:
        lock: _PathLock | None = None
        out = self.bus.socket(zmq.XPUB)
        try:
            out.linger = HEALTH_LINGER_MS
            out.sndhwm = HIGH_WATER_MARK
            out.setsockopt(zmq.XPUB_VERBOSE, 1)  # or a second subscriber to a topic gets no replay
            out.setsockopt(zmq.MAXMSGSIZE, 4_096)  # what comes in are subscriptions
            try:
                out.setsockopt(zmq.IPV6, _is_ipv6(self.endpoint))
                if self.bind:
                    lock = _PathLock.take(self.endpoint)
                    out.bind(self.endpoint)
                    self.bound_endpoint = out.getsockopt_string(zmq.LAST_ENDPOINT)
                else:
                    out.connect(self.endpoint)
            except (zmq.ZMQError, OSError) as error:
                self._failure = EndpointUnavailable(unavailable(self.endpoint, error))
                return
            finally:
                ready.set()
            self._serve(out)
        finally:
            out.close()
            if lock is not None:
                lock.release()
            self._waker.close()

    def _serve(self, out: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(out, zmq.POLLIN)
        poller.register(self._waker, zmq.POLLIN)
        wanted: list[bytes] = []
        answer_at_s = float("inf")
        wait_s: float | None = None
        while True:
            for ready, _ in poller.poll(None if wait_s is None else max(0, round(wait_s * 1_000))):
                if ready is out:
                    asked = self._subscriptions(out)
                    if asked:
                        wanted += asked
                        answer_at_s = min(answer_at_s, time.monotonic() + self.gather_s)
                else:
                    self._waker.heard()
            stopping = self._stopping
            now_s = time.monotonic()
            if now_s >= answer_at_s or (wanted and stopping):
                self._replay(wanted)
                wanted, answer_at_s = [], float("inf")
            next_s = self._send(out, everything=stopping)
            if stopping:
                return
            due_s = min(next_s, answer_at_s)
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
                    # Said once the last one who wanted it has gone.
                    self._wanted.discard(frame[1:])
        return asked

    def _replay(self, prefixes: Iterable[bytes]) -> None:
        """Everything that matches goes out again, to everybody: whole state hurts nobody."""
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
                continue  # packing is most of the work, and who subscribes later gets a replay
            try:
                out.send_multipart((name.encode(), pack(name)))
            except Exception:  # noqa: BLE001 - one message that cannot be sent must not silence all the others
                _log.exception("%s: a message on %s was not sent", self.name, name)
        return next_s


class Subscriber:
    """A SUB socket. Make it, use it and close it on one thread, and go on polling: it is then that
    a reconnected publisher hears of the subscriptions again."""

    def __init__(
        self,
        bus: Bus,
        endpoints: Iterable[str],
        prefixes: Iterable[str],
        waker: Waker,
        *,
        bind: bool = False,
    ) -> None:
        self._bus = bus
        self._waker = waker
        self._endpoints = tuple(endpoints)
        self._prefixes = tuple(prefixes)
        self._bind = bind
        self._lock: _PathLock | None = None
        self._socket = self._open()

    def _open(self) -> zmq.Socket[bytes]:
        incoming = self._bus.socket(zmq.SUB)
        try:
            incoming.linger = 0
            incoming.rcvhwm = HIGH_WATER_MARK
            incoming.setsockopt(zmq.MAXMSGSIZE, MAX_BODY_BYTES)
            for prefix in self._prefixes:
                incoming.setsockopt_string(zmq.SUBSCRIBE, prefix)
            for endpoint in self._endpoints:
                try:
                    incoming.setsockopt(zmq.IPV6, _is_ipv6(endpoint))
                    if self._bind:
                        self._lock = _PathLock.take(endpoint)
                        incoming.bind(endpoint)
                    else:
                        incoming.connect(endpoint)
                except (zmq.ZMQError, OSError) as error:
                    raise EndpointUnavailable(unavailable(endpoint, error)) from error
        except BaseException:
            incoming.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(incoming, zmq.POLLIN)
        self._poller.register(self._waker, zmq.POLLIN)
        return incoming

    def take(self, wait_s: float) -> Mapping[str, list[bytes]]:
        """Wait up to `wait_s` for a message or the waker, then all that are there: topic to bodies, in order.

        Frames after the second are ignored, and so is a message that has only one.
        """
        taken: dict[str, list[bytes]] = {}
        if any(ready is not self._socket for ready, _ in self._poller.poll(max(0, round(wait_s * 1_000)))):
            self._waker.heard()
        with contextlib.suppress(zmq.Again):
            for _ in range(DRAIN_LIMIT):
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                if len(frames) >= 2:
                    taken.setdefault(frames[0].decode("ascii", "replace"), []).append(frames[1])
        return taken

    def reopen(self) -> None:
        """A fresh socket: some errors end a ZeroMQ connection for good without a retry."""
        self._socket.close()
        self._socket = self._open()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        if self._lock is not None:
            self._lock.release()


class _PathLock:
    """Keeps a second process from stealing an ipc path: binding one that is in use succeeds silently."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, endpoint: str) -> _PathLock | None:
        """Lock the path of an ipc endpoint; None for the others. Raises OSError when it is taken."""
        if not endpoint.startswith("ipc://"):
            return None
        import fcntl  # where there is no ipc, there is no fcntl either

        path = Path(endpoint.removeprefix("ipc://") + ".lock")
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise OSError(f"another process holds {path}") from error
        return cls(descriptor)

    def release(self) -> None:
        """Let others have the path. The file stays: removing it would let two processes hold one each."""
        os.close(self._descriptor)


def _is_ipv6(endpoint: str) -> int:
    # Not for every endpoint: an IPv4 address would come back as ::ffff:127.0.0.1.
    return int(endpoint.startswith("tcp://["))


def unavailable(endpoint: str, error: Exception) -> str:
    """What to tell somebody whose endpoint cannot be used."""
    if isinstance(error, zmq.ZMQError) and error.errno == zmq.EADDRINUSE:
        return (
            f"{endpoint} is in use: another cluster runs here, or another program has the port; "
            "stop it, or set another health_endpoint or broker_endpoint under [cluster]"
        )
    return f"{endpoint} cannot be used: {error}"
