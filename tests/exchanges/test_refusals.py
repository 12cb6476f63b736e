"""Which failures say for certain that nothing was placed. A doubtful one is never among them."""

from __future__ import annotations

import itertools
import json
import socket
from typing import Any, Final

import aiohttp
import pytest
from ccxt.base import errors as ccxt_errors

from brokerwatch.exchanges import okx as okx_adapter
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.refusals import (
    NotSent,
    Refused,
    Unknown,
    judged,
    never_sent,
)
from brokerwatch.exchanges.registry import definitely_not_placed, profile_of, refusal


def failed(family: str, answer: object, status: int | None = 200) -> Failure:
    body = answer if isinstance(answer, str) else json.dumps(answer)
    return Failure(classes=("ExchangeError",), status=status, body=body, family=family)


def kraken(*errors: str, **values: object) -> dict[str, object]:
    return {"error": list(errors), **values}


def coinbase(word: str, message: str = "") -> dict[str, object]:
    return {"error": word, "error_details": message, "message": message}


def coinbase_order(reason: str, preview: str = "", **values: object) -> dict[str, object]:
    told = {"error": reason, "message": "", "error_details": "", "preview_failure_reason": preview}
    return {"success": False, "error_response": told, **values}


def okx(code: str, *codes: str, message: str = "", **values: object) -> dict[str, object]:
    rows = [{"clOrdId": "a", "ordId": "", "sCode": each, "sMsg": message, **values} for each in codes]
    return {"code": code, "data": rows, "msg": "" if rows else message}


CERTAIN: Final[list[tuple[str, object, int]]] = [
    *(
        ("kraken", kraken(word), 200)
        for word in (
            "EOrder:Insufficient funds",
            "EOrder:Order minimum not met",
            "EOrder:Rate limit exceeded",
            "EGeneral:Invalid arguments",
            "EGeneral:Invalid arguments:volume",
            "EGeneral:Permission denied",
            "EGeneral:Temporary lockout",
            "EAPI:Invalid nonce",
            "EAPI:Invalid key",
            "EQuery:Unknown asset pair",
            "EService:Market in cancel_only mode",
            "EService:Market in post_only mode",
        )
    ),
    ("kraken", kraken("EOrder:Insufficient funds", "EGeneral:Invalid arguments"), 200),
    ("kraken", kraken("WGeneral:Beware", "EOrder:Insufficient funds"), 200),
    ("kraken", kraken("EAPI:Rate limit exceeded"), 429),
    ("coinbase", "Unauthorized\n", 401),
    ("coinbase", coinbase("INVALID_ARGUMENT", "valid product_id is required"), 400),
    ("coinbase", coinbase("PERMISSION_DENIED", "Missing required scopes"), 403),
    ("coinbase", coinbase("RESOURCE_EXHAUSTED", "Too many requests"), 429),
    ("coinbase", {"errors": [{"id": "authentication_error", "message": "request timestamp expired"}]}, 401),
    ("coinbase", coinbase_order("INSUFFICIENT_FUND"), 200),
    ("coinbase", coinbase_order("UNKNOWN_FAILURE_REASON", "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"), 200),
    ("coinbase", coinbase_order("INSUFFICIENT_FUND", "UNKNOWN_PREVIEW_FAILURE_REASON", order_id=""), 200),
    ("okx", okx("1", "51008", message="Order failed. Insufficient USDT balance in account."), 200),
    ("okx", okx("1", "51000"), 200),
    ("okx", okx("51001", message="Instrument ID doesn't exist."), 200),
    ("okx", {"code": "50113", "msg": "Invalid Sign"}, 401),
    ("okx", {"code": "50102", "msg": "Timestamp request expired"}, 401),
    ("okx", okx("50011", message="Too Many Requests"), 429),
    ("okx", okx("50120", message="This API key doesn't have permission to use this function"), 401),
]

