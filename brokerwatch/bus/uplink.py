"""What a node says to the supervisors elsewhere: each of its readings, with what it lays over the evidence.

It goes where the events of the brokers go, on the topic of a sign of life: a supervisor elsewhere needs the
whole state and not its occasion. A hold, a restart that is under way, a loop that hangs: the process that has
the account decides these, so they travel with the account's own state, under its own count.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import msgspec

from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.publishing import KEPT_TTLS, Publishing
from brokerwatch.clock import Clock
from brokerwatch.messages import MessageType, Reading, topics


class Uplink:
    """Publishes the readings of one process to supervisors. Any thread may call it.

    Args:
        publishers: one for each supervisor, connected to its broker_endpoint.
        clock: the process's clock.
        ttl_s: for how many seconds a message is valid.
        epoch: of the brokers that have no life, because their configuration is broken.
    """

    def __init__(self, publishers: Sequence[Publisher], clock: Clock, ttl_s: float, epoch: str) -> None:
        self._publishers: Final = tuple(publishers)
        self._clock = clock
        self._ttl_s = ttl_s
        self._epoch = epoch
        self._lock = threading.Lock()
        self._lives: dict[str, _Life] = {}
        self._left_s: dict[str, float] = {}
        """The brokers that left, and from which monotonic second on nothing of them is valid anywhere."""

    def publish(
        self, reading: Reading, *, with_cash: bool, ttl_ms: int | None = None, leaves: bool = False
    ) -> None:
        """One broker's reading, whole. `ttl_ms`: how long it is valid; 0: the node leaves. `leaves`: the
        broker leaves its node."""
        until_s = reading.proven_until_s
        if reading.verdict.available:
            # What stands behind it may be half over. It is not to begin anew with each process on the way.
            until_s = min(until_s, reading.valid_until_s)
        # What is counted later is handed over later, or it would be replaced by what is older.
        with self._lock:
            self._forget_left(reading.broker, leaves=leaves)
            life = self._life_of(reading)
            life.version = max(life.version + 1, reading.version)
            said = msgspec.structs.replace(
                reading, broker_epoch=life.epoch, version=life.version, proven_until_s=until_s
            )
            for publishing in life.publishings:
                publishing.send(
                    topics.alive(reading.exchange, reading.broker),
                    MessageType.BROKER_ALIVE,
                    lambda: said.data(with_cash=with_cash),
                    ttl_ms=ttl_ms,
                    ages=leaves,
                )

    def _forget_left(self, broker: str, *, leaves: bool) -> None:
        """Keep no count of a broker that left some time ago. Under the lock."""
        now_s = self._clock.up_s()
        self._left_s.pop(broker, None)
        if leaves:
            self._left_s[broker] = now_s + KEPT_TTLS * self._ttl_s
        while (name := next(iter(self._left_s), None)) is not None and self._left_s[name] <= now_s:
            del self._left_s[name]
            self._lives.pop(name, None)

    def _life_of(self, reading: Reading) -> _Life:
        """The life of a broker, which counts its readings. Under the lock.

        A hold changes no event of the broker, and has to be newer than what was said before it. So the count
        is one of its own.
        """
        epoch = reading.broker_epoch or self._epoch
        life = self._lives.get(reading.broker)
        if life is None or life.epoch < epoch:
            src = f"broker/{reading.exchange}/{reading.broker}"
            life = self._lives[reading.broker] = _Life(
                epoch,
                tuple(
                    Publishing(publisher, src, epoch, self._clock, self._ttl_s)
                    for publisher in self._publishers
                ),
            )
        return life


class _Life:
    """One incarnation of a broker, as it is reported."""

    def __init__(self, epoch: str, publishings: Sequence[Publishing]) -> None:
        self.epoch = epoch
        self.publishings = tuple(publishings)
        self.version = 0
