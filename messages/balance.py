"""Money as it was read: exact, finite, and with the moment it was read.

An amount is a `Decimal` from the exchange's own text and never a float. An amount that cannot be read is an
error here, so that no later step can mistake it for zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_DOWN, Context, Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final

import msgspec

from brokerwatch.clock import Instant
from brokerwatch.money import EXACT

WHOLE_DIGITS: Final = 30
"""Digits before the point; more than any currency has units."""
FRACTION_DIGITS: Final = 18
"""Digits after the point; one wei is 10^-18. Finer digits are cut off, towards zero."""
AMOUNT_PATTERN: Final = r"^-?[0-9]{1,30}(\.[0-9]{1,18})?$(?!\n)"
"""How an amount is written on the wire. (`$` alone would let a line end through in Python.)"""
MAX_WRITTEN: Final = 200
"""Characters in which an exchange may write one amount."""
MAX_CODE_BYTES: Final = 64
"""A currency code in UTF-8; some exchanges list names that are not ASCII."""
MAX_CURRENCIES: Final = 4_000
"""Currencies in one account; the wire's own limit for a map is a little higher."""

_AMOUNT: Final = re.compile(AMOUNT_PATTERN)
_WRITTEN: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,7})?\Z")
"""How an exchange may write an amount: ASCII digits, with at most a sign, a point and an exponent."""
_FINEST: Final = Decimal(1).scaleb(-FRACTION_DIGITS)
_CUT: Final = Context(prec=WHOLE_DIGITS + FRACTION_DIGITS, rounding=ROUND_DOWN)


def amount(value: object) -> Decimal:
    """The amount that `value` states, exactly, with at most 18 digits after the point.

    Args:
        value: text, an integer or a Decimal. A float is refused: it is not what the exchange wrote.

    Raises:
        ValueError: it is not a finite number of at most 30 whole digits. Such an amount is unknown, not zero.
    """
    if type(value) is str and _AMOUNT.match(value) is not None:
        # As the wire writes it, and nearly every exchange: nothing is left to check or to cut.
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
        # It is too fine for any wallet, or written as 1E+5. Both get a form that the wire can carry.
        number = number.quantize(_FINEST if exponent < 0 else Decimal(1), context=_CUT)
    return number


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum, whatever decimal context the caller's thread has."""
    found = Decimal(0)
    for number in amounts:
        found = EXACT.add(found, number)
    return found


