"""The parts of an answer: there and whole, or `UnprovenAnswer`.

Numbers are `Decimal` from the exchange's own text, since a float has lost digits already.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar, cast

from brokerwatch.messages import amount

T = TypeVar("T")

_TEXT: Final = {str}


class UnprovenAnswer(ValueError):
    """An answer arrived and does not prove a balance; the text says what is wrong with it."""


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


NO_NAMES: Final = frozenset({"", "null", "none", "nan", "undefined", "infinity"})
"""What programs write in place of a name that they do not have, in small letters."""


def named(value: object, what: str) -> str:
    """The name of a currency. Raises UnprovenAnswer, also for what stands in place of a name."""
    found = text(value, what)
    if found.lower() in NO_NAMES:
        raise UnprovenAnswer(f"{what} is {short(value)}, which is no name")
    return found


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


def exact(value: T) -> T | str:
    """A float of ccxt's as the shortest text that means the same; anything else as it is."""
    return repr(value) if isinstance(value, float) else value


def short(value: object) -> str:
    """A value as an error shows it."""
    return "missing" if value is None else repr(value)[:60]


SHOWN: Final = 200
"""Characters of what an exchange says about itself."""


def title(notice: object) -> str:
    """What a notice is about, in one line."""
    row = cast("Mapping[str, object]", notice) if isinstance(notice, Mapping) else {"title": notice}
    named = next((row[key] for key in ("title", "name", "description") if row.get(key)), "no title")
    return " ".join(str(named).split())
