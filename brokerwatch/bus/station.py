"""One health endpoint: a subscription on a thread of its own, which is opened again when it falls silent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from brokerwatch.bus.curve import CurveClient
from brokerwatch.bus.reception import LONGEST_TTL_MS, ReceivedReading, Receiver
from brokerwatch.bus.revival import Revival
from brokerwatch.bus.sockets import SOCKET_FILES, WAKER_FILES, Bus, Waker
from brokerwatch.bus.subscriber import Subscriber
from brokerwatch.clock import Clock
from brokerwatch.errors import CodecError, EndpointUnavailable
from brokerwatch.health.reading import comparison_key, heartbeat_s
from brokerwatch.log import logger
from brokerwatch.messages import RosterData, topics
from brokerwatch.messages.codec import decode

_log: Final = logger(__name__)

NEEDS_FILES: Final = WAKER_FILES + SOCKET_FILES
"""Descriptors of one endpoint."""
WAIT_S: Final = 1.0
"""The longest wait of a thread; a message, an expiry or the waker ends it sooner."""
NOTHING_HEARD_S: Final = 5.0
"""A socket that never received a message is opened again after this long."""
SHORTEST_PATIENCE_S: Final = 0.5
"""No socket is given up sooner, however quick the heartbeat: five silent heartbeats are ordinary."""
REOPEN_RANGE_S: Final = (0.1, 5.0)
"""The first and the longest wait between two attempts with a fresh socket."""


def patience_s(ttl_ms: int) -> float:
    """How many seconds of silence are ordinary after a message with this time to live: five heartbeats."""
    return max(SHORTEST_PATIENCE_S, 5 * heartbeat_s(min(ttl_ms, LONGEST_TTL_MS) / 1_000))


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
        self._revival = Revival(f"the subscription to {endpoint}")
        self._thread = threading.Thread(target=self._run, name="brokerwatch-listener", daemon=True)
        self.receiver = Receiver(clock)
        self.undecodable = 0
        """Messages that are none of brokerwatch's."""
        self.heard_s: float | None = None
        """The monotonic second at which the newest message of brokerwatch's arrived; None: none did."""
        self._lacks_socket = False
        """Whether no fresh socket was to be had when one was wanted last."""
        self.shards: Mapping[str, tuple[int, int]] = {}
        """By sender, which of several supervisors it is, and how many share its cluster."""
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
        self._revival.end()
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
            first = [self._opened(waker)]
        except EndpointUnavailable as error:
            self._failure = error
            waker.close()
            return
        finally:
            self._ready.set()
        try:
            self._revival.run(lambda: self._work(waker, first))
        finally:
            waker.close()

    def _opened(self, waker: Waker) -> Subscriber:
        """A socket that is connected. Raises EndpointUnavailable."""
        prefixes = [topics.ALL_STATES, topics.ROSTER]
        return Subscriber(self._bus, [self._endpoint], prefixes, waker, curve=self._curve)

    def _work(self, waker: Waker, first: list[Subscriber]) -> None:
        """Listen until it is to end: over the first socket, or a fresh one in its place."""
        incoming = first.pop() if first else None
        while incoming is None:
            try:
                incoming = self._opened(waker)
            except EndpointUnavailable as error:
                self._say_lack(error)
                if self._stopping.wait(REOPEN_RANGE_S[1]):
                    return
        try:
            self._listen(incoming)
        finally:
            incoming.close()

    def _listen(self, incoming: Subscriber) -> None:
        shortest_s, longest_s = REOPEN_RANGE_S
        silence_s, reopen_in_s = NOTHING_HEARD_S, shortest_s
        received_s = self._clock.up_s()
        while not self._stopping.is_set():
            now_s = self._clock.up_s()
            wait_s = min(WAIT_S, max(0.0, self.receiver.next_expiry_s() - now_s) + 0.001)
            taken = incoming.take(wait_s)
            self.receiver.turn()
            for topic, bodies in taken.items():
                for body in bodies:
                    silence_s = self._take(topic, body) or silence_s
            if taken:
                received_s, reopen_in_s = self._clock.up_s(), shortest_s
            for expired in self.receiver.expire():
                self._on_reading(self._endpoint, expired, changed=True)
            if self._clock.up_s() - received_s > silence_s:
                # Some errors end a connection for good: an oversize frame, a refused handshake.
                self._reopen(incoming)
                silence_s, reopen_in_s = reopen_in_s, min(reopen_in_s * 2, longest_s)
                received_s = self._clock.up_s()

    def _reopen(self, incoming: Subscriber) -> None:
        """Take a fresh socket. Where there is none to be had, it is said once, and tried again later."""
        try:
            incoming.reopen()
        except EndpointUnavailable as error:
            self._say_lack(error)
        else:
            self._lacks_socket = False

    def _say_lack(self, error: EndpointUnavailable) -> None:
        if not self._lacks_socket:
            _log.error("nothing is heard from %s, and %s; it is tried again", self._endpoint, error)
        self._lacks_socket = True

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
            shard = envelope.data.shard, envelope.data.shards
            self.shards = {**self.shards, envelope.stamp.src: shard}
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
        return patience_s(envelope.stamp.ttl_ms)

    def _learn_names(self, roster: RosterData) -> None:
        named = {**self._named, roster.part: {reading.broker for reading in roster.readings}}
        # A cluster that started again may have fewer parts.
        self._named = {part: names for part, names in named.items() if part <= roster.parts}
        self._parts = roster.parts
        self._missing = set[str]().union(*self._named.values()) - {
            broker for _, broker in self.receiver.newest
        }
