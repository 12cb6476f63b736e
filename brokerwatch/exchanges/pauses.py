"""When an exchange may be asked again, as its answer names it: in a header, or in its words.

An exchange that limits requests or bans an address often names the moment at which it ends. There are
seconds, milliseconds, dates, and moments since 1970 in three units. A number is read by the unit that its
header is documented with, or by its size. What cannot be read names nothing, and nothing is believed beyond
a day.

Sources: RFC 9110, 10.2.3 (Retry-After); the rate limit pages of Binance ("IP banned until"), Bybit
(X-Bapi-Limit-Reset-Timestamp), KuCoin (gw-ratelimit-reset), Gate (X-Gate-RateLimit-Reset-Timestamp), BitMEX
and Deribit (x-ratelimit-reset), Bitvavo (bitvavo-ratelimit-resetat), HTX (X-HB-RateLimit-Requests-Expire),
Phemex (x-ratelimit-retry-after-…), BingX ("will be unblocked after").
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

LONGEST_RETRY_S: Final = 3_600.0
"""A Retry-After beyond this is not believed where the exchange does not say that it is asked too often."""
LONGEST_PAUSE_S: Final = 86_400.0
"""No named moment is believed beyond this."""
MAX_SEARCHED: Final = 20_000
"""Characters of a body in which words are looked for: an error is short, and a search must be."""

MAX_HEADER: Final = 100
"""Characters of a header that are kept; a date has 29."""

DATE: Final = "date"
RETRY_AFTER: Final = "retry-after"

_SECONDS, _MILLISECONDS, _EITHER = "s", "ms", "by its size"

_UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "retry-after-ms": _MILLISECONDS,
        "x-retry-after-ms": _MILLISECONDS,
        "x-retry-after": _EITHER,
        "x-ratelimit-retry-after": _EITHER,
        "x-rate-limit-retry-after": _EITHER,
        "gw-ratelimit-reset": _MILLISECONDS,
        "x-bapi-limit-reset-timestamp": _EITHER,
        "x-gate-ratelimit-reset-timestamp": _EITHER,
        "bitvavo-ratelimit-resetat": _EITHER,
        "x-hb-ratelimit-requests-expire": _EITHER,
        "x-bm-ratelimit-reset": _SECONDS,
        "x-ratelimit-reset-after": _SECONDS,
        "x-ratelimit-reset": _EITHER,
        "x-rate-limit-reset": _EITHER,
        "ratelimit-reset": _EITHER,
    }
)
"""Headers beside Retry-After that name the end of a limit, to the unit of their number."""
_BY_GROUP: Final = "x-ratelimit-retry-after-"
"""So begin the headers of an exchange that counts several groups of calls apart."""

_OTHERS: Final = frozenset(
    {RETRY_AFTER, DATE, "server", "cf-ray", "cf-mitigated", "x-amz-cf-id", "x-amzn-waf-action"}
)
"""The last five are of content delivery networks; see `blocks`."""

_NUMBER: Final = re.compile(r"[0-9]{1,300}(\.[0-9]{1,300})?", re.ASCII)

_ENDS: Final = r"(?:until|till|after|unblock\w*|unban\w*|expires?|retry\w*|again|reset\w*|lift\w*|releas\w*)"
_MOMENT: Final = re.compile(
    _ENDS + r"\b[^0-9{},]{0,40}?\b([0-9]{10}(?:[0-9]{3}){0,2}(?:\.[0-9]{1,9})?)(?![0-9])", re.IGNORECASE
)
"""A moment since 1970 in seconds, milliseconds or microseconds, after a word that speaks of an end."""
_DATED: Final = re.compile(
    _ENDS
    + r"\b[^0-9{},]{0,40}?\b([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)"
    r" ?(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?",
    re.IGNORECASE,
)
_LASTING: Final = re.compile(
    r"(?:retry|again|wait|bann?(?:ed)?|blocked|locked|suspended|cool ?down)\b[^0-9{},.;]{0,40}?"
    r"(?<!per )\b([0-9]{1,9}(?:\.[0-9]{1,9})?)[ -]?"
    r"(ms|millis(?:econds?)?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)\b",
    re.IGNORECASE,
)
"""So many of a unit, after a word that asks to wait."""
_KEYED: Final = re.compile(
    r'"(?:retry[_-]?(?:after|in)|wait(?:[_-]?time)?|reset[_-]?(?:in|after)|ban[_-]?(?:time|duration))'
    r'[_-]?(ms|millis|s|sec|seconds)?"\s*:\s*"?([0-9]{1,20}(?:\.[0-9]{1,9})?)"?\s*[,}]',
    re.IGNORECASE,
)
"""A key of a JSON answer that says how long."""
_UNIT_S: Final = MappingProxyType({"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0})


def is_kept(header: str) -> bool:
    """Whether a header, in small letters, says something about a pause, the exchange's time or a firewall."""
    return header in _UNITS or header in _OTHERS or header.startswith(_BY_GROUP)


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of an answer's headers that say something about a fault, by their names in small letters."""
    named = ((str(name).lower(), str(text)) for name, text in headers.items())
    return {name: text[:MAX_HEADER] for name, text in named if is_kept(name)}


