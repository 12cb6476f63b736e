"""How each exchange that only ccxt knows takes an order: tables by ccxt id, and what cannot be done there.

ccxt gives all exchanges one way to place an order. Behind it each has rules of its own: which ids of ours it
takes and under which name, whether a market order to buy is by cost, which of its lists hold an order that is
over. What is in no table is as ccxt says of the exchange. `shortcomings` says what cannot be done, so that an
operator learns of it before an order needs it.

The forms of ids are those of the exchange's own documentation, which ccxt's source links at `create_order`.
`tests/exchanges/test_order_traits.py` holds the tables against the requests that ccxt makes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.exchanges.order_request import ANY_RULES, OrderRules


@dataclass(frozen=True, slots=True, kw_only=True)
class IdForm:
    """What an exchange takes as an id of ours, and how ccxt is given it."""

    ids: re.Pattern[str] = ANY_RULES.client_ids
    expected: str = ANY_RULES.expected
    """The same in words."""
    make: Callable[[uuid.UUID], str] = ANY_RULES.make_id
    """An id of this form from a random one."""
    parameter: str = "clientOrderId"
    """The name under which ccxt passes it on."""
    prefix: str = ""
    """What every id at the exchange begins with. ccxt puts it before one that has another first letter, and
    only then does it not count in the length."""
    is_number: bool = False
    """Whether the exchange wants a number in its JSON."""
    folds_case: bool = False
    """Whether the exchange changes capitals into small letters."""

    def given(self, client_order_id: str) -> str | int:
        """The id as ccxt is given it."""
        if self.is_number:
            return int(client_order_id)
        is_ready = client_order_id[:1] != self.prefix[:1] or client_order_id.startswith(self.prefix)
        return client_order_id if is_ready else self.prefix + client_order_id

    def is_ours(self, theirs: object, client_order_id: str) -> bool:
        """Whether an id in a row of the exchange is this one."""
        has_prefix = client_order_id.startswith(self.prefix)
        mine, found = client_order_id if has_prefix else self.prefix + client_order_id, str(theirs)
        return mine.casefold() == found.casefold() if self.folds_case else mine == found


def _hex_of(length: int) -> Callable[[uuid.UUID], str]:
    def make(random: uuid.UUID) -> str:
        return random.hex[:length]

    return make


def _up_to(length: int, letters: str = "A-Za-z0-9_-", words: str = "letters, digits, _ and -") -> IdForm:
    return IdForm(ids=re.compile(f"[{letters}]{{1,{length}}}"), expected=f"1 to {length} {words}")


def _short(length: int) -> IdForm:
    """Fewer characters than 32."""
    return replace(_up_to(length), make=_hex_of(length))


def _number(digits: int) -> IdForm:
    return IdForm(
        ids=re.compile(rf"[1-9][0-9]{{0,{digits - 1}}}"),
        expected=f"a whole number of 1 to {digits} digits",
        make=lambda random: str(random.int % 10**digits or 1),
        is_number=True,
    )


ANY_FORM: Final = IdForm()
"""What is in no table: 32 letters and digits as ccxt's `clientOrderId`."""
_UUID: Final = IdForm(
    ids=re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    expected="a UUID with its hyphens",
    make=str,
    folds_case=True,
)
_BINANCE: Final = _up_to(36, r".A-Z:/a-z0-9_-", "letters, digits and . : / _ -")
_HITBTC: Final = IdForm(
    ids=re.compile(r"[A-Za-z0-9_-]{8,32}"),
    expected="8 to 32 letters, digits, _ and -",
    parameter="client_order_id",
)
_GATE: Final = IdForm(
    # ccxt puts the prefix only before what begins with no t, and where it is given it counts as two of 28.
    ids=re.compile(r"t-[0-9A-Za-z_.-]{1,26}|t(?!-)[0-9A-Za-z_.-]{0,25}|(?!t)[0-9A-Za-z_.-]{1,28}"),
    expected="1 to 28 letters, digits, _ - and ., or 26 where it begins with a t",
    make=_hex_of(28),
    prefix="t-",
)

