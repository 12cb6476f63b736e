"""`watch_orders()` of a guarded instance of ccxt.pro, over websockets of simulated exchanges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import pytest

from brokerwatch.dropin import feeds, order_feed, order_log
from brokerwatch.dropin.errors import OrdersUnknown
from brokerwatch.dropin.guard import guard
from brokerwatch.errors import NotSupported
from brokerwatch.gateway import stream
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.simulator.ccxt_config import ccxt_config
from tests.support.guarded_bots import ccxt_async
from tests.support.pro_bots import ccxt, guarded, plain, soon, streams_of, together, when

Story = Callable[[SimulatedExchange, Any], Awaitable[Any]]
KINDS: Final[dict[str, type[SimulatedExchange]]] = {
    "kraken": SimulatedKraken,
    "okx": SimulatedOkx,
    "coinbase": SimulatedCoinbase,
    "triggers": SimulatedOkx,
}
ORDER_PATHS: Final = {
    "kraken": "/0/private/QueryOrders",
    "okx": "GET /api/v5/trade/order",
    "coinbase": "/api/v3/brokerage/orders/historical/{order_id}",
}
OPEN_PATHS: Final = {
    "kraken": "/0/private/OpenOrders",
    "okx": "/api/v5/trade/orders-pending",
    "coinbase": "/api/v3/brokerage/orders/historical/batch",
}
every_way = pytest.mark.parametrize("way", KINDS)
with_fold = pytest.mark.parametrize("way", ["kraken", "okx", "coinbase"])


@pytest.fixture
def exchange(way: str, monkeypatch: pytest.MonkeyPatch) -> SimulatedExchange:
    if way == "triggers":
        monkeypatch.setattr(feeds, "ORDER_STREAMS", {})  # as at an exchange without a fold
    return funded(KINDS[way]())


def funded(exchange: SimulatedExchange) -> SimulatedExchange:
    exchange.set_balance({"USDT": ("100000", "0"), "USD": ("100000", "0")})
    return exchange


def symbol(exchange: SimulatedExchange, base: str = "BTC") -> str:
    return f"{base}/{'USD' if exchange.ccxt_id == 'coinbase' else 'USDT'}"


def rest(exchange: SimulatedExchange, base: str = "BTC") -> str:
    return exchange.rest(symbol(exchange, base), "buy", "0.01", "1000")


def states(orders: Iterable[dict[str, Any]]) -> list[tuple[str, str, float]]:
    return [(order["id"], order["status"], order["filled"]) for order in orders]


def run(exchange: SimulatedExchange, story: Story, **options: Any) -> Any:
    """Run a story with a guarded instance."""

    async def told() -> Any:
        async with guarded(exchange, **options) as safe:
            return await story(exchange, safe)

    with serve(exchange):
        return asyncio.run(told())


async def begun(exchange: SimulatedExchange, safe: Any) -> str:
    """Watch one order that rests; returns its id."""
    order_id = rest(exchange)
    assert states(await soon(safe.watch_orders())) == [(order_id, "open", 0.0)]
    subscribed = streams_of(exchange)
    await when(lambda: subscribed.subscriptions)
    return order_id


async def next_states(safe: Any, *arguments: Any) -> list[tuple[str, str, float]]:
    """As a bot does that goes on after a NetworkError."""
    async with asyncio.timeout(30):
        while True:
            try:
                return states(await safe.watch_orders(*arguments))
            except ccxt.NetworkError:
                continue


# --- what changes ----------------------------------------------------------------------------------------


def test_plain_watch_orders_loses_a_fill_at_kraken_and_one_that_comes_while_no_call_waits() -> None:
    lost: dict[str, Any] = {}
    for kind in (SimulatedKraken, SimulatedOkx):
        exchange = funded(kind())

        async def watch(exchange: SimulatedExchange) -> Any:
            async with plain(exchange) as made:
                first = asyncio.create_task(made.watch_orders())
                await when(lambda: streams_of(exchange).subscriptions)
                order_id = rest(exchange)
                await soon(first)
                sent = streams_of(exchange).sent
                exchange.fill_order(order_id)
                await when(lambda: streams_of(exchange).sent > sent)
                await made.fetch_time()  # the bot does something else
                try:
                    async with asyncio.timeout(0.5):
                        return await made.watch_orders()
                except TimeoutError:
                    return None

        with serve(exchange):
            lost[exchange.ccxt_id] = asyncio.run(watch(exchange))
    assert lost == {"kraken": None, "okx": None}


@every_way
def test_each_change_of_an_order_is_returned_whole(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = await begun(exchange, safe)
        exchange.fill_order(order_id, "0.004")
        (part,) = await soon(safe.watch_orders())
        exchange.fill_order(order_id)
        (whole,) = await soon(safe.watch_orders())
        fetched = await safe.fetch_order(order_id, symbol(exchange))
        assert {name: whole[name] for name in fetched if name != "info"} == {
            name: each for name, each in fetched.items() if name != "info"
        }
        return order_id, states([part, whole])

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "open", 0.004), (order_id, "closed", 0.01)]


@every_way
def test_what_changes_while_no_call_waits_is_given_to_the_next_one(exchange: SimulatedExchange) -> None:
    # P1
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        first = await begun(exchange, safe)
        sent = streams_of(exchange).sent
        exchange.fill_order(first)
        second = rest(exchange)
        third = rest(exchange)
        exchange.fill_order(third)
        await when(lambda: streams_of(exchange).sent >= sent + 3)
        await safe.fetch_time()
        found: set[Any] = set()
        while len(found) < 3:
            found |= set(await next_states(safe))
        return found == {(first, "closed", 0.01), (second, "open", 0.0), (third, "closed", 0.01)}

    assert run(exchange, story)


@every_way
def test_nothing_that_happens_while_the_connection_is_lost_is_missed(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        before = await begun(exchange, safe)
        streams = streams_of(exchange)
        streams.set_fault("no_handshake")
        streams.cut()
        await when(lambda: streams.connections == 0)
        exchange.fill_order(before)
        unseen = rest(exchange)  # placed and filled, and in no list of what is open
        exchange.fill_order(unseen)
        there = rest(exchange)
        streams.mend()
        found: set[Any] = set()
        while len(found) < 3:
            found |= set(await next_states(safe))
        return found == {(before, "closed", 0.01), (unseen, "closed", 0.01), (there, "open", 0.0)}

    assert run(exchange, story)


@pytest.mark.parametrize("way", ["kraken"])
@pytest.mark.parametrize("fault", ["drop", "swap", "duplicate", "garbage"])
def test_what_happens_to_frames_on_their_way_loses_no_order(exchange: SimulatedExchange, fault: str) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        first = await begun(exchange, safe)
        streams_of(exchange).set_fault(fault, 1)
        exchange.fill_order(first)
        second = rest(exchange)
        exchange.fill_order(second)
        found: set[Any] = set()
        while not {(first, "closed", 0.01), (second, "closed", 0.01)} <= found:
            found |= set(await next_states(safe))
        return True

    assert run(exchange, story)


@every_way
def test_no_order_goes_back(exchange: SimulatedExchange) -> None:
    """The frame says that it is filled, and the exchange's own list is behind."""

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = await begun(exchange, safe)
        async with plain(exchange) as other:
            await other.fetch_order(order_id, symbol(exchange))
            old = other.last_http_response
        path = ORDER_PATHS[exchange.ccxt_id].removeprefix("GET ")
        exchange.set_answer(old, path=path, times=1)
        exchange.fill_order(order_id)
        return order_id, states(await soon(safe.watch_orders()))

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "closed", 0.01)]


