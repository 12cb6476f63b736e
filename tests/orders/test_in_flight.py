"""The ledger of a key's orders: what is written down before it is sent, and what an id was used for."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from dataclasses import replace
from decimal import Decimal
from typing import Final

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.messages import Product, Side
from brokerwatch.orders.comparison import another_order, another_request
from brokerwatch.orders.in_flight import CUT_OFF, KEPT_ORDERS, LEFT_BEHIND, InFlightOrders
from brokerwatch.orders.records import LOST_AFTER_S
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import OrderEvent, SentOrder
from brokerwatch.tally import ORDER_ENDS, Tally

PRODUCT: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="XXBTZUSD")


class Paper(Journal):
    """What is written down; `slow` is never answered."""

    def __init__(self, *, slow: bool = False) -> None:
        super().__init__(None)
        self.marks: dict[tuple[str, str], SentOrder] = {}
        self.told: list[tuple[str, str]] = []
        self.slow = slow

    def order(self, order: SentOrder) -> Future[bool]:
        self.marks[order.fingerprint, order.client_order_id] = order
        done: Future[bool] = Future()
        if not self.slow:
            done.set_result(True)
        return done

    def order_event(self, event: OrderEvent) -> None:
        self.told.append((event.client_order_id, event.state))

    def order_ended(self, fingerprint: str, client_order_id: str) -> None:
        del self.marks[fingerprint, client_order_id]


def request(name: str = "one", *, side: Side = Side.BUY, amount: str = "50") -> OrderRequest:
    return OrderRequest(PRODUCT, side, None, Decimal(amount), name)


def found(
    market: str = "",
    side: Side | None = None,
    ordered_base: str | None = None,
    ordered_quote: str | None = None,
) -> FoundOrder:
    return FoundOrder(
        order_id="O-1",
        market=market,
        side=side,
        ordered_base=None if ordered_base is None else Decimal(ordered_base),
        ordered_quote=None if ordered_quote is None else Decimal(ordered_quote),
        filled_base=None,
        ended="",
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_an_order_is_written_down_before_it_is_sent_and_crossed_out_once_it_is_known(
    clock: ManualClock,
) -> None:
    paper = Paper()
    ledger = InFlightOrders("key", clock, paper)
    asyncio.run(ledger.send(request()))
    [mark] = paper.marks.values()
    assert (mark.fingerprint, mark.client_order_id, mark.sent_us) == ("key", "one", clock.now().wall_us)
    assert ledger.lost() == (), "it is under way"
    ledger.lose("one", "no answer")
    assert [sent.why for sent in ledger.lost()] == ["no answer"]
    ledger.end("one", "O-1")
    assert (paper.marks, ledger.lost()) == ({}, ())
    assert ledger.used_for("one") == request()
    ledger.end("one", None)  # twice is harmless
    assert ledger.used_for("one") == request()


def test_an_order_that_was_not_placed_has_not_used_its_id(clock: ManualClock) -> None:
    ledger = InFlightOrders("key", clock, Paper())
    asyncio.run(ledger.send(request()))
    assert ledger.used_for("one") == request()
    ledger.end("one", None)
    assert ledger.used_for("one") is None


def test_a_disk_that_does_not_answer_stops_no_order(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerwatch.orders.written_down.MARK_WAIT_S", 0.01)
    ledger = InFlightOrders("key", clock, Paper(slow=True))
    asyncio.run(ledger.send(request()))
    assert ledger.sent("one") is not None


def test_the_next_process_knows_them_and_gives_each_a_minute_to_arrive(clock: ManualClock) -> None:
    paper = Paper()
    before = InFlightOrders("key", clock, paper)
    asyncio.run(before.send(request("one")))
    asyncio.run(before.send(request("two", side=Side.SELL, amount="0.10")))
    clock.advance(20.0)
    after = InFlightOrders("key", clock, paper)
    after.recall(list(paper.marks.values()))
    one, two = after.lost()
    assert (one.request, two.request) == (request("one"), request("two", side=Side.SELL, amount="0.10"))
    assert {one.why, two.why} == {CUT_OFF}
    assert one.left_s(clock.now()) == pytest.approx(LOST_AFTER_S)
    after.end("one", None)
    assert list(paper.marks) == [("key", "two")]


def test_the_next_process_knows_from_when_on_an_order_cannot_arrive_any_more(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerwatch.orders.in_flight.boot_id", lambda: "a boot")
    paper = Paper()
    before = InFlightOrders("key", clock, paper)
    asyncio.run(before.send(request()))
    before.bound("one", clock.now().up_s + 4.0)
    clock.advance(1.0)

    def left_s() -> float:
        after = InFlightOrders("key", clock, Paper())
        after.recall(list(paper.marks.values()))
        [lost] = after.lost()
        return lost.left_s(clock.now())

    assert left_s() == pytest.approx(3.0), "killed while it was under way"
    asyncio.run(before.unbound("one"))
    assert left_s() == pytest.approx(LOST_AFTER_S), "it is sent once more, later"
    before.bound("one", clock.now().up_s + 4.0)
    before.lose("one", "no answer")
    assert left_s() == pytest.approx(4.0)
    monkeypatch.setattr("brokerwatch.orders.in_flight.boot_id", lambda: "another boot")
    assert left_s() == pytest.approx(LOST_AFTER_S), "its clock says nothing here"


def test_a_minute_goes_on_over_as_many_starts_as_there_are(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = Paper()
    first = InFlightOrders("key", clock, paper)
    asyncio.run(first.send(request()))
    first.lose("one", "no answer")
    for left_s in (40.0, 20.0, 0.0):
        clock.advance(20.0)
        again = InFlightOrders("key", clock, paper)
        again.recall(list(paper.marks.values()))
        [sent] = again.lost()
        assert sent.left_s(clock.now()) == pytest.approx(left_s)
    monkeypatch.setattr("brokerwatch.orders.in_flight.boot_id", lambda: "another boot")
    elsewhere = InFlightOrders("key", clock, paper)
    elsewhere.recall(list(paper.marks.values()))
    assert elsewhere.lost()[0].left_s(clock.now()) == pytest.approx(LOST_AFTER_S)


@pytest.mark.parametrize("jump_s", [-3_600.0, 3_600.0])
def test_a_wall_clock_that_jumped_makes_no_order_a_lost_one(clock: ManualClock, jump_s: float) -> None:
    paper = Paper()
    asyncio.run(InFlightOrders("key", clock, paper).send(request()))
    clock.jump_wall(jump_s)
    after = InFlightOrders("key", clock, paper)
    after.recall(list(paper.marks.values()))
    [sent] = after.lost()
    assert sent.left_s(clock.now()) == pytest.approx(LOST_AFTER_S)


def test_what_cannot_be_read_is_said_and_the_rest_is_known(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    paper = Paper()
    asyncio.run(InFlightOrders("key", clock, paper).send(request()))
    broken = SentOrder("key", "broken", 0, '{"product": 1}')
    ledger = InFlightOrders("key", clock, paper)
    with caplog.at_level(logging.ERROR):
        ledger.recall([broken, *paper.marks.values()])
    assert "broken" in caplog.text
    assert [sent.request.client_order_id for sent in ledger.lost()] == ["one"]


def test_what_is_under_way_here_is_newer_than_what_is_remembered(clock: ManualClock) -> None:
    paper = Paper()
    ledger = InFlightOrders("key", clock, paper)
    asyncio.run(ledger.send(request()))
    ledger.recall(list(paper.marks.values()))
    assert ledger.lost() == ()


def test_no_more_ids_are_kept_than_said(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT_ORDERS > 1_000
    monkeypatch.setattr("brokerwatch.orders.in_flight.KEPT_ORDERS", 2)
    ledger = InFlightOrders("key", clock, Paper())
    for name in ("one", "two", "three"):
        asyncio.run(ledger.send(request(name)))
        ledger.end(name, "O-1")
    assert [ledger.used_for(name) is None for name in ("one", "two", "three")] == [True, False, False]


def test_a_request_differs_in_market_side_and_amount() -> None:
    before = request()
    assert not another_request(before, PRODUCT, Side.BUY, request(amount="50.0"))
    assert not another_request(before, PRODUCT, Side.BUY, None)
    assert another_request(before, PRODUCT, Side.SELL, None) == "buy BTC/USD"
    assert another_request(before, PRODUCT, Side.BUY, request(amount="51")) == "buy 50 of BTC/USD"
    ether = Product(symbol="ETH/USD", base="ETH", quote="USD", id="XETHZUSD")
    assert another_request(before, ether, Side.BUY, None) == "buy BTC/USD"


@pytest.mark.parametrize(
    ("theirs", "same"),
    [
        (found(), True),
        (found("XXBTZUSD", Side.BUY, None, "50.00"), True),
        (found(ordered_base="0.001"), True),
        (found("XETHZUSD"), False),
        (found(side=Side.SELL), False),
        (found(ordered_quote="51"), False),
    ],
)
def test_what_the_exchange_has_differs_only_in_what_it_says(theirs: FoundOrder, *, same: bool) -> None:
    assert bool(another_order(theirs, PRODUCT, Side.BUY, request())) is not same


def test_a_uuid_is_one_id_in_each_spelling_and_what_only_resembles_one_is_another(clock: ManualClock) -> None:
    name, spelt = "6f1f0c2e6d3c4b8f9a550e8a3c9d1f42", "6F1F0C2E-6D3C-4B8F-9A55-0E8A3C9D1F42"
    ledger = InFlightOrders("key", clock, Paper())
    asyncio.run(ledger.send(request(name)))
    assert ledger.used_for(spelt) == request(name)
    resembling = "6_1f0c2e6d3c4b8f9a550e8a3c9d1f42"
    asyncio.run(ledger.send(request(resembling)))
    assert ledger.used_for("0" + resembling.replace("_", "")) is None


def test_what_is_under_way_on_a_loop_that_hangs_is_unaccounted_for_on_the_one_in_its_place() -> None:
    paper, clock = Paper(), ManualClock()
    before = InFlightOrders("k", clock, paper)
    for name in ("lost", "under way", "placed"):
        asyncio.run(before.send(request(name)))
    before.end("placed", "O-1")
    before.lose("lost", "no answer")
    clock.advance(10.0)
    after = InFlightOrders("k", clock, paper)
    after.go_on_from(before)
    assert [(sent.request.client_order_id, sent.why) for sent in after.lost()] == [
        ("lost", "no answer"),
        ("under way", LEFT_BEHIND),
    ]
    assert after.left_behind
    lefts_s = [sent.left_s(clock.now()) for sent in after.lost()]
    assert lefts_s == [LOST_AFTER_S - 10.0, LOST_AFTER_S], "it may have been written just now"
    assert after.used_for("placed") == request("placed")
    assert after.unaccounted
    marked = paper.marks["k", "under way"]
    assert LEFT_BEHIND not in marked.document
    restarted = InFlightOrders("k", clock, paper)
    restarted.recall([marked])
    assert len(restarted.lost()) == 1, "a restart finds it too"


def test_what_the_loop_that_wakes_finds_out_is_neither_written_down_nor_told_again() -> None:
    paper, clock = Paper(), ManualClock()
    before = InFlightOrders("k", clock, paper)
    names = ("cut off", "answered late", "not sent")
    for name in names:
        asyncio.run(before.send(request(name)))
    after = InFlightOrders("k", clock, paper)
    after.go_on_from(before)
    for name in names:
        after.end(name, "O-1")
    assert not after.left_behind
    marks, told = dict(paper.marks), list(paper.told)
    before.lose("cut off", CUT_OFF)
    before.end("answered late", "O-1")
    before.end("not sent", None)
    assert (paper.marks, paper.told) == (marks, told)
    assert [state for name, state in told if name == "not sent"] == ["sent", "unknown", "accepted"]


def test_an_order_that_the_old_loop_begins_after_the_change_is_crossed_out_when_it_was_not_sent() -> None:
    paper, clock = Paper(), ManualClock()
    before, after = InFlightOrders("k", clock, paper), InFlightOrders("k", clock, paper)
    after.go_on_from(before)
    asyncio.run(before.send(request("one")))  # it looked at its lease a moment before that was revoked
    before.end("one", None)
    assert not paper.marks
    assert paper.told == [("one", "sent"), ("one", "not_sent")]


# --- the counts --------------------------------------------------------------------------------------


def over(*, filled: bool) -> FoundOrder:
    return replace(found(), is_filled=filled, ended="" if filled else "timeout")


def ends_of(tally: Tally, broker: str) -> dict[str, int]:
    return {end: count for end, count in tally.account(broker).ended.counts().items() if count}


def test_orders_are_counted_once_each_by_their_end(clock: ManualClock) -> None:
    tally = Tally()
    tally.account("main")
    ledger = InFlightOrders("key", clock, Paper(), tally=tally)

    def send(name: str) -> None:
        asyncio.run(ledger.send(request(name), "main"))

    for name in ("refused", "not_sent", "never_arrived", "forgotten"):
        send(name)
        ledger.end(name, None, None, name)
    for name, filled in (("filled at once", True), ("cancelled at once", False)):
        send(name)
        ledger.end(name, "O-1", over(filled=filled))
    for name in ("filled", "given up"):
        send(name)
        ledger.end(name, f"O-{name}")
    first, second = ledger.followed("main")
    assert ends_of(tally, "main").get("filled") == 1, "one that the exchange took has not ended"
    assert not ledger.moved(first, found())
    for _ in range(2):  # twice is harmless
        assert ledger.moved(first, over(filled=True))
        ledger.give_up(second, "late")
    assert tally.account("main").sent.total == 8
    assert ends_of(tally, "main") == {
        "filled": 2, "cancelled": 1, "not_followed": 1,
        "refused": 1, "not_sent": 1, "never_arrived": 1, "forgotten": 1,
    }  # fmt: skip
    assert set(ORDER_ENDS) == set(tally.account("main").ended.counts())


def test_the_orders_with_an_unknown_outcome_are_counted_as_long_as_it_is_unknown(clock: ManualClock) -> None:
    tally = Tally()
    main, other = tally.account("main"), tally.account("other")
    paper = Paper()
    ledger = InFlightOrders("key", clock, paper, tally=tally)
    for name, broker in (("one", "main"), ("two", "main"), ("three", "other")):
        asyncio.run(ledger.send(request(name), broker))
        asyncio.run(ledger.send(request(name), broker))  # again, with its own id
        ledger.lose(name, "no answer")
    assert (main.unknown_orders, other.unknown_orders, main.sent.total) == (2, 1, 2)
    ledger.end("one", None, None, "never_arrived")
    ledger.end("three", "O-3")
    assert (main.unknown_orders, other.unknown_orders) == (1, 0)
    restarted = Tally()
    restarted.account("main")
    InFlightOrders("key", clock, Paper(), tally=restarted).recall(paper.marks.values())
    assert restarted.account("main").unknown_orders == 1
    moved = InFlightOrders("key", clock, Paper(), tally=tally)
    moved.go_on_from(ledger)
    moved.end("two", "O-2")
    ledger.lose("two", "the old loop woke up")
    assert main.unknown_orders == 0


def test_the_end_of_an_order_of_an_account_that_was_removed_is_counted_nowhere(clock: ManualClock) -> None:
    tally = Tally()
    tally.account("main")
    ledger = InFlightOrders("key", clock, Paper(), tally=tally)
    asyncio.run(ledger.send(request(), "main"))
    tally.forget("main")
    ledger.end("one", None, None, "refused")
    assert dict(tally.accounts()) == {}
