"""How soon another process knows of an outage: from an account's third error to `available` False there.

The clock starts where the account's source raises for the third time, in the trader's process, and stops
where a consumer of `Listener.changes()` holds the reading; both read CLOCK_MONOTONIC, which is one for the
machine.
Beside a CPU-bound thread it starts where the exchange, in the other process, sends its third refusal:
the wait for the interpreter, before anything of ours can run, is what such a thread costs.
Beside it two relays in bare pyzmq carry bytes of the same length by the same two sockets: one with as many
threads as it needs, one that hands them from thread to thread as often as we do.
"""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import zmq

from benchmarks.elsewhere import Elsewhere, answer, heard
from benchmarks.measure import Numbers, Row, run
from brokerwatch.bus.listener import Listener
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.messages import MessageType, Stamp
from brokerwatch.messages.codec import encode
from brokerwatch.messages.envelope import Envelope

ROWS: Final = (
    Row("relay", "two bare hops: source → relay → subscriber, p50", "ms"),
    Row("handed", "the same with our hand-offs between threads, p50", "ms", over="relay"),
    Row("ours", "third error → `available` False, p50", "ms", over="handed", at_most=1.6),
    Row("ours", "the same against the two bare hops", "ms", over="relay"),
    Row("ours_p99", "third error → `available` False, p99", "ms", over="ours"),
    Row("pace", "events a second while this was measured", "1/s"),
    Row("busy_relay", "two bare hops beside a CPU-bound thread, p50", "ms", over="relay"),
    Row("busy_handed", "with our hand-offs beside a CPU-bound thread, p50", "ms", over="busy_relay"),
    Row("wire", "third refusal leaves the exchange → `available` False, p50", "ms", over="ours"),
    Row("busy", "the same beside a CPU-bound thread, p50", "ms", over="wire"),
    Row("busy_p99", "the same, p99", "ms", over="busy"),
    Row("switched", "the same with `sys.setswitchinterval(0.0002)`, p50", "ms", over="wire"),
    Row("switched_p99", "the same, p99", "ms", over="switched"),
)

POLL_S: Final = 0.02
BETWEEN_S: Final = 0.02
"""Between the end of one event and the beginning of the next."""
QUICKER_SWITCH_S: Final = 0.0002
ERRORS: Final = 3


class Outage(Exception):
    """What the account answers with while it is down."""


class Down:
    """An account whose exchange refuses while it is told to, and which notes when the third time was."""

    def __init__(self) -> None:
        self.failing = False
        self.third_ns = 0
        self.port = 0
        """Where the exchange is; 0: there is none yet, and the account answers by itself."""
        self._errors = 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __call__(self) -> Mapping[str, str]:
        """Its balance."""
        self._errors = self._errors + 1 if self.failing else 0
        if self.port:
            await self._ask(b"%d\n" % min(self._errors, ERRORS + 1))
        if self._errors == ERRORS:
            self.third_ns = time.monotonic_ns()
        if self._errors:
            raise Outage("503 Service Unavailable")
        return {"USD": "8250.13", "BTC": "0.3512", "ETH": "4.2", "USDT": "120.5"}

    async def _ask(self, question: bytes) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(question)
        await reader.readline()


