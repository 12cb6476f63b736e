"""`Listener`: the readings of a cluster in any other process, without ccxt, actors or a database.

It keeps a board of its own from the health topic, by the rules of `brokerwatch.bus.reception`. A broker is
available only if its newest reading says so and has not expired.
"""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias, overload

from brokerwatch.bus.change_dispatcher import ChangeDispatcher
from brokerwatch.bus.completeness import is_complete
from brokerwatch.bus.curve import ServerKey, clients_of
from brokerwatch.bus.descriptors import require
from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.bus.sockets import CONTEXT_FILES, MARGIN_FILES, Bus
from brokerwatch.bus.station import NEEDS_FILES, Station
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.config.cluster_settings import DEFAULT_HEALTH_ENDPOINT, endpoint_mistake
from brokerwatch.config.curve_keys import KeyPair
from brokerwatch.config.green_threads import refuse_green_threads
from brokerwatch.errors import ConfigError, ListenerStopped, Problem, UnknownBroker
from brokerwatch.health.changes import Change
from brokerwatch.health.merging import Published, merged, remembering
from brokerwatch.messages import Reading
from brokerwatch.routing.objections import Candidate
from brokerwatch.routing.router import Router

GLANCE_S: Final = 0.1
"""How often a reader of changes looks whether the listener stopped."""

_Key: TypeAlias = tuple[str, str, str]
"""An endpoint, the sender there, and the broker that it reports on."""


