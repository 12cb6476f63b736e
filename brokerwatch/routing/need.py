"""What is to be traded, and on which market: the trader's input, checked when it is made.

A market may be written in any spelling that people and exchanges use. The markets that the exchanges list
decide which one is meant, as for an order. Only without a list the letters decide. A spelling that could mean
two markets is an error that names both, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from brokerwatch.errors import InvalidOrder, InvalidSymbol
from brokerwatch.exchanges.symbols import SPOT, Products, ambiguous, checked, supposed
from brokerwatch.messages import Side
from brokerwatch.messages.balance import FRACTION_DIGITS, WHOLE_DIGITS, is_code
from brokerwatch.money import ALIASES, plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What is to be traded.

    Without an amount it only has to be more than nothing that is free to pay with. Fees are not considered:
    the exchange may refuse an order for all that is free because of them.

    Raises:
        InvalidOrder: an argument is not possible; the error names it.
    """

    symbol: str
    """A spot market: `BTC/USD`, or in any spelling that `normalize_symbol` reads, such as `BTC-USD`, `btcusd`
    or `XBTUSD`. The quote currency is never replaced by another."""
    side: Side | str
    """`buy` or `sell`."""
    quote_amount: Decimal | None = None
    """How much, in the currency that pays (USD of `BTC/USD`). At most one of the two amounts may be given."""
    base_amount: Decimal | None = None
    """How much, in the currency that is bought or sold (BTC of `BTC/USD`)."""
    prefer: Sequence[str] = ()
    """Names of brokers, the best first. The others come after them."""
    only: Sequence[str] | None = None
    """Names of the brokers that may be chosen; None: all. An empty sequence admits none."""
    avoid: Sequence[str] = ()
    """Names of brokers that are not chosen, such as one that has just refused this order. It outweighs
    `prefer` and `only`."""
    max_age_s: float = 30.0
    """The greatest age of a balance for an entry, in seconds; infinite: any age."""
    exit: bool = False
    """Whether this closes a position. Then health and age are cautions and never refuse."""

    def __post_init__(self) -> None:
        _check_symbol(self.symbol)
        try:
            object.__setattr__(self, "side", Side(self.side))
        except ValueError:
            raise InvalidOrder("side", f"expected 'buy' or 'sell', not {self.side!r}") from None
        if self.quote_amount is not None and self.base_amount is not None:
            raise InvalidOrder("base_amount", "expected one of quote_amount and base_amount, not both")
        for argument, number in (("quote_amount", self.quote_amount), ("base_amount", self.base_amount)):
            if number is not None:
                _check_amount(argument, number)
        object.__setattr__(self, "prefer", _names("prefer", self.prefer))
        if self.only is not None:
            object.__setattr__(self, "only", _names("only", self.only))
        object.__setattr__(self, "avoid", _names("avoid", self.avoid))
        _check_seconds("max_age_s", self.max_age_s)

    def admits(self, broker: str) -> bool:
        """Whether `only` and `avoid` let a broker of this name be chosen."""
        return broker not in self.avoid and (self.only is None or broker in self.only)

    @property
    def base(self) -> str:
        """The currency that is bought or sold. Raises InvalidSymbol when only a list of markets could
        tell."""
        return self._pair()[0]

    @property
    def quote(self) -> str:
        """The currency that pays. Raises InvalidSymbol when only a list of markets could tell."""
        return self._pair()[1]

    @property
    def spends(self) -> str:
        """The currency that leaves the account: the quote of a buy, the base of a sale."""
        return self.quote if self.side == Side.BUY else self.base

    @property
    def spent(self) -> Decimal | None:
        """How much of it leaves the account; None without an amount, and when it depends on the price."""
        return self.quote_amount if self.side == Side.BUY else self.base_amount

    def __str__(self) -> str:
        amount = ""
        if self.quote_amount is not None:
            amount = f" for {plain(self.quote_amount)} {self._words(1)}"
        elif self.base_amount is not None:
            amount = f" {plain(self.base_amount)} {self._words(0)}"
        return f"{'exit, ' if self.exit else ''}{self.side}{amount} on {self.symbol}"

    def read(self, markets: Iterable[Products]) -> Need:
        """This need with its symbol as ccxt writes it; the same object when it is written so already.

        Args:
            markets: the known markets of each exchange.

        Raises:
            InvalidSymbol: the spelling could mean two markets, or cannot be read.
        """
        common = _is_common(self.symbol)
        if common and not any(part in ALIASES for part in self._pair()):
            return self  # a code that differs in case alone and is not listed is another currency
        known = tuple({id(one): one for one in markets}.values())
        if common and any(self.symbol in one.by_symbol for one in known):
            return self
        found = {
            market.symbol: None
            for one in known
            for market in one.meant(self.symbol)
            if market.kind == SPOT and market.symbol == f"{market.base}/{market.quote}"
        }
        if len(found) > 1:
            raise ambiguous(self.symbol, found)
        if not found and common:
            return self
        symbol = next(iter(found), None) or "/".join(supposed(self.symbol))
        return self if symbol == self.symbol else replace(self, symbol=symbol)

    def _pair(self) -> tuple[str, str]:
        base, slash, quote = self.symbol.partition("/")
        return (base, quote) if slash else supposed(self.symbol)

    def _words(self, which: int) -> str:
        try:
            return self._pair()[which]
        except InvalidSymbol:
            return ("of the base currency", "of the quote currency")[which]


def _is_common(symbol: str) -> bool:
    """Whether it is written as ccxt writes most markets: two codes in capitals with a slash between them."""
    return symbol.count("/") == 1 and symbol.upper() == symbol and not set(symbol) & set("-_")


def _check_symbol(symbol: object) -> None:
    expected = 'expected a spot market such as "BTC/USD", in any spelling that normalize_symbol reads'
    if not isinstance(symbol, str):
        raise InvalidOrder("symbol", f"{expected}, not {type(symbol).__name__}")
    try:
        parts = checked(symbol)
    except InvalidSymbol:
        parts = ()
    # A third part, the settlement currency, means a derivative. A balance says too little about those.
    if not 1 <= len(parts) <= 2 or not all(map(is_code, parts)) or len({*map(str.upper, parts)}) < len(parts):
        raise InvalidOrder("symbol", f"{expected}, not {symbol[:40]!r}")


def _check_amount(argument: str, number: object) -> None:
    if isinstance(number, float):
        raise InvalidOrder(argument, f'a float is not exact; write Decimal("500"), not {number!r}')
    if not isinstance(number, Decimal):
        raise InvalidOrder(argument, f'expected a Decimal such as Decimal("500"), not {number!r}'[:120])
    if not number.is_finite():
        raise InvalidOrder(argument, f"expected a finite amount, not {number}")
    if number <= 0:
        raise InvalidOrder(argument, "expected an amount above 0")
    if not -FRACTION_DIGITS <= number.adjusted() < WHOLE_DIGITS:
        raise InvalidOrder(argument, "expected an amount that an account can hold, from 1E-18 to below 1E+30")


def _check_seconds(argument: str, seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:  # NaN is not
        raise InvalidOrder(argument, f"expected seconds above 0, not {seconds!r}"[:120])


def _names(argument: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InvalidOrder(argument, f"expected a list of names of brokers, not {names!r}"[:120])
    found: list[str] = []
    for name in names:  # pyright: ignore[reportUnknownVariableType] - it is being checked
        if not isinstance(name, str):
            raise InvalidOrder(argument, f"expected names of brokers, not {name!r}"[:120])
        found.append(name)
    return tuple(found)
