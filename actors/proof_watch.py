"""What a broker's actor watches beside the outcomes: for how long its newest success proves the account.

The rule is in `brokerwatch.health.proof`. This is its driver: it reads the clocks, and knows the
configuration, the waits in force and the calls that are under way.
"""

from __future__ import annotations

import math

from brokerwatch.actors.protocol import LATE_S
from brokerwatch.clock import Clock, Instant, leapt
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.backoff import CONFIRM_EVERY_S
from brokerwatch.health.outcome import Source
from brokerwatch.health.proof import Proof, longest_age_s
from brokerwatch.health.state_machine import AVAILABLE, Health
from brokerwatch.health.stated import AGREEING_OVER_S
from brokerwatch.messages import Fault


class ProofWatch:
    """The proof of one account. Used on its actor's thread alone."""

    def __init__(
        self, spec: BrokerSpec, source: Source, clock: Clock, heartbeat_s: float, health: Health
    ) -> None:
        self._spec = spec
        self._source = source
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        # The start of a life that begins available counts as its first success.
        self.proof = Proof(health.since if health.state in AVAILABLE else None)
        self.leads = clock.leads()
        """How far the other clocks were ahead at the newest look."""
        self._leap: tuple[str, Instant] | None = None
        """The newest leap of the clocks in words, and when it was noticed; None: there was none."""
        self._interval_s = spec.poll_interval_s
        """The longest wait between two polls since the newest success."""
        self._confirming = False
        """Whether the newest answers say that a new account is empty."""
        self._outcome: tuple[Fault | None, Instant | None] = _outcome_of(health)
        self._outcome_s = clock.up_s()
        """When the newest outcome came, in monotonic seconds; the start until there is one."""

    def succeeded(self, asked: Instant, interval_s: float, *, dated: bool) -> None:
        """A success; `interval_s` is the wait until the next poll from now on."""
        self.proof = self.proof.succeeded(asked, dated=dated)
        self._interval_s = interval_s
        self._confirming = False

    def planned(self, wait_s: float) -> None:
        """The next poll comes after this wait."""
        self._interval_s = max(self._interval_s, wait_s)

    def confirms(self) -> None:
        """An answer came that is neither success nor error: the doubt about a new account needs its time."""
        self._confirming = True

    def reconfigured(self, spec: BrokerSpec, now: Instant) -> bool:
        """Go on by another configuration. Whether the account has to be asked for it now.

        An account that is unproven stays so until its next success, although another bound may allow more.
        That is one that was asked for after the proof had ended.
        """
        until_s = self.proof.until_s(self.longest_age_s())
        lasts = now.up_s < until_s
        self._spec = spec
        # Until the next success it is proven for as long as the longest wait of both.
        self._interval_s = max(self._interval_s, spec.poll_interval_s)
        if lasts or now.up_s >= self.proof.until_s(self.longest_age_s()):
            return False
        ended = Instant(now.wall_us - round((now.up_s - until_s) * 1_000_000), until_s)
        self.proof = self.proof.doubt("it was unproven before the configuration changed", ended)
        return True

    def forget(self) -> None:
        """It is another account: no success of before is one of it.

        What it answered before the newest leap of the clocks proves nothing, whichever key asked.
        """
        self.proof = Proof() if self._leap is None else Proof().doubt(*self._leap)
        self._interval_s, self._confirming = self._spec.poll_interval_s, False

    def longest_age_s(self) -> float:
        """For how many seconds a success proves the account now."""
        if self._spec.max_proof_age_s is not None:
            return self._spec.max_proof_age_s
        # A new account that is empty has no outage while the answers that say so are counted.
        confirmed_s = AGREEING_OVER_S + CONFIRM_EVERY_S if self._confirming else 0.0
        by_faults_s = longest_age_s(
            threshold=self._spec.max_consecutive_errors,
            interval_s=self._interval_s,
            deadline_s=self._spec.fetch_deadline_s,
            wait_s=self._source.longest_wait_s,
            heartbeat_s=self._heartbeat_s,
        )
        return max(by_faults_s, confirmed_s + self._spec.fetch_deadline_s + self._heartbeat_s)

    def outcome_until_s(self, health: Health, now: Instant) -> float:
        """The monotonic second by which the next outcome is due, after the events in `health`; infinite for
        an account that is not polled.

        Only a success and a fault are outcomes: a fetch that waits for its turn for ever has none.
        """
        (fault, asked), (last_fault, last_asked) = _outcome_of(health), self._outcome
        if fault is not last_fault or asked != last_asked:
            self._outcome, self._outcome_s = (fault, asked), now.up_s
        return self._outcome_s + longest_age_s(
            threshold=1,
            interval_s=self._interval_s,
            deadline_s=self._spec.fetch_deadline_s,
            wait_s=self._source.longest_wait_s,
            heartbeat_s=self._heartbeat_s,
        )

    def leap(self, now: Instant) -> bool:
        """Whether time has passed that the monotonic clock did not count. Then nothing from before counts."""
        leads = self._clock.leads()
        gone_s = leapt(self.leads, leads)
        self.leads = leads
        if gone_s:
            words = f"{gone_s:.0f} s passed that the monotonic clock did not count: the machine slept"
            self._leap = words, now
            self.proof = self.proof.doubt(words, now)
        return gone_s > 0

    def hung_call(self, now: Instant, fetching_since: Instant | None) -> bool:
        """Whether a call of ours hangs past its deadline, where nothing else would end the proof.

        An account that is not polled has no bound on its proof.
        """
        if self.proof.doubted is not None or math.isfinite(self.longest_age_s()):
            return False
        limit_s, held_since_s = self._spec.fetch_deadline_s + LATE_S, self._source.held_since_s
        held_s = 0.0 if held_since_s is None else now.up_s - held_since_s
        fetched_s = 0.0 if fetching_since is None else now.up_s - fetching_since.up_s
        if held_s > limit_s:
            self.proof = self.proof.doubt(f"`broker.lane()` has been held for {held_s:.1f} s", now)
        elif fetched_s > limit_s + self._source.longest_wait_s:
            self.proof = self.proof.doubt(f"a fetch has not ended for {fetched_s:.1f} s", now)
        return self.proof.doubted is not None


def _outcome_of(health: Health) -> tuple[Fault | None, Instant | None]:
    """What differs after each outcome: the very fault, and when the last known balance was asked for."""
    return health.fault, None if health.balance is None else health.balance.as_of
