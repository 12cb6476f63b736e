"""The ways in which exchanges write the rows of a balance, as values that a table can be made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EACH: Final = "*"
"""In a path: each element of a list."""
NAMED: Final = "{}"
"""In a path: each value of a map, whose key names the currency."""
ITSELF: Final = ""
"""The part of a row that is an amount and no map."""

Key = str | int
"""A key of a map, or a place in a list. Of text, points lead deeper, and `/` begins at the whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where an exchange states its rows, and which keys of a row state each amount."""

    at: tuple[Key, ...] = ()
    """The path to a row."""
    code: Key = ITSELF
    """What names the currency; empty: the path does, or `always`."""
    always: str = ""
    """The currency that the only row is about."""
    free: tuple[Key, ...] = ()
    """The parts of this amount; none: it is what the other two leave."""
    used: tuple[Key, ...] = ()
    total: tuple[Key, ...] = ()
    only: tuple[Key, str] | None = None
    """A key and its value in the rows that count. Where no row has the value, all count."""
    stale: tuple[Key, str] | None = None
    """A key, and its value in the rows that ccxt passes over, because their amounts are not valid."""
    beside: frozenset[str] = frozenset()
    """Keys of a map of rows that are no currencies."""
    may_owe: bool = False
    """Whether what is free, and the total, may be less than nothing."""
    signed: bool = False
    """Whether what is used may be written as a negative number."""
    tradable: tuple[Key, str] | None = None
    """A key, and its value in the rows whose money an order can spend; a row without the key is one."""
    computed: bool = False
    """Whether ccxt gives other numbers than these: in another unit, or a difference of them."""
    sole: bool = False
    """Whether what is free holds of the whole account, and so of a currency only where it is the only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """An exchange that states each amount in a map of its own, from currency to amount."""

    free: tuple[Key, ...] = ()
    used: tuple[Key, ...] = ()
    total: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """An exchange that writes all amounts into one map: `btc_balance`, `btc_lock`. {} is the currency."""

    at: tuple[Key, ...] = ()
    free: str = ""
    used: str = ""
    total: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """An exchange that writes a row for what is free of a currency, and another for what is used."""

    at: tuple[Key, ...]
    code: Key = "currency"
    kind: Key = "type"
    free: str = "trade"
    used: str = "frozen"
    tradable: tuple[Key, str] | None = None
    """As of `Rows`."""
    amount: Key = "balance"


Form = Rows | Columns | Flat | Typed


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """How one exchange states a balance."""

    together: tuple[tuple[Form, ...], ...]
    """Each of these is a part of the balance, in one of several forms."""
    adds_up: bool = False
    """Whether ccxt adds up several rows of one currency; else it would keep one of them."""
    in_pairs: bool = False
    """Whether the rows of one currency lie in different markets, so that no order can spend all of them."""
    leaves_out: bool = False
    """Whether ccxt passes over rows that it cannot name, such as shares."""
    from_body: bool = False
    """Whether ccxt keeps no `info`, so that the answer itself is looked at."""
