"""What both ends of the bus share: the ZeroMQ context, the waker of a waiting thread, the lock of a path.

A socket is made, used and closed by one thread. So actors never touch one: they hand values to a `Publisher`,
which has a thread and a socket of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Final

import zmq

from brokerwatch.bus.descriptors import require
from brokerwatch.errors import TooFewDescriptors
from brokerwatch.log import logger

_log: Final = logger(__name__)

HIGH_WATER_MARK: Final = 10_000
"""Messages that a subscriber holds inside of its own process."""
DRAIN_LIMIT: Final = 20_000
"""Messages taken in one go, so that a flood cannot keep a reader from its other work."""


CONTEXT_FILES: Final = 5
"""Descriptors of a context: its own, and those of its two threads, which begin with the first socket."""
SOCKET_FILES: Final = 6
"""Descriptors of a socket: its mailbox, what it binds or connects, what reads an address meanwhile, and what
its connections are watched with."""
WAKER_FILES: Final = 2
MARGIN_FILES: Final = 4
"""So many more are to be free before a socket is made: other threads open files at the same moment."""
OPEN_DOMAIN: Final = "open"
"""The ZAP domain of sockets without CURVE, which let every peer in."""


class Bus:
    """One ZeroMQ context, shared by the sockets of one cluster or one listener."""

    def __init__(self) -> None:
        require(CONTEXT_FILES, "a ZeroMQ context")
        self._context = zmq.Context()
        self._lock = threading.Lock()
        self._first_files = CONTEXT_FILES
        """What the first socket opens beside its own."""
        # The default is for ever: a process that ends would hang on a peer that is gone.
        self._context.linger = 0
        self._context.max_sockets = min(65_535, self._context.get(zmq.SOCKET_LIMIT))

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        """Make a socket for the calling thread. Raises TooFewDescriptors; libzmq would end the process."""
        with self._lock:  # two threads must not count the same free descriptors
            require(self._first_files + SOCKET_FILES + MARGIN_FILES, "a ZeroMQ socket")
            made = self._context.socket(kind)
            self._first_files = 0
            return made

    def close(self) -> None:
        """End the context. Every socket must have been closed by its own thread before."""
        self._context.term()


class Waker:
    """Wakes a thread that waits in a poller. `wake` may be called from any thread, also after `close`."""

    def __init__(self) -> None:
        require(WAKER_FILES, "a thread that waits")
        self._receiving, self._sending = socket.socketpair()
        self._receiving.setblocking(False)
        self._sending.setblocking(False)
        self._pending = False

    def wake(self) -> None:
        """Wake the thread. What it is to find must have been written before."""
        if self._pending:
            return  # it is awake or will be, and reads what was written after it calls `clear`
        self._pending = True
        # A full buffer means that it was woken already; a closed one, that it has ended.
        with contextlib.suppress(OSError):
            self._sending.send(b"\0")

    def clear(self) -> None:
        """Forget all calls of `wake` so far. To be called when the poller reports this waker."""
        # Threads that call at one moment send a byte each. What is left wakes once more, for nothing.
        with contextlib.suppress(OSError):
            self._receiving.recv(4_096)
        self._pending = False

    def fileno(self) -> int:
        """The descriptor for the poller."""
        return self._receiving.fileno()

    def close(self) -> None:
        """Close both ends. `wake` does nothing from then on."""
        self._receiving.close()
        self._sending.close()


class PathLock:
    """Keeps a second process from stealing an ipc path: ZeroMQ binds one that is in use without an error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, endpoint: str) -> PathLock | None:
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
        """Release the path. The file stays: without it two processes could each lock a file of that name."""
        os.close(self._descriptor)


def refuse_old_protocols(bound: zmq.Socket[bytes]) -> None:
    """Let no peer in that speaks ZMTP 1 or 2. To be called before a socket without CURVE binds.

    libzmq does not say over which connection such a peer's messages came. It turns these peers away from a
    socket whose domain has a name, and lets all others in where no handler of its context says otherwise.
    """
    bound.setsockopt(zmq.ZAP_DOMAIN, OPEN_DOMAIN.encode())


def is_ipv6(endpoint: str) -> int:
    """The value of ZeroMQ's IPV6 option: 1 for an IPv6 address only, so that IPv4 is not shown as ::ffff:…"""
    return int(endpoint.startswith("tcp://["))


def unavailable(endpoint: str, error: Exception) -> str:
    """Why an endpoint cannot be used, and what to do, as a sentence for the user."""
    if isinstance(error, TooFewDescriptors):
        return str(error)
    if isinstance(error, zmq.ZMQError) and error.errno == zmq.EADDRINUSE:
        return (
            f"{endpoint} is in use: another cluster runs here, or another program has the port; "
            "stop it, or set another health_endpoint or broker_endpoint under [cluster]"
        )
    return f"{endpoint} cannot be used: {error}"
