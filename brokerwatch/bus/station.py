"""One health endpoint: a subscription on a thread of its own, which is opened again when it falls silent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

from brokerwatch.bus.curve import CurveClient
from brokerwatch.bus.reception import ReceivedReading, Receiver
from brokerwatch.bus.sockets import Bus, Waker
from brokerwatch.bus.subscriber import Subscriber
from brokerwatch.clock import Clock
from brokerwatch.errors import CodecError, EndpointUnavailable
from brokerwatch.health.reading import comparison_key, heartbeat_s
from brokerwatch.messages import RosterData, topics
from brokerwatch.messages.codec import decode

WAIT_S: Final = 1.0
"""The longest wait of a thread; a message, an expiry or the waker ends it sooner."""
NOTHING_HEARD_S: Final = 5.0
"""A socket that never received a message is opened again after this long."""
SHORTEST_PATIENCE_S: Final = 0.5
"""No socket is given up sooner, however quick the heartbeat: five silent heartbeats are ordinary."""
REOPEN_RANGE_S: Final = (0.1, 5.0)
"""The first and the longest wait between two attempts with a fresh socket."""


class OnReading(Protocol):
    """Takes a reading that counts, or that expired. Called on the station's thread."""

    def __call__(self, endpoint: str, received: ReceivedReading, *, changed: bool) -> object:
        """`changed` is False when the reading only renews the previous one."""
        ...


class Station:
    """One endpoint of a listener: its socket, its thread, and the readings that arrived there.

    `start` and `stop` are for the thread that owns the listener. `readings` may be called from any thread.
    `on_reading`, `on_complete` and `on_gone`, for a broker that left its cluster, are called on the station's
    own thread.
    """

    def __init__(
        self,
        endpoint: str,
        bus: Bus,
        clock: Clock,
        curve: CurveClient | None = None,
        *,
        on_reading: OnReading,
        on_complete: Callable[[], object],
        on_gone: Callable[[str, str, str], object] = lambda _endpoint, _source, _broker: None,
    ) -> None:
        self._endpoint = endpoint
        self._bus = bus
        self._clock = clock
        self._curve = curve
        self._on_reading = on_reading
        self._on_complete = on_complete
        self._on_gone = on_gone
        self._waker: Waker | None = None  # it holds two descriptors, so it is made when it is needed
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._failure: EndpointUnavailable | None = None
        self._named: dict[int, set[str]] = {}
        """The brokers that each part of the roster names."""
        self._parts = 0
        """How many parts the roster has; 0 before the first one arrived."""
        self._missing: set[str] = set()
        """Brokers that a roster named and that sent no reading yet."""
        self._thread = threading.Thread(target=self._run, name="brokerwatch-listener", daemon=True)
        self.receiver = Receiver(clock)
        self.undecodable = 0
        """Messages that are none of brokerwatch's."""
        self.heard_s: float | None = None
        """The monotonic second at which the newest message of brokerwatch's arrived; None: none did."""
        self.complete = False
        """Whether a whole roster arrived, and then a reading of every broker that it names."""

    def start(self) -> None:
        """Connect, and start the thread. Raises EndpointUnavailable."""
        self._waker = Waker()
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self, deadline_s: float) -> bool:
        """End the thread. False when it has not ended within `deadline_s`."""
        self._stopping.set()
        if self._waker is None:
            return True
        self._waker.wake()
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def readings(self) -> tuple[ReceivedReading, ...]:
        """The newest reading of each broker of each sender."""
        return tuple(self.receiver.newest.copy().values())  # a copy, since the thread may add to it

    def _run(self) -> None:
        waker = self._waker
        if waker is None:
            return  # it was never started
        try:
            prefixes = [topics.ALL_STATES, topics.ROSTER]
            incoming = Subscriber(self._bus, [self._endpoint], prefixes, waker, curve=self._curve)
        except EndpointUnavailable as error:
            self._failure = error
            waker.close()
            return
        finally:
            self._ready.set()
        try:
            self._listen(incoming)
        finally:
            incoming.close()
            waker.close()

    def _listen(self, incoming: Subscriber) -> None:
        shortest_s, longest_s = REOPEN_RANGE_S
        patience_s, reopen_in_s = NOTHING_HEARD_S, shortest_s
        received_s = self._clock.up_s()
        while not self._stopping.is_set():
            now_s = self._clock.up_s()
            wait_s = min(WAIT_S, max(0.0, self.receiver.next_expiry_s() - now_s) + 0.001)
            taken = incoming.take(wait_s)
            for topic, bodies in taken.items():
                for body in bodies:
                    patience_s = self._take(topic, body) or patience_s
            if taken:
                received_s, reopen_in_s = self._clock.up_s(), shortest_s
            for expired in self.receiver.expire():
                self._on_reading(self._endpoint, expired, changed=True)
            if self._clock.up_s() - received_s > patience_s:
                # Some errors end a connection for good: an oversize frame, a refused handshake.
                incoming.reopen()
                patience_s, reopen_in_s = reopen_in_s, min(reopen_in_s * 2, longest_s)
                received_s = self._clock.up_s()

    def _take(self, topic: str, body: bytes) -> float:
        """Take in one message. Returns how long silence after it is ordinary; 0 when it does not say."""
        try:
            envelope = decode(body)
        except CodecError:
            self.undecodable += 1
            return 0.0
        self.heard_s = self._clock.up_s()
        parts = topic.split("/")
        before = self.receiver.newest.get((envelope.stamp.src, parts[4] if len(parts) > 4 else ""))
        received = self.receiver.take(topic, envelope)
        if isinstance(envelope.data, RosterData) and not self.complete:
            self._learn_names(envelope.data)
        for source, broker in self.receiver.take_gone():
            self._on_gone(self._endpoint, source, broker)
        if received is not None:
            changed = before is None or comparison_key(before.reading) != comparison_key(received.reading)
            self._on_reading(self._endpoint, received, changed=changed)
        if not self.complete:
            if received is not None:
                self._missing.discard(received.reading.broker)
            self.complete = 0 < self._parts <= len(self._named) and not self._missing
            if self.complete:
                self._on_complete()
        return max(SHORTEST_PATIENCE_S, 5 * heartbeat_s(envelope.stamp.ttl_ms / 1_000))

    def _learn_names(self, roster: RosterData) -> None:
        named = {**self._named, roster.part: {reading.broker for reading in roster.readings}}
        # A cluster that started again may have fewer parts.
        self._named = {part: names for part, names in named.items() if part <= roster.parts}
        self._parts = roster.parts
        self._missing = set[str]().union(*self._named.values()) - {
            broker for _, broker in self.receiver.newest
        }
