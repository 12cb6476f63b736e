"""When an account is polled next: the schedule of one broker's actor.

`brokerwatch.health.backoff` has the rules. This is what they need to know: the configuration, how often
nothing has changed, and when the account was asked last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.push_settings import SWEEP_S
from brokerwatch.health import backoff
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import HealthState

SPREAD_FROM_S: Final = 2.0
"""Accounts with a longer poll interval than this are spread over the interval after their first poll."""

UNASKED_AGAIN_S: Final = 10.0
"""So soon an account is asked again at the latest that was not asked when it was due, because this process or
the lane of its key was too busy. With thousands that start together, those left over would be unknown for a
whole interval."""


class PollSchedule:
    """The schedule of one account. Used on its actor's thread alone. `uniform` draws a number."""

    def __init__(self, spec: BrokerSpec, uniform: Callable[[float, float], float]) -> None:
        self.spec = spec
        self.number = 0
        """Which schedule is in force: a newer one replaces the older."""
        self.unchanged = 0
        """How many reads in a row found the same holdings."""
        self.sweeps = False
        """Whether a live stream says what changes, so that polls may be seldom."""
        self._uniform = uniform
        self._is_spread = False
        """Whether a usual poll was planned in this life."""
        self._due_s = float("inf")
        """Monotonic seconds: when the next poll comes."""

    def found(self, *, same: bool) -> None:
        """A read found the same holdings as the one before it, or others."""
        self.unchanged = self.unchanged + 1 if same else 0

    def interval_s(self, health: Health) -> float:
        """Seconds between two polls of an account that is healthy."""
        spec = self.spec
        eased_s = backoff.eased_s(spec.poll_interval_s, spec.quiet_poll_interval_s, self.unchanged)
        if self.sweeps and health.fault is None and health.state is HealthState.HEALTHY:
            # After a fault it is asked as often as ever.
            eased_s = max(eased_s, SWEEP_S)
        return backoff.confirming_s(eased_s, health)

    def wait_s(self, health: Health, now: Instant) -> float:
        """Seconds from an outcome to the next poll."""
        return backoff.wait_s(health, self.interval_s(health), now, self._uniform)

    def unasked_wait_s(self, health: Health, now: Instant) -> float:
        """Seconds to the next poll from one that did not go out. The wait after a fault stays as it is."""
        wait_s = self.wait_s(health, now)
        if health.fault is not None or not UNASKED_AGAIN_S < wait_s < float("inf"):
            return wait_s
        return self._uniform(UNASKED_AGAIN_S / 2, UNASKED_AGAIN_S)

    def plan(self, wait_s: float, health: Health, now: Instant, asked: Instant) -> float:
        """Take a wait into the schedule, and give how long it is from now on.

        `asked`: when the account was last asked.
        """
        if wait_s == self.interval_s(health):
            # The usual poll keeps its interval, however long the fetch took.
            wait_s -= now.up_s - asked.up_s
            if not self._is_spread and SPREAD_FROM_S < wait_s < float("inf"):
                # A thousand accounts that start together must not be polled together for ever.
                wait_s = self._uniform(wait_s / 10, wait_s)
            self._is_spread = True
        self.number += 1
        self._due_s = now.up_s + wait_s
        return wait_s

    def is_sooner(self, health: Health, now: Instant, asked: Instant) -> bool:
        """Whether the next poll would come sooner if it were planned anew, or not any more.

        It is not put off by a change of the configuration, however often one comes.
        """
        wait_s = self.wait_s(health, now)
        return wait_s == float("inf") or max(now.up_s, asked.up_s + wait_s) < self._due_s
