"""What exchanges say of themselves, asked once for all accounts there and told to each of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from brokerwatch.errors import CouldNotAsk
from brokerwatch.messages.trading import Status

if TYPE_CHECKING:
    from brokerwatch.gateway.venue import Venue


_log: Final = logging.getLogger(__name__)

BELIEVED: Final = 3
"""After so many failed questions in a row the last word is not believed any more."""


async def watch(
    venue: Venue,
    interval_s: float,
    tell: Callable[[Status | None], object],
    uniform: Callable[[float, float], float],
) -> None:
    """Ask for ever, every `interval_s` seconds, and tell what was said; None when nothing is known."""
    failures = 0
    while True:
        try:
            tell(await venue.status())
            failures = 0
        except CouldNotAsk as error:
            failures += 1
            _log.debug("the status of the exchange: %s", error)
            if failures >= BELIEVED:
                tell(None)
        # Not all programs in the world at the same second.
        await asyncio.sleep(interval_s * uniform(0.9, 1.1))


MARKETS_AGAIN_S: Final = 10.0
"""How long after an attempt to load markets that nobody knows yet the next one is made."""
