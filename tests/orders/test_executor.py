"""One order on exchanges that really place it: sent once, and looked up when its answer is lost."""

from __future__ import annotations

import json
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.clock import Instant, SystemClock
from brokerwatch.cluster.broker import requests_of
from brokerwatch.errors import (
    EarlierOrderUnknown,
    InvalidOrder,
    OrderNotSent,
    OrderRefused,
    OrderStateUnknown,
    ValidationNotSupported,
)
from brokerwatch.messages import CapabilityState, Order, OrderState, Side
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.desks import (
    FIFTY,
    KINDS,
    LOOKUP_PATHS,
    ORDER_PATHS,
    Desk,
    Opened,
    deadline_s,
    desk,
    gives_up_soon,
    lose,
    rich,
)

__all__ = ["deadline_s", "desk"]  # fixtures

pytestmark = pytest.mark.usefixtures("patient_stops")


def test_a_dry_run_that_is_answered_with_an_order_is_not_said_to_have_placed_nothing() -> None:
    with Opened(rich(SimulatedKraken())) as desk:
        placed = {"descr": {"order": "buy"}, "txid": ["OUF4EM-FRGI2-MQMWZD"]}
        desk.exchange.set_answer(json.dumps({"error": [], "result": placed}), path=desk.order_path)
        with pytest.raises(OrderStateUnknown, match="only a dry run was asked for") as raised:
            desk.buy(validate_only=True, client_order_id="a-dry-run")
        assert raised.value.client_order_id == "a-dry-run"


def test_where_there_is_no_dry_run_nothing_is_sent() -> None:
    with Opened(rich(SimulatedOkx())) as desk:
        calls = desk.exchange.private_calls
        for attempt in (
            lambda: desk.buy(validate_only=True),
            lambda: desk.broker.close_position(desk.symbol, base_amount=Decimal("0.1")),
        ):
            with pytest.raises(ValidationNotSupported):
                attempt()
        assert desk.placed == 0
        assert desk.exchange.private_calls == calls


def test_what_the_exchange_refuses_is_refused_in_its_words_and_is_no_outage(desk: Desk) -> None:
    for _ in range(4):
        with pytest.raises(OrderRefused):
            desk.buy(quote_amount=Decimal(1_000_000))
    assert desk.placed == 0
    assert desk.broker.reading().capabilities["trade"].state is CapabilityState.OK
    assert desk.broker.is_available()


def test_a_key_that_may_not_trade_is_said_so_and_still_reads() -> None:
    exchange = rich(SimulatedKraken())
    exchange.set_permissions({"query"})
    with Opened(exchange) as desk:
        with pytest.raises(OrderRefused) as refused:
            desk.buy()
        assert refused.value.kind == "permission"
        until(lambda: desk.broker.reading().capabilities["trade"].state is CapabilityState.DOWN)
        assert desk.broker.reading().capabilities["trade"].reason == "permission"
        assert desk.broker.reading().capabilities["read"].state is CapabilityState.OK
        assert desk.broker.is_available()


# --- answers that never come -------------------------------------------------------------------------


LOST = ("hang", "reset", "cut_body", "http_502_html", "empty_body", "html_200", "exchange_down")


@gives_up_soon
@pytest.mark.parametrize("fault", LOST)
def test_an_order_whose_answer_is_lost_is_looked_up_and_not_sent_again(desk: Desk, fault: str) -> None:
    desk.exchange.set_fault(fault, path=desk.order_path, executed=True)
    order = desk.buy()
    assert order.state is OrderState.ACCEPTED
    [placed] = desk.exchange.orders_of()
    assert (placed.client_id, placed.id) == (order.client_order_id, order.order_id)
    assert desk.exchange.calls_to(desk.order_path) == 1


@gives_up_soon
@pytest.mark.parametrize("fault", LOST)
def test_an_order_that_nobody_can_find_is_unknown_and_nothing_follows_it(desk: Desk, fault: str) -> None:
    desk.exchange.set_fault(fault, path=desk.order_path)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    desk.exchange.mend()
    assert unknown.value.client_order_id
    with pytest.raises(EarlierOrderUnknown, match="not accounted for"):
        desk.buy()
    assert desk.exchange.calls_to(desk.order_path) == 1, "nothing was sent after it"
    with pytest.raises(OrderStateUnknown, match="may still come"):
        desk.broker.find_order(desk.symbol, unknown.value.client_order_id)


