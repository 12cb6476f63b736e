"""`watch_orders()` of a guarded instance: whole orders that were read, again after each change.

A frame names orders, and they are read. When the stream begins, after it was lost and now and then, all that
is open is listed: an order that is not there any more is read too, and what was placed and ended meanwhile is
listed as well.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from brokerwatch.clock import Instant
from brokerwatch.config.push_settings import SWEEP_S
from brokerwatch.dropin.errors import (
    CCXT,
    LockedOut,
    OrdersUnknown,
    Unfound,
    again,
    not_supported,
    unproven,
)
from brokerwatch.dropin.feed import Feed, Outcome
from brokerwatch.dropin.last_known import Watch
from brokerwatch.dropin.order_log import OrderLog, Trouble
from brokerwatch.dropin.order_reads import OrderReads
from brokerwatch.dropin.owner_stream import MakeStream, fault_of_call
from brokerwatch.dropin.readers import Reader
from brokerwatch.errors import NotSupported
from brokerwatch.health.push import Acknowledged, Asks, Lost, StreamEvent
from brokerwatch.messages import Fault, FaultKind

MOST_AT_ONCE: Final = 20
"""So many orders are read one by one; the others with the next read, or by the list of all."""
MOST_DUE: Final = 1_000
"""Orders that wait to be read while no call waits; of more of them the lists are read."""
MARGIN_MS: Final = 60_000
"""Orders are listed from so much earlier on: the exchange has another clock."""
JUST_MS: Final = 10_000
"""One that was placed so shortly before the first list is news, although it has ended: by another clock it
may have been placed after the first call."""
EVERY_S: Final = 30.0
"""Without a fold of ours, and without a stream that was acknowledged, all orders are listed so often."""


class OrderFeed(Feed):
    """The orders of one market, or of all."""

    ours = OrdersUnknown

    def __init__(
        self,
        watch: Watch,
        reads: OrderReads,
        make_stream: MakeStream,
        *,
        acknowledges: bool,
        numbered: bool,
        symbol: str | None,
    ) -> None:
        """`numbered`: whether frames have numbers, so that a lost one is known."""
        super().__init__(watch, make_stream, acknowledges=acknowledges)
        self._reads = reads
        self._numbered = numbered
        self._symbol = symbol
        self._log = OrderLog()
        self._listed_s = float("-inf")
        """When all were last listed, in monotonic seconds."""
        self._list_all = True
        self._gap = True
        """Whether orders may have come and gone unseen since they were listed."""
        self._covered_ms: int | None = None
        """The wall clock when the newest list of all was asked for; None: there was none."""
        self._read_at: Instant | None = None

    def heard(self, event: StreamEvent) -> None:
        """See `Feed`."""
        match event:
            case Asks(orders=()) | Acknowledged():
                self._list_all = self._gap = True
            case Asks(orders=orders):
                now_s = self.watch.clock.up_s()
                for order in orders:
                    self._log.named(order, now_s)
                if len(self._log.due) > MOST_DUE:
                    self._log.forget_due()
                    self._list_all = self._gap = True
            case Lost():
                self._list_all = self._gap = True
            case _:
                pass

    async def read(self) -> Outcome | None:
        """See `Feed`."""
        asked, self._reads.calls = self.watch.clock.now(), 0
        try:
            await self._reads.begin()
            if why := self.watch.locked_out():
                raise LockedOut(why)
            is_due = self.push.acknowledged is None or asked.up_s - self._listed_s >= self.every_s
            if self._list_all or is_due or len(self._log.due) > MOST_AT_ONCE:
                await self._read_all(asked)
            await self._read_each()
        except Exception as error:  # noqa: BLE001 - whatever it is, it was not read
            return self._failed(error)
        finally:
            self.plan = self.plan.took(self._reads.calls, self.watch.clock.up_s())
        now = self.watch.clock.now()
        self.plan = self.plan.ended(asked.up_s, now.up_s)
        self.push = self.push.answered(asked)
        self._read_at = asked
        if self._log.due:
            self.plan = self.plan.again(now.up_s)
        return None

    async def _read_each(self) -> None:
        """Read the orders that are due. One that the exchange does not answer for keeps no other from it."""
        first: Exception | None = None
        for named in self._log.due[:MOST_AT_ONCE]:
            try:
                self._log.read(await self._reads.one(named), self.watch.clock.up_s())
            except CCXT.OrderNotFound:
                detail = f"order {named.id} is not found any more, and how it ended is not known"
                self._log.lost(named.id, detail, self.watch.clock.up_s())
            except Exception as error:
                fault = fault_of_call(self.watch, self._reads.lent, error)
                if fault.kind is not FaultKind.CLIENT_BUG:
                    raise
                detail = f"order {named.id} cannot be read: {fault.detail}"
                if not self._log.lost(named.id, detail, self.watch.clock.up_s()):
                    first = first or error
        if first is not None:
            raise first

    async def _read_all(self, asked: Instant) -> None:
        self._list_all = False
        gap, self._gap = self._gap or not self._numbered, False
        try:
            # First what is open: one that ends in between is among those that have ended.
            began_ms = asked.wall_us // 1_000
            since_ms = (began_ms if self._covered_ms is None else self._covered_ms) - MARGIN_MS
            listed = await self._reads.open()
            ended, missing = await self._reads.ended(since_ms) if gap else ([], "")
        except BaseException:
            self._list_all, self._gap = True, gap
            raise
        now_s = self.watch.clock.up_s()
        is_first = self._covered_ms is None
        if missing and not is_first:
            self._log.troubled(missing)
        self._log.listed(listed, now_s, self._symbol)
        self._log.ended(ended, now_s, began_ms - JUST_MS if is_first else None)
        self._covered_ms, self._listed_s = began_ms, asked.up_s

    def _failed(self, error: Exception) -> Outcome:
        if isinstance(error, NotSupported):
            text = str(error)

            def refuses() -> Any:
                raise not_supported(text)

            return refuses
        fault = fault_of_call(self.watch, self._reads.lent, error)
        if fault.lockout_s > 0:
            self.watch.failed({}, fault, doubted=True)
        self.refrain(fault)
        raises = again(unproven(self.watch.owner.id, error, fault, self.ours))

        def outcome() -> Any:
            raise raises()

        return outcome

    @property
    def every_s(self) -> float:
        """See `Feed`."""
        return SWEEP_S if self._acknowledges and self.push.acknowledged is not None else EVERY_S

    @property
    def version(self) -> int:
        """See `Feed`."""
        return self._log.version

    def news_for(self, reader: Reader, began: Instant) -> Outcome | None:
        """See `Feed`."""
        if self._read_at is None or not self.is_current(self._read_at, began):
            return None
        reader.version, found = self._log.after(reader)
        if isinstance(found, Trouble):
            return self._raises(Fault(FaultKind.BAD_RESPONSE, found.detail), Unfound(found.detail))
        if not found:
            return None
        reader.failed = False
        return lambda: copy.deepcopy(found)
