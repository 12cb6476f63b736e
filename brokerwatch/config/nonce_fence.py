"""What an operator has to say before the numbers of an API key carry the epoch of its claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

CONFIRMED: Final = "this key cannot go back"
"""The words of `nonce_fence_confirmed`."""


def fence_mistakes(*, fence: bool, confirmed: str, of_its_own: bool) -> Iterator[str]:
    """What was expected of `nonce_fence`, for each mistake. `of_its_own`: a callable reads the account."""
    if not fence:
        return
    if of_its_own:
        yield "expected false: this account is read by a callable of your own, which counts for itself"
    elif confirmed != CONFIRMED:
        yield (
            f'expected nonce_fence_confirmed = "{CONFIRMED}" beside it: the exchange refuses for ever every '
            "number that is smaller than one that it has seen, so this key is of no use without the fence "
            "afterwards; make a key for the pool alone"
        )


def confirmation_mistakes(confirmed: str) -> Iterator[str]:
    """What was expected of `nonce_fence_confirmed`."""
    if confirmed not in ("", CONFIRMED):
        yield f'expected "{CONFIRMED}", or nothing'


def counting_mistakes(exchange: str, *, fence: bool, counts: bool) -> Iterator[tuple[str, str]]:
    """(key, what was expected) where an exchange does not want rising numbers."""
    if fence and not counts:
        yield (
            "nonce_fence",
            f"expected false: {exchange} does not refuse a number that is smaller than another, so no epoch "
            "in it would keep out a node that wakes too late",
        )
