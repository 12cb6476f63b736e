"""Which answers of an exchange prove a balance, and what they say.

An answer is proof when it is in the exchange's own envelope, whole, and every amount in it can be
read. Anything else is `UnprovenAnswer`, never an empty or a partial balance: an unknown balance is
not zero. A zero that the exchange states is a balance like any other. (The envelopes:
Kraken REST "Get Extended Balance", Coinbase Advanced Trade "List Accounts", OKX v5 "Get Balance".)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, cast

from brokerwatch.exchanges.envelope import UnprovenAnswer, listing, mapping, short, text
from brokerwatch.messages import Holding, amount
from brokerwatch.messages import total as summed
from brokerwatch.messages.balance import FRACTION_DIGITS, NOTHING, is_code, less
from brokerwatch.money import is_money

Code = Callable[[str], str]
"""An exchange's own currency code to the common one: XXBT to BTC."""

FAMILIES: Final[Mapping[str, str]] = {
    "kraken": "kraken",
    "coinbase": "coinbase",
    "coinbaseadvanced": "coinbase",
    "okx": "okx",
    "myokx": "okx",
    "okxus": "okx",
}
"""Exchanges whose envelope we know; an alias shares its parent's."""

KRAKEN_BOUND: Final = frozenset({"B", "S", "M"})
"""Suffixes of assets that are staked, bonded or opted in: there, and not to be traded."""
KRAKEN_LEFT_OUT: Final = frozenset({"HOLD", "T"})
"""Suffixes of what is no money of the account: pending and tokenized parts. (T alone is a currency.)"""
KRAKEN_FEE_CREDITS: Final = "KFEE"
COINBASE_COUNTED: Final = frozenset({"ACCOUNT_TYPE_CRYPTO", "ACCOUNT_TYPE_FIAT"})
"""The accounts that can be traded from. An account without a type is one: older answers have none."""
COINBASE_LEFT_OUT: Final = frozenset({"ACCOUNT_TYPE_VAULT", "ACCOUNT_TYPE_PERP_FUTURES"})
"""The accounts that cannot. A type on neither list proves nothing: who knows what it holds."""

MOST_DIGITS: Final = 27
"""Whole digits of one stated amount. The wire carries 30, so that sums of a thousand of them fit."""


_USUAL: Final = re.compile(rf"-?[0-9]{{1,{MOST_DIGITS}}}(?:\.[0-9]{{1,{FRACTION_DIGITS}}})?\Z")
"""How amounts are usually written; one that is written so passes every check below, and needs no cut."""


class Unstated(UnprovenAnswer):
    """Kraken's `{"error": []}`: all is well, and no account is stated. See `EmptyAnswers`."""


def kraken(answer: object, code: Code) -> dict[str, Holding]:
    """The holdings that a BalanceEx answer states. free = balance + credit - credit_used - hold_trade.

    What earns or is staked stands under a code with a suffix and belongs to the same asset. `.F` earns
    by itself and can be traded, so it is free; the others are bound, so they are used. Both are also
    told apart, as `earning` and `staked`.
    """
    envelope = mapping(answer, "the answer")
    errors = listing(envelope.get("error"), "error")
    if errors:
        raise UnprovenAnswer(f"the answer carries {short(errors)}")
    if set(envelope) == {"error"}:
        raise Unstated("result is missing")
    found: dict[str, Holding] = {}
    for asset, entry in mapping(envelope.get("result"), "result").items():
        base, _, suffix = asset.partition(".")
        if asset == KRAKEN_FEE_CREDITS or suffix in KRAKEN_LEFT_OUT:
            continue
        row = mapping(entry, f"result.{asset}")
        total = _amount(row, "balance", asset)
        held = _held(row, "hold_trade", asset)
        credit = NOTHING
        if "credit" in row or "credit_used" in row:
            credit = less(_amount(row, "credit", asset), _amount(row, "credit_used", asset))
        if suffix in KRAKEN_BOUND:
            _add(found, code(base), free=NOTHING, used=total, total=total, staked=total)
        else:
            known = base if suffix in {"", "F"} else asset  # a suffix we do not know stays apart
            free = less(total, held)
            if credit is not NOTHING:
                free = summed((free, credit))
            earning = free if suffix == "F" else NOTHING
            _add(found, code(known), free=free, used=held, total=total, earning=earning)
    return found


