"""Where a balance comes from: the small promise that a broker actor relies on.

A source starts one fetch and returns at once; later it says how that ended, exactly once, unless
it was cancelled. The gateway to ccxt is one source, a trader's own async callable is
another, and the actor cannot tell them apart.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from brokerwatch.clock import Clock, Instant
from brokerwatch.exchanges.balances import FetchedBalance, own_balance
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.faults import Failure, classify
from brokerwatch.gateway.lease import ClaimOver
from brokerwatch.gateway.loop import Loop
from brokerwatch.health.backoff import LONGEST_WAIT_S
from brokerwatch.health.claim import UNCLAIMED, Claim, Claimed, unclaimed
from brokerwatch.health.outcome import Fetching, FetchOutcome, NotAsked, Source
from brokerwatch.messages import Balance, Fault, FaultKind, Wallet
from brokerwatch.tally import AccountTally


class Refrained(Exception):
    """Raised by a turn that did not come."""

    def __init__(self, outcome: NotAsked, *, by_claim: bool = False) -> None:
        """`by_claim`: the term of the API key is over, or ends too soon."""
        super().__init__(outcome.why)
        self.outcome = outcome
        self.by_claim = by_claim


HELD_UP_SHARE: Final = 0.25
"""A loop that was held up for so much of a deadline has missed the answer itself, for all that we know."""


EXCUSES: Final = 3
"""So many time-outs in a row are excused by a loop of ours that was held up."""


class Turn(Protocol):
    """Gives a fetch its turn. `spare`: only where it leaves the reserve of the budget to exits."""

    def __call__(self, *, spare: bool) -> AbstractAsyncContextManager[None]:
        """A turn, to be entered once. It may raise Refrained then."""
        ...


def _no_turn(*, spare: bool) -> AbstractAsyncContextManager[None]:
    del spare
    return contextlib.nullcontext()


class AsyncSource:
    """A source that reads on an asyncio loop: one coroutine per fetch, under a deadline.

    `read` is given the seconds that it has, and gives what it found or raises; `explain` turns what it
    raised into a fault. `turn` is entered first and may refrain. Then, where there is a queue, a place on the
    loop is waited for; both together for at most `queue_s`. The deadline begins after it.
    """

    def __init__(
        self,
        loop: Loop,
        read: Callable[[float], Awaitable[FetchedBalance]],
        explain: Callable[[BaseException], Awaitable[Fault]],
        clock: Clock,
        *,
        turn: Turn = _no_turn,
        queue_s: float = 0.0,
        longest_wait_s: Callable[[], float] = lambda: 0.0,
        held_since_s: Callable[[], float | None] = lambda: None,
        spare_wait_s: Callable[[], float] = lambda: 0.0,
        tally: AccountTally | None = None,
        claimed: Claimed = unclaimed,
    ) -> None:
        """`tally` counts the fetches of the account. `claimed`: as `BrokerContext` has it; any thread."""
        self.claimed = claimed
        self._loop = loop
        self._read = read
        self._explain = explain
        self._clock = clock
        self._turn = turn
        self.queue_s = queue_s
        self._longest_wait_s = longest_wait_s
        self._held_since_s = held_since_s
        self._spare_wait_s = spare_wait_s
        self._tally = AccountTally() if tally is None else tally
        self._excused = 0

    @property
    def longest_wait_s(self) -> float:
        """How long a fetch waits at the longest where every call of the same key keeps its own deadline."""
        return self._longest_wait_s()

    @property
    def held_since_s(self) -> float | None:
        """Since when, in monotonic seconds, code of the trader's has had the account's lane."""
        return self._held_since_s()

    def spare_wait_s(self) -> float:
        """Seconds until a fetch leaves the reserve of the key's budget to exits. Any thread."""
        return self._spare_wait_s()

    def fetch(
        self, deadline_s: float, done: Callable[[FetchOutcome], object], *, spare: bool = False
    ) -> Fetching:
        """Start one fetch; see `Source`."""
        try:
            return self._loop.hand_over(self._fetch(deadline_s, done, spare=spare))
        except RuntimeError:
            # Only a trader's own loop can end before we do; one of ours may have been given up.
            why = self._loop.lost or "the event loop that this account is asked on has been closed"
            done(Fault(FaultKind.CLIENT_BUG, why))
            ended: concurrent.futures.Future[None] = concurrent.futures.Future()
            return ended

    async def _fetch(self, deadline_s: float, done: Callable[[FetchOutcome], object], *, spare: bool) -> None:
        until_s = self._loop.asyncio_loop.time() + self.queue_s
        try:
            async with self._turn(spare=spare):
                outcome = await self._in_place(until_s, deadline_s)
        except Refrained as refrained:
            outcome = refrained.outcome
        if isinstance(outcome, NotAsked):
            self._tally.not_made.add()
        done(outcome)

    async def _in_place(self, until_s: float, deadline_s: float) -> FetchOutcome:
        """Fetch within the limit of the loop. A fetch that waits for it has not asked the exchange yet."""
        if not self.queue_s:
            return await self._outcome(deadline_s)
        places = self._loop.places
        try:
            ticket = await places.take(until_s - self._loop.asyncio_loop.time())
        except TimeoutError:
            return NotAsked(f"not asked: {self.queue_s:g} s in the queue of this process, which is too busy")
        try:
            return await self._outcome(deadline_s)
        finally:
            places.give_back(ticket)

    async def _outcome(self, deadline_s: float) -> FetchOutcome:
        pulse = self._loop.pulse
        listened = pulse.listen()
        try:
            outcome, timed_out = await self._answer(deadline_s)
            held_up_s = pulse.held_up_s(listened) if timed_out else 0.0
            if not timed_out or held_up_s < HELD_UP_SHARE * deadline_s:
                self._excused = 0
                return outcome
            self._excused += 1
            why = f"no answer in time, but our own event loop was held up for {held_up_s:.1f} s"
            if self._excused <= EXCUSES:
                return NotAsked(why)
            # The state of the account is not known, and that must not look like health for ever.
            return Fault(FaultKind.CLIENT_BUG, f"{why}, {self._excused} times in a row: something blocks it")
        finally:
            pulse.leave()

    async def _answer(self, deadline_s: float) -> tuple[FetchOutcome, bool]:
        """How the fetch ended, and whether that is because no answer came in time."""
        as_of = self._clock.now()  # the answer is at least as new as the question
        deadline = asyncio.timeout(deadline_s)
        try:
            async with deadline:
                found = await self._read(deadline_s)
            self._took(as_of)
            apart = {name: Wallet(holdings=held, as_of=as_of) for name, held in found.apart.items()}
            balance = Balance(
                holdings=found.holdings,
                as_of=as_of,
                wallets={**found.wallets, **apart},
                stated=found.stated,
                unread=found.unread,
                summed=found.summed,
            )
        except BaseException as error:  # whatever a source raises is a fault, not a crash
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # it was cancelled, so no caller waits for an outcome
            if isinstance(error, Refrained):
                return error.outcome, False
            if isinstance(error, ClaimOver):
                return NotAsked(str(error)), False
            self._took(as_of)
            if deadline.expired():  # whatever the cancelled call made of it
                return Fault(FaultKind.NETWORK, f"no answer within {deadline_s:g} s"), True
            timed_out = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
            return await self._explained(error), timed_out
        return balance, False

    def _took(self, asked: Instant) -> None:
        self._tally.fetches.observe(self._clock.up_s() - asked.up_s)

    async def _explained(self, error: BaseException) -> Fault:
        try:
            return await self._explain(error)
        except Exception as unspeakable:  # noqa: BLE001 - an error whose own text raises is a fault all the same
            return Fault(
                FaultKind.BAD_RESPONSE, f"{type(error).__name__}, and {type(unspeakable).__name__} in it"
            )


