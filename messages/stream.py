"""What an exchange pushes by itself over a private stream, and the state of that stream.

Amounts that were pushed are shown and prove nothing: proof comes only from reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import Meta

from brokerwatch.messages.balance import MAX_CURRENCIES, Holding, is_code
from brokerwatch.messages.health import MAX_DETAIL, MAX_WORD


class StreamState(StrEnum):
    """The state of a private stream: a list that may grow."""

    ABSENT = "absent"
    """There is none, or it was switched off after it had been wrong too often."""
    CONNECTING = "connecting"
    """It is being made, or made again."""
    LIVE = "live"
    """It was acknowledged, its first frame came, and a read that began after that agrees with it."""
    SUSPECT = "suspect"
    """It is there, and what it said is not confirmed, or was wrong."""
    REFUSED = "refused"
    """The exchange does not let this key have one."""
    OTHER = "other"
    """A state that this version does not know. brokerwatch itself never gives it."""

    @classmethod
    def _missing_(cls, value: object) -> StreamState | None:
        """A word of a later version."""
        return cls.OTHER if isinstance(value, str) and 0 < len(value) <= MAX_WORD else None


class StreamData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of the stream of one account."""

    state: StreamState
    since_us: int
    """Wall clock, µs: when this state began."""
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""
    """For people: why it is so."""

    def without_details(self) -> StreamData:
        """The same without texts of the exchange, which may quote amounts."""
        return msgspec.structs.replace(self, detail="")


class NamedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame says of an order: enough to know whether a read is behind it."""

    id: str
    market: str = ""
    """Its market, by the exchange's own id or by ccxt's symbol; empty: the frame does not say it."""
    has_ended: bool = False
    """Whether it is filled, cancelled, expired or rejected."""
    filled: Decimal | None = None
    """How much of it is executed; None: the frame does not say it."""

    def and_later(self, later: NamedOrder) -> NamedOrder:
        """Both as one: an order neither opens again nor loses what is filled."""
        filled = [each for each in (self.filled, later.filled) if each is not None]
        return NamedOrder(
            id=self.id,
            market=later.market or self.market,
            has_ended=self.has_ended or later.has_ended,
            filled=max(filled, default=None),
        )


class PushedAmounts(msgspec.Struct, frozen=True, kw_only=True):
    """What frames of one moment state of an account.

    Raises:
        ValueError: a currency has no code that could be sent, or there are too many of them.
    """

    holdings: Mapping[str, Holding] = MappingProxyType({})
    """Currency code to what is stated of it; a part that the stream does not state is None."""
    unset: frozenset[str] = frozenset()
    """Currencies that are named, and of which no amount is taken: only a read says how much there is."""
    whole: bool = False
    """Whether all that the account holds is named: what is left out is not stated any more."""

    def __post_init__(self) -> None:
        codes = self.holdings.keys() | self.unset
        if len(codes) > MAX_CURRENCIES:
            raise ValueError(f"{len(codes)} currencies in one account; the limit is {MAX_CURRENCIES}")
        for code in codes:
            if not is_code(code):
                raise ValueError(f"not a currency code: {code[:40]!r}")

    def then(self, later: PushedAmounts) -> PushedAmounts:
        """Both as one."""
        most = len(self.holdings) + len(later.holdings) + len(self.unset) + len(later.unset)
        if later.whole or most > MAX_CURRENCIES:
            return later
        before = {code: held for code, held in self.holdings.items() if code not in later.unset}
        return PushedAmounts(
            holdings={**before, **later.holdings},
            unset=(self.unset - later.holdings.keys()) | later.unset,
            whole=self.whole,
        )
