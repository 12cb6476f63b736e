"""Whether an order that failed was definitely not placed. When in doubt, it may have been.

A program that takes a doubtful failure for a refusal sends the order again, and buys twice. So this is a
list of what is certain, not of what is uncertain: the exchange itself says no, in its own envelope and in
words that mean that nothing was placed; or no connection was ever made. Time-outs, resets, proxies' pages,
every 5xx, and words about the exchange's own trouble prove nothing. Which words of an exchange are certain,
its adapter says (`REFUSAL_CODES`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class RefusalWords:
    """How one exchange says that nothing was placed."""

    read: Callable[[Mapping[str, Any]], str]
    """Its own words in an answer that says so for certain; empty for any other answer."""
    bare: str = ""
    """What it answers under a status of 401 that is no JSON and its own word all the same; empty: nothing."""
    ccxt_knows_codes: bool = False
    """Whether ccxt's table of the exchange's exact codes counts beside `read`."""


NO_REFUSALS: Final = RefusalWords(lambda _answer: "", ccxt_knows_codes=True)
"""Those of an exchange whose words we do not know: only ccxt's table of exact codes is certain."""


def refusal(words: RefusalWords, answer: object) -> str:
    """The exchange's own words if its answer says for certain that nothing was placed; else empty."""
    if not isinstance(answer, Mapping):
        return ""
    found = words.read(cast("Mapping[str, Any]", answer))
    return "" if _TROUBLE.search(found) else found


def admit(words: RefusalWords, answer: object) -> None:
    """Raise NotTaken if the exchange says no for certain."""
    found = refusal(words, answer)
    if found:
        raise NotTaken(found)


def definitely_not_placed(failure: Failure, words: RefusalWords) -> bool:
    """Whether a call that was to place an order failed with the exchange's own, certain no."""
    if words.bare and failure.status == 401 and failure.body.strip() == words.bare:
        return True
    if words.ccxt_knows_codes and is_exact_refusal(failure):
        return True
    return bool(refusal(words, trusted_answer(failure)))


REFUSING: Final = frozenset(
    {
        "AccountNotEnabled",
        "AccountSuspended",
        "ArgumentsRequired",
        "AuthenticationError",
        "BadRequest",
        "BadSymbol",
        "ContractUnavailable",
        "InsufficientFunds",
        "InvalidOrder",
        "ManualInteractionNeeded",
        "MarketClosed",
        "NotSupported",
        "OperationRejected",
        "OrderImmediatelyFillable",
        "OrderNotFillable",
        "PermissionDenied",
        "RateLimitExceeded",
        "RestrictedLocation",
    }
)
"""ccxt's classes for a code that means: refused. Not a plain ExchangeError, which may be the exchange's own
trouble; nor DuplicateOrderId, by which an order of this id exists; nor what is about another order."""


def is_exact_refusal(failure: Failure) -> bool:
    """Whether the exchange's own envelope has a code that ccxt maps exactly to a refusal.

    Under a status of 5xx an order may have been taken. A CDN's page is no JSON, and its code is its status.
    """
    if not failure.exact_code or failure.exact_code == str(failure.status) or not failure.classes:
        return False
    if not _is_trusted(failure) or _TROUBLE.search(failure.body) or failure.classes[0] not in REFUSING:
        return False
    try:
        return isinstance(parsed(failure.body), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_trusted(failure: Failure) -> bool:
    status = failure.status
    return status is not None and status < 500 and status not in _UNCERTAIN_STATUSES


def trusted_answer(failure: Failure) -> Mapping[str, Any]:
    """The map that was answered under a status that can be trusted; an empty one for anything else."""
    if not _is_trusted(failure):
        return {}
    return answered_map(failure.body)


def answered_map(body: str) -> Mapping[str, Any]:
    """The map that an answer is; an empty one for any other answer."""
    try:
        found: object = parsed(body)
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


def items(value: object) -> list[object]:
    """A list; empty when it is anything else."""
    return list(cast("list[object]", value)) if isinstance(value, list) else []


def maps(value: object) -> list[Mapping[str, Any]]:
    """A list of maps; empty when it is anything else, or has anything else in it."""
    found = [cast("Mapping[str, Any]", row) for row in items(value) if isinstance(row, Mapping)]
    return found if len(found) == len(items(value)) else []


def joined(row: Mapping[str, Any], *keys: str) -> str:
    """What a row says under these keys, each text once."""
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


def judged(failure: Failure, words: RefusalWords, *, sent_nothing: bool) -> Refused | NotSent | Unknown:
    """What the failure of a call that was to place an order proves about the order. In doubt: Unknown.

    `sent_nothing`: whether it is known that no request of the call went out.
    """
    if sent_nothing or never_started(failure):
        return NotSent(by_us=True)
    if is_refused(failure, words):
        return Refused()
    if never_sent(failure):
        return NotSent(by_us=False)
    return Unknown()


def is_refused(failure: Failure, words: RefusalWords) -> bool:
    """Whether the exchange itself said no for certain.

    A time-out is never a refusal. Nor is an overtaken number: the order may have been taken before it.
    """
    if {"TimeoutError", OvertakenOrder.__name__} & set(failure.classes):
        return False
    return NotTaken.__name__ in failure.classes or definitely_not_placed(failure, words)