def coinbase_page(answer: object, code: Code, found: dict[str, Holding], seen: set[str]) -> str | None:
    """Add one page of accounts to `found`; return the cursor of the next page, None at the end.

    `seen` collects the accounts' ids over all pages: an account that comes twice would count twice.
    An account must state its hold, and the page whether it is the last: without them nothing is proven.
    """
    page = mapping(answer, "the answer")
    for entry in listing(page.get("accounts"), "accounts"):
        row = mapping(entry, "an account")
        uuid = row.get("uuid")
        if isinstance(uuid, str) and uuid:
            if uuid in seen:
                raise UnprovenAnswer(f"the account {uuid} comes twice")
            seen.add(uuid)
        kind = text(row.get("type", "ACCOUNT_TYPE_CRYPTO"), "type of an account")
        if kind in COINBASE_LEFT_OUT:
            continue
        if kind not in COINBASE_COUNTED:
            raise UnprovenAnswer(f"an account is of a type that we do not know: {short(kind)}")
        available = mapping(row.get("available_balance"), "available_balance")
        currency = text(available.get("currency"), "available_balance.currency")
        free = _amount(available, "value", currency)
        hold = mapping(row.get("hold"), f"hold of {currency}")
        used = _held(hold, "value", currency)
        for other in (row.get("currency", currency), hold.get("currency", currency)):
            if other != currency:
                raise UnprovenAnswer(f"an account is in {short(other)} and in {currency}")
        _add(found, code(currency), free=free, used=used, total=summed((free, used)))
    more = page.get("has_next")
    if not isinstance(more, bool):
        raise UnprovenAnswer("has_next is missing, so nobody knows whether this is the last page")
    if not more:
        return None
    return text(page.get("cursor"), "cursor of the next page")


def okx(answer: object, code: Code) -> dict[str, Holding]:
    """The holdings that a trading account's balance states. free is `availEq`, else `availBal`."""
    envelope = _okx_envelope(answer)
    rows = listing(envelope.get("data"), "data")
    if not rows:
        raise UnprovenAnswer("data is empty: an account has one row even when it holds nothing")
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    for row in rows:
        for entry in listing(mapping(row, "a row of data").get("details"), "details"):
            detail = mapping(entry, "a row of details")
            currency = text(detail.get("ccy"), "ccy")
            if currency in seen:
                raise UnprovenAnswer(f"{currency} comes twice in one account")
            seen.add(currency)
            total = _amount(detail, "eq", currency)
            free_key = "availEq" if detail.get("availEq") not in (None, "") else "availBal"
            free = _amount(detail, free_key, currency)
            frozen = detail.get("frozenBal")
            used = less(total, free) if frozen in (None, "") else _amount(detail, "frozenBal", currency)
            _add(found, code(currency), free=free, used=used, total=total)
    return found


def _okx_envelope(answer: object) -> Mapping[str, Any]:
    envelope = mapping(answer, "the answer")
    if envelope.get("code") not in ("0", 0):
        raise UnprovenAnswer(f"the answer's code is {short(envelope.get('code'))}, not 0")
    if envelope.get("msg"):
        raise UnprovenAnswer(f"the answer carries {short(envelope.get('msg'))}")
    return envelope


def okx_funding(answer: object, code: Code) -> dict[str, Holding]:
    """The holdings of a funding account, which states only what it has ("Get Balance" of Funding Account)."""
    envelope = _okx_envelope(answer)
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    for entry in listing(envelope.get("data"), "data"):
        row = mapping(entry, "a row of data")
        currency = text(row.get("ccy"), "ccy")
        if currency in seen:
            raise UnprovenAnswer(f"{currency} comes twice in one account")
        seen.add(currency)
        total, free = _amount(row, "bal", currency), _amount(row, "availBal", currency)
        _add(found, code(currency), free=free, used=_amount(row, "frozenBal", currency), total=total)
    return found


