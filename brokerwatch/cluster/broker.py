"""The handle that a trader holds: questions about one account, by name, and its orders.

A handle outlives the actor behind it: when that is restarted, the name finds the new one. The
questions that a trading loop asks all the time (`is_available`, `reading`, `get_error_count`)
read the board and never wait. All others ask the exchange and wait, with a bound. `aio` has the same
ones for asyncio.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from brokerwatch.clock import Clock
from brokerwatch.cluster.aio_broker import AioBroker
from brokerwatch.cluster.observation import check_kind
from brokerwatch.cluster.order_handle import OrderHandle
from brokerwatch.cluster.requests import Requests
from brokerwatch.gateway.lane_turn import LaneTurn
from brokerwatch.messages import Candle, DetailedBalance, Position, Product, Reading


class Broker(OrderHandle):
    """One exchange account. Get it from `Cluster.broker(name)`; any thread may use it.

    Methods that ask the exchange take `timeout_s`: the seconds after which the call stops waiting and raises
    `CouldNotAsk`. None means the bound of the call: its deadline, from `fetch_deadline_s`, and 5 s. They
    raise `BlockingCallInLoop` inside a running event loop, where the same method of `aio` belongs; and
    `ClusterStopped` once the cluster does not run.
    """

    def __init__(self, requests: Requests, clock: Clock) -> None:
        super().__init__(requests)
        self._slot = requests.slot
        self._is_before = clock.is_before
        self._now = clock.now
        self.aio: Final = AioBroker(requests)
        """The same questions and orders, to be awaited."""

    def __repr__(self) -> str:
        reading = self._slot.reading
        answer = "available" if reading.available else f"not available: {reading.reason}"
        return f"<Broker {self.name} at {self.exchange}: {answer}>"

    @property
    def name(self) -> str:
        """The configured name."""
        return self._requests.name

    @property
    def exchange(self) -> str:
        """The ccxt id, or `custom`."""
        return self._requests.exchange

    def is_available(self) -> bool:
        """Whether this account can be trusted right now. Never waits."""
        return self._is_before(self._slot.until)

    def reading(self) -> Reading:
        """How the account is: state, reason, since, balance, age, errors. Never waits."""
        return self._slot.reading

    def get_error_count(self) -> int:
        """Consecutive errors up to now. Never waits."""
        return self._slot.reading.error_count

    def get_account_balance(self, *, timeout_s: float | None = None) -> Decimal:
        """Fetch the free cash now, or give the last known when that fails.

        It is a sum over the account's cash currencies: ask `free` what an order can spend, and `reading()`
        how old the answer is.

        Args:
            timeout_s: Seconds to wait for the fetch; then the answer is the last known too. By default 5 s
                longer than the broker's own deadline.

        Returns:
            The cash that is free, in the unit of the account's cash currencies.

        Raises:
            BalanceUnknown: The account has never answered with a balance, or its exchange does not state how
                much of a cash currency is free. That is not zero.
            ClusterStopped: The cluster does not run, so the exchange cannot be asked.
            BlockingCallInLoop: An event loop runs on this thread; use `broker.aio` there.
            InsideLane: The call was made inside `broker.lane()`.
        """
        self._requests.wait_for_balance("get_account_balance() ", "fetch_balance()", timeout_s)
        return self._requests.cash()

    def free(self, currency: str, *, timeout_s: float | None = None) -> Decimal:
        """Fetch how much of one currency can be spent now, or give the last known when that fails.

        Size an order by this, and not by the cash: an order spends one currency, and the cash may be the sum
        of a currency and of the stablecoins that are pegged to it.

        Args:
            currency: The code, such as `USD` or `BTC`, in the spellings of symbols: `usd` and `XBT` too.
            timeout_s: As for `get_account_balance`.

        Returns:
            The free amount; 0 where the account states that it holds none.

        Raises:
            BalanceUnknown: The account has never answered with a balance, or its exchange does not state how
                much of this currency is free. That is not zero.
            InvalidSymbol: The text is no currency.
            ClusterStopped: As for `get_account_balance`, with BlockingCallInLoop and InsideLane.
        """
        self._requests.wait_for_balance("free() ", "aio.free()", timeout_s)
        return self._requests.free(currency)

    def get_account_balance_detailed(self, *, timeout_s: float | None = None) -> DetailedBalance:
        """Fetch all that is in the account, or give the last known when that fails.

        Args:
            timeout_s: As for `get_account_balance`.

        Returns:
            Each currency, the cash, what is held, and what lies apart, with the age of the answer.

        Raises:
            BalanceUnknown: The account has never answered with a balance.
            ClusterStopped: As for `get_account_balance`, with BlockingCallInLoop and InsideLane.
        """
        self._requests.wait_for_balance(
            "get_account_balance_detailed() ", "fetch_balance_detailed()", timeout_s
        )
        return self._requests.detailed()

    async def fetch_balance(self, *, timeout_s: float | None = None) -> Decimal:
        """Deprecated: use `await broker.aio.get_account_balance()`. It stays until version 1.0."""
        return await self.aio.get_account_balance(timeout_s=timeout_s)

    async def fetch_balance_detailed(self, *, timeout_s: float | None = None) -> DetailedBalance:
        """Deprecated: use `await broker.aio.get_account_balance_detailed()`. It stays until version 1.0."""
        return await self.aio.get_account_balance_detailed(timeout_s=timeout_s)

    def get_positions(self, *, timeout_s: float | None = None) -> list[Position]:
        """What the account has that is not cash: coins that it holds, and derivatives that are open.

        The balance is read again for it.

        Args:
            timeout_s: Seconds to wait.

        Returns:
            One position for each coin and each open derivative. An empty list means none.

        Raises:
            CouldNotAsk: There was no answer that proves anything.
            NotAllowed: The key may not ask this.
            NotSupported: The account is read by a callable of the trader's.
        """
        return self._requests.wait_for(
            "get_positions", self._requests.queries_in_turn().positions(), timeout_s
        )

    def get_all_products(self, *, timeout_s: float | None = None) -> list[Product]:
        """Every market of the exchange. They are loaded once for all accounts there.

        Args:
            timeout_s: Seconds to wait.

        Raises:
            CouldNotAsk: The markets are not known, and could not be loaded.
            NotSupported: The account is read by a callable of the trader's.
        """
        return list(
            self._requests.wait_for("get_all_products", self._requests.queries().products(), timeout_s)
        )

    def get_candles(
        self, symbol: str, timeframe: str = "1m", count: int = 100, *, timeout_s: float | None = None
    ) -> list[Candle]:
        """The newest candles, oldest first. The last one may still be going on.

        Args:
            symbol: The market, in any spelling.
            timeframe: 1m, 5m, 1h, 1d, …
            count: How many candles, from 1 to 1,000.
            timeout_s: Seconds to wait.

        Raises:
            InvalidSymbol: The symbol cannot be read, or could mean two markets.
            UnknownSymbol: The exchange has no such market.
            NotSupported: The exchange lacks this timeframe.
            CouldNotAsk: There was no answer that proves anything.
            ValueError: `count` is out of range.
        """
        return self._requests.wait_for(
            "get_candles", self._requests.queries().candles(symbol, timeframe, count), timeout_s
        )

    def normalize_symbol(self, symbol: str, *, timeout_s: float | None = None) -> str:
        """The symbol in its common spelling: BTC-USD, BTCUSD and XBTUSD are BTC/USD, where that exists.

        A quote currency is never replaced by another.

        Args:
            symbol: The market, in any spelling.
            timeout_s: Seconds to wait for the list of markets.

        Raises:
            InvalidSymbol: The symbol cannot be read, or could mean two markets.
            UnknownSymbol: The exchange has no such market.
            CouldNotAsk: The markets are not known, and could not be loaded.
        """
        return self._requests.wait_for("normalize_symbol", self._requests.queries().symbol(symbol), timeout_s)

    def normalize_symbol_for_broker(
        self, symbol: str, exchange: str, *, timeout_s: float | None = None
    ) -> str:
        """The same as `normalize_symbol`, for programs that name the exchange beside the symbol.

        Args:
            symbol: The market, in any spelling.
            exchange: The ccxt id of this broker's exchange, or this broker's name.
            timeout_s: Seconds to wait for the list of markets.

        Raises:
            UnknownBroker: This broker is not at that exchange.
            InvalidSymbol: As for `normalize_symbol`, with UnknownSymbol and CouldNotAsk.
        """
        self._requests.check_exchange(exchange)
        return self._requests.wait_for(
            "normalize_symbol_for_broker", self._requests.queries().symbol(symbol), timeout_s
        )

    def supports_symbol(self, symbol: str, *, timeout_s: float | None = None) -> bool:
        """Whether the exchange has this market.

        Args and Raises as for `normalize_symbol`, without UnknownSymbol.
        """
        return self._requests.wait_for(
            "supports_symbol", self._requests.queries().supports(symbol), timeout_s
        )

    def lane(self) -> LaneTurn:
        """A turn in the queue of this account's API key, for a call that you make yourself.

        Use it with `async with broker.lane(): …`, or with `with` where no event loop runs. The turn goes
        before polls; nonces and the request budget are shared. Inside, balance, positions and orders of this
        handle raise InsideLane: they would wait for the end of your own turn. `observe`, and all methods that
        never wait, may be called.

        Raises:
            CouldNotAsk: On entering: the turn does not come.
            InsideLane: On entering: this code has the turn already.
            NotSupported: The account is read by a callable of the trader's.
        """
        access = self._requests.account().access
        return LaneTurn(access.lane, access.loop, self._requests.spec.instance, self.name)

    def observe(
        self,
        outcome: Mapping[str, Any] | BaseException | None,
        *,
        capability: str | None = None,
        asked_s: float | None = None,
    ) -> None:
        """Count a call that you made yourself as evidence, so that it need not be made again. Never waits.

        A balance that proves nothing, such as one without any currency, counts as an error. A cancellation,
        Ctrl-C and the like count as nothing, and so does a mistake of the caller's own: an order that the
        exchange refuses, arguments that are wrong.

        Args:
            outcome: What ccxt's `fetch_balance` gave, or what your own `fetch` would have returned; or the
                exception that any call raised; or None when a call of another kind was answered.
            capability: What was asked: "read", "trade" or "data". Without it that of an exception is taken
                from its traceback, which names ccxt's method. Where that names none, only what concerns every
                call counts, such as a network that is down. A balance is always "read".
            asked_s: When you asked, by `time.monotonic()` in seconds. An older balance never replaces a newer
                one. Without it a balance counts as asked before the newest order, so it does not make an
                account fresh that an order has overtaken.

        Raises:
            TypeError: An argument has the wrong type; the error names it.
            ValueError: An argument has a value that cannot be; the error names it.
        """
        check_kind(outcome, capability)
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            return
        self._requests.observe(outcome, capability, asked_s, self._now())


def requests_of(broker: Broker) -> Requests:
    """The requests behind a handle: for the parts of this package that look deeper than a trader does."""
    return broker._requests  # pyright: ignore[reportPrivateUsage] - a public name would show in completion
