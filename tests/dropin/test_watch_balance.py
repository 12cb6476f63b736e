"""`watch_balance()` of a guarded instance of ccxt.pro, over websockets of simulated exchanges.

The numbers P1 to P10 are those of docs/push.md. tests/gateway/test_pro_stream.py shows what plain ccxt.pro
does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import pytest

from brokerwatch.dropin import feed, feeds, lent_instance
from brokerwatch.dropin.errors import Unproven
from brokerwatch.dropin.guard import guard
from brokerwatch.errors import BalanceUnknown, NotSupported
from brokerwatch.gateway import kept_stream
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.simulator.ccxt_config import ccxt_config
from tests.support.desks import BALANCE_PATHS
from tests.support.guarded_bots import ccxt_async
from tests.support.pro_bots import ccxt, guarded, plain, pro_instance, quiet, soon, streams_of, together, when

Story = Callable[[SimulatedExchange, Any], Awaitable[Any]]
WAYS: Final = ("kraken", "okx", "coinbase", "triggers")
"""Two exchanges with a fold of ours, one whose orders ask for reads, and one where ccxt.pro connects."""
KINDS: Final[dict[str, type[SimulatedExchange]]] = {
    "kraken": SimulatedKraken,
    "okx": SimulatedOkx,
    "coinbase": SimulatedCoinbase,
    "triggers": SimulatedKraken,
}
FRAMED: Final = ("kraken", "okx", "triggers")
"""Those whose frames state balances."""
every_way = pytest.mark.parametrize("way", WAYS)
with_balances = pytest.mark.parametrize("way", FRAMED)


@pytest.fixture
def exchange(way: str, monkeypatch: pytest.MonkeyPatch) -> SimulatedExchange:
    if way == "triggers":
        monkeypatch.setattr(feeds, "STREAMS", {})  # as at an exchange without a fold
    made = KINDS[way]()
    has(made, "100")
    return made


def has(exchange: SimulatedExchange, usdt: str, **more: str) -> None:
    """The account has so much. At Coinbase an order is told, since balances are not."""
    amounts = {"USDT": usdt, **more}
    exchange.set_balance({code: (amount, "0") for code, amount in amounts.items()})
    if exchange.ccxt_id == "coinbase" and streams_of(exchange).subscriptions:
        exchange.set_balance({"USD": ("100", "0"), **{code: (each, "0") for code, each in amounts.items()}})
        exchange.rest("BTC/USD", "buy", "0.001", "1000")


def run(exchange: SimulatedExchange, story: Story, **options: Any) -> Any:
    """Run a story with a guarded instance."""

    async def told() -> Any:
        async with guarded(exchange, **options) as safe:
            return await story(exchange, safe)

    with serve(exchange):
        return asyncio.run(told())


def has_sent_more(exchange: SimulatedExchange, than: int) -> bool:
    return streams_of(exchange).sent > than


def total(balance: dict[str, Any], code: str = "USDT") -> float:
    return float(balance["total"].get(code) or 0.0)


# --- what plain ccxt.pro does wrong ----------------------------------------------------------------------


@every_way
def test_an_update_that_comes_while_no_call_waits_is_given_to_the_next_one(
    exchange: SimulatedExchange,
) -> None:
    # P1
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        first = await soon(safe.watch_balance())
        sent = streams_of(exchange).sent
        has(exchange, "60")
        await when(lambda: streams_of(exchange).sent > sent)
        await safe.fetch_time()  # the bot does something else, such as placing an order
        return total(first), total(await soon(safe.watch_balance()))

    assert run(exchange, story) == (100.0, 60.0)


@with_balances
def test_of_many_updates_the_newest_is_returned(exchange: SimulatedExchange) -> None:
    # P1: of 500 updates a loop of plain calls is given two, and the last of them is not the newest.
    async def story(exchange: SimulatedExchange, safe: Any) -> list[float]:
        seen = [total(await soon(safe.watch_balance()))]

        async def loop() -> None:
            while seen[-1] != 0.5:
                seen.append(total(await soon(safe.watch_balance())))

        looping = asyncio.create_task(loop())
        for amount in range(99, -1, -1):
            has(exchange, str(amount) if amount else "0.5")
            await asyncio.sleep(0.01)
        await looping
        return seen

    seen = run(exchange, story)
    assert seen == sorted(seen, reverse=True), "none is older than the one before"
    assert seen[-1] == 0.5


@with_balances
def test_what_was_sold_while_the_connection_was_lost_is_gone(exchange: SimulatedExchange) -> None:
    # P2 and P3
    has(exchange, "100", BTC="1")

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        assert total(await soon(safe.watch_balance()), "BTC") == 1.0
        streams_of(exchange).set_fault("no_handshake", 1)
        streams_of(exchange).cut()
        exchange.set_balance({"USDT": ("300", "0"), "BTC": ("0", "0")})
        found = await when_total(safe, 300.0)
        return total(found, "BTC")

    assert run(exchange, story) == 0.0


async def when_total(safe: Any, usdt: float) -> Any:
    """Watch until there is so much, as a bot does that goes on after a NetworkError."""
    async with asyncio.timeout(20):
        while True:
            try:
                found = await safe.watch_balance()
            except ccxt.NetworkError:
                continue
            if total(found) == usdt:
                return found


def test_a_change_that_is_no_balance_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    # P4: what ccxt.pro makes of a frame is not looked at.
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})
    monkeypatch.setattr(feeds, "STREAMS", {})
    delta = (
        '{"channel":"balances","type":"update","data":[{"asset":"USDT","asset_class":"currency",'
        '"amount":-25,"balance":-25,"fee":0,"ledger_id":"L1","ref_id":"R1","type":"trade",'
        '"wallet_type":"spot","wallet_id":"main","timestamp":"2026-11-30T00:00:00Z"}],"sequence":2}'
    )

    async def unguarded() -> float:
        async with plain(exchange) as made:
            await soon(made.watch_balance())
            watching = asyncio.create_task(made.watch_balance())
            await asyncio.sleep(0)
            streams_of(exchange).send(delta)
            return total(await soon(watching))

    async def story(exchange: SimulatedExchange, safe: Any) -> float:
        await soon(safe.watch_balance())
        reads = exchange.calls_to(BALANCE_PATHS["kraken"])
        watching = asyncio.create_task(safe.watch_balance())
        streams_of(exchange).send(delta)
        await when(lambda: exchange.calls_to(BALANCE_PATHS["kraken"]) > reads)
        exchange.set_balance({"USDT": ("75", "0")})
        return total(await soon(watching))

    with serve(exchange):
        assert asyncio.run(unguarded()) == -25.0
    assert run(exchange, story) == 75.0


def test_a_snapshot_in_pages_is_returned_whole() -> None:
    # P5
    exchange = SimulatedOkx()
    exchange.set_balance({"USDT": ("100", "0"), "BTC": ("1", "0"), "ETH": ("2", "0")})
    streams_of(exchange).page_rows = 1

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        del exchange
        return dict((await soon(safe.watch_balance()))["total"])

    assert run(exchange, story) == {"USDT": 100.0, "BTC": 1.0, "ETH": 2.0}


@every_way
def test_a_stream_that_is_refused_raises_in_the_words_of_the_exchange_and_goes_on_raising(
    exchange: SimulatedExchange, way: str
) -> None:
    # P6: plain `watch_balance()` waits for ever.
    streams_of(exchange).set_fault("refused")

    async def story(exchange: SimulatedExchange, safe: Any) -> None:
        del exchange
        if way == "triggers":
            assert await soon(safe.watch_balance()), "its stream says nothing before the first change"
        for _ in range(2):
            with pytest.raises(BalanceUnknown, match="refused") as caught:
                await soon(safe.watch_balance())
            assert isinstance(caught.value, Unproven)
            assert isinstance(caught.value, ccxt.AuthenticationError), type(caught.value).__mro__
            assert caught.value.kind in ("auth", "permission")

    run(exchange, story)


@every_way
def test_after_a_refusal_a_good_key_is_served(exchange: SimulatedExchange, way: str) -> None:
    # P6: a second login on the same instance of ccxt.pro waits for ever.
    other = exchange.add_account(balance={"USDT": ("5", "0")})

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        streams_of(exchange).set_fault("refused", 1)
        if way == "triggers":
            assert await soon(safe.watch_balance()), "as above"
        with pytest.raises(ccxt.AuthenticationError):
            await soon(safe.watch_balance())
        safe.apiKey, safe.secret = other["api_key"], other["secret"]
        if "password" in other:
            safe.password = other["password"]
        return total(await soon(safe.watch_balance()))

    assert run(exchange, story) == 5.0


# Where frames have no numbers, a lost one is found by the next read: after 10 or 120 s.
@pytest.mark.parametrize(
    ("way", "fault"),
    [
        ("kraken", "drop"),
        *(
            (way, fault)
            for way in ("kraken", "okx", "triggers")
            for fault in ("garbage", "duplicate", "swap")
        ),
    ],
)
def test_what_happens_to_frames_on_their_way_changes_no_amount(
    exchange: SimulatedExchange, fault: str
) -> None:
    # P7, with a cut frame

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        streams_of(exchange).set_fault(fault, 1)
        has(exchange, "60", BTC="2")
        found = await when_total(safe, 60.0)
        return total(found, "BTC")

    assert run(exchange, story) == 2.0


@every_way
def test_what_orders_hold_is_stated(exchange: SimulatedExchange) -> None:
    # P8: at Kraken ccxt.pro states neither `free` nor `used`.
    exchange.set_balance({"USDT": ("70", "30")})

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        del exchange
        found = await soon(safe.watch_balance())
        return found["USDT"], found["free"]["USDT"], found["used"]["USDT"]

    row = {"free": 70.0, "used": 30.0, "total": 100.0}
    assert run(exchange, story) == (row, 70.0, 30.0)


@every_way
def test_a_connection_on_which_nothing_comes_any_more_is_noticed(exchange: SimulatedExchange) -> None:
    # P9: ccxt.pro notices it after 18 to 540 s.
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        made = streams_of(exchange).made
        streams_of(exchange).set_fault("black_hole")
        exchange.set_balance({"USDT": ("60", "0")})
        found = await when_total(safe, 60.0)
        await when(lambda: streams_of(exchange).made > made)
        return total(found)

    assert run(exchange, story) == 60.0


@every_way
def test_close_ends_every_connection_and_task_and_what_waits(exchange: SimulatedExchange) -> None:
    # P10
    async def story() -> int:
        async with guarded(exchange) as safe:
            await soon(safe.watch_balance())
            waiting = asyncio.create_task(safe.watch_balance())
            await asyncio.sleep(0)
            await safe.close()
            with pytest.raises(ccxt.ExchangeClosedByUser):
                await soon(waiting)
        await when(lambda: streams_of(exchange).connections == 0)
        return len(asyncio.all_tasks())

    with serve(exchange):
        assert asyncio.run(story()) == 1


# --- the line and its outages ----------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("abort", [False, True])
def test_a_cut_connection_is_read_about_at_once_and_raises_nothing(
    exchange: SimulatedExchange, abort: bool
) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        streams_of(exchange).cut(abort=abort)
        exchange.set_balance({"USDT": ("60", "0")})
        return total(await soon(safe.watch_balance()))

    assert run(exchange, story) == 60.0


@every_way
def test_a_stream_that_cannot_be_had_raises_a_network_error(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> None:
        await soon(safe.watch_balance())
        streams_of(exchange).set_fault("no_handshake")
        streams_of(exchange).cut()
        with pytest.raises(ccxt.NetworkError, match="stream cannot be had") as caught:
            await soon(safe.watch_balance())
        assert isinstance(caught.value, BalanceUnknown)
        streams_of(exchange).mend()
        has(exchange, "60")
        assert total(await when_total(safe, 60.0)) == 60.0

    run(exchange, story)


@pytest.mark.parametrize("way", ["kraken", "okx"])
def test_a_stream_is_led_to_no_other_server(exchange: SimulatedExchange) -> None:
    # Where it was led, it would send what it logs in with.
    asked: list[bytes] = []

    async def lead_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        path = asked[-1].split()[1].decode()
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {exchange.url}{path}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(lead_on, "127.0.0.1", 0)
        there = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        here = exchange.url.replace("http://", "ws://")
        urls = json.loads(json.dumps(ccxt_config(exchange)["urls"]).replace(here, there))
        async with server, guarded(exchange, {"urls": urls}) as safe:
            with pytest.raises(ccxt.NetworkError, match="redirects"):
                await soon(safe.watch_balance())

    with serve(exchange):
        asyncio.run(story())
    assert asked
    assert not streams_of(exchange).subscriptions


@every_way
def test_while_the_stream_cannot_be_had_the_last_known_is_served_with_its_mark(
    exchange: SimulatedExchange,
) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        first = await soon(safe.watch_balance())
        assert first["brokerwatch"]["stale"] is False
        streams_of(exchange).set_fault("no_handshake")
        streams_of(exchange).cut()
        found = await soon(safe.watch_balance())
        return total(found), found["brokerwatch"]["stale"], found["brokerwatch"]["fault"]

    assert run(exchange, story, last_known=True) == (100.0, True, "network")


@every_way
@pytest.mark.parametrize(
    ("fault", "kind"), [("http_502_html", "exchange_down"), ("empty_body", "bad_response")]
)
def test_an_answer_that_proves_nothing_raises(exchange: SimulatedExchange, fault: str, kind: str) -> None:
    path = BALANCE_PATHS[exchange.ccxt_id]

    async def story(exchange: SimulatedExchange, safe: Any) -> None:
        await soon(safe.watch_balance())
        exchange.set_fault(fault, path=path)
        has(exchange, "60")
        with pytest.raises(ccxt.NetworkError) as caught:
            await soon(safe.watch_balance())
        assert caught.value.kind == kind  # pyright: ignore[reportAttributeAccessIssue] - an Unproven
        exchange.mend()
        assert total(await when_total(safe, 60.0)) == 60.0

    run(exchange, story)


@every_way
def test_an_answer_that_proves_nothing_is_replaced_by_the_last_known_with_its_mark(
    exchange: SimulatedExchange,
) -> None:
    path = BALANCE_PATHS[exchange.ccxt_id]

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        exchange.set_fault("html_200", path=path)
        has(exchange, "60")
        stale = await soon(safe.watch_balance())
        mark = stale["brokerwatch"]
        assert (total(stale), mark["stale"], mark["error_count"]) == (100.0, True, 1)
        exchange.mend()
        fresh = await soon(safe.watch_balance())
        return total(fresh), fresh["brokerwatch"]["stale"]

    assert run(exchange, story, last_known=True) == (60.0, False)


@pytest.mark.parametrize("way", ["kraken", "okx"])
def test_an_answer_that_is_behind_the_stream_is_not_returned(exchange: SimulatedExchange) -> None:
    """A read that began after a frame, and does not have it yet: the exchange's own books are behind."""
    path = BALANCE_PATHS[exchange.ccxt_id]

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        has(exchange, "90")
        async with plain(exchange) as other:
            await other.fetch_balance()
            old = other.last_http_response
        has(exchange, "100")
        assert total(await soon(safe.watch_balance())) == 100.0
        exchange.set_answer(old, path=path, times=1)
        has(exchange, "60")
        reads = exchange.calls_to(path)
        found = await soon(safe.watch_balance())
        return total(found), exchange.calls_to(path) - reads

    assert run(exchange, story) == (60.0, 2)