DOUBTFUL: Final[list[tuple[str, object, int | None]]] = [
    *((family, "", status) for family in ("kraken", "coinbase", "okx") for status in (None, 200, 502)),
    *((family, "<html>502 Bad Gateway</html>", 502) for family in ("kraken", "coinbase", "okx")),
    *((family, "<html>forbidden</html>", 403) for family in ("kraken", "coinbase", "okx")),
    *((family, {"message": "Forbidden"}, 403) for family in ("kraken", "coinbase", "okx")),
    *((family, [], 200) for family in ("kraken", "coinbase", "okx")),
    ("", kraken("EOrder:Insufficient funds"), 200),
    ("okx", kraken("EOrder:Insufficient funds"), 200),
    ("coinbase", okx("51008"), 200),
    ("kraken", "[" * 100_000, 200),
    *(
        ("kraken", kraken(word), 200)
        for word in (
            "EService:Unavailable",
            "EService:Busy",
            "EService:Timeout",
            "EService:Deadline elapsed",
            "EService:Throttled: 1700000000",
            "EGeneral:Internal error",
            "EOrder:Internal error",
            "EOrder:Timed out",
            "EDatabase:Internal error",
            "EGeneral:Invalid arguments:cl_ord_id not unique",
            "EGeneral:Something new",
            "something EOrder:Insufficient funds",
            "WOrder:Beware",
        )
    ),
    ("kraken", kraken("EOrder:Insufficient funds", "EService:Unavailable"), 200),
    ("kraken", kraken("EOrder:Insufficient funds", "EGeneral:Something new"), 200),
    ("kraken", kraken("EOrder:Insufficient funds", result={"txid": ["O1"]}), 200),
    ("kraken", kraken(result={"txid": ["O1"]}), 200),
    ("kraken", kraken("EOrder:Insufficient funds"), 500),
    ("kraken", kraken("EOrder:Insufficient funds"), None),
    ("kraken", {"error": "EOrder:Insufficient funds"}, 200),
    ("coinbase", "Unauthorized", 403),
    ("coinbase", coinbase("INTERNAL", "Internal server error"), 500),
    ("coinbase", coinbase("INTERNAL"), 400),
    ("coinbase", coinbase("UNAVAILABLE"), 503),
    ("coinbase", coinbase("DEADLINE_EXCEEDED"), 400),
    ("coinbase", coinbase("INVALID_ARGUMENT", "upstream request timeout"), 400),
    ("coinbase", coinbase("INVALID_ARGUMENT"), 408),
    ("coinbase", coinbase("ALREADY_EXISTS"), 409),
    ("coinbase", coinbase("unknown"), 400),
    ("coinbase", coinbase_order("UNKNOWN_FAILURE_REASON"), 200),
    ("coinbase", coinbase_order("UNKNOWN_FAILURE_REASON", "UNKNOWN_PREVIEW_FAILURE_REASON"), 200),
    ("coinbase", coinbase_order("INSUFFICIENT_FUND", order_id="1"), 200),
    ("coinbase", coinbase_order("INSUFFICIENT_FUND", success_response={"order_id": "1"}), 200),
    ("coinbase", coinbase_order("INSUFFICIENT_FUND", success=True), 200),
    ("coinbase", {"error_response": {"error": "INSUFFICIENT_FUND"}}, 200),
    ("coinbase", {"success": False}, 200),
    *(
        ("okx", okx(code), 200)
        for code in ("0", "1", "2", "50001", "50004", "50005", "50013", "50026", "51400", "51603")
    ),
    *(("okx", okx("1", code), 200) for code in ("0", "1", "50004", "50013", "51016", "51054", "51149", "")),
    ("okx", okx("2", "51008", "0"), 200),
    ("okx", okx("1", "510080"), 200),
    ("okx", okx("1", "51008", ordId="123"), 200),
    ("okx", okx("1", "51030", message="Settling. The system is busy."), 200),
    ("okx", okx("1", "51008"), 503),
    ("okx", okx("50013", message="Systems are busy. Please try again later."), 429),
    ("okx", {"code": "1", "data": ["51008"], "msg": ""}, 200),
    ("okx", {"code": "51008", "data": {"ordId": "1"}, "msg": ""}, 200),
]


@pytest.mark.parametrize(("family", "answer", "status"), CERTAIN)
def test_the_exchanges_own_no_is_certain(family: str, answer: object, status: int) -> None:
    assert definitely_not_placed(failed(family, answer, status))


@pytest.mark.parametrize(("family", "answer", "status"), CERTAIN)
def test_no_refusal_is_certain_under_a_status_of_the_exchanges_own_trouble(
    family: str, answer: object, status: int
) -> None:
    del status
    for other in (None, 408, 499, 500, 502, 503, 504, 520, 524):
        assert not definitely_not_placed(failed(family, answer, other))


@pytest.mark.parametrize(("family", "answer", "status"), DOUBTFUL)
def test_what_may_have_been_placed_is_no_refusal(family: str, answer: object, status: int | None) -> None:
    assert not definitely_not_placed(failed(family, answer, status))


def test_a_refusal_is_told_in_the_exchanges_own_words() -> None:
    assert refusal("kraken", kraken("EOrder:Insufficient funds")) == "EOrder:Insufficient funds"
    assert refusal("okx", okx("1", "51008", message="Insufficient")) == "51008: Insufficient"
    poor = coinbase_order("INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND")
    assert refusal("coinbase", poor) == "INSUFFICIENT_FUND: PREVIEW_INSUFFICIENT_FUND"
    assert refusal("kraken", None) == ""


