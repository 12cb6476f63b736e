"""Every exit status of every command, and how a command says that it failed.

0 yes, 1 no, 2 usage or configuration, 3 yes with warnings, 4 nothing heard, 5 an event loop hangs. A report
of `verify` states its status as a field of its own, so that one is made in verification/report.py; a test
holds the two together.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, NoReturn

from brokerwatch.log import escaped

if TYPE_CHECKING:
    from brokerwatch.preflight.diagnosis import Line

YES: Final = 0
NO: Final = 1
USAGE: Final = 2
WARNINGS: Final = 3
NOTHING_HEARD: Final = 4
HUNG: Final = 5
"""`run` cannot watch all of its accounts any more: their event loop hangs, and no other can take its place.
Only a new process helps."""
INTERRUPTED: Final = USAGE
"""The command was stopped before its end, so it has no answer. 1 would say that the answer is no."""

ALL_STATUSES: Final = (
    "Exit statuses: 0 yes, 1 no, 2 usage or configuration, 3 yes with warnings, 4 nothing heard, "
    "5 an event loop of run hangs."
)
VERIFY_STATUSES: Final = (
    "Exit statuses: 0 everything passed, 1 something failed, 2 it could not be run, "
    "3 passed, with warnings or with something that could not be checked."
)
DOCTOR_STATUSES: Final = (
    "Exit statuses: 0 all is well, 1 something would not work, "
    "2 there is no configuration to look at, 3 it works, with warnings."
)


def of_lines(lines: Collection[Line]) -> int:
    """What `doctor` ends with: no where a line failed, warnings where a line warns, else yes."""
    outcomes = {str(line.outcome) for line in lines}
    if "fail" in outcomes:
        return NO
    return WARNINGS if "warn" in outcomes else YES


def say(text: str) -> None:
    """Write each line of the text to standard error, with the program's name before it."""
    for line in text.splitlines():
        sys.stderr.write(f"brokerwatch: {escaped(line)}\n")


def fail(text: str) -> NoReturn:
    """Say the text, and end with the status of a wrong use."""
    say(text)
    sys.exit(USAGE)
