"""The exchanges' envelopes and the parts in them: there and whole, or `NotProof`.

Numbers are `Decimal` from the exchange's own text, since a float has lost digits already.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, cast

from brokerwatch.messages import amount

_TEXT: Final = {str}


class NotProof(ValueError):
    """An answer arrived and does not prove a balance; the text says what is wrong with it."""


def kraken_envelope(answer: object) -> Mapping[str, Any]:
    """Kraken's envelope, if it says that all is well; `result` is for the caller to read. Raises NotProof."""
    envelope = mapping(answer, "the answer")
    errors = listing(envelope.get("error"), "error")
    if errors:
        raise NotProof(f"the answer carries {short(errors)}")
    return envelope


def kraken_result(answer: object) -> Mapping[str, Any]:
    """The result in Kraken's envelope. Raises NotProof."""
    return mapping(kraken_envelope(answer).get("result"), "result")


def okx_rows(answer: object) -> list[Mapping[str, Any]]:
    """The rows in OKX's envelope, each a map. Raises NotProof."""
    return [mapping(row, "a row of data") for row in okx_data(answer)]


def okx_data(answer: object) -> list[Any]:
    """The data in OKX's envelope. Raises NotProof."""
    envelope = mapping(answer, "the answer")
    code, message = envelope.get("code"), envelope.get("msg")
    if str(code) != "0" or message:
        raise NotProof(f"the answer's code is {short(code)}, with {short(message)}")
    return listing(envelope.get("data"), "data")


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """A map with keys of text. Raises NotProof, which names `what` it should be."""
    if type(value) is dict:
        known = cast("dict[str, Any]", value)
        if set(map(type, known)) <= _TEXT:
            return known
    if not isinstance(value, Mapping):
        raise NotProof(f"{what} is {short(value)}, not a map")
    if not all(isinstance(key, str) for key in cast("Mapping[object, Any]", value)):
        raise NotProof(f"{what} has a key that is not text")
    return cast("Mapping[str, Any]", value)


def listing(value: object, what: str) -> list[Any]:
    """A list. Raises NotProof."""
    if not isinstance(value, list):
        raise NotProof(f"{what} is {short(value)}, not a list")
    return list(cast("list[object]", value))


def text(value: object, what: str) -> str:
    """A text that is not empty. Raises NotProof."""
    if not isinstance(value, str) or not value:
        raise NotProof(f"{what} is {short(value)}, not text")
    return value


def number(value: object, what: str) -> Decimal:
    """A finite number, exactly. Raises NotProof."""
    try:
        return amount(value)
    except ValueError as error:
        raise NotProof(f"{what}: {error}") from error


def positive(value: object, what: str) -> Decimal:
    """A number that is more than zero. Raises NotProof."""
    found = number(value, what)
    if found <= 0:
        raise NotProof(f"{what} is not more than zero: {found}")
    return found


def short(value: object) -> str:
    """A value as an error shows it."""
    return "missing" if value is None else repr(value)[:60]
