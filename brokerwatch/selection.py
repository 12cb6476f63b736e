"""Which account can take this order, and why each other one cannot: a pure choice among readings.

A `Need` says what is to be traded. Each `Candidate` is asked on its own whether anything speaks against
it; those against whom nothing does are put in one total order, so the same knowledge always gives the
same choice, in whatever order it is handed in, and a candidate more never changes how two others stand.
The order is:

1. the place in `prefer`; who is not listed there comes after all who are;
2. a fresh balance before a stale one;
3. healthy evidence before degraded;
4. fewer errors in a row;
5. the order of the configuration, and of equals the name.

Amounts do not rank. A balance is compared with what the need asks for and with nothing else: a stale
amount beside a fresh one, or dollars beside a dollar stablecoin, are two different kinds of number, and
any rule such as "where there is most" would set them against one another. Whoever needs an amount that
no single account has gets nobody, never a sum.

An exit is never blocked by what we know of health, age or configuration. For an exit only the facts of
the market and a fresh balance without the asset refuse; all else is a caution, and who has fewer of them
comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from enum import StrEnum
from typing import Final, NamedTuple

from brokerwatch.errors import InvalidOrder
from brokerwatch.messages import CapabilityState, HealthState, Product, Reading, Side
from brokerwatch.messages.balance import FRACTION_DIGITS, WHOLE_DIGITS, is_code

NOBODY: Final = "nobody"
"""What stands in `Choice.why()` when there is no choice."""

_EXACT: Final = Context(prec=200)
_EVIDENCE: Final[Mapping[HealthState, int]] = {
    HealthState.HEALTHY: 0,
    HealthState.DEGRADED: 1,
    HealthState.RECOVERING: 2,
    HealthState.MAINTENANCE: 3,
    HealthState.UNAVAILABLE: 4,
    HealthState.UNKNOWN: 5,
}
"""Better evidence first. Only the first two can be available; the others matter to exits alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What is to be traded. Raises InvalidOrder, which names the argument that cannot be.

    With neither amount it is only asked that there is something to pay with. Fees are not reckoned
    with: an order for all that is free may be refused for them by the exchange.
    """

    symbol: str
    """A spot market as ccxt writes it: `BTC/USD`. The quote currency is never replaced by another."""
    side: Side | str
    """`buy` or `sell`."""
    quote_amount: Decimal | None = None
    """How much, in the currency that pays (USD of `BTC/USD`). At most one of the two amounts."""
    base_amount: Decimal | None = None
    """How much, in the currency that is bought or sold (BTC of `BTC/USD`)."""
    prefer: Sequence[str] = ()
    """Names of brokers, the best first. The others come after them."""
    only: Sequence[str] | None = None
    """Names of the brokers that may be chosen at all; None: any. An empty one admits nobody."""
    max_age_s: float = 30.0
    """A balance that is older refuses an entry; infinite: any age."""
    exit: bool = False
    """Whether this closes something: then health and age only rank and caution."""

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
        _check_seconds("max_age_s", self.max_age_s)

    @property
    def base(self) -> str:
        """The currency that is bought or sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        """The currency that pays."""
        return self.symbol.partition("/")[2]

    @property
    def spends(self) -> str:
        """The currency that leaves the account: the quote of a buy, the base of a sale."""
        return self.quote if self.side == Side.BUY else self.base

    @property
    def spent(self) -> Decimal | None:
        """How much of it leaves the account; None when only a price would tell, or no amount is asked for."""
        return self.quote_amount if self.side == Side.BUY else self.base_amount

    def __str__(self) -> str:
        amount = ""
        if self.quote_amount is not None:
            amount = f" for {_plain(self.quote_amount)} {self.quote}"
        elif self.base_amount is not None:
            amount = f" {_plain(self.base_amount)} {self.base}"
        return f"{'exit, ' if self.exit else ''}{self.side}{amount} on {self.symbol}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What is known of one broker at this moment."""

    reading: Reading
    products: Mapping[str, Product] | None = None
    """Its markets by symbol; None when they are not known, which is not the same as none."""
    listed: int = 0
    """Its place in the configuration."""
    trading: bool | None = None
    """Whether its configuration lets orders go through us; None where that is nobody's concern: in a
    process that only listens, and where the trader places his orders himself."""


