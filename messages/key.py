"""What an exchange states about an API key, and what a reading says of it.

`None` means that the exchange does not state it, which is neither yes nor no. None of it is evidence about
the account: it changes neither its state nor whether it is available.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from brokerwatch.messages.health import MAX_DETAIL, MAX_WORD, clipped

MAX_WARNINGS: Final = 8
"""Warnings about one key in one reading."""


class KeyWarning(StrEnum):
    """What an operator has to know about a key: a list that may grow."""

    CAN_WITHDRAW = "can_withdraw"
    """The key may take money out of the account."""
    RIGHT_LOST = "right_lost"
    """The key may not do any more what it could."""
    ADDRESS_NOT_LISTED = "address_not_listed"
    """The key is bound to addresses, and ours is not among them."""
    ENDED = "ended"
    """The key has ended, by what the exchange stated."""
    ENDS_IN_1_DAY = "ends_in_1_day"
    ENDS_IN_7_DAYS = "ends_in_7_days"
    ENDS_IN_14_DAYS = "ends_in_14_days"
    OTHER = "other"
    """A warning that this version does not know. brokerwatch itself never gives it."""

    @classmethod
    def _missing_(cls, value: object) -> KeyWarning | None:
        """A word of a later version."""
        return cls.OTHER if isinstance(value, str) and 0 < len(value) <= MAX_WORD else None


class KeyStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer of an exchange stated about one API key."""

    fingerprint: str
    """Which key, without the key itself."""
    read: bool | None = None
    """Whether it may read balances, orders and positions."""
    trade: bool | None = None
    withdraw: bool | None = None
    rights: tuple[str, ...] | None = None
    """The names of its rights in the exchange's words, without those that let money out; None: not stated."""
    expires_us: int | None = None
    """Wall clock, µs: when it ends; None: never, or not stated."""
    never_ends: bool = False
    """Whether the exchange states that it has no end."""
    addresses: tuple[str, ...] | None = None
    """From where it may be used; () from anywhere; None: not stated."""
    address_bound: bool | None = None
    """Whether it is bound to addresses, where the exchange states that without naming them."""


class KeyWarningData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One warning about a key."""

    word: KeyWarning
    since_us: int
    """Wall clock, µs: since when. A warning is one and the same as long as word and moment are."""
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""
    """For people."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "detail", clipped(self.detail))


class KeyData(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an account's API key, in a reading and on the wire."""

    checked_us: int
    """Wall clock, µs: when the exchange last stated it."""
    read: bool | None = None
    """Whether the key may read balances, orders and positions; null: not stated. So are the next two."""
    trade: bool | None = None
    withdraw: bool | None = None
    expires_us: int | None = None
    """Wall clock, µs: when it ends; null: never, or not stated."""
    never_ends: bool = False
    """Whether the exchange states that it has no end."""
    address_bound: bool | None = None
    """Whether it may be used from some addresses only; null: not stated."""
    warnings: Annotated[tuple[KeyWarningData, ...], Meta(max_length=MAX_WARNINGS)] = ()
    """What an operator has to know; the most urgent first."""

    def without_details(self) -> KeyData:
        """The same without texts for people, which may quote the exchange."""
        if not self.warnings:
            return self
        bare = tuple(msgspec.structs.replace(each, detail="") for each in self.warnings)
        return msgspec.structs.replace(self, warnings=bare)
