"""The external subscriber: what a process that only listens needs, without ccxt and without actors.

It keeps a board of its own from the health topic, by the rules of reception.py. A broker is
available only if it was heard, is not expired, and was said to be available.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, Self

from brokerwatch.bus import Bus, Subscriber, Waker
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.config import DEFAULT_HEALTH_ENDPOINT, endpoint_mistake
from brokerwatch.errors import CodecError, ConfigError, EndpointUnavailable, Problem, UnknownBroker
from brokerwatch.messages import Reading, topics
from brokerwatch.messages.codec import decode
from brokerwatch.reception import Ear, Heard
from brokerwatch.view import told

NOTHING_HEARD_S: Final = 5.0
"""Who never heard anything says so after this long."""
CHANGES_KEPT: Final = 10_000
"""Changes that wait for a reader who does not keep up; then the oldest go."""
REOPEN_RANGE_S: Final = (0.1, 5.0)
"""Waits between two attempts with a fresh socket."""
WAIT_S: Final = 1.0
"""The longest wait of the thread; a message, an expiry or the waker ends it sooner."""
GLANCE_S: Final = 0.1
"""How often a reader of changes looks whether the listener stopped."""


class Listener:
    """Listens to the health topic of one or several clusters, on a thread of its own.

    with Listener("tcp://127.0.0.1:5571") as listener:
        for heard in listener.changes():
            print(heard.reading.broker, heard.reading.available)
    """

    def __init__(self, *endpoints: str, clock: Clock | None = None, bus: Bus | None = None) -> None:
        self._endpoints = endpoints or (DEFAULT_HEALTH_ENDPOINT,)
        problems = [
            Problem("", endpoint, mistake)
            for endpoint in self._endpoints
            if (mistake := endpoint_mistake(endpoint))
        ]
        if problems:
            raise ConfigError(tuple(problems))
        self._clock = SystemClock() if clock is None else clock
        self._bus = bus
        self._ear = Ear(self._clock)
        self._readings: dict[str, Reading] = {}
        self._named: set[str] | None = None
        self._changes: queue.Queue[Heard | None] = queue.Queue(CHANGES_KEPT)
        self._stopping = threading.Event()
        self._waker = Waker()
        self._failure: EndpointUnavailable | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="brokerwatch-listener", daemon=True)
        self.undecodable = 0
        """Messages that were none of ours."""
        self.complete = threading.Event()
        """Set once a roster was heard and then every broker that it names."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Connect and begin to listen. Nobody needs to be there yet."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self, deadline_s: float = 2.0) -> None:
        """End the thread; `changes` ends too."""
        self._stopping.set()
        self._waker.wake()
        if self._thread.ident is not None:
            self._thread.join(deadline_s)

    def readings(self) -> Mapping[str, Reading]:
        """The newest reading of each broker; each turns unavailable by itself when it is not renewed."""
        return self._readings

    def heard(self) -> tuple[Heard, ...]:
        """The newest reading of each broker, with the message that brought it."""
        return tuple(self._ear.heard.values())

    def reading(self, broker: str) -> Reading:
        """One broker's newest reading. Raises UnknownBroker as long as it was never heard."""
        try:
            return self._readings[broker]
        except KeyError:
            raise UnknownBroker(f"nothing was heard of a broker named {broker!r}") from None

    def is_available(self, broker: str) -> bool:
        """Whether this broker was heard, is not expired, and is said to be available."""
        known = self._readings.get(broker)
        return known is not None and known.available

    @property
    def lost(self) -> int:
        """Messages that are known to be missing; the next one healed what they would have said."""
        return self._ear.lost

    def changes(self, *, wait_s: float | None = None) -> Iterator[Heard | None]:
        """Each reading that differs from the one before, from now on, until the listener stops.

        With `wait_s`, a None whenever so long nothing changed. A reading that ran out comes with
        the reason `nothing_heard`.
        """
        while not self._stopping.is_set():
            try:
                heard = self._changes.get(timeout=GLANCE_S if wait_s is None else wait_s)
            except queue.Empty:
                if wait_s is not None:
                    yield None
                continue
            if heard is not None:
                yield heard

    def _run(self) -> None:
        bus = Bus() if self._bus is None else self._bus
        try:
            try:
                incoming = Subscriber(bus, self._endpoints, [topics.ALL_STATES, topics.ROSTER], self._waker)
            except EndpointUnavailable as error:
                self._failure = error
                return
            finally:
                self._ready.set()
            try:
                self._listen(incoming)
            finally:
                incoming.close()
        finally:
            self._waker.close()
            if self._bus is None:
                bus.close()

    def _listen(self, incoming: Subscriber) -> None:
        shortest_s, longest_s = REOPEN_RANGE_S
        patience_s, reopen_in_s = NOTHING_HEARD_S, shortest_s
        heard_s = self._clock.up_s()
        while not self._stopping.is_set():
            now_s = self._clock.up_s()
            wait_s = min(WAIT_S, max(0.0, self._ear.next_expiry_s() - now_s) + 0.001)
            taken = incoming.take(wait_s)
            for topic, bodies in taken.items():
                # Whole state: of many messages of one topic the last says all.
                patience_s = self._take(topic, bodies[-1]) or patience_s
            if taken:
                heard_s, reopen_in_s = self._clock.up_s(), shortest_s
            self._turn()
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
        before = self._ear.heard.get((envelope.stamp.src, _broker(topic)))
        heard = self._ear.hear(topic, envelope)
        if heard is not None:
            self._keep(heard.reading)
            if before is None or told(before.reading) != told(heard.reading):
                self._tell(heard)
        elif topic == topics.ROSTER:
            self._named = {reading.broker for reading in getattr(envelope.data, "readings", ())}
        if self._named is not None and self._named <= self._readings.keys():
            self.complete.set()
        # Five heartbeats; the time to live is four of them and a second.
        return max(0.5, (envelope.stamp.ttl_ms / 1_000 - 1.0) * 5 / 4)

    def _turn(self) -> None:
        for heard in self._ear.expire():
            self._keep(heard.reading)
            self._tell(heard)

    def _keep(self, reading: Reading) -> None:
        if len(self._endpoints) > 1:
            # Two clusters may both have a broker of this name: it is as good as the worse of the two.
            named = [
                heard.reading for heard in self._ear.heard.values() if heard.reading.broker == reading.broker
            ]
            reading = next((one for one in named if not one.available), reading)
        if reading.broker in self._readings:
            self._readings[reading.broker] = reading
        else:
            # A new key in a dict that somebody iterates over would be an error in his thread.
            self._readings = {**self._readings, reading.broker: reading}

    def _tell(self, heard: Heard) -> None:
        while True:
            try:
                self._changes.put_nowait(heard)
            except queue.Full:
                self._changes.get_nowait()
            else:
                return


def _broker(topic: str) -> str:
    parts = topic.split("/")
    return parts[4] if len(parts) > 4 else ""