@gives_up_soon
def test_an_unknown_order_that_turns_up_lets_the_next_one_pass(desk: Desk) -> None:
    for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
        desk.exchange.set_fault("http_502_html", path=path)
    desk.exchange.set_fault("hang", path=desk.order_path, executed=True, times=1)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    with pytest.raises(EarlierOrderUnknown, match="not accounted for"):
        desk.buy()
    desk.exchange.mend()
    order = desk.buy()
    assert order.client_order_id != unknown.value.client_order_id
    assert desk.placed == 2


def test_sending_an_order_again_under_its_own_id_places_it_once(desk: Desk) -> None:
    first = desk.buy(client_order_id="abc123")
    again = desk.buy(client_order_id="abc123")
    assert (again.order_id, desk.placed) == (first.order_id, 1)


@gives_up_soon
def test_an_unknown_order_sent_again_under_its_own_id_is_found_and_not_placed_twice(desk: Desk) -> None:
    for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
        desk.exchange.set_fault("http_502_html", path=path)
    desk.exchange.set_fault("hang", path=desk.order_path, executed=True, times=1)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    desk.exchange.mend()
    again = desk.buy(client_order_id=unknown.value.client_order_id)
    assert (again.client_order_id, desk.placed) == (unknown.value.client_order_id, 1)


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedOkx])
def test_an_id_of_which_nobody_can_say_whether_it_was_used_is_not_sent(kind: type[SimulatedExchange]) -> None:
    """Kraken and OKX refuse an id only as long as its order is open; a market order never is."""
    with Opened(rich(kind())) as desk:
        for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
            desk.exchange.set_fault("http_502_html", path=path)
        with pytest.raises(OrderNotSent, match="cannot be looked up"):
            desk.buy(client_order_id="abc125")
        assert desk.exchange.calls_to(desk.order_path) == 0


def test_coinbase_itself_places_nothing_twice_under_one_id(tmp_path: Path) -> None:
    exchange = rich(SimulatedCoinbase())
    orders = set[str]()
    for _ in range(2):
        with Opened(exchange, state=str(tmp_path)) as desk:
            for path in LOOKUP_PATHS["coinbase"]:
                desk.exchange.set_fault("http_502_html", path=path)
            orders.add(desk.buy(client_order_id="abc125").order_id)
    assert (len(orders), exchange.placed_orders) == (1, 1)


def test_what_refuses_an_order_that_cannot_be_looked_up_says_nothing_about_an_earlier_one(
    tmp_path: Path,
) -> None:
    exchange = rich(SimulatedCoinbase())
    with Opened(exchange, state=str(tmp_path)) as desk:
        desk.buy(client_order_id="abc125")
        until(lambda: not requests_of(desk.broker).account().executor.followed())
    with Opened(exchange, state=str(tmp_path)) as desk:
        for path in LOOKUP_PATHS["coinbase"]:
            exchange.set_fault("http_502_html", path=path)
        exchange.set_fault("permission", path=desk.order_path)
        with pytest.raises(OrderStateUnknown, match="cannot be looked up"):
            desk.buy(client_order_id="abc125")
        assert exchange.calls_to(desk.order_path) == 2
    assert exchange.placed_orders == 1


def test_a_server_that_is_gone_was_never_reached_so_nothing_was_placed() -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange) as desk:
        desk.broker.get_all_products()
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True)
        cluster = cluster_of(spec, status_interval_s=float("inf"))
        cluster.start()
        broker = cluster.broker("kraken-test")
        broker.get_account_balance()
        broker.get_all_products()
    try:
        with pytest.raises(OrderNotSent, match="nothing was sent"):
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
    finally:
        cluster.stop()
    assert exchange.placed_orders == 0


# --- what an attacker found --------------------------------------------------------------------------


def test_no_option_of_ccxt_sends_an_order_again() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True)
        retrying = {**spec.ccxt, "options": {"maxRetriesOnFailure": 3, "maxRetriesOnFailureDelay": 1}}
        spec = replace(spec, ccxt=retrying)
        with cluster_of(spec, status_interval_s=float("inf")) as cluster:
            broker = cluster.broker("kraken-test")
            broker.get_account_balance()
            exchange.set_fault("http_502_html", path=ORDER_PATHS["kraken"], executed=True)
            broker.place_market_order("BTC/USD", "buy", quote_amount=FIFTY, validate_only=False)
    assert exchange.placed_orders == 1


