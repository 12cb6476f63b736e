"""The cash of several accounts together, and how far that sum can be trusted.

A sum is only as good as its worst part: one stale amount makes it stale, and an account whose balance
is unknown is named and not counted as nothing. Where nothing is known there is no sum, and no zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from brokerwatch.actors.board import Board
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.messages import Reading, total
from brokerwatch.money import unit
from brokerwatch.storage.journal import identity


@dataclass(frozen=True, slots=True)
class Total:
    """A sum of cash over accounts whose cash is in one unit."""

    cash: Decimal | None
    """The sum of what is known; None when nothing is. Where some are unknown, it is at least this much."""
    stale: bool
    """Whether any part is not the newest truth, or unknown."""
    oldest_age_ms: int | None
    """The age of the oldest part; None when no part is known."""
    counted: tuple[str, ...]
    """The brokers in it."""
    unknown: tuple[str, ...]
    """The brokers whose balance is unknown: their money is not in the sum."""
    same_account: tuple[str, ...] = ()
    """Brokers on an API key that another broker in it has too: the same money, counted once."""
    parts: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    """What the cash is made of, by currency: an order spends one of them. Empty where a part is not known."""


def total_cash(readings: Iterable[Reading], same_account: Iterable[str] = ()) -> Total:
    """The cash of these accounts. Their cash must be in one unit; a reading does not say in which."""
    given = tuple(readings)
    known = [reading for reading in given if reading.cash is not None]
    unknown = tuple(reading.broker for reading in given if reading.cash is None)
    parts: dict[str, Decimal] = {}
    for reading in known:
        for code, part in reading.cash_parts.items():
            parts[code] = total((parts.get(code, Decimal(0)), part))
    cash = total(reading.cash for reading in known if reading.cash is not None) if known else None
    ages = [reading.age_ms for reading in known if reading.age_ms is not None]
    return Total(
        cash=cash,
        stale=bool(unknown) or any(reading.stale for reading in known),
        oldest_age_ms=max(ages, default=None),
        counted=tuple(reading.broker for reading in known),
        unknown=unknown,
        same_account=tuple(same_account),
        parts=MappingProxyType(parts if total(parts.values()) == cash else {}),
    )


def totals(specs: Mapping[str, BrokerSpec], board: Board) -> dict[str, Total]:
    """The cash of all brokers by unit. Brokers on one API key are one account and count once."""
    by_unit: dict[str, list[Reading]] = {}
    doubles: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, spec in specs.items():
        slot = board.find(name)
        if slot is None:
            continue  # it is leaving
        code, account = unit(spec.cash_currencies[0]), identity(spec)
        if spec.credentials and account in seen:
            doubles.setdefault(code, []).append(name)
            continue
        seen.add(account)
        by_unit.setdefault(code, []).append(slot.reading)
    return {code: total_cash(parts, doubles.get(code, ())) for code, parts in by_unit.items()}
