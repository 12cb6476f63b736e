"""One SUB socket on one thread."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from hmac import compare_digest
from typing import Final

import zmq

from brokerwatch.bus.curve import HANDSHAKE_MS, CurveClient, CurveServer
from brokerwatch.bus.downstream import RECEIVE_BYTES, Downstream
from brokerwatch.bus.sockets import (
    DRAIN_LIMIT,
    HIGH_WATER_MARK,
    Bus,
    PathLock,
    Waker,
    is_ipv6,
    refuse_old_protocols,
    unavailable,
)
from brokerwatch.errors import EndpointUnavailable
from brokerwatch.messages.codec import MAX_BODY_BYTES

MOST_WAITING: Final = 1_000
"""Messages that libzmq holds from one publisher of another process. More of them wait there, where they are
bounded too."""
TURN_BYTES: Final = 2 * MAX_BODY_BYTES
"""Bytes taken in one go. There is little honest traffic beyond it, and reading it takes a moment."""
TURN_AT_MOST_S: Final = 0.2
"""No turn takes longer, whatever comes: what was taken of honest senders is to be passed on."""


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
        token: bytes = b"",
    ) -> None:
        self._bus = bus
        self._waker = waker
        self._endpoints = tuple(endpoints)
        self._prefixes = tuple(prefixes)
        self._bind = bind
        self._curve = curve
        self._token = token
        """A message without it as its third frame does not count; empty: each one counts."""
        self.forged = 0
        """Messages without the token, or whose sender's key may not send on their topic, or no more."""
        self._lock: PathLock | None = None
        self._socket, self._poller, self._bounds = self._opened()

    def _opened(self) -> tuple[zmq.Socket[bytes], zmq.Poller, Downstream | None]:
        incoming = self._bus.socket(zmq.SUB)
        bounds: Downstream | None = None
        try:
            incoming.linger = 0
            incoming.rcvhwm = HIGH_WATER_MARK
            incoming.setsockopt(zmq.MAXMSGSIZE, MAX_BODY_BYTES)
            if not all(endpoint.startswith("inproc://") for endpoint in self._endpoints):
                incoming.rcvhwm = MOST_WAITING
                incoming.setsockopt(zmq.RCVBUF, RECEIVE_BYTES)
                name = f"what is received at {' '.join(self._endpoints)}"
                bounds = Downstream(incoming, name, is_bound=self._bind)
            for prefix in self._prefixes:
                incoming.setsockopt_string(zmq.SUBSCRIBE, prefix)
            for endpoint in self._endpoints:
                try:
                    incoming.setsockopt(zmq.IPV6, is_ipv6(endpoint))
                    if self._curve is not None:
                        self._curve.secure(incoming)
                    elif self._bind:
                        refuse_old_protocols(incoming)
                    if self._bind:
                        incoming.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
                        self._lock = PathLock.take(endpoint)
                        incoming.bind(endpoint)
                    else:
                        incoming.connect(endpoint)
                except (zmq.ZMQError, OSError) as error:
                    raise EndpointUnavailable(unavailable(endpoint, error)) from error
        except BaseException:
            _close(incoming, bounds)
            self._release()
            raise
        poller = zmq.Poller()
        poller.register(incoming, zmq.POLLIN)
        poller.register(self._waker, zmq.POLLIN)
        return incoming, poller, bounds

    def take(self, wait_s: float) -> Mapping[str, list[bytes]]:
        """Wait up to `wait_s` for a message or the waker. Returns the messages: topic to bodies, in order.

        What is beyond the limits of one turn comes with the next. Frames after the second are ignored, and
        so is a message that has only one.
        """
        taken: dict[str, list[bytes]] = {}
        for ready, _ in self._poller.poll(max(0, round(wait_s * 1_000))):
            if ready is not self._socket:
                self._waker.clear()
            elif self._bounds is not None:
                self._bounds.begun()
        size, until_s = 0, time.monotonic() + TURN_AT_MOST_S
        try:
            for _ in range(DRAIN_LIMIT):
                frames = self._received()
                size += sum(map(len, frames))
                if len(frames) >= 2:
                    taken.setdefault(frames[0].decode("ascii", "replace"), []).append(frames[1])
                if size > TURN_BYTES or time.monotonic() > until_s:
                    break
        except zmq.Again:
            if self._bounds is not None:
                self._bounds.drained(time.monotonic())
        return taken

    def _received(self) -> list[bytes]:
        """The next message; an empty one where its sender may not send it. Raises zmq.Again.

        What was proved at the handshake may not hold any more, and does not say what the key may speak for.
        """
        if self._bounds is None or not self._bind:
            received = self._socket.recv_multipart(zmq.NOBLOCK)
            if self._bounds is not None:
                self._bounds.read(received)
            return received
        whole = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        self._bounds.read(whole, whole[0])
        frames = [frame.bytes for frame in whole[:3]]
        if isinstance(self._curve, CurveServer):
            admitted = self._curve.may_send(_sender(whole[0]), frames[0].decode("ascii", "replace"))
        else:
            admitted = not self._token or compare_digest(b"".join(frames[2:]), self._token)
        if admitted:
            return frames
        self.forged += 1
        return []

    def reopen(self) -> None:
        """Take a fresh socket: some errors end a ZeroMQ connection for good, without a retry.

        Raises EndpointUnavailable, and goes on with the socket that it has. Not for a socket that is bound.
        """
        before, bounds = self._socket, self._bounds
        self._socket, self._poller, self._bounds = self._opened()
        _close(before, bounds)

    def close(self) -> None:
        """Close the socket."""
        _close(self._socket, self._bounds)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _close(incoming: zmq.Socket[bytes], bounds: Downstream | None) -> None:
    if bounds is not None:
        bounds.close()
    incoming.close()


def _sender(frame: zmq.Frame) -> str:
    """The public key that was proved at the handshake of the connection; empty where there is none."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
