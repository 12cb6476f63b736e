"""JSON as text to values: no key twice, no float, nothing that is not JSON."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn


def parsed(text: str) -> Any:
    """What a JSON text says, its numbers as they were written. Raises ValueError.

    A float has lost digits already, NaN is no JSON, and of a key that stands twice it is not known
    which one is meant.
    """
    return _JSON.decode(text)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_JSON: Final = json.JSONDecoder(
    parse_float=str, parse_int=str, parse_constant=_refused, object_pairs_hook=_unambiguous
)
