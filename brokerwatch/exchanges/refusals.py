"""Whether an order that failed was definitely not placed. When in doubt, it may have been.

Who takes a doubtful failure for a refusal sends the order again, and buys twice. So this is a list of
what is certain, not of what is uncertain: the exchange itself says no, in its own envelope and in words
that mean that nothing was placed; or no connection was ever made. Time-outs, resets, proxies' pages,
every 5xx, and words about the exchange's own trouble prove nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.json_text import parsed


class NotTaken(ValueError):
    """The exchange says no, in its own words: nothing was placed."""


_TROUBLE: Final = re.compile(
    r"time[sd]?[ _-]?out|deadline|unavailable|busy|internal|system error|overload"
    # An order of this very id exists: this one was not taken, and the one that was asked for is there.
    r"|not unique|already exist|duplicate",
    re.IGNORECASE,
)
"""Words beside which no refusal is certain."""
_UNCERTAIN_STATUSES: Final = frozenset({408, 409, 425, 499})
"""HTTP statuses below 500 that do not say what became of a request."""

_KRAKEN: Final = re.compile(
    r"E(Order|API|Auth|Query):"
    r"|EGeneral:(Invalid arguments|Permission denied|Unknown method|Temporary lockout|Too many requests)"
    r"|EAccount:Invalid permissions"
    r"|ETrade:(User )?Locked"
    r"|EService:Market in (cancel|post|limit)_only"
)
"""https://docs.kraken.com/api/docs/guides/spot-errors. Not EService:Unavailable, Busy, Timeout, Throttled,
nor EGeneral:Internal error: behind those an order was placed now and then."""

_COINBASE: Final = re.compile(
    r"invalid_argument|permission_denied|unauthenticated|unauthorized|not_found|failed_precondition"
    r"|resource_exhausted|invalid_request|authentication_error|invalid_token|revoked_token|expired_token"
    r"|invalid_scope|two_factor_required|validation_error|param_required|rate_limit_exceeded",
    re.IGNORECASE,
)
"""What its errors with a status of 4xx are called."""
_COINBASE_UNSAID: Final = re.compile(r"(?:UNKNOWN.*)?")
"""A reason that is none."""

_OKX: Final = re.compile(
    r"500(0[26-9]|1[0-24-6]|2[4578]|3[05]|4[04]|61)"  # what was sent, the account, how often it asks
    r"|501(0[0-9]|1[0-59]|20)"  # the key, the signature, the clock
    r"|51[0-3][0-9]{2}"  # this one order
)
"""Not 50001, 50005, 50013 and 50026, its own trouble, nor 50004: a time-out, after which it says itself that
the request may have succeeded. https://www.okx.com/docs-v5/en/#error-code"""
_OKX_DOUBTFUL: Final = frozenset({"51016", "51054", "51149"})
"""An order of this id exists already; and two time-outs."""


def refusal(family: str, answer: object) -> str:
    """The exchange's own words if its answer says for certain that nothing was placed; else empty."""
    if not isinstance(answer, Mapping) or family not in _REFUSALS:
        return ""
    words = _REFUSALS[family](cast("Mapping[str, Any]", answer))
    return "" if _TROUBLE.search(words) else words


def definitely_not_placed(failure: Failure) -> bool:
    """Whether a call that was to place an order failed with the exchange's own, certain no."""
    if failure.family == "coinbase" and failure.status == 401 and failure.body.strip() == "Unauthorized":
        return True  # not JSON, and its own word for a key or a signature all the same
    return bool(refusal(failure.family, _answer(failure)))


def no_such_order(failure: Failure) -> bool:
    """Whether OKX answers that it has no order of the id that was asked for."""
    answer = _answer(failure)
    return failure.family == "okx" and str(answer.get("code")) == "51603"


