"""The reserve of an API key's budget: what can wait never spends it. Against simulated exchanges."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from brokerwatch.actors.push_desk import GATHER_S
from brokerwatch.cluster.broker import requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.gateway.lane import Lane
from brokerwatch.orders import following
from brokerwatch.simulator import SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.cluster.test_key_watch import QUESTIONS, watched
from tests.cluster.test_push import PUSHING, has, is_subscribed, marked, pushing
from tests.orders.test_following import LOOK_PATHS, is_followed
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.desks import KINDS, Opened, rich

SLOW: Final[dict[str, Any]] = {"requests_per_s": 0.01, "read_funding": False}
"""A budget that does not come back while a test runs."""


def lane_of(cluster: Cluster, name: str) -> Lane:
    account = requests_of(cluster.broker(name)).account()
    return account.access.lane


def left(lane: Lane) -> float:
    """How many calls the key has left, counted as its exchange does."""
    use = lane._budget_use()  # pyright: ignore[reportPrivateUsage] - the metrics read the same
    return use.burst - use.used


def pass_time(seconds: float) -> None:
    until_s = time.monotonic() + seconds
    until(lambda: time.monotonic() > until_s)


@pytest.mark.parametrize("reserve", [3.0, 6.0])
@pytest.mark.parametrize("make", PUSHING)
def test_reads_after_a_push_leave_it(make: type[SimulatedExchange], reserve: float) -> None:
    exchange = make()
    exchange.set_balance({"USDT": ("100", "0")})
    few = {**SLOW, "request_burst": 10.0, "reserved_requests": reserve}
    with serve(exchange), cluster_of(pushing(exchange, **few)) as cluster:
        until(lambda: is_subscribed(cluster) and cluster.reading("a").balance)
        amounts = itertools.count(101)

        def spent() -> bool:
            exchange.set_balance({"USDT": (str(next(amounts)), "0")})
            return exchange.private_calls >= 10 - reserve

        until(spent)
        exchange.set_balance({"USDT": ("5", "0")})
        until(partial(has, cluster, 5))
        pass_time(2 * GATHER_S)  # by then it would be read
        assert exchange.private_calls == 10 - reserve
        assert marked(cluster.reading("a")) == {"USDT"}


def test_a_read_of_two_calls_leaves_it_after_both() -> None:
    exchange = SimulatedOkx()
    exchange.set_balance({"USDT": ("100", "0")})
    few = {**SLOW, "request_burst": 9.0, "read_funding": True}
    with serve(exchange), cluster_of(pushing(exchange, **few)) as cluster:
        until(lambda: exchange.private_calls >= 4)  # the first read, and that after the acknowledgement
        exchange.set_balance({"USDT": ("5", "0")})
        until(partial(has, cluster, 5))
        pass_time(2 * GATHER_S)
        assert exchange.private_calls == 4, "five of the nine are left, and a read takes two"


def test_two_accounts_of_one_key_leave_the_larger_reserve_together() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})
    few = {**SLOW, "request_burst": 15.0, "push": True, "poll_interval_s": 60.0}
    reserves = {"a": 2.0, "b": 6.0}
    names = tuple(reserves)

    def spec(name: str) -> BrokerSpec:
        return simulated_spec(exchange, name, reserved_requests=reserves[name], **few)

    with serve(exchange), cluster_of(spec("a"), spec("b")) as cluster:
        until(lambda: all(cluster.reading(name).balance for name in names))
        amounts = itertools.count(101)

        def spent() -> bool:
            exchange.set_balance({"USDT": (str(next(amounts)), "0")})
            return exchange.private_calls >= 9

        until(spent)
        exchange.set_balance({"USDT": ("5", "0")})
        until(lambda: all(marked(cluster.reading(name)) == {"USDT"} for name in names))
        pass_time(2 * GATHER_S)
        assert exchange.private_calls == 9


@pytest.mark.parametrize("reserve", [4.0, 8.0, 10.0])
@pytest.mark.parametrize("make", QUESTIONS)
def test_the_watch_of_the_key_leaves_it(
    make: type[SimulatedExchange], reserve: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="brokerwatch.cluster.key_watch")
    exchange = make()
    few = {**SLOW, "poll_interval_s": 60.0, "request_burst": 12.0, "reserved_requests": reserve}
    with serve(exchange), cluster_of(watched(exchange, **few)) as cluster:
        until(lambda: sum("was not looked at" in each.getMessage() for each in caplog.records) >= 3)
        # Of a burst of twelve it takes the half at most, whatever the reserve is.
        assert left(lane_of(cluster, "a")) >= max(reserve, 6.0)
        assert exchange.private_calls == min(12 - reserve, 6)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("reserve", [0.0, 14.0])
def test_following_orders_leaves_it(
    make: type[SimulatedExchange], reserve: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "FIRST_LOOK_S", 0.02)
    monkeypatch.setattr(following, "LONGEST_LOOK_S", 0.05)
    looked: list[float] = []
    look = following.OrderFollower._look  # pyright: ignore[reportPrivateUsage] - a look may ask nothing

    async def counted(self: following.OrderFollower, *order: object) -> None:
        await look(self, *order)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - passed on
        looked.append(left(self._access.lane))  # pyright: ignore[reportPrivateUsage] - its account's lane

    monkeypatch.setattr(following.OrderFollower, "_look", counted)
    exchange = rich(make())
    with Opened(exchange, request_burst=20.0, reserved_requests=reserve, **SLOW) as desk:
        exchange.fills_at_once = False
        desk.buy()
        until(lambda: len(looked) > 12)
        assert is_followed(desk)
        assert exchange.calls_to(LOOK_PATHS[exchange.ccxt_id])
        # Twenty calls, less the half that each look leaves; its own call comes after that.
        assert min(looked) >= max(reserve, 9.0)
        assert looked[-1] < max(reserve, 9.0) + 2.0, "it looked as long as it could"


@pytest.mark.parametrize("make", [SimulatedKraken])
def test_another_reserve_holds_after_a_reload(
    make: Callable[[], SimulatedExchange], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="brokerwatch.cluster.key_watch")
    exchange = make()
    few = {**SLOW, "request_burst": 30.0, "poll_interval_s": 60.0}
    with serve(exchange), cluster_of(watched(exchange, reserved_requests=30.0, **few)) as cluster:
        until(lambda: sum("was not looked at" in each.getMessage() for each in caplog.records) >= 3)
        before = exchange.private_calls
        cluster.replace(watched(exchange, reserved_requests=20.0, **few))
        until(lambda: exchange.private_calls > before)
