"""Money that went: what a reading says of it, and what an exchange's ledger accounts for."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from brokerwatch.messages.balance import AMOUNT_PATTERN, MAX_CODE_BYTES
from brokerwatch.messages.health import MAX_DETAIL, MAX_WORD, clipped

MAX_ALARMS: Final = 16
"""Alarms about the money of one account in one reading."""


class MoneyAlarm(StrEnum):
    """What an operator has to know of the money in an account: a list that may grow."""

    UNEXPLAINED = "unexplained"
    """A currency fell, and nothing that brokerwatch can see accounts for it."""
    BELOW_FLOOR = "below_floor"
    """There is less of a currency than the operator's floor."""
    LOSS_RATE = "loss_rate"
    """More of a currency went within a time than the operator allows, apart from trades."""
    OTHER = "other"
    """An alarm that this version does not know. brokerwatch itself never gives it."""

    @classmethod
    def _missing_(cls, value: object) -> MoneyAlarm | None:
        """A word of a later version."""
        return cls.OTHER if isinstance(value, str) and 0 < len(value) <= MAX_WORD else None


class MoneyAlarmData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One alarm about the money in an account, in a reading and on the wire."""

    word: MoneyAlarm
    currency: Annotated[str, Meta(max_length=MAX_CODE_BYTES)]
    since_us: int
    """Wall clock, µs: since when. An alarm is one and the same as long as word, currency and moment are."""
    before: Annotated[str, Meta(pattern=AMOUNT_PATTERN)] | None = None
    """How much there was; null where amounts are not published."""
    after: Annotated[str, Meta(pattern=AMOUNT_PATTERN)] | None = None
    """How much there is."""
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""
    """For people: before, after, and what was accounted for."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "detail", clipped(self.detail))

    def without_amounts(self) -> MoneyAlarmData:
        """The same without any amount."""
        return msgspec.structs.replace(self, before=None, after=None, detail="")


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an exchange's own ledger."""

    currency: str
    amount: Decimal
    """By how much the account changed: negative where it went down, the fee included."""
    kind: str
    """In the exchange's words: trade, withdrawal, fee, …"""
    at_us: int
    """Wall clock of the exchange, µs."""
    wallet: str = ""
    """The wallet of the account that it is about; empty: the account itself."""
