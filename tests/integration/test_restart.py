"""What survives a kill: last known balances with their true age, and never an answer that is too good."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokerwatch import (
    BalanceUnknown,
    BrokerSpec,
    Cluster,
    ClusterSettings,
    EarlierOrderUnknown,
    EndpointUnavailable,
    EntryRefused,
    OrderStateUnknown,
    StateFolderTaken,
)
from brokerwatch.clock import Instant, Limits, SystemClock
from brokerwatch.messages import HealthState, Reason
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.storage.journal import boot_id
from tests.support.clusters import ONLY_WHEN_ASKED, PATIENCE_S, Till, cluster_of, simulated_spec, until

CHILD = """
import json, sys
from brokerwatch import BrokerSpec, Cluster, ClusterSettings
given = json.load(sys.stdin)
specs = [BrokerSpec(**spec) for spec in given["specs"]]
places = {"health_endpoint": "tcp://127.0.0.1:*", "state": given["state"], "store": given["store"]}
cluster = Cluster(specs, ClusterSettings(**places))
cluster.start()
while True:
    for spec in specs:
        broker = cluster.broker(spec.name)
        cash = broker.get_account_balance()
        print(json.dumps([spec.name, str(cash), broker.reading().as_of_us]), flush=True)
"""
"""A trading process that asks for ever, and says what it was answered."""


@pytest.fixture
def exchanges() -> Iterator[list[SimulatedExchange]]:
    three: list[SimulatedExchange] = [SimulatedKraken(), SimulatedCoinbase(), SimulatedOkx()]
    with serve(*three):
        yield three


def plain(spec: BrokerSpec) -> dict[str, Any]:
    """A spec as JSON can carry it."""
    return {
        "name": spec.name,
        "exchange": spec.exchange,
        "credentials": dict(spec.credentials),
        "ccxt": dict(spec.ccxt),
        "simulated": spec.simulated,
        "policy": spec.policy,
        "poll_interval_s": 3_600.0,
    }


@contextlib.contextmanager
def trading_process(
    specs: list[BrokerSpec], state: Path, store: str = ""
) -> Generator[subprocess.Popen[str]]:
    """The child, which is killed in the end however the test ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdin is not None
        given = {"specs": [plain(spec) for spec in specs], "state": str(state), "store": store}
        child.stdin.write(json.dumps(given))
        child.stdin.close()
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(PATIENCE_S)
        if child.stdout is not None:
            child.stdout.close()


def lines_of(child: subprocess.Popen[str], count: int) -> list[tuple[str, str, int]]:
    assert child.stdout is not None
    return [tuple(json.loads(child.stdout.readline())) for _ in range(count)]


@pytest.mark.parametrize("policy", ["simple", "guarded"])
def test_after_a_kill_with_every_exchange_down_each_broker_answers_with_its_last_known(
    exchanges: list[SimulatedExchange], tmp_path: Path, policy: str
) -> None:
    specs = [simulated_spec(exchange, policy=policy) for exchange in exchanges]
    with trading_process(specs, tmp_path) as child:
        told = lines_of(child, 9)
        before = {name: (Decimal(cash), as_of) for name, cash, as_of in told}
        # What a broker read it has handed on; when it is on the disk the recorder alone knows.
        until(lambda: before.keys() <= _balances_on_disk(tmp_path))
    killed_us = time.time_ns() // 1_000
    for exchange in exchanges:
        exchange.set_fault("reset")
    with cluster_of(*specs, state=str(tmp_path)) as cluster:
        for name, (cash, as_of_us) in before.items():
            broker = cluster.broker(name)
            reading = broker.reading()
            assert (reading.cash, reading.state) == (cash, HealthState.UNKNOWN)
            assert not reading.available
            assert reading.stale
            assert reading.as_of_us is not None
            assert reading.as_of_us >= as_of_us - 10_000_000
            assert reading.age_ms is not None
            assert reading.age_ms >= (killed_us - max(as_of for _, _, as_of in told)) / 1_000 - 1
            for _ in range(4):
                assert broker.get_account_balance() == cash
                assert not broker.is_available()
            assert broker.get_account_balance_detailed().cash == cash
            assert broker.reading().state is HealthState.UNAVAILABLE
    with cluster_of(*specs, state=str(tmp_path)) as cluster:
        for name, (cash, _) in before.items():
            assert cluster.broker(name).reading().state is HealthState.UNAVAILABLE, (
                "a conviction is remembered"
            )
            assert cluster.broker(name).get_account_balance() == cash
        for exchange in exchanges:
            exchange.mend()
        for name in before:
            for _ in range(2):
                cluster.broker(name).get_account_balance()
            assert cluster.broker(name).is_available()


