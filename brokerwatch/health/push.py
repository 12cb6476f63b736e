"""What an exchange pushes about one account, and what it is worth: a pure fold over its stream and its reads.

*A pushed amount is shown and proves nothing.* It is shown at once, with its own mark, until a read that began
after it. What is held for orders is that of the newest read where the stream does not state it.

*The read wins.* After each read the amounts are compared. An amount that was pushed while the read was under
way may be missing in it, and an amount in the read may still be under way in the stream. So a difference
counts only once it has lasted for `GRACE_S`, over another read. Until then the amount of the read is shown
with a mark. Then the stream is not trusted for `DISTRUST_S`, and after `MOST_STRIKES` of them it is off.

*The stream has a state.* It is live after its acknowledgement, its first whole snapshot, and a read that
began after both and agrees. Only while it is live are polls more seldom. It never makes an account available.

*A lost stream is no error.* It is a reason to ask now. What it had pushed last stays shown, with its mark,
until the next read: the amount before it would be older and have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from brokerwatch.clock import Instant
from brokerwatch.messages import Balance, Holding, clipped
from brokerwatch.messages.balance import MAX_CURRENCIES, less
from brokerwatch.messages.stream import NamedOrder, PushedAmounts, StreamData, StreamState

GRACE_S: Final = 3.0
"""A difference may last so long: a frame may be under way, or reads may be behind the stream."""
DISTRUST_S: Final = 600.0
"""A stream that was wrong sets nothing for so long."""
MOST_STRIKES: Final = 3
"""After so many of them it is off."""
SAME: Final = Decimal("0.00000001")
"""Amounts that differ by less are the same: a stream states fewer digits than a read, and its last one is
rounded."""
ONLY_ASKS: Final = "its frames ask for reads, and state no amounts"
_NOTHING: Final = Holding(free=Decimal(0), used=Decimal(0), total=Decimal(0))


class StreamLine(Protocol):
    """The connection behind a stream, for any thread."""

    @property
    def last_frame_s(self) -> float:
        """When its newest frame came, in monotonic seconds; minus infinity before the first."""
        ...

    def reconnect(self) -> None:
        """Begin anew, with a whole snapshot. Never waits."""
        ...

    def end(self) -> None:
        """Connect no more. Never waits."""
        ...


@dataclass(frozen=True, slots=True)
class Connecting:
    """The stream is being made."""

    line: StreamLine
    why: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The exchange has accepted the subscription. `sets`: whether its frames state amounts."""

    sets: bool


@dataclass(frozen=True, slots=True)
class Asks:
    """A read is needed."""

    why: str
    orders: tuple[NamedOrder, ...] = ()
    """The orders that it is about, where orders are watched; empty: it may be about any."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is lost, and made anew."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The exchange does not let this key have the stream. It is tried again, and seldom."""

    why: str


