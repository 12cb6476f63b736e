"""How many events a second the supervisor takes, beside a loop that only receives and unpacks them.

Another process sends the same bytes to both as fast as it can: whole states of a hundred brokers, each a
balance that was just read. brokerwatch reads them with the real inbox, which keeps the newest state of each
broker. It is done when the supervisor has published the last state of every broker on the real health topic.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgpack
import pykka
import zmq

from benchmarks.elsewhere import Elsewhere, answer, heard
from benchmarks.measure import Numbers, Row, run
from brokerwatch.actors.base import wait_for_end
from brokerwatch.actors.board import Board, Slot
from brokerwatch.actors.protocol import Drain, Life
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.actors.supervisor_context import SupervisorContext
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.publishing import HealthPublishing, Publishing
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import Instant, SystemClock
from brokerwatch.cluster.timers import Timers
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.gateway.loop import LoopThread
from brokerwatch.health.reading import evidence, ttl_s
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.health.supervision import View
from brokerwatch.messages import (
    Balance,
    Fault,
    FaultKind,
    Holding,
    MessageType,
    Reading,
    Roster,
    Stamp,
    topics,
)
from brokerwatch.messages.codec import encode
from brokerwatch.messages.envelope import Envelope
from brokerwatch.storage.journal import Journal

ROWS: Final = (
    Row("bare", "a bare loop of recv and unpackb", "events/s"),
    Row("ours", "inbox and supervisor", "events/s", over="bare", at_least=1.0),
    Row("flips_bare", "the bare loop, every eighth event a flip", "events/s", over="bare"),
    Row("flips", "inbox and supervisor, every eighth event a flip", "events/s", over="flips_bare"),
    Row("flips", "the same against ours without flips", "events/s", over="ours"),
    Row("decoded", "states that were decoded, of those that came", "%"),
    Row("told", "readings that were published, of the events that came", "%"),
)

_msgpack: Final[Any] = msgpack  # it has no annotations
BROKERS: Final = 100
EPOCH: Final = "1800000000000000-0123abcd"
HEARTBEAT_S: Final = 1.0
PATIENCE_S: Final = 120.0


def states(events: int, *, flips: bool) -> list[tuple[bytes, bytes]]:
    """Topic and body of each event. With `flips` each broker in turn is out in one of its eight events."""
    clock, found = SystemClock(), list[tuple[bytes, bytes]]()
    now = clock.now()
    specs = [BrokerSpec(f"broker-{number}", exchange="kraken") for number in range(BROKERS)]
    healths = [Health.begin(now, threshold=1) for _ in specs]
    for number in range(events):
        which = number % BROKERS
        at = Instant(now.wall_us + number, now.up_s + number / 1e6)
        if flips and (number // BROKERS + which) % 8 == 0 and number < events - BROKERS:
            healths[which] = healths[which].failed(Fault(FaultKind.EXCHANGE_DOWN, "HTTP 503"), at)
            kind, topic = MessageType.FETCH_FAILED, topics.error
        else:
            free = Decimal("8250.13") + number
            held = {
                code: Holding(free=free, used=Decimal(0), total=free)
                for code in ("USD", "BTC", "ETH", "USDT")
            }
            healths[which] = healths[which].seen(Balance(holdings=held, as_of=at), at)
            kind, topic = MessageType.BALANCE_SEEN, topics.balance
        spec = specs[which]
        reading = evidence(spec, EPOCH, healths[which], clock.now(), clock, HEARTBEAT_S)
        stamp = Stamp(
            src=f"broker/kraken/{spec.name}",
            epoch=EPOCH,
            seq=number + 1,
            ts_us=at.wall_us,
            up_us=1,
            ttl_ms=5_000,
        )
        body = encode(Envelope(type=kind, stamp=stamp, data=reading.data()))
        found.append((topic(spec.exchange, spec.name).encode(), body))
    return found


def publisher(arguments: list[str]) -> None:
    """The other process: sends all its events, once per request, to the subscriber at the endpoint."""
    del arguments
    made: dict[bool, list[tuple[bytes, bytes]]] = {}
    for words in heard():
        flips = bool(words["flips"])
        if flips not in made:
            made[flips] = states(words["events"], flips=flips)
        context = zmq.Context()
        out = context.socket(zmq.XPUB)
        out.sndhwm = 0  # nothing is dropped: it is what is received that is counted
        out.connect(words["endpoint"])
        out.recv()  # a subscription
        answer(time.monotonic_ns())
        for message in made[flips]:
            out.send_multipart(message, copy=True)
        out.close(linger=-1)
        context.term()
        answer(time.monotonic_ns())


class Absent(pykka.ThreadingActor):
    """Stands for the brokers' actors, which are in another process."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        """Ignore it."""


