"""Money as it was read: exact, finite, and with the moment it was read.

An amount is a `Decimal` from the exchange's own text and never a float. An amount that cannot be
read is an error here, so that nothing further in can mistake it for zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
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
    if type(value) is str and _AMOUNT.match(value) is not None:
        # As the wire writes it, and as nearly every exchange does: nothing is left to check or to cut.
        return Decimal(value)
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


def less(amount: Decimal, part: Decimal) -> Decimal:
    """The exact difference, as `total` is the exact sum."""
    return _EXACT.subtract(amount, part)


def amount_text(number: Decimal) -> str:
    """The amount as the wire writes it: digits, no exponent."""
    return format(number, "f")


def is_code(text: str) -> bool:
    """Whether `text` may be a currency code: short, and of characters that can be printed and sent."""
    if text.isascii() and text.isalnum():
        return len(text) <= MAX_CODE_BYTES
    if not text or text.isspace() or not text.isprintable():
        return False
    return len(text.encode("utf-8", "surrogatepass")) <= MAX_CODE_BYTES


def is_amount_text(text: str) -> bool:
    """Whether `text` is an amount as the wire writes it."""
    return _AMOUNT.match(text) is not None


NOTHING: Final = Decimal(0)


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One currency of one account. Exchanges differ in which of the three they state; see answers.py."""

    free: Decimal
    """Can be spent now."""
    used: Decimal
    """Held by open orders and the like."""
    total: Decimal
    """All of it, as the exchange says; not always free + used."""
    staked: Decimal = NOTHING
    """The part of `used` that is staked or bonded: no order can spend it."""
    earning: Decimal = NOTHING
    """The part of `free` that earns by itself and can be traded all the same."""

    def __post_init__(self) -> None:
        for number in (self.free, self.used, self.total, self.staked, self.earning):
            if number is NOTHING:
                continue
            if not isinstance(number, Decimal):  # pyright: ignore[reportUnnecessaryIsInstance] - callers err
                raise ValueError(f"an amount must be a Decimal, not {type(number).__name__}")  # noqa: TRY004 - as above
            if _AMOUNT.match(format(number, "f")) is None:
                raise ValueError(f"not an amount that the wire can carry: {number}")


def _checked(holdings: Mapping[str, Holding]) -> Mapping[str, Holding]:
    if len(holdings) > MAX_CURRENCIES:
        raise ValueError(f"{len(holdings)} currencies in one account; the limit is {MAX_CURRENCIES}")
    for code in holdings:
        if not is_code(code):
            raise ValueError(f"not a currency code: {code[:40]!r}")
    return MappingProxyType(dict(holdings))


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """Money of the same account that lies elsewhere and that no order can spend: OKX's funding account.

    It is asked for apart, so it can fail apart: then the last known stays, and `trouble` says why.
    """

    holdings: Mapping[str, Holding] | None
    """Currency code to holding; None when it was never read."""
    as_of: Instant | None
    """When the holdings were asked for."""
    trouble: str = ""
    """Why the newest attempt to read it failed; empty when it did not."""

    def __post_init__(self) -> None:
        if self.holdings is not None:
            msgspec.structs.force_setattr(self, "holdings", _checked(self.holdings))


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What an account held at one moment. An empty mapping is a real balance: an empty account."""

    holdings: Mapping[str, Holding]
    """Currency code to holding."""
    as_of: Instant
    """When it was asked for: the answer may be newer than this, never older."""
    wallets: Mapping[str, Wallet] = MappingProxyType({})
    """What lies apart, by name; never part of `holdings` nor of the cash."""
    stated: bool = True
    """False: the exchange said that all is well and stated no account at all; see `EmptyAnswers`."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "holdings", _checked(self.holdings))
        msgspec.structs.force_setattr(self, "wallets", MappingProxyType(dict(self.wallets)))

    def after(self, last: Balance | None) -> Balance:
        """This balance, with what `last` knew of wallets that could not be read this time."""
        if last is None or all(wallet.holdings is not None for wallet in self.wallets.values()):
            return self
        kept = {
            name: msgspec.structs.replace(last.wallets[name], trouble=wallet.trouble)
            if wallet.holdings is None and name in last.wallets
            else wallet
            for name, wallet in self.wallets.items()
        }
        return msgspec.structs.replace(self, wallets=kept)

    def cash(self, currencies: Iterable[str]) -> Decimal:
        """The free amount over `currencies`, which must be pegged to one unit. None held is a true zero."""
        return total(held.free for held in self._of(currencies))

    def held(self, currencies: Iterable[str]) -> Decimal:
        """What open orders and the like hold of `currencies`; staked parts apart."""
        return total(part for held in self._of(currencies) for part in (held.used, held.staked.copy_negate()))

    def _of(self, currencies: Iterable[str]) -> Iterator[Holding]:
        return (self.holdings[code] for code in dict.fromkeys(currencies) if code in self.holdings)


class DetailedBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of an account's money at one moment, and how far it can be trusted."""

    broker: str
    holdings: Mapping[str, Holding]
    """Currency to free, used, total, and the staked and earning parts."""
    cash: Decimal
    """The free amount of the cash currencies."""
    held: Decimal
    """What open orders and the like hold of the cash currencies; staked parts apart."""
    wallets: Mapping[str, Wallet]
    """What no order can spend, by name: OKX's `funding` account. Never part of the above."""
    as_of: Instant
    """When the holdings were asked for."""
    age_ms: int
    """How old they were when you asked for this."""
    stale: bool
    """Whether they are the last known and not the newest truth."""
    available: bool
    """Whether the account could be trusted when you asked for this."""
    fault: str | None
    """The kind of the newest fault, when the newest fetch met one."""
    detail: str
    """For people: the exchange's words about that fault, or money that is not counted as cash."""
