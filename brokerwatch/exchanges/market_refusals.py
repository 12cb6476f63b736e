"""A refusal that is about one market: the market is closed for this account, and all else goes on.

An exchange refuses orders in one market for three reasons: the market's own mode (only cancels, halted, not
listed), a rule of a country, or a right that the account lacks there. An account that meets one of them
trades elsewhere as before. So these are told from the refusal of a key that may not trade at all. The words
of an exchange with an adapter stand there (`MARKET_WORDS`). Those of any other exchange are ccxt's classes,
and sentences that name a market and what is wrong with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.pauses import MAX_SEARCHED
from brokerwatch.exchanges.refusals import answered_map, items, maps
from brokerwatch.messages import Fault, FaultKind

MODE_S: Final = 300.0
"""After so many seconds a market is tried again that is in a mode: it is halted, in an auction, …"""
RULE_S: Final = 3_600.0
"""After so many seconds a market is tried again that a rule closes: a country's, a right that is missing."""


@dataclass(frozen=True, slots=True)
class MarketWords:
    """How one exchange says that a market is closed for the account. In each pattern the first that is found
    decides."""

    rule: re.Pattern[str]
    """What it says of a rule."""
    mode: re.Pattern[str]
    """What it says of a mode."""
    keys: tuple[str, ...] = ()
    """The keys in which it says so, at the top of an answer and in the maps and rows of it."""


_MARKET_ID: Final = (
    r"(?-i:\b[A-Z0-9]{1,15}[-/_]"
    r"(?:USD[TCDS]?|FDUSD|TUSD|EUR[CI]?|GBP|JPY|KRW|TRY|BRL|AUD|CAD|CHF|BTC|XBT|ETH|BNB)\b)"
)
"""What a sentence calls one market by, in capitals: BTC-USDT."""
_SUBJECT: Final = (
    rf"(?:{_MARKET_ID}|"
    r"(?:\b|_)(?:symbol|(?:trading[ _]?)?pair|market|instrument|product|contract|order[ _]?book|coin|token"
    r"|crypto(?:currency)?|currency|asset)s?(?:\b|_))"
)
_SHUT: Final = (
    r"(?:\b|(?<=_))(?:closed|suspend\w*|halt\w*|paused|offline|de-?list\w*|disabled|unavailable|ineligible"
    r"|maint(?:enance|ained)|opening soon|expired|wrong[ _]status"
    r"|(?:cancel|post|limit|reduce|close)[ _-]?only|call auction|non[ _-]?trading"
    r"|(?:not|no longer|isn.?t) (?:\w+ ){0,2}?"
    r"(?:available|tradab\w+|tradeable|open|opened|active|online|supported|enabled|listed|trading))"
)
_FORBIDDEN: Final = (
    r"(?:\b|(?<=_))(?:restrict\w*|not (?:\w+ ){0,2}?(?:permitted|allowed|authori[sz]ed|eligible)"
    r"|no[ _]permission|cannot trade|can.?t trade|forbidden|prohibited|requires)"
)
_PLACE: Final = (
    r"\b(?:countr(?:y|ies)|regions?|regional|jurisdictions?|locations?|territor(?:y|ies)|geo\w*|local"
    r" (?:law|regulation|complian)\w*|residen(?:ts?|ce|cy))\b"
)
_ACCOUNT: Final = re.compile(
    r"\bapi[ -]?keys?\b|\bwhite-?list(?:ed)? ip|\bIP\b|\bscopes?\b"
    r"|\b(?:account|user|trading) (?:is |has been |was )?(?:suspended|frozen|blocked|banned|disabled|locked)"
    rf"(?! (?:for|on|in|of) (?:the |this |that )?{_SUBJECT})"
    r"|\ball (?:trading|symbols|markets|pairs)\b|service unavailable from a restricted location"
    r"|account has been restricted"
    r"|\b(?:access|auth\w*|bearer|csrf|session|listen)[ _-]?token"
    r"|\btoken (?:is |has |was )?(?:expired|invalid|revoked)|\b(?:invalid|expired|missing|no) token\b",
    re.IGNORECASE,
)
"""What says that the whole account or its key is meant."""


