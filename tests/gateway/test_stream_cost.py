"""What a connection costs while nothing happens: how often it wakes, what it sends, and what it shares."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import Any, Final

import aiohttp
import pytest

from brokerwatch.simulator import SimulatedOkx, serve
from tests.cluster.test_push import pushing
from tests.support.clusters import cluster_of, until
from tests.support.fast_account import FastAccount, Pipe
from tests.support.pro_bots import streams_of
from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop

MINUTE_S: Final = 60


def a_quiet_minute(exchange: str) -> Pipe:
    """The connection after a minute in which nothing changed, counted from its snapshot on."""
    found: list[Pipe] = []

    async def work(loop: PushedLoop) -> None:
        account = FastAccount(loop, exchange)
        account.has({"USDT": ("100", "0")})
        account.start()
        await asyncio.sleep(5.0)
        assert account.pipe is not None
        account.pipe.wakes, account.pipe.sent = 0, 0
        for _ in range(MINUTE_S):
            account.push(beats=True)
            await asyncio.sleep(1.0)
        found.append(account.pipe)
        assert account.streams.subscriptions == 1
        await account.stop()

    on_a_pushed_loop(work)
    return found[0]


@pytest.mark.parametrize(("exchange", "pings", "wakes"), [("kraken", 0, 62), ("okx", 40, 82)])
def test_a_quiet_connection_wakes_for_its_frames_alone(exchange: str, pings: int, wakes: int) -> None:
    """Kraken sends a heartbeat a second, so no answer has to be asked for; at OKX each ping has one."""
    pipe = a_quiet_minute(exchange)
    assert pipe.sent <= pings + 1
    assert pipe.wakes <= wakes


def test_all_connections_share_one_session_with_its_tls_context_and_are_not_compressed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[aiohttp.ClientSession, object]] = []
    contexts: list[object] = []
    connect, create = aiohttp.ClientSession.ws_connect, ssl.create_default_context

    def counted(self: aiohttp.ClientSession, *address: Any, **values: Any) -> Any:
        made.append((self, values["compress"]))
        return connect(self, *address, **values)

    def created(*values: Any, **named: Any) -> ssl.SSLContext:
        contexts.append(values)
        return create(*values, **named)

    exchange, count = SimulatedOkx(), 5
    keys = [exchange.credentials, *(exchange.add_account() for _ in range(count - 1))]
    with serve(exchange):
        specs = [
            replace(pushing(exchange), name=f"a{number}", credentials=each)
            for number, each in enumerate(keys)
        ]
        with cluster_of(replace(specs[0], push=False)) as cluster:
            until(lambda: cluster.reading("a0").balance)  # what one account without a stream makes
        monkeypatch.setattr(aiohttp.ClientSession, "ws_connect", counted)
        monkeypatch.setattr(ssl, "create_default_context", created)
        with cluster_of(*specs):
            until(lambda: streams_of(exchange).subscriptions >= count)
    assert len(made) >= count
    assert {compressed for _, compressed in made} == {0}
    assert len({id(session) for session, _ in made}) == 1
    assert len(contexts) <= 1
