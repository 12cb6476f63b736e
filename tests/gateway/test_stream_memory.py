"""However many frames come, and however often the connection ends, no memory is kept. In fast motion."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from typing import Final

import pytest

from tests.support.fast_account import FastAccount, any_amount
from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop

CHANGES: Final = 2_400
WARM: Final = 1_200
"""Changes before the first measurement: by then each list that is bounded is full."""
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
        for count in (WARM, CHANGES - WARM):
            await change_often(account, chance, count, FAULTS[exchange] if faults else ())
            gc.collect()
            kept.append(sys.getallocatedblocks())
        assert account.frames > 0.9 * CHANGES
        assert account.tally.pushes.counts()["amounts"] > 0.7 * CHANGES
        await account.stop()

    on_a_pushed_loop(work)
    more = kept[1] - kept[0]
    assert more < ALLOWED_OBJECTS, f"{more} more objects after {CHANGES - WARM} changes (seed {seed})"
