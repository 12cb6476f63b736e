"""The rows of a balance as an exchange wrote them, held against what ccxt made of them.

ccxt computes what an exchange leaves out: a part that is missing counts as zero, and what is left of the
total as free. Such an amount proves nothing. So each currency is looked up in the exchange's own answer,
which ccxt keeps as `info`: an amount is proven only if the row states every part of it as a number. Where
the rows stand at each exchange, `balance_forms` says; here is how they are read.

A part that is missing, null or empty makes that amount unknown and no other. A part that is no number, or
negative where there can be no debt, makes the whole answer worthless, and so does a row without a
name: it may be any currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, cast

from brokerwatch.exchanges.balances import Code
from brokerwatch.exchanges.envelope import NO_NAMES, UnprovenAnswer, exact, number, short
from brokerwatch.exchanges.row_forms import EACH, ITSELF, NAMED, Columns, Flat, Form, Forms, Key, Rows, Typed
from brokerwatch.messages import total
from brokerwatch.messages.balance import known_total


class Proof(NamedTuple):
    """Which amounts of a currency the exchange itself has stated."""

    free: bool
    used: bool
    total: bool
    left: bool = False
    """Whether one of them is what the others leave, so that free and used must add up to the total."""
    is_apart: bool = False
    """Whether the exchange says that no order can spend it."""
    written: tuple[Decimal | None, ...] = (None, None, None)
    """The three as they stand in the answer, where ccxt takes them from it as they are."""


WHOLE: Final = Proof(free=True, used=True, total=True)
TOTAL_ALONE: Final = Proof(free=False, used=False, total=True)

Place = tuple[Key, ...]
"""The keys that lead to one row."""


class _Row(NamedTuple):
    """One row, as one form reads it: what names its currency, and the values that state each amount."""

    name: object
    form: Form
    free: tuple[object, ...]
    used: tuple[object, ...]
    total: tuple[object, ...]
    is_apart: bool = False

    def completeness(self) -> tuple[bool, bool, int]:
        """The more, the better this form fits the row."""
        values = (*self.free, *self.used, *self.total)
        stated = sum(not _absent(value) for value in values)
        return not _absent(self.name), stated == len(values), stated


def proofs(forms: Forms, answer: object, code: Code, known: Iterable[str]) -> dict[str, Proof] | None:
    """What the exchange itself states of each currency; None: its answer has none of the forms that we know.

    Args:
        forms: how this exchange states a balance.
        answer: its answer, as it came.
        code: the common code of the exchange's own.
        known: the currencies that ccxt found in the answer.

    Raises:
        UnprovenAnswer: a row has no name, or an amount that cannot be.
    """
    codes = frozenset(known)
    parts = [_rows(alternatives, answer, code, codes) for alternatives in forms.together]
    if all(rows is None for rows in parts):
        return None
    found: dict[str, list[_Stated]] = {}
    apart: set[str] = set()
    for rows in parts:
        if rows is None:
            raise UnprovenAnswer("a part of the balance is missing, or is no list")
        for row in rows:
            name = _always(row) or code(_named(row.name))
            if name not in codes and (forms.leaves_out or _is_used_alone(row)):
                continue
            stated = _stated(row)
            if _is_sole(row) and len(rows) > 1:
                stated = (False, False, stated[2])
            if name not in codes:
                if isinstance(row.form, Rows | Typed):
                    raise UnprovenAnswer(f"{name[:40]} is in the answer, and not in what ccxt made of it")
                stated = (False, False, False)
            if name in found and not forms.adds_up:
                raise UnprovenAnswer(f"{name} comes twice in one answer")
            found.setdefault(name, []).append(stated)
            apart |= {name} if row.is_apart else set()
    proven = {name: _proof(of_name)._replace(is_apart=name in apart) for name, of_name in found.items()}
    for name, in_pairs in found.items() if forms.in_pairs else ():
        if sum(any(of_pair) for of_pair in in_pairs) > 1:
            proven[name] = proven[name]._replace(free=False)
    return proven


def _always(row: _Row) -> str:
    return row.form.always if isinstance(row.form, Rows) else ""


def _is_used_alone(row: _Row) -> bool:
    """Whether a row says what an account holds back of a currency, which it need not have."""
    form = row.form
    return isinstance(form, Rows) and bool(form.always) and not form.free and not form.total


def _is_sole(row: _Row) -> bool:
    return isinstance(row.form, Rows) and row.form.sole


def _rows(
    alternatives: tuple[Form, ...], answer: object, code: Code, codes: frozenset[str]
) -> list[_Row] | None:
    """The rows of one part of the balance, each in the form that fits it best; None: it is not there.

    Forms at one place are alternatives for each row. Of the places the first that is there is the one.
    """
    candidates: dict[object, list[_Row]] | None = None
    where: object = None
    for form in alternatives:
        at = getattr(form, "at", ())
        if candidates is not None and at != where:
            continue
        rows = _read(form, answer, code, codes)
        if rows is None:
            continue
        candidates, where = candidates or {}, at
        for place, row in rows:
            candidates.setdefault(place, []).append(row)
    if candidates is None:
        return None
    return [max(each, key=_Row.completeness) for each in candidates.values()]


def _read(form: Form, answer: object, code: Code, codes: frozenset[str]) -> list[tuple[object, _Row]] | None:
    """The rows of one form, each with its place; None: the answer does not have this form."""
    if isinstance(form, Rows):
        return _listed(form, answer)
    if isinstance(form, Columns):
        return _columns(form, answer)
    if isinstance(form, Flat):
        return _flat(form, answer, code, codes)
    return _typed(form, answer)


def _listed(form: Rows, answer: object) -> list[tuple[object, _Row]] | None:
    places = rows_at(form.at, answer)
    if places is None:
        return None
    if form.only is not None:
        key, value = form.only
        kinds = [part_of(row, key) for _, row in places]
        for kind in kinds:
            if not isinstance(kind, str) or kind.lower() in NO_NAMES:
                raise UnprovenAnswer(f"{key} of a row is {short(kind)}")
        if value in kinds:
            places = [place for place, kind in zip(places, kinds, strict=True) if kind == value]
    if form.stale is not None:
        key, value = form.stale
        places = [place for place in places if str(part_of(place[1], key)) != value]
    found: list[tuple[object, _Row]] = []
    row: object
    for path, row in places:
        last = path[-1] if path else ITSELF
        if isinstance(last, str) and last in form.beside:
            continue
        if form.code != ITSELF and not _is_row(row):
            raise UnprovenAnswer(f"a row of the balance is {short(row)}")
        name = form.always or (last if form.code == ITSELF else part_of(row, form.code))
        free, used, total = (
            tuple(_part(answer, row, key) for key in keys) for keys in (form.free, form.used, form.total)
        )
        found.append((path, _Row(name, form, free, used, total, _is_apart(form, answer, row))))
    if (
        form.tradable is not None
        and len({_absent(_part(answer, row, form.tradable[0])) for _, row in places}) > 1
    ):
        raise UnprovenAnswer(f"some rows state {form.tradable[0]}, and some do not")
    return found


def _is_apart(form: Rows | Typed, answer: object, row: object) -> bool:
    """Whether a row says that no order can spend its money."""
    key, good = form.tradable or (ITSELF, "")
    value = None if form.tradable is None else _part(answer, row, key)
    is_flag = good in ("true", "false")
    if not isinstance(value, str | bool | None) or (isinstance(value, bool) and not is_flag):
        raise UnprovenAnswer(f"{key} of a row is {short(value)}")
    if not _absent(value) and str(value).lower() in NO_NAMES:
        raise UnprovenAnswer(f"{key} of a row is {short(value)}")
    return not _absent(value) and str(value).lower() != good.lower()


def _columns(form: Columns, answer: object) -> list[tuple[object, _Row]] | None:
    columns: list[Mapping[str, object] | None] = []
    for path in (form.free, form.used, form.total):
        column = _down(answer, path) if path else None
        if path and not isinstance(column, Mapping):
            if column is None:
                column = {}
            else:
                raise UnprovenAnswer(f"{path[-1]} is {short(column)}, not a map")
        columns.append(cast("Mapping[str, object] | None", column))
    if not any(columns):
        return None
    names = dict.fromkeys(name for column in columns for name in column or ())
    found: list[tuple[object, _Row]] = []
    for name in names:
        free, used, total = (() if column is None else (column.get(name),) for column in columns)
        found.append((name, _Row(name, form, free, used, total)))
    return found


def _flat(form: Flat, answer: object, code: Code, codes: frozenset[str]) -> list[tuple[object, _Row]] | None:
    held = _down(answer, form.at)
    if not isinstance(held, Mapping):
        return None
    row = cast("Mapping[str, object]", held)
    patterns = (form.free, form.used, form.total)
    names: dict[str, None] = {}
    for pattern in patterns:
        before, _, after = pattern.partition(NAMED)
        for key in row if pattern else ():
            if not key.startswith(before) or not key.endswith(after):
                continue
            name = key[len(before) : len(key) - len(after)]
            # Without a word beside it, only a currency that ccxt found is known to be one.
            if name and (before or after or code(name) in codes):
                names[name] = None
    found: list[tuple[object, _Row]] = []
    for name in names:
        free, used, total = ((row.get(each.replace(NAMED, name)),) if each else () for each in patterns)
        found.append((name, _Row(name, form, free, used, total)))
    return found


def _typed(form: Typed, answer: object) -> list[tuple[object, _Row]] | None:
    places = rows_at(form.at, answer)
    if places is None:
        return None
    amounts: dict[str, dict[str, object]] = {}
    for _, row in places:
        if not _is_row(row):
            raise UnprovenAnswer(f"a row of the balance is {short(row)}")
        name, kind = _named(part_of(row, form.code)), part_of(row, form.kind)
        if not isinstance(kind, str) or kind.lower() in NO_NAMES:
            raise UnprovenAnswer(f"{form.kind} of {name[:40]} is {short(kind)}")
        if kind in amounts.setdefault(name, {}):
            raise UnprovenAnswer(f"{name[:40]} comes twice in one answer")
        amounts[name][kind] = part_of(row, form.amount)
    is_apart = _is_apart(form, answer, answer)
    return [
        (name, _Row(name, form, (kinds.get(form.free),), (kinds.get(form.used),), (), is_apart))
        for name, kinds in amounts.items()
    ]


def rows_at(path: Place, answer: object) -> list[tuple[Place, Any]] | None:
    """Every row that a path leads to, with its place; None: the answer has no such path."""
    found: list[tuple[Place, Any]] = [((), answer)]
    for step in path:
        deeper: list[tuple[Place, Any]] = []
        missing = 0
        for place, value in found:
            items = _items(value, step)
            missing += items is None
            deeper += [((*place, key), each) for key, each in items or ()]
        if missing == len(found) and found:
            return None
        if missing:
            raise UnprovenAnswer(f"{step} is missing in {missing} of {len(found)} parts of the balance")
        found = deeper
    return found


def _items(value: object, step: Key) -> Iterable[tuple[Key, Any]] | None:
    """What one step of a path leads to; None: nothing."""
    if step == EACH:
        return enumerate(cast("list[object]", value)) if isinstance(value, list) else None
    if step == NAMED:
        return cast("Mapping[str, Any]", value).items() if isinstance(value, Mapping) else None
    deeper = part_of(value, step)
    return None if deeper is None else [(step, deeper)]


def _is_row(value: object) -> bool:
    return isinstance(value, Mapping | list)


def _down(value: object, path: tuple[Key, ...]) -> object:
    for step in path:
        value = part_of(value, step)
    return value


def part_of(value: object, key: Key) -> object:
    """What stands in a row under a key, or at a place; None: nothing."""
    if isinstance(key, int):
        row = cast("list[object]", value) if isinstance(value, list) else []
        return row[key] if key < len(row) else None
    for step in key.split("."):
        value = cast("Mapping[str, Any]", value).get(step) if isinstance(value, Mapping) else None
    return value


def _part(answer: object, row: object, key: Key) -> object:
    if key == ITSELF:
        return row
    return part_of(answer, key[1:]) if isinstance(key, str) and key.startswith("/") else part_of(row, key)


def _named(value: object) -> str:
    """The name of a row; an exchange may name a currency by a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value.lower() in NO_NAMES:
        raise UnprovenAnswer(f"a row of the balance has no name: it is {short(value)}")
    return value


