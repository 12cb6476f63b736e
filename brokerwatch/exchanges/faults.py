"""Every failure becomes one kind of fault, by table.

Exception classes mislead: ccxt raises a plain ExchangeError for a bad signature, a throttle and an account
lock alike, and AuthenticationError for a proxy's 401 page. So the tables are asked in the order of what they
can know: the exchange's own words in its envelope, the cause (a refused connection is the network), the HTTP
status, and the class last. ccxt's classes are known by name; an adapter hands over its `FAULT_WORDS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Final, cast

from brokerwatch.exchanges.blocks import UNSERVED, blocked
from brokerwatch.exchanges.fault_tables import (
    ADDRESS_BAN,
    ADDRESS_REFUSED,
    AUTH,
    BAD,
    BANNED,
    BLOCKED,
    BUG,
    CAUSES,
    CLASSES,
    DOWN,
    OF_ENVELOPES,
    PERMISSION,
    RATE,
    REFUSALS,
    STATUSES,
    TOO_OFTEN,
    UNSPECIFIC,
)
from brokerwatch.exchanges.json_text import parsed
from brokerwatch.exchanges.pauses import (
    DATE,
    LONGEST_PAUSE_S,
    LONGEST_RETRY_S,
    MAX_SEARCHED,
    longest,
    moment_s,
    named_s,
    retry_after_s,
)
from brokerwatch.messages import Fault, FaultKind

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
"""Those of a call that was not answered, or whose answer is known by its text alone."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known about a fetch that failed."""

    classes: tuple[str, ...] = ()
    """Names of the exception's class and its bases, nearest first."""
    causes: tuple[str, ...] = ()
    """The same for what it was raised from."""
    status: int | None = None
    """HTTP status; None when no answer came."""
    body: str = ""
    """The answer's text; empty when none came."""
    family: str = ""
    """Whose words apply: the name of an adapter, or empty."""
    text: str = ""
    """The exception's own text, secrets redacted."""
    retry_after: str = ""
    """The answer's Retry-After; empty when there was none."""
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS, hash=False)
    """Those of the answer's headers that say something about a fault, by their names in small letters."""
    exact_code: str = ""
    """The code in the answer that ccxt's table of exact codes has, where no request of the call before it may
    have changed anything; empty: there is none."""

    @classmethod
    def of(
        cls,
        error: BaseException,
        *,
        status: int | None = None,
        body: str = "",
        family: str = "",
        text: str = "",
        retry_after: str = "",
        headers: Mapping[str, str] = NO_HEADERS,
        exact_code: str = "",
    ) -> Failure:
        """What an exception says about the failure."""
        causes: list[str] = []
        cause = error.__cause__ or error.__context__
        while cause is not None and len(causes) < 50:
            causes += _names(cause)
            cause = cause.__cause__ or cause.__context__
        return cls(
            classes=tuple(_names(error)),
            causes=tuple(causes),
            status=status,
            body=body,
            family=family,
            text=text or f"{type(error).__name__}: {error}",
            retry_after=retry_after,
            headers=headers,
            exact_code=exact_code,
        )


def _names(error: BaseException) -> Iterator[str]:
    return (cls.__name__ for cls in type(error).__mro__)


def word_table(*rows: tuple[str, FaultKind]) -> tuple[tuple[re.Pattern[str], FaultKind], ...]:
    """Patterns, found in capitals and in small letters, each with the kind that it means."""
    return tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in rows)


NOTHING: Final = re.compile(r"(?!)")
"""Matches nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultWords:
    """How one exchange says what is wrong, and what its words mean."""

    keys: tuple[str, ...] = ()
    """The keys at the top of an answer in which it says so. Other senders quote it elsewhere."""
    kinds: tuple[tuple[re.Pattern[str], FaultKind], ...] = ()
    """What is searched for in those keys and their values, as JSON; the first that is found decides."""
    bare_refusal: re.Pattern[str] = NOTHING
    """An answer that is no JSON and its own word all the same."""
    lockout: re.Pattern[str] = NOTHING
    """What it says when it has shut a key out."""
    lockout_s: float = 0.0
    """For so many seconds no private call may follow then."""
    throttled_until: re.Pattern[str] = NOTHING
    """Where it names the second, since 1970, from which on it may be asked again: the first group."""
    address_refused: re.Pattern[str] = NOTHING
    """What it says when the key may not be used from this address."""
    hint_words: re.Pattern[str] = NOTHING
    """What it says where its words do not tell an operator what to look at …"""
    hint: str = ""
    """… and what that is."""
    ccxt_knows_codes: bool = True
    """Whether ccxt's class for an answer in JSON counts where no word was found: ccxt has tables of each
    exchange's codes. False: the words above are complete."""


NO_WORDS: Final = FaultWords()
"""Those of an exchange that we know by ccxt alone."""


_OURS_TO_READ: Final = frozenset({"TypeError", "AttributeError", "LookupError", "ValueError"})
"""Classes that mean a mistake in a program; raised over an answer, the answer was none that we can read."""


def classify(failure: Failure, words: FaultWords = NO_WORDS, wall_s: float = 0.0) -> Fault:
    """The one fault that this failure is, by the words of its exchange.

    A moment that the answer names counts from its own date, or else from `wall_s`, since 1970.
    """
    stated = _said(failure, words)
    kind = _kind(failure, stated, words)
    banned = kind is RATE and (failure.status == BANNED or bool(ADDRESS_BAN.search(_text(failure))))
    hint = words.hint if words.hint_words.search(stated) else ""
    if kind is BLOCKED:
        hint = f"{blocked(failure.status, _text(failure), failure.headers) or UNSERVED}: "
    return Fault(
        kind,
        hint + " ".join(failure.text.split()),
        retry_after_s=_pause_s(failure, kind, stated, words, wall_s, banned=banned),
        lockout_s=words.lockout_s if words.lockout.search(stated) else 0.0,
        bans_address=banned,
        refuses_address=kind in (AUTH, PERMISSION) and _refuses_address(failure, stated, words),
    )