FORMS: Final[Mapping[str, IdForm]] = MappingProxyType(
    {
        "aster": _BINANCE,
        "backpack": _number(9),  # an unsigned number of 32 bits
        "bequant": _HITBTC,
        "bigone": _up_to(36),
        "binance": _BINANCE,
        "binanceus": _BINANCE,
        "bingx": replace(_up_to(40), folds_case=True),
        "bitfinex": _number(13),  # 45 bits
        "bitopro": replace(_number(15), parameter="clientId"),
        "bittrade": _up_to(64),
        "bitvavo": _UUID,
        "blockchaincom": _short(20),
        "bullish": replace(_number(18), is_number=False),
        "bybit": _up_to(36),
        "bybiteu": _up_to(36),
        "bybitid": _up_to(36),
        "coinbaseexchange": _UUID,
        "coinmate": _number(15),
        "coinsph": replace(_BINANCE, parameter="newClientOrderId"),
        "cryptocom": replace(_up_to(36), parameter="client_oid"),
        "deribit": replace(_up_to(64), parameter="label"),
        "fmfwio": _HITBTC,
        "foxbit": replace(_number(15), is_number=False),
        "gate": _GATE,
        "gateeu": _GATE,
        "hitbtc": _HITBTC,
        "htx": _up_to(64),
        "independentreserve": replace(_up_to(36), parameter="clientId"),
        "indodax": replace(_up_to(36), parameter="client_order_id"),
        "kucoin": _up_to(40),
        "latoken": _up_to(50),
        "luno": replace(_up_to(64), parameter="client_order_id"),
        "ndax": _number(15),
        "onetrading": _UUID,
        "phemex": _up_to(40),
        "poloniex": _up_to(64),
        "revolutx": _UUID,
        "toobit": replace(_up_to(64), parameter="newClientOrderId"),
        "upbit": _up_to(64),
        "weex": _BINANCE,
        "whitebit": _up_to(32, "A-Za-z0-9._-", "letters, digits, . _ and -"),
        "woo": _number(15),
        "xt": IdForm(ids=re.compile(r"[A-Za-z0-9_]{4,32}"), expected="4 to 32 letters, digits and _"),
    }
)
"""Where an id has another form than `ANY_FORM`. A number has fewer digits than would not fit."""

NO_IDS: Final = frozenset(
    {"bit2c", "bitbank", "bitbns", "bitflyer", "bitso", "bitteam", "btcbox", "cex", "coincheck", "coinone"}
    | {"coinspot", "cryptomus", "digifinex", "hollaex", "mercado", "p2b", "paymium", "zaif"}
)
"""Exchanges that are given no id of ours, or whose lists do not say it."""

ENDED_IN_CLOSED: Final = frozenset(
    {"bequant", "bitfinex", "bitrue", "cex", "coinsph", "delta", "fmfwio", "gate", "gateeu", "hitbtc"}
    | {"independentreserve", "kucoin", "onetrading"}
)
"""Exchanges whose list of closed orders, as ccxt asks for it, holds cancelled ones too."""

BY_OWN_ID: Final[Mapping[str, Callable[[str], tuple[str, dict[str, str]]]]] = MappingProxyType(
    {
        "bitstamp": lambda ours: ("", {"clientOrderId": ours}),
        "poloniex": lambda ours: (f"cid:{ours}", {}),
    }
)
"""Exchanges whose lists are not whole and that are asked for one order by an id of ours: the id and the
parameters of ccxt's `fetch_order`. ("Get order status", "Order Details")"""

BUYS_BY_COST: Final = frozenset(
    {"bigone", "bitget", "bithumb", "bittrade", "btse", "coinsph", "cryptomus", "digifinex", "gate", "gateeu"}
    | {"htx", "indodax", "lbank", "poloniex", "tokocrypto", "toobit", "upbit", "xt"}
)
"""Exchanges where ccxt takes a market order to buy by its cost alone: by the amount of coins it would need a
price."""
COST_AS_PARAMETER: Final = frozenset({"backpack", "btse", "cryptomus", "indodax", "toobit"})
"""Exchanges where ccxt takes that cost only as the parameter `cost` of an ordinary order."""
NO_COST: Final = frozenset({"bitrue"})
"""Exchanges that ccxt says buy by cost and that do so in other markets than spot alone."""

LISTED_WITH_KEY: Final = frozenset({"alpaca", "mudrex"})
"""Exchanges that list their markets only to a key."""

_NO_MARKET_ORDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "derive": "a market order there takes a price",
        "hyperliquid": "a market order there takes a price",
        "mudrex": "a market order there takes a price",
        "nado": "it takes limit orders alone",
        "zebpay": "a market order there, also to sell, is by what it costs",
    }
)
_NO_PURCHASES: Final[Mapping[str, str]] = MappingProxyType(
    {"coincheck": "ccxt sends it without an amount", "mercado": "ccxt wants a price for it"}
)
"""Exchanges where a market order can sell alone."""
_TAKES_MARKET_ORDERS: Final = frozenset({"cryptomus", "woo"})
"""Exchanges that take them although ccxt says that they do not."""
_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({"bitvavo": "operatorId", "cex": "accountId"})
"""Exchanges where an order takes an option of ccxt that an operator has to set."""

_WHOLE: Final = (
    ("fetchOrders",),
    ("fetchOpenOrders", "fetchCanceledAndClosedOrders"),
    ("fetchOpenOrders", "fetchClosedOrders", "fetchCanceledOrders"),
)
"""ccxt's lists that have orders of every state; what may still end is asked for first, so that nothing is
missed that ends in between. Of closed orders alone, those that were cancelled half filled may be left out."""
_LISTS: Final = ("fetchOpenOrders", "fetchClosedOrders")


