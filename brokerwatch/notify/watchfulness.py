"""Whether all is watched: what the dead man's switch is fed on. Pure.

It is fed only while each account that should be asked has an outcome, a success or a counted fault, within
its bound. So an account that fails is watched, and one whose fetch waits for ever is not. An account that is
not asked by design (held out, locked out, refused, in maintenance, not polled) is counted and does not
matter. While our own line is down it is not fed, whatever comes back: then it is the switch that speaks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.clock import Instant, utc_iso
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.notify.observations import Observation
from brokerwatch.notify.wording import MAX_NAMES

NOT_POLLED: Final = "not_polled"
_BY_DESIGN: Final = frozenset(
    {Reason.HELD_OUT, Reason.LOCKED_OUT, Reason.AUTH, Reason.MAINTENANCE, Reason.CONFIG}
)
"""Under these reasons an account is not asked, or seldom, and it is known why."""
_UNWATCHED: Final = frozenset(
    {
        *(Reason.SILENT, Reason.RESTARTING, Reason.FAILED, Reason.LOOP, Reason.BLIND),
        *(Reason.NOTHING_HEARD, Reason.SHUTDOWN, Reason.CLAIM),
    }
)
"""Under these reasons it is brokerwatch that does not ask."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Of which accounts an outcome was seen since the watcher started."""

    began_s: float
    """When it started, in monotonic seconds."""
    faults: Mapping[str, tuple[int, FaultKind | None]] = field(default_factory=lambda: MappingProxyType({}))
    """Account to the run of its faults, as it was seen first."""
    outcomes: frozenset[str] = frozenset()
    """The accounts of which there was one."""

    def after(self, accounts: Iterable[Observation]) -> Heard:
        """The same after one more look at the accounts."""
        faults, outcomes = dict(self.faults), set(self.outcomes)
        for seen in accounts:
            run = (seen.error_count, seen.fault)
            first = faults.setdefault(seen.broker, run)
            answered = seen.as_of is not None and seen.as_of.up_s >= self.began_s
            if answered or (run != first and seen.error_count > 0):
                outcomes.add(seen.broker)
        return Heard(self.began_s, faults, frozenset(outcomes))


@dataclass(frozen=True, slots=True)
class Watchfulness:
    """Whether all is watched at one moment."""

    gaps: tuple[str, ...]
    """What is not watched, each in words; empty: the switch is fed."""
    body: str
    """What the switch is given, as JSON. There is no amount in it."""


def watchfulness(
    accounts: Iterable[Observation], heard: Heard, now: Instant, *, line_down: bool
) -> Watchfulness:
    """Whether each account that should be asked has an outcome within its bound.

    Args:
        accounts: what is seen of each account.
        heard: of which of them an outcome was seen.
        now: the moment.
        line_down: whether our own line is down.
    """
    asked, gaps = 0, ["our own line is down"] if line_down else []
    not_asked: dict[str, int] = {}
    not_available: dict[str, str] = {}
    seen_accounts = _stayed(sorted(accounts, key=lambda each: each.broker))
    for seen in seen_accounts:
        if not seen.available:
            not_available[seen.broker] = str(seen.reason)
        design = _by_design(seen)
        if design:
            not_asked[design] = not_asked.get(design, 0) + 1
            continue
        asked += 1
        if gap := _gap(seen, heard, now):
            gaps.append(f"{seen.broker}: {gap}")
    if not seen_accounts:
        gaps.append("no account is heard")
    body: dict[str, Any] = {
        "at": utc_iso(now.wall_us, "milliseconds"),
        "accounts": len(seen_accounts),
        "available": len(seen_accounts) - len(not_available),
        "asked": asked,
        "not_asked": dict(sorted(not_asked.items())),
        "not_available": dict(list(not_available.items())[:MAX_NAMES]),
    }
    return Watchfulness(tuple(gaps), json.dumps(body))


def _stayed(accounts: list[Observation]) -> list[Observation]:
    """Those that have not left the cluster; all of them where the whole cluster has stopped.

    A cluster takes leave account by account. The first of these words are no gap yet.
    """
    return [each for each in accounts if each.reason is not Reason.SHUTDOWN] or accounts


def _by_design(seen: Observation) -> str:
    """Why an account is not asked by design; empty where it should be asked."""
    if not seen.available and seen.reason in _BY_DESIGN:
        return str(seen.reason)
    if seen.fault is FaultKind.MAINTENANCE:
        return str(Reason.MAINTENANCE)
    return NOT_POLLED if not seen.polled and seen.reason not in _UNWATCHED else ""


def _gap(seen: Observation, heard: Heard, now: Instant) -> str:
    """Why an account that should be asked is not watched, in words; empty where it is."""
    if seen.reason in _UNWATCHED:
        return str(seen.reason)
    if seen.broker not in heard.outcomes:
        return "no outcome yet"
    late_s = now.up_s - seen.outcome_until_s
    return f"no outcome, {late_s:.0f} s late" if late_s > 0 else ""
