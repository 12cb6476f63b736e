"""The report of a verification: what was checked, how each check ended, and what follows from it.

It is for an operator, for a pipeline, and for the gate that lets entries through (orders/gate.py), so it is
versioned and has a published JSON Schema (docs/verification-report.schema.json). It names an API key by its
fingerprint and holds no secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from brokerwatch.clock import utc_iso
from brokerwatch.verification.checklist import CATEGORIES, CHECKLIST, MAXIMUM, Check, CheckOutcome, Judgement

FORMAT: Final = "brokerwatch.verification"
VERSION: Final = 1
"""Grows when what a field means changes, or one goes away; a new field is no new version."""
SCHEMA_ID: Final = "urn:brokerwatch:verification-report:1"

DONE: Final = frozenset({CheckOutcome.PASS, CheckOutcome.WARN})
"""What was done and has passed."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
LONGEST_EVIDENCE: Final = 400
"""Characters of one line of evidence."""


class Verdict(StrEnum):
    """What the checks come to."""

    PASSED = "passed"
    """Every check passed."""
    PASSED_WITH_REMARKS = "passed_with_remarks"
    """Nothing failed; there are warnings, or something could not be checked."""
    FAILED = "failed"
    """Something failed."""


EXIT_STATUS: Final[Mapping[Verdict, int]] = {
    Verdict.PASSED: 0,
    Verdict.FAILED: 1,
    Verdict.PASSED_WITH_REMARKS: 3,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check that has ended."""

    check: Check
    judgement: Judgement
    took_ms: int

    @property
    def points(self) -> int:
        """What it gives: a skip and a failure nothing, a warning all, since it has passed."""
        return self.check.points if self.judgement.outcome in DONE else 0


Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339, UTC."""


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """One check."""

    name: str
    """`category.what`; fixed."""
    title: str
    outcome: CheckOutcome
    points: int
    """What it gave."""
    maximum: int
    """What it can give."""
    evidence: str
    """What was seen, or why it was not done, in one line."""
    took_ms: int


class CategoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """One category: the sums of its checks."""

    name: str
    title: str
    points: int
    maximum: int
    checks: tuple[CheckReport, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole verification."""

    format: str
    """Always FORMAT."""
    version: int
    """See VERSION."""
    broker: str
    """The configured name."""
    exchange: str
    """The ccxt id."""
    key: str
    """The fingerprint of the API key; never the key."""
    elsewhere: bool
    """Whether the configuration sends ccxt to another address than the exchange's own, such as a simulator's:
    such a report says nothing about the exchange itself."""
    started: Moment
    """By this machine's clock."""
    ended: Moment
    """The same; by it a report ages."""
    took_ms: int
    versions: dict[str, str]
    """Of brokerwatch, ccxt, Python and the platform."""
    verdict: Verdict
    exit_status: int
    """That of the command: 0 passed, 1 failed, 3 passed with remarks."""
    points: int
    maximum: int
    categories: tuple[CategoryReport, ...]
    policy: str = ""
    """By which rules the account's health is decided: `simple` or `guarded`. Empty in older reports."""

    @property
    def ended_us(self) -> int:
        """When it ended, µs since 1970. Raises ValueError for what is no time."""
        return _us(self.ended)

    @property
    def has_passed(self) -> bool:
        """Whether nothing failed, and nothing of our list is missing.

        Computed from the checks, and not what the report says of itself.
        """
        return not self.failures() and _nothing_wrong(check.outcome for check in self._checks())

    def failures(self) -> tuple[str, ...]:
        """The names of the checks that failed, and of those of our list that the report does not have."""
        names = {check.name for check in self._checks()}
        failed = [check.name for check in self._checks() if check.outcome is CheckOutcome.FAIL]
        return (*failed, *(check.name for check in CHECKLIST if check.name not in names))

    def _checks(self) -> Iterator[CheckReport]:
        return (check for category in self.categories for check in category.checks)


def _nothing_wrong(outcomes: Iterable[CheckOutcome]) -> bool:
    """Whether nothing failed, and something was done: nothing done is no pass."""
    found = set(outcomes)
    return CheckOutcome.FAIL not in found and not DONE.isdisjoint(found)


def verdict(findings: Sequence[Finding]) -> Verdict:
    """What the checks come to."""
    outcomes = {finding.judgement.outcome for finding in findings}
    if not _nothing_wrong(outcomes):
        return Verdict.FAILED
    return Verdict.PASSED if outcomes == {CheckOutcome.PASS} else Verdict.PASSED_WITH_REMARKS


def report(
    findings: Sequence[Finding],
    *,
    broker: str,
    exchange: str,
    key: str,
    elsewhere: bool,
    started_us: int,
    ended_us: int,
    versions: Mapping[str, str],
    policy: str = "",
) -> Report:
    """The report of these findings. Raises ValueError unless they are the whole list, in its order."""
    if tuple(finding.check for finding in findings) != CHECKLIST:
        raise ValueError("a report is of every check, once, in the order of the list")
    found = verdict(findings)
    return Report(
        format=FORMAT,
        version=VERSION,
        broker=broker,
        exchange=exchange,
        key=key,
        elsewhere=elsewhere,
        started=utc_iso(started_us, "microseconds"),
        ended=utc_iso(ended_us, "microseconds"),
        took_ms=max(0, (ended_us - started_us) // 1_000),
        versions=dict(versions),
        verdict=found,
        exit_status=EXIT_STATUS[found],
        points=sum(finding.points for finding in findings),
        maximum=MAXIMUM,
        categories=tuple(_category(name, findings) for name in CATEGORIES),
        policy=policy,
    )


def _category(name: str, findings: Sequence[Finding]) -> CategoryReport:
    checks = tuple(
        CheckReport(
            name=finding.check.name,
            title=finding.check.title,
            outcome=finding.judgement.outcome,
            points=finding.points,
            maximum=finding.check.points,
            evidence=finding.judgement.evidence,
            took_ms=finding.took_ms,
        )
        for finding in findings
        if finding.check.category == name
    )
    return CategoryReport(
        name=name,
        title=CATEGORIES[name],
        points=sum(check.points for check in checks),
        maximum=sum(check.maximum for check in checks),
        checks=checks,
    )


def encoded(found: Report) -> bytes:
    """The report as JSON, for a file."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def decoded(text: bytes) -> Report:
    """A report from its JSON. Raises ValueError for what is none, or of a version that we do not know."""
    try:
        found = msgspec.json.decode(text, type=Report)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is no report of a verification: {error}") from error
    if (found.format, found.version) != (FORMAT, VERSION):
        raise ValueError(f"is {found.format!r} {found.version}, not {FORMAT!r} {VERSION}")
    for moment in (found.started, found.ended):
        _us(moment)
    return found


def schema() -> dict[str, Any]:
    """The published JSON Schema of a report."""
    found = msgspec.json.schema(Report)
    fields = found["$defs"]["Report"]["properties"]
    fields["format"]["const"], fields["version"]["const"] = FORMAT, VERSION
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "The report of `brokerwatch verify`",
        **found,
    }


def one_line(text: str) -> str:
    """A line of evidence: one line, printable, and of a length that a table can show."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= LONGEST_EVIDENCE else f"{line[: LONGEST_EVIDENCE - 1]}…"


def _us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    # A moment of no zone would be one of this machine's, and so another one on each machine.
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"is no report of a verification: {text[:40]!r} is no moment")
    return (moment - _EPOCH) // _MICROSECOND
