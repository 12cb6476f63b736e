"""What is kept of one order: while it is under way, once it was taken, and as it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_request import OrderRequest

LOST_AFTER_S: Final = 60.0
"""An order that the exchange does not know so long after it was sent never arrived."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An order that was sent. `why` its outcome is unknown; empty while it is under way."""

    request: OrderRequest
    sent_us: int
    """Wall clock, µs: when it was written down."""
    lost_s: float = float("inf")
    """Monotonic seconds: since when its outcome is unknown."""
    why: str = ""
    broker: str = ""
    """The name of the account that sent it; empty: not known."""
    certain_s: float = float("inf")
    """Monotonic seconds: from then on the exchange takes it no more. Infinite: it said no deadline."""

    def left_s(self, now: Instant) -> float:
        """How long it may still arrive; not above 0: it never will."""
        return min(LOST_AFTER_S - (now.up_s - self.lost_s), self.certain_s - now.up_s)


@dataclass(frozen=True, slots=True)
class Note:
    """What is written down of an order."""

    request: OrderRequest
    boot: str
    """Which boot `lost_s` is of; empty: unknown."""
    lost_s: float | None
    """As in `Sent`; None while it is under way."""
    certain_s: float | None = None
    """As in `Sent`; None: there is no such moment."""
    broker: str = ""
    """As in `Sent`."""
    order_id: str = ""
    """The exchange's id of it, once it was taken; empty: it is not known what became of it."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that the exchange took, and its id there."""

    request: OrderRequest
    order_id: str
    found: FoundOrder | None
    """As the exchange had it when it was looked up last; None: it answered at once."""


@dataclass(frozen=True, slots=True)
class Followed:
    """An order that the exchange took, and that may not have come to its end."""

    request: OrderRequest
    order_id: str
    broker: str
    until_s: float
    """Monotonic seconds: it is followed no longer than this."""