class Listener:
    """Listens to the health topic of one or several clusters, on one thread per endpoint.

        with Listener("tcp://127.0.0.1:5571") as listener:
            for change in listener.changes():
                print(change.broker, change.after.available)

    `start` and `stop` are for the thread that owns the listener; every other method may be called from any
    thread and takes no answer from the network. Several endpoints may be of one cluster: the newest evidence
    counts, and a veto that any of them has published. When several clusters report on a broker of the same
    name, it is available only if each of them that is still heard says so; the amounts are those that were
    asked for last, and `detail` says where they disagree (`brokerwatch.health.merging`).

    Args:
        *endpoints: health endpoints, `tcp://host:port` or `ipc://path`; one cluster's default when there is
            none. Beyond this machine, `tcp://` needs the two keys below.
        server_key: the public key of the cluster, or the file that has it. Nothing of any other sender is
            believed then. With several endpoints: one for all, or a mapping of each that is encrypted.
        key_file: the file of this program's own key pair, which `brokerwatch keys make` has made and the
            cluster has on its list. Other users must not be able to read it.
        clock: the clock that ages and expiry are measured with. For tests.
        bus: a ZeroMQ context to share. The listener makes and closes its own by default.

    Raises:
        ConfigError: an endpoint is written wrongly, or a key cannot be used.
    """

    def __init__(
        self,
        *endpoints: str,
        server_key: ServerKey | Mapping[str, ServerKey] | None = None,
        key_file: str | os.PathLike[str] | KeyPair | None = None,
        clock: Clock | None = None,
        bus: Bus | None = None,
    ) -> None:
        refuse_green_threads()
        chosen = tuple(dict.fromkeys(endpoints)) or (DEFAULT_HEALTH_ENDPOINT,)
        problems: list[Problem] = []
        self._curves = clients_of(chosen, server_key, key_file, problems)
        problems += [
            Problem("", endpoint, mistake)
            for endpoint in chosen
            if (mistake := endpoint_mistake(endpoint, encrypted=endpoint in self._curves, connects=True))
        ]
        if problems:
            raise ConfigError(tuple(problems))
        self._clock = SystemClock() if clock is None else clock
        self._own_bus = bus is None
        self._bus = Bus() if bus is None else bus
        self._lock = threading.Lock()
        self._newest: dict[_Key, ReceivedReading] = {}
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        """The iterators that the program still holds: one that was dropped gets no more changes."""
        self._known: dict[str, dict[tuple[str, str], _Latest]] = {}
        """Broker to the newest reading that came from each sender over each endpoint."""
        self._readings: dict[str, Reading] = {}
        self._started = False
        self._stopped = False
        self.complete = threading.Event()
        """Set once every endpoint has sent a roster, and then every broker that it names; and where several
        supervisors share a cluster, each of them."""
        self._stations = [
            Station(
                endpoint,
                self._bus,
                self._clock,
                self._curves.get(endpoint),
                on_reading=self._receive,
                on_complete=self._note_completeness,
                on_gone=self._drop,
            )
            for endpoint in chosen
        ]
        self._dispatcher = ChangeDispatcher(self._clock, readings=lambda: tuple(self._readings.values()))
        self.board: Final = HeardBoard(self.readings)
        """The newest reading of each broker, with the methods of a cluster's own board."""
        self.router: Final = Router(self._candidates, self._dispatcher.subscribe, strict_products=False)
        """Chooses a broker for an order, as a cluster's own router does, but without knowing the markets."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Connect and begin to listen. The cluster may be started later.

        Raises:
            EndpointUnavailable: an endpoint cannot be used.
            TooFewDescriptors: this process may not open so many files. Nothing was opened, and it may be
                started again.
            ListenerStopped: the listener was started or stopped before.
        """
        if self._stopped or self._started:
            raise ListenerStopped("a listener can be started once; make a new one")
        require(CONTEXT_FILES + MARGIN_FILES + NEEDS_FILES * len(self._stations), "a listener")
        self._started = True
        try:
            for station in self._stations:
                station.start()
        except BaseException:
            self.stop()
            raise

    def stop(self, deadline_s: float = 2.0) -> None:
        """End the threads, and with them every iterator of `changes` and `stream`. May be called twice.

        Args:
            deadline_s: seconds to wait for each thread.
        """
        if self._stopped:
            return
        self._stopped = True
        ended = [station.stop(deadline_s) for station in self._stations]
        self._dispatcher.close(deadline_s)
        if self._own_bus and all(ended):
            self._bus.close()

    def readings(self) -> Mapping[str, Reading]:
        """The newest reading of each broker, by its name.

        A reading turns unavailable by itself when it is not renewed. Brokers without a reading are missing.
        """
        return self._readings

    def heard(self) -> tuple[ReceivedReading, ...]:
        """The newest reading of each broker of each cluster, with the stamp of its message."""
        return tuple(received for station in self._stations for received in station.readings())

    def received(self, broker: str) -> ReceivedReading | None:
        """The newest reading of one broker, merged where several report on it, with the newest stamp behind.
        None: no reading of a broker of this name arrived yet."""
        with self._lock:
            known, reading = self._known.get(broker), self._readings.get(broker)
            if not known or reading is None:
                return None
            return ReceivedReading(
                reading, max((each.received.stamp for each in known.values()), key=lambda each: each.ts_us)
            )

    def reading(self, broker: str) -> Reading:
        """The newest reading of one broker.

        Raises:
            UnknownBroker: no reading of a broker of this name arrived yet.
        """
        return self.board.reading(broker)

    def is_available(self, broker: str) -> bool:
        """Whether this broker can be trusted right now. False, too, for a broker without a reading."""
        known = self._readings.get(broker)
        return known is not None and known.available

    def heard_ago_s(self) -> float | None:
        """How many seconds ago a message arrived, over whichever endpoint; None: none ever did."""
        heard = [station.heard_s for station in self._stations if station.heard_s is not None]
        return max(0.0, self._clock.up_s() - max(heard)) if heard else None

    @property
    def lost(self) -> int:
        """How many messages are known to be missing. Each has the whole state, so the next one mends it."""
        return sum(station.receiver.lost for station in self._stations)

    @property
    def healed(self) -> int:
        """How many of the lost messages a later one has made up for."""
        return sum(station.receiver.healed for station in self._stations)

    @property
    def undecodable(self) -> int:
        """How many messages were none of brokerwatch's."""
        return sum(station.undecodable for station in self._stations)

    @overload
    def changes(
        self, *, wait_s: None = None, known: bool = False, renewals: bool = False
    ) -> Iterator[Change]: ...

    @overload
    def changes(
        self, *, wait_s: float | None, known: bool = False, renewals: bool = False
    ) -> Iterator[Change | None]: ...

    def changes(
        self, *, wait_s: float | None = None, known: bool = False, renewals: bool = False
    ) -> Iterator[Change | None]:
        """Iterate over each change of state, reason or balance, until the listener stops.

        A slow reader gets only the newest reading of each broker. Readings in between are dropped; the last
        one never is. Order is kept. A reading that expired comes once more, with the reason `nothing_heard`.
        Each call gives an iterator of its own, which waits and is for one thread.

        Args:
            wait_s: give None whenever no reading changed for so many seconds; None waits without an end.
            known: begin with the newest reading of each broker of each cluster that arrived before this call.
            renewals: give each poll too that found nothing new, and each further error of an account that
                is out. `change.renewal` says which it is.

        Returns:
            An iterator over changes, as `Cluster.changes` gives them, each with the stamp of its message.
            When several clusters have a broker of one name, each reading is compared with the previous one
            of its own cluster.
        """
        reader = _Reader(lambda: self._stopped, self._lock, wait_s, renewals=renewals)
        with self._lock:
            if known:
                for key, received in self._newest.items():
                    reader.put(key, None, received, changed=True)
            self._readers.add(reader)
        return reader

    def stream(self, *, renewals: bool = False) -> AsyncGenerator[Change]:
        """Iterate over changes in the running event loop: `async for change in listener.stream()`.

        It begins with the first `async for`. The changes are those of `Cluster.changes`.

        Args:
            renewals: give each poll too that found nothing new; see `changes`.
        """
        return self._dispatcher.stream(renewals=renewals)

    def _candidates(self) -> Iterator[Candidate]:
        # One sender names its brokers in the order of its configuration. Several have no common order.
        for place, reading in enumerate(tuple(self._readings.values())):
            yield Candidate(reading=reading, listed=place)

    def _note_completeness(self) -> None:
        if is_complete(self._stations):
            self.complete.set()

    def _merged(self, known: Mapping[tuple[str, str], _Latest]) -> Reading:
        """What the readings of one broker amount to, which came over several endpoints or from several
        clusters."""
        published: list[Published] = []
        for (endpoint, source), latest in known.items():
            # No cluster has the key of another: what one says in the name of another is not taken for it.
            key = self._curves[endpoint].server_key if endpoint in self._curves else ""
            sender, where = f"{key} {source}", f"{source} at {endpoint}"
            life, reading = latest.received.stamp.epoch, latest.received.reading
            published.append(Published(sender, life, where, reading, latest.known))
        return merged(published, self._clock.now())

    def _receive(self, endpoint: str, received: ReceivedReading, *, changed: bool) -> None:
        """Take a reading from a station, on the station's thread."""
        reading = received.reading
        key = (endpoint, received.stamp.src, reading.broker)
        with self._lock:
            known = self._known.setdefault(reading.broker, {})
            latest = known.get((endpoint, received.stamp.src))
            previous = None if latest is None else latest.received
            balance = None if latest is None else latest.known
            if reading.as_of is not None:
                balance = reading
            elif balance is not None:
                reading = remembering(reading, balance)
                received = ReceivedReading(reading, received.stamp)
            known[endpoint, received.stamp.src] = _Latest(received, balance)
            if len(known) > 1:
                reading = self._merged(known)
            before = self._readings.get(reading.broker)
            if before is not None:
                self._readings[reading.broker] = reading
                self._dispatcher.put(before, reading)
            else:
                # A new key in a dict that another thread iterates over would raise in that thread.
                self._readings = {**self._readings, reading.broker: reading}
            self._newest[key] = received
            for reader in self._readers:
                reader.put(key, previous, received, changed=changed)

    def _drop(self, endpoint: str, source: str, broker: str) -> None:
        """A broker has left its cluster; its last reading said so. On the station's thread."""
        with self._lock:
            self._newest.pop((endpoint, source, broker), None)
            known = self._known.get(broker, {})
            known.pop((endpoint, source), None)
            if not known:
                self._known.pop(broker, None)
                self._readings = {name: one for name, one in self._readings.items() if name != broker}
                return
            before, after = self._readings[broker], self._merged(known)
            self._readings[broker] = after
            self._dispatcher.put(before, after)


