"""A turn in the lane of an API key, for calls that the trader's own code makes.

    async with broker.lane():
        await my_ccxt.create_order(...)

It works with `with` too, in a program without an event loop. While it lasts no other call uses the key,
so it should be short. Every other call that needs the lane waits for its end. The thread or task that holds
the turn would wait for itself, so there such a call is refused at once.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Final, Self

from brokerwatch.errors import BlockingCallInLoop, CouldNotAsk, InsideLane
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.lane import LANE_WAIT_S, Holder, Lane
from brokerwatch.gateway.loop import Loop, running_loop

ENTER_S: Final = LANE_WAIT_S + 5.0
"""How long a turn is waited for, also where the event loop of the account hangs: in the queue of the key, and
what a call of a handle may take beyond its deadline."""
NO_TURN: Final = f"no turn within {ENTER_S:g} s: the event loop of the account hangs, or has too much to do"


def refuse_inside(lane: Lane, name: str) -> None:
    """Raise InsideLane where the caller itself has this lane: it would wait for the end of its own turn."""
    thread, task = lane.in_use_by or (None, None)
    here = _here()
    if thread == here[0] and task in (None, here[1]):
        raise InsideLane(
            f"{name}: called inside `broker.lane()`, it would wait for the end of that very turn. "
            "Nothing was sent; call it outside the block"
        )


def _here() -> Holder:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None  # no event loop runs here
    return threading.get_ident(), task


class LaneTurn:
    """One turn in the lane of an API key, used once. Any thread may enter it, in a loop or outside."""

    def __init__(self, lane: Lane, loop: Loop, exchange: Any, name: str = "lane") -> None:
        self.exchange = exchange
        """The trader's own ccxt instance, where the broker was given one; else None."""
        self._name = name
        self._lane = lane
        self._loop = loop
        self._entered: Future[None] = Future()
        self._leave = asyncio.Event()
        self._held: Future[None] | None = None

    def nonce(self) -> int:
        """The key's next nonce, for a client that counts none by itself. Inside the turn only.

        Raises CouldNotAsk where the pool's claim of the key is over meanwhile.
        """
        return self._lane.next_nonce()

    def __enter__(self) -> Self:
        if running_loop() is not None:
            raise BlockingCallInLoop("waiting for the lane would stop the event loop; use: async with")
        self._begin()
        try:
            self._entered.result(ENTER_S)
        except TimeoutError:
            self._loop.call(self._leave.set)
            # It may have been entered this very moment, and is left at once.
            self._entered.cancel()
            raise CouldNotAsk(NO_TURN) from None
        except BaseException:
            self._loop.call(self._leave.set)
            raise
        self._has_entered()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            async with asyncio.timeout(ENTER_S):
                await asyncio.wrap_future(self._entered)
        except TimeoutError:
            self._loop.call(self._leave.set)
            raise CouldNotAsk(NO_TURN) from None
        except asyncio.CancelledError:
            self._loop.call(self._leave.set)
            raise
        self._has_entered()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _has_entered(self) -> None:
        """The turn came, and this thread has noticed it only now: a claim may be over meanwhile."""
        if why := self._lane.lease.claim_over:
            self._loop.call(self._leave.set)
            raise CouldNotAsk(why)
        self._lane.held_by(_here())

    def _end(self) -> None:
        # First: the next turn writes its own holder there.
        self._lane.held_by(None)
        self._loop.call(self._leave.set)

    def _begin(self) -> None:
        refuse_inside(self._lane, self._name)
        try:
            self._held = self._loop.submit(self._hold())
        except RuntimeError as error:
            why = self._loop.lost or "the cluster is not running"
            raise CouldNotAsk(f"{why}, so there is no lane") from error
        self._held.add_done_callback(self._ended)

    async def _hold(self) -> None:
        # Urgent: the call inside is not known here, so its turn must not be cut short.
        async with self._lane.turn(urgent=True):
            if self._entered.set_running_or_notify_cancel():
                self._entered.set_result(None)
                await self._leave.wait()

    def _ended(self, held: Future[None]) -> None:
        """A caller that waits to enter gets an error when that will never be."""
        if self._entered.done():
            return
        try:
            trouble: BaseException | None = held.exception()
        except CancelledError:
            trouble = None
        stopped = self._loop.lost or "the cluster was stopped"
        why = trouble.outcome.why if isinstance(trouble, Refrained) else stopped
        self._entered.set_exception(CouldNotAsk(why))
