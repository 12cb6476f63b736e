"""What doctor and verify say of an account with `push = true`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.preflight.diagnosis import LineOutcome
from brokerwatch.preflight.push_checks import push_lines
from brokerwatch.simulator import SimulatedKraken
from tests.preflight.test_verify import verified
from tests.support.verification import evidence, not_passed

PERMISSION: Any = {"path": "/0/private/GetWebSocketsToken"}


def spec(exchange: str, *, push: bool = True, **options: Any) -> BrokerSpec:
    return BrokerSpec("a", exchange=exchange, push=push, ccxt=MappingProxyType(options))


@pytest.mark.parametrize(
    ("configured", "outcome", "words"),
    [
        (spec("kraken"), LineOutcome.WARN, "'WebSocket interface'"),
        (spec("okx"), LineOutcome.OK, "confirmed by reads"),
        (spec("coinbase"), LineOutcome.OK, "a change asks for a read"),
        (spec("gate"), LineOutcome.OK, "a change asks for a read"),
        (spec("bitstamp"), LineOutcome.FAIL, "cannot watch the balance"),
        (spec("okx", httpsProxy="http://127.0.0.1:1"), LineOutcome.FAIL, "would leave directly"),
        (
            spec("okx", httpsProxy="http://127.0.0.1:1", wssProxy="http://127.0.0.1:1"),
            LineOutcome.OK,
            "confirmed",
        ),
        (spec("okx", urls={"api": {"rest": "http://127.0.0.1:1"}}), LineOutcome.FAIL, "none is given"),
        (
            spec("okx", urls={"api": {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1"}}),
            LineOutcome.OK,
            "confirmed",
        ),
    ],
)
def test_doctor_says_what_a_stream_needs(configured: BrokerSpec, outcome: LineOutcome, words: str) -> None:
    (line,) = push_lines(configured)
    assert line.outcome is outcome
    assert words in line.evidence
    assert bool(line.advice) == (outcome is not LineOutcome.OK)


def test_doctor_says_nothing_of_a_stream_that_is_not_wanted() -> None:
    assert not list(push_lines(spec("kraken", push=False)))


def test_verify_fails_a_key_that_may_not_have_the_stream_only_where_it_is_wanted() -> None:
    exchange = SimulatedKraken()
    exchange.set_fault("permission", **PERMISSION)
    assert not_passed(verified(exchange)) == {}
    found = verified(exchange, push=True)
    assert not_passed(found) == {"safety.rights": "fail"}
    assert "WebSocket interface" in evidence(found, "safety.rights")
    exchange.mend()
    assert not_passed(verified(exchange, push=True)) == {}
