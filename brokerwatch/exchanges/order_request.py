"""A market order as it is asked for: checked before anything is sent.

An amount is exact or it is refused. It is rounded down to the market's step, never up: no order is for more
than was asked for, and what rounds to nothing is an error. Amounts are in the base or in the quote
currency, and each exchange is told explicitly which, because their defaults differ: 100 dollars read as
100 bitcoins is an order too.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from brokerwatch.errors import InvalidOrder
from brokerwatch.exchanges.balances import MOST_DIGITS
from brokerwatch.messages import Product, Side
from brokerwatch.money import floor_to_step, plain

FINEST: Final = Decimal("0.000000000000000001")
"""The step where the exchange does not say one: no currency has a smaller unit than 10^-18."""


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """A market order that may be sent. Made by `requested` alone; exactly one amount is there."""

    product: Product
    side: Side
    base_amount: Decimal | None
    quote_amount: Decimal | None
    client_order_id: str

    @property
    def size(self) -> str:
        """The amount as plain decimal text, in whichever currency it is."""
        amount = self.quote_amount if self.base_amount is None else self.base_amount
        return "" if amount is None else plain(amount)


UUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRules:
    """What one exchange takes in an order."""

    name: str = ""
    """The exchange, as an error names it."""
    client_ids: re.Pattern[str] = re.compile(r"[A-Za-z0-9]{1,32}")
    """What it takes as an id of our own. 32 hexadecimal digits suit all exchanges."""
    expected: str = "1 to 32 letters and digits"
    """The same in words."""
    make_id: Callable[[uuid.UUID], str] = lambda random: random.hex
    """An id of this form from a random one, for an order that was given none."""
    sells_by_base: bool = False
    """Whether a market order to sell takes no amount in the quote currency."""
    buys_by_base: bool = False
    """Whether a market order to buy takes no amount in the quote currency."""
    buys_by_cost: bool = False
    """Whether a market order to buy takes no amount in the base currency."""
    buys_nothing: str = ""
    """Why no market order to buy can be placed, in words; empty where one can."""

    def client_id_mistake(self, text: object) -> str:
        """What was expected of a client order id; empty when `text` will do."""
        is_taken = isinstance(text, str) and self.client_ids.fullmatch(text)
        return "" if is_taken else f"expected {self.expected}"


ANY_RULES: Final = OrderRules()
"""What all exchanges take."""


def requested(
    product: Product,
    side: Side | str,
    base_amount: Decimal | None,
    quote_amount: Decimal | None,
    client_order_id: str,
    *,
    rules: OrderRules = ANY_RULES,
    leaving: bool = False,
) -> OrderRequest:
    """The order that these arguments ask for, its amount rounded down to the market's step.

    An amount is a Decimal or an int. `rules` are those of the exchange. `leaving`: an exit; where the list of
    markets, which may be an hour old, says that this one is closed, the exchange itself shall say so. Raises
    InvalidOrder, which names the argument.
    """
    if product.kind != "spot":
        raise InvalidOrder(
            "symbol", f"{product.symbol} is no spot market but {product.kind}; expected a spot market"
        )
    if not product.active and not leaving:
        raise InvalidOrder("symbol", f"{product.symbol} is listed and not open for trading just now")
    if side not in ("buy", "sell"):
        raise InvalidOrder("side", f"expected buy or sell, not {_shown(side)}")
    if (base_amount is None) == (quote_amount is None):
        given = "none" if base_amount is None else "both"
        raise InvalidOrder(
            "base_amount",
            f"expected exactly one of base_amount and quote_amount, and {given} of them is given",
        )
    if quote_amount is not None and side == "sell" and rules.sells_by_base:
        raise InvalidOrder(
            "quote_amount", f"{rules.name} sells by base amount; give base_amount, in {product.base}"
        )
    if quote_amount is not None and side == "buy" and rules.buys_by_base:
        raise InvalidOrder(
            "quote_amount", f"{rules.name} buys by base amount; give base_amount, in {product.base}"
        )
    if base_amount is not None and side == "buy" and rules.buys_by_cost:
        raise InvalidOrder(
            "base_amount", f"{rules.name} buys by what it costs; give quote_amount, in {product.quote}"
        )
    if side == "buy" and rules.buys_nothing:
        raise InvalidOrder("side", f"{rules.name} takes no market order to buy: {rules.buys_nothing}")
    mistake = rules.client_id_mistake(client_order_id)
    if mistake:
        raise InvalidOrder("client_order_id", f"{mistake}, not {_shown(client_order_id)}")
    return OrderRequest(
        product=product,
        side=Side(side),
        base_amount=None
        if base_amount is None
        else _amount("base_amount", base_amount, product.base, product.base_step, product.base_minimum),
        quote_amount=None
        if quote_amount is None
        else _amount("quote_amount", quote_amount, product.quote, product.quote_step, product.quote_minimum),
        client_order_id=client_order_id,
    )


PLENTY: Final = 3
"""An amount that is so many times the smallest order by an old price needs no newer price."""


def smallest_by_price(request: OrderRequest, price: Decimal) -> Decimal | None:
    """The market's smallest order in the currency of the amount, where it is stated in the other currency.

    None where the market states none in the other currency. OKX, for instance, states the base currency alone
    and holds orders by cost to it. (`minSz`, "Get instruments")
    """
    if request.base_amount is None:
        least = request.product.base_minimum
        return None if least is None else least * price
    least = request.product.quote_minimum
    return None if least is None else least / price


def is_plenty(request: OrderRequest, price: Decimal) -> bool:
    """Whether the amount is so far above the smallest order that an old price suffices to say so."""
    least, (_, amount, _) = smallest_by_price(request, price), _ordered(request)
    return least is None or amount >= PLENTY * least


def refuse_below_minimum(request: OrderRequest, price: Decimal | None) -> None:
    """Raise InvalidOrder for an amount that is by this price less than the market's smallest order."""
    if price is None:
        return
    least, (argument, amount, currency) = smallest_by_price(request, price), _ordered(request)
    if least is None or amount >= least:
        return
    product, by_cost = request.product, request.base_amount is None
    minimum, unit = (
        (product.base_minimum, product.base) if by_cost else (product.quote_minimum, product.quote)
    )
    stated = f"{plain(minimum or Decimal(0))} {unit}"
    raise InvalidOrder(
        argument,
        f"{plain(amount)} {currency} is less than the smallest order, {stated}, at the last price of "
        f"{plain(price)} {product.quote}",
    )


