"""The balance of an exchange that only ccxt knows: what ccxt makes of it, held against the answer itself."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.balance_forms import FORMS
from brokerwatch.exchanges.balances import Code, FetchedBalance, add, stated_amount
from brokerwatch.exchanges.empty_rows import states_no_row
from brokerwatch.exchanges.envelope import SHOWN, UnprovenAnswer, exact, mapping, number
from brokerwatch.exchanges.envelope_counts import deny
from brokerwatch.exchanges.raw_rows import TOTAL_ALONE, WHOLE, Proof, proofs
from brokerwatch.exchanges.row_forms import Forms
from brokerwatch.exchanges.row_names import named_by
from brokerwatch.exchanges.sums import STATED_SUMS, summed
from brokerwatch.messages import Holding
from brokerwatch.messages.balance import NOTHING, known_total, less

NOT_TRADABLE: Final = "not tradable"
"""The wallet of what an exchange says that no order can spend."""


def stated(
    instance: Any,
    structure: object,
    code: Code,
    body: str = "",
    params: Mapping[str, Any] = MappingProxyType({}),
) -> FetchedBalance:
    """The balance in ccxt's own structure, as far as the exchange's own answer in it proves it.

    Args:
        instance: the ccxt instance that was asked.
        structure: what `fetch_balance` gave.
        code: the common code of the exchange's own.
        body: the newest answer as text, for exchanges of which ccxt keeps none in the structure.
        params: what `fetch_balance` was given, which says what kind of account the answer is about.

    Raises:
        UnprovenAnswer: nothing is stated, not even that there is nothing; or an amount cannot be.
    """
    forms = forms_of(instance, params)
    raw: object = mapping(structure, "the balance").get("info")
    if forms is not None and forms.from_body:
        raw = json_text.parsed(body) if body else None
    balance = mapping(exact_structure(structure), "the balance")
    total = mapping(balance.get("total"), "total")
    beside = json_text.parsed(body) if body else None
    if not total and forms is not None and states_no_row(forms, raw, body):
        deny(forms, raw, beside, is_empty=True)
        return FetchedBalance({})
    proven = dict.fromkeys(total, WHOLE)
    if forms is not None and raw is not None:
        found = proofs(forms, raw, named_by(instance, code), total)
        # In a form that we do not know ccxt's totals stand, and what it takes for free proves nothing. A
        # zero may be ccxt's own, for what the exchange does not state.
        somewhat = [code for code, amount in total.items() if amount is None or number(amount, code)]
        proven = dict.fromkeys(somewhat, TOTAL_ALONE) if found is None else found
    read = {code: total[code] for code in total if code in proven}
    holds = holdings({**balance, "total": read}, proven)
    unread = frozenset(proven.keys() - holds.keys())
    if forms is not None and raw is not None:
        held = (one.total or one.free or one.used for one in holds.values())
        deny(forms, raw, beside, is_empty=not unread and not any(held))
    apart = {code: holds.pop(code) for code in list(holds) if proven[code].is_apart}
    return FetchedBalance(
        holds,
        apart={NOT_TRADABLE: apart} if apart else {},
        unread=unread,
        summed=summed(STATED_SUMS.get(instance.id), raw, code),
    )


def observed_balance(instance: Any, params: Mapping[str, Any], structure: object) -> FetchedBalance:
    """The balance in a structure that the trader's own code was given by a call with these parameters.

    For any thread. Raises UnprovenAnswer.
    """
    return stated(instance, structure, lambda name: str(instance.safe_currency_code(name)), params=params)


def holdings(answer: object, proven: Mapping[str, Proof] = MappingProxyType({})) -> dict[str, Holding]:
    """The holdings in ccxt's own balance structure, for an exchange whose envelope we do not know.

    ccxt gives an empty structure for many broken answers, so an empty one proves nothing here. An amount is
    unknown where `proven` denies it, or ccxt does not give it. A currency of which all are unknown is left
    out.
    """
    structure = mapping(answer, "the balance")
    total = mapping(structure.get("total"), "total")
    if not total:
        raise UnprovenAnswer(
            "no currency in the answer; an empty account cannot be told from a broken answer"
        )
    free, used = mapping(structure.get("free"), "free"), mapping(structure.get("used"), "used")
    found: dict[str, Holding] = {}
    for currency in total:
        proof = proven.get(currency, WHOLE)
        stated_parts = (("free", free, proof.free), ("used", used, proof.used), ("total", total, proof.total))
        free_, used_, whole = (
            _part(amounts, part, currency, proven=is_proven) for part, amounts, is_proven in stated_parts
        )
        free_, used_ = _as_written(free_, proof.written[0]), _as_written(used_, proof.written[1])
        whole = whole if proof.written[2] is None else proof.written[2]
        if whole is not None:
            free_, used_ = _within(whole, free_, used_, proof, currency)
        elif proof.total:
            whole = known_total((free_, used_))
        if used_ is not None and used_ < NOTHING:
            used_ = None
        if (free_, used_, whole) != (None, None, None):
            add(found, currency, free=free_, used=used_, total=whole)
    if not found:
        raise UnprovenAnswer(f"no amount of {', '.join(sorted(total))[:SHOWN]} can be read")
    return found


def _part(amounts: Mapping[str, Any], part: str, currency: str, *, proven: bool) -> Decimal | None:
    value = amounts.get(currency)
    return None if value is None or not proven else stated_amount({part: value}, part, currency)


def _within(
    whole: Decimal, free: Decimal | None, used: Decimal | None, proof: Proof, currency: str
) -> tuple[Decimal | None, Decimal | None]:
    """What is free and used of a total, as far as the three do not deny each other."""
    if free is not None and whole < NOTHING < free:
        raise UnprovenAnswer(f"{free} {currency} are free of a total of {whole}")
    if free is not None and used is None and proof.used:
        used = less(whole, free)
    both = known_total((free, used))
    if proof.left and both is not None and _as_written(both, whole) is None:
        used = None  # ccxt has left out a part of it
    if free is not None and free < NOTHING < whole:
        return None, None  # they deny each other, and the total can be no part of what is free
    return free, used


_NEAR: Final = Decimal("1e-9")
"""By so small a share a float of ccxt's differs from what an exchange has written."""


def _as_written(ours: Decimal | None, written: Decimal | None) -> Decimal | None:
    """An amount of ccxt's as its exchange has written it; None where ccxt has read another one."""
    if ours is None or written is None:
        return ours
    return written if less(ours, written).copy_abs() <= written.copy_abs() * _NEAR else None


def exact_structure(structure: object) -> object:
    """ccxt's structure with its floats as the shortest text that means the same."""
    if isinstance(structure, dict):
        return {
            key: exact_structure(value)
            for key, value in cast("dict[object, object]", structure).items()
            if key != "info"
        }
    return exact(structure)


def forms_of(instance: Any, params: Mapping[str, Any] = MappingProxyType({})) -> Forms | None:
    """How the exchange of a ccxt instance states a balance; None: that is not known.

    What ccxt reads may hang on the parameters of the call, and on its own options.
    """
    options = instance.options
    kinds = (params.get("marginMode"), params.get("type"), options.get("defaultMarginMode"))
    for kind in (*kinds, options.get("defaultType")):
        if isinstance(kind, str) and f"{instance.id}:{kind}" in FORMS:
            return FORMS[f"{instance.id}:{kind}"]
    return FORMS.get(instance.id)