class MovableSource:
    """The source of one broker, on whichever loop that is asked now. Any thread may use it.

    The actor keeps this one for its whole life, while the loop beneath may be replaced.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def queue_s(self) -> float:
        """As `Source` has it."""
        return self._source.queue_s

    @property
    def longest_wait_s(self) -> float:
        """As `Source` has it."""
        return self._source.longest_wait_s

    @property
    def held_since_s(self) -> float | None:
        """As `Source` has it."""
        return self._source.held_since_s

    def spare_wait_s(self) -> float:
        """As `Source` has it."""
        return self._source.spare_wait_s()

    def fetch(
        self, deadline_s: float, done: Callable[[FetchOutcome], object], *, spare: bool = False
    ) -> Fetching:
        """Start one fetch; see `Source`."""
        return self._source.fetch(deadline_s, done, spare=spare)

    def claimed(self, now_s: float) -> Claim:
        """What the claim of the account's API key says now."""
        source = self._source
        return source.claimed(now_s) if isinstance(source, AsyncSource) else UNCLAIMED

    def move_to(self, source: Source) -> None:
        """Fetch by this one from here on."""
        self._source = source


def callable_source(
    loop: Loop,
    fetch: Callable[[], Awaitable[Mapping[str, Any]]],
    clock: Clock,
    tally: AccountTally | None = None,
) -> AsyncSource:
    """A source from a trader's own async callable. `tally` counts its fetches.

    It returns the account's holdings: currency to an amount (Decimal, text or integer, all of it
    free), to a `Holding`, or to a mapping with `free`, `used` and `total`. What it raises is a fault;
    so is anything else that it returns.
    """

    pause: list[NotAsked] = []

    async def read(deadline_s: float) -> FetchedBalance:
        del deadline_s  # the loop ends it in time
        if loop.lease.revoked:
            raise Refrained(NotAsked(f"not asked: {loop.lease.revoked}"))
        for asked_for in pause:
            if asked_for.locked_until is not None and clock.up_s() < asked_for.locked_until.up_s:
                raise Refrained(asked_for)
        answer = fetch()
        if not inspect.isawaitable(answer):
            raise TypeError(
                f"fetch returned {type(answer).__name__} and nothing to await: declare it `async def`"
            )
        return own_balance(await answer)

    async def explain(error: BaseException) -> Fault:
        if isinstance(error, UnprovenAnswer):
            return Fault(FaultKind.BAD_RESPONSE, str(error))
        now = clock.now()
        fault = classify(Failure.of(error), wall_s=now.wall_us / 1_000_000)
        if fault.retry_after_s > LONGEST_WAIT_S:
            # There is no lane that would keep so long a pause.
            seconds = fault.retry_after_s
            until = Instant(now.wall_us + round(seconds * 1_000_000), now.up_s + seconds)
            pause[:] = [NotAsked(fault.detail, until)]
        return fault

    return AsyncSource(loop, read, explain, clock, tally=tally)
