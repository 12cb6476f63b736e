"""Orders in a pool: none goes out outside the term of its key, nor before its record is confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.cluster.broker import requests_of
from brokerwatch.errors import ClaimLost, OrderNotSent, OrderStateUnknown
from brokerwatch.exchanges.refusals import Unknown
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.lease import ClaimOver, Term
from brokerwatch.orders import following, sending, written_down
from brokerwatch.orders.in_flight import InFlightOrders
from brokerwatch.orders.lookup import Lookup
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import SentOrder
from tests.orders.test_in_flight import request as an_order
from tests.support.clusters import until
from tests.support.desks import KINDS, Desk, Opened, rich

CALL_S = 1.0
WHY = "node b has it"


@contextmanager
def pooled(exchange: SimulatedExchange, state: Path, **values: Any) -> Generator[tuple[Desk, Term]]:
    """A desk whose key has a term that a test ends; it remembers, as a pool must."""
    term = Term(float("inf"), CALL_S, 1)
    with Opened(rich(exchange), state=str(state), term_of=lambda _: term, **values) as desk:
        yield desk, term


def executor_of(desk: Desk) -> Any:
    return requests_of(desk.broker).account().executor


ATTEMPTS: dict[str, Callable[[Desk], Any]] = {
    "an entry": lambda desk: desk.buy(),
    "an entry with an id": lambda desk: desk.buy(client_order_id="abc123"),
    "a sale": lambda desk: desk.broker.place_market_order(
        desk.symbol, "sell", base_amount=Decimal("0.01"), validate_only=False
    ),
    "an exit": lambda desk: desk.broker.close_position(
        desk.symbol, base_amount=Decimal("0.01"), validate_only=False
    ),
    "an exit of all": lambda desk: desk.broker.close_position(desk.symbol, validate_only=False),
    "an exit with an id": lambda desk: desk.broker.close_position(
        desk.symbol, base_amount=Decimal("0.01"), validate_only=False, client_order_id="abc123"
    ),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.ccxt_id))
def test_outside_the_term_no_entry_and_no_exit_is_sent(kind: type[SimulatedExchange], tmp_path: Path) -> None:
    with pooled(kind(), tmp_path) as (desk, term):
        term.end(WHY)
        calls = desk.exchange.private_calls
        for attempt in ATTEMPTS.values():
            with pytest.raises(ClaimLost, match=f"claim.*{WHY}"):
                attempt(desk)
        assert (desk.exchange.private_calls, desk.placed) == (calls, 0)
        term.extend(float("inf"), 2)
        until(desk.broker.is_available)
        assert desk.buy().order_id
        assert desk.placed == 1


@pytest.mark.parametrize("attempt", ["an entry", "an exit"])
def test_an_order_that_waited_for_its_turn_until_the_term_was_over_is_not_sent(
    attempt: str, tmp_path: Path
) -> None:
    with pooled(SimulatedOkx(), tmp_path) as (desk, term), ThreadPoolExecutor() as pool:
        lane = requests_of(desk.broker).account().access.lane
        with desk.broker.lane():
            waiting = pool.submit(ATTEMPTS[attempt], desk)
            until(lambda: lane._urgent)  # pyright: ignore[reportPrivateUsage] - who waits shows nowhere else
            term.end(WHY)
        with pytest.raises(ClaimLost, match=WHY):
            waiting.result()
        assert desk.placed == 0


@pytest.mark.parametrize("attempt", ["an entry", "an exit"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.ccxt_id))
def test_an_order_that_was_written_down_when_the_term_was_over_is_not_sent_and_is_crossed_out(
    kind: type[SimulatedExchange], attempt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pooled(kind(), tmp_path) as (desk, term):
        send = InFlightOrders.send

        async def sent(self: InFlightOrders, *given: Any) -> None:
            await send(self, *given)
            term.end(WHY)

        monkeypatch.setattr(InFlightOrders, "send", sent)
        before = desk.exchange.calls_to(desk.order_path)
        with pytest.raises(ClaimLost, match=WHY):
            ATTEMPTS[attempt](desk)
        assert desk.exchange.calls_to(desk.order_path) == before
        assert not executor_of(desk).is_open, "it is known that it was not sent"
        assert desk.broker.get_error_count() == 0


# --- written down first ------------------------------------------------------------------------------


class Answering(Journal):
    """A journal whose database answers like this."""

    def __init__(self, answer: bool | Exception | None) -> None:
        super().__init__(None)
        self.answer, self.ended = answer, 0

    def order(self, order: SentOrder) -> Future[bool]:
        del order
        known: Future[bool] = Future()
        if isinstance(self.answer, Exception):
            known.set_exception(self.answer)
        elif self.answer is not None:
            known.set_result(self.answer)
        return known

    def order_ended(self, fingerprint: str, client_order_id: str) -> None:
        del fingerprint, client_order_id
        self.ended += 1


@pytest.mark.parametrize("answer", [False, None, OSError("the disk is gone")], ids=str)
def test_with_a_term_an_order_goes_out_only_once_the_database_has_confirmed_its_record(
    answer: bool | Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_down, "MARK_WAIT_S", 0.01)
    orders = InFlightOrders("key", ManualClock(), Answering(answer), durable=True)
    with pytest.raises(OrderNotSent, match="the database did not confirm"):
        asyncio.run(orders.send(an_order()))
    asyncio.run(InFlightOrders("key", ManualClock(), Answering(answer)).send(an_order()))
    asyncio.run(InFlightOrders("key", ManualClock(), Answering(True), durable=True).send(an_order()))


def test_with_a_term_an_order_is_not_sent_again_either_before_its_record_is_confirmed() -> None:
    journal = Answering(True)
    orders = InFlightOrders("key", ManualClock(), journal, durable=True)

    async def story() -> None:
        await orders.send(an_order())
        orders.bound("one", 100.0)
        journal.answer = False
        with pytest.raises(OrderNotSent, match="the database did not confirm"):
            await orders.unbound("one")

    asyncio.run(story())


@pytest.mark.parametrize("attempt", ["an entry", "an exit", "an exit of all"])
def test_without_a_store_nothing_goes_out_in_a_pool_and_all_of_it_elsewhere(attempt: str) -> None:
    exchange, term = rich(SimulatedKraken()), Term(float("inf"), CALL_S, 1)
    with Opened(exchange, term_of=lambda _: term) as desk:
        with pytest.raises(OrderNotSent, match="the database did not confirm"):
            ATTEMPTS[attempt](desk)
        assert desk.placed == 0
        assert not executor_of(desk).is_open
    with Opened(exchange) as desk:
        ATTEMPTS[attempt](desk)
        assert desk.placed == 1


# --- an exit whose answer was lost -------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before it had its turn again", "before it was signed again"])
def test_a_lost_exit_stays_unknown_when_the_term_ends_before_it_is_sent_again(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nothing was sent again says nothing about the first sending."""
    exchange = SimulatedCoinbase()
    exchange.places_repeated_ids = True
    with pooled(exchange, tmp_path) as (desk, term):
        found, send = Lookup.found, InFlightOrders.send
        times = 0

        async def looked_up(self: Lookup, *given: Any) -> Any:
            answer = await found(self, *given)
            if moment.startswith("before it had"):
                term.end(WHY)
            return answer

        async def sent(self: InFlightOrders, *given: Any) -> None:
            nonlocal times
            await send(self, *given)
            times += 1
            if times == 2:
                term.end(WHY)

        monkeypatch.setattr(Lookup, "found", looked_up)
        monkeypatch.setattr(InFlightOrders, "send", sent)
        exchange.set_fault("reset", path=desk.order_path, late=True, times=1)
        with pytest.raises(OrderStateUnknown, match="claim"):
            ATTEMPTS["an exit"](desk)
        assert exchange.calls_to(desk.order_path) == 1
        assert executor_of(desk).lost(), "it is looked up when the term is there again"


