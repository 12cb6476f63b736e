"""The objections to a broker for a need: facts of the market, of the account and of the moment.

All objections are given, the longest-lasting first, each with a code for programs and a sentence for people.
An exit is refused only by the facts of the market and by a fresh balance without the asset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple

from brokerwatch.clock import utc_text
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import CapabilityState, Product, Reading
from brokerwatch.messages.reading import CUSTOM
from brokerwatch.money import floor_to_step, plain
from brokerwatch.routing.need import Need


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What is known of one broker at this moment."""

    reading: Reading
    products: Products | None = None
    """Its markets; None when they are not known, which is not the same as none."""
    listed: int = 0
    """Its place in the configuration."""
    trading: bool | None = None
    """Whether its configuration lets brokerwatch place orders. None where that does not matter: in a process
    that only listens, and where the trader places the orders."""
    unaccounted: str = ""
    """An order of this broker whose outcome is not known, in words; entries wait until it is. Else empty."""
    unverified: str = ""
    """Why its entries need a verification first, in words; empty when they need none."""
    knowable: bool = True
    """Whether its markets can ever be known. They cannot when a callable of the trader's reads the
    balance."""

    @property
    def is_own(self) -> bool:
        """Whether its markets cannot be known: there is no exchange behind it that could be asked."""
        return self.products is None and (not self.knowable or self.reading.exchange == CUSTOM)


class RefusalCode(StrEnum):
    """Why a broker was not chosen: a closed list."""

    NOT_WANTED = "not_wanted"
    """`Need.only` does not name it, or `Need.avoid` does."""
    NO_SUCH_BROKER = "no_such_broker"
    """`Need.prefer`, `Need.only` or `Need.avoid` names it, and there is none of that name here."""
    NO_SUCH_MARKET = "no_such_market"
    """Its exchange does not list the market."""
    TRADING_DISABLED = "trading_disabled"
    """Its configuration does not say `trading = true`."""
    EXPIRED = "expired"
    """It was available, and its reading was not renewed in time."""
    NOT_AVAILABLE = "not_available"
    """It cannot be trusted now; the text has the reason."""
    TRADE_DOWN = "trade_down"
    """Its orders fail, or the exchange says that trading is closed."""
    TRADE_LIMITED = "trade_limited"
    """The exchange takes cancels or resting orders only."""
    ORDER_UNKNOWN = "order_unknown"
    """The outcome of an earlier order is not known, and no entry goes out until it is."""
    VERIFICATION_REQUIRED = "verification_required"
    """Its entries need a passing `brokerwatch verify` that is young enough."""
    PRODUCTS_UNKNOWN = "products_unknown"
    """The markets of its exchange were not read yet."""
    MARKET_CLOSED = "market_closed"
    """Not open for trading just now, for everyone or for this account alone."""
    BELOW_MINIMUM = "below_minimum"
    """Less than the market's smallest order, once rounded down to its steps."""
    BALANCE_UNKNOWN = "balance_unknown"
    """It never answered, or its cluster does not publish balances."""
    OVERTAKEN = "overtaken"
    """An order was sent after the balance was read."""
    BALANCE_STALE = "balance_stale"
    """The balance is older than `Need.max_age_s`."""
    NOT_ENOUGH = "not_enough"
    """Its free amount is below the need's."""


MONEY: Final = frozenset({RefusalCode.BALANCE_UNKNOWN, RefusalCode.NOT_ENOUGH})
"""Under these codes it is not known that the broker has enough."""
_EXIT_REFUSED: Final = frozenset(
    {
        RefusalCode.NOT_WANTED,
        RefusalCode.NO_SUCH_MARKET,
        RefusalCode.BELOW_MINIMUM,
        RefusalCode.NOT_ENOUGH,
    }
)
"""These refuse an exit too; `not_enough` only on a fresh balance, since a stale one may be wrong."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One broker that cannot be chosen, and the first reason for it."""

    broker: str
    """Its name, as configured."""
    code: RefusalCode
    """The reason, for programs."""
    text: str
    """A sentence for a person, with the numbers: `has 120.5 USD free, needs 500`."""


class Seen(NamedTuple):
    """A candidate at one moment. Each value that depends on the clock was read once."""

    candidate: Candidate
    broker: str
    stale: bool
    age_ms: int | None
    available: bool
    free: Decimal | None


def seen_of(need: Need, candidate: Candidate) -> Seen:
    """Read everything of a candidate that depends on the clock, for the judgement that follows."""
    reading = candidate.reading
    stale, age_ms = reading.stale, reading.age_ms
    free = None
    if reading.as_of is not None and reading.balance is not None and need.spends not in reading.unread:
        held = reading.balance.get(need.spends)
        free = Decimal(0) if held is None else held.free  # a stated balance names all that is there
    # `available` is read last: of the three values this is the one that must not be old.
    return Seen(candidate, reading.broker, stale, age_ms, reading.available, free)


