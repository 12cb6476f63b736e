"""How long a call of a handle waits: until its deadline and a stated allowance, whatever hangs.

The deadline of a call is that of the questions which it may ask the exchange one after the other. The
allowance is for all that is ours: the actor, the event loop, and a turn in the queue of a key that is used
elsewhere too. An event loop that does not turn for as long as the allowance ends the call at once: what the
call waits for does not go on there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Final, TypeVar

from brokerwatch.gateway.loop import Loop

T = TypeVar("T")

ALLOWANCE_S: Final = 5.0
"""What a call may take beyond its deadline."""

QUESTIONS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "get_all_products": 0,
        "normalize_symbol": 0,
        "normalize_symbol_for_broker": 0,
        "supports_symbol": 0,
        "forget_order": 0,
        "get_candles": 1,
        "get_positions": 2,
        "find_order": 1,
        "place_market_order": 6,
        "close_position": 6,
    }
)
"""How many questions a call may ask one after the other, each with its own deadline, beside the list of
markets. An order: the balance, earlier orders with an unknown outcome, its own id, the order itself twice
where its number was overtaken, and looking it up."""


class LoopHangs(Exception):
    """The event loop of the account has not turned for `ALLOWANCE_S`."""


def deadline_s(call: str, question_s: float, markets_s: float, wait_s: float) -> float:
    """Seconds after which a call ends where the caller says none.

    Args:
        call: The name of the method.
        question_s: The deadline of one question, in seconds.
        markets_s: That of the list of markets, in seconds; 0 where it is known.
        wait_s: How long a turn in the queue of the key may take where every call there keeps its deadline.
    """
    asked = QUESTIONS[call]
    return markets_s + asked * question_s + (wait_s if asked else 0.0) + ALLOWANCE_S


def wait_for(started: Future[T], loop: Loop, patience_s: float, *, watched: bool) -> T:
    """The result of work on a loop. Raises concurrent.futures.TimeoutError.

    `watched`: raise LoopHangs too, as soon as the loop does not turn.
    """
    for step_s in _steps(patience_s, watched=watched):
        turned = _turned(loop)
        try:
            # Not `wait`, which does not notice that a loop which was given up has cancelled it.
            return started.result(step_s)
        except concurrent.futures.TimeoutError:
            if started.done():
                return started.result()
        _check(turned, watched=watched and step_s == ALLOWANCE_S)
    raise concurrent.futures.TimeoutError


async def answer(started: Future[T], loop: Loop, patience_s: float, *, watched: bool) -> T:
    """The same for asyncio, in the caller's own loop. A caller that is cancelled cancels the work."""
    work = asyncio.wrap_future(started)
    try:
        for step_s in _steps(patience_s, watched=watched):
            turned = _turned(loop)
            await asyncio.wait({work}, timeout=step_s)
            if work.done():
                return work.result()
            _check(turned, watched=watched and step_s == ALLOWANCE_S)
    finally:
        work.cancel()  # nothing, where it has ended
    raise TimeoutError


def _steps(patience_s: float, *, watched: bool) -> Iterator[float]:
    """The waiting in parts, after each of which the loop must have turned."""
    if not watched:
        yield patience_s
        return
    while patience_s > 0:
        step_s = min(ALLOWANCE_S, patience_s)
        patience_s -= step_s
        yield step_s


def _turned(loop: Loop) -> Future[None]:
    """Done once the loop has turned."""
    turned: Future[None] = Future()
    loop.call(lambda: turned.set_result(None))
    return turned


def _check(turned: Future[None], *, watched: bool) -> None:
    if watched and not turned.done():
        raise LoopHangs
