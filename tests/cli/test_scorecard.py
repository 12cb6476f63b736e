"""How the checks of a verification are shown."""

from __future__ import annotations

from brokerwatch.cli.scorecard import LineScorecard
from brokerwatch.verification.checklist import CHECKLIST, failed
from brokerwatch.verification.report import Finding


def test_a_page_of_html_in_the_evidence_is_shown_as_its_title() -> None:
    lines: list[str] = []
    page = "no answer: HTTP 502: '<html><head><title>502 Bad Gateway</title></head></html>'"
    LineScorecard(lines.append).ended(Finding(CHECKLIST[0], failed(page), 3))
    (line,) = lines
    assert line.startswith("FAIL  0/")
    assert line.endswith("no answer: HTTP 502: 502 Bad Gateway")
