"""What can be traded, what was ordered, and what an account has open: the same values for each exchange.

Amounts are `Decimal` from the exchange's own text. A symbol is written as ccxt writes it: `BTC/USD`,
and `BTC/USDT:USDT` for what is no spot market.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import msgspec


class Side(StrEnum):
    """Which way an order goes."""

    BUY = "buy"
    SELL = "sell"


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """One market of an exchange."""

    symbol: str
    """`BTC/USD`."""
    base: str
    """The currency that is bought or sold."""
    quote: str
    """The currency that pays."""
    id: str
    """The exchange's own name for it: `XXBTZUSD`, `BTC-USD`."""
    kind: str = "spot"
    """`spot`, `margin`, `swap`, `future` or `option`."""
    active: bool = True
    """False: listed, and not open for trading just now."""
    base_step: Decimal | None = None
    """Amounts of the base currency are multiples of this; None when the exchange does not say."""
    quote_step: Decimal | None = None
    """Amounts of the quote currency are multiples of this; None when the exchange does not say."""
    price_step: Decimal | None = None
    """Prices are multiples of this; None when the exchange does not say."""
    base_minimum: Decimal | None = None
    """The smallest order in the base currency; None when the exchange does not say."""
    quote_minimum: Decimal | None = None
    """The smallest order in the quote currency; None when the exchange does not say."""


class Candle(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of one span of time. The newest one of an answer may still be going on."""

    start_us: int
    """Wall clock of the exchange, µs since 1970: when the span begins."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    """In the base currency."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an account has and that is no cash: a coin it holds, or a derivative it has open."""

    symbol: str
    """The market it would be closed on; the bare currency code where the exchange has none in our cash."""
    kind: str
    """`spot` for a coin that is held; else `margin`, `swap`, `future` or `option`."""
    side: str
    """`long` or `short`; a coin that is held is `long`."""
    base_amount: Decimal
    """How much, in the base currency (of derivatives in what the exchange counts in); never negative."""
    free: Decimal
    """The part that no open order holds and that can be sold now."""


class OrderState(StrEnum):
    """What became of an order."""

    VALIDATED = "validated"
    """A dry run: the exchange would take it. Nothing was placed."""
    ACCEPTED = "accepted"
    """The exchange took it, and it is being filled or was."""
    CANCELLED = "cancelled"
    """The exchange took it and ended it before it was filled whole: `detail` says why, `filled_base` what
    was filled."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A market order that an exchange has taken, or in a dry run would take."""

    broker: str
    symbol: str
    side: Side
    base_amount: Decimal | None
    """What was ordered in the base currency, after rounding; None when it was ordered by `quote_amount`."""
    quote_amount: Decimal | None
    """What was ordered in the quote currency, after rounding; None when it was ordered by `base_amount`."""
    client_order_id: str
    """Ours: by it the order can be looked up, and sending it twice places one order."""
    order_id: str
    """The exchange's; empty for a dry run."""
    state: OrderState
    filled_base: Decimal | None = None
    """How much was filled when it was looked up, in the base currency; None: not asked, or not said."""
    detail: str = ""
    """Why it is cancelled, in the exchange's words."""


class CapabilityState(StrEnum):
    """How one kind of call does."""

    UNKNOWN = "unknown"
    """Not tried yet: nothing speaks against it."""
    OK = "ok"
    LIMITED = "limited"
    """The exchange takes it in part: only cancels, or only resting orders. A market order is refused."""
    DOWN = "down"
    """It fails, or the exchange says that it is closed."""


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one kind of call works: `read` (private questions), `trade` (orders), `data` (prices)."""

    state: CapabilityState
    reason: str
    """`not_tried`, `ok`, a kind of fault, or what the exchange says of itself, such as `cancel_only`."""
    detail: str
    """For people."""
    since_us: int
    """Wall clock, µs: since when it is so."""


class StatusWord(StrEnum):
    """What an exchange says of itself."""

    ONLINE = "online"
    MAINTENANCE = "maintenance"
    CANCEL_ONLY = "cancel_only"
    POST_ONLY = "post_only"


@dataclass(frozen=True, slots=True)
class Status:
    """An exchange's own word about itself. Maintenance that is only announced leaves it online."""

    word: StatusWord
    detail: str = ""
    """For people: what is going on, or what is announced."""
