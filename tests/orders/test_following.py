"""An order that was taken is followed to its end, after all else, also over a restart."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.clock import Instant, ManualClock, SystemClock
from brokerwatch.cluster.broker import requests_of
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import OrderRefused, OrderStateUnknown
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.lane import Lane
from brokerwatch.messages import OrderState
from brokerwatch.orders import following
from brokerwatch.orders.in_flight import FOLLOWED_S
from brokerwatch.simulator import SimulatedExchange, SimulatedKraken
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import KeyState, OrderEvent
from brokerwatch.storage.state_folder import stored_order_events
from tests.support.clusters import until
from tests.support.command import command
from tests.support.desks import KINDS, LOOKUP_PATHS, Desk, Opened, lose, rich

pytestmark = pytest.mark.usefixtures("patient_stops")

LOOK_PATHS = {
    "kraken": "POST /0/private/QueryOrders",
    "coinbase": "GET /api/v3/brokerage/orders/historical/{order_id}",
    "okx": "GET /api/v5/trade/order",
}


class Later(SystemClock):
    """The system's clock, of which a test puts the monotonic part ahead."""

    by_s = 0.0

    def now(self) -> Instant:
        return Instant(super().now().wall_us, self.up_s())

    def up_s(self) -> float:
        return super().up_s() + self.by_s


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other sooner than in earnest."""
    monkeypatch.setattr(following, "FIRST_LOOK_S", 0.05)
    monkeypatch.setattr(following, "LONGEST_LOOK_S", 0.2)


def lives(state: Path, order_id: str = "") -> list[OrderEvent]:
    settings = ClusterSettings(state=str(state))
    return [
        event
        for event in stored_order_events(settings, None, None, None)
        if order_id in ("", event.client_order_id)
    ]


def states(state: Path, order_id: str = "") -> list[str]:
    return [event.state for event in lives(state, order_id)]


def is_followed(desk: Desk) -> bool:
    executor = requests_of(desk.broker).account().executor
    return bool(executor.followed())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_order_is_followed_until_it_is_filled(kind: type[SimulatedExchange], tmp_path: Path) -> None:
    exchange = rich(kind())
    with Opened(exchange, state=str(tmp_path)) as desk:
        exchange.fills_at_once = False
        bought = desk.buy()
        assert is_followed(desk)
        until(lambda: exchange.calls_to(LOOK_PATHS[exchange.ccxt_id]))
        exchange.fill_open_orders()
        until(lambda: not is_followed(desk))
    sent, accepted, filled = lives(tmp_path, bought.client_order_id)
    assert (sent.state, accepted.state, filled.state) == ("sent", "accepted", "filled")
    assert (sent.order_id, accepted.order_id, filled.order_id) == ("", bought.order_id, bought.order_id)
    [placed] = exchange.orders_of()
    assert (Decimal(filled.filled_base), Decimal(filled.average_price)) == (placed.base_amount, placed.price)
    assert (filled.broker, filled.exchange, filled.side) == (desk.broker.name, exchange.ccxt_id, "buy")
    assert (filled.quote_amount, filled.base_amount, filled.fee) == ("50", "", "0")
    assert filled.fee_currency


def kraken_order(**values: object) -> str:
    row = {
        "status": "open",
        "descr": {"pair": "XBTUSD", "type": "sell", "ordertype": "market"},
        "oflags": "fciq",
        "vol": "0.3",
        "vol_exec": "0.1",
        "price": "60000.0",
        "fee": "9.6",
        **values,
    }
    return json.dumps({"error": [], "result": {"OUF4EM-FRGI2-MQMWZD": row}})


def test_an_order_that_is_filled_in_part_and_cancelled_says_so(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange, state=str(tmp_path)) as desk:
        taken: dict[str, Any] = {
            "error": [],
            "result": {"descr": {"order": "sell"}, "txid": ["OUF4EM-FRGI2-MQMWZD"]},
        }
        exchange.set_answer(json.dumps(taken), path=desk.order_path)
        exchange.set_answer(kraken_order(), path=LOOK_PATHS["kraken"])
        order_id = desk.broker.close_position(
            desk.symbol, base_amount=Decimal("0.3"), validate_only=False
        ).client_order_id
        until(lambda: exchange.calls_to(LOOK_PATHS["kraken"]) >= 2)
        ended = kraken_order(status="canceled", vol_exec="0.2", reason="User requested")
        exchange.set_answer(ended, path=LOOK_PATHS["kraken"])
        until(lambda: not is_followed(desk))
    life = lives(tmp_path, order_id)
    assert [event.state for event in life] == ["sent", "accepted", "partially_filled", "cancelled"]
    assert (life[2].filled_base, life[2].fee, life[2].fee_currency) == ("0.1", "9.6", "USD")
    assert (life[3].filled_base, life[3].detail) == ("0.2", "canceled: User requested")


@pytest.mark.parametrize("kind", [SimulatedKraken])
def test_an_order_is_followed_over_a_restart(kind: type[SimulatedExchange], tmp_path: Path) -> None:
    exchange = rich(kind())
    exchange.fills_at_once = False
    with Opened(exchange, state=str(tmp_path)) as desk:
        bought = desk.buy()
    exchange.fill_open_orders()
    with Opened(exchange, state=str(tmp_path)) as desk:
        until(lambda: not is_followed(desk))
        again = desk.broker.find_order(desk.symbol, bought.client_order_id)
        assert again is not None
        assert again.state is OrderState.FILLED
    with Opened(exchange, state=str(tmp_path)) as desk:
        assert not is_followed(desk)
    assert states(tmp_path, bought.client_order_id) == ["sent", "accepted", "filled"]


def test_an_order_that_was_taken_before_a_restart_is_in_our_own_records(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    exchange.fills_at_once = False
    with Opened(exchange, state=str(tmp_path)) as desk:
        order_id = desk.broker.new_order_id()
        bought = desk.buy(client_order_id=order_id)
    with Opened(exchange, state=str(tmp_path)) as desk:
        exchange.set_fault("exchange_down")
        assert desk.buy(client_order_id=order_id).order_id == bought.order_id
    assert exchange.placed_orders == 1


def test_an_order_is_followed_for_a_day_at_the_most(tmp_path: Path) -> None:
    exchange, clock = rich(SimulatedKraken()), Later()
    exchange.fills_at_once = False
    with Opened(exchange, state=str(tmp_path), clock=clock) as desk:
        bought = desk.buy()
        clock.by_s = FOLLOWED_S + 1
        until(lambda: not is_followed(desk))
        calls = exchange.calls_to(LOOK_PATHS["kraken"])
    assert states(tmp_path, bought.client_order_id) == ["sent", "accepted", "not_followed"]
    with Opened(exchange, state=str(tmp_path)) as desk:
        assert not is_followed(desk)
    assert exchange.calls_to(LOOK_PATHS["kraken"]) == calls


def test_what_became_of_an_order_that_was_not_taken_is_in_its_life(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange, state=str(tmp_path)) as desk:
        refused, lost = desk.broker.new_order_id(), desk.broker.new_order_id()
        with pytest.raises(OrderRefused):
            desk.buy(client_order_id=refused, quote_amount=Decimal(1_000_000))
        lose(desk, executed=False, fault="reset")
        with pytest.raises(OrderStateUnknown):
            desk.buy(client_order_id=lost)
        desk.broker.forget_order(lost)
    assert states(tmp_path, refused) == ["sent", "refused"]
    assert "Insufficient funds" in lives(tmp_path, refused)[-1].detail
    assert states(tmp_path, lost) == ["sent", "unknown", "forgotten"]


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_lost_order_is_looked_up_although_no_other_follows(
    kind: type[SimulatedExchange], tmp_path: Path, *, executed: bool
) -> None:
    exchange, clock = rich(kind()), Later()
    exchange.private_log = []
    with Opened(exchange, state=str(tmp_path), clock=clock, max_consecutive_errors=1) as desk:
        order_id = desk.broker.new_order_id()
        lose(desk, executed=executed, fault="reset")
        with pytest.raises(OrderStateUnknown):
            desk.buy(client_order_id=order_id)
        errors = desk.broker.reading().error_count
        lookups = LOOKUP_PATHS[exchange.ccxt_id]
        asked = exchange.calls_to(lookups[0])
        until(lambda: exchange.calls_to(lookups[0]) >= asked + 2)
        assert desk.broker.reading().error_count <= errors, "what goes wrong in the background counts nowhere"
        exchange.mend()
        if not executed:
            clock.by_s = 61.0
        until(lambda: not requests_of(desk.broker).account().executor.unaccounted)
        until(lambda: not is_followed(desk))
        calls = len(exchange.private_log)
        assert desk.counted >= calls, "each call of a look is within the budget of the key"
    end = ["filled"] if executed else ["never_arrived"]
    assert states(tmp_path, order_id) == ["sent", "unknown", *end]


def test_an_order_that_was_under_way_at_the_end_of_a_process_is_looked_up_after_it(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange, state=str(tmp_path)) as desk:
        order_id = desk.broker.new_order_id()
        lose(desk, executed=True, fault="reset")
        with pytest.raises(OrderStateUnknown):
            desk.buy(client_order_id=order_id)
    exchange.mend()
    with Opened(exchange, state=str(tmp_path)) as desk:
        until(lambda: not requests_of(desk.broker).account().executor.unaccounted)
        until(lambda: not is_followed(desk))
    assert states(tmp_path, order_id) == ["sent", "unknown", "filled"]


def test_an_order_whose_end_cannot_be_asked_for_costs_the_account_nothing(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    exchange.set_fault("exchange_down", path=LOOK_PATHS["kraken"])
    with Opened(exchange, state=str(tmp_path), max_consecutive_errors=1) as desk:
        desk.buy()
        until(lambda: exchange.calls_to(LOOK_PATHS["kraken"]) >= 2)
        assert desk.broker.is_available()
        assert desk.broker.reading().error_count == 0


def test_nothing_is_asked_in_a_lockout() -> None:
    exchange = SimulatedKraken()
    with Opened(rich(exchange)) as desk:
        exchange.fills_at_once = False
        desk.buy()
        exchange.set_fault("locked_out", path=LOOK_PATHS["kraken"])
        until(lambda: exchange.calls_to(LOOK_PATHS["kraken"]) == 1)
        lane = requests_of(desk.broker).account().access.lane

        async def waits() -> None:
            with pytest.raises(Refrained):
                async with lane.turn(last=True):
                    raise AssertionError("a call would go out")

        requests_of(desk.broker).account().access.loop.submit(waits()).result(5)
        assert exchange.calls_to(LOOK_PATHS["kraken"]) == 1
        assert is_followed(desk)


def test_the_command_shows_the_lives_of_the_orders(tmp_path: Path) -> None:
    exchange = rich(SimulatedKraken())
    with Opened(exchange, state=str(tmp_path)) as desk:
        bought = desk.buy()
        until(lambda: not is_followed(desk))
        desk.cluster.hold(desk.broker.name, "for the history")
    shown = command("history", "--orders", "--state", str(tmp_path), "--json", cwd=tmp_path).out
    rows: list[dict[str, Any]] = [json.loads(line) for line in shown.splitlines()]
    assert [row["state"] for row in rows] == ["sent", "accepted", "filled"]
    assert {row["client_order_id"] for row in rows} == {bought.client_order_id}
    lines = command("history", "kraken-test", "--state", str(tmp_path), cwd=tmp_path).out.splitlines()
    assert [line for line in lines if " order " in line and "filled at " in line]
    assert [line for line in lines if "hold by " in line], "beside what happened to the account"
    newest = command("history", "--orders", "--limit", "1", "--state", str(tmp_path), cwd=tmp_path).out
    assert (newest.count("\n"), "filled" in newest) == (1, True)


# --- its place in the lane ---------------------------------------------------------------------------


def lane_of(burst: float = 10.0) -> Lane:
    return Lane("f" * 16, Budget(burst, 0.001), ManualClock(), Journal(None), KeyState("f" * 16))


def test_the_last_goes_after_all_others_and_gives_way_to_each() -> None:
    async def main() -> list[str]:
        lane, order, started = lane_of(), list[str](), asyncio.Event()

        async def call(name: str, *, hangs: bool = False, **how: bool) -> None:
            try:
                async with lane.turn(**how):
                    order.append(name)
                    started.set()
                    if hangs:
                        await asyncio.get_running_loop().create_future()
            except Refrained:
                order.append(f"{name} gave way")

        first = asyncio.create_task(call("followed", hangs=True, last=True))
        await started.wait()
        waiting = [
            asyncio.create_task(call("followed too", last=True)),
            asyncio.create_task(call("poll")),
            asyncio.create_task(call("order", urgent=True)),
        ]
        await asyncio.gather(first, *waiting)
        return order

    assert asyncio.run(main()) == ["followed", "followed gave way", "order", "poll", "followed too"]


def test_the_last_gives_way_to_a_poll_that_waits_alone() -> None:
    async def main() -> None:
        lane, started = lane_of(), asyncio.Event()

        async def follow() -> None:
            async with lane.turn(last=True):
                started.set()
                await asyncio.get_running_loop().create_future()

        following = asyncio.create_task(follow())
        await started.wait()
        async with lane.turn():
            pass
        with pytest.raises(Refrained):
            await following

    asyncio.run(main())


def test_the_last_leaves_half_of_the_budget_to_the_others() -> None:
    async def main() -> int:
        lane, asked = lane_of(burst=9.0), 0
        for _ in range(9):
            try:
                async with lane.turn(last=True):
                    asked += 1
            except Refrained:
                break
        async with lane.turn():
            pass
        return asked

    assert asyncio.run(main()) == 5
