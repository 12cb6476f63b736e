"""The actors of a cluster: started, started again within limits, and asked to end."""

from __future__ import annotations

import msgspec

from brokerwatch.clock import Instant
from brokerwatch.health.state_machine import Vetoes
from brokerwatch.health.supervision import View
from brokerwatch.messages import Reading, Reason


def unheard(evidence: Reading, vetoes: Vetoes, now: Instant) -> View:
    """What a supervisor knows before it has heard anything: who there is, and the vetoes laid before it."""
    blank = msgspec.structs.replace(evidence, broker_epoch="", version=0)
    return View(blank, now.up_s, vetoes.lay(Reason.NEVER_SEEN, "the supervisor has not heard of it yet", now))