@dataclass(frozen=True, slots=True)
class _Latest:
    """What one sender published last of an account."""

    received: ReceivedReading
    known: Reading | None
    """Its newest reading with a balance, which may be of a life before."""


class _Reader(Iterator["Change | None"]):
    """The iterator of one call of `changes`. Of each broker of each cluster only the newest reading waits.

    A queue of all readings would give a slow reader old states after it has seen the newer ones on the board.
    """

    def __init__(
        self, ended: Callable[[], bool], lock: threading.Lock, wait_s: float | None, *, renewals: bool
    ) -> None:
        self._ended = ended
        self._lock = lock
        self._wait_s = wait_s
        self._renewals = renewals
        self._waiting: dict[_Key, tuple[Reading | None, ReceivedReading]] = {}
        """What the program was given last, None where it was given nothing, and the newest."""
        self._keys: queue.SimpleQueue[_Key] = queue.SimpleQueue()
        """The keys of `_waiting`, in the order in which they came."""

    def put(
        self, key: _Key, previous: ReceivedReading | None, received: ReceivedReading, *, changed: bool
    ) -> None:
        """Add a reading. To be called under the lock under which the listener writes its readings.

        Args:
            key: what `received` is of.
            previous: the reading before it; None: `received` is the first one.
            received: the newest reading.
            changed: False when it differs from the previous one in its ages alone.
        """
        waiting = self._waiting.get(key)
        before = None if previous is None else previous.reading
        if waiting is not None:
            # Also a renewal replaces what waits, which would otherwise expire before it is taken.
            self._waiting[key] = waiting[0], received
        elif changed and self._tells(before, received.reading):
            self._waiting[key] = before, received
            self._keys.put(key)

    def _tells(self, before: Reading | None, after: Reading) -> bool:
        return self._renewals or before is None or not Change(before, after).renewal

    def __next__(self) -> Change | None:
        while not self._ended():
            try:
                key = self._keys.get(timeout=GLANCE_S if self._wait_s is None else self._wait_s)
            except queue.Empty:
                if self._wait_s is not None:
                    return None
            else:
                with self._lock:
                    before, received = self._waiting.pop(key)
                if self._tells(before, received.reading):  # it may be again as it was
                    return Change(before or received.reading, received.reading, received.stamp)
        raise StopIteration


class HeardBoard:
    """The readings of a listener, with the methods of a cluster's own board. For any thread."""

    def __init__(self, readings: Callable[[], Mapping[str, Reading]]) -> None:
        self._readings = readings

    def __contains__(self, broker: str) -> bool:
        return broker in self._readings()

    def reading(self, broker: str) -> Reading:
        """The newest reading of one broker. Raises UnknownBroker when none arrived yet."""
        try:
            return self._readings()[broker]
        except KeyError:
            raise UnknownBroker(f"nothing was heard of a broker named {broker!r}") from None

    def is_available(self, broker: str) -> bool:
        """Whether this broker can be trusted right now. Raises UnknownBroker when no reading arrived yet."""
        return self.reading(broker).available

    def readings(self) -> tuple[Reading, ...]:
        """The newest reading of every broker, in the order in which the brokers were first seen."""
        return tuple(self._readings().values())
