"""Markets, orders, positions and candles: the same values for every exchange.

Amounts are `Decimal` from the exchange's own text. A symbol is written as ccxt writes it: `BTC/USD`,
and `BTC/USDT:USDT` for what is no spot market.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import msgspec

from brokerwatch.clock import Instant


class Side(StrEnum):
    """The direction of an order."""

    BUY = "buy"
    SELL = "sell"


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """One market of an exchange: its names, and the steps and minimums of an order there.

    brokerwatch rounds the amount of an order down to the step of its currency, and refuses an order below the
    minimum. A limit that the exchange does not state is None, and is not checked.
    """

    symbol: str
    """The name as ccxt writes it, such as `BTC/USD`."""
    base: str
    """The currency that is bought or sold."""
    quote: str
    """The currency that pays."""
    id: str
    """The exchange's own name for it: `XXBTZUSD`, `BTC-USD`."""
    kind: str = "spot"
    """`spot`, `margin`, `swap`, `future` or `option`."""
    active: bool = True
    """Whether it is open for trading now. A market that is listed and closed is not active."""
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
    """The prices of one interval of time. The interval of the newest candle of an answer may not be over
    yet."""

    start_us: int
    """When the interval begins: the wall clock of the exchange, µs since 1970."""
    open: Decimal
    """The first price, in the quote currency."""
    high: Decimal
    """The highest price."""
    low: Decimal
    """The lowest price."""
    close: Decimal
    """The last price, so far if the interval is not over."""
    volume: Decimal
    """How much was traded, in the base currency."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has besides cash: a coin that it holds, or a derivative that it has open."""

    symbol: str
    """The market to close it on. The bare currency code where no market of it is quoted in the cash
    currencies."""
    kind: str
    """`spot` for a coin that the account holds; else `margin`, `swap`, `future` or `option`."""
    side: str
    """`long` or `short`. A coin is `long`."""
    base_amount: Decimal
    """Its size in the base currency; of a derivative, in the unit that the exchange counts in. Never
    negative."""
    free: Decimal | None
    """The part that no open order holds: so much can be sold now. In the same unit. None when it is
    unknown."""


class OrderState(StrEnum):
    """How an order ended, as far as it is known."""

    VALIDATED = "validated"
    """A dry run: the exchange would take it. Nothing was placed."""
    ACCEPTED = "accepted"
    """The exchange took it, and has filled it or is filling it."""
    PARTIALLY_FILLED = "partially_filled"
    """A part of it is filled, and it is still open. Only of an order that was looked up."""
    FILLED = "filled"
    """It is filled whole. Only of an order that was looked up."""
    CANCELLED = "cancelled"
    """The exchange took it and ended it before it was filled completely. `detail` says why, `filled_base` how
    much was filled."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A market order that the exchange took, or in a dry run would take.

    An order whose outcome is not known is never an `Order`: it raises `OrderStateUnknown`.
    """

    broker: str
    """The name of the account, as configured."""
    symbol: str
    """The market, as ccxt writes it: `BTC/USD`."""
    side: Side
    """Whether the base currency is bought or sold."""
    base_amount: Decimal | None
    """What was ordered in the base currency, after rounding; None when it was ordered by `quote_amount`."""
    quote_amount: Decimal | None
    """What was ordered in the quote currency, after rounding; None when it was ordered by `base_amount`."""
    client_order_id: str
    """The id that brokerwatch gave the order. It is looked up by it, and an exchange takes no id twice."""
    order_id: str
    """The exchange's id; empty for a dry run."""
    state: OrderState
    """How it ended."""
    filled_base: Decimal | None = None
    """How much was filled when it was looked up, in the base currency. None: not looked up, or not stated."""
    detail: str = ""
    """Why it was cancelled, in the exchange's words."""
    average_price: Decimal | None = None
    """At which price it was filled on average, in the quote currency. None: not looked up, or not stated."""
    fee: Decimal | None = None
    """The fee, in `fee_currency`; below zero: it was paid out. None: not looked up, or not stated."""
    fee_currency: str = ""
    """The currency of the fee; empty where there is none."""


class CapabilityState(StrEnum):
    """Whether one kind of call works."""

    UNKNOWN = "unknown"
    """Not tried yet; there is no evidence against it."""
    OK = "ok"
    LIMITED = "limited"
    """The exchange accepts only cancels, or only resting orders. It refuses market orders."""
    DOWN = "down"
    """It fails, or the exchange states that it is closed."""

    @classmethod
    def _missing_(cls, value: object) -> CapabilityState | None:
        """A word of a later version says nothing to this one."""
        return cls.UNKNOWN if isinstance(value, str) and value else None


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one kind of call works: `read` (private questions), `trade` (orders), `data` (prices)."""

    state: CapabilityState
    reason: str
    """`not_tried`, `ok`, a kind of fault, or the exchange's own status, such as `cancel_only`."""
    detail: str
    """For people."""
    since_us: int
    """Wall clock, µs since 1970: since when this is its state."""


class ClosedMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A market that is closed for one account: the exchange refused its order for that market alone."""

    reason: str
    """The kind of the fault, such as `permission`."""
    detail: str
    """For people: the exchange's own words."""
    since_us: int
    """Wall clock, µs since 1970: when the order was refused."""
    until: Instant
    """When it may be tried again."""


class StatusWord(StrEnum):
    """The state of an exchange, as its own status endpoint gives it."""

    ONLINE = "online"
    MAINTENANCE = "maintenance"
    CANCEL_ONLY = "cancel_only"
    POST_ONLY = "post_only"


@dataclass(frozen=True, slots=True)
class Status:
    """The answer of an exchange's status endpoint. Maintenance that is only announced leaves it online."""

    word: StatusWord
    detail: str = ""
    """For people: what is under way, or what is announced."""
