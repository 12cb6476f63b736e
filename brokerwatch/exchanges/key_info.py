"""What an exchange says about an API key: whose it is, what it may do, and from where.

What it does not say is None, which is neither yes nor no. Above all whether the key can withdraw: a
key that cannot is one that a thief cannot empty the account with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    kraken_result,
    listing,
    mapping,
    number,
    okx_rows,
    short,
    text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """See the module."""

    account: str = ""
    """How the exchange names the account; empty: it does not."""
    api_key: str = ""
    """The key itself as the exchange has it, to compare; empty: it does not say. Never shown."""
    query: bool | None = None
    """Whether it may read balances, orders and positions."""
    trade: bool | None = None
    withdraw: bool | None = None
    rights: str = ""
    """In the exchange's own words; empty where it says nothing."""
    lacks: str = ""
    """A right that trading wants and that it does not have, in words; empty: none, or it is not said."""
    addresses: tuple[str, ...] | None = None
    """From where it may be used; () from anywhere; None: the exchange does not say."""
    ends_s: float | None = None
    """When it ends, seconds since 1970; None: never, or it is not said."""
    doubt: str = ""
    """Why it is not known whether it can withdraw, where it is not."""
    unsaid: str = ""
    """Why the exchange, which can say whose key it is and what it may do, did not."""


_KRAKEN_QUERY: Final = frozenset({"query-funds", "query-open-trades"})
_KRAKEN_TRADE: Final = frozenset({"modify-trades"})
_KRAKEN_LOOK_UP: Final = "query-closed-trades"
_WITHDRAW: Final = "withdraw"
"""Every right with this in its name lets money out, also one that we do not know."""


def kraken_key(answer: object) -> KeyFacts:
    """The facts in a GetApiKeyInfo answer. Raises UnprovenAnswer.

    https://docs.kraken.com/api-reference/account-data/get-api-key-info
    """
    row = kraken_result(answer)
    rights = [text(each, "a permission") for each in listing(row.get("permissions"), "permissions")]
    allowed = row.get("ipAllowlist")
    name, iban = row.get("apiKeyName"), row.get("iban")
    parts = (
        f"account {iban}" if isinstance(iban, str) and iban else "",
        f"key {name!r}" if isinstance(name, str) and name else "",
    )
    told, ends = row.get("apiKey"), row.get("validUntil")
    # A key that does not end is valid until 0.
    ends_s = number("0" if ends in (None, "") else ends, "validUntil")
    if ends_s < 0:
        raise UnprovenAnswer(f"validUntil is {ends_s}")
    return KeyFacts(
        account=", ".join(part for part in parts if part),
        api_key="" if told in (None, "") else text(told, "apiKey"),
        query=set(rights) >= _KRAKEN_QUERY,
        trade=set(rights) >= _KRAKEN_TRADE,
        withdraw=_may_withdraw(rights),
        rights=", ".join(rights) or "nothing",
        lacks=""
        if _KRAKEN_LOOK_UP in rights
        else f"{_KRAKEN_LOOK_UP}, without which no order is looked up whose answer was lost",
        addresses=None
        if allowed is None
        else tuple(text(each, "an address") for each in listing(allowed, "ipAllowlist")),
        ends_s=float(ends_s) or None,
    )


def _may_withdraw(rights: list[str]) -> bool:
    return any(_WITHDRAW in right.lower() for right in rights)


def coinbase_key(answer: object) -> KeyFacts:
    """The facts in a key_permissions answer. Raises UnprovenAnswer.

    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/data-api/get-api-key-permissions
    """
    row = mapping(answer, "the answer")
    flags = {name: _flag(row, name) for name in ("can_view", "can_trade", "can_transfer")}
    portfolio, kind = row.get("portfolio_uuid"), row.get("portfolio_type")
    named = isinstance(portfolio, str) and portfolio
    return KeyFacts(
        account=f"portfolio {portfolio}{f' ({kind})' if kind else ''}" if named else "",
        query=flags["can_view"],
        trade=flags["can_trade"],
        withdraw=flags["can_transfer"],
        rights=", ".join(name for name, may in flags.items() if may) or "nothing",
    )


def _flag(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name)
    if not isinstance(value, bool):
        raise UnprovenAnswer(f"{name} is {short(value)}")
    return value


def okx_key(answer: object) -> KeyFacts:
    """The facts in an account/config answer. Raises UnprovenAnswer.

    https://www.okx.com/docs-v5/en/#trading-account-rest-api-get-account-configuration
    """
    rows = okx_rows(answer)
    if len(rows) != 1:
        raise UnprovenAnswer(f"the configuration of {len(rows)} accounts, not of one")
    row = rows[0]
    perm = text(row.get("perm"), "perm")
    rights = [part.strip() for part in perm.split(",") if part.strip()]
    if not rights:
        raise UnprovenAnswer(f"perm is {short(perm)}")
    uid, main, label = row.get("uid"), row.get("mainUid"), row.get("label")
    bound = row.get("ip")
    if not isinstance(bound, str | None):
        raise UnprovenAnswer(f"ip is {short(bound)}, not text")
    of_main = f", a sub-account of {main}" if isinstance(main, str) and main and main != uid else ""
    return KeyFacts(
        account=f"account {uid}{of_main}{f', key {label!r}' if label else ''}" if uid else "",
        query=bool({"read_only", "trade"} & set(rights)),
        trade="trade" in rights,
        withdraw=_may_withdraw(rights),
        rights=", ".join(rights),
        addresses=None if bound is None else tuple(part.strip() for part in bound.split(",") if part.strip()),
    )