def known_total(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The exact sum; None when one of the amounts is unknown."""
    found = Decimal(0)
    for number in amounts:
        if number is None:
            return None
        found = EXACT.add(found, number)
    return found


def less(amount: Decimal, part: Decimal) -> Decimal:
    """The exact difference, whatever decimal context the caller's thread has."""
    return EXACT.subtract(amount, part)


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
"""The default of a part that is not stated. It is compared by identity, which spares a check of each
amount."""


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What an account holds of one currency. All amounts are in units of that currency.

    Exchanges differ in which of the first three amounts they state: some state one of them alone. An amount
    that two others leave is computed (`brokerwatch.exchanges.balances`). A part that is neither stated nor
    proven by the others is unknown: None, and never zero. It counts in no cash, sizes no entry, and is no
    base for an exit. `known` names the parts that are known.

    Raises:
        ValueError: an amount is no Decimal, or the wire cannot carry it; or none of the three is known.
    """

    free: Decimal | None
    """The part that can be spent now; None when it is unknown."""
    used: Decimal | None
    """The part that open orders and other obligations hold; None when it is unknown."""
    total: Decimal | None
    """The whole, as the exchange states it, which is not always `free + used`; None when it is unknown."""
    staked: Decimal = NOTHING
    """The part of `used` that is staked or bonded. No order can spend it."""
    earning: Decimal = NOTHING
    """The part of `free` that earns interest and can be traded all the same."""
    unstated_since_us: int | None = None
    """In doubt: wall clock, µs, since when the answers of the exchange leave this currency out. Its total is
    as last known. None when the newest answer states it."""
    pushed_us: int | None = None
    """Wall clock, µs: when the exchange pushed this amount over its stream, and no read has confirmed it yet.
    What is used is that of the newest read where the stream does not state it. None: a read stated it."""

    def __post_init__(self) -> None:
        if self.total is None and self.free is None and self.used is None:
            raise ValueError("free, used or the total of a holding must be known")
        for number in (self.free, self.used, self.total, self.staked, self.earning):
            if number is NOTHING or number is None:
                continue
            if not isinstance(number, Decimal):  # pyright: ignore[reportUnnecessaryIsInstance] - callers err
                raise ValueError(f"an amount must be a Decimal, not {type(number).__name__}")  # noqa: TRY004 - as above
            if _AMOUNT.match(format(number, "f")) is None:
                raise ValueError(f"not an amount that the wire can carry: {number}")

    @property
    def known(self) -> tuple[str, ...]:
        """Which of `free`, `used` and `total` are known; at least one is."""
        parts = (("free", self.free), ("used", self.used), ("total", self.total))
        return tuple(name for name, number in parts if number is not None)

    @property
    def least_total(self) -> Decimal:
        """The total; where it is unknown, the parts of it that are known."""
        if self.total is not None:
            return self.total
        return total(part for part in (self.free, self.used) if part is not None)


def _checked(holdings: Mapping[str, Holding]) -> Mapping[str, Holding]:
    if len(holdings) > MAX_CURRENCIES:
        raise ValueError(f"{len(holdings)} currencies in one account; the limit is {MAX_CURRENCIES}")
    for code in holdings:
        if not is_code(code):
            raise ValueError(f"not a currency code: {code[:40]!r}")
    return MappingProxyType(dict(holdings))


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """Money of the same owner that no order of the account can spend, such as OKX's funding account.

    It is read by a call of its own, which can fail by itself. Then the last known holdings stay, and
    `trouble` says why.
    """

    holdings: Mapping[str, Holding] | None
    """Currency code to holding; None when it was never read."""
    as_of: Instant | None
    """When the holdings were asked for; None when they were never read."""
    trouble: str = ""
    """Why the newest attempt to read it failed; empty when it succeeded."""

    def __post_init__(self) -> None:
        if self.holdings is not None:
            msgspec.structs.force_setattr(self, "holdings", _checked(self.holdings))


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What an account held at one moment. An empty mapping is a real balance: an empty account."""

    holdings: Mapping[str, Holding]
    """Currency code to holding."""
    as_of: Instant
    """When it was asked for. The answer may be newer than this, never older."""
    wallets: Mapping[str, Wallet] = MappingProxyType({})
    """Name to wallet. Wallets are never part of `holdings` nor of the cash."""
    stated: bool = True
    """False when the exchange reported success and named no account at all; see `health.stated`."""
    summed: frozenset[str] | None = None
    """The currencies that a sum in the same answer counts, where that sum agrees with them: what it does not
    count is not there. None where no sum agrees."""
    unread: frozenset[str] = frozenset()
    """Currencies that the answer names and whose amounts cannot be read. They are not in `holdings`, and are
    unknown: never zero."""

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

    def cash(self, currencies: Iterable[str]) -> Decimal | None:
        """The sum of the free amounts of `currencies`, which must be pegged to one unit.

        A currency that the account does not hold counts as zero. With one of which the free amount is
        unknown the sum is unknown too: None.
        """
        if not self.unread.isdisjoint(currencies):
            return None
        return known_total(held.free for held in self._of(currencies))

    def cash_parts(self, currencies: Iterable[str]) -> dict[str, Decimal]:
        """Currency to its free amount, for each of `currencies` with a free amount that is known and not
        zero."""
        free = {code: self.holdings[code].free for code in currencies if code in self.holdings}
        return {code: amount for code, amount in free.items() if amount}

    def held(self, currencies: Iterable[str]) -> Decimal | None:
        """How much of `currencies` open orders and other obligations hold, without the staked parts.

        None when it is unknown of one of them.
        """
        if not self.unread.isdisjoint(currencies):
            return None
        return known_total(
            part for held in self._of(currencies) for part in (held.used, held.staked.copy_negate())
        )

    def _of(self, currencies: Iterable[str]) -> Iterator[Holding]:
        return (self.holdings[code] for code in dict.fromkeys(currencies) if code in self.holdings)


class DetailedBalance(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an account's money at one moment, and whether it can be trusted.

    It is a snapshot: nothing in it changes after it was made.
    """

    broker: str
    """The name of the account, as configured."""
    holdings: Mapping[str, Holding]
    """Currency code to holding."""
    cash: Decimal | None
    """The sum of the free amounts of the configured cash currencies; None when one of them is unknown."""
    held: Decimal | None
    """How much of the cash currencies open orders and other obligations hold, without the staked parts;
    None when it is unknown of one of them."""
    wallets: Mapping[str, Wallet]
    """Name to money that no order can spend, such as OKX's `funding` account. Never part of the above."""
    as_of: Instant
    """When the holdings were asked for."""
    age_ms: int
    """How old the holdings were when this snapshot was made."""
    stale: bool
    """Whether the holdings are the last known and not the newest truth."""
    available: bool
    """Whether the account could be trusted when this snapshot was made."""
    fault: str | None
    """The kind of fault that the newest fetch met; None when it met none."""
    detail: str
    """For people: the exchange's words about that fault, or money that is not counted as cash."""
