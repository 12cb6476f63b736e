"""A call of a handle ends by its deadline and the stated allowance, whatever of ours hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from decimal import Decimal
from typing import Any

import pytest

from brokerwatch.actors.protocol import FetchNow
from brokerwatch.cluster import waiting
from brokerwatch.cluster.aio_broker import AioBroker
from brokerwatch.cluster.broker import Broker
from brokerwatch.errors import BrokerwatchError, CouldNotAsk, OrderNotSent
from brokerwatch.gateway import lane_turn
from brokerwatch.messages import Reading
from brokerwatch.simulator import SimulatedKraken
from tests.support.desks import Desk, Opened, rich

CALLS: dict[str, Callable[[Any], Any]] = {
    "get_account_balance": lambda on: on.get_account_balance(),
    "get_account_balance_detailed": lambda on: on.get_account_balance_detailed(),
    "free": lambda on: on.free("USD"),
    "get_positions": lambda on: on.get_positions(),
    "get_all_products": lambda on: on.get_all_products(),
    "get_candles": lambda on: on.get_candles("BTC/USD"),
    "normalize_symbol": lambda on: on.normalize_symbol("BTC-USD"),
    "normalize_symbol_for_broker": lambda on: on.normalize_symbol_for_broker("BTC-USD", "kraken"),
    "supports_symbol": lambda on: on.supports_symbol("BTC-USD"),
    "find_order": lambda on: on.find_order("BTC/USD", "mine"),
    "forget_order": lambda on: on.forget_order("mine"),
    "place_market_order": lambda on: on.place_market_order(
        "BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False
    ),
    "close_position": lambda on: on.close_position("BTC/USD", validate_only=False),
}
LAST_KNOWN = {"get_account_balance", "get_account_balance_detailed", "free"}
ORDERS = {"place_market_order", "close_position"}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allowance and the wait for a turn, shorter, so that the test is."""
    monkeypatch.setattr(waiting, "ALLOWANCE_S", 0.4)
    monkeypatch.setattr(lane_turn, "ENTER_S", 0.4)


@pytest.fixture
def hung(short: None) -> Iterator[Desk]:
    """An account whose event loop hangs until the test has ended."""
    with Opened(rich(SimulatedKraken()), fetch_deadline_s=0.3) as desk:
        desk.broker.get_all_products()
        over, blocked = threading.Event(), threading.Event()

        def block() -> None:
            blocked.set()
            over.wait(30.0)

        desk.broker.lane()._loop.call(block)  # pyright: ignore[reportPrivateUsage] - no other way
        assert blocked.wait(30.0)
        yield desk
        over.set()


def ended(call: Callable[[], Any]) -> Any:
    """What a call gives or raises."""
    try:
        return call()
    except BrokerwatchError as error:
        return error


def at_once(broker: Broker) -> dict[str, Any]:
    """What each call gives or raises, all of them at once; each in less time than what hangs goes on."""
    found: dict[str, Any] = {}

    def one(name: str) -> None:
        found[name] = ended(lambda: CALLS[name](broker))

    threads = [threading.Thread(target=one, args=(name,)) for name in CALLS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(25.0)
    assert set(found) == set(CALLS)
    return found


def test_every_call_ends_also_where_the_event_loop_hangs(hung: Desk) -> None:
    for name, outcome in at_once(hung.broker).items():
        expected = object if name in LAST_KNOWN else OrderNotSent if name in ORDERS else CouldNotAsk
        assert isinstance(outcome, expected), (name, outcome)
        assert name in LAST_KNOWN or "does not turn" in str(outcome), (name, outcome)


def test_every_awaited_call_ends_also_where_the_event_loop_hangs(hung: Desk) -> None:
    async def one(name: str, call: Callable[[AioBroker], Any]) -> tuple[str, Any]:
        try:
            return name, await call(hung.broker.aio)
        except BrokerwatchError as error:
            return name, error

    async def story() -> dict[str, Any]:
        async with asyncio.timeout(25.0):
            return dict(await asyncio.gather(*(one(*each) for each in CALLS.items())))

    for name, outcome in asyncio.run(story()).items():
        expected = object if name in LAST_KNOWN else OrderNotSent if name in ORDERS else CouldNotAsk
        assert isinstance(outcome, expected), (name, outcome)


def test_a_turn_in_the_lane_is_not_waited_for_for_ever(hung: Desk) -> None:
    with pytest.raises(CouldNotAsk, match="no turn within"), hung.broker.lane():
        raise AssertionError("the turn cannot have come")

    async def story() -> None:
        async with hung.broker.lane():
            raise AssertionError("the turn cannot have come")

    with pytest.raises(CouldNotAsk, match="no turn within"):
        asyncio.run(story())


def test_every_call_ends_also_where_the_actor_hangs(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "ALLOWANCE_S", 3.0)  # some calls are answered, on a slow machine not at once
    over, hangs = threading.Event(), threading.Event()

    def hang(_: Future[Reading]) -> None:
        hangs.set()
        over.wait(30.0)

    opened = Opened(rich(SimulatedKraken()), fetch_deadline_s=0.3)
    opened.settings["heartbeat_s"] = 3.0  # the actor is replaced only after all of this
    with opened as desk:
        cash = desk.broker.get_account_balance()
        asked: Future[Reading] = Future()
        asked.add_done_callback(hang)  # it runs on the actor's own thread
        desk.broker._requests.send(FetchNow(asked))  # pyright: ignore[reportPrivateUsage] - no other way
        assert hangs.wait(30.0)
        try:
            found = at_once(desk.broker)
            assert found["get_account_balance"] == cash
            assert asyncio.run(desk.broker.aio.get_account_balance()) == cash
            assert isinstance(found["get_positions"], CouldNotAsk)
            assert found["supports_symbol"] is True
        finally:
            over.set()


def test_the_deadline_of_a_call_is_that_of_its_questions() -> None:
    assert waiting.ALLOWANCE_S == 5.0, "docs/embed.md states it"
    assert waiting.deadline_s("get_candles", 8.0, 0.0, 0.0) == 13.0
    assert waiting.deadline_s("get_candles", 8.0, 60.0, 3.0) == 76.0
    assert waiting.deadline_s("get_all_products", 8.0, 0.0, 3.0) == 5.0
    assert waiting.deadline_s("place_market_order", 8.0, 0.0, 0.0) == 53.0
    handles = {name for name in dir(Broker) if name in vars(AioBroker) and not name.startswith("_")}
    assert handles - LAST_KNOWN == set(waiting.QUESTIONS)
