"""The connections of one socket: how many there are, how much came over each, and the end of a single one.

libzmq counts whole messages and not bytes: one message of endlessly many parts fills the memory, and so do
ten thousand messages of a megabyte. It knows no limit on connections, and ends none on request. What it does
say is the descriptor of each connection (its monitor, and `SRCFD` of a message). The kernel says how many
bytes came over that one (`TCP_INFO`, on Linux alone), and to shut it down ends the connection as if the peer
had.

A descriptor of libzmq may be closed at any moment, and its number may then belong to another socket of this
process, such as the connection to an exchange. So it is duplicated first, which keeps what it stands for, and
compared with what it stood for when the connection came; and only then it is used.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import zmq

from brokerwatch.bus.budget import Budget
from brokerwatch.log import logger

_log: Final = logger(__name__)

CLOSE_S: Final = 2.0
"""The longest wait for the end of the thread, which has nothing to wait for."""
MOST_EARLY: Final = 1_000
"""Descriptors that are remembered until the monitor tells of them."""
EVENTS_AT_ONCE: Final = 100
"""Events of the monitor that are taken in one go."""
NEW_AT_ONCE: Final = 128
NEW_A_SECOND: Final = 32.0
"""Connections that may come at once, and how many more each second: each of them has a buffer to be read."""
FLOODER_COSTS: Final = 8
"""As many of them does one use up that had to be ended: a crowd that is ended and comes again at once would
have libzmq free the whole of what the others have subscribed to, for each connection that ends."""
_MONITORED: Final = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_MONITOR_STOPPED
)
_CAME: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED
_EVENT: Final = struct.Struct("=Hi")
_BYTES_RECEIVED: Final = 128
"""Where the kernel's `tcp_info` has `tcpi_bytes_received`, since Linux 4.1."""
_INFO_BYTES: Final = _BYTES_RECEIVED + 8
_COUNTS_BYTES: Final = sys.platform == "linux"


@dataclass(slots=True, eq=False)
class Connection:
    """One connection to a peer."""

    descriptor: int
    family: int
    inode: int
    came_s: float
    received: int = 0
    """Bytes that the kernel has received; 0 where it does not say, as off Linux or over ipc. Written by the
    watching thread."""
    delivered: int = 0
    messages: int = 0
    """Bytes and messages of it that the owner of the socket has read. Written by the owner's thread."""
    is_over: bool = False
    """Whether it was ended here. What libzmq had read of it before may still be delivered."""
    kept: Any = None
    """What the owner remembers of it."""
    early: tuple[bytes, ...] = ()
    """The words that came before the monitor told of it."""
    ruled: Any = None
    """What the rule remembers of it."""


Rule = Callable[[Sequence[Connection], float], Iterable[tuple[Connection, str]]]
"""Takes all connections, the oldest first, and the monotonic second. Gives those that are to be ended, and
what each of them did."""