@every_way
def test_an_order_that_is_cancelled_is_returned(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = await begun(exchange, safe)
        await safe.cancel_order(order_id, symbol(exchange))
        return order_id, states(await soon(safe.watch_orders()))

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "canceled", 0.0)]


def test_without_a_fold_a_change_that_ccxt_does_not_tell_is_found_by_the_next_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "ORDER_STREAMS", {})
    monkeypatch.setattr(order_feed, "EVERY_S", 0.5)
    exchange = funded(SimulatedKraken())

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = await begun(exchange, safe)
        exchange.fill_order(order_id)  # to ccxt.pro a fill at Kraken is no change of an order
        return order_id, states(await soon(safe.watch_orders()))

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "closed", 0.01)]


# --- what goes wrong -------------------------------------------------------------------------------------


@with_fold
def test_a_stream_that_is_refused_raises(exchange: SimulatedExchange) -> None:
    streams_of(exchange).set_fault("refused")

    async def story(exchange: SimulatedExchange, safe: Any) -> None:
        del exchange
        for _ in range(2):
            with pytest.raises(OrdersUnknown, match="refused") as caught:
                await soon(safe.watch_orders())
            assert isinstance(caught.value, ccxt.AuthenticationError)

    run(exchange, story)


@every_way
def test_a_stream_that_cannot_be_had_raises_a_network_error(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> None:
        await begun(exchange, safe)
        streams_of(exchange).set_fault("no_handshake")
        streams_of(exchange).cut()
        with pytest.raises(ccxt.NetworkError, match="stream cannot be had") as caught:
            await soon(safe.watch_orders())
        assert isinstance(caught.value, OrdersUnknown)

    run(exchange, story)


@every_way
@pytest.mark.parametrize("fault", ["http_502_html", "empty_body", "cut_json"])
def test_an_answer_that_proves_nothing_raises_and_loses_nothing(
    exchange: SimulatedExchange, fault: str
) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = await begun(exchange, safe)
        exchange.set_fault(fault)
        exchange.fill_order(order_id)
        with pytest.raises(ccxt.NetworkError) as caught:
            await soon(safe.watch_orders())
        assert isinstance(caught.value, OrdersUnknown)
        exchange.mend()
        return order_id, await next_states(safe)

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "closed", 0.01)]


