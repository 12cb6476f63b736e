"""What an operator may say of an account whose exchange pushes its amounts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

SWEEP_S: Final = 120.0
"""An account is polled so often while its stream is live, if not more seldom anyway."""
MOST_RESERVED: Final = 10_000.0


def slowest_s(polled_s: float, *, push: bool) -> float:
    """How seldom an account is asked at the most, in seconds; `polled_s`: without a stream."""
    return max(polled_s, SWEEP_S) if push else polled_s


def push_mistakes(*, push: bool, callable_of_its_own: bool, instance_of_its_own: bool) -> Iterator[str]:
    """What was expected of `push`, for each mistake."""
    if push and callable_of_its_own:
        yield "expected false: this account is read by a callable of your own, so there is no stream"
    elif push and instance_of_its_own:
        yield "expected false: a stream is made for an account by its ccxt id, not for your own ccxt instance"


def reserve_mistakes(reserved: float) -> Iterator[str]:
    """What was expected of `reserved_requests`."""
    if not 0 <= reserved <= MOST_RESERVED:
        yield f"expected from 0 to {MOST_RESERVED:g}, not {reserved:g}"
