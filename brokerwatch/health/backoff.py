"""When to ask an exchange again, after each outcome.

A healthy broker is asked at its poll interval. A first fault is confirmed quickly where the policy
says so, one that is down is probed ever more seldom, and one that may not be asked is not. Chance is
an argument: jitter keeps a thousand brokers of one exchange from asking it in one moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import FaultKind, HealthState, Reason

AUTH_LONGEST_S: Final = 300.0
"""A refused key is asked ever more seldom, up to this: exchanges lock out keys that insist."""
SLOW_S: Final = 60.0
"""Maintenance, and permissions that an operator may be mending, are looked at so often."""
AFTER_LOCKOUT_S: Final = 1.0
"""Brokers on one key do not all ask in the moment in which its lockout ends."""
EASED_AFTER: Final = 6
"""Reads without a change after which an account is asked half as often, where the configuration lets it."""
_DOUBLINGS: Final = 30
"""Beyond this a wait has long reached its limit."""

_NO_SOONER: Final = frozenset({FaultKind.RATE_LIMITED, FaultKind.CLIENT_BUG})
"""Asking again soon makes the one worse, and does not mend the other, which is a mistake of ours."""

Uniform = Callable[[float, float], float]


def wait_s(health: Health, poll_interval_s: float, now: Instant, uniform: Uniform) -> float:
    """Seconds from now to the next fetch; infinite when only an operator or a trader asks.

    An exchange's own "not before" is honoured whatever the policy says, and so is the end of a lockout.
    """
    if poll_interval_s == float("inf") or Reason.AUTH in health.vetoes.laid:
        return float("inf")
    wait = _wait_s(health, poll_interval_s, uniform)
    if health.fault is not None and health.fault.retry_after_s <= LONGEST_WAIT_S:
        # A longer pause is the lane's to say, when it is next asked: then nobody vouches for the account.
        wait = max(wait, health.fault.retry_after_s)
    lockout = health.vetoes.laid.get(Reason.LOCKED_OUT)
    if lockout is not None and lockout.until is not None:
        wait = max(wait, lockout.until.up_s - now.up_s + uniform(0.0, AFTER_LOCKOUT_S))
    return wait


def eased_s(poll_interval_s: float, quiet_poll_interval_s: float | None, unchanged: int) -> float:
    """The interval of an account in which nothing has moved for `unchanged` reads: ever longer, to a limit.

    None: always the same. A fill, a fault, or any other change begins anew.
    """
    if quiet_poll_interval_s is None:
        return poll_interval_s
    return min(quiet_poll_interval_s, poll_interval_s * 2.0 ** min(unchanged // EASED_AFTER, _DOUBLINGS))


def _wait_s(health: Health, poll_s: float, uniform: Uniform) -> float:
    rules, fault = health.rules, health.fault
    if health.state is HealthState.MAINTENANCE:
        return max(poll_s, SLOW_S)
    if fault is not None and fault.kind is FaultKind.PERMISSION and rules.final_auth:
        return max(poll_s, SLOW_S)
    over = health.error_count - health.threshold
    if fault is not None and fault.kind is FaultKind.AUTH and over >= 0:
        return max(poll_s, min(AUTH_LONGEST_S, poll_s * 2.0 ** min(over + 1, _DOUBLINGS)))
    if fault is not None and fault.kind in _NO_SOONER:
        return poll_s
    if health.state is HealthState.RECOVERING and rules.backoff_s is not None:
        return min(poll_s, rules.backoff_s[0])
    if health.state is HealthState.UNAVAILABLE and rules.backoff_s is not None:
        shortest, longest = rules.backoff_s
        most = min(longest, shortest * 2.0 ** min(max(over, 0) + 1, _DOUBLINGS))
        return uniform(shortest, most)
    if 0 < health.error_count < health.threshold and rules.confirm_after_s:
        quick = rules.confirm_after_s[min(health.error_count, len(rules.confirm_after_s)) - 1]
        return min(poll_s, quick)
    return poll_s


LONGEST_WAIT_S: Final = 30.0
"""How long a call waits for its key. A key that may not ask for longer has stopped: that is a lockout."""
