"""Which message is to be sent: a pure fold of what is seen of each account, and of the time.

*One message for each outage and one for each recovery.* An outage begins when an account is not available,
and ends when it is. Whatever reason it has meanwhile, it is the same outage. It is identified by its account
and the moment at which it began, and it is kept over a restart (`stored`, `restored`). A hold of an operator
is no outage: nothing begins and nothing ends while it lasts.

*A reason that mostly ends by itself gets time* (`GRACE_S`): an actor that is started again, a life that has
not been answered yet.

*One cause, one message.* When our own line is down, when brokerwatch hears none of its parts, or when nothing
is heard from the cluster, the accounts behind it get no message (`brokerwatch.notify.causes`).

*An account that goes out again and again gets a digest* in place of single messages, until it has not changed
for a while.

*A silence mutes messages and never a state.* What was not said because of it is said when it ends, if it
still holds. The exchange's own word that it is in maintenance makes a silence by itself, for at most
`MAINTENANCE_S`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.notify import wording
from brokerwatch.notify.causes import LINE, Cause, Found, causes_of, is_behind
from brokerwatch.notify.notices import Kind, Notice, Severity
from brokerwatch.notify.observations import Observation
from brokerwatch.notify.rebasing import rebased
from brokerwatch.notify.silences import MAINTENANCE, Silence, muted

LONGEST_PAST_US: Final = 366 * 86_400 * 1_000_000
"""No outage is believed to have begun earlier than this before it is seen."""
MAINTENANCE_S: Final = 6 * 3_600.0
"""After so long an outage in maintenance is said all the same."""
SAID_FOR_S: Final = 300.0
"""An exchange that has not said for so long that it is in maintenance is in none."""

_NOT_MUTED: Final = frozenset({Reason.AUTH, Reason.FAILED, Reason.CONFIG, Reason.LOCKED_OUT, Reason.LOOP})
"""Reasons that no maintenance of an exchange explains."""
_PAUSES: Final = frozenset({Reason.HELD_OUT, Reason.SHUTDOWN})
"""An operator has asked for it: no outage begins or ends meanwhile."""
_UNDECIDED: Final = frozenset({Reason.NEVER_SEEN, Reason.RESTARTING, Reason.UNPROVEN, Reason.RECOVERING})


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of the decisions, in seconds where nothing else is said."""

    flapping_outages: int = 4
    """So many outages within `flapping_window_s` are flapping."""
    flapping_window_s: float = 600.0
    digest_interval_s: float = 900.0
    line_doubt_s: float = 30.0
    """For so long an outage by the network waits for another account to show whether our own line works."""
    line_settled_s: float = 5.0
    """Our line is back when an exchange has answered for so long."""
    freed_s: float = 90.0
    """An account that was behind a cause gets so long to come back after it."""
    grace_s: Mapping[Reason, float] = field(
        default_factory=lambda: MappingProxyType(
            {
                Reason.NEVER_SEEN: 60.0,
                Reason.RESTARTING: 60.0,
                Reason.RECOVERING: 30.0,
                Reason.UNPROVEN: 20.0,
                Reason.NOTHING_HEARD: 10.0,
                Reason.SILENT: 5.0,
                Reason.BLIND: 5.0,
                Reason.LOOP: 5.0,
                Reason.CONFIG: 3.0,
                Reason.AUTH: 3.0,
            }
        )
    )
    """How long an outage of this reason may last before it is said; 0 for a reason that is not here."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One outage."""

    since: Instant
    """When it began: with the account, its identity."""
    told: bool = False
    """Whether it was said, alone or in a digest."""
    behind: str = ""
    """The cause for which it is not said; empty: there is none."""
    freed: Instant | None = None
    """When that cause ended."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The end of an outage that is still to be said."""

    since: Instant
    ended: Instant


@dataclass(frozen=True, slots=True)
class Flap:
    """An account that goes out again and again."""

    since: Instant
    """When the first of these outages began."""
    outages: int
    """How many there were."""
    told: int
    """How many of them a message has counted."""
    down_s: float
    """How long it was out in all, in seconds, without the outage that lasts."""
    changed: Instant
    """When it last went out or came back."""
    digest_due: Instant
    """When the next digest is due."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of one account, or of its orders."""

    seen: Observation | None = None
    """The newest observation; None: there was none since the start."""
    outage: Outage | None = None
    recovery: Recovery | None = None
    starts: tuple[Instant, ...] = ()
    """When the newest outages were said."""
    flap: Flap | None = None


@dataclass(frozen=True, slots=True)
class Maintenance:
    """An exchange that says that it is in maintenance."""

    since: Instant
    said: Instant
    """When it was last said."""
    why: str