class Counted:
    """The real health topic, and how far every broker has come on it."""

    def __init__(self, inner: HealthPublishing, last: int) -> None:
        self._inner = inner
        self._last = last
        self._open = {f"broker-{number}" for number in range(BROKERS)}
        self.told = 0
        self.ended_ns = 0
        self.ended = threading.Event()

    def publish(self, reading: Reading) -> None:
        """Publish it; the last word of the last broker is the end."""
        self._inner.publish(reading)
        self.told += 1
        if reading.version >= self._last:
            self._open.discard(reading.broker)
            if not self._open and not self.ended_ns:
                self.ended_ns = time.monotonic_ns()
                self.ended.set()

    def farewell(self, reading: Reading) -> None:
        """No broker leaves."""

    def leave(self, readings: Iterable[Reading]) -> None:
        """Nor does the supervisor."""

    def publish_part(self, part: int, roster: Callable[[], Roster]) -> None:
        """Publish it."""
        self._inner.publish_part(part, roster)


def supervised(other: Elsewhere, endpoint: str, events: int, *, flips: bool) -> tuple[float, float, float]:
    """Events a second, the share that was decoded, and the share that was published."""
    clock = SystemClock()
    now = clock.now()
    bus, loop, stand_in = Bus(), LoopThread("timers"), Absent.start()
    loop.start()
    inbox = Inbox(bus, endpoint, clock, ttl_s(HEARTBEAT_S))
    out = Publisher(bus, "tcp://127.0.0.1:*", "health", bind=True)
    inbox.start()
    out.start()
    specs = [BrokerSpec(f"broker-{number}", exchange="kraken") for number in range(BROKERS)]
    health = Health.begin(now)
    blank = {spec.name: evidence(spec, "", health, now, clock, HEARTBEAT_S) for spec in specs}
    voice = Publishing(out, "supervisor/main", EPOCH, clock, ttl_s(HEARTBEAT_S))
    topic = Counted(HealthPublishing(voice, publish_balances=True), events // BROKERS)

    def no_birth(broker: str) -> Life:
        raise RuntimeError(f"{broker} was taken for dead")

    supervisor = HealthSupervisor.start(
        {name: View(reading, now.up_s) for name, reading in blank.items()},
        {spec.name: Life(EPOCH, stand_in) for spec in specs},
        SupervisorContext(
            start_broker=no_birth,
            take_newest=inbox.take,
            topic=topic,
            journal=Journal(None),
            board=Board(Slot(reading, health, NO_VETOES) for reading in blank.values()),
            alarms=Timers(loop),
            clock=clock,
            heartbeat_s=HEARTBEAT_S,
        ),
        print,
    )
    inbox.call(lambda: supervisor.tell(Drain()))
    began_ns = other.ask(endpoint=endpoint, events=events, flips=flips)
    if not topic.ended.wait(PATIENCE_S):
        raise RuntimeError("the last states never came out")
    other.hear()
    decoded = events - inbox.superseded
    wait_for_end(supervisor, 5.0)
    for part in (inbox, out, loop):
        part.stop(5.0)
    bus.close()
    wait_for_end(stand_in, 5.0)
    return events / ((topic.ended_ns - began_ns) / 1e9), decoded / events, topic.told / events


def bare(other: Elsewhere, endpoint: str, events: int, *, flips: bool) -> float:
    """Events a second of a loop that does nothing else."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    incoming = context.socket(zmq.SUB)
    incoming.rcvhwm = 0
    incoming.subscribe(b"")
    incoming.bind(endpoint)
    other.tell(endpoint=endpoint, events=events, flips=flips)
    # It is while its owner polls that a bound socket sends its subscription.
    for _ in range(events):
        _msgpack.unpackb(incoming.recv_multipart()[1])
    ended_ns = time.monotonic_ns()
    began_ns: int = other.hear()
    other.hear()
    incoming.close()
    context.term()
    return events / ((ended_ns - began_ns) / 1e9)


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """Events a second of each row."""
    events = 20 * BROKERS if quick else 400 * BROKERS
    with tempfile.TemporaryDirectory() as folder, Elsewhere("throughput", "publisher") as other:

        def endpoint(name: str) -> str:
            return f"ipc://{Path(folder) / name}"

        plain = bare(other, endpoint("a"), events, flips=False)
        ours, decoded, told = supervised(other, endpoint("b"), events, flips=False)
        flips_bare = bare(other, endpoint("c"), events, flips=True)
        flips, _, _ = supervised(other, endpoint("d"), events, flips=True)
    return {
        "bare": plain,
        "ours": ours,
        "flips_bare": flips_bare,
        "flips": flips,
        "decoded": decoded * 100,
        "told": told * 100,
    }


if __name__ == "__main__":
    run(measure, {"publisher": publisher})
