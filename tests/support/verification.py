"""What the tests of a verification read from its report."""

from __future__ import annotations

from brokerwatch.verification.checklist import Check, CheckOutcome
from brokerwatch.verification.report import Finding, Report


class Indifferent:
    """Is told how it goes on, and does not care."""

    def begins(self, check: Check, number: int) -> None:
        """See `brokerwatch.preflight.verify.Progress`."""

    def ended(self, finding: Finding) -> None:
        """See `brokerwatch.preflight.verify.Progress`."""


def not_passed(found: Report) -> dict[str, str]:
    """How every check ended that did not simply pass."""
    return {
        check.name: str(check.outcome)
        for category in found.categories
        for check in category.checks
        if check.outcome is not CheckOutcome.PASS
    }


def evidence(found: Report, name: str) -> str:
    return next(
        check.evidence for category in found.categories for check in category.checks if check.name == name
    )


def skips(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "skip")


def fails(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "fail")