def _refuses_address(failure: Failure, stated: str, words: FaultWords) -> bool:
    """Whether the exchange itself refuses the key from this address. A firewall knows no keys."""
    if words.address_refused.search(stated):
        return True
    answered = bool(stated) or (words.ccxt_knows_codes and bool(_structure(failure)))
    return answered and bool(ADDRESS_REFUSED.search(stated or _text(failure)))


def _pause_s(
    failure: Failure, kind: FaultKind, stated: str, words: FaultWords, wall_s: float, *, banned: bool
) -> float:
    """Seconds that the answer asks for, or 0; the end of a ban is the latest that it names anywhere."""
    theirs_s = moment_s(failure.headers.get(DATE, ""))
    now_s = wall_s if theirs_s is None else theirs_s  # the moments are by the exchange's clock
    asked_s = retry_after_s(failure.retry_after, now_s)
    if kind is not RATE:
        throttled = words.throttled_until.search(stated)
        if not failure.retry_after.strip() and throttled is not None:
            asked_s = max(0.0, float(throttled[1]) - now_s)
        return min(asked_s, LONGEST_RETRY_S)
    if asked_s > 0 and not banned:
        return min(asked_s, LONGEST_PAUSE_S)
    throttled = words.throttled_until.search(stated)
    own = () if throttled is None else (float(throttled[1]) - now_s,)
    return longest(chain((asked_s,), own, named_s(failure.headers, _text(failure), now_s)), LONGEST_PAUSE_S)


def _text(failure: Failure) -> str:
    """The answer; the exception's own text, which quotes it, where the answer itself is not known."""
    return (failure.body or failure.text)[:MAX_SEARCHED]


def _said(failure: Failure, words: FaultWords) -> str:
    """The exchange's own words about what is wrong, as JSON; empty when the answer has none."""
    if words.bare_refusal.match(failure.body):
        return failure.body
    answer = _structure(failure)
    if not isinstance(answer, Mapping):
        return ""
    found = {key: answer[key] for key in words.keys if key in answer}
    return json.dumps(found, ensure_ascii=False)[:MAX_SEARCHED] if found else ""


def _structure(failure: Failure) -> Mapping[str, object] | list[object]:
    """The answer as a map or a list; empty when it is neither."""
    if not failure.body:
        return {}  # no answer came, which is the usual outage: nothing to search
    try:
        found: object = parsed(failure.body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object] | list[object]", found) if isinstance(found, dict | list) else {}


def _kind(failure: Failure, stated: str, words: FaultWords) -> FaultKind:
    """Ask the tables in order; the first that knows decides."""
    for pattern, kind in words.kinds if stated else ():
        if pattern.search(stated):
            return kind
    # A trader's own callable raises these as they are; ccxt wraps them.
    names = {*failure.causes, *failure.classes}
    for name, kind in CAUSES.items():
        if name in names:
            return kind
    if failure.status in REFUSALS and TOO_OFTEN.search(_text(failure)):
        return RATE
    if blocked(failure.status, _text(failure), failure.headers):
        return BLOCKED
    if words.ccxt_knows_codes and _structure(failure):
        # Its own error codes, as ccxt knows them, say more than the status that comes with them.
        named = next((name for name in failure.classes if name in CLASSES), "")
        if named and named not in UNSPECIFIC:
            return CLASSES[named]
        if failure.status in OF_ENVELOPES and TOO_OFTEN.search(_text(failure)):
            return RATE
    if failure.status is not None and not 200 <= failure.status < 300:
        if words.ccxt_knows_codes and failure.status in (401, 403) and _structure(failure):
            return AUTH if failure.status == 401 else PERMISSION
        listed = STATUSES.get(failure.status)
        return listed if listed is not None else DOWN if failure.status >= 500 else BAD
    if failure.status is not None and _OURS_TO_READ & set(failure.classes):
        return BAD
    for name in failure.classes:
        if name in CLASSES:
            return CLASSES[name]
    return BAD


MISTAKES: Final = frozenset(
    {
        "ArgumentsRequired",
        "BadRequest",
        "OperationRejected",
        "InsufficientFunds",
        "InvalidAddress",
        "InvalidOrder",
        "NotSupported",
        "ExchangeClosedByUser",
        "UnsubscribeError",
    }
)
"""Classes of ccxt for what the caller asked wrongly: the exchange is well, and so is the account."""


def is_callers_mistake(failure: Failure, fault: Fault) -> bool:
    """Whether a failed call says something about its caller only.

    A certificate or a proxy that is wrong is no such mistake: no call reaches the exchange then.
    """
    names = {*failure.classes, *failure.causes}
    if fault.kind is BUG:
        return not any(kind is BUG for name, kind in CAUSES.items() if name in names)
    # The caller's own exception may stand above ccxt's, and says no more than that something went wrong.
    return fault.kind is BAD and bool(names & MISTAKES)


def is_pythons_own(failure: Failure) -> bool:
    """Whether the exception is none of ccxt's classes."""
    return "BaseError" not in failure.classes


def unreadable(error: Exception, fault: Fault) -> Fault:
    """The fault of an answer that ccxt stumbled over; any other mistake stays one."""
    names = set(_names(error))
    return Fault(BAD, fault.detail) if names & _OURS_TO_READ else fault
