"""What puts many accounts out at once and is about the watcher, not about an exchange. Pure.

Our own line is down when every account that is asked, two at least, meets faults of the network, or when the
cluster says so (`local_network`). brokerwatch hears none of its parts (`blind`). Nothing is heard from the
cluster, or it was stopped. Each is one message, and the accounts behind it get none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.messages import Reason
from brokerwatch.notify.observations import Observation

LINE: Final = "our own line"
BLIND: Final = "brokerwatch itself"
UNHEARD: Final = "the cluster"


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause, as long as it lasts."""

    reason: Reason
    since: Instant
    """When the first of the accounts behind it went out."""
    behind: tuple[str, ...] = ()
    """The accounts that are not available because of it."""
    told: bool = False
    """Whether it was said."""
    ended: Instant | None = None
    """Since when it does not hold any more; it is over when that has lasted for a while."""


@dataclass(frozen=True, slots=True)
class Found:
    """The causes after a look."""

    causes: Mapping[str, Cause]
    """Those that last."""
    ended: Mapping[str, Cause]
    """Those that are over with this look."""


def causes_of(
    before: Mapping[str, Cause],
    accounts: Mapping[str, Observation],
    since_of: Mapping[str, Instant],
    now: Instant,
    line_settled_s: float,
    *,
    deaf: bool = False,
) -> Found:
    """Which causes last, and which are over.

    Args:
        before: the causes of the last look.
        accounts: what is seen of each account.
        since_of: account to the beginning of its outage, for those that are out.
        now: the moment.
        line_settled_s: how long the line must work until it is back, in seconds.
        deaf: whether nothing at all was heard since the start, for longer than is usual.
    """
    holds = {
        LINE: Reason.LOCAL_NETWORK if _is_cut_off(accounts) else None,
        BLIND: Reason.BLIND if any(each.reason is Reason.BLIND for each in accounts.values()) else None,
        UNHEARD: Reason.NOTHING_HEARD if deaf else _unheard(accounts),
    }
    lasting: dict[str, Cause] = {}
    over: dict[str, Cause] = {}
    for name, reason in holds.items():
        cause = before.get(name)
        if reason is not None:
            lasting[name] = _with(cause, name, reason, accounts, since_of, now)
        elif cause is None or not accounts:
            if cause is not None:
                lasting[name] = cause  # nothing is seen yet since the start
        else:
            ended = cause.ended or now
            cause = replace(cause, ended=ended)
            settled = name != LINE or now.up_s - ended.up_s >= line_settled_s
            (over if settled else lasting)[name] = cause
    return Found(lasting, over)


def is_behind(seen: Observation, cause: str) -> bool:
    """Whether an account that is out is out because of this cause."""
    match cause:
        case "our own line":
            return seen.cut_off or seen.reason is Reason.UNPROVEN
        case "brokerwatch itself":
            return seen.reason is Reason.BLIND
        case _:
            return seen.gone


def _is_cut_off(accounts: Mapping[str, Observation]) -> bool:
    if any(each.reason is Reason.LOCAL_NETWORK for each in accounts.values()):
        return True
    asked = [each for each in accounts.values() if each.asked]
    out = any(not each.available for each in asked)
    return len(asked) >= 2 and out and all(each.cut_off for each in asked)


def _unheard(accounts: Mapping[str, Observation]) -> Reason | None:
    if not accounts or not all(each.gone for each in accounts.values()):
        return None
    stopped = any(each.reason is Reason.SHUTDOWN for each in accounts.values())
    return Reason.SHUTDOWN if stopped else Reason.NOTHING_HEARD


def _with(
    cause: Cause | None,
    name: str,
    reason: Reason,
    accounts: Mapping[str, Observation],
    since_of: Mapping[str, Instant],
    now: Instant,
) -> Cause:
    out = {each.broker for each in accounts.values() if not each.available and is_behind(each, name)}
    begun = [since_of[broker] for broker in out if broker in since_of]
    since = min(begun, key=lambda each: each.up_s, default=now)
    if cause is None:
        return Cause(reason, since, tuple(sorted(out)))
    behind = tuple(sorted(out.union(cause.behind)))
    earlier = since if since.up_s < cause.since.up_s and not cause.told else cause.since
    return replace(cause, since=earlier, behind=behind, ended=None)
