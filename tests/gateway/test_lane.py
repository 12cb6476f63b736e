"""Lanes: one request in flight for each API key, within its budget, with nonces that outlive us."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import ManualClock, SystemClock
from brokerwatch.exchanges.rate_limit import STAND_IN, Budget
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.lane import HOLDER_LOOK_S, LANE_WAIT_S, Lane
from brokerwatch.gateway.lane import PATIENCE_S as LANE_PATIENCE_S
from brokerwatch.gateway.lease import Lease
from brokerwatch.gateway.nonces import RESERVED_AHEAD, RESERVED_MS, Nonces
from brokerwatch.messages import Fault, FaultKind, Reason
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx, serve
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import KeyState
from brokerwatch.tally import BUCKETS_S, KeyTally
from tests.support.clusters import PATIENCE_S, cluster_of, simulated_spec, until


class Book(Journal):
    """Remembers keys as a store would: at once, and only what it was given; and nothing else."""

    def __init__(self) -> None:
        super().__init__(None)
        self.states: list[KeyState] = []

    def key(self, state: KeyState) -> Future[bool]:
        self.states.append(state)
        done: Future[bool] = Future()
        done.set_result(True)
        return done

    @property
    def ceiling(self) -> int:
        return max((state.nonce_ceiling for state in self.states), default=0)


# --- nonces ------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("call", "call", "kill", "wait", "jump")),
            st.floats(-100_000_000, 100_000_000),
        ),
        max_size=40,
    )
)
def test_nonces_rise_through_kills_and_jumps_of_the_wall_clock(steps: list[tuple[str, float]]) -> None:
    clock, book, used = ManualClock(), Book(), [0]
    nonces = Nonces("k", clock, book)

    async def call() -> None:
        await nonces.reserve()
        nonce = nonces.next()
        assert used[-1] < nonce <= book.ceiling, "every nonce is above the last, and was reserved before"
        used.append(nonce)

    async def walk() -> None:
        nonlocal nonces
        for step, amount in steps:
            match step:
                case "call":
                    await call()
                case "kill":
                    nonces = Nonces("k", clock, book)
                    nonces.above(book.ceiling)
                case "wait":
                    clock.advance(abs(amount) / 1_000)
                case _:
                    clock.jump_wall(amount)
        await call()

    asyncio.run(walk())


def test_a_reservation_serves_many_calls() -> None:
    clock, book = ManualClock(), Book()
    nonces = Nonces("k", clock, book)

    async def calls() -> None:
        for _ in range(100):
            await nonces.reserve()
            nonces.next()
            clock.advance(0.1)

    asyncio.run(calls())
    assert len(book.states) == 1
    assert book.ceiling == 1_800_000_000_000 + RESERVED_MS


def test_starts_that_follow_each_other_do_not_carry_the_nonces_away_from_the_clock() -> None:
    clock, book = ManualClock(), Book()
    for _ in range(20):
        nonces = Nonces("k", clock, book)
        nonces.above(book.ceiling)
        asyncio.run(nonces.reserve())
        nonces.next()
        clock.advance(0.5)
    ahead_ms = book.ceiling - clock.now().wall_us // 1_000
    assert ahead_ms <= RESERVED_MS + 20 * RESERVED_AHEAD


def test_a_store_that_never_answers_does_not_stop_the_calls() -> None:
    class Deaf(Book):
        def key(self, state: KeyState) -> Future[bool]:
            super().key(state)
            return Future()

    nonces = Nonces("k", ManualClock(), Deaf())
    asyncio.run(asyncio.wait_for(nonces.reserve(), PATIENCE_S))
    assert nonces.next() == 1_800_000_000_000


def test_a_cluster_that_comes_back_with_its_clock_set_back_is_still_understood(tmp_path: Path) -> None:
    kraken = SimulatedKraken()
    with serve(kraken):
        clock = ManualClock()
        with cluster_of(simulated_spec(kraken), state=str(tmp_path / "s")) as cluster:
            assert cluster.broker("kraken-test").get_account_balance() == Decimal("8370.63")
        clock.jump_wall(-400 * 86_400)  # the machine's battery is empty
        with cluster_of(simulated_spec(kraken), state=str(tmp_path / "s"), clock=clock) as cluster:
            broker = cluster.broker("kraken-test")
            assert broker.get_account_balance() == Decimal("8370.63")
            assert broker.reading().fault is None


# --- the queue ---------------------------------------------------------------------------------------


def test_two_brokers_on_one_key_never_collide() -> None:
    kraken = SimulatedKraken()
    with serve(kraken):
        specs = [simulated_spec(kraken, name) for name in ("a", "b", "c")]
        with cluster_of(*specs) as cluster, ThreadPoolExecutor(3) as traders:

            def ask(name: str) -> int:
                broker = cluster.broker(name)
                for _ in range(15):
                    assert broker.get_account_balance() == Decimal("8370.63")
                    assert (broker.get_error_count(), broker.reading().fault) == (0, None)
                return 15

            assert sum(traders.map(ask, ("a", "b", "c"))) == 45
            assert kraken.private_calls == 45


def test_one_hung_account_delays_none_of_fifty_others() -> None:
    kraken = SimulatedKraken()
    keys = [kraken.credentials, *(kraken.add_account() for _ in range(50))]
    kraken.set_fault("hang", account=keys[0]["api_key"])
    with serve(kraken):
        specs = [
            replace(simulated_spec(kraken, f"b{n}"), credentials=credentials, fetch_deadline_s=PATIENCE_S)
            for n, credentials in enumerate(keys)
        ]
        with cluster_of(*specs, heartbeat_s=1.0) as cluster:
            hung = threading.Thread(target=_ignoring_errors, args=(cluster.broker("b0").get_account_balance,))
            hung.start()
            try:
                for n in range(1, 51):
                    assert cluster.broker(f"b{n}").get_account_balance() == Decimal("8370.63")
                assert hung.is_alive(), "the fifty were answered while the one still waits"
                assert kraken.private_calls_of(keys[0]["api_key"]) == 1
            finally:
                kraken.mend()
                cluster.stop()
                hung.join(PATIENCE_S)


def _ignoring_errors(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - what it answers is not what this is about
        logging.getLogger(__name__).debug("%r", error)


def lane_of(budget: Budget = STAND_IN, clock: ManualClock | None = None) -> tuple[Lane, ManualClock, Book]:
    clock, book = ManualClock() if clock is None else clock, Book()
    return Lane("k", budget, clock, book, KeyState("k")), clock, book


def test_whoever_waits_in_a_lane_is_served_in_the_order_of_coming() -> None:
    lane, _, _ = lane_of()
    served: list[int] = []

    async def call(number: int) -> None:
        async with lane.turn():
            served.append(number)
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*(call(number) for number in range(20)))

    asyncio.run(all_of_them())
    assert served == list(range(20))


def test_a_call_that_is_cancelled_in_the_queue_leaves_the_lane_to_the_next() -> None:
    lane, _, _ = lane_of()

    async def scene() -> str:
        async with lane.turn():
            waiting = asyncio.ensure_future(_hold(lane))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
        async with lane.turn():
            return "free"

    assert asyncio.run(scene()) == "free"


async def _hold(lane: Lane) -> None:
    async with lane.turn():
        await asyncio.sleep(0)


# --- the budget --------------------------------------------------------------------------------------


def test_a_call_beyond_the_budget_is_not_made_and_counts_nowhere() -> None:
    okx = SimulatedOkx()
    with serve(okx):
        spec = simulated_spec(okx, request_burst=2.0, requests_per_s=0.01, read_funding=False)
        with cluster_of(spec) as cluster:
            broker = cluster.broker("okx-test")
            first = [broker.get_account_balance() for _ in range(2)]
            assert [broker.get_account_balance() for _ in range(5)] == [first[0]] * 5
            assert okx.private_calls == 2
            assert (broker.get_error_count(), broker.is_available()) == (0, True)


def test_the_smaller_budget_of_two_brokers_on_one_key_holds_for_both() -> None:
    kraken = SimulatedKraken()
    with serve(kraken):
        wide = simulated_spec(kraken, "wide")
        narrow = simulated_spec(kraken, "narrow", request_burst=1.0, requests_per_s=0.01)
        with cluster_of(wide, narrow) as cluster:
            for name in ("wide", "narrow", "wide"):
                _ignoring_errors(cluster.broker(name).get_account_balance)
            assert kraken.private_calls == 1


def test_retry_after_is_honoured() -> None:
    lane, clock, _ = lane_of()
    lane.note(Fault(FaultKind.RATE_LIMITED, "slow down", retry_after_s=100.0))
    with pytest.raises(Refrained, match="slow down") as caught:
        asyncio.run(_hold(lane))
    until = caught.value.outcome.locked_until
    assert until is not None, "private calls have stopped for longer than any call waits"
    assert until.up_s == clock.up_s() + 100.0
    clock.advance(100.001)
    asyncio.run(_hold(lane))


def test_an_exchange_that_asks_for_patience_is_not_asked_meanwhile() -> None:
    kraken = SimulatedKraken()
    with serve(kraken), cluster_of(simulated_spec(kraken)) as cluster:
        broker = cluster.broker("kraken-test")
        broker.get_account_balance()
        kraken.set_fault("http_429")  # it says Retry-After: 2
        broker.get_account_balance()
        assert (broker.get_error_count(), broker.reading().fault) == (1, FaultKind.RATE_LIMITED)
        kraken.mend()
        assert broker.get_account_balance() == Decimal("8370.63")
        assert broker.get_error_count() == 0


@pytest.mark.parametrize("policy", ["simple", "guarded"])
def test_a_key_that_may_not_ask_for_longer_than_anybody_waits_vouches_for_nothing(policy: str) -> None:
    kraken = SimulatedKraken()
    with serve(kraken):
        specs = [simulated_spec(kraken, name, policy=policy, poll_interval_s=0.1) for name in ("a", "b")]
        with cluster_of(*specs) as cluster:
            brokers = [cluster.broker(name) for name in ("a", "b")]
            balances = [broker.get_account_balance() for broker in brokers]
            until(lambda: all(broker.is_available() for broker in brokers))
            kraken.set_fault("http_429", times=1, retry_after_s=3_600)
            until(lambda: all(broker.reading().reason is Reason.LOCKED_OUT for broker in brokers))
            calls = kraken.private_calls
            assert [broker.get_account_balance() for broker in brokers] == balances
            assert not any(broker.is_available() for broker in brokers)
            assert sum(broker.get_error_count() for broker in brokers) == 1
            assert kraken.private_calls == calls


@pytest.mark.parametrize("pause_s", [60, 3_600])
def test_a_funding_account_that_is_asked_too_often_does_not_stop_the_balance(pause_s: int) -> None:
    okx = SimulatedOkx()
    with serve(okx), cluster_of(simulated_spec(okx)) as cluster:
        broker = cluster.broker("okx-test")
        broker.get_account_balance()
        okx.set_fault("http_429", path="/api/v5/asset/balances", retry_after_s=pause_s)
        broker.get_account_balance()
        calls = okx.private_calls
        for cash in ("1", "2", "3"):
            okx.set_balance({"USDT": (cash, "0")})
            assert broker.get_account_balance() == Decimal(cash)
        assert okx.private_calls == calls + 3, "the funding account has its pause, the balance has none"
        assert "rate_limited" in broker.get_account_balance_detailed().wallets["funding"].trouble


# --- lockouts ----------------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[SimulatedKraken, Path]]:
    kraken = SimulatedKraken()
    with serve(kraken):
        yield kraken, tmp_path / "s"


@pytest.mark.parametrize("policy", ["simple", "guarded"])
def test_in_a_lockout_not_one_private_call_goes_out(
    locked: tuple[SimulatedKraken, Path], policy: str
) -> None:
    kraken, folder = locked
    specs = [simulated_spec(kraken, name, policy=policy, poll_interval_s=0.05) for name in ("a", "b")]
    with cluster_of(*specs, state=str(folder)) as cluster:
        a, b = cluster.broker("a"), cluster.broker("b")
        balances = [a.get_account_balance(), b.get_account_balance()]
        kraken.set_fault("locked_out", times=1)
        until(lambda: Reason.LOCKED_OUT in (a.reading().reason, b.reading().reason))
        calls = kraken.private_calls
        assert [a.get_account_balance(), b.get_account_balance()] == balances
        for broker in (a, b):
            reading = broker.reading()
            assert (reading.available, reading.reason) == (False, Reason.LOCKED_OUT)
            assert "Temporary lockout" in reading.detail
            assert "until 20" in reading.detail, "it says when the lockout ends"
        assert a.get_error_count() + b.get_error_count() == 1, "only the answer itself counts"
        for _ in range(20):
            a.get_account_balance()
        assert kraken.private_calls == calls
    with cluster_of(*specs, state=str(folder)) as cluster:
        for name in ("a", "b"):
            assert cluster.broker(name).get_account_balance() == balances[0]
            assert not cluster.broker(name).is_available()
            assert cluster.broker(name).reading().reason is Reason.LOCKED_OUT
    assert kraken.private_calls == calls, "a restart does not end a lockout"


def test_after_its_end_the_key_is_used_again(locked: tuple[SimulatedKraken, Path]) -> None:
    kraken, _ = locked
    clock = ManualClock()
    with cluster_of(simulated_spec(kraken), clock=clock) as cluster:
        broker = cluster.broker("kraken-test")
        broker.get_account_balance()
        kraken.set_fault("locked_out", times=1)
        broker.get_account_balance()
        calls = kraken.private_calls
        clock.advance(899.0)
        broker.get_account_balance()
        assert (kraken.private_calls, broker.reading().reason) == (calls, Reason.LOCKED_OUT)
        clock.advance(1.0)
        assert broker.get_account_balance() == Decimal("8370.63")
        assert kraken.private_calls == calls + 1
        until(broker.is_available)


def test_a_stored_lockout_that_a_clock_made_absurd_is_bounded() -> None:
    clock, book = ManualClock(), Book()
    for_ever = KeyState("k", locked_until_us=clock.now().wall_us + 10**15)
    lane = Lane("k", STAND_IN, clock, book, for_ever)
    with pytest.raises(Refrained):
        asyncio.run(_hold(lane))
    clock.advance(3_600.0)
    asyncio.run(_hold(lane))


# --- others on the same key --------------------------------------------------------------------------


def test_another_process_on_the_same_key_is_named(
    caplog: pytest.LogCaptureFixture, locked: tuple[SimulatedKraken, Path]
) -> None:
    kraken, folder = locked
    spec = replace(simulated_spec(kraken), simulated=False)
    with cluster_of(spec, state=str(folder / "1")), cluster_of(spec, state=str(folder / "2")):
        warned = [record.getMessage() for record in caplog.records if "same API key" in record.getMessage()]
    assert len(warned) == 1
    assert f"kraken-test: process {os.getpid()} watches with the same API key" in warned[0]
    assert kraken.credentials["api_key"] not in caplog.text
    caplog.clear()
    with cluster_of(spec, state=str(folder / "1")):
        assert "same API key" not in caplog.text, "a process that has ended is not warned of"


def test_a_wait_in_the_lane_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LANE_WAIT_S > 0
    monkeypatch.setattr("brokerwatch.gateway.lane.LANE_WAIT_S", 0.01)
    lane, _, _ = lane_of()

    async def scene() -> None:
        async with lane.turn():
            with pytest.raises(Refrained, match="in the queue of its API key"):
                await _hold(lane)

    asyncio.run(scene())


def test_a_nonce_that_was_overtaken_is_tried_once_more_with_a_fresh_one() -> None:
    kraken = SimulatedKraken()
    with serve(kraken), cluster_of(simulated_spec(kraken)) as cluster:
        broker = cluster.broker("kraken-test")
        kraken.set_fault("bad_nonce", times=1)
        assert broker.get_account_balance() == Decimal("8370.63")
        assert (broker.get_error_count(), kraken.private_calls) == (0, 2)
        kraken.set_fault("bad_nonce")
        broker.get_account_balance()
        assert (broker.get_error_count(), broker.reading().fault) == (1, FaultKind.NONCE_CLOCK)
        assert kraken.private_calls == 4, "once more, and not for ever"


def test_a_clock_that_is_off_is_measured_and_said() -> None:
    okx = SimulatedOkx()
    okx.clock_skew_s = 90.0
    with serve(okx), cluster_of(simulated_spec(okx)) as cluster:
        broker = cluster.broker("okx-test")
        _ignoring_errors(broker.get_account_balance)
        assert broker.reading().fault is FaultKind.NONCE_CLOCK
        # Less what the answer took on its way.
        assert re.search(r"this machine's clock is (89|90)\.\d s ", broker.reading().detail)
        assert "behind the exchange's" in broker.reading().detail


# --- what is urgent ----------------------------------------------------------------------------------


def quick_lane(budget: Budget = STAND_IN) -> Lane:
    return Lane("k", budget, SystemClock(), Book(), KeyState("k"))


def test_an_urgent_call_goes_before_all_that_wait_longer() -> None:
    went: list[str] = []

    async def call(lane: Lane, name: str, *, urgent: bool = False) -> None:
        async with lane.turn(urgent=urgent):
            went.append(name)

    async def story() -> None:
        lane = quick_lane()
        async with lane.turn(urgent=True):
            waiting = [asyncio.create_task(call(lane, f"poll {number}")) for number in (1, 2)]
            await asyncio.sleep(0)
            waiting.append(asyncio.create_task(call(lane, "order", urgent=True)))
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    asyncio.run(story())
    assert went == ["order", "poll 1", "poll 2"]


def test_after_three_urgent_calls_one_that_waits_has_its_turn() -> None:
    """Orders that hang one after the other must not hide that the exchange does."""
    order: list[str] = []

    async def call(lane: Lane, name: str, *, urgent: bool = False) -> None:
        async with lane.turn(urgent=urgent):
            order.append(name)

    async def story() -> None:
        lane = quick_lane()
        async with lane.turn(urgent=True):
            waiting = [asyncio.create_task(call(lane, name)) for name in ("poll", "another")]
            waiting += [asyncio.create_task(call(lane, f"{n}", urgent=True)) for n in range(8)]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    asyncio.run(story())
    assert order == ["0", "1", "2", "poll", "3", "4", "5", "another", "6", "7"]


def test_a_poll_that_hangs_gives_way_and_counts_nowhere() -> None:
    async def hang(lane: Lane, started: asyncio.Event) -> None:
        async with lane.turn():
            started.set()
            await asyncio.get_running_loop().create_future()

    async def poll(lane: Lane, started: asyncio.Event) -> str:
        with pytest.raises(Refrained) as refrained:
            await hang(lane, started)
        assert refrained.value.outcome.locked_until is None
        return refrained.value.outcome.why

    async def story() -> str:
        lane, started = quick_lane(), asyncio.Event()
        hanging = asyncio.create_task(poll(lane, started))
        await started.wait()
        async with lane.turn(urgent=True):
            assert hanging.done(), "one request in flight, also now"
        return await hanging

    assert "gave way to an order" in asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_an_urgent_call_waits_neither_for_the_budget_nor_for_who_waits_for_it() -> None:
    async def story() -> None:
        lane = quick_lane(Budget(1.0, 0.001))  # the second call would wait for a quarter of an hour
        async with lane.turn():
            pass
        async with lane.turn(urgent=True):
            pass

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_an_urgent_turn_is_ended_by_nobody() -> None:
    async def story() -> None:
        lane = quick_lane()
        async with lane.turn(urgent=True):
            second = asyncio.create_task(lane.turn(urgent=True).__aenter__())
            _, waiting = await asyncio.wait({second}, timeout=2 * LANE_PATIENCE_S)
            assert waiting == {second}
        await second

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_in_a_lockout_not_even_an_order_goes_out() -> None:
    async def story() -> None:
        lane = quick_lane()
        lane.note(Fault(FaultKind.RATE_LIMITED, "locked", lockout_s=900.0))
        with pytest.raises(Refrained) as refrained:
            async with lane.turn(urgent=True):
                raise AssertionError("it must not come this far")
        assert refrained.value.outcome.locked_until is not None

    asyncio.run(story())


@given(st.lists(st.sampled_from(("urgent", "ordinary", "cancel", "end")), max_size=30))
def test_however_calls_come_and_go_the_lane_is_passed_on_and_never_held_twice(steps: list[str]) -> None:
    async def story() -> None:
        lane, inside, most = quick_lane(), 0, 0
        ending: list[asyncio.Event] = []
        calls: list[asyncio.Task[None]] = []

        async def call(*, urgent: bool, leave: asyncio.Event) -> None:
            nonlocal inside, most
            with suppress(Refrained):
                async with lane.turn(urgent=urgent):
                    inside += 1
                    most = max(most, inside)
                    try:
                        await leave.wait()
                    finally:
                        inside -= 1

        for number, step in enumerate(steps):
            match step:
                case "cancel" if calls:
                    calls[number % len(calls)].cancel()
                case "end" if ending:
                    ending[number % len(ending)].set()
                case "urgent" | "ordinary":
                    ending.append(asyncio.Event())
                    calls.append(asyncio.create_task(call(urgent=step == "urgent", leave=ending[-1])))
                case _:
                    pass
            await asyncio.sleep(0)
        for leave in ending:
            leave.set()
        await asyncio.gather(*calls, return_exceptions=True)
        assert most <= 1
        async with lane.turn():
            pass

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_urgent_calls_that_come_one_after_the_other_end_a_waiting_poll_once() -> None:
    """To be told twice to end was an error, which left the lane taken for ever."""

    async def urgent(lane: Lane, hops: int) -> None:
        for _ in range(hops):
            await asyncio.sleep(0)
        async with lane.turn(urgent=True):
            await asyncio.sleep(0)

    async def poll(lane: Lane) -> None:
        with suppress(Refrained):
            async with lane.turn():
                raise AssertionError("its budget is used up for a quarter of an hour")

    async def story(hops: int) -> None:
        lane = quick_lane(Budget(1.0, 0.001))
        async with lane.turn():
            pass
        waiting = asyncio.create_task(poll(lane))
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.gather(*(urgent(lane, number * hops) for number in range(3)), waiting)
        async with lane.turn(urgent=True):
            pass

    for hops in range(5):
        asyncio.run(asyncio.wait_for(story(hops), PATIENCE_S))


# --- in place of a lane on a loop that hangs ----------------------------------------------------------


def test_the_lane_in_its_place_goes_on_above_its_numbers_and_within_its_limits() -> None:
    old, clock, book = lane_of()
    old.counts_nonces = True
    used: list[int] = []

    async def ordering() -> None:
        async with old.turn(urgent=True):
            used.append(old.nonces.next())
        old.note(Fault(FaultKind.RATE_LIMITED, "slower", retry_after_s=5.0))
        old.ordered_s = float("inf")  # an order is under way

    asyncio.run(ordering())
    assert isinstance(old.lease, Lease)
    old.lease.revoked = "it hung"
    new = Lane("k", STAND_IN, clock, book, KeyState("k"))
    new.go_on_from(old)
    assert new.ordered_s == clock.up_s(), "no balance from before has that order in it"
    assert not new.free, "the exchange asked for a pause"
    clock.advance(6.0)

    async def going_on() -> None:
        with pytest.raises(Refrained, match="it hung"):
            async with old.turn(urgent=True):
                pytest.fail("a lane whose lease is revoked gives no turn")
        async with new.turn(urgent=True):
            used.append(new.nonces.next())
        used.append(old.nonces.next())  # what the old one would still use is below

    asyncio.run(going_on())
    assert used[1] > book.states[0].nonce_ceiling
    assert used[2] < used[1]


def test_a_lockout_goes_on_in_the_lane_in_its_place() -> None:
    old, clock, book = lane_of()
    old.note(Fault(FaultKind.RATE_LIMITED, "locked out", lockout_s=60.0))
    new = Lane("k", STAND_IN, clock, book, KeyState("k"))
    new.go_on_from(old)

    async def ask() -> None:
        async with new.turn():
            pytest.fail("the key is locked out")

    with pytest.raises(Refrained, match="locked out"):
        asyncio.run(ask())


def test_the_lane_in_its_place_waits_for_a_turn_that_the_traders_own_code_has() -> None:
    old, clock, book = lane_of()
    old.held_by((threading.get_ident(), None))
    new = Lane("k", STAND_IN, clock, book, KeyState("k"))
    new.go_on_from(old)
    assert new.in_use_by == old.holder
    assert new.in_use_since_s == old.held_since_s
    served: list[str] = []

    async def ask() -> None:
        async with new.turn(urgent=True):
            served.append("ours")

    async def both() -> None:
        asking = asyncio.create_task(ask())
        await asyncio.sleep(2 * HOLDER_LOOK_S)
        served.append("the trader's")
        old.held_by(None)
        await asking

    asyncio.run(both())
    assert served == ["the trader's", "ours"]
    assert new.in_use_by is None
    assert new.in_use_since_s is None


# --- the counts --------------------------------------------------------------------------------------


def test_a_lane_counts_its_requests_and_how_long_each_call_waited() -> None:
    clock, tally = ManualClock(), KeyTally()
    lane = Lane("k", Budget(4.0, 2.0), clock, Book(), KeyState("k"), tally=tally)

    async def scene() -> None:
        async with lane.turn():
            waiting = asyncio.ensure_future(_hold(lane))
            await asyncio.sleep(0)
            clock.advance(0.4)
            await lane.another()
        await waiting

    asyncio.run(scene())
    assert tally.requests.total == 3
    waits = tally.waits.durations()
    assert dict(zip(BUCKETS_S, waits.counts, strict=False))[0.5] == 1, "the second call waited for the first"
    assert sum(waits.counts) == 2
    assert waits.sum_s == pytest.approx(0.4)


def test_a_call_whose_turn_did_not_come_has_waited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerwatch.gateway.lane.LANE_WAIT_S", 0.01)
    tally = KeyTally()
    lane = Lane("k", STAND_IN, SystemClock(), Book(), KeyState("k"), tally=tally)

    async def scene() -> None:
        async with lane.turn():
            with pytest.raises(Refrained):
                await _hold(lane)

    asyncio.run(scene())
    assert (sum(tally.waits.durations().counts), tally.requests.total) == (2, 1)


def test_the_use_of_the_budget_runs_down_and_an_order_can_use_more_than_there_is() -> None:
    clock, tally = ManualClock(), KeyTally()
    lane = Lane("k", Budget(2.0, 0.5), clock, Book(), KeyState("k"), tally=tally)

    async def scene() -> None:
        for _ in range(3):
            async with lane.turn(urgent=True):
                pass

    asyncio.run(scene())
    assert tally.budget is not None
    used = tally.budget()
    assert (used.per_s, used.burst, used.used) == (0.5, 2.0, 3.0)
    clock.advance(4.0)
    assert tally.budget().used == 1.0
    lane.note(Fault(FaultKind.RATE_LIMITED, "too fast"))
    assert tally.budget().used == 2.0, "the exchange itself says that it is used up"
    moved = Lane("k", Budget(2.0, 0.5), clock, Book(), KeyState("k"), tally=tally)
    moved.go_on_from(lane)
    assert tally.budget().used == 2.0
    clock.advance(60.0)
    assert tally.budget().used == 0.0
