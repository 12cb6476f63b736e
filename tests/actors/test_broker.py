"""One broker as a trader and the cluster meet it: waiting, sharing, lost fetches, callables."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from brokerwatch import (
    BROKER_MAX_CONSECUTIVE_ERRORS,
    BalanceUnknown,
    BlockingCallInLoop,
    ClusterStopped,
    ConfigError,
    Holding,
    InvalidSymbol,
    UnknownBroker,
)
from brokerwatch.actors.protocol import BrokerMessage, Called, Observed, Tick
from brokerwatch.cluster.broker import requests_of
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.backoff import CONFIRM_EVERY_S
from brokerwatch.messages import (
    Balance,
    BalanceSeen,
    BrokerAlive,
    BrokerEvent,
    Fault,
    FaultKind,
    FetchFailed,
    HealthState,
    Reason,
)
from tests.support.clusters import HEARTBEAT_S, ONLY_WHEN_ASKED, PATIENCE_S, Till, cluster_of, until
from tests.support.driven_broker import Driven


def asked(name: str, fetch: Any, **values: Any) -> BrokerSpec:
    """A broker that fetches only when it is asked."""
    chosen: dict[str, Any] = {"poll_interval_s": ONLY_WHEN_ASKED, **values}
    return BrokerSpec(name, fetch=fetch, **chosen)


def test_callers_who_come_while_a_fetch_is_under_way_share_it_and_it_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()
    entered = threading.Event()
    fetches = 0

    async def fetch() -> Mapping[str, str]:
        nonlocal fetches
        fetches += 1
        entered.set()
        await asyncio.to_thread(gate.wait, PATIENCE_S)
        raise ConnectionError("down")

    def ask() -> type[BaseException]:
        with pytest.raises(BalanceUnknown) as caught:
            broker.get_account_balance()
        return caught.type

    with cluster_of(asked("a", fetch)) as cluster, ThreadPoolExecutor(10) as pool:
        broker = cluster.broker("a")
        requests, questions = requests_of(broker), list[BrokerMessage]()
        send = requests.send

        def sends(message: BrokerMessage) -> bool:
            sent = send(message)
            questions.append(message)
            return sent

        monkeypatch.setattr(requests, "send", sends)
        first = pool.submit(ask)
        assert entered.wait(PATIENCE_S)
        others = [pool.submit(ask) for _ in range(9)]
        until(lambda: len(questions) == 10)  # the actor has them before it hears how the fetch ended
        gate.set()
        assert [one.result(PATIENCE_S) for one in (first, *others)] == [BalanceUnknown] * 10
        assert fetches <= 2, "the nine joined the first, or at most one that followed it"
        assert broker.get_error_count() == fetches


def test_a_fetch_past_its_deadline_is_a_network_fault_and_its_caller_gets_the_last_known() -> None:
    till = Till()
    with cluster_of(asked("a", till, fetch_deadline_s=2.0)) as cluster:
        broker = cluster.broker("a")
        assert broker.get_account_balance() == Decimal(100)
        till.hangs = True
        assert broker.get_account_balance() == Decimal(100)
        assert broker.get_error_count() == 1
        assert broker.reading().fault is FaultKind.NETWORK
        assert "no answer within 2 s" in broker.reading().detail


def test_a_source_that_blocks_its_loop_is_given_up_while_the_heart_goes_on_beating() -> None:
    let_go = threading.Event()
    blocks = threading.Event()

    async def fetch() -> Mapping[str, str]:
        if blocks.is_set():
            let_go.wait(PATIENCE_S)  # what an async callable must not do, and some do
        return {"USD": "7"}

    # A heartbeat this long: the loop does not count as hanging before the fetch is given up.
    with cluster_of(asked("a", fetch, fetch_deadline_s=1.0), heartbeat_s=2.0) as cluster:
        broker = cluster.broker("a")
        assert broker.get_account_balance() == Decimal(7)
        blocks.set()
        assert broker.get_account_balance() == Decimal(7)
        assert broker.get_error_count() == 1
        assert "never ended" in broker.reading().detail
        assert broker.is_available(), "it is late, and not silent"
        blocks.clear()
        let_go.set()
        assert broker.get_account_balance() == Decimal(7)
        assert broker.get_error_count() == 0


def test_a_caller_with_little_time_gets_the_last_known_and_the_fetch_goes_on() -> None:
    till = Till()
    with cluster_of(asked("a", till, fetch_deadline_s=5.0)) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        till.hangs = True
        assert broker.get_account_balance(timeout_s=0.01) == Decimal(100)
        assert broker.get_error_count() == 0, "it has not ended yet, so it is no fault yet"
        assert till.stuck.wait(PATIENCE_S)
        assert broker.get_account_balance() == Decimal(100)
        assert broker.get_error_count() == 1


def test_the_waiting_call_refuses_a_running_event_loop_and_names_the_one_to_await() -> None:
    till = Till()

    async def trade() -> Decimal:
        with pytest.raises(BlockingCallInLoop, match=r"await broker\.fetch_balance"):
            broker.get_account_balance()
        return await broker.fetch_balance()

    with cluster_of(asked("a", till)) as cluster:
        broker = cluster.broker("a")
        assert asyncio.run(trade()) == Decimal(100)
        assert till.fetches == 1


def test_a_cancelled_await_counts_nothing_and_leaves_the_broker_alone() -> None:
    till = Till()
    till.hangs = True

    async def trade() -> None:
        waiting = asyncio.create_task(broker.fetch_balance())
        await asyncio.to_thread(till.stuck.wait, PATIENCE_S)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with cluster_of(asked("a", till, fetch_deadline_s=3.0)) as cluster:
        broker = cluster.broker("a")
        asyncio.run(trade())
        assert broker.get_error_count() == 0
        till.hangs = False
        with pytest.raises(BalanceUnknown):
            broker.get_account_balance()  # joins the hanging fetch, which ends as a fault
        assert broker.get_account_balance() == Decimal(100)


def test_polls_go_on_by_themselves_and_never_two_at_once() -> None:
    running = 0
    most = 0
    seen = threading.Event()
    fetches = 0

    async def fetch() -> Mapping[str, str]:
        nonlocal running, most, fetches
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.03)
        running -= 1
        fetches += 1
        if fetches >= 5:
            seen.set()
        return {"USD": "1"}

    with cluster_of(BrokerSpec("a", fetch=fetch, poll_interval_s=0.01)):
        assert seen.wait(PATIENCE_S)
    assert most == 1


@pytest.mark.parametrize(
    ("answer", "cash"),
    [
        ({"USD": "1.5", "USDT": 2, "BTC": Decimal("0.1")}, Decimal("3.5")),
        ({"USD": {"free": "1", "used": "2"}}, Decimal(1)),
        ({"USD": Holding(free=Decimal(3), used=Decimal(0), total=Decimal(3))}, Decimal(3)),
        ({"BTC": "1"}, Decimal(0)),
    ],
)
def test_an_own_callable_may_answer_in_any_exact_form(answer: Mapping[str, Any], cash: Decimal) -> None:
    with cluster_of(asked("a", Till(answer))) as cluster:
        assert cluster.broker("a").get_account_balance() == cash


def test_an_own_callable_that_names_no_currency_is_not_believed_at_once_but_where_the_operator_says_so() -> (
    None
):
    confirmed = BrokerSpec("a", fetch=Till({}), poll_interval_s=ONLY_WHEN_ASKED, allow_empty=True)
    with cluster_of(confirmed, asked("b", Till({}))) as cluster:
        assert cluster.broker("a").get_account_balance() == 0
        for _ in range(4):
            with pytest.raises(BalanceUnknown, match="empty, confirming"):
                cluster.broker("b").get_account_balance()
        reading = cluster.broker("b").reading()
        assert (reading.error_count, reading.fault, reading.cash) == (0, None, None)


def test_a_currency_that_is_not_stated_any_more_makes_the_cash_unknown_and_never_less() -> None:
    till = Till({"USD": "5", "USDT": "7", "BTC": "2"})
    with cluster_of(asked("a", till)) as cluster:
        broker = cluster.broker("a")
        assert broker.get_account_balance() == 12
        till.balance = {"USD": "5", "USDT": "7"}
        assert broker.get_account_balance() == 12
        assert broker.reading().detail == "not stated any more, as last known: 2 BTC"
        till.balance = {"USD": "5"}
        with pytest.raises(BalanceUnknown, match="not stated any more, as last known: 2 BTC, 7 USDT"):
            broker.get_account_balance()
        reading = broker.reading()
        assert (reading.available, reading.cash, reading.error_count) == (True, None, 0)
        usdt = broker.get_account_balance_detailed().holdings["USDT"]
        assert (usdt.total, usdt.free, usdt.used) == (Decimal(7), None, None)
        assert usdt.unstated_since_us == reading.as_of_us
        till.balance = {"USD": "5", "USDT": "6", "BTC": "0"}
        assert broker.get_account_balance() == 11
        assert broker.reading().detail == ""


def test_what_can_be_spent_of_one_currency_is_answered_and_the_cash_says_what_it_is_made_of() -> None:
    till = Till({"USD": "100", "USDT": "5000", "BTC": {"free": "1", "used": "2"}})
    with cluster_of(asked("a", till)) as cluster:
        broker = cluster.broker("a")
        assert broker.get_account_balance() == 5100
        free = {code: broker.free(code) for code in ("USD", "USDT", "BTC", "DOGE")}
        assert free == {"USD": Decimal(100), "USDT": Decimal(5000), "BTC": Decimal(1), "DOGE": Decimal(0)}
        for code in ("btc", "XBT", "xbt", "XXBT"):
            assert broker.free(code) == 1, "another spelling is no false zero"
        for wrong in ("", " USD", "BTC/USD", "U\u200bSD"):
            with pytest.raises(InvalidSymbol, match="expected one currency, such as USD"):
                broker.free(wrong)
        assert asyncio.run(broker.aio.free("USD")) == 100
        reading = broker.reading()
        assert reading.cash_unit == "USD"
        assert reading.cash_parts == {"USD": Decimal(100), "USDT": Decimal(5000)}
        till.failure = ConnectionError("down")
        assert broker.free("USD") == 100, "the last known"


def test_a_zero_is_answered_as_one_that_can_be_printed() -> None:
    with cluster_of(asked("a", Till({"USD": "0.00000000", "BTC": "0E-10"}))) as cluster:
        broker = cluster.broker("a")
        answers = (broker.get_account_balance(), broker.free("USD"), broker.free("BTC"))
        assert [str(answer) for answer in answers] == ["0", "0", "0"]


def test_what_can_be_spent_is_unknown_and_not_zero_where_it_is_not_stated() -> None:
    till = Till({"USD": "100", "BTC": "2"})
    with cluster_of(asked("a", till)) as cluster:
        broker = cluster.broker("a")
        till.failure = ConnectionError("down")
        with pytest.raises(BalanceUnknown, match="never answered"):
            broker.free("USD")
        till.failure = None
        assert broker.free("BTC") == 2
        till.balance = {"USD": "100"}
        with pytest.raises(BalanceUnknown, match="does not state how much BTC is free"):
            broker.free("BTC")
        assert broker.free("USD") == 100


def test_a_snapshot_that_was_observed_begins_the_doubt_too() -> None:
    with cluster_of(asked("a", Till({"USD": "5", "BTC": "2"}))) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        broker.observe({"BTC": "3"})
        until(lambda: broker.reading().cash is None)
        held = broker.reading().balance
        assert held is not None
        assert (held["USD"].total, held["USD"].free, held["BTC"].free) == (Decimal(5), None, Decimal(3))


def test_cash_that_is_not_stated_is_unknown_and_a_coin_that_is_not_stated_leaves_the_cash() -> None:
    coin = {"USD": "5", "BTC": Holding(free=None, used=None, total=Decimal(2))}
    till = Till(coin)
    with cluster_of(asked("a", till)) as cluster:
        broker = cluster.broker("a")
        assert broker.get_account_balance() == Decimal(5)
        assert "how much is free of BTC (" in broker.reading().detail
        till.balance = {**coin, "USDT": Holding(free=None, used=None, total=Decimal(7))}
        with pytest.raises(BalanceUnknown, match="how much of its cash is free is unknown, not zero"):
            broker.get_account_balance()
        assert broker.is_available(), "its total was read"
        assert broker.reading().cash is None
        detailed = broker.get_account_balance_detailed()
        assert (detailed.cash, detailed.held) == (None, None)
        assert detailed.holdings["USDT"].total == Decimal(7)


@pytest.mark.parametrize(
    "answer", [None, [], "100", {"USD": 1.5}, {"USD": "NaN"}, {"USD": None}, {"USD": {"used": "1"}}, {1: "2"}]
)
def test_an_own_callable_that_answers_anything_else_is_a_fault(answer: Any) -> None:
    async def fetch() -> Any:
        return answer

    with cluster_of(asked("a", fetch)) as cluster:
        with pytest.raises(BalanceUnknown):
            cluster.broker("a").get_account_balance()
        assert cluster.broker("a").reading().fault is FaultKind.BAD_RESPONSE


def test_money_in_another_unit_is_named_and_not_counted() -> None:
    with cluster_of(asked("a", Till({"EUR": "5000.50", "USD": "0", "BTC": "1"}))) as cluster:
        broker = cluster.broker("a")
        assert broker.get_account_balance() == 0
        assert broker.reading().detail == "5,000.5 EUR not counted"


def test_the_reading_says_how_long_the_newest_answer_took() -> None:
    driven = Driven()
    took = [driven.reading.answer_ms]
    asked_at = driven.balance()
    driven.hear(Observed(asked_at, dated=True), after_s=0.25)
    took.append(driven.reading.answer_ms)
    driven.hear(Observed(Fault(FaultKind.NETWORK), dated=True), after_s=9.0)
    driven.hear(Observed(asked_at, dated=False))
    took.append(driven.reading.answer_ms)
    assert took == [None, 250, 250], "neither a failure nor an answer without a moment tells it"


def test_ages_grow_while_nobody_does_anything() -> None:
    with cluster_of(asked("a", Till())) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        reading = broker.reading()
        ages: list[int] = []
        while len(ages) < 3:
            age_ms = reading.age_ms
            assert age_ms is not None
            if not ages or age_ms > ages[-1]:
                ages.append(age_ms)
        assert reading.as_of is not None
        assert ages == sorted(ages)


def test_each_broker_has_its_own_threshold() -> None:
    till = Till()
    till.failure = ConnectionError("down")
    with cluster_of(
        asked("one", till, max_consecutive_errors=1), asked("five", till, max_consecutive_errors=5)
    ) as c:
        for name, needed in (("one", 1), ("five", 5)):
            broker = c.broker(name)
            for count in range(1, needed + 1):
                with pytest.raises(BalanceUnknown):
                    broker.get_account_balance()
                assert broker.is_available() == (count < needed)
            assert broker.reading().state is HealthState.UNAVAILABLE


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with (
        cluster_of(asked("kraken-main", Till())) as cluster,
        pytest.raises(UnknownBroker, match="kraken-main"),
    ):
        cluster.broker("kraken")


def test_two_brokers_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two brokers have this one"):
        cluster_of(asked("a", Till()), asked("a", Till()))


def test_before_the_start_and_after_the_stop_nobody_is_available() -> None:
    cluster = cluster_of(asked("a", Till()))
    broker = cluster.broker("a")
    assert not broker.is_available()
    assert broker.reading().reason is Reason.NEVER_SEEN
    with pytest.raises(ClusterStopped):
        broker.get_account_balance()
    with cluster:
        assert broker.is_available()
        assert broker.get_account_balance() == Decimal(100)
    assert not broker.is_available()
    assert broker.reading().cash == Decimal(100), "the last known is never forgotten"
    with pytest.raises(ClusterStopped):
        broker.get_account_balance()
    with pytest.raises(ClusterStopped, match="once"):
        cluster.start()


def test_a_stop_answers_those_who_wait() -> None:
    till = Till()
    with ThreadPoolExecutor(1) as pool:
        with cluster_of(asked("a", till, fetch_deadline_s=60.0)) as cluster:
            broker = cluster.broker("a")
            broker.get_account_balance()
            till.hangs = True
            waiting = pool.submit(broker.get_account_balance)
            assert till.stuck.wait(PATIENCE_S)
        assert waiting.result(PATIENCE_S) == Decimal(100)


def test_there_is_one_truth() -> None:
    till = Till()
    with cluster_of(asked("a", till), heartbeat_s=HEARTBEAT_S) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        till.failure = OSError("cut")
        for _ in range(4):
            broker.get_account_balance()
            assert broker.is_available() == broker.reading().available


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (BrokerSpec("a"), "brokers.a: expected exchange=, a ccxt id, or fetch="),
        (BrokerSpec("a", exchange="krakn"), "brokers.a.exchange: expected a ccxt id"),
        (BrokerSpec("a", exchange="okx"), "brokers.a.credentials: expected the api_key of okx"),
    ],
)
def test_a_broker_that_nobody_can_fetch_is_refused_at_the_start(spec: BrokerSpec, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        cluster_of(spec).start()


def test_a_listener_of_the_cluster_that_nobody_left_does_not_keep_it_from_stopping() -> None:
    cluster = cluster_of(asked("a", Till()))
    cluster.start()
    listener = cluster.listener()
    listener.start()
    cluster.stop()
    assert list(listener.changes(wait_s=0.01)) == []
    with pytest.raises(ClusterStopped):
        cluster.listener()


def test_a_process_that_ends_without_a_stop_ends_all_the_same() -> None:
    script = (
        "import brokerwatch\n"
        "async def fetch(): return {'USD': '1'}\n"
        "settings = brokerwatch.ClusterSettings(health_endpoint='tcp://127.0.0.1:*')\n"
        "cluster = brokerwatch.Cluster([brokerwatch.BrokerSpec('a', fetch=fetch)], settings)\n"
        "cluster.start()\n"
        "print(cluster.broker('a').get_account_balance())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    "values",
    [{"credentials": {"apiKey": "x"}}, {"labels": {"a": 1}}, {"labels": {1: "a"}}, {"poll_interval_s": 0}],
)
def test_a_spec_made_in_python_is_checked_like_one_from_a_file(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        BrokerSpec("a", exchange="kraken", **values)


def test_the_exported_number_is_the_one_that_a_new_broker_has() -> None:
    assert BrokerSpec("a").max_consecutive_errors == BROKER_MAX_CONSECUTIVE_ERRORS


@pytest.mark.parametrize("kind", [BalanceSeen, FetchFailed])
def test_an_outcome_is_a_heartbeat_as_well_and_only_the_one_of_its_own_heartbeat(
    kind: type[BrokerEvent],
) -> None:
    driven = Driven()
    fault = Observed(Fault(FaultKind.NETWORK, "down"))
    for _ in range(3):
        assert driven.hear(driven.seen() if kind is BalanceSeen else fault, 0.1) == [kind]
        assert driven.hear(Tick(), 0.9) == []
        for _ in range(2):
            assert driven.hear(Tick(), 1.0) == [BrokerAlive]
    assert driven.slot.reading.valid_until_s > driven.clock.up_s() + 4.0


def test_each_fault_of_a_fetch_is_counted_by_its_kind_and_what_is_no_fault_is_not() -> None:
    driven = Driven()
    for fault in (FaultKind.NETWORK, FaultKind.NETWORK, FaultKind.AUTH):
        driven.hear(Observed(Fault(fault, "down")))
    driven.hear(driven.seen())
    driven.hear(Called("trade", Fault(FaultKind.EXCHANGE_DOWN, "an order met no server")))
    assert driven.tally.faults.counts() == {"network": 2, "auth": 1}


def test_a_heartbeat_that_has_something_to_add_is_sent_whatever_was_said_before() -> None:
    driven = Driven()
    driven.hear(driven.seen())
    driven.hear(Called("trade", Fault(FaultKind.NETWORK, "an order met no server")))
    assert driven.hear(Tick(), 0.5) == [BrokerAlive], "what the orders met was not said yet"
    shut = Fault(FaultKind.RATE_LIMITED, "EGeneral:Temporary lockout", lockout_s=0.4)
    assert driven.hear(Observed(shut)) == [FetchFailed]
    assert driven.slot.reading.reason is Reason.LOCKED_OUT
    assert driven.hear(Tick(), 0.5) == [BrokerAlive], "the lockout has ended"
    assert driven.slot.reading.available


def test_a_currency_that_is_not_stated_is_asked_for_again_soon() -> None:
    driven = Driven(poll_interval_s=600.0, quiet_poll_interval_s=2_400.0)
    for _ in range(2):  # the first poll after a start comes at a random moment
        driven.hear(driven.seen())
    assert driven.waits_s[-1] == pytest.approx(600.0)
    other = Holding(free=Decimal(2), used=Decimal(0), total=Decimal(2))
    for _ in range(2):
        driven.hear(Observed(Balance(holdings={"BTC": other}, as_of=driven.clock.now())), 16.0)
        assert driven.waits_s[-1] == pytest.approx(CONFIRM_EVERY_S)
        assert driven.reading.cash is None
    driven.hear(Observed(Balance(holdings={"BTC": other}, as_of=driven.clock.now())), 16.0)
    assert driven.waits_s[-1] == pytest.approx(600.0)
    assert driven.reading.cash == 0
