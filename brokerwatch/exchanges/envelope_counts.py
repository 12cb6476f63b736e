"""What stands beside the rows of a balance: sums, counts and pages, held against the rows.

A list is denied by a sum that is not zero where nothing is held, by a number of rows that it does not have,
and by a word that another page follows: ccxt reads the first page alone. Looked at are the maps that lead to
the rows, in the exchange's own answer, and in the whole text where ccxt keeps only the list of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from brokerwatch.exchanges.envelope import UnprovenAnswer, exact, number, short
from brokerwatch.exchanges.raw_rows import rows_at
from brokerwatch.exchanges.row_forms import EACH, NAMED, Forms, Key, Rows, Typed

_SUM: Final = re.compile(
    r"(?i)(equity|worth|^eq$|_eq$|total_?(usd|usdt|btc|wallet|asset|account|balance|cash|collateral|value|sum)"
    r"|(acct|account|wallet|asset|collaterals?|subaccount|margin|cash|collateral)[_-]?(balance|value|total|sum)"
    r"|balance_?(sum|value)|portfolio_?value)"
)
"""What a key is called that states a sum over the currencies."""
_NO_SUM: Final = re.compile(
    r"(?i)(rate|ratio|level|limit|liab|debt|margin_?ratio|lever|scale|time|page|last)"
)

_COUNT: Final = re.compile(r"(?i)(row|record|total|asset|account|item)?_?(count|size|num|number)")
"""What a key is called that states how many rows there are."""

_FOLLOWS: Final = re.compile(
    r"(?i)(has_?(next|more)(_?page)?|next_?(page|cursor|token|uri|page_?(cursor|token))|page_?token|more)"
)
"""What a key is called that says whether another page follows, or where."""


def deny(forms: Forms, answer: object, body: object, *, is_empty: bool) -> None:
    """Raise UnprovenAnswer for what stands beside the rows and denies them.

    Args:
        forms: how the exchange states a balance.
        answer: its answer, as ccxt keeps it.
        body: the same as it came, or None; ccxt may keep a part of it.
        is_empty: whether nothing is held of any currency.
    """
    for alternatives in forms.together:
        for form in alternatives:
            at = form.at if isinstance(form, Rows | Typed) else ()
            rows = rows_at(at, answer) if at else None
            if rows is None:
                continue
            above = [*_above(at, answer), *_around(answer, body)]
            for key, value in (pair for held in above for pair in held.items()):
                _deny_sum(key, value, is_empty=is_empty)
                _deny_page(key, value)
            for key, value in above[0].items() if above and at[-1:] in ((EACH,), (NAMED,)) else ():
                if _COUNT.fullmatch(key) and _count(value) > len(rows):
                    raise UnprovenAnswer(f"{key[:40]} is {short(value)}, and there are {len(rows)} rows")
            break


def _deny_sum(key: str, value: object, *, is_empty: bool) -> None:
    if (
        not is_empty
        or not _SUM.search(key)
        or _NO_SUM.search(key)
        or isinstance(value, bool | list | Mapping)
    ):
        return
    try:
        denies = value not in (None, "") and bool(number(exact(value), key))
    except UnprovenAnswer:
        return  # a word, such as the kind of a sum
    if denies:
        raise UnprovenAnswer(f"{key[:40]} is {short(value)}, and nothing is held")


def _deny_page(key: str, value: object) -> None:
    if _FOLLOWS.fullmatch(key) and value not in (None, "", False, "false", "False", 0, "0"):
        raise UnprovenAnswer(f"{key[:40]} is {short(value)}: another page follows")


def _count(value: object) -> int:
    return int(value) if isinstance(value, str | int) and str(value).isdecimal() else 0


def _above(at: tuple[Key, ...], answer: object) -> list[Mapping[str, Any]]:
    """The maps on the way to the rows, the nearest first."""
    found: list[Mapping[str, Any]] = []
    for length in range(len(at) - 1, -1, -1):
        maps = rows_at(at[:length], answer) or []
        found += [cast("Mapping[str, Any]", each) for _, each in maps if isinstance(each, Mapping)]
    return found


def _around(answer: object, body: object) -> list[Mapping[str, Any]]:
    """The maps around what ccxt has kept of the text, the nearest first."""
    return list(_to(answer, body)) if body is not None and body != answer else []


def _to(part: object, whole: object) -> Iterator[Mapping[str, Any]]:
    """The maps that lead to a part of an answer, wherever it stands; an empty one may stand in several."""
    if not isinstance(whole, Mapping):
        return
    held = cast("Mapping[str, Any]", whole)
    inner = [each for value in held.values() for each in _to(part, value)]
    yield from inner
    if inner or any(value == part and isinstance(value, list | Mapping) for value in held.values()):
        yield held
