"""A guarded bot in a storm: frames are lost, come twice and cut, connections end, answers prove nothing.

Calls are cancelled at any moment. Whatever is returned is true, and the newest comes.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import pytest

from brokerwatch.dropin import feeds
from brokerwatch.gateway import kept_stream
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.simulator.streams import LOOK_S
from tests.support.pro_bots import ccxt, guarded, streams_of

STEPS: Final = 60
STREAM_FAULTS: Final = ("drop", "duplicate", "swap", "garbage", "no_handshake", "unnoticed")
"""What may happen to one frame or one handshake."""
ANSWER_FAULTS: Final = ("http_502_html", "empty_body", "html_200", "closed")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_stream, "LONGEST_S", 0.1)  # it is there for most of the storm


def upset(exchange: SimulatedExchange, chance: random.Random, faults: tuple[str, ...]) -> None:
    """One thing goes wrong, or none."""
    streams = streams_of(exchange)
    match chance.randrange(6):
        case 0:
            streams.set_fault(chance.choice(faults), 1)
        case 1:
            streams.cut(abort=chance.random() < 0.5)
        case 2:
            exchange.set_fault(chance.choice(ANSWER_FAULTS), 1)
        case _:
            pass


async def calm(exchange: SimulatedExchange) -> None:
    """Nothing goes wrong any more, and what was pushed before is pushed apart from what follows."""
    streams_of(exchange).mend()
    exchange.mend()
    await asyncio.sleep(10 * LOOK_S)


async def sometimes_cancelled(call: Any, chance: random.Random) -> Any:
    """What a call gives; None where it was cancelled first, or raised what a bot catches."""
    try:
        async with asyncio.timeout(chance.choice([0.0, 0.001, 0.02, 0.3, 2.0])):
            return await call
    except (TimeoutError, ccxt.NetworkError):
        return None


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedOkx])
@pytest.mark.parametrize("has_fold", [True, False])
def test_every_balance_in_a_storm_was_true_and_none_is_older_than_the_one_before(
    kind: type[SimulatedExchange],
    has_fold: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not has_fold:
        monkeypatch.setattr(feeds, "STREAMS", {})
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - repeats a failure
    chance, exchange = random.Random(seed), kind()
    truth = [(0, 0)]
    exchange.set_balance({"USDT": ("0", "0"), "BTC": ("0", "0")})

    async def change() -> None:
        for step in range(1, STEPS + 1):
            if step == STEPS:  # a frame without a number that is lost is noticed by the next one
                await calm(exchange)
            else:
                upset(exchange, chance, STREAM_FAULTS)
            truth.append((step, chance.choice([0, step])))
            exchange.set_balance({"USDT": (str(truth[-1][0]), "0"), "BTC": (str(truth[-1][1]), "0")})
            await asyncio.sleep(chance.choice([0.0, 0.01, 0.1]))

    async def bot(safe: Any, own: random.Random) -> None:
        seen = -1
        async with asyncio.timeout(60):
            while seen != STEPS:
                found = await sometimes_cancelled(safe.watch_balance(), own)
                if found is None:
                    continue
                usdt, btc = found["total"]["USDT"], found["total"]["BTC"]
                if found["brokerwatch"]["stale"]:
                    assert (usdt, btc) in truth, seed
                    continue
                assert truth[int(usdt)] == (usdt, btc), seed
                assert usdt >= seen, seed
                seen = int(usdt)

    async def story() -> None:
        async with guarded(exchange, last_known=True) as safe:
            bots = [bot(safe, random.Random(chance.random())) for _ in range(2)]
            await asyncio.gather(change(), *bots)

    with serve(exchange):
        asyncio.run(story())


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedOkx, SimulatedCoinbase])
def test_every_order_in_a_storm_rises_to_its_end_for_each_bot(kind: type[SimulatedExchange]) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - repeats a failure
    chance, exchange = random.Random(seed), kind()
    market = "BTC/USD" if exchange.ccxt_id == "coinbase" else "BTC/USDT"
    exchange.set_balance({"USDT": ("1000000", "0"), "USD": ("1000000", "0")})
    # A frame without a number that is lost leaves no trace until the next list of all, after two minutes.
    faults = tuple(fault for fault in STREAM_FAULTS if fault not in ("drop", "unnoticed"))
    ended = asyncio.Event()

    async def change() -> None:
        for _ in range(STEPS):
            upset(exchange, chance, faults)
            open_ids = [order.id for order in exchange.orders_of() if order.state == "open"]
            if not open_ids or chance.random() < 0.4:
                exchange.rest(market, "buy", "0.01", "1000")
            else:
                exchange.fill_order(chance.choice(open_ids), chance.choice(["0.002", None]))
            await asyncio.sleep(chance.choice([0.0, 0.01, 0.1]))
        await calm(exchange)
        exchange.rest(market, "buy", "0.01", "1000")
        exchange.fill_open_orders()
        ended.set()

    async def bot(safe: Any, own: random.Random) -> None:
        seen: dict[str, tuple[bool, float]] = {}
        async with asyncio.timeout(60):
            while not ended.is_set() or not is_known(seen):
                for order in await sometimes_cancelled(safe.watch_orders(), own) or ():
                    state = order["status"] == "closed", order["filled"]
                    assert state >= seen.get(order["id"], (False, 0.0)), seed
                    seen[order["id"]] = state

    def is_known(seen: dict[str, tuple[bool, float]]) -> bool:
        return {order.id: (True, float(order.base_amount)) for order in exchange.orders_of()} == seen

    async def story() -> None:
        async with guarded(exchange) as safe:
            bots = [asyncio.create_task(bot(safe, random.Random(chance.random()))) for _ in range(2)]
            while not streams_of(exchange).subscriptions:  # noqa: ASYNC110 - the exchange is on another thread
                await asyncio.sleep(0.01)
            await asyncio.gather(change(), *bots)

    with serve(exchange):
        asyncio.run(story())
