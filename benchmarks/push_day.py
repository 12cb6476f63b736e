"""A day of a stream in fast motion: how many requests it costs, and that it keeps no memory.

An account is quiet, with one change an hour, or busy, with one change a second: 86,400 frames a day. Kraken
sends a heartbeat each second besides. The stream, its fold, the actor, the source and the lane with the
exchange's published budget are the real ones; only sockets and waiting are left out
(`tests/support/fast_account.py`). The connection is cut once an hour. Each account has a process of its own.
Polls every ten seconds are 8,640 requests a day.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import time
from typing import Final

from benchmarks.elsewhere import Elsewhere, answer, heard
from benchmarks.measure import Numbers, Row, resident_mb, run, say

EXCHANGES: Final = ("kraken", "okx")
PERIODS_S: Final = {"quiet": 3_600, "busy": 1}
HOURS: Final = 24
WARM_HOURS: Final = 1
"""Memory is compared with what it was after so long."""


def _rows() -> tuple[Row, ...]:
    found = [Row("polls", "requests a day of polls every 10 s", "")]
    for exchange in EXCHANGES:
        for kind in PERIODS_S:
            name, says = f"{exchange}_{kind}", f"{exchange}, {kind}"
            found += [
                Row(f"requests_{name}", f"{says}: requests a day with `push`", "", over="polls"),
                Row(f"frames_{name}", f"{says}: frames a day", ""),
                Row(
                    f"objects_{name}", f"{says}: objects more after 24 h than after 1 h", "", at_most=5_000.0
                ),
                Row(f"memory_{name}", f"{says}: memory more after 24 h than after 1 h", "MB", at_most=5.0),
                Row(f"cpu_{name}", f"{says}: CPU of one core, with its reads, without HTTP", "%"),
            ]
    return tuple(found)


ROWS: Final = _rows()


def account(arguments: list[str]) -> None:
    """The process of one account."""
    del arguments
    for words in heard():
        answer(day(words["exchange"], words["period_s"], words["hours"]))


def day(exchange: str, period_s: int, hours: float) -> dict[str, float]:
    """So many hours of an account with a change every so many seconds."""
    from tests.support.fast_account import FastAccount, any_amount
    from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop

    logging.disable(logging.WARNING)
    found: dict[str, float] = {}

    async def work(loop: PushedLoop) -> None:
        chance = random.Random(1)
        account = FastAccount(loop, exchange)
        amounts = {code: any_amount(chance) for code in ("USDT", "BTC", "ETH", "SOL")}
        account.has(amounts)
        account.start()
        warm_s = round(min(WARM_HOURS, hours / 2) * 3_600)
        kept, used_s = (0, 0.0), 0.0
        for second in range(1, round(hours * 3_600) + 1):
            await asyncio.sleep(1.0)
            if second % period_s == period_s // 2:
                amounts[chance.choice(tuple(amounts))] = any_amount(chance)
                account.has(amounts)
            account.push(beats=True)
            if second % 3_600 == 1_800 and account.pipe is not None:
                account.pipe.cut()
            if second == warm_s:
                gc.collect()
                kept, used_s = (sys.getallocatedblocks(), resident_mb()), time.process_time()
        found["cpu"] = (time.process_time() - used_s) / (hours * 3_600 - warm_s) * 100
        gc.collect()
        found["objects"] = max(0, sys.getallocatedblocks() - kept[0])
        found["memory"] = max(0.0, resident_mb() - kept[1])
        found["frames"] = account.frames * 24 / hours
        found["requests"] = (account.reads + account.tickets) * 24 / hours
        await account.stop()

    on_a_pushed_loop(work)
    return found


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """One number for each row."""
    found: Numbers = {"polls": 8_640.0}
    for exchange in EXCHANGES:
        for kind, period_s in PERIODS_S.items():
            with Elsewhere("push_day", "account", core=0) as process:
                hours = 0.02 if quick else HOURS
                seen = process.ask(exchange=exchange, period_s=period_s, hours=hours)
            say(
                f"push_day: {exchange}, {kind} "
                + ", ".join(f"{key} {each:.4g}" for key, each in seen.items())
            )
            found |= {f"{key}_{exchange}_{kind}": each for key, each in seen.items()}
    return found


if __name__ == "__main__":
    run(measure, {"account": account})
