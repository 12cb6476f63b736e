"""The external subscriber: what a process that only listens needs, without ccxt and without actors.

It keeps a board of its own from the health topic, by the rules of reception.py. A broker is
available only if it was heard, is not expired, and was said to be available.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self, TypeAlias

from brokerwatch.bus.change_dispatcher import ChangeDispatcher
from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.bus.sockets import Bus
from brokerwatch.bus.station import Station
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.config.cluster_settings import DEFAULT_HEALTH_ENDPOINT, endpoint_mistake
from brokerwatch.errors import ConfigError, ListenerStopped, Problem, UnknownBroker
from brokerwatch.health.changes import Change
from brokerwatch.messages import Reading
from brokerwatch.routing.objections import Candidate
from brokerwatch.routing.router import Router

GLANCE_S: Final = 0.1
"""How often a reader of changes looks whether the listener stopped."""

_Key: TypeAlias = tuple[str, str, str]
"""An endpoint, who speaks there, and the broker that he speaks of."""


class Listener:
    """Listens to the health topic of one or several clusters, on a thread for each endpoint.

        with Listener("tcp://127.0.0.1:5571") as listener:
            for heard in listener.changes():
                print(heard.reading.broker, heard.reading.available)

    When two clusters have a broker of one name, it is as good as the worse of the two.
    """

    def __init__(self, *endpoints: str, clock: Clock | None = None, bus: Bus | None = None) -> None:
        chosen = tuple(dict.fromkeys(endpoints)) or (DEFAULT_HEALTH_ENDPOINT,)
        problems = [
            Problem("", endpoint, mistake) for endpoint in chosen if (mistake := endpoint_mistake(endpoint))
        ]
        if problems:
            raise ConfigError(tuple(problems))
        self._clock = SystemClock() if clock is None else clock
        self._own_bus = bus is None
        self._bus = Bus() if bus is None else bus
        self._lock = threading.Lock()
        self._newest: dict[_Key, ReceivedReading] = {}
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        """Those who were not let go of: whoever drops the loop over his changes is not told any more."""
        self._readings: dict[str, Reading] = {}
        self._started = False
        self._stopped = False
        self.complete = threading.Event()
        """Set once every endpoint has sent a roster, and then every broker that it names."""
        self._stations = [Station(endpoint, self._bus, self._clock, self) for endpoint in chosen]
        self._told = ChangeDispatcher(self._clock, readings=lambda: tuple(self._readings.values()))
        self.board: Final = HeardBoard(self.readings)
        """Every broker's newest reading, as a cluster's own board has it."""
        self.router: Final = Router(self._candidates, self._told, strict_products=False)
        """Which broker to use, as a cluster's own router says; markets are not known here."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Connect and begin to listen, once. Nobody needs to be there yet. Raises EndpointUnavailable."""
        if self._stopped or self._started:
            raise ListenerStopped("a listener can be started once; make a new one")
        self._started = True
        try:
            for station in self._stations:
                station.start()
        except BaseException:
            self.stop()
            raise

    def stop(self, deadline_s: float = 2.0) -> None:
        """End the threads; `changes` ends too. May be called twice."""
        if self._stopped:
            return
        self._stopped = True
        ended = [station.stop(deadline_s) for station in self._stations]
        self._told.close(deadline_s)
        if self._own_bus and all(ended):
            self._bus.close()

    def readings(self) -> Mapping[str, Reading]:
        """The newest reading of each broker; each turns unavailable by itself when it is not renewed."""
        return self._readings

    def heard(self) -> tuple[ReceivedReading, ...]:
        """The newest reading of each broker of each cluster, with the message that brought it."""
        return tuple(heard for station in self._stations for heard in station.heard())

    def reading(self, broker: str) -> Reading:
        """One broker's newest reading. Raises UnknownBroker as long as it was never heard."""
        return self.board.reading(broker)

    def is_available(self, broker: str) -> bool:
        """Whether this broker was heard, is not expired, and is said to be available."""
        known = self._readings.get(broker)
        return known is not None and known.available

    @property
    def lost(self) -> int:
        """Messages that are known to be missing; the next one healed what they would have said."""
        return sum(station.ear.lost for station in self._stations)

    @property
    def undecodable(self) -> int:
        """Messages that were none of ours."""
        return sum(station.undecodable for station in self._stations)

    def changes(
        self, *, wait_s: float | None = None, known: bool = False
    ) -> Iterator[ReceivedReading | None]:
        """Each reading from this call on that differs from the one before, until the listener stops.

        With `known`, first the newest of each broker of each cluster that was heard before. Who is slow is
        told the newest of each: he misses what lay between and never the outcome, and nothing is told that
        is older than what he could read by then. With `wait_s`, a None whenever so long nothing changed. A
        reading that ran out comes with the reason `nothing_heard`. Each call gives a loop of its own.
        """
        reader = _Reader(lambda: self._stopped, self._lock, wait_s)
        with self._lock:
            if known:
                for key, heard in self._newest.items():
                    reader.put(key, heard, changed=True)
            self._readers.add(reader)
        return reader

    def stream(self) -> AsyncGenerator[Change]:
        """Each change of a reading from the first `async for` on, in the running event loop, as
        `Cluster.changes` tells it: `async for change in listener.stream()`."""
        return self._told.stream()

    def _candidates(self) -> Iterator[Candidate]:
        # A sender names its brokers in the order of its configuration; of several senders nobody knows one.
        for place, reading in enumerate(tuple(self._readings.values())):
            yield Candidate(reading=reading, listed=place)

    def station_is_complete(self) -> None:
        """A station has heard everybody whom its roster names."""
        if all(station.complete for station in self._stations):
            self.complete.set()

    def station_heard(self, endpoint: str, heard: ReceivedReading, *, changed: bool) -> None:
        """The station of an endpoint has something new. Called on its thread."""
        reading = heard.reading
        key = (endpoint, heard.stamp.src, reading.broker)
        with self._lock:
            if len(self._stations) > 1:
                named = [one.reading for one in self.heard() if one.reading.broker == reading.broker]
                reading = next((one for one in named if not one.available), reading)
            before = self._readings.get(reading.broker)
            if before is not None:
                self._readings[reading.broker] = reading
                self._told.put(before, reading)
            else:
                # A new key in a dict that somebody iterates over would be an error in his thread.
                self._readings = {**self._readings, reading.broker: reading}
            self._newest[key] = heard
            for reader in self._readers:
                reader.put(key, heard, changed=changed)


