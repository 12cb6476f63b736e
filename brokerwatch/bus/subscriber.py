"""One SUB socket on one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import zmq

from brokerwatch.bus.sockets import DRAIN_LIMIT, HIGH_WATER_MARK, Bus, PathLock, Waker, is_ipv6, unavailable
from brokerwatch.errors import EndpointUnavailable
from brokerwatch.messages.codec import MAX_BODY_BYTES


class Subscriber:
    """A SUB socket. It is made, used and closed by one thread.

    That thread has to go on polling: a bound socket sends its subscriptions to a reconnected publisher while
    it is polled.
    """

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
        self._lock: PathLock | None = None
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
                    incoming.setsockopt(zmq.IPV6, is_ipv6(endpoint))
                    if self._bind:
                        self._lock = PathLock.take(endpoint)
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
        """Wait up to `wait_s` for a message or the waker. Returns all messages: topic to bodies, in order.

        Frames after the second are ignored, and so is a message that has only one.
        """
        taken: dict[str, list[bytes]] = {}
        if any(ready is not self._socket for ready, _ in self._poller.poll(max(0, round(wait_s * 1_000)))):
            self._waker.clear()
        with contextlib.suppress(zmq.Again):
            for _ in range(DRAIN_LIMIT):
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                if len(frames) >= 2:
                    taken.setdefault(frames[0].decode("ascii", "replace"), []).append(frames[1])
        return taken

    def reopen(self) -> None:
        """Take a fresh socket: some errors end a ZeroMQ connection for good, without a retry."""
        self._socket.close()
        self._socket = self._open()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        if self._lock is not None:
            self._lock.release()
