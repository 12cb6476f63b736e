"""Whether an answer states that there is nothing in an account, at the exchanges that only ccxt knows.

ccxt makes an empty balance of many broken answers. Only one in which the exchange itself has written an
empty list, where its rows would stand, states that there are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Final, cast

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.envelope import UnprovenAnswer, exact, number
from brokerwatch.exchanges.raw_rows import part_of, rows_at
from brokerwatch.exchanges.row_forms import EACH, NAMED, Form, Forms, Key, Rows, Typed


def states_no_row(forms: Forms, answer: object, body: str) -> bool:
    """Whether the answer has the list of each part of the balance, no list has a row, and no sum denies it.

    Args:
        forms: how this exchange states a balance.
        answer: its answer, as ccxt keeps it: a list that is missing may be an empty one there.
        body: the same as text, as it came.

    Raises:
        UnprovenAnswer: the lists are empty, and beside them stands a sum that is not zero.
    """
    lists = _LISTS.union(*(getattr(form, "at", ()) for part in forms.together for form in part))
    empties: frozenset[Key] = _empties(json_text.parsed(body), lists) if body else frozenset()
    if not all(_has_empty_list(alternatives, answer, empties) for alternatives in forms.together):
        return False
    for key, value in _numbers(answer):
        if _SUM.search(key) and value:
            raise UnprovenAnswer(f"no currency in the answer, and {key[:40]} is {value}")
    return True


_SUM: Final = re.compile(r"(?i)^(?!.*page).*(total|sum|equity|worth|asset|balance|count)")
"""What a key is called whose number says how much there is in the account, or of how many currencies."""


def _has_empty_list(alternatives: tuple[Form, ...], answer: object, empties: frozenset[Key]) -> bool:
    places = [
        rows_at(form.at, answer)
        for form in alternatives
        if isinstance(form, Rows | Typed) and form.at != (NAMED,) and not empties.isdisjoint(form.at)
    ]
    others = [form for form in alternatives if isinstance(form, Rows) and _has_others_alone(form, answer)]
    return ([] in places and not any(places)) or bool(others)


def _has_others_alone(form: Rows, answer: object) -> bool:
    """Whether every row is of another kind than those that count, such as a wallet for lending."""
    rows = rows_at(form.at, answer) if form.only is not None else None
    if not rows or form.only is None:
        return False
    kinds = [part_of(row, form.only[0]) for _, row in rows]
    return all(isinstance(kind, str) and kind.lower() in _OTHER_KINDS - {form.only[1]} for kind in kinds)


_OTHER_KINDS: Final = frozenset(
    {"funding", "margin", "main", "trade_hf", "isolated", "account_type_wallet", "account_type_futures"}
)
"""Kinds of rows from which no spot order is paid, as Bitfinex, KuCoin and LATOKEN call them, in small
letters. A kind that is not known states nothing."""


_LISTS: Final[frozenset[Key]] = frozenset({"data", "result", "results", "assets", "balances", "list"})
"""Keys under which exchanges write the list that ccxt keeps alone. Others, such as that of errors, may always
be empty."""


def _empties(value: object, lists: frozenset[Key]) -> frozenset[Key]:
    """The steps of a path that lead to nothing under one of these keys: EACH in a list, NAMED in a map."""
    if value == []:
        return frozenset({EACH})
    if value == {}:
        return frozenset({NAMED})
    inner: Iterable[object] = ()
    if isinstance(value, list):
        inner = cast("list[object]", value)
    elif isinstance(value, Mapping):
        held = cast("Mapping[str, object]", value)
        inner = [each for key, each in held.items() if key in lists or each not in ([], {})]
    return frozenset(step for each in inner for step in _empties(each, lists))


def _numbers(value: object) -> Iterator[tuple[str, Decimal]]:
    """Every number in an answer that a key names, with this key."""
    if isinstance(value, list):
        for each in cast("list[object]", value):
            yield from _numbers(each)
    elif isinstance(value, Mapping):
        for key, each in cast("Mapping[str, object]", value).items():
            if isinstance(each, Mapping | list):
                yield from _numbers(cast("object", each))
            else:
                with suppress(UnprovenAnswer):
                    yield key, number(exact(each), key)
