"""Money as it was read: exact, finite, and with the moment it was read.

An amount is a `Decimal` from the exchange's own text and never a float. An amount that cannot be
read is an error here, so that nothing further in can mistake it for zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_DOWN, Context, Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final

import msgspec

from brokerwatch.clock import Instant

WHOLE_DIGITS: Final = 30
"""Digits before the point; more than any currency has units."""
FRACTION_DIGITS: Final = 18
"""Digits after the point; one wei is 10^-18. What is finer is cut off, towards zero."""
AMOUNT_PATTERN: Final = r"^-?[0-9]{1,30}(\.[0-9]{1,18})?$(?!\n)"
"""How an amount is written on the wire. (`$` alone would let a line end through in Python.)"""
MAX_WRITTEN: Final = 200
"""Characters in which an exchange may write one amount."""
MAX_CODE_BYTES: Final = 64
"""A currency code as it is sent, in UTF-8; some exchanges list names that are not ASCII."""
MAX_CURRENCIES: Final = 4_000
"""Currencies in one account; the wire's own limit for a map is a little higher."""

_AMOUNT: Final = re.compile(AMOUNT_PATTERN)
_WRITTEN: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,7})?\Z")
"""How an exchange may write an amount: ASCII digits, and an exponent at the most."""
_FINEST: Final = Decimal(1).scaleb(-FRACTION_DIGITS)
_EXACT: Final = Context(prec=2 * (WHOLE_DIGITS + FRACTION_DIGITS))
_CUT: Final = Context(prec=WHOLE_DIGITS + FRACTION_DIGITS, rounding=ROUND_DOWN)


def amount(value: object) -> Decimal:
    """The amount that `value` says, exactly, with at most 18 digits after the point.

    Raises ValueError for what is not a finite number of at most 30 whole digits: an amount that
    cannot be read is unknown, not zero. Floats are refused: they are not what the exchange wrote.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"an amount must be text, an integer or a Decimal, not {type(value).__name__}")  # noqa: TRY004 - one kind of error for every amount that cannot be read
    if isinstance(value, str) and (len(value) > MAX_WRITTEN or _WRITTEN.match(value) is None):
        # Decimal itself would read "1_000", " 5" and the digits of every script.
        raise ValueError(f"not an amount: {value[:40]!r}")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"not an amount: {str(value)[:40]!r}") from None
    if not number.is_finite():
        raise ValueError(f"not a finite amount: {str(value)[:40]!r}")
    if number.adjusted() >= WHOLE_DIGITS:
        raise ValueError(f"more than {WHOLE_DIGITS} digits before the point: {str(value)[:40]!r}")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and not -FRACTION_DIGITS <= exponent <= 0:
        # Too fine for any wallet, or written as 1E+5: both get a form that the wire can carry.
        number = number.quantize(_FINEST if exponent < 0 else Decimal(1), context=_CUT)
    return number


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum, whatever precision the caller's thread computes with."""
    found = Decimal(0)
    for number in amounts:
        found = _EXACT.add(found, number)
    return found


def amount_text(number: Decimal) -> str:
    """The amount as the wire writes it: digits, no exponent."""
    return format(number, "f")


def is_code(text: str) -> bool:
    """Whether `text` may be a currency code: short, and of characters that can be printed and sent."""
    if not text or text.isspace() or not text.isprintable():
        return False
    return len(text.encode("utf-8", "surrogatepass")) <= MAX_CODE_BYTES


def is_amount_text(text: str) -> bool:
    """Whether `text` is an amount as the wire writes it."""
    return _AMOUNT.match(text) is not None


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One currency of one account. Exchanges differ in which of the three they state; see answers.py."""

    free: Decimal
    """Can be spent now."""
    used: Decimal
    """Held by open orders and the like."""
    total: Decimal
    """All of it, as the exchange says; not always free + used."""

    def __post_init__(self) -> None:
        for number in (self.free, self.used, self.total):
            if not isinstance(number, Decimal):  # pyright: ignore[reportUnnecessaryIsInstance] - callers err
                raise ValueError(f"an amount must be a Decimal, not {type(number).__name__}")  # noqa: TRY004 - as above
            if not is_amount_text(amount_text(number)):
                raise ValueError(f"not an amount that the wire can carry: {number}")


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What an account held at one moment. An empty mapping is a real balance: an empty account."""

    holdings: Mapping[str, Holding]
    """Currency code to holding."""
    as_of: Instant
    """When it was asked for: the answer may be newer than this, never older."""

    def __post_init__(self) -> None:
        if len(self.holdings) > MAX_CURRENCIES:
            raise ValueError(f"{len(self.holdings)} currencies in one account; the limit is {MAX_CURRENCIES}")
        for code in self.holdings:
            if not is_code(code):
                raise ValueError(f"not a currency code: {code[:40]!r}")
        msgspec.structs.force_setattr(self, "holdings", MappingProxyType(dict(self.holdings)))

    def cash(self, currencies: Iterable[str]) -> Decimal:
        """The free amount over `currencies`, which must be pegged to one unit. None held is a true zero."""
        held = (self.holdings[code].free for code in dict.fromkeys(currencies) if code in self.holdings)
        return total(held)
