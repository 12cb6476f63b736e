"""The same client order id again: it is looked up before anything about it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from brokerwatch.cluster.broker import requests_of
from brokerwatch.cluster.repeated_order import RepeatedOrder
from brokerwatch.errors import (
    EntryRefused,
    InvalidOrder,
    OrderError,
    OrderNotSent,
    OrderStateUnknown,
    TradingDisabled,
    UnknownSymbol,
    VerificationRequired,
)
from brokerwatch.messages import Order, OrderState, Side
from brokerwatch.orders.ticket import Ticket
from brokerwatch.simulator import SimulatedExchange, SimulatedKraken
from tests.support.clusters import until
from tests.support.desks import FIFTY, KINDS, LOOKUP_PATHS, Desk, Opened, lose, rich

ID = "a" * 32


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.ccxt_id))
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    with Opened(rich(request.param())) as found:
        yield found


@pytest.fixture
def kraken() -> Iterator[Desk]:
    """For what depends on no exchange."""
    with Opened(rich(SimulatedKraken())) as found:
        yield found


def lost(desk: Desk, *, executed: bool = True) -> str:
    """The id of an order whose answer was lost and that could not be looked up."""
    order_id = desk.broker.new_order_id()
    lose(desk, executed=executed, fault="reset")
    with pytest.raises(OrderStateUnknown):
        desk.buy(client_order_id=order_id)
    return order_id


def outage(desk: Desk) -> None:
    desk.exchange.set_fault("exchange_down")

    def is_out() -> bool:
        desk.broker.get_account_balance()
        return not desk.broker.is_available()

    until(is_out)


def lookups(desk: Desk) -> int:
    return sum(desk.exchange.calls_to(path) for path in LOOKUP_PATHS[desk.exchange.ccxt_id])


def test_an_order_whose_answer_was_lost_is_not_refused_while_the_exchange_is_down(desk: Desk) -> None:
    order_id = lost(desk)
    desk.exchange.mend()
    outage(desk)
    for _ in range(2):
        with pytest.raises(OrderStateUnknown) as unknown:
            desk.buy(client_order_id=order_id)
        assert unknown.value.client_order_id == order_id
    desk.exchange.mend()
    assert desk.buy(client_order_id=order_id).client_order_id == order_id
    assert desk.placed == 1


@pytest.mark.parametrize("executed", [True, False])
def test_an_order_is_looked_up_although_the_account_is_held_out(kraken: Desk, *, executed: bool) -> None:
    order_id = lost(kraken, executed=executed)
    kraken.exchange.mend()
    kraken.cluster.hold(kraken.broker.name, "maintenance of our own")
    until(lambda: not kraken.broker.is_available())
    if executed:
        assert kraken.buy(client_order_id=order_id).state is OrderState.ACCEPTED
    else:
        with pytest.raises(OrderStateUnknown, match="may still come"):
            kraken.buy(client_order_id=order_id)
    assert kraken.placed == executed


def test_an_order_that_was_taken_is_given_while_the_account_is_not_available(desk: Desk) -> None:
    first = desk.buy(client_order_id=ID)
    outage(desk)
    again = desk.buy(client_order_id=ID)
    assert (again.order_id, again.side, desk.placed) == (first.order_id, Side.BUY, 1)
    with pytest.raises(InvalidOrder, match="used for another one"):
        desk.buy(client_order_id=ID, quote_amount=FIFTY * 2)
    with pytest.raises(EntryRefused):
        desk.broker.place_market_order(
            "ETH" + desk.symbol[3:], "buy", quote_amount=FIFTY, validate_only=False, client_order_id=ID
        )


@pytest.mark.parametrize("leaves", [False, True], ids=["entry", "exit"])
def test_an_order_is_unknown_and_not_unsent_while_no_private_call_may_go_out(*, leaves: bool) -> None:
    exchange = SimulatedKraken()
    with Opened(rich(exchange)) as desk:
        order_id = desk.broker.new_order_id()

        def attempt() -> object:
            if leaves:
                return desk.broker.close_position(
                    desk.symbol, base_amount=FIFTY / 5_000, validate_only=False, client_order_id=order_id
                )
            return desk.buy(client_order_id=order_id)

        exchange.set_fault("reset", path=desk.order_path, executed=True, times=1)
        exchange.set_fault("locked_out")
        with pytest.raises(OrderStateUnknown):
            attempt()
        calls = exchange.private_calls
        for _ in range(2):
            with pytest.raises(OrderStateUnknown):
                attempt()
        with pytest.raises(OrderError) as other:
            desk.buy(client_order_id="b" * 32)
        assert not isinstance(other.value, EntryRefused), "it may have been used in another process"
        assert exchange.private_calls == calls, "not one call goes out in a lockout"


@pytest.mark.parametrize(
    ("kind", "remembers"), [(KINDS[0], True), (KINDS[1], False), (KINDS[2], True)], ids=str
)
def test_a_restart_that_finds_the_exchange_down_refuses_no_order_of_before(
    kind: type[SimulatedExchange], tmp_path: Path, *, remembers: bool
) -> None:
    exchange, state = rich(kind()), str(tmp_path) if remembers else ""
    with Opened(exchange, state=state) as desk:
        first = desk.buy(client_order_id=ID)
    with Opened(exchange, state=state) as desk:
        desk.broker.get_all_products()
        outage(desk)
        if remembers:  # it is followed, so our own records have it
            assert desk.buy(client_order_id=ID).order_id == first.order_id
        else:
            with pytest.raises(OrderStateUnknown):
                desk.buy(client_order_id=ID)
        desk.exchange.mend()
        desk.cluster.hold(desk.broker.name, "not yet")
        until(lambda: not desk.broker.is_available())
        assert desk.buy(client_order_id=ID).order_id == first.order_id
    assert exchange.placed_orders == 1


def test_what_else_refuses_an_order_refuses_none_that_is_in_our_records(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange, state=str(tmp_path)) as desk:
        order_id = lost(desk)
    with Opened(exchange, state=str(tmp_path), trading=False) as desk:
        with pytest.raises(OrderStateUnknown):
            desk.buy(client_order_id=order_id)
        with pytest.raises(TradingDisabled):
            desk.buy(client_order_id="b" * 32)
        exchange.mend()
        exchange.delist("BTC/USD")
        assert desk.buy(client_order_id=order_id).client_order_id == order_id
    with Opened(exchange, state=str(tmp_path)) as desk, pytest.raises(UnknownSymbol):
        desk.buy(client_order_id="b" * 32)
    assert exchange.placed_orders == 1


def test_an_order_that_is_known_needs_no_list_of_markets(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange, state=str(tmp_path)) as desk:
        order_id = lost(desk)
    exchange.mend()
    exchange.set_fault("http_502_html", path="/0/public/AssetPairs", public=True)
    with Opened(exchange, state=str(tmp_path)) as desk:
        with pytest.raises(OrderNotSent, match="markets"):
            desk.buy(client_order_id="b" * 32)
        assert desk.buy(client_order_id=order_id).client_order_id == order_id
    assert exchange.placed_orders == 1


def test_a_caller_that_does_not_wait_for_a_known_order_is_not_told_that_it_was_not_sent(kraken: Desk) -> None:
    order_id = lost(kraken)
    kraken.exchange.set_fault("hang")
    with pytest.raises(OrderStateUnknown):
        kraken.buy(client_order_id=order_id, timeout_s=0.2)


def test_an_id_that_was_never_used_is_refused_once_the_exchange_says_so(kraken: Desk) -> None:
    kraken.cluster.hold(kraken.broker.name, "maintenance of our own")
    until(lambda: not kraken.broker.is_available())
    with pytest.raises(EntryRefused):
        kraken.buy(client_order_id=ID)
    assert lookups(kraken) > 0
    assert kraken.placed == 0


def test_an_unverified_key_refuses_no_order_that_is_at_the_exchange(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange) as desk:
        first = desk.buy(client_order_id=ID)
    opened = Opened(exchange, state=str(tmp_path))
    opened.settings["require_verification_max_age_s"] = 60.0
    with opened as desk:
        assert desk.buy(client_order_id=ID).order_id == first.order_id
        with pytest.raises(VerificationRequired):
            desk.buy(client_order_id="b" * 32)


# --- ids of our own ----------------------------------------------------------------------------------


def test_a_new_id_is_sent_without_a_look_up_and_looked_up_from_then_on(desk: Desk) -> None:
    order_id = desk.broker.new_order_id()
    first = desk.buy(client_order_id=order_id)
    assert (first.client_order_id, lookups(desk)) == (order_id, 0)
    assert desk.buy(client_order_id=order_id).order_id == first.order_id
    assert lookups(desk) > 0
    assert desk.placed == 1


def test_a_new_id_stays_new_until_an_order_goes_out_with_it(kraken: Desk) -> None:
    order_id = kraken.broker.new_order_id()
    outage(kraken)
    with pytest.raises(EntryRefused):
        kraken.buy(client_order_id=order_id)
    kraken.exchange.mend()
    for _ in range(2):  # `guarded` asks for two successes
        kraken.broker.get_account_balance()
    kraken.buy(client_order_id=order_id)
    assert (lookups(kraken), kraken.placed) == (0, 1)


def test_a_new_id_whose_answer_was_lost_is_not_new_any_more(kraken: Desk) -> None:
    order_id = kraken.broker.new_order_id()
    lose(kraken, executed=True, fault="reset")
    with pytest.raises(OrderStateUnknown):
        kraken.buy(client_order_id=order_id)
    kraken.exchange.mend()
    assert kraken.buy(client_order_id=order_id).client_order_id == order_id
    assert kraken.placed == 1


def test_many_threads_with_one_new_id_place_one_order(kraken: Desk) -> None:
    order_id = kraken.broker.new_order_id()

    def sell(_: int) -> Order:
        return kraken.broker.close_position(
            kraken.symbol, base_amount=Decimal("0.01"), validate_only=False, client_order_id=order_id
        )

    with ThreadPoolExecutor(4) as pool:
        placed = list(pool.map(sell, range(4)))
    assert len({order.order_id for order in placed}) == kraken.placed == 1


def test_an_id_that_was_absent_at_first_is_looked_up_where_another_call_has_sent_it(kraken: Desk) -> None:
    ticket, account = Ticket(), requests_of(kraken.broker).account()
    ticket.absent = True  # so the exchange answered, before the other call had its turn
    sent = kraken.buy(client_order_id=ID)

    async def refused() -> Order:
        raise EntryRefused("an order was sent after its balance was read")

    def asked_with(order_id: str) -> Order:
        order = RepeatedOrder(kraken.symbol, "buy", None, FIFTY, order_id, ticket)
        known = order.unless_known(
            refused, account.executor, lambda: account.access.venue.known, remembers=lambda: True
        )
        return account.access.loop.submit(known).result(10)

    assert asked_with(ID).order_id == sent.order_id
    before = lookups(kraken)
    with pytest.raises(EntryRefused):
        asked_with("b" * 32)
    assert lookups(kraken) == before


def test_new_ids_differ_and_suit_the_exchange(kraken: Desk) -> None:
    made = {kraken.broker.new_order_id() for _ in range(100)}
    assert len(made) == 100
    assert {len(each) for each in made} == {32}
