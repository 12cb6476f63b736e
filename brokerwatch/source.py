"""Where a balance comes from: the small promise that a broker actor relies on.

A source starts one fetch and returns at once; later it says how that ended, exactly once, unless
it was cancelled. The gateway to ccxt is one source, a trader's own async callable is
another, and the actor cannot tell them apart.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from brokerwatch.answers import EmptyAnswers, NotProof, own_holdings
from brokerwatch.clock import Clock
from brokerwatch.faults import Failure, classify
from brokerwatch.loop import LoopThread
from brokerwatch.messages import Balance, Fault, FaultKind, Holding

Outcome = Balance | Fault
"""How a fetch ends."""


class Fetching(Protocol):
    """A fetch that is under way."""

    def cancel(self) -> object:
        """Give it up; its outcome is not told any more, or nobody listens."""
        ...


class Source(Protocol):
    """Whatever fetches a broker's balance."""

    def fetch(self, deadline_s: float, done: Callable[[Outcome], object]) -> Fetching:
        """Start one fetch and return without waiting. `done` is called once, on any thread."""
        ...


class AsyncSource:
    """A source that reads on an asyncio loop: one coroutine per fetch, under a deadline.

    `read` gives the holdings or raises; `explain` turns what it raised into a fault.
    """

    def __init__(
        self,
        loop: LoopThread,
        read: Callable[[], Awaitable[Mapping[str, Holding]]],
        explain: Callable[[BaseException], Fault],
        clock: Clock,
    ) -> None:
        self._loop = loop
        self._read = read
        self._explain = explain
        self._clock = clock
        self._empty = EmptyAnswers()

    def fetch(self, deadline_s: float, done: Callable[[Outcome], object]) -> Fetching:
        """Start one fetch; see `Source`."""
        started: concurrent.futures.Future[None] = self._loop.submit(self._fetch(deadline_s, done))
        return started

    async def _fetch(self, deadline_s: float, done: Callable[[Outcome], object]) -> None:
        as_of = self._clock.now()  # the answer is at least as new as the question
        deadline = asyncio.timeout(deadline_s)
        try:
            async with deadline:
                holdings = await self._read()
            outcome: Outcome = Balance(holdings=holdings, as_of=as_of)
        except BaseException as error:  # whatever a source raises is a fault, not a crash
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # we were told to give up, so nobody waits for an outcome
            self._empty.interrupted()
            if isinstance(error, TimeoutError) and deadline.expired():
                outcome = Fault(FaultKind.NETWORK, f"no answer within {deadline_s:g} s")
            else:
                outcome = self._explained(error)
        else:
            doubt = self._empty.doubt(holdings, as_of.up_s)
            if doubt:
                outcome = Fault(FaultKind.BAD_RESPONSE, doubt)
        done(outcome)

    def _explained(self, error: BaseException) -> Fault:
        try:
            return self._explain(error)
        except Exception as unspeakable:  # noqa: BLE001 - an error whose own text raises is a fault all the same
            return Fault(
                FaultKind.BAD_RESPONSE, f"{type(error).__name__}, and {type(unspeakable).__name__} in it"
            )


def callable_source(
    loop: LoopThread, fetch: Callable[[], Awaitable[Mapping[str, Any]]], clock: Clock
) -> AsyncSource:
    """A source from a trader's own async callable.

    It returns the account's holdings: currency to an amount (Decimal, text or integer, all of it
    free), to a `Holding`, or to a mapping with `free`, `used` and `total`. What it raises is a fault;
    so is anything else that it returns.
    """

    async def read() -> Mapping[str, Holding]:
        answer = fetch()
        if not inspect.isawaitable(answer):
            raise TypeError(
                f"fetch returned {type(answer).__name__} and nothing to await: declare it `async def`"
            )
        return own_holdings(await answer)

    def explain(error: BaseException) -> Fault:
        if isinstance(error, NotProof):
            return Fault(FaultKind.BAD_RESPONSE, str(error))
        return classify(Failure.of(error))

    return AsyncSource(loop, read, explain, clock)
