"""The exchanges' envelopes and the parts in them: there and whole, or `UnprovenAnswer`.

Numbers are `Decimal` from the exchange's own text, since a float has lost digits already.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, cast

from brokerwatch.messages import amount
from brokerwatch.messages.trading import Status, StatusWord

_TEXT: Final = {str}


class UnprovenAnswer(ValueError):
    """An answer arrived and does not prove a balance; the text says what is wrong with it."""


def kraken_envelope(answer: object) -> Mapping[str, Any]:
    """Kraken's envelope, if it says that all is well; the caller reads `result`. Raises UnprovenAnswer."""
    envelope = mapping(answer, "the answer")
    errors = listing(envelope.get("error"), "error")
    if errors:
        raise UnprovenAnswer(f"the answer carries {short(errors)}")
    return envelope


def kraken_result(answer: object) -> Mapping[str, Any]:
    """The result in Kraken's envelope. Raises UnprovenAnswer."""
    return mapping(kraken_envelope(answer).get("result"), "result")


def okx_rows(answer: object) -> list[Mapping[str, Any]]:
    """The rows in OKX's envelope, each a map. Raises UnprovenAnswer."""
    return [mapping(row, "a row of data") for row in okx_data(answer)]


def okx_data(answer: object) -> list[Any]:
    """The data in OKX's envelope. Raises UnprovenAnswer."""
    envelope = mapping(answer, "the answer")
    code, message = envelope.get("code"), envelope.get("msg")
    if str(code) != "0" or message:
        raise UnprovenAnswer(f"the answer's code is {short(code)}, with {short(message)}")
    return listing(envelope.get("data"), "data")


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """A map with keys of text. Raises UnprovenAnswer, which names `what` it should be."""
    if type(value) is dict:
        known = cast("dict[str, Any]", value)
        if set(map(type, known)) <= _TEXT:
            return known
    if not isinstance(value, Mapping):
        raise UnprovenAnswer(f"{what} is {short(value)}, not a map")
    if not all(isinstance(key, str) for key in cast("Mapping[object, Any]", value)):
        raise UnprovenAnswer(f"{what} has a key that is not text")
    return cast("Mapping[str, Any]", value)


def listing(value: object, what: str) -> list[Any]:
    """A list. Raises UnprovenAnswer."""
    if not isinstance(value, list):
        raise UnprovenAnswer(f"{what} is {short(value)}, not a list")
    return list(cast("list[object]", value))


def text(value: object, what: str) -> str:
    """A text that is not empty. Raises UnprovenAnswer."""
    if not isinstance(value, str) or not value:
        raise UnprovenAnswer(f"{what} is {short(value)}, not text")
    return value


def number(value: object, what: str) -> Decimal:
    """A finite number, exactly. Raises UnprovenAnswer."""
    try:
        return amount(value)
    except ValueError as error:
        raise UnprovenAnswer(f"{what}: {error}") from error


def positive(value: object, what: str) -> Decimal:
    """A number that is more than zero. Raises UnprovenAnswer."""
    found = number(value, what)
    if found <= 0:
        raise UnprovenAnswer(f"{what} is not more than zero: {found}")
    return found


def short(value: object) -> str:
    """A value as an error shows it."""
    return "missing" if value is None else repr(value)[:60]


_ALL_TRADING: Final = frozenset({"1", "5", ""})
"""OKX's numbers for the service that spot orders need: spot of old, the trading service, or not said."""


_SOME_TRADING: Final = frozenset({"8", "9"})
"""The trading service for some accounts, or for some products: nobody knows whether for ours."""


LATEST_S: Final = 10**11
"""No moment is later than this many seconds since 1970."""


_SHOWN: Final = 200
"""Characters of what an exchange says about itself."""


def kraken_status(answer: object) -> Status:
    """Kraken's SystemStatus. What is announced, or going on beside it, leaves the word as it is.

    Raises UnprovenAnswer. https://docs.kraken.com/api/docs/rest-api/get-system-status
    """
    result = kraken_result(answer)
    word = text(result.get("status"), "status")
    if word not in {str(each) for each in StatusWord}:
        raise UnprovenAnswer(f"a status that we do not know: {short(word)}")
    told = [
        f"{about}: {_title(notice)}"
        for key, about in (("emergency", "now"), ("upcoming_maintenance", "announced"))
        for notice in _notices(result.get(key))
    ]
    return Status(StatusWord(word), "; ".join(told)[:_SHOWN])


def okx_status(answer: object, now_us: int) -> Status:
    """OKX's "Get Status": maintenance that goes on, as against what is announced for later than `now_us`.

    While only resting orders are taken (`pre_open`) it is post-only. Raises UnprovenAnswer.
    https://www.okx.com/docs-v5/en/#status-get-status
    """
    word, told = StatusWord.ONLINE, list[str]()
    for row in okx_rows(answer):
        state, service = text(row.get("state"), "state"), str(row.get("serviceType") or "")
        is_ours = str(row.get("env") or "1") == "1" and service in _ALL_TRADING | _SOME_TRADING
        if not is_ours or state in ("completed", "canceled"):
            continue
        if state not in ("scheduled", "ongoing", "pre_open"):
            raise UnprovenAnswer(f"a state that we do not know: {short(state)}")
        begin_us, end_us = (_moment_us(row.get(key), key) for key in ("begin", "end"))
        if state == "scheduled":
            if end_us > now_us:
                told.append(f"announced, {_clock(begin_us)} to {_clock(end_us)}: {_title(row)}")
        elif service in _SOME_TRADING:
            told.append(f"for a part of the accounts or products, until {_clock(end_us)}: {_title(row)}")
        else:
            # What goes on stands before what is announced.
            told.insert(0, f"{state}, until {_clock(end_us)}: {_title(row)}")
            if state == "ongoing":
                word = StatusWord.MAINTENANCE
            elif word is StatusWord.ONLINE:
                word = StatusWord.POST_ONLY
    return Status(word, "; ".join(told)[:_SHOWN])


def _notices(value: object) -> list[object]:
    """What is said beside the word; nothing, if it cannot be read: the word stands all the same."""
    return cast("list[object]", value) if isinstance(value, list) else []


def _title(notice: object) -> str:
    """What a notice is about, in one line."""
    row = cast("Mapping[str, object]", notice) if isinstance(notice, Mapping) else {"title": notice}
    named = next((row[key] for key in ("title", "name", "description") if row.get(key)), "no title")
    return " ".join(str(named).split())


def _moment_us(value: object, what: str) -> int:
    """A moment that is written in milliseconds, as µs."""
    moment = positive(value, what)
    if moment >= LATEST_S * 1_000:
        raise UnprovenAnswer(f"{what} is no moment: {moment}")
    return int(moment) * 1_000


def _clock(moment_us: int) -> str:
    return f"{datetime.fromtimestamp(moment_us // 1_000_000, UTC):%Y-%m-%d %H:%M} UTC"