class Relay:
    """Two hops in bare pyzmq: a source that publishes within the process, and a relay that publishes outside.

    With `handed` the source and the relay each have a socket's thread that is woken by a byte, and what comes
    in goes through a queue to a thread that decides: that is how often brokerwatch changes threads.
    """

    def __init__(self, body: bytes, *, handed: bool) -> None:
        self._body = body
        self._context = zmq.Context()
        self._context.linger = 0
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._wakers: list[socket.socket] = []
        self._queues: list[queue.SimpleQueue[bytes]] = []
        self._send: Callable[[bytes], object]
        inner = f"inproc://relay-{handed}"
        incoming = self._context.socket(zmq.SUB)
        incoming.subscribe(b"")
        incoming.rcvtimeo = 200
        incoming.bind(inner)
        out = self._context.socket(zmq.XPUB)
        self.endpoint = f"tcp://127.0.0.1:{out.bind_to_random_port('tcp://127.0.0.1')}"
        source = self._context.socket(zmq.PUB)
        source.connect(inner)
        if handed:
            # Source, queue, actor, waker, publisher, inproc, reader, queue, supervisor, waker, publisher.
            send_outside, send_inside = self._woken(out), self._woken(source)
            decide = self._queued(send_outside)
            self._start(lambda: self._read(incoming, decide))
            self._send = self._queued(send_inside)
        else:
            self._start(lambda: self._read(incoming, partial(_publish, out)))
            self._send = partial(_publish, source)
        self._sockets = (incoming, out, source)

    def send(self) -> int:
        """Send once; returns the nanosecond at which that began."""
        began_ns = time.monotonic_ns()
        self._send(self._body)
        return began_ns

    def close(self) -> None:
        """End the threads, then the sockets."""
        self._stopping = True
        for waiting in self._queues:
            waiting.put(b"")
        for waker in self._wakers:
            waker.send(b"\0")
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()
        for waker in self._wakers:
            waker.close()
        self._context.term()

    def _start(self, target: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=target, daemon=True))
        self._threads[-1].start()

    def _read(self, incoming: zmq.Socket[bytes], give: Callable[[bytes], object]) -> None:
        while not self._stopping:
            try:
                give(incoming.recv_multipart()[1])
            except zmq.Again:
                continue

    def _queued(self, give: Callable[[bytes], object]) -> Callable[[bytes], object]:
        waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._queues.append(waiting)

        def pass_on() -> None:
            while body := waiting.get():
                give(body)

        self._start(pass_on)
        return waiting.put

    def _woken(self, out: zmq.Socket[bytes]) -> Callable[[bytes], object]:
        waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        ears, mouth = socket.socketpair()
        self._wakers += [mouth, ears]

        def pass_on() -> None:
            poller = zmq.Poller()
            poller.register(ears, zmq.POLLIN)
            while not self._stopping:
                poller.poll(200)
                ears.recv(4_096)
                while not waiting.empty():
                    _publish(out, waiting.get())

        def give(body: bytes) -> None:
            waiting.put(body)
            mouth.send(b"\0")

        self._start(pass_on)
        return give


def _publish(out: zmq.Socket[bytes], body: bytes) -> None:
    out.send_multipart((b"relay/", body))


def subscriber(arguments: list[str]) -> None:
    """The other process: says when it heard of an outage or of a relayed message."""
    del arguments
    where = next(heard())
    said = threading.Lock()

    def say(kind: str, at_ns: int) -> None:
        with said:
            answer([kind, at_ns])

    def hear_relay(name: str, *, handed: bool) -> None:
        context = zmq.Context()
        incoming = context.socket(zmq.SUB)
        incoming.subscribe(b"")
        incoming.connect(where[name])
        say("connected", 0)
        arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()

        def read() -> None:
            while True:
                arrived.put(incoming.recv_multipart()[1])

        if handed:
            threading.Thread(target=read, daemon=True).start()
        while True:
            if handed:
                arrived.get()
            else:
                incoming.recv_multipart()
            say(name, time.monotonic_ns())

    def hear_changes() -> None:
        available = False
        for change in listener.changes(known=True):
            if change.after.available != available:
                at_ns = time.monotonic_ns()
                available = not available
                say("available" if available else "unavailable", at_ns)

    def refuse() -> None:
        connection, _ = exchange.accept()
        with connection, connection.makefile("rb") as questions:
            for question in questions:
                at_ns = time.monotonic_ns()
                connection.send(b"no\n")
                if int(question) == ERRORS:
                    say("refused", at_ns)

    exchange = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=refuse, daemon=True).start()
    say("exchange", exchange.getsockname()[1])
    with Listener(where["health"]) as listener:
        threading.Thread(target=hear_relay, args=("relay",), kwargs={"handed": False}, daemon=True).start()
        threading.Thread(target=hear_relay, args=("handed",), kwargs={"handed": True}, daemon=True).start()
        threading.Thread(target=hear_changes, daemon=True).start()
        for _ in heard():
            pass
    os._exit(0)  # the daemon threads wait in sockets that must not be closed under them