def _ordered(request: OrderRequest) -> tuple[str, Decimal, str]:
    """The argument that says the amount, the amount, and its currency."""
    if request.base_amount is not None:
        return "base_amount", request.base_amount, request.product.base
    return "quote_amount", request.quote_amount or Decimal(0), request.product.quote


def _amount(
    argument: str, value: object, currency: str, step: Decimal | None, minimum: Decimal | None
) -> Decimal:
    """The amount that an argument says, rounded down; InvalidOrder for what is none that can be ordered."""
    if isinstance(value, float):
        raise InvalidOrder(
            argument, f"a float is not exact; expected a Decimal, made from text: Decimal({str(value)!r})"
        )
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise InvalidOrder(argument, f"expected a Decimal, not {type(value).__name__}")
    wanted = Decimal(value)
    if not wanted.is_finite():
        raise InvalidOrder(argument, f"expected a finite amount, not {wanted}")
    if wanted <= 0:
        raise InvalidOrder(argument, f"expected more than zero, not {_shown(str(wanted))}")
    if wanted.adjusted() >= MOST_DIGITS:
        raise InvalidOrder(argument, f"expected at most {MOST_DIGITS} digits before the point")
    found = floor_to_step(wanted, step or FINEST)
    if found == 0:
        raise InvalidOrder(
            argument, f"rounds to nothing: this market takes multiples of {plain(step or FINEST)} {currency}"
        )
    if minimum is not None and found < minimum:
        less = "" if found == wanted else ", to which it is rounded,"
        raise InvalidOrder(
            argument,
            f"{plain(found)} {currency}{less} is less than the smallest order, {plain(minimum)} {currency}",
        )
    return found


def _shown(value: object) -> str:
    return repr(value)[:60]
