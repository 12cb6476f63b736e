"""What the actor of a broker needs from outside."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from brokerwatch.actors.account_watches import AccountWatches
from brokerwatch.actors.board import Slot
from brokerwatch.actors.protocol import Alarms
from brokerwatch.actors.push_desk import PushDesk
from brokerwatch.clock import Clock
from brokerwatch.health.claim import Claimed, unclaimed
from brokerwatch.health.outcome import Source
from brokerwatch.storage.journal import Journal
from brokerwatch.tally import AccountTally


@dataclass(frozen=True, slots=True)
class BrokerContext:
    """What a broker actor needs from outside; the same for each of its lives."""

    source: Source
    slot: Slot
    alarms: Alarms
    clock: Clock
    heartbeat_s: float
    journal: Journal
    uniform: Callable[[float, float], float] = random.uniform
    tally: AccountTally = field(default_factory=AccountTally)
    watches: AccountWatches | None = None
    """What is watched beside the health; None: each life begins anew with it."""
    push: PushDesk | None = None
    """What the exchange pushes; None: each life begins anew with it."""
    claimed: Claimed = unclaimed
    """What the claim of the account's API key says, in a pool."""