@every_way
def test_a_list_that_is_broken_at_the_beginning_is_not_an_empty_one(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = rest(exchange)
        exchange.set_fault("html_200", path=OPEN_PATHS[exchange.ccxt_id])
        with pytest.raises(ccxt.NetworkError):
            await soon(safe.watch_orders())
        exchange.mend()
        return order_id, await next_states(safe)

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "open", 0.0)]


# --- callers ---------------------------------------------------------------------------------------------


@every_way
def test_a_call_that_is_cancelled_takes_nothing_from_the_next(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = await begun(exchange, safe)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(safe.watch_orders(), 0.3)
        given_up = asyncio.create_task(safe.watch_orders())
        await asyncio.sleep(0)
        exchange.fill_order(order_id)
        given_up.cancel()
        return order_id, states(await soon(safe.watch_orders()))

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "closed", 0.01)]


@every_way
def test_each_of_two_callers_is_given_each_change(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        async def loop() -> list[Any]:
            seen = await next_states(safe)
            while seen[-1][1] != "closed":
                seen += await next_states(safe)
            return seen

        order_id = rest(exchange)
        both = [asyncio.create_task(loop()) for _ in range(2)]
        await next_states(safe)
        exchange.fill_order(order_id)
        expected = [(order_id, "open", 0.0), (order_id, "closed", 0.01)]
        return [await task == expected for task in both]

    assert run(exchange, story) == [True, True]


@every_way
def test_a_symbol_gives_the_orders_of_its_market_alone(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        rest(exchange, "ETH")
        order_id = rest(exchange)
        seen = await next_states(safe, symbol(exchange))
        exchange.fill_open_orders()
        return order_id, seen + await next_states(safe, symbol(exchange))

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "open", 0.0), (order_id, "closed", 0.01)]


