"""However many frames come, and however often the connection ends, no memory is kept. In fast motion."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from itertools import pairwise
from typing import Final

import pytest

from tests.support.fast_account import FastAccount, any_amount
from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop

SPAN: Final = 1_200
"""Changes between two measurements. After the first of them each list that is bounded is full."""
SPANS: Final = 4
CURRENCIES: Final = ("USDT", "BTC", "ETH", "SOL")
FAULTS: Final = {"kraken": ("drop", "duplicate", "swap", "garbage"), "okx": ("duplicate", "swap", "garbage")}
"""A frame that is lost leaves no gap at OKX, and its stream is not trusted after it."""
ALLOWED_OBJECTS: Final = 600
"""Python's own caches take some more. One object kept of each change would be twice as many."""


async def change_often(
    account: FastAccount, chance: random.Random, count: int, faults: tuple[str, ...]
) -> None:
    """So many changes, one a second; now and then a frame is spoiled and the connection is cut."""
    amounts = dict(account.account.balance)
    for number in range(count):
        if faults and number % 50 == 25:
            account.streams.set_fault(chance.choice(faults), 1)
        if faults and number % 400 == 399 and account.pipe is not None:
            account.pipe.cut()
        amounts[chance.choice(CURRENCIES)] = any_amount(chance)
        account.has(amounts)
        account.push(beats=True)
        await asyncio.sleep(1.0)


@pytest.mark.parametrize("exchange", ["kraken", "okx"])
@pytest.mark.parametrize("faults", [False, True])
def test_thousands_of_frames_take_no_more_memory(exchange: str, faults: bool) -> None:
    seed = 17
    kept: list[int] = []

    async def work(loop: PushedLoop) -> None:
        chance = random.Random(seed)
        account = FastAccount(loop, exchange)
        account.has({code: any_amount(chance) for code in CURRENCIES})
        account.start()
        for _ in range(SPANS):
            await change_often(account, chance, SPAN, FAULTS[exchange] if faults else ())
            gc.collect()
            kept.append(sys.getallocatedblocks())
        assert account.frames > 0.9 * SPANS * SPAN
        assert account.tally.pushes.counts()["amounts"] > 0.7 * SPANS * SPAN
        await account.stop()

    on_a_pushed_loop(work)
    more = [after - before for before, after in pairwise(kept)]
    # What is kept of each change is kept in every span; a cache of Python's own grows in one of them.
    assert min(more) < ALLOWED_OBJECTS, f"{more} more objects in spans of {SPAN} changes (seed {seed})"