def moment_s(header: str) -> float | None:
    """The seconds since 1970 of a date as HTTP has it (RFC 9110, 5.6.7); None for anything else."""
    if not header:
        return None  # most answers name none
    try:
        found = parsedate_to_datetime(header.strip())
        return None if found.tzinfo is None else found.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def retry_after_s(header: str, now_s: float) -> float:
    """Seconds that a Retry-After asks for: a number, or a date; 0 for anything else."""
    text = header.strip()
    if _NUMBER.fullmatch(text):
        seconds = float(text)
        moment = _as_moment(seconds)
        # No exchange bans for decades: so large a number is a moment, if it is one that is to come.
        ahead = -1.0 if moment is None else moment - now_s
        return ahead if 0.0 < ahead <= LONGEST_PAUSE_S else seconds
    until_s = moment_s(text)
    return 0.0 if until_s is None else max(0.0, until_s - now_s)


def named_s(headers: Mapping[str, str], body: str, now_s: float) -> Iterator[float]:
    """The pauses in seconds that an answer names beside Retry-After; the exchange's own headers first.

    `headers` by their names in small letters; `now_s`, since 1970, by the clock of the exchange.
    """
    for name, value in headers.items():
        unit = _UNITS.get(name, _SECONDS if name.startswith(_BY_GROUP) else "")
        if unit and _NUMBER.fullmatch(value.strip()):
            yield _seconds(float(value), unit, now_s)
    text = body[:MAX_SEARCHED]
    for found in _MOMENT.finditer(text):
        moment = _as_moment(float(found[1]))
        yield 0.0 if moment is None else moment - now_s
    for found in _DATED.finditer(text):
        yield _dated_s(found[1], found[2] or "Z") - now_s
    for found in _KEYED.finditer(text):
        unit = "" if found[1] is None else found[1].lower()
        known = _MILLISECONDS if unit.startswith("m") else _SECONDS if unit else _EITHER
        yield _seconds(float(found[2]), known, now_s)
    for found in _LASTING.finditer(text):
        unit = found[2].lower()
        scale = 0.001 if unit.startswith(("ms", "milli")) else _UNIT_S[unit[0]]
        yield float(found[1]) * scale


def longest(pauses: Iterator[float], limit_s: float) -> float:
    """The longest of some pauses, at most `limit_s`; 0 when none is to come."""
    return min(max((each for each in pauses if each > 0.0), default=0.0), limit_s)  # NaN is not above 0


def _seconds(number: float, unit: str, now_s: float) -> float:
    if unit == _MILLISECONDS:
        return number / 1_000
    moment = _as_moment(number) if unit == _EITHER else None
    return number if moment is None else moment - now_s


def _as_moment(number: float) -> float | None:
    """The seconds since 1970 that a number is by its size; None for one that is too small for a moment."""
    for scale in (1_000_000, 1_000, 1):
        if number >= 1e9 * scale:
            return number / scale
    return None


def _dated_s(text: str, zone: str) -> float:
    offset = "+00:00" if zone.upper() in ("Z", "UTC", "GMT") else zone
    try:
        return datetime.fromisoformat(f"{text}{offset}").astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return math.nan