def test_a_nonce_that_is_refused_after_the_order_was_taken_places_no_second_one() -> None:
    """A proxy that sends a request twice gets this answer to the second, and passes it on."""
    with Opened(rich(SimulatedKraken())) as desk:
        desk.exchange.set_fault("bad_nonce", path=desk.order_path, executed=True)
        order = desk.buy()
        assert (desk.placed, order.state) == (1, OrderState.ACCEPTED)


def test_a_nonce_that_is_refused_before_it_was_taken_is_tried_once_more() -> None:
    with Opened(rich(SimulatedKraken())) as desk:
        desk.exchange.set_fault("bad_nonce", path=desk.order_path, times=1)
        assert desk.buy().state is OrderState.ACCEPTED
        assert desk.placed == 1


@gives_up_soon
def test_an_order_of_which_nobody_knows_holds_up_no_exit(desk: Desk) -> None:
    desk.exchange.set_fault("hang", path=desk.order_path, times=1)
    for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
        desk.exchange.set_fault("http_502_html", path=path)
    with pytest.raises(OrderStateUnknown):
        desk.buy()
    with pytest.raises(EarlierOrderUnknown):
        desk.buy()
    assert desk.broker.close_position(desk.symbol, validate_only=False).state is OrderState.ACCEPTED


def test_an_id_that_was_used_for_another_order_is_refused(desk: Desk) -> None:
    desk.buy(client_order_id="abc126")
    with pytest.raises(InvalidOrder, match="another"):
        desk.broker.close_position(desk.symbol, client_order_id="abc126", validate_only=False)
    assert desk.placed == 1


def test_two_brokers_on_one_key_share_what_was_ordered() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("120", "0")})
    with serve(exchange):
        specs = [simulated_spec(exchange, name, trading=True) for name in ("one", "other")]
        with cluster_of(*specs, status_interval_s=float("inf")) as cluster:
            one, other = cluster.broker("one"), cluster.broker("other")
            assert one.get_account_balance() == other.get_account_balance() == 120
            asked = exchange.calls_to("/0/private/BalanceEx")
            one.place_market_order("BTC/USD", "buy", quote_amount=Decimal(70), validate_only=False)
            other.place_market_order("BTC/USD", "buy", quote_amount=Decimal(40), validate_only=False)
            until(lambda: exchange.calls_to("/0/private/BalanceEx") >= asked + 2)
            with pytest.raises(OrderRefused):
                other.place_market_order("BTC/USD", "buy", quote_amount=Decimal(40), validate_only=False)


def test_no_secret_stands_behind_an_error_of_an_order(caplog: pytest.LogCaptureFixture) -> None:
    exchange = rich(SimulatedOkx())
    secret = exchange.credentials["password"]
    with Opened(exchange) as desk:
        desk.exchange.set_answer(f"<html>{secret}</html>", 502, path=desk.order_path)
        with pytest.raises(OrderStateUnknown) as error:
            desk.buy()
    told = "".join(traceback.format_exception(error.value)) + caplog.text
    assert secret not in told


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedCoinbase])
def test_a_secret_that_was_cut_short_is_not_shown_in_part(kind: type[SimulatedExchange]) -> None:
    exchange = rich(kind())
    secret = exchange.credentials["secret"].replace("\n", "")
    said: dict[str, Any] = {"error": [], "result": {"txid": secret}, "success": secret}
    with Opened(exchange) as desk:
        desk.exchange.set_answer(json.dumps(said), path=desk.order_path)
        with pytest.raises(OrderStateUnknown) as error:
            desk.buy()
    assert "[redacted]" in str(error.value)
    assert not any(secret[at : at + 20] in str(error.value) for at in range(len(secret) - 20))


TIME_PATHS = ("/0/public/Time", "/api/v5/public/time")


# --- what became of it -------------------------------------------------------------------------------


class Ahead(SystemClock):
    """The system's clock, which a test can put ahead."""

    def __init__(self) -> None:
        self.by_s = 0.0

    def now(self) -> Instant:
        now = super().now()
        return Instant(now.wall_us + round(self.by_s * 1_000_000), now.up_s + self.by_s)


def test_an_order_that_fails_before_any_request_goes_out_was_not_sent() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True)
        spec = replace(spec, credentials={**spec.credentials, "secret": "abc"})
        with cluster_of(spec, status_interval_s=float("inf")) as cluster:
            broker = cluster.broker("kraken-test")
            with pytest.raises(OrderNotSent, match="the secret cannot sign"):
                broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
    assert exchange.calls_to(ORDER_PATHS["kraken"]) == 0


