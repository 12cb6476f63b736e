"""ccxt.pro beside our own streams: what its `watch_balance()` says, and what it is used for."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace
from typing import Any

import pytest

from brokerwatch.gateway import pro_stream, streams
from brokerwatch.messages.stream import StreamState
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx, serve
from tests.cluster.test_push import detail, marked, pushing, state, tally, total
from tests.support.clusters import cluster_of, until
from tests.support.desks import BALANCE_PATHS
from tests.support.pro_bots import plain, quiet, streams_of


def test_plain_watch_balance_loses_an_update_that_comes_while_no_call_waits() -> None:
    # P1
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})

    async def watch() -> tuple[Any, Any]:
        async with plain(exchange) as made:
            first = (await made.watch_balance())["total"]
            exchange.set_balance({"USDT": ("60", "0")})
            await made.fetch_time()  # the bot does something else, such as placing an order
            await asyncio.sleep(0.2)
            return dict(first), await quiet(made)

    with serve(exchange):
        assert asyncio.run(watch()) == ({"USDT": 100.0}, None), "the bot has 100, the truth is 60"


def test_plain_watch_balance_keeps_what_was_sold_while_it_was_not_connected() -> None:
    # P2
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0"), "BTC": ("1", "0")})

    async def watch() -> Any:
        async with plain(exchange) as made:
            await made.watch_balance()
            streams_of(exchange).cut()
            with pytest.raises(importlib.import_module("ccxt").NetworkError):
                await made.watch_balance()
            exchange.set_balance({"USDT": ("300", "0")})
            return (await made.watch_balance())["total"]

    with serve(exchange):
        found = asyncio.run(watch())
    assert (found["USDT"], found["BTC"]) == (300.0, 1.0)


def test_plain_watch_balance_gives_the_first_page_of_a_snapshot_as_the_balance() -> None:
    # P5
    exchange = SimulatedOkx()
    exchange.set_balance({"USDT": ("100", "0"), "BTC": ("1", "0")})
    streams_of(exchange).page_rows = 1

    async def watch() -> Any:
        async with plain(exchange) as made:
            return (await made.watch_balance())["total"]

    with serve(exchange):
        assert dict(asyncio.run(watch())) == {"USDT": 100.0}


def test_plain_watch_balance_waits_for_ever_where_the_exchange_refuses() -> None:
    # P6
    exchange = SimulatedKraken()
    streams_of(exchange).set_fault("refused")

    async def watch() -> Any:
        async with plain(exchange) as made:
            return await quiet(made, 1.0)

    with serve(exchange):
        assert asyncio.run(watch()) is None


def test_a_change_at_an_exchange_without_a_fold_asks_for_a_read_and_sets_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "STREAMS", {})
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})
    with serve(exchange), cluster_of(pushing(exchange)) as cluster:
        until(lambda: state(cluster) is StreamState.SUSPECT)
        before = exchange.calls_to(BALANCE_PATHS["kraken"])
        exchange.set_balance({"USDT": ("60", "0"), "BTC": ("2", "0")})
        until(lambda: total(cluster, "USDT") == 60 and total(cluster, "BTC") == 2)
        assert exchange.calls_to(BALANCE_PATHS["kraken"]) > before
        assert not marked(cluster.reading("a"))
        assert tally(cluster).pushes.counts()["amounts"] == 0
        streams_of(exchange).cut()
        until(lambda: tally(cluster).pushes.counts()["lost"] == 1)
        until(lambda: state(cluster) is StreamState.SUSPECT)
        streams_of(exchange).set_fault("black_hole")
        # It is said until the next connection begins, and again after each of them.
        until(lambda: "RequestTimeout" in detail(cluster))
        assert tally(cluster).pushes.counts()["lost"] >= 2
        assert cluster.reading("a").available


def test_the_streams_of_ccxt_pro_share_one_list_of_markets_one_session_and_one_tls_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []

    class Counted(pro_stream.ProStream):
        async def _instance(self, stumbled: asyncio.Future[None]) -> Any:
            made.append(await super()._instance(stumbled))
            return made[-1]

    monkeypatch.setattr(streams, "STREAMS", {})
    monkeypatch.setattr(streams, "ProStream", Counted)
    exchange, count = SimulatedKraken(), 4
    keys = [exchange.credentials, *(exchange.add_account() for _ in range(count - 1))]
    with serve(exchange):
        names = [f"a{number}" for number in range(count)]
        specs = [
            replace(pushing(exchange), name=name, credentials=key)
            for name, key in zip(names, keys, strict=True)
        ]
        with cluster_of(*specs) as cluster:
            until(lambda: streams_of(exchange).subscriptions >= count)
            until(lambda: all(cluster.reading(name).balance for name in names))
        assert exchange.calls_to("/0/public/AssetPairs") == 1
        assert exchange.calls_to("/0/public/Assets") == 1
        for shared in ("session", "ssl_context", "markets"):
            assert len({id(getattr(one, shared)) for one in made}) == 1, shared
        assert {one.options["compress"] for one in made} == {0}