class _Reader(Iterator["ReceivedReading | None"]):
    """What waits for one reader of changes: of each broker of each cluster only the newest, or he would be
    told of a time that is over after he saw what came of it."""

    def __init__(self, ended: Callable[[], bool], lock: threading.Lock, wait_s: float | None) -> None:
        self._ended = ended
        self._lock = lock
        self._wait_s = wait_s
        self._untaken: dict[_Key, ReceivedReading] = {}
        self._called: queue.SimpleQueue[_Key] = queue.SimpleQueue()
        """The keys of what waits, in the order in which they began to."""

    def put(self, key: _Key, heard: ReceivedReading, *, changed: bool) -> None:
        """Something was heard. Under the lock, under which the readings are written too."""
        waits = key in self._untaken
        if changed or waits:  # what waits is renewed, or it would run out before it is taken
            self._untaken[key] = heard
        if changed and not waits:
            self._called.put(key)

    def __next__(self) -> ReceivedReading | None:
        while not self._ended():
            try:
                key = self._called.get(timeout=GLANCE_S if self._wait_s is None else self._wait_s)
            except queue.Empty:
                if self._wait_s is not None:
                    return None
            else:
                with self._lock:
                    return self._untaken.pop(key)
        raise StopIteration


class HeardBoard:
    """What was heard, with the questions of a cluster's own board."""

    def __init__(self, readings: Callable[[], Mapping[str, Reading]]) -> None:
        self._readings = readings

    def __contains__(self, broker: str) -> bool:
        return broker in self._readings()

    def reading(self, broker: str) -> Reading:
        """One broker's reading. Raises UnknownBroker as long as it was never heard."""
        try:
            return self._readings()[broker]
        except KeyError:
            raise UnknownBroker(f"nothing was heard of a broker named {broker!r}") from None

    def is_available(self, broker: str) -> bool:
        """Whether this broker can be trusted right now. Raises UnknownBroker when it was never heard."""
        return self.reading(broker).available

    def readings(self) -> tuple[Reading, ...]:
        """Every broker that was heard, in the order in which they were."""
        return tuple(self._readings().values())