@dataclass(frozen=True, slots=True)
class OrderLists:
    """The lists of ccxt in which an order of ours is looked for."""

    names: tuple[str, ...]
    whole: bool
    """Whether an order of any state is in one of them."""


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """What cannot be done with orders at an exchange, in a sentence."""

    text: str
    forbids: bool = False
    """Whether no order can be placed at all."""


class OrderTraits:
    """How one exchange takes orders, by its table and by what ccxt says of it (`has`, `options`)."""

    def __init__(self, exchange: str, has: Mapping[str, object], options: Mapping[str, object]) -> None:
        self._exchange = exchange
        self._has = has
        self._options = options
        self.form: Final = FORMS.get(exchange, ANY_FORM)
        """The form of an id of ours."""
        self.knows_ids: Final = exchange not in NO_IDS
        """Whether an order can be told by an id of ours."""
        self.cost_as_parameter: Final = exchange in COST_AS_PARAMETER
        """Whether a cost is a parameter of an ordinary order."""

    @classmethod
    def of(cls, instance: Any) -> OrderTraits:
        """Those of the exchange of a ccxt instance."""
        return cls(str(instance.id), instance.has, getattr(instance, "options", {}))

    @property
    def rules(self) -> OrderRules:
        """What it takes in an order."""
        takes_cost = self.cost_as_parameter or (
            bool(self._has.get("createMarketBuyOrderWithCost")) and self._exchange not in NO_COST
        )
        return OrderRules(
            name=self._exchange,
            client_ids=self.form.ids,
            expected=self.form.expected,
            make_id=self.form.make,
            sells_by_base=not self._has.get("createMarketSellOrderWithCost"),
            buys_by_base=not takes_cost,
            buys_by_cost=self._exchange in BUYS_BY_COST,
            buys_nothing=_NO_PURCHASES.get(self._exchange, ""),
        )

    @property
    def lists(self) -> OrderLists:
        """Where an order of ours is looked for."""
        for names in _WHOLE:
            if all(self._has.get(name) is True for name in names):
                return OrderLists(names, whole=True)
        some = tuple(name for name in _LISTS if self._has.get(name) is True)
        return OrderLists(some, whole=some == _LISTS and self._exchange in ENDED_IN_CLOSED)

    def asked_by(self, client_order_id: str) -> tuple[str, dict[str, str]] | None:
        """How ccxt's `fetch_order` is asked for an order by this id of ours; None: it cannot be."""
        ask = BY_OWN_ID.get(self._exchange)
        return None if ask is None or self.lists.whole else ask(client_order_id)

    def shortcomings(self) -> tuple[Shortcoming, ...]:
        """What cannot be done with orders there, the worst first."""
        if why := self._takes_none():
            return (Shortcoming(f"no market order can be placed at {self._exchange}: {why}", forbids=True),)
        found: list[str] = []
        if not self.knows_ids:
            found.append(
                "an order there has no id of ours, so one whose answer is lost cannot be found, and entries "
                "wait for forget_order; an order is sent only without an id or with one of new_order_id()"
            )
        elif not self.lists.whole and self._exchange not in BY_OWN_ID:
            found.append(
                "it does not list its orders of every state, so an order whose answer is lost may stay "
                "unknown until forget_order, and an order is sent only without an id or with one of "
                "new_order_id()"
            )
        rules = self.rules
        if rules.buys_nothing:
            found.append(f"it takes no market order to buy: {rules.buys_nothing}")
        elif rules.buys_by_cost:
            found.append("it buys by quote_amount alone")
        elif rules.buys_by_base:
            found.append("it buys by base_amount alone")
        return tuple(Shortcoming(f"{self._exchange}: {text}") for text in found)

    def _takes_none(self) -> str:
        """Why no market order can be placed; empty where one can."""
        if self._has.get("spot") is False:
            return "it has no spot markets"
        if why := _NO_MARKET_ORDERS.get(self._exchange):
            return why
        # What ccxt does not say of an exchange it can do.
        limit_only = (
            self._has.get("createMarketOrder") is False and self._exchange not in _TAKES_MARKET_ORDERS
        )
        if limit_only or self._has.get("createOrder") is False:
            return "it takes limit orders alone"
        option = _OPTIONS.get(self._exchange)
        if option is not None and not self._is_set(option):
            return f"an order there takes ccxt's option {option}, in options of the broker's [ccxt] table"
        return ""

    def _is_set(self, option: str) -> bool:
        of_orders = self._options.get("createOrder")
        if isinstance(of_orders, Mapping) and cast("Mapping[str, object]", of_orders).get(option):
            return True
        return bool(self._options.get(option))