# --- callers ---------------------------------------------------------------------------------------------


@every_way
def test_each_of_two_callers_is_given_each_state(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        async def loop() -> list[float]:
            seen: list[float] = []
            while not seen or seen[-1] != 60.0:
                seen.append(total(await soon(safe.watch_balance())))
            return seen

        first, second = asyncio.create_task(loop()), asyncio.create_task(loop())
        await when(lambda: streams_of(exchange).subscriptions)
        changed = asyncio.create_task(safe.watch_balance())
        await soon(changed)
        has(exchange, "60")
        seen = await first, await second
        return seen, total(await soon(safe.watch_balance()))

    assert run(exchange, story) == (([100.0, 60.0], [100.0, 60.0]), 60.0)


@every_way
def test_what_one_caller_changes_in_its_balance_is_not_in_that_of_another(
    exchange: SimulatedExchange,
) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        del exchange
        first, second = await soon(
            asyncio.gather(asyncio.create_task(one(safe)), asyncio.create_task(one(safe)))
        )
        first["total"]["USDT"] = first["USDT"]["total"] = -1.0
        return total(second), second["USDT"]["total"]

    async def one(safe: Any) -> Any:
        return await safe.watch_balance()

    assert run(exchange, story) == (100.0, 100.0)


@every_way
def test_a_caller_that_makes_a_task_of_each_call_is_one_caller(exchange: SimulatedExchange) -> None:
    """`asyncio.wait_for` does so. Else each call would return at once, with what the bot has already."""

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        first = await asyncio.wait_for(safe.watch_balance(), 20)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(safe.watch_balance(), 0.5)
        has(exchange, "60")
        (second,) = await asyncio.gather(asyncio.wait_for(safe.watch_balance(), 20))
        return total(first), total(second)

    assert run(exchange, story) == (100.0, 60.0)


@every_way
def test_a_call_that_is_cancelled_takes_nothing_from_the_next(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        given_up = asyncio.create_task(safe.watch_balance())
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await soon(safe.watch_balance())
        other = asyncio.create_task(safe.watch_balance())
        waiting = asyncio.create_task(safe.watch_balance())
        await asyncio.sleep(0)
        other.cancel()
        has(exchange, "60")
        return total(await soon(waiting))

    assert run(exchange, story) == 60.0


def test_two_accounts_of_one_exchange_are_two() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})
    keys = exchange.add_account(balance={"USDT": ("7", "0")})
    second = {"apiKey": keys["api_key"], "secret": keys["secret"]}

    async def story() -> Any:
        async with guarded(exchange) as one, guarded(exchange, second) as other:
            both = [total(await soon(one.watch_balance())), total(await soon(other.watch_balance()))]
            exchange.set_balance({"USDT": ("8", "0")}, account=keys["api_key"])
            both.append(total(await soon(other.watch_balance())))
            assert await quiet(one) is None
            return both

    with serve(exchange):
        assert asyncio.run(story()) == [100.0, 7.0, 8.0]


