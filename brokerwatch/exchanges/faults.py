"""Every failure becomes one kind of fault, by table.

Exception classes mislead: ccxt raises a plain ExchangeError for a bad signature, a throttle and an
account lock alike, and AuthenticationError for a proxy's 401 page. So the tables are asked in the
order of what they can know: the exchange's own words in its own envelope first, then the cause
(a refused connection is the network, whatever class wraps it), then the HTTP status, and the
class last. Nothing here imports ccxt; classes are known by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final, cast

from brokerwatch.exchanges.json_text import parsed
from brokerwatch.messages import Fault, FaultKind

NETWORK, DOWN, MAINTENANCE = FaultKind.NETWORK, FaultKind.EXCHANGE_DOWN, FaultKind.MAINTENANCE
RATE, AUTH, PERMISSION = FaultKind.RATE_LIMITED, FaultKind.AUTH, FaultKind.PERMISSION
CLOCK, BAD, BUG = FaultKind.NONCE_CLOCK, FaultKind.BAD_RESPONSE, FaultKind.CLIENT_BUG


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
    """Whose error codes apply: kraken, coinbase, okx, or empty."""
    text: str = ""
    """The exception's own text, secrets redacted."""
    retry_after: str = ""
    """The answer's Retry-After; empty when there was none."""

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
        )


def _names(error: BaseException) -> Iterator[str]:
    return (cls.__name__ for cls in type(error).__mro__)


def _words(*rows: tuple[str, FaultKind]) -> tuple[tuple[re.Pattern[str], FaultKind], ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in rows)


_KRAKEN: Final = _words(
    (r'"EAPI:Invalid key', AUTH),
    (r'"EAPI:Invalid signature', AUTH),
    (r'"EAPI:Invalid nonce', CLOCK),
    (
        r'"E(API|Order|General|Service|Auth): ?(Rate limit|Too many requests|Throttled|Temporary lockout)',
        RATE,
    ),
    (r'"EService:Market in (cancel|post|limit)_only', MAINTENANCE),
    (r'"EService:[^"]{0,200}maintenance', MAINTENANCE),
    (r'"EGeneral:(Permission denied|Feature disabled)', PERMISSION),
    (r'"EAPI:Feature disabled', PERMISSION),
    (r'"EAccount:Invalid permissions', PERMISSION),
    (r'"EAuth:', AUTH),
    (r'"(EService|EDatabase):', DOWN),
    (r'"EGeneral:Internal error', DOWN),
    (r'"E(General:(Invalid arguments|Unknown method)|API:Bad request|Query:)', BUG),
)
"""Kraken: the strings of the `error` list."""

_COINBASE: Final = _words(
    (r"maintenance", MAINTENANCE),
    (r"rate.?limit|RESOURCE_EXHAUSTED|too many requests", RATE),
    (r"timestamp.{0,20}expired|expired.{0,20}timestamp|jwt.{0,20}(expired|not yet valid)", CLOCK),
    (
        r"PERMISSION_DENIED|missing.{0,20}scope|(invalid|insufficient|unauthorized)_scope|two_factor_required",
        PERMISSION,
    ),
    (r"IP.{0,30}(not allowed|whitelist|allowlist)", PERMISSION),
    (
        r"^\s*Unauthorized\s*$|UNAUTHENTICATED|invalid_token|revoked_token|expired_token|authentication_error",
        AUTH,
    ),
    (r'"error"\s*:\s*"(unauthorized|Unauthorized)"|invalid (api key|signature)', AUTH),
    (r"UNAVAILABLE|INTERNAL|internal_server_error|DEADLINE_EXCEEDED", DOWN),
    (r"INVALID_ARGUMENT|invalid_request|validation_error|param_required", BUG),
)
"""Coinbase: the words of its JSON errors, and its bare 401 text."""

_OKX: Final = _words(
    (r'"code"\s*:\s*"?50001"?\b', MAINTENANCE),
    (r'"code"\s*:\s*"?(50011|50040|50061)"?\b', RATE),
    (r'"code"\s*:\s*"?50102"?\b', CLOCK),
    (r'"code"\s*:\s*"?(50007|50010|50012|50027|50028|50030|50035|50110|50120|50121)"?\b', PERMISSION),
    (r'"code"\s*:\s*"?(50008|5010[01345678]|5011[1-4]|50119)"?\b', AUTH),
    (r'"code"\s*:\s*"?(50004|50005|50013|50026)"?\b', DOWN),
    (
        r'"code"\s*:\s*"?(50000|50002|50006|50014|50015|50016|50024|50025|50036|50037|50038|50039|50115|51000)"?\b',
        BUG,
    ),
)
"""OKX: the numbers of its `code`."""