def objections(need: Need, seen: Seen, *, strict_products: bool) -> Iterator[Refusal]:
    """All objections to this candidate, the longest-lasting first."""

    def because(code: RefusalCode, text: str) -> Refusal:
        return Refusal(seen.broker, code, text)

    candidate, reading = seen.candidate, seen.candidate.reading
    if need.only is not None and seen.broker not in need.only:
        wanted = ", ".join(need.only) or "none"
        yield because(RefusalCode.NOT_WANTED, f"the need admits only {wanted}")
    if seen.broker in need.avoid:
        yield because(RefusalCode.NOT_WANTED, "the need avoids it")
    product = None if candidate.products is None else candidate.products.by_symbol.get(need.symbol)
    if candidate.products is not None and product is None:
        yield because(RefusalCode.NO_SUCH_MARKET, f"has no market {need.symbol}")
    if candidate.trading is False:
        yield because(RefusalCode.TRADING_DISABLED, "its configuration does not say trading = true")
    if candidate.unverified and not need.exit:  # an exit needs none, so it is not even a caution
        yield because(RefusalCode.VERIFICATION_REQUIRED, candidate.unverified)
    if not seen.available:
        yield _not_available(seen)
    trade = reading.capabilities.get("trade")
    if trade is not None and trade.state in (CapabilityState.DOWN, CapabilityState.LIMITED):
        down = trade.state is CapabilityState.DOWN
        code = RefusalCode.TRADE_DOWN if down else RefusalCode.TRADE_LIMITED
        words = "takes no orders" if down else "takes no market orders"
        yield because(code, _with_detail(f"{words}: {trade.reason}", trade.detail))
    if (shut := reading.closed(need.symbol)) is not None:
        again = (
            f"{need.symbol} is closed for this account until {utc_text(shut.until.wall_us)}: {shut.reason}"
        )
        yield because(RefusalCode.MARKET_CLOSED, _with_detail(again, shut.detail))
    if candidate.unaccounted:
        yield because(RefusalCode.ORDER_UNKNOWN, f"an order is not accounted for: {candidate.unaccounted}")
    if candidate.products is None and strict_products and not candidate.is_own:
        yield because(RefusalCode.PRODUCTS_UNKNOWN, "its markets are not known yet")
    if product is not None:
        if not product.active:
            yield because(RefusalCode.MARKET_CLOSED, f"{need.symbol} is not open for trading")
        if text := _below_minimum(need, product):
            yield because(RefusalCode.BELOW_MINIMUM, text)
    yield from _money(need, seen)


def _not_available(seen: Seen) -> Refusal:
    reading = seen.candidate.reading
    if reading.verdict.available:
        return Refusal(seen.broker, RefusalCode.EXPIRED, "its reading ran out and was not renewed")
    errors = f", {reading.error_count} in a row" if reading.error_count else ""
    text = _with_detail(f"not available: {reading.verdict.reason}{errors}", reading.detail)
    return Refusal(seen.broker, RefusalCode.NOT_AVAILABLE, text)


def _money(need: Need, seen: Seen) -> Iterator[Refusal]:
    reading, free = seen.candidate.reading, seen.free
    if seen.age_ms is None:
        yield Refusal(seen.broker, RefusalCode.BALANCE_UNKNOWN, "its balance was never read")
        return
    if reading.overtaken:
        text = "an order was sent after its balance was read"
        yield Refusal(seen.broker, RefusalCode.OVERTAKEN, text)
    if seen.age_ms / 1_000 > need.max_age_s:
        text = f"its balance is {seconds(seen.age_ms)} old, and at most {need.max_age_s:g} s are asked for"
        yield Refusal(seen.broker, RefusalCode.BALANCE_STALE, text)
    if free is None:
        text = "its cluster keeps balances to itself, or has not told this one yet"
        if reading.balance is not None:
            text = f"how much of its {need.spends} is free is unknown: the exchange did not state it"
        yield Refusal(seen.broker, RefusalCode.BALANCE_UNKNOWN, text)
        return
    enough = free > 0 if need.spent is None else free >= need.spent
    if not enough:
        has = f"has {plain(free)} {need.spends} free{' by a stale balance' if seen.stale else ''}"
        wanted = "some" if need.spent is None else plain(need.spent)
        yield Refusal(seen.broker, RefusalCode.NOT_ENOUGH, f"{has}, needs {wanted}")


def _below_minimum(need: Need, product: Product) -> str:
    """Why the amount is too small for the market; empty when it is not, and when it depends on the price."""
    for wanted, step, minimum, currency in (
        (need.base_amount, product.base_step, product.base_minimum, need.base),
        (need.quote_amount, product.quote_step, product.quote_minimum, need.quote),
    ):
        if wanted is None:
            continue
        rounded = wanted if step is None or step <= 0 else floor_to_step(wanted, step)
        if rounded == 0:
            return f"{plain(wanted)} {currency} is less than its smallest step, {plain(step or wanted)}"
        if minimum is not None and rounded < minimum:
            steps = "" if rounded == wanted else f", {plain(rounded)} in its steps"
            return f"takes no less than {plain(minimum)} {currency}, and {plain(wanted)} is wanted{steps}"
    return ""


def refuses_exit(objection: Refusal, seen: Seen) -> bool:
    """Whether this objection refuses an exit too."""
    if objection.code is RefusalCode.NOT_ENOUGH:
        return not seen.stale
    return objection.code in _EXIT_REFUSED


def seconds(age_ms: int) -> str:
    """An age for people."""
    return f"{age_ms / 1_000:.1f} s"


def _with_detail(text: str, detail: str) -> str:
    words = " ".join(detail.split())  # one line per broker, whatever line ends an exchange sends
    return f"{text} ({words})" if words else text
