"""Moments as text."""

from __future__ import annotations

import time

import pytest

from brokerwatch.clock import NO_DATE, local_text, utc_iso, utc_text

MOMENT_US = 1_795_370_400_123_456


def test_a_moment_in_utc_is_the_same_on_every_machine() -> None:
    assert utc_text(MOMENT_US) == "2026-11-22 18:00:00 UTC"
    assert utc_iso(MOMENT_US, "milliseconds") == "2026-11-22T18:00:00.123Z"
    assert utc_iso(MOMENT_US, "microseconds") == "2026-11-22T18:00:00.123456Z"
    assert utc_iso(MOMENT_US // 1_000_000 * 1_000_000, "microseconds") == "2026-11-22T18:00:00.000000Z"


def test_a_moment_in_local_time_follows_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert local_text(MOMENT_US) == "2026-11-22 19:00:00"
        assert local_text(MOMENT_US, shows_zone=True) == "2026-11-22 19:00:00+01:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("wall_us", [10**18, -(10**18), 2**63 - 1, -(2**63), 253_402_300_800_000_000])
def test_a_moment_that_no_calendar_has_is_said_in_words(wall_us: int) -> None:
    assert utc_text(wall_us) == NO_DATE
    assert local_text(wall_us) == NO_DATE
