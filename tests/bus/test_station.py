"""When the socket of an endpoint is opened anew."""

from __future__ import annotations

import pytest

from brokerwatch.bus.station import patience_s


@pytest.mark.parametrize(
    ("ttl_ms", "expected_s"),
    [(5_000, 5.0), (1_800, 1.0), (1_001, 0.5), (0, 0.5), (1_201_000, 1_500.0), (2**53, 1_500.0)],
)
def test_five_silent_heartbeats_are_ordinary_and_no_message_makes_the_wait_endless(
    ttl_ms: int, expected_s: float
) -> None:
    assert patience_s(ttl_ms) == pytest.approx(expected_s)
