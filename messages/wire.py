"""The shape of readings and rosters on the wire."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from brokerwatch.messages.balance import AMOUNT_PATTERN, MAX_CODE_BYTES, MAX_CURRENCIES
from brokerwatch.messages.health import MAX_DETAIL, NAME_PATTERN, FaultKind, HealthState, Reason
from brokerwatch.messages.key import KeyData
from brokerwatch.messages.money import MAX_ALARMS, MoneyAlarmData
from brokerwatch.messages.stream import StreamData
from brokerwatch.messages.trading import CapabilityState

MAX_PARTS: Final = 1_000
"""The most parts that a roster may have: a receiver waits for all of them."""
MAX_SHARDS: Final = 64
"""Supervisors that share the accounts of one cluster. A listener has a connection to each."""


MAX_CLOSED: Final = 64
"""The most markets of one account that are said to be closed: those that stay so for the longest."""
MAX_CLOSED_MS: Final = 86_400_000
"""No market stays closed for longer without another refusal."""


class HoldingData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A holding on the wire: amounts as text. The parts are there only when they are not zero.

    What is free or used and unknown is written as zero beside its mark. So a receiver that does not know the
    marks spends nothing of it. A total that is unknown is written as what of it is known.
    """

    free: Annotated[str, Meta(pattern=AMOUNT_PATTERN)]
    used: Annotated[str, Meta(pattern=AMOUNT_PATTERN)]
    total: Annotated[str, Meta(pattern=AMOUNT_PATTERN)]
    staked: Annotated[str, Meta(pattern=AMOUNT_PATTERN)] = "0"
    earning: Annotated[str, Meta(pattern=AMOUNT_PATTERN)] = "0"
    free_unknown: bool = False
    used_unknown: bool = False
    unstated_since_us: Annotated[int, Meta(ge=0)] | None = None
    total_unknown: bool = False
    pushed_us: Annotated[int, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        if self.total_unknown and self.free_unknown and self.used_unknown:
            raise ValueError("a holding of which no amount is known")


class CapabilityData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A capability on the wire."""

    state: CapabilityState
    reason: Annotated[str, Meta(max_length=32)]
    """`not_tried`, `ok`, a kind of fault, or the exchange's own status."""
    since_us: int
    """Wall clock, µs: since when this is its state."""
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""
    """For people."""


class ClosedMarketData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A market that is closed for one account, on the wire."""

    reason: Annotated[str, Meta(max_length=32)]
    """The kind of the fault for which the exchange refused an order there."""
    since_us: int
    """Wall clock, µs: when it refused it."""
    until_us: int
    """Wall clock, µs: when it may be tried again, for people."""
    left_ms: Annotated[int, Meta(ge=0, le=MAX_CLOSED_MS)]
    """How long it was closed for when this was sent."""
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""
    """For people."""


class ReadingData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reading on the wire: one map, also what `--json` prints."""

    broker: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """The configured name."""
    exchange: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """The ccxt id, or `custom`."""
    simulated: bool
    """Whether its exchange is a simulator."""
    broker_epoch: Annotated[str, Meta(max_length=25)]
    """The broker's incarnation; compares as text; empty before its first event."""
    version: Annotated[int, Meta(ge=0)]
    """+1 for every event of this broker in this epoch."""
    state: HealthState
    """The evidence as a number."""
    status: Annotated[str, Meta(max_length=16)]
    """The evidence as a word, for people."""
    available: bool
    """The answer."""
    reason: Reason
    """Why."""
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)]
    """For people; never parse it."""
    since_us: int
    """Wall clock, µs: when this verdict began."""
    error_count: Annotated[int, Meta(ge=0)]
    """Consecutive counted faults."""
    fault: FaultKind | None
    """The kind of the newest fault of that run."""
    as_of_us: int | None
    """Wall clock, µs: when the last known balance was asked for."""
    age_ms: Annotated[int, Meta(ge=0)] | None
    """How old the last known balance was when this was sent."""
    stale: bool
    """Whether the last known is anything but the newest truth."""
    cash: Annotated[str, Meta(pattern=AMOUNT_PATTERN)] | None
    """Free cash; null when unknown, never "0" for it."""
    balance: Annotated[dict[str, HoldingData], Meta(max_length=MAX_CURRENCIES)] | None
    """Currency to holding; null when unknown, and in the roster."""
    labels: dict[str, str]
    """The operator's own labels."""
    max_age_ms: Annotated[int, Meta(ge=0)] | None = None
    """A balance older than this is stale; null: no limit."""
    overtaken: bool = False
    """Whether an order was sent after the balance was asked for: then it is stale, whatever its age."""
    cash_unit: Annotated[str, Meta(max_length=32)] = ""
    """The unit of the cash, such as `USD`."""
    cash_parts: Annotated[
        dict[str, Annotated[str, Meta(pattern=AMOUNT_PATTERN)]], Meta(max_length=MAX_CURRENCIES)
    ] = {}
    """Currency to its part of the cash, for those that have any; an order can spend one of them."""
    proof_ms: Annotated[int, Meta(ge=0)] | None = None
    """For how long after this was sent the newest success proves the account; null: no limit."""
    capabilities: Annotated[dict[str, CapabilityData], Meta(max_length=16)] = {}
    """`read`, `trade` and `data`: the state of these kinds of call; empty in the roster."""
    closed_markets: Annotated[
        dict[Annotated[str, Meta(max_length=64)], ClosedMarketData], Meta(max_length=MAX_CLOSED)
    ] = {}
    """Symbol to the market that is closed for this account alone; empty in the roster."""
    unread: Annotated[
        tuple[Annotated[str, Meta(max_length=MAX_CODE_BYTES)], ...], Meta(max_length=MAX_CURRENCIES)
    ] = ()
    """Currencies of which no amount is known, though the exchange names them; empty in the roster."""
    answer_ms: Annotated[int, Meta(ge=0)] | None = None
    """How long the exchange took over the newest balance; null when that is not known."""
    outcome_ms: Annotated[int, Meta(ge=0)] | None = None
    """For how long after this was sent the next outcome may take until it is late; null when the account is
    not asked by itself."""
    key: KeyData | None = None
    """What the exchange states about the account's API key; null: nothing is known of it."""
    money: Annotated[tuple[MoneyAlarmData, ...], Meta(max_length=MAX_ALARMS)] = ()
    """What an operator has to know of the money in the account; empty: nothing."""
    stream: StreamData | None = None
    """The state of the exchange's private stream; null: there is none."""
    vouched_ms: Annotated[int, Meta(ge=0)] | None = None
    """How long ago, when this was sent, the live stream last said that the balance stands; null: it does
    not."""


class RosterData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every broker's reading without its balance; of many brokers, a part of them."""

    readings: tuple[ReadingData, ...]
    part: Annotated[int, Meta(ge=1, le=MAX_PARTS)] = 1
    """Which part this is, from 1."""
    parts: Annotated[int, Meta(ge=1, le=MAX_PARTS)] = 1
    """How many there are: together they name every broker."""
    shard: Annotated[int, Meta(ge=1, le=MAX_SHARDS)] = 1
    """Which of several supervisors this is, from 1, that share the accounts of one cluster."""
    shards: Annotated[int, Meta(ge=1, le=MAX_SHARDS)] = 1
    """How many of these there are: their rosters together name every broker of the cluster."""
