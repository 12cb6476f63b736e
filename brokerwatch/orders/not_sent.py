"""What an order that was not sent raises: its turn did not come, or the claim of its key is over."""

from __future__ import annotations

from brokerwatch.errors import ClaimLost, OrderNotSent
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.lane import Lane


def not_sent(broker: str, refrained: Refrained) -> OrderNotSent:
    """The error of an order that had no turn in its lane."""
    return (ClaimLost if refrained.by_claim else OrderNotSent)(f"{broker}: {refrained.outcome.why}")


def refuse_outside_term(broker: str, lane: Lane) -> None:
    """Raise ClaimLost where the API key has a term, and no call of it may begin now."""
    if why := lane.lease.claim_over:
        raise ClaimLost(f"{broker}: {why}; nothing was sent")
