"""Ask, then wait or await: what the synchronous and the awaited handle of a broker share.

Questions and orders run on the event loop of the account. The caller waits for them on its own thread, or
awaits them in its own loop, and never longer than a bound. A caller that stops waiting takes back its order
as long as that has not gone out; what went out goes on to its end.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from brokerwatch.actors.board import Slot
from brokerwatch.actors.protocol import BrokerMessage, FetchNow, Observed
from brokerwatch.clock import Instant
from brokerwatch.cluster import waiting
from brokerwatch.cluster.observation import asked_at, explained, observe
from brokerwatch.cluster.queries import Queries
from brokerwatch.cluster.spendable import as_answer, free_of, stated_code
from brokerwatch.config.broker_spec import MARKETS_DEADLINE_S, BrokerSpec
from brokerwatch.errors import (
    BalanceUnknown,
    BlockingCallInLoop,
    ClusterStopped,
    CouldNotAsk,
    NotSupported,
    UnknownBroker,
)
from brokerwatch.exchanges.balances import own_balance
from brokerwatch.exchanges.unified_balance import observed_balance
from brokerwatch.gateway.lane_turn import refuse_inside
from brokerwatch.gateway.loop import Loop
from brokerwatch.messages import DetailedBalance, FaultKind, Reading, Side
from brokerwatch.orders.ticket import Cut, Late, Ordering, Ticket, new_order_id

if TYPE_CHECKING:
    from brokerwatch.cluster.wiring import WiredAccount

T = TypeVar("T")


class Requests:
    """The requests of one broker, for both of its handles. Any thread may call it, in a loop or outside."""

    def __init__(
        self,
        name: str,
        slot: Slot,
        send: Callable[[BrokerMessage], bool],
        account: Callable[[], WiredAccount | None],
        spec: Callable[[], BrokerSpec | None],
    ) -> None:
        """`send` tells the broker's actor something and is False while there is none.

        `account` gives the account at the exchange, or None where there is none, or none yet. `spec` gives
        the configuration that holds now; None: the broker does not belong to the cluster any more.
        """
        self.name: Final = name
        self.slot: Final = slot
        self.send: Final = send
        self._account = account
        self._spec = spec
        self._exchange = str(self.spec.exchange)

    @property
    def spec(self) -> BrokerSpec:
        """The configuration that holds now. Raises UnknownBroker once the broker was removed."""
        spec = self._spec()
        if spec is None:
            raise UnknownBroker(
                f"{self.name} was removed from this cluster, so it cannot be asked; nothing was sent"
            )
        return spec

    @property
    def exchange(self) -> str:
        """The ccxt id, or `custom`; the last one of a broker that was removed."""
        spec = self._spec()
        self._exchange = self._exchange if spec is None else str(spec.exchange)
        return self._exchange

    # --- what can be asked ---------------------------------------------------------------------------

    def account(self) -> WiredAccount:
        """The account at the exchange. Raises NotSupported where there is no exchange, ClusterStopped."""
        spec, account = self.spec, self._account()
        if account is None and spec.fetch is None:
            raise ClusterStopped(
                f"the cluster has not been started, so it cannot ask the exchange of {self.name}"
            )
        if account is None:
            raise NotSupported(
                f"{self.name} is read by a callable of your own, so there is no exchange to ask"
            )
        return account

    def account_in_turn(self) -> WiredAccount:
        """The same for requests that need the lane. Raises InsideLane too."""
        account = self.account()
        refuse_inside(account.access.lane, self.name)
        return account

    def queries(self) -> Queries:
        """The questions about markets. Raises as `account` does."""
        return self.account().queries

    def queries_in_turn(self) -> Queries:
        """The questions that need the lane. Raises as `account_in_turn` does."""
        return self.account_in_turn().queries

    def new_order_id(self) -> str:
        """An id that no order has, in the form that the exchange takes."""
        # It loads ccxt, which a cluster that was not started does without.
        from brokerwatch.gateway.catalogue import order_rules

        return new_order_id(order_rules(self.spec))

    def placing(
        self,
        symbol: str,
        side: Side | str,
        base_amount: Decimal | None,
        quote_amount: Decimal | None,
        client_order_id: str | None,
        *,
        validate_only: bool,
    ) -> Ordering:
        """A market order that is to be placed; nothing is sent before its `work` runs."""
        order_id, ticket, account = client_order_id or self.new_order_id(), Ticket(), self.account_in_turn()
        work = account.entry.place(
            symbol,
            side,
            base_amount,
            quote_amount,
            order_id,
            ticket,
            validate_only=validate_only,
            repeated=client_order_id is not None,
        )
        return Ordering(work, order_id, ticket, validate_only, partial(account.executor.recorded, order_id))

    def closing(
        self, symbol: str, base_amount: Decimal | None, client_order_id: str | None, *, validate_only: bool
    ) -> Ordering:
        """An exit that is to be placed; nothing is sent before its `work` runs."""
        order_id, ticket, account = client_order_id or self.new_order_id(), Ticket(), self.account_in_turn()
        work = account.entry.close(
            symbol,
            base_amount,
            order_id,
            ticket,
            validate_only=validate_only,
            repeated=client_order_id is not None,
        )
        return Ordering(work, order_id, ticket, validate_only, partial(account.executor.recorded, order_id))

    def check_exchange(self, exchange: str) -> None:
        """Raise UnknownBroker unless this broker is at that exchange, or has that name."""
        if exchange not in (self.spec.exchange, self.spec.name):
            raise UnknownBroker(
                f"this is {self.name}, a broker at {self.spec.exchange}, and not one at {exchange}"
            )

    def observe(
        self,
        outcome: Mapping[str, Any] | Exception | None,
        capability: str | None,
        asked_s: float | None,
        now: Instant,
    ) -> None:
        """Tell the broker's actor of a call that the trader made; see `Broker.observe`."""
        if self.spec.fetch is None:
            account = self.account()
            asked = asked_at(asked_s, now, account.access.lane.ordered_s, self.slot.reading)
            read = partial(observed_balance, account.access.connection.instance, self.spec.balance_params)
            seen = observe(outcome, capability, asked, read, account.executor.observed)
        else:
            asked = asked_at(asked_s, now, float("-inf"), self.slot.reading)
            seen = observe(outcome, capability, asked, own_balance, explained)
        if isinstance(seen, Observed):
            seen = replace(seen, dated=asked_s is not None)
        if seen is not None:
            self.send(seen)

    # --- questions and orders ------------------------------------------------------------------------

    def wait_for(
        self,
        name: str,
        work: Coroutine[Any, Any, T],
        timeout_s: float | None,
        goes_on: Callable[[], bool] = lambda: False,
    ) -> T:
        """Run `work` on the account's loop and wait for its answer.

        `name` of the method that was called. `goes_on`: whether the work goes on once no caller waits for it.
        """
        try:
            not_in_a_loop(f"{name}() ", f"aio.{name}()")
            patience_s = self._patience_s(name, timeout_s)
        except BaseException:
            work.close()
            raise
        loop, started = self._start(work, goes_on)
        try:
            return waiting.wait_for(started, loop, patience_s, watched=timeout_s is None)
        except waiting.LoopHangs:
            raise self._late("the event loop of the account does not turn") from None
        except concurrent.futures.TimeoutError:
            if started.done():
                raise  # it is the answer
            raise self._late(f"no answer within {patience_s:g} s") from None
        except concurrent.futures.CancelledError:
            raise self._cut(loop) from None
        finally:
            started.cancel()  # nothing, where it has ended

    async def answer(
        self,
        name: str,
        work: Coroutine[Any, Any, T],
        timeout_s: float | None,
        goes_on: Callable[[], bool] = lambda: False,
    ) -> T:
        """Run `work` on the account's loop and await its answer; `name` and `goes_on` as for `wait_for`."""
        try:
            patience_s = self._patience_s(name, timeout_s)
        except BaseException:
            work.close()
            raise
        loop, started = self._start(work, goes_on)
        try:
            return await waiting.answer(started, loop, patience_s, watched=timeout_s is None)
        except waiting.LoopHangs:
            raise self._late("the event loop of the account does not turn") from None
        except TimeoutError:
            if started.done() and not started.cancelled():
                raise  # it is the answer
            raise self._late(f"no answer within {patience_s:g} s") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._cut(loop) from None

    def _start(self, work: Coroutine[Any, Any, T], goes_on: Callable[[], bool]) -> tuple[Loop, Future[T]]:
        """Begin on the account's loop. A caller that stops waiting does not stop an order that is out."""
        loop = self.account().access.loop
        try:
            return loop, loop.submit_shielded(work, goes_on)
        except RuntimeError:
            work.close()
            raise self._cut(loop) from None

    def _cut(self, loop: Loop) -> Late | Cut:
        """What ended the work on this loop, or kept it from beginning."""
        if loop.lost:
            return Late(f"{self.name}: {loop.lost}", FaultKind.CLIENT_BUG)
        return Cut(str(self._stopped()))

    def _patience_s(self, name: str, timeout_s: float | None) -> float:
        if timeout_s is None:
            access = self.account().access
            markets_s = MARKETS_DEADLINE_S if access.venue.known is None else 0.0
            wait_s = access.source.longest_wait_s
            return waiting.deadline_s(name, self.spec.fetch_deadline_s, markets_s, wait_s)
        # Looked at before anything is sent: a caller that cannot wait must not have ordered.
        given: Any = timeout_s
        if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
            raise ValueError(f"timeout_s: expected seconds above 0, not {timeout_s!r}")
        return min(float(timeout_s), threading.TIMEOUT_MAX)

    def _late(self, why: str) -> CouldNotAsk:
        return Late(f"{self.name}: {why}", "network")

    def _stopped(self) -> ClusterStopped:
        return ClusterStopped(f"the cluster is not running, so it cannot ask the exchange of {self.name}")

    # --- the balance ---------------------------------------------------------------------------------

    def wait_for_balance(self, call: str, instead: str, timeout_s: float | None) -> None:
        """Have the balance read and wait for it; afterwards the board shows what is known.

        `call` that was made, and what belongs `instead` of it in an event loop.
        """
        not_in_a_loop(call, instead)
        waiter = self._fetch()
        try:
            waiter.result(self._bound_s(timeout_s))
        except concurrent.futures.TimeoutError:
            waiter.cancel()
        self._refuse_when_removed()

    async def await_balance(self, timeout_s: float | None) -> None:
        """The same as `wait_for_balance` for asyncio."""
        waiter = self._fetch()
        try:
            await asyncio.wait_for(asyncio.wrap_future(waiter), self._bound_s(timeout_s))
        except TimeoutError:
            waiter.cancel()
        self._refuse_when_removed()

    def _refuse_when_removed(self) -> None:
        """Raise UnknownBroker where the broker left while its balance was waited for."""
        self._exchange = str(self.spec.exchange)

    def _fetch(self) -> Future[Reading]:
        spec, account = self.spec, self._account()
        if account is not None:
            refuse_inside(account.access.lane, spec.name)
        waiter: Future[Reading] = Future()
        if not self.send(FetchNow(waiter)):
            # The actor is just being replaced: what is known is on the board.
            waiter.set_result(self.slot.reading)
        return waiter

    def _bound_s(self, timeout_s: float | None) -> float:
        if timeout_s is not None:
            return timeout_s
        account = self._account()
        wait_s = 0.0 if account is None else account.access.source.longest_wait_s
        return self.spec.fetch_deadline_s + wait_s + waiting.ALLOWANCE_S

    def cash(self) -> Decimal:
        """The cash that the board shows. Raises BalanceUnknown."""
        reading = self.slot.reading
        if reading.cash is None:
            raise self._unknown(reading)
        return as_answer(reading.cash)

    def free(self, currency: str) -> Decimal:
        """What can be spent of one currency, as the board shows it. Raises BalanceUnknown, InvalidSymbol."""
        reading, balance = self.slot.known()
        if balance is None:
            raise self._unknown(reading)
        code = stated_code(currency, balance)
        if code in balance.unread:
            raise self._unknown(reading)
        return free_of(code, balance, reading)

    def detailed(self) -> DetailedBalance:
        """The whole balance that the board shows. Raises BalanceUnknown."""
        reading, balance = self.slot.known()
        if balance is None or reading.age_ms is None:
            raise self._unknown(reading)
        return DetailedBalance(
            broker=self.name,
            holdings=balance.holdings,
            cash=balance.cash(self.spec.cash_currencies),
            held=balance.held(self.spec.cash_currencies),
            wallets=balance.wallets,
            as_of=balance.as_of,
            age_ms=reading.age_ms,
            stale=reading.stale,
            available=reading.available,
            fault=reading.fault,
            detail=reading.detail,
        )

    def _unknown(self, reading: Reading) -> BalanceUnknown:
        if reading.balance is not None:
            return BalanceUnknown(
                f"{self.name}: how much of its cash is free is unknown, not zero: the exchange did not "
                f"state it ({reading.detail or reading.reason})"
            )
        fault = f"{reading.fault}: " if reading.fault else ""
        return BalanceUnknown(
            f"{self.name} has never answered with a balance, so it is unknown, not zero "
            f"({fault}{reading.detail or reading.reason})"
        )


def not_in_a_loop(call: str, instead: str) -> None:
    """Raise BlockingCallInLoop inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BlockingCallInLoop(
        f"{call}would stop the running event loop until the exchange answers; use: await broker.{instead}"
    )
