"""One SUB socket on one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import zmq

from brokerwatch.bus.curve import CurveClient, CurveServer
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
        curve: CurveServer | CurveClient | None = None,
    ) -> None:
        self._bus = bus
        self._waker = waker
        self._endpoints = tuple(endpoints)
        self._prefixes = tuple(prefixes)
        self._bind = bind
        self._curve = curve
        self.forged = 0
        """Messages whose sender's key may not send on their topic, or no more."""
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
                    if self._curve is not None:
                        self._curve.secure(incoming)
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
                frames = self._received()
                if len(frames) >= 2:
                    taken.setdefault(frames[0].decode("ascii", "replace"), []).append(frames[1])
        return taken

    def _received(self) -> list[bytes]:
        """The next message; an empty one where its sender may not send it. Raises zmq.Again.

        What was proved at the handshake may not hold any more, and does not say what the key may speak for.
        """
        if not isinstance(self._curve, CurveServer):
            return self._socket.recv_multipart(zmq.NOBLOCK)
        frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        sender, topic = _sender(frames[0]), frames[0].bytes.decode("ascii", "replace")
        if self._curve.may_send(sender, topic):
            return [frame.bytes for frame in frames[:2]]
        self.forged += 1
        return []

    def reopen(self) -> None:
        """Take a fresh socket: some errors end a ZeroMQ connection for good, without a retry."""
        self._socket.close()
        self._socket = self._open()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        if self._lock is not None:
            self._lock.release()


def _sender(frame: zmq.Frame) -> str:
    """The public key that was proved at the handshake of the connection; empty where there is none."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