@every_way
def test_a_limit_loses_nothing_and_since_leaves_older_ones_out(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        ids = {rest(exchange) for _ in range(3)}
        seen = [await next_states(safe, None, None, 2), await next_states(safe, None, None, 2)]
        later_ms = round((time.time() + 3_600) * 1_000)
        exchange.fill_open_orders()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await safe.watch_orders(None, later_ms)
        return [len(each) for each in seen], {each[0] for page in seen for each in page} == ids

    assert run(exchange, story) == ([2, 1], True)


def test_two_accounts_of_one_exchange_are_two() -> None:
    exchange = funded(SimulatedKraken())
    keys = exchange.add_account(balance={"USDT": ("100000", "0")})
    second = {"apiKey": keys["api_key"], "secret": keys["secret"]}

    async def story() -> Any:
        async with guarded(exchange) as one, guarded(exchange, second) as other:
            first = rest(exchange)
            theirs = exchange.rest("BTC/USDT", "buy", "0.02", "1000", account=keys["api_key"])
            return [await next_states(one), await next_states(other)] == [
                [(first, "open", 0.0)],
                [(theirs, "open", 0.0)],
            ]

    with serve(exchange):
        assert asyncio.run(story())


# --- what cannot be promised -----------------------------------------------------------------------------


@with_fold
def test_params_are_refused_whose_orders_are_not_in_the_lists(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> None:
        del exchange
        with pytest.raises(ccxt.NotSupported, match="takes no params trigger") as caught:
            await safe.watch_orders(None, None, None, {"trigger": True})
        assert isinstance(caught.value, NotSupported)

    run(exchange, story)


@every_way
def test_a_market_that_does_not_exist_is_refused_as_ccxt_does(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> None:
        del exchange
        with pytest.raises(ccxt.BadSymbol):
            await soon(safe.watch_orders("NONE/SUCH"))
        with pytest.raises(ValueError, match="limit is 0"):
            await safe.watch_orders(None, None, 0)

    run(exchange, story)


@pytest.mark.parametrize("missing", ["watchOrders", "fetchOpenOrders", "fetchOrder", "fetchClosedOrders"])
def test_an_exchange_that_does_not_list_its_orders_is_refused_at_the_call(missing: str) -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        async with guarded(exchange) as safe:
            safe.has[missing] = False
            with pytest.raises(ccxt.NotSupported, match=f"has no {missing}"):
                await safe.watch_orders()

    with serve(exchange):
        asyncio.run(story())


def test_an_exchange_that_lists_ended_orders_by_market_needs_a_symbol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "ORDER_STREAMS", {})
    exchange = funded(SimulatedOkx())
    listed = ccxt_async.okx.fetch_closed_orders

    async def by_market(self: Any, symbol: Any = None, *arguments: Any) -> Any:
        if symbol is None:
            raise ccxt.ArgumentsRequired("okx fetchClosedOrders() requires a symbol argument")
        return await listed(self, symbol, *arguments)

    monkeypatch.setattr(ccxt_async.okx, "fetch_closed_orders", by_market)

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = rest(exchange)
        with pytest.raises(ccxt.NotSupported, match="needs a symbol here"):
            await soon(safe.watch_orders())
        return order_id, await next_states(safe, "BTC/USDT")

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "open", 0.0)]


def test_an_instance_without_ccxt_pro_is_refused() -> None:
    exchange = SimulatedKraken()

    async def story() -> None:
        safe = guard(ccxt_async.kraken(ccxt_config(exchange)))
        with pytest.raises(ccxt.NotSupported, match="watchOrders"):
            await safe.watch_orders()
        await safe.close()

    with serve(exchange):
        asyncio.run(story())


# --- what a hostile reviewer tried -----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["kraken"])
@pytest.mark.parametrize("words", ["EOrder:Invalid order", "EGeneral:Invalid arguments"])
def test_an_order_that_cannot_be_read_is_told_once_and_keeps_no_other_back(
    exchange: SimulatedExchange, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_log, "GRACE_S", 0.5)

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        await begun(exchange, safe)
        exchange.set_answer(f'{{"error":["{words}"]}}', path=ORDER_PATHS["kraken"])
        exchange.fill_open_orders()
        said = await told(safe)
        exchange.mend()
        second = rest(exchange)
        return said, second, await next_states(safe)

    async def told(safe: Any) -> str:
        while True:
            try:
                await soon(safe.watch_orders())
            except ccxt.NetworkError as error:
                return str(error)
            except OrdersUnknown:
                continue  # it may be read yet

    said, second, seen = run(exchange, story)
    assert "cannot be read" in said
    assert words in said
    assert seen == [(second, "open", 0.0)]


@with_fold
def test_a_subscription_that_is_never_answered_raises(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ACCEPT_S", 0.3)
    streams_of(exchange).set_fault("deaf")

    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        with pytest.raises(ccxt.NetworkError, match="did not come"):
            await soon(safe.watch_orders())
        streams_of(exchange).mend()
        order_id = rest(exchange)
        return order_id, await next_states(safe)

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "open", 0.0)]


@every_way
def test_a_call_that_is_cancelled_at_any_step_leaves_nothing_behind(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = await begun(exchange, safe)
        exchange.fill_order(order_id)
        for steps in range(40):
            call = asyncio.create_task(other(safe))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        return order_id, states(await soon(safe.watch_orders()))

    async def other(safe: Any) -> Any:
        return await safe.watch_orders()

    order_id, seen = run(exchange, story)
    assert seen == [(order_id, "closed", 0.01)]


@every_way
def test_calls_of_one_task_that_wait_at_once_are_given_the_same(exchange: SimulatedExchange) -> None:
    async def story(exchange: SimulatedExchange, safe: Any) -> Any:
        order_id = await begun(exchange, safe)
        both = asyncio.create_task(together(safe.watch_orders(), safe.watch_orders()))
        await asyncio.sleep(0)
        exchange.fill_order(order_id)
        return [states(each) == [(order_id, "closed", 0.01)] for each in await soon(both)]

    assert run(exchange, story) == [True, True]
