"""The end-to-end verification of one account: a cluster of its own, every check, a report.

It runs the product itself on the account that is to go live: the same gateway, lane, actor and supervisor,
with real questions to the exchange. Meanwhile only the checks poll the account, nothing is stored, and
no order is placed: what could place one is asked only where the exchange has a dry run.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from types import MappingProxyType
from typing import Final, Protocol

from brokerwatch.clock import Clock, SystemClock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import BrokerwatchError, ClusterStopped, CouldNotAsk, NotSupported
from brokerwatch.gateway.catalogue import is_elsewhere, key_of, report_key
from brokerwatch.log import logger
from brokerwatch.preflight.account_probe import AccountProbe, NotDone
from brokerwatch.preflight.checks import Checks
from brokerwatch.preflight.dry_run import DryRun
from brokerwatch.storage.locks import Claim, claim, state_root
from brokerwatch.storage.records import KeyState
from brokerwatch.storage.state_folder import KEYS_NAME
from brokerwatch.verification.checklist import (
    BY_NAME,
    CHECKLIST,
    Check,
    CheckOutcome,
    Judgement,
    failed,
    skipped,
)
from brokerwatch.verification.report import Finding, Report, one_line, report

_log: Final = logger(__name__)

MOST_PROVOKED: Final = 10
"""So many errors in a row are provoked at the most: each takes a turn in the lane, 3 s at Kraken."""


REHEARSED: Final = tuple(check for check in CHECKLIST if check.category == "trade")
"""What is looked at once more at the end."""


class Progress(Protocol):
    """Gets the progress of a verification: each check as it begins and as it ends."""

    def begins(self, check: Check, number: int) -> object:
        """This check begins, the `number`-th from 1."""
        ...

    def ended(self, finding: Finding) -> object:
        """It has ended."""
        ...


class Stopped(Exception):
    """The verification was stopped before its end; there is no report."""


def verification_spec(spec: BrokerSpec) -> BrokerSpec:
    """The account as it is verified: asked by the checks alone, and allowed to rehearse orders."""
    return replace(
        spec,
        poll_interval_s=float("inf"),
        quiet_poll_interval_s=None,
        entry_max_age_s=spec.entry_age_s,
        max_consecutive_errors=min(spec.max_consecutive_errors, MOST_PROVOKED),
        trading=True,
        push=False,
        # Its report warns of an account without money, and no order is sized by it.
        allow_empty=True,
    )


class Verification:
    """One verification; `run` once. `stop` ends it from any thread.

    `known`: what earlier processes left of API keys, by fingerprint: numbers that may be used up, and
    lockouts that go on. `own_cluster`: the process of the account's own cluster, as `claims.holder` names it.
    `settle_s`: how long after the last check it is looked once more whether the dry runs placed nothing.
    """

    def __init__(
        self,
        spec: BrokerSpec,
        progress: Progress,
        *,
        clock: Clock | None = None,
        known: Mapping[str, KeyState] = MappingProxyType({}),
        own_cluster: str = "",
        settle_s: float = 0.0,
    ) -> None:
        self._spec = spec
        self._progress = progress
        self._clock = SystemClock() if clock is None else clock
        self._cluster = Cluster(
            (verification_spec(spec),),
            ClusterSettings(
                name="verification",
                health_endpoint="inproc://verification",
                status_interval_s=float("inf"),
                remember=False,
            ),
            clock=self._clock,
        )
        self._known = known
        self._own_cluster = own_cluster
        self._settle_s = settle_s
        self._ended = threading.Event()
        self._found: dict[str, Finding] = {}

    def stop(self) -> None:
        """End it: every wait for an exchange ends, and `run` raises Stopped."""
        self._ended.set()
        self._cluster.stop()

    def run(self) -> Report:
        """Every check, in order, and what they come to. Raises ConfigError; Stopped after `stop`."""
        started_us = self._clock.now().wall_us
        fingerprint = key_of(self._spec)
        held = _claimed(fingerprint)
        try:
            with self._cluster:
                self._examine("" if isinstance(held, Claim) else held)
        finally:
            if isinstance(held, Claim):
                held.release()
        return report(
            tuple(self._found.values()),
            broker=self._spec.name,
            exchange=self._spec.exchange,
            key=report_key(self._spec),
            elsewhere=is_elsewhere(self._spec),
            policy=self._spec.policy,
            started_us=started_us,
            ended_us=self._clock.now().wall_us,
            versions=_versions(),
        )

    def _examine(self, used_by: str) -> None:
        broker = self._cluster.broker(self._spec.name)
        probe = AccountProbe(
            verification_spec(self._spec), broker, self._clock, self._did_pass, self._known, self._ended.wait
        )
        checks = Checks(probe, self._spec, used_by=used_by, own_cluster=self._own_cluster)
        for number, check in enumerate(CHECKLIST, 1):
            if self._ended.is_set():
                raise Stopped
            self._progress.begins(check, number)
            before_s = self._clock.up_s()
            judgement = self._judged(checks.by_name[check.name])
            if self._ended.is_set():
                raise Stopped
            took_ms = round((self._clock.up_s() - before_s) * 1_000)
            evidence = one_line(probe.redacted(judgement.evidence + self._reservation(check)))
            finding = Finding(check, Judgement(judgement.outcome, evidence), took_ms)
            self._found[check.name] = finding
            self._progress.ended(finding)
        self._look_back(checks.dry_run, probe)

    def _reservation(self, check: Check) -> str:
        """How the check differs from what is configured, to end a sentence with; empty: not at all."""
        configured = self._spec.max_consecutive_errors
        if check.name != "health.flip" or configured <= MOST_PROVOKED:
            return ""
        return f" (tried with {MOST_PROVOKED} in place of the configured {configured})"

    def _look_back(self, dry_run: DryRun, probe: AccountProbe) -> None:
        """Look again for what seemed to place nothing: an exchange may be slow to do what it must not."""
        if not dry_run.has_sent:
            return
        self._progress.begins(REHEARSED[-1], len(CHECKLIST))
        if self._ended.wait(self._settle_s):
            raise Stopped
        placed = dry_run.last_look()
        for check in REHEARSED if placed else ():
            before = self._found[check.name]
            judgement = failed(one_line(probe.redacted(placed)))
            self._found[check.name] = Finding(check, judgement, before.took_ms)
            self._progress.ended(self._found[check.name])

    def _judged(self, do: Callable[[], Judgement]) -> Judgement:
        """How a check ends: also where it cannot be done, or was not answered."""
        try:
            return do()
        except NotDone as why:
            return skipped(str(why))
        except NotSupported as why:
            return skipped(str(why))
        except ClusterStopped:
            raise Stopped from None
        except CouldNotAsk as trouble:
            return failed(f"no answer: {trouble}")
        except BrokerwatchError as trouble:
            return failed(str(trouble))
        except Exception as bug:  # noqa: BLE001 - a check that breaks has not passed, and the others go on
            _log.exception("a check of the verification broke")
            return failed(f"brokerwatch itself failed here: {type(bug).__name__}: {bug}")

    def _did_pass(self, name: str) -> bool:
        finding = self._found.get(BY_NAME[name].name)
        return finding is not None and finding.judgement.outcome in (CheckOutcome.PASS, CheckOutcome.WARN)


def _claimed(fingerprint: str) -> Claim | str:
    """This key, for as long as it is verified; or who uses it now. An empty text where that is not known."""
    try:
        return claim(state_root() / KEYS_NAME / f"{fingerprint}.lock")
    except OSError:
        return ""


def _versions() -> dict[str, str]:
    return {
        "brokerwatch": version("brokerwatch"),
        "ccxt": version("ccxt"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
