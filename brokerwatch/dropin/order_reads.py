"""How the orders of a guarded instance are read: whole orders, and lists that do not end too early."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, cast

from brokerwatch.dropin.errors import CCXT, not_supported
from brokerwatch.dropin.last_known import Watch
from brokerwatch.dropin.lent_instance import lend
from brokerwatch.dropin.order_log import Order
from brokerwatch.dropin.owner_stream import family_of
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.kraken import FAMILY as KRAKEN
from brokerwatch.exchanges.okx import FAMILY as OKX
from brokerwatch.messages.stream import NamedOrder

FULL_PAGES: Final = frozenset({50, 100, 200, 250, 300, 500, 1_000})
"""A list of so many rows may be one page of several."""
MOST_PAGES: Final = 50
OKX_TYPES: Final = ("spot", "margin", "swap", "future", "option")
"""OKX lists the orders that have ended for each kind of market apart."""
ENDED_LISTS: Final = (
    ("fetchOrders",),
    ("fetchCanceledAndClosedOrders",),
    ("fetchClosedOrders", "fetchCanceledOrders"),
    ("fetchClosedOrders",),
)
"""By which calls all orders are listed that have ended, the first for which the exchange has all."""
NEEDED: Final = ("watchOrders", "fetchOpenOrders", "fetchOrder")
"""Without these nothing can be promised."""


def ended_lists(owner: Any) -> tuple[str, ...]:
    """The calls of ccxt that list the orders which have ended. Raises NotSupported where orders cannot be
    watched."""
    missing = [name for name in NEEDED if not owner.has.get(name)]
    found = next((names for names in ENDED_LISTS if all(owner.has.get(name) for name in names)), None)
    if found is None:
        missing.append("fetchClosedOrders")
    if missing or found is None:
        raise not_supported(
            f"{owner.id}: watch_orders() cannot be guarded: this instance has no {' and no '.join(missing)}; "
            "expected one of ccxt.pro whose exchange lists its orders, or your own instance, unguarded"
        )
    return found


class OrderReads:
    """Reads orders through strict copies of the owner's instance. Raises whatever ccxt raises."""

    def __init__(
        self, watch: Watch, symbol: str | None, params: dict[str, Any], deadline_s: float | None
    ) -> None:
        self._watch = watch
        self._symbol = symbol
        self._params = params
        self._deadline_s = deadline_s
        self._lists = ended_lists(watch.owner)
        self._family = family_of(watch.owner)
        self.calls = 0
        """So many calls were made since this was last set to 0."""
        self.lent: Any = None
        """The copy that made the newest call."""

    async def begin(self) -> None:
        """Have the list of markets, which is kept for all reads of the instance."""
        lent = self._fresh()
        if not lent.markets:
            await self._within(lent.load_markets())
            if not lent.markets:
                raise UnprovenAnswer("the list of markets is empty")
            kept = copy.copy(lent)
            kept.brokerwatch_answers, kept.last_body = [], ""  # some megabytes
            self._watch.markets = kept

    async def symbol_of(self, symbol: str) -> str:
        """ccxt's symbol of a market that a call names. Raises BadSymbol, as ccxt does."""
        await self.begin()
        return str(self._fresh().market(symbol)["symbol"])

    async def open(self) -> list[Order]:
        """All open orders."""
        if self._family != OKX:
            listed = await self._list("fetch_open_orders", None, self._params)
            if self._family != KRAKEN and len(listed) in FULL_PAGES:
                raise UnprovenAnswer(f"{len(listed)} open orders, and there may be more on another page")
            return listed
        found: list[Order] = []
        page = await self._list("fetch_open_orders", None, self._params)
        for _ in range(MOST_PAGES):
            found += page
            if len(page) not in FULL_PAGES:
                return found
            page = await self._list("fetch_open_orders", None, {"after": page_end(page)})
        raise UnprovenAnswer(f"more than {len(found)} open orders")

    async def ended(self, since_ms: int) -> tuple[list[Order], str]:
        """The orders that were placed since then and have ended, and what may be missing; empty: nothing.

        Raises NotSupported where they are only listed by market, and none is given.
        """
        found: list[Order] = []
        missing = ""
        for name, params in self._ended_calls():
            try:
                page = await self._list(_snake(name), since_ms, params)
            except CCXT.ArgumentsRequired as error:
                raise not_supported(
                    f"{self._watch.owner.id}: watch_orders() needs a symbol here, since orders that have "
                    f"ended are listed by market: {error}"
                ) from None
            oldest_ms = min((order.get("timestamp") or 0 for order in page), default=0)
            if len(page) in FULL_PAGES and oldest_ms > since_ms:
                missing = f"more than {len(page)} orders ended at once, and not all of them are known"
            found += page
        return found, missing

    async def one(self, named: NamedOrder) -> Order:
        """One order."""
        lent = self._fresh()
        found = await self._within(
            lent.fetch_order(named.id, self._symbol_of(lent, named.market), dict(self._params))
        )
        order = checked(found)
        if order["id"] != named.id:
            raise UnprovenAnswer(f"fetch_order({named.id!r}) gave another order")
        return order

    def _ended_calls(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in self._lists:
            if self._family == OKX:
                yield from ((name, {"type": kind}) for kind in OKX_TYPES)
            else:
                yield name, self._params

    async def _list(self, method: str, since_ms: int | None, params: dict[str, Any]) -> list[Order]:
        ask: Callable[..., Awaitable[Any]] = getattr(self._fresh(), method)
        found = await self._within(ask(self._symbol, since_ms, None, dict(params)))
        if not isinstance(found, list):
            raise UnprovenAnswer(f"{method} gave {type(found).__name__}, not a list")
        return [checked(order) for order in cast("list[object]", found)]

    async def _within(self, call: Awaitable[Any]) -> Any:
        self.calls += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                return await call
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"no answer within {self._deadline_s} s") from None

    def _fresh(self) -> Any:
        self.lent = lend(self._watch.owner)
        if not self.lent.markets and self._watch.markets is not None:
            self.lent.set_markets_from_exchange(self._watch.markets)
        return self.lent

    def _symbol_of(self, lent: Any, market: str) -> str | None:
        """ccxt's symbol of a market; the feed's own where a frame does not say it."""
        if market in lent.markets:
            return market
        by_id: Mapping[str, Any] = lent.markets_by_id or {}
        known = by_id.get(market)
        return str(known[0]["symbol"]) if known else self._symbol


def checked(found: object) -> Order:
    """An order that is whole enough to be believed. Raises UnprovenAnswer."""
    order: Order = cast("Order", found) if isinstance(found, dict) else {}
    if not order.get("id") or not order.get("symbol"):
        raise UnprovenAnswer("an order without an id or a market")
    if not order.get("status"):
        raise UnprovenAnswer(f"order {order['id']} has no status")
    return order


def page_end(page: list[Order]) -> str:
    """The id of the last order on a page of OKX's, newest first."""
    return min((str(order["id"]) for order in page), key=int)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
