"""What a supervisor sends to its nodes: signs of life, and the commands of its operators.

A command is sent once and remembered nowhere, so a node that comes later does not carry it out. The signs of
life are what a node measures the age of a command by.
"""

from __future__ import annotations

import itertools
import os

from brokerwatch.bus.publisher import Publisher
from brokerwatch.clock import Clock, with_sleep_s
from brokerwatch.messages import Envelope, MessageType, Stamp, next_epoch, topics
from brokerwatch.messages.codec import encode
from brokerwatch.messages.commands import CommandData, SupervisorAliveData


class CommandSender:
    """Sends over the health topic of one supervisor. Any thread may use it.

    Args:
        publisher: the publisher of the health topic.
        cluster: the name of the cluster.
        clock: the process's clock.
        ttl_s: for how many seconds a sign of life counts.
    """

    def __init__(self, publisher: Publisher, cluster: str, clock: Clock, ttl_s: float) -> None:
        self._publisher = publisher
        self._src = f"operators/{cluster}"
        self._clock = clock
        self._ttl_s = ttl_s
        self._epoch = next_epoch(clock.now().wall_us, "", os.urandom(4).hex())
        self._began_s = with_sleep_s(clock)
        self._seq = itertools.count(1)

    def beat(self, brokers: int) -> None:
        """Give a sign of life. `brokers`: how many accounts are expected."""
        data = SupervisorAliveData(brokers=brokers)
        self._put(topics.SUPERVISOR_ALIVE, MessageType.SUPERVISOR_ALIVE, data, self._ttl_s)

    def send(self, command: CommandData, ttl_s: float) -> None:
        """Send a command to those nodes that are connected now; for so many seconds it counts."""
        topic = topics.command(command.exchange, command.broker, command.id)
        self._put(topic, MessageType.COMMAND, command, ttl_s)

    def _put(
        self, topic: str, kind: MessageType, data: CommandData | SupervisorAliveData, ttl_s: float
    ) -> None:
        def pack(_topic: str) -> bytes:
            # One count over all of these topics: a command that comes twice is old the second time.
            stamp = Stamp(
                src=self._src,
                epoch=self._epoch,
                seq=next(self._seq),
                ts_us=self._clock.now().wall_us,
                up_us=max(0, round((with_sleep_s(self._clock) - self._began_s) * 1_000_000)),
                ttl_ms=round(ttl_s * 1_000),
            )
            return encode(Envelope(type=kind, stamp=stamp, data=data))

        self._publisher.put(topic, pack, is_once=kind is MessageType.COMMAND)
