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
from brokerwatch.messages import DetailedBalance, Reading

GRACE_S: Final = 1.0
"""What a caller waits beyond the moment at which the actor must have answered."""


class Broker:
    """One exchange account. Get it from `Cluster.broker(name)`."""

    def __init__(
        self,
        spec: BrokerSpec,
        slot: Slot,
        clock: Clock,
        ask: Callable[[str, FetchNow], bool],
        queue_s: float = 0.0,
    ) -> None:
        self._spec = spec
        self._slot = slot
        self._up_s = clock.up_s
        self._ask = ask
        self._queue_s = queue_s

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
        self._wait("get_account_balance() ", "fetch_balance()", timeout_s)
        return self._cash()

    def get_account_balance_detailed(self, *, timeout_s: float | None = None) -> DetailedBalance:
        """All that is in the account: each currency, cash, what is held, and what lies apart.

        Waits and raises as `get_account_balance` does. On a fault it is the last known, with its age.
        """
        self._wait("get_account_balance_detailed() ", "fetch_balance_detailed()", timeout_s)
        return self._detailed()

    async def fetch_balance(self, *, timeout_s: float | None = None) -> Decimal:
        """The same as `get_account_balance`, for asyncio."""
        await self._awaited(timeout_s)
        return self._cash()

    async def fetch_balance_detailed(self, *, timeout_s: float | None = None) -> DetailedBalance:
        """The same as `get_account_balance_detailed`, for asyncio."""
        await self._awaited(timeout_s)
        return self._detailed()

    def _wait(self, call: str, instead: str, timeout_s: float | None) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise BlockingCallInLoop(
                f"{call}would stop the running event loop until the exchange answers; "
                f"use: await broker.{instead}"
            )
        waiter = self._fetch()
        try:
            waiter.result(self._bound_s(timeout_s))
        except concurrent.futures.TimeoutError:
            waiter.cancel()

    async def _awaited(self, timeout_s: float | None) -> None:
        waiter = self._fetch()
        try:
            await asyncio.wait_for(asyncio.wrap_future(waiter), self._bound_s(timeout_s))
        except TimeoutError:
            waiter.cancel()

    def _fetch(self) -> Future[Reading]:
        waiter: Future[Reading] = Future()
        if not self._ask(self._spec.name, FetchNow(waiter)):
            # The actor is just being replaced: what is known is on the board.
            waiter.set_result(self._slot.reading)
        return waiter

    def _bound_s(self, timeout_s: float | None) -> float:
        # The actor answers at its first tick after all of these; if it hangs, nobody does.
        longest_s = self._queue_s + self._spec.fetch_deadline_s + LATE_S + GRACE_S
        return longest_s if timeout_s is None else timeout_s

    def _cash(self) -> Decimal:
        reading = self._slot.reading
        if reading.cash is None:
            raise self._unknown(reading)
        return reading.cash

    def _detailed(self) -> DetailedBalance:
        reading, balance = self._slot.known()
        if balance is None or reading.age_ms is None:
            raise self._unknown(reading)
        return DetailedBalance(
            broker=self.name,
            holdings=balance.holdings,
            cash=balance.cash(self._spec.cash_currencies),
            held=balance.held(self._spec.cash_currencies),
            wallets=balance.wallets,
            as_of=balance.as_of,
            age_ms=reading.age_ms,
            stale=reading.stale,
            available=reading.available,
            fault=reading.fault,
            detail=reading.detail,
        )

    def _unknown(self, reading: Reading) -> BalanceUnknown:
        fault = f"{reading.fault}: " if reading.fault else ""
        return BalanceUnknown(
            f"{self._spec.name} has never answered with a balance, so it is unknown, not zero "
            f"({fault}{reading.detail or reading.reason})"
        )