def test_what_never_arrived_holds_up_entries_for_a_minute_and_then_no_more() -> None:
    clock = Ahead()
    with Opened(rich(SimulatedKraken()), clock=clock) as desk:
        desk.exchange.set_fault("reset", path=desk.order_path, times=1)
        with pytest.raises(OrderStateUnknown) as unknown:
            desk.buy()
        with pytest.raises(EarlierOrderUnknown, match="may still come"):
            desk.buy()
        clock.by_s = 61.0
        desk.broker.get_account_balance()
        with pytest.raises(InvalidOrder, match=r"symbol: .* was sent for BTC/USD"):
            desk.broker.find_order("ETH/USD", unknown.value.client_order_id)
        assert desk.broker.find_order(desk.symbol, unknown.value.client_order_id) is None
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("http_502_html", path=path)
        assert desk.buy().state is OrderState.ACCEPTED, "it is accounted for, so nothing is looked up"
        assert desk.placed == 1


def test_an_order_is_found_as_the_exchange_has_it(desk: Desk) -> None:
    order = desk.buy()
    found = desk.broker.find_order(desk.symbol, order.client_order_id)
    assert found is not None
    assert (found.order_id, found.side, found.state) == (order.order_id, Side.BUY, OrderState.FILLED)
    assert found.filled_base
    assert found.average_price == desk.exchange.orders_of()[0].price
    assert found.fee == 0
    assert found.fee_currency in {"USD", "BTC"}
    assert desk.broker.find_order(desk.symbol, "0123456789abcdef0123456789abcdef") is None
    with pytest.raises(InvalidOrder, match="client_order_id"):
        desk.broker.find_order(desk.symbol, "")


