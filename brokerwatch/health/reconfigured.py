"""What another configuration does to the health of a broker, and what another API key does: pure.

No change of a rule makes a broker available. A stricter rule may make it unavailable at once: what it allows
no longer ends now, and not with the next fetch. A laxer one waits for the next success.
"""

from __future__ import annotations

from dataclasses import replace

from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.state_machine import AVAILABLE, TRANSITIONS, Happening, Health
from brokerwatch.messages import FaultKind, HealthState


def ruled(health: Health, spec: BrokerSpec, now: Instant) -> Health:
    """The health under the rules of another configuration. It is available only if it was before."""
    threshold, rules = spec.max_consecutive_errors, spec.rules
    before, size = health.rules, rules.window_fetches
    recent = health.recent[-size:] if size else ()
    changed = replace(health, threshold=threshold, rules=rules, recent=recent, version=health.version + 1)
    if before.final_auth and not rules.final_auth:
        # What was final under the rules until now is asked again. Its state stays what the refusal made it.
        changed = replace(changed.reset(now), version=changed.version)
    if health.state not in AVAILABLE and health.state is not HealthState.UNKNOWN:
        return changed
    if changed.error_count >= threshold or _is_refused(changed):
        return _moved(changed, Happening.TRIP, now, recent=())
    if rules.start_unknown and not before.start_unknown and changed.balance is None:
        # It was available by its very first start alone, which these rules do not allow.
        return _moved(changed, Happening.RESTART, now)
    return changed


def with_another_key(health: Health, now: Instant, *, same_account: bool) -> Health:
    """The health with other credentials, in the same life: what was refused to the old key is over.

    `same_account`: they are known to be of the same account. Else all that was known is another account's,
    and the broker has everything to prove.
    """
    unrefused = health.reset(now)
    if same_account:
        return unrefused
    anew = replace(
        Health.begin(now, threshold=health.threshold, rules=health.rules),
        state=HealthState.UNKNOWN,
        version=unrefused.version,
    )
    return anew if health.state is not HealthState.UNKNOWN else replace(anew, since=health.since)


def _is_refused(health: Health) -> bool:
    fault = health.fault
    return (
        health.rules.final_auth and fault is not None and fault.kind in (FaultKind.AUTH, FaultKind.PERMISSION)
    )


def _moved(
    health: Health, happening: Happening, now: Instant, *, recent: tuple[FaultKind | None, ...] | None = None
) -> Health:
    target = TRANSITIONS[health.state, happening]
    return replace(
        health,
        state=target,
        since=health.since if target is health.state else now,
        recent=health.recent if recent is None else recent,
    )
