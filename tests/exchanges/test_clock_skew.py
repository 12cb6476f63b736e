"""A refusal that a wrong clock of ours causes, told from that of a wrong key."""

from __future__ import annotations

from email.utils import formatdate
from typing import Final

import pytest

from brokerwatch.exchanges.clock_skew import TOLERATED_S, dated_skew_s
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.registry import fault_of, order_fault_of
from brokerwatch.messages import FaultKind

NOW_S: Final = 1_800_000_000.0
UNAUTHORIZED: Final = Failure(
    classes=("AuthenticationError",), status=401, body="Unauthorized", family="coinbase", text="no"
)


def dated(failure: Failure, theirs_s: float) -> Failure:
    return Failure(
        classes=failure.classes,
        status=failure.status,
        body=failure.body,
        family=failure.family,
        text=failure.text,
        headers={"date": formatdate(theirs_s, usegmt=True)},
    )


@pytest.mark.parametrize("off_s", [-86_400, -3_600, -121, -30, 30, 121, 3_600, 86_400])
def test_a_refused_key_beside_a_wrong_clock_is_a_wrong_clock(off_s: float) -> None:
    found = fault_of(dated(UNAUTHORIZED, NOW_S - off_s), NOW_S)
    assert found.kind is FaultKind.NONCE_CLOCK
    side = "ahead of" if off_s > 0 else "behind"
    assert f"{side} the exchange's; no" in found.detail


@pytest.mark.parametrize("off_s", [-TOLERATED_S, -1.0, 0.0, 0.999, TOLERATED_S])
def test_a_refused_key_beside_a_right_clock_is_a_refused_key(off_s: float) -> None:
    assert fault_of(dated(UNAUTHORIZED, NOW_S - off_s), NOW_S).kind is FaultKind.AUTH
    assert fault_of(UNAUTHORIZED, NOW_S).kind is FaultKind.AUTH, "no date, and nothing measured"


def test_what_was_measured_says_more_than_a_date() -> None:
    said = dated(UNAUTHORIZED, NOW_S - 3_600)
    assert fault_of(said, NOW_S, 0.2).kind is FaultKind.AUTH
    assert fault_of(UNAUTHORIZED, NOW_S, -3_600.0).kind is FaultKind.NONCE_CLOCK


AUTH, DENIED = "AuthenticationError", "PermissionDenied"
REFUSALS: list[tuple[str, str, int, str, FaultKind]] = [
    ("coinbase", '{"error":"unauthorized"}', 401, AUTH, FaultKind.AUTH),
    ("coinbase", '{"error":"PERMISSION_DENIED"}', 403, DENIED, FaultKind.PERMISSION),
    ("okx", '{"code":"50112","msg":"Invalid OK-ACCESS-TIMESTAMP"}', 401, AUTH, FaultKind.AUTH),
    ("okx", '{"code":"50113","msg":"Invalid Sign"}', 401, AUTH, FaultKind.AUTH),
    ("", '{"code":-1022,"msg":"Signature is not valid."}', 400, AUTH, FaultKind.AUTH),
    ("", '{"code":403,"msg":"request expired"}', 403, DENIED, FaultKind.PERMISSION),
    ("", '{"msg":"invalid timestamp"}', 400, "BadRequest", FaultKind.CLIENT_BUG),
    ("", '{"msg":"jwt is not valid"}', 400, "ExchangeError", FaultKind.BAD_RESPONSE),
    ("", "token expired", 401, "ExchangeError", FaultKind.EXCHANGE_DOWN),
]


@pytest.mark.parametrize(("family", "body", "status", "raised", "kind"), REFUSALS)
def test_every_refusal_that_a_clock_can_cause_is_looked_at(
    family: str, body: str, status: int, raised: str, kind: FaultKind
) -> None:
    failure = Failure(classes=(raised,), status=status, body=body, family=family, text="no")
    assert fault_of(dated(failure, NOW_S), NOW_S).kind is kind
    assert fault_of(dated(failure, NOW_S - 3_600), NOW_S).kind is FaultKind.NONCE_CLOCK
    assert fault_of(dated(failure, NOW_S + 3_600), NOW_S).kind is FaultKind.NONCE_CLOCK


@pytest.mark.parametrize(
    ("family", "body", "status", "raised", "kind"),
    [
        # Kraken's numbers only have to rise: no clock makes a key or a signature wrong there.
        ("kraken", '{"error":["EAPI:Invalid key"]}', 200, "AuthenticationError", FaultKind.AUTH),
        ("kraken", '{"error":["EAPI:Invalid signature"]}', 200, "AuthenticationError", FaultKind.AUTH),
        ("", '{"msg":"slow down"}', 429, "RateLimitExceeded", FaultKind.RATE_LIMITED),
        ("", "<html>Bad Gateway</html>", 502, "ExchangeNotAvailable", FaultKind.EXCHANGE_DOWN),
        ("", '{"msg":"on maintenance"}', 503, "OnMaintenance", FaultKind.MAINTENANCE),
        ("", '{"msg":"no such market"}', 400, "BadRequest", FaultKind.CLIENT_BUG),
    ],
)
def test_what_no_clock_causes_stays_what_it_is(
    family: str, body: str, status: int, raised: str, kind: FaultKind
) -> None:
    failure = Failure(classes=(raised,), status=status, body=body, family=family)
    assert fault_of(dated(failure, NOW_S - 3_600), NOW_S).kind is kind


def test_an_exchange_that_says_itself_that_it_is_the_clock_is_believed() -> None:
    body = '{"code":"50102","msg":"Timestamp request expired"}'
    failure = Failure(status=401, body=body, family="okx", text="no")
    assert fault_of(failure, NOW_S).kind is FaultKind.NONCE_CLOCK
    assert "2.0 s ahead" in fault_of(dated(failure, NOW_S - 3), NOW_S).detail


def test_a_refusal_of_one_market_stays_one_beside_a_wrong_clock() -> None:
    body = '{"error":"PERMISSION_DENIED","message":"product is not available in your region"}'
    failure = Failure(classes=("PermissionDenied",), status=403, body=body, family="coinbase")
    assert order_fault_of(dated(failure, NOW_S - 3_600), NOW_S).closes_market_s > 0


@pytest.mark.parametrize("date", ["", "soon", "Fri, 99 Jan 2027 08:00:00 GMT", "0"])
def test_a_date_that_is_none_says_nothing(date: str) -> None:
    assert dated_skew_s(Failure(headers={"date": date}), NOW_S) is None
