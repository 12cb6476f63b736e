"""The brokers' bus where the brokers are in other processes: the rules of a receiver hold at this end too.

Inside of one process a state is as old as it is under way, which is nothing. From elsewhere it may have
waited, its publisher may have been replaced, and its machine may have another clock. `bus.reception` decides
that for the health topic, and here for the events of brokers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from brokerwatch.bus.curve import CurveServer
from brokerwatch.bus.inbox import Inbox, is_of_its_topic
from brokerwatch.bus.reception import MOST_BROKERS, Receiver
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import Clock
from brokerwatch.log import logger
from brokerwatch.messages import Envelope, Reading, ReadingData, topics
from brokerwatch.messages.commands import CommandDoneData

_log: Final = logger(__name__)

MOST_NAMED: Final = 100
"""Brokers that are not in the configuration are named in the log: each once, and no more than so many."""


class RemoteInbox(Inbox):
    """The bound end of the brokers' bus of a supervisor that runs alone.

    Args:
        bus, endpoint, clock, curve: as for `Inbox`.
        exchange_of: gives the exchange of a broker that is expected; None: that broker is not. For any
            thread.
    """

    def __init__(
        self,
        bus: Bus,
        endpoint: str,
        clock: Clock,
        curve: CurveServer | None,
        exchange_of: Callable[[str], str | None],
    ) -> None:
        super().__init__(bus, endpoint, clock, 0.0, curve)
        self._receiver = Receiver(clock, most_senders=MOST_BROKERS)
        self._exchange_of = exchange_of
        self.on_answer: Callable[[CommandDoneData], object] = lambda _answer: None
        """Is called with each answer of a node to a command, on the inbox's thread."""
        self._came: dict[str, Reading] = {}
        """Broker to the newest reading since the last `take`."""
        self._named: set[tuple[str, str]] = set()

    def remind(self) -> None:
        """Have all that was heard before be taken again: for a supervisor that is started anew."""
        with self._lock:
            self._came = {
                broker: each.reading
                for (_, broker), each in self._receiver.newest.copy().items()
                if self._exchange_of(broker) == each.reading.exchange
            }

    def take(self) -> Mapping[str, Reading]:
        with self._lock:
            taken, self._came, self._notified = self._came, {}, False
        return taken

    def turn(self) -> None:
        """What has come is taken now: see `Receiver.turn`."""
        self._receiver.turn()

    def _accept(self, topic: str, envelope: Envelope) -> None:
        state = envelope.data
        if isinstance(state, CommandDoneData):
            self._take_answer(topic, envelope.stamp.src, state)
            return
        if not isinstance(state, ReadingData) or not is_of_its_topic(state, topic, envelope.stamp.src):
            self.refused += 1
            return
        if self._exchange_of(state.broker) != state.exchange:
            self.refused += 1
            self._name(state)
            return
        self._receive(topic, envelope)

    def _take_answer(self, topic: str, src: str, answer: CommandDoneData) -> None:
        """A node says what became of a command."""
        own = topics.command_done(answer.exchange, answer.broker, answer.id)
        if topic == own and src == f"broker/{answer.exchange}/{answer.broker}":
            self.on_answer(answer)
        else:
            self.refused += 1

    def reported(self, broker: str) -> Reading | None:
        """The newest reading of a broker that counts now; None: its node is not heard. Any thread."""
        exchange = self._exchange_of(broker)
        found = self._receiver.newest.get((f"broker/{exchange}/{broker}", broker))
        return None if found is None or found.reading.expired else found.reading

    def _receive(self, topic: str, envelope: Envelope) -> None:
        received = self._receiver.take(topic, envelope)
        if received is not None:
            with self._lock:
                self._came[received.reading.broker] = received.reading

    def _waits(self) -> bool:
        return bool(self._came)

    def _name(self, state: ReadingData) -> None:
        if (state.broker, state.exchange) in self._named or len(self._named) >= MOST_NAMED:
            return
        self._named.add((state.broker, state.exchange))
        found = self._exchange_of(state.broker)
        _log.warning(
            "%s at %s is reported by a node, and %s",
            state.broker,
            state.exchange,
            "is not in this configuration: add it and reload"
            if found is None
            else f"this configuration has it at {found}: its readings are refused; correct one of the two",
        )
