"""The thread of one ZeroMQ socket, from the moment the socket is open until it is closed.

A socket of ZeroMQ belongs to the thread that opened it. So the thread opens it, and `start` waits for that:
a place that cannot be had is an error of the caller's, and no thread is left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from brokerwatch.bus.revival import Revival
from brokerwatch.bus.sockets import Waker
from brokerwatch.bus.turning import Turning
from brokerwatch.errors import EndpointUnavailable

S = TypeVar("S")


class SocketThread(Generic[S]):
    """Opens a socket, and works with it until it is told to end.

    `waker`, `turn`, `wait` and `is_ending` are for the work, the others for any thread.

    Args:
        name: of the thread.
        opened: opens the socket. Raises EndpointUnavailable.
        work: uses and closes the socket. Its argument has the first one the first time; it is empty when the
            work begins again after an error.
        ended: lets go of what `opened` took besides the socket.
    """

    def __init__(
        self,
        name: str,
        opened: Callable[[], S],
        work: Callable[[list[S]], object],
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._opened = opened
        self._work = work
        self._ended = ended
        self._ready = threading.Event()
        self._failure: EndpointUnavailable | None = None
        self._ending = threading.Event()
        self._turning = Turning()
        self._revival = Revival(name, self._turning)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._waker: Waker | None = None

    def start(self) -> None:
        """Open the socket, and begin. Raises EndpointUnavailable."""
        self._waker = Waker()
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self, deadline_s: float) -> bool:
        """End the thread. False when that took longer, in seconds."""
        self._turning.end()
        self._revival.end()
        self._ending.set()
        self.wake()
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def wake(self) -> None:
        """End the wait of the thread. Any thread, and also before the start and after the end."""
        if self._waker is not None:
            self._waker.wake()

    def fault(self) -> str:
        """What is wrong with the thread; empty where nothing is. Any thread."""
        return self._turning.fault(self._thread)

    @property
    def waker(self) -> Waker:
        """Ends a wait for the socket."""
        if self._waker is None:
            raise RuntimeError("the thread was not started")
        return self._waker

    @property
    def is_ending(self) -> bool:
        """Whether the work is to return."""
        return self._ending.is_set()

    def turn(self) -> None:
        """The thread turns now, so it does not hang."""
        self._turning.turn()

    def wait(self, wait_s: float) -> None:
        """Wait for some seconds, or until the work is to return."""
        self._ending.wait(wait_s)

    def _run(self) -> None:
        try:
            try:
                first = [self._opened()]
            except EndpointUnavailable as error:
                self._failure = error
                return
            finally:
                self._ready.set()
            self._revival.run(lambda: self._work(first))
        finally:
            self._ended()
            self.waker.close()
