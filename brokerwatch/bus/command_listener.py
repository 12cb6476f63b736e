"""The ear of a node: what the operators of one supervisor say to it, on a thread of its own.

It also notices that the supervisor is not heard, or that it does not take what the node reports. Then the
ways to it are opened anew: a handshake that was refused, because a key was not listed yet, ends a connection
of ZeroMQ for good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from brokerwatch.bus.curve import CurveClient
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.reception import Delay, Sender
from brokerwatch.bus.socket_thread import SocketThread
from brokerwatch.bus.sockets import Bus
from brokerwatch.bus.subscriber import Subscriber
from brokerwatch.bus.turning import TURN_S
from brokerwatch.clock import Clock, with_sleep_s
from brokerwatch.errors import CodecError, EndpointUnavailable
from brokerwatch.health.reading import heartbeat_s
from brokerwatch.log import logger
from brokerwatch.messages import Envelope, topics
from brokerwatch.messages.codec import decode
from brokerwatch.messages.commands import CommandData, SupervisorAliveData

_log: Final = logger(__name__)

NOTHING_HEARD_S: Final = 5.0
"""A supervisor that was not heard for so long, or took no report, is connected to anew."""
REOPEN_RANGE_S: Final = (1.0, 10.0)
"""The first and the longest wait between two attempts."""


def in_order(taken: Mapping[str, list[bytes]]) -> list[tuple[str, Envelope]]:
    """What came, each with its topic, in the order in which it was sent; they have one count."""
    found: list[tuple[str, Envelope]] = []
    for topic, bodies in taken.items():
        for body in bodies:
            with contextlib.suppress(CodecError):
                found.append((topic, decode(body)))
    return sorted(found, key=lambda one: (one[1].stamp.epoch, one[1].stamp.seq))


class Retries:
    """When one way to a supervisor is to be opened anew. Pure; each attempt in vain makes the next one later.

    Args:
        now_s: when the way was opened, in monotonic seconds.
    """

    def __init__(self, now_s: float) -> None:
        self._next_in_s = REOPEN_RANGE_S[0]
        self._due_s = now_s + NOTHING_HEARD_S

    def works(self, now_s: float, patience_s: float = NOTHING_HEARD_S) -> None:
        """The way works now. It is not opened anew for so many seconds."""
        self._next_in_s = REOPEN_RANGE_S[0]
        self._due_s = now_s + patience_s

    def due(self, now_s: float) -> bool:
        """Whether it is to be opened anew now. Each True counts as an attempt."""
        if now_s <= self._due_s:
            return False
        self._due_s = now_s + self._next_in_s
        self._next_in_s = min(self._next_in_s * 2, REOPEN_RANGE_S[1])
        return True


class CommandListener:
    """Listens to one supervisor. `start` and `stop` are for the thread that starts and stops the node.

    Args:
        name: of its thread.
        endpoint: the supervisor's health_endpoint.
        bus, clock: those of the process.
        curve: its encryption; None: there is none.
        uplink: what reports to the same supervisor.
        on_command: is called with each command that counts, on this thread; again with one that is sent
            again. It never waits.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        bus: Bus,
        clock: Clock,
        curve: CurveClient | None,
        uplink: Publisher,
        on_command: Callable[[CommandData, Publisher], object],
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self._bus = bus
        self._clock = clock
        self._curve = curve
        self._uplink = uplink
        self._on_command = on_command
        self._sender = Sender()
        self._delay = Delay()
        self._knows_age = False
        """Whether a sign of life came in this epoch: before one, a command may be of any age."""
        self._thread = SocketThread(name, self._opened, self._work)
        self.heard = False
        """Whether the supervisor is heard now."""
        self._said: dict[str, bool] = {}
        """What the log says of each way: whether it works."""

    def start(self) -> None:
        """Connect, and begin to listen. Raises EndpointUnavailable."""
        self._thread.start()

    def fault(self) -> str:
        """What is wrong with its thread; empty where nothing is. Any thread."""
        return self._thread.fault()

    def stop(self, deadline_s: float) -> bool:
        """End the thread. False when that took too long."""
        return self._thread.stop(deadline_s)

    def _opened(self) -> Subscriber:
        """A socket that is connected. Raises EndpointUnavailable."""
        return Subscriber(
            self._bus, [self.endpoint], [topics.ALL_COMMANDS], self._thread.waker, curve=self._curve
        )

    def _work(self, first: list[Subscriber]) -> None:
        incoming = first.pop() if first else self._opened()
        try:
            self._listen(incoming)
        finally:
            incoming.close()

    def _listen(self, incoming: Subscriber) -> None:
        ear, reports = Retries(self._clock.up_s()), Retries(self._clock.up_s())
        while not self._thread.is_ending:
            self._thread.turn()
            taken = incoming.take(TURN_S)
            self._delay.turn(with_sleep_s(self._clock))
            for topic, envelope in in_order(taken):
                lasts_s = self._take(topic, envelope)
                if lasts_s:
                    ear.works(self._clock.up_s(), max(NOTHING_HEARD_S, 5 * heartbeat_s(lasts_s)))
                    self._say_heard(heard=True)
            now_s = self._clock.up_s()
            if self._uplink.is_wanted:
                reports.works(now_s)
                self._say_taken(taken=True)
            if ear.due(now_s):
                self._say_heard(heard=False)
                try:
                    incoming.reopen()
                except EndpointUnavailable as error:
                    _log.error("%s", error)
                # Also where it seems to work: a connection that a network has dropped looks the same.
                self._uplink.reopen()
                reports.works(now_s)
            elif self.heard and reports.due(now_s):
                self._say_taken(taken=False)
                self._uplink.reopen()

    def _say_heard(self, *, heard: bool) -> None:
        self.heard = heard
        if self._is_news("ear", works=heard):
            if heard:
                _log.info("the supervisor at %s is heard", self.endpoint)
            else:
                _log.warning(
                    "the supervisor at %s is not heard: it does not run, cannot be reached, or does not let "
                    "in the key of this node; the accounts are watched all the same",
                    self.endpoint,
                )

    def _say_taken(self, *, taken: bool) -> None:
        if self._is_news("reports", works=taken):
            if taken:
                _log.info("the supervisor at %s takes the reports of this node", self._uplink.endpoint)
            else:
                _log.warning(
                    "the supervisor at %s is heard, and takes no report of this node at %s: is that its "
                    "broker_endpoint, and the key of this node on its list of brokers? The accounts are "
                    "watched all the same",
                    self.endpoint,
                    self._uplink.endpoint,
                )

    def _is_news(self, way: str, *, works: bool) -> bool:
        """Whether the log says otherwise, or nothing yet."""
        before, self._said[way] = self._said.get(way), works
        return before is not works

    def _take(self, topic: str, envelope: Envelope) -> float:
        """Take in one message. Returns for how many seconds it is a sign of life; 0: it is none."""
        stamp, data = envelope.stamp, envelope.data
        if not isinstance(data, CommandData | SupervisorAliveData) or not stamp.src.startswith("operators/"):
            return 0.0
        now_s, slept_s, epoch = self._clock.up_s(), self._clock.leads()[1], self._sender.epoch
        waited_s = self._delay.longest_s(now_s + slept_s)
        # All topics have one count, so that a command that comes twice is carried out once.
        accepted = self._sender.accept(topics.ALL_COMMANDS, stamp, now_s, slept_s, waited_s)
        if accepted is None:
            return 0.0
        if stamp.epoch != epoch:
            self._knows_age = False
        if isinstance(data, SupervisorAliveData):
            self._knows_age = self._knows_age or waited_s == 0
            return stamp.ttl_ms / 1_000
        if topic != topics.command(data.exchange, data.broker, data.id):
            return 0.0
        if not self._knows_age or accepted.valid_until_s <= now_s:
            _log.warning("%s of %s: a command that came too late is not carried out", data.verb, data.broker)
            return 0.0
        self._on_command(data, self._uplink)
        return 0.0
