"""How much of something is ordinary: so much at once, and so much more each second. Pure."""

from __future__ import annotations


class Budget:
    """What one peer may still use up. For one thread.

    Args:
        burst: so much at once.
        per_s: so much comes back each second, up to the burst.
        now_s: monotonic seconds.
    """

    def __init__(self, burst: float, per_s: float, now_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at_s = now_s

    def spend(self, amount: float, now_s: float) -> bool:
        """Use up so much. False: that was more than there was left, and nothing is left now."""
        enough = amount <= self.left(now_s)
        self._left = self._left - amount if enough else 0.0
        return enough

    def left(self, now_s: float) -> float:
        """How much may be used up now."""
        self._left = min(self._burst, self._left + self._per_s * (now_s - self._at_s))
        self._at_s = now_s
        return self._left
