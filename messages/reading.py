"""A reading is what is known about one account at one moment; a roster is the readings of all accounts.

A `Reading` never changes. Its age and whether it is still valid are computed when they are read, so a reading
that is kept and not renewed turns unavailable by itself, and so does one whose newest success is too old.
`ReadingData` is the same on the wire, where ages are those of the moment of sending.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

import msgspec

from brokerwatch.clock import Clock, Instant, Leads, leapt
from brokerwatch.messages.balance import Holding, amount, amount_text
from brokerwatch.messages.health import FaultKind, HealthState, Reason, Verdict
from brokerwatch.messages.key import KeyData
from brokerwatch.messages.lazy_holdings import LazyHoldings, holdings_data
from brokerwatch.messages.money import MoneyAlarmData
from brokerwatch.messages.stream import StreamData
from brokerwatch.messages.trading import Capability, ClosedMarket
from brokerwatch.messages.wire import (
    MAX_CLOSED,
    MAX_CLOSED_MS,
    CapabilityData,
    ClosedMarketData,
    ReadingData,
    RosterData,
)

CUSTOM: Final = "custom"
"""The exchange of a broker whose balance a trader's own callable fetches."""

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
        Reason.LOOP,
        Reason.CONFIG,
        Reason.SHUTDOWN,
    }
)
"""The reasons whose detail brokerwatch writes itself. Any other detail may quote an exchange, with
amounts."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What this process knows of one account: whether it can be trusted, why, and how much money is in it.

    A reading never changes, and may be used by any thread. `available`, `expired`, `reason`, `age_ms` and
    `stale` are computed from the clock when they are read.
    """

    broker: str
    """The configured name of the account."""
    exchange: str
    """The exchange's ccxt id, or `custom`."""
    simulated: bool
    """Whether its exchange is a simulator."""
    broker_epoch: str
    """The broker's incarnation; compares as text; empty before its first event."""
    version: int
    """+1 for every event of this broker in this epoch."""
    state: HealthState
    """The state of the account by its own evidence. A decision goes by `available`."""
    verdict: Verdict
    """The verdict when the reading was made. `available` and `reason` also consider whether it expired."""
    detail: str
    """For people."""
    since_us: int
    """Wall clock, µs since 1970: when this verdict began."""
    error_count: int
    """How many counted faults came in a row."""
    fault: FaultKind | None
    """The kind of the newest of those faults; None when there is none."""
    as_of: Instant | None
    """When the last known balance was asked for; None when none was ever read."""
    cash: Decimal | None
    """The sum of the free amounts of the cash currencies; None when unknown, never 0 for it."""
    balance: Mapping[str, Holding] | None
    """Currency code to the last known holding; None when unknown, or when the sender does not publish it."""
    labels: Mapping[str, str]
    """The operator's own labels."""
    valid_until_s: float
    """The monotonic second of this process at which the reading expires, unless it is renewed."""
    clock: Clock
    """The clock that age and validity are computed with."""
    max_age_s: float | None = None
    """A balance older than this is stale; None: no limit."""
    overtaken: bool = False
    """Whether an order was sent after the balance was asked for: then it is stale, whatever its age."""
    capabilities: Mapping[str, Capability] = MappingProxyType({})
    """`read`, `trade` and `data`: the state of these kinds of call; empty where it is not known."""
    proven_until_s: float = float("inf")
    """The monotonic second of this process at which the newest success is too old to prove anything."""
    cash_unit: str = ""
    """The unit of the cash, such as `USD`; empty where it is not known."""
    cash_parts: Mapping[str, Decimal] = MappingProxyType({})
    """Currency to its free amount, for each cash currency that is in the cash. An order in one currency can
    spend that one alone."""
    leads: Leads | None = None
    """How far the other clocks were ahead of the monotonic one when the reading was made; None: not known.
    A leap since then makes the reading unproven."""

    closed_markets: Mapping[str, ClosedMarket] = MappingProxyType({})
    """Symbol to a market in which the exchange refuses orders of this account alone. It may be over; see
    `closed`."""
    unread: frozenset[str] = frozenset()
    """Currencies of which no amount is known, though the exchange names them: they are not in `balance`."""
    answer_ms: int | None = None
    """How many ms passed from the question to the answer with the newest balance; None: not known."""
    outcome_until_s: float = float("inf")
    """The monotonic second by which the next outcome, a success or a fault, is due; infinite when the account
    is not asked by itself. Past it the watching itself is late."""
    key: KeyData | None = None
    """What the exchange states about the account's API key; None: nothing is known. It is no evidence."""

    money: tuple[MoneyAlarmData, ...] = ()
    """Alarms of the money watch that stand. They are no evidence."""
    stream: StreamData | None = None
    """The state of the exchange's private stream; None: there is none. It is no evidence."""
    vouched_s: float | None = None
    """The monotonic second at which the live stream last said that the balance stands; None: it does not."""

    def closed(self, symbol: str) -> ClosedMarket | None:
        """Why a market is closed for this account alone, and until when; None when it is not.

        Args:
            symbol: The market, as ccxt writes it: `BTC/USD`.
        """
        found = self.closed_markets.get(symbol)
        return found if found is not None and self.clock.up_s() < found.until.up_s else None

    @property
    def available(self) -> bool:
        """Whether the account can be trusted right now."""
        return self.clock.up_s() < self.available_until_s and not self._leapt

    @property
    def available_until_s(self) -> float:
        """The monotonic second until which `available` is True; minus infinity when it is False."""
        return min(self.valid_until_s, self.proven_until_s) if self.verdict.available else float("-inf")

    @property
    def unproven(self) -> bool:
        """Whether no success stands behind the reading any more: the newest is too old, or the machine
        slept."""
        return self.clock.up_s() >= self.proven_until_s or self._leapt

    @property
    def _leapt(self) -> bool:
        return self.leads is not None and leapt(self.leads, self.clock.leads()) > 0

    @property
    def expired(self) -> bool:
        """Whether the reading was not renewed in time."""
        return self.clock.up_s() >= self.valid_until_s

    @property
    def reason(self) -> Reason:
        """Why the account is, or is not, available. An expired reading of an available account is
        `silent`, and one whose proof has ended is `unproven`."""
        if not self.verdict.available:
            return self.verdict.reason
        if self.expired:
            return Reason.SILENT
        return Reason.UNPROVEN if self.unproven else self.verdict.reason

    @property
    def status(self) -> str:
        """`state` as a word, in lower case."""
        return self.state.name.lower()

    @property
    def as_of_us(self) -> int | None:
        """Wall clock, µs since 1970: when the last known balance was asked for; None when there is none."""
        return None if self.as_of is None else self.as_of.wall_us

    @property
    def age_ms(self) -> int | None:
        """How old the last known balance is now, in ms of the monotonic clock; None when there is none."""
        if self.as_of is None:
            return None
        return max(0, round((self.clock.up_s() - self.as_of.up_s) * 1_000))

    @property
    def known_s(self) -> float:
        """The monotonic second at which the balance was last known to stand: when it was asked for, or later
        while a live stream vouches for it; minus infinity without one."""
        if self.as_of is None:
            return float("-inf")
        return self.as_of.up_s if self.vouched_s is None else max(self.as_of.up_s, self.vouched_s)

    @property
    def known_ms(self) -> float:
        """How long ago that was, in ms; infinite without a balance."""
        return (self.clock.up_s() - self.known_s) * 1_000

    @property
    def stale(self) -> bool:
        """Whether the last known balance is not the newest truth.

        True without a balance, when it is older than `max_age_s`, after a fault, after an order, and when the
        reading has expired or is not proven any more.
        """
        if self.as_of is None or self.state is not HealthState.HEALTHY or self.overtaken:
            return True
        if self.expired or self.unproven:
            return True
        if self.max_age_s is not None and self.clock.up_s() - self.known_s > self.max_age_s:
            return True
        return self.verdict.reason not in _VOUCHED

    def data(self, *, with_balance: bool = True, with_cash: bool = True) -> ReadingData:
        """This reading as the wire carries it, with its ages of now.

        Without `with_cash` there is no amount in it, and no text of an exchange, which may quote amounts.
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
            balance=None if shown is None else holdings_data(shown),
            labels=dict(self.labels),
            max_age_ms=None if self.max_age_s is None else round(self.max_age_s * 1_000),
            overtaken=self.overtaken,
            proof_ms=self._proof_ms(),
            cash_unit=self.cash_unit if with_cash else "",
            cash_parts=_amount_texts(self.cash_parts) if with_cash else {},
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
            closed_markets=self._closed_data(with_detail=with_cash) if with_balance else {},
            unread=() if shown is None else tuple(sorted(self.unread)),
            answer_ms=self.answer_ms,
            outcome_ms=self._outcome_ms(),
            key=self.key if self.key is None or with_cash else self.key.without_details(),
            money=self.money if with_cash else tuple(each.without_amounts() for each in self.money),
            stream=self.stream if self.stream is None or with_cash else self.stream.without_details(),
            vouched_ms=self._vouched_ms(),
        )

    def _closed_data(self, *, with_detail: bool) -> dict[str, ClosedMarketData]:
        now_s = self.clock.up_s()
        left = {symbol: each.until.up_s - now_s for symbol, each in self.closed_markets.items()}
        longest = sorted((name for name in left if left[name] > 0), key=lambda name: -left[name])
        return {
            symbol: ClosedMarketData(
                reason=self.closed_markets[symbol].reason,
                since_us=self.closed_markets[symbol].since_us,
                until_us=self.closed_markets[symbol].until.wall_us,
                left_ms=min(MAX_CLOSED_MS, round(left[symbol] * 1_000)),
                detail=self.closed_markets[symbol].detail if with_detail else "",
            )
            for symbol in longest[:MAX_CLOSED]
            if len(symbol) <= 64
        }

    def _vouched_ms(self) -> int | None:
        if self.vouched_s is None:
            return None
        return max(0, round((self.clock.up_s() - self.vouched_s) * 1_000))

    def _outcome_ms(self) -> int | None:
        if self.outcome_until_s == float("inf"):
            return None
        return max(0, round((self.outcome_until_s - self.clock.up_s()) * 1_000))

    def _proof_ms(self) -> int | None:
        if self.proven_until_s == float("inf") or not self.available:
            return None
        return max(0, round((self.proven_until_s - self.clock.up_s()) * 1_000))

    @classmethod
    def received(
        cls,
        data: ReadingData,
        *,
        clock: Clock,
        sent_up_s: float,
        valid_until_s: float,
        leads: Leads | None = None,
    ) -> Reading:
        """The reading in `data`, as a receiver has it.

        Args:
            data: the reading as it came over the wire.
            clock: the receiver's clock.
            sent_up_s: when it was sent, in the receiver's monotonic seconds. Its ages go on from there.
            valid_until_s: the receiver's monotonic second from which it has expired.
            leads: how far the receiver's other clocks were ahead when it came; None: it came just now.
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
            proven_until_s=float("inf") if data.proof_ms is None else sent_up_s + data.proof_ms / 1_000,
            cash_unit=data.cash_unit,
            cash_parts=MappingProxyType({code: amount(part) for code, part in data.cash_parts.items()}),
            leads=clock.leads() if leads is None else leads,
            capabilities=MappingProxyType(
                {
                    name: Capability(
                        state=can.state, reason=can.reason, detail=can.detail, since_us=can.since_us
                    )
                    for name, can in data.capabilities.items()
                }
            ),
            closed_markets=MappingProxyType(
                {
                    symbol: ClosedMarket(
                        reason=each.reason,
                        detail=each.detail,
                        since_us=each.since_us,
                        until=Instant(each.until_us, sent_up_s + each.left_ms / 1_000),
                    )
                    for symbol, each in data.closed_markets.items()
                }
            ),
            unread=frozenset(data.unread),
            answer_ms=data.answer_ms,
            outcome_until_s=float("inf") if data.outcome_ms is None else sent_up_s + data.outcome_ms / 1_000,
            key=data.key,
            money=data.money,
            stream=data.stream,
            vouched_s=None if data.vouched_ms is None else sent_up_s - data.vouched_ms / 1_000,
        )


class Roster(msgspec.Struct, frozen=True):
    """All readings in one message. With more than `ROSTER_PART` brokers, a part of the readings."""

    readings: tuple[Reading, ...]
    part: int = 1
    parts: int = 1

    def data(self, *, with_cash: bool = True, shard: tuple[int, int] = (1, 1)) -> RosterData:
        """The roster on the wire: without balances, and on request without cash.

        `shard`: which of several supervisors sends it, from 1, and how many there are.
        """
        return RosterData(
            readings=tuple(
                reading.data(with_balance=False, with_cash=with_cash) for reading in self.readings
            ),
            part=self.part,
            parts=self.parts,
            shard=shard[0],
            shards=shard[1],
        )


def _amount_texts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    return {code: amount_text(one) for code, one in amounts.items()}
