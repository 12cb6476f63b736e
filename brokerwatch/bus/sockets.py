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
from pathlib import Path
from typing import Final

import zmq

_log: Final = logging.getLogger(__name__)

HIGH_WATER_MARK: Final = 10_000
"""Messages that a socket holds for a peer that does not keep up; then it drops."""
DRAIN_LIMIT: Final = 20_000
"""Messages taken in one go, so that a flood cannot keep a reader from looking up."""


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


class PathLock:
    """Keeps a second process from stealing an ipc path: binding one that is in use succeeds silently."""

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
        """Let others have the path. The file stays: removing it would let two processes hold one each."""
        os.close(self._descriptor)


def is_ipv6(endpoint: str) -> int:
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
