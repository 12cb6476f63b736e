"""What an exchange says about an API key: whose it is, what it may do, and from where.

What it does not say is None, which is neither yes nor no. Above all whether the key can withdraw: a
key that cannot is one that a thief cannot empty the account with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from brokerwatch.messages.key import KeyStatement


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What an exchange says about one API key. What it does not say is None, or empty."""

    account: str = ""
    """How the exchange names the account; empty: it does not."""
    account_id: str = ""
    """What all keys of the account have in common, where the exchange documents that; empty: it does not."""
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
    unsupported: str = ""
    """Why no order can be placed in the mode that the account has, in words; empty: it can."""
    borrows: str = ""
    """That an order may borrow what is missing, in words; empty: it may not, or it is not said."""
    addresses: tuple[str, ...] | None = None
    """From where it may be used; () from anywhere; None: the exchange does not say."""
    ends_s: float | None = None
    """When it ends, seconds since 1970; None: never, or it is not said."""
    doubt: str = ""
    """Why it is not known whether it can withdraw, where it is not."""
    unsaid: str = ""
    """Why the exchange, which can say whose key it is and what it may do, did not."""
    # What is below is for the watch of the keys alone, and says again what stands above.
    named: tuple[str, ...] | None = field(default=None, compare=False)
    """The names of its rights in the exchange's words, without those that let money out; None: not stated."""
    never_ends: bool = field(default=False, compare=False)
    """Whether the exchange states that it has no end."""
    bound: bool | None = field(default=None, compare=False)
    """Whether it is bound to addresses, where the exchange states that without naming them."""


_WITHDRAW: Final = "withdraw"
"""Every right with this in its name lets money out, also one that we do not know."""


def may_withdraw(rights: list[str]) -> bool:
    """Whether any of these rights lets money out."""
    return any(_WITHDRAW in right.lower() for right in rights)


def staying(rights: list[str]) -> tuple[str, ...]:
    """The rights among these that let no money out, each once."""
    return tuple(sorted({right for right in rights if _WITHDRAW not in right.lower()}))


def statement(facts: KeyFacts, fingerprint: str) -> KeyStatement:
    """What an exchange has stated, as the watch of the keys takes it. `fingerprint` says which key it is."""
    return KeyStatement(
        fingerprint=fingerprint,
        read=facts.query,
        trade=facts.trade,
        withdraw=facts.withdraw,
        rights=facts.named,
        expires_us=None if facts.ends_s is None else round(facts.ends_s * 1_000_000),
        never_ends=facts.never_ends,
        addresses=facts.addresses,
        address_bound=facts.bound,
    )
