"""The moment at which an exchange may be asked again, in every form in which one is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.exchanges.faults import NO_HEADERS, Failure
from brokerwatch.exchanges.pauses import LONGEST_PAUSE_S, LONGEST_RETRY_S, is_kept
from brokerwatch.exchanges.registry import fault_of
from brokerwatch.messages import FaultKind

NOW_S: Final = 1_800_000_000.0
MS: Final = 1_800_000_000_000


def pause_s(
    body: str = "{}", status: int = 429, retry_after: str = "", headers: Mapping[str, str] = NO_HEADERS
) -> float:
    failure = Failure(
        classes=("RateLimitExceeded",), status=status, body=body, retry_after=retry_after, headers=headers
    )
    found = fault_of(failure, NOW_S)
    assert found.kind is FaultKind.RATE_LIMITED
    return found.retry_after_s


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("gw-ratelimit-reset", "14990", 14.99),
        ("x-bapi-limit-reset-timestamp", str(MS + 7_000), 7.0),
        ("x-bapi-limit-reset-timestamp", str(MS - 1), 0.0),
        ("x-gate-ratelimit-reset-timestamp", "1800000060", 60.0),
        ("bitvavo-ratelimit-resetat", str(MS + 60_000), 60.0),
        ("x-hb-ratelimit-requests-expire", str(MS + 1_500), 1.5),
        ("x-ratelimit-reset", "1800000009", 9.0),
        ("x-ratelimit-reset", "9", 9.0),
        ("ratelimit-reset", "12", 12.0),
        ("x-ratelimit-retry-after", "33", 33.0),
        ("x-ratelimit-retry-after-spot", "33", 33.0),
        ("retry-after-ms", "2500", 2.5),
        ("x-bm-ratelimit-reset", "2", 2.0),
        ("x-ratelimit-reset", "soon", 0.0),
        ("x-ratelimit-reset", "-5", 0.0),
        ("x-ratelimit-reset", "9" * 90, LONGEST_PAUSE_S),
    ],
)
def test_the_exchanges_own_headers_are_read_by_their_unit(name: str, value: str, seconds: float) -> None:
    assert is_kept(name)
    assert pause_s(headers={name: value}) == pytest.approx(seconds)
    assert pause_s(retry_after="5", headers={name: value}) == 5.0, "the standard one goes first"


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"code": -1003, "msg": f"Way too much request weight used; IP banned until {MS + 600_000}."}, 600.0),
        ({"code": -1003, "msg": f"IP banned until {MS - 1}. Please use WebSocket Streams"}, 0.0),
        ({"code": -1003, "msg": "IP(1.2.3.4) banned until 1800000030."}, 30.0),
        ({"code": 100410, "msg": f"frequency limit: will be unblocked after {MS + 9_000}"}, 9.0),
        ({"errorCode": 105, "error": f"Your IP has been banned. The ban expires at {MS + 90_000}."}, 90.0),
        ({"code": 429, "data": {"serverTime": MS, "retryAfter": MS + 4_000}}, 4.0),
        ({"error": "slow down", "retry_after": 12}, 12.0),
        ({"error": "slow down", "retryAfterMs": 1_500}, 1.5),
        ({"error": "slow down", "retry_after_seconds": "8"}, 8.0),
        ({"error": "Too many requests, please try again in 30 seconds"}, 30.0),
        ({"error": "Rate limit. Retry after 2 minutes."}, 120.0),
        ({"error": "You are banned for 1 hour"}, 3_600.0),
        ({"error": "wait 250ms"}, 0.25),
        ({"error": "banned until 2027-01-15 08:05:00 UTC"}, 300.0),
        ({"error": "banned until 2027-01-15T09:05:00+01:00"}, 300.0),
        ({"error": "try again after 2027-01-15T08:00:30.500Z"}, 30.5),
        ({"error": "banned until 2027-99-15T08:00:30Z"}, 0.0),
        ({"error": f"banned until {MS * 1_000_000}"}, 0.0),
        ({"error": f"banned until {MS + 10**11}"}, LONGEST_PAUSE_S),
        # Words and numbers that name no end.
        ({"msg": "Too much request weight used; current limit is 1200 request weight per 1 MINUTE."}, 0.0),
        ({"msg": "Too many visits!", "time": MS + 5_000}, 0.0),
        ({"msg": "too many requests, try again later", "requestId": 1_900_000_000}, 0.0),
        ({"msg": "10 requests in 2 seconds are allowed"}, 0.0),
    ],
    ids=str,
)
def test_the_words_of_the_answer_name_the_end_of_a_ban(body: dict[str, Any], seconds: float) -> None:
    assert pause_s(json.dumps(body), status=418) == pytest.approx(seconds)
    assert pause_s(json.dumps(body)) == pytest.approx(seconds)


def test_a_ban_lasts_until_the_latest_moment_that_is_named() -> None:
    banned = json.dumps({"code": -1003, "msg": f"IP banned until {MS + 600_000}."})
    assert pause_s(banned, 418, "1") == 600.0
    assert pause_s(banned, 418, "900") == 900.0


def test_a_moment_counts_by_the_clock_of_the_exchange() -> None:
    theirs_s = NOW_S + 3_600
    banned = json.dumps({"msg": f"IP banned until {round(theirs_s + 60) * 1_000}."})
    assert pause_s(banned, 418, headers={"date": formatdate(theirs_s, usegmt=True)}) == 60.0
    later = formatdate(theirs_s + 45, usegmt=True)
    assert pause_s(retry_after=later, headers={"date": formatdate(theirs_s, usegmt=True)}) == 45.0


def test_a_retry_after_that_is_a_moment_is_one() -> None:
    assert pause_s(retry_after=str(MS + 30_000)) == 30.0
    assert pause_s(retry_after="1800000030") == 30.0


def test_another_fault_is_believed_for_an_hour_at_most() -> None:
    assert fault_of(Failure(status=503, retry_after="99999"), NOW_S).retry_after_s == LONGEST_RETRY_S == 3_600


@given(body=st.text(max_size=200), value=st.text(max_size=60), retry_after=st.text(max_size=40))
def test_whatever_is_named_the_pause_has_its_bounds(body: str, value: str, retry_after: str) -> None:
    names = ("x-ratelimit-reset", "gw-ratelimit-reset", "date")
    for name in names:
        assert 0.0 <= pause_s(body, retry_after=retry_after, headers={name: value}) <= LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("status", "body", "bans"),
    [
        (418, '{"code":-1003,"msg":"x"}', True),
        (418, "<html>I am a teapot</html>", True),
        (429, '{"msg":"IP banned until 1"}', True),
        (403, "<html>403 Forbidden, access too frequent</html>", True),
        (403, "<html>Error code: 1015. You are being rate limited</html>", True),
        (403, '{"error":"Your IP has been banned"}', True),
        (403, '{"errmsg":"Your IP address has been temporarily blocked due to excessive requests."}', True),
        (403, '{"message":"Forbidden - IP address blocked for 10 minutes"}', True),
        (400, '{"msg":"Your IP has exceeded the limit. Retry after 60 seconds"}', True),
        (200, '{"err-code":"api-limit","err-msg":"too many requests"}', False),
        (429, '{"msg":"Too many visits!"}', False),
        (403, '{"msg":"too many requests"}', False),
    ],
)
def test_a_ban_of_the_address_is_told_from_a_limit_of_the_key(status: int, body: str, *, bans: bool) -> None:
    classes = {403: ("PermissionDenied",), 400: ("ExchangeError",), 200: ("ExchangeError",)}.get(
        status, ("DDoSProtection",)
    )
    found = fault_of(Failure(classes=classes, status=status, body=body), NOW_S)
    assert (found.kind, found.bans_address) == (FaultKind.RATE_LIMITED, bans)


@pytest.mark.parametrize(
    "body",
    [
        '{"msg":"IP not in the whitelist"}',
        '{"msg":"this IP is blocked by the list of the key"}',
        '{"msg":"this key is not allowed"}',
    ],
)
def test_a_refused_key_is_no_ban(body: str) -> None:
    found = fault_of(Failure(classes=("PermissionDenied",), status=403, body=body), NOW_S)
    assert (found.kind, found.bans_address) == (FaultKind.PERMISSION, False)