def test_a_feed_for_which_no_call_comes_ends_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "IDLE_S", 0.2)
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        await when(lambda: streams_of(exchange).connections == 0)
        exchange.set_balance({"USDT": ("60", "0")})
        return total(await soon(safe.watch_balance())), streams_of(exchange).made

    assert run(exchange, story) == (60.0, 2)


def test_nothing_is_read_while_no_call_waits() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        reads = exchange.calls_to(BALANCE_PATHS["kraken"])
        for amount in ("60", "61", "62"):
            sent = streams_of(exchange).sent
            exchange.set_balance({"USDT": (amount, "0")})
            await when(partial(has_sent_more, exchange, sent))
        await asyncio.sleep(0.5)
        assert exchange.calls_to(BALANCE_PATHS["kraken"]) == reads
        return total(await soon(safe.watch_balance()))

    assert run(exchange, story) == 62.0


# --- what cannot be promised -----------------------------------------------------------------------------


def test_params_are_refused_where_the_stream_is_that_of_one_account() -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> None:
        del exchange
        with pytest.raises(ccxt.NotSupported, match="takes no params") as caught:
            await safe.watch_balance({"type": "funding"})
        assert isinstance(caught.value, NotSupported)

    run(SimulatedOkx(), story)


def test_an_instance_without_ccxt_pro_is_refused_where_there_is_no_fold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "STREAMS", {})
    exchange = SimulatedKraken()

    async def story() -> None:
        safe = guard(ccxt_async.kraken(ccxt_config(exchange)))
        with pytest.raises(ccxt.NotSupported, match=r"needs an instance of ccxt\.pro"):
            await safe.watch_balance()
        await safe.close()

    with serve(exchange):
        asyncio.run(story())


