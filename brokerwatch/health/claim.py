"""What the claim of a pool says about an account: whether it may be asked here, and for how long.

The claim is of the account's API key. Its term is kept by the pool (`brokerwatch.gateway.lease`). Here is
what the evidence of an account takes from it. Without a pool nothing is claimed, and nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from brokerwatch.clock import Instant


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim of an account's key at one moment."""

    until_s: float = float("inf")
    """The monotonic second at which nothing that this process says of the account holds any more."""
    over: str = ""
    """Why no call may begin here, in words; empty: it may."""
    since: Instant | None = None
    """Since when it may not; None: it may, or that was not noted."""


UNCLAIMED = Claim()
"""Of an account whose key needs no claim."""

Claimed = Callable[[float], Claim]
"""What the claim of an account's key says at a monotonic second; without `since`."""


def unclaimed(_: float) -> Claim:
    """Where there is no pool."""
    return UNCLAIMED
