"""What the supervisor needs from outside."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from brokerwatch.actors.board import Board
from brokerwatch.actors.protocol import AccountLoop, Alarms, HealthTopic, Life
from brokerwatch.clock import Clock
from brokerwatch.health.restarts import Restarts
from brokerwatch.messages import Reading
from brokerwatch.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class SupervisorContext:
    """What the supervisor needs from outside; the same for each of its lives.

    `start_broker` starts the next life of a broker, with the health that the previous life had, and does not
    wait; None: the broker has just left the cluster. `take_newest` gives the newest evidence of each broker
    that arrived since the last call.
    """

    start_broker: Callable[[str], Life | None]
    take_newest: Callable[[], Mapping[str, Reading]]
    topic: HealthTopic
    journal: Journal
    board: Board
    alarms: Alarms
    clock: Clock
    heartbeat_s: float
    uniform: Callable[[float, float], float] = random.uniform
    restarts: MutableMapping[str, Restarts] = field(default_factory=lambda: defaultdict(Restarts))
    """The recent restarts of each broker. The next supervisor goes on with them."""
    loops: Callable[[], Sequence[AccountLoop]] = tuple
    """Gives the event loops on which the accounts are asked: another sequence when anything of it changes."""