class RefusalCode(StrEnum):
    """Why a broker was not chosen: a closed list."""

    NOT_WANTED = "not_wanted"
    """`Need.only` does not name it."""
    NO_SUCH_BROKER = "no_such_broker"
    """`Need.prefer` or `Need.only` names it, and there is none of that name here."""
    NO_SUCH_MARKET = "no_such_market"
    TRADING_DISABLED = "trading_disabled"
    """Its configuration does not say `trading = true`."""
    EXPIRED = "expired"
    """It was available, and nobody vouches for that any more."""
    NOT_AVAILABLE = "not_available"
    TRADE_DOWN = "trade_down"
    """Its orders fail, or the exchange says that trading is closed."""
    TRADE_LIMITED = "trade_limited"
    """The exchange takes cancels or resting orders only."""
    PRODUCTS_UNKNOWN = "products_unknown"
    MARKET_CLOSED = "market_closed"
    """Listed, and not open for trading just now."""
    BELOW_MINIMUM = "below_minimum"
    """Less than the market's smallest order, once rounded down to its steps."""
    BALANCE_UNKNOWN = "balance_unknown"
    """It never answered, or whoever publishes it keeps the balance to itself."""
    OVERTAKEN = "overtaken"
    """An order was sent after the balance was read."""
    BALANCE_STALE = "balance_stale"
    """The balance is older than `Need.max_age_s`."""
    NOT_ENOUGH = "not_enough"


_MONEY: Final = frozenset({RefusalCode.BALANCE_UNKNOWN, RefusalCode.NOT_ENOUGH})
_EXIT_REFUSED: Final = frozenset(
    {
        RefusalCode.NOT_WANTED,
        RefusalCode.NO_SUCH_MARKET,
        RefusalCode.BELOW_MINIMUM,
        RefusalCode.NOT_ENOUGH,
    }
)
"""What refuses an exit too; `not_enough` only on a fresh balance, since a stale one may be wrong."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One broker that cannot be chosen, and the first reason for it."""

    broker: str
    code: RefusalCode
    text: str
    """A sentence for a person, with the numbers: `has 120.5 USD free, needs 500`."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One broker that can be chosen."""

    broker: str
    reading: Reading
    """The very reading that was judged."""
    stale: bool
    """Whether its balance is anything but the newest truth; then it was not compared with a fresh one."""
    free: Decimal | None
    """What is free of the currency that would leave the account; None when unknown."""
    cautions: tuple[str, ...] = ()
    """What a person should know before he uses it."""
    behind: str = ""
    """The first criterion by which it stands behind the one before it; empty for the best."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to a need: true when somebody was found."""

    need: Need
    ranked: tuple[Ranked, ...]
    """Those who can take it, the best first."""
    refused: tuple[Refusal, ...]
    """Those who cannot, in the order of the configuration; then names that are nobody's."""

    @property
    def best(self) -> Ranked | None:
        """The first of the ranked; None when there is none."""
        return self.ranked[0] if self.ranked else None

    @property
    def broker(self) -> str | None:
        """The name of the best; None when there is none."""
        return self.ranked[0].broker if self.ranked else None

    def __bool__(self) -> bool:
        return bool(self.ranked)

    def why(self) -> str:
        """Who was chosen, and why each other was not: a line for each, for a person or a log."""
        lines = [f"{self.need}: {self.broker or NOBODY}"]
        if not self.ranked and not self.refused:
            lines.append("  there is no broker to choose from")
        for place, one in enumerate(self.ranked, 1):
            free = "balance unknown" if one.free is None else f"{_plain(one.free)} {self.need.spends} free"
            if one.free is not None and one.stale:
                free += " (stale)"
            parts = [f"behind, {one.behind}"] if one.behind else ["chosen"]
            lines.append(f"  {place}. {one.broker}: {'; '.join([*parts, free, *one.cautions])}")
        lines.extend(f"  -  {one.broker}: {one.code}: {one.text}" for one in self.refused)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.why()


class _Seen(NamedTuple):
    """A candidate at one moment: each answer that depends on the clock was asked for once."""

    candidate: Candidate
    broker: str
    stale: bool
    age_ms: int | None
    available: bool
    free: Decimal | None


class _Standing(NamedTuple):
    """Where somebody stands: compared from the front, and the smaller is the better."""

    lacks: bool
    """Only of exits: whether it has enough is not known."""
    hindrances: int
    """Only of exits: how many things would have refused an entry."""
    place: int
    stale: bool
    evidence: int
    errors: int
    listed: int
    broker: str


_BEHIND: Final = (
    "whether it has enough is not known",
    "more speaks against it",
    "preferred less",
    "its balance is stale",
    "its evidence is worse",
    "more errors in a row",
    "later in the configuration",
    "later by its name",
)
"""What is said of whoever stands behind, for each part of `_Standing`."""


