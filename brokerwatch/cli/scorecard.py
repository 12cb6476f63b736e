"""How a verification is shown: its progress and its table in a terminal, a line for each check in a pipe.

In a terminal rich draws it; nothing that matters is said by colour alone. In a pipe a check is a line as
soon as it has ended, whole, however narrow the terminal is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from brokerwatch.health.plain_words import plain_detail
from brokerwatch.verification.checklist import CHECKLIST, Check, CheckOutcome
from brokerwatch.verification.report import CheckReport, Finding, Report, Verdict

_STYLE: Final = {
    CheckOutcome.PASS: "green",
    CheckOutcome.WARN: "yellow",
    CheckOutcome.FAIL: "bold red",
    CheckOutcome.SKIP: "cyan",
}
_VERDICT: Final = {
    Verdict.PASSED: "PASSED",
    Verdict.PASSED_WITH_REMARKS: "PASSED WITH REMARKS",
    Verdict.FAILED: "FAILED",
}
_NARROW: Final = 100
"""Below so many characters the titles of the checks are left out, and their names stay …"""
_NARROWEST: Final = 60
"""… and below these a table would be nothing but breaks."""


class Scorecard(Protocol):
    """Shows one verification, while its block lasts and at its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begins(self, check: Check, number: int) -> None:
        """This check begins, the `number`-th from 1."""
        ...

    def ended(self, finding: Finding) -> None:
        """It has ended."""
        ...

    def show(self, report: Report) -> None:
        """All of it, and what it comes to."""
        ...


class Terminal:
    """A progress display, and then the table."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=len(CHECKLIST))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begins(self, check: Check, number: int) -> None:
        """See `Scorecard`."""
        self._progress.update(
            self._task, completed=number - 1, description=f"{check.category}: {check.title}"
        )

    def ended(self, finding: Finding) -> None:
        """Nothing: all of it stands in the table."""

    def show(self, report: Report) -> None:
        """See `Scorecard`."""
        self._progress.stop()
        if self._console.width < _NARROWEST:
            for line in rows(report):
                self._console.print(line, markup=False, soft_wrap=True)
        else:
            self._console.print(_table(report, self._console.width))
        style = "bold red" if report.verdict is Verdict.FAILED else "bold green"
        for line in conclusion(report):
            self._console.print(Text(line, style=style))


def _table(report: Report, width: int) -> Table:
    with_title = width >= _NARROW
    shown = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False)
    shown.add_column("", no_wrap=True)
    shown.add_column("points", justify="right", no_wrap=True)
    shown.add_column("check", overflow="fold", ratio=2)
    shown.add_column("evidence", overflow="fold", ratio=3)
    for category in report.categories:
        shown.add_row(
            "", f"{category.points}/{category.maximum}", Text(category.title, style="bold"), style="bold"
        )
        for check in category.checks:
            shown.add_row(
                Text(_word(check), style=_STYLE[check.outcome]),
                f"{check.points}/{check.maximum}",
                Text(check.title if with_title else check.name.partition(".")[2]),
                Text(plain_detail(check.evidence)),
            )
    return shown


def _word(check: CheckReport) -> str:
    return check.outcome.upper() if check.outcome is CheckOutcome.FAIL else str(check.outcome)


class LineScorecard:
    """A line for each check as it ends, for pipes, logs and screen readers."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._category = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def begins(self, check: Check, number: int) -> None:
        """Nothing: a line that is half done is none."""

    def ended(self, finding: Finding) -> None:
        """See `Scorecard`."""
        check, judgement = finding.check, finding.judgement
        outcome = (
            judgement.outcome.upper() if judgement.outcome is CheckOutcome.FAIL else str(judgement.outcome)
        )
        evidence = plain_detail(judgement.evidence)
        self._emit(f"{outcome:<4}  {finding.points}/{check.points}  {check.name:<29} {evidence}")

    def show(self, report: Report) -> None:
        """See `Scorecard`."""
        for category in report.categories:
            self._emit(f"{category.points:>3}/{category.maximum:<3}     {category.title}")
        for line in conclusion(report):
            self._emit(line)


def rows(report: Report) -> Iterator[str]:
    """Every check as a line below its category."""
    for category in report.categories:
        yield f"{category.points}/{category.maximum}  {category.title}"
        for check in category.checks:
            evidence = plain_detail(check.evidence)
            yield f"{_word(check):<4}  {check.points}/{check.maximum}  {check.name}: {evidence}"


def conclusion(report: Report) -> Iterator[str]:
    """What the checks come to, in words."""
    checks = [check for category in report.categories for check in category.checks]
    counts = Counter(check.outcome for check in checks)
    words = {CheckOutcome.FAIL: "failed", CheckOutcome.WARN: "with a warning", CheckOutcome.SKIP: "skipped"}
    aside = ", ".join(f"{counts[outcome]} {word}" for outcome, word in words.items() if counts[outcome])
    policy = f"; policy {report.policy}" if report.policy else ""
    yield (
        f"{report.broker} at {report.exchange}: {report.points} of {report.maximum} points, "
        f"{_VERDICT[report.verdict]}{f' ({aside})' if aside else ''}{policy}"
    )
    for check in checks:
        if check.outcome is CheckOutcome.FAIL:
            yield f"FAIL  {check.name}: {plain_detail(check.evidence)}"
    if report.elsewhere:
        yield "at another address than the exchange's own: this says nothing about the exchange itself"