def unified(answer: object) -> dict[str, Holding]:
    """The holdings in ccxt's own balance structure, for an exchange whose envelope we do not know.

    ccxt gives an empty structure for many broken answers, so an empty one proves nothing here.
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
        parts = {"free": free.get(currency), "used": used.get(currency), "total": total[currency]}
        _add(
            found,
            currency,
            free=_amount(parts, "free", currency),
            used=_amount(parts, "used", currency, absent=NOTHING),
            total=_amount(parts, "total", currency),
        )
    return found


def exact(structure: object) -> object:
    """ccxt's structure with its floats as the shortest text that means the same."""
    if isinstance(structure, float):
        return repr(structure)
    if isinstance(structure, dict):
        return {
            key: exact(value)
            for key, value in cast("dict[object, object]", structure).items()
            if key != "info"
        }
    return structure


def own_holdings(answer: object) -> dict[str, Holding]:
    """The holdings that a trader's own callable returned."""
    found: dict[str, Holding] = {}
    for currency, entry in mapping(answer, "what fetch returned").items():
        if is_money(currency.upper()) and not is_money(currency):
            raise UnprovenAnswer(
                f"{currency}: expected {currency.upper()}, or it would count as another currency"
            )
        if isinstance(entry, Holding):
            _add(
                found,
                currency,
                free=entry.free,
                used=entry.used,
                total=entry.total,
                staked=entry.staked,
                earning=entry.earning,
            )
        elif isinstance(entry, Mapping):
            row = mapping(cast("object", entry), f"the entry of {currency}")
            free, used = _amount(row, "free", currency), _amount(row, "used", currency, absent=NOTHING)
            _add(
                found,
                currency,
                free=free,
                used=used,
                total=_amount(row, "total", currency, absent=summed((free, used))),
            )
        else:
            free = _amount({"amount": entry}, "amount", currency)
            _add(found, currency, free=free, used=NOTHING, total=free)
    return found


def _add(
    found: dict[str, Holding],
    currency: str,
    *,
    free: Decimal,
    used: Decimal,
    total: Decimal,
    staked: Decimal = NOTHING,
    earning: Decimal = NOTHING,
) -> None:
    if not is_code(currency):
        raise UnprovenAnswer(f"not a currency code: {currency[:40]!r}")
    before = found.get(currency)
    if before is not None:
        free, used = summed((before.free, free)), summed((before.used, used))
        total = summed((before.total, total))
        staked, earning = summed((before.staked, staked)), summed((before.earning, earning))
    try:
        found[currency] = Holding(free=free, used=used, total=total, staked=staked, earning=earning)
    except ValueError as error:
        raise UnprovenAnswer(f"{currency}: {error}") from error


def _amount(row: Mapping[str, Any], key: str, currency: str, *, absent: Decimal | None = None) -> Decimal:
    value = row.get(key)
    if type(value) is str and _USUAL.match(value) is not None:
        return Decimal(value)
    if value is None and absent is not None:
        return absent
    if value is None:
        raise UnprovenAnswer(f"{currency} has no {key}")
    try:
        number = amount(value)
    except ValueError as error:
        raise UnprovenAnswer(f"{key} of {currency}: {error}") from error
    if number.adjusted() >= MOST_DIGITS:
        raise UnprovenAnswer(f"{key} of {currency}: more than {MOST_DIGITS} digits before the point")
    return number


def _held(row: Mapping[str, Any], key: str, currency: str) -> Decimal:
    """An amount that orders hold, which cannot be less than nothing: it would be money made up."""
    number = _amount(row, key, currency)
    if number < NOTHING:
        raise UnprovenAnswer(f"{key} of {currency} is negative: {number}")
    return number
