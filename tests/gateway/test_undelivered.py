"""What was written in the lane of a key with a term, and not delivered, never arrives later."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ccxt as blocking
import ccxt.async_support as ccxt
import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.gateway.http_sessions import Sessions
from brokerwatch.gateway.lease import ClaimOver, KeyLease, Lease, Term
from brokerwatch.gateway.owner_instance import borrow_async, borrow_sync
from brokerwatch.simulator import SimulatedKraken, serve
from tests.gateway.test_async_source import GOOD, stranger
from tests.support.own_instances import own

CALL_S = 1.5
APART = ("unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",)))


def _namespaces() -> str:
    """Why there can be no network namespaces of our own here; empty: there can."""
    if missing := [tool for tool in ("unshare", "nsenter", "ip") if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(
        [*APART, "ip", "link", "set", "lo", "up"],
        capture_output=True,
        check=False,
    )
    return tried.stderr.decode(errors="replace").strip()


CANNOT = _namespaces()


@pytest.mark.skipif(bool(CANNOT), reason=f"no network namespaces here: {CANNOT}")
@pytest.mark.parametrize(
    ("scheme", "whose", "way"),
    [
        ("https", "plain", "ends"),
        ("http", "term", "ends"),
        ("https", "term", "ends"),
        ("https", "term", "stands still"),
    ],
)
def test_a_request_that_was_written_while_the_line_was_cut_arrives_never(
    scheme: str, whose: str, way: str, tmp_path: Path
) -> None:
    """`plain`: without a term the kernel delivers it when the line is back, so the line was truly cut."""
    done = subprocess.run(
        [*APART, sys.executable, "-m", "tests.support.cut_line", str(tmp_path), scheme, whose, way],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["outcome"] == "RequestTimeout"
    if whose == "term":
        assert seen["left"] == [], "the kernel has nothing left that it could send again"
        assert seen["arrived"] == ["n1", "n3"]
    else:
        assert seen["left"]
        assert seen["arrived"] == ["n1", "n2", "n3"]


def options_of(connected: Any) -> tuple[bool, int]:
    """Whether a close drops what is left, and after how many ms the kernel gives up (0: by its own rule)."""
    linger = connected.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    return linger == b"\x01\0\0\0\0\0\0\0", connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def plain(library: Any) -> Any:
    """ccxt's class, whose annotations do not pass a strict check."""
    return library.kraken


def options(url: str) -> dict[str, Any]:
    return {
        "urls": {"api": {"private": url, "public": url}},
        "apiKey": "k",
        "secret": "c2VjcmV0",
        "enableRateLimit": False,
    }


@pytest.mark.parametrize("has_term", [True, False])
@pytest.mark.parametrize("whose", ["ours", "the owner's"])
def test_a_connection_forgets_what_was_not_delivered_only_in_a_lane_with_a_term(
    whose: str, has_term: bool
) -> None:
    async def ask(exchange: SimulatedKraken) -> tuple[bool, int]:
        loop, clock = Lease(), ManualClock()
        sessions, mine = Sessions(loop), own(exchange, ccxt)
        if whose == "the owner's":
            mine.verify = False  # he chose his own session
            mine.open()
        instance: Any = borrow_async(mine, sessions)
        instance.lease = KeyLease(loop, Term(float("inf"), CALL_S), clock) if has_term else loop
        await instance.privatePostBalanceEx()
        session = mine.session if whose == "the owner's" else instance.session
        [[held, *_]] = session.connector._conns.values()
        found = options_of(held[0].transport.get_extra_info("socket"))
        await mine.close()
        await sessions.close()
        return found

    exchange = SimulatedKraken()
    with serve(exchange):
        assert asyncio.run(ask(exchange)) == ((True, 1_500) if has_term else (False, 0))


@pytest.mark.parametrize("has_term", [True, False])
def test_so_does_one_of_a_call_that_blocks(has_term: bool) -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        mine = own(exchange)
        instance: Any = borrow_sync(mine)
        loop = Lease()
        instance.lease = KeyLease(loop, Term(float("inf"), CALL_S), ManualClock()) if has_term else loop
        instance.privatePostBalanceEx()
        [pool] = instance.session.get_adapter("http://").poolmanager.pools._container.values()
        connection = pool._get_conn()
        assert options_of(connection.sock) == ((True, 1_500) if has_term else (False, 0))
        pool._put_conn(connection)
        mine.session.close()


class Late:
    """A term that is too short for a write when the connection is there."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.term = Term(self.clock.up_s() + 10.0, CALL_S)
        self.lease = KeyLease(Lease(), self.term, self.clock)

    def after(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        def connected(*given: Any, **named: Any) -> Any:
            found = connect(*given, **named)
            self.clock.advance(9.0)
            return found

        return connected


def test_a_call_that_blocks_is_not_written_when_its_connection_took_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = Late()
    with stranger(200, GOOD) as (url, asked):
        mine: Any = plain(blocking)(options(url))
        instance: Any = borrow_sync(mine)
        instance.lease = late.lease
        pool = mine.session.get_adapter(url).poolmanager.connection_from_url(url)
        monkeypatch.setattr(pool.ConnectionCls, "connect", late.after(pool.ConnectionCls.connect))
        with pytest.raises(ClaimOver, match="claim"):
            instance.privatePostBalanceEx()
        mine.session.close()
    assert asked.asked == []


def test_a_call_through_the_owner_s_session_is_not_written_when_its_connection_took_too_long() -> None:
    late = Late()

    async def ask(url: str) -> None:
        sessions, mine = Sessions(Lease()), plain(ccxt)(options(url))
        mine.verify = False
        mine.open()
        create = mine.session.connector._create_connection

        async def slowly(*given: Any, **named: Any) -> Any:
            found = await create(*given, **named)
            late.clock.advance(9.0)
            return found

        mine.session.connector._create_connection = slowly
        instance: Any = borrow_async(mine, sessions)
        instance.lease = late.lease
        with pytest.raises(ClaimOver, match="claim"):
            await instance.privatePostBalanceEx()
        await mine.close()
        await sessions.close()

    with stranger(200, GOOD) as (url, asked):
        asyncio.run(ask(url))
    assert asked.asked == []
