"""The settings of the money watch of one account: floors, losses, and whether it is held."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.config.toml_table import TomlTable, typed
from brokerwatch.messages.balance import is_code

NOTHING: Final[Mapping[str, Decimal]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class MoneyRules:
    """What an operator wants to be told about the money in an account. Amounts are of the whole currency.

    They are checked when a broker is made with them.
    """

    floor: Mapping[str, Decimal] = field(default_factory=lambda: NOTHING)
    """Currency to the least that there should be."""
    loss: Mapping[str, Decimal] = field(default_factory=lambda: NOTHING)
    """Currency to the most that may go within `loss_period_s`, apart from trades."""
    loss_period_s: float = 3_600.0
    tolerance: float = 0.01
    """This part of a currency may go unexplained at once without an alarm: fees, funding payments, interest.
    It counts as a loss all the same."""
    hold: bool = False
    """Whether the account is held out when there is less of a currency than its floor."""


def money_rules(table: TomlTable, key: str, default: MoneyRules | None) -> MoneyRules | None:
    """The table `money_watch` of a broker; the default where there is none."""
    said = table.table_or_none(key)
    if said is None:
        return default
    inner = TomlTable(table.where, f"{table.path}.{key}", said, table.problems, table.lines)
    own = MoneyRules()
    rules = MoneyRules(
        floor=_amounts(inner, "floor"),
        loss=_amounts(inner, "loss"),
        loss_period_s=inner.number("loss_period_s", own.loss_period_s),
        tolerance=inner.number("tolerance", own.tolerance),
        hold=inner.switch("hold", default=own.hold),
    )
    inner.end(", ".join(each.name for each in fields(MoneyRules)))
    return rules


def _amounts(table: TomlTable, key: str) -> Mapping[str, Decimal]:
    found: dict[str, Decimal] = {}
    for code, value in table.table(key).items():
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise InvalidOperation
            found[code] = Decimal(str(value))
        except InvalidOperation:
            table.wrong(key, f'expected amounts such as {{ USD = "1000" }}, not {typed(value)}')
    return MappingProxyType(found)


def money_mistakes(rules: MoneyRules) -> Iterator[tuple[str, str]]:
    """(key, what was expected) for each value that cannot be."""
    for key, amounts in (("floor", rules.floor), ("loss", rules.loss)):
        for code, amount in amounts.items():
            checked: Any = amount
            if not is_code(code):
                yield key, f"expected the code of a currency, not {code!r}"
            elif not isinstance(checked, Decimal) or not checked.is_finite() or checked < 0:
                yield key, f"expected an amount of {code} that is not negative"
    if not 0 < rules.loss_period_s < math.inf:
        yield "loss_period_s", f"expected seconds above 0, and an end, not {rules.loss_period_s:g}"
    if not 0 <= rules.tolerance < 1:
        yield "tolerance", f"expected a part from 0 to below 1, not {rules.tolerance:g}"
    if rules.hold and not rules.floor:
        yield "hold", "expected a floor beside it: an account is held below a floor only"