def choose(need: Need, candidates: Iterable[Candidate], *, strict_products: bool = True) -> Choice:
    """Who can take `need`, the best first, and why nobody else can.

    `strict_products`: whether a broker whose markets are not known is refused; a process that only listens
    never knows them, and is told by a caution. Raises ValueError when two candidates have one name.
    """
    ranked: list[tuple[_Standing, Ranked]] = []
    refused: list[Refusal] = []
    ordered = sorted(candidates, key=lambda one: (one.listed, one.reading.broker))
    names = [one.reading.broker for one in ordered]
    if len(set(names)) < len(names):
        raise ValueError("two candidates have the same name; of each broker there is one reading")
    for candidate in ordered:
        seen = _seen(need, candidate)
        objections = list(_objections(need, seen, strict_products=strict_products))
        final = [one for one in objections if not need.exit or _refuses_exit(one, seen)]
        if final:
            refused.append(final[0])
        else:
            ranked.append((_standing(need, seen, objections), _ranked(need, seen, objections)))
    named = dict.fromkeys((*need.prefer, *(need.only or ())))
    refused += [
        Refusal(name, RefusalCode.NO_SUCH_BROKER, "no broker of this name is known here")
        for name in named
        if name not in names
    ]
    ranked.sort(key=lambda pair: pair[0])
    return Choice(need, _explained(ranked), tuple(refused))


def _seen(need: Need, candidate: Candidate) -> _Seen:
    reading = candidate.reading
    stale, age_ms = reading.stale, reading.age_ms
    free = None
    if reading.as_of is not None and reading.balance is not None:
        held = reading.balance.get(need.spends)
        free = Decimal(0) if held is None else held.free  # a stated balance names all that is there
    # Asked last: of the three answers this is the one that must not be old.
    return _Seen(candidate, reading.broker, stale, age_ms, reading.available, free)


def _objections(need: Need, seen: _Seen, *, strict_products: bool) -> Iterator[Refusal]:
    """Everything that speaks against this candidate, what lasts longest first."""

    def because(code: RefusalCode, text: str) -> Refusal:
        return Refusal(seen.broker, code, text)

    candidate, reading = seen.candidate, seen.candidate.reading
    if need.only is not None and seen.broker not in need.only:
        wanted = ", ".join(need.only) or "nobody"
        yield because(RefusalCode.NOT_WANTED, f"the need admits only {wanted}")
    product = None if candidate.products is None else candidate.products.get(need.symbol)
    if candidate.products is not None and product is None:
        yield because(RefusalCode.NO_SUCH_MARKET, f"has no market {need.symbol}")
    if candidate.trading is False:
        yield because(RefusalCode.TRADING_DISABLED, "its configuration does not say trading = true")
    if not seen.available:
        yield _not_available(seen)
    trade = reading.capabilities.get("trade")
    if trade is not None and trade.state in (CapabilityState.DOWN, CapabilityState.LIMITED):
        down = trade.state is CapabilityState.DOWN
        code = RefusalCode.TRADE_DOWN if down else RefusalCode.TRADE_LIMITED
        words = "takes no orders" if down else "takes no market orders"
        yield because(code, _with_detail(f"{words}: {trade.reason}", trade.detail))
    if candidate.products is None and strict_products:
        yield because(RefusalCode.PRODUCTS_UNKNOWN, "its markets are not known yet")
    if product is not None:
        if not product.active:
            yield because(RefusalCode.MARKET_CLOSED, f"{need.symbol} is not open for trading")
        if text := _below_minimum(need, product):
            yield because(RefusalCode.BELOW_MINIMUM, text)
    yield from _money(need, seen)


def _not_available(seen: _Seen) -> Refusal:
    reading = seen.candidate.reading
    if reading.verdict.available:
        return Refusal(seen.broker, RefusalCode.EXPIRED, "nobody vouches for it since its reading ran out")
    errors = f", {reading.error_count} in a row" if reading.error_count else ""
    text = _with_detail(f"not available: {reading.verdict.reason}{errors}", reading.detail)
    return Refusal(seen.broker, RefusalCode.NOT_AVAILABLE, text)


def _money(need: Need, seen: _Seen) -> Iterator[Refusal]:
    reading, free = seen.candidate.reading, seen.free
    if seen.age_ms is None:
        yield Refusal(seen.broker, RefusalCode.BALANCE_UNKNOWN, "its balance was never read")
        return
    if reading.overtaken:
        text = "an order was sent after its balance was read"
        yield Refusal(seen.broker, RefusalCode.OVERTAKEN, text)
    if seen.age_ms / 1_000 > need.max_age_s:
        text = f"its balance is {_seconds(seen.age_ms)} old, and at most {need.max_age_s:g} s are asked for"
        yield Refusal(seen.broker, RefusalCode.BALANCE_STALE, text)
    if free is None:
        text = "its cluster keeps balances to itself, or has not told this one yet"
        yield Refusal(seen.broker, RefusalCode.BALANCE_UNKNOWN, text)
        return
    enough = free > 0 if need.spent is None else free >= need.spent
    if not enough:
        has = f"has {_plain(free)} {need.spends} free{' by a stale balance' if seen.stale else ''}"
        wanted = "some" if need.spent is None else _plain(need.spent)
        yield Refusal(seen.broker, RefusalCode.NOT_ENOUGH, f"{has}, needs {wanted}")


