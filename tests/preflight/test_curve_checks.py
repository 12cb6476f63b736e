"""What doctor says of [curve]."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokerwatch.config.curve_keys import KeyPair, pair_text
from brokerwatch.preflight.curve_checks import curve_lines
from brokerwatch.preflight.diagnosis import Line, LineOutcome
from tests.support.keys import Keys


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    keys.make("bot")
    return keys


def line(keys: Keys) -> Line:
    (found,) = curve_lines(keys.settings)
    return found


def test_nothing_is_said_without_encryption() -> None:
    assert list(curve_lines(None)) == []


def test_keys_that_can_be_used_are_counted(keys: Keys) -> None:
    assert line(keys).outcome is LineOutcome.WARN, "nothing but the cluster itself is let in"
    keys.let_in(keys.subscribers, "bot")
    found = line(keys)
    assert found.outcome is LineOutcome.OK
    assert "subscribers: 1, brokers: 0" in found.evidence


def test_a_node_that_reports_to_supervisors_need_let_nobody_in(keys: Keys) -> None:
    (found,) = curve_lines(keys.settings, reports=True)
    assert (found.outcome, "its supervisors" in found.evidence) == (LineOutcome.OK, True)


def test_what_cannot_be_used_is_a_failure_without_the_secret(keys: Keys) -> None:
    secret = keys.pairs["bot"].secret
    keys.file("own").write_text(pair_text(KeyPair("own", keys.own.public, secret)))
    found = line(keys)
    assert found.outcome is LineOutcome.FAIL
    assert "does not belong to its secret" in found.evidence
    assert secret not in repr(found)
    keys.brokers.unlink()
    assert line(keys).outcome is LineOutcome.FAIL
