"""The records that outlive the process: health, holds, keys, orders, history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from brokerwatch.messages import FaultKind, Reason

MAX_NONCE: Final = 2**63 - 1
"""What a database can hold as a number: enough for nanoseconds until the year 2262."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of a broker's history."""

    at_us: int
    """Wall clock, µs since 1970."""
    broker: str
    exchange: str
    event: str
    """What moved: `state`, the evidence; `veto`, what overrides it; `operator`, a command; `key` and
    `money`, a warning about the API key or the money."""
    before: str
    """The state or the strongest veto before, as a word; empty when there was none."""
    after: str
    """The same after it; of a command its name; of a warning its word."""
    available: bool
    """The answer from then on."""
    reason: Reason
    error_count: int
    fault: FaultKind | None
    detail: str


@dataclass(frozen=True, slots=True)
class Stored:
    """One broker's health as it is written down; `document` is from `brokerwatch.storage.health_record`."""

    broker: str
    exchange: str
    credentials: str
    """A fingerprint of the credentials it was read with, never they themselves."""
    epoch: str
    version: int
    saved_us: int
    document: str

    @property
    def order(self) -> tuple[str, int]:
        """What decides which of two is newer."""
        return (self.epoch, self.version)


@dataclass(frozen=True, slots=True)
class Hold:
    """An operator's hold: by whom, why, and until when."""

    broker: str
    by: str
    why: str
    since_us: int
    until_us: int | None = None
    """Wall clock, µs; None: until it is released."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """What must be remembered of one API key, by its fingerprint."""

    fingerprint: str
    nonce_ceiling: int = 0
    """No nonce above this was ever used, and none below it may be used after a restart."""
    locked_until_us: int = 0
    """Wall clock, µs: the end of a lockout; 0: none."""

    def __post_init__(self) -> None:
        if self.nonce_ceiling > MAX_NONCE:
            raise ValueError(
                f"a nonce of {self.nonce_ceiling} cannot be remembered; the largest is {MAX_NONCE}"
            )


@dataclass(frozen=True, slots=True)
class SentOrder:
    """An order that was sent and of which it is not known yet what became of it."""

    fingerprint: str
    """The API key's."""
    client_order_id: str
    sent_us: int
    """Wall clock, µs since 1970."""
    document: str
    """The order itself, as JSON; see `brokerwatch.orders.in_flight`."""


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One line in the life of an order. Lines are only added, so that each order can be audited."""

    at_us: int
    """Wall clock, µs since 1970."""
    broker: str
    exchange: str
    client_order_id: str
    order_id: str
    """The exchange's; empty as long as it is not known."""
    symbol: str
    side: str
    base_amount: str
    """What was ordered in the base currency; empty where it was ordered in the quote currency."""
    quote_amount: str
    """What was ordered in the quote currency; empty where it was ordered in the base currency."""
    state: str
    """`sent`, `accepted`, `partially_filled`, `filled`, `cancelled`; `refused`, `not_sent`, `never_arrived`;
    `unknown`, `forgotten`; `not_followed`: its end was not found out."""
    filled_base: str = ""
    """How much was filled by then; empty where that is not known. So are the three below."""
    average_price: str = ""
    fee: str = ""
    fee_currency: str = ""
    detail: str = ""
    """For people: why."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything that one cluster has stored."""

    healths: dict[str, Stored] = field(default_factory=dict[str, Stored])
    """By broker."""
    holds: dict[str, Hold] = field(default_factory=dict[str, Hold])
    """By broker."""
    keys: dict[str, KeyState] = field(default_factory=dict[str, KeyState])
    """By fingerprint; keys are the machine's, not one cluster's."""
    orders: dict[str, tuple[SentOrder, ...]] = field(default_factory=dict[str, "tuple[SentOrder, ...]"])
    """By the fingerprint of the key, oldest first."""
