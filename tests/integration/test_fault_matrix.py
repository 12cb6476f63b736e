"""Every fault of `tests.support.fault_table`, through real ccxt, HTTP and signatures: the last known stays.

The money in an account must survive whatever an exchange, a proxy or a wire can do to an answer: digit
for digit, with the moment it was read. Then the same in drawn sequences, against a model of three lines.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from brokerwatch import BalanceUnknown, Broker
from brokerwatch.clock import Instant
from brokerwatch.gateway import async_source
from brokerwatch.messages import FaultKind, HealthState
from brokerwatch.simulator import (
    BalanceSpec,
    Broken,
    Ending,
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.simulator.connections import written
from brokerwatch.simulator.faults import Answer
from tests.support.clusters import cluster_of, simulated_spec
from tests.support.desks import BALANCE_PATHS
from tests.support.fault_table import (
    DISPUTED,
    ENDLESS,
    EXCHANGES,
    HARMLESS,
    HEALTHY,
    ROWS,
    SETTLED,
    Arrange,
    Row,
    dispute,
    second_page,
)

KINDS: Final[Mapping[str, type[SimulatedExchange]]] = {
    "kraken": SimulatedKraken,
    "coinbase": SimulatedCoinbase,
    "okx": SimulatedOkx,
}
NEVER: Final = 1_000
"""Errors in a row that no test reaches, so that a cluster can live through the whole table."""
IMPATIENT_S: Final = 2.0
SELDOM_S: Final = 5.0
"""A heartbeat with which no stall of the machine that runs the tests looks like a broker that hangs."""
TRIP: Final = 3

Digits = tuple[str, ...]
"""Each amount of a holding as text, so that 1.0 and 1.00 differ."""


@dataclass(slots=True)
class Stage:
    """One simulated exchange, and a broker of a cluster of its own that watches it."""

    exchange: SimulatedExchange
    broker: Broker
    _numbers: Iterator[int] = field(default_factory=lambda: count(1_000))

    def pay_in(self) -> Decimal:
        """Put a balance into the account that was never there before; returns the cash."""
        number = next(self._numbers)
        cash = f"{number}.{number % 97:02}0"
        # What the answers of other tests state is stated too: what is left out would be in doubt.
        empty = dict.fromkeys(("USD", "USDT", "ETH"), ("0", "0"))
        self.exchange.set_balance({"USDC": (cash, "1.10"), "BTC": (f"0.0{number}00", "0"), **empty})
        return Decimal(cash)

    def mend(self) -> None:
        """End whatever a row has arranged."""
        self.exchange.mend()
        self.exchange.clock_skew_s = 0.0
        # The same credentials under the same key: the exchange forgets the changed ones.
        self.exchange.add_account(self.exchange.credentials)
        if isinstance(self.exchange, SimulatedCoinbase):
            self.exchange.page_size = 250

    def succeed(self) -> None:
        """A fetch that reads a new balance, whatever there was before."""
        self.mend()
        cash = self.pay_in()
        read = self.broker.get_account_balance()
        after = self.broker.reading()
        assert (read, self.broker.get_error_count(), after.fault) == (cash, 0, None), after.detail
        assert after.state is HealthState.HEALTHY
        assert not after.stale

    def known(self) -> tuple[dict[str, Digits], Instant | None]:
        """The last known balance, digit for digit, and when it was asked for."""
        reading = self.broker.reading()
        assert reading.balance is not None
        digits = {code: tuple(map(str, astuple(held))) for code, held in reading.balance.items()}
        return digits, reading.as_of

    def told(self) -> str:
        return self.broker.reading().detail


@contextmanager
def staged(*exchanges: str, **values: Any) -> Generator[dict[str, Stage]]:
    """A stage for each exchange, with one success behind it."""
    simulated = [KINDS[name]() for name in exchanges]
    with serve(*simulated), ExitStack() as clusters:
        stages: dict[str, Stage] = {}
        for exchange in simulated:
            spec = simulated_spec(exchange, **values)
            cluster = clusters.enter_context(cluster_of(spec, heartbeat_s=SELDOM_S))
            stages[exchange.ccxt_id] = Stage(exchange, cluster.broker(spec.name))
            stages[exchange.ccxt_id].succeed()
        yield stages


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[str, Stage]]:
    with staged(*EXCHANGES, max_consecutive_errors=NEVER) as found:
        yield found


@pytest.fixture(scope="module")
def tripping_stages() -> Iterator[dict[str, Stage]]:
    with staged(*EXCHANGES, max_consecutive_errors=TRIP) as found:
        yield found


@pytest.fixture(scope="module")
def impatient_stages() -> Iterator[dict[str, Stage]]:
    with (
        pytest.MonkeyPatch.context() as patch,
        staged(*EXCHANGES, max_consecutive_errors=NEVER, fetch_deadline_s=IMPATIENT_S) as found,
    ):
        # A time-out counts here also where a busy machine has held the loop up.
        patch.setattr(async_source, "HELD_UP_SHARE", math.inf)
        yield found


def assert_fault(stage: Stage, kind: FaultKind, arrange: Arrange) -> None:
    """From a success: the fault is counted and named, and the last known is untouched."""
    cash = stage.broker.reading().cash
    assert cash is not None
    known = stage.known()
    stage.pay_in()  # there is other money now, and no answer may guess it
    arrange(stage.exchange)
    assert stage.broker.get_account_balance().as_tuple() == cash.as_tuple(), stage.told()
    after = stage.broker.reading()
    assert stage.broker.get_error_count() == 1, "a fault that was not counted"
    assert stage.known() == known
    assert after.fault is kind, stage.told()
    assert after.stale
    secrets = [text for name, text in stage.exchange.credentials.items() if name != "api_key"]
    assert not any(secret in after.detail for secret in secrets)


# --- the table ------------------------------------------------------------------------------------------


def _told_apart(row: Row) -> Any:
    # Strict: a product that is mended fails here until the row is taken out of the dispute.
    disputed = (pytest.mark.xfail(strict=True, reason=dispute(row)),) if dispute(row) else ()
    return pytest.param(row, id=row.id, marks=disputed)


@pytest.mark.parametrize("row", [_told_apart(row) for row in ROWS])
def test_the_last_known_survives_and_the_fault_is_named(stages: dict[str, Stage], row: Row) -> None:
    stage = stages[row.exchange]
    if stage.broker.get_error_count():
        stage.succeed()  # the row before has failed
    try:
        assert_fault(stage, row.kind, row.arrange)
        stage.succeed()
    finally:
        stage.mend()


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_none_of_them_makes_a_balance_where_there_was_none(exchange: str) -> None:
    simulated = KINDS[exchange]()
    with serve(simulated):
        spec = simulated_spec(simulated, max_consecutive_errors=NEVER)
        with cluster_of(spec) as cluster:
            stage = Stage(simulated, cluster.broker(spec.name))
            errors = 0
            for row in [row for row in SETTLED if row.exchange == exchange]:
                stage.mend()
                errors += not row.after_money_only
                row.arrange(simulated)
                with pytest.raises(BalanceUnknown):
                    stage.broker.get_account_balance()
                reading = stage.broker.reading()
                assert (reading.cash, reading.balance) == (None, None), row.id
                assert reading.error_count == errors, row.id
            stage.succeed()


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("oddity", HARMLESS)
def test_what_is_odd_and_whole_is_read(stages: dict[str, Stage], exchange: str, oddity: str) -> None:
    stage = stages[exchange]
    HARMLESS[oddity](HEALTHY[exchange])(stage.exchange)
    assert stage.broker.get_account_balance() == Decimal("777.50"), stage.told()
    assert stage.broker.get_error_count() == 0, stage.told()
    stage.succeed()


def test_a_dispute_that_no_row_has_is_over() -> None:
    reasons = {dispute(row) for row in ROWS}
    assert set(DISPUTED.values()) <= reasons


def test_the_table_is_wide_enough_and_says_nothing_twice() -> None:
    ids = [row.id for row in ROWS]
    assert sorted(ids) == sorted(set(ids))
    for exchange in EXCHANGES:
        rows = [row for row in ROWS if row.exchange == exchange]
        assert len(rows) >= 60
        assert {row.kind for row in rows} == set(FaultKind) - {FaultKind.OTHER}, "each can fail in each kind"


# --- what needs a cluster of its own --------------------------------------------------------------------


def _met_at_once(stages: Mapping[str, Stage], arrange: Arrange) -> None:
    """All exchanges meet the fault at the same time, so that one deadline is waited for."""
    cash = {name: stage.broker.reading().cash for name, stage in stages.items()}
    known = {name: stage.known() for name, stage in stages.items()}
    for stage in stages.values():
        stage.pay_in()
        arrange(stage.exchange)

    async def ask() -> list[Decimal]:
        return await asyncio.gather(*(stage.broker.fetch_balance() for stage in stages.values()))

    assert asyncio.run(ask()) == list(cash.values())
    for name, stage in stages.items():
        assert stage.known() == known[name]
        assert stage.broker.get_error_count() == 1
        assert stage.broker.reading().fault is FaultKind.NETWORK, stage.told()
    for stage in stages.values():
        stage.succeed()


@pytest.mark.parametrize("fault", ENDLESS)
def test_what_never_ends_is_ended_by_the_deadline(impatient_stages: dict[str, Stage], fault: str) -> None:
    _met_at_once(impatient_stages, lambda exchange: exchange.set_fault(fault))


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_second_page_that_never_ends_takes_the_first_one_with_it(
    impatient_stages: dict[str, Stage], fault: str
) -> None:
    coinbase = {"coinbase": impatient_stages["coinbase"]}
    _met_at_once(coinbase, second_page(lambda exchange: exchange.set_fault(fault, page=2)))


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_exchange_that_nobody_serves_any_more_is_the_network(exchange: str) -> None:
    simulated = KINDS[exchange]()
    with ExitStack() as clusters:
        with serve(simulated):
            spec = simulated_spec(simulated)
            stage = Stage(simulated, clusters.enter_context(cluster_of(spec)).broker(spec.name))
            stage.succeed()
        assert_fault(stage, FaultKind.NETWORK, lambda _gone: None)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
@pytest.mark.parametrize("fault", ["rate_limited", "http_429"])
def test_who_is_told_when_to_come_back_keeps_the_last_known(
    exchange: str, fault: str, *, as_date: bool
) -> None:
    def arrange(simulated: SimulatedExchange) -> None:
        simulated.set_fault(fault, retry_after_s=30, retry_after_as_date=as_date)

    with staged(exchange) as found:
        assert_fault(found[exchange], FaultKind.RATE_LIMITED, arrange)


def test_a_lockout_keeps_the_last_known() -> None:
    def arrange(simulated: SimulatedExchange) -> None:
        assert isinstance(simulated, SimulatedKraken)
        simulated.lock_out(900)

    with staged("kraken") as found:
        assert_fault(found["kraken"], FaultKind.RATE_LIMITED, arrange)


def test_a_proxy_that_quotes_a_lockout_locks_nobody_out() -> None:
    def arrange(simulated: SimulatedExchange) -> None:
        simulated.set_answer('{"upstream":"EGeneral:Temporary lockout"}', 502)

    with staged("kraken") as found:
        assert_fault(found["kraken"], FaultKind.EXCHANGE_DOWN, arrange)
        found["kraken"].succeed()


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(exchange: str) -> None:
    answer = Answer(200, HEALTHY[exchange].encode(), "application/json")
    surplus = Broken(written(answer), Ending.REPEAT)
    with staged(exchange) as found:
        found[exchange].exchange.set_answer(surplus, path=BALANCE_PATHS[exchange])
        assert found[exchange].broker.get_account_balance() == Decimal("777.50")
        assert surplus.finished.wait(5), "the simulated exchange never repeated itself"
        stage = found[exchange]
        stage.mend()
        cash = stage.pay_in()
        # At OKX the call for the funding account may have met it: then that connection is lost, which is
        # a fault of the network and no balance.
        read = stage.broker.get_account_balance()
        assert read == cash or stage.broker.reading().fault is FaultKind.NETWORK
        stage.succeed()


def test_a_funding_account_that_fails_in_any_way_leaves_the_trading_balance_alone(
    stages: dict[str, Stage],
) -> None:
    stage = stages["okx"]
    counted: list[str] = []
    for row in (row for row in ROWS if row.exchange == "okx"):
        row.arrange(stage.exchange)
        stage.exchange.set_answer(HEALTHY["okx"], path=BALANCE_PATHS["okx"])
        cash = stage.broker.get_account_balance()
        if (cash, stage.broker.get_error_count()) != (Decimal("777.50"), 0):
            counted.append(f"{row.id}: {stage.told()}")
        stage.mend()
    stage.succeed()
    assert counted == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_neither_key_nor_signature_to_another_exchange(status: int) -> None:
    stranger = SimulatedKraken()
    with serve(stranger), staged(*EXCHANGES) as found:
        for stage in found.values():
            target = f"{stranger.url}/0/private/BalanceEx"

            def arrange(exchange: SimulatedExchange, target: str = target) -> None:
                exchange.set_answer("", status, "text/html", {"Location": target})

            assert_fault(stage, FaultKind.BAD_RESPONSE, arrange)
        assert stranger.private_calls == 0


# --- sequences ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Model:
    """What must be true of a broker: the newest success, the run of faults since, the newest kind."""

    cash: Decimal
    faults: int = 0
    kind: FaultKind | None = None

    @property
    def state(self) -> HealthState:
        if self.faults >= TRIP:
            return HealthState.UNAVAILABLE
        return HealthState.DEGRADED if self.faults else HealthState.HEALTHY


amounts = st.decimals(min_value=0, max_value=10**9, places=6).map(lambda number: f"{number:f}")
balances = st.fixed_dictionaries(
    {"USDC": st.tuples(amounts, amounts)}, optional={"USDT": st.tuples(amounts, amounts)}
)


def steps(exchange: str) -> st.SearchStrategy[list[Row | BalanceSpec]]:
    rows = [row for row in SETTLED if row.exchange == exchange]
    # One step in four is a success, so that most runs of faults reach the third and some end.
    fault = st.sampled_from(rows)
    return st.lists(st.one_of(fault, fault, fault, balances), min_size=1, max_size=12)


def follow(stage: Stage, model: Model, step: Row | BalanceSpec) -> None:
    """Take one step with the broker and with the model, and compare them."""
    known = stage.known()
    stage.mend()
    if isinstance(step, Row):
        stage.pay_in()
        step.arrange(stage.exchange)
        model.faults, model.kind = model.faults + 1, step.kind
    else:
        stage.exchange.set_balance(step)
        model.cash, model.faults, model.kind = (
            sum((Decimal(f) for f, _ in step.values()), Decimal(0)),
            0,
            None,
        )
    assert stage.broker.get_account_balance() == model.cash
    reading = stage.broker.reading()
    assert (reading.fault, reading.error_count) == (model.kind, model.faults), reading.detail
    assert (reading.state, reading.stale) == (model.state, model.faults > 0)
    assert stage.broker.is_available() is (model.faults < TRIP)
    assert (stage.known() == known) is (model.faults > 0), "a success is newer, and a fault changes nothing"


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_any_sequence_ends_where_the_model_does(tripping_stages: dict[str, Stage], exchange: str) -> None:
    stage = tripping_stages[exchange]

    @settings(max_examples=max(30, settings().max_examples // 4))
    @given(steps(exchange))
    def run(drawn: list[Row | BalanceSpec]) -> None:
        stage.succeed()
        cash = stage.broker.reading().cash
        assert cash is not None
        model = Model(cash)
        for step in drawn:
            follow(stage, model, step)

    run()
