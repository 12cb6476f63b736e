"""The table in docs/exchanges.md: what is known of each exchange that ccxt has, as the code has it.

`make exchanges` writes it anew, and tests/project/test_exchanges_page.py fails where page and code differ.
Nothing in it is written by hand, so it says no more than what the program itself goes by.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Final

import ccxt.async_support as ccxt

from brokerwatch.exchanges.account_needs import NEEDS
from brokerwatch.exchanges.balance_forms import FORMS
from brokerwatch.exchanges.key_forms import KEY_FORMS
from brokerwatch.exchanges.order_request import OrderRules
from brokerwatch.exchanges.order_traits import BY_OWN_ID, OrderTraits
from brokerwatch.exchanges.registry import ADAPTERS
from brokerwatch.exchanges.row_forms import Columns, Flat, Form, Rows
from brokerwatch.exchanges.unified import Unified
from brokerwatch.gateway.catalogue import Catalogue

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "exchanges.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
HEAD: Final = (
    "exchange", "needs", "balance", "account types", "key check", "dry run", "buys by", "a lost order",
)  # fmt: skip

_PARAMETERS: Final = re.compile(
    r"(?:safe_\w+|handle_option_and_params|handle_param_\w+)\(params, (?:'fetchBalance', )?'(\w+)'"
)
"""How ccxt reads one parameter of a call."""
_HANDLED: Final = (
    ("handle_market_type_and_params", "type"),
    ("handle_margin_mode_and_params", "marginMode"),
    ("handle_sub_type_and_params", "subType"),
)
"""How ccxt reads those that several calls have."""


def table() -> str:
    """The whole table, in the form of a page."""
    lines = [" | ".join(HEAD), " | ".join("---" for _ in HEAD)]
    lines += [" | ".join(row(exchange)) for exchange in sorted(ccxt.exchanges)]
    return "".join(f"| {line} |\n" for line in lines)


def row(exchange: str) -> tuple[str, ...]:
    """What is known of one exchange, in the order of `HEAD`."""
    instance: Any = getattr(ccxt, exchange)()
    adapter: Any = ADAPTERS.get(exchange, Unified)
    is_unified = issubclass(adapter, Unified)
    traits = OrderTraits.of(instance) if is_unified else None
    form = KEY_FORMS.get(exchange)
    return (
        f"`{exchange}`",
        needs(exchange),
        balance(exchange) if is_unified else "adapter",
        accounts(instance) if is_unified else "spot",
        "yes" if not is_unified or (form is not None and form.states_rights) else "no",
        "yes" if adapter.has_dry_run else "no",
        purchases(adapter.profile.order_rules if traits is None else traits.rules, traits),
        "found" if traits is None else lost_orders(exchange, traits),
    )


def needs(exchange: str) -> str:
    """The credentials that it cannot do without, and what else its balance needs."""
    found = dict.fromkeys(Catalogue.required_credentials(exchange))
    need = NEEDS.get(exchange)
    if need is not None:
        found[need.credential or f"`{need.option or need.parameters[0]}`"] = None
    return ", ".join(found) or "nothing"


def balance(exchange: str) -> str:
    """Which amounts the exchange states, by the forms that are known of its answers."""
    known = [forms for name, forms in FORMS.items() if name.partition(":")[0] == exchange]
    found: dict[str, None] = {}
    for forms in known:
        parts = [list(dict.fromkeys(map(stated, part))) for part in forms.together]
        together = dict.fromkeys(" or ".join(part) for part in parts)
        found.update(dict.fromkeys(parts[0]) if len(together) == 1 else {" and ".join(together): None})
    return " or ".join(found) or "ccxt"


def stated(form: Form) -> str:
    """The amounts that a form states: F free, U used, T total."""
    if isinstance(form, Rows | Columns | Flat):
        parts = (("F", form.free), ("U", form.used), ("T", form.total))
        return "".join(letter for letter, keys in parts if keys)
    return "FU"


def accounts(instance: Any) -> str:
    """How ccxt's `fetch_balance` is told which account is meant, and which one it asks by itself."""
    source = inspect.getsource(instance.fetch_balance)
    named = {*_PARAMETERS.findall(source), *(name for call, name in _HANDLED if call in source)}
    usual = instance.options.get("defaultType")
    by = f"by {', '.join(f'`{name}`' for name in sorted(named))}" if named else "one"
    return f"{by}; else {usual}" if named and usual else by


def purchases(rules: OrderRules, traits: OrderTraits | None) -> str:
    """By what a market order to buy is sized; or why there is none."""
    forbidden = next((each.text for each in traits.shortcomings() if each.forbids), "") if traits else ""
    if forbidden:
        return f"no order: {forbidden.partition(': ')[2]}"
    if rules.buys_nothing:
        return f"sells alone: {rules.buys_nothing}"
    return "cost" if rules.buys_by_cost else "amount" if rules.buys_by_base else "both"


def lost_orders(exchange: str, traits: OrderTraits) -> str:
    """Whether an order is found whose answer was lost."""
    if any(each.forbids for each in traits.shortcomings()):
        return "–"
    if not traits.knows_ids:
        return "never"
    return "found" if traits.lists.whole or exchange in BY_OWN_ID else "perhaps"


def renewed(page: str) -> str:
    """The page with the table of now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
