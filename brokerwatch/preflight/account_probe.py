"""What a verification has asked of one account, and was answered: each question once, for all checks.

A question that was not answered stays so for the whole verification: it is reported by the check that it
belongs to, and the checks that build on it are not done.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final, Generic, Self, TypeVar, cast, overload

from brokerwatch.clock import Clock
from brokerwatch.cluster.broker import Broker
from brokerwatch.config.broker_spec import MARKETS_DEADLINE_S, BrokerSpec
from brokerwatch.errors import (
    BalanceUnknown,
    BrokerwatchError,
    ClusterStopped,
    CouldNotAsk,
    NotAllowed,
    NotSupported,
    OrderRefused,
    SymbolError,
)
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.open_orders import OpenOrder
from brokerwatch.exchanges.symbols import Products
from brokerwatch.gateway.lane import LANE_WAIT_S
from brokerwatch.gateway.nonces import RESERVED_MS
from brokerwatch.messages import Candle, DetailedBalance, FaultKind, Position, Product
from brokerwatch.preflight.exchange_probe import ExchangeProbe, Timing
from brokerwatch.storage.records import KeyState

T = TypeVar("T")

CANDLES: Final = 100
SLOWER_S: Final = 4.0
"""So long an exchange is left alone that says that the key asks too often: Kraken forgives a call in 3 s …"""
SLOWER_TIMES: Final = 2
"""… and so often."""


class NotDone(Exception):
    """A check that could not be done; the text says why."""


class once(Generic[T]):  # noqa: N801 - stands where `property` would
    """A property that asks when it is first wanted, and keeps the answer; or that there was none."""

    def __init__(self, ask: Callable[[Any], T]) -> None:
        self._ask = ask
        self.__doc__ = ask.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"{name} (asked)"

    @overload
    def __get__(self, sight: None, owner: type) -> Self: ...

    @overload
    def __get__(self, sight: object, owner: type) -> T: ...

    def __get__(self, sight: object | None, owner: type) -> Self | T:
        if sight is None:
            return self
        kept = vars(sight)
        if self._name not in kept:
            try:
                kept[self._name] = (self._ask(sight), None)
            except (BrokerwatchError, NotDone) as error:
                kept[self._name] = (None, error)
        value, trouble = kept[self._name]
        if trouble is not None:
            raise trouble.with_traceback(None)
        return cast("T", value)


class AccountProbe:
    """See the module. It blocks, and is used by one thread. `did_pass`: whether that check has passed."""

    def __init__(
        self,
        spec: BrokerSpec,
        broker: Broker,
        clock: Clock,
        did_pass: Callable[[str], bool],
        known: Mapping[str, KeyState],
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.spec = spec
        self.broker = broker
        self.clock = clock
        self.access = broker.asks().access
        self.inspection = ExchangeProbe(spec, self.access, clock)
        self._did_pass = did_pass
        self.wait: Final = wait
        """Waits for so many seconds; ends sooner when the verification is stopped."""
        lane = self.access.lane
        self._known = known.get(lane.fingerprint, KeyState(lane.fingerprint))
        # A key that is shut out must not be asked. Its numbers are another matter: see `skip_numbers`.
        locked = KeyState(lane.fingerprint, locked_until_us=self._known.locked_until_us)
        self.access.loop.call(partial(lane.recall, locked))

    def ask_again(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a private question; see `patiently`."""
        return self.patiently(lambda: self.ask(question()))

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The answer to a question that is asked on the account's loop."""
        patience_s = LANE_WAIT_S + self.spec.fetch_deadline_s + MARKETS_DEADLINE_S
        asked = self.access.loop.submit(question)
        try:
            return asked.result(patience_s)
        except concurrent.futures.CancelledError:
            raise ClusterStopped("the verification was stopped") from None
        except TimeoutError:
            raise CouldNotAsk(f"no answer within {patience_s:g} s", FaultKind.NETWORK) from None
        finally:
            asked.cancel()

    def skip_numbers(self) -> bool:
        """Go on above the numbers that an earlier process may have used up; False where there are none.

        Not from the beginning, and never where somebody else runs with this key: they are up to a minute
        ahead, and whoever uses lower ones is refused for as long.
        """
        now_ms = self.clock.now().wall_us // 1_000
        if self._known.nonce_ceiling <= now_ms:
            return False
        # Above what was reserved, and above what a verification a moment ago took of that.
        self.access.loop.call(partial(self.access.lane.nonces.above, now_ms + RESERVED_MS))
        return True

    def patiently(self, ask: Callable[[], T]) -> T:
        """What it answers; asked again, more slowly, where the exchange says that the key asks too often.

        Raises whatever it raises.
        """
        for _ in range(SLOWER_TIMES):
            try:
                return ask()
            except (CouldNotAsk, OrderRefused) as error:
                if error.kind != FaultKind.RATE_LIMITED:
                    raise
            self.wait(SLOWER_S)
        return ask()

    def redacted(self, text: str) -> str:
        """A text without any of the account's secrets."""
        return self.access.connection.redacted(text)

    def need(self, *names: str) -> None:
        """Raise NotDone unless these checks have passed."""
        for name in names:
            if not self._did_pass(name):
                raise NotDone(f"not done, since {name} did not pass")

    @once
    def timing(self) -> Timing:
        """What the exchange's clock said. Raises CouldNotAsk, NotSupported."""
        return self.ask(self.inspection.time())

    @property
    def theirs_s(self) -> float:
        """What it is now by the exchange's clock, seconds since 1970; by ours where that cannot be known."""
        now_s = self.clock.now().wall_us / 1_000_000
        try:
            return now_s + self.timing.skew_ms / 1_000
        except (CouldNotAsk, NotSupported):
            return now_s

    @once
    def key_facts(self) -> KeyFacts:
        """What the exchange says of the key. Raises CouldNotAsk, NotAllowed, NotSupported."""
        self.need("connection.authentication")
        return self.ask_again(self.inspection.key)

    def fetched(self) -> Decimal:
        """The cash as a trader is told it; only if the exchange has just answered. Raises CouldNotAsk."""
        return self.patiently(lambda: self._just_answered(self.broker.get_account_balance))

    def _just_answered(self, ask: Callable[[], T]) -> T:
        """A balance, unless it is the last known only. Raises CouldNotAsk."""
        try:
            found = ask()
        except BalanceUnknown as error:
            raise CouldNotAsk(str(error), self.broker.reading().fault or "") from None
        reading = self.broker.reading()
        if reading.fault:
            raise CouldNotAsk(f"{reading.fault}: {reading.detail}", reading.fault)
        return found

    @once
    def cash(self) -> Decimal:
        """The cash as a trader is told it."""
        self.need("connection.authentication")
        return self.fetched()

    def read_detailed(self) -> DetailedBalance:
        """All that is in the account, only if the exchange has just answered. Raises CouldNotAsk."""
        return self.patiently(lambda: self._just_answered(self.broker.get_account_balance_detailed))

    @once
    def detailed(self) -> DetailedBalance:
        """The same, read once."""
        self.need("connection.authentication", "balance.simple")
        return self.read_detailed()

    @once
    def orders(self) -> tuple[OpenOrder, ...]:
        """Every open order."""
        self.need("connection.authentication")
        return self.read_orders()

    def read_orders(self) -> tuple[OpenOrder, ...]:
        """Every open order now. Raises CouldNotAsk, NotSupported."""
        return self.ask_again(lambda: self.inspection.open_orders(self.named))

    def denied(self, name: str) -> str:
        """Why the exchange said that the key may not ask this, a property of this class; else nothing."""
        try:
            getattr(self, name)
        except NotAllowed as error:
            return str(error) if error.kind == FaultKind.PERMISSION else ""
        except (BrokerwatchError, NotDone):
            return ""
        return ""

    def named(self, text: str) -> Product | None:
        """The market of an exchange's own name for it."""
        found = self.products.by_symbol.get(self.products.named(text))
        if found is not None:
            return found
        try:
            return self.products.product(text)
        except SymbolError:
            return None

    @once
    def products(self) -> Products:
        """The markets."""
        self.broker.get_all_products()
        found = self.access.venue.known
        if found is None:
            raise CouldNotAsk("the list of markets was given up again")
        return found

    def known_products(self) -> Products:
        """The markets, for a check that is about something else."""
        try:
            return self.products
        except CouldNotAsk:
            raise NotDone("not done, since market_data.products did not pass") from None

    @property
    def market(self) -> Product:
        """The market that BTC is traded in for dollars; else for another of our cash currencies."""
        listed = self.known_products()
        for quote in dict.fromkeys(("USD", *self.spec.cash_currencies)):
            product = listed.pair("BTC", quote)
            if product is not None:
                return product
        raise NotDone("not done: no market of BTC in dollars or in one of the cash currencies")

    @once
    def candles(self) -> list[Candle]:
        """The newest candles of `market`."""
        return self.broker.get_candles(self.market.symbol, "1m", CANDLES)

    @once
    def price(self) -> tuple[str, Decimal] | None:
        """What BTC costs by another answer than the candles of its market; None where there is none."""
        try:
            return "its ticker", self.ask(self.inspection.last_price(self.market))
        except (CouldNotAsk, NotSupported):
            pass
        listed = self.known_products()
        for quote in ("USDT", "USDC", "USD"):
            other = listed.pair("BTC", quote)
            if other is None or other == self.market:
                continue
            try:
                candles = self.broker.get_candles(other.symbol, "1m", 1)
            except (CouldNotAsk, NotSupported):
                continue
            if candles:
                return f"the candles of {other.symbol}", candles[-1].close
        return None

    @once
    def positions(self) -> list[Position]:
        """What is held and open."""
        self.need("connection.authentication", "balance.simple")
        self.known_products()
        return self.broker.get_positions()
