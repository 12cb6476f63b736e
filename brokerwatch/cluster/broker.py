"""The handle that a trader holds: questions about one account, by name, and its orders.

A handle outlives the actor behind it: when that is restarted, the name finds the new one. The
questions that a trading loop asks all the time (`is_available`, `reading`, `get_error_count`)
read the board and never wait. All others ask the exchange and wait, with a bound; under `aio` stand
the same ones for asyncio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from decimal import Decimal
from typing import Any, Final

from brokerwatch.actors.board import Slot
from brokerwatch.actors.protocol import LATE_S, BrokerMessage, FetchNow
from brokerwatch.clock import Clock
from brokerwatch.cluster.aio_broker import AioBroker
from brokerwatch.cluster.observation import asked_at, explained, judged, observed
from brokerwatch.cluster.queries import Calls
from brokerwatch.cluster.requests import GRACE_S, MOST_QUESTIONS, T, not_in_a_loop, run_shielded
from brokerwatch.config.broker_spec import MARKETS_DEADLINE_S, BrokerSpec
from brokerwatch.errors import BalanceUnknown, ClusterStopped, CouldNotAsk, NotSupported, UnknownBroker
from brokerwatch.exchanges.balances import own_holdings
from brokerwatch.gateway.lane_turn import LaneTurn, refuse_inside
from brokerwatch.health.capabilities import ALL, READ
from brokerwatch.messages import Candle, DetailedBalance, Order, Position, Product, Reading, Side
from brokerwatch.orders.ticket import Cut, Late, Ordering, Ticket, new_order_id


class Broker:
    """One exchange account. Get it from `Cluster.broker(name)`."""

    def __init__(
        self,
        spec: BrokerSpec,
        slot: Slot,
        clock: Clock,
        send: Callable[[BrokerMessage], bool],
        calls: Callable[[], Calls | None] = lambda: None,
        queue_s: float = 0.0,
    ) -> None:
        self._spec = spec
        self._slot = slot
        self._up_s = clock.up_s
        self._now = clock.now
        self._send = send
        self._calls = calls
        self._queue_s = queue_s
        self.aio: Final = AioBroker(self)
        """The same questions and orders, to be awaited."""

    def __repr__(self) -> str:
        reading = self._slot.reading
        answer = "available" if reading.available else f"not available: {reading.reason}"
        return f"<Broker {self.name} at {self.exchange}: {answer}>"

    @property
    def name(self) -> str:
        """The configured name."""
        return self._spec.name

    @property
    def exchange(self) -> str:
        """The ccxt id, or `custom`."""
        return str(self._spec.exchange)

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

    def get_positions(self, *, timeout_s: float | None = None) -> list[Position]:
        """What the account has that is no cash: coins that it holds, and derivatives that are open.

        Reads the balance again for it. An empty list means none. Raises CouldNotAsk, NotAllowed.
        """
        return self._wait_for("get_positions", self.asks_in_turn().positions(), timeout_s)

    def get_all_products(self, *, timeout_s: float | None = None) -> list[Product]:
        """Every market of the exchange. Loaded once for all accounts there. Raises CouldNotAsk."""
        return list(self._wait_for("get_all_products", self.asks().products(), timeout_s))

    def get_candles(
        self, symbol: str, timeframe: str = "1m", count: int = 100, *, timeout_s: float | None = None
    ) -> list[Candle]:
        """The newest candles, oldest first; the last may still be going on. `timeframe`: 1m, 5m, 1h, 1d, …

        Raises SymbolError, NotSupported for a timeframe that the exchange lacks, CouldNotAsk.
        """
        return self._wait_for("get_candles", self.asks().candles(symbol, timeframe, count), timeout_s)

    def normalize_symbol(self, symbol: str, *, timeout_s: float | None = None) -> str:
        """The symbol as everybody writes it: BTC-USD, BTCUSD and XBTUSD are BTC/USD, where that exists.

        A quote currency is never replaced by another. Raises InvalidSymbol, UnknownSymbol, CouldNotAsk.
        """
        return self._wait_for("normalize_symbol", self.asks().symbol(symbol), timeout_s)

    def normalize_symbol_for_broker(
        self, symbol: str, exchange: str, *, timeout_s: float | None = None
    ) -> str:
        """The same as `normalize_symbol`, for who names the exchange beside it. Raises UnknownBroker too."""
        self.check_exchange(exchange)
        return self._wait_for("normalize_symbol_for_broker", self.asks().symbol(symbol), timeout_s)

    def supports_symbol(self, symbol: str, *, timeout_s: float | None = None) -> bool:
        """Whether the exchange has this market. Raises InvalidSymbol when it cannot be read, CouldNotAsk."""
        return self._wait_for("supports_symbol", self.asks().supports(symbol), timeout_s)

    def place_market_order(
        self,
        symbol: str,
        side: Side | str,
        *,
        base_amount: Decimal | None = None,
        quote_amount: Decimal | None = None,
        validate_only: bool = True,
        client_order_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Order:
        """Place a market order; by default only have it checked, where the exchange has a dry run.

        Exactly one amount: `base_amount` in the currency that is traded, `quote_amount` in the one that
        pays. It is rounded down to the market's steps. Needs `trading = true`, an account that is
        available, and a balance of at most `entry_max_age_s`. An order with a `client_order_id` that was
        placed already is not placed again. Raises OrderError (see brokerwatch/errors.py) and SymbolError;
        only OrderStateUnknown leaves open whether anything was placed.
        """
        ordering = self.placing(
            symbol, side, base_amount, quote_amount, client_order_id, validate_only=validate_only
        )
        with ordering.accounted_for(self.name):
            return self._wait_for("place_market_order", ordering.work, timeout_s, ordering.is_out)

    def close_position(
        self,
        symbol: str,
        *,
        base_amount: Decimal | None = None,
        validate_only: bool = True,
        client_order_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Order:
        """Sell what is held of a coin at market; all that is free of it, or `base_amount`.

        An exit: it is not refused while the account is not available or its balance is old; where the
        balance cannot be read the last known is sold. Raises as `place_market_order` does, without
        EntryRefused; BalanceUnknown where nobody knows what is held.
        """
        ordering = self.closing(symbol, base_amount, client_order_id, validate_only=validate_only)
        with ordering.accounted_for(self.name):
            return self._wait_for("close_position", ordering.work, timeout_s, ordering.is_out)

    def find_order(
        self, symbol: str, client_order_id: str, *, timeout_s: float | None = None
    ) -> Order | None:
        """An order of yours as the exchange has it; None when it answers that there is none.

        Raises CouldNotAsk, which says nothing about the order, and OrderStateUnknown while one that was sent
        may still arrive.
        """
        return self._wait_for("find_order", self.asks_in_turn().find(symbol, client_order_id), timeout_s)

    def forget_order(self, client_order_id: str, *, timeout_s: float | None = None) -> bool:
        """Stop looking for an order of which nobody knows: you found out by yourself what became of it.

        Until then it holds up entries. False when nothing was being looked for under this id.
        """
        return self._wait_for("forget_order", self.asks().forget(client_order_id), timeout_s)

    def lane(self) -> LaneTurn:
        """A turn in the queue of this account's API key, for a call that you make yourself.

        `async with broker.lane(): …`, or `with` where no event loop runs. It goes before polls, and
        nonces and budget are shared. Raises CouldNotAsk when the turn does not come.

        Inside, balance, positions and orders of this handle raise InsideLane: they would wait for the end of
        your own turn. `observe` and all that waits for nobody may be called.
        """
        access = self.asks().access
        return LaneTurn(access.lane, access.loop, self._spec.instance, self.name)

    def observe(
        self,
        outcome: Mapping[str, Any] | BaseException | None,
        *,
        capability: str = READ,
        asked_s: float | None = None,
    ) -> None:
        """Count a call that you made yourself as evidence, so that nobody has to ask again. Never waits.

        `outcome` is what ccxt's `fetch_balance` gave, or what your own `fetch` would have returned; or the
        exception that any call raised; or None when a call of another kind was answered (`capability`:
        read, trade or data). A balance that proves nothing, such as one without any currency, counts as an
        error; a cancellation, Ctrl-C and the like count as nothing.

        `asked_s` is when you asked, by `time.monotonic()`: an older balance never replaces a newer one.
        Without it a balance counts as asked before the newest order, so it does not make an account fresh
        that an order has overtaken. Raises TypeError and ValueError, which name the argument.
        """
        if capability not in ALL:
            raise ValueError(f"capability: expected one of {', '.join(ALL)}, not {capability!r}")
        if isinstance(outcome, Mapping) and capability != READ:
            raise ValueError(f"outcome: expected None or an exception for {capability}, not a balance")
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            return
        if self._spec.fetch is None:
            self.asks().observe(outcome, capability, asked_s, self._now())
            return
        asked = asked_at(asked_s, self._now(), float("-inf"), self._slot.reading)
        self._send(observed(capability, judged(outcome, asked, own_holdings, explained)))

    def _wait(self, call: str, instead: str, timeout_s: float | None) -> None:
        not_in_a_loop(call, instead)
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
        """See `place_market_order`."""
        order_id, ticket = client_order_id or new_order_id(), Ticket()
        work = self.asks_in_turn().place(
            symbol,
            side,
            base_amount,
            quote_amount,
            order_id,
            ticket,
            validate_only=validate_only,
            repeated=client_order_id is not None,
        )
        return Ordering(work, order_id, ticket, validate_only)

    def closing(
        self, symbol: str, base_amount: Decimal | None, client_order_id: str | None, *, validate_only: bool
    ) -> Ordering:
        """See `close_position`."""
        order_id, ticket = client_order_id or new_order_id(), Ticket()
        work = self.asks_in_turn().close(
            symbol,
            base_amount,
            order_id,
            ticket,
            validate_only=validate_only,
            repeated=client_order_id is not None,
        )
        return Ordering(work, order_id, ticket, validate_only)

    def check_exchange(self, exchange: str) -> None:
        """Raise UnknownBroker unless this broker is at that exchange."""
        if exchange not in (self.exchange, self.name):
            raise UnknownBroker(
                f"this is {self.name}, a broker at {self.exchange}, and not one at {exchange}"
            )

    def asks(self) -> Calls:
        """What its exchange can be asked. Raises NotSupported where there is no exchange."""
        calls = self._calls()
        if calls is None and self._spec.fetch is None:
            raise ClusterStopped(
                f"the cluster has not been started, so nobody can ask the exchange of {self.name}"
            )
        if calls is None:
            raise NotSupported(
                f"{self.name} is read by a callable of your own, so there is no exchange to ask"
            )
        return calls

    def asks_in_turn(self) -> Calls:
        """The same for what needs the lane. Raises InsideLane too."""
        calls = self.asks()
        refuse_inside(calls.access.lane, self.name)
        return calls

    def _wait_for(
        self,
        name: str,
        work: Coroutine[Any, Any, T],
        timeout_s: float | None,
        goes_on: Callable[[], bool] = lambda: False,
    ) -> T:
        """Run one of `Calls` on the account's loop and wait for what it says.

        `goes_on`: whether it goes on where nobody waits for it any more.
        """
        try:
            not_in_a_loop(f"{name}() ", f"aio.{name}()")
            patience_s = self._patience_s(timeout_s)
        except BaseException:
            work.close()
            raise
        started = self._start(work, goes_on)
        try:
            return started.result(patience_s)
        except concurrent.futures.TimeoutError:
            if started.done():
                raise  # it is the answer
            raise self._late(timeout_s) from None
        except concurrent.futures.CancelledError:
            raise Cut(str(self._stopped())) from None
        finally:
            started.cancel()  # nothing, where it has ended

    async def answer(
        self,
        work: Coroutine[Any, Any, T],
        timeout_s: float | None,
        goes_on: Callable[[], bool] = lambda: False,
    ) -> T:
        """Run one of `Calls` on the account's loop and await what it says; `goes_on` as for `_wait_for`."""
        try:
            patience_s = self._patience_s(timeout_s)
        except BaseException:
            work.close()
            raise
        started = asyncio.wrap_future(self._start(work, goes_on))
        try:
            async with asyncio.timeout(patience_s):
                return await started
        except TimeoutError:
            raise self._late(timeout_s) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Cut(str(self._stopped())) from None

    def _start(self, work: Coroutine[Any, Any, T], goes_on: Callable[[], bool]) -> Future[T]:
        """Begin on the account's loop. Whoever stops waiting does not stop an order that is out."""
        running = run_shielded(work, goes_on)
        try:
            return self.asks().access.loop.submit(running)
        except RuntimeError:
            running.close()
            work.close()
            raise self._stopped() from None

    def _patience_s(self, timeout_s: float | None) -> float:
        each_s = self._queue_s + self._spec.fetch_deadline_s + GRACE_S
        if timeout_s is None:
            return MARKETS_DEADLINE_S + MOST_QUESTIONS * each_s
        # Looked at before anything is sent: whoever cannot wait must not have ordered.
        given: Any = timeout_s
        if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
            raise ValueError(f"timeout_s: expected seconds above 0, not {timeout_s!r}")
        return min(float(timeout_s), threading.TIMEOUT_MAX)

    def _late(self, timeout_s: float | None) -> CouldNotAsk:
        return Late(f"{self.name}: no answer within {self._patience_s(timeout_s):g} s", "network")

    def _stopped(self) -> ClusterStopped:
        return ClusterStopped(f"the cluster is not running, so nobody can ask the exchange of {self.name}")

    def _fetch(self) -> Future[Reading]:
        calls = self._calls()
        if calls is not None:
            refuse_inside(calls.access.lane, self.name)
        waiter: Future[Reading] = Future()
        if not self._send(FetchNow(waiter)):
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
