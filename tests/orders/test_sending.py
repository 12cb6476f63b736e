"""An order whose answer was lost is soon certain, and no order is ever placed twice."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant, SystemClock
from brokerwatch.cluster.broker import requests_of
from brokerwatch.errors import EarlierOrderUnknown, OrderError, OrderRefused, OrderStateUnknown
from brokerwatch.messages import Order
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx
from brokerwatch.simulator.exchange import Call, Trouble
from tests.support.clusters import until
from tests.support.desks import KINDS, LOOKUP_PATHS, Desk, Opened, lose, rich

TIME_PATHS = {"kraken": "/0/public/Time", "okx": "/api/v5/public/time"}
WITH_DEADLINES = (SimulatedKraken, SimulatedOkx)


class Shared(SystemClock):
    """A clock of which a test puts the monotonic part ahead."""

    def __init__(self) -> None:
        self.by_s = 0.0

    def now(self) -> Instant:
        return Instant(super().now().wall_us, self.up_s())

    def up_s(self) -> float:
        return super().up_s() + self.by_s


class Timed:
    """A desk whose clocks a test puts ahead, with a small position to sell."""

    def __init__(self, desk: Desk, clock: Shared) -> None:
        self.desk, self.clock, self.exchange = desk, clock, desk.exchange

    def knows_the_time(self) -> bool:
        """Whether the exchange's clock is known, which each poll asks for until it is."""
        venue = requests_of(self.desk.broker).account().access.venue
        if self.exchange.ccxt_id == "coinbase" or venue.clock.deadline(3.0) is not None:
            return True
        self.desk.broker.get_account_balance()
        return False

    def wait(self, seconds: float) -> None:
        """Let time pass for brokerwatch and for the exchange."""
        self.clock.by_s += seconds
        if self.exchange.ccxt_id != "coinbase":  # there no order depends on the time
            self.exchange.clock_skew_s += seconds
            # ccxt signs the time at OKX by a clock of its own.
            instance = requests_of(self.desk.broker).account().access.connection.instance
            instance.options["timeDifference"] = -1_000 * self.exchange.clock_skew_s

    def sell(self, order_id: str = "") -> Order:
        return self.desk.broker.close_position(
            self.desk.symbol,
            base_amount=Decimal("0.001"),
            validate_only=False,
            client_order_id=order_id or None,
        )

    def sold(self, order_id: str) -> int:
        return sum(order.client_id == order_id for order in self.exchange.orders_of())


@contextlib.contextmanager
def timed(exchange: SimulatedExchange, *, knows_the_time: bool = True, **values: Any) -> Generator[Timed]:
    rich(exchange)
    clock = Shared()
    with Opened(exchange, clock=clock, **values) as desk:
        bench = Timed(desk, clock)
        until(lambda: bench.knows_the_time() or not knows_the_time)
        yield bench


def test_an_exit_whose_answer_was_lost_is_out_within_five_seconds() -> None:
    for kind in KINDS:
        with timed(kind()) as bench:
            order_id = bench.desk.broker.new_order_id()
            bench.exchange.set_fault("reset", path=bench.desk.order_path, times=1)
            with contextlib.suppress(OrderStateUnknown):
                bench.sell(order_id)
                assert kind is SimulatedCoinbase, "there an id places one order, so it was sent again"
            bench.wait(5.0)
            assert bench.sell(order_id).client_order_id == order_id
            assert bench.sold(order_id) == 1


@pytest.mark.parametrize("kind", WITH_DEADLINES, ids=str)
def test_an_exit_that_arrives_after_it_was_sent_again_is_refused(kind: type[SimulatedExchange]) -> None:
    with timed(kind()) as bench:
        order_id = bench.desk.broker.new_order_id()
        bench.exchange.set_fault("reset", path=bench.desk.order_path, times=1, late=True)
        with pytest.raises(OrderStateUnknown, match="not list"):
            bench.sell(order_id)
        with contextlib.suppress(OrderStateUnknown):  # a machine that is slow may be late enough
            bench.sell(order_id)
        bench.wait(5.0)
        bench.sell(order_id)
        assert bench.exchange.deliver_late() == 0
        assert bench.sold(order_id) == 1


