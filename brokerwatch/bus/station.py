"""One health endpoint: subscribed to, and subscribed to again when it falls silent."""

from __future__ import annotations

import threading
from typing import Final, Protocol

from brokerwatch.bus.reception import ReceivedReading, Receiver
from brokerwatch.bus.sockets import Bus, Waker
from brokerwatch.bus.subscriber import Subscriber
from brokerwatch.clock import Clock
from brokerwatch.errors import CodecError, EndpointUnavailable
from brokerwatch.health.reading import comparison_key, heartbeat_s
from brokerwatch.messages import RosterData, topics
from brokerwatch.messages.codec import decode

NOTHING_HEARD_S: Final = 5.0
"""Who never heard anything says so after this long."""


REOPEN_RANGE_S: Final = (0.1, 5.0)
"""Waits between two attempts with a fresh socket."""


SHORTEST_PATIENCE_S: Final = 0.5
"""A socket is not given up sooner, however quick the heartbeat: five of them are ordinary silence."""


WAIT_S: Final = 1.0
"""The longest wait of a thread; a message, an expiry or the waker ends it sooner."""


class Hearer(Protocol):
    """What is told of an endpoint: the listener."""

    def station_heard(self, endpoint: str, heard: ReceivedReading, *, changed: bool) -> None: ...

    def station_is_complete(self) -> None: ...


class Station:
    """One endpoint: a socket on a thread of its own, and what was heard there."""

    def __init__(self, endpoint: str, bus: Bus, clock: Clock, listener: Hearer) -> None:
        self._endpoint = endpoint
        self._bus = bus
        self._clock = clock
        self._listener = listener
        self._waker: Waker | None = None  # it holds two descriptors, so it is made when it is needed
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._failure: EndpointUnavailable | None = None
        self._named: dict[int, set[str]] = {}
        """Whom each part of the roster names."""
        self._parts = 0
        """How many parts the roster has; 0: none was heard yet."""
        self._missing: set[str] = set()
        """Who was named and not heard."""
        self._thread = threading.Thread(target=self._run, name="brokerwatch-listener", daemon=True)
        self.ear = Receiver(clock)
        self.undecodable = 0
        self.complete = False

    def start(self) -> None:
        self._waker = Waker()
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self, deadline_s: float) -> bool:
        self._stopping.set()
        if self._waker is None:
            return True
        self._waker.wake()
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def heard(self) -> tuple[ReceivedReading, ...]:
        return tuple(self.ear.heard.copy().values())  # a copy, since the thread may add to it

    def _run(self) -> None:
        waker = self._waker
        if waker is None:
            return  # it was never started
        try:
            prefixes = [topics.ALL_STATES, topics.ROSTER]
            incoming = Subscriber(self._bus, [self._endpoint], prefixes, waker)
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
        heard_s = self._clock.up_s()
        while not self._stopping.is_set():
            now_s = self._clock.up_s()
            wait_s = min(WAIT_S, max(0.0, self.ear.next_expiry_s() - now_s) + 0.001)
            taken = incoming.take(wait_s)
            for topic, bodies in taken.items():
                for body in bodies:
                    patience_s = self._take(topic, body) or patience_s
            if taken:
                heard_s, reopen_in_s = self._clock.up_s(), shortest_s
            for expired in self.ear.expire():
                self._listener.station_heard(self._endpoint, expired, changed=True)
            if self._clock.up_s() - heard_s > patience_s:
                # Some errors end a connection for good: an oversize frame, a refused handshake.
                incoming.reopen()
                patience_s, reopen_in_s = reopen_in_s, min(reopen_in_s * 2, longest_s)
                heard_s = self._clock.up_s()

    def _take(self, topic: str, body: bytes) -> float:
        """Take one message in; return for how long silence is ordinary after it, 0 when nobody knows."""
        try:
            envelope = decode(body)
        except CodecError:
            self.undecodable += 1
            return 0.0
        parts = topic.split("/")
        before = self.ear.heard.get((envelope.stamp.src, parts[4] if len(parts) > 4 else ""))
        heard = self.ear.hear(topic, envelope)
        if isinstance(envelope.data, RosterData) and not self.complete:
            self._learn_names(envelope.data)
        if heard is not None:
            changed = before is None or comparison_key(before.reading) != comparison_key(heard.reading)
            self._listener.station_heard(self._endpoint, heard, changed=changed)
        if not self.complete:
            if heard is not None:
                self._missing.discard(heard.reading.broker)
            self.complete = 0 < self._parts <= len(self._named) and not self._missing
            if self.complete:
                self._listener.station_is_complete()
        return max(SHORTEST_PATIENCE_S, 5 * heartbeat_s(envelope.stamp.ttl_ms / 1_000))

    def _learn_names(self, roster: RosterData) -> None:
        named = {**self._named, roster.part: {reading.broker for reading in roster.readings}}
        # A cluster that started again may have fewer parts.
        self._named = {part: names for part, names in named.items() if part <= roster.parts}
        self._parts = roster.parts
        self._missing = set[str]().union(*self._named.values()) - {broker for _, broker in self.ear.heard}
