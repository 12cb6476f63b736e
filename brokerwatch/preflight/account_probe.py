"""What a verification has asked of one account, and the answers. Each question is asked once, for all checks.

A question that was not answered stays so for the whole verification: it is reported by the check that it
belongs to, and the checks that build on it are not done.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeVar, cast

from brokerwatch.clock import Clock
from brokerwatch.cluster.broker import Broker, requests_of
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
from brokerwatch.messages import Candle, DetailedBalance, FaultKind, Position, Product, Reading
from brokerwatch.preflight.exchange_probe import ExchangeProbe, Timing
from brokerwatch.storage.records import KeyState

T = TypeVar("T")

CANDLES: Final = 100
SLOWER_S: Final = 4.0
"""How long an exchange is left alone that answers that the key asks too often. Kraken forgives a
call in 3 s."""
SLOWER_TIMES: Final = 2
"""How often that is done for one question."""


class NotDone(Exception):
    """A check that could not be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one question: a value, or the error that it ended with."""

    value: Any = None
    error: BrokerwatchError | NotDone | None = None


class AccountProbe:
    """Asks one account, each question once, and keeps the answers for all checks.

    It blocks, and is used by one thread. `did_pass` says whether the check of that name has passed.
    """

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
        self.access = requests_of(broker).account().access
        self.exchange = ExchangeProbe(spec, self.access, clock)
        self._answers: dict[str, Answer] = {}
        """By question; one that ended with an error ends with it again."""
        self._did_pass = did_pass
        self.wait: Final = wait
        """Waits for so many seconds; ends sooner when the verification is stopped."""
        lane = self.access.lane
        self._known = known.get(lane.fingerprint, KeyState(lane.fingerprint))
        # A key that is shut out must not be asked. Its numbers are another matter: see `skip_numbers`.
        locked = KeyState(lane.fingerprint, locked_until_us=self._known.locked_until_us)
        self.access.loop.call(partial(lane.recall, locked))

    def once(self, name: str, ask: Callable[[], T]) -> T:
        """The answer to the question of this name, which is asked at the first call.

        Raises what `ask` raised then, at each call.
        """
        if name not in self._answers:
            try:
                self._answers[name] = Answer(ask())
            except (BrokerwatchError, NotDone) as error:
                self._answers[name] = Answer(error=error)
        answer = self._answers[name]
        if answer.error is not None:
            raise answer.error.with_traceback(None)
        return cast("T", answer.value)

    def ask_again(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a private question; see `patiently`."""
        return self.patiently(lambda: self.ask(question()))

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The answer to a question that is asked on the account's loop."""
        patience_s = LANE_WAIT_S + self.spec.fetch_deadline_s + MARKETS_DEADLINE_S
        try:
            asked = self.access.loop.submit(question)
        except RuntimeError as error:  # it hung, and another one has taken its place
            raise CouldNotAsk(str(error), FaultKind.CLIENT_BUG) from None
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

        This is not done from the beginning, and never where another program runs with this key: the numbers
        are up to a minute ahead, and a program that uses lower ones is refused for as long.
        """
        now_ms = self.clock.now().wall_us // 1_000
        if self._known.nonce_ceiling <= now_ms:
            return False
        # Above what was reserved, and above what a verification a moment ago took of that.
        above = max(now_ms + RESERVED_MS, self._known.nonce_ceiling)  # far above it where they are fenced
        self.access.loop.call(partial(self.access.lane.nonces.above, above))
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

    @property
    def timing(self) -> Timing:
        """What the exchange's clock said. Raises CouldNotAsk, NotSupported."""
        return self.once("timing", lambda: self.ask(self.exchange.time()))

    @property
    def theirs_s(self) -> float:
        """What it is now by the exchange's clock, seconds since 1970; by ours where that cannot be known."""
        now_s = self.clock.now().wall_us / 1_000_000
        try:
            return now_s + self.timing.skew_ms / 1_000
        except (CouldNotAsk, NotSupported):
            return now_s

    @property
    def key_facts(self) -> KeyFacts:
        """What the exchange says of the key. Raises CouldNotAsk, NotAllowed, NotSupported."""

        def ask() -> KeyFacts:
            self.need("connection.authentication")
            return self.ask_again(self.exchange.key)

        return self.once("key_facts", ask)

    def stream_right(self) -> str:
        """The right for the exchange's stream that the key has not, in words; empty: it has it, or none is
        needed. Raises CouldNotAsk."""
        return self.once("stream_right", lambda: self.ask_again(self.exchange.stream_right))

    def fetched(self) -> Decimal | None:
        """The cash as a trader is given it; only if the exchange has just answered. Raises CouldNotAsk.

        None where the exchange states other parts of the balance, and not how much of the cash is free.
        """
        return self.patiently(lambda: self._just_answered(self._cash))

    def _cash(self) -> Decimal | None:
        try:
            return self.broker.get_account_balance()
        except BalanceUnknown:
            if states_parts(self.broker.reading(), self.spec.cash_currencies):
                return None
            raise

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

    @property
    def cash(self) -> Decimal | None:
        """The cash as a trader is given it; None: see `fetched`."""

        def ask() -> Decimal | None:
            self.need("connection.authentication")
            return self.fetched()

        return self.once("cash", ask)

    def read_detailed(self) -> DetailedBalance:
        """All that is in the account, only if the exchange has just answered. Raises CouldNotAsk."""
        return self.patiently(lambda: self._just_answered(self.broker.get_account_balance_detailed))

    @property
    def detailed(self) -> DetailedBalance:
        """The same as `read_detailed`, read once."""

        def ask() -> DetailedBalance:
            self.need("connection.authentication", "balance.simple")
            return self.read_detailed()

        return self.once("detailed", ask)

    @property
    def orders(self) -> tuple[OpenOrder, ...]:
        """Every open order."""

        def ask() -> tuple[OpenOrder, ...]:
            self.need("connection.authentication")
            return self.read_orders()

        return self.once("orders", ask)

    def read_orders(self) -> tuple[OpenOrder, ...]:
        """Every open order now. Raises CouldNotAsk, NotSupported."""
        return self.ask_again(lambda: self.exchange.open_orders(self.named))

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

    @property
    def products(self) -> Products:
        """The markets."""

        def ask() -> Products:
            self.broker.get_all_products()
            found = self.access.venue.known
            if found is None:
                raise CouldNotAsk("the list of markets was given up again")
            return found

        return self.once("products", ask)

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

    @property
    def candles(self) -> list[Candle]:
        """The newest candles of `market`."""
        return self.once("candles", lambda: self.broker.get_candles(self.market.symbol, "1m", CANDLES))

    @property
    def price(self) -> tuple[str, Decimal] | None:
        """What BTC costs by another answer than the candles of its market; None where there is none."""
        return self.once("price", self._other_price)

    def _other_price(self) -> tuple[str, Decimal] | None:
        try:
            return "its ticker", self.ask(self.exchange.last_price(self.market))
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

    @property
    def positions(self) -> list[Position]:
        """What is held and open."""

        def ask() -> list[Position]:
            self.need("connection.authentication", "balance.simple")
            self.known_products()
            return self.broker.get_positions()

        return self.once("positions", ask)


def states_parts(reading: Reading, cash: Iterable[str]) -> bool:
    """Whether the newest answer states some part of each cash currency that is held, and none is in doubt."""
    if reading.fault or reading.balance is None or not reading.unread.isdisjoint(cash):
        return False
    held = [reading.balance[code] for code in cash if code in reading.balance]
    return all(one.unstated_since_us is None for one in held)
