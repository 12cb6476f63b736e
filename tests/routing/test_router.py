"""The router: the choice on what is known this moment, and who is told when it changes."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import pytest

from brokerwatch.bus.change_dispatcher import ChangeDispatcher
from brokerwatch.clock import ManualClock
from brokerwatch.exchanges.symbols import Products
from brokerwatch.health.changes import Change
from brokerwatch.messages import HealthState, Holding, Product, Reading, Reason, Verdict
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import Candidate, RefusalCode
from brokerwatch.routing.router import Router

PATIENCE_S: Final = 60.0
MARKETS: Final = Products([Product(symbol="BTC/USD", base="BTC", quote="USD", id="XXBTZUSD")])
NEED: Final = Need(symbol="BTC/USD", side="buy", quote_amount=Decimal(500))


class Venue:
    """Two brokers whose readings a test changes, and their router."""

    def __init__(self, *, strict_products: bool = True) -> None:
        self.clock = ManualClock()
        self.asked = 0
        self.known = {name: self.candidate(name) for name in ("kraken", "okx")}
        self.changes = ChangeDispatcher(
            self.clock, readings=lambda: [one.reading for one in self.known.values()]
        )
        self.router = Router(self.candidates, self.changes.subscribe, strict_products=strict_products)

    def candidate(self, broker: str, *, available: bool = True) -> Candidate:
        now = self.clock.now()
        held = Holding(free=Decimal(900), used=Decimal(0), total=Decimal(900))
        known = Reading(
            broker=broker,
            exchange=broker,
            simulated=False,
            broker_epoch="",
            version=1,
            state=HealthState.HEALTHY,
            verdict=Verdict(available, Reason.OK if available else Reason.HELD_OUT),
            detail="",
            since_us=0,
            error_count=0,
            fault=None,
            as_of=now,
            cash=held.free,
            balance=MappingProxyType({"USD": held}),
            labels={},
            valid_until_s=now.up_s + 60,
            clock=self.clock,
        )
        return Candidate(reading=known, products=MARKETS, listed=("kraken", "okx").index(broker))

    def candidates(self) -> Iterator[Candidate]:
        self.asked += 1
        yield from self.known.values()

    def turn(self, broker: str, *, available: bool) -> None:
        before, self.known[broker] = self.known[broker], self.candidate(broker, available=available)
        self.changes.put(before.reading, self.known[broker].reading)


def test_the_router_chooses_the_next_best_when_one_is_out_and_the_first_again_when_it_is_back() -> None:
    venue = Venue()
    assert venue.router.pick(NEED).broker == "kraken"
    venue.turn("kraken", available=False)
    choice = venue.router.pick(NEED)
    assert choice.broker == "okx"
    assert [(one.broker, one.code) for one in choice.refused] == [("kraken", RefusalCode.NOT_AVAILABLE)]
    venue.turn("kraken", available=True)
    assert venue.router.pick(NEED).broker == "kraken"


def test_each_question_is_answered_from_what_is_known_then_and_looks_once() -> None:
    venue = Venue()
    assert [one.broker for one in venue.router.rank(NEED)] == ["kraken", "okx"]
    assert venue.router.rank(NEED) == venue.router.pick(NEED).ranked
    assert venue.asked == 3
    venue.clock.advance(31)
    choice = venue.router.pick(NEED)
    assert not choice
    assert {one.code for one in choice.refused} == {RefusalCode.BALANCE_STALE}
    assert venue.router.rank(NEED) == ()
    venue.clock.advance(30)
    assert {one.code for one in venue.router.pick(NEED).refused} == {RefusalCode.EXPIRED}


@pytest.mark.parametrize("strict", [True, False])
def test_only_where_markets_can_be_known_must_they_be(strict: bool) -> None:
    venue = Venue(strict_products=strict)
    venue.known = {"kraken": Candidate(reading=venue.known["kraken"].reading)}
    assert bool(venue.router.pick(NEED)) == (not strict)
    assert bool(venue.router.rank(NEED)) == (not strict)


def test_a_change_is_told_until_the_callback_is_taken_back() -> None:
    venue = Venue()
    heard: queue.Queue[Change] = queue.Queue()
    try:
        leave = venue.router.on_change(heard.put)
        venue.turn("kraken", available=False)
        change = heard.get(timeout=PATIENCE_S)
        assert (change.broker, change.lost) == ("kraken", True)
        leave()
        venue.turn("kraken", available=True)
    finally:
        assert venue.changes.close(PATIENCE_S)
    assert heard.empty()


def test_a_callback_may_ask_the_router_which_knows_what_it_was_told() -> None:
    venue = Venue()
    chosen: queue.Queue[str | None] = queue.Queue()
    try:
        venue.router.on_change(lambda _: chosen.put(venue.router.pick(NEED).broker))
        venue.turn("kraken", available=False)
        assert chosen.get(timeout=PATIENCE_S) == "okx"
    finally:
        assert venue.changes.close(PATIENCE_S)


@pytest.mark.parametrize("wrong", ["BTC/USD", None, {"symbol": "BTC/USD"}])
def test_what_is_no_need_is_refused_with_one_to_copy(wrong: Any) -> None:
    for ask in (Venue().router.pick, Venue().router.rank):
        with pytest.raises(TypeError, match=r'Need\(symbol="BTC/USD", side="buy"\)'):
            ask(wrong)