def test_an_order_whose_later_request_came_too_late_is_unknown() -> None:
    """Some calls of ccxt make several requests: what the first of them did is not undone by our refusal."""
    sender = object.__new__(sending.OrderSender)

    class Used:
        changed_something = True

    sender._connection = Used()  # type: ignore[assignment] # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] - only this is asked
    judged = sender._judged(ClaimOver("claim: over"))  # pyright: ignore[reportPrivateUsage] - the judgement by itself
    assert isinstance(judged, Unknown)


# --- following ---------------------------------------------------------------------------------------


def test_orders_are_not_followed_outside_the_term_and_are_again_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "FIRST_LOOK_S", 0.02)
    exchange = SimulatedKraken()
    refused: list[str] = []
    with pooled(exchange, tmp_path) as (desk, term):
        exchange.fills_at_once = False
        desk.buy()
        lane = requests_of(desk.broker).account().access.lane
        barred = lane.refrain_when_barred

        def noted() -> None:
            try:
                barred()
            except Refrained as refrained:
                refused.append(refrained.outcome.why)
                raise

        monkeypatch.setattr(lane, "refrain_when_barred", noted)
        until(lambda: exchange.calls_to("POST /0/private/QueryOrders") >= 1)
        term.end(WHY)
        looks = exchange.calls_to("POST /0/private/QueryOrders")
        until(lambda: len(refused) >= 3)
        assert exchange.calls_to("POST /0/private/QueryOrders") <= looks + 1, "one may have been under way"
        exchange.fill_open_orders()
        assert executor_of(desk).followed()
        term.extend(float("inf"), 2)
        until(lambda: not executor_of(desk).followed())


def test_an_account_that_leaves_because_another_node_has_it_is_let_go_of_at_once(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    with pooled(exchange, tmp_path) as (desk, term):
        exchange.fills_at_once = False
        desk.buy()
        gone: Future[None] = Future()
        executor = executor_of(desk)
        executor.see_off("it has left", lambda: gone.set_result(None))
        until(lambda: executor._follower._task is not None)
        assert not gone.done(), "its order is followed here"
        term.end(WHY)
        gone.result(10.0)
        assert executor.followed(), "and is still written down, for the node that has it"