@pytest.mark.parametrize("kind", WITH_DEADLINES, ids=str)
def test_what_arrives_while_a_look_up_is_answered_is_not_taken_for_what_never_will(
    kind: type[SimulatedExchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    with timed(kind()) as bench:
        order_id, answered = bench.desk.broker.new_order_id(), bench.exchange.respond
        bench.exchange.set_fault("reset", path=bench.desk.order_path, times=1, late=True)
        with pytest.raises(OrderStateUnknown, match="not list"):
            bench.sell(order_id)
        last = LOOKUP_PATHS[bench.exchange.ccxt_id][-1]

        def slowly(call: Call, *trouble: Trouble) -> Any:
            answer = answered(call, *trouble)
            if f"{call.method} {call.path}" == last:
                # The order arrives in time, and the answer to the look-up comes after its deadline.
                bench.exchange.deliver_late()
                bench.clock.by_s += 5.0
            return answer

        monkeypatch.setattr(bench.exchange, "respond", slowly)
        with pytest.raises(OrderStateUnknown, match="may still come"):
            bench.sell(order_id)
        assert bench.sell(order_id).client_order_id == order_id
        assert bench.sold(order_id) == 1


@pytest.mark.parametrize("kind", WITH_DEADLINES, ids=str)
def test_an_entry_is_certain_sooner_than_after_a_minute(kind: type[SimulatedExchange]) -> None:
    with timed(kind()) as bench:
        lose(bench.desk, executed=False, fault="reset")
        with pytest.raises(OrderStateUnknown):
            bench.desk.buy()
        bench.exchange.mend()
        with pytest.raises(EarlierOrderUnknown, match="may still come"):
            bench.desk.buy()
        bench.wait(15.0)
        bench.desk.broker.get_account_balance()
        bench.desk.buy()
        assert bench.desk.placed == 1


@pytest.mark.parametrize("kind", WITH_DEADLINES, ids=str)
def test_where_the_clock_of_the_exchange_is_not_known_an_order_has_no_deadline(
    kind: type[SimulatedExchange],
) -> None:
    exchange = kind()
    exchange.set_fault("http_502_html", path=TIME_PATHS[exchange.ccxt_id], public=True)
    with timed(exchange, knows_the_time=False) as bench:
        order_id = bench.desk.broker.new_order_id()
        bench.exchange.set_fault("reset", path=bench.desk.order_path, times=1, late=True)
        with pytest.raises(OrderStateUnknown):
            bench.sell(order_id)
        bench.wait(30.0)
        with pytest.raises(OrderStateUnknown, match=r"may still come for [23][0-9] s"):
            bench.sell(order_id)
        assert bench.exchange.deliver_late() == 1, "it had no deadline"
        bench.sell(order_id)
        assert bench.sold(order_id) == 1


@pytest.mark.parametrize("kind", WITH_DEADLINES, ids=str)
def test_an_exit_whose_deadline_had_passed_is_sent_once_more_without_one(
    kind: type[SimulatedExchange],
) -> None:
    with timed(kind()) as bench:
        bench.exchange.clock_skew_s += 15.0  # its clock is set, and ours is not measured again yet
        sent = bench.exchange.calls_to(bench.desk.order_path)
        order = bench.sell()
        assert bench.exchange.calls_to(bench.desk.order_path) == sent + 2
        assert bench.sold(order.client_order_id) == 1
        with pytest.raises(OrderRefused, match="deadline"):
            bench.desk.buy()
        assert bench.desk.placed == 1
        assert bench.desk.broker.is_available()


def test_a_deadline_that_the_exchange_does_not_take_stops_no_order() -> None:
    with timed(SimulatedKraken()) as bench:
        bench.exchange.clock_skew_s -= 65.0
        assert bench.sold(bench.sell().client_order_id) == 1
        bench.desk.broker.get_account_balance()
        assert bench.sold(bench.desk.buy().client_order_id) == 1


def test_a_refusal_for_the_deadline_after_the_order_was_taken_places_no_second_one() -> None:
    """A proxy that sends a request twice may get this answer to the second, and passes it on."""
    with timed(SimulatedKraken()) as bench:
        body = '{"error":["EService:Deadline elapsed"]}'
        bench.exchange.set_answer(body, path=bench.desk.order_path, times=1, executed=True)
        assert bench.sold(bench.sell().client_order_id) == bench.desk.placed == 1


# --- where an id places one order --------------------------------------------------------------------


def test_a_lost_exit_is_sent_again_only_where_the_exchange_does_not_list_it() -> None:
    exchange = SimulatedCoinbase()
    exchange.places_repeated_ids = True
    with timed(exchange) as bench:
        exchange.set_fault("reset", path=bench.desk.order_path, executed=True, times=1)
        assert bench.sold(bench.sell().client_order_id) == 1
        assert exchange.calls_to(bench.desk.order_path) == 1, "it was listed"
        for path in LOOKUP_PATHS["coinbase"]:
            exchange.set_fault("http_502_html", path=path)
        exchange.set_fault("reset", path=bench.desk.order_path, executed=True, times=1)
        with pytest.raises(OrderStateUnknown):
            bench.sell()
        assert exchange.calls_to(bench.desk.order_path) == 2, "it could not be looked up"


def test_a_lost_entry_is_never_sent_again() -> None:
    with timed(SimulatedCoinbase()) as bench:
        order_id = bench.desk.broker.new_order_id()
        bench.exchange.set_fault("reset", path=bench.desk.order_path, times=1)
        for _ in range(2):
            with pytest.raises(OrderStateUnknown):
                bench.desk.buy(client_order_id=order_id)
        assert bench.exchange.calls_to(bench.desk.order_path) == 1


def test_exits_are_not_sent_again_where_that_is_switched_off() -> None:
    exchange = SimulatedCoinbase()
    exchange.places_repeated_ids = True
    with timed(exchange, repeat_exits=False) as bench:
        order_id = bench.desk.broker.new_order_id()
        exchange.set_fault("reset", path=bench.desk.order_path, late=True, times=1)
        for _ in range(2):
            with pytest.raises(OrderStateUnknown):
                bench.sell(order_id)
        assert exchange.deliver_late() == 1
        bench.sell(order_id)
        assert bench.sold(order_id) == 1


def test_what_an_exit_is_answered_that_was_sent_again_says_nothing_about_its_first_sending() -> None:
    with timed(SimulatedCoinbase()) as bench:
        order_id = bench.desk.broker.new_order_id()
        bench.exchange.set_fault("reset", path=bench.desk.order_path, late=True, times=1)
        for path in LOOKUP_PATHS["coinbase"]:
            bench.exchange.set_fault("http_502_html", path=path, times=1)
        with pytest.raises(OrderStateUnknown):
            bench.sell(order_id)
        bench.exchange.set_fault("permission", path=bench.desk.order_path, times=1)
        with pytest.raises(OrderStateUnknown):
            bench.sell(order_id)
        with pytest.raises(OrderStateUnknown, match="may still come"):
            bench.desk.broker.find_order(bench.desk.symbol, order_id)
        assert bench.exchange.deliver_late() == 1
        assert bench.sell(order_id).client_order_id == order_id
        assert bench.sold(order_id) == 1


def test_all_that_is_held_is_sold_again_in_the_amount_of_the_first_time() -> None:
    with timed(SimulatedCoinbase()) as bench:
        desk, order_id = bench.desk, bench.desk.broker.new_order_id()
        lose(desk, executed=False, fault="reset")
        with pytest.raises(OrderStateUnknown):
            desk.broker.close_position(desk.symbol, validate_only=False, client_order_id=order_id)
        bench.exchange.mend()
        bench.exchange.set_balance({"BTC": ("0.7", "0")})
        sold = desk.broker.close_position(desk.symbol, validate_only=False, client_order_id=order_id)
        assert (sold.base_amount, bench.sold(order_id)) == (Decimal("0.5"), 1)


# --- never twice, whatever happens -------------------------------------------------------------------

FATES = ("reset", "executed", "late", "page", "refused", "deadline")
STEP = st.one_of(
    st.sampled_from([("sell", fate) for fate in ("fine", *FATES)]),
    st.sampled_from([("wait", 1.0), ("wait", 2.5), ("wait", 6.0)]),
    st.sampled_from([("lookups", "fail"), ("lookups", "answer"), ("deliver", "")]),
)


def play(bench: Timed, steps: list[tuple[str, Any]]) -> None:
    """One exit under one id, tried again and again; in the end it is out, once."""
    exchange, path, order_id = bench.exchange, bench.desk.order_path, bench.desk.broker.new_order_id()
    for what, how in steps:
        match what, how:
            case "wait", seconds:
                bench.wait(seconds)
            case "lookups", "fail":
                for each in LOOKUP_PATHS[exchange.ccxt_id]:
                    exchange.set_fault("http_502_html", path=each)
            case "lookups", _:
                exchange.mend()
            case "deliver", _:
                exchange.deliver_late()
            case _:
                spoil(exchange, path, how)
                with contextlib.suppress(OrderError):
                    bench.sell(order_id)
    exchange.mend()
    for _ in range(2):
        with contextlib.suppress(OrderError):
            bench.sell(order_id)
        bench.wait(5.0)
    assert bench.sell(order_id).client_order_id == order_id
    exchange.deliver_late()
    assert bench.sold(order_id) == 1


def spoil(exchange: SimulatedExchange, path: str, how: str) -> None:
    match how:
        case "reset":
            exchange.set_fault("reset", path=path, times=1)
        case "executed":
            exchange.set_fault("reset", path=path, times=1, executed=True)
        case "late":
            exchange.set_fault("reset", path=path, times=1, late=True)
        case "page":
            exchange.set_fault("http_502_html", path=path, times=1)
        case "refused":
            exchange.set_fault("permission", path=path, times=1)
        case "deadline" if isinstance(exchange, WITH_DEADLINES):
            exchange.clock_skew_s += 3.5
        case _:
            pass


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_exit_is_placed_twice_and_each_is_out_in_the_end(kind: type[SimulatedExchange]) -> None:
    with timed(kind(), max_consecutive_errors=1_000) as bench:
        bench.exchange.set_balance({"BTC": ("100", "0")})

        @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(STEP, min_size=1, max_size=6))
        def examples(steps: list[tuple[str, Any]]) -> None:
            bench.exchange.mend()
            play(bench, steps)

        examples()
        for first in FATES:
            for second in FATES:
                play(bench, [("sell", first), ("wait", 2.0), ("sell", second), ("deliver", "")])