def test_an_instance_without_keys_is_refused_as_ccxt_does() -> None:
    async def story() -> None:
        safe = guard(ccxt_async.kraken())
        with pytest.raises(ccxt.AuthenticationError, match="apiKey"):
            await safe.watch_balance()
        await safe.close()

    asyncio.run(story())


# --- what a hostile reviewer tried -----------------------------------------------------------------------


@every_way
def test_calls_of_one_task_that_wait_at_once_are_given_the_same(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        first = await soon(together(safe.watch_balance(), safe.watch_balance()))
        both = asyncio.create_task(together(safe.watch_balance(), safe.watch_balance()))
        await asyncio.sleep(0)
        has(exchange, "60")
        return [total(each) for each in (*first, *await soon(both))]

    assert run(exchange, story) == [100.0, 100.0, 60.0, 60.0]


@every_way
def test_a_call_that_is_cancelled_at_any_step_leaves_nothing_behind(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        for steps in range(40):
            call = asyncio.create_task(safe.watch_balance())
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        found = total(await soon(asyncio.create_task(one(safe))))
        has(exchange, "60")
        return found, total(await when_total(safe, 60.0))

    async def one(safe: Any) -> Any:
        return await safe.watch_balance()

    assert run(exchange, story) == (100.0, 60.0)


@every_way
def test_two_guards_of_one_instance_and_its_own_calls_do_not_meet(exchange: SimulatedExchange) -> None:
    async def story() -> Any:
        mine = pro_instance(exchange)
        async with guard(mine) as one, guard(mine) as other:
            all_of_them = await soon(
                together(one.watch_balance(), other.watch_balance(), mine.fetch_balance())
            )
            has(exchange, "60")
            calls = (one.watch_balance(), other.watch_balance(), mine.fetch_balance())
            return [total(each) for each in (*all_of_them, *await soon(together(*calls)))]

    with serve(exchange):
        assert asyncio.run(story()) == [100.0] * 3 + [60.0] * 3


@every_way
def test_the_owner_s_own_streams_and_caches_stay_as_they_were(exchange: SimulatedExchange) -> None:
    async def story() -> Any:
        mine = pro_instance(exchange)
        safe = guard(mine)
        before = {name: repr(mine.options[name]) for name in mine.options}
        try:
            await soon(safe.watch_balance())
            assert (mine.clients, mine.balance, mine.orders) == ({}, {}, None)
            return {name for name, each in before.items() if repr(mine.options[name]) != each}
        finally:
            await safe.close()

    with serve(exchange):
        assert asyncio.run(story()) <= {"lastNonce"}


def test_an_owner_that_closes_his_instance_himself_is_told_and_not_left_waiting() -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        mine = pro_instance(exchange)
        safe = guard(mine)
        await soon(safe.watch_balance())
        await mine.close()
        with pytest.raises(BalanceUnknown):
            await soon(safe.watch_balance())
        await safe.close()

    with serve(exchange):
        asyncio.run(story())


def test_another_event_loop_begins_anew() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})

    with serve(exchange):
        mine = pro_instance(exchange)
        safe = guard(mine)

        async def story() -> float:
            try:
                return total(await soon(safe.watch_balance()))
            finally:
                await mine.close()
                mine.closed_by_user = False
                mine.asyncio_loop = None

        assert asyncio.run(story()) == 100.0
        exchange.set_balance({"USDT": ("60", "0")})
        assert asyncio.run(story()) == 60.0


