"""What the log says of one account: words for people, and beside them the fields as they came."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from brokerwatch.actors.broker_log import BrokerLog
from brokerwatch.clock import ManualClock
from brokerwatch.config.policy import GUARDED
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import Fault, FaultKind
from tests.support.readings import reading

PAGE = "HTTP 502: '<html><head><title>502 Bad Gateway</title></head><body>\n<h1>502</h1></body></html>'"


def said_of(
    caplog: pytest.LogCaptureFixture, kind: FaultKind, detail: str, times: int
) -> list[logging.LogRecord]:
    """The lines that so many faults of this kind leave."""
    clock = ManualClock()
    log = BrokerLog("k")
    before = Health.begin(clock.now(), rules=GUARDED)
    with caplog.at_level(logging.WARNING, "brokerwatch"):
        for _ in range(times):
            after = before.failed(Fault(kind, detail), clock.now())
            log.folded(before, after, reading("k", clock=clock))
            before = after
    return caplog.records


def fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = record.__dict__["brokerwatch"]
    return found


def test_a_page_of_html_is_its_title_in_the_line_and_whole_in_the_field(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (record,) = said_of(caplog, FaultKind.EXCHANGE_DOWN, PAGE, 3)
    assert record.getMessage() == (
        "k is unavailable after 3 consecutive errors; the last: exchange_down: HTTP 502: 502 Bad Gateway"
    )
    assert fields(record)["detail"] == PAGE


def test_a_page_about_the_key_is_its_title_too(caplog: pytest.LogCaptureFixture) -> None:
    messages = [record.getMessage() for record in said_of(caplog, FaultKind.AUTH, PAGE, 1)]
    assert messages
    assert all(message.endswith("HTTP 502: 502 Bad Gateway") for message in messages)


def test_announced_maintenance_is_told_without_errors(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = said_of(caplog, FaultKind.MAINTENANCE, "until 18:00", 1)
    assert record.getMessage() == "k is in maintenance: until 18:00"
