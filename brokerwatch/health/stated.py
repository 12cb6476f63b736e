"""What an answer leaves out: when it is doubted, and when it is believed.

An exchange often leaves out what is zero. A broken answer leaves out what is there. Both look the same: a
sound envelope in which a currency is not named. So what held something before and is not stated is in doubt,
each currency by itself. Its total stays as it was last known, its free amount is unknown, and it is marked.
The doubt ends in one of three ways:

*The currency is stated again.* A stated zero is an amount like any other.

*Something else explains it.* Orders of ours took all of it since it was last stated. Or the exchange states
a sum of all currencies, and the sum agrees with those that the answer states.

*The answers are steady.* Three of them in a row leave it out, and at least 30 s lie between the first and the
last: one broken cache gives equal answers quickly. A failed read begins the count anew, and leaves the doubt.

An answer without any currency is the same doubt about the whole account. After a balance that held something
it is a fault, and counted, until the answers are steady. While no balance is known it is no error and no
success: so a new account that is truly empty has no outage, and a broken answer is never its first balance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final

import msgspec

from brokerwatch.clock import Instant
from brokerwatch.messages import Balance, Fault, FaultKind, Holding, total
from brokerwatch.messages.balance import MAX_CURRENCIES, less

AGREEING_READS: Final = 3
"""So many answers in a row that leave the same thing out are believed …"""
AGREEING_OVER_S: Final = 30.0
"""… if at least so many seconds lie between the first and the last."""
UNSTATED_READS: Final = 2
"""So many answers that name no account, over the same time, prove an account that was never funded."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Answers in a row that leave the same thing out."""

    since: Instant
    """When the first answer that left it out was asked for; a failed read does not change it."""
    first: Instant
    """When the first one of this run was asked for …"""
    newest: Instant
    """… and the newest."""
    reads: int
    """How many there are in this run; 0 after a failed read."""

    def steady(self, needed: int = AGREEING_READS) -> bool:
        """Whether it is believed, where so many answers are needed."""
        return self.reads >= needed and self.over_s >= AGREEING_OVER_S

    @property
    def over_s(self) -> float:
        """How many seconds lie between the first and the newest."""
        return self.newest.up_s - self.first.up_s


@dataclass(frozen=True, slots=True)
class Fill:
    """What an order of ours did to the account, as far as it is known."""

    spent: str
    """The currency that it took from the account."""
    received: str
    """The currency that it brought."""
    amount: Decimal | None
    """How much of `spent` it took; None when that is not known."""
    step: Decimal = Decimal(0)
    """The step of amounts in `spent`: less than this cannot be ordered, and may be left."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What orders of ours took of a currency since an answer stated it."""

    amount: Decimal
    step: Decimal
    at: Instant
    """When the newest of them ended."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An answer without any currency, of an account of which nothing is known. Neither error nor success."""

    why: str


@dataclass(frozen=True, slots=True)
class Doubts:
    """All that is in doubt about one account. Immutable: `judged` and `filled` give new ones."""

    missing: Mapping[str, Absence] = field(default_factory=lambda: MappingProxyType({}))
    """The currencies that held something and are not stated."""
    empty: Absence | None = None
    """The newest answers, when they stated no currency at all."""
    taken: Mapping[str, Taken] = field(default_factory=lambda: MappingProxyType({}))
    """What orders of ours took of each currency since it was last stated."""

    @property
    def counted(self) -> bool:
        """Whether the next answer may end one of the doubts by agreeing with those before it."""
        return self.empty is not None or any(absence.reads for absence in self.missing.values())

    def interrupted(self) -> Doubts:
        """A read failed: the answers before it do not agree with those after it. The doubts stay."""
        if not self.counted:
            return self
        missing = {code: replace(absence, reads=0) for code, absence in self.missing.items()}
        return replace(self, missing=MappingProxyType(missing), empty=None)

    def filled(self, fill: Fill, now: Instant) -> Doubts:
        """An order of ours has ended, with this fill."""
        # What it brought may be more than what earlier ones took: they explain no absence any more.
        taken = {code: before for code, before in self.taken.items() if code != fill.received}
        if fill.amount is not None:
            before = taken.get(fill.spent)
            amount = fill.amount if before is None else total((before.amount, fill.amount))
            taken[fill.spent] = Taken(amount, fill.step, now)
        return replace(self, taken=MappingProxyType(taken))


NO_DOUBTS: Final = Doubts()