def _balances_on_disk(folder: Path) -> set[str]:
    """The brokers of which the store has a balance."""
    try:
        with contextlib.closing(sqlite3.connect(folder / "brokerwatch.db", timeout=5.0)) as database:
            rows = database.execute("select broker, document from brokerwatch_health").fetchall()
    except sqlite3.OperationalError:  # the tables are not there yet
        return set()
    return {broker for broker, document in rows if json.loads(document)["balance"] is not None}


def test_kills_at_random_moments_lose_no_balance_that_was_there_before(
    exchanges: list[SimulatedExchange], tmp_path: Path, record_property: Any
) -> None:
    seed = random.randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    record_property("seed", seed)
    chance = random.Random(seed)
    specs = [simulated_spec(exchange) for exchange in exchanges]
    known: dict[str, Decimal] = {}
    for _ in range(4):
        for exchange in exchanges:
            exchange.set_balance({"USD": (str(chance.randrange(1, 10**6)), "0")})
        with trading_process(specs, tmp_path) as child:
            for name, cash, _ in lines_of(child, chance.randrange(1, 60)):
                known[name] = Decimal(cash)
            # A balance is handed to the recorder first. What it has written once, no kill takes away.
            until(lambda: known.keys() <= _balances_on_disk(tmp_path))
        for exchange in exchanges:
            exchange.set_fault("reset")
        with cluster_of(*specs, state=str(tmp_path)) as cluster:
            for name in known:
                reading = cluster.broker(name).reading()
                assert not reading.available
                assert reading.cash is not None, "what was known before this life is never lost"
                known[name] = reading.cash
        for exchange in exchanges:
            exchange.mend()


def test_a_second_cluster_on_one_folder_is_refused_with_the_pid_of_the_first(
    exchanges: list[SimulatedExchange], tmp_path: Path
) -> None:
    specs = [simulated_spec(exchange) for exchange in exchanges]
    with trading_process(specs, tmp_path) as child:
        lines_of(child, 1)
        with pytest.raises(StateFolderTaken, match=f"process {child.pid} runs a cluster"):
            cluster_of(*specs, state=str(tmp_path)).start()
    with cluster_of(*specs, state=str(tmp_path)):
        pass  # who was killed holds nothing


def spec_of(till: Till, name: str = "a", **values: Any) -> BrokerSpec:
    return BrokerSpec(name, fetch=till, poll_interval_s=ONLY_WHEN_ASKED, **values)


def test_an_account_that_never_answered_is_still_unknown_after_a_restart(tmp_path: Path) -> None:
    till = Till()
    till.failure = ConnectionError("down")
    for _ in range(2):
        with cluster_of(spec_of(till), state=str(tmp_path)) as cluster, pytest.raises(BalanceUnknown):
            cluster.broker("a").get_account_balance()
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        assert cluster.broker("a").reading().state is HealthState.UNKNOWN, "no second first life"
        assert not cluster.broker("a").is_available()


def test_another_key_is_another_account_and_starts_with_nothing_known(tmp_path: Path) -> None:
    kraken = SimulatedKraken()
    with serve(kraken):
        spec = simulated_spec(kraken)
        with cluster_of(spec, state=str(tmp_path)) as cluster:
            cluster.broker(spec.name).get_account_balance()
        other = replace(spec, credentials=kraken.add_account(balance={"USD": ("1", "0")}))
        kraken.set_fault("reset")
        with cluster_of(other, state=str(tmp_path)) as cluster:
            assert cluster.broker(spec.name).reading().cash is None
            with pytest.raises(BalanceUnknown):
                cluster.broker(spec.name).get_account_balance()


def test_a_store_that_cannot_be_read_leaves_everybody_unknown_and_is_read_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    till = Till({"USD": "77"})
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        cluster.broker("a").get_account_balance()
        cluster.hold("a", "checking")
    database, away = tmp_path / "brokerwatch.db", tmp_path / "away.db"
    database.rename(away)
    for leftover in tmp_path.glob("brokerwatch.db-*"):
        leftover.unlink()
    database.mkdir()  # a folder where the file should be: no database, and not ours to remove
    till.failure = ConnectionError("down")
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        broker = cluster.broker("a")
        assert (broker.reading().state, broker.reading().cash) == (HealthState.UNKNOWN, None)
        assert broker.reading().reason is Reason.HELD_OUT, "a hold does not wait for the database"
        assert "nothing is remembered" in caplog.text
        with pytest.raises(BalanceUnknown):
            broker.get_account_balance()
        database.rmdir()
        away.rename(database)
        until(lambda: broker.reading().cash is not None, patience_s=40.0)
        assert broker.get_account_balance() == Decimal(77)
        assert not broker.is_available()
        until(lambda: broker.reading().reason is Reason.HELD_OUT)
        till.failure = None
        assert broker.get_account_balance() == Decimal(77)
        cluster.release("a")
        until(broker.is_available)
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        assert cluster.broker("a").reading().cash == Decimal(77)