StreamEvent = Connecting | Acknowledged | PushedAmounts | Asks | Lost | Refused
"""What a stream says."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """An amount that was pushed."""

    held: Holding
    at: Instant


@dataclass(frozen=True, slots=True)
class PushWatch:
    """The stream of one account. Immutable: each method gives the next one."""

    state: StreamState = StreamState.ABSENT
    since: Instant = field(default_factory=lambda: Instant(0, 0.0))
    detail: str = ""
    sets: bool = False
    acknowledged: Instant | None = None
    """When the present connection was; None: it was not."""
    whole: Instant | None = None
    """When the present connection gave its newest whole snapshot."""
    amounts: Mapping[str, Pushed] = field(default_factory=lambda: MappingProxyType({}))
    unset: frozenset[str] = frozenset()
    """Currencies that the stream names without an amount: only reads say them."""
    wanted: Instant | None = None
    """A read that begins after this moment is wanted; None: none is."""
    changed: Instant | None = None
    """When the stream last said that something in the account has changed; None: it never did."""
    differs: Mapping[str, Instant] = field(default_factory=lambda: MappingProxyType({}))
    """Currency to when a read first differed from what was pushed before it."""
    distrusted_until: Instant | None = None
    strikes: int = 0

    @property
    def off(self) -> bool:
        """Whether it was wrong too often."""
        return self.strikes >= MOST_STRIKES

    @property
    def live(self) -> bool:
        """Whether polls may be more seldom."""
        return self.state is StreamState.LIVE and self.sets

    @property
    def trusted(self) -> bool:
        """Whether what it pushes is shown."""
        return self.distrusted_until is None and not self.off

    def data(self) -> StreamData | None:
        """Its state as a reading carries it; None: there never was a stream."""
        if self.state is StreamState.ABSENT and not self.detail:
            return None
        return StreamData(state=self.state, since_us=self.since.wall_us, detail=self.detail)

    # --- what the stream says --------------------------------------------------------------------------

    def heard(self, event: StreamEvent, now: Instant) -> PushWatch:
        """The stream said this."""
        if self.off:
            return self
        match event:
            case Connecting(why=why):
                return self._unconnected(now)._connecting(why, now)
            case Acknowledged(sets):
                return replace(self, acknowledged=now, sets=sets, wanted=now)._judged("", now)
            case PushedAmounts():
                return self._stated(event, now)
            case Asks():
                return replace(self, wanted=now, changed=now if self.sets else self.changed)
            case Lost(why):
                return self._unconnected(now)._connecting(f"lost: {why}", now)
            case Refused(why):
                return self._unconnected(now)._moved(StreamState.REFUSED, why, now)

    def switched_off(self, now: Instant) -> PushWatch:
        """The configuration has none any more, or the key is another one: nothing of before counts."""
        return PushWatch(since=now)

    def _unconnected(self, now: Instant) -> PushWatch:
        """Without the connection. It is a reason to ask now, where there was one."""
        wanted = now if self.acknowledged is not None else self.wanted
        return replace(self, acknowledged=None, whole=None, differs=MappingProxyType({}), wanted=wanted)

    def _stated(self, stated: PushedAmounts, now: Instant) -> PushWatch:
        new = {code: Pushed(held, now) for code, held in stated.holdings.items()}
        known = {} if stated.whole else {c: each for c, each in self.amounts.items() if c not in stated.unset}
        changed = (
            stated.whole
            or stated.unset
            or any(code not in known or not _same(known[code].held, each.held) for code, each in new.items())
        )
        # What is stated again is as it was: a read since then has it in it.
        kept = {
            code: known[code]
            for code, each in new.items()
            if code in known and code not in self.differs and _same(known[code].held, each.held)
        }
        unset = stated.unset if stated.whole else (self.unset | stated.unset) - new.keys()
        if len(known) + len(new) + len(unset) > MAX_CURRENCIES:
            # No account holds so many: what was stated before is not held against reads any more.
            self, known, kept, unset = replace(self, whole=None), {}, {}, stated.unset
        return replace(
            self,
            amounts=MappingProxyType({**known, **new, **kept}),
            unset=unset,
            whole=now if stated.whole else self.whole,
            differs=MappingProxyType({c: since for c, since in self.differs.items() if c not in new}),
            wanted=now if changed else self.wanted,
            changed=now if changed and not stated.whole else self.changed,
        )._judged("", now)

    # --- what a read says ------------------------------------------------------------------------------

    def read(self, balance: Balance, now: Instant) -> PushWatch:
        """A balance was read; `now` is when its answer had come."""
        asked, after = balance.as_of, self.answered(balance.as_of)
        if self.whole is None or self.acknowledged is None or not self.trusted or not self.sets:
            return after
        gone = self._differing(balance, before=False)
        if gone:
            # It was pushed while the read was under way: the next one decides.
            after = replace(after, wanted=after.wanted or now)
        found = set(self._differing(balance, before=True))
        since = {code: self.differs.get(code, now) for code in sorted(found)}
        after = replace(after, differs=MappingProxyType(since))
        lasting = [code for code, first in since.items() if asked.up_s - first.up_s >= GRACE_S]
        if lasting:
            return after._struck(lasting, balance, now)
        if since:
            return replace(after, wanted=after.wanted or now)._judged(self._words(since, balance), now)
        begun_s = max(self.whole.up_s, self.acknowledged.up_s)
        if asked.up_s >= begun_s and not gone:
            return after._moved(StreamState.LIVE, "", now)
        return after

    def answered(self, asked: Instant) -> PushWatch:
        """The exchange answered a read that was asked for then, and the answer is no balance yet."""
        satisfied = self.wanted is not None and asked.up_s >= self.wanted.up_s
        return replace(self, wanted=None) if satisfied else self

    def _differing(self, balance: Balance, *, before: bool) -> list[str]:
        """The currencies of which a read has another total than was pushed before it began, or after."""
        asked_s = balance.as_of.up_s
        found: list[str] = []
        for code, each in self.amounts.items():
            if (each.at.up_s < asked_s) is before and code not in balance.unread:
                held = balance.holdings.get(code)
                # What an answer leaves out has a rule of its own, in `health.stated`.
                known = held is None or (held.unstated_since_us is None and held.total is not None)
                if known and not _equal(each.held.total, Decimal(0) if held is None else held.total):
                    found.append(code)
        if self.whole is not None and (self.whole.up_s < asked_s) is before:
            found += [
                code
                for code, held in balance.holdings.items()
                if code not in self.amounts
                and code not in self.unset
                and held.unstated_since_us is None
                and not _equal(held.total, Decimal(0))
            ]
        return found

    def _struck(self, codes: list[str], balance: Balance, now: Instant) -> PushWatch:
        """A difference has lasted too long: the read counts, and the stream does not."""
        words = self._words(codes, balance)
        after = replace(
            self,
            strikes=self.strikes + 1,
            amounts=MappingProxyType({}),
            differs=MappingProxyType({}),
            whole=None,
        )
        if after.off:
            return after._moved(StreamState.ABSENT, f"off: wrong for the {MOST_STRIKES}rd time: {words}", now)
        until = Instant(now.wall_us + round(DISTRUST_S * 1_000_000), now.up_s + DISTRUST_S)
        return replace(after, distrusted_until=until)._moved(StreamState.SUSPECT, f"was wrong: {words}", now)

    def _words(self, codes: Mapping[str, object] | list[str], balance: Balance) -> str:
        said: list[str] = []
        for code in codes:
            pushed, read = self.amounts.get(code), balance.holdings.get(code)
            first = "nothing" if pushed is None else f"{pushed.held.total:f}"
            second = "nothing" if read is None or read.total is None else f"{read.total:f}"
            said.append(f"{first} {code} pushed, {second} read")
        return "; ".join(said)

    def due(self, now: Instant) -> bool:
        """Whether the distrust is over: a new connection gives a new snapshot."""
        return self.distrusted_until is not None and now.up_s >= self.distrusted_until.up_s

    def trusted_again(self, now: Instant) -> PushWatch:
        """The distrust is over."""
        return replace(self, distrusted_until=None)._moved(StreamState.CONNECTING, "", now)

    def _judged(self, words: str, now: Instant) -> PushWatch:
        """Its state after a frame, or after a read that differs."""
        if self.acknowledged is None or not self.trusted:
            return self
        if not self.sets:
            return self._moved(StreamState.SUSPECT, ONLY_ASKS, now)
        if self.state is StreamState.LIVE and not words:
            return self
        return self._moved(StreamState.SUSPECT, words or "not confirmed by a read yet", now)

    def _connecting(self, words: str, now: Instant) -> PushWatch:
        return self._moved(StreamState.CONNECTING, words, now) if self.trusted else self

    def _moved(self, state: StreamState, detail: str, now: Instant) -> PushWatch:
        since = self.since if state is self.state else now
        return replace(self, state=state, since=since, detail=clipped(detail))

    # --- what is shown ---------------------------------------------------------------------------------

    def shown(self, balance: Balance | None) -> Balance | None:
        """The last known balance with what was pushed since it was asked for; the same where nothing was."""
        if balance is None or not self.trusted:
            return balance
        asked_s = balance.as_of.up_s
        over: dict[str, Holding] = {}
        for code, each in self.amounts.items():
            if each.at.up_s >= asked_s:
                laid = _laid(each, balance.holdings.get(code))
                if laid is not None:
                    over[code] = laid
        if self.whole is not None and self.whole.up_s >= asked_s:
            over |= self._left_out(balance, self.whole)
        over |= self._unsettled(balance)
        if not over:
            return balance
        held = {**balance.holdings, **over}
        if len(held) > MAX_CURRENCIES:
            return balance
        return msgspec.structs.replace(balance, holdings=held)

    def _unsettled(self, balance: Balance) -> dict[str, Holding]:
        """Of what a read and the stream differ in, the amounts of the read with a mark: it may be behind."""
        found: dict[str, Holding] = {}
        for code, since in self.differs.items():
            held, pushed = balance.holdings.get(code, _NOTHING), self.amounts.get(code)
            if held.unstated_since_us is None:
                at = since if pushed is None else pushed.at
                found[code] = msgspec.structs.replace(held, pushed_us=at.wall_us)
        return found

    def _left_out(self, balance: Balance, whole: Instant) -> dict[str, Holding]:
        """What a whole snapshot does not state: in doubt until a read, whose rule decides."""
        return {
            code: Holding(
                free=None, used=None, total=held.total, staked=held.staked, unstated_since_us=whole.wall_us
            )
            for code, held in balance.holdings.items()
            if code not in self.amounts and code not in self.unset and held.total
        }

    def overtaken_s(self, balance: Balance) -> float:
        """When, in monotonic seconds, the stream said that something changed after this balance was asked
        for; minus infinity: it did not."""
        moments = [] if self.changed is None else [self.changed.up_s]
        moments += [balance.as_of.up_s] if self.differs and self.trusted else []
        if self.shown(balance) is not balance:
            moments += [each.at.up_s for each in self.amounts.values()]
            moments += [] if self.whole is None else [self.whole.up_s]
        return max((at_s for at_s in moments if at_s >= balance.as_of.up_s), default=float("-inf"))


def _laid(pushed: Pushed, known: Holding | None) -> Holding | None:
    """A pushed amount over what a read stated; None where it says the same."""
    held = pushed.held
    if known is None:
        if not held.total:
            return None
        known = _NOTHING
    if known.unstated_since_us is None and _equal(held.total, known.total) and _agrees(held, known):
        return None
    free, used = held.free, held.used
    staked = known.staked
    if free is None and used is None and known.used is not None and held.total is not None:
        # What orders hold is that of the newest read.
        used = known.used
        free = less(held.total, used)
        if free < 0:
            free = used = None
            staked = Decimal(0)
    return Holding(free=free, used=used, total=held.total, staked=staked, pushed_us=pushed.at.wall_us)


def _agrees(held: Holding, known: Holding) -> bool:
    """Whether what the stream states of the parts is what the read stated."""
    return (held.free is None or _equal(held.free, known.free)) and (
        held.used is None or _equal(held.used, known.used)
    )


def _same(first: Holding, second: Holding) -> bool:
    return (first.total, first.free, first.used) == (second.total, second.free, second.used)


def _equal(first: Decimal | None, second: Decimal | None) -> bool:
    if first is None or second is None:
        return first is second
    return abs(less(first, second)) < SAME