ENVELOPE_WORDS: Final[Mapping[str, tuple[tuple[re.Pattern[str], FaultKind], ...]]] = MappingProxyType(
    {"kraken": _KRAKEN, "coinbase": _COINBASE, "okx": _OKX}
)

CAUSES: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        # The whole body came and is not encoded as it says; what wraps this is an error of the network.
        "ContentEncodingError": BAD,
        # The certificate comes before its bases, which are connection errors too.
        "ClientConnectorCertificateError": BUG,
        "SSLCertVerificationError": BUG,
        "ClientProxyConnectionError": BUG,
        "ClientHttpProxyError": BUG,
        "InvalidURL": BUG,
        "ClientPayloadError": NETWORK,
        "ClientConnectionError": NETWORK,
        "ConnectionError": NETWORK,
        "gaierror": NETWORK,
        "TimeoutError": NETWORK,
        "ClientResponseError": BAD,
        "UnicodeDecodeError": BAD,
    }
)
"""What lies beneath: aiohttp's and Python's own classes."""

STATUSES: Final[Mapping[int, FaultKind]] = MappingProxyType(
    {
        407: BUG,
        408: NETWORK,
        418: RATE,
        429: RATE,
        # A refusal that is not in the exchange's envelope comes from something that stands before it.
        401: DOWN,
        403: DOWN,
        404: DOWN,
        409: DOWN,
        410: DOWN,
        451: DOWN,
        511: NETWORK,  # a portal on our side that wants a login
    }
)
"""HTTP statuses; 5xx that are not listed are `exchange_down`, all others `bad_response`."""

CLASSES: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        "UnprovenAnswer": BAD,
        "AccountNotEnabled": PERMISSION,
        "PermissionDenied": PERMISSION,
        "AccountSuspended": PERMISSION,
        "AuthenticationError": AUTH,
        "RestrictedLocation": PERMISSION,
        "ManualInteractionNeeded": PERMISSION,
        "OnMaintenance": MAINTENANCE,
        "DDoSProtection": RATE,
        "RateLimitExceeded": RATE,
        "ChecksumError": BAD,
        "InvalidNonce": CLOCK,
        "RequestTimeout": NETWORK,
        "ExchangeNotAvailable": DOWN,
        "NullResponse": BAD,
        "BadResponse": BAD,
        "CancelPending": BAD,
        "NetworkError": NETWORK,
        "OperationFailed": NETWORK,
        "MarketClosed": DOWN,
        "ArgumentsRequired": BUG,
        "BadRequest": BUG,
        "OperationRejected": BUG,
        "InsufficientFunds": BUG,
        "InvalidAddress": BUG,
        "InvalidOrder": BUG,
        "NotSupported": BUG,
        "InvalidProxySettings": BUG,
        "ExchangeClosedByUser": BUG,
        "UnsubscribeError": BUG,
        "ExchangeError": BAD,
        "BaseError": BAD,
        "TimeoutError": NETWORK,
        "ConnectionError": NETWORK,
        "gaierror": NETWORK,
        "TypeError": BUG,
        "AttributeError": BUG,
        "NameError": BUG,
    }
)
"""Exception classes by name, ccxt's and Python's; a subclass is classified as its nearest listed base."""

UNSPECIFIC: Final = frozenset(
    {
        "ExchangeError",
        "BaseError",
        "NetworkError",
        "OperationFailed",
        "BadResponse",
        "NullResponse",
        "UnprovenAnswer",
    }
    | {"TypeError", "AttributeError", "NameError"}
)
"""Classes that say no more than that something went wrong."""

MAX_SEARCHED: Final = 20_000
"""Characters of a body in which words are looked for: an error is short, and a search must be."""
_BARE_REFUSAL: Final = re.compile(r"\s*Unauthorized\s*\Z", re.IGNORECASE)
"""What Coinbase answers to a key or signature it does not accept: not JSON, and its own word all the same."""

_OURS_TO_READ: Final = frozenset({"TypeError", "AttributeError", "LookupError", "ValueError"})
"""Classes that mean a mistake in a program; raised over an answer, the answer was none that we can read."""


LOCKOUTS: Final[Mapping[str, tuple[re.Pattern[str], float]]] = MappingProxyType(
    {"kraken": (re.compile(r'"EGeneral:Temporary lockout', re.IGNORECASE), 900.0)}
)
"""What an exchange says when it has shut a key out, and for how many seconds no private call may follow:
asking sooner begins the time anew. (Kraken's support pages on rate limits: 15 minutes.)"""


