"""What an actor watches of the claim of its account's key: since when it is over, and that it is back."""

from __future__ import annotations

from dataclasses import replace

from brokerwatch.clock import Instant
from brokerwatch.health.claim import Claim, Claimed


class ClaimWatch:
    """The claim of one account's key. Used on its actor's thread alone."""

    def __init__(self, claimed: Claimed) -> None:
        self._claimed = claimed
        self._since: Instant | None = None
        self._told = False
        """Whether the actor was told by `turned` that it is over."""

    def at(self, now: Instant) -> Claim:
        """The claim now, and if it is over, since when that was seen."""
        claim = self._claimed(now.up_s)
        self._since = (self._since or now) if claim.over else None
        return replace(claim, since=self._since) if claim.over else claim

    def turned(self, now: Instant) -> bool:
        """Whether it has ended, or came back, since the last call."""
        told, self._told = self._told, bool(self.at(now).over)
        return told != self._told

    def doubt(self) -> str:
        """Why what was proven before counts no more once it is back."""
        return "the pool's claim of its key was over, and it was not asked"