@pytest.mark.parametrize("kind", KINDS)
def test_orders_of_which_nobody_knows_are_remembered_over_a_restart(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    exchange = rich(kind())
    with Opened(exchange, state=str(tmp_path), fetch_deadline_s=2.0) as desk:
        lose(desk, executed=True)
        with pytest.raises(OrderStateUnknown) as unknown:
            desk.buy()
    with Opened(exchange, state=str(tmp_path)) as desk:
        with pytest.raises(EarlierOrderUnknown, match="not accounted for"):
            desk.buy()
        assert desk.placed == 1
        desk.exchange.mend()
        again = desk.buy(client_order_id=unknown.value.client_order_id)
        assert (again.client_order_id, desk.placed) == (unknown.value.client_order_id, 1)
        assert desk.buy().state is OrderState.ACCEPTED
    with Opened(exchange, state=str(tmp_path)) as desk:
        assert desk.buy().state is OrderState.ACCEPTED, "it is known, and forgotten"


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_that_is_under_way_when_the_cluster_stops_is_remembered(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    exchange = rich(kind())
    with Opened(exchange, state=str(tmp_path), fetch_deadline_s=10.0) as desk:
        desk.broker.get_all_products()
        exchange.set_fault("hang", path=desk.order_path, executed=True, times=1)
        with ThreadPoolExecutor(1) as elsewhere:
            buying = elsewhere.submit(desk.buy)
            until(lambda: exchange.calls_to(desk.order_path))
            desk.cluster.stop()
            assert isinstance(buying.exception(), OrderStateUnknown)
    exchange.mend()
    for path in LOOKUP_PATHS[exchange.ccxt_id]:
        exchange.set_fault("http_502_html", path=path)
    with Opened(exchange, state=str(tmp_path)) as desk:
        with pytest.raises(EarlierOrderUnknown, match="under way when the program"):
            desk.buy()
        exchange.mend()
        desk.buy()
    assert exchange.placed_orders == 2


def test_an_order_that_is_known_is_not_remembered(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange, state=str(tmp_path)) as desk:
        desk.buy()
        with pytest.raises(OrderRefused):
            desk.buy(quote_amount=Decimal(1_000_000))
    with Opened(exchange, state=str(tmp_path)) as desk:
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("http_502_html", path=path)
        assert desk.buy().state is OrderState.ACCEPTED, "nothing had to be looked up"


@gives_up_soon
def test_an_order_that_never_gets_known_can_be_forgotten(desk: Desk) -> None:
    lose(desk, executed=False)
    with pytest.raises(OrderStateUnknown) as unknown:
        desk.buy()
    with pytest.raises(EarlierOrderUnknown, match="forget_order"):
        desk.buy()
    assert desk.broker.forget_order(unknown.value.client_order_id)
    assert desk.buy().state is OrderState.ACCEPTED
    assert not desk.broker.forget_order(unknown.value.client_order_id)


ENDED: dict[str, dict[str, object]] = {
    "kraken": {
        "POST /0/private/OpenOrders": {"error": [], "result": {"open": {}}},
        "POST /0/private/ClosedOrders": {
            "error": [],
            "result": {
                "closed": {
                    "OX-1": {
                        "status": "canceled",
                        "reason": "Insufficient margin",
                        "cl_ord_id": "abc9",
                        "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "market"},
                        "oflags": "fciq,viqc",
                        "vol": "50",
                        "vol_exec": "0",
                    }
                },
                "count": 1,
            },
        },
    },
    "coinbase": {
        "GET /api/v3/brokerage/orders/historical/batch": {
            "orders": [
                {
                    "order_id": "o1",
                    "client_order_id": "abc9",
                    "product_id": "BTC-USD",
                    "side": "BUY",
                    "order_configuration": {"market_market_ioc": {"quote_size": "50"}},
                    "status": "FAILED",
                    "filled_size": "0",
                    "reject_reason": "INSUFFICIENT_FUND",
                }
            ],
            "has_next": False,
            "cursor": "",
        }
    },
    "okx": {
        "GET /api/v5/trade/order": {
            "code": "0",
            "msg": "",
            "data": [
                {
                    "ordId": "1",
                    "clOrdId": "abc9",
                    "instId": "BTC-USDT",
                    "side": "buy",
                    "tgtCcy": "quote_ccy",
                    "sz": "50",
                    "state": "canceled",
                    "accFillSz": "0",
                }
            ],
        }
    },
}


def test_an_order_that_the_exchange_ended_is_not_told_as_accepted(desk: Desk) -> None:
    desk.broker.get_all_products()
    for path, answer in ENDED[desk.exchange.ccxt_id].items():
        desk.exchange.set_answer(json.dumps(answer), path=path)
    with pytest.raises(OrderRefused, match=r"(?i)nothing of it was filled: .*(cancel|fail)"):
        desk.buy(client_order_id="abc9")
    assert desk.placed == 0
    found = desk.broker.find_order(desk.symbol, "abc9")
    assert found is not None
    assert found.state is OrderState.CANCELLED
    assert found.filled_base == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_that_was_used_for_another_amount_is_refused_also_after_a_restart(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    exchange = rich(kind())

    def buy(desk: Desk, amount: str) -> Order:
        placed: Order = desk.buy(client_order_id="abc7", base_amount=Decimal(amount), quote_amount=None)
        return placed

    with Opened(exchange, state=str(tmp_path)) as desk:
        first = buy(desk, "0.0010")
    with Opened(exchange, state=str(tmp_path)) as desk:
        assert buy(desk, "0.001").order_id == first.order_id
        with pytest.raises(InvalidOrder, match="another"):
            buy(desk, "0.01")
        with pytest.raises(InvalidOrder, match="another"):
            desk.broker.close_position(desk.symbol, client_order_id="abc7", validate_only=False)
    assert exchange.placed_orders == 1


def test_an_exit_that_is_sent_again_under_its_own_id_is_found(desk: Desk) -> None:
    first = desk.broker.close_position(desk.symbol, validate_only=False, client_order_id="x1")
    again = desk.broker.close_position(desk.symbol, validate_only=False, client_order_id="x1")
    assert (again.order_id, again.base_amount, desk.placed) == (first.order_id, first.base_amount, 1)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.ccxt_id))
@pytest.mark.parametrize("executed", [True, False])
def test_an_exit_of_which_nobody_knows_is_not_placed_twice_under_its_id(
    kind: type[SimulatedExchange], *, executed: bool
) -> None:
    exchange = rich(kind())
    for path in TIME_PATHS:  # so that no deadline ends the wait on a machine that is slow
        exchange.set_fault("http_502_html", path=path, public=True)
    with Opened(exchange) as desk:

        def close() -> Order:
            return desk.broker.close_position(
                desk.symbol, base_amount=Decimal("0.1"), client_order_id="x1", validate_only=False
            )

        desk.broker.get_all_products()
        exchange.set_fault("hang", path=desk.order_path, executed=executed, times=1)
        with ThreadPoolExecutor(1) as elsewhere:
            closing = elsewhere.submit(close)
            until(lambda: exchange.calls_to(desk.order_path))
            for path in LOOKUP_PATHS[exchange.ccxt_id]:
                exchange.set_fault("http_502_html", path=path)
            assert isinstance(closing.exception(), OrderStateUnknown)
        with pytest.raises(OrderStateUnknown, match="cannot be looked up"):
            close()
        assert exchange.calls_to(desk.order_path) == 1
        exchange.mend()
        if executed or kind is SimulatedCoinbase:  # where one id places one order, it is sent again
            assert close().state is OrderState.ACCEPTED
        else:
            with pytest.raises(OrderStateUnknown, match="may still come"):
                close()
        assert desk.placed == (executed or kind is SimulatedCoinbase)


NOTHING_LISTED: dict[str, dict[str, object]] = {
    "POST /0/private/OpenOrders": {"error": [], "result": {"open": {}}},
    "POST /0/private/ClosedOrders": {"error": [], "result": {"closed": {}, "count": 0}},
}
"""What Kraken says of an id that it does not know, or does not list yet."""


def test_an_order_that_was_accepted_is_not_sent_again_because_a_list_is_behind() -> None:
    with Opened(rich(SimulatedKraken())) as desk:
        first = desk.buy(client_order_id="abc8")
        for path, answer in NOTHING_LISTED.items():
            desk.exchange.set_answer(json.dumps(answer), path=path)
        assert desk.buy(client_order_id="abc8").order_id == first.order_id
        found = desk.broker.find_order(desk.symbol, "abc8")
        assert found is not None
        assert found.order_id == first.order_id
        for path in LOOKUP_PATHS["kraken"]:
            desk.exchange.set_fault("http_502_html", path=path)
        assert desk.buy(client_order_id="abc8").order_id == first.order_id
        assert desk.placed == 1


def test_one_uuid_in_two_spellings_is_one_order() -> None:
    name = "6f1f0c2e-6d3c-4b8f-9a55-0e8a3c9d1f42"
    with Opened(rich(SimulatedKraken())) as desk:
        desk.buy(client_order_id=name)
        for path, answer in NOTHING_LISTED.items():
            desk.exchange.set_answer(json.dumps(answer), path=path)
        for spelling in (name.replace("-", ""), name.upper()):
            desk.buy(client_order_id=spelling)
        assert desk.placed == 1


def test_the_minute_of_an_order_begins_when_nobody_knows_of_it_any_more() -> None:
    """A process that was frozen after it had written the order down sends it late."""
    clock, exchange = Ahead(), rich(SimulatedKraken())
    exchange.set_fault("http_502_html", path=TIME_PATHS[0], public=True)  # else the order has a deadline
    with Opened(exchange, clock=clock, fetch_deadline_s=5.0) as desk:
        desk.broker.get_all_products()
        desk.exchange.set_fault("hang", path=desk.order_path, times=1)
        with ThreadPoolExecutor(1) as elsewhere:
            buying = elsewhere.submit(desk.buy)
            until(lambda: desk.exchange.calls_to(desk.order_path))
            clock.by_s = 61.0
            assert isinstance(buying.exception(), OrderStateUnknown)
        desk.broker.get_account_balance()
        with pytest.raises(EarlierOrderUnknown, match="may still come"):
            desk.buy()
        assert desk.placed == 0


def test_an_order_that_the_exchange_ended_is_told_so_again_when_it_lists_it_no_more() -> None:
    with Opened(rich(SimulatedKraken())) as desk:
        desk.broker.get_all_products()
        desk.exchange.set_fault("hang", path=desk.order_path, times=1)
        with ThreadPoolExecutor(1) as elsewhere:
            buying = elsewhere.submit(desk.buy, client_order_id="abc9")
            until(lambda: desk.exchange.calls_to(desk.order_path))
            for path, answer in ENDED["kraken"].items():
                desk.exchange.set_answer(json.dumps(answer), path=path)
            assert isinstance(buying.exception(), OrderRefused)
        for path, answer in NOTHING_LISTED.items():
            desk.exchange.set_answer(json.dumps(answer), path=path)
        with pytest.raises(OrderRefused, match="nothing of it was filled"):
            desk.buy(client_order_id="abc9")
        assert desk.placed == 0