@dataclass(frozen=True, slots=True)
class Outages:
    """Everything that decides about messages. Immutable."""

    subjects: Mapping[str, Subject] = field(default_factory=lambda: MappingProxyType({}))
    causes: Mapping[str, Cause] = field(default_factory=lambda: MappingProxyType({}))
    maintenance: Mapping[str, Maintenance] = field(default_factory=lambda: MappingProxyType({}))
    """By exchange."""
    warned: tuple[str, ...] = ()
    """The warnings that stand and were said: see `brokerwatch.notify.warnings`."""

    def silences(self) -> tuple[Silence, ...]:
        """The silences that exchanges' own announcements have made."""
        return tuple(
            Silence(
                name=f"{MAINTENANCE}{exchange}",
                why=each.why or "the exchange says that it is in maintenance",
                by=exchange,
                since_us=each.since.wall_us,
                until_us=each.since.wall_us + round(MAINTENANCE_S * 1_000_000),
                exchanges=(exchange,),
            )
            for exchange, each in self.maintenance.items()
        )

    def stored(self) -> Outages:
        """What is kept over a restart."""
        kept = {name: replace(each, seen=None) for name, each in self.subjects.items()}
        return replace(self, subjects={name: each for name, each in kept.items() if each != Subject()})

    def restored(self, now: Instant) -> Outages:
        """The same in the monotonic seconds of this process."""
        return rebased(self, now)

    def untold(self, subjects: Iterable[str]) -> Outages:
        """The messages about these outages were withdrawn before they were sent."""
        changed = dict(self.subjects)
        for name in subjects:
            outage = changed[name].outage
            if outage is not None:
                changed[name] = replace(changed[name], outage=replace(outage, told=False))
        return replace(self, subjects=changed)


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look has found."""

    outages: Outages
    notices: tuple[Notice, ...]
    """What is to be said now, in this order."""
    withdrawn: Mapping[str, str]
    """Subject to the key of a notice that is not to be sent any more, where it was not sent yet."""


def looked(
    before: Outages,
    observations: Iterable[Observation],
    now: Instant,
    silences: Iterable[Silence] = (),
    rules: Rules = Rules(),
) -> Looked:
    """Take in what is seen at this moment, and decide what is to be said.

    Args:
        before: what the last look left.
        observations: what is seen of every account, and of its orders.
        now: the moment.
        silences: the silences of operators.
        rules: the numbers.
    """
    seen = {each.subject: each for each in observations}
    left = {name for name, each in seen.items() if each.reason is Reason.SHUTDOWN}
    if len(left) < len(seen):
        # The cluster goes on without these: they are not watched any more, and that is no outage.
        seen = {name: each for name, each in seen.items() if name not in left}
    accounts = {each.broker: each for each in seen.values() if not each.of_orders}
    subjects = dict(before.subjects)
    for name, each in seen.items():
        subjects[name] = _folded(subjects.get(name, Subject()), each, now)
    maintenance = _maintenance(before.maintenance, accounts.values(), now)
    quiet = tuple(silences)
    found = causes_of(before.causes, accounts, _since_of(subjects), now, rules.line_settled_s)
    turn = _Turn(now, quiet, rules, accounts, maintenance, found)
    return turn.decided(Outages(subjects, found.causes, maintenance, before.warned))


class _Turn:
    """One look: decides about every subject, and gathers what is to be said."""

    def __init__(
        self,
        now: Instant,
        silences: tuple[Silence, ...],
        rules: Rules,
        accounts: Mapping[str, Observation],
        maintenance: Mapping[str, Maintenance],
        found: Found,
    ) -> None:
        self._now = now
        self._silences = silences
        self._rules = rules
        self._accounts = accounts
        self._maintenance = maintenance
        self._found = found
        self._notices: list[Notice] = []
        self._withdrawn: dict[str, str] = {}

    def decided(self, outages: Outages) -> Looked:
        causes = self._own(outages.causes)
        subjects = {name: self._subject(name, each) for name, each in outages.subjects.items()}
        after = replace(outages, subjects=subjects, causes=causes)
        return Looked(after, tuple(self._notices), self._withdrawn)

    def _own(self, causes: Mapping[str, Cause]) -> Mapping[str, Cause]:
        """Say what concerns the watcher itself: at once, or, of our own line, when it is back."""
        all_muted = any(each.covers_all and not each.is_over(self._now.wall_us) for each in self._silences)
        kept = dict(causes)
        for name, cause in causes.items():
            lasts_s = self._now.up_s - cause.since.up_s
            if name == LINE or cause.told or all_muted or not cause.behind:
                continue
            if lasts_s >= self._rules.grace_s.get(cause.reason, 0.0):
                kept[name] = replace(cause, told=True)
                severity = Severity.WARNING if cause.reason is Reason.SHUTDOWN else Severity.CRITICAL
                words = wording.own_text(cause.reason, cause.since, cause.behind, self._now)
                self._say(name, Kind.OUTAGE, severity, cause.since, words)
        for name, cause in self._found.ended.items():
            if all_muted:
                continue
            if name == LINE:
                ended = cause.ended or self._now
                words = wording.line_text(cause.since, ended, cause.behind)
                self._say(name, Kind.LINE, Severity.INFO, cause.since, words)
            elif cause.told:
                words = wording.own_over_text(cause.reason, cause.since, self._now)
                self._say(name, Kind.RECOVERY, Severity.RECOVERY, cause.since, words)
        return kept

    def _subject(self, name: str, subject: Subject) -> Subject:
        seen = subject.seen
        if seen is None:
            return subject  # it was not seen since the start
        subject = self._placed(name, subject, seen)
        mute = self._is_muted(seen)
        subject = self._recovery(name, subject, seen, mute=mute)
        if subject.outage is not None and not subject.outage.told and not mute:
            subject = self._outage(name, subject, subject.outage, seen)
        return self._flap(name, subject, seen, mute=mute)

    def _placed(self, name: str, subject: Subject, seen: Observation) -> Subject:
        """The subject with its outage behind a cause, or freed of one that has ended."""
        outage = subject.outage
        if outage is None:
            return subject
        for cause in self._found.causes:
            if outage.behind != cause and is_behind(seen, cause):
                if outage.told and cause == LINE:
                    self._withdrawn[name] = _key(name, Kind.OUTAGE, outage.since)
                return replace(subject, outage=replace(outage, behind=cause, freed=None))
        if outage.behind and outage.behind not in self._found.causes and outage.freed is None:
            return replace(subject, outage=replace(outage, freed=self._now))
        return subject

    def _is_muted(self, seen: Observation) -> bool:
        if muted(self._silences, seen.broker, seen.exchange, self._now.wall_us):
            return True
        stated = self._maintenance.get(seen.exchange)
        explained = not seen.ok and (seen.of_orders or seen.reason not in _NOT_MUTED)
        if stated is None or not explained or seen.fault in (FaultKind.AUTH, FaultKind.PERMISSION):
            return False
        return self._now.up_s - stated.since.up_s < MAINTENANCE_S

    def _recovery(self, name: str, subject: Subject, seen: Observation, *, mute: bool) -> Subject:
        recovery = subject.recovery
        if recovery is None:
            return subject
        if subject.flap is not None or (mute and subject.outage is not None):
            return replace(subject, recovery=None)
        if mute:
            return subject
        back = seen if seen.ok else replace(seen, cash="")
        words = wording.recovery_text(back, recovery.since, recovery.ended, self._now)
        self._say(name, Kind.RECOVERY, Severity.RECOVERY, recovery.since, words)
        return replace(subject, recovery=None)

    def _outage(self, name: str, subject: Subject, outage: Outage, seen: Observation) -> Subject:
        if not self._is_due(outage, seen):
            return subject
        now, rules = self._now, self._rules
        window_s = rules.flapping_window_s
        starts = (*(each for each in subject.starts if now.up_s - each.up_s < window_s), now)
        flap = subject.flap
        if flap is not None:
            flap = replace(flap, outages=flap.outages + 1, changed=now)
        elif len(starts) >= rules.flapping_outages:
            due = _later(now, rules.digest_interval_s)
            flap = Flap(starts[0], len(starts), len(starts), 0.0, now, due)
            words = wording.flapping_text(
                seen, len(starts), flap.since, rules.digest_interval_s, window_s, now
            )
            self._say(name, Kind.FLAPPING, self._severity(seen), flap.since, words)
        else:
            words = wording.outage_text(seen, outage.since, self._accounts, now)
            self._say(name, Kind.OUTAGE, self._severity(seen), outage.since, words)
        told = replace(outage, told=True)
        return replace(subject, outage=told, starts=starts[-rules.flapping_outages :], flap=flap)

    def _is_due(self, outage: Outage, seen: Observation) -> bool:
        if seen.ok or seen.reason in _PAUSES or outage.behind in self._found.causes:
            return False
        if outage.freed is not None:
            undecided = seen.cut_off or seen.reason in _UNDECIDED
            if undecided and self._now.up_s - outage.freed.up_s < self._rules.freed_s:
                return False
        lasts_s = self._now.up_s - outage.since.up_s
        grace_s = 0.0 if seen.of_orders else self._rules.grace_s.get(seen.reason, 0.0)
        return lasts_s >= grace_s and not (
            lasts_s < self._rules.line_doubt_s and self._line_in_doubt(outage, seen)
        )

    def _line_in_doubt(self, outage: Outage, seen: Observation) -> bool:
        """Whether it may be our own line: no other account has shown since that it works."""
        others = [each for each in self._accounts.values() if each.asked and each.broker != seen.broker]
        return seen.cut_off and bool(others) and not any(_answers(each, outage.since) for each in others)

    def _flap(self, name: str, subject: Subject, seen: Observation, *, mute: bool) -> Subject:
        flap, now = subject.flap, self._now
        if flap is None:
            return subject
        if now.up_s - flap.changed.up_s >= self._rules.flapping_window_s:
            if mute:
                return subject
            words = wording.steady_text(seen, flap.outages, flap.down_s, flap.since, flap.changed, now)
            severity = Severity.RECOVERY if seen.ok else self._severity(seen)
            self._say(name, Kind.STEADY, severity, flap.since, words)
            return replace(subject, flap=None, starts=())
        if now.up_s < flap.digest_due.up_s:
            return subject
        due, more = _later(now, self._rules.digest_interval_s), flap.outages - flap.told
        if not more or mute:
            return replace(subject, flap=replace(flap, digest_due=due))
        words = wording.digest_text(seen, more, flap.outages, flap.down_s, flap.since)
        self._say(name, Kind.DIGEST, self._severity(seen), now, words)
        return replace(subject, flap=replace(flap, digest_due=due, told=flap.outages))

    def _severity(self, seen: Observation) -> Severity:
        return wording.severity_of(seen, self._accounts)

    def _say(
        self, subject: str, kind: Kind, severity: Severity, since: Instant, words: tuple[str, str]
    ) -> None:
        title, body = words
        self._notices.append(
            Notice(
                key=_key(subject, kind, since),
                subject=subject,
                kind=kind,
                severity=severity,
                title=title,
                body=body,
                at_us=self._now.wall_us,
            )
        )


def _folded(subject: Subject, seen: Observation, now: Instant) -> Subject:
    """The subject after this observation: outages begin and end here."""
    outage, flap = subject.outage, subject.flap
    if seen.reason in _PAUSES:
        return replace(subject, seen=seen)
    if not seen.ok:
        if outage is None:
            outage = Outage(_believed(seen.since_us, now))
        return replace(subject, seen=seen, outage=outage)
    if outage is None:
        return replace(subject, seen=seen)
    ended = _believed(seen.since_us, now)
    if ended.wall_us <= outage.since.wall_us:
        ended = now
    if flap is not None:
        flap = replace(flap, changed=now, down_s=flap.down_s + max(0.0, ended.up_s - outage.since.up_s))
    recovery = Recovery(outage.since, ended) if outage.told else subject.recovery
    return replace(subject, seen=seen, outage=None, recovery=recovery, flap=flap)


def _maintenance(
    before: Mapping[str, Maintenance], accounts: Iterable[Observation], now: Instant
) -> dict[str, Maintenance]:
    """Which exchanges say that they are in maintenance."""
    after: dict[str, Maintenance] = {}
    open_again: set[str] = set()
    for seen in accounts:
        known = after.get(seen.exchange) or before.get(seen.exchange)
        if seen.in_maintenance:
            why = seen.detail if known is None or not known.why else known.why
            said = now if known is None or now.up_s - known.said.up_s >= SAID_FOR_S / 5 else known.said
            after[seen.exchange] = Maintenance(now if known is None else known.since, said, why)
        elif seen.available and seen.fault is None:
            open_again.add(seen.exchange)
    for exchange, each in before.items():
        if exchange not in open_again and now.up_s - each.said.up_s < SAID_FOR_S:
            after.setdefault(exchange, each)
    return after


def _since_of(subjects: Mapping[str, Subject]) -> dict[str, Instant]:
    return {name: each.outage.since for name, each in subjects.items() if each.outage is not None}


def _answers(seen: Observation, since: Instant) -> bool:
    """Whether the exchange of this account has answered since then."""
    if seen.cut_off:
        return False
    return seen.fault is not None or (seen.as_of is not None and seen.as_of.up_s >= since.up_s)


def _believed(wall_us: int, now: Instant) -> Instant:
    """A moment that a reading names; now, where it cannot be."""
    lag_us = now.wall_us - wall_us
    return Instant(wall_us, now.up_s - lag_us / 1_000_000) if 0 <= lag_us < LONGEST_PAST_US else now


def _later(now: Instant, seconds: float) -> Instant:
    return Instant(now.wall_us + round(seconds * 1_000_000), now.up_s + seconds)


def _key(subject: str, kind: Kind, since: Instant) -> str:
    return f"{subject}/{since.wall_us}/{kind}"
