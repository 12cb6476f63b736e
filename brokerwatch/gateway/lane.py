"""A lane: the serial queue of the private calls of one API key.

Exchanges count nonces and calls for each key, so brokers on one key share its lane: one request in
flight, first come first served, within the key's budget. What is urgent, an order, goes before all
others: it waits for no budget (exchanges count orders apart), and a poll that is slow gives way to it.
While the key is locked out nothing passes.
Lanes live on the gateway's loop; what must outlive the process, nonces and lockouts, goes to the
backlog.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from brokerwatch.clock import Clock, Instant
from brokerwatch.errors import CouldNotAsk
from brokerwatch.exchanges.rate_limit import Budget, RateLimiter
from brokerwatch.gateway.address import Address
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.lease import LaneLease, Lease
from brokerwatch.gateway.nonces import Nonces
from brokerwatch.health.backoff import LONGEST_WAIT_S
from brokerwatch.health.outcome import NotAsked
from brokerwatch.messages import Fault, FaultKind
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import KeyState
from brokerwatch.tally import BudgetUse, KeyTally

LANE_WAIT_S: Final = LONGEST_WAIT_S
"""How long a call waits in its lane; then it was not made, which is no fault of the exchange."""
PATIENCE_S: Final = 0.5
"""How long an urgent call waits for the answer to a poll; then the poll is given up."""
URGENT_IN_A_ROW: Final = 3
"""After so many urgent calls an ordinary one that waits has its turn: orders that hang one after the other
must not hide that the exchange does."""
MOST_GIVEN_WAY: Final = 2
"""A poll that gave way so often in a row does so no more: it must be seen whether the exchange answers."""
FOR_EXITS: Final = "not asked: what is left of the budget of its API key is for exits"
GAVE_WAY: Final = "not asked: it gave way to an order"
HOLDER_LOOK_S: Final = 0.05
"""How often a lane that goes on on another loop looks whether the trader's own turn has ended."""
LONGEST_LOCKOUT_S: Final = 3_600.0
"""A stored lockout that ends later is not believed: the wall clock has jumped."""

Holder = tuple[int, "asyncio.Task[Any] | None"]
"""A thread, and in an event loop the task on it. Tasks that were begun inside are others, and may wait."""


