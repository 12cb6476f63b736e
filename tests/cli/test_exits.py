"""The exit statuses of the commands."""

from __future__ import annotations

from brokerwatch.cli import exits
from brokerwatch.verification.report import EXIT_STATUS, Verdict


def test_a_report_states_the_status_with_which_the_command_ends() -> None:
    assert EXIT_STATUS == {
        Verdict.PASSED: exits.YES,
        Verdict.FAILED: exits.NO,
        Verdict.PASSED_WITH_REMARKS: exits.WARNINGS,
    }


def test_each_status_means_one_thing() -> None:
    every = (exits.YES, exits.NO, exits.USAGE, exits.WARNINGS, exits.NOTHING_HEARD, exits.HUNG)
    assert every == (0, 1, 2, 3, 4, 5)
    assert exits.INTERRUPTED == exits.USAGE
