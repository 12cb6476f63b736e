"""What an account holds, as an answer states it: each amount read, each currency counted once.

An answer is proof when it is in the exchange's own envelope, whole, and every amount in it can be
read. Anything else is `UnprovenAnswer`, never an empty or a partial balance: an unknown balance is
not zero. A zero that the exchange states is a balance like any other. The readers of each exchange's own
answer are in its adapter; here is what they share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.exchanges.envelope import UnprovenAnswer, exact, mapping, number, short
from brokerwatch.messages import Holding, Wallet, amount
from brokerwatch.messages import total as summed
from brokerwatch.messages.balance import FRACTION_DIGITS, NOTHING, is_code, known_total
from brokerwatch.money import is_money

Code = Callable[[str], str]
"""An exchange's own currency code to the common one: XXBT to BTC."""


@dataclass(frozen=True, slots=True)
class FetchedBalance:
    """What one fetch read; see `brokerwatch.messages.Balance`."""

    holdings: Mapping[str, Holding]
    wallets: Mapping[str, Wallet] = field(default_factory=lambda: MappingProxyType({}))
    stated: bool = True
    apart: Mapping[str, Mapping[str, Holding]] = field(default_factory=lambda: MappingProxyType({}))
    """Name to wallet, of those that the same answer states."""
    unread: frozenset[str] = frozenset()
    """Currencies that are named and of which not even the total is stated."""
    summed: frozenset[str] | None = None
    """The currencies in a sum that the answer states and that agrees with it; None: there is none."""


MOST_DIGITS: Final = 27
"""Whole digits of one stated amount. The wire carries 30, so that sums of a thousand of them fit."""


_USUAL: Final = re.compile(rf"-?[0-9]{{1,{MOST_DIGITS}}}(?:\.[0-9]{{1,{FRACTION_DIGITS}}})?\Z")
"""How amounts are usually written; one that is written so passes every check below, and needs no cut."""


def own_balance(answer: object) -> FetchedBalance:
    """The balance that a trader's own callable returned. Raises UnprovenAnswer."""
    return FetchedBalance(own_holdings(answer))


def own_holdings(answer: object) -> dict[str, Holding]:
    """The holdings that a trader's own callable returned."""
    found: dict[str, Holding] = {}
    for currency, entry in mapping(answer, "what fetch returned").items():
        if is_money(currency.upper()) and not is_money(currency):
            raise UnprovenAnswer(
                f"{currency}: expected {currency.upper()}, or it would count as another currency"
            )
        if isinstance(entry, Holding):
            add(
                found,
                currency,
                free=entry.free,
                used=entry.used,
                total=entry.total,
                staked=entry.staked,
                earning=entry.earning,
            )
        elif isinstance(entry, Mapping):
            row = mapping(cast("object", entry), f"the entry of {currency}")
            free, used = (
                stated_amount(row, "free", currency),
                stated_amount(row, "used", currency, absent=NOTHING),
            )
            add(
                found,
                currency,
                free=free,
                used=used,
                total=stated_amount(row, "total", currency, absent=summed((free, used))),
            )
        else:
            free = stated_amount({"amount": entry}, "amount", currency)
            add(found, currency, free=free, used=NOTHING, total=free)
    return found


def add(
    found: dict[str, Holding],
    currency: str,
    *,
    free: Decimal | None,
    used: Decimal | None,
    total: Decimal | None,
    staked: Decimal = NOTHING,
    earning: Decimal = NOTHING,
) -> None:
    """Add one stated holding to what was found of its currency. Raises UnprovenAnswer."""
    if not is_code(currency):
        raise UnprovenAnswer(f"not a currency code: {currency[:40]!r}")
    before = found.get(currency)
    if before is not None:
        free, used = known_total((before.free, free)), known_total((before.used, used))
        total = known_total((before.total, total))
        staked, earning = summed((before.staked, staked)), summed((before.earning, earning))
    try:
        found[currency] = Holding(free=free, used=used, total=total, staked=staked, earning=earning)
    except ValueError as error:
        raise UnprovenAnswer(f"{currency}: {error}") from error


def held_against(row: Mapping[str, Any], sums: Iterable[str], holdings: Iterable[Holding], what: str) -> None:
    """Hold the sums that an answer states against an account in which nothing is held.

    Args:
        row: the map that states the sums.
        sums: its keys that state one; what is missing or empty states none.
        holdings: what the answer lists.
        what: what a list with nothing in it says, for the error.

    Raises:
        UnprovenAnswer: nothing is held, and a sum is not zero or cannot be read.
    """
    if any(held.total or held.free or held.used for held in holdings):
        return
    for key in sums:
        value = row.get(key)
        if value not in (None, "") and number(exact(value), key):
            raise UnprovenAnswer(f"{key} is {short(value)}, and {what}")


def stated_amount(
    row: Mapping[str, Any], key: str, currency: str, *, absent: Decimal | None = None
) -> Decimal:
    """An amount that a row states, exactly; `absent` where it states none. Raises UnprovenAnswer."""
    value = row.get(key)
    if type(value) is str and _USUAL.match(value) is not None:
        return Decimal(value)
    if value is None and absent is not None:
        return absent
    if value is None:
        raise UnprovenAnswer(f"{currency} has no {key}")
    try:
        found = amount(value)
    except ValueError as error:
        raise UnprovenAnswer(f"{key} of {currency}: {error}") from error
    if found.adjusted() >= MOST_DIGITS:
        raise UnprovenAnswer(f"{key} of {currency}: more than {MOST_DIGITS} digits before the point")
    return found


def stated_hold(row: Mapping[str, Any], key: str, currency: str) -> Decimal:
    """An amount that orders hold. One below nothing would be money made up. Raises UnprovenAnswer."""
    found = stated_amount(row, key, currency)
    if found < NOTHING:
        raise UnprovenAnswer(f"{key} of {currency} is negative: {found}")
    return found