class Lane:
    """Gives the calls of one API key their turns, one at a time. Runs on the loop's thread.

    `ordered_s`, `in_use_by` and `in_use_since_s` may be read from any thread.
    """

    def __init__(
        self,
        fingerprint: str,
        budget: Budget,
        clock: Clock,
        journal: Journal,
        known: KeyState,
        address: Address | None = None,
        lease: LaneLease | None = None,
        tally: KeyTally | None = None,
    ) -> None:
        """`lease` of the loop that it is on, and of its key; None: it has one of its own. `tally` counts what
        it does."""
        self.fingerprint = fingerprint
        self.address = Address(clock) if address is None else address
        """Where its calls leave from; other keys may share it."""
        self.lease: LaneLease = Lease() if lease is None else lease
        """Whether its requests may go out."""
        self.nonces = Nonces(fingerprint, clock, journal)
        self.ordered_s = float("-inf")
        """When the newest order of this key ended, in monotonic seconds; infinite while one is under way: no
        balance that was asked for before is fresh, whichever broker of the key asked. Any thread may look."""
        self.holder: Holder | None = None
        """Which code of the trader's has the lane now, by `broker.lane()`; None: none has. Any thread."""
        self.held_since_s: float | None = None
        """Since when it has it, in monotonic seconds. Any thread."""
        self._users: Mapping[str, tuple[float, Budget, float]] = {}
        """For each account that uses the lane: its deadline in seconds, the budget that it allows, and how
        much of that it reserves for exits."""
        self._reserve = 0.0
        """The largest of these reserves: what can wait leaves it to others."""
        self._budget = budget
        """The smallest of these budgets."""
        self.counts_nonces = False
        """Whether the exchange wants rising nonces; set by the account that uses the lane."""
        self._clock = clock
        self._journal = journal
        self._pace = RateLimiter(budget)
        self._tally = KeyTally() if tally is None else tally
        self._tally.budget = self._budget_use
        self._taken = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._ordinary: deque[asyncio.Future[None]] = deque()
        self._last: deque[asyncio.Future[None]] = deque()
        self._is_last = False
        """Whether the call that has the lane goes after all others."""
        self._spares = False
        """Whether it leaves the reserve to others."""
        self._in_a_row = 0
        """So many urgent calls had the lane one after the other while an ordinary one waited."""
        self._given_way = 0
        """So many ordinary calls gave way one after the other."""
        self._leash: asyncio.Timeout | None = None
        """Ends the ordinary call that has the lane; None when an urgent one has it, or none."""
        self._asking = False
        """Whether the call that has the lane has gone out, and does not only wait for the budget."""
        self._before: Lane | None = None
        """The lane of this key on a loop that hangs, as long as the trader's own code has that."""
        self._locked_until: Instant | None = None
        self._locked_why = ""
        self._paused_why = ""
        self._faulty = False
        """Whether the call that has the lane met a fault."""
        self.recall(known)

    def recall(self, known: KeyState) -> None:
        """What was remembered of this key: nonces that may be used up, and a lockout that may go on."""
        self.nonces.above(known.nonce_ceiling)
        left_s = (known.locked_until_us - self._clock.now().wall_us) / 1_000_000
        if left_s > 0:
            self._lock_out(min(left_s, LONGEST_LOCKOUT_S), "as the exchange said before our last start")

    def go_on_from(self, before: Lane) -> None:
        """Take the place of this key's lane on a loop that hangs, and whose lease is revoked.

        Its own numbers begin above all that were reserved there. Called before any call has its turn here.
        """
        self.nonces.above(before.nonces.ceiling)
        self.counts_nonces = before.counts_nonces
        # A new order ends there no more. What was under way is unaccounted for, and no balance has it in it.
        self.ordered_s = min(before.ordered_s, self._clock.up_s())
        self._pace = before._pace
        self._locked_until, self._locked_why = before._locked_until, before._locked_why
        self._paused_why = before._paused_why
        self._before = before

    @property
    def is_taken(self) -> bool:
        """Whether a call has its turn now. Any thread may look."""
        return self._taken

    @property
    def in_use_by(self) -> Holder | None:
        """Which code of the trader's has the turn, here or in the lane whose place this one took."""
        if self.holder is None and self._before is not None:
            return self._before.in_use_by
        return self.holder

    @property
    def in_use_since_s(self) -> float | None:
        """Since when it has it, in monotonic seconds; None: none has."""
        if self.held_since_s is None and self._before is not None:
            return self._before.in_use_since_s
        return self.held_since_s

    def join(
        self, broker: str, deadline_s: float, budget: Budget, address: Address, reserve: float = 0.0
    ) -> None:
        """An account uses the lane, or goes on using it by another configuration. Any thread, one at a time.

        Of several budgets for one key the smallest holds, and of several reserves the largest.
        """
        self._users = {**self._users, broker: (deadline_s, budget, reserve)}
        self.address = address
        self._take_limits()

    def leave(self, broker: str) -> None:
        """An account does not use the lane any more. Any thread, one at a time."""
        self._users = {name: each for name, each in self._users.items() if name != broker}
        if self._users:
            self._take_limits()

    def _take_limits(self) -> None:
        budgets = [budget for _, budget, _ in self._users.values()]
        self._budget = Budget(min(each.burst for each in budgets), min(each.per_s for each in budgets))
        self._reserve = max(reserve for _, _, reserve in self._users.values())

    @asynccontextmanager
    async def turn(
        self,
        *,
        urgent: bool = False,
        first: bool = False,
        last: bool = False,
        spare: bool = False,
        calls: int = 1,
    ) -> AsyncGenerator[None]:
        """Wait for this call's turn, hold the lane meanwhile, and pass it on. Raises Refrained.

        `first`: it goes before the other urgent ones that wait. `last`: it goes after all others, only while
        half of the budget is left, and gives way to each of them. `spare`, and `last` too: it goes only where
        so many `calls` leave the reserve of the key.

        An ordinary turn is ended, also by Refrained, when an urgent call has waited for it too long.
        """
        self.refrain_when_barred()
        began_s = self._clock.up_s()
        until_s = began_s + LANE_WAIT_S
        try:
            async with asyncio.timeout(LANE_WAIT_S):
                await self._take(urgent=urgent, first=first, last=last)
        except TimeoutError:
            self._tally.waits.observe(self._clock.up_s() - began_s)
            raise Refrained(
                NotAsked(f"not asked: {LANE_WAIT_S:g} s in the queue of its API key, which others use too")
            ) from None
        leash = asyncio.timeout(None)
        try:
            async with leash:
                self._is_last, self._spares = last, spare or last
                if not urgent:
                    self._leash = leash
                    if self._urgent:
                        asyncio.get_running_loop().call_later(PATIENCE_S, self._hurry)
                if last and not self._pace.has_half_left(self._clock.up_s()):
                    raise Refrained(NotAsked("not asked: the budget of its API key is for polls and orders"))
                await self._wait_for_the_trader(until_s)
                await self._admit(until_s, urgent=urgent, calls=calls)
                self._tally.waits.observe(self._clock.up_s() - began_s)
                self._asking, self._faulty = True, False
                if self.counts_nonces:
                    await self.nonces.reserve()
                yield
            if not urgent and not last:
                self._given_way = 0
            if not self._faulty:
                self.address.answered()
        except TimeoutError:
            if leash.expired():
                self._given_way += not last
                raise Refrained(NotAsked(GAVE_WAY)) from None
            raise
        finally:
            self._leash, self._asking, self._is_last, self._spares = None, False, False, False
            self._pass_on()

    async def _take(self, *, urgent: bool, first: bool, last: bool) -> None:
        if not self._taken:
            self._taken = True
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._urgent if urgent else self._last if last else self._ordinary
        if first:
            queue.appendleft(mine)
        else:
            queue.append(mine)
        hurry: asyncio.TimerHandle | None = None
        try:
            if urgent or (self._is_last and not last):
                hurry = asyncio.get_running_loop().call_later(PATIENCE_S, self._hurry)
                if not self._asking:
                    self._hurry()
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # it came just when it was not wanted any more
            elif mine in queue:
                queue.remove(mine)
            raise
        finally:
            if hurry is not None:
                hurry.cancel()

    def _hurry(self) -> None:
        """An urgent call has waited long enough for an ordinary one."""
        keeps = self._asking and self._given_way >= MOST_GIVEN_WAY and not self._is_last
        waits = self._urgent or (self._is_last and self._ordinary)
        if waits and self._leash is not None and not keeps:
            # Once: what is ending already cannot be told again to end.
            leash, self._leash = self._leash, None
            leash.reschedule(asyncio.get_running_loop().time())

    def _pass_on(self) -> None:
        fair = self._in_a_row >= URGENT_IN_A_ROW
        before_last = (self._ordinary, self._urgent) if fair else (self._urgent, self._ordinary)
        for queue in (*before_last, self._last):
            while queue:
                following = queue.popleft()
                if not following.done():
                    urgent = queue is self._urgent
                    self._in_a_row = self._in_a_row + 1 if urgent and self._ordinary else 0
                    following.set_result(None)
                    return
        self._taken = False
        self._in_a_row = 0

    def next_nonce(self) -> int:
        """The key's next number, for a call of the trader's own. Any thread.

        Raises CouldNotAsk where the key has a term that is over, or ends too soon.
        """
        if why := self.lease.claim_over:
            raise CouldNotAsk(why)
        return self.nonces.next()

    def held_by(self, holder: Holder | None) -> None:
        """Note which code of the trader's has the lane from now on. Any thread."""
        self.holder, self.held_since_s = holder, None if holder is None else self._clock.up_s()

    def longest_wait_s(self, deadline_s: float) -> float:
        """How long a fetch waits for its turn at the longest: until every other account of the key has had
        its own, each for its whole deadline, and the budget has room for all of them.

        Args:
            deadline_s: the deadline of the account that waits; it does not wait for itself.
        """
        users = self._users
        others_s = sum(each_s for each_s, _, _ in users.values()) - deadline_s
        return min(LANE_WAIT_S, max(0.0, others_s) + len(users) / self._budget.per_s)

    def _budget_use(self) -> BudgetUse:
        """How much of the budget is used now. Any thread: the counter is replaced and never changed."""
        pace = self._pace
        return BudgetUse(pace.budget.per_s, pace.budget.burst, pace.used_at(self._clock.up_s()))

    def spare_wait_s(self, calls: int = 1) -> float:
        """Seconds until so many calls could go out that leave the reserve to others. Any thread."""
        now_s = self._clock.up_s()
        pace = replace(self._pace, budget=self._budget)
        return max(pace.spare_wait_s(now_s, self._reserve, calls), self.address.ban.until_s - now_s)

    @property
    def free(self) -> bool:
        """Whether one more call of this turn could go out without a wait."""
        return (self.spare_wait_s() if self._spares else self._pace.wait_s(self._clock.up_s())) <= 0

    async def another(self, *, urgent: bool = False, calls: int = 1) -> None:
        """Wait until one more call of the same turn, or so many, are within the budget, and count them.

        Raises Refrained, also where the turn leaves the reserve to others and this call would not.
        """
        for _ in range(calls):
            await self._admit(self._clock.up_s() + LANE_WAIT_S, urgent=urgent)

    async def _admit(self, until_s: float, *, urgent: bool, calls: int = 1) -> None:
        if self._pace.budget != self._budget:
            self._pace = replace(self._pace, budget=self._budget)
        while True:
            self.refrain_when_barred()
            now_s, ban = self._clock.up_s(), self.address.ban
            not_before_s = max(self._pace.not_before_s, ban.until_s)
            paused_s = max(0.0, not_before_s - now_s)
            if self._spares and self._pace.spare_wait_s(now_s, self._reserve, calls) > paused_s:
                raise Refrained(NotAsked(FOR_EXITS))
            wait_s = max(paused_s, 0.0 if urgent else self._pace.wait_s(now_s))
            if wait_s <= 0:
                break
            if not_before_s > until_s:
                # The exchange itself ended private calls for longer than any call waits.
                why = ban.why if ban.until_s == not_before_s else self._paused_why
                raise Refrained(NotAsked(why, self._at(not_before_s)))
            if now_s + wait_s > until_s:
                raise Refrained(NotAsked(f"not asked: its API key may ask again in {wait_s:.0f} s"))
            await asyncio.sleep(wait_s)
        self._pace = self._pace.taken(now_s)
        self._tally.requests.add()

    async def _wait_for_the_trader(self, until_s: float) -> None:
        """Wait for the end of a turn that the trader's own code has had since before this lane began."""
        while self._before is not None and self._before.in_use_by is not None:
            if self._clock.up_s() >= until_s:
                raise Refrained(NotAsked("not asked: code of the trader's own has its lane"))
            await asyncio.sleep(HOLDER_LOOK_S)
        self._before = None

    def note(self, fault: Fault) -> None:
        """Learn from a fault how this key may go on, and this address."""
        self._faulty = True
        self.address.note(fault)
        if fault.lockout_s > 0:
            until = self._lock_out(fault.lockout_s, fault.detail)
            self._journal.key(KeyState(self.fingerprint, locked_until_us=until.wall_us))
        elif fault.kind is FaultKind.RATE_LIMITED or fault.retry_after_s > 0:
            self._pace = self._pace.refused(self._clock.up_s(), fault.retry_after_s)
            self._paused_why = fault.detail
        elif fault.kind is FaultKind.NONCE_CLOCK and self.counts_nonces and self.lease.term is not None:
            self.nonces.refused()

    def _lock_out(self, seconds: float, why: str) -> Instant:
        until = self._at(self._clock.up_s() + seconds)
        self._locked_until, self._locked_why = until, why
        return until

    def _at(self, up_s: float) -> Instant:
        now = self._clock.now()
        return Instant(now.wall_us + round((up_s - now.up_s) * 1_000_000), up_s)

    def refrain_when_barred(self) -> None:
        """Raise Refrained where no call of this key may go out from here now."""
        if self.lease.replaced:
            raise Refrained(NotAsked(f"not asked: {self.lease.replaced}"))
        if why := self.lease.claim_over:
            raise Refrained(NotAsked(why), by_claim=True)
        until = self._locked_until
        if until is None:
            return
        if self._clock.up_s() < until.up_s:
            raise Refrained(NotAsked(self._locked_why, until))
        self._locked_until = None