def await_words(other: Elsewhere, *wanted: str) -> list[int]:
    """Hear until each of these was said; returns when, in nanoseconds."""
    found: dict[str, int] = {}
    while len(found) < len(wanted):
        kind, at_ns = other.hear()
        if kind in wanted:
            found[kind] = int(at_ns)
    return [found[kind] for kind in wanted]


@contextmanager
def busy(switch_s: float | None = None) -> Generator[None]:
    """Meanwhile a thread of this process computes without end."""
    stopping = False

    def compute() -> None:
        number = 0
        while not stopping:
            number = (number * 31 + 7) % 1_000_003

    usual_s = sys.getswitchinterval()
    if switch_s is not None:
        sys.setswitchinterval(switch_s)
    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping = True
        thread.join()
        sys.setswitchinterval(usual_s)


def p(values: list[float], share: float) -> float:
    """The value below which so many of them lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """Milliseconds of each row."""
    events, busy_events = (3, 2) if quick else (150, 60)
    down = Down()
    settings = ClusterSettings(remember=False, health_endpoint="tcp://127.0.0.1:*")
    with (
        Cluster([BrokerSpec("account", fetch=down, poll_interval_s=POLL_S)], settings) as cluster,
        Elsewhere("event", "subscriber") as other,
    ):
        reading = cluster.reading("account")
        stamp = Stamp(
            src="supervisor/main", epoch=reading.broker_epoch, seq=1, ts_us=1, up_us=1, ttl_ms=5_000
        )
        body = encode(Envelope(type=MessageType.READING, stamp=stamp, data=reading.data()))
        relays = {"relay": Relay(body, handed=False), "handed": Relay(body, handed=True)}
        other.tell(health=cluster.health_endpoint, **{name: relay.endpoint for name, relay in relays.items()})
        for _ in range(4):  # in whatever order
            kind, port = other.hear()
            if kind == "exchange":
                down.port = port
        time.sleep(0.5)  # a connection that is young drops what it is given

        def outage() -> tuple[float, float]:
            down.failing = True
            refused_ns, heard_ns = await_words(other, "refused", "unavailable")
            third_ns, down.failing = down.third_ns, False
            await_words(other, "available")
            return (heard_ns - third_ns) / 1e6, (heard_ns - refused_ns) / 1e6

        def relayed(name: str) -> float:
            began_ns = relays[name].send()
            return (await_words(other, name)[0] - began_ns) / 1e6

        def series(count: int) -> dict[str, list[float]]:
            found: dict[str, list[float]] = {"ours": [], "wire": [], "relay": [], "handed": []}
            for _ in range(count):
                ours, wire = outage()
                found["ours"].append(ours)
                found["wire"].append(wire)
                for name in relays:
                    time.sleep(BETWEEN_S)
                    found[name].append(relayed(name))
                time.sleep(BETWEEN_S)
            return found

        series(1 if quick else 10)
        began_s = time.monotonic()
        quiet = series(events)
        pace = 3 * events / (time.monotonic() - began_s)
        with busy():
            loaded = series(busy_events)
        with busy(QUICKER_SWITCH_S):
            switched = series(busy_events)
        for relay in relays.values():
            relay.close()
    return {
        **{name: statistics.median(values) for name, values in quiet.items()},
        "ours_p99": p(quiet["ours"], 0.99),
        "pace": pace,
        "busy_relay": statistics.median(loaded["relay"]),
        "busy_handed": statistics.median(loaded["handed"]),
        "busy": statistics.median(loaded["wire"]),
        "busy_p99": p(loaded["wire"], 0.99),
        "switched": statistics.median(switched["wire"]),
        "switched_p99": p(switched["wire"], 0.99),
    }


if __name__ == "__main__":
    run(measure, {"subscriber": subscriber})