def test_an_order_of_before_that_can_be_read_only_later_holds_up_entries_from_then_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("1000", "0")})

    def buy(cluster: Cluster) -> None:
        broker = cluster.broker("kraken-test")
        broker.get_account_balance()
        broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)

    with serve(exchange):
        spec = simulated_spec(exchange, trading=True, fetch_deadline_s=5.0)
        exchange.set_fault("reset", path="POST /0/private/AddOrder", times=1)
        for path in ("OpenOrders", "ClosedOrders"):
            exchange.set_fault("http_502_html", path=f"POST /0/private/{path}")
        with cluster_of(spec, state=str(tmp_path)) as cluster, pytest.raises(OrderStateUnknown):
            buy(cluster)
        database, away = tmp_path / "brokerwatch.db", tmp_path / "away.db"
        database.rename(away)
        database.mkdir()
        with cluster_of(spec, state=str(tmp_path)) as cluster:
            assert "of an order of an earlier process" not in caplog.text
            with pytest.raises(EntryRefused, match="cannot be read yet"):
                buy(cluster)
            database.rmdir()
            away.rename(database)
            until(lambda: "of an order of an earlier process" in caplog.text, patience_s=40.0)
            with pytest.raises(EarlierOrderUnknown, match="not accounted for"):
                buy(cluster)
    assert exchange.placed_orders == 0


