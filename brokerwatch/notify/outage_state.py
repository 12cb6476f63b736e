"""What is known of each account for the decisions about messages, and how an observation changes it. Pure.

An outage begins and ends here, and an exchange's own word of maintenance. Which message follows is decided in
`brokerwatch.notify.outages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.messages import Reason
from brokerwatch.notify.causes import Cause
from brokerwatch.notify.observations import Observation
from brokerwatch.notify.rebasing import rebased
from brokerwatch.notify.silences import MAINTENANCE, Silence

LONGEST_PAST_US: Final = 366 * 86_400 * 1_000_000
"""No outage is believed to have begun earlier than this before it is seen."""
MAINTENANCE_S: Final = 6 * 3_600.0
"""After so long an outage in maintenance is said all the same."""
SAID_FOR_S: Final = 300.0
"""An exchange that has not said for so long that it is in maintenance is in none."""
PAUSES: Final = frozenset({Reason.HELD_OUT, Reason.SHUTDOWN})
"""An operator has asked for it: no outage begins or ends meanwhile."""


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
                Reason.CLAIM: 10.0,
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


def folded(subject: Subject, seen: Observation, now: Instant) -> Subject:
    """The subject after this observation: outages begin and end here."""
    outage, flap = subject.outage, subject.flap
    # An account that is asked only when a program asks has simply not been asked yet.
    not_asked_yet = seen.reason is Reason.NEVER_SEEN and not seen.polled and seen.fault is None
    if seen.reason in PAUSES or not_asked_yet:
        return replace(subject, seen=seen)
    if not seen.ok:
        if outage is None:
            outage = Outage(believed(seen.since_us, now))
        return replace(subject, seen=seen, outage=outage)
    if outage is None:
        return replace(subject, seen=seen)
    ended = believed(seen.since_us, now)
    if ended.wall_us <= outage.since.wall_us:
        ended = now
    if flap is not None:
        flap = replace(flap, changed=now, down_s=flap.down_s + max(0.0, ended.up_s - outage.since.up_s))
    recovery = Recovery(outage.since, ended) if outage.told else subject.recovery
    return replace(subject, seen=seen, outage=None, recovery=recovery, flap=flap)


def maintenance_of(
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


def beginnings(subjects: Mapping[str, Subject]) -> dict[str, Instant]:
    return {name: each.outage.since for name, each in subjects.items() if each.outage is not None}


def believed(wall_us: int, now: Instant) -> Instant:
    """A moment that a reading names; now, where it cannot be."""
    lag_us = now.wall_us - wall_us
    return Instant(wall_us, now.up_s - lag_us / 1_000_000) if 0 <= lag_us < LONGEST_PAST_US else now
