"""The watch of the keys in a running cluster, against simulated exchanges over HTTP."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.key_watch import FIRST_PER_S, FIRST_S, first_s, interval_of
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import ConfigError
from brokerwatch.messages.key import KeyData, KeyWarning
from brokerwatch.simulator import (
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.plain_exchange import Route, plain_exchange

OFTEN_S: Final = 0.1
DAY_S: Final = 86_400.0
QUESTIONS: Final[dict[type[SimulatedExchange], str]] = {
    SimulatedKraken: "/0/private/GetApiKeyInfo",
    SimulatedCoinbase: "/api/v3/brokerage/key_permissions",
    SimulatedOkx: "/api/v5/account/config",
}
REFUSED_ADDRESS: Final = (
    '{"code":"50110","msg":"Your IP 203.0.113.7 is not included in your API key\'s IP whitelist.","data":[]}'
)


def watched(exchange: SimulatedExchange, **values: Any) -> BrokerSpec:
    chosen = {"poll_interval_s": 0.1, "requests_per_s": 1_000.0, "request_burst": 1_000.0, **values}
    return simulated_spec(exchange, "a", key_watch_interval_s=OFTEN_S, **chosen)


def key_when(cluster: Cluster, true: Callable[[KeyData], object]) -> KeyData:
    found: list[KeyData] = []

    def look() -> bool:
        key = cluster.reading("a").key
        if key is not None and true(key):
            found.append(key)
        return bool(found)

    until(look)
    return found[0]


def words(key: KeyData | None) -> list[str]:
    return [] if key is None else [str(each.word) for each in key.warnings]


@pytest.mark.parametrize("make", QUESTIONS)
def test_rights_that_change_at_the_exchange_are_told_and_change_no_health(
    make: type[SimulatedExchange], caplog: pytest.LogCaptureFixture
) -> None:
    exchange = make()
    with serve(exchange), cluster_of(watched(exchange)) as cluster, cluster.listener() as listener:
        key = key_when(cluster, lambda key: key.trade)
        assert (key.read, key.trade, key.withdraw, key.warnings) == (True, True, False, ())
        exchange.set_permissions({"query", "withdraw"})
        until(lambda: len(words(cluster.reading("a").key)) == 2)
        key = key_when(cluster, lambda key: key.withdraw)
        assert words(key) == [KeyWarning.CAN_WITHDRAW, KeyWarning.RIGHT_LOST]
        until(lambda: words(listener.reading("a").key) == words(key))
        exchange.set_permissions({"query", "trade"})
        until(lambda: words(cluster.reading("a").key) == [])
        reading = cluster.reading("a")
        assert (reading.available, reading.error_count, reading.fault) == (True, 0, None)
    told = [each.getMessage() for each in caplog.records if "its API key" in each.getMessage()]
    assert len(told) == 2, "each warning once, however often it is looked at"
    assert "a: its API key: it has gained the right to withdraw" in told


def test_no_question_of_the_watch_is_meant_to_be_refused() -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_of(watched(exchange)) as cluster:
        key_when(cluster, lambda key: key.read)
        until(lambda: exchange.calls_to(QUESTIONS[SimulatedKraken]) > 2)
        assert not exchange.calls_to("/0/private/WithdrawInfo")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (SimulatedKraken, "locked_out"),
        (SimulatedKraken, "rate_limited"),
        (SimulatedCoinbase, "bad_key"),
        (SimulatedOkx, "permission"),
        (SimulatedOkx, "http_500_json"),
    ],
)
def test_a_question_that_is_refused_counts_nowhere(make: type[SimulatedExchange], fault: str) -> None:
    exchange = make()
    exchange.set_fault(fault, path=QUESTIONS[make])
    with serve(exchange), cluster_of(watched(exchange)) as cluster:
        until(lambda: exchange.calls_to(QUESTIONS[make]) > 2)
        polls = exchange.private_calls
        until(lambda: exchange.private_calls > polls + 5)
        reading = cluster.reading("a")
        assert (reading.available, reading.error_count, reading.fault, reading.key) == (True, 0, None, None)
        assert reading.capabilities["read"].state == "ok"


def test_an_answer_to_the_watch_is_no_proof_of_health() -> None:
    exchange = SimulatedKraken()
    exchange.set_fault("http_500_json", path="/0/private/BalanceEx")
    with serve(exchange), cluster_of(watched(exchange)) as cluster:
        until(lambda: cluster.reading("a").error_count >= 3)
        before = exchange.calls_to(QUESTIONS[SimulatedKraken])
        until(lambda: exchange.calls_to(QUESTIONS[SimulatedKraken]) > before + 2)
        key_when(cluster, lambda key: key.read)
        reading = cluster.reading("a")
        assert not reading.available
        assert reading.error_count >= 3


def test_the_end_of_a_key_is_told_once_also_over_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = SimulatedKraken()
    exchange.key_ends_s = time.time() + 6.5 * DAY_S
    with serve(exchange):
        with cluster_of(watched(exchange), state=tmp_path) as cluster:
            first = key_when(cluster, lambda key: key.warnings)
            assert words(first) == [KeyWarning.ENDS_IN_7_DAYS]
            assert first.expires_us == int(exchange.key_ends_s) * 1_000_000
        exchange.set_fault("http_500_json", path=QUESTIONS[SimulatedKraken])
        with cluster_of(watched(exchange), state=tmp_path) as cluster:
            known = cluster.reading("a").key
            assert known is not None, "it is known before the exchange is asked"
            # The first cluster may have looked once more before it stopped.
            at_any_time = msgspec.structs.replace(known, checked_us=0)
            assert at_any_time == msgspec.structs.replace(first, checked_us=0)
            exchange.mend()
            later = key_when(cluster, lambda key: key.checked_us > known.checked_us)
            assert later.warnings == first.warnings
            exchange.key_ends_s = time.time() + 0.5 * DAY_S
            until(lambda: words(cluster.reading("a").key) == [KeyWarning.ENDS_IN_1_DAY])
    told = [each.getMessage() for each in caplog.records if "its API key" in each.getMessage()]
    assert len(told) == 2


@pytest.mark.parametrize("make", [SimulatedKraken, SimulatedOkx])
def test_our_address_is_looked_for_in_the_list_of_the_key(make: type[SimulatedExchange]) -> None:
    exchange = make()
    exchange.key_ip = "203.0.113.7,198.51.100.0/24"
    with (
        serve(exchange),
        cluster_of(watched(exchange), egress_address="198.51.100.4") as cluster,
    ):
        assert key_when(cluster, lambda key: key.address_bound).warnings == ()
        exchange.key_ip = "203.0.113.7"
        until(lambda: words(cluster.reading("a").key) == [KeyWarning.ADDRESS_NOT_LISTED])
        exchange.key_ip = ""
        until(lambda: words(cluster.reading("a").key) == [])
        assert key_when(cluster, lambda key: key.address_bound is False)


def test_the_exchanges_own_refusal_of_our_address_is_told_at_once() -> None:
    exchange = SimulatedOkx()
    with serve(exchange), cluster_of(watched(exchange)) as cluster:
        until(lambda: cluster.reading("a").available)
        exchange.set_answer(REFUSED_ADDRESS, status=401)
        until(lambda: words(cluster.reading("a").key) == [KeyWarning.ADDRESS_NOT_LISTED])
        exchange.mend()
        until(lambda: words(cluster.reading("a").key) == [])


def test_an_account_that_is_not_polled_is_not_asked_and_a_broker_has_its_own_interval() -> None:
    settings = ClusterSettings(key_watch_interval_s=7.0)
    polled = BrokerSpec("a", exchange="kraken")
    assert interval_of(polled, settings) == 7.0
    assert interval_of(BrokerSpec("a", poll_interval_s=math.inf), settings) == math.inf
    own = BrokerSpec("a", poll_interval_s=math.inf, key_watch_interval_s=9.0)
    assert interval_of(own, settings) == 9.0
    assert interval_of(BrokerSpec("a", key_watch_interval_s=math.inf), settings) == math.inf


@pytest.mark.parametrize(
    ("key", "value"),
    [("key_watch_interval_s", 0.0), ("key_watch_interval_s", math.nan), ("egress_address", "my-host")],
)
def test_settings_that_cannot_be_are_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"brokers\.a\.{key}"):
        BrokerSpec("a", **{key: value})
    with pytest.raises(ConfigError, match=rf"cluster\.{key}"):
        Cluster((), ClusterSettings(**{key: value}))


def test_the_watch_is_withdrawn_when_an_order_waits() -> None:
    exchange = SimulatedKraken()
    exchange.set_fault("hang", path=QUESTIONS[SimulatedKraken])
    patient = {"trading": True, "policy": "simple", "fetch_deadline_s": 60.0}
    with serve(exchange), cluster_of(watched(exchange, **patient)) as cluster:
        broker = cluster.broker("a")
        broker.get_all_products()
        until(lambda: exchange.calls_to(QUESTIONS[SimulatedKraken]) > 0)
        began_s = time.monotonic()
        order = broker.close_position("BTC/USD", base_amount=Decimal("0.001"), validate_only=False)
        assert order.order_id
        assert time.monotonic() - began_s < 30.0, "it did not wait for the deadline of the question"


def test_a_reload_changes_the_watch_and_leaves_the_others_alone() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        never = watched(exchange)
        with cluster_of(replace(never, key_watch_interval_s=math.inf)) as cluster:
            until(lambda: cluster.reading("a").available)
            cluster.replace(never)
            key_when(cluster, lambda key: key.read)
            cluster.replace(replace(never, egress_address="203.0.113.7"))
            until(lambda: words(cluster.reading("a").key) == [KeyWarning.ADDRESS_NOT_LISTED])
            cluster.remove("a")


# https://bybit-exchange.github.io/docs/v5/user/apikey-info
BYBIT: Final = {
    "retCode": 0,
    "retMsg": "",
    "time": 1,
    "result": {
        "apiKey": "k" * 32,
        "readOnly": 0,
        "permissions": {"Spot": ["SpotTrade"], "Wallet": ["Withdraw"]},
        "ips": ["*"],
        "expiredAt": "2020-05-15T03:21:05Z",
    },
}


ANSWERS: Final[dict[str, tuple[str, object, tuple[bool | None, ...], list[str]]]] = {
    "bybit": ("/v5/user/query-api", BYBIT, (True, True, True, False), ["can_withdraw", "ended"]),
    "binance": (
        "/account/apiRestrictions",
        {"ipRestrict": True, "enableReading": True, "enableWithdrawals": False, "createTime": 1698645219000,
         "enableSpotAndMarginTrading": True, "tradingAuthorityExpirationTime": 1628985600000},
        (True, True, False, True),
        ["ended"],
    ),
    "bitfinex": (
        "/auth/r/permissions",
        [["orders", 1, 1], ["wallets", 1, 0], ["withdraw", 1, 1]],
        (True, True, True, None),
        ["can_withdraw"],
    ),
    "gate": ("/account/detail", {"user_id": 7, "ip_whitelist": ["203.0.113.7"]},
             (None, None, None, True), []),
    "upbit": (
        "/api_keys",
        [{"access_key": "k" * 32, "expire_at": "2020-01-01T00:00:00+09:00"}],
        (None, None, None, None),
        ["ended"],
    ),
}  # fmt: skip
"""Exchange to its question, a documented answer, and what that states of read, trade, withdraw, address."""


@pytest.mark.parametrize("exchange", ANSWERS)
def test_an_exchange_that_only_ccxt_knows_is_asked_by_its_own_question(exchange: str) -> None:
    path, answer, stated, warnings = ANSWERS[exchange]
    routes: dict[str, Route] = {path: (200, answer)}
    with plain_exchange(exchange, routes, trading=False, key_watch_interval_s=OFTEN_S) as (server, cluster):
        until(lambda: cluster.reading("b").key is not None)
        key = cluster.reading("b").key
        assert key is not None
        assert (key.read, key.trade, key.withdraw, key.address_bound) == stated
        assert words(key) == warnings
        assert server.sent(path)
        assert cluster.reading("b").error_count == 0


def test_keys_that_come_together_are_asked_a_few_each_second() -> None:
    assert first_s(3_600.0, 1) == first_s(3_600.0, 50) == FIRST_S
    assert first_s(math.inf, 10_000) / 2 * FIRST_PER_S == 10_000, "in the second half of the time"
    assert first_s(OFTEN_S, 10_000) == OFTEN_S, "who wants it more often has it more often"
