"""An order that a simulated exchange took, and its fills. All of it is a value; amounts are exact."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from brokerwatch.simulator.amounts import EXACT, total_of

GTC, GTD, IOC, FOK = "GTC", "GTD", "IOC", "FOK"
"""How long an order is good: until it is cancelled, until a moment, at once, or at once and whole."""

USER, UNFILLED, WOULD_TAKE, EXPIRED = "user", "unfilled", "would take", "expired"
"""Why an order was cancelled: by the user, as IOC or FOK, as post-only, or because its time is over."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of an order or of a part of it."""

    base: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str
    maker: bool
    """The order rested before."""
    at_s: float
    """By the exchange's own clock, seconds since 1970."""

    @property
    def quote(self) -> Decimal:
        """What was exchanged for `base`, without the fee."""
        return EXACT.multiply(self.base, self.price)


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order that an exchange took. `base_amount` and `quote_amount` are those of the whole order."""

    id: str
    client_id: str
    """The client's own, empty where none was sent."""
    symbol: str
    """As ccxt writes it: BTC/USD."""
    side: str
    """`buy` or `sell`."""
    base_amount: Decimal
    quote_amount: Decimal
    price: Decimal
    """A limit order's limit; else the price at which it was placed."""
    size: Decimal
    """What was asked for: in the quote currency if `in_quote`, else in the base currency."""
    in_quote: bool
    placed_s: float
    """By the exchange's own clock, seconds since 1970."""
    state: str = "filled"
    """`filled`, `open` or `canceled`. An order that is filled in part is open, or was cancelled then."""
    reference: str = ""
    """Kraken's userref; empty where none was sent."""
    kind: str = "market"
    """`market` or `limit`."""
    by_hand: bool = False
    """`rest` placed it, and no call."""
    time_in_force: str = GTC
    post_only: bool = False
    expires_s: float | None = None
    """When a GTD order ends, by the exchange's own clock."""
    fills: tuple[Fill, ...] = ()
    held: Decimal = Decimal()
    """What it still holds, in the currency that the account gives."""
    updated_s: float = 0.0
    """When it was placed, filled or cancelled, whichever was last."""
    ended_by: str = ""
    """Why it was cancelled: `user`, `unfilled`, `would take` or `expired`."""

    @property
    def filled_base(self) -> Decimal:
        """How much of it is executed."""
        return total_of(fill.base for fill in self.fills)

    @property
    def left_base(self) -> Decimal:
        """How much of it is not executed."""
        return EXACT.subtract(self.base_amount, self.filled_base)

    @property
    def filled_quote(self) -> Decimal:
        """What was exchanged for `filled_base`, without fees."""
        return total_of(fill.quote for fill in self.fills)

    @property
    def fee(self) -> Decimal:
        """All fees so far, in the currency that its fills name."""
        return total_of(fill.fee for fill in self.fills)

    @property
    def average(self) -> Decimal:
        """The price of what is executed; 0 for nothing."""
        filled = self.filled_base
        if not filled:
            return Decimal()
        prices = {fill.price for fill in self.fills}
        return prices.pop() if len(prices) == 1 else self.filled_quote / filled

    @property
    def base(self) -> str:
        """The currency that is bought or sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        """The currency of the price."""
        return self.symbol.partition("/")[2]

    @property
    def paid_in(self) -> str:
        """The currency that the account gives."""
        return self.quote if self.side == "buy" else self.base