class Connections:
    """Watches the connections of one socket over tcp or ipc, on a thread of its own.

    It has to be another thread than that of the socket: libzmq reads subscriptions, and throws away messages
    without a subscription, for as long as more of them come, and gives its caller no turn meanwhile.

    Args:
        watched: the socket, before it is bound or connected.
        name: of the socket, for the log.
        rule: says which connections are to be ended. Called on the thread.
        look_s: seconds between two looks. With `is_quiet` the first one is when a peer begins to send.
        is_quiet: whether an honest peer sends next to nothing.
    """

    def __init__(
        self, watched: zmq.Socket[bytes], name: str, rule: Rule, look_s: float, *, is_quiet: bool
    ) -> None:
        self._watched = watched
        self._name = name
        self._rule = rule
        self._look_s = look_s
        self._lock = threading.Lock()
        self._known: dict[int, Connection] = {}
        self._over: dict[int, Connection] = {}
        """Those that were ended here, until libzmq says so too."""
        self._new = Budget(NEW_AT_ONCE, NEW_A_SECOND, time.monotonic())
        self._early_words: dict[int, tuple[bytes, ...]] = {}
        """What the owner remembers of such a connection: see `remember`."""
        self._early: dict[int, tuple[int, int]] = {}
        """What was delivered over connections whose beginning the monitor has not told yet."""
        self._active: set[int] = set()
        """Descriptors over which bytes came. The kernel says no more of them until they were looked at."""
        self._looked_s = float("-inf")
        self._said = False
        self.ended = 0
        """Connections that were ended here."""
        self._epoll = select.epoll() if is_quiet and _COUNTS_BYTES else None
        self._monitor = watched.get_monitor_socket(_MONITORED)
        self._thread = threading.Thread(target=self._run, name=f"{name}-connections", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching. To be called by the thread of the socket, before it closes that."""
        # The thread ends when it reads that the monitor was stopped. It reads until then, since libzmq waits
        # until there is room for an event.
        with contextlib.suppress(zmq.ZMQError):
            self._watched.disable_monitor()
        self._thread.join(CLOSE_S)

    def deliver(self, descriptor: int | None, size: int) -> Connection | None:
        """Note that a message of so many bytes was read. `descriptor` None: over the newest connection."""
        with self._lock:
            if descriptor is None:
                connection = next(reversed(self._known.values()), None)
            else:
                connection = self._known.get(descriptor) or self._over.get(descriptor)
            if connection is not None:
                connection.delivered += size
                connection.messages += 1
            elif descriptor is not None and len(self._early) < MOST_EARLY:
                before = self._early.get(descriptor, (0, 0))
                self._early[descriptor] = before[0] + size, before[1] + 1
            return connection

    def remember(self, descriptor: int, words: bytes, most: int) -> None:
        """Keep words of a connection whose beginning the monitor has not told yet, so many at most."""
        with self._lock:
            known = self._known.get(descriptor)
            if known is not None:
                known.early = (*known.early, words)[:most]
            elif descriptor in self._early_words or len(self._early_words) < MOST_EARLY:
                self._early_words[descriptor] = (*self._early_words.get(descriptor, ()), words)[:most]

    def end(self, connection: Connection, why: str) -> None:
        """End one. The peer sees that this side closed it. Any thread."""
        with self._lock:
            if self._known.get(connection.descriptor) is not connection:
                return
            del self._known[connection.descriptor]
            self._over[connection.descriptor] = connection
            connection.is_over = True
        with self._opened(connection) as opened:
            if opened is not None:
                self._shut(opened, why)

    def _shut(self, opened: socket.socket, why: str) -> None:
        self.ended += 1
        first, self._said = not self._said, True
        if first:
            _log.warning("%s: a connection was ended, since it %s; others are only counted", self._name, why)
        with contextlib.suppress(OSError):
            # A reset, once libzmq closes it: nothing of it lingers in the kernel, and the peer knows at once.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            opened.shutdown(socket.SHUT_RDWR)
            if _COUNTS_BYTES:  # what waits in the kernel is not to be read by libzmq any more
                while opened.recv(1 << 20, socket.MSG_DONTWAIT | socket.MSG_TRUNC):
                    pass

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._monitor, zmq.POLLIN)
        if self._epoll is not None:
            poller.register(self._epoll.fileno(), zmq.POLLIN)
        try:
            while self._turned(poller):
                pass
        finally:
            self._monitor.close(linger=0)
            if self._epoll is not None:
                self._epoll.close()

    def _turned(self, poller: zmq.Poller) -> bool:
        """Look once, when it is time. False: the socket is closed."""
        try:
            poller.poll(self._wait_ms())
            now_s = time.monotonic()
            if not self._take_events(now_s):
                return False
            if self._look(now_s):
                for connection, why in self._rule(tuple(self._known.values()), now_s):
                    self.end(connection, why)
                    self._new.spend(FLOODER_COSTS, now_s)
        except zmq.ContextTerminated:
            return False
        except Exception:  # noqa: BLE001 - without this thread libzmq would wait for its events to be read
            _log.exception("%s: a look at the connections failed; the next is as usual", self._name)
            time.sleep(self._look_s)
        return True

    def _wait_ms(self) -> int | None:
        if not self._known or (self._epoll is not None and not self._active):
            return None
        return 1 + round(1_000 * max(0.0, self._looked_s + self._look_s - time.monotonic()))

    def _take_events(self, now_s: float) -> bool:
        """Take in what the monitor says. False: it was stopped."""
        with contextlib.suppress(zmq.Again):
            for _ in range(EVENTS_AT_ONCE):
                what, endpoint = self._monitor.recv_multipart(zmq.NOBLOCK)[:2]
                event, descriptor = _EVENT.unpack(what)
                if event & zmq.EVENT_MONITOR_STOPPED:
                    return False
                with self._lock:
                    self._known.pop(descriptor, None)
                    self._over.pop(descriptor, None)
                    if event & _CAME:
                        self._admit(descriptor, endpoint, now_s, is_ours=bool(event & zmq.EVENT_CONNECTED))
                        self._looked_s = min(self._looked_s, now_s - self._look_s)  # there may be too many
        return True

    def _look(self, now_s: float) -> bool:
        """Learn how much came. False: it is not time yet."""
        if self._epoll is not None:
            self._active.update(descriptor for descriptor, _ in self._epoll.poll(0))
        if now_s < self._looked_s + self._look_s:
            return False
        self._looked_s = now_s
        for descriptor in self._known.copy() if self._epoll is None else self._active:
            if (connection := self._known.get(descriptor)) is None:
                continue
            with self._opened(connection) as opened, contextlib.suppress(OSError):
                if opened is not None:
                    connection.received = _received(opened)
                    if self._epoll is not None:
                        self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLONESHOT)
        self._active.clear()
        return True

    def _admit(self, descriptor: int, endpoint: bytes, now_s: float, *, is_ours: bool) -> None:
        """Know a connection that has just come, unless it is over already. Under the lock.

        `is_ours`: it was this side that connected.
        """
        delivered, messages = self._early.pop(descriptor, (0, 0))
        early = self._early_words.pop(descriptor, ())
        try:
            copy = os.dup(descriptor)
        except OSError:
            return
        try:
            opened = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)  # its number belongs to a file by now
            return
        with opened, contextlib.suppress(OSError):
            place: object = opened.getpeername() if is_ours else opened.getsockname()
            if not _is_at(place, endpoint.decode("ascii", "replace")):
                return
            # One that is turned away uses up nothing, or many that try again would keep each other out.
            if self._new.left(now_s) < 1 or not self._new.spend(1, now_s):
                opened.setblocking(False)
                self._shut(opened, "was one of too many that came at once")
                return
            inode = os.fstat(copy).st_ino
            self._known[descriptor] = Connection(
                descriptor, opened.family, inode, now_s, delivered=delivered, messages=messages, early=early
            )
            if self._epoll is not None:
                self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    @contextmanager
    def _opened(self, connection: Connection) -> Generator[socket.socket | None]:
        """The connection under another descriptor, which stays its own; None: it is over."""
        try:
            copy = os.dup(connection.descriptor)
        except OSError:
            yield None
            return
        found = os.fstat(copy)
        # Its number may belong to another socket by now, or to a file.
        if found.st_ino != connection.inode or not stat.S_ISSOCK(found.st_mode):
            os.close(copy)
            yield None
            return
        with socket.socket(connection.family, socket.SOCK_STREAM, 0, fileno=copy) as opened:
            opened.setblocking(False)
            yield opened


def _received(opened: socket.socket) -> int:
    """How many bytes came over it; 0: the kernel does not say, as of an ipc connection."""
    try:
        info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return 0
    return int.from_bytes(info[_BYTES_RECEIVED:_INFO_BYTES], sys.byteorder) if len(info) == _INFO_BYTES else 0


def _is_at(place: object, endpoint: str) -> bool:
    """Whether a socket's address is that endpoint: the number may belong to another socket by now."""
    if isinstance(place, tuple):
        return endpoint.startswith("tcp://") and endpoint.rpartition(":")[2] == str(cast("Any", place)[1])
    return isinstance(place, str) and endpoint == f"ipc://{place}"
