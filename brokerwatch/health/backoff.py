"""When to ask an exchange again, after each outcome.

A healthy broker is polled at its interval. A first fault is confirmed quickly where the policy says so. A
broker that is down is probed with exponential backoff, and so is one that is asked too often. One that may
not be asked is not. The random source is an argument: jitter keeps a thousand brokers of one exchange from
asking it in one moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import FaultKind, HealthState, Reason

AUTH_LONGEST_S: Final = 300.0
"""The longest wait for a key that is refused: exchanges lock out keys that go on asking."""
SLOW_S: Final = 60.0
"""The shortest wait during maintenance, and while an operator may be correcting permissions."""
AFTER_LOCKOUT_S: Final = 1.0
"""The range of the random wait after a lockout, so that the brokers of one key do not all ask at its end."""
LONGEST_WAIT_S: Final = 30.0
"""The longest pause for which a call waits for its key. A key that may not ask for longer is locked out."""
EASED_AFTER: Final = 6
"""After so many reads without a change an account is polled half as often, where the configuration says
so."""
_LESS_AND_LESS: Final = frozenset({FaultKind.RATE_LIMITED, FaultKind.BLOCKED})
"""After these faults each early retry makes the next answer worse: it adds to the rate, or to the suspicion
of a firewall."""
CONFIRM_EVERY_S: Final = 16.0
"""The longest interval while answers that leave something out are counted: three of them are then over as
soon as they may be believed."""
_DOUBLINGS: Final = 30
"""The most doublings of a wait; it has reached its limit long before."""
LIMITED_LONGEST_S: Final = 60.0
"""The longest wait for an account that is asked too often, where the exchange does not say how long."""

Uniform = Callable[[float, float], float]
"""Draws a number between two others, as `random.uniform` does."""


def wait_s(health: Health, poll_interval_s: float, now: Instant, uniform: Uniform) -> float:
    """Seconds from now to the next fetch; infinite when only an operator or a trader starts it.

    A pause that the exchange asks for is kept under every policy, and so is the end of a lockout.
    """
    if poll_interval_s == float("inf"):
        return poll_interval_s
    wait = _wait_s(health, poll_interval_s, uniform)
    if Reason.AUTH in health.vetoes.laid:
        if health.probe_at is None:
            return float("inf")
        if health.probe_at.up_s > now.up_s:
            probe_s = health.probe_at.up_s - now.up_s
            # What went wrong since the refusal keeps its own wait: a probe must not hammer a rate limit.
            refused = health.fault is None or health.fault.kind is FaultKind.AUTH
            wait = probe_s if refused else max(wait, probe_s)
    if health.fault is not None and health.fault.retry_after_s <= LONGEST_WAIT_S:
        # The lane answers the next fetch with a longer pause, as a lockout: the account is then unavailable.
        wait = max(wait, health.fault.retry_after_s)
    lockout = health.vetoes.laid.get(Reason.LOCKED_OUT)
    if lockout is not None and lockout.until is not None:
        wait = max(wait, lockout.until.up_s - now.up_s + uniform(0.0, AFTER_LOCKOUT_S))
    return wait


def confirming_s(poll_interval_s: float, health: Health) -> float:
    """The poll interval while it is confirmed that something is gone, or that a new account is empty.

    An account that is polled seldom would be in doubt for as long. One that is not polled stays so.
    """
    if poll_interval_s == float("inf") or not health.doubts.counted:
        return poll_interval_s
    return min(poll_interval_s, CONFIRM_EVERY_S)


def eased_s(poll_interval_s: float, quiet_poll_interval_s: float | None, unchanged: int) -> float:
    """The poll interval of an account whose balance has not changed for `unchanged` reads.

    It doubles up to `quiet_poll_interval_s`; with None it stays the same. A fill, a fault or any other change
    starts it anew.
    """
    if quiet_poll_interval_s is None:
        return poll_interval_s
    return min(quiet_poll_interval_s, poll_interval_s * 2.0 ** min(unchanged // EASED_AFTER, _DOUBLINGS))


def _wait_s(health: Health, poll_s: float, uniform: Uniform) -> float:
    rules, fault = health.rules, health.fault
    if health.state is HealthState.MAINTENANCE:
        return max(poll_s, SLOW_S)
    if fault is not None and fault.kind is FaultKind.PERMISSION and rules.final_auth:
        if health.error_count == 1 and health.balance is not None and rules.auth_probes_s:
            return rules.auth_probes_s[0]  # exchanges refuse keys that are valid, once in a while
        return max(poll_s, SLOW_S)
    over = health.error_count - health.threshold
    if fault is not None and fault.kind is FaultKind.AUTH and over >= 0:
        return max(poll_s, min(AUTH_LONGEST_S, poll_s * 2.0 ** min(over + 1, _DOUBLINGS)))
    if fault is not None and fault.kind in _LESS_AND_LESS:
        if fault.retry_after_s > 0:
            return poll_s
        most = min(LIMITED_LONGEST_S, 2.0 ** min(health.error_count, _DOUBLINGS))
        return max(poll_s, uniform(most / 2, most))
    if fault is not None and fault.kind is FaultKind.CLIENT_BUG:
        return poll_s  # an early retry meets the same mistake again
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