@pytest.mark.parametrize("loss", ["deleted", "emptied", "damaged"])
@pytest.mark.parametrize("policy", ["simple", "guarded"])
def test_who_has_lost_his_memory_does_not_take_himself_for_new(
    tmp_path: Path, loss: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    till = Till()
    with cluster_of(spec_of(till, policy=policy), state=str(tmp_path)) as cluster:
        cluster.broker("a").get_account_balance()
        cluster.hold("a", "watch me")
    for file in tmp_path.glob("brokerwatch.db*"):
        if loss == "deleted" or file.suffix != ".db":
            file.unlink()
        else:
            file.write_bytes(b"" if loss == "emptied" else b"noise" * 1_000)
    till.failure = ConnectionError("down")
    with cluster_of(spec_of(till, policy=policy), state=str(tmp_path)) as cluster:
        broker = cluster.broker("a")
        assert (broker.reading().state, broker.is_available()) == (HealthState.UNKNOWN, False)
        assert "nothing is stored of it any more" in caplog.text
        till.failure = None
        assert broker.get_account_balance() == Decimal(100)
        assert broker.reading().reason is Reason.HELD_OUT, "a lost database ends no hold"
        cluster.release("a")
        assert broker.is_available()
    with cluster_of(spec_of(till, policy=policy), state=str(tmp_path)) as cluster:
        assert cluster.broker("a").reading().reason is not Reason.HELD_OUT


def test_a_start_that_came_to_nothing_is_no_lost_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with cluster_of(spec_of(Till()), remember=False) as other:
        taken = ClusterSettings(health_endpoint=other.health_endpoint, state=str(tmp_path))
        with pytest.raises(EndpointUnavailable):
            Cluster([spec_of(Till())], taken).start()
    with cluster_of(spec_of(Till()), state=str(tmp_path)) as cluster:
        assert cluster.broker("a").reading().state is HealthState.HEALTHY
    assert "nothing is stored of it any more" not in caplog.text


def test_a_new_broker_beside_old_ones_has_a_first_life(tmp_path: Path) -> None:
    with cluster_of(spec_of(Till()), state=str(tmp_path)):
        pass
    with cluster_of(spec_of(Till()), spec_of(Till(), "new"), state=str(tmp_path)) as cluster:
        assert cluster.broker("new").reading().state is HealthState.HEALTHY
        assert cluster.broker("a").reading().state is HealthState.UNKNOWN, (
            "it lived before, and was never asked"
        )


def test_what_a_newer_version_stored_is_not_overwritten_by_one_that_knows_nothing(tmp_path: Path) -> None:
    till = Till({"USD": "77"})
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        cluster.broker("a").get_account_balance()
    with contextlib.closing(sqlite3.connect(tmp_path / "brokerwatch.db")) as database:
        (document,) = database.execute("select document from brokerwatch_health").fetchone()
        newer = document.replace('"form":1', '"form":2')
        database.execute("update brokerwatch_health set document = ?", (newer,))
        database.commit()
    till.failure = ConnectionError("down")
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        assert cluster.broker("a").reading().state is HealthState.UNKNOWN
        with pytest.raises(BalanceUnknown):
            cluster.broker("a").get_account_balance()
    with contextlib.closing(sqlite3.connect(tmp_path / "brokerwatch.db")) as database:
        assert database.execute("select document from brokerwatch_health").fetchone() == (newer,)
    till.failure = None
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        assert cluster.broker("a").get_account_balance() == Decimal(77)
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        assert cluster.broker("a").reading().cash == Decimal(77), "a balance that was read is worth more"


HOLDER = """
import sys
from brokerwatch import BrokerSpec, Cluster, ClusterSettings
async def fetch(): return {"USD": "1"}
spec = BrokerSpec("a", fetch=fetch, poll_interval_s=float("inf"))
cluster = Cluster([spec], ClusterSettings(health_endpoint="tcp://127.0.0.1:*", state=sys.argv[1]))
cluster.start()
print(cluster.hold("a", "watch me"), flush=True)
sys.stdin.read()
"""


def test_a_hold_that_was_acknowledged_survives_a_kill_at_once(tmp_path: Path) -> None:
    for round_number in range(3):
        folder = tmp_path / str(round_number)
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == "a is held out by this program: watch me\n"
            child.send_signal(signal.SIGKILL)
        with cluster_of(spec_of(Till()), state=str(folder)) as cluster:
            assert cluster.broker("a").reading().reason is Reason.HELD_OUT


def test_a_hold_that_could_not_be_stored_says_so(tmp_path: Path) -> None:
    (tmp_path / "brokerwatch.db").mkdir()
    with cluster_of(spec_of(Till()), state=str(tmp_path)) as cluster:
        assert cluster.hold("a", "watch me").endswith("a restart would not know of it")
        assert cluster.broker("a").reading().reason is Reason.HELD_OUT


def test_a_folder_that_cannot_be_used_stops_nobody_from_watching(caplog: pytest.LogCaptureFixture) -> None:
    with cluster_of(spec_of(Till()), state="/proc/no/such/folder") as cluster:
        assert cluster.broker("a").get_account_balance() == Decimal(100)
        assert cluster.broker("a").is_available()
    assert "cannot be used" in caplog.text


def test_an_older_balance_that_comes_to_light_replaces_no_newer_one(tmp_path: Path) -> None:
    till = Till({"USD": "1"})
    with cluster_of(spec_of(till), state=str(tmp_path)) as cluster:
        cluster.broker("a").get_account_balance()
        remembered = cluster._state.remembered  # pyright: ignore[reportPrivateUsage] - nothing public is that late
    assert remembered.healths == {}
    with Cluster([spec_of(till)], cluster._settings) as again:  # pyright: ignore[reportPrivateUsage]
        till.balance = {"USD": "2"}
        assert again.broker("a").get_account_balance() == Decimal(2)
        again._members.recall(again._state.remembered)  # pyright: ignore[reportPrivateUsage]
        assert again.broker("a").get_account_balance() == Decimal(2)
        till.failure = ConnectionError("down")
        assert again.broker("a").get_account_balance() == Decimal(2)


def test_the_pid_in_the_claim_is_ours(tmp_path: Path) -> None:
    with cluster_of(spec_of(Till()), state=str(tmp_path)):
        assert (tmp_path / "cluster.lock").read_text().strip() == str(os.getpid())


class Later:
    """The clock of the machine, so many seconds later."""

    def __init__(self) -> None:
        self.by_s = 0.0
        self.leads = SystemClock().leads

    def now(self) -> Instant:
        now = SystemClock().now()
        return Instant(now.wall_us + round(self.by_s * 1e6), now.up_s + self.by_s)

    def up_s(self) -> float:
        return self.now().up_s

    def is_before(self, limits: Limits) -> bool:
        return self.up_s() < limits[0]


def test_answers_that_leave_a_currency_out_are_counted_on_after_a_restart(tmp_path: Path) -> None:
    clock, till = Later(), Till({"USD": "5", "BTC": "2"})
    spec = BrokerSpec("a", fetch=till, poll_interval_s=ONLY_WHEN_ASKED)

    def held(broker: Any) -> Any:
        broker.get_account_balance()
        return broker.get_account_balance_detailed().holdings.get("BTC")

    with cluster_of(spec, state=str(tmp_path), clock=clock) as cluster:
        assert held(cluster.broker("a")).free == 2
        till.balance = {"USD": "5"}
        for _ in range(2):
            clock.by_s += 1.0
            assert held(cluster.broker("a")).free is None
    clock.by_s += 31.0
    with cluster_of(spec, state=str(tmp_path), clock=clock) as cluster:
        known = cluster.broker("a").reading().balance
        assert known is not None
        assert (known["BTC"].total, known["BTC"].free) == (Decimal(2), None)
        gone = held(cluster.broker("a")) is None
        # Where the system does not name its boots, the time between the two lives is not known.
        assert gone is bool(boot_id()), "the third, half a minute after the first"
        assert cluster.broker("a").get_error_count() == 0
