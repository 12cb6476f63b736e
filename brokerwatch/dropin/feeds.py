"""What a guarded asynchronous instance watches: one feed for each account, or each kind of orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, cast

from brokerwatch.config.broker_spec import CCXT_NAMES, CREDENTIALS
from brokerwatch.config.fingerprint import fingerprint
from brokerwatch.dropin.balance_feed import BalanceFeed
from brokerwatch.dropin.errors import not_supported
from brokerwatch.dropin.feed import Feed
from brokerwatch.dropin.last_known import Watch
from brokerwatch.dropin.order_feed import OrderFeed
from brokerwatch.dropin.order_log import has_ended
from brokerwatch.dropin.order_reads import OrderReads
from brokerwatch.dropin.owner_stream import MakeStream, Say, family_of, own_stream, pro_stream
from brokerwatch.dropin.readers import Wanted
from brokerwatch.exchanges.order_streams import NUMBERED, ORDER_STREAMS
from brokerwatch.exchanges.streams import STREAMS
from brokerwatch.gateway.pro_stream import recorder
from brokerwatch.health.push import Asks
from brokerwatch.messages.stream import NamedOrder

ORDER_PARAMS: Final = frozenset({"type", "subType", "settle", "marginMode"})
"""What may be asked of ccxt.pro: its lists of orders take the same."""
PUSHED: Final = "the exchange pushed an order"
MOST_CACHED: Final = 1_000
"""Orders that ccxt.pro keeps."""
MOST_FEEDS: Final = 16
"""So many feeds of one instance at once; each has a connection."""


class Feeds:
    """The feeds of one guarded instance. Used on one event loop at a time."""

    def __init__(self, watch: Watch, deadline_s: float | None) -> None:
        self._watch = watch
        self._deadline_s = deadline_s
        self._feeds: dict[tuple[str, str], Feed] = {}

    async def balance(self, params: Mapping[str, Any], task: asyncio.Task[Any] | None) -> Any:
        """The newest balance that this caller has not had yet."""
        owner = self._watch.owner
        owner.check_required_credentials()
        kept, fold = dict(params), STREAMS.get(family_of(owner))
        if fold is None and not owner.has.get("watchBalance"):
            raise not_supported(
                f"{owner.id}: watch_balance() needs an instance of ccxt.pro, and an exchange at which that "
                "can watch the balance; expected fetch_balance()"
            )
        if fold is not None and kept:
            raise not_supported(
                f"{owner.id}: watch_balance() takes no params, since its stream is that of the account for "
                "orders; expected fetch_balance(params)"
            )

        def make() -> Feed:
            if fold is not None:
                stream = own_stream(self._watch, fold)
            else:
                stream = pro_stream(
                    self._watch,
                    lambda instance, _: instance.watch_balance(dict(kept)),
                    lambda: Asks("the exchange pushed a change"),
                )
            return BalanceFeed(self._watch, kept, stream, self._deadline_s, acknowledges=fold is not None)

        return await (await self._feed("balance", self._watch.name_of(kept), make)).next(task)

    async def orders(self, wanted: Wanted, params: Mapping[str, Any], task: asyncio.Task[Any] | None) -> Any:
        """The orders that have changed, and that this caller has not had yet."""
        owner, kept = self._watch.owner, dict(params)
        owner.check_required_credentials()
        family = family_of(owner)
        fold = ORDER_STREAMS.get(family)
        if wanted.limit is not None and wanted.limit < 1:
            raise ValueError(f"limit is {wanted.limit}; expected 1 or more, or None")
        refused = sorted(kept if fold is not None else kept.keys() - ORDER_PARAMS)
        if refused:
            raise not_supported(
                f"{owner.id}: watch_orders() takes no params {', '.join(refused)}, since their orders are "
                "not in the lists that are read; expected none, or your own instance, unguarded"
            )
        if wanted.symbol is not None:
            if not isinstance(cast("object", wanted.symbol), str):
                raise TypeError(f"symbol is {wanted.symbol!r}; expected one market, or None for all")
            named = await OrderReads(self._watch, None, {}, self._deadline_s).symbol_of(wanted.symbol)
            wanted = replace(wanted, symbol=named)
        symbol = None if fold is not None else wanted.symbol
        reads = OrderReads(self._watch, symbol, kept, self._deadline_s)

        def make() -> Feed:
            if fold is not None:
                stream = own_stream(self._watch, fold)
            else:
                stream = _pro_orders(self._watch, symbol, kept)
            return OrderFeed(
                self._watch,
                reads,
                stream,
                acknowledges=fold is not None,
                numbered=fold is not None and family in NUMBERED,
                symbol=symbol,
            )

        name = f"{symbol} {self._watch.name_of(kept)}"
        return await (await self._feed("orders", name, make)).next(task, wanted)

    async def _feed(self, kind: str, name: str, make: Callable[[], Feed]) -> Feed:
        """The feed of this name. Those of other keys are closed."""
        owner = self._watch.owner
        given = {each: str(getattr(owner, CCXT_NAMES.get(each, each), None) or "") for each in CREDENTIALS}
        key = fingerprint("", given), f"{kind} {name}"
        loop = asyncio.get_running_loop()
        stale = [each for each, feed in self._feeds.items() if each[0] != key[0] or feed.loop is not loop]
        idle = [each for each, feed in self._feeds.items() if feed.is_idle and each not in stale]
        spare = len(self._feeds) - len(stale) + (key not in self._feeds) - MOST_FEEDS
        if spare > len(idle):
            raise not_supported(f"{owner.id}: more than {MOST_FEEDS} different states are watched at once")
        closing = [self._feeds.pop(each) for each in (*stale, *idle[: max(0, spare)])]
        if key not in self._feeds:
            self._feeds[key] = make()
        found = self._feeds[key]
        for feed in closing:
            if feed.loop is loop:
                await feed.close()
        return found

    async def close(self) -> None:
        """End all of them."""
        loop, closing = asyncio.get_running_loop(), list(self._feeds.values())
        self._feeds.clear()
        for feed in closing:
            if feed.loop is loop:
                await feed.close()


def _pro_orders(watch: Watch, symbol: str | None, params: dict[str, Any]) -> MakeStream:
    """The stream of orders at an exchange that has no fold of ours. ccxt.pro says which have changed."""
    said: list[bool] = []

    def change(instance: Any, say: Say) -> Any:
        def take(order: Mapping[str, Any]) -> None:
            filled = order.get("filled")
            named = NamedOrder(
                id=str(order.get("id") or ""),
                market=str(order.get("symbol") or ""),
                has_ended=has_ended(order),
                filled=None if filled is None else Decimal(str(filled)),
            )
            said[:] = [True]
            say(Asks(PUSHED, (named,) if named.id else ()))

        if instance.orders is None:
            instance.orders = recorder(MOST_CACHED, take)
        return instance.watch_orders(symbol, None, None, dict(params))

    def asks() -> Asks | None:
        if said:
            said.clear()
            return None
        return Asks(PUSHED)  # it has put the orders elsewhere: all are listed

    return pro_stream(watch, change, asks)