_NOTHING: Final = re.compile(r"(?!)")
"""Matches nowhere."""
_THROTTLED_UNTIL: Final = re.compile(r'"EService: ?Throttled: ?([0-9]{9,11})')
"""Kraken names the second, since 1970, from which on it may be asked again."""

HINTS: Final[Mapping[str, tuple[re.Pattern[str], str]]] = MappingProxyType(
    {
        "okx": (
            re.compile(r'"code"\s*:\s*"?50119"?\b'),
            'no such key here: an account of OKX Europe has exchange = "myokx", of OKX US "okxus"; ',
        )
    }
)
"""What an operator should look at first, where an exchange's words do not say it."""


def classify(failure: Failure, wall_s: float = 0.0) -> Fault:
    """The one fault that this failure is. A Retry-After that is a date counts from `wall_s`, since 1970."""
    said = _said(failure)
    pattern, lockout_s = LOCKOUTS.get(failure.family, (_NOTHING, 0.0))
    asked, hint = HINTS.get(failure.family, (_NOTHING, ""))
    throttled = _THROTTLED_UNTIL.search(said)
    return Fault(
        _kind(failure, said),
        (hint if asked.search(said) else "") + " ".join(failure.text.split()),
        retry_after_s=_retry_after_s(
            failure.retry_after, wall_s, None if throttled is None else float(throttled[1])
        ),
        lockout_s=lockout_s if pattern.search(said) else 0.0,
    )


def _retry_after_s(header: str, wall_s: float, until_s: float | None) -> float:
    """Seconds that the header asks for: a number, or a date (RFC 9110, 10.2.3); 0 for anything else.

    `until_s` is a moment that the exchange named in its answer, in place of a header.
    """
    text = header.strip()
    if not text:
        return 0.0 if until_s is None else min(max(0.0, until_s - wall_s), LONGEST_RETRY_S)
    if re.fullmatch(r"[0-9]{1,300}(\.[0-9]{1,300})?", text):
        return min(float(text), LONGEST_RETRY_S)
    try:
        until = parsedate_to_datetime(text)
        if until.tzinfo is None:
            return 0.0
        return min(max(0.0, until.timestamp() - wall_s), LONGEST_RETRY_S)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


SPOKEN_IN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "kraken": ("error",),
        "okx": ("code",),
        "coinbase": ("error", "errors", "error_details", "error_description", "message", "details", "code"),
    }
)
"""The keys at the top of an answer in which an exchange says what is wrong. Strangers quote it elsewhere."""


def _said(failure: Failure) -> str:
    """The exchange's own words about what is wrong, as JSON; empty when the answer has none."""
    if failure.family == "coinbase" and _BARE_REFUSAL.match(failure.body):
        return failure.body
    answer = _structure(failure)
    if not isinstance(answer, Mapping):
        return ""
    words = {key: answer[key] for key in SPOKEN_IN.get(failure.family, ()) if key in answer}
    return json.dumps(words, ensure_ascii=False)[:MAX_SEARCHED] if words else ""


def _structure(failure: Failure) -> Mapping[str, object] | list[object]:
    """The answer as a map or a list; empty when it is neither."""
    if not failure.body:
        return {}  # no answer came, which is the usual outage: nothing to search
    try:
        found: object = parsed(failure.body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object] | list[object]", found) if isinstance(found, dict | list) else {}


def _kind(failure: Failure, said: str) -> FaultKind:
    """Ask the tables in order; the first that knows decides."""
    for pattern, kind in ENVELOPE_WORDS.get(failure.family, ()) if said else ():
        if pattern.search(said):
            return kind
    # A trader's own callable raises these as they are; ccxt wraps them.
    names = {*failure.causes, *failure.classes}
    for name, kind in CAUSES.items():
        if name in names:
            return kind
    if not failure.family and _structure(failure):
        # Its own error codes, as ccxt knows them, say more than the status that comes with them.
        named = next((name for name in failure.classes if name in CLASSES), "")
        if named and named not in UNSPECIFIC:
            return CLASSES[named]
    if failure.status is not None and not 200 <= failure.status < 300:
        if not failure.family and failure.status in (401, 403) and _structure(failure):
            return AUTH if failure.status == 401 else PERMISSION
        listed = STATUSES.get(failure.status)
        return listed if listed is not None else DOWN if failure.status >= 500 else BAD
    if failure.status is not None and _OURS_TO_READ & set(failure.classes):
        return BAD
    for name in failure.classes:
        if name in CLASSES:
            return CLASSES[name]
    return BAD


LONGEST_RETRY_S: Final = 3_600.0
"""A Retry-After beyond this is not believed."""