def _absent(value: object) -> bool:
    return value is None or value == ""


_Stated = tuple[Decimal | bool | None, ...]
"""What is free and used, and the total: the amount, or whether it is stated. None: the form has none."""


def _stated(row: _Row) -> _Stated:
    """The amounts that a row states: those of which no part is missing."""
    form = row.form if isinstance(row.form, Rows) else Rows()
    found: list[Decimal | bool | None] = []
    for at, values in enumerate((row.free, row.used, row.total)):
        known = [
            number(exact(each), f"an amount of {short(row.name)}") for each in values if not _absent(each)
        ]
        if any(each < 0 for each in known) and not (form.signed if at == _USED else form.may_owe):
            raise UnprovenAnswer(f"an amount of {short(row.name)} is negative: {short(values)}")
        if not values or len(known) < len(values):
            found.append(False if values else None)
        else:
            found.append(True if form.computed else total(known))
    return tuple(found)


_USED: Final = 1


def _proof(rows: list[_Stated]) -> Proof:
    """What all rows of one currency prove: what each of them states, and what two amounts leave."""
    spoken = [[each for each in of_rows if each is not None] for of_rows in zip(*rows, strict=True)]
    stated = [all(each is not False for each in of_rows) if of_rows else None for of_rows in spoken]
    free, used, whole = (
        each if each is not None else all(other is True for other in stated[:at] + stated[at + 1 :])
        for at, each in enumerate(stated)
    )
    written = (
        known_total(None if isinstance(each, bool) else each for each in of_rows) for of_rows in spoken
    )
    return Proof(
        free,
        used,
        whole,
        left=None in stated,
        written=tuple(each if of_rows else None for each, of_rows in zip(written, spoken, strict=True)),
    )