def _below_minimum(need: Need, product: Product) -> str:
    """Why the market would not take so little; empty when it would, or when only a price would tell."""
    for wanted, step, minimum, currency in (
        (need.base_amount, product.base_step, product.base_minimum, need.base),
        (need.quote_amount, product.quote_step, product.quote_minimum, need.quote),
    ):
        if wanted is None:
            continue
        rounded = _floored(wanted, step)
        if rounded == 0:
            return f"{_plain(wanted)} {currency} is less than its smallest step, {_plain(step or wanted)}"
        if minimum is not None and rounded < minimum:
            steps = "" if rounded == wanted else f", {_plain(rounded)} in its steps"
            return f"takes no less than {_plain(minimum)} {currency}, and {_plain(wanted)} is wanted{steps}"
    return ""


def _refuses_exit(objection: Refusal, seen: _Seen) -> bool:
    if objection.code is RefusalCode.NOT_ENOUGH:
        return not seen.stale
    return objection.code in _EXIT_REFUSED


def _standing(need: Need, seen: _Seen, objections: Sequence[Refusal]) -> _Standing:
    reading = seen.candidate.reading
    return _Standing(
        lacks=any(one.code in _MONEY for one in objections),
        hindrances=len(objections),
        place=need.prefer.index(seen.broker) if seen.broker in need.prefer else len(need.prefer),
        stale=seen.stale,
        evidence=_EVIDENCE[reading.state],
        errors=reading.error_count,
        listed=seen.candidate.listed,
        broker=seen.broker,
    )


def _ranked(need: Need, seen: _Seen, objections: Sequence[Refusal]) -> Ranked:
    cautions = [one.text for one in objections]  # there are none but for an exit
    if seen.candidate.products is None and not any(
        one.code is RefusalCode.PRODUCTS_UNKNOWN for one in objections
    ):
        cautions.append(f"whether it has a market {need.symbol} is not known")
    if seen.stale and seen.age_ms is not None:
        cautions.append(f"its balance is stale: the last known, read {_seconds(seen.age_ms)} ago")
    asked = need.base_amount if need.side == Side.BUY else need.quote_amount
    if asked is not None and seen.free is not None:
        currency = need.base if need.side == Side.BUY else need.quote
        only_a_price = f"only a price tells whether its {_plain(seen.free)} {need.spends} are enough"
        cautions.append(f"{only_a_price} for {_plain(asked)} {currency}")
    return Ranked(seen.broker, seen.candidate.reading, seen.stale, seen.free, tuple(cautions))


def _explained(ranked: Sequence[tuple[_Standing, Ranked]]) -> tuple[Ranked, ...]:
    """The ranked with the criterion by which each stands behind the one before it."""
    found: list[Ranked] = []
    for place, (standing, one) in enumerate(ranked):
        if place == 0:
            found.append(one)
            continue
        before = ranked[place - 1][0]
        behind = next(
            words for words, mine, theirs in zip(_BEHIND, standing, before, strict=True) if mine != theirs
        )
        found.append(replace(one, behind=behind))
    return tuple(found)


def _check_symbol(symbol: object) -> None:
    expected = 'expected a spot market such as "BTC/USD"'
    if not isinstance(symbol, str):
        raise InvalidOrder("symbol", f"{expected}, not {type(symbol).__name__}")
    parts = symbol.split("/")
    # A colon is a derivative, of which a balance says too little; wholly small letters are no currency.
    sound = len(parts) == 2 and all(is_code(part) and not set(part) & set(": ") for part in parts)
    if not sound or parts[0] == parts[1] or symbol.upper() != symbol:
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


def _floored(number: Decimal, step: Decimal | None) -> Decimal:
    """Rounded down to the step, exactly, whatever precision the caller's thread computes with."""
    if step is None or step <= 0:
        return number
    return _EXACT.subtract(number, _EXACT.remainder(number, step))


def _plain(number: Decimal) -> str:
    """An amount for people: all its digits, without zeros that say nothing."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _seconds(age_ms: int) -> str:
    return f"{age_ms / 1_000:.1f} s"


def _with_detail(text: str, detail: str) -> str:
    words = " ".join(detail.split())  # a line for each broker, whatever an exchange says
    return f"{text} ({words})" if words else text
