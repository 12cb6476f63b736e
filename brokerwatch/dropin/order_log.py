"""What is known of the orders of one feed: whole orders that were read, in the order in which they changed.

Each change has a number of its own, the version, so that each reader is given what it has not had yet. A
state that is older than a known one, or than what a frame has stated, is not taken. The time is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from brokerwatch.dropin.readers import Reader, Wanted
from brokerwatch.health.push import GRACE_S
from brokerwatch.messages.stream import NamedOrder

MOST_ENDED: Final = 1_000
"""So many orders that have ended are kept for readers that are slow."""
MOST_TROUBLES: Final = 100
"""And so many things that could not be read."""
ENDED: Final = frozenset({"closed", "canceled", "expired", "rejected"})
"""ccxt's states that an order does not leave."""
NEWS: Final = ("symbol", "status", "amount", "price", "triggerPrice", "filled", "remaining")
"""What of an order is news when it changes. The rest may differ between ccxt's list and its single order."""
NEAR: Final = Decimal("1e-9")
"""A float of ccxt's is as near to what it was made of."""

Order = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that each reader must be told once."""

    detail: str


@dataclass(slots=True)
class _Due:
    """An order that must be read."""

    named: NamedOrder
    since_s: float
    """Monotonic seconds: when a frame first named it."""


@dataclass(slots=True)
class OrderLog:
    """The orders that have changed, and the version of each change."""

    version: int = 0
    """The number of the newest change."""
    forgotten: int = 0
    """The number of the newest change of those that are not kept any more."""
    _known: dict[str, tuple[int, Order]] = field(default_factory=dict[str, tuple[int, Order]])
    """By id; the one that changed last is the last."""
    _troubles: dict[int, Trouble] = field(default_factory=dict[int, Trouble])
    _due: dict[str, _Due] = field(default_factory=dict[str, _Due])

    @property
    def due(self) -> list[NamedOrder]:
        """The orders that must be read, and what frames state of them."""
        return [each.named for each in self._due.values()]

    def named(self, order: NamedOrder, now_s: float) -> None:
        """A frame names an order: it must be read."""
        if order.id in self._known and self._known[order.id][0] == 0:
            del self._known[order.id]  # it had not ended before, since it is named now
        before = self._due.get(order.id)
        if before is None:
            self._due[order.id] = _Due(order, now_s)
        else:
            self._due[order.id] = _Due(before.named.and_later(order), before.since_s)

    def forget_due(self) -> None:
        """The lists say what has become of those that must be read."""
        self._due.clear()

    def listed(self, orders: Iterable[Order], now_s: float, symbol: str | None) -> None:
        """All open orders were listed, of one market or of all: one that is not there must be read."""
        ids: set[str] = set()
        for order in orders:
            ids.add(order["id"])
            self.read(order, now_s)
        for order_id, (_, known) in self._known.items():
            is_of_list = symbol is None or known["symbol"] == symbol
            if is_of_list and order_id not in ids and not has_ended(known) and order_id not in self._due:
                market = str(known["symbol"] or "")
                self._due[order_id] = _Due(NamedOrder(id=order_id, market=market), now_s)

    def ended(self, orders: Iterable[Order], now_s: float, before_ms: int | None) -> None:
        """Orders that have ended were listed; those that were placed before that moment are no news.

        `before_ms`: in ms since 1970; None: all of them are news that are not known.
        """
        for order in orders:
            is_old = before_ms is not None and (order.get("timestamp") or 0) < before_ms
            if (
                has_ended(order)
                and is_old
                and order["id"] not in self._known
                and order["id"] not in self._due
            ):
                self._known[order["id"]] = 0, order
            elif has_ended(order) or order["id"] in self._known:
                self.read(order, now_s)
        self._forget()

    def read(self, order: Order, now_s: float) -> bool:
        """An order was read. Whether that counts; else it is behind, and must be read again."""
        order_id = order["id"]
        due, known = self._due.get(order_id), self._known.get(order_id)
        if due is not None and _is_behind(order, due.named) and now_s - due.since_s < GRACE_S:
            return False
        self._due.pop(order_id, None)
        if known is not None:
            if _goes_back(known[1], order):
                return True  # the newer one is known
            if all(known[1].get(name) == order.get(name) for name in NEWS):
                return True
            del self._known[order_id]
        self.version += 1
        self._known[order_id] = self.version, order
        self._forget()
        return True

    def lost(self, order_id: str, detail: str, now_s: float) -> bool:
        """An order that must be read is not found. It may come later; else each reader is told.

        Returns whether it is given up.
        """
        due = self._due.get(order_id)
        if due is not None and now_s - due.since_s < GRACE_S:
            return False
        self._due.pop(order_id, None)
        self._known.pop(order_id, None)
        self.troubled(detail)
        return True

    def troubled(self, detail: str) -> None:
        """Something could not be read, and each reader must be told."""
        self.version += 1
        self._troubles[self.version] = Trouble(detail)
        while len(self._troubles) > MOST_TROUBLES:
            self.forgotten = max(self.forgotten, next(iter(self._troubles)))
            del self._troubles[next(iter(self._troubles))]

    def _forget(self) -> None:
        ended = [order_id for order_id, (_, order) in self._known.items() if has_ended(order)]
        for order_id in ended[: max(0, len(ended) - MOST_ENDED)]:
            self.forgotten = max(self.forgotten, self._known.pop(order_id)[0])

    def after(self, reader: Reader) -> tuple[int, list[Order] | Trouble]:
        """What a reader has not had yet, oldest change first, and the version that it has had then.

        One that was given nothing yet is given what is open, and what changed since it first called.
        """
        wanted = reader.wanted
        version = 0 if reader.version is None else reader.version
        had = reader.joined if reader.version is None else reader.version
        if had < self.forgotten:
            reader.joined = self.forgotten
            return max(version, self.forgotten), Trouble(
                f"this caller is slow: of the orders that ended meanwhile only {MOST_ENDED} are kept"
            )
        changes: list[tuple[int, Order | Trouble]] = sorted(
            [
                *((number, order) for number, order in self._known.values() if number > version),
                *((number, each) for number, each in self._troubles.items() if number > version),
            ],
            key=lambda change: change[0],
        )
        found: list[Order] = []
        for number, each in changes:
            if number <= had and (isinstance(each, Trouble) or has_ended(each)):
                continue
            if isinstance(each, Trouble):
                return (number, each) if not found else (number - 1, found)
            if _is_wanted(each, wanted):
                found.append(each)
                if wanted.limit is not None and len(found) >= wanted.limit:
                    return number, found
        return self.version, found


def has_ended(order: Mapping[str, Any]) -> bool:
    """Whether an order is filled, cancelled, expired or rejected."""
    return order.get("status") in ENDED


def _is_wanted(order: Order, wanted: Wanted) -> bool:
    if wanted.symbol is not None and order.get("symbol") != wanted.symbol:
        return False
    placed_ms = order.get("timestamp")
    return wanted.since_ms is None or placed_ms is None or placed_ms >= wanted.since_ms


def _is_behind(order: Order, named: NamedOrder) -> bool:
    if named.has_ended and not has_ended(order):
        return True
    filled = _amount(order)
    if named.filled is None or filled is None:
        return False
    return filled < named.filled - abs(named.filled) * NEAR


def _goes_back(known: Order, order: Order) -> bool:
    if has_ended(known) and not has_ended(order):
        return True
    before, after = _amount(known), _amount(order)
    return before is not None and after is not None and after < before - abs(before) * NEAR


def _amount(order: Order) -> Decimal | None:
    filled = order.get("filled")
    return None if filled is None else Decimal(str(filled))