def judged(
    doubts: Doubts,
    outcome: Balance | Fault,
    last: Balance | None,
    *,
    funded: bool = False,
    allow_empty: bool = False,
) -> tuple[Doubts, Balance | Fault | Unconfirmed]:
    """Fold one read into the doubts.

    Args:
        doubts: those after the reads before it.
        outcome: what the read found. Its `as_of` is the time by which the doubts are counted.
        last: the last known balance.
        funded: whether any balance ever held anything.
        allow_empty: whether the operator says that the account may be empty. It ends only the doubt about an
            account of which nothing is known.

    Returns:
        The doubts after it, and what the read proves: a balance in which the currencies in doubt are marked;
        a fault; or that nothing is proven yet.
    """
    if isinstance(outcome, Fault):
        return doubts.interrupted(), outcome
    if not outcome.holdings:
        return _without_currency(doubts, outcome, last, funded=funded, allow_empty=allow_empty)
    if last is not None and outcome.as_of.up_s < last.as_of.up_s:
        return doubts, outcome  # it does not replace the last known, and says nothing newer
    missing: dict[str, Absence] = {}
    kept: dict[str, Holding] = {}
    forgotten = set[str]()  # of which only what was free or used was known, and that is not any more
    for code, known in _left_out(outcome, last):
        absence = _again(doubts.missing.get(code), outcome.as_of)
        if code in outcome.unread:
            # It is named: answers that cannot be read are no answers that leave it out.
            absence = replace(absence, first=outcome.as_of, newest=outcome.as_of, reads=0)
        if code in outcome.unread or not (
            absence.steady() or _is_summed(code, outcome, last) or _is_taken(code, known, doubts, outcome)
        ):
            missing[code] = absence
            if known.total is None:
                forgotten.add(code)
            else:
                kept[code] = _in_doubt(known.total, known.staked, absence.since)
    unread = {*outcome.unread, *forgotten}
    for code in () if last is None else last.unread - unread - outcome.holdings.keys() - kept.keys():
        # It was there, nothing more is known of it, and now it is not even named.
        absence = _again(doubts.missing.get(code), outcome.as_of)
        if not absence.steady():
            missing[code] = absence
            unread.add(code)
    taken = {
        code: fills
        for code, fills in doubts.taken.items()
        if outcome.as_of.up_s < fills.at.up_s or code in missing
    }
    if not (missing or taken or doubts.missing or doubts.empty or doubts.taken):
        return doubts, outcome  # nothing was in doubt, and nothing is
    after = Doubts(MappingProxyType(missing), None, MappingProxyType(taken))
    if not missing:
        return after, outcome
    if len(outcome.holdings) + len(kept) > MAX_CURRENCIES:
        # It would be refused as a balance. Whatever answers so has not the account in it that is known.
        return doubts.interrupted(), Fault(FaultKind.BAD_RESPONSE, f"{len(kept)} currencies are not stated")
    held = {**outcome.holdings, **kept}
    return after, msgspec.structs.replace(outcome, holdings=held, unread=frozenset(unread))


def recalled(
    doubts: Doubts, balance: Balance | None, before: Doubts, remembered: Balance
) -> tuple[Balance, Doubts]:
    """The newest balance and the doubts, once it is found what an earlier process knew.

    Args:
        doubts: those of this process.
        balance: the last known of this process; None: there is none.
        before: the doubts of the earlier process.
        remembered: its last known balance.
    """
    if balance is None or remembered.as_of.up_s > balance.as_of.up_s:
        return remembered, before
    found, newest = judged(before, balance, remembered)
    if not isinstance(newest, Balance):
        return balance, doubts
    missing = MappingProxyType({**found.missing, **doubts.missing})
    return newest, replace(doubts, missing=missing)


def _without_currency(
    doubts: Doubts, balance: Balance, last: Balance | None, *, funded: bool, allow_empty: bool
) -> tuple[Doubts, Balance | Fault | Unconfirmed]:
    said = "no currency at all" if balance.stated else "no error and no result"
    if not balance.stated and funded:
        why = f"{said}, from an account that held something before"
        return doubts.interrupted(), Fault(FaultKind.BAD_RESPONSE, why)
    is_known = last is not None and bool(last.holdings)
    if not is_known and (allow_empty or last is not None):
        return NO_DOUBTS, balance
    if last is not None and balance.as_of.up_s < last.as_of.up_s:
        return doubts, Fault(FaultKind.BAD_RESPONSE, f"{said}, and there were some in a newer answer")
    absence = _again(doubts.empty, balance.as_of)
    needed = AGREEING_READS if balance.stated else UNSTATED_READS
    if absence.steady(needed):
        return NO_DOUBTS, balance
    counted = replace(doubts.interrupted(), empty=absence)
    rule = f"believed after {needed} such answers over {AGREEING_OVER_S:g} s"
    if is_known:
        return counted, Fault(FaultKind.BAD_RESPONSE, f"{said}, and there were some before; {rule}")
    return counted, Unconfirmed(f"{_CONFIRMING}: {said}; {rule}")


_CONFIRMING: Final = "empty, confirming"


def confirming(doubts: Doubts) -> str:
    """That the answers of a new account are empty and not believed yet, in words; empty when they are not."""
    if doubts.empty is None:
        return ""
    return f"{_CONFIRMING}: {doubts.empty.reads} such answers so far, over {doubts.empty.over_s:.0f} s"


def _again(before: Absence | None, asked: Instant) -> Absence:
    """The absence with one more answer. An answer that was not asked for after the newest adds nothing."""
    if before is None:
        return Absence(asked, asked, asked, 1)
    if not before.reads:
        return Absence(before.since, asked, asked, 1)
    if asked.up_s <= before.newest.up_s:
        return before
    return replace(before, newest=asked, reads=before.reads + 1)


def _left_out(balance: Balance, last: Balance | None) -> Iterator[tuple[str, Holding]]:
    """What held something before and is not stated."""
    for code, known in () if last is None else last.holdings.items():
        if code not in balance.holdings and any((known.total, known.free, known.used)):
            yield code, known


def _in_doubt(total: Decimal, staked: Decimal, since: Instant) -> Holding:
    return Holding(free=None, used=None, total=total, staked=staked, unstated_since_us=since.wall_us)


def _is_summed(code: str, balance: Balance, last: Balance | None) -> bool:
    """Whether a sum without this currency agrees, and was one that would have it in."""
    was = None if last is None else last.summed
    return balance.summed is not None and was is not None and code in was


def _is_taken(code: str, known: Holding, doubts: Doubts, balance: Balance) -> bool:
    """Whether orders of ours took all of it before the answer was asked for."""
    fills = doubts.taken.get(code)
    if fills is None or balance.as_of.up_s < fills.at.up_s or known.total is None:
        return False
    rest = less(known.total, fills.amount)
    return rest <= 0 or rest < fills.step