def chained(*errors: BaseException) -> BaseException:
    """The first of the errors, each raised from the next."""
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


def unreachable() -> aiohttp.ClientConnectorError:
    to_nowhere: Any = None
    return aiohttp.ClientConnectorError(to_nowhere, ConnectionRefusedError(111, "refused"))


@pytest.mark.parametrize(
    "error",
    [
        chained(ccxt_errors.ExchangeNotAvailable("x"), unreachable(), ConnectionRefusedError()),
        chained(ccxt_errors.NetworkError("x"), unreachable(), socket.gaierror()),
        ConnectionRefusedError(),
    ],
)
def test_what_was_never_connected_was_never_sent(error: BaseException) -> None:
    assert never_sent(Failure.of(error))
    assert not definitely_not_placed(Failure.of(error, family="kraken"))
    assert not never_sent(Failure.of(error, status=502)), "a server answered"
    assert not never_sent(Failure.of(error, body="{}")), "a server answered"


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        chained(ccxt_errors.RequestTimeout("x"), TimeoutError()),
        chained(ccxt_errors.NetworkError("x"), aiohttp.ServerDisconnectedError()),
        chained(ccxt_errors.NetworkError("x"), aiohttp.ClientOSError(104, "reset"), ConnectionResetError()),
        chained(ccxt_errors.NetworkError("x"), aiohttp.ClientPayloadError()),
        # Sent once, and the second attempt met a closed door.
        chained(ccxt_errors.NetworkError("x"), unreachable(), ConnectionResetError()),
        chained(ccxt_errors.NetworkError("x"), unreachable(), aiohttp.ServerDisconnectedError()),
        ccxt_errors.ExchangeError("x"),
    ],
)
def test_what_may_have_been_sent_is_not_called_unsent(error: BaseException) -> None:
    assert not never_sent(Failure.of(error))
    assert not definitely_not_placed(Failure.of(error, family="okx"))


def test_only_okx_says_by_an_error_that_there_is_no_such_order() -> None:
    answer = okx("51603", message="Order does not exist")
    assert okx_adapter.no_such_order(failed("okx", answer))
    assert not okx_adapter.no_such_order(failed("kraken", answer))
    assert not okx_adapter.no_such_order(failed("okx", answer, 503))
    assert not okx_adapter.no_such_order(failed("okx", okx("51001")))
    assert not okx_adapter.no_such_order(failed("okx", "51603"))


NO: Final = json.dumps(kraken("EOrder:Insufficient funds"))
YES: Final = json.dumps(kraken())


def lost(*classes: str, causes: tuple[str, ...] = (), status: int | None = None, body: str = "") -> Failure:
    return Failure(classes=classes, causes=causes, status=status, body=body, family="kraken")


@pytest.mark.parametrize(
    ("failure", "sent_nothing", "expected"),
    [
        # The exchange itself says no.
        (lost("ExchangeError", status=200, body=NO), False, Refused()),
        (lost("NotTaken", "ValueError", status=200, body=YES), False, Refused()),
        # The request never left this program, whatever an earlier answer was.
        (lost("ExchangeError"), True, NotSent(by_us=True)),
        (lost("ExchangeError", status=200, body=NO), True, NotSent(by_us=True)),
        (lost("NeverStarted"), False, NotSent(by_us=True)),
        (lost("TimeoutError", causes=("CancelledError", "NeverStarted")), False, NotSent(by_us=True)),
        # No connection was made.
        (lost("NetworkError", causes=("ClientConnectorError",)), False, NotSent(by_us=False)),
        (lost("OSError", "ConnectionRefusedError"), False, NotSent(by_us=False)),
        # The request may have arrived.
        (lost("TimeoutError"), False, Unknown()),
        (lost("TimeoutError", status=200, body=NO), False, Unknown()),
        (lost("OvertakenOrder", status=200, body=NO), False, Unknown()),
        (
            lost("NetworkError", causes=("ConnectionRefusedError", "ConnectionResetError")),
            False,
            Unknown(),
        ),
        (lost("ExchangeError", status=502, body="<html>"), False, Unknown()),
        (lost("ExchangeError", status=200, body=YES), False, Unknown()),
        (lost("KeyError"), False, Unknown()),
    ],
)
def test_a_failure_is_judged_by_what_it_proves_about_the_order(
    failure: Failure, sent_nothing: bool, expected: Refused | NotSent | Unknown
) -> None:
    assert judged(failure, profile_of(failure.family).refusals, sent_nothing=sent_nothing) == expected
