"""What an order can spend of one currency, as a balance states it."""

from __future__ import annotations

from decimal import Decimal

from brokerwatch.errors import BalanceUnknown
from brokerwatch.exchanges.symbols import currency
from brokerwatch.messages import Balance, Reading
from brokerwatch.money import plain


def stated_code(text: str, balance: Balance) -> str:
    """The code that the balance has for what is asked. Raises InvalidSymbol for what is no currency."""
    return currency(text, balance.holdings.keys() | balance.unread)


def free_of(code: str, balance: Balance, reading: Reading) -> Decimal:
    """How much of this currency is free; 0 where the account holds none. Raises BalanceUnknown."""
    held = balance.holdings.get(code)
    if held is None:
        return Decimal(0)
    if held.free is None:
        known = ", ".join(
            f"{plain(number)} {word}"
            for number, word in ((held.total, "in all"), (held.used, "held"))
            if number is not None
        )
        raise BalanceUnknown(
            f"{reading.broker}: its exchange does not state how much {code} is free, so it is "
            f"unknown, not zero, and no order can be sized by it; known: {known} "
            f"({reading.detail or 'no detail'})"
        )
    return as_answer(held.free)


def as_answer(amount: Decimal) -> Decimal:
    """The amount for a caller who may print it: an exchange's `0.00000000` reads `0E-8` as a Decimal."""
    return amount or Decimal(0)
