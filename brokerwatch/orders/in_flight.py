"""The orders of one API key: what was sent, what became of it, and what an id was used for.

Each turn in the life of an order is a line in the store, and lines are only added. An order that the exchange
took is followed to its end (`following.py`), and is written down until then.

An order is written down before it is sent and crossed out when it is known what became of it. So orders with
an unknown outcome outlive the process, also one that is killed: after a restart they hold up the next entry
as they did before it. Brokers on one key share its orders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from decimal import Decimal
from typing import Final

import msgspec

from brokerwatch.clock import Clock
from brokerwatch.exchanges.order_answers import FoundOrder, canonical_id
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.log import logger
from brokerwatch.money import plain
from brokerwatch.orders.records import Followed, Note, Placed, Sent
from brokerwatch.orders.written_down import written_down
from brokerwatch.storage.journal import Journal, boot_id
from brokerwatch.storage.records import OrderEvent, SentOrder
from brokerwatch.tally import Tally

_log: Final = logger(__name__)

KEPT_ORDERS: Final = 10_000
"""Of so many placed orders it is known what their ids were used for."""
FOLLOWED_S: Final = 86_400.0
"""So long an order is followed at the most."""
CUT_OFF: Final = "it was under way when the program that sent it ended"
LEFT_BEHIND: Final = "it was under way on an event loop that hung and was replaced"


class InFlightOrders:
    """Keeps the orders of one API key until their outcome is known. Runs on the loop of the key's lane."""

    def __init__(
        self,
        fingerprint: str,
        clock: Clock,
        journal: Journal,
        exchange: str = "",
        tally: Tally | None = None,
        *,
        durable: bool = False,
    ) -> None:
        """`tally` counts the orders of each account by their end. `durable`: an order goes out only once the
        database has confirmed that it is written down: in a pool another node may have to look it up."""
        self._durable = durable
        self.tally = Tally() if tally is None else tally
        self.exchange = exchange
        """The exchange of the key, as ccxt names it; empty: not known."""
        self._fingerprint = fingerprint
        self._clock = clock
        self._journal = journal
        self._boot = boot_id()
        self.unaccounted = ""
        """An order with an unknown outcome, in words; empty when there is none. Any thread may look."""
        self._keys: dict[str, str] = {}
        """By the account that has another API key by now, the fingerprint of that."""
        self._sent: dict[str, Sent] = {}
        self._placed: dict[str, Placed] = {}
        self._followed: dict[str, Followed] = {}
        self.watchers: list[Callable[[], object]] = []
        """Called when there may be an order more to follow, or to look up."""
        self._had_lost: frozenset[str] = frozenset()
        """Accounts that had an order with an unknown outcome when these were counted last."""
        self._handed_over: frozenset[str] | None = None
        """The orders that another object has now, because the loop of this one hangs; None: it has none. What
        this one finds out of them later is neither written down nor told: the other one finds it out too."""

    def go_on_from(self, before: InFlightOrders) -> None:
        """Take over the orders of this key from a loop that hangs, and whose lease is revoked.

        What is under way there counts as sent, and its outcome as unknown: it may have been written already.
        Called on any thread, before this object is used on its own loop.
        """
        now_s = self._clock.now().up_s
        # One call each: the loop may wake at this very moment, and go on writing there.
        sent, self._placed = before._sent.copy(), before._placed.copy()
        before._handed_over = frozenset(sent)
        for name, order in sent.items():
            self._sent[name] = order
            if not order.why:
                self._sent[name] = replace(order, why=LEFT_BEHIND, lost_s=now_s)
                self._write_down(self._sent[name])
                self._tell(order, "unknown", detail=LEFT_BEHIND)
        self._followed, self._keys = before._followed.copy(), before._keys.copy()
        self._look()

    def rekey(self, broker: str, fingerprint: str) -> None:
        """The orders of an account are looked up with another API key of the same account from now on.

        They are written down under it, so that a restart finds them by the key that it has then.
        """
        before, self._keys[broker] = self._key_of(broker), fingerprint
        if before == fingerprint:
            return
        ids: list[str] = []
        for sent in self._sent.values():
            if sent.broker == broker and self._owns(sent):
                self._write_down(sent)
                ids.append(sent.request.client_order_id)
        for order in self.followed(broker):
            self._write_down_followed(order)
            ids.append(order.request.client_order_id)
        for client_order_id in ids:  # only now: a process that is killed meanwhile leaves it twice, not never
            self._journal.order_ended(before, client_order_id)

    def _key_of(self, broker: str) -> str:
        return self._keys.get(broker, self._fingerprint)

    def _write_down_followed(self, order: Followed) -> None:
        now, request = self._clock.now(), order.request
        taken_us = now.wall_us - round((FOLLOWED_S - (order.until_s - now.up_s)) * 1_000_000)
        note = Note(request, self._boot, None, None, order.broker, order.order_id)
        self._note(Sent(request, taken_us, broker=order.broker), note)

    @property
    def left_behind(self) -> bool:
        """Whether the outcome of an order is unknown because its loop was replaced."""
        return any(sent.why == LEFT_BEHIND for sent in self._sent.values())

    def adopt(self, remembered: Iterable[SentOrder], broker: str) -> None:
        """What an earlier process sent for this account with another API key of it, and never crossed out."""
        for mark in remembered:
            if (note := _noted(mark)) is not None and note.broker == broker:
                self.recall([mark])
                for order in self.followed(broker):
                    self._write_down_followed(order)
                self._journal.order_ended(mark.fingerprint, mark.client_order_id)

    def recall(self, remembered: Iterable[SentOrder]) -> None:
        """What an earlier process sent and never crossed out."""
        now = self._clock.now()
        for mark in remembered:
            name = canonical_id(mark.client_order_id)
            if name in self._sent or name in self._placed:
                continue  # ours, and newer
            note = _noted(mark)
            if note is None:
                continue
            if note.order_id:
                self._placed[name] = Placed(note.request, note.order_id, None)
                age_s = max(0.0, (now.wall_us - mark.sent_us) / 1_000_000)
                self._follow(note.request, note.order_id, note.broker, now.up_s + FOLLOWED_S - age_s)
                continue
            request, lost_s, certain_s = note.request, note.lost_s, note.certain_s
            same_boot = note.boot == self._boot and bool(self._boot)
            if lost_s is None or not same_boot:
                # Its minute begins here: only within one boot does a clock say how old it is.
                lost_s, certain_s = now.up_s, certain_s if same_boot else None
            self._sent[name] = Sent(
                request,
                mark.sent_us,
                min(lost_s, now.up_s),
                CUT_OFF,
                note.broker,
                float("inf") if certain_s is None else certain_s,
            )
            self._write_down(self._sent[name])
            self._look()
            _log.warning(
                "it is unknown what became of an order of an earlier process: %s, %s %s %s",
                mark.client_order_id,
                request.side,
                request.size,
                request.product.symbol,
            )

    async def send(self, request: OrderRequest, broker: str = "") -> None:
        """Write it down; it goes out as soon as this returns. Sent again, it keeps its first moment.

        Raises OrderNotSent where it is to be durable, and the database did not confirm it in time.
        """
        before = self.sent(request.client_order_id)
        sent_us = self._clock.now().wall_us if before is None else before.sent_us
        sent = Sent(request, sent_us, broker=broker)
        self._sent[canonical_id(request.client_order_id)] = sent
        if before is None:
            self.tally.of(broker).sent.add()
        self._tell(sent, "sent", detail="" if before is None else "again, with its own id")
        await written_down(self._write_down(sent), request.client_order_id, durable=self._durable)

    def _write_down(self, sent: Sent) -> Future[bool]:
        certain_s = None if sent.certain_s == float("inf") else sent.certain_s
        note = Note(sent.request, self._boot, sent.lost_s if sent.why else None, certain_s, sent.broker)
        return self._note(sent, note)

    def _note(self, sent: Sent, note: Note) -> Future[bool]:
        document = msgspec.json.encode(note).decode()
        return self._journal.order(
            SentOrder(self._key_of(sent.broker), sent.request.client_order_id, sent.sent_us, document)
        )

    def bound(self, client_order_id: str, certain_s: float) -> None:
        """It goes out now, and from `certain_s` on the exchange takes it no more."""
        name = canonical_id(client_order_id)
        self._sent[name] = sent = replace(self._sent[name], certain_s=certain_s)
        if certain_s < float("inf") and not self._handed_over:
            self._write_down(sent)  # it does not wait: what is not written has its minute

    async def unbound(self, client_order_id: str) -> None:
        """It is about to be sent once more: until when it may be taken then is not known yet.

        Raises OrderNotSent as `send` does.
        """
        sent = self.sent(client_order_id)
        if sent is None or sent.certain_s == float("inf") or self._handed_over:
            return
        self._sent[canonical_id(client_order_id)] = sent = replace(sent, certain_s=float("inf"))
        await written_down(self._write_down(sent), client_order_id, durable=self._durable)

    def put_back(self, sent: Sent) -> None:
        """It is as unknown as before: what was sent again since proves nothing about it."""
        self._sent[canonical_id(sent.request.client_order_id)] = sent
        if self._owns(sent):
            self._write_down(sent)
        self._look()

    def _owns(self, sent: Sent) -> bool:
        """Whether no other object has this order now."""
        handed_over = self._handed_over or frozenset()
        return canonical_id(sent.request.client_order_id) not in handed_over

    def lose(self, client_order_id: str, why: str) -> None:
        """Its outcome is unknown. Its minute to arrive begins now: it may have gone out this late."""
        sent = replace(self._sent[canonical_id(client_order_id)], why=why, lost_s=self._clock.now().up_s)
        self._sent[canonical_id(client_order_id)] = sent
        self._look()
        if self._owns(sent):
            self._write_down(sent)
            self._tell(sent, "unknown", detail=why)

    def end(
        self,
        client_order_id: str,
        order_id: str | None,
        found: FoundOrder | None = None,
        outcome: str = "not_sent",
        why: str = "",
    ) -> None:
        """It is known what became of it: the exchange's id of it, or None when it was not placed.

        `outcome`, and `why`, of one that was not placed: as in `OrderEvent.state`.
        """
        name = canonical_id(client_order_id)
        sent = self._sent.pop(name, None)
        self._look()
        if sent is None or not self._owns(sent):
            return
        if order_id is None:
            self._journal.order_ended(self._key_of(sent.broker), sent.request.client_order_id)
            self._tell(sent, outcome, detail=why)
            self.tally.of(sent.broker).ended.add(outcome)
            return
        self._placed[name] = Placed(sent.request, order_id, found)
        if len(self._placed) > KEPT_ORDERS:
            del self._placed[next(iter(self._placed))]
        self._tell(sent, "accepted" if found is None else str(found.state), order_id, found)
        if not sent.broker or (found is not None and found.is_over):
            if found is not None:
                self.tally.of(sent.broker).ended.add(str(found.state))
            self._journal.order_ended(self._key_of(sent.broker), sent.request.client_order_id)
            return
        self._note(sent, Note(sent.request, self._boot, None, None, sent.broker, order_id))
        self._follow(sent.request, order_id, sent.broker, self._clock.now().up_s + FOLLOWED_S)

    # --- following an order that was taken -----------------------------------------------------------

    def _follow(self, request: OrderRequest, order_id: str, broker: str, until_s: float) -> None:
        followed = Followed(request, order_id, broker, until_s)
        self._followed[canonical_id(request.client_order_id)] = followed
        self._look()

    def followed(self, broker: str) -> tuple[Followed, ...]:
        """The orders of an account that may not have come to their end, oldest first."""
        if self._handed_over is not None:
            return ()  # the other one follows them
        return tuple(each for each in [*self._followed.values()] if each.broker == broker)

    def moved(self, order: Followed, found: FoundOrder) -> bool:
        """How the exchange has an order now; whether it has come to its end."""
        name = canonical_id(order.request.client_order_id)
        before = self._placed.get(name)
        known = None if before is None else before.found
        told = ("accepted", 0) if known is None else (known.state, known.filled_base or 0)
        if told != (found.state, found.filled_base or 0):
            sent = Sent(order.request, 0, broker=order.broker)
            self._tell(sent, str(found.state), order.order_id, found, found.ended)
        self._placed[name] = Placed(order.request, order.order_id, found)
        if found.is_over:
            self._stop_following(order, str(found.state))
        return found.is_over

    def give_up(self, order: Followed, why: str) -> None:
        """The end of an order is not found out."""
        self._stop_following(order, "not_followed")
        self._tell(Sent(order.request, 0, broker=order.broker), "not_followed", order.order_id, detail=why)

    def _stop_following(self, order: Followed, end: str) -> None:
        if self._followed.pop(canonical_id(order.request.client_order_id), None) is not None:
            self.tally.of(order.broker).ended.add(end)
            self._journal.order_ended(self._key_of(order.broker), order.request.client_order_id)

    def _tell(
        self, sent: Sent, state: str, order_id: str = "", found: FoundOrder | None = None, detail: str = ""
    ) -> None:
        """Add a line to the life of an order."""
        request = sent.request
        self._journal.order_event(
            OrderEvent(
                at_us=self._clock.now().wall_us,
                broker=sent.broker,
                exchange=self.exchange,
                client_order_id=request.client_order_id,
                order_id=order_id,
                symbol=request.product.symbol,
                side=str(request.side),
                base_amount=_text(request.base_amount),
                quote_amount=_text(request.quote_amount),
                state=state,
                filled_base="" if found is None else _text(found.filled_base),
                average_price="" if found is None else _text(found.average_price),
                fee="" if found is None else _text(found.fee),
                fee_currency="" if found is None else found.fee_currency,
                detail=detail,
            )
        )

    def _look(self) -> None:
        if self._handed_over is None:
            self._count_lost()
        first = next(iter(self.lost()), None)
        self.unaccounted = "" if first is None else f"{first.request.client_order_id} ({first.why})"
        for wake in tuple(self.watchers):
            wake()

    def _count_lost(self) -> None:
        lost = Counter(sent.broker for sent in self.lost())
        for broker in self._had_lost | lost.keys():
            self.tally.of(broker).unknown_orders = lost[broker]
        self._had_lost = frozenset(lost)

    def lost(self) -> tuple[Sent, ...]:
        """The orders with an unknown outcome, oldest first."""
        return tuple(sent for sent in self._sent.values() if sent.why)

    def under_way(self, broker: str) -> bool:
        """Whether an order of this account is just being sent."""
        return any(sent.broker == broker and not sent.why for sent in self._sent.values())

    def sent(self, client_order_id: str) -> Sent | None:
        """The order of this id, if its outcome is not known yet."""
        return self._sent.get(canonical_id(client_order_id))

    def placed(self, client_order_id: str) -> Placed | None:
        """The order of this id, if the exchange took it, as far as is known here."""
        return self._placed.get(canonical_id(client_order_id))

    def used_for(self, client_order_id: str) -> OrderRequest | None:
        """What this id was used for; None when it was not, as far as is known here."""
        used = self.sent(client_order_id) or self.placed(client_order_id)
        return None if used is None else used.request


def _text(amount: Decimal | None) -> str:
    return "" if amount is None else plain(amount)


def _noted(mark: SentOrder) -> Note | None:
    """What was written down of an order; None, which is logged, where that cannot be read."""
    try:
        return msgspec.json.decode(mark.document, type=Note)
    except (msgspec.MsgspecError, RecursionError) as error:
        _log.error(
            "an order of an earlier process, %s, cannot be read and is not looked up: %s",
            mark.client_order_id,
            error,
        )
        return None
