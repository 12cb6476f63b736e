"""The clock of one exchange, measured in the background so that no order waits for it.

It is asked for the time when an account there is polled or orders something, and the last answer is old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from brokerwatch.clock import Clock
from brokerwatch.errors import BrokerwatchError
from brokerwatch.exchanges.order_deadline import (
    ClockOffset,
    DeadlineRule,
    OrderDeadline,
    measured,
    narrowed,
    order_deadline,
)
from brokerwatch.log import logger

_log: Final = logger(__name__)

AGAIN_S: Final = 20.0
"""A measurement that is older is made again."""
NARROWER_S: Final = 1.0
"""One that leaves more than this in doubt is made again sooner …"""
NARROW_S: Final = 0.3
"""… as long as it leaves more than this in doubt."""
RETRY_S: Final = 5.0
"""How long after a question that failed the next one is asked."""
READY_S: Final = 0.5
"""How long an order waits for the first measurement."""


class ExchangeClock:
    """Knows how far the clock of one exchange is from ours. Runs on the loop of its venue.

    `rule` is None where the exchange takes no deadlines: then nothing is measured.
    """

    def __init__(self, ask: Callable[[], Awaitable[Any]], clock: Clock, rule: DeadlineRule | None) -> None:
        """`ask` gives the exchange's time in milliseconds since 1970."""
        self._ask = ask
        self._clock = clock
        self._rule = rule
        self._offset: ClockOffset | None = None
        self._asked_s = float("-inf")
        self._measuring: asyncio.Task[None] | None = None
        self._in_vain = False
        """Whether an order has waited for a measurement that did not come."""

    def deadline(self, wanted_s: float) -> OrderDeadline | None:
        """The deadline of an order that goes out now and shall have `wanted_s` seconds; None: it has none."""
        if self._rule is None:
            return None
        return order_deadline(self._rule, self._offset, self._clock.up_s(), wanted_s)

    def refresh(self) -> None:
        """Measure again in the background, if that is due. Never waits."""
        if self._rule is None or self._measuring is not None or not self._is_due():
            return
        self._asked_s = self._clock.up_s()
        self._measuring = asyncio.create_task(self._measure(self._rule))

    async def ready(self) -> None:
        """Wait for a measurement, if there is none and one is under way; half a second at the most.

        Where that was in vain, no order waits again until one has succeeded: the exchange may hang.
        """
        self.refresh()
        if self._measuring is not None and not self._in_vain and self.deadline(0.0) is None:
            await asyncio.wait({self._measuring}, timeout=READY_S)
            self._in_vain = self.deadline(0.0) is None

    def _is_due(self) -> bool:
        now_s, offset = self._clock.up_s(), self._offset
        since_s = now_s - self._asked_s
        if offset is None or offset.measured_s < self._asked_s:
            return since_s >= RETRY_S
        return since_s >= (NARROWER_S if offset.at(now_s).doubt_s > NARROW_S else AGAIN_S)

    async def _measure(self, rule: DeadlineRule) -> None:
        try:
            asked_s = self._clock.up_s()
            stated_ms = await self._ask()
            found = measured(int(stated_ms), rule.clock_step_s, asked_s, self._clock.up_s())
            self._offset, self._in_vain = narrowed(self._offset, found), False
        except (BrokerwatchError, TypeError, ValueError) as error:
            # It is only a help: orders go without a deadline then.
            _log.debug("the clock of the exchange is not known: %s", error)
        finally:
            self._measuring = None