def test_a_balance_that_is_older_than_max_age_is_read_again_for_the_next_caller() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        # Counted here: the call that waits may be the one for which it is read again.
        reads = exchange.calls_to(BALANCE_PATHS["kraken"])
        await soon(quiet(safe, 2.2))
        other = asyncio.create_task(one(safe))
        found = await soon(other)
        return found["brokerwatch"]["age_ms"] < 2_000, exchange.calls_to(BALANCE_PATHS["kraken"]) > reads

    async def one(safe: Any) -> Any:
        return await safe.watch_balance()

    assert run(exchange, story, last_known=True, max_age_s=2.0) == (True, True)


def test_a_token_is_fetched_for_each_of_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy that asks for it outlives them: what it counts and keeps must not grow."""
    monkeypatch.setattr(lent_instance, "MAX_REQUESTS", 2)
    monkeypatch.setattr(kept_stream, "LONGEST_S", 0.01)
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        for _ in range(5):
            made = streams_of(exchange).subscriptions
            streams_of(exchange).cut()
            await when(partial(has_subscribed_more, exchange, made))
        exchange.set_balance({"USDT": ("60", "0")})
        return total(await soon(safe.watch_balance()))

    assert run(exchange, story) == 60.0


def has_subscribed_more(exchange: SimulatedExchange, than: int) -> bool:
    return streams_of(exchange).subscriptions > than


def test_what_follows_a_stream_and_ends_by_an_error_is_told_to_who_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USDT": ("100", "0")})

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await soon(safe.watch_balance())
        waiting = asyncio.create_task(safe.watch_balance())
        await asyncio.sleep(0)
        with monkeypatch.context() as broken:
            broken.setattr(feed.Feed, "_due_s", None)
            exchange.set_balance({"USDT": ("60", "0")})
            with pytest.raises(ccxt.ExchangeError):
                await soon(waiting)
        return total(await soon(safe.watch_balance()))

    assert run(exchange, story) == 60.0
    assert "has ended" in caplog.text
