"""What is shown cannot change a terminal, and one line stays one line."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.log import escaped, logger

EVIL = "down\x1b[2J\x1b]0;title\x07\nWARNING all is well\r\x9b31m\u202e\u2028"


def test_what_cannot_be_printed_is_written_as_json_writes_it() -> None:
    assert escaped("ok é 漢字") == "ok é 漢字"
    assert escaped("a\nb") == "a\\u000ab"
    assert escaped("\x1b[2J") == "\\u001b[2J"
    assert escaped("\U000e0001") == "\\udb40\\udc01"
    assert escaped("a\nb\x1b", keep="\n") == "a\nb\\u001b"


@given(text=st.text())
def test_nothing_that_is_escaped_can_do_anything_and_json_reads_it_as_before(text: str) -> None:
    assert escaped(text).isprintable()
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def test_the_log_escapes_what_came_from_outside_and_not_its_own_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logger("brokerwatch.test_log")
    assert logger("brokerwatch.test_log") is log
    assert len(log.filters) == 1
    log.warning("%s failed %d times in %.1f s: %s", "a", 3, 1.5, ConnectionError(EVIL))
    log.warning("%s: %s", "b", Mute())
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("a failed 3 times in 1.5 s: down\\u001b[2J")
    assert first.isprintable()
    assert second == "b: <Mute without a text>"


def test_the_traceback_of_a_callable_of_the_traders_is_escaped_too(caplog: pytest.LogCaptureFixture) -> None:
    log = logger("brokerwatch.test_log")
    try:
        raise ValueError(EVIL)
    except ValueError:
        log.exception("a callback raised")
    shown = logging.Formatter().format(caplog.records[0])
    assert "Traceback (most recent call last)" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