def _answer(failure: Failure) -> Mapping[str, Any]:
    """The map that was answered under a status that can be trusted; an empty one for anything else."""
    if failure.status is None or failure.status >= 500 or failure.status in _UNCERTAIN_STATUSES:
        return {}
    try:
        found: object = parsed(failure.body)
    except (ValueError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


_NEVER_CONNECTED: Final = frozenset(
    {
        "ConnectionRefusedError",
        "gaierror",
        "ClientConnectorError",
        "ClientConnectorCertificateError",
        "NewConnectionError",
        "NameResolutionError",
    }
)
"""No connection was made. (Python's, aiohttp's and urllib3's own names.)"""
_MAYBE_SENT: Final = frozenset(
    {
        "TimeoutError",
        "ConnectionResetError",
        "ConnectionAbortedError",
        "BrokenPipeError",
        "ServerDisconnectedError",
        "ClientPayloadError",
        "ClientResponseError",
        "RemoteDisconnected",
        "IncompleteRead",
        "ProtocolError",
    }
)
"""A connection was made, at least once: a refused one may be the second attempt."""


def never_started(failure: Failure) -> bool:
    """Whether the call still waited for its thread when its time was over: no fault of the exchange."""
    return "NeverStarted" in (*failure.classes, *failure.causes)  # below a TimeoutError too


def never_sent(failure: Failure) -> bool:
    """Whether the call was not started or no connection was made, so that nothing can have arrived."""
    if never_started(failure):
        return True
    names = {*failure.classes, *failure.causes}
    unheard = failure.status is None and not failure.body
    return unheard and bool(names & _NEVER_CONNECTED) and not names & _MAYBE_SENT


def _kraken(answer: Mapping[str, Any]) -> str:
    # Warnings begin with a W and refuse nothing.
    errors = [text for text in map(str, _list(answer.get("error"))) if not text.startswith("W")]
    certain = all(map(_KRAKEN.match, errors)) and not answer.get("result")
    return ", ".join(errors) if certain else ""


def _coinbase(answer: Mapping[str, Any]) -> str:
    if "success" in answer or "error_response" in answer:
        return _coinbase_order(answer)
    older = _maps(answer.get("errors"))
    words, name = (older[0], "id") if older else (answer, "error")
    kind = words.get(name)
    if not isinstance(kind, str) or not _COINBASE.fullmatch(kind):
        return ""
    return _joined(words, name, "message", "error_details", "error_description")


def _coinbase_order(answer: Mapping[str, Any]) -> str:
    """The words of an answer to an order that names no order and says that it failed."""
    told = answer.get("error_response")
    names_one = answer.get("order_id") or answer.get("success_response")
    if answer.get("success") is not False or names_one or not isinstance(told, Mapping):
        return ""
    reasons = ("error", "preview_failure_reason", "new_order_failure_reason")
    row = cast("Mapping[str, Any]", told)
    if all(_COINBASE_UNSAID.fullmatch(str(row.get(reason) or "")) for reason in reasons):
        return ""
    return _joined(row, *reasons, "message", "error_details")


def _okx(answer: Mapping[str, Any]) -> str:
    data, rows = answer.get("data"), _maps(answer.get("data"))
    if not data:
        return _joined(answer, "code", "msg") if _is_okx_refusal(answer.get("code")) else ""
    # A row that names an order has placed it, whatever else it says.
    certain = all(not row.get("ordId") and _is_okx_refusal(row.get("sCode")) for row in rows)
    return "; ".join(_joined(row, "sCode", "sMsg") for row in rows) if certain else ""


def _is_okx_refusal(code: object) -> bool:
    return bool(_OKX.fullmatch(str(code))) and str(code) not in _OKX_DOUBTFUL


_REFUSALS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = MappingProxyType(
    {"kraken": _kraken, "coinbase": _coinbase, "okx": _okx}
)


def _list(value: object) -> list[object]:
    return list(cast("list[object]", value)) if isinstance(value, list) else []


def _maps(value: object) -> list[Mapping[str, Any]]:
    """A list of maps; empty when it is anything else, or has anything else in it."""
    found = [cast("Mapping[str, Any]", row) for row in _list(value) if isinstance(row, Mapping)]
    return found if len(found) == len(_list(value)) else []


def _joined(row: Mapping[str, Any], *keys: str) -> str:
    found = dict.fromkeys(str(row[key]) for key in keys if row.get(key))
    return ": ".join(found)


class OvertakenOrder(Exception):
    """The exchange refused an order's number, and it is not known whether it has taken the order before."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The exchange refused the order: nothing was placed."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing arrived at the exchange, so nothing was placed."""

    by_us: bool
    """Whether the request never left this program, which says nothing about the exchange."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The order may have been placed: it has to be looked up."""


def judged(failure: Failure, *, sent_nothing: bool) -> Refused | NotSent | Unknown:
    """What the failure of a call that was to place an order proves about the order. In doubt: Unknown.

    `sent_nothing`: whether it is known that no request of the call went out.
    """
    if sent_nothing or never_started(failure):
        return NotSent(by_us=True)
    if is_refused(failure):
        return Refused()
    if never_sent(failure):
        return NotSent(by_us=False)
    return Unknown()


def is_refused(failure: Failure) -> bool:
    """Whether the exchange itself said no for certain.

    A time-out is never a refusal. Nor is an overtaken number: the order may have been taken before it.
    """
    if {"TimeoutError", OvertakenOrder.__name__} & set(failure.classes):
        return False
    return NotTaken.__name__ in failure.classes or definitely_not_placed(failure)