def _near(one: str, other: str) -> str:
    """A pattern of two that stand in one sentence, in either order."""
    between = r"[^.;{}<>]{0,100}?"
    return f"(?:{one}{between}{other}|{other}{between}{one})"


_UNLISTED: Final = (
    rf"(?:invalid|unknown|unsupported|no such)[ _](?:\w+[ _])?{_SUBJECT}"
    rf"|{_SUBJECT}[ _\"':=]{{0,3}}(?:\S+ )?(?:is |was )?"
    r"(?:invalid|unknown|(?:could )?not (?:be )?found|(?:does not|doesn.?t|not) exist)"
)
_OF_THE_ORDER: Final = re.compile(
    r"insufficient|not enough|exceed|minimum|maximum|too (?:small|low|large|high|many|much)|precision|decimal"
    r"|lot[ _]?size|notional|quantity|amount|\bprice\b",
    re.IGNORECASE,
)
"""What says that the order was made wrongly, whatever market it names."""

GENERIC: Final = MarketWords(
    rule=re.compile(f"{_near(_SUBJECT, _FORBIDDEN)}|{_near(_SUBJECT, _PLACE)}|{_UNLISTED}", re.IGNORECASE),
    mode=re.compile(_near(_SUBJECT, _SHUT), re.IGNORECASE),
)
"""The sentences of an exchange whose words we do not know."""

_RULE_CLASSES: Final = frozenset({"RestrictedLocation"})
_LISTING_CLASSES: Final = frozenset({"BadSymbol"})
_MODE_CLASSES: Final = frozenset({"MarketClosed", "ContractUnavailable"})
_UNCLEAR: Final = frozenset(
    {
        FaultKind.PERMISSION,
        FaultKind.MAINTENANCE,
        FaultKind.EXCHANGE_DOWN,
        FaultKind.BAD_RESPONSE,
        FaultKind.CLIENT_BUG,
        FaultKind.AUTH,
        FaultKind.BLOCKED,
    }
)
"""Kinds under which a refusal of one market may go: exchanges and ccxt differ over them."""


def closed_s(failure: Failure, fault: Fault, words: MarketWords | None) -> float:
    """For how many seconds a market is closed by the failure of an order in it; 0 when it is about more.

    `words`: the exchange's own; None where they are not known.
    """
    if fault.kind not in _UNCLEAR or (failure.status or 0) >= 500:
        return 0.0
    if words is not None:
        stated = _stated(failure.body, words.keys)
        if not stated and _MODE_CLASSES & set(failure.classes):
            return MODE_S  # an exception that was observed, without the answer that it was made of
        return RULE_S if words.rule.search(stated) else MODE_S if words.mode.search(stated) else 0.0
    # Some words are written together: marketSuspended.
    sentence = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", (failure.body or failure.text)[:MAX_SEARCHED])
    if fault.kind is FaultKind.AUTH or not _is_own_answer(failure) or _ACCOUNT.search(sentence):
        return 0.0
    classes = set(failure.classes)
    if classes & (_RULE_CLASSES | _LISTING_CLASSES):
        return RULE_S
    if classes & _MODE_CLASSES:
        return MODE_S
    if "InsufficientFunds" in classes or _OF_THE_ORDER.search(sentence):
        return 0.0  # it may name a coin, and that something of it is not available
    return RULE_S if GENERIC.rule.search(sentence) else MODE_S if GENERIC.mode.search(sentence) else 0.0


def _is_own_answer(failure: Failure) -> bool:
    """Whether the exchange itself refused, or ccxt before it asked: a page comes from something between."""
    body = failure.body.lstrip()
    return not body or body.startswith(("{", "["))


def _stated(body: str, keys: tuple[str, ...]) -> str:
    """What an answer says under these keys, a line for each, as it is written."""
    answer = answered_map(body)
    rows = [answer, *(row for key in answer for row in (*maps([answer[key]]), *maps(answer[key])))]
    found: list[str] = []
    for row in rows:
        for key in keys:
            value: object = row.get(key)
            texts = items(value) or [value]
            found += [f"{key}={text}" for text in texts if isinstance(text, str | int) and text != ""]
    return "\n".join(found)[:MAX_SEARCHED]
