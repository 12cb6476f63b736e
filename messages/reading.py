"""A reading is what is known about one account at one moment; a roster is all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

import msgspec

from brokerwatch.clock import Clock, Instant
from brokerwatch.messages.balance import Holding, amount, amount_text
from brokerwatch.messages.health import FaultKind, HealthState, Reason, Verdict
from brokerwatch.messages.trading import Capability
from brokerwatch.messages.wire import CapabilityData, HoldingData, ReadingData, RosterData

ROSTER_PART: Final = 500
"""Brokers in one message of the roster: so many fit, however long their names and details are."""


_VOUCHED: Final = frozenset({Reason.OK, Reason.HELD_OUT})
"""The reasons under which a broker's newest balance is still the newest truth."""


_OUR_WORDS: Final = frozenset(
    {
        Reason.HELD_OUT,
        Reason.FAILED,
        Reason.NEVER_SEEN,
        Reason.SILENT,
        Reason.BLIND,
        Reason.RESTARTING,
        Reason.CONFIG,
        Reason.SHUTDOWN,
    }
)
"""The reasons whose detail we write ourselves. Any other may quote an exchange, amounts and all."""


class LazyHoldings(Mapping[str, "Holding"]):
    """The holdings of a reading that came in: a holding is made of its texts when somebody asks for it.

    Most readings are looked at for their answer and then replaced, and what is passed on leaves as it came.
    """

    __slots__ = ("_made", "said")

    def __init__(self, said: Mapping[str, HoldingData]) -> None:
        self.said = said
        """As it stood on the wire, where every amount was checked."""
        self._made: dict[str, Holding] = {}

    def __getitem__(self, code: str) -> Holding:
        made = self._made.get(code)
        if made is None:
            # Two threads may both make it: it is the same, and never changes.
            made = self._made[code] = _holding(self.said[code])
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self.said)

    def __len__(self) -> int:
        return len(self.said)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LazyHoldings) and self.said == other.said:
            return True
        return super().__eq__(other)  # the same amount may be written with more zeros

    def __repr__(self) -> str:
        return repr(dict(self))


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The immutable answer to "how is this broker?", as known in this process."""

    broker: str
    """The configured name."""
    exchange: str
    """The ccxt id, or `custom`."""
    simulated: bool
    """Whether the exchange behind it is a simulated one of ours."""
    broker_epoch: str
    """The broker's incarnation; compares as text; empty when it never spoke."""
    version: int
    """+1 for every event of this broker in this epoch."""
    state: HealthState
    """The evidence. Obey `available`."""
    verdict: Verdict
    """The answer as it was given; `available` and `reason` also know whether it expired since."""
    detail: str
    """For people."""
    since_us: int
    """Wall clock, µs: when this verdict began."""
    error_count: int
    """Consecutive counted faults."""
    fault: FaultKind | None
    """The kind of the newest fault of that run."""
    as_of: Instant | None
    """When the last known balance was asked for; None when there never was one."""
    cash: Decimal | None
    """Free cash over the cash currencies; None when unknown."""
    balance: Mapping[str, Holding] | None
    """The last known holdings; None when unknown, or when the sender keeps them to itself."""
    labels: Mapping[str, str]
    """The operator's own."""
    valid_until_s: float
    """Monotonic seconds of this process: past it nobody vouches for this reading."""
    clock: Clock
    """What age and validity are measured with."""
    max_age_s: float | None = None
    """A balance older than this is stale; None: no limit."""
    overtaken: bool = False
    """Whether an order was sent after the balance was asked for: then it is stale, whatever its age."""
    capabilities: Mapping[str, Capability] = MappingProxyType({})
    """`read`, `trade` and `data`: how these calls do; empty where nobody says."""

    @property
    def available(self) -> bool:
        """Whether the account can be trusted right now."""
        return self.verdict.available and self.clock.up_s() < self.valid_until_s

    @property
    def available_until_s(self) -> float:
        """`available` as one number: true before this monotonic second."""
        return self.valid_until_s if self.verdict.available else float("-inf")

    @property
    def expired(self) -> bool:
        """Whether nobody vouches for this reading any more."""
        return self.clock.up_s() >= self.valid_until_s

    @property
    def reason(self) -> Reason:
        """Why it is, or is not, available."""
        if self.verdict.available and self.expired:
            return Reason.SILENT
        return self.verdict.reason

    @property
    def status(self) -> str:
        """The evidence as a word."""
        return self.state.name.lower()

    @property
    def as_of_us(self) -> int | None:
        """Wall clock, µs: when the last known balance was asked for."""
        return None if self.as_of is None else self.as_of.wall_us

    @property
    def age_ms(self) -> int | None:
        """How old the last known balance is now, by the monotonic clock; None when there is none."""
        if self.as_of is None:
            return None
        return max(0, round((self.clock.up_s() - self.as_of.up_s) * 1_000))

    @property
    def stale(self) -> bool:
        """Whether the last known is not the newest truth: none, too old, after a fault, or unvouched for."""
        if self.as_of is None or self.state is not HealthState.HEALTHY or self.expired or self.overtaken:
            return True
        if self.max_age_s is not None and self.clock.up_s() - self.as_of.up_s > self.max_age_s:
            return True
        return self.verdict.reason not in _VOUCHED

    def data(self, *, with_balance: bool = True, with_cash: bool = True) -> ReadingData:
        """This reading as the wire carries it, its ages computed now.

        Without cash no amount is in it, nor any words of an exchange, which may quote amounts.
        """
        ours = with_cash or self.verdict.reason in _OUR_WORDS
        shown = self.balance if with_balance and with_cash else None
        return ReadingData(
            broker=self.broker,
            exchange=self.exchange,
            simulated=self.simulated,
            broker_epoch=self.broker_epoch,
            version=self.version,
            state=self.state,
            status=self.status,
            available=self.available,
            reason=self.reason,
            detail=self.detail if ours else str(self.fault or ""),
            since_us=self.since_us,
            error_count=self.error_count,
            fault=self.fault,
            as_of_us=self.as_of_us,
            age_ms=self.age_ms,
            stale=self.stale,
            cash=None if self.cash is None or not with_cash else amount_text(self.cash),
            balance=None if shown is None else _said(shown),
            labels=dict(self.labels),
            max_age_ms=None if self.max_age_s is None else round(self.max_age_s * 1_000),
            overtaken=self.overtaken,
            capabilities={
                name: CapabilityData(
                    state=can.state,
                    reason=can.reason,
                    since_us=can.since_us,
                    detail=can.detail if with_cash else "",
                )
                for name, can in self.capabilities.items()
            }
            if with_balance
            else {},
        )

    @classmethod
    def received(cls, data: ReadingData, *, clock: Clock, sent_up_s: float, valid_until_s: float) -> Reading:
        """The reading that `data` says, to somebody who got it.

        `sent_up_s` is when it was sent, in the receiver's own monotonic seconds: ages go on from there.
        """
        as_of = None
        if data.as_of_us is not None and data.age_ms is not None:
            as_of = Instant(wall_us=data.as_of_us, up_s=sent_up_s - data.age_ms / 1_000)
        held = data.balance
        return cls(
            broker=data.broker,
            exchange=data.exchange,
            simulated=data.simulated,
            broker_epoch=data.broker_epoch,
            version=data.version,
            state=data.state,
            verdict=Verdict(data.available, data.reason),
            detail=data.detail,
            since_us=data.since_us,
            error_count=data.error_count,
            fault=data.fault,
            as_of=as_of,
            cash=None if data.cash is None else amount(data.cash),
            balance=None if held is None else LazyHoldings(held),
            labels=data.labels,
            valid_until_s=valid_until_s,
            clock=clock,
            max_age_s=None if data.max_age_ms is None else data.max_age_ms / 1_000,
            overtaken=data.overtaken,
            capabilities=MappingProxyType(
                {
                    name: Capability(
                        state=can.state, reason=can.reason, detail=can.detail, since_us=can.since_us
                    )
                    for name, can in data.capabilities.items()
                }
            ),
        )


class Roster(msgspec.Struct, frozen=True):
    """All readings in one message; of more than `ROSTER_PART` brokers, a part of them."""

    readings: tuple[Reading, ...]
    part: int = 1
    parts: int = 1

    def data(self, *, with_cash: bool = True) -> RosterData:
        """The roster as the wire carries it: without balances."""
        return RosterData(
            readings=tuple(
                reading.data(with_balance=False, with_cash=with_cash) for reading in self.readings
            ),
            part=self.part,
            parts=self.parts,
        )


def _said(holdings: Mapping[str, Holding]) -> dict[str, HoldingData]:
    if isinstance(holdings, LazyHoldings):
        return dict(holdings.said)
    return {code: _holding_data(held) for code, held in holdings.items()}


def _holding_data(held: Holding) -> HoldingData:
    return HoldingData(
        free=amount_text(held.free),
        used=amount_text(held.used),
        total=amount_text(held.total),
        staked=amount_text(held.staked) if held.staked else "0",
        earning=amount_text(held.earning) if held.earning else "0",
    )


def _holding(data: HoldingData) -> Holding:
    return Holding(
        free=amount(data.free),
        used=amount(data.used),
        total=amount(data.total),
        staked=amount(data.staked),
        earning=amount(data.earning),
    )
