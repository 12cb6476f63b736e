"""An outage that is provoked: what a trader was told while fetches were made to fail, and what it proves.

The fallback is the promise of the whole product, so it is not looked up but provoked: on our own side, so
that no exchange is troubled, and through the very gateway, actor and supervisor that will run.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from brokerwatch.money import plain
from brokerwatch.verification.checklist import Judgement, failed, passed, skipped


@dataclass(frozen=True, slots=True)
class AnswerSeen:
    """What a trader was told after one fetch."""

    cash: Decimal | None
    """None: it was not answered."""
    as_of_us: int
    error_count: int
    available: bool
    fault: str
    """The kind; empty after a success."""
    stale: bool = False
    """Whether the balance was said to be the last known only."""
    totals: str = ""
    """The totals that were answered, where the exchange does not state how much of the cash is free."""

    @property
    def is_known(self) -> bool:
        """Whether a balance was answered."""
        return self.cash is not None or bool(self.totals)

    @property
    def words(self) -> str:
        """For people."""
        cash = self.totals or "no balance" if self.cash is None else plain(self.cash)
        return f"{cash}, {self.error_count} errors, {'' if self.available else 'not '}available"


@dataclass(frozen=True, slots=True)
class Provocation:
    """Fetches that were made to fail on our own side, until the threshold, and what was answered then."""

    threshold: int
    before: AnswerSeen
    during: tuple[AnswerSeen, ...]
    """After each fetch that was made to fail."""
    after: tuple[AnswerSeen, ...]
    """After each fetch that was let through again, until the account was available."""
    needed: int
    """So many successes in a row bring it back."""


def counted_errors(seen: Provocation) -> Judgement:
    """Whether errors were counted one by one, and forgotten with the first success."""
    counts = [answer.error_count for answer in seen.during]
    if seen.before.error_count or counts != list(range(1, len(counts) + 1)) or len(counts) < seen.threshold:
        return failed(f"{seen.before.error_count} before, then {counts}, for {len(counts)} errors")
    after = [answer for answer in seen.after if not answer.fault]
    kept = next((answer for answer in after if answer.error_count), None)
    if kept is not None or not after:
        return failed(f"counted {counts}; after a success: {'nothing' if kept is None else kept.words}")
    return passed(f"0 before, {', '.join(map(str, counts))} as fetches failed, 0 after a success")


def fallback(seen: Provocation) -> Judgement:
    """Whether each fetch that failed was answered with the last known, and said to be that."""
    if seen.before.fault or seen.before.stale:
        return failed(f"it was not of now to begin with: {seen.before.words} {seen.before.fault}".rstrip())
    for number, answer in enumerate(seen.during, 1):
        same = (answer.cash, answer.totals) == (seen.before.cash, seen.before.totals)
        if not answer.is_known or not same or answer.as_of_us != seen.before.as_of_us:
            return failed(f"error {number} was answered with {answer.words}; last known: {seen.before.words}")
        if not answer.fault or not answer.stale:
            return failed(f"error {number} was answered with the last known, as if it were of now")
    if not seen.during or not seen.before.is_known:
        return failed("no fetch was made to fail")
    return passed(
        f"{len(seen.during)} fetches made to fail, each answered with the last known "
        f"{seen.before.totals if seen.before.cash is None else plain(seen.before.cash)}"
    )


def flip(seen: Provocation) -> Judgement:
    """Whether the account was available before, and no more from the threshold on.

    Earlier is no fault: a policy may look at more than errors in a row.
    """
    if not seen.before.available:
        return failed(f"it was not available to begin with: {seen.before.words}")
    beyond = seen.during[seen.threshold - 1 :]
    if not beyond or any(answer.available for answer in beyond):
        return failed(f"available after {len(seen.during)} errors in a row; {seen.threshold} are the limit")
    early = next(number for number, answer in enumerate(seen.during, 1) if not answer.available)
    return passed(f"not available after {early} errors in a row, in the call that met the last of them")


def recovery(seen: Provocation) -> Judgement:
    """Whether it came back, with a balance of now, by as many successes as are asked for and not before.

    Later is no fault: a policy may look at more than successes in a row.
    """
    if not seen.during or seen.during[-1].available:
        return skipped("it was available all the time: there was nothing to come back from")
    fine = [
        number
        for number, answer in enumerate(seen.after, 1)
        if answer.available and answer.is_known and not answer.fault and not answer.stale
    ]
    if not fine:
        last = (seen.after or seen.during)[-1]
        return failed(f"not back after {len(seen.after)} fetches: {last.words} {last.fault}".rstrip())
    if fine[0] < seen.needed:
        return failed(f"back after {fine[0]} success, and {seen.needed} are asked for")
    return passed(f"available again after {fine[0]} success{'' if fine[0] == 1 else 'es'}")
