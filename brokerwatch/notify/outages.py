"""Which message is to be sent: a pure fold of what is seen of each account, and of the time.

*One message for each outage and one for each recovery.* An outage begins when an account is not available,
and ends when it is. Whatever reason it has meanwhile, it is the same outage. It is identified by its account
and the moment at which it began, and it is kept over a restart (`brokerwatch.notify.outage_state`). A hold of
an operator is no outage: nothing begins and nothing ends while it lasts.

*A reason that mostly ends by itself gets time* (`Rules.grace_s`): an actor that is started again, a life that
has not been answered yet.

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
from dataclasses import dataclass, replace
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.notify import wording
from brokerwatch.notify.causes import LINE, Cause, Found, causes_of, is_behind
from brokerwatch.notify.notices import Kind, Notice, Severity
from brokerwatch.notify.observations import Observation
from brokerwatch.notify.outage_state import (
    MAINTENANCE_S,
    PAUSES,
    Flap,
    Maintenance,
    Outage,
    Outages,
    Rules,
    Subject,
    beginnings,
    folded,
    maintenance_of,
)
from brokerwatch.notify.silences import Silence, muted

_NOT_MUTED: Final = frozenset(
    {Reason.AUTH, Reason.FAILED, Reason.CONFIG, Reason.LOCKED_OUT, Reason.LOOP, Reason.CLAIM}
)
"""Reasons that no maintenance of an exchange explains."""
DEFAULT_RULES: Final = Rules()
_UNDECIDED: Final = frozenset({Reason.NEVER_SEEN, Reason.RESTARTING, Reason.UNPROVEN, Reason.RECOVERING})


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
    rules: Rules = DEFAULT_RULES,
    *,
    deaf: bool = False,
) -> Looked:
    """Take in what is seen at this moment, and decide what is to be said.

    Args:
        before: what the last look left.
        observations: what is seen of every account, and of its orders.
        now: the moment.
        silences: the silences of operators.
        rules: the numbers.
        deaf: whether nothing at all was heard since the start, for longer than is usual.
    """
    seen = {each.subject: each for each in observations}
    left = {name for name, each in seen.items() if each.reason is Reason.SHUTDOWN}
    if len(left) < len(seen):
        # The cluster goes on without these: they are not watched any more, and that is no outage.
        seen = {name: each for name, each in seen.items() if name not in left}
    accounts = {each.broker: each for each in seen.values() if not each.of_orders}
    subjects = dict(before.subjects)
    for name, each in seen.items():
        subjects[name] = folded(subjects.get(name, Subject()), each, now)
    maintenance = maintenance_of(before.maintenance, accounts.values(), now)
    quiet = tuple(silences)
    found = causes_of(before.causes, accounts, beginnings(subjects), now, rules.line_settled_s, deaf=deaf)
    turn = _Turn(now, quiet, rules, seen, accounts, maintenance, found)
    return turn.decided(Outages(subjects, found.causes, maintenance, before.warned))


class _Turn:
    """One look: decides about every subject, and gathers what is to be said."""

    def __init__(
        self,
        now: Instant,
        silences: tuple[Silence, ...],
        rules: Rules,
        seen: Iterable[str],
        accounts: Mapping[str, Observation],
        maintenance: Mapping[str, Maintenance],
        found: Found,
    ) -> None:
        self._now = now
        self._silences = silences
        self._rules = rules
        self._seen = frozenset(seen)
        self._accounts = accounts
        self._maintenance = maintenance
        self._found = found
        self._notices: list[Notice] = []
        self._withdrawn: dict[str, str] = {}

    def decided(self, outages: Outages) -> Looked:
        causes = self._own(outages.causes)
        subjects = {
            # What is not seen at this moment has left, or is not heard yet.
            name: self._subject(name, each) if name in self._seen else each
            for name, each in outages.subjects.items()
        }
        after = replace(outages, subjects=subjects, causes=causes)
        return Looked(after, tuple(self._notices), self._withdrawn)

    def _own(self, causes: Mapping[str, Cause]) -> Mapping[str, Cause]:
        """Say what concerns the watcher itself: at once, or, of our own line, when it is back."""
        all_muted = any(each.covers_all and not each.is_over(self._now.wall_us) for each in self._silences)
        kept = dict(causes)
        for name, cause in causes.items():
            lasts_s = self._now.up_s - cause.since.up_s
            if name == LINE or cause.told or all_muted:
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
            return subject
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
        if seen.ok or seen.reason in PAUSES or outage.behind in self._found.causes:
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


def _answers(seen: Observation, since: Instant) -> bool:
    """Whether the exchange of this account has answered since then."""
    if seen.cut_off:
        return False
    return seen.fault is not None or (seen.as_of is not None and seen.as_of.up_s >= since.up_s)


def _later(now: Instant, seconds: float) -> Instant:
    return Instant(now.wall_us + round(seconds * 1_000_000), now.up_s + seconds)


def _key(subject: str, kind: Kind, since: Instant) -> str:
    return f"{subject}/{since.wall_us}/{kind}"
