"""The bus of a simulated world: publishers, and links that lose, double, delay and reorder messages.

What a link carries are the bytes that the real codec made. A publisher keeps the rules of the real one
(`brokerwatch.bus.publisher`): of each topic only the newest message waits, it is packed when it is sent, and
a subscription is answered with all that there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from brokerwatch.bus.publisher import GATHER_S, Pack
from brokerwatch.errors import CodecError
from brokerwatch.messages import Envelope
from brokerwatch.messages.codec import decode
from tests.simulation.scheduler import Process, Scheduler

USUAL_DELAY_S: Final = 0.002
NOT_READ: Final[Any] = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A message on its way. `sent_s` is the true time."""

    topic: str
    body: bytes
    sent_s: float
    envelope: Envelope


@dataclass
class Weather:
    """What a link does to messages: shares from 0 to 1, and seconds."""

    drops: float = 0.0
    doubles: float = 0.0
    delays: float = 0.0
    """So many of the messages are late, by up to `longest_s`, and later ones overtake them."""
    spoils: float = 0.0
    """So many arrive with changed bytes."""
    longest_s: float = 0.0
    cut: bool = False
    """Nothing arrives."""


@dataclass(eq=False)
class Link:
    """From a publisher to a receiver. `deliver` is called as code of the receiver's process."""

    scheduler: Scheduler
    name: str
    to: Process
    deliver: Callable[[Sent], object]
    weather: Weather = field(default_factory=Weather)
    stalled_until_s: float = 0.0
    """Before this moment nothing arrives; then all of it, in order."""
    longest_s: float = 0.0
    """The longest that a message was under way."""

    def send(self, message: Sent) -> None:
        """Carry a message, as the weather allows."""
        weather, chance = self.weather, self.scheduler.random
        if weather.cut or (weather.drops and chance.random() < weather.drops):
            self.scheduler.trace.add(self.scheduler.now_s, "{}: lost {}", self.name, message.topic)
            return
        self._carry(message)
        if weather.doubles and chance.random() < weather.doubles:
            self._carry(message)

    def _carry(self, message: Sent) -> None:
        weather, chance = self.weather, self.scheduler.random
        wait_s = USUAL_DELAY_S * chance.random()
        if weather.delays and chance.random() < weather.delays:
            wait_s += weather.longest_s * chance.random()
        if weather.spoils and chance.random() < weather.spoils:
            message = self._spoiled(message)
        moment_s = max(self.scheduler.now_s + wait_s, self.stalled_until_s)
        self.scheduler.at_moment(moment_s, lambda: self._arrive(message))

    def _spoiled(self, message: Sent) -> Sent:
        chance, body = self.scheduler.random, bytearray(message.body)
        for _ in range(chance.randint(1, 4)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        cut = chance.randrange(1, len(body)) if chance.random() < 0.3 else len(body)
        try:
            decode(bytes(body[:cut]))
        except CodecError:
            return Sent(message.topic, bytes(body[:cut]), message.sent_s, message.envelope)
        return message  # what says something else is a forgery, and no fault of a line

    def _arrive(self, message: Sent) -> None:
        machine = self.to.machine
        if machine.stopped_until_s > self.scheduler.now_s:
            # It waits in the socket of a program that does not run, behind what came before it.
            self.scheduler.at_moment(machine.stopped_until_s, lambda: self._arrive(message))
            return
        if self.to.alive:
            self.longest_s = max(self.longest_s, self.scheduler.now_s - message.sent_s)
            self.scheduler.within(self.to, lambda: self.deliver(message))


@dataclass
class _Topic:
    pack: Pack
    gap_s: float
    sent_s: float = float("-inf")
    kept_until_s: float = float("inf")
    on_forgotten: Callable[[str], object] | None = None


class Publisher:
    """A publisher of one process, in place of the XPUB socket on its thread.

    `looked_at` is called with each message that is sent; None: what those say is not looked at.
    """

    def __init__(
        self, scheduler: Scheduler, process: Process, name: str, looked_at: Callable[[Sent], object] | None
    ) -> None:
        self.name = name
        self.bound_endpoint = name
        self.links: list[Link] = []
        self._scheduler = scheduler
        self._process = process
        self._looked_at = looked_at
        self._topics: dict[str, _Topic] = {}
        self._pending: dict[str, None] = {}
        self._flushes_s = float("inf")

    def put(
        self,
        topic: str,
        pack: Pack,
        *,
        gap_s: float = 0.0,
        kept_s: float = float("inf"),
        on_forgotten: Callable[[str], object] | None = None,
    ) -> None:
        """As the real one."""
        known = self._topics.get(topic)
        if known is None:
            self._topics[topic] = _Topic(pack, gap_s)
        else:
            known.pack, known.gap_s = pack, gap_s
        known = self._topics[topic]
        known.kept_until_s, known.on_forgotten = self._process.clock.up_s() + kept_s, on_forgotten
        self._pending[topic] = None
        self._flush_in(USUAL_DELAY_S * self._scheduler.random.random())

    def subscribe(self, link: Link) -> None:
        """A receiver has connected: it gets all that there is."""
        self.links.append(link)
        self._scheduler.on(self._process, GATHER_S, self._replay)

    def _replay(self) -> None:
        self._pending.update(dict.fromkeys(self._topics))
        self._flush()

    def _flush_in(self, seconds: float) -> None:
        now_s = self._process.clock.up_s()
        if now_s + seconds < self._flushes_s:
            self._flushes_s = now_s + seconds
            self._scheduler.on(self._process, seconds, self._flush)

    def _flush(self) -> None:
        now_s = self._process.clock.up_s()
        self._flushes_s = float("inf")
        for name in list(self._pending):
            topic = self._topics[name]
            free_s = topic.sent_s + topic.gap_s
            if now_s < free_s:
                self._flush_in(free_s - now_s)
                continue
            del self._pending[name]
            topic.sent_s = now_s
            body = topic.pack(name)
            looked_at = self._looked_at
            message = Sent(name, body, self._scheduler.now_s, decode(body) if looked_at else NOT_READ)
            if looked_at is not None:
                looked_at(message)
            for link in self.links:
                if link.to.alive:
                    link.send(message)
        for name, topic in tuple(self._topics.items()):
            if topic.kept_until_s <= now_s and name not in self._pending:
                del self._topics[name]
                if topic.on_forgotten is not None:
                    topic.on_forgotten(name)
