"""The handle that a trader holds: questions about one account, by name.

A handle outlives the actor behind it: when that is restarted, the name finds the new one. The
questions that a trading loop asks all the time (`is_available`, `reading`, `get_error_count`)
read the board and never wait. `get_account_balance` asks the exchange and waits, with a bound.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from typing import Final

from brokerwatch.actors.broker import LATE_S, FetchNow
from brokerwatch.board import Slot
from brokerwatch.clock import Clock
from brokerwatch.config import BrokerSpec
from brokerwatch.errors import BalanceUnknown, BlockingCallInLoop
from brokerwatch.messages import Reading

GRACE_S: Final = 1.0
"""What a caller waits beyond the moment at which the actor must have answered."""


class Broker:
    """One exchange account. Get it from `Cluster.broker(name)`."""

    def __init__(
        self, spec: BrokerSpec, slot: Slot, clock: Clock, ask: Callable[[str, FetchNow], bool]
    ) -> None:
        self._spec = spec
        self._slot = slot
        self._up_s = clock.up_s
        self._ask = ask

    @property
    def name(self) -> str:
        """The configured name."""
        return self._spec.name

    @property
    def exchange(self) -> str:
        """The ccxt id, or `custom`."""
        return self._spec.exchange

    def is_available(self) -> bool:
        """Whether this account can be trusted right now. Never waits."""
        return self._up_s() < self._slot.available_until_s

    def reading(self) -> Reading:
        """How the account is: state, reason, since, balance, age, errors. Never waits."""
        return self._slot.reading

    def get_error_count(self) -> int:
        """Consecutive errors up to now. Never waits."""
        return self._slot.reading.error_count

    def get_account_balance(self, *, timeout_s: float | None = None) -> Decimal:
        """The free cash: fetched now, or the last known when that fails.

        Waits for the fetch: at most `timeout_s`, or by default a little longer than the broker's
        own deadline; then it answers with the last known too. Ask `reading()` how old that is.
        Raises BalanceUnknown when the account never answered; ClusterStopped when nobody can ask;
        BlockingCallInLoop inside a running event loop, where `await broker.fetch_balance()` belongs.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise BlockingCallInLoop(
                "get_account_balance() would stop the running event loop until the exchange answers; "
                "use: await broker.fetch_balance()"
            )
        waiter = self._fetch()
        try:
            waiter.result(self._bound_s(timeout_s))
        except concurrent.futures.TimeoutError:
            waiter.cancel()
        return self._cash()

    async def fetch_balance(self, *, timeout_s: float | None = None) -> Decimal:
        """The same as `get_account_balance`, for asyncio."""
        waiter = self._fetch()
        try:
            await asyncio.wait_for(asyncio.wrap_future(waiter), self._bound_s(timeout_s))
        except TimeoutError:
            waiter.cancel()
        return self._cash()

    def _fetch(self) -> Future[Reading]:
        waiter: Future[Reading] = Future()
        if not self._ask(self._spec.name, FetchNow(waiter)):
            # The actor is just being replaced: what is known is on the board.
            waiter.set_result(self._slot.reading)
        return waiter

    def _bound_s(self, timeout_s: float | None) -> float:
        # The actor answers at its first tick after deadline + LATE_S; if it hangs, nobody does.
        return self._spec.fetch_deadline_s + LATE_S + GRACE_S if timeout_s is None else timeout_s

    def _cash(self) -> Decimal:
        reading = self._slot.reading
        if reading.cash is None:
            fault = f"{reading.fault}: " if reading.fault else ""
            raise BalanceUnknown(
                f"{self._spec.name} has never answered with a balance, so it is unknown, not zero "
                f"({fault}{reading.detail or reading.reason})"
            )
        return reading.cash
